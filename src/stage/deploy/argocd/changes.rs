//! What a sync would change, for a plan: resources and fields, found out by reading only.

use std::fmt::Write as _;

use serde_json::Value;

use super::Wanted;
use crate::ports::Readers;
use crate::ports::gitops::{AppName, Managed};
use crate::stage::Forecast;

/// Most fields that are shown of all resources, and most characters of a value.
const FIELDS: usize = 200;
const VALUE: usize = 120;
/// Fields that Argo CD and Kubernetes keep for themselves.
const OWN: &[&str] = &[
    "status",
    "managedFields",
    "resourceVersion",
    "uid",
    "generation",
];

/// Adds what a sync of an application would change.
pub(super) async fn show(
    readers: &Readers,
    wanted: &Wanted,
    app: &AppName,
    revision: Option<&str>,
    forecast: &mut Forecast,
    diff: &mut String,
) {
    let mut managed = match readers.gitops.managed(&wanted.server, app).await {
        Ok(managed) => managed,
        Err(error) => {
            let _ = write!(
                forecast.reason,
                " (what would change cannot be told: {error})"
            );
            return;
        }
    };
    if let Some(revision) = revision
        && let Ok(manifests) = readers
            .gitops
            .manifests(&wanted.server, app, revision)
            .await
    {
        managed = at_revision(managed, &manifests);
    }
    let only = &wanted.request.only;
    let asked = |one: &&Managed| {
        only.is_empty()
            || only
                .iter()
                .any(|f| f.kind == one.kind && f.name == one.name)
    };
    let mut shown = 0;
    for one in managed.iter().filter(asked) {
        let name = format!("{} {}", one.kind, one.name);
        match (&one.target, &one.live) {
            (Some(_), None) => forecast.effects.push(format!("{app}: make {name}")),
            (None, Some(_)) if wanted.request.prune => {
                forecast.effects.push(format!("{app}: delete {name}"));
            }
            (Some(target), Some(live)) => {
                let mut fields = Vec::new();
                compare("", target, live, &mut fields);
                if fields.is_empty() {
                    continue;
                }
                forecast.effects.push(format!("{app}: change {name}"));
                for (path, from, to) in fields {
                    shown += 1;
                    if shown > FIELDS {
                        continue;
                    }
                    // Argo CD hides what is secret; we do not rely on it.
                    let hidden = one.kind == "Secret";
                    let value = |text: String| if hidden { "…".to_owned() } else { text };
                    let (from, to) = (value(from), value(to));
                    let _ = writeln!(diff, " {app}: {name}: {path}\n-{from}\n+{to}");
                }
            }
            _ => {}
        }
    }
    if shown > FIELDS {
        let _ = writeln!(diff, " and {} more fields", shown - FIELDS);
    }
}

/// What should be, by the manifests of another revision.
fn at_revision(managed: Vec<Managed>, manifests: &[Value]) -> Vec<Managed> {
    let text = |value: &Value, pointer: &str| {
        let text = value.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or("").to_owned()
    };
    let mut live = managed;
    for one in &mut live {
        one.target = None;
    }
    for manifest in manifests {
        // A hook is not compared.
        if manifest
            .pointer("/metadata/annotations/argocd.argoproj.io~1hook")
            .is_some()
        {
            continue;
        }
        let (kind, name) = (text(manifest, "/kind"), text(manifest, "/metadata/name"));
        let namespace = text(manifest, "/metadata/namespace");
        let same = |one: &&mut Managed| {
            one.kind == kind
                && one.name == name
                && (namespace.is_empty() || one.namespace == namespace)
        };
        match live.iter_mut().find(same) {
            Some(one) => one.target = Some(manifest.clone()),
            None => live.push(Managed {
                kind,
                namespace,
                name,
                target: Some(manifest.clone()),
                live: None,
            }),
        }
    }
    live
}

/// Fields of `target` that are otherwise in `live`: what only `live` has was filled in by the cluster.
fn compare(path: &str, target: &Value, live: &Value, found: &mut Vec<(String, String, String)>) {
    if found.len() > FIELDS {
        return;
    }
    match (target, live) {
        (Value::Object(target), Value::Object(live)) => {
            for (key, value) in target {
                if OWN.contains(&key.as_str()) {
                    continue;
                }
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                compare(&path, value, live.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(target), Value::Array(live)) if target.len() == live.len() => {
            for (at, (target, live)) in target.iter().zip(live).enumerate() {
                compare(&format!("{path}[{at}]"), target, live, found);
            }
        }
        (target, live) if target != live && !is_empty(target, live) => {
            found.push((path.to_owned(), shown(live), shown(target)));
        }
        _ => {}
    }
}

/// Nothing and an empty thing are the same.
fn is_empty(target: &Value, live: &Value) -> bool {
    let nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    nothing(target) && nothing(live)
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "(nothing)".to_owned(),
        value => value.to_string(),
    };
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    match text.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
