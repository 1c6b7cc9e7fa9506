//! What can go wrong with the journal.

use crate::base::RunId;
use crate::ports::store::StoreError;

/// What can go wrong with the journal.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The store refused. After a failed write every later one fails with the same error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal's task has ended.
    #[error("the journal is closed")]
    Closed,
    /// The writer crashed; a defect of this program.
    #[error("the journal's writer crashed: {0}")]
    Crashed(String),
    /// There is no such run.
    #[error("there is no run {0}; `pipewright runs` lists those there are")]
    NoRun(RunId),
    /// A run was recorded by a newer version.
    #[error(
        "run {run} was recorded by a newer version (event format {found}, this program knows {known}); update pipewright to read it"
    )]
    TooNew {
        /// The run.
        run: RunId,
        /// Version found.
        found: u64,
        /// Newest version known.
        known: u32,
    },
    /// An event of a kind this version does not know.
    #[error(
        "event {seq} of run {run} is of the unknown type \"{kind}\"; a newer version recorded it, update pipewright to read it"
    )]
    UnknownEvent {
        /// The run.
        run: RunId,
        /// Its place.
        seq: u64,
        /// Its type.
        kind: String,
    },
    /// An event that cannot be read.
    #[error("event {seq} of run {run} is damaged: {message}")]
    Damaged {
        /// The run.
        run: RunId,
        /// Its place.
        seq: u64,
        /// What is wrong with it.
        message: String,
    },
}
