//! Stores a blob: asks whether it is there, mounts it from another repository, or uploads it and
//! goes on where a broken upload stopped.

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode, Url};

use super::auth::{Errand, Scope};
use super::client::{Answer, Ask, Client};
use super::failure::Failure;
use crate::base::Digest;
use crate::ports::Retry;

/// A blob on its way.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    /// Who talks to the registry.
    pub(super) client: &'a Client,
    /// With which business; its scope allows to push.
    pub(super) errand: Errand<'a>,
    /// The repository.
    pub(super) repository: &'a str,
    /// The blob.
    pub(super) bytes: Bytes,
    /// Its digest.
    pub(super) digest: Digest,
}

impl Upload<'_> {
    /// Brings the blob into the repository if it is not there.
    pub(super) async fn run(&self, from: Option<&str>) -> Result<(), Failure> {
        if self.is_there().await? {
            return Ok(());
        }
        let mut session = match from {
            Some(from) if from != self.repository => match self.mount(from).await? {
                Mount::Done => return Ok(()),
                Mount::Session(url) => Some(url),
                Mount::Unable => None,
            },
            _ => None,
        };
        let mut tries = self.client.tries();
        let mut offset = 0;
        loop {
            let url = match session.take() {
                Some(url) => url,
                None => {
                    offset = 0;
                    self.begin().await?
                }
            };
            let failure = match self.send(&url, offset).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            // A session that the registry forgot or holds for damaged is not the blob's fault.
            let lost_session = match failure.status {
                Some(StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE) => true,
                Some(StatusCode::BAD_REQUEST) => offset > 0,
                _ => false,
            };
            let failure = Failure {
                retry: if lost_session {
                    Retry::After(None)
                } else {
                    failure.retry
                },
                ..failure
            };
            tries.again(failure).await?;
            // The answer may have been lost on its way back.
            if self.is_there().await? {
                return Ok(());
            }
            if let Some((url, held)) = self.progress(&url).await {
                session = Some(url);
                offset = held;
            }
        }
    }

    async fn is_there(&self) -> Result<bool, Failure> {
        let url = self.url(&format!("blobs/{}", self.digest))?;
        match self
            .client
            .ask(self.errand, &Ask::new(Method::HEAD, url))
            .await
        {
            Ok(_) => Ok(true),
            Err(failure) if failure.absent => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn mount(&self, from: &str) -> Result<Mount, Failure> {
        let mut url = self.url("blobs/uploads/")?;
        // Checks the name of the other repository.
        let other = self.errand.endpoint.url(from, "");
        other.map_err(|message| self.errand.asked.refused(message))?;
        url.query_pairs_mut()
            .append_pair("mount", self.digest.as_str())
            .append_pair("from", &self.errand.endpoint.scope_name(from));
        let errand = Errand {
            scope: Scope::Mount(self.repository, from),
            ..self.errand
        };
        match self.client.ask(errand, &Ask::new(Method::POST, url)).await {
            Ok(answer) if answer.status == StatusCode::CREATED => Ok(Mount::Done),
            Ok(answer) => Ok(Mount::Session(self.location(&answer)?)),
            // To mount is a shortcut: without it, the upload says whether we may push.
            Err(failure) if failure.retry == Retry::Never => Ok(Mount::Unable),
            Err(failure) => Err(failure),
        }
    }

    async fn begin(&self) -> Result<Url, Failure> {
        let url = self.url("blobs/uploads/")?;
        let begun = self
            .client
            .ask(self.errand, &Ask::new(Method::POST, url))
            .await;
        self.location(&begun.map_err(not_absent)?)
    }

    /// Sends what is missing from `offset` on and closes the upload. Once.
    async fn send(&self, url: &Url, offset: usize) -> Result<(), Failure> {
        let whole = self.bytes.len();
        let mut url = url.clone();
        let mut body = self.bytes.clone();
        // All in one request is what every registry understands; ranges only to go on.
        if offset > 0 {
            if offset < whole {
                let range = format!("{offset}-{}", whole - 1);
                let range = HeaderValue::from_str(&range).expect("digits and a dash");
                let ask = Ask::new(Method::PATCH, url)
                    .header(CONTENT_RANGE, range)
                    .header(CONTENT_TYPE, octets())
                    .body(self.bytes.slice(offset..));
                let answer = self.client.once(self.errand, &ask).await;
                url = self.location(&answer.map_err(not_absent)?)?;
            }
            body = Bytes::new();
        }
        url.query_pairs_mut()
            .append_pair("digest", self.digest.as_str());
        let ask = Ask::new(Method::PUT, url)
            .header(CONTENT_TYPE, octets())
            .body(body);
        let answer = self.client.once(self.errand, &ask).await;
        let answer = answer.map_err(not_absent)?;
        super::agree(self.errand.asked, &answer, &self.digest)
    }

    /// How much of the upload the registry holds and where it goes on; `None` if it must begin
    /// anew.
    async fn progress(&self, url: &Url) -> Option<(Url, usize)> {
        let ask = Ask::new(Method::GET, url.clone());
        let answer = self.client.once(self.errand, &ask).await.ok()?;
        let range = answer.header(RANGE.as_str())?;
        let (_, last) = range.trim_start_matches("bytes=").split_once('-')?;
        let last: usize = last.trim().parse().ok()?;
        // Registries say 0-0 both for nothing and for one byte.
        let held = if last == 0 { 0 } else { last + 1 };
        let next = match answer.headers.contains_key(LOCATION) {
            true => self.location(&answer).ok()?,
            false => url.clone(),
        };
        (held > 0 && held <= self.bytes.len()).then_some((next, held))
    }

    fn location(&self, answer: &Answer) -> Result<Url, Failure> {
        let asked = self.errand.asked;
        let location = answer
            .header(LOCATION.as_str())
            .ok_or_else(|| asked.broken("it does not say where to upload to"))?;
        let url = self.errand.endpoint.resolve(&answer.url, location);
        url.map_err(|message| asked.refused(message))
    }

    fn url(&self, rest: &str) -> Result<Url, Failure> {
        let url = self.errand.endpoint.url(self.repository, rest);
        url.map_err(|message| self.errand.asked.refused(message))
    }
}

enum Mount {
    /// The blob is in the repository.
    Done,
    /// It could not be mounted, and an upload began instead.
    Session(Url),
    /// It could not be mounted.
    Unable,
}

/// A 404 while writing means that something went wrong, not that a blob is absent.
fn not_absent(failure: Failure) -> Failure {
    Failure {
        absent: false,
        ..failure
    }
}

fn octets() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}
