//! `rollback`: finds what an earlier run deployed, and starts a run that goes back to it; and takes
//! back what a run wrote to a repository (see `undo`).
//!
//! What was taken back once is not gone back to: after a rollback from 3 to 2, the next one goes to 1.

use std::collections::BTreeMap;

use super::app::{App, Exit, Failure};
use super::args::{Rollback, TakeBack};
use super::look;
use super::run::{Reports, Session, Start, tell};
use super::undo;
use crate::base::{RunId, StageId};
use crate::engine::{Definition, take_back};
use crate::event::{Outcome, RunState, Trigger};
use crate::journal::replay;
use crate::ports::services::short_revision;
use crate::ports::store::StoreReader;

/// Runs of a pipeline that are looked at, newest first.
const LOOKS: usize = 1000;

/// What each stage goes back to, by the run whose definition says how.
pub(super) type Backs = BTreeMap<RunId, BTreeMap<StageId, String>>;

/// `rollback`.
pub(super) async fn rollback(app: &App<'_>, args: &Rollback) -> Result<Exit, Failure> {
    let world = app.worlds.real(&app.root(), &app.state_dir())?;
    let store = world.readers.store.clone();
    // A run for each that deployed what is gone back to: mostly one.
    let mut backs = Backs::new();
    let mut said = Vec::new();
    let mut add = |of: RunId, stage: &StageId, to: String, words: String| {
        backs.entry(of).or_default().insert(stage.clone(), to);
        said.push(words);
    };
    let undone;
    let taken = match &args.what {
        TakeBack::Run(run) => {
            let run = app.find(&*store, run)?;
            undone = undo::of_run(&*store, &run)?;
            let taken = of_run(&*store, &run)?;
            if taken.is_empty() && undone.is_empty() {
                return Err(Failure::usage(
                    format!("run {run} deployed or wrote nothing that can be taken back"),
                    "`deploy ecs` and `bump` can; `pipewright rerun RUN` deploys again what an earlier run did",
                ));
            }
            taken
        }
        TakeBack::Stage(stage) => {
            let stage = StageId::from(stage.as_str());
            undone = undo::of_stage(&*store, &stage, args.pipeline.as_deref())?;
            if undone.is_empty() {
                vec![of_stage(&*store, &stage, args.pipeline.as_deref())?]
            } else {
                Vec::new()
            }
        }
    };
    for undone in undone {
        let words = format!("{} takes back what run {} wrote", undone.stage, undone.run);
        add(undone.run, &undone.stage, undone.what, words);
    }
    for taken in &taken {
        let earlier = earlier(&*store, taken)?;
        let words = format!(
            "{} goes back to {} of run {}",
            taken.stage,
            short_revision(&earlier.revision),
            earlier.run
        );
        add(earlier.run, &taken.stage, earlier.revision, words);
    }
    for words in &said {
        tell(app, words);
    }
    if args.plan {
        return undo::foresee(app, &world, &backs).await;
    }
    let reports = Reports::default();
    let session = Session::new(app, world, app.processors, false, &reports)?;
    let mut starts = Vec::new();
    for (of, to) in backs {
        starts.push(Start::of(take_back(&session.engine, &of, to).await?));
    }
    session.go(starts).await
}

/// What is to be taken back: what a stage of a run deployed.
struct Taken {
    run: RunId,
    pipeline: String,
    stage: StageId,
}

/// What is gone back to.
struct Earlier {
    run: RunId,
    revision: String,
}

/// What a stage of a run came to; `None` if it did not begin, or was only played.
struct Attempt {
    /// Absent while it goes on.
    outcome: Option<Outcome>,
    revision: Option<String>,
    /// It went back itself.
    is_back: bool,
}

impl Attempt {
    fn of(state: &RunState, stage: &StageId) -> Option<Self> {
        let created = state.created.as_ref().filter(|made| !made.simulated)?;
        let stage = state.stages().iter().find(|found| found.id == *stage)?;
        let began = match stage.outcome {
            None => stage.started_at.is_some(),
            Some(outcome) => !matches!(outcome, Outcome::Skipped | Outcome::Blocked),
        };
        began.then(|| Self {
            outcome: stage.outcome,
            revision: stage.outputs.get("revision").cloned(),
            is_back: matches!(created.trigger, Trigger::Rollback { .. }),
        })
    }

    /// What it deployed.
    fn deployed(self) -> Option<String> {
        self.outcome
            .filter(|outcome| outcome.is_success())
            .and(self.revision)
    }
}

/// All that a run, and those that followed from it, deployed.
fn of_run(store: &dyn StoreReader, run: &RunId) -> Result<Vec<Taken>, Failure> {
    let mut all = Vec::new();
    for row in look::story(store, run)? {
        let state = RunState::of(&replay(store, &row.run)?);
        for stage in stages_that_go_back(store, &row.run, &state)? {
            if Attempt::of(&state, &stage).is_some() {
                all.push(Taken {
                    run: row.run.clone(),
                    pipeline: row.pipeline.clone(),
                    stage,
                });
            }
        }
    }
    Ok(all)
}

/// The newest deployment of a stage.
fn of_stage(
    store: &dyn StoreReader,
    stage: &StageId,
    pipeline: Option<&str>,
) -> Result<Taken, Failure> {
    let mut newest: BTreeMap<String, RunId> = BTreeMap::new();
    for row in store.runs(pipeline, LOOKS)? {
        if newest.contains_key(&row.pipeline) {
            continue;
        }
        let state = RunState::of(&replay(store, &row.run)?);
        if Attempt::of(&state, stage).is_some() {
            newest.insert(row.pipeline, row.run);
        }
    }
    let names: Vec<&str> = newest.keys().map(String::as_str).collect();
    if names.len() > 1 {
        return Err(Failure::usage(
            format!("{stage} is a stage of {}", names.join(" and of ")),
            "say which one by --pipeline",
        ));
    }
    let Some((pipeline, run)) = newest.into_iter().next() else {
        return Err(Failure::usage(
            format!("no run has come to a stage {stage} yet"),
            "`pipewright show RUN` lists the stages of a run",
        ));
    };
    let state = RunState::of(&replay(store, &run)?);
    if !stages_that_go_back(store, &run, &state)?.contains(stage) {
        return Err(Failure::usage(
            format!("{stage} cannot be taken back"),
            "`bump`, `deploy ecs`, `deploy kubernetes` and `deploy argocd` can; `pipewright rerun RUN` deploys again what an earlier run did",
        ));
    }
    Ok(Taken {
        run,
        pipeline,
        stage: stage.clone(),
    })
}

fn stages_that_go_back(
    store: &dyn StoreReader,
    run: &RunId,
    state: &RunState,
) -> Result<Vec<StageId>, Failure> {
    let Some(created) = &state.created else {
        return Ok(Vec::new());
    };
    let project = Definition::load(store, run, &created.definition)?;
    let pipeline = project.pipelines.get(&created.pipeline);
    let stages = pipeline.into_iter().flat_map(|pipeline| &pipeline.stages);
    Ok(stages
        .filter(|entry| entry.body.goes_back() && created.stages.contains(&entry.id))
        .map(|entry| entry.id.clone())
        .collect())
}

/// What ran before: the newest revision that was deployed with success before, was not taken back
/// since, and is another one than what is to be taken back.
fn earlier(store: &dyn StoreReader, taken: &Taken) -> Result<Earlier, Failure> {
    let stage = &taken.stage;
    // What is to be taken back, once that is known. What failed has left no revision, and whatever
    // was deployed before it will do.
    let mut current: Option<Option<String>> = None;
    // What was gone back to: all that lies between was taken back.
    let mut until: Option<String> = None;
    let rows = store.runs(Some(&taken.pipeline), LOOKS)?;
    for row in rows.into_iter().skip_while(|row| row.run != taken.run) {
        let state = RunState::of(&replay(store, &row.run)?);
        let Some(attempt) = Attempt::of(&state, stage) else {
            continue;
        };
        if row.run == taken.run && attempt.outcome.is_none() {
            return Err(Failure::usage(
                format!("{stage} is at work in run {}", row.run),
                format!("wait for it, or `pipewright cancel {}`", row.run.short()),
            ));
        }
        let is_back = attempt.is_back;
        let Some(revision) = attempt.deployed() else {
            if row.run == taken.run {
                current = Some(None);
            }
            continue;
        };
        match &until {
            Some(back) if is_back || *back != revision => continue,
            None if is_back => {
                until = Some(revision);
                continue;
            }
            _ => until = None,
        }
        match &current {
            None => current = Some(Some(revision)),
            Some(Some(now)) if *now == revision => {}
            _ => {
                return Ok(Earlier {
                    run: row.run,
                    revision,
                });
            }
        }
    }
    Err(Failure::usage(
        format!(
            "no run before {} deployed another revision by {stage} with success: there is nothing to go back to",
            taken.run
        ),
        "`pipewright runs` lists what is remembered",
    ))
}
