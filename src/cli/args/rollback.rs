//! Arguments of `rollback`.

use std::str::FromStr;

use clap::Args;

use super::{RunRef, RunRefError};

/// Arguments of `rollback`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct Rollback {
    /// The run to take back (its id, the end of its id, or `last`), or a stage: `deploy.web`
    #[arg(value_name = "RUN|STAGE")]
    pub what: TakeBack,
    /// Pipeline of the stage; needed if several have one of that name
    #[arg(long, value_name = "PIPELINE")]
    pub pipeline: Option<String>,
    /// Only show what would be changed
    #[arg(long)]
    pub plan: bool,
}

/// What is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeBack {
    /// All that a run deployed.
    Run(RunRef),
    /// What a stage deployed last.
    Stage(String),
}

impl FromStr for TakeBack {
    type Err = RunRefError;

    fn from_str(text: &str) -> Result<Self, RunRefError> {
        // No id has a dot, and every stage has: `kind.name`.
        if text.contains('.') {
            return Ok(Self::Stage(text.to_owned()));
        }
        text.parse().map(Self::Run)
    }
}
