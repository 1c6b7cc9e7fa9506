//! What the core asks of the world, in its own words: no SDK types, no implementation.
//!
//! Reading and writing traits are apart. A plan gets [`Readers`], so that it cannot change
//! anything; a run gets the whole [`World`].

pub mod advisories;
pub mod archive;
pub mod bucket;
pub mod clock;
pub mod cloud;
pub mod cluster;
pub mod doorbell;
pub mod engine;
pub mod engines;
pub mod files;
pub mod forge;
pub mod gitops;
pub mod notifier;
pub mod process;
pub mod registry;
pub mod scanner;
pub mod secrets;
pub mod services;
pub mod store;
pub mod vcs;
pub mod workspace;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::LateSecrets;

/// Where work reports what it does while it does it.
///
/// Calls are synchronous and cheap. Bytes may hold secrets: the receiver masks them. A receiver
/// that cannot keep up slows the caller down instead of growing.
pub trait Output: Send + Sync {
    /// Appends raw bytes to the log of the work at hand.
    fn log(&self, bytes: &[u8]);

    /// Appends raw bytes that the receiver may keep instead of copying them. Worth it for large
    /// pieces only: they are counted by what they hold, not by the memory behind them.
    fn log_shared(&self, bytes: Bytes) {
        self.log(&bytes);
    }

    /// Tells how far a part of the work is. May be dropped under load.
    fn progress(&self, progress: Progress);
}

/// How far one part of a stage's work is: a BuildKit vertex, a layer on its way to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Stable within the stage.
    pub id: String,
    /// What the part is, for people.
    pub label: String,
    /// Units done (bytes for transfers).
    pub done: u64,
    /// Units in all, if known.
    pub total: Option<u64>,
    /// How it stands.
    pub state: ProgressState,
}

/// How a part of a stage's work stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// Being done.
    Running,
    /// Done.
    Done,
    /// Taken from a cache or already where it should be.
    Cached,
    /// Went wrong.
    Failed,
}

/// An [`Output`] that forgets everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Output for Silent {
    fn log(&self, _bytes: &[u8]) {}
    fn progress(&self, _progress: Progress) {}
}

/// Whether an error of a port is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same call will fail the same way.
    Never,
    /// The same call may succeed later, after at least this long if the other side said so.
    After(Option<Duration>),
}

/// The ports that only look.
#[derive(Clone)]
pub struct Readers {
    /// Wall-clock time.
    pub clock: Arc<dyn clock::Clock>,
    /// The repository that holds the pipelines and the sources.
    pub workspace: Arc<dyn workspace::WorkspaceReader>,
    /// The local container engine's images and containers.
    pub engine: Arc<dyn engine::EngineReader>,
    /// Other container engines, by name and address.
    pub engines: Arc<dyn engines::EngineReaders>,
    /// Image registries.
    pub registry: Arc<dyn registry::RegistryReader>,
    /// Manifest repositories.
    pub vcs: Arc<dyn vcs::VcsReader>,
    /// Forges, where pull requests live.
    pub forge: Arc<dyn forge::ForgeReader>,
    /// Accounts of a cloud.
    pub cloud: Arc<dyn cloud::CloudReader>,
    /// Buckets of those accounts.
    pub buckets: Arc<dyn bucket::BucketReader>,
    /// Sources of secrets.
    pub secrets: Arc<dyn secrets::SecretReader>,
    /// Services that keep tasks running in a cloud.
    pub services: Arc<dyn services::ServicesReader>,
    /// Servers that keep a cluster equal to a repository.
    pub gitops: Arc<dyn gitops::GitOpsReader>,
    /// Clusters that keep workloads running.
    pub clusters: Arc<dyn cluster::ClusterReader>,
    /// Secrets that come up while we work, to be masked like the others.
    pub late: LateSecrets,
    /// What earlier runs recorded.
    pub store: Arc<dyn store::StoreReader>,
}

/// Every port: what a run may use.
#[derive(Clone)]
pub struct World {
    /// The ports that only look.
    pub readers: Readers,
    /// Checkouts of the source repository.
    pub workspace: Arc<dyn workspace::Workspace>,
    /// The local container engine.
    pub engine: Arc<dyn engine::Engine>,
    /// Other container engines, by name and address.
    pub engines: Arc<dyn engines::Engines>,
    /// Image registries.
    pub registry: Arc<dyn registry::Registry>,
    /// Manifest repositories.
    pub vcs: Arc<dyn vcs::Vcs>,
    /// Forges, where pull requests live.
    pub forge: Arc<dyn forge::Forge>,
    /// Processes on this host.
    pub host: Arc<dyn process::Host>,
    /// Chat and web hooks.
    pub notifier: Arc<dyn notifier::Notifier>,
    /// Vulnerability scanners.
    pub scanner: Arc<dyn scanner::Scanner>,
    /// Services that keep tasks running in a cloud.
    pub services: Arc<dyn services::Services>,
    /// Servers that keep a cluster equal to a repository.
    pub gitops: Arc<dyn gitops::GitOps>,
    /// Clusters that keep workloads running.
    pub clusters: Arc<dyn cluster::Clusters>,
    /// Buckets of accounts of a cloud.
    pub buckets: Arc<dyn bucket::Buckets>,
    /// The journal's storage.
    pub store: Arc<dyn store::Store>,
}
