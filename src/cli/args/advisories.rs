//! Arguments of `advisories`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ListFormat;

/// Arguments of `advisories`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Advisories {
    /// Directory of the database; PIPEWRIGHT_ADVISORIES, or pipewright/advisories in the user's
    /// directory for data, if not given
    #[arg(long, value_name = "DIR", global = true)]
    pub database: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: AdvisoriesCommand,
}

/// What to do with the database of advisories.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum AdvisoriesCommand {
    /// Read advisories in OSV's format into the database
    ///
    /// Takes OSV's archives (all.zip), single records, directories of either, and https addresses.
    /// What an archive is published for (npm, Debian with all its releases) replaces what the
    /// database has of it, in one step: scans that run at the same time see all of the old or all
    /// of the new. Records that cannot be read are named; the others are imported all the same.
    #[command(after_help = "\
Examples:
  pipewright advisories import https://osv-vulnerabilities.storage.googleapis.com/Debian/all.zip
  pipewright advisories import npm.zip PyPI.zip      archives that were brought along
  pipewright advisories import /mnt/mirror           every .zip and .json below it
  pipewright advisories import all.zip --only Debian --only npm

Exit status: 0 all was imported, 1 some records are broken or a family was not replaced, 2 wrong
use, 3 nothing was imported.")]
    Import(Import),
    /// Show what the database has, and how old it is
    #[command(after_help = "\
Examples:
  pipewright advisories status                  families, records, dates
  pipewright advisories status --format json    with every release, for programs")]
    Status(Status),
}

/// Arguments of `advisories import`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Import {
    /// Files, directories, or https addresses
    #[arg(value_name = "FILE|DIR|URL", required = true)]
    pub sources: Vec<String>,
    /// Only this family of what the sources hold, such as Debian, Alpine, npm, Go; may be repeated
    #[arg(long, value_name = "FAMILY")]
    pub only: Vec<String>,
    /// Replace a family also by one of less than half as many records
    #[arg(long)]
    pub allow_fewer: bool,
}

/// Arguments of `advisories status`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Status {
    /// How it is shown
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ListFormat,
}
