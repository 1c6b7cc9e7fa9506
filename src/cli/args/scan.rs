//! The arguments of `scan` and `report`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::RunRef;
use crate::base::parse_duration;
use crate::ports::scanner::{ScannerName, Subject};
use crate::scan::Rating;
use crate::scan::gate::Otherwise;

/// Arguments of `scan`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Scan {
    /// The image: one of the engine (`app:1`), `oci:DIR`, `docker-archive:FILE` or
    /// `oci-archive:FILE`
    #[arg(value_name = "IMAGE")]
    pub image: Subject,
    /// How the result is shown; cyclonedx and spdx list what the image holds, without judging it
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: ScanFormat,
    /// Lowest severity that fails
    #[arg(
        long,
        value_name = "SEVERITY",
        default_value = "high",
        help_heading = "Gate"
    )]
    pub fail_on: Severity,
    /// Leave out findings that no version fixes yet
    #[arg(long, help_heading = "Gate")]
    pub ignore_unfixed: bool,
    /// Leave out an advisory; may be repeated
    #[arg(long, value_name = "ID", help_heading = "Gate")]
    pub ignore: Vec<String>,
    /// OpenVEX file that says what does not apply; may be repeated
    #[arg(long, value_name = "FILE", help_heading = "Gate")]
    pub vex: Vec<PathBuf>,
    /// Oldest advisory database accepted, such as `7d`
    #[arg(long, value_name = "AGE", value_parser = duration, help_heading = "Gate")]
    pub max_db_age: Option<Duration>,
    /// What packages mean that the scanner does not read
    #[arg(
        long,
        value_name = "WHAT",
        default_value = "error",
        help_heading = "Gate"
    )]
    pub not_covered: NotCovered,
    /// Scanner to use; Trivy if it is on the path, else the built-in one, if not given
    #[arg(long, value_name = "SCANNER", help_heading = "Scanner")]
    pub scanner: Option<ScannerArg>,
    /// Image to run the scanner from, pinned by digest
    #[arg(
        long,
        value_name = "IMAGE",
        requires = "scanner",
        help_heading = "Scanner"
    )]
    pub scanner_image: Option<String>,
    /// Directory of the scanner's database
    #[arg(long, value_name = "DIR", help_heading = "Scanner")]
    pub database: Option<PathBuf>,
    /// Ask nothing of the network: the database must be there
    #[arg(long, help_heading = "Scanner")]
    pub offline: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration, such as `7d` or `12h`".to_owned())
}

/// How a scan is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScanFormat {
    /// For people
    Table,
    /// For programs: the whole report
    Json,
    /// SARIF 2.1.0, for code hosts and editors
    Sarif,
    /// For job pages and pull requests
    Markdown,
    /// A CycloneDX 1.6 bill of materials
    #[value(name = "cyclonedx")]
    CycloneDx,
    /// An SPDX 2.3 bill of materials
    Spdx,
}

/// A severity that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Severity {
    /// Low and worse
    Low,
    /// Medium and worse
    Medium,
    /// High and worse
    High,
    /// Critical only
    Critical,
}

impl Severity {
    /// The rating of the report.
    pub fn rating(self) -> Rating {
        match self {
            Self::Low => Rating::Low,
            Self::Medium => Rating::Medium,
            Self::High => Rating::High,
            Self::Critical => Rating::Critical,
        }
    }
}

/// What packages mean that were not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NotCovered {
    /// The scan did not work
    Error,
    /// The image does not pass
    Fail,
    /// A remark
    Warn,
    /// Nothing
    Ignore,
}

impl NotCovered {
    /// As the gate has it.
    pub fn otherwise(self) -> Otherwise {
        match self {
            Self::Error => Otherwise::Error,
            Self::Fail => Otherwise::Fail,
            Self::Warn => Otherwise::Warn,
            Self::Ignore => Otherwise::Ignore,
        }
    }
}

/// A scanner by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScannerArg {
    /// Aqua Trivy
    Trivy,
    /// Anchore Grype
    Grype,
    /// The one in this program
    Builtin,
}

impl ScannerArg {
    /// As the scanners have it.
    pub fn name(self) -> ScannerName {
        match self {
            Self::Trivy => ScannerName::Trivy,
            Self::Grype => ScannerName::Grype,
            Self::Builtin => ScannerName::Builtin,
        }
    }
}

/// Arguments of `report`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Report {
    /// The run: its id, the end of its id, or `last`
    #[arg(value_name = "RUN")]
    pub run: RunRef,
    /// The stage; all that scanned if not given
    #[arg(value_name = "STAGE")]
    pub stage: Option<String>,
    /// How it is shown
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: ReportFormat,
}

/// How a kept report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    Table,
    /// For programs: the whole report
    Json,
    /// SARIF 2.1.0, for code hosts and editors
    Sarif,
    /// For job pages and pull requests
    Markdown,
    /// The CycloneDX bill of materials that was kept with it
    #[value(name = "cyclonedx")]
    CycloneDx,
}
