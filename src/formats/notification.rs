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
/// Understands those of the distribution registry, Azure, Docker Hub, GitHub packages, Harbor,
/// Quay, ECR over EventBridge, and Google's over Pub/Sub.
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
    // GitHub tells of packages of all kinds.
    for kind in ["registry_package", "package"] {
        let Some(package) = value.get(kind).filter(|package| package.is_object()) else {
            continue;
        };
        let container = text(package, "/package_type")
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
    // Harbor.
    if let Some(data) = value.get("event_data") {
        let pushes = text(value, "/type")
            .is_some_and(|it| matches!(it, "PUSH_ARTIFACT" | "pushImage" | "REPLICATION"));
        let name = text(data, "/repository/repo_full_name").filter(|_| pushes);
        return Some(name.into_iter().map(str::to_owned).collect());
    }
    // Quay.
    if value.get("updated_tags").is_some() {
        return text(value, "/repository").map(own);
    }
    // ECR.
    if text(value, "/source") == Some("aws.ecr") {
        let pushed = text(value, "/detail/action-type") == Some("PUSH");
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
    let name = text(event, "/target/repository").filter(|_| pushed)?;
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
mod tests {
    use super::*;

    #[test]
    fn each_registry_in_its_own_words() {
        let pubsub = |inner: &str| {
            let data = STANDARD.encode(inner);
            format!(r#"{{"message":{{"data":"{data}","messageId":"1"}},"subscription":"s"}}"#)
        };
        for (body, expected) in [
            (
                r#"{"events":[{"action":"push","target":{"repository":"a/b","tag":"v1"}},{"action":"pull","target":{"repository":"c"}},{"action":"push","target":{"repository":"a/b"}}]}"#.to_owned(),
                vec!["a/b"],
            ),
            (
                r#"{"id":"1","action":"push","target":{"repository":"hello-world","tag":"v1"},"request":{"host":"acme.azurecr.io"}}"#.to_owned(),
                vec!["hello-world"],
            ),
            (r#"{"id":"1","action":"ping"}"#.to_owned(), vec![]),
            (
                r#"{"push_data":{"tag":"latest"},"repository":{"repo_name":"acme/web"}}"#.to_owned(),
                vec!["acme/web"],
            ),
            (
                r#"{"action":"published","registry_package":{"name":"App","namespace":"Acme","package_type":"CONTAINER"}}"#.to_owned(),
                vec!["acme/app"],
            ),
            (
                r#"{"action":"published","package":{"name":"lib","namespace":"acme","package_type":"npm"}}"#.to_owned(),
                vec![],
            ),
            (r#"{"zen":"x","hook_id":1}"#.to_owned(), vec![]),
            (
                r#"{"type":"PUSH_ARTIFACT","event_data":{"repository":{"repo_full_name":"shop/app"}}}"#.to_owned(),
                vec!["shop/app"],
            ),
            (
                r#"{"type":"DELETE_ARTIFACT","event_data":{"repository":{"repo_full_name":"shop/app"}}}"#.to_owned(),
                vec![],
            ),
            (
                r#"{"repository":"acme/app","updated_tags":["v1"]}"#.to_owned(),
                vec!["acme/app"],
            ),
            (
                r#"{"source":"aws.ecr","detail-type":"ECR Image Action","detail":{"result":"SUCCESS","repository-name":"app-repo","image-tag":"v1","action-type":"PUSH"}}"#.to_owned(),
                vec!["app-repo"],
            ),
            (
                pubsub(r#"{"action":"INSERT","digest":"asia-docker.pkg.dev/p/r/app@sha256:00","tag":"asia-docker.pkg.dev/p/r/app:v1"}"#),
                vec!["asia-docker.pkg.dev/p/r/app"],
            ),
            (
                pubsub(r#"{"action":"INSERT","digest":"localhost:5000/app@sha256:00"}"#),
                vec!["localhost:5000/app"],
            ),
            (
                pubsub(r#"{"action":"DELETE","tag":"gcr.io/p/app:v1"}"#),
                vec![],
            ),
        ] {
            assert_eq!(
                repositories(body.as_bytes()),
                Ok(expected.into_iter().map(str::to_owned).collect()),
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for (body, error) in [
            ("", NotificationError::NotJson),
            ("{", NotificationError::NotJson),
            ("{}", NotificationError::Unknown),
            ("[]", NotificationError::Unknown),
            ("null", NotificationError::Unknown),
            (r#"{"message":{"data":"%%%"}}"#, NotificationError::Unknown),
        ] {
            assert_eq!(repositories(body.as_bytes()), Err(error), "{body}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(
            repositories(deep.as_bytes()),
            Err(NotificationError::NotJson)
        );
        let large = vec![b' '; LARGEST + 1];
        assert_eq!(repositories(&large), Err(NotificationError::TooLarge));
        let odd = r#"{"repository":"a\u001b[31m","updated_tags":[]}"#;
        assert_eq!(repositories(odd.as_bytes()), Ok(Vec::new()));
    }
}
