//! One run from its plan to its end: what comes before the loop and after it.

use std::sync::Arc;

use super::chain::{self, Chained};
use super::groups::{self, Entry};
use super::run::{Runner, TICK, who};
use super::stage::Shared;
use super::take::{Ready, Taken, take};
use super::{Cancel, Engine, EngineError, sites};
use crate::base::{Masks, RunId, StageId};
use crate::event::{Event, Outcome, RunState};
use crate::journal::replay;
use crate::ports::store::Change;
use crate::stage::Leftovers;
use crate::stage::context::RUN_LABEL;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Runs that its end created, in order, with their pipelines.
    pub chained: Vec<(RunId, String)>,
}

/// Takes a run that was created, in this process or another, and brings it to its end.
///
/// `reset` names stages that are to run again although they had ended.
pub async fn execute(
    engine: &Engine,
    run: &RunId,
    reset: &[StageId],
    cancel: &Cancel,
) -> Result<Ended, EngineError> {
    match take(engine, run, reset.is_empty(), None)? {
        Taken::Over(ended) => Ok(ended),
        Taken::Ready(ready) => ready.execute(engine, reset, cancel).await,
    }
}

impl Ready {
    /// Brings it to its end.
    pub async fn execute(
        self: Box<Self>,
        engine: &Engine,
        reset: &[StageId],
        cancel: &Cancel,
    ) -> Result<Ended, EngineError> {
        let Self {
            run,
            held: _held,
            before,
            created,
            project,
            plan,
        } = *self;
        let run = &run;
        let store = engine.world.readers.store.clone();
        let readers = &engine.world.readers;
        let secrets = plan.fetch(readers).await?;
        let masks = Masks::with_late(secrets.values(), readers.late.clone());
        let vars = plan.vars(readers).await;
        let values = plan.values(run.clone(), readers, vars, secrets, false);
        let attempt = before.attempt + 1;
        let event = Event::RunStarted {
            attempt,
            reset: reset.to_vec(),
        };
        let mut changes = Vec::new();
        if before.outcome.is_some() {
            changes.push(Change::ReopenRun(run.clone()));
        }
        engine
            .journal
            .commit(vec![(run.clone(), event)], changes)
            .await?;
        // The fold is taken anew so that what was reset counts as not begun.
        let before = RunState::of(&replay(&*store, run)?);
        let shared = Arc::new(Shared {
            engine: engine.clone(),
            tree: plan.tree(readers).await?,
            plan: plan.clone(),
            values,
            masks,
            run: run.clone(),
            root: created.root.clone(),
            leftovers: Leftovers::new(),
            resumed: attempt > 1,
        });
        if attempt > 1 {
            reap_processes(&shared).await;
        }
        look_for_request(&shared, cancel)?;
        let entered = enter_run_group(&shared, cancel).await?;
        let mut runner = Runner::new(shared.clone(), cancel.clone(), &before);
        let (place, refused) = match entered {
            Ok(place) => (place, None),
            Err(refused) => (None, Some(refused)),
        };
        let ran = runner.run(refused).await;
        let outcome = runner.outcome();
        let left = shared.leftovers.gone().await;
        let look = attempt > 1 || cancel.is_requested() || !left.is_empty();
        for error in left {
            warn(&shared, None, format!("left for another try: {error}"));
        }
        sweep(&shared, look).await;
        ran?;
        // The group is free before what follows from this run begins.
        drop(place);
        chain::finish(
            engine,
            &shared,
            &Chained {
                project: &project,
                created: &created,
                attempt,
                outcome,
                // What follows relies on the whole pipeline, at a commit.
                follow: engine.chain && !created.dirty && created.only.is_empty(),
            },
        )
        .await
    }
}

/// Ends what a process that was killed left on this host. Whoever starts a stage again must find
/// nothing of it that still runs, whether its start was recorded or not.
async fn reap_processes(shared: &Shared) {
    let host = &shared.engine.world.host;
    let left = host.reap(&format!("{}/", shared.run)).await;
    if left > 0 {
        let message = format!("ended {left} processes that an interrupted attempt had left");
        warn(shared, None, message);
    }
}

/// Acts on a request to stop that came from another process.
pub(super) fn look_for_request(shared: &Shared, cancel: &Cancel) -> Result<(), EngineError> {
    if let Some(by) = shared.engine.world.store.cancel_requested(&shared.run)? {
        cancel.request(&by);
    }
    Ok(())
}

/// Removes what the run left, beside its artifacts.
async fn sweep(shared: &Shared, engine_too: bool) {
    let world = &shared.engine.world;
    world.workspace.sweep(shared.run.as_str()).await;
    if !engine_too {
        return;
    }
    for site in sites(shared.plan.stages.iter()) {
        let reaped = match world.engine_at(&site) {
            Ok(engine) => engine.reap(RUN_LABEL, shared.run.as_str()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = reaped {
            let message = format!("could not look for leftovers on {site}: {error}");
            warn(shared, None, message);
        }
    }
}

fn warn(shared: &Shared, stage: Option<StageId>, message: String) {
    shared
        .engine
        .journal
        .record(&shared.run, Event::Warning { stage, message });
}

/// How and why a run does not get into its group.
pub(super) type Refused = (Outcome, String);

async fn enter_run_group(
    shared: &Shared,
    cancel: &Cancel,
) -> Result<Result<Option<groups::Place>, Refused>, EngineError> {
    let Some(group) = &shared.plan.concurrency else {
        return Ok(Ok(None));
    };
    let store = &*shared.engine.world.store;
    let name = group.group.value.clone();
    let wait = || warn(shared, None, format!("waiting for a place in group {name}"));
    let ticket = shared.run.as_str();
    let enter = groups::enter(
        store,
        group,
        &shared.run,
        &shared.root,
        ticket,
        cancel.gentle(),
        wait,
    );
    let watch = async {
        loop {
            tokio::time::sleep(TICK).await;
            // A store that cannot be read fails the waiting itself.
            let _ = look_for_request(shared, cancel);
        }
    };
    let entry = tokio::select! {
        biased;
        entry = enter => entry?,
        never = watch => never,
    };
    Ok(match entry {
        Entry::Place(place) => Ok(Some(place)),
        Entry::Superseded(reason) => Err((Outcome::Skipped, reason)),
        Entry::Cancelled => Err((
            Outcome::Cancelled,
            who(cancel, "cancelled while waiting for its group"),
        )),
    })
}
