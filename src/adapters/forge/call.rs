//! One call of a forge's REST interface: headers, bounded answers, and what an error means.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK,
};
use reqwest::{Method, Request, StatusCode, Url};
use serde_json::Value;

use super::app::Installed;
use crate::adapters::clock::SystemClock;
use crate::adapters::http::{self, Http, HttpError, one_line, retry_after};
use crate::base::{LateSecrets, Secret};
use crate::ports::clock::Clock as _;
use crate::ports::forge::{ForgeError, Hosted, SignIn, Software};

/// Largest answer that is read, in bytes.
const ANSWER: u64 = 8 << 20;
/// How often a read is tried in all.
const TRIES: u32 = 3;
/// Entries of a page, and pages that are read at most.
pub(super) const PER_PAGE: usize = 50;
const PAGES: usize = 10;
/// Longest that a forge may ask us to wait.
const LONGEST: Duration = Duration::from_secs(3700);

/// How long GitHub's secondary limit is waited out if it does not say.
const SECONDARY: Duration = Duration::from_secs(60);
/// How long until a forge is asked again whether it has caught up with us.
const CATCH_UP: Duration = Duration::from_secs(2);

/// An answer that is no error.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) value: Value,
    /// Whether there is another page, if it says.
    more: Option<bool>,
}

/// All forges, on the shared client.
#[derive(Clone)]
pub struct Forges {
    http: Http,
    pub(super) late: LateSecrets,
    /// Tokens of apps, by forge, app and repository.
    pub(super) installed: Arc<Mutex<BTreeMap<String, Installed>>>,
}

impl Forges {
    /// Forges that are reached by a client; tokens that they give out are kept for masking.
    pub fn new(http: Http, late: LateSecrets) -> Self {
        Self {
            http,
            late,
            installed: Arc::default(),
        }
    }

    /// Gets something, more than once if need be.
    pub(super) async fn get(
        &self,
        hosted: &Hosted,
        what: &str,
        path: &str,
    ) -> Result<Value, ForgeError> {
        let answer = self.read(hosted, what, path).await?;
        Ok(answer.value)
    }

    async fn read(&self, hosted: &Hosted, what: &str, path: &str) -> Result<Answer, ForgeError> {
        let mut tries = 1;
        loop {
            match self.call(hosted, what, Method::GET, path, None).await {
                Err(ForgeError::Broken { .. }) if tries < TRIES => {
                    let wait = Duration::from_millis(200) * 2u32.pow(tries);
                    tokio::time::sleep(wait).await;
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// Gets the entries of a list, page by page, up to a bound. `path` has a query already.
    pub(super) async fn list(
        &self,
        hosted: &Hosted,
        what: &str,
        path: &str,
        size: &str,
        entries: impl Fn(&Value) -> &Value + Send,
    ) -> Result<Vec<Value>, ForgeError> {
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let path = format!("{path}&{size}={PER_PAGE}&page={page}");
            let answer = self.read(hosted, what, &path).await?;
            let Some(list) = entries(&answer.value).as_array() else {
                return Err(broken(hosted, what, "the answer is no list"));
            };
            all.extend(list.iter().cloned());
            // A server may give out smaller pages than it was asked for, so what it says of more
            // counts; one with a single page says nothing.
            if !answer.more.unwrap_or(list.len() >= PER_PAGE) {
                break;
            }
        }
        Ok(all)
    }

    /// Changes something, once.
    pub(super) async fn change(
        &self,
        hosted: &Hosted,
        what: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, ForgeError> {
        let answer = self.call(hosted, what, method, path, Some(body)).await?;
        Ok(answer.value)
    }

    async fn call(
        &self,
        hosted: &Hosted,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ForgeError> {
        let token = match &hosted.site.sign_in {
            SignIn::Anonymous => None,
            SignIn::Token(token) => Some(token.clone()),
            SignIn::App { .. } => Some(self.installation(hosted).await?),
        };
        let result = self
            .send(hosted, what, method.clone(), path, body, token.as_ref())
            .await;
        if let (Err(ForgeError::Denied { .. }), SignIn::App { .. }) =
            (&result, &hosted.site.sign_in)
            && self.forget(hosted)
        {
            // The token may have been taken back before its time.
            let token = self.installation(hosted).await?;
            return self
                .send(hosted, what, method, path, body, Some(&token))
                .await;
        }
        result
    }

    /// One request with a token.
    pub(super) async fn send(
        &self,
        hosted: &Hosted,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<&Secret>,
    ) -> Result<Answer, ForgeError> {
        let request = request(hosted, method, path, body, token)
            .map_err(|why| refused(hosted, what, &why))?;
        let answer = self.http.send(request).await;
        let answer = answer.map_err(|error| unanswered(hosted, what, &error))?;
        let status = answer.status();
        let headers = answer.headers().clone();
        if status == StatusCode::NO_CONTENT {
            return Ok(Answer::default());
        }
        let more = headers.get(LINK).and_then(|link| link.to_str().ok());
        let more = more.map(|link| link.contains("rel=\"next\""));
        let bytes = http::read(answer, ANSWER).await;
        let bytes = bytes.map_err(|error| unanswered(hosted, what, &error))?;
        let value: Option<Value> = serde_json::from_slice(&bytes).ok();
        if status.is_success() {
            return match value {
                Some(value) => Ok(Answer { value, more }),
                None if bytes.iter().all(u8::is_ascii_whitespace) => Ok(Answer::default()),
                None => Err(broken(hosted, what, "the answer is no JSON")),
            };
        }
        let message = words(value.as_ref(), &bytes);
        Err(meaning(hosted, what, status, &headers, &message))
    }
}

fn request(
    hosted: &Hosted,
    method: Method,
    path: &str,
    body: Option<&Value>,
    token: Option<&Secret>,
) -> Result<Request, String> {
    let site = &hosted.site;
    let url = if path.starts_with("/graphql") {
        super::github::graphql(&site.address)
    } else {
        let root = match site.software {
            Software::GitHub => super::github::root(&site.address),
            Software::GitLab => format!("{}/api/v4", site.address),
            Software::Gitea => format!("{}/api/v1", site.address),
        };
        format!("{root}{path}")
    };
    let url: Url = url
        .parse()
        .map_err(|_| format!("\"{}\" is no web address", site.address))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(format!("\"{}\" is no web address", site.address));
    }
    let mut request = Request::new(method, url);
    let headers = request.headers_mut();
    let accept = match site.software {
        Software::GitHub => "application/vnd.github+json",
        _ => "application/json",
    };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    if site.software == Software::GitHub {
        headers.insert(
            HeaderName::from_static("x-github-api-version"),
            HeaderValue::from_static("2022-11-28"),
        );
    }
    if let Some(token) = token {
        let token = token.expose().trim();
        let (name, value) = match site.software {
            Software::GitHub => (AUTHORIZATION, format!("Bearer {token}")),
            Software::GitLab => (HeaderName::from_static("private-token"), token.to_owned()),
            Software::Gitea => (AUTHORIZATION, format!("token {token}")),
        };
        let mut value = HeaderValue::from_str(&value)
            .map_err(|_| "the token holds what no header can".to_owned())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    if let Some(body) = body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(body.to_string().into());
    }
    Ok(request)
}

fn unanswered(hosted: &Hosted, what: &str, error: &HttpError) -> ForgeError {
    match error {
        HttpError::Unusable(message) => refused(hosted, what, message),
        error => broken(hosted, what, &error.to_string()),
    }
}

pub(super) fn broken(hosted: &Hosted, what: &str, message: &str) -> ForgeError {
    ForgeError::Broken {
        forge: forge(hosted),
        what: what.to_owned(),
        message: message.to_owned(),
    }
}

pub(super) fn refused(hosted: &Hosted, what: &str, message: &str) -> ForgeError {
    ForgeError::Refused {
        forge: forge(hosted),
        what: what.to_owned(),
        message: message.to_owned(),
    }
}

pub(super) fn denied(hosted: &Hosted, what: &str, message: &str) -> ForgeError {
    ForgeError::Denied {
        forge: forge(hosted),
        what: what.to_owned(),
        message: message.to_owned(),
    }
}

pub(super) fn throttled(
    hosted: &Hosted,
    what: &str,
    message: &str,
    after: Option<Duration>,
) -> ForgeError {
    ForgeError::Throttled {
        forge: forge(hosted),
        what: what.to_owned(),
        message: message.to_owned(),
        after,
    }
}

/// It has not caught up with what we did before.
pub(super) fn not_yet(hosted: &Hosted, what: &str, message: &str) -> ForgeError {
    throttled(hosted, what, message, Some(CATCH_UP))
}

fn forge(hosted: &Hosted) -> String {
    let site = &hosted.site;
    let host = site.address.split_once("://").map_or("", |(_, host)| host);
    format!("{} at {host}", site.software.as_str())
}

/// What an error body says, on one line: `message`, `error` and what stands below `errors`.
fn words(value: Option<&Value>, bytes: &[u8]) -> String {
    let Some(value) = value else {
        return one_line(&String::from_utf8_lossy(bytes), 200);
    };
    let mut parts = Vec::new();
    gather(value, &mut parts, 0);
    one_line(&parts.join(": "), 400)
}

fn gather(value: &Value, parts: &mut Vec<String>, depth: u32) {
    if parts.len() >= 8 || depth > 4 {
        return;
    }
    match value {
        Value::String(text) => parts.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|item| gather(item, parts, depth + 1)),
        Value::Object(map) => {
            if let (Some(field), Some(code)) = (map.get("field"), map.get("code")) {
                parts.push(format!(
                    "{} is {}",
                    super::text(field),
                    super::text(code).replace('_', " ")
                ));
            }
            for (key, value) in map {
                if matches!(
                    key.as_str(),
                    "message" | "error" | "errors" | "error_description"
                ) || depth > 0
                    && !matches!(
                        key.as_str(),
                        "resource" | "field" | "code" | "documentation_url"
                    )
                {
                    gather(value, parts, depth + 1);
                }
            }
        }
        _ => {}
    }
}

/// What an answer that is no success means.
fn meaning(
    hosted: &Hosted,
    what: &str,
    status: StatusCode,
    headers: &HeaderMap,
    message: &str,
) -> ForgeError {
    let (forge, what) = (forge(hosted), what.to_owned());
    let low = message.to_ascii_lowercase();
    let message = if message.is_empty() {
        status.to_string()
    } else {
        format!("{message} ({})", status.as_u16())
    };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let limited = header("x-ratelimit-remaining") == Some("0")
        || header("retry-after").is_some()
        || low.contains("rate limit")
        || low.contains("abuse detection");
    match status.as_u16() {
        429 => {}
        403 if limited => {}
        401 | 403 if low.contains("archived") => {
            return ForgeError::Refused {
                forge,
                what,
                message,
            };
        }
        401 | 403 => {
            return ForgeError::Denied {
                forge,
                what,
                message,
            };
        }
        404 => {
            return ForgeError::NotFound {
                forge,
                what,
                message,
            };
        }
        409 | 422 if low.contains("already exist") => {
            return ForgeError::Exists {
                forge,
                what,
                message,
            };
        }
        301 | 302 | 307 | 308 => {
            let message = format!(
                "it answered {status}: the repository was moved or renamed; write its new address"
            );
            return ForgeError::Refused {
                forge,
                what,
                message,
            };
        }
        408 | 500..=599 => {
            return ForgeError::Broken {
                forge,
                what,
                message,
            };
        }
        _ => {
            return ForgeError::Refused {
                forge,
                what,
                message,
            };
        }
    }
    let now = SystemClock.now();
    // GitHub names the end of the hour in every answer, also when it was another limit.
    let spent = header("x-ratelimit-remaining").is_none_or(|left| left == "0");
    let reset = header("x-ratelimit-reset")
        .filter(|_| spent)
        .or_else(|| header("ratelimit-reset"))
        .and_then(|seconds| seconds.parse::<i64>().ok())
        .map(|seconds| crate::base::Timestamp(seconds.saturating_mul(1000)).since(now));
    let secondary = low.contains("secondary rate limit") || low.contains("abuse detection");
    let after = retry_after(headers, now).or(reset);
    let after = after.or_else(|| secondary.then_some(SECONDARY));
    ForgeError::Throttled {
        forge,
        what,
        message,
        after: after.map(|wait| wait.min(LONGEST)),
    }
}

/// A text as one part of a path or a query.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
