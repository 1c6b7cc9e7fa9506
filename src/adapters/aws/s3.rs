//! What is asked of S3, and of everything that speaks like it: one question, one bounded answer.
//! [`super::bucket`] makes transfers of them.
//!
//! A bucket of AWS is part of the host where its name can be; of any other endpoint it is the
//! beginning of the path, which every server understands.

use std::sync::{OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::UriPathNormalizationMode;
use aws_sigv4::http_request::{PayloadChecksumKind, PercentEncodingMode, SigningSettings};
use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};

use super::Aws;
use super::call::{Attempt, Miss, Service, escaped, suffix};
use super::denied::{Problem, Said};
use super::sign::{Signer, sign};
use super::xml::element;
use crate::adapters::http::{self, HttpError};
use crate::ports::cloud::{CloudError, ObjectPlace};

const S3: Service = Service {
    id: "S3",
    host: "s3",
    name: "s3",
    target: "",
    json: "",
};
/// Largest error that is read, in bytes.
const ERROR: u64 = 64 << 10;
/// Slowest transfer that is waited for, in bytes per second.
const SLOWEST: u64 = 16 << 10;

/// A question to a bucket.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    /// What has to be allowed: `s3:GetObject`.
    pub(super) action: &'static str,
    pub(super) method: Method,
    /// On what; its key is empty for the bucket itself.
    pub(super) place: &'a ObjectPlace,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Bytes,
    /// Most bytes of an answer.
    pub(super) limit: u64,
    /// What an answer that makes sense holds.
    pub(super) sense: &'static str,
}

impl<'a> Ask<'a> {
    /// A read.
    pub(super) fn get(place: &'a ObjectPlace, limit: u64) -> Self {
        Self::new("s3:GetObject", Method::GET, place, limit)
    }

    /// Something without parameters and body.
    pub(super) fn new(
        action: &'static str,
        method: Method,
        place: &'a ObjectPlace,
        limit: u64,
    ) -> Self {
        Self {
            action,
            method,
            place,
            query: Vec::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            limit,
            sense: "",
        }
    }

    /// The same, but an answer without this text is none, however well it calls itself.
    pub(super) fn holding(mut self, sense: &'static str) -> Self {
        self.sense = sense;
        self
    }

    /// Adds a parameter.
    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Adds a header, which is signed along.
    pub(super) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What a bucket answers.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// The text of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A question in a region.
struct Asked<'a> {
    ask: &'a Ask<'a>,
    region: &'a str,
    /// The region the bucket is in, if the service says that it is another one.
    elsewhere: OnceLock<String>,
}

impl Aws {
    /// An object, whole; nothing if the bucket does not have it.
    pub(super) async fn object(
        &self,
        place: &ObjectPlace,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, CloudError> {
        match self.s3(&Ask::get(place, limit)).await? {
            Ok(answer) => Ok(Some(answer.body.to_vec())),
            Err(no) if no.problem.is("NoSuchKey") => Ok(None),
            Err(no) => Err(self.unread(place, &no).await),
        }
    }

    /// Asks a bucket where it is. What it says no with is left to the caller.
    pub(super) async fn s3(&self, ask: &Ask<'_>) -> Result<Result<Answer, No>, CloudError> {
        let bucket = &ask.place.bucket;
        let known = self.known_region(bucket);
        let mut region = match known {
            Some(region) => region,
            None => self.region(None).await?,
        };
        let mut moved = false;
        loop {
            let asked = Asked {
                ask,
                region: &region,
                elsewhere: OnceLock::new(),
            };
            let problem = match self.persist(&asked).await? {
                Ok(answer) => return Ok(Ok(answer)),
                Err(problem) => problem,
            };
            match asked.elsewhere.into_inner() {
                // Its own region is asked once. Where that is the service says, and nobody has to.
                Some(other) if !moved && other != region => {
                    moved = true;
                    let regions = self.regions.lock();
                    let mut regions = regions.unwrap_or_else(PoisonError::into_inner);
                    regions.insert(bucket.clone(), other.clone());
                    region = other;
                }
                elsewhere => return Ok(Err(No { problem, elsewhere })),
            }
        }
    }

    fn known_region(&self, bucket: &str) -> Option<String> {
        let regions = self.regions.lock();
        let regions = regions.unwrap_or_else(PoisonError::into_inner);
        regions.get(bucket).cloned()
    }

    /// The error of a question that brought nothing, with what helps.
    pub(super) async fn unread(&self, place: &ObjectPlace, no: &No) -> CloudError {
        let No { problem, elsewhere } = no;
        if problem.is_denied() {
            let hint = match problem.action.as_str() {
                "s3:GetObject" => {
                    "; S3 says so too of an object that is not there, to whoever may not list its bucket \
                     (s3:ListBucket)"
                }
                _ => "",
            };
            let we = self.caller().await.ok();
            return self.explain(problem, we.as_ref(), hint);
        }
        let hint = match elsewhere {
            Some(region) => format!(
                "; the bucket {} says that it is in {region}: declare an account with `region={region}` for it",
                place.bucket
            ),
            None => format!("; {place} was asked for"),
        };
        self.explain(problem, None, &hint)
    }
}

/// Why a bucket gave no answer.
#[derive(Clone, Debug)]
pub(super) struct No {
    pub(super) problem: Problem,
    elsewhere: Option<String>,
}

#[async_trait]
impl Attempt for Asked<'_> {
    type Answer = Answer;

    async fn once(
        &self,
        aws: &Aws,
        credentials: &Credentials,
    ) -> Result<Result<Answer, Miss>, CloudError> {
        let ask = self.ask;
        let resource = ask.place.to_string();
        let nothing = |why: String, again: bool| Miss::silent(ask.action, &resource, why, again);
        let endpoint = aws.endpoint(&S3, self.region).await?;
        let request = match self.request(endpoint, aws, credentials) {
            Ok(request) => request,
            Err(why) => return Ok(Err(nothing(why, false))),
        };
        // Long transfers take long, and a service that says nothing is not waited for as if it sent
        // as much as it may.
        let patience = |bytes: u64| aws.patience + Duration::from_secs(bytes / SLOWEST);
        let sending = patience(ask.body.len() as u64);
        let answer = match tokio::time::timeout(sending, aws.http.send(request)).await {
            Ok(Ok(response)) => {
                let (status, headers) = (response.status().as_u16(), response.headers().clone());
                let length = response.content_length().unwrap_or(ask.limit);
                let receiving = patience(length.min(ask.limit).min(1 << 30));
                let receive = async {
                    match status {
                        200..=299 => http::read(response, ask.limit).await,
                        _ => Ok(http::read_start(response, ERROR).await),
                    }
                };
                let body = tokio::time::timeout(receiving, receive).await;
                body.map(|body| body.map(|body| (status, headers, body)))
            }
            Ok(Err(error)) => Ok(Err(error)),
            Err(late) => Err(late),
        };
        let (status, headers, body) = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(HttpError::TooLarge(limit))) => {
                return Err(CloudError::TooLarge {
                    account: aws.account.name.clone(),
                    object: resource,
                    limit,
                });
            }
            Ok(Err(error)) => {
                let again = matches!(error, HttpError::Lost(_));
                return Ok(Err(nothing(error.to_string(), again)));
            }
            Err(_) => return Ok(Err(nothing("no answer in time".to_owned(), true))),
        };
        // Of what takes long to put together the status comes first, and then whether it worked.
        let late = ask.method == Method::POST && body.windows(7).any(|seven| seven == b"<Error>");
        if matches!(status, 200..=299) && !late {
            if !ask.sense.is_empty() && !String::from_utf8_lossy(&body).contains(ask.sense) {
                let why = "it sent an answer that makes no sense".to_owned();
                return Ok(Err(nothing(why, true)));
            }
            return Ok(Ok(Answer { headers, body }));
        }
        let text = String::from_utf8_lossy(&body);
        let code = element(&text, "Code").unwrap_or_else(|| format!("status {status}"));
        let message = element(&text, "Message").unwrap_or_default();
        if let Some(region) = region_of(&headers, &text, status, &code) {
            // Only this try sets it, and only once.
            let _ = self.elsewhere.set(region);
        }
        let status = match (status, code.as_str()) {
            (200..=299, "InternalError" | "ServiceUnavailable" | "SlowDown") => 503,
            (200..=299, _) => 400,
            (status, _) => status,
        };
        let problem = Problem::new(ask.action, resource, Said::No(status, code, message));
        Ok(Err(aws.no(problem, &headers, true)))
    }
}

impl Asked<'_> {
    fn request(
        &self,
        endpoint: Url,
        aws: &Aws,
        credentials: &Credentials,
    ) -> Result<Request, String> {
        let ask = self.ask;
        let mut url = address(endpoint, self.region, ask.place)?;
        if !ask.query.is_empty() {
            let pairs = ask.query.iter();
            let pairs: Vec<String> = pairs
                .map(|(name, value)| format!("{name}={}", escaped(value)))
                .collect();
            url.set_query(Some(&pairs.join("&")));
        }
        let mut request = Request::new(ask.method.clone(), url);
        for (name, value) in &ask.headers {
            let value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
            request.headers_mut().insert(name.clone(), value);
        }
        let signer = Signer {
            credentials,
            region: self.region,
            service: S3.name,
            time: aws.now(),
            settings: settings(),
        };
        sign(&mut request, &ask.body, signer)?;
        if !ask.body.is_empty() {
            *request.body_mut() = Some(ask.body.clone().into());
        }
        Ok(request)
    }
}

/// How S3 wants its requests signed: addresses as they are, and the body's digest in a header.
pub(super) fn settings() -> SigningSettings {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings
}

/// The region a refusal is about: that of the bucket, which is not the one that was asked.
fn region_of(headers: &HeaderMap, text: &str, status: u16, code: &str) -> Option<String> {
    let moved = matches!(status, 301 | 307)
        || matches!(
            code,
            "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException"
        );
    if !moved {
        return None;
    }
    let header = headers.get("x-amz-bucket-region");
    let header = header.and_then(|value| value.to_str().ok());
    let region = header
        .map(str::to_owned)
        .or_else(|| element(text, "Region"))?;
    let fits = (2..=32).contains(&region.len())
        && region
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    fits.then_some(region)
}

/// Where an object is, at an endpoint.
fn address(mut endpoint: Url, region: &str, place: &ObjectPlace) -> Result<Url, String> {
    let ObjectPlace { bucket, key } = place;
    let own = format!("s3.{region}.{}", suffix(region));
    let mut path = endpoint.path().trim_end_matches('/').to_owned();
    // A name with a dot is no name that a certificate for the service's hosts covers.
    let in_host = endpoint.host_str() == Some(own.as_str())
        && bucket
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if in_host {
        let host = format!("{bucket}.{own}");
        endpoint
            .set_host(Some(&host))
            .map_err(|error| format!("{host} is no host: {error}"))?;
    } else {
        path = format!("{path}/{bucket}");
    }
    path.push('/');
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                path.push(char::from(byte));
            }
            other => path.push_str(&format!("%{other:02X}")),
        }
    }
    endpoint.set_path(&path);
    endpoint.set_query(None);
    // Addresses fold such parts away, and another object would be read.
    if endpoint.path() != path {
        return Err(format!("the key of {place} does not fit an address"));
    }
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_objects() {
        let at = |endpoint: &str, text: &str| {
            let place: ObjectPlace = text.parse().unwrap();
            address(endpoint.parse().unwrap(), "eu-west-1", &place).map(|url| url.to_string())
        };
        let aws = "https://s3.eu-west-1.amazonaws.com";
        for (endpoint, object, url) in [
            (
                aws,
                "s3://tasks/a.json",
                "https://tasks.s3.eu-west-1.amazonaws.com/a.json",
            ),
            (
                aws,
                "s3://tasks.example.com/a.json",
                "https://s3.eu-west-1.amazonaws.com/tasks.example.com/a.json",
            ),
            (
                aws,
                "s3://tasks//a//b",
                "https://tasks.s3.eu-west-1.amazonaws.com//a//b",
            ),
            (
                "http://localhost:9000",
                "s3://tasks/a b+c/é?#%",
                "http://localhost:9000/tasks/a%20b%2Bc/%C3%A9%3F%23%25",
            ),
            (
                "http://store/under/",
                "s3://Tasks_1/x",
                "http://store/under/Tasks_1/x",
            ),
        ] {
            assert_eq!(at(endpoint, object).as_deref(), Ok(url), "{object}");
        }
        for object in ["s3://tasks/a/../b", "s3://tasks/./b", "s3://tasks/.."] {
            assert!(at(aws, object).is_err(), "{object}");
        }
    }

    #[test]
    fn only_what_looks_like_a_region_is_asked() {
        let region = |header: &str, text: &str, status, code| {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                headers.insert("x-amz-bucket-region", header.parse().unwrap());
            }
            region_of(&headers, text, status, code)
        };
        let moved = "PermanentRedirect";
        assert_eq!(
            region("eu-west-1", "", 301, moved).as_deref(),
            Some("eu-west-1")
        );
        let body = "<Error><Region>us-east-2</Region></Error>";
        let malformed = "AuthorizationHeaderMalformed";
        assert_eq!(
            region("", body, 400, malformed).as_deref(),
            Some("us-east-2")
        );
        assert_eq!(region("evil.example.com/", "", 301, moved), None);
        assert_eq!(region("eu-west-1", "", 403, "AccessDenied"), None);
        assert_eq!(region("", "", 301, moved), None);
    }
}
