//! Durable storage of runs: events, log bytes, small facts. The state directory.
//!
//! Bytes in, bytes out: what an event means is not the store's business. Two processes may use
//! one state directory at the same time.

use bytes::Bytes;

use crate::base::{RunId, Timestamp};

/// What can go wrong with the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No room left. Nothing of the failed write is kept.
    #[error("the state directory is full: {0}")]
    Full(String),
    /// The state was written by a newer version.
    #[error(
        "the state directory was written by a newer version (schema {found}, this program knows {known})"
    )]
    TooNew {
        /// Version found.
        found: i64,
        /// Newest version known.
        known: i64,
    },
    /// Somebody else holds what we need.
    #[error("{0}")]
    Held(String),
    /// Anything else.
    #[error("the state directory failed: {0}")]
    Broken(String),
}

/// One event as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Position in the whole journal, from 1, without gaps visible to a reader of one run.
    pub seq: u64,
    /// When it was appended.
    pub at: Timestamp,
    /// The run it belongs to.
    pub run: RunId,
    /// The event as JSON.
    pub json: String,
}

/// One event to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// When it happened.
    pub at: Timestamp,
    /// The run it belongs to.
    pub run: RunId,
    /// The event as JSON.
    pub json: String,
}

/// One line of the index of runs, kept by the store beside the events so that lists are fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// Its pipeline.
    pub pipeline: String,
    /// When it was created.
    pub created: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Its outcome, once it ended.
    pub outcome: Option<String>,
    /// Commit it runs at.
    pub sha: String,
    /// Branch or tag it runs for.
    pub reference: String,
    /// The run that it was chained from.
    pub upstream: Option<RunId>,
    /// The first run of the chain; itself if it was not chained.
    pub root: RunId,
}

/// The scope of facts that tell at which commit a pipeline last succeeded, by `pipeline branch`.
pub const LAST_SUCCESS: &str = "last-success";

/// What to keep. A run is forgotten if any limit says so.
///
/// Never forgotten: a run that has not ended or is held, one that such a run was chained from,
/// and, unless `successes` is 0, the newest success of each pipeline on each branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Forget runs that were created before.
    pub before: Option<Timestamp>,
    /// Keep at most so many runs.
    pub runs: Option<usize>,
    /// Keep at most so many bytes of events and logs.
    pub bytes: Option<u64>,
    /// So many newest successes of each pipeline stay in any case.
    pub successes: usize,
    /// Only say what would be forgotten.
    pub dry: bool,
}

/// What was forgotten, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs, oldest first.
    pub runs: Vec<RunId>,
    /// Bytes of what they left.
    pub bytes: u64,
    /// Caches that nobody used.
    pub caches: usize,
}

/// Reads the store.
pub trait StoreReader: Send + Sync {
    /// Events of a run with `seq` greater than `after`, oldest first, at most `limit`.
    fn events(&self, run: &RunId, after: u64, limit: usize)
    -> Result<Vec<StoredEvent>, StoreError>;

    /// The newest runs first, at most `limit`, of one pipeline if one is named.
    fn runs(&self, pipeline: Option<&str>, limit: usize) -> Result<Vec<RunRow>, StoreError>;

    /// One run's row.
    fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError>;

    /// Runs whose id ends with a text (short ids), at most 10.
    fn runs_ending(&self, suffix: &str) -> Result<Vec<RunRow>, StoreError>;

    /// Runs that were chained from a run, oldest first.
    fn chained(&self, upstream: &RunId) -> Result<Vec<RunRow>, StoreError>;

    /// Runs that have no outcome yet.
    fn unfinished(&self) -> Result<Vec<RunRow>, StoreError>;

    /// A small fact by scope and key.
    fn fact(&self, scope: &str, key: &str) -> Result<Option<String>, StoreError>;

    /// A blob by the hex digest it was put under.
    fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Whether a live process holds a run right now.
    fn is_held(&self, run: &RunId) -> Result<bool, StoreError>;

    /// Log bytes of a stage from an offset (of uncompressed bytes), at most `limit`; empty at
    /// the present end.
    fn log(
        &self,
        run: &RunId,
        stage_file: &str,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<u8>, StoreError>;
}

/// A lock on a run, a group or the like. Released on drop and when the process dies.
pub trait Hold: Send + Sync {}

/// Appends to the log of one stage.
pub trait LogWriter: Send {
    /// Appends masked bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// The same for bytes that may be kept until they are written, instead of copied.
    fn write_shared(&mut self, bytes: &Bytes) -> Result<(), StoreError> {
        self.write(bytes)
    }

    /// Makes everything written so far readable by others.
    fn flush(&mut self) -> Result<(), StoreError>;
}

/// Changes to commit with a batch of events, in the same transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A run was created.
    CreateRun(RunRow),
    /// A run ended.
    FinishRun {
        /// The run.
        run: RunId,
        /// When.
        at: Timestamp,
        /// How.
        outcome: String,
    },
    /// A finished run goes on (a resume or rerun).
    ReopenRun(RunId),
    /// A small fact is set.
    SetFact {
        /// Scope, such as `history` or `group`.
        scope: String,
        /// Key within the scope.
        key: String,
        /// Value.
        value: String,
    },
}

/// Writes the store.
pub trait Store: StoreReader {
    /// Appends events and changes as one transaction; returns the `seq` of each event. Once it
    /// returns, the batch survives `kill -9`.
    fn append(&self, events: &[NewEvent], changes: &[Change]) -> Result<Vec<u64>, StoreError>;

    /// Keeps bytes by content; returns the hex digest.
    fn put_blob(&self, bytes: &[u8]) -> Result<String, StoreError>;

    /// Takes a run for this process.
    fn hold_run(&self, run: &RunId) -> Result<Box<dyn Hold>, StoreError>;

    /// Tries to take a place in a named group that admits `limit` holders; `None` if it is full.
    /// `order` decides who is next among those waiting: smaller first. Waiting places vanish when
    /// their process dies.
    fn enter_group(
        &self,
        group: &str,
        limit: u32,
        order: &str,
    ) -> Result<Option<Box<dyn Hold>>, StoreError>;

    /// Gives up waiting for a group under `order`.
    fn leave_group(&self, group: &str, order: &str);

    /// Opens the log of a stage for appending.
    fn log_writer(&self, run: &RunId, stage_file: &str) -> Result<Box<dyn LogWriter>, StoreError>;

    /// Asks the process that holds a run to cancel it.
    fn request_cancel(&self, run: &RunId, by: &str) -> Result<(), StoreError>;

    /// Whether somebody asked for a run to be cancelled, and who.
    fn cancel_requested(&self, run: &RunId) -> Result<Option<String>, StoreError>;
}
