//! Vulnerability scanners: one typed report, whatever tool made it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Output;
use crate::scan::{Inventory, Report};

/// What can go wrong with a scan. None of it may be read as "no findings".
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// No scanner can be run here.
    #[error("no scanner is available: {0}")]
    Unavailable(String),
    /// The scanner runs, but has no advisories to compare with, or only some it refuses as too old.
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScannerChoice {
    /// Which; the one that would be taken without a choice if absent.
    pub name: Option<ScannerName>,
    /// Image to run it from, pinned by digest; a program on the path if absent.
    pub image: Option<String>,
    /// Neither fetch nor update databases.
    pub offline: bool,
    /// Directory of its database or cache; its own default if absent.
    pub database: Option<PathBuf>,
}

/// Whether a reference names exactly one image for ever.
pub fn is_pinned(image: &str) -> bool {
    image.split_once("@sha256:").is_some_and(|(name, hex)| {
        !name.is_empty() && hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// An image to look into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// One that the engine has, by id or reference.
    Engine(String),
    /// A directory in the OCI image layout.
    OciLayout(PathBuf),
    /// A tar archive as `docker save` writes it.
    DockerArchive(PathBuf),
    /// A tar archive of an OCI image layout.
    OciArchive(PathBuf),
}

/// A text that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an image of the engine (`app:1`), `oci:DIR`, `docker-archive:FILE` or `oci-archive:FILE`"
)]
pub struct SubjectError;

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        type Kind = (&'static str, fn(PathBuf) -> Subject);
        let kinds: [Kind; 3] = [
            ("oci:", Self::OciLayout),
            ("docker-archive:", Self::DockerArchive),
            ("oci-archive:", Self::OciArchive),
        ];
        for (prefix, subject) in kinds {
            if let Some(path) = text.strip_prefix(prefix) {
                return match path {
                    "" => Err(SubjectError),
                    path => Ok(subject(PathBuf::from(path))),
                };
            }
        }
        // What begins with a dash would be an option to another program.
        if text.is_empty() || text.starts_with('-') || text.contains(char::is_whitespace) {
            return Err(SubjectError);
        }
        Ok(Self::Engine(text.to_owned()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(reference) => f.write_str(reference),
            Self::OciLayout(path) => write!(f, "oci:{}", path.display()),
            Self::DockerArchive(path) => write!(f, "docker-archive:{}", path.display()),
            Self::OciArchive(path) => write!(f, "oci-archive:{}", path.display()),
        }
    }
}

/// A scan somebody wants.
#[derive(Clone, Copy, Debug)]
pub struct ScanRequest<'a> {
    /// The image.
    pub subject: &'a Subject,
    /// The scanner; without it Trivy if it is on the path, else the one in this program.
    pub choice: Option<&'a ScannerChoice>,
    /// Labels of every container it starts, so that what a killed process leaves is found.
    pub labels: &'a BTreeMap<String, String>,
}

/// What came of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// What was found.
    pub report: Report,
    /// What the image holds, if the scanner is the one in this program.
    pub inventory: Option<Inventory>,
}

impl From<Report> for Scanned {
    fn from(report: Report) -> Self {
        Self {
            report,
            inventory: None,
        }
    }
}

/// Scans images.
#[async_trait]
pub trait Scanner: Send + Sync {
    /// Scans an image. The log says which scanner is used and why.
    async fn scan(
        &self,
        request: &ScanRequest<'_>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Scanned, ScanError>;

    /// Lists what an image holds, by the readers of this program, whichever scanner is there.
    async fn inventory(
        &self,
        subject: &Subject,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Inventory, ScanError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_read_and_written() {
        for text in [
            "app:1",
            "localhost:5000/a@sha256:00",
            "oci:/tmp/layout",
            "docker-archive:a.tar",
            "oci-archive:b.tar",
        ] {
            let subject: Subject = text.parse().expect("it names an image");
            assert_eq!(subject.to_string(), text);
        }
        for text in ["", "oci:", "--config=x", "a b"] {
            assert_eq!(text.parse::<Subject>(), Err(SubjectError), "{text:?}");
        }
    }
}
