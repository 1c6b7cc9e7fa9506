//! Posts messages to web hooks. An address is a secret: no error holds it or a part of it.

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, StatusCode, Url};

use super::clock::SystemClock;
use super::http::{Http, HttpError, one_line, read_start, retry_after};
use crate::base::Text;
use crate::ports::clock::Clock as _;
use crate::ports::notifier::{Message, Notifier, NotifyError};

/// How much of an answer is looked at, in bytes.
const ANSWER: u64 = 16 * 1024;
/// Pieces of an address shorter than this are words rather than secrets.
const SHORTEST_SECRET: usize = 6;

/// Posts messages over HTTP.
#[derive(Clone, Debug)]
pub struct WebHook {
    http: Http,
}

impl WebHook {
    /// A notifier on the shared client.
    pub fn new(http: Http) -> Self {
        Self { http }
    }
}

#[async_trait]
impl Notifier for WebHook {
    async fn send(&self, message: &Message) -> Result<(), NotifyError> {
        let request = request(message).map_err(NotifyError::Refused)?;
        let hidden = hidden(message, request.url());
        let answer = match self.http.send(request).await {
            Ok(answer) => answer,
            Err(HttpError::Unusable(message)) => {
                return Err(NotifyError::Refused(hide(&message, &hidden)));
            }
            Err(error) => {
                return Err(NotifyError::Broken {
                    message: hide(&error.to_string(), &hidden),
                    after: None,
                });
            }
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        if status.is_redirection() {
            return Err(NotifyError::Refused(format!(
                "it answered {status}, a redirect to another address; use the final address"
            )));
        }
        let after = retry_after(answer.headers(), SystemClock.now());
        let body = read_start(answer, ANSWER).await;
        let message = words(status, &hide(&String::from_utf8_lossy(&body), &hidden));
        if is_passing(status) {
            Err(NotifyError::Broken { message, after })
        } else {
            Err(NotifyError::Refused(message))
        }
    }
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
        )
}

fn request(message: &Message) -> Result<Request, String> {
    let url: Url = message
        .url
        .expose()
        .trim()
        .parse()
        .map_err(|_| "its address is not a URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("its address does not begin with https:// or http://".to_owned());
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in &message.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("\"{}\" is not a header name", one_line(name, 60)))?;
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
            format!("the value of header `{name}` has characters a header cannot hold")
        })?;
        value.set_sensitive(true);
        headers.insert(parsed, value);
    }
    let mut request = Request::new(Method::POST, url);
    *request.headers_mut() = headers;
    *request.body_mut() = Some(message.body.clone().into());
    Ok(request)
}

/// What must not be seen in an error, longest first: receivers like to quote the request's path.
fn hidden(message: &Message, url: &Url) -> Vec<String> {
    let mut hidden = vec![
        message.url.expose().to_owned(),
        url.as_str().to_owned(),
        url.path().to_owned(),
    ];
    hidden.extend(url.path_segments().into_iter().flatten().map(str::to_owned));
    hidden.extend(url.query().map(str::to_owned));
    for (_, value) in url.query_pairs() {
        hidden.push(value.into_owned());
    }
    hidden.extend(url.password().map(str::to_owned));
    hidden.push(url.username().to_owned());
    for (_, value) in &message.headers {
        if let Text::Secret(secret) = value {
            hidden.push(secret.expose().to_owned());
            // `Bearer TOKEN` is quoted as `TOKEN`.
            let bare = secret.expose().split_whitespace().last();
            hidden.extend(bare.map(str::to_owned));
        }
    }
    hidden.retain(|text| text.len() >= SHORTEST_SECRET);
    hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
    hidden.dedup();
    hidden
}

fn hide(text: &str, hidden: &[String]) -> String {
    hidden
        .iter()
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
}

fn words(status: StatusCode, body: &str) -> String {
    let body = one_line(body, 300);
    if body.is_empty() {
        format!("it answered {status}")
    } else {
        format!("it answered {status}: {body}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Secret;

    fn message(url: &str, headers: &[(&str, &str)]) -> Message {
        Message {
            url: Secret::new(url),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Text::Secret(Secret::new(*value))))
                .collect(),
            body: "{}".to_owned(),
        }
    }

    #[test]
    fn bad_messages_are_refused_without_their_secrets() {
        for (url, headers, says) in [
            ("hooks.example.com/s3cret", &[][..], "not a URL"),
            ("ftp://hooks.example.com/s3cret", &[], "does not begin"),
            (
                "https://h.example/",
                &[("a b", "s3cret")],
                "\"a b\" is not a header name",
            ),
            (
                "https://h.example/",
                &[("x-token", "s3cret\n")],
                "header `x-token`",
            ),
        ] {
            let error = request(&message(url, headers)).unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn json_is_the_default_type_only() {
        let plain = request(&message("https://h.example/", &[])).unwrap();
        assert_eq!(plain.headers()[CONTENT_TYPE], "application/json");
        let own = message("https://h.example/", &[("Content-Type", "text/x-own")]);
        assert_eq!(request(&own).unwrap().headers()[CONTENT_TYPE], "text/x-own");
    }

    #[test]
    fn quoted_addresses_are_hidden() {
        let message = message(
            "https://user:pa55word@h.example/services/T0001/B00012345?token=abcdef12",
            &[("authorization", "Bearer tok-tok-tok")],
        );
        let url = message.url.expose().parse().unwrap();
        let hidden = hidden(&message, &url);
        for quoted in [
            "Cannot POST /services/T0001/B00012345",
            "no B00012345 here",
            "bad token abcdef12",
            "bad tok-tok-tok",
            "bad pa55word",
            message.url.expose(),
        ] {
            let shown = hide(quoted, &hidden);
            for secret in ["B00012345", "abcdef12", "tok-tok", "pa55word"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }
}
