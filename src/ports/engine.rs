//! A container engine: images, builds, containers, networks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::registry::Target;
use super::{Output, Retry};
use crate::base::{Digest, Secret, Text, Timestamp};

/// What can go wrong with an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine answers.
    #[error("no container engine answers at {address}")]
    Unreachable {
        /// The address tried.
        address: String,
        /// The engine's name in the pipeline; none for the local one.
        name: Option<String>,
        /// What the transport said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What should lead to an engine does not.
    #[error("engine `{name}` cannot be reached by its address \"{address}\": {message}")]
    BadAddress {
        /// The engine's name in the pipeline.
        name: String,
        /// Its address.
        address: String,
        /// What is wrong with it.
        message: String,
    },
    /// The thing named does not exist.
    #[error("{what} does not exist on the engine")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The build itself said no: a failing `RUN`, a Dockerfile that does not parse.
    #[error("{message}")]
    BuildFailed {
        /// What BuildKit said.
        message: String,
    },
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The engine refused: bad request, conflict, name in use.
    #[error("the engine refused {what}: {message}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What the engine said.
        message: String,
    },
    /// The engine broke off or answered with an error of its own.
    #[error("the engine failed at {what}: {message}")]
    Broken {
        /// What was asked for.
        what: String,
        /// What the engine or the transport said.
        message: String,
    },
}

impl EngineError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => Retry::After(None),
            _ => Retry::Never,
        }
    }
}

/// An image on the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalImage {
    /// `sha256:…`; on the classic store the digest of the image's configuration.
    pub id: String,
    /// Labels of the image configuration.
    pub labels: BTreeMap<String, String>,
    /// `repository:tag` names it has on this engine.
    pub tags: Vec<String>,
    /// `repository@sha256:…` names it has on this engine.
    pub digests: Vec<String>,
    /// Size in bytes.
    pub size: u64,
    /// `os/architecture[/variant]`.
    pub platform: String,
}

/// What an image would be built from, without building.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFacts {
    /// Digest over every entry the build can see (path, mode, kind, content), in path order,
    /// and the Dockerfile. Independent of modification times and of the machine.
    pub digest: Digest,
    /// Text of the Dockerfile.
    pub dockerfile: String,
    /// Number of entries after `.dockerignore`.
    pub entries: u64,
    /// Bytes of file content after `.dockerignore`.
    pub bytes: u64,
}

/// One image to build.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// Root of the build context: a directory that does not change during the run.
    pub context: PathBuf,
    /// The Dockerfile, relative to the context's root.
    pub dockerfile: PathBuf,
    /// Stage of the Dockerfile to stop at.
    pub target: Option<String>,
    /// `os/architecture[/variant]`; the engine's own if absent.
    pub platform: Option<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// Build secrets by id, mounted with `RUN --mount=type=secret`; never part of the image.
    pub secrets: BTreeMap<String, Secret>,
    /// Labels to put on the image.
    pub labels: BTreeMap<String, String>,
    /// `repository:tag` names to give the image on the engine.
    pub tags: Vec<String>,
    /// Images whose inline or registry cache may be used.
    pub cache_from: Vec<String>,
    /// Embed inline cache metadata in the image, so that a later `cache_from` can use it.
    pub inline_cache: bool,
    /// The time stamped on the image and on context files.
    pub epoch: Timestamp,
    /// Registries that base images may be pulled from with these credentials.
    pub registries: Vec<Target>,
}

/// An image to send to a registry.
#[derive(Clone, Debug)]
pub struct PushRequest {
    /// Image id on the engine.
    pub id: String,
    /// Where it goes.
    pub target: Target,
    /// Repository within the registry.
    pub repository: String,
    /// Tag to create.
    pub tag: String,
}

/// What the registry made of a pushed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Layers that were already there.
    pub layers_reused: u64,
    /// Layers that were sent.
    pub layers_sent: u64,
}

/// A container to create.
#[derive(Clone, Debug, Default)]
pub struct ContainerSpec {
    /// Name on the engine; unique.
    pub name: String,
    /// Image reference or id.
    pub image: String,
    /// Replaces the image's entry point; `Some(vec![])` clears it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Environment.
    pub env: Vec<(String, Text)>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Working directory.
    pub workdir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Bind mounts and volumes.
    pub mounts: Vec<Mount>,
    /// Network to join; the engine's default bridge if absent.
    pub network: Option<Network>,
    /// Ports to publish, `[[host-address:]host-port:]container-port[/udp]`.
    pub publish: Vec<String>,
    /// Restart with the engine and after a crash.
    pub restart: bool,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// Text to feed on standard input, then closed.
    pub stdin: Option<String>,
}

/// A mount of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Absolute host path (bind) or volume name.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Whether the container may only read.
    pub read_only: bool,
}

/// How a container is networked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// No network at all.
    None,
    /// The host's own.
    Host,
    /// A user-defined network, with names the container can be reached by.
    Named {
        /// The network's name or id.
        name: String,
        /// Host names within the network.
        aliases: Vec<String>,
    },
}

/// A container as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    /// Its id.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// Id of the image it runs.
    pub image_id: String,
    /// Reference it was created from.
    pub image: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its process runs.
    pub running: bool,
    /// Exit status, once it has run.
    pub exit_code: Option<i64>,
    /// What the image's health check says.
    pub health: Health,
    /// Address on its first network, if it has one.
    pub address: Option<String>,
    /// Host ports by container port: `("80/tcp", "0.0.0.0:8080")`.
    pub ports: Vec<(String, String)>,
}

/// A container's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The image has no health check.
    NoCheck,
    /// Not decided yet.
    Starting,
    /// Passing.
    Healthy,
    /// Failing.
    Unhealthy,
}

/// Looks at an engine.
#[async_trait]
pub trait EngineReader: Send + Sync {
    /// Version and platform, for people: `Docker 20.10.24 linux/amd64`.
    async fn version(&self) -> Result<String, EngineError>;

    /// An image by id, tag or digest reference.
    async fn image(&self, reference: &str) -> Result<Option<LocalImage>, EngineError>;

    /// Images that carry a label with a value.
    async fn images_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<LocalImage>, EngineError>;

    /// A container by name or id.
    async fn container(&self, name: &str) -> Result<Option<ContainerState>, EngineError>;

    /// Containers, running or not, that carry a label with a value.
    async fn containers_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<ContainerState>, EngineError>;

    /// What a build would see. Reads only the file system.
    async fn context(&self, context: &Path, dockerfile: &Path)
    -> Result<ContextFacts, EngineError>;
}

/// Changes an engine. Every call is safe to repeat.
#[async_trait]
pub trait Engine: EngineReader {
    /// Builds an image with BuildKit and returns its id.
    async fn build(
        &self,
        request: &BuildRequest,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<String, EngineError>;

    /// Sends an image to a registry. The engine skips blobs that are already there.
    async fn push(
        &self,
        request: &PushRequest,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Pushed, EngineError>;

    /// Fetches an image if the engine does not have it, and returns its id.
    async fn pull(
        &self,
        reference: &str,
        credentials: Option<&Target>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<String, EngineError>;

    /// Removes a tag; the image stays if it has others. Absent is fine.
    async fn untag(&self, reference: &str) -> Result<(), EngineError>;

    /// Creates a container, without starting it, and returns its id.
    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError>;

    /// Starts a container. Running already is fine.
    async fn start(&self, id: &str) -> Result<(), EngineError>;

    /// Starts a created container, follows its output from the first byte, and returns its exit
    /// status. On cancellation stops it (`SIGTERM`, grace, `SIGKILL`) and answers `Cancelled`.
    async fn run(
        &self,
        id: &str,
        stdin: Option<&str>,
        output: &dyn Output,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError>;

    /// Follows the output of a container that may already run, and returns its exit status.
    async fn attach(
        &self,
        id: &str,
        output: &dyn Output,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError>;

    /// Runs a command in a running container and returns its exit status.
    async fn exec(
        &self,
        id: &str,
        command: &[String],
        output: &dyn Output,
    ) -> Result<i64, EngineError>;

    /// The last lines a container printed.
    async fn tail(&self, id: &str, lines: usize) -> Result<String, EngineError>;

    /// Stops a container within a grace time. Stopped or absent is fine.
    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError>;

    /// Renames a container.
    async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError>;

    /// Removes a container with its anonymous volumes, killing it if needed. Absent is fine.
    async fn remove(&self, id: &str) -> Result<(), EngineError>;

    /// Creates a bridge network and returns its id; an existing one of that name is returned.
    async fn create_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError>;

    /// Removes a network. Absent is fine.
    async fn remove_network(&self, name: &str) -> Result<(), EngineError>;

    /// Removes every container, network and volume that carries a label with a value, and
    /// returns what was removed, for the log.
    async fn reap(&self, label: &str, value: &str) -> Result<Vec<String>, EngineError>;
}
