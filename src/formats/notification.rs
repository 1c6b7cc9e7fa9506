//! What registries send when something was pushed: reads which repositories it is about.
//!
//! Nobody believes such a text. It only says where to look; what is there is read from the registry
//! itself. Knows no secrets and no signatures.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Largest notification, in bytes.
pub const LARGEST: usize = 256 << 10;
/// Repositories of one notification that are taken notice of.
const MOST: usize = 100;

/// Why a text is no notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotificationError {
    /// It is too large.
    #[error("it is larger than {LARGEST} bytes")]
    TooLarge,
    /// It is not JSON.
    #[error("it is not JSON")]
    NotJson,
    /// It is of no known registry.
    #[error("it is not a notification of a registry known here")]
    Unknown,
}

/// The repositories a notification is about, each once; none if it is about something else than a push.
///
/// Understands those of the distribution registry, Azure, Docker Hub, packages of GitHub, Gitea and
/// Forgejo, Harbor in both of its formats, Quay, ECR over EventBridge, and Google's over Pub/Sub.
pub fn repositories(body: &[u8]) -> Result<Vec<String>, NotificationError> {
    if body.len() > LARGEST {
        return Err(NotificationError::TooLarge);
    }
    let value: Value = serde_json::from_slice(body).map_err(|_| NotificationError::NotJson)?;
    let found = of(&value).ok_or(NotificationError::Unknown)?;
    let mut all: Vec<String> = Vec::new();
    for name in found.into_iter().take(MOST) {
        if is_name(&name) && !all.contains(&name) {
            all.push(name);
        }
    }
    Ok(all)
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

fn of(value: &Value) -> Option<Vec<String>> {
    let own = |text: &str| vec![text.to_owned()];
    // The distribution registry: an envelope of events.
    if let Some(events) = value.get("events").and_then(Value::as_array) {
        return Some(events.iter().filter_map(event).collect());
    }
    // Azure: one event, which may be a ping.
    if let Some(action) = text(value, "/action")
        && (value.get("target").is_some() || action == "ping")
    {
        return Some(event(value).into_iter().collect());
    }
    if let Some(name) = text(value, "/repository/repo_name") {
        return Some(own(name));
    }
    // GitHub tells of packages of all kinds, and so do Gitea and Forgejo in their own words.
    for kind in ["registry_package", "package"] {
        let Some(package) = value.get(kind).filter(|package| package.is_object()) else {
            continue;
        };
        let container = text(package, "/package_type")
            .or_else(|| text(package, "/type"))
            .is_some_and(|kind| kind.eq_ignore_ascii_case("container"));
        let name = text(package, "/name").filter(|_| container);
        let owner = text(package, "/namespace").or_else(|| text(package, "/owner/login"));
        let full = owner
            .zip(name)
            .map(|(owner, name)| format!("{owner}/{name}").to_lowercase());
        return Some(full.into_iter().collect());
    }
    if value.get("zen").is_some() && value.get("hook_id").is_some() {
        return Some(Vec::new());
    }
    // Harbor: its own format, and that of CloudEvents.
    let kind = text(value, "/type").unwrap_or("");
    let cloud_event = kind.starts_with("harbor.").then(|| value.get("data"));
    if let Some(data) = value.get("event_data").or(cloud_event.flatten()) {
        let pushes = matches!(
            kind,
            "PUSH_ARTIFACT"
                | "pushImage"
                | "REPLICATION"
                | "harbor.artifact.pushed"
                | "harbor.replication.status.changed"
        );
        let name = text(data, "/repository/repo_full_name").filter(|_| pushes);
        return Some(name.into_iter().map(str::to_owned).collect());
    }
    // Quay.
    if value.get("updated_tags").is_some() {
        return text(value, "/repository").map(own);
    }
    // ECR.
    if text(value, "/source") == Some("aws.ecr") {
        let pushed = text(value, "/detail/action-type") == Some("PUSH")
            && text(value, "/detail/result").is_none_or(|result| result == "SUCCESS");
        let name = text(value, "/detail/repository-name").filter(|_| pushed);
        return Some(name.into_iter().map(str::to_owned).collect());
    }
    // Pub/Sub wraps what it carries.
    let data = text(value, "/message/data")?;
    let bytes = STANDARD.decode(data).ok()?;
    let inner: Value = serde_json::from_slice(&bytes).ok()?;
    let action = text(&inner, "/action")?;
    let full = text(&inner, "/tag").or_else(|| text(&inner, "/digest"))?;
    let name = full.split('@').next().unwrap_or(full);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    Some(match action {
        "INSERT" => own(name),
        _ => Vec::new(),
    })
}

fn event(event: &Value) -> Option<String> {
    let pushed = text(event, "/action") == Some("push");
    // Each layer is told of as well; only what a tag can stand for is news.
    let kind = text(event, "/target/mediaType").unwrap_or("manifest");
    let news = kind.contains("manifest") || kind.contains("index");
    let name = text(event, "/target/repository").filter(|_| pushed && news)?;
    Some(name.to_owned())
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 400
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-/:".contains(&byte))
}

#[cfg(test)]
mod tests;
