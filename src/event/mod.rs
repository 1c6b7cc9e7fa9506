//! What happens in a run, as data: the closed, versioned set of events and [`RunState`], the
//! fold over them that every reader (terminal, `show`, resume, a page) uses.
//!
//! Events are appended by the engine only. Stages emit logs and progress, which are not events
//! and are not kept in the journal.

mod chosen;
mod outcome;
mod state;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use chosen::Chosen;
pub use outcome::Outcome;
pub use state::{EffectState, RunState, StageState};

use crate::base::{Commit, RunId, StageId, Timestamp};

/// Version of the event format, recorded in every [`Event::RunCreated`].
pub const VERSION: u32 = 1;

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum Event {
    /// A run exists. Always the first event of a run.
    RunCreated(Box<RunCreated>),
    /// A process took the run and works on it.
    RunStarted {
        /// From 1; more after a resume or a rerun.
        attempt: u32,
        /// The names of stages this attempt starts anew although they had ended.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reset: Vec<StageId>,
    },
    /// A stage began an attempt.
    StageStarted {
        /// The stage.
        stage: StageId,
        /// From 1 within the stage.
        attempt: u32,
    },
    /// A stage is about to change the world. Durable before the change is made.
    Intent {
        /// The stage.
        stage: StageId,
        /// Which change, in the stage's own words; the same change has the same key.
        key: String,
        /// What is needed to examine it after a crash.
        detail: BTreeMap<String, String>,
    },
    /// The change of an earlier [`Event::Intent`] is known to have been made.
    Effect {
        /// The stage.
        stage: StageId,
        /// The key of the intent.
        key: String,
        /// What came of it.
        detail: BTreeMap<String, String>,
    },
    /// A stage's attempt went wrong and another follows.
    StageRetried {
        /// The stage.
        stage: StageId,
        /// How the attempt ended.
        outcome: Outcome,
        /// Why.
        reason: String,
        /// Wait before the next attempt, in milliseconds.
        wait_ms: u64,
    },
    /// A stage waits for a place in a concurrency group.
    StageWaiting {
        /// The stage.
        stage: StageId,
        /// The group.
        group: String,
    },
    /// A stage ended.
    StageFinished {
        /// The stage.
        stage: StageId,
        /// How.
        outcome: Outcome,
        /// Why, in a sentence; empty if there is nothing to say.
        reason: String,
        /// What it leaves to others.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        outputs: BTreeMap<String, String>,
        /// Its failure does not count (`allow-failure`).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        allowed: bool,
    },
    /// Something worth a line that is no outcome.
    Warning {
        /// The stage, if it is about one.
        stage: Option<StageId>,
        /// What.
        message: String,
    },
    /// Somebody asked for the run to stop.
    CancelRequested {
        /// Who or what.
        by: String,
    },
    /// A run of another pipeline was started because this one ended.
    ChainCreated {
        /// The new run.
        run: RunId,
        /// Its pipeline.
        pipeline: String,
    },
    /// The run ended.
    RunFinished {
        /// How.
        outcome: Outcome,
    },
}

/// The birth certificate of a run: enough to go on with it without reading its definition again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunCreated {
    /// [`VERSION`] at the time.
    pub version: u32,
    /// The pipeline.
    pub pipeline: String,
    /// The commit it runs at.
    pub commit: Commit,
    /// Whether it runs the working tree instead of the commit.
    pub dirty: bool,
    /// What started it.
    pub trigger: Trigger,
    /// Inputs given by hand.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Variables as resolved.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// What was chosen for images by watching their registries, in this run or in the one it
    /// follows from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub watched: BTreeMap<String, Chosen>,
    /// The run it was chained from.
    pub upstream: Option<Upstream>,
    /// The first run of its chain; itself if it was not chained.
    pub root: RunId,
    /// Blob that holds the project's files as they were.
    pub definition: String,
    /// Directory of the project, relative to the repository root.
    pub project: String,
    /// Names of only those stages that were asked for; all if empty.
    #[serde(default)]
    pub only: Vec<String>,
    /// Whether it runs in the simulated world.
    #[serde(default)]
    pub simulated: bool,
    /// The stages, in declaration order.
    pub stages: Vec<StageId>,
}

impl RunCreated {
    /// The run whose end began this one. A run that goes back has the values of the one it was, and
    /// follows from nothing but a person's word: it is the newest of all.
    pub fn follows(&self) -> Option<&Upstream> {
        match self.trigger {
            Trigger::Rollback { .. } => None,
            _ => self.upstream.as_ref(),
        }
    }
}

/// What started a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Trigger {
    /// A person.
    Manual,
    /// A push to a branch or of a tag.
    Push {
        /// The branch's commit before, if known.
        #[serde(default)]
        before: Option<String>,
    },
    /// A pull request.
    PullRequest {
        /// The branch it wants to go to.
        base: String,
        /// Its number.
        number: u64,
    },
    /// A schedule.
    Schedule,
    /// Another pipeline's run.
    Pipeline,
    /// A registry that was watched.
    Watch,
    /// A person who wants back what ran before.
    Rollback {
        /// The run that had deployed it.
        of: RunId,
        /// The revision to which each stage goes back.
        to: BTreeMap<StageId, String>,
    },
}

/// The run another one was chained from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// The run.
    pub run: RunId,
    /// Its attempt.
    pub attempt: u32,
    /// Its pipeline.
    pub pipeline: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Its stages' outputs, `kind.name.output` → value.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
}

/// An event with its place in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Position in the journal.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// The run.
    pub run: RunId,
    /// What.
    pub event: Event,
}
