//! Files of the user beside the repository's history: pipelines, reports, drafts.

use std::path::{Path, PathBuf};

/// What can go wrong with a file.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {message}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub message: String,
}

/// A pipeline file: its path as it is shown, and its text or why there is none.
pub type PipelineFile = (String, Result<String, String>);

/// Reads and writes files of the user.
pub trait Files: Send + Sync {
    /// The repository's root above a directory: the nearest that holds `.git`, else the directory.
    fn root(&self, from: &Path) -> PathBuf;

    /// The `*.kdl` files of one directory, sorted. Bounded in number and size.
    fn project(&self, dir: &Path) -> Result<Vec<PipelineFile>, FileError>;

    /// The directory and all below it that hold `*.kdl` files, sorted. Hidden ones are left out.
    fn projects(&self, dir: &Path) -> Result<Vec<PathBuf>, FileError>;

    /// Paths of files below a directory, at most so many levels deep, relative to it, sorted.
    fn walk(&self, dir: &Path, depth: usize) -> Result<Vec<String>, FileError>;

    /// Whether a path is a directory.
    fn is_dir(&self, path: &Path) -> bool;

    /// Reads a text of at most `limit` bytes.
    fn read(&self, path: &Path, limit: u64) -> Result<String, FileError>;

    /// Reads all of standard input, a text of at most `limit` bytes.
    fn input(&self, limit: u64) -> Result<String, FileError>;

    /// Whether there is something at a path.
    fn exists(&self, path: &Path) -> bool;

    /// Writes a file that must not exist yet and that only its owner may read, with its directories.
    fn create_private(&self, path: &Path, text: &str) -> Result<(), FileError>;

    /// Writes a file that must not exist yet, with its directories.
    fn create(&self, path: &Path, text: &str) -> Result<(), FileError>;

    /// Writes a file whole, or not at all.
    fn write(&self, path: &Path, text: &str) -> Result<(), FileError>;

    /// Appends to a file.
    fn append(&self, path: &Path, text: &str) -> Result<(), FileError>;
}
