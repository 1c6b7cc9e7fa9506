//! Containers: create, run, follow, stop, remove.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ExecConfig, HealthStatusEnum,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RenameContainerOptionsBuilder, StartContainerOptions, StopContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use super::Docker;
use super::error::{broken, check_name, check_reference, refused};
use super::image::label_filter;
use super::spec::body;
use crate::ports::Output;
use crate::ports::engine::{ContainerSpec, ContainerState, EngineError, Health, Network};

/// Most bytes [`Docker::tail_container`] returns.
const MAX_TAIL: usize = 1 << 20;
/// How much longer than the grace time a container may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(30);
/// Containers looked at in parallel.
const PARALLEL: usize = 8;
/// Longest time between the moment a name is taken and the moment its container can be seen.
const UNSEEN: Duration = Duration::from_secs(20);

impl Docker {
    pub(super) async fn find_container(
        &self,
        name: &str,
    ) -> Result<Option<ContainerState>, EngineError> {
        Ok(self.inspect(name).await?.map(state))
    }

    async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, EngineError> {
        let what = format!("container {name}");
        check_name(&what, name)?;
        let found = self
            .client
            .api
            .inspect_container(name, None::<InspectContainerOptions>)
            .await;
        match found.map_err(|error| self.client.error(&what, error)) {
            Ok(found) => Ok(Some(found)),
            Err(EngineError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Ids of containers, running or not, that carry a label.
    pub(super) async fn container_ids(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<(String, String)>, EngineError> {
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&label_filter(label, value))
            .build();
        let found = self
            .client
            .api
            .list_containers(Some(options))
            .await
            .map_err(|error| self.client.error("the list of containers", error))?;
        let pair = |summary: bollard::models::ContainerSummary| {
            let id = summary.id?;
            let name = summary.names.and_then(|names| names.into_iter().next());
            let name = name.map_or_else(
                || id.clone(),
                |name| name.trim_start_matches('/').to_owned(),
            );
            Some((id, name))
        };
        Ok(found.into_iter().filter_map(pair).collect())
    }

    pub(super) async fn find_containers(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<ContainerState>, EngineError> {
        let ids = self.container_ids(label, value).await?;
        let states: Vec<Option<ContainerState>> = futures_util::stream::iter(ids)
            .map(|(id, _)| async move { self.find_container(&id).await })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        Ok(states.into_iter().flatten().collect())
    }

    pub(super) async fn create_container(
        &self,
        spec: &ContainerSpec,
    ) -> Result<String, EngineError> {
        let what = format!("container {}", spec.name);
        check_name(&what, &spec.name)?;
        check_reference(&spec.image)?;
        let body = body(spec).map_err(|message| refused(&what, message))?;
        let options = CreateContainerOptionsBuilder::new()
            .name(&spec.name)
            .build();
        let deadline = tokio::time::Instant::now() + UNSEEN;
        loop {
            let created = self
                .client
                .api
                .create_container(Some(options.clone()), body.clone())
                .await;
            let error = match created {
                Ok(created) => return Ok(created.id),
                Err(error) => error,
            };
            let message = match error {
                Error::DockerResponseServerError {
                    status_code: 404,
                    message,
                } => {
                    return Err(EngineError::NotFound {
                        what: missing(spec, &message),
                    });
                }
                Error::DockerResponseServerError {
                    status_code: 409,
                    message,
                } => message,
                error => return Err(self.client.error(&what, error)),
            };
            // The answer to an earlier try of the same call may have been lost.
            match self.inspect(&spec.name).await? {
                Some(found) if is_same_and_fresh(&found, spec) => {
                    return Ok(found.id.unwrap_or_else(|| spec.name.clone()));
                }
                // The engine gives a name away before it shows the container: that call, of a
                // process that was killed meanwhile, is still on its way.
                None if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                _ => return Err(refused(&what, message)),
            }
        }
    }

    pub(super) async fn start_container(&self, id: &str) -> Result<(), EngineError> {
        let what = format!("container {id}");
        check_name(&what, id)?;
        // The engine answers "not modified" if it runs already, which counts as success.
        self.client
            .api
            .start_container(id, None::<StartContainerOptions>)
            .await
            .map_err(|error| self.client.error(&what, error))
    }

    pub(super) async fn run_container(
        &self,
        id: &str,
        stdin: Option<&str>,
        output: &dyn Output,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError> {
        let what = format!("container {id}");
        check_name(&what, id)?;
        if cancel.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        let options = AttachContainerOptionsBuilder::new()
            .stream(true)
            .stdout(true)
            .stderr(true)
            .stdin(stdin.is_some())
            .build();
        let attached = self
            .client
            .api
            .attach_container(id, Some(options))
            .await
            .map_err(|error| self.client.error(&what, error))?;
        self.start_container(id).await?;
        let mut input = attached.input;
        let feed = async {
            if let Some(text) = stdin {
                // A process that ends without reading all of it is no error of ours.
                let _ = input.write_all(text.as_bytes()).await;
                let _ = input.flush().await;
            }
            let _ = input.shutdown().await;
        };
        let follow = async {
            let (code, ()) = tokio::join!(self.follow(id, &what, attached.output, output), async {
                if stdin.is_some() {
                    feed.await;
                }
            });
            code
        };
        self.until_cancelled(id, follow, grace, cancel).await
    }

    pub(super) async fn attach_container(
        &self,
        id: &str,
        output: &dyn Output,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError> {
        let what = format!("container {id}");
        let found = self.inspect(id).await?;
        let found = found.ok_or_else(|| EngineError::NotFound { what: what.clone() })?;
        if !has_started(&found) {
            return Err(refused(&what, "it was never started"));
        }
        let options = LogsOptionsBuilder::new()
            .follow(true)
            .stdout(true)
            .stderr(true)
            .tail("all")
            .build();
        let logs = self.client.api.logs(id, Some(options));
        let follow = self.follow(id, &what, logs, output);
        self.until_cancelled(id, follow, grace, cancel).await
    }

    /// Passes on everything a started container prints, and waits for its end meanwhile: asking
    /// only afterwards would cost short containers another round trip.
    async fn follow(
        &self,
        id: &str,
        what: &str,
        from: impl Stream<Item = Result<LogOutput, Error>>,
        output: &dyn Output,
    ) -> Result<i64, EngineError> {
        let printed = async {
            let mut from = std::pin::pin!(from);
            while let Some(piece) = from.next().await {
                let piece = piece.map_err(|error| self.client.error(what, error))?;
                output.log_shared(piece.into_bytes());
            }
            Ok(())
        };
        let ((), code) = tokio::try_join!(printed, self.ended(id, what))?;
        Ok(code)
    }

    /// Waits until a started container has ended, and returns its exit status.
    async fn ended(&self, id: &str, what: &str) -> Result<i64, EngineError> {
        let options = WaitContainerOptionsBuilder::new()
            .condition("not-running")
            .build();
        let mut ended = std::pin::pin!(self.client.api.wait_container(id, Some(options)));
        match ended.next().await {
            Some(Ok(ended)) => Ok(ended.status_code),
            Some(Err(Error::DockerContainerWaitError { code, error })) if error.is_empty() => {
                Ok(code)
            }
            Some(Err(Error::DockerContainerWaitError { error, .. })) => Err(broken(what, error)),
            Some(Err(error)) => Err(self.client.error(what, error)),
            None => Err(broken(what, "the engine did not say how it ended")),
        }
    }

    /// Waits for `follow`; on cancellation stops the container, its output still followed.
    async fn until_cancelled(
        &self,
        id: &str,
        follow: impl Future<Output = Result<i64, EngineError>>,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError> {
        let mut follow = std::pin::pin!(follow);
        tokio::select! {
            biased;
            ended = &mut follow => return ended,
            () = cancel.cancelled() => {}
        }
        let rest = tokio::time::timeout(grace + AFTER_KILL, follow);
        // Whether it stopped or the engine is gone, the caller asked for an end and gets it; what
        // is left behind is found by its label.
        let _ = tokio::join!(self.stop_container(id, grace), rest);
        Err(EngineError::Cancelled)
    }

    pub(super) async fn exec_in_container(
        &self,
        id: &str,
        command: &[String],
        output: &dyn Output,
    ) -> Result<i64, EngineError> {
        let what = format!("a command in container {id}");
        check_name(&what, id)?;
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..Default::default()
        };
        let api = &self.client.api;
        let failed = |error| self.client.error(&what, error);
        let exec = api.create_exec(id, config).await.map_err(failed)?.id;
        match api.start_exec(&exec, None).await.map_err(failed)? {
            StartExecResults::Attached {
                output: mut pieces, ..
            } => {
                while let Some(piece) = pieces.next().await {
                    output.log(&piece.map_err(failed)?.into_bytes());
                }
            }
            StartExecResults::Detached => {}
        }
        let ended = api.inspect_exec(&exec).await.map_err(failed)?;
        ended
            .exit_code
            .ok_or_else(|| broken(&what, "the engine did not say how it ended"))
    }

    pub(super) async fn tail_container(
        &self,
        id: &str,
        lines: usize,
    ) -> Result<String, EngineError> {
        let what = format!("the output of container {id}");
        check_name(&what, id)?;
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .tail(&lines.to_string())
            .build();
        let mut pieces = std::pin::pin!(self.client.api.logs(id, Some(options)));
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| self.client.error(&what, error))?;
            text.extend_from_slice(&piece.into_bytes());
            if text.len() > 2 * MAX_TAIL {
                text.drain(..text.len() - MAX_TAIL);
            }
        }
        let from = text.len().saturating_sub(MAX_TAIL);
        Ok(String::from_utf8_lossy(&text[from..]).into_owned())
    }

    pub(super) async fn stop_container(
        &self,
        id: &str,
        grace: Duration,
    ) -> Result<(), EngineError> {
        let what = format!("stopping container {id}");
        check_name(&what, id)?;
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let options = StopContainerOptionsBuilder::new()
            .t(i32::try_from(seconds).unwrap_or(i32::MAX))
            .build();
        let api = self.client.api.clone().with_timeout(grace + AFTER_KILL);
        let stopped = api.stop_container(id, Some(options)).await;
        match stopped.map_err(|error| self.client.error(&what, error)) {
            Ok(()) | Err(EngineError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn rename_container(&self, id: &str, name: &str) -> Result<(), EngineError> {
        let what = format!("renaming container {id} to {name}");
        check_name(&what, id)?;
        check_name(&what, name)?;
        let options = RenameContainerOptionsBuilder::new().name(name).build();
        let Err(error) = self.client.api.rename_container(id, options).await else {
            return Ok(());
        };
        let error = self.client.error(&what, error);
        match self.find_container(id).await {
            Ok(Some(found)) if found.name == name => Ok(()),
            _ => Err(error),
        }
    }

    pub(super) async fn remove_container(&self, id: &str) -> Result<(), EngineError> {
        let what = format!("removing container {id}");
        check_name(&what, id)?;
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        let deadline = tokio::time::Instant::now() + UNSEEN;
        loop {
            let removed = self
                .client
                .api
                .remove_container(id, Some(options.clone()))
                .await;
            match removed {
                Ok(()) => return Ok(()),
                // Somebody else is removing it this moment, perhaps for a process that was killed
                // meanwhile. Its name is free only once that is done, so it is waited for.
                Err(Error::DockerResponseServerError {
                    status_code: 409,
                    message,
                }) if message.contains("already in progress")
                    && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => {
                    return match self.client.error(&what, error) {
                        EngineError::NotFound { .. } => Ok(()),
                        error => Err(error),
                    };
                }
            }
        }
    }
}

/// What a 404 to a creation means: mostly the image, sometimes a network or volume.
fn missing(spec: &ContainerSpec, message: &str) -> String {
    match (&spec.network, message) {
        (Some(Network::Named { name, .. }), message) if message.contains("network") => {
            format!("network {name}")
        }
        _ => format!("image {}", spec.image),
    }
}

/// Whether a container is the one asked for and nobody started it yet.
fn is_same_and_fresh(found: &ContainerInspectResponse, spec: &ContainerSpec) -> bool {
    let Some(config) = &found.config else {
        return false;
    };
    let labels = config.labels.clone().unwrap_or_default();
    !has_started(found)
        && config.image.as_deref() == Some(spec.image.as_str())
        && spec
            .labels
            .iter()
            .all(|(name, value)| labels.get(name) == Some(value))
        && (spec.command.is_none() || config.cmd == spec.command)
}

fn has_started(found: &ContainerInspectResponse) -> bool {
    let status = found.state.as_ref().and_then(|state| state.status);
    !matches!(status, None | Some(ContainerStateStatusEnum::CREATED))
}

fn state(found: ContainerInspectResponse) -> ContainerState {
    let started = has_started(&found);
    let process = found.state.unwrap_or_default();
    let config = found.config.unwrap_or_default();
    let running = process.running.unwrap_or(false);
    let health = match process.health.and_then(|health| health.status) {
        None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) => Health::NoCheck,
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
    };
    let network = found.network_settings.unwrap_or_default();
    let networks: BTreeMap<_, _> = network.networks.unwrap_or_default().into_iter().collect();
    let address = networks
        .into_values()
        .filter_map(|endpoint| endpoint.ip_address)
        .find(|address| !address.is_empty());
    let mut ports = Vec::new();
    for (container, bindings) in network.ports.unwrap_or_default() {
        for binding in bindings.unwrap_or_default() {
            let host = binding.host_ip.unwrap_or_default();
            let host = if host.contains(':') {
                format!("[{host}]")
            } else {
                host
            };
            let port = binding.host_port.unwrap_or_default();
            ports.push((container.clone(), format!("{host}:{port}")));
        }
    }
    ports.sort_unstable();
    ContainerState {
        id: found.id.unwrap_or_default(),
        name: found
            .name
            .unwrap_or_default()
            .trim_start_matches('/')
            .to_owned(),
        image_id: found.image.unwrap_or_default(),
        image: config.image.unwrap_or_default(),
        labels: config.labels.map(BTreeMap::from_iter).unwrap_or_default(),
        running,
        exit_code: process.exit_code.filter(|_| started && !running),
        health,
        address,
        ports,
    }
}
