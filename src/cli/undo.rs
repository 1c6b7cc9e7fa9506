//! What `rollback` takes back of what runs wrote to repositories: found by what they recorded. What
//! was taken back is not taken back twice, so that each rollback of a stage goes one further.

use std::collections::BTreeSet;

use super::app::{App, Exit, Failure};
use super::rollback::Backs;
use super::{look, plan};
use crate::base::{RunId, StageId};
use crate::engine::Definition;
use crate::event::{RunState, Trigger};
use crate::journal::replay;
use crate::plan::{Origin, build, forecast};
use crate::ports::World;
use crate::ports::store::StoreReader;

/// Runs that are looked at, newest first.
const LOOKS: usize = 1000;

/// Something to take back.
pub(super) struct Undone {
    /// The run that wrote it.
    pub(super) run: RunId,
    /// The stage.
    pub(super) stage: StageId,
    /// What the stage is given to do it.
    pub(super) what: String,
}

/// What a run, and those that followed from it, wrote.
pub(super) fn of_run(store: &dyn StoreReader, run: &RunId) -> Result<Vec<Undone>, Failure> {
    let mut all = Vec::new();
    for row in look::story(store, run)? {
        let state = RunState::of(&replay(store, &row.run)?);
        let written = written(store, &row.run, &state)?;
        if written.is_empty() {
            continue;
        }
        let taken_back = taken_back(store, &row.pipeline)?;
        for undone in written {
            let stage = &undone.stage;
            if let Some(by) = taken_back
                .iter()
                .find(|taken| taken.0 == row.run && taken.1 == *stage)
            {
                return Err(Failure::usage(
                    format!(
                        "what {stage} wrote in run {} was taken back by run {}",
                        row.run, by.2
                    ),
                    format!("`pipewright rollback {stage}` takes back what it wrote before"),
                ));
            }
            all.push(undone);
        }
    }
    Ok(all)
}

/// The newest that a stage wrote and that was not taken back; nothing if no run of it wrote
/// anything.
pub(super) fn of_stage(
    store: &dyn StoreReader,
    stage: &StageId,
    pipeline: Option<&str>,
) -> Result<Vec<Undone>, Failure> {
    let mut found: Vec<(String, Undone)> = Vec::new();
    let mut wrote = false;
    let mut gone = BTreeSet::new();
    for row in store.runs(pipeline, LOOKS)? {
        let state = RunState::of(&replay(store, &row.run)?);
        if let Some((of, to)) = goes_back(&state)
            && let Some(outcome) = state.stage(stage).map(|stage| stage.outcome)
            && to.contains(stage)
        {
            if outcome.is_some_and(crate::event::Outcome::is_success) {
                gone.insert(of);
            }
            continue;
        }
        if found.iter().any(|(pipeline, _)| *pipeline == row.pipeline) {
            continue;
        }
        for undone in written(store, &row.run, &state)? {
            if undone.stage == *stage {
                wrote = true;
                if !gone.contains(&row.run) {
                    found.push((row.pipeline.clone(), undone));
                }
            }
        }
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Failure::usage(
            format!("{stage} is a stage of {}", names.join(" and of ")),
            "say which one by --pipeline",
        ));
    }
    if found.is_empty() && wrote {
        return Err(Failure::usage(
            format!("all that {stage} wrote was taken back: there is nothing to go back to"),
            "`pipewright runs` lists what is remembered",
        ));
    }
    Ok(found.into_iter().map(|(_, undone)| undone).collect())
}

/// Whether a stage of a rollback takes back what it wrote: what it is given for that is JSON, and
/// the revision to which a deployment goes back is not.
pub(super) fn takes_back(to: &str) -> bool {
    to.starts_with('{')
}

/// The run that a rollback takes back, and its stages.
fn goes_back(state: &RunState) -> Option<(RunId, BTreeSet<StageId>)> {
    match &state.created.as_ref()?.trigger {
        Trigger::Rollback { of, to } => Some((of.clone(), to.keys().cloned().collect())),
        _ => None,
    }
}

/// What rollbacks of a pipeline took back: run, stage, and the run that did it.
fn taken_back(
    store: &dyn StoreReader,
    pipeline: &str,
) -> Result<Vec<(RunId, StageId, RunId)>, Failure> {
    let mut all = Vec::new();
    for row in store.runs(Some(pipeline), LOOKS)? {
        let state = RunState::of(&replay(store, &row.run)?);
        let Some((of, stages)) = goes_back(&state) else {
            continue;
        };
        for stage in stages {
            let outcome = state.stage(&stage).and_then(|stage| stage.outcome);
            if outcome.is_some_and(crate::event::Outcome::is_success) {
                all.push((of.clone(), stage, row.run.clone()));
            }
        }
    }
    Ok(all)
}

/// What the stages of a run wrote, by their own records.
fn written(store: &dyn StoreReader, run: &RunId, state: &RunState) -> Result<Vec<Undone>, Failure> {
    let Some(created) = state.created.as_ref().filter(|created| {
        !created.simulated && !matches!(created.trigger, Trigger::Rollback { .. })
    }) else {
        return Ok(Vec::new());
    };
    // Most stages recorded nothing, and the definition need not be read for them.
    if state.stages().iter().all(|stage| stage.effects.is_empty()) {
        return Ok(Vec::new());
    }
    let project = Definition::load(store, run, &created.definition)?;
    let pipeline = project.pipelines.get(&created.pipeline);
    let mut all = Vec::new();
    for entry in pipeline.into_iter().flat_map(|pipeline| &pipeline.stages) {
        let Some(stage) = state.stage(&entry.id).filter(|_| entry.body.undoes()) else {
            continue;
        };
        let ended_well = stage.outcome.is_some_and(crate::event::Outcome::is_success);
        if stage.is_running() && !stage.effects.is_empty() {
            return Err(Failure::usage(
                format!("{} is at work in run {run}", entry.id),
                format!("wait for it, or `pipewright cancel {}`", run.short()),
            ));
        }
        if let Some(what) = entry.body.undo(&stage.effects, ended_well) {
            all.push(Undone {
                run: run.clone(),
                stage: entry.id.clone(),
                what,
            });
        }
    }
    Ok(all)
}

/// Shows what a rollback would do.
pub(super) async fn foresee(app: &App<'_>, world: &World, backs: &Backs) -> Result<Exit, Failure> {
    let store = &*world.readers.store;
    let mut page = String::new();
    for (of, to) in backs {
        let state = RunState::of(&replay(store, of)?);
        let Some(created) = state.created else {
            continue;
        };
        let project = Definition::load(store, of, &created.definition)?;
        let origin = Origin {
            commit: created.commit,
            dirty: created.dirty,
            cause: Trigger::Rollback {
                of: of.clone(),
                to: to.clone(),
            },
            inputs: created.inputs,
            vars: created.vars,
            watched: created.watched,
            upstream: created.upstream,
            only: to.keys().map(ToString::to_string).collect(),
        };
        let made = build(&project, &created.pipeline, origin)?;
        let forecasts = forecast(&made, &world.readers, false).await?;
        page.push_str(&plan::painted(
            app,
            &crate::plan::text(&made, &forecasts, &[]),
        ));
    }
    app.print(&page)
}
