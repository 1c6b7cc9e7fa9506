//! Builds: one solve of the engine's BuildKit over `/grpc`, with one session for what it asks of
//! us. The Dockerfile frontend's result passes through our hands, so that the image's times are
//! those of the request before it is exported: equal inputs give equal ids on every engine.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, CacheOptionsEntry, SolveRequest as ControlSolve, StatusRequest,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::Docker;
use super::archive::Archive;
use super::context::Dockerfile;
use super::error::{broken, check_reference, may_pass};
use super::gateway::{self, BuildResult, Gateway, MAX_MESSAGE, SolveRequest};
use super::llb;
use super::progress::{Vertices, plain};
use super::session::{Served, Session};
use crate::base::{Timestamp, causes};
use crate::ports::Output;
use crate::ports::engine::{BuildRequest, EngineError};

const WHAT: &str = "the build";
/// The builder takes no larger secret.
const MAX_SECRET: usize = 500 << 10;
/// How long the last status messages of an ended build may take.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How often a build starts again because of another one.
const RESTARTS: u32 = 3;
const EPOCH_ARG: &str = "SOURCE_DATE_EPOCH";

impl Docker {
    pub(super) async fn build_image(
        &self,
        request: &BuildRequest,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<String, EngineError> {
        check(request)?;
        let work = async {
            for _ in 0..RESTARTS {
                match self.try_build(request, output).await {
                    Err(failed) if failed.from_another => {
                        output
                            .log(b"another build that shared a step was stopped; starting again\n");
                    }
                    result => return result,
                }
            }
            self.try_build(request, output).await
        };
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(EngineError::Cancelled),
            result = work => result.map_err(|failed| failed.error),
        };
        match result {
            // An engine that goes down first fails what it runs; only then does it fall silent.
            Err(EngineError::BuildFailed { message }) if !self.client.answers().await => {
                Err(broken(WHAT, format!("the engine went away: {message}")))
            }
            other => other,
        }
    }

    async fn try_build(
        &self,
        request: &BuildRequest,
        output: &dyn Output,
    ) -> Result<String, Failed> {
        let (context, path) = (request.context.clone(), request.dockerfile.clone());
        let dockerfile = tokio::task::spawn_blocking(move || Dockerfile::read(&context, &path))
            .await
            .map_err(|error| broken("reading the Dockerfile", error))??;
        let slot = self.archives.slot(&dockerfile, request.epoch);
        let archive = Archive::fill(&slot, &dockerfile, request.epoch).await?;
        let served = Served {
            secrets: request.secrets.clone(),
            registries: request.registries.clone(),
            archive: archive.clone(),
            archives: self.archives.clone(),
        };
        let session = Session::open(&self.client, random_id(), served, &self.tasks).await?;
        let stream = self.client.upgrade(WHAT, "/grpc", &[]).await?;
        let channel = gateway::channel(stream)
            .await
            .map_err(|error| broken(WHAT, causes(&error)))?;

        let build = random_id();
        let mut control = ControlClient::new(channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let mut watcher = control.clone();
        let mut gateway = Gateway::new(channel, build.clone());
        let mut vertices = Vertices::new(output);

        let solve = control.solve(control_request(request, &build, &session.id));
        let work = async {
            let outcome = gateway
                .solve(frontend_request(request, &dockerfile, &archive))
                .await;
            let outcome = outcome.and_then(|mut result| {
                stamp(&mut result, epoch_of(request))?;
                Ok(result)
            });
            // If the engine is lost this fails as well; the solve tells why.
            let _ = gateway.give_back(outcome.clone()).await;
            outcome.err()
        };
        let watch = async {
            let Ok(messages) = watcher
                .status(StatusRequest {
                    r#ref: build.clone(),
                })
                .await
            else {
                return;
            };
            let mut messages = messages.into_inner();
            while let Ok(Some(message)) = messages.message().await {
                vertices.take(message);
            }
        };
        let solved = drive(solve, work, watch).await;
        vertices.finish();
        drop(session);
        let response = solved.map_err(|status| failure(&status, &vertices))?;
        let mut facts = response.into_inner().exporter_response;
        facts
            .remove("containerimage.digest")
            .or_else(|| facts.remove("containerimage.config.digest"))
            .ok_or_else(|| broken(WHAT, "the builder did not say which image it made").into())
    }
}

/// Why a try of a build failed.
struct Failed {
    error: EngineError,
    /// The builder runs equal steps of several builds as one, with the session of one of them;
    /// if that one is stopped, the others may be told of it as if it were their own failure.
    from_another: bool,
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self {
            error,
            from_another: false,
        }
    }
}

/// Runs the three conversations of a build to the end of the first; the others get a moment.
async fn drive<T>(
    solve: impl Future<Output = Result<T, Status>>,
    work: impl Future<Output = Option<Status>>,
    watch: impl Future<Output = ()>,
) -> Result<T, Status> {
    let mut solve = std::pin::pin!(solve);
    let mut work = std::pin::pin!(work);
    let mut watch = std::pin::pin!(watch);
    let mut watched = false;
    let mut refused = None;
    let mut worked = false;
    let solved = loop {
        tokio::select! {
            solved = &mut solve => break solved,
            error = &mut work, if !worked => {
                worked = true;
                refused = error;
            }
            () = &mut watch, if !watched => watched = true,
        }
    };
    if !watched {
        let _ = tokio::time::timeout(LAST_WORDS, watch).await;
    }
    // The frontend's own words are nearer to the cause than what the solve makes of them.
    match (solved, refused) {
        (Err(status), Some(refused)) if status.code() == Code::Unknown => Err(refused),
        (solved, _) => solved,
    }
}

fn check(request: &BuildRequest) -> Result<(), EngineError> {
    let bad = |message: String| Err(EngineError::BuildFailed { message });
    for (id, secret) in &request.secrets {
        if secret.expose().len() > MAX_SECRET {
            return bad(format!("build secret \"{id}\" is larger than 500 KiB"));
        }
    }
    for tag in &request.tags {
        check_reference(tag)?;
    }
    for image in &request.cache_from {
        check_reference(image)?;
        if image.contains(',') {
            return bad(format!("cache image \"{image}\" contains a comma"));
        }
    }
    Ok(())
}

/// The time the image is stamped with: an explicit build argument wins.
fn epoch_of(request: &BuildRequest) -> Timestamp {
    let given = request.args.get(EPOCH_ARG);
    given
        .and_then(|text| text.parse::<i64>().ok())
        .and_then(|seconds| seconds.checked_mul(1000))
        .map_or(request.epoch, Timestamp)
}

fn control_request(request: &BuildRequest, build: &str, session: &str) -> ControlSolve {
    let mut exports = Vec::new();
    if request.inline_cache {
        exports.push(CacheOptionsEntry {
            r#type: "inline".to_owned(),
            attrs: HashMap::new(),
        });
    }
    let mut attributes = HashMap::new();
    if !request.tags.is_empty() {
        attributes.insert("name".to_owned(), request.tags.join(","));
    }
    ControlSolve {
        r#ref: build.to_owned(),
        session: session.to_owned(),
        exporter_deprecated: "moby".to_owned(),
        exporter_attrs_deprecated: attributes,
        cache: Some(CacheOptions {
            exports,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn frontend_request(
    request: &BuildRequest,
    dockerfile: &Dockerfile,
    archive: &Archive,
) -> SolveRequest {
    let mut options = HashMap::from([("filename".to_owned(), dockerfile.name.clone())]);
    let mut set = |key: String, value: &str| options.insert(key, value.to_owned());
    let seconds = (epoch_of(request).0 / 1000).to_string();
    set(format!("build-arg:{EPOCH_ARG}"), &seconds);
    for (key, value) in &request.args {
        set(format!("build-arg:{key}"), value);
    }
    for (key, value) in &request.labels {
        set(format!("label:{key}"), value);
    }
    if let Some(target) = &request.target {
        set("target".to_owned(), target);
    }
    if let Some(platform) = &request.platform {
        set("platform".to_owned(), platform);
    }
    if !request.cache_from.is_empty() {
        set("cache-from".to_owned(), &request.cache_from.join(","));
    }
    let inputs = HashMap::from([
        (
            "context".to_owned(),
            llb::context(&archive.url_path(), &archive.checksum),
        ),
        (
            "dockerfile".to_owned(),
            llb::dockerfile(&dockerfile.name, &dockerfile.text),
        ),
    ]);
    SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        options,
        allow_result_return: true,
        allow_result_array_ref: true,
        inputs,
    }
}

/// Sets every time in the image's configuration that is not older to the build's own.
fn stamp(result: &mut BuildResult, epoch: Timestamp) -> Result<(), Status> {
    let is_config =
        |key: &str| key == "containerimage.config" || key.starts_with("containerimage.config/");
    for (key, bytes) in &mut result.metadata {
        if is_config(key) {
            *bytes = stamp_config(bytes, epoch)
                .map_err(|error| Status::internal(format!("image configuration: {error}")))?;
        }
    }
    Ok(())
}

fn stamp_config(bytes: &[u8], epoch: Timestamp) -> serde_json::Result<Vec<u8>> {
    let now = Value::String(epoch.rfc3339());
    let mut config: Value = serde_json::from_slice(bytes)?;
    if let Some(history) = config.get_mut("history").and_then(Value::as_array_mut) {
        for step in history.iter_mut().filter_map(Value::as_object_mut) {
            let older = step
                .get("created")
                .and_then(Value::as_str)
                .and_then(|text| text.parse::<jiff::Timestamp>().ok())
                .is_some_and(|time| time.as_millisecond() <= epoch.0);
            if !older {
                step.insert("created".to_owned(), now.clone());
            }
        }
    }
    if let Some(config) = config.as_object_mut() {
        config.insert("created".to_owned(), now);
    }
    serde_json::to_vec(&config)
}

/// What a failed solve means: trouble that may pass, or a build that said no.
fn failure(status: &Status, vertices: &Vertices<'_>) -> Failed {
    // Only a status made on this side of the wire has a cause.
    if let Some(cause) = std::error::Error::source(status) {
        return broken(WHAT, causes(cause)).into();
    }
    let message = plain(status.message());
    let transport = matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::ResourceExhausted
    );
    if transport || may_pass(message) || message.contains("digest mismatch") {
        let signs = [
            "is closing",
            "no active session",
            "context canceled",
            "code = Canceled",
            "code = Unavailable",
        ];
        return Failed {
            error: broken(WHAT, message),
            from_another: signs.iter().any(|sign| message.contains(sign)),
        };
    }
    let message = vertices.failure().unwrap_or_else(|| message.to_owned());
    EngineError::BuildFailed { message }.into()
}

/// A name nobody else uses: 128 bits from the system's source of hash keys.
fn random_id() -> String {
    let part = |salt: u64| {
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u64(salt);
        hasher.finish()
    };
    let process = Arc::new(0u8);
    let here = Arc::as_ptr(&process).addr() as u64;
    format!(
        "{:016x}{:016x}",
        part(here),
        part(u64::from(std::process::id()))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_clamped_and_everything_else_kept() {
        let config = br#"{"architecture":"amd64","config":{"Env":["A=1"]},"created":"2030-01-01T00:00:00Z",
            "history":[{"created":"2001-02-03T04:05:06.5Z","created_by":"base"},
                       {"created":"2030-01-01T00:00:00Z","created_by":"a"},{"created_by":"b","empty_layer":true}]}"#;
        let epoch = Timestamp(1_600_000_000_000);
        let stamped = stamp_config(config, epoch).expect("valid");
        let value: Value = serde_json::from_slice(&stamped).expect("valid");
        assert_eq!(value["created"], "2020-09-13T12:26:40Z");
        assert_eq!(value["history"][0]["created"], "2001-02-03T04:05:06.5Z");
        assert_eq!(value["history"][1]["created"], "2020-09-13T12:26:40Z");
        assert_eq!(value["history"][2]["created"], "2020-09-13T12:26:40Z");
        assert_eq!(value["history"][2]["empty_layer"], true);
        assert_eq!(value["config"]["Env"][0], "A=1");
        assert!(stamp_config(b"{", epoch).is_err());
    }

    #[test]
    fn names_of_builds_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
