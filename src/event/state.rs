//! The state of a run: a fold over its events.

use std::collections::{BTreeMap, HashMap};

use super::{Event, Outcome, Recorded, RunCreated};
use crate::base::{RunId, StageId, Timestamp};

/// A run as its events tell it.
#[derive(Clone, Debug, Default)]
pub struct RunState {
    /// The run.
    pub run: Option<RunId>,
    /// Its birth certificate.
    pub created: Option<RunCreated>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When the present attempt began.
    pub started_at: Option<Timestamp>,
    /// The present attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Who asked for it to stop.
    pub cancelled_by: Option<String>,
    /// Runs it started when it ended: run and pipeline.
    pub chained: Vec<(RunId, String)>,
    /// Warnings, oldest first.
    pub warnings: Vec<(Option<StageId>, String)>,
    /// The last event folded in.
    pub seq: u64,
    stages: Vec<StageState>,
    index: HashMap<StageId, usize>,
}

/// A stage as its run's events tell it.
#[derive(Clone, Debug)]
pub struct StageState {
    /// The stage.
    pub id: StageId,
    /// Attempts begun.
    pub attempt: u32,
    /// When the first attempt of the present run attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why.
    pub reason: String,
    /// What it left to others.
    pub outputs: BTreeMap<String, String>,
    /// Whether its failure does not count.
    pub allowed: bool,
    /// The concurrency group it waits for.
    pub waiting: Option<String>,
    /// Changes it intended, in order.
    pub effects: Vec<EffectState>,
}

/// A change a stage intended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectState {
    /// Which change.
    pub key: String,
    /// What was recorded before it.
    pub intent: BTreeMap<String, String>,
    /// What was recorded after it; absent if it is not known to have been made.
    pub result: Option<BTreeMap<String, String>>,
}

impl EffectState {
    /// Notes an intent among those of a stage; one of the same key before it is over.
    pub fn intend(effects: &mut Vec<Self>, key: &str, intent: &BTreeMap<String, String>) {
        effects.retain(|effect| effect.key != key);
        effects.push(Self {
            key: key.to_owned(),
            intent: intent.clone(),
            result: None,
        });
    }

    /// Notes that a change of a stage was made.
    pub fn done(effects: &mut Vec<Self>, key: &str, result: &BTreeMap<String, String>) {
        match effects.iter_mut().find(|effect| effect.key == key) {
            Some(effect) => effect.result = Some(result.clone()),
            None => effects.push(Self {
                key: key.to_owned(),
                intent: BTreeMap::new(),
                result: Some(result.clone()),
            }),
        }
    }
}

impl StageState {
    fn new(id: StageId) -> Self {
        Self {
            id,
            attempt: 0,
            started_at: None,
            finished_at: None,
            outcome: None,
            reason: String::new(),
            outputs: BTreeMap::new(),
            allowed: false,
            waiting: None,
            effects: Vec::new(),
        }
    }

    /// Whether it began and has not ended.
    pub fn is_running(&self) -> bool {
        self.started_at.is_some() && self.outcome.is_none()
    }
}

impl RunState {
    /// Folds a run's events, oldest first.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Recorded>) -> Self {
        let mut state = Self::default();
        for event in events {
            state.apply(event);
        }
        state
    }

    /// The stages in declaration order.
    pub fn stages(&self) -> &[StageState] {
        &self.stages
    }

    /// One stage.
    pub fn stage(&self, id: &StageId) -> Option<&StageState> {
        self.index.get(id).map(|at| &self.stages[*at])
    }

    /// Folds in one event. Events already seen are ignored, so that replay may overlap.
    pub fn apply(&mut self, recorded: &Recorded) {
        if recorded.seq != 0 && recorded.seq <= self.seq {
            return;
        }
        self.seq = self.seq.max(recorded.seq);
        let at = recorded.at;
        match &recorded.event {
            Event::RunCreated(created) => {
                self.run = Some(recorded.run.clone());
                self.created_at = at;
                for id in &created.stages {
                    self.entry(id);
                }
                self.created = Some((**created).clone());
            }
            Event::RunStarted { attempt, reset } => {
                self.attempt = *attempt;
                self.started_at = Some(at);
                self.finished_at = None;
                self.outcome = None;
                self.cancelled_by = None;
                for id in reset {
                    let stage = self.entry(id);
                    let effects = std::mem::take(&mut stage.effects);
                    *stage = StageState::new(id.clone());
                    stage.effects = effects;
                }
            }
            Event::StageStarted { stage, attempt } => {
                let stage = self.entry(stage);
                stage.attempt = *attempt;
                stage.started_at.get_or_insert(at);
                stage.waiting = None;
                stage.outcome = None;
            }
            Event::Intent { stage, key, detail } => {
                EffectState::intend(&mut self.entry(stage).effects, key, detail);
            }
            Event::Effect { stage, key, detail } => {
                EffectState::done(&mut self.entry(stage).effects, key, detail);
            }
            Event::StageRetried { stage, .. } => self.entry(stage).waiting = None,
            Event::StageWaiting { stage, group } => self.entry(stage).waiting = Some(group.clone()),
            Event::StageFinished {
                stage,
                outcome,
                reason,
                outputs,
                allowed,
            } => {
                let stage = self.entry(stage);
                stage.outcome = Some(*outcome);
                stage.finished_at = Some(at);
                stage.reason.clone_from(reason);
                stage.outputs.clone_from(outputs);
                stage.allowed = *allowed;
                stage.waiting = None;
            }
            Event::Warning { stage, message } => {
                self.warnings.push((stage.clone(), message.clone()))
            }
            Event::CancelRequested { by } => {
                self.cancelled_by.get_or_insert_with(|| by.clone());
            }
            Event::ChainCreated { run, pipeline } => {
                self.chained.push((run.clone(), pipeline.clone()))
            }
            Event::RunFinished { outcome } => {
                self.outcome = Some(*outcome);
                self.finished_at = Some(at);
            }
        }
    }

    fn entry(&mut self, id: &StageId) -> &mut StageState {
        let at = *self.index.entry(id.clone()).or_insert_with(|| {
            self.stages.push(StageState::new(id.clone()));
            self.stages.len() - 1
        });
        &mut self.stages[at]
    }
}
