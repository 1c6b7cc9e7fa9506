//! The container engine, over Docker's API (20.10 and newer).
//!
//! Connecting costs nothing: the first call opens the first connection. Names and references
//! become parts of paths, so each is checked before it is sent. Builds speak BuildKit's own
//! protocol (`build`, `gateway`, `session`), everything else the documented API.

mod address;
mod archive;
mod build;
mod client;
mod container;
mod context;
mod engines;
mod error;
mod gateway;
mod image;
mod layers;
mod llb;
mod progress;
mod publish;
mod resources;
mod save;
mod session;
mod spec;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use address::{Address, AddressError, DEFAULT_HOST};
use archive::Archives;
use client::Client;
use context::{BuildContext, Dockerfile};
pub use engines::DeclaredEngines;
use layers::LayersUnderWay;

use crate::ports::Output;
use crate::ports::engine::{
    BuildRequest, ContainerSpec, ContainerState, ContextFacts, Engine, EngineError, EngineReader,
    LocalImage, PushRequest, Pushed,
};
use crate::ports::registry::Target;

/// A Docker engine.
#[derive(Clone)]
pub struct Docker {
    client: Client,
    archives: Arc<Archives>,
    layers: LayersUnderWay,
    /// Sessions that may still be sending after their build ended.
    tasks: TaskTracker,
}

impl Docker {
    /// The engine at an address. Does not connect yet.
    pub fn new(address: Address) -> Self {
        Self {
            client: Client::new(address),
            archives: Arc::default(),
            layers: LayersUnderWay::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// The engine that the environment names, as the `docker` command understands it:
    /// `DOCKER_HOST`, `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH`. Does not connect yet.
    pub fn connect() -> Result<Self, AddressError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let host = set("DOCKER_HOST").map_or_else(
            || DEFAULT_HOST.to_owned(),
            |host| host.to_string_lossy().into_owned(),
        );
        let certificates = certificates();
        Ok(Self::new(Address::parse(&host, certificates.as_deref())?))
    }

    /// Waits until no session sends anything any more, for an orderly end of the process.
    pub async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How many build contexts were sent to the builder so far. Builds that share a context, and
    /// contexts the builder has in its cache, do not count again.
    pub fn uploads(&self) -> u64 {
        self.archives.uploads()
    }
}

/// The directory of the certificates for encrypted engines, as the environment names it.
fn certificates() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("DOCKER_CERT_PATH").map(PathBuf::from).or_else(|| {
        set("DOCKER_TLS_VERIFY")?;
        Some(Path::new(&set("HOME")?).join(".docker"))
    })
}

#[async_trait]
impl EngineReader for Docker {
    async fn version(&self) -> Result<String, EngineError> {
        let version = self
            .client
            .api
            .version()
            .await
            .map_err(|error| self.client.error("its version", error))?;
        Ok(format!(
            "Docker {} {}/{}",
            version.version.unwrap_or_default(),
            version.os.unwrap_or_default(),
            version.arch.unwrap_or_default()
        ))
    }

    async fn image(&self, reference: &str) -> Result<Option<LocalImage>, EngineError> {
        self.find_image(reference).await
    }

    async fn images_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<LocalImage>, EngineError> {
        self.find_images(label, value).await
    }

    async fn container(&self, name: &str) -> Result<Option<ContainerState>, EngineError> {
        self.find_container(name).await
    }

    async fn containers_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<ContainerState>, EngineError> {
        self.find_containers(label, value).await
    }

    async fn context(
        &self,
        context: &Path,
        dockerfile: &Path,
    ) -> Result<ContextFacts, EngineError> {
        let (context, dockerfile) = (context.to_owned(), dockerfile.to_owned());
        tokio::task::spawn_blocking(move || {
            let dockerfile = Dockerfile::read(&context, &dockerfile)?;
            BuildContext::scan(&dockerfile.root, dockerfile.ignore.as_deref())?.facts(&dockerfile)
        })
        .await
        .map_err(|error| error::broken("reading the build context", error))?
    }
}

#[async_trait]
impl Engine for Docker {
    async fn build(
        &self,
        request: &BuildRequest,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<String, EngineError> {
        self.build_image(request, output, cancel).await
    }

    async fn push(
        &self,
        request: &PushRequest,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Pushed, EngineError> {
        self.push_image(request, output, cancel).await
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: Option<&Target>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<String, EngineError> {
        self.pull_image(reference, credentials, output, cancel)
            .await
    }

    async fn untag(&self, reference: &str) -> Result<(), EngineError> {
        self.untag_image(reference).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.create_container(spec).await
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        self.start_container(id).await
    }

    async fn run(
        &self,
        id: &str,
        stdin: Option<&str>,
        output: &dyn Output,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError> {
        self.run_container(id, stdin, output, grace, cancel).await
    }

    async fn attach(
        &self,
        id: &str,
        output: &dyn Output,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError> {
        self.attach_container(id, output, grace, cancel).await
    }

    async fn exec(
        &self,
        id: &str,
        command: &[String],
        output: &dyn Output,
    ) -> Result<i64, EngineError> {
        self.exec_in_container(id, command, output).await
    }

    async fn tail(&self, id: &str, lines: usize) -> Result<String, EngineError> {
        self.tail_container(id, lines).await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        self.stop_container(id, grace).await
    }

    async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError> {
        self.rename_container(id, name).await
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.remove_container(id).await
    }

    async fn create_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        self.find_or_create_network(name, labels).await
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        self.delete_network(name).await
    }

    async fn reap(&self, label: &str, value: &str) -> Result<Vec<String>, EngineError> {
        self.reap_all(label, value).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connecting_needs_neither_an_engine_nor_a_runtime() {
        let address = Address::parse("unix:///nowhere/at/all.sock", None).expect("valid");
        assert_eq!(Docker::new(address).uploads(), 0);
    }
}
