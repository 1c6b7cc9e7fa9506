//! The AWS SDK's HTTP, over the client all adapters share: one set of TLS settings, one way to
//! bound what comes back. Retries nothing; the SDK knows when to.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};

use crate::adapters::http::{self, Http, HttpError};

/// Largest answer of a service, in bytes: far more than any that is asked for.
pub(super) const ANSWER: u64 = 16 << 20;

/// Has a call made again whose answer says success and cannot be read: half an answer is like none.
/// Every typed call here may be repeated; what was done by the first is found by the second.
#[derive(Debug)]
pub(super) struct Unreadable;

impl ClassifyRetry for Unreadable {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let said = context.response().map(|response| response.status());
        let failed = matches!(context.output_or_error(), Some(Err(_)));
        if failed && said.is_some_and(|status| status.is_success()) {
            RetryAction::transient_error()
        } else {
            RetryAction::NoActionIndicated
        }
    }

    fn name(&self) -> &'static str {
        "unreadable success"
    }
}

/// Gives the SDK connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    http: Http,
}

impl Connector {
    pub(super) fn new(http: Http) -> Self {
        Self { http }
    }
}

impl HttpClient for Connector {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let patience = match (settings.connect_timeout(), settings.read_timeout()) {
            (Some(connect), Some(read)) => Some(connect + read),
            _ => None,
        };
        SharedHttpConnector::new(Connection {
            http: self.http.clone(),
            patience,
        })
    }
}

#[derive(Clone, Debug)]
struct Connection {
    http: Http,
    /// How long the head of an answer is waited for, if the SDK cares. It does where a silent
    /// address means that there is nothing, as of the metadata service outside the cloud.
    patience: Option<Duration>,
}

impl HttpConnector for Connection {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connection = self.clone();
        HttpConnectorFuture::new(async move { connection.send(request).await })
    }
}

impl Connection {
    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = translate(&request).map_err(|why| ConnectorError::user(why.into()))?;
        let sent = self.http.send(request);
        let response = match self.patience {
            None => sent.await,
            Some(patience) => match tokio::time::timeout(patience, sent).await {
                Ok(response) => response,
                Err(_) => return Err(ConnectorError::timeout("no answer in time".into())),
            },
        };
        let response = response.map_err(lost)?;
        let status = StatusCode::try_from(response.status().as_u16())
            .map_err(|error| ConnectorError::other(error.into(), None))?;
        let headers = response.headers().clone();
        let body = http::read(response, ANSWER).await.map_err(lost)?;
        let mut answer = HttpResponse::new(status, SdkBody::from(body));
        for (name, value) in &headers {
            // A header that is not text is none that the SDK reads.
            if let Ok(value) = value.to_str() {
                let appended = answer.headers_mut();
                appended.append(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(answer)
    }
}

fn translate(request: &HttpRequest) -> Result<Request, String> {
    let method = Method::from_bytes(request.method().as_bytes());
    let method = method.map_err(|error| error.to_string())?;
    let url = Url::parse(request.uri()).map_err(|error| error.to_string())?;
    let mut translated = Request::new(method, url);
    for (name, value) in request.headers().iter() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
        let mut value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        translated.headers_mut().append(name, value);
    }
    let body = request.body().bytes();
    let body = body.ok_or("a request's body is a stream, which no call here sends")?;
    if !body.is_empty() {
        *translated.body_mut() = Some(Bytes::copy_from_slice(body).into());
    }
    Ok(translated)
}

fn lost(error: HttpError) -> ConnectorError {
    match error {
        HttpError::Lost(_) => ConnectorError::io(error.into()),
        HttpError::Unusable(_) | HttpError::TooLarge(_) => {
            ConnectorError::other(error.into(), None)
        }
    }
}
