//! Networks, and the reaper of everything that carries a label.

use std::collections::{BTreeMap, HashMap};

use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::{
    ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use futures_util::StreamExt as _;

use super::Docker;
use super::error::{broken, check_name};
use super::image::label_filter;
use crate::ports::engine::EngineError;

/// Containers removed in parallel.
const PARALLEL: usize = 4;

impl Docker {
    pub(super) async fn find_or_create_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        let what = format!("network {name}");
        check_name(&what, name)?;
        if let Some(id) = self.network_id(name).await? {
            return Ok(id);
        }
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            labels: Some(labels.clone().into_iter().collect()),
            ..Default::default()
        };
        match self.client.api.create_network(request).await {
            Ok(created) => Ok(created.id),
            Err(error) => {
                let error = self.client.error(&what, error);
                // Another call may have been faster.
                self.network_id(name).await?.ok_or(error)
            }
        }
    }

    /// Id of the network of exactly this name; the oldest id if the engine let in several.
    async fn network_id(&self, name: &str) -> Result<Option<String>, EngineError> {
        let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
        let found = self.networks(&filters).await?;
        Ok(found
            .into_iter()
            .filter(|(_, found)| found == name)
            .map(|(id, _)| id)
            .next())
    }

    async fn networks(
        &self,
        filters: &HashMap<String, Vec<String>>,
    ) -> Result<Vec<(String, String)>, EngineError> {
        let options = ListNetworksOptionsBuilder::new().filters(filters).build();
        let mut found = self
            .client
            .api
            .list_networks(Some(options))
            .await
            .map_err(|error| self.client.error("the list of networks", error))?;
        found.sort_by_key(|network| network.created);
        Ok(found
            .into_iter()
            .filter_map(|network| Some((network.id?, network.name?)))
            .collect())
    }

    pub(super) async fn delete_network(&self, name: &str) -> Result<(), EngineError> {
        let what = format!("network {name}");
        check_name(&what, name)?;
        let removed = self.client.api.remove_network(name).await;
        match removed.map_err(|error| self.client.error(&what, error)) {
            Ok(()) | Err(EngineError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn reap_all(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<String>, EngineError> {
        let mut removed = Vec::new();
        let mut failed = Vec::new();
        let mut note = |what: String, result: Result<(), EngineError>| match result {
            Ok(()) => removed.push(what),
            Err(error) => failed.push(error.to_string()),
        };

        let containers = self.container_ids(label, value).await?;
        let mut work = futures_util::stream::iter(containers)
            .map(|(id, name)| async move { (name, self.remove_container(&id).await) })
            .buffered(PARALLEL);
        while let Some((name, result)) = work.next().await {
            note(format!("container {name}"), result);
        }
        drop(work);
        for (id, name) in self.networks(&label_filter(label, value)).await? {
            note(format!("network {name}"), self.delete_network(&id).await);
        }
        for name in self.volumes(label, value).await? {
            let result = self.delete_volume(&name).await;
            note(format!("volume {name}"), result);
        }

        if failed.is_empty() {
            Ok(removed)
        } else {
            let what = format!("removing what carries {label}={value}");
            Err(broken(&what, failed.join("; ")))
        }
    }

    async fn volumes(&self, label: &str, value: &str) -> Result<Vec<String>, EngineError> {
        let options = ListVolumesOptionsBuilder::new()
            .filters(&label_filter(label, value))
            .build();
        let found = self
            .client
            .api
            .list_volumes(Some(options))
            .await
            .map_err(|error| self.client.error("the list of volumes", error))?;
        let volumes = found.volumes.unwrap_or_default();
        Ok(volumes.into_iter().map(|volume| volume.name).collect())
    }

    async fn delete_volume(&self, name: &str) -> Result<(), EngineError> {
        let what = format!("volume {name}");
        check_name(&what, name)?;
        let options = RemoveVolumeOptionsBuilder::new().force(false).build();
        let removed = self.client.api.remove_volume(name, Some(options)).await;
        match removed.map_err(|error| self.client.error(&what, error)) {
            Ok(()) | Err(EngineError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
