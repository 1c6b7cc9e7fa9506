//! Caches and files of stages as archives, so that they can be kept away from this machine. Where
//! they are kept is no business of this port.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::workspace::{Scratch, WorkspaceError};
use crate::base::{Digest, Secret};

/// What of a stage can be archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A cache, by its key.
    Cache(String),
    /// The files a stage of a run produced.
    Files {
        /// The run.
        run: String,
        /// The stage, as a file name.
        stage: String,
    },
}

/// An archive on this machine: a tar stream, compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The digest of what it holds, whatever it was compressed by.
    pub content: Digest,
    /// Files and links in it.
    pub files: u64,
    /// Links that lead out of it, and were left out.
    pub left_out: u64,
}

/// Packs and unpacks what stages keep. Every archive may come from somebody hostile.
#[async_trait]
pub trait Archives: Send + Sync {
    /// Whether there is anything of it on this machine.
    async fn is_kept(&self, what: &Kept) -> Result<bool, WorkspaceError>;

    /// Archives it; nothing if there is nothing of it. Files of more than `largest` bytes in all,
    /// and a file that holds one of the secrets (by name), are errors that name the file.
    async fn pack(
        &self,
        what: &Kept,
        largest: u64,
        secrets: Vec<(String, Secret)>,
    ) -> Result<Option<Archive>, WorkspaceError>;

    /// Makes it out of an archive, all of it or nothing, unless it is there by now. Returns the
    /// number of files. An archive that holds anything but files, directories and links that stay
    /// inside, or more than `largest` bytes, is refused.
    async fn unpack(
        &self,
        archive: &Path,
        what: &Kept,
        largest: u64,
    ) -> Result<u64, WorkspaceError>;

    /// A path for an archive that is on its way here.
    async fn arrival(&self) -> Result<PathBuf, WorkspaceError>;

    /// Removes an archive, or what arrived of one.
    async fn drop_archive(&self, path: &Path);

    /// The digest of all files of a scratch that fit the patterns: of their paths and contents.
    /// Nothing if none does.
    async fn fingerprint(
        &self,
        scratch: &Scratch,
        patterns: &[String],
    ) -> Result<Option<Digest>, WorkspaceError>;
}
