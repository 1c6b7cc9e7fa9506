//! Fetches a source over HTTPS into a file: streamed, bounded, with the few redirects that
//! mirrors need.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{LAST_MODIFIED, LOCATION};
use reqwest::{Method, Request, Response, Url};
use tokio::io::AsyncWriteExt as _;

use crate::adapters::http::{self, Http};
use crate::base::{Timestamp, human_bytes};

/// Largest file that is fetched. OSV's archive of everything has some two GiB.
const LARGEST: u64 = 8 << 30;
/// How long the other side may stay silent.
const IDLE: Duration = Duration::from_secs(60);
/// How long a download may take in all.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
const REDIRECTS: usize = 5;

/// Fetches an address into a file. Tells when the server says it was published.
pub(super) async fn fetch(
    http: &Http,
    address: &str,
    to: &Path,
) -> Result<Option<Timestamp>, String> {
    let mut url = check(address)?;
    for _ in 0..=REDIRECTS {
        let request = Request::new(Method::GET, url.clone());
        let response = http
            .send(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status();
        if status.is_redirection() {
            let to = response
                .headers()
                .get(LOCATION)
                .and_then(|to| to.to_str().ok());
            let to = to.ok_or("the server redirects to nowhere")?;
            let next = url
                .join(to)
                .map_err(|_| "the server redirects to no address")?;
            url = check(next.as_str())?;
            continue;
        }
        if !status.is_success() {
            let text = http::read_start(response, 300).await;
            let text = http::one_line(&String::from_utf8_lossy(&text), 200);
            return Err(format!("the server answers {status}: {text}"));
        }
        let published = published(&response);
        let saving = save(response, to);
        return match tokio::time::timeout(LONGEST, saving).await {
            Ok(saved) => saved.map(|()| published),
            Err(_) => Err("it takes too long".to_owned()),
        };
    }
    Err(format!("the server redirects more than {REDIRECTS} times"))
}

/// Advisories decide what passes, so nobody on the way may change them: HTTPS, or this machine.
fn check(address: &str) -> Result<Url, String> {
    let url: Url = address
        .parse()
        .map_err(|error| format!("it is no address: {error}"))?;
    let host = url.host_str().unwrap_or_default();
    let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here => Ok(url),
        _ => Err(format!(
            "advisories are fetched over https only, not from {host}"
        )),
    }
}

fn published(response: &Response) -> Option<Timestamp> {
    let text = response.headers().get(LAST_MODIFIED)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    Some(Timestamp(date.as_millisecond()))
}

async fn save(response: Response, to: &Path) -> Result<(), String> {
    let too_large = || format!("it is larger than {}", human_bytes(LARGEST));
    let expected = response.content_length();
    if expected.is_some_and(|length| length > LARGEST) {
        return Err(too_large());
    }
    let text = |error: std::io::Error| error.to_string();
    let mut file = tokio::fs::File::create(to).await.map_err(text)?;
    let mut body = response.bytes_stream();
    let mut size = 0_u64;
    loop {
        let chunk = match tokio::time::timeout(IDLE, body.next()).await {
            Ok(Some(chunk)) => chunk.map_err(|error| error.without_url().to_string())?,
            Ok(None) => break,
            Err(_) => return Err("the server has fallen silent".to_owned()),
        };
        size += chunk.len() as u64;
        if size > LARGEST {
            return Err(too_large());
        }
        file.write_all(&chunk).await.map_err(text)?;
    }
    if expected.is_some_and(|length| length != size) {
        return Err("the connection was lost".to_owned());
    }
    file.flush().await.map_err(text)
}
