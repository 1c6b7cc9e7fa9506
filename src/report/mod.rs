//! Consumers of a run's signals: a live tree, plain lines, JSON lines, a summary, JUnit, Markdown.
//!
//! Reporters only write to what the caller hands them. They know neither the terminal nor the
//! clock: both come in as closures. A reporter whose reader went away falls silent; it never
//! fails a run.

mod critical;
mod flood;
mod frame;
mod json;
mod junit;
mod markdown;
mod plain;
mod sink;
mod style;
mod summary;
mod tail;
pub mod text;
mod tree;
mod tty;

use bytes::Bytes;

use crate::base::{RunId, StageId, Timestamp};
use crate::event::{Recorded, RunState};

pub use critical::critical_path;
pub use json::Json;
pub use junit::junit;
pub use markdown::markdown;
pub use plain::Plain;
pub use style::{Style, Tone};
pub use summary::{Summary, summary};
pub use tty::{Terminal, Tty};

/// Something a reporter hears of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Something happened in a run.
    Event(Recorded),
    /// A stage printed something.
    Log {
        /// The run.
        run: RunId,
        /// The stage.
        stage: StageId,
        /// What it printed, already masked; may begin and end anywhere, even within a character.
        bytes: Bytes,
    },
    /// A part of a stage's work went on.
    Progress {
        /// The run.
        run: RunId,
        /// The stage.
        stage: StageId,
        /// Stable within the stage.
        id: String,
        /// What the part is, for people.
        label: String,
        /// Units done (bytes for transfers).
        done: u64,
        /// Units in all, if known.
        total: Option<u64>,
        /// How it stands.
        state: PartState,
    },
}

/// How a part of a stage's work stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartState {
    /// Being done.
    Running,
    /// Done.
    Done,
    /// Taken from a cache or already where it should be.
    Cached,
    /// Went wrong.
    Failed,
}

impl PartState {
    /// The word used in files and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cached => "cached",
            Self::Failed => "failed",
        }
    }
}

/// Shows signals to somebody.
pub trait Reporter: Send {
    /// Takes one signal in. Cheap; a live reporter draws in [`Reporter::tick`].
    fn signal(&mut self, signal: &Signal);

    /// Hands what was written to the reader: no other signal waits. Thousands of short stages
    /// would otherwise cost one write for each of their lines.
    fn settle(&mut self) {}

    /// Gives the reporter a chance to draw. Called about ten times a second.
    fn tick(&mut self);

    /// Writes what is left, once all signals were given.
    fn finish(&mut self);
}

/// Tells the time of day.
pub type Now = Box<dyn Fn() -> Timestamp + Send>;

/// A run to write about after the fact.
#[derive(Clone, Copy, Debug)]
pub struct RunReport<'a> {
    /// What its events tell.
    pub state: &'a RunState,
    /// Which stage waited for which: (first, then). Ends that are no stages of the run (virtual
    /// nodes) count as taking no time.
    pub edges: &'a [(StageId, StageId)],
}

impl<'a> RunReport<'a> {
    /// A run whose edges are not known.
    pub const fn new(state: &'a RunState) -> Self {
        Self { state, edges: &[] }
    }

    /// A run and its edges.
    pub const fn with_edges(state: &'a RunState, edges: &'a [(StageId, StageId)]) -> Self {
        Self { state, edges }
    }

    fn pipeline(&self) -> &'a str {
        self.state
            .created
            .as_ref()
            .map_or("?", |created| created.pipeline.as_str())
    }

    fn id(&self) -> &'a str {
        self.state.run.as_ref().map_or("?", RunId::as_str)
    }

    fn short_id(&self) -> &'a str {
        self.state.run.as_ref().map_or("?", RunId::short)
    }
}

#[cfg(test)]
mod fixture;
