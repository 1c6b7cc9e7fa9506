//! What a stage works with, and what it answers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Leftovers, Missing, Values};
use crate::base::{RunId, StageId, causes};
use crate::event::{EffectState, Outcome};
use crate::ports::cloud::CloudError;
use crate::ports::cluster::ClusterError;
use crate::ports::engine::EngineError;
use crate::ports::forge::ForgeError;
use crate::ports::notifier::NotifyError;
use crate::ports::process::ProcessError;
use crate::ports::registry::RegistryError;
use crate::ports::scanner::ScanError;
use crate::ports::vcs::VcsError;
use crate::ports::workspace::WorkspaceError;
use crate::ports::{Output, Readers, World};

/// How a stage ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Whether there was anything to do.
    pub up_to_date: bool,
    /// What is worth saying.
    pub note: String,
    /// What it leaves to others.
    pub outputs: BTreeMap<String, String>,
    /// Visible remarks.
    pub warnings: Vec<String>,
}

impl Done {
    /// It did its work.
    pub fn succeeded(note: impl Into<String>) -> Self {
        Self {
            up_to_date: false,
            note: note.into(),
            outputs: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// There was nothing to do.
    pub fn up_to_date(note: impl Into<String>) -> Self {
        Self {
            up_to_date: true,
            ..Self::succeeded(note)
        }
    }

    /// Adds an output.
    #[must_use]
    pub fn output(mut self, name: &str, value: impl Into<String>) -> Self {
        self.outputs.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a remark.
    #[must_use]
    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// Its outcome.
    pub fn outcome(&self) -> Outcome {
        if self.up_to_date {
            Outcome::UpToDate
        } else {
            Outcome::Succeeded
        }
    }
}

/// How a stage ended badly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Failed, errored, timed out, cancelled or skipped.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub message: String,
    /// What it leaves to others all the same, such as the report that says why.
    pub outputs: BTreeMap<String, String>,
}

impl Failure {
    fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self {
            outcome,
            message: message.into(),
            outputs: BTreeMap::new(),
        }
    }

    /// The work said no.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, message)
    }

    /// The infrastructure said no.
    pub fn errored(message: impl Into<String>) -> Self {
        Self::new(Outcome::Errored, message)
    }

    /// It was skipped after all.
    pub fn skipped(message: impl Into<String>) -> Self {
        Self::new(Outcome::Skipped, message)
    }

    /// Somebody stopped it.
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self::new(Outcome::Cancelled, message)
    }

    /// Its time was up.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new(Outcome::TimedOut, message)
    }

    /// Adds what it leaves.
    #[must_use]
    pub fn outputs(mut self, outputs: BTreeMap<String, String>) -> Self {
        self.outputs = outputs;
        self
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match &error {
            EngineError::BuildFailed { .. }
            | EngineError::BadAddress { .. }
            | EngineError::Refused { .. }
            | EngineError::NotFound { .. } => Self::failed(causes(&error)),
            EngineError::Cancelled => Self::cancelled("cancelled"),
            EngineError::Unreachable { name: None, .. } => Self::errored(format!(
                "{}; start a container engine, or point DOCKER_HOST at one",
                causes(&error)
            )),
            EngineError::Unreachable {
                name: Some(name), ..
            } => Self::errored(format!(
                "{}; start it, or correct the address of engine `{name}`",
                causes(&error)
            )),
            EngineError::Broken { .. } => Self::errored(causes(&error)),
        }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        match &error {
            RegistryError::Denied { .. } => Self::failed(format!(
                "{}; check the registry's `login`, or `docker login`",
                causes(&error)
            )),
            RegistryError::Immutable { .. } => Self::failed(format!(
                "{}; give the image a tag of its own, or except the tag from immutability",
                causes(&error)
            )),
            RegistryError::Refused { .. } => Self::failed(causes(&error)),
            _ => Self::errored(causes(&error)),
        }
    }
}

impl From<CloudError> for Failure {
    fn from(error: CloudError) -> Self {
        match &error {
            CloudError::Throttled { .. } | CloudError::Broken { .. } => {
                Self::errored(causes(&error))
            }
            _ => Self::failed(causes(&error)),
        }
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        match &error {
            ClusterError::Throttled { .. } | ClusterError::Broken { .. } => {
                Self::errored(causes(&error))
            }
            _ => Self::failed(causes(&error)),
        }
    }
}

impl From<VcsError> for Failure {
    fn from(error: VcsError) -> Self {
        match &error {
            VcsError::Broken { .. } => Self::errored(causes(&error)),
            VcsError::Denied { .. } => Self::failed(format!(
                "{}; check the repository's `token` or `ssh-key`",
                causes(&error)
            )),
            _ => Self::failed(causes(&error)),
        }
    }
}

impl From<ForgeError> for Failure {
    fn from(error: ForgeError) -> Self {
        match &error {
            ForgeError::Broken { .. } | ForgeError::Throttled { .. } => {
                Self::errored(causes(&error))
            }
            ForgeError::Denied { .. } => Self::failed(format!(
                "{}; check the forge's `token` or `app` and what it is allowed to do",
                causes(&error)
            )),
            ForgeError::NotFound { .. } => Self::failed(format!(
                "{}; check the repository's address, and that the forge's `token` or `app` has access to it",
                causes(&error)
            )),
            _ => Self::failed(causes(&error)),
        }
    }
}

impl From<ProcessError> for Failure {
    fn from(error: ProcessError) -> Self {
        match &error {
            ProcessError::Cancelled => Self::cancelled("cancelled"),
            ProcessError::Start { .. } => Self::failed(causes(&error)),
            ProcessError::Lost { .. } => Self::errored(causes(&error)),
        }
    }
}

impl From<WorkspaceError> for Failure {
    fn from(error: WorkspaceError) -> Self {
        match &error {
            WorkspaceError::Broken { .. } => Self::errored(causes(&error)),
            _ => Self::failed(causes(&error)),
        }
    }
}

impl From<NotifyError> for Failure {
    fn from(error: NotifyError) -> Self {
        match &error {
            NotifyError::Refused(_) => Self::failed(causes(&error)),
            NotifyError::Broken { .. } => Self::errored(causes(&error)),
        }
    }
}

impl From<ScanError> for Failure {
    fn from(error: ScanError) -> Self {
        match &error {
            ScanError::Cancelled => Self::cancelled("cancelled"),
            _ => Self::errored(causes(&error)),
        }
    }
}

impl From<Missing> for Failure {
    fn from(missing: Missing) -> Self {
        missing.failure()
    }
}

/// The journal as a stage sees it: an intent is durable before the change is made.
#[async_trait]
pub trait Effects: Send + Sync {
    /// Records what is about to be changed. Returns once it is durable.
    async fn intend(&self, key: &str, detail: BTreeMap<String, String>) -> Result<(), Failure>;

    /// Records that it was changed.
    async fn done(&self, key: &str, detail: BTreeMap<String, String>) -> Result<(), Failure>;
}

/// What a running stage has.
pub struct StageContext<'a> {
    /// Every port.
    pub world: &'a World,
    /// What references stand for.
    pub values: &'a Values,
    /// The run.
    pub run: &'a RunId,
    /// The stage.
    pub stage: &'a StageId,
    /// Its attempt, from 1.
    pub attempt: u32,
    /// An earlier process worked on this run, and what it began last may not be in the journal.
    pub resumed: bool,
    /// Where it reports.
    pub output: &'a dyn Output,
    /// Tells it to stop.
    pub cancel: CancellationToken,
    /// Tells it to let go at once, also of a change that is half made.
    pub force: CancellationToken,
    /// The journal.
    pub effects: &'a dyn Effects,
    /// Takes what is to be removed from the engine.
    pub leftovers: &'a Leftovers,
    /// What earlier attempts intended.
    pub past: &'a [EffectState],
    /// The files of the commit (or the working tree), to be read only.
    pub tree: PathBuf,
    /// Time between asking and forcing a process to stop.
    pub grace: Duration,
}

impl StageContext<'_> {
    /// Appends a line of our own to the stage's log.
    pub fn say(&self, line: impl AsRef<str>) {
        let mut text = line.as_ref().to_owned();
        text.push('\n');
        self.output.log(text.as_bytes());
    }

    /// The labels by which everything the run makes on an engine can be found.
    pub fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (RUN_LABEL.to_owned(), self.run.to_string()),
            (STAGE_LABEL.to_owned(), self.stage.to_string()),
        ])
    }

    /// What an earlier attempt recorded before a change.
    pub fn intended(&self, key: &str) -> Option<&EffectState> {
        self.past.iter().find(|effect| effect.key == key)
    }

    /// A name on an engine that belongs to this stage of this run.
    pub fn resource(&self, suffix: &str) -> String {
        let stage = self.stage.file_name();
        match suffix {
            "" => format!("pipewright-{}-{stage}", self.run),
            suffix => format!("pipewright-{}-{stage}-{suffix}", self.run),
        }
    }
}

/// Label of everything a run leaves on an engine for a while.
pub const RUN_LABEL: &str = "dev.pipewright.run";
/// Label that names the stage.
pub const STAGE_LABEL: &str = "dev.pipewright.stage";
/// Label of an image: digest of everything it was built from.
pub const INPUTS_LABEL: &str = "dev.pipewright.inputs";

/// What a stage has while it only looks.
pub struct PlanContext<'a> {
    /// The ports that only look.
    pub readers: &'a Readers,
    /// What references stand for.
    pub values: &'a Values,
    /// The stage.
    pub stage: &'a StageId,
    /// The files of the commit (or the working tree).
    pub tree: PathBuf,
    /// Ask nothing of the network or an engine.
    pub offline: bool,
}

/// What a stage would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// In a word.
    pub verdict: Verdict,
    /// Why: the evidence, in a sentence.
    pub reason: String,
    /// Changes it would make, a line each.
    pub effects: Vec<String>,
    /// Differences it would make, as a unified diff.
    pub diff: Option<String>,
    /// Outputs that are known already.
    pub outputs: BTreeMap<String, String>,
}

/// What a stage would do, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It would do its work.
    Run,
    /// There is nothing to do.
    UpToDate,
    /// Its condition is false, or what it needs is skipped.
    Skip,
    /// It depends on something that is only known once something else has run.
    Unknown,
    /// It would fail.
    Fail,
}

impl Verdict {
    /// The word used in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::UpToDate => "up-to-date",
            Self::Skip => "skip",
            Self::Unknown => "unknown",
            Self::Fail => "fail",
        }
    }
}

impl Forecast {
    /// A forecast without effects.
    pub fn new(verdict: Verdict, reason: impl Into<String>) -> Self {
        Self {
            verdict,
            reason: reason.into(),
            effects: Vec::new(),
            diff: None,
            outputs: BTreeMap::new(),
        }
    }

    /// Adds a change it would make.
    #[must_use]
    pub fn effect(mut self, effect: impl Into<String>) -> Self {
        self.effects.push(effect.into());
        self
    }

    /// Adds an output that is known already.
    #[must_use]
    pub fn output(mut self, name: &str, value: impl Into<String>) -> Self {
        self.outputs.insert(name.to_owned(), value.into());
        self
    }

    /// Takes over what an up-to-date stage leaves.
    pub fn from_done(done: Done) -> Self {
        let mut forecast = Self::new(Verdict::UpToDate, done.note);
        forecast.outputs = done.outputs;
        forecast
    }

    /// For a stage that cannot be judged because a value is not known.
    pub fn missing(missing: &Missing) -> Self {
        match missing {
            Missing::Later { .. } => Self::new(Verdict::Unknown, missing.to_string()),
            Missing::Skipped { .. } => Self::new(Verdict::Skip, missing.to_string()),
            _ => Self::new(Verdict::Fail, missing.to_string()),
        }
    }
}
