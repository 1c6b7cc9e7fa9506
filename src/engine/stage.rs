//! Runs one stage: condition, group, attempts, time limit, examination after a crash.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::groups::{self, Entry};
use super::output::StageOutput;
use crate::base::{Masks, RunId, StageId};
use crate::event::{EffectState, Event, Outcome};
use crate::journal::Journal;
use crate::pipeline::StageEntry;
use crate::plan::{Plan, condition};
use crate::ports::store::Change;
use crate::stage::{Done, Effects, Failure, StageContext, Values};

/// What all stages of a run share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) plan: Arc<Plan>,
    pub(super) values: Values,
    pub(super) masks: Masks,
    pub(super) run: RunId,
    pub(super) root: RunId,
    pub(super) tree: PathBuf,
    /// An earlier process worked on this run.
    pub(super) resumed: bool,
}

/// What is particular to one execution of a stage.
pub(super) struct Task {
    pub(super) at: usize,
    /// Attempts before this one.
    pub(super) attempts: u32,
    /// It began in an earlier process and did not end there.
    pub(super) interrupted: bool,
    pub(super) past: Vec<EffectState>,
    pub(super) cancel: CancellationToken,
    pub(super) output: Arc<StageOutput>,
}

/// How a stage ended, with everything the journal needs.
pub(super) struct End {
    pub(super) at: usize,
    pub(super) outcome: Outcome,
    pub(super) reason: String,
    pub(super) outputs: BTreeMap<String, String>,
    pub(super) changes: Vec<Change>,
    pub(super) warnings: Vec<String>,
}

impl End {
    pub(super) fn new(at: usize, outcome: Outcome, reason: impl Into<String>) -> Self {
        Self {
            at,
            outcome,
            reason: reason.into(),
            outputs: BTreeMap::new(),
            changes: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn of(at: usize, result: Result<Done, Failure>) -> Self {
        match result {
            Ok(done) => Self {
                at,
                outcome: done.outcome(),
                reason: done.note,
                outputs: done.outputs,
                changes: Vec::new(),
                warnings: done.warnings,
            },
            Err(failure) => Self::new(at, failure.outcome, failure.message),
        }
    }
}

/// Runs a stage to its end. Never panics for want of anything outside.
pub(super) async fn run(shared: Arc<Shared>, task: Task) -> End {
    let entry = &shared.plan.stages[task.at];
    let mut end = attempt_all(&shared, entry, &task).await;
    if let Some(error) = task.output.finish() {
        end.warnings
            .push(format!("the log of {} is incomplete: {error}", entry.id));
    }
    guard_outputs(&shared, &mut end);
    end.reason = shared.masks.mask(&end.reason);
    for warning in &mut end.warnings {
        *warning = shared.masks.mask(warning);
    }
    end
}

async fn attempt_all(shared: &Shared, entry: &StageEntry, task: &Task) -> End {
    let at = task.at;
    if let Some(when) = &entry.common.when {
        let outcome = *shared
            .values
            .outcome
            .read()
            .expect("no holder of this lock panics");
        let readers = &shared.engine.world.readers;
        if let Err(reason) = condition(when, &shared.plan, &shared.values, readers, outcome).await {
            return End::new(at, Outcome::Skipped, reason);
        }
    }
    let _place = match enter_group(shared, entry, task).await {
        Ok(place) => place,
        Err(end) => return *end,
    };
    if let Some(end) = superseded(shared, entry, at) {
        return end;
    }
    let retries = &entry.common.retry;
    let mut attempt = task.attempts;
    loop {
        attempt += 1;
        let event = Event::StageStarted {
            stage: entry.id.clone(),
            attempt,
        };
        shared.engine.journal.record(&shared.run, event);
        let interrupted = task.interrupted && attempt == task.attempts + 1;
        let result = attempt_once(shared, entry, task, attempt, interrupted).await;
        let again = match &result {
            Err(failure) => {
                retries.on.contains(&failure.outcome)
                    && attempt - task.attempts < retries.tries
                    && !task.cancel.is_cancelled()
            }
            Ok(_) => false,
        };
        let Err(failure) = &result else {
            let mut end = End::of(at, result);
            end.changes = successes(shared, entry);
            return end;
        };
        if !again {
            return End::of(at, result);
        }
        let wait = retries
            .backoff
            .saturating_mul(1 << (attempt - task.attempts - 1).min(10))
            .min(Duration::from_secs(300));
        let event = Event::StageRetried {
            stage: entry.id.clone(),
            outcome: failure.outcome,
            reason: shared.masks.mask(&failure.message),
            wait_ms: wait.as_millis() as u64,
        };
        shared.engine.journal.record(&shared.run, event);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = task.cancel.cancelled() => return End::of(at, result),
        }
    }
}

/// One attempt under its time limit. The work is never dropped half way: when its time is up it
/// is told to stop and awaited.
async fn attempt_once(
    shared: &Shared,
    entry: &StageEntry,
    task: &Task,
    attempt: u32,
    interrupted: bool,
) -> Result<Done, Failure> {
    if let Some(error) = shared.engine.journal.failed() {
        return Err(Failure::errored(format!(
            "the journal cannot be written, so nothing is begun: {error}"
        )));
    }
    let cancel = task.cancel.child_token();
    let effects = Recorder {
        journal: &shared.engine.journal,
        run: &shared.run,
        stage: &entry.id,
    };
    let cx = StageContext {
        world: &shared.engine.world,
        values: &shared.values,
        run: &shared.run,
        stage: &entry.id,
        attempt,
        resumed: shared.resumed,
        output: &*task.output,
        cancel: cancel.clone(),
        effects: &effects,
        past: &task.past,
        tree: shared.tree.clone(),
        grace: shared.engine.grace,
    };
    let work = async {
        if interrupted {
            clear(&cx).await;
            if let Some(done) = entry.body.examine(&cx).await? {
                return Ok(done);
            }
        }
        entry.body.run(&cx).await
    };
    let Some(limit) = entry.common.timeout else {
        return work.await;
    };
    tokio::pin!(work);
    match tokio::time::timeout(limit, &mut work).await {
        Ok(result) => result,
        Err(_) => {
            cancel.cancel();
            match work.await {
                // It made it after all, in the very last moment.
                Ok(done) => Ok(done),
                Err(failure)
                    if failure.outcome == Outcome::Cancelled && !task.cancel.is_cancelled() =>
                {
                    Err(Failure {
                        outcome: Outcome::TimedOut,
                        message: format!("took longer than {}", crate::base::human_duration(limit)),
                    })
                }
                Err(failure) => Err(failure),
            }
        }
    }
}

/// Removes what a crashed process left of a stage on this host.
async fn clear(cx: &StageContext<'_>) {
    let left = cx
        .world
        .host
        .reap(&format!("{}/{}", cx.run, cx.stage))
        .await;
    if left > 0 {
        cx.say(format!(
            "ended {left} processes that an interrupted attempt had left"
        ));
    }
}

async fn enter_group(
    shared: &Shared,
    entry: &StageEntry,
    task: &Task,
) -> Result<Option<groups::Place>, Box<End>> {
    let Some(group) = &entry.common.concurrency else {
        return Ok(None);
    };
    let journal = &shared.engine.journal;
    let wait = || {
        let event = Event::StageWaiting {
            stage: entry.id.clone(),
            group: group.group.value.clone(),
        };
        journal.record(&shared.run, event);
    };
    let store = &*shared.engine.world.store;
    let entered = groups::enter(
        store,
        group,
        &shared.run,
        &shared.root,
        entry.id.as_str(),
        &task.cancel,
        wait,
    )
    .await;
    let end = |outcome, reason: String| Err(Box::new(End::new(task.at, outcome, reason)));
    match entered {
        Ok(Entry::Place(place)) => Ok(Some(place)),
        Ok(Entry::Superseded(reason)) => end(Outcome::Skipped, reason),
        Ok(Entry::Cancelled) => end(
            Outcome::Cancelled,
            "cancelled while waiting for its group".to_owned(),
        ),
        Err(error) => end(Outcome::Errored, error.to_string()),
    }
}

/// Groups in which a newer success makes this stage pointless.
fn guarding_groups<'a>(shared: &'a Shared, entry: &'a StageEntry) -> impl Iterator<Item = &'a str> {
    let guarded = matches!(entry.kind.name(), "bump" | "deploy");
    entry
        .common
        .concurrency
        .iter()
        .chain(&shared.plan.concurrency)
        .filter(move |_| guarded)
        .map(|group| group.group.value.as_str())
}

fn superseded(shared: &Shared, entry: &StageEntry, at: usize) -> Option<End> {
    let store = &*shared.engine.world.store;
    guarding_groups(shared, entry).find_map(|group| {
        match groups::superseded(store, group, entry.id.as_str(), &shared.root) {
            Ok(Some(newer)) => Some(End::new(
                at,
                Outcome::Skipped,
                format!("superseded by run {newer}"),
            )),
            Ok(None) => None,
            Err(error) => Some(End::new(at, Outcome::Errored, error.to_string())),
        }
    })
}

fn successes(shared: &Shared, entry: &StageEntry) -> Vec<Change> {
    guarding_groups(shared, entry)
        .map(|group| groups::success(group, entry.id.as_str(), &shared.root))
        .collect()
}

/// An output that holds a secret would be shown and stored: it is an error instead.
fn guard_outputs(shared: &Shared, end: &mut End) {
    let Some(name) = end
        .outputs
        .iter()
        .find(|(_, value)| shared.masks.finds(value))
        .map(|(name, _)| name.clone())
    else {
        return;
    };
    let value = &end.outputs[&name];
    let secret = shared
        .values
        .secrets
        .iter()
        .find(|(_, secret)| value.contains(secret.expose()))
        .map_or("a secret", |(name, _)| name.as_str());
    *end = End::new(
        end.at,
        Outcome::Failed,
        format!("output {name} holds {secret}; outputs are shown and stored"),
    );
}

struct Recorder<'a> {
    journal: &'a Journal,
    run: &'a RunId,
    stage: &'a StageId,
}

#[async_trait]
impl Effects for Recorder<'_> {
    async fn intend(&self, key: &str, detail: BTreeMap<String, String>) -> Result<(), Failure> {
        let event = Event::Intent {
            stage: self.stage.clone(),
            key: key.to_owned(),
            detail,
        };
        self.record(event, "nothing was changed").await
    }

    async fn done(&self, key: &str, detail: BTreeMap<String, String>) -> Result<(), Failure> {
        let event = Event::Effect {
            stage: self.stage.clone(),
            key: key.to_owned(),
            detail,
        };
        self.record(event, "the change was made").await
    }
}

impl Recorder<'_> {
    async fn record(&self, event: Event, consequence: &str) -> Result<(), Failure> {
        self.journal
            .record_durable(self.run, event)
            .await
            .map(drop)
            .map_err(|error| Failure::errored(format!("{error}; {consequence}")))
    }
}
