//! What the engine and its transport say, in the words of the port.

use std::error::Error as _;
use std::fmt::Display;

use bollard::errors::Error;

use super::address::Address;
use crate::base::causes;
use crate::ports::engine::EngineError;

/// Longest message taken over from the engine.
const MAX_MESSAGE: usize = 8 << 10;

/// An engine that broke off.
pub(super) fn broken(what: &str, message: impl Display) -> EngineError {
    EngineError::Broken {
        what: what.to_owned(),
        message: bounded(message.to_string()),
    }
}

/// An engine, or we on its behalf, that will not do it.
pub(super) fn refused(what: &str, message: impl Display) -> EngineError {
    EngineError::Refused {
        what: what.to_owned(),
        message: bounded(message.to_string()),
    }
}

/// Translates an answer's status.
pub(super) fn of_status(what: &str, status: u16, message: String) -> EngineError {
    match status {
        404 => EngineError::NotFound {
            what: what.to_owned(),
        },
        // The engine reports as its own failure what a container or a registry refuses.
        500.. if !is_final(&message) => broken(what, message),
        408 | 429 => broken(what, message),
        _ => refused(what, message),
    }
}

/// Translates an error of the client library.
pub(super) fn of_api(address: &Address, what: &str, error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => of_status(what, status_code, message),
        Error::HyperLegacyError { err } if err.is_connect() => EngineError::Unreachable {
            address: address.to_string(),
            name: address.name().map(str::to_owned),
            source: root(err),
        },
        Error::RequestTimeoutError => broken(what, "no answer within ten minutes"),
        Error::HyperLegacyError { err } => broken(what, causes(&err)),
        Error::HyperResponseError { err } => broken(what, causes(&err)),
        other => broken(what, other),
    }
}

/// The innermost cause, which is the one that says something.
fn root(error: hyper_util::client::legacy::Error) -> Box<dyn std::error::Error + Send + Sync> {
    let mut cause = error.source();
    let mut text = error.to_string();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text.into()
}

/// Failures the engine calls its own although another try would end the same way.
fn is_final(message: &str) -> bool {
    [
        "OCI runtime create failed",
        "failed to create task for container",
        "port is already allocated",
        "address already in use",
        "invalid reference format",
        "Conflict.",
        "no basic auth credentials",
        "unauthorized",
        "denied",
    ]
    .iter()
    .any(|part| message.contains(part))
}

fn bounded(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE;
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Whether a message of a build, a push or a pull tells of trouble that may pass: a network, a
/// server, a disk; not of the work itself.
pub(super) fn may_pass(message: &str) -> bool {
    const SIGNS: &[&str] = &[
        "connection refused",
        "connection reset",
        "broken pipe",
        "i/o timeout",
        "TLS handshake timeout",
        "Client.Timeout exceeded",
        "context deadline exceeded",
        "context canceled",
        "no such host",
        "Temporary failure in name resolution",
        "no route to host",
        "network is unreachable",
        "no space left on device",
        "toomanyrequests",
        "Too Many Requests",
        "unexpected EOF",
        "no active session",
        "failed to create endpoint",
        "transport is closing",
        "connection is closing",
        "code = Canceled",
        "code = Unavailable",
        "error reading from server",
        "received unexpected HTTP status: 5",
        "unexpected status: 5",
        "unexpected status code 5",
        "server misbehaving",
        "received unexpected HTTP status: 429",
        // The engine's words for an error status whose body is not what it expects.
        "error parsing HTTP 429",
        "error parsing HTTP 5",
        "Bad Gateway",
        "Service Unavailable",
        "Gateway Timeout",
        "Internal Server Error",
    ];
    message == "EOF"
        || message.ends_with(": EOF")
        || SIGNS.iter().any(|sign| message.contains(sign))
}

/// Refuses a container, network or volume name that would mean another path to the engine.
pub(super) fn check_name(what: &str, name: &str) -> Result<(), EngineError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let good = name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(inner);
    if good {
        Ok(())
    } else {
        let name: String = name.chars().take(100).collect();
        Err(refused(
            what,
            format!(
                "\"{name}\" is no name (letters, digits, \".\", \"_\" and \"-\", first a letter or digit)"
            ),
        ))
    }
}

/// Refuses an image reference that would mean another path to the engine.
pub(super) fn check_reference(reference: &str) -> Result<(), EngineError> {
    let inner = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '_' | '.' | '-' | '/' | ':' | '@' | '+' | '[' | ']')
    };
    let good = !reference.is_empty()
        && reference.len() <= 1024
        && reference.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && reference.chars().all(inner)
        && !reference.contains("..")
        && !reference.contains("//")
        && !reference.contains("/./");
    if good {
        Ok(())
    } else {
        let shown: String = reference.chars().take(100).collect();
        Err(refused(
            "the image reference",
            format!("\"{shown}\" is no image reference"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Retry;

    #[test]
    fn names_and_references_cannot_become_paths() {
        for name in ["a", "a.b_c-1"] {
            assert!(check_name("x", name).is_ok(), "{name}");
        }
        for name in ["", "-a", "a/b", "..", "a?b", "a b", "ä"] {
            assert!(check_name("x", name).is_err(), "{name}");
        }
        for reference in [
            "a",
            "h.example:5000/a/b:v1",
            "a@sha256:12",
            "sha256:00",
            "[::1]:5/a:b",
        ] {
            assert!(check_reference(reference).is_ok(), "{reference}");
        }
        for reference in ["", "/a", "a/../b", "a?x=1", "a#b", "a b", "a%2f", "a//b"] {
            assert!(check_reference(reference).is_err(), "{reference}");
        }
    }

    #[test]
    fn statuses_become_kinds() {
        let of = |status, message: &str| of_status("x", status, message.to_owned());
        assert!(matches!(of(404, ""), EngineError::NotFound { .. }));
        assert!(matches!(of(409, ""), EngineError::Refused { .. }));
        assert_eq!(of(500, "disk").retry(), Retry::After(None));
        assert_eq!(
            of(500, "OCI runtime create failed: x").retry(),
            Retry::Never
        );
    }

    #[test]
    fn passing_trouble_is_told_from_lasting() {
        assert!(may_pass("Get \"https://r/v2/\": EOF"));
        assert!(may_pass(
            "received unexpected HTTP status: 503 Service Unavailable"
        ));
        assert!(!may_pass(
            "denied: requested access to the resource is denied"
        ));
        assert!(!may_pass(
            "executor failed running [/bin/sh -c false]: exit code: 1"
        ));
    }
}
