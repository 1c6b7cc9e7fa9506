//! Failures of one exchange with a registry: what it said, whether something is merely absent,
//! and whether another try may help.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use crate::adapters::http::{HttpError, one_line};
use crate::base::Secret;
use crate::ports::Retry;
use crate::ports::registry::RegistryError;

/// An exchange that brought nothing.
#[derive(Debug)]
pub(super) struct Failure {
    /// What to tell the caller.
    pub(super) error: RegistryError,
    /// The registry's status, if it answered.
    pub(super) status: Option<StatusCode>,
    /// The registry says that what was asked for does not exist.
    pub(super) absent: bool,
    /// Whether another try may help.
    pub(super) retry: Retry,
}

/// What was asked of whom, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The registry, as the pipeline names it.
    pub(super) host: &'a str,
    /// What was asked for.
    pub(super) what: &'a str,
}

impl Asked<'_> {
    /// A refusal for good.
    pub(super) fn refused(self, message: impl Into<String>) -> Failure {
        Failure::never(RegistryError::Refused {
            host: self.host.to_owned(),
            what: self.what.to_owned(),
            message: message.into(),
        })
    }

    /// No access.
    pub(super) fn denied(self, message: impl Into<String>) -> Failure {
        Failure::never(RegistryError::Denied {
            host: self.host.to_owned(),
            what: self.what.to_owned(),
            message: message.into(),
        })
    }

    /// An answer that makes no sense; the same request is not worth repeating at once.
    pub(super) fn broken(self, message: impl Into<String>) -> Failure {
        Failure::never(RegistryError::Broken {
            host: self.host.to_owned(),
            what: self.what.to_owned(),
            message: message.into(),
        })
    }

    /// No answer.
    pub(super) fn lost(self, error: HttpError) -> Failure {
        match error {
            HttpError::Lost(message) => Failure {
                retry: Retry::After(None),
                ..self.broken(message)
            },
            HttpError::Unusable(_) | HttpError::TooLarge(_) => self.refused(error.to_string()),
        }
    }

    /// An answer whose status is no success. `hidden` are credentials it must not quote.
    pub(super) fn answered(
        self,
        status: StatusCode,
        body: &[u8],
        after: Option<Duration>,
        hidden: &[Secret],
    ) -> Failure {
        let words = Words::of(body);
        let text = if words.text.is_empty() {
            format!("it answered {status}")
        } else {
            hide(&words.text, hidden)
        };
        let mut failure = match status {
            StatusCode::TOO_MANY_REQUESTS => Failure {
                retry: Retry::After(after),
                ..Failure::never(RegistryError::Throttled {
                    host: self.host.to_owned(),
                    what: self.what.to_owned(),
                    after,
                })
            },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.denied(text),
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Failure {
                retry: Retry::After(after),
                ..self.broken(if words.text.is_empty() {
                    text
                } else {
                    format!("it answered {status}: {text}")
                })
            },
            StatusCode::NOT_FOUND if words.deny() => self.denied(text),
            _ if status.is_server_error() => self.broken(text),
            _ => self.refused(text),
        };
        failure.status = Some(status);
        failure.absent = status == StatusCode::NOT_FOUND && words.say_absent();
        failure
    }
}

impl Failure {
    fn never(error: RegistryError) -> Self {
        Self {
            error,
            status: None,
            absent: false,
            retry: Retry::Never,
        }
    }

    /// Adds how often it was tried.
    pub(super) fn after_tries(mut self, tries: u32) -> Self {
        if tries > 1
            && let RegistryError::Broken { message, .. } = &mut self.error
        {
            message.push_str(&format!(" (tried {tries} times)"));
        }
        self
    }
}

/// Text from outside, fit for a message.
pub(super) fn clean(text: &str, limit: usize) -> String {
    one_line(text, limit)
}

fn hide(text: &str, hidden: &[Secret]) -> String {
    hidden
        .iter()
        .map(Secret::expose)
        .filter(|secret| secret.len() > 3)
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

/// What a registry or token server said about an error.
struct Words {
    codes: Vec<String>,
    text: String,
}

impl Words {
    fn of(body: &[u8]) -> Self {
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return Self {
                codes: Vec::new(),
                text: Self::plain(body),
            };
        };
        let mut codes = Vec::new();
        let mut texts = Vec::new();
        let errors = value.get("errors").and_then(Value::as_array);
        for error in errors.into_iter().flatten().take(3) {
            let get = |name| error.get(name).and_then(Value::as_str).unwrap_or("");
            let mut text = clean(get("message"), 300);
            let code = clean(get("code"), 60);
            if text.is_empty() {
                text.clone_from(&code);
            } else if !code.is_empty() {
                text = format!("{code}: {text}");
            }
            codes.push(code);
            match error.get("detail") {
                None | Some(Value::Null) => {}
                Some(Value::String(detail)) => text += &format!(" ({})", clean(detail, 160)),
                Some(Value::Object(map)) if map.is_empty() => {}
                Some(detail) => text += &format!(" ({})", clean(&detail.to_string(), 160)),
            }
            texts.push(text);
        }
        if errors.is_none() {
            // What token servers and gateways say.
            let names = ["error_description", "details", "message", "error"];
            let said = names
                .iter()
                .find_map(|name| value.get(name).and_then(Value::as_str));
            texts.extend(said.map(|text| clean(text, 300)));
        }
        Self {
            codes,
            text: texts.join("; "),
        }
    }

    /// Plain text is quoted; a page of markup is not.
    fn plain(body: &[u8]) -> String {
        match std::str::from_utf8(body) {
            Ok(text) if !text.trim_start().starts_with('<') => clean(text, 200),
            _ => String::new(),
        }
    }

    fn say_absent(&self) -> bool {
        let absent = [
            "MANIFEST_UNKNOWN",
            "NAME_UNKNOWN",
            "BLOB_UNKNOWN",
            "NOT_FOUND",
        ];
        self.codes
            .iter()
            .all(|code| absent.contains(&code.as_str()))
    }

    fn deny(&self) -> bool {
        self.codes
            .iter()
            .any(|code| matches!(code.as_str(), "DENIED" | "UNAUTHORIZED"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Failure {
        Asked {
            host: "h",
            what: "manifest a:1",
        }
        .answered(
            StatusCode::from_u16(status).unwrap(),
            body.as_bytes(),
            None,
            &[Secret::new("hunter22")],
        )
    }

    #[test]
    fn statuses_and_words() {
        for (status, body, says) in [
            (
                400,
                r#"{"errors":[{"code":"TAG_INVALID","message":"tag is immutable"}]}"#,
                "h refused manifest a:1: TAG_INVALID: tag is immutable",
            ),
            (
                403,
                r#"{"errors":[{"code":"DENIED","message":"no\n\u001b[31mway","detail":{"x":1}}]}"#,
                "h denied manifest a:1: DENIED: no [31mway ({\"x\":1})",
            ),
            (
                401,
                "",
                "h denied manifest a:1: it answered 401 Unauthorized",
            ),
            (
                401,
                r#"{"details":"bad password hunter22"}"#,
                "h denied manifest a:1: bad password ***",
            ),
            (
                502,
                "<html>bad</html>",
                "h failed at manifest a:1: it answered 502 Bad Gateway",
            ),
            (
                500,
                "disk full",
                "h failed at manifest a:1: it answered 500 Internal Server Error: disk full",
            ),
            (429, "", "h limits our rate at manifest a:1"),
            (
                418,
                r#"{"errors":"odd"}"#,
                "h refused manifest a:1: it answered 418 I'm a teapot",
            ),
        ] {
            assert_eq!(answered(status, body).error.to_string(), says);
        }
    }

    #[test]
    fn absent_only_if_said_so() {
        let error = |code| format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#);
        for (status, body, absent) in [
            (404, String::new(), true),
            (404, "<html>".to_owned(), true),
            (404, error("MANIFEST_UNKNOWN"), true),
            (404, error("NAME_UNKNOWN"), true),
            (404, error("DENIED"), false),
            (404, error("UNSUPPORTED"), false),
            (400, error("MANIFEST_UNKNOWN"), false),
            (403, error("NAME_UNKNOWN"), false),
            (500, String::new(), false),
        ] {
            assert_eq!(answered(status, &body).absent, absent, "{status} {body}");
        }
        let denied = answered(404, &error("DENIED")).error;
        assert!(matches!(denied, RegistryError::Denied { .. }), "{denied}");
    }

    #[test]
    fn only_passing_trouble_is_retried() {
        for (status, again) in [
            (400, false),
            (401, false),
            (404, false),
            (408, true),
            (409, false),
            (429, true),
            (500, true),
            (501, false),
            (502, true),
            (503, true),
            (504, true),
        ] {
            let retry = answered(status, "").retry;
            assert_eq!(retry != Retry::Never, again, "{status}");
        }
    }

    #[test]
    fn words_are_bounded() {
        let long = "x".repeat(100_000);
        let many = format!(
            r#"{{"errors":[{}{{}}]}}"#,
            format!(r#"{{"code":"{long}","message":"{long}","detail":"{long}"}},"#).repeat(9)
        );
        assert!(answered(400, &many).error.to_string().len() < 2_000);
        assert!(answered(400, &long).error.to_string().len() < 300);
    }
}
