//! The HTTP client the adapters share: TLS set up once, timeouts, bounded bodies, and errors that
//! never hold an address. It follows no redirect and retries nothing; its callers know when to.

use std::error::Error as _;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, Request, Response, Url};

use crate::base::{Timestamp, causes, human_bytes, human_duration};

const CONNECT: Duration = Duration::from_secs(10);
/// How long the other side may stay silent.
const IDLE: Duration = Duration::from_secs(60);
/// How long one body may take in all, so that a trickle does not hold us forever.
const BODY: Duration = Duration::from_secs(15 * 60);
/// Slowest upload that is waited for, in bytes per second.
const SLOWEST: u64 = 16 * 1024;
/// Nobody is asked to wait longer than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A handle to the shared client. Cheap to clone; builds the client at the first use.
#[derive(Clone, Debug, Default)]
pub struct Http {
    clients: Arc<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    proxied: OnceLock<Result<Client, String>>,
    direct: OnceLock<Result<Client, String>>,
}

/// What can go wrong between us and an HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No connection, a lost one or a timeout: another try may help.
    #[error("{0}")]
    Lost(String),
    /// No usable TLS, or a request that cannot be sent: another try will not help.
    #[error("{0}")]
    Unusable(String),
    /// More bytes than we are willing to take.
    #[error("the answer is larger than {}", human_bytes(*.0))]
    TooLarge(u64),
}

impl Http {
    /// A handle with its own connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends a request and waits for the head of its answer, whatever its status.
    pub async fn send(&self, request: Request) -> Result<Response, HttpError> {
        let client = self.client(request.url())?;
        let body = request.body().and_then(|body| body.as_bytes());
        let upload = body.map_or(0, |body| body.len() as u64) / SLOWEST;
        let patience = IDLE + Duration::from_secs(upload);
        match tokio::time::timeout(patience, client.execute(request)).await {
            Ok(answer) => answer.map_err(explain),
            Err(_) => Err(silent(patience)),
        }
    }

    /// Sends a request and waits for the head of its answer for as long as that takes: the caller
    /// watches.
    pub async fn stream(&self, request: Request) -> Result<Response, HttpError> {
        let client = self.client(request.url())?;
        client.execute(request).await.map_err(explain)
    }

    fn client(&self, url: &Url) -> Result<&Client, HttpError> {
        let cell = if is_loopback(url) {
            &self.clients.direct
        } else {
            &self.clients.proxied
        };
        cell.get_or_init(|| build(is_loopback(url)))
            .as_ref()
            .map_err(|message| HttpError::Unusable(message.clone()))
    }
}

/// Reads a whole body of at most `limit` bytes.
pub async fn read(response: Response, limit: u64) -> Result<Bytes, HttpError> {
    if response.content_length().is_some_and(|len| len > limit) {
        return Err(HttpError::TooLarge(limit));
    }
    let (bytes, whole) = read_up_to(response, limit).await?;
    if whole {
        Ok(bytes)
    } else {
        Err(HttpError::TooLarge(limit))
    }
}

/// Reads the beginning of a body, for an error message; what cannot be read is left out.
pub async fn read_start(response: Response, limit: u64) -> Bytes {
    read_up_to(response, limit)
        .await
        .map_or_else(|_| Bytes::new(), |(bytes, _)| bytes)
}

async fn read_up_to(response: Response, limit: u64) -> Result<(Bytes, bool), HttpError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut stream = response.bytes_stream();
    let mut bytes = Vec::new();
    let reading = async {
        loop {
            let chunk = match tokio::time::timeout(IDLE, stream.next()).await {
                Ok(Some(chunk)) => chunk.map_err(explain)?,
                Ok(None) => return Ok(true),
                Err(_) => return Err(silent(IDLE)),
            };
            let room = limit - bytes.len();
            bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                return Ok(false);
            }
        }
    };
    let whole = tokio::time::timeout(BODY, reading)
        .await
        .map_err(|_| silent(BODY))??;
    Ok((bytes.into(), whole))
}

/// How long a `Retry-After` header asks us to wait: seconds or a date, at most a day.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(value)
        .ok()?;
    let wait = Timestamp(date.as_millisecond()).since(now);
    Some(wait.min(LONGEST_RETRY_AFTER))
}

/// Text from the other side for an error message: one line, no control characters, bounded.
pub fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for (count, word) in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .enumerate()
    {
        if count > 0 {
            line.push(' ');
        }
        line.push_str(word);
        // Only a bounded part is looked at, however long the text is.
        if line.len() > limit {
            break;
        }
    }
    if line.len() > limit {
        let end = (0..=limit).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or(0));
        line.push('…');
    }
    line
}

/// Like Go's clients, a proxy from the environment is not asked for this machine itself, nor for
/// what only this machine can reach: the metadata services of clouds have link-local addresses.
fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    let address = host.trim_matches(['[', ']']);
    host == "localhost"
        || host.ends_with(".localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| match address {
                std::net::IpAddr::V4(four) => four.is_loopback() || four.is_link_local(),
                std::net::IpAddr::V6(six) => {
                    six.is_loopback() || six.segments()[..2] == [0xfd00, 0xec2]
                }
            })
}

fn build(direct: bool) -> Result<Client, String> {
    // Fails only if some provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .connect_timeout(CONNECT)
        .pool_idle_timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("pipewright/", env!("CARGO_PKG_VERSION")));
    if direct {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| {
        format!(
            "cannot set up HTTP: {} (install the CA certificates of your system, or point SSL_CERT_FILE at a bundle)",
            said(&error)
        )
    })
}

fn silent(patience: Duration) -> HttpError {
    HttpError::Lost(format!("no answer within {}", human_duration(patience)))
}

/// An error without its address, which may hold a password or a token.
fn explain(error: reqwest::Error) -> HttpError {
    let error = error.without_url();
    if let Some(message) = tls_trouble(&error) {
        return HttpError::Unusable(message);
    }
    if error.is_builder() {
        return HttpError::Unusable(said(&error));
    }
    if error.is_timeout() {
        return HttpError::Lost(format!("no answer in time: {}", said(&error)));
    }
    HttpError::Lost(said(&error))
}

/// What TLS has against the server, if that is what went wrong and will go wrong again.
fn tls_trouble(error: &reqwest::Error) -> Option<String> {
    let mut source = error.source();
    while let Some(cause) = source {
        match tls_error(cause) {
            Some(rustls::Error::InvalidMessage(_)) => {
                return Some(
                    "it does not speak TLS (if it speaks plain HTTP, that must be said explicitly)"
                        .to_owned(),
                );
            }
            Some(rustls::Error::InvalidCertificate(why)) => {
                let why = one_line(&why.to_string(), 200);
                return Some(format!("its certificate is not trusted: {why}"));
            }
            _ => source = cause.source(),
        }
    }
    None
}

/// The TLS error that a cause is, or that it wraps as an input error (of an input error of…).
fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = cause;
    loop {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        cause = cause.downcast_ref::<io::Error>()?.get_ref()?;
    }
}

/// An error and those behind it, on a line.
fn said(error: &reqwest::Error) -> String {
    one_line(&causes(error), 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &str, now: i64) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().expect("a header value"));
        retry_after(&headers, Timestamp(now)).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(asked("17", 0), Some(17));
        assert_eq!(asked(" 0 ", 0), Some(0));
        let new_year = 1_767_225_600_000; // Thu, 01 Jan 2026 00:00:00 GMT
        let date = "Thu, 01 Jan 2026 00:00:30 GMT";
        assert_eq!(asked(date, new_year), Some(30));
        assert_eq!(asked(date, new_year + 60_000), Some(0));
        assert_eq!(asked("99999999999999999999999", 0), Some(86_400));
        assert_eq!(asked(date, 0), Some(86_400));
        for odd in ["", "-1", "soon", "1.5"] {
            assert_eq!(asked(odd, 0), None, "{odd}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), Timestamp(0)), None);
    }

    #[test]
    fn lines_are_short_and_clean() {
        assert_eq!(one_line(" a\n\tb\u{1b}[31m ", 100), "a b [31m");
        assert_eq!(one_line("ééé", 3), "é…");
        assert_eq!(one_line(&"x".repeat(1000), 4), "xxxx…");
        assert_eq!(one_line("", 4), "");
    }

    #[test]
    fn this_machine_needs_no_proxy() {
        for (url, loopback) in [
            ("http://localhost:5000/", true),
            ("http://127.8.8.8/", true),
            ("http://[::1]:80/", true),
            ("http://169.254.169.254/latest/", true),
            ("http://[fd00:ec2::254]/", true),
            ("http://169.253.1.1/", false),
            ("http://127.0.0.1.example.com/", false),
            ("https://example.com/", false),
        ] {
            let url = url.parse().expect("a url");
            assert_eq!(is_loopback(&url), loopback, "{url}");
        }
    }
}
