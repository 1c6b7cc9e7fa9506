//! Simulated clusters: every cluster has every workload that is asked for, with a container of the
//! workload's name and one called `app`. A roll-out is complete after a while, and a job succeeds.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::SimWorld;
use super::call::{Call, Done, Life};
use super::fault::{Failure, PortError};
use super::ledger::Rule;
use crate::ports::cluster::{
    Cluster, ClusterError, ClusterReader, Clusters, Listing, PodLog, Thing,
};

/// The objects of all clusters of a simulated world.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    by_thing: BTreeMap<(String, Thing), Object>,
    /// Counts changes.
    version: u64,
}

#[derive(Clone, Debug)]
struct Object {
    value: Value,
    /// When it has rolled out, or run.
    complete: Instant,
}

const WORKLOADS: [&str; 3] = ["Deployment", "StatefulSet", "DaemonSet"];

impl SimWorld {
    /// Makes a deployment of a cluster, with these containers.
    pub fn deployment(&self, cluster: &str, namespace: &str, name: &str, containers: &[&str]) {
        let thing = Thing {
            api: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let value = workload(&thing, containers);
        self.state()
            .objects
            .put(cluster, &thing, value, Instant::now());
    }
}

fn workload(thing: &Thing, containers: &[&str]) -> Value {
    let containers: Vec<Value> = containers
        .iter()
        .map(|name| json!({"name": name, "image": "simulated"}))
        .collect();
    json!({
        "apiVersion": thing.api, "kind": thing.kind,
        "metadata": {"name": thing.name, "namespace": thing.namespace, "generation": 1,
            "uid": format!("uid-{}", thing.name)},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": thing.name}},
            "template": {"metadata": {"labels": {"app": thing.name}}, "spec": {"containers": containers}}},
    })
}

impl Objects {
    fn put(&mut self, cluster: &str, thing: &Thing, mut value: Value, complete: Instant) -> Value {
        self.version += 1;
        value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Object {
            value: value.clone(),
            complete,
        };
        let key = (cluster.to_owned(), thing.clone());
        self.by_thing.insert(key, object);
        value
    }

    /// An object as it is now; workloads that nobody made spring up.
    fn get(&mut self, cluster: &str, thing: &Thing, now: Instant) -> Option<Value> {
        let key = (cluster.to_owned(), thing.clone());
        if !self.by_thing.contains_key(&key)
            && thing.api == "apps/v1"
            && WORKLOADS.contains(&thing.kind.as_str())
        {
            let mut containers = vec![thing.name.as_str()];
            containers.extend((thing.name != "app").then_some("app"));
            self.put(cluster, thing, workload(thing, &containers), now);
        }
        let object = self.by_thing.get(&key)?;
        let mut value = object.value.clone();
        let over = now >= object.complete;
        if WORKLOADS.contains(&thing.kind.as_str()) {
            let wanted = value["spec"]["replicas"].as_u64().unwrap_or(1);
            let new = if over { wanted } else { 0 };
            value["status"] = json!({
                "observedGeneration": value["metadata"]["generation"],
                "replicas": wanted, "updatedReplicas": new, "availableReplicas": wanted,
                "readyReplicas": wanted, "desiredNumberScheduled": wanted,
                "updatedNumberScheduled": new, "numberAvailable": wanted,
                "currentRevision": "a", "updateRevision": if over { "a" } else { "b" }});
        }
        let condition = match thing.kind.as_str() {
            "Job" => "Complete",
            "CustomResourceDefinition" => "Established",
            _ => return Some(value),
        };
        if over {
            value["status"] = json!({"conditions": [{"type": condition, "status": "True"}]});
        }
        Some(value)
    }

    fn generation(before: Option<&Value>, after: &mut Value) -> bool {
        let changed = before.is_none_or(|before| before.get("spec") != after.get("spec"));
        let number = before.map_or(0, |it| it["metadata"]["generation"].as_u64().unwrap_or(0));
        after["metadata"]["generation"] = json!(number + u64::from(changed));
        changed
    }
}

/// Merges as a cluster merges what it knows the lists of: containers by name.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                let by_name = matches!(key.as_str(), "containers" | "initContainers");
                match into.get_mut(key) {
                    Some(Value::Array(there)) if by_name => named(there, value),
                    Some(there) => merge(there, value),
                    None => {
                        into.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

fn named(there: &mut Vec<Value>, patch: &Value) {
    for item in patch.as_array().into_iter().flatten() {
        match there.iter_mut().find(|it| it["name"] == item["name"]) {
            Some(it) => merge(it, item),
            None => there.push(item.clone()),
        }
    }
}

impl PortError for ClusterError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        let (cluster, action) = ("simulated".to_owned(), call.to_string());
        let message = "a scripted fault".to_owned();
        Some(match failure {
            Failure::Broken => Self::broken(call, message),
            Failure::Throttled(_) => Self::Throttled {
                cluster,
                action,
                after: None,
            },
            Failure::Denied => Self::Denied {
                cluster,
                action,
                message,
            },
            Failure::Refused | Failure::NotFound => Self::Refused {
                cluster,
                action,
                reason: "Invalid".to_owned(),
                message,
            },
            _ => return None,
        })
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Broken {
            cluster: "simulated".to_owned(),
            action: call.to_string(),
            message,
        }
    }
}

fn conflict(cluster: &Cluster, call: &Call, reason: &str) -> ClusterError {
    ClusterError::Conflict {
        cluster: cluster.name.clone(),
        action: call.to_string(),
        message: "it is not as it was".to_owned(),
        reason: reason.to_owned(),
        fields: Vec::new(),
    }
}

fn thing_of(object: &Value, namespace: &str) -> Thing {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Thing {
        api: text(&object["apiVersion"]),
        kind: text(&object["kind"]),
        namespace: namespace.to_owned(),
        name: text(&object["metadata"]["name"]),
    }
}

/// What an object is once it was applied.
fn applied(before: Option<&Value>, object: &Value, namespace: &str) -> Value {
    let mut after = before.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    merge(&mut after, object);
    after["metadata"]["namespace"] = json!(namespace);
    Objects::generation(before, &mut after);
    if let Some(map) = after.as_object_mut() {
        map.remove("status");
    }
    after
}

fn same(before: Option<&Value>, after: &Value) -> bool {
    let bare = |value: &Value| {
        let mut value = value.clone();
        if let Some(map) = value.as_object_mut() {
            map.remove("status");
        }
        value
    };
    before.is_some_and(|before| bare(before) == bare(after))
}

#[async_trait]
impl ClusterReader for Life {
    async fn namespace(&self, cluster: &Cluster) -> Result<String, ClusterError> {
        let call = Call::one("clusters.namespace", &cluster.name);
        self.pass::<ClusterError>(&call, None).await?;
        Ok("default".to_owned())
    }

    async fn get(&self, cluster: &Cluster, thing: &Thing) -> Result<Option<Value>, ClusterError> {
        let call = Call::one("clusters.get", &thing.to_string());
        self.pass::<ClusterError>(&call, None).await?;
        Ok(self
            .look(|state| state.objects.get(&cluster.name, thing, Instant::now()))
            .await)
    }

    async fn list(
        &self,
        _cluster: &Cluster,
        listing: &Listing,
    ) -> Result<Vec<Value>, ClusterError> {
        let call = Call::one("clusters.list", &listing.kind);
        self.pass::<ClusterError>(&call, None).await?;
        Ok(Vec::new())
    }

    async fn log(&self, _cluster: &Cluster, log: &PodLog) -> Result<String, ClusterError> {
        let call = Call::one("clusters.log", &log.pod);
        self.pass::<ClusterError>(&call, None).await?;
        Ok(String::new())
    }

    async fn rehearse(
        &self,
        cluster: &Cluster,
        object: &Value,
        namespace: &str,
        _force: bool,
    ) -> Result<Value, ClusterError> {
        let thing = thing_of(object, namespace);
        let call = Call::one("clusters.rehearse", &thing.to_string());
        self.pass::<ClusterError>(&call, None).await?;
        Ok(self
            .look(|state| {
                let key = (cluster.name.clone(), thing.clone());
                let before = state.objects.by_thing.get(&key);
                applied(before.map(|it| &it.value), object, namespace)
            })
            .await)
    }
}

#[async_trait]
impl Clusters for Life {
    async fn patch(
        &self,
        cluster: &Cluster,
        thing: &Thing,
        patch: &Value,
    ) -> Result<Value, ClusterError> {
        let call = Call::one("clusters.patch", &thing.to_string());
        let mut ticket = self.enter::<ClusterError>(&call, None).await?;
        let time = self.shared.vary(self.shared.latency().work, &thing.name);
        self.act(&call, &mut ticket, |state| {
            let now = Instant::now();
            let Some(before) = state.objects.get(&cluster.name, thing, now) else {
                return Err(conflict(cluster, &call, "NotFound"));
            };
            let version = &patch["metadata"]["resourceVersion"];
            if !version.is_null() && *version != before["metadata"]["resourceVersion"] {
                return Err(conflict(cluster, &call, "Conflict"));
            }
            let mut after = before.clone();
            merge(&mut after, patch);
            if !Objects::generation(Some(&before), &mut after) {
                state.violate(Rule::IdleChange, &call, "the patch changes nothing");
            }
            if let Some(map) = after.as_object_mut() {
                map.remove("status");
            }
            let after = state.objects.put(&cluster.name, thing, after, now + time);
            let detail = after["metadata"]["generation"].to_string();
            Ok(Done::changed(after, thing.to_string(), detail))
        })
        .await
    }

    async fn apply(
        &self,
        cluster: &Cluster,
        object: &Value,
        namespace: &str,
        _force: bool,
    ) -> Result<Value, ClusterError> {
        let thing = thing_of(object, namespace);
        let call = Call::one("clusters.apply", &thing.to_string());
        let mut ticket = self.enter::<ClusterError>(&call, None).await?;
        let time = self.shared.vary(self.shared.latency().work, &thing.name);
        self.act(&call, &mut ticket, |state| {
            let key = (cluster.name.clone(), thing.clone());
            let before = state.objects.by_thing.get(&key).map(|it| it.value.clone());
            let after = applied(before.as_ref(), object, namespace);
            if same(before.as_ref(), &after) {
                state.violate(Rule::IdleChange, &call, "the manifest changes nothing");
            }
            let complete = Instant::now() + time;
            let after = state.objects.put(&cluster.name, &thing, after, complete);
            let detail = after["metadata"]["generation"].to_string();
            Ok(Done::changed(after, thing.to_string(), detail))
        })
        .await
    }

    async fn create(
        &self,
        cluster: &Cluster,
        object: &Value,
        namespace: &str,
    ) -> Result<Value, ClusterError> {
        let thing = thing_of(object, namespace);
        let call = Call::one("clusters.create", &thing.to_string());
        let mut ticket = self.enter::<ClusterError>(&call, None).await?;
        let time = self.shared.vary(self.shared.latency().work, &thing.name);
        self.act(&call, &mut ticket, |state| {
            let key = (cluster.name.clone(), thing.clone());
            if state.objects.by_thing.contains_key(&key) {
                return Err(conflict(cluster, &call, "AlreadyExists"));
            }
            let complete = Instant::now() + time;
            let made = state
                .objects
                .put(&cluster.name, &thing, object.clone(), complete);
            Ok(Done::changed(made, thing.to_string(), "created"))
        })
        .await
    }

    async fn delete(&self, cluster: &Cluster, thing: &Thing) -> Result<(), ClusterError> {
        let call = Call::one("clusters.delete", &thing.to_string());
        let mut ticket = self.enter::<ClusterError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let key = (cluster.name.clone(), thing.clone());
            Ok(match state.objects.by_thing.remove(&key) {
                Some(_) => Done::changed((), thing.to_string(), "deleted"),
                None => Done::nothing(()),
            })
        })
        .await
    }
}
