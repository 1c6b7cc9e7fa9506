//! Clusters, through the `kube` crate: its configuration, its authentication and TLS, its paths and
//! parameters. Answers are read by us, so that their size is bounded and their reasons are kept.
//!
//! Must not decide what is changed or when it is done: that is the stage's work. A change is sent
//! once; only what certainly was not done (429, 401) is sent again.

mod account;
mod config;
mod connect;
mod exec;
mod fault;
mod transport;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hyper::http::Request;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GetParams, GroupVersionKind, ListParams, LogParams,
    Patch, PatchParams, PostParams, PropagationPolicy, Request as Spelling, ValidationDirective,
};
use kube::core::Resource;
use serde_json::{Value, json};
use tokio::time::Instant;

pub use self::account::ServiceAccount;
pub use self::connect::Connections;
use self::fault::{broken, fault, refused};
pub use self::transport::{Answer, Transport};
use super::backoff::Backoff;
use crate::ports::Retry;
use crate::ports::cluster::{
    Cluster, ClusterError, ClusterReader, Clusters, Listing, PodLog, Thing,
};

/// Under which name we own fields.
pub const MANAGER: &str = "pipewright";
/// Objects per page of a list, and in all.
const PAGE: u32 = 500;
const MOST: usize = 2000;
/// How often a list whose place was forgotten (410) is begun anew.
const RESTARTS: u32 = 3;
/// Most bytes of one piece of a log.
const LOG_BYTES: i64 = 1 << 20;
/// Most namings of kinds that are remembered.
const KINDS: usize = 1000;

/// Kinds that every cluster has, with their plural and whether they have a namespace: nothing is asked
/// for them.
const KNOWN: &[(&str, &str, &str, bool)] = &[
    ("apps/v1", "Deployment", "deployments", true),
    ("apps/v1", "StatefulSet", "statefulsets", true),
    ("apps/v1", "DaemonSet", "daemonsets", true),
    ("apps/v1", "ReplicaSet", "replicasets", true),
    ("apps/v1", "ControllerRevision", "controllerrevisions", true),
    ("batch/v1", "Job", "jobs", true),
    ("v1", "Pod", "pods", true),
    ("v1", "Event", "events", true),
    ("v1", "Service", "services", true),
    ("v1", "ConfigMap", "configmaps", true),
    ("v1", "Secret", "secrets", true),
    ("v1", "ServiceAccount", "serviceaccounts", true),
    ("v1", "Namespace", "namespaces", false),
];

/// How a kind is called in paths.
#[derive(Clone, Debug)]
struct Naming {
    resource: ApiResource,
    namespaced: bool,
}

/// Clusters behind a transport.
pub struct Kubernetes {
    transport: Arc<dyn Transport>,
    /// What clusters said of their kinds.
    kinds: Mutex<HashMap<(String, String, String), Naming>>,
}

impl Kubernetes {
    /// Clusters as a transport reaches them.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            kinds: Mutex::default(),
        }
    }

    async fn naming(
        &self,
        cluster: &Cluster,
        api: &str,
        kind: &str,
    ) -> Result<Naming, ClusterError> {
        let gvk = match api.split_once('/') {
            Some((group, version)) => GroupVersionKind::gvk(group, version, kind),
            None => GroupVersionKind::gvk("", api, kind),
        };
        let named = |plural: &str, namespaced| Naming {
            resource: ApiResource::from_gvk_with_plural(&gvk, plural),
            namespaced,
        };
        if let Some((_, _, plural, namespaced)) =
            KNOWN.iter().find(|known| (known.0, known.1) == (api, kind))
        {
            return Ok(named(plural, *namespaced));
        }
        let key = (cluster.name.clone(), api.to_owned(), kind.to_owned());
        if let Some(naming) = self.kinds().get(&key) {
            return Ok(naming.clone());
        }
        let action = format!("look up kind {kind} of {api}");
        let plain = |text: &str| {
            !text.is_empty()
                && text.len() <= 300
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-./".contains(&b))
                && !text.contains("..")
        };
        let unknown = || {
            ClusterError::Refused {
            cluster: cluster.name.clone(),
            action: action.clone(),
            reason: "NotFound".to_owned(),
            message: "the cluster has no such kind; is its custom resource definition installed, and the apiVersion right?".to_owned(),
        }
        };
        if !plain(api) || !plain(kind) {
            return Err(unknown());
        }
        let path = match api.contains('/') {
            true => format!("/apis/{api}"),
            false => format!("/api/{api}"),
        };
        let request = Request::get(path)
            .header("accept", "application/json")
            .body(Vec::new());
        let request = request.map_err(|error| broken(cluster, &action, error.to_string()))?;
        let answer = self.read(cluster, &action, request).await?;
        if answer.status == 404 {
            return Err(unknown());
        }
        let list = parsed(cluster, &action, &answer)?;
        let resources = list
            .get("resources")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(str::to_owned);
        let found = resources.iter().find_map(|resource| {
            let plural = text(resource, "name").filter(|name| !name.contains('/'))?;
            (text(resource, "kind")? == kind && plain(&plural)).then(|| {
                let namespaced = resource.get("namespaced").and_then(Value::as_bool);
                named(&plural, namespaced.unwrap_or(true))
            })
        });
        let naming = found.ok_or_else(unknown)?;
        let mut kinds = self.kinds();
        if kinds.len() < KINDS {
            kinds.insert(key, naming.clone());
        }
        Ok(naming)
    }

    fn kinds(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String, String), Naming>> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where objects of a kind are.
    async fn place(
        &self,
        cluster: &Cluster,
        api: &str,
        kind: &str,
        namespace: &str,
    ) -> Result<(Spelling, bool), ClusterError> {
        let naming = self.naming(cluster, api, kind).await?;
        if naming.namespaced && !is_label(namespace) {
            let action = format!("find {} in namespace {namespace}", kind.to_lowercase());
            return Err(refused(
                cluster,
                &action,
                "that is no namespace: lower case letters, digits and hyphens",
            ));
        }
        let namespace = naming.namespaced.then_some(namespace);
        let path = DynamicObject::url_path(&naming.resource, namespace);
        Ok((Spelling::new(path), naming.namespaced))
    }

    /// Sends what changes nothing, and again if that may help.
    async fn read(
        &self,
        cluster: &Cluster,
        action: &str,
        request: Request<Vec<u8>>,
    ) -> Result<Answer, ClusterError> {
        self.tried(cluster, action, request, true).await
    }

    /// Sends what changes something. Again only if it certainly was not done.
    async fn write(
        &self,
        cluster: &Cluster,
        action: &str,
        request: Request<Vec<u8>>,
    ) -> Result<Answer, ClusterError> {
        self.tried(cluster, action, request, false).await
    }

    async fn tried(
        &self,
        cluster: &Cluster,
        action: &str,
        request: Request<Vec<u8>>,
        again: bool,
    ) -> Result<Answer, ClusterError> {
        let (began, mut failures) = (Instant::now(), 0);
        let backoff = Backoff {
            total: Duration::from_secs(90),
            ..Backoff::default()
        };
        loop {
            let sent = self.transport.send(cluster, action, request.clone()).await;
            let sent = sent.and_then(|answer| match answer.status {
                404 | 409 | 410 => Ok(answer),
                200..=299 => Ok(answer),
                _ => Err(fault(cluster, action, &answer)),
            });
            let error = match sent {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            let asked = match (&error, error.retry()) {
                (ClusterError::Throttled { .. }, Retry::After(asked)) => asked,
                (_, Retry::After(asked)) if again => asked,
                _ => return Err(error),
            };
            let random = self.transport.random();
            match backoff.wait(failures, began.elapsed(), asked, random) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
        }
    }

    async fn applied(
        &self,
        cluster: &Cluster,
        object: &Value,
        namespace: &str,
        force: bool,
        dry: bool,
    ) -> Result<Value, ClusterError> {
        let thing = named(object, namespace);
        let verb = if dry { "rehearse applying" } else { "apply" };
        let action = format!("{verb} {thing} in namespace {namespace}");
        let (spelling, namespaced) = self
            .place(cluster, &thing.api, &thing.kind, namespace)
            .await?;
        let mut object = object.clone();
        if namespaced && let Some(metadata) = object.get_mut("metadata") {
            metadata["namespace"] = json!(namespace);
        }
        let params = PatchParams {
            dry_run: dry,
            force,
            field_manager: Some(MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let request = spelling
            .patch(&thing.name, &params, &Patch::Apply(&object))
            .map_err(|error| refused(cluster, &action, &error.to_string()))?;
        let answer = match dry {
            true => self.read(cluster, &action, request).await?,
            false => self.write(cluster, &action, request).await?,
        };
        object_of(cluster, &action, &answer)
    }
}

/// What an object is called.
fn named(object: &Value, namespace: &str) -> Thing {
    let text = |at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or("");
    Thing {
        api: text("/apiVersion").to_owned(),
        kind: text("/kind").to_owned(),
        namespace: namespace.to_owned(),
        name: text("/metadata/name").to_owned(),
    }
}

/// Whether a text may stand as one part of a path.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 63
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn parsed(cluster: &Cluster, action: &str, answer: &Answer) -> Result<Value, ClusterError> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        broken(
            cluster,
            action,
            format!("its answer cannot be read: {error}"),
        )
    })
}

/// The object an answer holds; anything but success is an error.
fn object_of(cluster: &Cluster, action: &str, answer: &Answer) -> Result<Value, ClusterError> {
    if !(200..300).contains(&answer.status) {
        return Err(fault(cluster, action, answer));
    }
    let object = parsed(cluster, action, answer)?;
    if object.pointer("/metadata/name").is_none() {
        return Err(broken(
            cluster,
            action,
            "its answer is no object".to_owned(),
        ));
    }
    Ok(object)
}

#[async_trait]
impl ClusterReader for Kubernetes {
    async fn namespace(&self, cluster: &Cluster) -> Result<String, ClusterError> {
        self.transport.namespace(cluster).await
    }

    async fn get(&self, cluster: &Cluster, thing: &Thing) -> Result<Option<Value>, ClusterError> {
        let action = format!("get {thing} in namespace {}", thing.namespace);
        let (spelling, _) = self
            .place(cluster, &thing.api, &thing.kind, &thing.namespace)
            .await?;
        let request = spelling
            .get(&thing.name, &GetParams::default())
            .map_err(|error| refused(cluster, &action, &error.to_string()))?;
        let answer = self.read(cluster, &action, request).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        object_of(cluster, &action, &answer).map(Some)
    }

    async fn list(&self, cluster: &Cluster, listing: &Listing) -> Result<Vec<Value>, ClusterError> {
        let kind = listing.kind.to_lowercase();
        let action = format!("list {kind}s in namespace {}", listing.namespace);
        let (spelling, _) = self
            .place(cluster, &listing.api, &listing.kind, &listing.namespace)
            .await?;
        let mut items: Vec<Value> = Vec::new();
        let (mut next, mut restarts) = (None, 0);
        loop {
            let mut params = ListParams::default()
                .labels(&listing.labels)
                .fields(&listing.fields)
                .limit(PAGE);
            params.continue_token = next.take();
            let request = spelling
                .list(&params)
                .map_err(|error| refused(cluster, &action, &error.to_string()))?;
            let answer = self.read(cluster, &action, request).await?;
            // The place in the list was forgotten meanwhile.
            if answer.status == 410 && restarts < RESTARTS {
                restarts += 1;
                items.clear();
                continue;
            }
            if answer.status == 410 {
                return Err(broken(
                    cluster,
                    &action,
                    "the list expires faster than it can be read".to_owned(),
                ));
            }
            if !(200..300).contains(&answer.status) {
                return Err(fault(cluster, &action, &answer));
            }
            let mut page = parsed(cluster, &action, &answer)?;
            let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) else {
                return Err(broken(cluster, &action, "its answer is no list".to_owned()));
            };
            items.extend(more);
            let token = page.pointer("/metadata/continue").and_then(Value::as_str);
            next = token.filter(|token| !token.is_empty()).map(str::to_owned);
            if next.is_none() || items.len() >= MOST {
                items.truncate(MOST);
                return Ok(items);
            }
        }
    }

    async fn log(&self, cluster: &Cluster, log: &PodLog) -> Result<String, ClusterError> {
        let action = format!("get the log of pod {}", log.pod);
        let (spelling, _) = self.place(cluster, "v1", "Pod", &log.namespace).await?;
        let since = log.since.as_deref().map(str::parse);
        let params = LogParams {
            container: Some(log.container.clone()),
            previous: log.previous,
            tail_lines: log.tail.map(i64::from),
            limit_bytes: Some(LOG_BYTES),
            since_time: since
                .transpose()
                .map_err(|error| refused(cluster, &action, &format!("no time: {error}")))?,
            timestamps: log.timestamps,
            ..LogParams::default()
        };
        if !log.pod.split('.').all(is_label) {
            return Err(refused(cluster, &action, "that is no name of a pod"));
        }
        let request = spelling
            .logs(&log.pod, &params)
            .map_err(|error| refused(cluster, &action, &error.to_string()))?;
        match self.read(cluster, &action, request).await {
            Ok(answer) if (200..300).contains(&answer.status) => {
                Ok(String::from_utf8_lossy(&answer.body).into_owned())
            }
            // It is gone, or not there yet.
            Ok(answer) if answer.status == 404 => Ok(String::new()),
            Ok(answer) => Err(fault(cluster, &action, &answer)),
            // `container "x" in pod "y" is waiting to start`.
            Err(ClusterError::Refused { reason, .. }) if reason == "BadRequest" => {
                Ok(String::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn rehearse(
        &self,
        cluster: &Cluster,
        object: &Value,
        namespace: &str,
        force: bool,
    ) -> Result<Value, ClusterError> {
        self.applied(cluster, object, namespace, force, true).await
    }
}

#[async_trait]
impl Clusters for Kubernetes {
    async fn patch(
        &self,
        cluster: &Cluster,
        thing: &Thing,
        patch: &Value,
    ) -> Result<Value, ClusterError> {
        let action = format!("patch {thing} in namespace {}", thing.namespace);
        let (spelling, _) = self
            .place(cluster, &thing.api, &thing.kind, &thing.namespace)
            .await?;
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let request = spelling
            .patch(&thing.name, &params, &Patch::Strategic(patch))
            .map_err(|error| refused(cluster, &action, &error.to_string()))?;
        let answer = self.write(cluster, &action, request).await?;
        object_of(cluster, &action, &answer)
    }

    async fn apply(
        &self,
        cluster: &Cluster,
        object: &Value,
        namespace: &str,
        force: bool,
    ) -> Result<Value, ClusterError> {
        self.applied(cluster, object, namespace, force, false).await
    }

    async fn create(
        &self,
        cluster: &Cluster,
        object: &Value,
        namespace: &str,
    ) -> Result<Value, ClusterError> {
        let thing = named(object, namespace);
        let action = format!("create {thing} in namespace {namespace}");
        let (spelling, _) = self
            .place(cluster, &thing.api, &thing.kind, namespace)
            .await?;
        let params = PostParams {
            dry_run: false,
            field_manager: Some(MANAGER.to_owned()),
        };
        let request = spelling
            .create(&params, object.to_string().into_bytes())
            .map_err(|error| refused(cluster, &action, &error.to_string()))?;
        let answer = self.write(cluster, &action, request).await?;
        object_of(cluster, &action, &answer)
    }

    async fn delete(&self, cluster: &Cluster, thing: &Thing) -> Result<(), ClusterError> {
        let action = format!("delete {thing} in namespace {}", thing.namespace);
        let (spelling, _) = self
            .place(cluster, &thing.api, &thing.kind, &thing.namespace)
            .await?;
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let request = spelling
            .delete(&thing.name, &params)
            .map_err(|error| refused(cluster, &action, &error.to_string()))?;
        let answer = self.write(cluster, &action, request).await?;
        match answer.status {
            404 | 200..=299 => Ok(()),
            _ => Err(fault(cluster, &action, &answer)),
        }
    }
}
