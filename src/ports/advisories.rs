//! The local database of advisories: what the built-in scanner asks, and how it is filled.
//!
//! Reading is described where it is used, beside the matching; writing is the import alone.

use std::path::PathBuf;

use async_trait::async_trait;

pub use crate::scan::osv::{AdvisoryReader, Family, ReadError};

/// Where advisories come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportSource {
    /// A zip, a single record, or a directory of them.
    Path(PathBuf),
    /// A zip or a record on a server.
    Url(String),
}

/// What to import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportRequest {
    /// Where from.
    pub sources: Vec<ImportSource>,
    /// Only these families; all that the sources are about if empty.
    pub only: Vec<String>,
    /// Replace a family also by one of less than half as many records.
    pub allow_fewer: bool,
}

/// A record, or a part of one, that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The file it came in.
    pub name: String,
    /// What is wrong.
    pub why: String,
}

/// A family that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What is there now.
    pub family: Family,
    /// Records that were there before.
    pub before: Option<u64>,
}

/// A family that was kept as it was, because the new one has far fewer records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its name.
    pub family: String,
    /// Records it has.
    pub has: u64,
    /// Records it would have had.
    pub offered: u64,
}

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Families that were replaced, by name.
    pub imported: Vec<Imported>,
    /// Families that were kept.
    pub refused: Vec<Refused>,
    /// Families that records name beside those they were published for, and how many records do.
    pub left_out: Vec<(String, u64)>,
    /// The first broken records.
    pub broken: Vec<Broken>,
    /// Broken records in all.
    pub broken_count: u64,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A source that cannot be read or holds no advisories.
    #[error("{what}: {why}")]
    Source {
        /// The file or address.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// The database's directory cannot be used.
    #[error("{what}: {why}")]
    Store {
        /// The file or directory.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// Another process imports.
    #[error("another process is importing into {0}; wait until it is done")]
    Busy(String),
}

/// Fills the database.
#[async_trait]
pub trait AdvisoryWriter: Send + Sync {
    /// Replaces families by what the sources hold. Each family is replaced in one step: readers
    /// see all of the old or all of the new. An error leaves all as it was.
    async fn import(&self, request: ImportRequest) -> Result<ImportReport, ImportError>;
}
