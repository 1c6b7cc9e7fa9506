//! What commands work with, and how they end.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{Global, RunRef};
use crate::base::{RunId, Timestamp};
use crate::ports::World;
use crate::ports::advisories::{AdvisoryReader, AdvisoryWriter};
use crate::ports::files::{FileError, Files};
use crate::ports::scanner::Scanner;
use crate::ports::store::{Pruned, Retention, Store, StoreError, StoreReader};
use crate::report::Style;

/// Everything a command works with.
pub struct App<'a> {
    /// Options of every command.
    pub global: &'a Global,
    /// The directory it was started in.
    pub here: PathBuf,
    /// Files of the user.
    pub files: &'a dyn Files,
    /// Opens what only some commands need.
    pub worlds: &'a dyn Worlds,
    /// Where output goes.
    pub screen: Screen,
    /// The time of day.
    pub now: fn() -> Timestamp,
    /// Processors of this machine.
    pub processors: usize,
}

/// Opens the world.
#[async_trait::async_trait]
pub trait Worlds: Sync {
    /// The state directory, if it is there already.
    fn existing(&self, state: &Path) -> Option<Arc<dyn Store>>;

    /// Forgets runs of a state directory with all they left; none if there is no such directory.
    fn prune(&self, state: &Path, policy: &Retention) -> Result<Option<Pruned>, Failure>;

    /// The real world of a repository and its state directory.
    fn real(&self, root: &Path, state: &Path) -> Result<World, Failure>;

    /// The database of advisories: of a directory, or of this user.
    fn advisories(&self, directory: Option<&Path>) -> Result<AdvisoryDatabase, Failure>;

    /// Scanners of this host, which put what they need for a while into the state directory.
    fn scanner(&self, state: &Path) -> Result<Arc<dyn Scanner>, Failure>;

    /// Takes notifications of registries that show a secret.
    async fn listen(
        &self,
        address: std::net::SocketAddr,
        secret: crate::base::Secret,
    ) -> Result<Arc<dyn crate::ports::doorbell::Doorbell>, Failure>;

    /// A simulated world with the pipelines and files of a repository at a commit, and this around
    /// them.
    fn simulated(
        &self,
        commit: crate::base::Commit,
        files: Vec<(String, String)>,
        around: crate::stage::Scenery,
    ) -> World;
}

/// The database of advisories.
pub struct AdvisoryDatabase {
    /// Where it is.
    pub place: PathBuf,
    /// What it knows.
    pub reader: Arc<dyn AdvisoryReader>,
    /// Fills it.
    pub writer: Arc<dyn AdvisoryWriter>,
}

/// Where output goes and what it may look like.
#[derive(Clone)]
pub struct Screen {
    /// Opens standard output.
    pub out: fn() -> Box<dyn Write + Send>,
    /// Colours and symbols.
    pub style: Style,
    /// Whether standard output is a terminal.
    pub terminal: bool,
    /// Columns and rows.
    pub size: fn() -> (usize, usize),
}

/// How a command ended: the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// It did what was asked.
    pub const SUCCESS: Self = Self(0);
    /// There are findings; the run did not succeed.
    pub const FAILED: Self = Self(1);
    /// It was asked for in a wrong way.
    pub const USAGE: Self = Self(2);
    /// It could not do what was asked.
    pub const INTERNAL: Self = Self(3);
    /// It was told to stop.
    pub const CANCELLED: Self = Self(130);
}

/// Why a command could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// Why.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Failure {
    /// Asked for in a wrong way.
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            exit: Exit::USAGE,
            message: message.into(),
            help: Some(help.into()),
        }
    }

    /// Something it needs does not work.
    pub fn internal(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::INTERNAL,
            message: message.into(),
            help: None,
        }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self {
            exit: Exit::USAGE,
            message: error.to_string(),
            help: None,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<crate::plan::PlanError> for Failure {
    fn from(error: crate::plan::PlanError) -> Self {
        Self::usage(error.message, error.help)
    }
}

impl From<crate::ports::workspace::WorkspaceError> for Failure {
    fn from(error: crate::ports::workspace::WorkspaceError) -> Self {
        use crate::ports::workspace::WorkspaceError as Error;
        match &error {
            Error::Broken { .. } => Self::internal(error.to_string()),
            _ => Self {
                exit: Exit::USAGE,
                message: error.to_string(),
                help: None,
            },
        }
    }
}

impl From<crate::engine::EngineError> for Failure {
    fn from(error: crate::engine::EngineError) -> Self {
        match error {
            crate::engine::EngineError::Plan(error) => error.into(),
            other => Self::internal(other.to_string()),
        }
    }
}

impl From<crate::journal::JournalError> for Failure {
    fn from(error: crate::journal::JournalError) -> Self {
        Self::internal(error.to_string())
    }
}

impl App<'_> {
    /// The repository's root.
    pub fn root(&self) -> PathBuf {
        self.files.root(&self.here)
    }

    /// The project's directory.
    pub fn project_dir(&self) -> PathBuf {
        self.root().join(&self.global.project)
    }

    /// The state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.root().join(&self.global.state)
    }

    /// Writes to standard output. A reader that went away is no failure.
    pub fn write(
        &self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Exit, Failure> {
        let mut out = (self.screen.out)();
        match write(&mut *out).and_then(|()| out.flush()) {
            Ok(()) => Ok(Exit::SUCCESS),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::SUCCESS),
            Err(error) => Err(Failure::internal(format!("cannot write: {error}"))),
        }
    }

    /// Writes a text to standard output.
    pub fn print(&self, text: &str) -> Result<Exit, Failure> {
        self.write(|out| out.write_all(text.as_bytes()))
    }

    /// The state directory; a clear answer if there is none.
    pub fn store(&self) -> Result<Arc<dyn Store>, Failure> {
        let dir = self.state_dir();
        self.worlds.existing(&dir).ok_or_else(|| {
            Failure::usage(
                format!("nothing has run here yet: {} is not there", dir.display()),
                "run a pipeline with `pipewright run PIPELINE`",
            )
        })
    }

    /// The run somebody means.
    pub fn find(&self, store: &dyn StoreReader, run: &RunRef) -> Result<RunId, Failure> {
        let none = |what: String| Failure::usage(what, "`pipewright runs` lists them");
        match run {
            // What followed from a run is part of its story.
            RunRef::Last => match store.runs(None, 1)?.into_iter().next() {
                Some(row) => Ok(row.root),
                None => Err(none("there is no run yet".to_owned())),
            },
            RunRef::Id(text) => {
                let rows = store.runs_ending(text)?;
                match rows.as_slice() {
                    [row] => Ok(row.run.clone()),
                    [] => Err(none(format!("there is no run {text}"))),
                    several => {
                        let ids: Vec<&str> = several.iter().map(|row| row.run.as_str()).collect();
                        Err(none(format!("{text} may be {}", ids.join(" or "))))
                    }
                }
            }
        }
    }
}
