//! Processes on this host.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Output;
use crate::base::Text;

/// What can go wrong with a process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// What was to be started.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Reading its output or waiting for it failed.
    #[error("lost track of {program}: {source}")]
    Lost {
        /// What was started.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The caller cancelled; the whole process tree is gone.
    #[error("cancelled")]
    Cancelled,
}

/// What to start.
#[derive(Clone, Debug)]
pub enum Program {
    /// A program and its arguments, found on the path.
    Command(Vec<String>),
    /// A script: `bash -euo pipefail` if there is bash, else `sh -eu`.
    Script(String),
}

/// A process to start.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// What to start.
    pub program: Program,
    /// Working directory.
    pub workdir: PathBuf,
    /// The environment beside the allow list (`PATH HOME USER LANG LC_* TZ TMPDIR …`).
    pub env: Vec<(String, Text)>,
    /// Marks every process of the tree (an environment variable), so that a later process can
    /// find what is left of it: `RUN/STAGE`.
    pub marker: String,
    /// Time between `SIGTERM` and `SIGKILL` on cancellation.
    pub grace: Duration,
}

/// Starts processes.
#[async_trait]
pub trait Host: Send + Sync {
    /// Runs a process to its end, its output (standard output and error in one order) going to
    /// `output`; returns its exit status, 128 + signal if a signal ended it. When it returns,
    /// no descendant is left, also none that left the process group.
    async fn run(
        &self,
        spec: &ProcessSpec,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<i32, ProcessError>;

    /// Waits until somebody asks this process to stop (`SIGINT`, `SIGTERM`) and says how, for
    /// people. `None` if such requests cannot be heard.
    async fn asked_to_stop(&self) -> Option<String>;

    /// Kills whatever is left of processes with a marker that starts with `prefix`, and returns
    /// how many there were.
    async fn reap(&self, prefix: &str) -> usize;
}
