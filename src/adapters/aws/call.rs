//! One signed call of a service that speaks AWS JSON 1.0 or 1.1. The body goes out and comes back
//! as the JSON it is, so that keys this program has never heard of survive. Of the services that
//! still take forms and answer XML, only whether they say yes or no is understood.
//!
//! Tries again what may be repeated and may help: lost connections, server errors, throttling,
//! a clock that is wrong, credentials that ran out.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::SigningSettings;
use aws_types::service_config::ServiceConfigKey;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};
use serde_json::Value;
use tokio::time::Instant;

use super::Aws;
use super::connector::ANSWER;
use super::denied::{Problem, Said, is_throttling};
use super::sign::{Signer, sign};
use super::xml::element;
use crate::adapters::clock::SystemClock;
use crate::adapters::http::{self, HttpError, retry_after};
use crate::ports::clock::Clock as _;
use crate::ports::cloud::CloudError;

/// A service and how it is spoken to.
#[derive(Debug)]
pub(super) struct Service {
    /// Its id, as `AWS_ENDPOINT_URL_…` and profiles name it: `Secrets Manager`.
    pub(super) id: &'static str,
    /// First part of its host: `secretsmanager`.
    pub(super) host: &'static str,
    /// Its name in signatures and in IAM actions: `secretsmanager`.
    pub(super) name: &'static str,
    /// What its actions are prefixed with in `X-Amz-Target`.
    pub(super) target: &'static str,
    /// `1.0` or `1.1`, or [`QUERY`].
    pub(super) json: &'static str,
}

/// The protocol of services that take forms: the body's keys are the fields, and of the answer
/// only errors are read.
pub(super) const QUERY: &str = "query";

/// AWS Secrets Manager.
pub(super) const SECRETS_MANAGER: Service = Service {
    id: "Secrets Manager",
    host: "secretsmanager",
    name: "secretsmanager",
    target: "secretsmanager",
    json: "1.1",
};
/// AWS Systems Manager, for its Parameter Store.
pub(super) const SSM: Service = Service {
    id: "SSM",
    host: "ssm",
    name: "ssm",
    target: "AmazonSSM",
    json: "1.1",
};
/// ECR Public, which lives in us-east-1 only.
pub(super) const ECR_PUBLIC: Service = Service {
    id: "ECR PUBLIC",
    host: "api.ecr-public",
    name: "ecr-public",
    target: "SpencerFrontendService",
    json: "1.1",
};

/// A call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// Of which service.
    pub(super) service: &'static Service,
    /// `GetSecretValue`.
    pub(super) action: &'a str,
    /// On what, for messages.
    pub(super) resource: &'a str,
    /// Where, if not in the account's region.
    pub(super) region: Option<&'a str>,
    /// What is sent.
    pub(super) body: &'a Value,
    /// Whether a second one has no second effect, so that a lost answer may be asked for again.
    pub(super) repeatable: bool,
}

/// One try that brought nothing.
pub(super) struct Miss {
    problem: Problem,
    /// Whether another try may help, and what the service asked us to wait.
    again: Option<Option<Duration>>,
    /// How far the service's clock is ahead of the one we signed with, if that is the trouble.
    skew: Option<i64>,
}

impl Miss {
    /// No answer, or one that makes no sense.
    pub(super) fn silent(action: &str, resource: &str, why: String, again: bool) -> Self {
        Self {
            problem: Problem::new(action, resource, Said::Nothing(why)),
            again: again.then_some(None),
            skew: None,
        }
    }
}

/// Something that is asked of a service, as often as it takes.
#[async_trait]
pub(super) trait Attempt: Sync {
    /// What it brings.
    type Answer: Send;

    /// Tries once.
    async fn once(
        &self,
        aws: &Aws,
        credentials: &Credentials,
    ) -> Result<Result<Self::Answer, Miss>, CloudError>;
}

#[async_trait]
impl Attempt for Call<'_> {
    type Answer = Value;

    async fn once(
        &self,
        aws: &Aws,
        credentials: &Credentials,
    ) -> Result<Result<Value, Miss>, CloudError> {
        aws.once(self, credentials).await
    }
}

impl Aws {
    /// Makes a call and returns its answer.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Value, CloudError> {
        match self.ask(call).await? {
            Ok(answer) => Ok(answer),
            Err(problem) => Err(self.explained(&problem).await),
        }
    }

    /// The same; what the service says no with is left to the caller.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<Result<Value, Problem>, CloudError> {
        self.persist(call).await
    }

    /// Tries until there is an answer, a no, or no reason to try again.
    pub(super) async fn persist<A: Attempt>(
        &self,
        attempt: &A,
    ) -> Result<Result<A::Answer, Problem>, CloudError> {
        let began = Instant::now();
        let mut failures = 0;
        let (mut skewed, mut renewed) = (false, false);
        loop {
            let credentials = self.credentials().await?;
            let miss = match attempt.once(self, &credentials).await? {
                Ok(answer) => return Ok(Ok(answer)),
                Err(miss) => miss,
            };
            if let (Some(skew), false) = (miss.skew, skewed) {
                skewed = true;
                self.skew.fetch_add(skew, Ordering::Relaxed);
                continue;
            }
            if miss.problem.is_expired() && !renewed {
                renewed = true;
                self.forget(&credentials).await;
                continue;
            }
            failures += 1;
            let wait = miss.again.and_then(|asked| {
                let random = SystemClock.random();
                self.backoff.wait(failures, began.elapsed(), asked, random)
            });
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Ok(Err(miss.problem)),
            }
        }
    }

    async fn once(
        &self,
        call: &Call<'_>,
        credentials: &Credentials,
    ) -> Result<Result<Value, Miss>, CloudError> {
        let action = format!("{}:{}", call.service.name, call.action);
        let region = self.region(call.region).await?;
        let url = self.endpoint(call.service, &region).await?;
        let nothing = |why: String, again: bool| {
            Miss::silent(&action, call.resource, why, again && call.repeatable)
        };
        let request = match self.signed(call, url, &region, credentials) {
            Ok(request) => request,
            Err(why) => return Ok(Err(nothing(why, false))),
        };
        let exchange = async {
            let response = self.http.send(request).await?;
            let head = (response.status().as_u16(), response.headers().clone());
            Ok((head, http::read(response, ANSWER).await?))
        };
        let ((status, headers), body) = match tokio::time::timeout(self.patience, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let again = matches!(error, HttpError::Lost(_));
                return Ok(Err(nothing(error.to_string(), again)));
            }
            Err(_) => return Ok(Err(nothing("no answer in time".to_owned(), true))),
        };
        let value: Option<Value> = match call.service.json {
            QUERY => Some(of_xml(&body)),
            _ => serde_json::from_slice(&body).ok(),
        };
        if (200..300).contains(&status) {
            return Ok(value
                .filter(Value::is_object)
                .ok_or_else(|| nothing("it sent an answer that makes no sense".to_owned(), true)));
        }
        let (code, message) = words(&headers, value.as_ref(), status);
        let problem = Problem::new(&action, call.resource, Said::No(status, code, message));
        Ok(Err(self.no(problem, &headers, call.repeatable)))
    }

    /// What a service said no with, and whether asking again may help.
    pub(super) fn no(&self, problem: Problem, headers: &HeaderMap, repeatable: bool) -> Miss {
        let (status, code) = match &problem.said {
            Said::No(status, code, _) => (*status, code.as_str()),
            Said::Nothing(_) => (0, ""),
        };
        let throttled = status == 429 || is_throttling(code);
        let server = status >= 500 || code == "RequestTimeout" || code == "RequestTimeoutException";
        let asked = retry_after(headers, SystemClock.now());
        let skew = is_about_time(code).then(|| self.ahead(headers)).flatten();
        Miss {
            // A throttled call was not made, whatever it would have done.
            again: (throttled || (server && repeatable)).then_some(asked),
            skew,
            problem,
        }
    }

    fn signed(
        &self,
        call: &Call<'_>,
        url: Url,
        region: &str,
        credentials: &Credentials,
    ) -> Result<Request, String> {
        let service = call.service;
        let (body, kind) = match service.json {
            QUERY => (
                form(call),
                "application/x-www-form-urlencoded; charset=utf-8".to_owned(),
            ),
            version => (
                call.body.to_string(),
                format!("application/x-amz-json-{version}"),
            ),
        };
        let target = format!("{}.{}", service.target, call.action);
        let mut request = Request::new(Method::POST, url);
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
        let to = request.headers_mut();
        to.insert(CONTENT_TYPE, value(&kind)?);
        // A form names its action itself.
        if service.json != QUERY {
            to.insert(HeaderName::from_static("x-amz-target"), value(&target)?);
        }
        let signer = Signer {
            credentials,
            region,
            service: service.name,
            time: self.now(),
            settings: SigningSettings::default(),
        };
        sign(&mut request, body.as_bytes(), signer)?;
        *request.body_mut() = Some(body.into());
        Ok(request)
    }

    /// Where a service is: what the declaration says, else what the environment or the profile
    /// says for this service or for all, else its own address.
    pub(super) async fn endpoint(
        &self,
        service: &Service,
        region: &str,
    ) -> Result<Url, CloudError> {
        let config = self.config().await;
        let key = ServiceConfigKey::builder()
            .service_id(service.id)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build();
        let configured = || {
            let key = key.ok()?;
            config.service_config()?.load_config(key)
        };
        let address = self
            .account
            .endpoint
            .clone()
            .or_else(configured)
            .or_else(|| config.endpoint_url().map(str::to_owned))
            .unwrap_or_else(|| match service.host {
                // Identities are the same in all regions of a partition.
                "iam" if !region.starts_with("cn-") => format!("https://iam.{}", suffix(region)),
                host => format!("https://{host}.{region}.{}", suffix(region)),
            });
        let url = Url::parse(&address).ok();
        url.filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| {
                self.nobody(format!(
                    "\"{}\" is no address of a service: write `https://host[:port]`",
                    self.clean(&address)
                ))
            })
    }

    /// The time, as the services see it.
    pub(super) fn now(&self) -> SystemTime {
        let skew = self.skew.load(Ordering::Relaxed);
        let by = Duration::from_secs(skew.unsigned_abs());
        if skew < 0 {
            SystemTime::now() - by
        } else {
            SystemTime::now() + by
        }
    }

    /// How far the service's clock is ahead of the one we sign with; nothing if that is little.
    fn ahead(&self, headers: &HeaderMap) -> Option<i64> {
        let date = headers.get(DATE)?.to_str().ok()?;
        let theirs = jiff::fmt::rfc2822::DateTimeParser::new()
            .parse_timestamp(date)
            .ok()?
            .as_second();
        let ours = self.now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let ahead = theirs - i64::try_from(ours.as_secs()).ok()?;
        (ahead.abs() > 120).then_some(ahead)
    }
}

/// The fields of a call as a form.
fn form(call: &Call<'_>) -> String {
    let mut form = format!("Action={}", call.action);
    for (name, value) in call.body.as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        form.push_str(&format!("&{}={}", escaped(name), escaped(value)));
    }
    form
}

pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

/// Code and message of an error in XML, under the names they have in JSON.
fn of_xml(body: &[u8]) -> Value {
    let text = String::from_utf8_lossy(body);
    serde_json::json!({"code": element(&text, "Code"), "message": element(&text, "Message")})
}

fn is_about_time(code: &str) -> bool {
    matches!(
        code,
        "RequestTimeTooSkewed"
            | "RequestExpired"
            | "RequestInTheFuture"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "AuthFailure"
    )
}

/// Code and message of an error, wherever the service put them.
fn words(headers: &HeaderMap, body: Option<&Value>, status: u16) -> (String, String) {
    let get = |names: &[&str]| {
        let body = body?;
        names.iter().find_map(|name| body.get(name)?.as_str())
    };
    let header = headers.get("x-amzn-errortype");
    let header = header.and_then(|value| value.to_str().ok());
    let code = header
        .or_else(|| get(&["__type", "code", "Code"]))
        .unwrap_or("");
    // `com.amazonaws.ssm#ParameterNotFound`, `ParameterNotFound:http://…`.
    let code = code.split(':').next().unwrap_or("");
    let code = code.rsplit('#').next().unwrap_or("").trim();
    let code = match code {
        "" => format!("status {status}"),
        code => code.to_owned(),
    };
    let message = get(&["message", "Message", "errorMessage"]).unwrap_or("");
    (code, message.to_owned())
}

/// What hosts of a region end in.
pub(super) fn suffix(region: &str) -> &'static str {
    match region {
        cn if cn.starts_with("cn-") => "amazonaws.com.cn",
        iso if iso.starts_with("us-iso-") => "c2s.ic.gov",
        iso if iso.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ => "amazonaws.com",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_one_spelling() {
        let read = |header: &str, body: &str| {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                headers.insert("x-amzn-errortype", header.parse().unwrap());
            }
            words(&headers, serde_json::from_str(body).ok().as_ref(), 400)
        };
        for (header, body, code, message) in [
            (
                "",
                r#"{"__type":"com.amazonaws.ssm#ParameterNotFound","message":"no"}"#,
                "ParameterNotFound",
                "no",
            ),
            (
                "AccessDeniedException:http://internal/x",
                r#"{"Message":"denied"}"#,
                "AccessDeniedException",
                "denied",
            ),
            ("", "<html>", "status 400", ""),
            ("", "[]", "status 400", ""),
        ] {
            assert_eq!(read(header, body), (code.to_owned(), message.to_owned()));
        }
    }

    #[test]
    fn forms_and_their_errors() {
        const FORMS: Service = Service {
            id: "IAM",
            host: "iam",
            name: "iam",
            target: "",
            json: QUERY,
        };
        let call = Call {
            service: &FORMS,
            action: "GetRole",
            resource: "*",
            region: None,
            body: &serde_json::json!({"RoleName": "a b/é", "Version": "2010-05-08"}),
            repeatable: true,
        };
        assert_eq!(
            form(&call),
            "Action=GetRole&RoleName=a%20b%2F%C3%A9&Version=2010-05-08"
        );
        let xml = b"<ErrorResponse><Error><Type>Sender</Type><Code>NoSuchEntity</Code>\
            <Message>no role</Message></Error></ErrorResponse>";
        assert_eq!(
            of_xml(xml),
            serde_json::json!({"code": "NoSuchEntity", "message": "no role"})
        );
        assert_eq!(
            of_xml(b"\xff<Code>"),
            serde_json::json!({"code": null, "message": null})
        );
    }

    #[test]
    fn regions_have_suffixes() {
        assert_eq!(suffix("eu-west-1"), "amazonaws.com");
        assert_eq!(suffix("cn-north-1"), "amazonaws.com.cn");
    }
}
