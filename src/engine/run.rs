//! The loop: starts what the schedule allows and records how it ended.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::chain;
use super::execute::{Refused, look_for_request};
use super::output::StageOutput;
use super::place::WorkPlace;
use super::schedule::{Decision, Lane, Schedule, Standing};
use super::stage::{self, End, Shared, Task};
use super::{Cancel, EngineError};
use crate::event::{Event, Outcome, RunState};
use crate::stage::Kind;

/// How often requests from other processes are looked for and logs are flushed.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// Stages that wait for others rather than work, which may run at once.
const REMOTE: usize = 64;

/// Builds that may run at once, if `--jobs` does not say more. A build mostly waits for the engine,
/// which runs steps of several at once only where it has the means.
const BUILDS: usize = 4;

/// By what the start of a kind's stages is bounded.
fn lane(kind: &Kind) -> Lane {
    match kind.name() {
        "run" | "scan" => Lane::Local,
        "build" => Lane::Build,
        _ => Lane::Remote,
    }
}

/// How many stages of a lane may be at work at once.
fn places(lane: Lane, jobs: usize) -> usize {
    match lane {
        Lane::Local => jobs,
        Lane::Build => jobs.max(BUILDS),
        Lane::Remote => REMOTE,
    }
}

/// A run at work.
pub(super) struct Runner<'a> {
    shared: Arc<Shared>,
    schedule: Schedule,
    before: &'a RunState,
    cancel: Cancel,
    /// Whether the request to stop was acted on.
    cancelled: bool,
    /// How the run ends because it did not get into its group.
    refused: Option<Outcome>,
    tasks: JoinSet<End>,
    /// Places for stages at work, by lane.
    places: [Arc<Semaphore>; Lane::ALL.len()],
    /// Told when a place is given back before its stage has ended.
    freed: Arc<Notify>,
    started: Vec<bool>,
    outputs: Vec<Weak<StageOutput>>,
    /// How stages ended: the raw outcome, and whether it does not count.
    ended: HashMap<usize, (Outcome, bool)>,
    /// Why the run cannot go on, although what runs is still awaited.
    failure: Option<EngineError>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(shared: Arc<Shared>, cancel: Cancel, before: &'a RunState) -> Self {
        let plan = &shared.plan;
        let expected = chain::durations(&shared);
        let durations: Vec<u64> = plan
            .stages
            .iter()
            .map(|entry| expected.get(entry.id.as_str()).copied().unwrap_or(1))
            .collect();
        let lanes: Vec<Lane> = plan.stages.iter().map(|entry| lane(entry.kind)).collect();
        let left_out = |at| plan.left_out.contains_key(&at);
        let jobs = shared.engine.jobs.clamp(1, Semaphore::MAX_PERMITS);
        let schedule = Schedule::new(plan.graph.clone(), &durations, &lanes, left_out);
        Self {
            started: vec![false; plan.stages.len()],
            schedule,
            before,
            cancel,
            cancelled: false,
            refused: None,
            tasks: JoinSet::new(),
            places: Lane::ALL.map(|lane| Arc::new(Semaphore::new(places(lane, jobs)))),
            freed: Arc::default(),
            outputs: Vec::new(),
            ended: HashMap::new(),
            failure: None,
            shared,
        }
    }

    /// Runs every stage; of a run that was refused, those that follow everything.
    pub(super) async fn run(&mut self, refused: Option<Refused>) -> Result<(), EngineError> {
        self.begin();
        if let Some((outcome, reason)) = refused {
            self.refuse(outcome, &reason);
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.record_decisions();
            if !self.cancelled && self.cancel.is_requested() {
                self.stop();
                continue;
            }
            self.start_ready();
            if self.schedule.is_done() && self.tasks.is_empty() {
                return self.failed();
            }
            let gentle = self.cancel.gentle().clone();
            tokio::select! {
                biased;
                Some(end) = self.tasks.join_next() => match end {
                    Ok(end) => {
                        // Its end may follow from the request; what waits for it must know that.
                        if !self.cancelled && self.cancel.is_requested() {
                            self.stop();
                        }
                        self.finish(end);
                    }
                    // A panic in a stage is a defect; the run must still come to an end.
                    Err(panic) => self.lost(&panic.to_string()),
                },
                () = gentle.cancelled(), if !self.cancelled => {}
                () = self.freed.notified() => {}
                _ = tick.tick() => self.tick(),
            }
        }
    }

    /// Stages that ended in an earlier attempt keep how they ended.
    fn begin(&mut self) {
        let mut ended = Vec::new();
        for (at, entry) in self.shared.plan.stages.iter().enumerate() {
            let Some(stage) = self.before.stage(&entry.id) else {
                continue;
            };
            let Some(outcome) = stage.outcome else {
                continue;
            };
            self.started[at] = true;
            self.ended.insert(at, (outcome, stage.allowed));
            self.shared
                .values
                .record(&entry.id, outcome, stage.outputs.clone());
            ended.push((at, standing(outcome, stage.allowed)));
        }
        self.schedule.begin(ended);
    }

    fn start_ready(&mut self) {
        for lane in Lane::ALL {
            let places = self.places[lane as usize].clone();
            while let Ok(place) = places.clone().try_acquire_owned() {
                let Some(at) = self.schedule.next(lane) else {
                    break;
                };
                self.start(at, place);
            }
        }
    }

    fn start(&mut self, at: usize, place: OwnedSemaphorePermit) {
        let plan = &self.shared.plan;
        let entry = &plan.stages[at];
        self.started[at] = true;
        let cancel = if entry.is_last() {
            // How the run stands is part of what these tell.
            let outcome = self.outcome();
            *self
                .shared
                .values
                .outcome
                .write()
                .expect("no holder of this lock panics") = Some(outcome);
            self.cancel.forced().child_token()
        } else {
            self.cancel.gentle().child_token()
        };
        let engine = &self.shared.engine;
        let output = Arc::new(StageOutput::new(
            &self.shared.run,
            &entry.id,
            engine.world.store.clone(),
            engine.feed.clone(),
            &self.shared.masks,
        ));
        self.outputs.push(Arc::downgrade(&output));
        let before = self.before.stage(&entry.id);
        let task = Task {
            at,
            attempts: before.map_or(0, |stage| stage.attempt),
            interrupted: before.is_some_and(|stage| stage.attempt > 0 && stage.outcome.is_none()),
            past: before
                .map(|stage| stage.effects.clone())
                .unwrap_or_default(),
            cancel,
            force: self.cancel.forced().clone(),
            asked: self.cancel.gentle().clone(),
            output,
            place: WorkPlace::taken(place, self.freed.clone()),
        };
        self.tasks.spawn(stage::run(self.shared.clone(), task));
    }

    fn finish(&mut self, mut end: End) {
        if end.outcome == Outcome::Cancelled {
            end.reason = who(&self.cancel, &end.reason);
        }
        let entry = &self.shared.plan.stages[end.at];
        let warnings = end.warnings.iter().map(|message| Event::Warning {
            stage: Some(entry.id.clone()),
            message: message.clone(),
        });
        for warning in warnings {
            self.shared.engine.journal.record(&self.shared.run, warning);
        }
        self.conclude(end);
    }

    /// Records how a stage ended and lets the schedule go on.
    fn conclude(&mut self, end: End) {
        let entry = &self.shared.plan.stages[end.at];
        // A message that could not be sent is a warning, never a failed delivery.
        let forgiving = entry.common.allow_failure || entry.kind.name() == "notify";
        let allowed = forgiving
            && end.outcome.is_bad()
            && !matches!(end.outcome, Outcome::Blocked | Outcome::Cancelled);
        self.ended.insert(end.at, (end.outcome, allowed));
        self.shared
            .values
            .record(&entry.id, end.outcome, end.outputs.clone());
        let event = Event::StageFinished {
            stage: entry.id.clone(),
            outcome: end.outcome,
            reason: end.reason,
            outputs: end.outputs,
            allowed,
        };
        self.shared
            .engine
            .journal
            .record_with(&self.shared.run, event, end.changes);
        self.schedule.finish(end.at, standing(end.outcome, allowed));
    }

    fn record_decisions(&mut self) {
        while let Some((at, decision)) = self.schedule.decided() {
            let stages = &self.shared.plan.stages;
            let how = |cause: usize| {
                let outcome = self
                    .ended
                    .get(&cause)
                    .map_or("did not run", |(outcome, _)| outcome.as_str());
                (stages[cause].id.clone(), outcome)
            };
            let (outcome, reason) = match decision {
                Decision::LeaveOut => {
                    let reason = self
                        .shared
                        .plan
                        .left_out
                        .get(&at)
                        .cloned()
                        .unwrap_or_default();
                    (Outcome::Skipped, reason)
                }
                Decision::Skip(cause) => {
                    let (id, outcome) = how(cause);
                    (
                        Outcome::Skipped,
                        format!("{id}, whose result it needs, {}", verb(outcome)),
                    )
                }
                Decision::Block(cause) => {
                    let (id, outcome) = how(cause);
                    (
                        Outcome::Blocked,
                        format!("{id}, which it waits for, {}", verb(outcome)),
                    )
                }
            };
            self.started[at] = true;
            self.conclude(End::new(at, outcome, reason));
        }
    }

    /// Acts on a request to stop: what has not begun never will, but for what runs at the end.
    fn stop(&mut self) {
        let reason = format!("the run was cancelled by {}", self.cancel.by());
        self.note_request();
        self.never_start(Outcome::Cancelled, &reason);
    }

    /// The run does not begin at all: it was superseded or cancelled while it waited.
    fn refuse(&mut self, outcome: Outcome, reason: &str) {
        if outcome == Outcome::Cancelled {
            self.note_request();
        }
        self.refused = Some(outcome);
        self.never_start(outcome, reason);
    }

    fn note_request(&mut self) {
        self.cancelled = true;
        let by = self.cancel.by().to_owned();
        let event = Event::CancelRequested { by };
        self.shared.engine.journal.record(&self.shared.run, event);
    }

    fn never_start(&mut self, outcome: Outcome, reason: &str) {
        let shared = self.shared.clone();
        let started = self.started.clone();
        let not_begun = self
            .schedule
            .drain(|at| started[at] || shared.plan.stages[at].is_last());
        for at in not_begun {
            self.started[at] = true;
            self.conclude(End::new(at, outcome, reason));
        }
    }

    fn tick(&mut self) {
        self.outputs.retain(|output| match output.upgrade() {
            Some(output) => {
                output.flush();
                true
            }
            None => false,
        });
        if !self.cancelled
            && let Err(error) = look_for_request(&self.shared, &self.cancel)
        {
            // What runs is stopped and awaited all the same.
            self.failure.get_or_insert(error);
            self.cancel
                .request("the state directory, which cannot be read");
        }
        if self.shared.engine.journal.failed().is_some() && !self.cancel.is_requested() {
            self.cancel.request("the journal, which cannot be written");
        }
    }

    /// A stage's task panicked. Which one is found by who is missing.
    fn lost(&mut self, why: &str) {
        let missing = (0..self.started.len()).find(|at| {
            self.started[*at]
                && !self.ended.contains_key(at)
                && self.outputs.iter().all(|output| output.strong_count() == 0)
        });
        let missing = missing.or_else(|| {
            (0..self.started.len()).find(|at| self.started[*at] && !self.ended.contains_key(at))
        });
        if let Some(at) = missing {
            let reason = format!("pipewright itself failed here, please report it: {why}");
            self.conclude(End::new(at, Outcome::Errored, reason));
        }
    }

    fn failed(&self) -> Result<(), EngineError> {
        match self.shared.engine.journal.failed() {
            Some(error) => Err(error.into()),
            None => self.failure.clone().map_or(Ok(()), Err),
        }
    }

    /// The run's outcome from the stages that ended.
    pub(super) fn outcome(&self) -> Outcome {
        let stages = &self.shared.plan.stages;
        let worst = self
            .ended
            .iter()
            // What only tells of the run is no part of it.
            .filter(|(at, _)| stages[**at].kind.name() != "notify")
            .filter_map(|(_, (outcome, allowed))| match outcome {
                _ if *allowed => Some(Outcome::Succeeded),
                // Whatever blocked it has its own outcome.
                Outcome::Blocked => None,
                outcome => Some(*outcome),
            })
            .max();
        match worst {
            _ if self.cancelled
                && worst.is_none_or(|worst| worst < Outcome::Cancelled)
                && self.was_cut_short() =>
            {
                Outcome::Cancelled
            }
            // What follows everything succeeds without anything having been delivered.
            Some(worst) if worst.is_bad() => worst.max(self.refused.unwrap_or(worst)),
            worst => self.refused.or(worst).unwrap_or(Outcome::Skipped),
        }
    }

    /// Whether the request to stop changed anything.
    fn was_cut_short(&self) -> bool {
        self.ended
            .values()
            .any(|(outcome, _)| *outcome == Outcome::Cancelled)
    }
}

/// Says in a reason who asked for it: `cancelled: not pushed` → `cancelled by X: not pushed`.
pub(super) fn who(cancel: &Cancel, reason: &str) -> String {
    let by = cancel.by();
    match reason.strip_prefix("cancelled") {
        Some(rest) => format!("cancelled by {by}{rest}"),
        None => format!("cancelled by {by}: {reason}"),
    }
}

fn standing(outcome: Outcome, allowed: bool) -> Standing {
    match outcome {
        Outcome::Succeeded | Outcome::UpToDate => Standing::Good,
        Outcome::Skipped => Standing::Skipped,
        _ if allowed => Standing::Allowed,
        _ => Standing::Bad,
    }
}

fn verb(outcome: &str) -> String {
    match outcome {
        "failed" | "errored" | "timed-out" => outcome.replace('-', " "),
        other => format!("was {other}"),
    }
}
