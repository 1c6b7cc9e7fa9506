//! Vulnerability scanners: one typed report, whatever tool made it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Output;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rating {
    /// Not rated.
    Unknown,
    /// Low.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

/// One vulnerable package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Advisory id: `CVE-…`, `GHSA-…`.
    pub id: String,
    /// Other ids of the same advisory.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The first version without the problem, if there is one.
    pub fixed: Option<String>,
    /// How bad it is.
    pub rating: Rating,
    /// One line about it.
    pub title: String,
}

/// What a scanner found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The scanner and its version.
    pub scanner: String,
    /// Findings, in the scanner's order.
    pub findings: Vec<Finding>,
    /// Packages looked at.
    pub packages: u64,
}

/// What can go wrong with a scan.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// No scanner can be run here.
    #[error("no scanner is available: {0}")]
    Unavailable(String),
    /// The scanner could not do its work. Never to be read as "no findings".
    #[error("the scanner could not run: {0}")]
    Broken(String),
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Scans images.
#[async_trait]
pub trait Scanner: Send + Sync {
    /// Scans an image that the engine has. `choice` names a scanner; absent means whichever is there.
    async fn scan(
        &self,
        image: &str,
        choice: Option<&str>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Report, ScanError>;
}
