//! Whether two task definitions mean the same to the service, and where they differ.
//!
//! The service fills in defaults when it registers a definition, so that what it describes is never
//! byte for byte what was sent. Both sides are brought to one form first: empty lists, nulls and
//! documented defaults go, lists whose order means nothing are sorted, sizes get one unit.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::TaskDefinition;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// Where: `containerDefinitions[web].image`.
    pub path: String,
    /// What was there, as JSON; absent if nothing was.
    pub before: Option<String>,
    /// What is there now; absent if nothing is.
    pub after: Option<String>,
}

impl TaskDefinition {
    /// Whether registering `self` after `registered` would make a revision without a difference.
    /// Tags are not compared: a description does not hold them unless asked.
    pub fn means_the_same(&self, registered: &Self) -> bool {
        plain(self) == plain(registered)
    }

    /// Fields in which `self` differs from what is registered, by path.
    pub fn changes_from(&self, registered: &Self) -> Vec<FieldChange> {
        let mut before = BTreeMap::new();
        let mut after = BTreeMap::new();
        leaves(&plain(registered), String::new(), &mut before);
        leaves(&plain(self), String::new(), &mut after);
        let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
        paths.sort();
        paths.dedup();
        paths
            .into_iter()
            .filter(|path| before.get(*path) != after.get(*path))
            .map(|path| FieldChange {
                path: path.clone(),
                before: before.get(path).cloned(),
                after: after.get(path).cloned(),
            })
            .collect()
    }
}

/// The one form of a definition.
fn plain(definition: &TaskDefinition) -> Value {
    let mut value = Value::Object(definition.as_json().clone());
    // Keys in one order first: lists are sorted by their entries' text below.
    prune(&mut value);
    let Value::Object(mut object) = value else {
        return value;
    };
    object.shift_remove("tags");
    let awsvpc = object.get("networkMode").and_then(Value::as_str) == Some("awsvpc");
    for (key, unit) in [("cpu", "vcpu"), ("memory", "gb")] {
        if let Some(value) = object.get_mut(key) {
            *value = size(value, unit);
        }
    }
    if let Some(Value::Array(containers)) = object.get_mut("containerDefinitions") {
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            defaults(container, awsvpc);
        }
    }
    for key in ["requiresCompatibilities", "volumes"] {
        sort(&mut object, key);
    }
    let mut value = Value::Object(object);
    prune(&mut value);
    value
}

/// Takes away what the service fills in by itself.
fn defaults(container: &mut Map<String, Value>, awsvpc: bool) {
    if container.get("essential") == Some(&Value::Bool(true)) {
        container.shift_remove("essential");
    }
    if container.get("cpu").and_then(Value::as_u64) == Some(0) {
        container.shift_remove("cpu");
    }
    if let Some(Value::Array(ports)) = container.get_mut("portMappings") {
        for port in ports.iter_mut().filter_map(Value::as_object_mut) {
            if port.get("protocol").and_then(Value::as_str) == Some("tcp") {
                port.shift_remove("protocol");
            }
            // 0 asks for any port; with awsvpc the host's port is the container's.
            let host = port.get("hostPort").and_then(Value::as_u64);
            let own = port.get("containerPort").and_then(Value::as_u64);
            if host == Some(0) || (awsvpc && host == own) {
                port.shift_remove("hostPort");
            }
        }
    }
    for key in [
        "environment",
        "secrets",
        "environmentFiles",
        "portMappings",
        "mountPoints",
        "volumesFrom",
        "ulimits",
        "systemControls",
    ] {
        sort(container, key);
    }
}

/// `0.5 vCPU` and `512`, `1 GB` and `1024` are the same size. Anything else stays.
fn size(value: &Value, unit: &str) -> Value {
    let text = match value {
        Value::String(text) => text.trim().to_ascii_lowercase(),
        Value::Number(number) => number.to_string(),
        _ => return value.clone(),
    };
    let scaled = text
        .strip_suffix(unit)
        .and_then(|number| number.trim().parse::<f64>().ok())
        .map(|number| number * 1024.0);
    match scaled {
        Some(number) if number.fract() == 0.0 => Value::String(format!("{number:.0}")),
        _ => Value::String(text),
    }
}

fn sort(object: &mut Map<String, Value>, key: &str) {
    if let Some(Value::Array(list)) = object.get_mut(key) {
        list.sort_by_cached_key(Value::to_string);
    }
}

/// Takes away nulls, empty lists and empty objects, from the leaves up, and orders keys.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|_, value| super::is_filled(value));
            map.sort_keys();
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

/// Every leaf by its path. Entries of a list go by their name where they have one, so that one
/// more container or variable is one more line and not a difference in all that follow.
fn leaves(value: &Value, path: String, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = match path.as_str() {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                leaves(value, path, into);
            }
        }
        Value::Array(list) if list.iter().all(Value::is_object) => {
            for (at, value) in list.iter().enumerate() {
                let place = match value.get("name").and_then(Value::as_str) {
                    Some(name) => name.to_owned(),
                    None => at.to_string(),
                };
                leaves(value, format!("{path}[{place}]"), into);
            }
        }
        leaf => {
            into.insert(path, leaf.to_string());
        }
    }
}
