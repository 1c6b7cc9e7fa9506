//! Objects of S3, and of everything that speaks like it: one read, whole, of a bounded size.
//!
//! A bucket of AWS is part of the host where its name can be; of any other endpoint it is the
//! beginning of the path, which every server understands.

use std::sync::OnceLock;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::UriPathNormalizationMode;
use aws_sigv4::http_request::{PayloadChecksumKind, PercentEncodingMode, SigningSettings};
use reqwest::header::HeaderMap;
use reqwest::{Method, Request, Url};

use super::Aws;
use super::call::{Attempt, Miss, Service, suffix};
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
const ACTION: &str = "s3:GetObject";
/// Largest error that is read, in bytes.
const ERROR: u64 = 64 << 10;

/// One read of an object in a region.
struct Get<'a> {
    place: &'a ObjectPlace,
    region: &'a str,
    limit: u64,
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
        let mut region = self.region(None).await?;
        let mut moved = false;
        loop {
            let get = Get {
                place,
                region: &region,
                limit,
                elsewhere: OnceLock::new(),
            };
            let problem = match self.persist(&get).await? {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(problem) => problem,
            };
            match get.elsewhere.into_inner() {
                // Its own region is asked once. Where that is the service says, and nobody has to.
                Some(other) if !moved && other != region => {
                    moved = true;
                    region = other;
                }
                _ if problem.is("NoSuchKey") => return Ok(None),
                elsewhere => return Err(self.unread(place, &problem, elsewhere).await),
            }
        }
    }

    /// The error of a read that brought nothing, with what helps.
    async fn unread(
        &self,
        place: &ObjectPlace,
        problem: &Problem,
        elsewhere: Option<String>,
    ) -> CloudError {
        if problem.is_denied() {
            let hint = "; S3 says so too of an object that is not there, to whoever may not list its bucket \
                        (s3:ListBucket)";
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

#[async_trait]
impl Attempt for Get<'_> {
    type Answer = Vec<u8>;

    async fn once(
        &self,
        aws: &Aws,
        credentials: &Credentials,
    ) -> Result<Result<Vec<u8>, Miss>, CloudError> {
        let resource = self.place.to_string();
        let nothing = |why: String, again: bool| Miss::silent(ACTION, &resource, why, again);
        let endpoint = aws.endpoint(&S3, self.region).await?;
        let url = match address(endpoint, self.region, self.place) {
            Ok(url) => url,
            Err(why) => return Ok(Err(nothing(why, false))),
        };
        let mut request = Request::new(Method::GET, url);
        let signer = Signer {
            credentials,
            region: self.region,
            service: S3.name,
            time: aws.now(),
            settings: settings(),
        };
        if let Err(why) = sign(&mut request, b"", signer) {
            return Ok(Err(nothing(why, false)));
        }
        let exchange = async {
            let response = aws.http.send(request).await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = if status == 200 {
                http::read(response, self.limit).await?
            } else {
                http::read_start(response, ERROR).await
            };
            Ok((status, headers, body))
        };
        let answer = tokio::time::timeout(aws.patience, exchange).await;
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
        if status == 200 {
            return Ok(Ok(body.to_vec()));
        }
        let text = String::from_utf8_lossy(&body);
        let code = element(&text, "Code").unwrap_or_else(|| format!("status {status}"));
        let message = element(&text, "Message").unwrap_or_default();
        if let Some(region) = region_of(&headers, &text, status, &code) {
            // Only this try sets it, and only once.
            let _ = self.elsewhere.set(region);
        }
        let problem = Problem::new(ACTION, resource, Said::No(status, code, message));
        Ok(Err(aws.no(problem, &headers, true)))
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
