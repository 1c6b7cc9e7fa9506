//! Runs a plan: a pure scheduler decides, an async loop acts, the journal remembers.

mod cancel;
mod chain;
mod definition;
mod execute;
mod groups;
mod output;
mod place;
mod run;
pub mod schedule;
mod stage;
mod take;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use cancel::Cancel;
pub use chain::{NewRun, create, create_with, rerun, take_back};
use definition::sites;
pub use definition::{Definition, sites_of};
pub use execute::{Ended, execute};
pub use take::{Drawn, Ready, Taken, take};

use crate::base::{RunId, StageId};
use crate::journal::{Journal, JournalError};
use crate::plan::PlanError;
use crate::ports::store::StoreError;
use crate::ports::{Progress, World};

/// Why a run cannot go on at all.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The journal cannot be written; nothing was done without it.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no valid plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The stored definition does not load any more.
    #[error("the stored definition of run {0} cannot be read: {1}")]
    Definition(RunId, String),
}

/// Receives what stages print and how far they are, while it happens. Events come through the
/// journal.
pub trait Feed: Send + Sync {
    /// Bytes a stage printed, masked.
    fn log(&self, run: &RunId, stage: &StageId, bytes: &Bytes);

    /// How far a part of a stage's work is.
    fn progress(&self, run: &RunId, stage: &StageId, progress: Progress);
}

/// What an engine works with.
#[derive(Clone)]
pub struct Engine {
    /// Every port.
    pub world: World,
    /// The single writer.
    pub journal: Journal,
    /// Who watches.
    pub feed: Arc<dyn Feed>,
    /// Stages with local work that may run at once.
    pub jobs: usize,
    /// Time between asking and forcing a process to stop.
    pub grace: Duration,
    /// Whether runs start the runs chained to them.
    pub chain: bool,
}
