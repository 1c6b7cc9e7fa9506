//! What Argo CD answers, in the words of the port. Takes what it understands and leaves the rest.

use serde_json::Value;

use super::super::http::one_line;
use crate::base::Timestamp;
use crate::ports::gitops::{AppState, Managed, Operation, Resource, SyncResult, Windows};

/// Longest message that is kept, in bytes.
const MESSAGE: usize = 1000;
/// Most lines of a log that are kept.
const LINES: usize = 200;

pub(super) fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn text(value: &Value, pointer: &str) -> String {
    at(value, pointer).to_owned()
}

fn message(value: &Value, pointer: &str) -> String {
    one_line(at(value, pointer), MESSAGE)
}

fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    Timestamp::of_rfc3339(at(value, pointer))
}

/// The revisions of several sources, or that of the only one.
fn revisions(value: &Value) -> Vec<String> {
    let many: Vec<String> = list(value, "revisions")
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect();
    match value.get("revision").and_then(Value::as_str) {
        Some(one) if many.is_empty() && !one.is_empty() => vec![one.to_owned()],
        _ => many,
    }
}

fn infos(operation: &Value) -> Vec<(String, String)> {
    list(operation, "info")
        .map(|info| (text(info, "/name"), text(info, "/value")))
        .collect()
}

pub(super) fn app(answer: &Value) -> Option<AppState> {
    let none = Value::Null;
    let metadata = answer.get("metadata")?;
    let spec = answer.get("spec")?;
    let status = answer.get("status").unwrap_or(&none);
    let sources: Vec<&Value> = match list(spec, "sources").collect::<Vec<_>>() {
        sources if sources.is_empty() => spec.get("source").into_iter().collect(),
        sources => sources,
    };
    let automated = spec
        .pointer("/syncPolicy/automated")
        .filter(|a| a.is_object());
    let auto = automated.is_some_and(|a| a.get("enabled") != Some(&Value::Bool(false)));
    Some(AppState {
        project: text(spec, "/project"),
        auto,
        deleting: metadata
            .get("deletionTimestamp")
            .is_some_and(Value::is_string),
        repositories: sources.iter().map(|s| text(s, "/repoURL")).collect(),
        targets: sources.iter().map(|s| text(s, "/targetRevision")).collect(),
        sync: text(status, "/sync/status"),
        revisions: revisions(status.get("sync").unwrap_or(&none)),
        health: text(status, "/health/status"),
        health_message: message(status, "/health/message"),
        reconciled: time(status, "/reconciledAt"),
        pending: answer.get("operation").filter(|o| o.is_object()).map(infos),
        operation: status
            .get("operationState")
            .filter(|state| state.is_object())
            .map(operation),
        conditions: list(status, "conditions")
            .map(|one| (text(one, "/type"), message(one, "/message")))
            .collect(),
        resources: list(status, "resources").map(resource).collect(),
        history: list(status, "history")
            .filter_map(|one| {
                let id = one.get("id").map_or(Some(0), number)?;
                Some((id, revisions(one)))
            })
            .collect(),
    })
}

/// Whole numbers come as such or, large ones, as text.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn operation(state: &Value) -> Operation {
    let none = Value::Null;
    let result = state.get("syncResult").unwrap_or(&none);
    let told = state.get("operation").unwrap_or(&none);
    let brought = match revisions(result) {
        brought if brought.is_empty() => revisions(told.get("sync").unwrap_or(&none)),
        brought => brought,
    };
    Operation {
        phase: text(state, "/phase"),
        message: message(state, "/message"),
        infos: infos(told),
        revisions: brought,
        started: time(state, "/startedAt"),
        finished: time(state, "/finishedAt"),
        results: list(result, "resources").map(sync_result).collect(),
    }
}

fn sync_result(one: &Value) -> SyncResult {
    let hook = text(one, "/hookType");
    SyncResult {
        group: text(one, "/group"),
        kind: text(one, "/kind"),
        namespace: text(one, "/namespace"),
        name: text(one, "/name"),
        status: text(one, "/status"),
        message: message(one, "/message"),
        hook: (!hook.is_empty()).then_some(hook),
        phase: text(one, "/hookPhase"),
    }
}

fn resource(one: &Value) -> Resource {
    Resource {
        group: text(one, "/group"),
        kind: text(one, "/kind"),
        namespace: text(one, "/namespace"),
        name: text(one, "/name"),
        sync: text(one, "/status"),
        health: text(one, "/health/status"),
        message: message(one, "/health/message"),
        hook: one.get("hook").and_then(Value::as_bool) == Some(true),
    }
}

pub(super) fn windows(answer: &Value) -> Windows {
    let words = |name: &str| {
        list(answer, name)
            .map(|one| {
                let zone = match at(one, "/timeZone") {
                    "" => "UTC",
                    zone => zone,
                };
                format!(
                    "{} at \"{}\" {zone} for {}",
                    one_line(at(one, "/kind"), 20),
                    one_line(at(one, "/schedule"), 100),
                    one_line(at(one, "/duration"), 20)
                )
            })
            .take(20)
            .collect()
    };
    Windows {
        // A word that is false is left out by some versions.
        can_sync: answer.get("canSync").and_then(Value::as_bool) == Some(true),
        active: words("activeWindows"),
        assigned: words("assignedWindows"),
    }
}

pub(super) fn managed(one: &Value) -> Option<Managed> {
    if one.get("hook").and_then(Value::as_bool) == Some(true) {
        return None;
    }
    let object = |name: &str| -> Option<Value> {
        let value: Value = serde_json::from_str(one.get(name)?.as_str()?).ok()?;
        value.is_object().then_some(value)
    };
    Some(Managed {
        kind: text(one, "/kind"),
        namespace: text(one, "/namespace"),
        name: text(one, "/name"),
        target: object("predictedLiveState")
            .filter(|_| object("targetState").is_some())
            .or_else(|| object("targetState")),
        live: object("normalizedLiveState").or_else(|| object("liveState")),
    })
}

/// A log is a stream of objects, a line each.
pub(super) fn log(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let entries = text.lines().filter_map(|line| {
        let entry: Value = serde_json::from_str(line).ok()?;
        let content = entry.pointer("/result/content")?.as_str()?;
        Some(one_line(content, MESSAGE))
    });
    let mut lines: Vec<String> = entries.filter(|line| !line.is_empty()).collect();
    lines.drain(..lines.len().saturating_sub(LINES));
    lines
}
