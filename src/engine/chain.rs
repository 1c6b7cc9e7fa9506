//! How runs begin and end: creating one, and, with its end, those chained to it.

use std::collections::BTreeMap;

use super::execute::Ended;
use super::stage::Shared;
use super::{Definition, Engine, EngineError};
use crate::base::{RunId, StageId, Timestamp};
use crate::event::{Event, Outcome, RunCreated, RunState, Trigger, Upstream, VERSION};
use crate::journal::replay;
use crate::pipeline::Project;
use crate::plan::{Origin, Plan, build, chained_by};
use crate::ports::store::{Change, LAST_SUCCESS, RunRow};

/// What a new run is made of.
pub struct NewRun<'a> {
    /// The project, whose text is kept with the run.
    pub project: &'a Project,
    /// Directory of the project.
    pub directory: &'a str,
    /// The plan.
    pub plan: &'a Plan,
    /// Variables as resolved.
    pub vars: BTreeMap<String, String>,
    /// Whether it runs in the simulated world.
    pub simulated: bool,
}

/// Creates a run. It exists once this returns; nothing of it has begun.
pub async fn create(engine: &Engine, new: NewRun<'_>) -> Result<RunId, EngineError> {
    create_with(engine, new, |_| Vec::new()).await
}

/// Creates a run and changes what is remembered in the same transaction, so that neither is ever
/// there without the other.
pub async fn create_with(
    engine: &Engine,
    new: NewRun<'_>,
    remember: impl FnOnce(&RunId) -> Vec<Change>,
) -> Result<RunId, EngineError> {
    let clock = &engine.world.readers.clock;
    let run = RunId::new(millis(clock.now()), clock.random() as u32);
    let definition = engine
        .world
        .store
        .put_blob(&Definition::of(new.project).bytes())?;
    let origin = &new.plan.origin;
    let created = RunCreated {
        version: VERSION,
        pipeline: new.plan.pipeline.clone(),
        commit: origin.commit.clone(),
        dirty: origin.dirty,
        trigger: origin.cause.clone(),
        inputs: origin.inputs.clone(),
        vars: new.vars,
        root: match &origin.upstream {
            Some(upstream) => root_of(engine, &upstream.run)?,
            None => run.clone(),
        },
        watched: origin.watched.clone(),
        upstream: origin.upstream.clone(),
        definition,
        project: new.directory.to_owned(),
        only: origin.only.clone(),
        simulated: new.simulated,
        stages: new
            .plan
            .stages
            .iter()
            .map(|entry| entry.id.clone())
            .collect(),
    };
    let row = row(&run, &created, clock.now());
    let event = Event::RunCreated(Box::new(created));
    let mut changes = vec![Change::CreateRun(row)];
    changes.extend(remember(&run));
    engine
        .journal
        .commit(vec![(run.clone(), event)], changes)
        .await?;
    Ok(run)
}

/// Creates a run like an earlier one: same definition, commit, inputs.
pub async fn rerun(engine: &Engine, earlier: &RunId) -> Result<RunId, EngineError> {
    let store = &*engine.world.readers.store;
    let state = RunState::of(&replay(store, earlier)?);
    let Some(created) = state.created else {
        return Err(crate::journal::JournalError::NoRun(earlier.clone()).into());
    };
    begin(engine, created).await
}

/// Creates a run with a birth certificate that is like another one's.
async fn begin(engine: &Engine, created: RunCreated) -> Result<RunId, EngineError> {
    let clock = &engine.world.readers.clock;
    let run = RunId::new(millis(clock.now()), clock.random() as u32);
    let created = RunCreated {
        root: match created.follows() {
            Some(_) => created.root.clone(),
            None => run.clone(),
        },
        ..created
    };
    let row = row(&run, &created, clock.now());
    let event = Event::RunCreated(Box::new(created));
    engine
        .journal
        .commit(vec![(run.clone(), event)], vec![Change::CreateRun(row)])
        .await?;
    Ok(run)
}

/// Creates a run that takes stages back to what an earlier run had deployed: with the definition,
/// commit and variables of that run, and with no other stage.
pub async fn take_back(
    engine: &Engine,
    earlier: &RunId,
    to: BTreeMap<StageId, String>,
) -> Result<RunId, EngineError> {
    let store = &*engine.world.readers.store;
    let state = RunState::of(&replay(store, earlier)?);
    let Some(created) = state.created else {
        return Err(crate::journal::JournalError::NoRun(earlier.clone()).into());
    };
    let stages: Vec<StageId> = to.keys().cloned().collect();
    let created = RunCreated {
        trigger: Trigger::Rollback {
            of: earlier.clone(),
            to,
        },
        only: stages.iter().map(ToString::to_string).collect(),
        stages,
        ..created
    };
    begin(engine, created).await
}

fn root_of(engine: &Engine, run: &RunId) -> Result<RunId, EngineError> {
    let row = engine.world.readers.store.run(run)?;
    Ok(row.map_or_else(|| run.clone(), |row| row.root))
}

fn millis(now: Timestamp) -> u64 {
    u64::try_from(now.0).unwrap_or(0)
}

fn row(run: &RunId, created: &RunCreated, now: Timestamp) -> RunRow {
    let commit = &created.commit;
    RunRow {
        run: run.clone(),
        pipeline: created.pipeline.clone(),
        created: now,
        finished: None,
        outcome: None,
        sha: commit.sha.clone(),
        reference: commit
            .tag
            .clone()
            .or_else(|| commit.branch.clone())
            .unwrap_or_else(|| commit.reference.clone()),
        upstream: created.follows().map(|upstream| upstream.run.clone()),
        root: created.root.clone(),
    }
}

/// The end of a run.
pub(super) struct Chained<'a> {
    pub(super) project: &'a Project,
    pub(super) created: &'a RunCreated,
    pub(super) attempt: u32,
    pub(super) outcome: Outcome,
    pub(super) follow: bool,
}

/// Ends a run. Its end and the runs chained to it are one transaction, so that each of them
/// exists exactly once however often the process dies.
pub(super) async fn finish(
    engine: &Engine,
    shared: &Shared,
    end: &Chained<'_>,
) -> Result<Ended, EngineError> {
    engine.journal.flush().await?;
    let now = engine.world.readers.clock.now();
    let run = &shared.run;
    let mut events = Vec::new();
    let mut changes = vec![Change::FinishRun {
        run: run.clone(),
        at: now,
        outcome: end.outcome.to_string(),
    }];
    let mut chained = Vec::new();
    if end.follow {
        for pipeline in chained_by(end.project, &end.created.pipeline, end.outcome) {
            match chain_to(engine, shared, end, &pipeline.name.value) {
                Ok((next, created)) => {
                    events.push((
                        run.clone(),
                        Event::ChainCreated {
                            run: next.clone(),
                            pipeline: created.pipeline.clone(),
                        },
                    ));
                    changes.push(Change::CreateRun(row(&next, &created, now)));
                    chained.push((next.clone(), created.pipeline.clone()));
                    events.push((next, Event::RunCreated(Box::new(created))));
                }
                Err(error) => events.push((
                    run.clone(),
                    Event::Warning {
                        stage: None,
                        message: format!(
                            "pipeline {} was not started: {error}",
                            pipeline.name.value
                        ),
                    },
                )),
            }
        }
    }
    // What is known now helps the next run: how long stages take, and what was built last.
    changes.extend(history(shared, end));
    events.push((
        run.clone(),
        Event::RunFinished {
            outcome: end.outcome,
        },
    ));
    engine.journal.commit(events, changes).await?;
    Ok(Ended {
        outcome: end.outcome,
        chained,
    })
}

fn chain_to(
    engine: &Engine,
    shared: &Shared,
    end: &Chained<'_>,
    pipeline: &str,
) -> Result<(RunId, RunCreated), EngineError> {
    let clock = &engine.world.readers.clock;
    let outputs = shared
        .values
        .ended
        .read()
        .expect("no holder of this lock panics")
        .iter()
        .flat_map(|(stage, (_, outputs))| {
            outputs
                .iter()
                .map(move |(name, value)| (format!("{stage}.{name}"), value.clone()))
        })
        .collect();
    let created = end.created;
    // The chained pipeline has inputs of its own; those it shares by name are carried.
    let takes = end
        .project
        .pipelines
        .get(pipeline)
        .map(|pipeline| &pipeline.inputs);
    let inputs: BTreeMap<String, String> = created
        .inputs
        .iter()
        .filter(|(name, _)| takes.is_some_and(|takes| takes.contains_key(*name)))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let upstream = Upstream {
        run: shared.run.clone(),
        attempt: end.attempt,
        pipeline: created.pipeline.clone(),
        outcome: end.outcome,
        outputs,
    };
    let origin = Origin {
        commit: created.commit.clone(),
        dirty: false,
        cause: Trigger::Pipeline,
        inputs: inputs.clone(),
        vars: created.vars.clone(),
        watched: created.watched.clone(),
        upstream: Some(upstream.clone()),
        only: Vec::new(),
    };
    let plan = build(end.project, pipeline, origin)?;
    let run = RunId::new(millis(clock.now()), clock.random() as u32);
    let chained = RunCreated {
        version: VERSION,
        pipeline: pipeline.to_owned(),
        commit: created.commit.clone(),
        dirty: false,
        trigger: Trigger::Pipeline,
        inputs,
        vars: created.vars.clone(),
        watched: created.watched.clone(),
        upstream: Some(upstream),
        root: created.root.clone(),
        definition: created.definition.clone(),
        project: created.project.clone(),
        only: Vec::new(),
        simulated: created.simulated,
        stages: plan.stages.iter().map(|entry| entry.id.clone()).collect(),
    };
    Ok((run, chained))
}

const DURATIONS: &str = "durations";

/// How long the stages of a pipeline took last, in milliseconds.
pub(super) fn durations(shared: &Shared) -> BTreeMap<String, u64> {
    let store = &shared.engine.world.readers.store;
    let fact = store.fact(DURATIONS, &shared.plan.pipeline).ok().flatten();
    fact.and_then(|fact| serde_json::from_str(&fact).ok())
        .unwrap_or_default()
}

/// Larger pipelines are scheduled in declaration order; remembering each of their stages would
/// cost more than it gains.
const MAX_REMEMBERED: usize = 2000;

fn history(shared: &Shared, end: &Chained<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    let commit = &shared.plan.origin.commit;
    // A part of the pipeline that succeeded says nothing about the rest of it.
    let whole = !shared.plan.origin.dirty && shared.plan.origin.only.is_empty();
    if end.outcome.is_success() && whole {
        changes.push(Change::SetFact {
            scope: LAST_SUCCESS.to_owned(),
            key: format!(
                "{} {}",
                shared.plan.pipeline,
                commit.branch.as_deref().unwrap_or(&commit.reference)
            ),
            value: commit.sha.clone(),
        });
    }
    if shared.plan.stages.len() <= MAX_REMEMBERED
        && let Ok(events) = replay(&*shared.engine.world.readers.store, &shared.run)
    {
        let mut known = durations(shared);
        for stage in RunState::of(&events).stages() {
            if stage.outcome == Some(Outcome::Succeeded)
                && let (Some(from), Some(to)) = (stage.started_at, stage.finished_at)
            {
                known.insert(stage.id.to_string(), to.since(from).as_millis() as u64);
            }
        }
        if let Ok(value) = serde_json::to_string(&known) {
            changes.push(Change::SetFact {
                scope: DURATIONS.to_owned(),
                key: shared.plan.pipeline.clone(),
                value,
            });
        }
    }
    changes
}
