//! HTTP to the engine: pooled connections, JSON lines, upgraded streams. Opens the first
//! connection with the first request, never before.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Deserialize;
use tonic::codegen::{BoxFuture, Service, http::Uri};

use super::address::{Address, Wire};
use super::error;
use crate::ports::engine::EngineError;
use crate::ports::registry::{Login, Target};

/// Longest line of a JSON stream that is accepted.
const MAX_LINE: usize = 4 << 20;
/// Longest error answer that is read.
const MAX_ERROR: usize = 64 << 10;
/// How long an answer may take to begin. Work that takes longer reports while it goes on.
const ANSWER: Duration = Duration::from_secs(600);

type BodyStream = Pin<Box<dyn Stream<Item = io::Result<Frame<Bytes>>> + Send>>;
type Body = Either<Full<Bytes>, StreamBody<BodyStream>>;

/// A client of one engine.
#[derive(Clone)]
pub(super) struct Client {
    address: Address,
    http: legacy::Client<Connector, Body>,
    /// The same connections behind the typed calls of the library.
    pub(super) api: bollard::Docker,
}

impl Client {
    pub(super) fn new(address: Address) -> Self {
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .build(Connector(address.clone()));
        let transport = http.clone();
        let api = bollard::Docker::connect_with_custom_transport(
            move |request: bollard::BollardRequest| {
                let answer = transport.request(request);
                async move { answer.await.map_err(bollard::errors::Error::from) }
            },
            Some("http://engine"),
            ANSWER.as_secs(),
            bollard::API_DEFAULT_VERSION,
        )
        .expect("a custom transport needs no resource");
        Self { address, http, api }
    }

    /// Where the engine is.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Translates an error of the library.
    pub(super) fn error(&self, what: &str, error: bollard::errors::Error) -> EngineError {
        error::of_api(&self.address, what, error)
    }

    /// Sends a request with no body and some headers; any answer but success is an error.
    async fn send(
        &self,
        what: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, EngineError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://engine{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Body::Left(Full::new(Bytes::new())))
            .map_err(|error| EngineError::Refused {
                what: what.to_owned(),
                message: error.to_string(),
            })?;
        let answer = tokio::time::timeout(ANSWER, self.http.request(request))
            .await
            .map_err(|_| error::broken(what, "no answer within ten minutes"))?
            .map_err(|error| self.error(what, error.into()))?;
        let status = answer.status();
        if status.is_success() || status == hyper::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let body = http_body_util::Limited::new(answer.into_body(), MAX_ERROR)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        #[derive(Deserialize)]
        struct Answer {
            message: String,
        }
        let message = serde_json::from_slice::<Answer>(&body).map_or_else(
            |_| String::from_utf8_lossy(&body).trim().to_owned(),
            |answer| answer.message,
        );
        Err(error::of_status(what, status.as_u16(), message))
    }

    /// Posts and reads the answer as JSON lines.
    pub(super) async fn post_lines(
        &self,
        what: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Lines, EngineError> {
        let answer = self.send(what, Method::POST, path, headers).await?;
        Ok(Lines {
            what: what.to_owned(),
            body: answer.into_body(),
            buffer: BytesMut::new(),
        })
    }

    /// Turns a request into a two-way byte stream (`Upgrade: h2c`).
    pub(super) async fn upgrade(
        &self,
        what: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<hyper::upgrade::Upgraded, EngineError> {
        let mut all = vec![("Connection", "Upgrade"), ("Upgrade", "h2c")];
        all.extend_from_slice(headers);
        let answer = self.send(what, Method::POST, path, &all).await?;
        hyper::upgrade::on(answer)
            .await
            .map_err(|error| error::broken(what, error))
    }

    /// Whether the engine answers at all.
    pub(super) async fn answers(&self) -> bool {
        let ping = self.send("ping", Method::GET, "/_ping", &[]);
        matches!(
            tokio::time::timeout(Duration::from_secs(5), ping).await,
            Ok(Ok(_))
        )
    }
}

/// The header that carries a registry login, if there is one to send.
pub(super) fn registry_auth(target: &Target) -> Option<String> {
    let Login::Basic { user, password } = &target.login else {
        return None;
    };
    let json = serde_json::json!({
        "username": user,
        "password": password.expose(),
        "serveraddress": target.host,
    });
    Some(base64::engine::general_purpose::URL_SAFE.encode(json.to_string()))
}

/// One line of the engine's transfer reports.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line {
    /// Layer it is about.
    pub(super) id: Option<String>,
    /// What happens.
    pub(super) status: Option<String>,
    /// How far it is.
    #[serde(rename = "progressDetail")]
    pub(super) progress: Option<LineProgress>,
    /// What went wrong.
    pub(super) error: Option<String>,
    /// Facts for programs.
    pub(super) aux: Option<serde_json::Value>,
}

/// How far a transfer is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LineProgress {
    pub(super) current: Option<u64>,
    pub(super) total: Option<u64>,
}

/// An answer that arrives line by line. Dropping it tells the engine to stop.
pub(super) struct Lines {
    what: String,
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    /// The next line; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, EngineError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line = self.buffer.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| error::broken(&self.what, error));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(error::broken(
                    &self.what,
                    "a line of the answer is too long",
                ));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Err(error::broken(&self.what, error)),
                None if self.buffer.trim_ascii().is_empty() => return Ok(None),
                None => self.buffer.extend_from_slice(b"\n"),
            }
        }
    }
}

/// Opens connections for the pool.
#[derive(Clone)]
struct Connector(Address);

impl Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(address.open().await?)) })
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
