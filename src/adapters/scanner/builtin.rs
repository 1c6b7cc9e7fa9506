//! The scanner in this program: the inventory of an image, matched with the local database of
//! advisories. Asks nothing of the network.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::adapters::advisories::AdvisoryStore;
use crate::adapters::docker::Docker;
use crate::adapters::http::Http;
use crate::adapters::image::{self, ImageError, ImageSource};
use crate::base::Timestamp;
use crate::ports::Output;
use crate::ports::advisories::AdvisoryReader as _;
use crate::ports::engine::EngineError;
use crate::ports::scanner::{ScanError, Scanned, ScannerChoice, Subject};
use crate::scan::osv::{Matches, findings};
use crate::scan::{Inventory, Location, Report, Tool, Uncovered};

/// What the built-in scanner needs beside the image.
pub(super) struct Builtin {
    /// Where the advisories of this user are, if the environment names a home.
    pub(super) advisories: Option<PathBuf>,
    pub(super) http: Http,
    pub(super) now: fn() -> Timestamp,
}

/// Lists what an image holds.
pub(super) async fn inventory(
    engine: Option<&Docker>,
    subject: &Subject,
    output: &dyn Output,
    cancel: &CancellationToken,
) -> Result<Inventory, ScanError> {
    let source = match subject {
        Subject::Engine(reference) => ImageSource::Engine {
            docker: engine.cloned().map(Box::new).ok_or_else(|| {
                ScanError::Unavailable("there is no container engine to read images of".to_owned())
            })?,
            reference: reference.clone(),
        },
        Subject::OciLayout(directory) => ImageSource::Layout {
            directory: directory.clone(),
            reference: None,
        },
        Subject::DockerArchive(file) | Subject::OciArchive(file) => ImageSource::Archive {
            file: file.clone(),
            reference: None,
        },
    };
    Ok(image::inventory(&source, output, cancel).await?)
}

impl Builtin {
    /// Scans an image.
    pub(super) async fn scan(
        &self,
        engine: Option<&Docker>,
        subject: &Subject,
        choice: &ScannerChoice,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Scanned, ScanError> {
        let Some(directory) = choice.database.as_ref().or(self.advisories.as_ref()) else {
            return Err(ScanError::NoDatabase(
                "the environment names no home for it; set PIPEWRIGHT_ADVISORIES".to_owned(),
            ));
        };
        let store = AdvisoryStore::new(directory.clone(), self.http.clone(), self.now);
        let inventory = inventory(engine, subject, output, cancel).await?;
        let place = directory.display().to_string();
        let matched = tokio::task::spawn_blocking(move || {
            let families = store.families()?;
            let matches = findings(&inventory, &store)?;
            Ok((inventory, families, matches))
        });
        let matched = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(ScanError::Cancelled),
            matched = matched => matched,
        };
        let (inventory, families, matches) = matched
            .map_err(|error| ScanError::Broken(format!("matching failed: {error}")))?
            .map_err(|error: crate::ports::advisories::ReadError| {
                ScanError::Broken(error.to_string())
            })?;
        if families.is_empty() && !inventory.packages.is_empty() {
            return Err(ScanError::NoDatabase(format!(
                "{place} holds none; `pipewright advisories import` reads OSV's archives"
            )));
        }
        Ok(Scanned {
            report: report(&inventory, matches),
            inventory: Some(inventory),
        })
    }
}

fn report(inventory: &Inventory, matches: Matches) -> Report {
    let tool = Tool {
        name: "builtin".to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
    };
    let nowhere = || Location {
        path: String::new(),
        layer: None,
    };
    let mut uncovered = inventory.uncovered.clone();
    uncovered.extend(matches.uncovered);
    uncovered.extend(matches.missing.into_iter().map(|ecosystem| Uncovered {
        what: format!("packages of {}", ecosystem.0),
        location: nowhere(),
        why: "the database has no advisories of it; import them".to_owned(),
    }));
    let mut report = Report {
        database: Some(matches.database),
        packages: inventory.packages.len() as u64,
        findings: matches.findings,
        uncovered,
        distro: inventory.distro.clone(),
        ..Report::new(tool, &inventory.image)
    };
    report.doubt_emptiness();
    report.settle();
    report
}

impl From<ImageError> for ScanError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Cancelled | ImageError::Engine(EngineError::Cancelled) => Self::Cancelled,
            ImageError::Engine(EngineError::Unreachable { .. }) => {
                Self::Unavailable(error.to_string())
            }
            _ => Self::Broken(error.to_string()),
        }
    }
}
