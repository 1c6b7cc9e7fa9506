//! Runs one stage: condition, group, attempts, time limit, examination after a crash.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Engine;
use super::groups::{self, Entry};
use super::output::StageOutput;
use super::place::WorkPlace;
use crate::base::{Masks, RunId, StageId};
use crate::event::{EffectState, Event, Outcome};
use crate::journal::Journal;
use crate::pipeline::StageEntry;
use crate::plan::{Plan, condition};
use crate::ports::store::Change;
use crate::stage::{Done, Effects, Failure, Leftovers, StageContext, Values};

/// What all stages of a run share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) plan: Arc<Plan>,
    pub(super) values: Values,
    pub(super) masks: Masks,
    pub(super) run: RunId,
    pub(super) root: RunId,
    pub(super) tree: PathBuf,
    pub(super) leftovers: Leftovers,
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
    /// Told to those who may not stop half way.
    pub(super) force: CancellationToken,
    /// Tells that somebody asked the run to stop, also to those who go on.
    pub(super) asked: CancellationToken,
    pub(super) output: Arc<StageOutput>,
    /// Its place among those at work.
    pub(super) place: WorkPlace,
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
            Err(failure) => Self {
                outputs: failure.outputs,
                ..Self::new(at, failure.outcome, failure.message)
            },
        }
    }
}

/// Longest time of what follows everything once the run was asked to stop, unless its own
/// `timeout` says otherwise: somebody waits for the end.
const LAST: Duration = Duration::from_secs(600);

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
    let past = Mutex::new(task.past.clone());
    loop {
        attempt += 1;
        let event = Event::StageStarted {
            stage: entry.id.clone(),
            attempt,
        };
        shared.engine.journal.record(&shared.run, event);
        // Before anything is tried again, it is asked what became of the try before.
        let examine = task.interrupted || attempt > task.attempts + 1;
        let result = attempt_once(shared, entry, task, &past, (attempt, examine)).await;
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
            () = task.cancel.cancelled() => {
                let reason = format!("cancelled before another try: {}", failure.message);
                return End::new(at, Outcome::Cancelled, reason);
            }
        }
    }
}

/// One attempt under its time limit. The work is never dropped half way: when its time is up it
/// is told to stop and awaited.
async fn attempt_once(
    shared: &Shared,
    entry: &StageEntry,
    task: &Task,
    past: &Mutex<Vec<EffectState>>,
    (attempt, examine): (u32, bool),
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
        past,
    };
    // What the attempts before this one intended, in whichever process they were made.
    let before = effects.past();
    let cx = StageContext {
        world: &shared.engine.world,
        values: &shared.values,
        run: &shared.run,
        stage: &entry.id,
        attempt,
        resumed: shared.resumed,
        output: &*task.output,
        cancel: cancel.clone(),
        force: task.force.clone(),
        effects: &effects,
        leftovers: &shared.leftovers,
        past: &before,
        tree: shared.tree.clone(),
        grace: shared.engine.grace,
    };
    let work = async {
        if examine && let Some(done) = entry.body.examine(&cx).await? {
            return Ok(done);
        }
        entry.body.run(&cx).await
    };
    tokio::pin!(work);
    let (result, limit) = tokio::select! {
        biased;
        result = &mut work => (result, None),
        limit = time_is_up(entry, task) => {
            cancel.cancel();
            (work.await, Some(limit))
        }
    };
    let failure = match result {
        // Perhaps it made it after all, in the very last moment.
        Ok(done) => return Ok(done),
        Err(failure) => failure,
    };
    // Whatever goes wrong once somebody asked to stop went wrong because of that.
    let stopped = matches!(
        failure.outcome,
        Outcome::Cancelled | Outcome::Failed | Outcome::Errored
    );
    Err(match limit {
        _ if !stopped => failure,
        _ if task.cancel.is_cancelled() => Failure::cancelled(failure.message),
        Some(limit) => timed_out(limit, &failure.message),
        None => failure,
    })
}

/// Waits until an attempt has had its time, and says how much that was.
async fn time_is_up(entry: &StageEntry, task: &Task) -> Duration {
    let limit = match entry.common.timeout {
        Some(limit) => limit,
        None if entry.is_last() => {
            task.asked.cancelled().await;
            LAST
        }
        None => return std::future::pending().await,
    };
    tokio::time::sleep(limit).await;
    limit
}

fn timed_out(limit: Duration, message: &str) -> Failure {
    let rest = message.strip_prefix("cancelled").unwrap_or(message);
    let rest = rest.trim_start_matches([':', ' ']);
    let mut message = format!("took longer than {}", crate::base::human_duration(limit));
    if !rest.is_empty() {
        message.push_str(&format!(": {rest}"));
    }
    Failure::timed_out(message)
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
        task.place.leave();
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
        Ok(Entry::Place(place)) => tokio::select! {
            biased;
            () = task.place.take() => Ok(Some(place)),
            () = task.cancel.cancelled() => {
                let reason = "cancelled while waiting for others to end";
                end(Outcome::Cancelled, reason.to_owned())
            }
        },
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
        .find(|(_, secret)| Masks::new([*secret]).finds(value))
        .map_or_else(
            || "a secret".to_owned(),
            |(name, _)| format!("secret {name}"),
        );
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
    past: &'a Mutex<Vec<EffectState>>,
}

#[async_trait]
impl Effects for Recorder<'_> {
    async fn intend(&self, key: &str, detail: BTreeMap<String, String>) -> Result<(), Failure> {
        let event = Event::Intent {
            stage: self.stage.clone(),
            key: key.to_owned(),
            detail: detail.clone(),
        };
        self.record(event, "nothing was changed").await?;
        EffectState::intend(&mut self.lock(), key, &detail);
        Ok(())
    }

    async fn done(&self, key: &str, detail: BTreeMap<String, String>) -> Result<(), Failure> {
        let event = Event::Effect {
            stage: self.stage.clone(),
            key: key.to_owned(),
            detail: detail.clone(),
        };
        self.record(event, "the change was made").await?;
        EffectState::done(&mut self.lock(), key, &detail);
        Ok(())
    }
}

impl Recorder<'_> {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<EffectState>> {
        self.past.lock().expect("no holder of this lock panics")
    }

    fn past(&self) -> Vec<EffectState> {
        self.lock().clone()
    }

    async fn record(&self, event: Event, consequence: &str) -> Result<(), Failure> {
        self.journal
            .record_durable(self.run, event)
            .await
            .map(drop)
            .map_err(|error| Failure::errored(format!("{error}; {consequence}")))
    }
}
