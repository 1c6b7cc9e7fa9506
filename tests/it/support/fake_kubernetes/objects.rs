//! What a call does to the objects of the fake.

use serde_json::{Map, Value, json};

use super::wire::{Ask, RESOURCES};
use super::{Said, State, key};

pub const OLD: &str =
    "localhost:5000/app@sha256:0000000000000000000000000000000000000000000000000000000000000000";

impl State {
    /// A workload `name` with two pods, which has rolled out.
    pub fn put_workload(&mut self, kind: &str, name: &str) {
        let plural = format!("{}s", kind.to_lowercase());
        let mut object = json!({
            "apiVersion": "apps/v1", "kind": kind,
            "metadata": {"name": name, "namespace": "main", "uid": format!("uid-{name}"), "generation": 1,
                "annotations": {"deployment.kubernetes.io/revision": "1"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": {
                    "serviceAccountName": "front",
                    "initContainers": [{"name": "init", "image": "init:1"}],
                    "containers": [
                        {"name": "app", "image": OLD, "env": [{"name": "DB", "valueFrom": {"secretKeyRef": {"name": "db", "key": "url"}}}]},
                        {"name": "proxy", "image": "proxy:1", "futureKey": {"kept": true}}]}}},
            "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2,
                "currentRevision": format!("{name}-1"), "updateRevision": format!("{name}-1"),
                "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2}});
        if kind != "DaemonSet" {
            // Only these roll out at once if nobody says otherwise.
            object["spec"]["updateStrategy"] = json!({"type": "RollingUpdate"});
        }
        self.keep("apps/v1", &plural, object.clone());
        self.revise(&object, 1);
        // A pod of the old revision that is in a bad way, which is no concern of ours.
        let status = json!({"phase": "Running", "containerStatuses": [
            {"name": "app", "ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
        self.put_pod(&format!("{name}-1-old"), name, "1", status);
    }

    /// Keeps the template of a revision, as the controllers do.
    pub(super) fn revise(&mut self, workload: &Value, number: u64) {
        let (kind, name) = (
            workload["kind"].as_str(),
            workload["metadata"]["name"].as_str(),
        );
        let name = name.unwrap_or_default();
        let owner = json!([{"uid": workload["metadata"]["uid"], "kind": kind, "controller": true}]);
        let mut template = workload["spec"]["template"].clone();
        let hash = number.to_string();
        if kind == Some("Deployment") {
            template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
            let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {
                    "name": format!("{name}-{hash}"), "namespace": "main", "ownerReferences": owner,
                    "labels": {"app": name, "pod-template-hash": hash},
                    "annotations": {"deployment.kubernetes.io/revision": hash}},
                "spec": {"template": template}});
            self.keep("apps/v1", "replicasets", set);
        } else {
            template["$patch"] = json!("replace");
            let revision = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {
                    "name": format!("{name}-{hash}"), "namespace": "main", "ownerReferences": owner,
                    "labels": {"app": name, "controller-revision-hash": format!("{name}-{hash}")}},
                "revision": number, "data": {"spec": {"template": template}}});
            self.keep("apps/v1", "controllerrevisions", revision);
        }
    }

    pub(super) fn put_pod(&mut self, name: &str, of: &str, hash: &str, status: Value) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "main",
            "labels": {"app": of, "pod-template-hash": hash, "controller-revision-hash": format!("{of}-{hash}")}},
            "spec": {}, "status": status});
        self.keep("v1", "pods", pod);
    }

    pub fn keep(&mut self, api: &str, plural: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let namespaced = RESOURCES.iter().any(|it| it.2 == plural && it.3);
        let namespace = if namespaced { "main" } else { "" };
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or(namespace)
            .to_owned();
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.objects
            .insert(key(api, plural, &namespace, &name), object.clone());
        object
    }

    pub(super) fn answer(&mut self, ask: &Ask) -> Said {
        let at = key(&ask.api, &ask.plural, &ask.namespace, &ask.name);
        let missing = || {
            let mut said = Said::no(
                404,
                "NotFound",
                format!("{} \"{}\" not found", ask.plural, ask.name),
            );
            said.body["details"] = json!({"name": ask.name, "kind": ask.plural});
            said
        };
        match ask.verb {
            "discover" => {
                let of_api = RESOURCES.iter().filter(|it| it.0 == ask.api);
                let all: Vec<Value> = of_api
                    .map(|it| json!({"name": it.2, "kind": it.1, "namespaced": it.3, "verbs": ["get"]}))
                    .collect();
                let crd = ("apiextensions.k8s.io/v1", "customresourcedefinitions");
                let known = ask.api != "example.com/v1"
                    || self
                        .objects
                        .contains_key(&key(crd.0, crd.1, "", "widgets.example.com"));
                match all.is_empty() || !known {
                    true => Said::no(
                        404,
                        "NotFound",
                        "the server could not find the requested resource",
                    ),
                    false => Said::fine(
                        json!({"kind": "APIResourceList", "groupVersion": ask.api, "resources": all}),
                    ),
                }
            }
            "get" => {
                if let Some(said) = self.play(ask) {
                    return said;
                }
                match self.objects.get(&at) {
                    Some(object) => Said::fine(object.clone()),
                    None => missing(),
                }
            }
            "list" => self.listed(ask),
            "log" => match self.logs.get(&ask.name) {
                Some(text) => {
                    let since = ask.param("sinceTime").unwrap_or_default();
                    let bare = ask.param("timestamps") != Some("true");
                    let lines = text
                        .lines()
                        .filter(|line| line.as_bytes() >= since.as_bytes());
                    let text: String = lines
                        .filter_map(|line| {
                            let (_, words) = line.split_once(' ')?;
                            Some(format!("{}\n", if bare { words } else { line }))
                        })
                        .collect();
                    Said::fine(json!(text))
                }
                None => Said::no(400, "BadRequest", "container is waiting to start"),
            },
            "delete" => match self.objects.remove(&at) {
                Some(_) => {
                    self.writes.push((
                        format!("delete {}/{}", ask.plural, kept(&ask.name)),
                        Value::Null,
                    ));
                    Said::fine(json!({"kind": "Status", "status": "Success"}))
                }
                None => missing(),
            },
            "create" => {
                let name = ask.body["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                let at = key(&ask.api, &ask.plural, &ask.namespace, &name);
                if self.objects.contains_key(&at) {
                    return Said::no(
                        409,
                        "AlreadyExists",
                        format!("{} \"{name}\" already exists", ask.plural),
                    );
                }
                self.writes.push((
                    format!("create {}/{}", ask.plural, kept(&name)),
                    ask.body.clone(),
                ));
                Said {
                    status: 201,
                    ..Said::fine(self.keep(&ask.api, &ask.plural, ask.body.clone()))
                }
            }
            "patch" => match self.objects.get(&at).cloned() {
                Some(before) => self.patched(ask, &before),
                None => missing(),
            },
            _ => self.applied(ask),
        }
    }

    fn listed(&mut self, ask: &Ask) -> Said {
        let labels = ask.param("labelSelector").unwrap_or_default().to_owned();
        let fields = ask.param("fieldSelector").unwrap_or_default().to_owned();
        let fits = |object: &Value| {
            let mut all = labels.split(',').filter(|part| !part.is_empty());
            let labelled = all.all(|part| match part.split_once('=') {
                Some((name, value)) => object["metadata"]["labels"][name] == value,
                None => false,
            });
            let mut all = fields.split(',').filter(|part| !part.is_empty());
            labelled
                && all.all(|part| {
                    let (name, value) = part.split_once('=').unwrap_or((part, ""));
                    let at = format!("/{}", name.replace('.', "/"));
                    object.pointer(&at).and_then(Value::as_str) == Some(value)
                })
        };
        let found: Vec<Value> = self
            .objects
            .iter()
            .filter(|((api, plural, namespace, _), object)| {
                *api == ask.api
                    && *plural == ask.plural
                    && *namespace == ask.namespace
                    && fits(object)
            })
            .map(|(_, object)| object.clone())
            .collect();
        let limit: usize = ask
            .param("limit")
            .and_then(|it| it.parse().ok())
            .unwrap_or(500);
        let page = self.page.unwrap_or(limit).min(limit);
        let from: usize = ask
            .param("continue")
            .and_then(|it| it.parse().ok())
            .unwrap_or(0);
        let items: Vec<&Value> = found.iter().skip(from).take(page).collect();
        let next = if from + page < found.len() {
            (from + page).to_string()
        } else {
            String::new()
        };
        Said::fine(
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": next}, "items": items}),
        )
    }

    fn patched(&mut self, ask: &Ask, before: &Value) -> Said {
        let version = &ask.body["metadata"]["resourceVersion"];
        if !version.is_null() && *version != before["metadata"]["resourceVersion"] {
            return Said::no(
                409,
                "Conflict",
                "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version",
            );
        }
        let mut after = before.clone();
        let mut body = ask.body.clone();
        if let Some(metadata) = body["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        if merge(&mut after, &body).is_err() {
            self.complaints
                .push(format!("a patch adds a container without an image: {body}"));
        }
        if after["spec"] == before["spec"] {
            self.complaints
                .push(format!("a patch changes nothing: {body}"));
        }
        self.writes.push((
            format!("patch {}/{}", ask.plural, ask.name),
            ask.body.clone(),
        ));
        Said::fine(self.changed(ask, before, after))
    }

    /// Keeps a changed object; a changed template begins a roll-out.
    pub(super) fn changed(&mut self, ask: &Ask, before: &Value, mut after: Value) -> Value {
        if after["spec"] != before["spec"] {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
            after["metadata"]["generation"] = json!(generation);
        }
        let template = &after["spec"]["template"];
        if ask.api == "apps/v1" && *template != before["spec"]["template"] {
            let number = 1 + self
                .objects
                .keys()
                .filter(|it| matches!(it.1.as_str(), "replicasets" | "controllerrevisions"))
                .filter(|it| it.3.starts_with(&format!("{}-", ask.name)))
                .count() as u64;
            self.begin(before);
            after["metadata"]["annotations"]["deployment.kubernetes.io/revision"] =
                json!(number.to_string());
            after["status"]["updateRevision"] = json!(format!("{}-{number}", ask.name));
            self.revise(&after, number);
        }
        self.keep(&ask.api, &ask.plural, after)
    }

    fn applied(&mut self, ask: &Ask) -> Said {
        let namespace = key("v1", "namespaces", "", &ask.namespace);
        let known = ask.namespace == "main"
            || ask.namespace.is_empty()
            || self.objects.contains_key(&namespace);
        if !known {
            return Said::no(
                404,
                "NotFound",
                format!("namespaces \"{}\" not found", ask.namespace),
            );
        }
        let mut owned = Vec::new();
        for (kind, field, manager) in &self.owned {
            let at = field.replace('.', "/");
            if ask.body["kind"] == *kind && ask.body.pointer(&at).is_some() {
                owned.push(json!({"reason": "FieldManagerConflict", "field": field,
                    "message": format!("conflict with \"{manager}\" using {}", ask.api)}));
            }
        }
        if !owned.is_empty() && ask.param("force") != Some("true") {
            let mut said = Said::no(
                409,
                "Conflict",
                format!("Apply failed with {} conflict", owned.len()),
            );
            said.body["details"] = json!({"causes": owned});
            return said;
        }
        if ask.body["spec"]["broken"] == true {
            return Said::no(
                422,
                "Invalid",
                format!(
                    "{} \"{}\" is invalid: spec.broken: Forbidden",
                    ask.plural, ask.name
                ),
            );
        }
        let at = key(&ask.api, &ask.plural, &ask.namespace, &ask.name);
        let before = self.objects.get(&at).cloned();
        let mut after = before.clone().unwrap_or_else(|| {
            let mut new = Map::new();
            new.insert(
                "metadata".to_owned(),
                json!({"uid": format!("uid-{}", ask.name), "generation": 1}),
            );
            Value::Object(new)
        });
        if merge(&mut after, &ask.body).is_err() {
            self.complaints.push(format!(
                "a manifest adds a container without an image: {}",
                ask.body
            ));
        }
        // What the cluster fills in.
        if ask.plural == "deployments" && after["spec"]["replicas"].is_null() {
            after["spec"]["replicas"] = json!(1);
        }
        after["metadata"]["managedFields"] =
            json!([{"manager": "pipewright", "operation": "Apply"}]);
        if ask.is_dry() {
            if before
                .as_ref()
                .is_some_and(|before| before["spec"] != after["spec"])
            {
                after["metadata"]["generation"] =
                    json!(after["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
            }
            return Said::fine(after);
        }
        self.writes.push((
            format!("apply {}/{}", ask.plural, ask.name),
            ask.body.clone(),
        ));
        if ask.plural == "customresourcedefinitions" {
            after["status"] = json!({"conditions": [{"type": "Established", "status": "True"}]});
        }
        let before = before.unwrap_or_default();
        Said::fine(self.changed(ask, &before, after))
    }
}

/// A name without the part that is of one run alone.
fn kept(name: &str) -> &str {
    match name.strip_prefix("pipewright-") {
        Some(rest) => rest.rsplit_once('-').map_or(rest, |(name, _)| name),
        None => name,
    }
}

/// Merges as strategic merge does: containers and variables by name, `$patch: replace` as a whole.
fn merge(into: &mut Value, patch: &Value) -> Result<(), ()> {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return Ok(());
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Some(map) = into.as_object_mut() else {
        return Err(());
    };
    if patch.get("$patch").is_some_and(|it| it == "replace") {
        *map = patch.clone();
        map.remove("$patch");
        return Ok(());
    }
    for (key, value) in patch {
        let by_name = matches!(key.as_str(), "containers" | "initContainers" | "env");
        match (map.get_mut(key), value) {
            (Some(Value::Array(there)), Value::Array(items)) if by_name => {
                for item in items {
                    match there.iter_mut().find(|it| it["name"] == item["name"]) {
                        Some(it) => merge(it, item)?,
                        None if key == "env"
                            || !item["image"].is_null()
                                && item.as_object().is_some_and(|it| it.len() > 2) =>
                        {
                            there.push(item.clone());
                        }
                        None => return Err(()),
                    }
                }
            }
            (Some(there), value) if value.is_object() => merge(there, value)?,
            _ => {
                map.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(())
}
