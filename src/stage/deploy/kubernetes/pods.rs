//! Why a pod does not come up, in a sentence. Decides only; asks nothing.

use serde_json::Value;

use super::workload::{condition, items, text};
use crate::base::harmless::one_line;

/// What a pod suffers from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ailment {
    /// In a sentence.
    pub(super) why: String,
    /// Whether it is no matter of a little patience: nothing but a change makes it go away.
    pub(super) lasts: bool,
    /// The container whose last words may tell more, if it ran: the one before, or the one that is there.
    pub(super) log: Option<(String, bool)>,
}

/// Reasons for which a container waits and which do not go away by waiting.
const STUCK: [&str; 10] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
];

/// What a pod suffers from, if it does.
pub(super) fn ailment(pod: &Value) -> Option<Ailment> {
    if text(pod, "/status/reason") == "Evicted" {
        let why = format!("it was evicted: {}", said(text(pod, "/status/message")));
        return Some(Ailment {
            why,
            lasts: true,
            log: None,
        });
    }
    let statuses = items(pod, "/status/initContainerStatuses")
        .iter()
        .chain(items(pod, "/status/containerStatuses"));
    if let Some(found) = statuses.into_iter().find_map(of_container) {
        return Some(found);
    }
    let scheduled = condition(pod, "PodScheduled");
    if let Some(it) = scheduled
        && text(it, "/status") == "False"
    {
        let why = format!(
            "it cannot be scheduled: {}",
            said(text(it, "/message")).trim_end_matches('.')
        );
        // A node may come yet.
        return Some(Ailment {
            why,
            lasts: false,
            log: None,
        });
    }
    if text(pod, "/status/phase") == "Failed" {
        let why = [
            text(pod, "/status/reason"),
            text(pod, "/status/message"),
            "it failed",
        ];
        let why = why.into_iter().find(|why| !why.is_empty());
        return Some(Ailment {
            why: said(why.unwrap_or_default()),
            lasts: true,
            log: None,
        });
    }
    None
}

fn of_container(status: &Value) -> Option<Ailment> {
    let name = text(status, "/name");
    let waits = text(status, "/state/waiting/reason");
    let ended = ["/state/terminated", "/lastState/terminated"]
        .into_iter()
        .find_map(|at| status.pointer(at).filter(|it| !it.is_null()));
    let end = ended.map(exit);
    if waits == "CrashLoopBackOff" {
        let end = end.unwrap_or_else(|| "it ends again and again".to_owned());
        return Some(Ailment {
            why: format!("container {name} crashes again and again (CrashLoopBackOff): {end}"),
            lasts: true,
            log: Some((name.to_owned(), true)),
        });
    }
    if STUCK.contains(&waits) {
        let message = said(text(status, "/state/waiting/message"));
        let message = match message.as_str() {
            "" => String::new(),
            message => format!(": {message}"),
        };
        return Some(Ailment {
            why: format!("container {name} cannot start: {waits}{message}"),
            lasts: true,
            log: None,
        });
    }
    // It ended and waits for its turn, or runs again after a bad end and is not ready yet.
    let bad = ended.is_some_and(|it| text(it, "/reason") != "Completed" && code(it) != Some(0));
    let is_ready = status.pointer("/ready") == Some(&Value::Bool(true));
    (bad && !is_ready).then(|| Ailment {
        why: format!("container {name} {}", end.unwrap_or_default()),
        lasts: true,
        log: Some((
            name.to_owned(),
            status
                .pointer("/state/terminated")
                .is_none_or(Value::is_null),
        )),
    })
}

pub(super) fn code(ended: &Value) -> Option<i64> {
    ended.pointer("/exitCode").and_then(Value::as_i64)
}

/// How a container ended.
fn exit(ended: &Value) -> String {
    let code = code(ended).map_or("without a status".to_owned(), |code| {
        format!("with status {code}")
    });
    let reason = match text(ended, "/reason") {
        "" | "Error" | "Completed" => String::new(),
        "OOMKilled" => ": it took more memory than its limit (OOMKilled)".to_owned(),
        reason => format!(": {}", said(reason)),
    };
    let message = match said(text(ended, "/message")) {
        message if message.is_empty() => message,
        message => format!(": {message}"),
    };
    format!("exited {code}{reason}{message}")
}

/// Whether a pod is ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|it| text(it, "/status") == "True")
}

/// The cluster's words within ours: one line, not too long.
pub(super) fn said(words: &str) -> String {
    let line = one_line(words);
    match line.char_indices().nth(600) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_says_what_it_suffers_from() {
        let status = |status: Value| json!({"status": {"containerStatuses": [status]}});
        let cases = [
            (
                status(
                    json!({"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff",
                    "message": "Back-off pulling image \"x\": not found"}}}),
                ),
                "container app cannot start: ImagePullBackOff: Back-off pulling image \"x\": not found",
                true,
            ),
            (
                status(
                    json!({"name": "app", "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
                ),
                "container app crashes again and again (CrashLoopBackOff): exited with status 137: \
                 it took more memory than its limit (OOMKilled)",
                true,
            ),
            (
                status(
                    json!({"name": "app", "ready": false, "state": {"running": {}},
                    "lastState": {"terminated": {"exitCode": 2, "reason": "Error"}}}),
                ),
                "container app exited with status 2",
                true,
            ),
            (
                json!({"status": {"conditions": [{"type": "PodScheduled", "status": "False",
                    "reason": "Unschedulable", "message": "0/3 nodes are available: 3 Insufficient cpu."}]}}),
                "it cannot be scheduled: 0/3 nodes are available: 3 Insufficient cpu",
                false,
            ),
            (
                json!({"status": {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}}),
                "it was evicted: The node was low on resource: memory.",
                true,
            ),
        ];
        for (pod, why, lasts) in cases {
            let found = ailment(&pod).expect("it suffers");
            assert_eq!((found.why.as_str(), found.lasts), (why, lasts));
        }
        for healthy in [
            status(json!({"name": "app", "state": {"waiting": {"reason": "ContainerCreating"}}})),
            status(
                json!({"name": "app", "ready": true, "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 2}}}),
            ),
            json!({}),
        ] {
            assert_eq!(ailment(&healthy), None);
        }
    }
}
