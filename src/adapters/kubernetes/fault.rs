//! What a cluster's refusals mean, in words that say what to do.

use serde_json::Value;

use super::transport::Answer;
use crate::base::causes;
use crate::base::harmless::one_line;
use crate::ports::cluster::{Cluster, ClusterError, Owned};

/// Longest message of a cluster that is passed on, in characters.
const LONGEST: usize = 2000;
/// Fields of a conflict that are told.
const FIELDS: usize = 50;

const OURS: &str =
    "; the cluster does not take our client certificate: is it of this cluster, and not expired?";
/// Words of errors of connections, and what to do about them; the first that is found counts.
const HINTS: &[(&str, &str)] = &[
    (
        "certificaterequired",
        "; the cluster wants a client certificate: give `client-certificate` and `client-key` in the kubeconfig",
    ),
    ("alert: unknownca", OURS),
    ("alert: certificate", OURS),
    ("alert: badcertificate", OURS),
    ("alert: decrypterror", OURS),
    ("alert: accessdenied", OURS),
    (
        "not valid for name",
        "; the certificate is of another name: is the address right? `tls-server-name` in the kubeconfig gives another one",
    ),
    ("expired", "; the cluster's certificate has to be renewed"),
    (
        "certificate",
        "; it is not the cluster's certificate, or its authority is not the one that was declared: give it by \
         `certificate-authority`, in the kubeconfig or beside the address",
    ),
    (
        "connection refused",
        "; nothing listens there: is the address right, and the cluster up?",
    ),
    ("dns error", "; there is no such host"),
    ("failed to lookup", "; there is no such host"),
];

/// A lost or unreadable answer.
pub(super) fn broken(cluster: &Cluster, action: &str, message: String) -> ClusterError {
    ClusterError::Broken {
        cluster: cluster.name.clone(),
        action: action.to_owned(),
        message,
    }
}

/// Something that cannot be asked for.
pub(super) fn refused(cluster: &Cluster, action: &str, message: &str) -> ClusterError {
    ClusterError::Refused {
        cluster: cluster.name.clone(),
        action: action.to_owned(),
        reason: "Invalid".to_owned(),
        message: message.to_owned(),
    }
}

/// The error an answer tells.
pub(super) fn fault(cluster: &Cluster, action: &str, answer: &Answer) -> ClusterError {
    let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let is_status = status.get("kind").and_then(Value::as_str) == Some("Status");
    let text = |key: &str| {
        status
            .get(key)
            .and_then(Value::as_str)
            .filter(|_| is_status)
    };
    let said = match text("message") {
        Some(message) => shortened(message),
        None => format!("status {}", answer.status),
    };
    let reason = text("reason").unwrap_or("Unknown").to_owned();
    let (name, action) = (cluster.name.clone(), action.to_owned());
    let after = status
        .pointer("/details/retryAfterSeconds")
        .and_then(Value::as_u64)
        .filter(|seconds| *seconds > 0)
        .map(std::time::Duration::from_secs);
    match answer.status {
        401 => ClusterError::Denied {
            cluster: name,
            action,
            message: format!(
                "{said}: it does not know who we are; the token may have expired, or belong to another cluster"
            ),
        },
        403 => ClusterError::Denied {
            cluster: name,
            message: format!("{said}{}", permission(&status, &action)),
            action,
        },
        409 => ClusterError::Conflict {
            cluster: name,
            action,
            message: said,
            reason,
            fields: owned(&status),
        },
        429 => ClusterError::Throttled {
            cluster: name,
            action,
            after: answer.retry_after.or(after),
        },
        // A redirect is somebody in between, such as a login page.
        500..=599 | 0..=399 => broken(cluster, &action, said),
        _ => ClusterError::Refused {
            cluster: name,
            action,
            reason,
            message: said,
        },
    }
}

/// What would have to be allowed, if it is a matter of permission.
fn permission(status: &Value, action: &str) -> String {
    let details = |key: &str| {
        status
            .pointer(&format!("/details/{key}"))
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let Some(kind) = details("kind") else {
        return String::new();
    };
    // The verb of a permission is not always the word we use.
    let verb = match action.split(' ').next() {
        Some("apply" | "rehearse") => "patch",
        Some(verb) => verb,
        None => return String::new(),
    };
    let kind = if action.contains("the log of") {
        "pods/log"
    } else {
        kind
    };
    let resource = match details("group") {
        Some(group) => format!("{kind}.{group}"),
        None => kind.to_owned(),
    };
    format!("; allow the verb `{verb}` on `{resource}` by a Role and bind it to that user")
}

/// The fields of an object that others own.
fn owned(status: &Value) -> Vec<Owned> {
    let causes = status.pointer("/details/causes").and_then(Value::as_array);
    let text = |cause: &Value, key: &str| {
        cause
            .get(key)
            .and_then(Value::as_str)
            .map(shortened)
            .unwrap_or_default()
    };
    causes
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .filter(|cause| text(cause, "reason") == "FieldManagerConflict")
        .take(FIELDS)
        .map(|cause| Owned {
            field: text(cause, "field"),
            message: text(cause, "message"),
        })
        .collect()
}

/// A text of a cluster's, on one line and not too long.
pub(super) fn shortened(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What an error and those behind it say, and what to do about the common ones.
pub(super) fn why(error: &dyn std::error::Error) -> String {
    let text = causes(error);
    let lower = text.to_lowercase();
    let hint = HINTS.iter().find(|(word, _)| lower.contains(word));
    let hint = hint.map_or("", |(_, hint)| hint);
    format!("{}{hint}", shortened(&text))
}
