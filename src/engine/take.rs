//! Takes a run for this process and plans it.

use std::sync::Arc;

use super::{Definition, Ended, Engine, EngineError};
use crate::base::RunId;
use crate::event::{RunCreated, RunState};
use crate::journal::{JournalError, replay};
use crate::pipeline::Project;
use crate::plan::{Origin, Plan, build};
use crate::ports::store::Hold;

/// A run that this process took.
pub enum Taken {
    /// It had ended.
    Over(Ended),
    /// It can go on.
    Ready(Box<Ready>),
}

/// A run that this process holds, with its plan.
pub struct Ready {
    pub(super) run: RunId,
    pub(super) held: Box<dyn Hold>,
    pub(super) before: RunState,
    pub(super) created: RunCreated,
    pub(super) project: Project,
    pub(super) plan: Arc<Plan>,
}

/// What a run was created from, still at hand in the process that created it.
#[derive(Debug)]
pub struct Drawn {
    /// The project whose definition the run keeps.
    pub project: Project,
    /// The plan of it.
    pub plan: Plan,
}

/// Takes a run that was created, and plans it unless it was `drawn` up just now: to read and plan
/// ten thousand stages once more takes as long as to run two hundred.
///
/// `over` says that a run that had ended stays as it is.
pub fn take(
    engine: &Engine,
    run: &RunId,
    over: bool,
    drawn: Option<Drawn>,
) -> Result<Taken, EngineError> {
    let held = engine.world.store.hold_run(run)?;
    let store = engine.world.readers.store.clone();
    let before = RunState::of(&replay(&*store, run)?);
    let Some(created) = before.created.clone() else {
        return Err(JournalError::NoRun(run.clone()).into());
    };
    if let (Some(outcome), true) = (before.outcome, over) {
        return Ok(Taken::Over(Ended {
            outcome,
            chained: before.chained,
        }));
    }
    let origin = Origin {
        commit: created.commit.clone(),
        dirty: created.dirty,
        cause: created.trigger.clone(),
        inputs: created.inputs.clone(),
        vars: created.vars.clone(),
        watched: created.watched.clone(),
        upstream: created.upstream.clone(),
        only: created.only.clone(),
    };
    let (project, plan) = match drawn {
        Some(Drawn { project, plan }) => (project, Plan { origin, ..plan }),
        None => {
            let project = Definition::load(&*store, run, &created.definition)?;
            let plan = build(&project, &created.pipeline, origin)?;
            (project, plan)
        }
    };
    Ok(Taken::Ready(Box::new(Ready {
        run: run.clone(),
        held,
        before,
        created,
        project,
        plan: Arc::new(plan),
    })))
}
