//! The repository that holds the pipelines and the sources they build.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::archive::Archives;
use crate::base::Commit;

/// What can go wrong with the source repository.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// There is no repository.
    #[error("{path} is not inside a git repository")]
    NoRepository {
        /// Where one was looked for.
        path: PathBuf,
    },
    /// A revision does not exist.
    #[error("revision \"{revision}\" does not exist in this repository")]
    NoRevision {
        /// What was asked for.
        revision: String,
    },
    /// A path leads outside the repository or is not there.
    #[error("{path}: {message}")]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// Reading or writing failed.
    #[error("{what}: {message}")]
    Broken {
        /// What was done.
        what: String,
        /// What the system or git said.
        message: String,
    },
}

/// Looks at the source repository.
#[async_trait]
pub trait WorkspaceReader: Send + Sync {
    /// Facts of a revision (`HEAD` if absent). `reference` is a branch, a tag, a full ref or a sha.
    async fn commit(&self, reference: Option<&str>) -> Result<Commit, WorkspaceError>;

    /// Whether the working tree differs from `HEAD` (untracked files count, ignored ones do not).
    async fn is_dirty(&self) -> Result<bool, WorkspaceError>;

    /// Paths that differ between two commits, relative to the root; `None` if `from` is not known here.
    async fn changed(&self, from: &str, to: &str) -> Result<Option<Vec<String>>, WorkspaceError>;

    /// A file of a commit, or of the working tree if `sha` is absent; `None` if it is not there.
    /// At most `limit` bytes, else an error.
    async fn read(
        &self,
        sha: Option<&str>,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, WorkspaceError>;

    /// Names in a directory of a commit, or of the working tree if `sha` is absent; `None` if it is
    /// no directory there.
    async fn entries(
        &self,
        sha: Option<&str>,
        path: &Path,
    ) -> Result<Option<Vec<String>>, WorkspaceError>;

    /// A directory that holds exactly the files of a commit, to be read only; made once, shared by
    /// all that ask. Belongs to the state directory.
    async fn tree(&self, sha: &str) -> Result<PathBuf, WorkspaceError>;

    /// The working tree itself, for `--dirty`.
    fn root(&self) -> &Path;
}

/// A scratch copy for one stage.
#[derive(Clone, Debug)]
pub struct Scratch {
    /// Its root.
    pub path: PathBuf,
}

/// Makes and removes working directories of stages.
#[async_trait]
pub trait Workspace: WorkspaceReader + Archives {
    /// A private, writable copy of `tree` for an attempt of a stage of a run, an empty directory if
    /// `tree` is absent. Nobody else has it until it is discarded; its path says nothing of the
    /// stage, and a later stage may get the same one.
    async fn scratch(
        &self,
        run: &str,
        stage: &str,
        tree: Option<&Path>,
    ) -> Result<Scratch, WorkspaceError>;

    /// Takes files that a stage produced (globs relative to the scratch root) into the run's
    /// artifacts. Returns the number of files and of bytes. Symlinks that leave the scratch are refused.
    async fn collect(
        &self,
        run: &str,
        stage: &str,
        scratch: &Scratch,
        patterns: &[String],
    ) -> Result<(u64, u64), WorkspaceError>;

    /// Lays the artifacts of a stage of a run over a directory.
    async fn restore(&self, run: &str, stage: &str, into: &Path) -> Result<(), WorkspaceError>;

    /// A persistent directory of this project for a cache key.
    async fn cache(&self, key: &str) -> Result<PathBuf, WorkspaceError>;

    /// Makes `root/path` a symbolic link to a directory outside, replacing what is there.
    async fn link(&self, root: &Path, path: &Path, target: &Path) -> Result<(), WorkspaceError>;

    /// Reads a file below a directory, at most `limit` bytes; `None` if it is not there.
    async fn read_below(
        &self,
        root: &Path,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, WorkspaceError>;

    /// Removes a stage's scratch.
    async fn discard(&self, scratch: Scratch);

    /// Removes everything a run left but its artifacts.
    async fn sweep(&self, run: &str);
}
