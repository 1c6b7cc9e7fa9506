//! Vulnerability scanners: one typed report, whatever tool made it.

use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Output;
use crate::scan::Report;

/// What can go wrong with a scan. None of it may be read as "no findings".
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// No scanner can be run here.
    #[error("no scanner is available: {0}")]
    Unavailable(String),
    /// The scanner runs, but has no advisories to compare with.
    #[error("the scanner has no advisory database: {0}")]
    NoDatabase(String),
    /// The scanner could not do its work.
    #[error("the scanner could not run: {0}")]
    Broken(String),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// A scanner we know how to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScannerName {
    /// Aqua Trivy.
    Trivy,
    /// Anchore Grype.
    Grype,
    /// The one in this program.
    Builtin,
}

impl ScannerName {
    /// As it is written in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Trivy => "trivy",
            Self::Grype => "grype",
            Self::Builtin => "builtin",
        }
    }
}

/// A scanner somebody asked for, and how to run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannerChoice {
    /// Which.
    pub name: ScannerName,
    /// Image to run it from, pinned by digest; a program on the path if absent.
    pub image: Option<String>,
    /// Neither fetch nor update databases.
    pub offline: bool,
    /// Directory of its database or cache; its own default if absent.
    pub database: Option<PathBuf>,
}

/// Scans images.
#[async_trait]
pub trait Scanner: Send + Sync {
    /// Scans an image that the engine has, by id. Without a choice: Trivy if it is on the path,
    /// else the one in this program; the log says which and why.
    async fn scan(
        &self,
        image: &str,
        choice: Option<&ScannerChoice>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Report, ScanError>;
}
