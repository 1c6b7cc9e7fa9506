//! What a live view knows: runs, their stages by class, and what running stages are at.
//!
//! Keeps sets per class up to date as events come, so that drawing never has to look at every
//! stage.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::tail::Tail;
use super::{PartState, Signal};
use crate::base::{RunId, StageId, Timestamp};
use crate::event::{Event, Outcome, Recorded, RunState, StageState};

/// Stages that ended last, remembered to be shown when there is room.
const RECENT: usize = 64;
/// Failing stages whose last lines are kept.
const TAILS: usize = 32;
/// Parts of one stage followed at the same time.
const PARTS: usize = 256;

/// How a stage stands, for the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Not begun.
    Pending,
    /// Waits for a place in a group.
    Waiting,
    /// At work.
    Running,
    /// Ended.
    Ended(Outcome),
}

impl Class {
    /// How many classes there are.
    pub(super) const COUNT: usize = 3 + Outcome::ALL.len();

    /// Every class.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Self::Running, Self::Waiting, Self::Pending]
            .into_iter()
            .chain(Outcome::ALL.into_iter().map(Self::Ended))
    }

    /// Position in arrays of [`Class::COUNT`].
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Pending => 0,
            Self::Waiting => 1,
            Self::Running => 2,
            Self::Ended(outcome) => 3 + outcome as usize,
        }
    }

    fn of(stage: &StageState) -> Self {
        match stage.outcome {
            Some(outcome) => Self::Ended(outcome),
            None if stage.waiting.is_some() => Self::Waiting,
            None if stage.started_at.is_some() => Self::Running,
            None => Self::Pending,
        }
    }

    /// Whether it is the root of a failure, not a follower.
    const fn is_culprit(self) -> bool {
        matches!(
            self,
            Self::Ended(Outcome::Failed | Outcome::Errored | Outcome::TimedOut)
        )
    }
}

/// Every run heard of.
#[derive(Default)]
pub(super) struct Tree {
    runs: Vec<RunView>,
    index: HashMap<RunId, usize>,
}

/// One run.
pub(super) struct RunView {
    /// The run.
    pub(super) id: RunId,
    /// The fold over its events.
    pub(super) state: RunState,
    index: HashMap<StageId, usize>,
    classes: Vec<Class>,
    sets: [BTreeSet<usize>; Class::COUNT],
    recent: VecDeque<usize>,
    live: HashMap<usize, Live>,
}

/// What a stage at work is at, or was when it failed.
#[derive(Default)]
pub(super) struct Live {
    /// Its last lines.
    pub(super) tail: Tail,
    /// Another attempt follows: why, and when.
    pub(super) retry: Option<(String, Timestamp)>,
    parts: Vec<Part>,
    /// Units of transfers that are done.
    moved: u64,
}

struct Part {
    id: String,
    label: String,
    done: u64,
    total: Option<u64>,
}

/// How far a stage's transfers are in all, or what it does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// Something with a known end.
    Transfer {
        /// Units done.
        done: u64,
        /// Units in all.
        total: u64,
        /// What is moved.
        label: &'a str,
    },
    /// Something without a known end.
    Work(&'a str),
}

impl Live {
    /// What it is at.
    pub(super) fn step(&self) -> Option<Step<'_>> {
        let (mut done, mut total) = (self.moved, self.moved);
        let mut label = None;
        for part in &self.parts {
            if let Some(all) = part.total.filter(|all| *all > 0) {
                done = done.saturating_add(part.done.min(all));
                total = total.saturating_add(all);
                label = Some(part.label.as_str());
            }
        }
        match label {
            Some(label) => Some(Step::Transfer { done, total, label }),
            None => self.parts.last().map(|part| Step::Work(&part.label)),
        }
    }

    fn progress(&mut self, new: Part, state: PartState) {
        let known = self.parts.iter().position(|part| part.id == new.id);
        if state == PartState::Running {
            match known {
                Some(at) => self.parts[at] = new,
                None if self.parts.len() < PARTS => self.parts.push(new),
                None => {}
            }
        } else if let Some(at) = known {
            let old = self.parts.remove(at);
            self.moved = self.moved.saturating_add(old.total.unwrap_or(0));
            if self.parts.is_empty() {
                self.moved = 0;
            }
        }
    }
}

impl Tree {
    /// The runs, in the order they were heard of.
    pub(super) fn runs(&self) -> &[RunView] {
        &self.runs
    }

    /// Whether anything moves on without an event: a clock that ticks.
    pub(super) fn is_live(&self) -> bool {
        self.runs.iter().any(|run| run.state.outcome.is_none())
    }

    /// Takes a signal in.
    pub(super) fn signal(&mut self, signal: &Signal) {
        match signal {
            Signal::Event(recorded) => self.run(&recorded.run).event(recorded),
            Signal::Log { run, stage, bytes } => {
                if let Some(live) = self.run(run).live(stage) {
                    live.tail.push(bytes);
                }
            }
            Signal::Progress {
                run,
                stage,
                id,
                label,
                done,
                total,
                state,
            } => {
                if let Some(live) = self.run(run).live(stage) {
                    let part = Part {
                        id: id.clone(),
                        label: super::text::one_line(label),
                        done: *done,
                        total: *total,
                    };
                    live.progress(part, *state);
                }
            }
        }
    }

    fn run(&mut self, id: &RunId) -> &mut RunView {
        let at = *self.index.entry(id.clone()).or_insert_with(|| {
            self.runs.push(RunView::new(id.clone()));
            self.runs.len() - 1
        });
        &mut self.runs[at]
    }
}

impl RunView {
    fn new(id: RunId) -> Self {
        Self {
            id,
            state: RunState::default(),
            index: HashMap::new(),
            classes: Vec::new(),
            sets: Default::default(),
            recent: VecDeque::new(),
            live: HashMap::new(),
        }
    }

    /// A stage by position.
    pub(super) fn stage(&self, at: usize) -> (&StageState, Class, Option<&Live>) {
        (
            &self.state.stages()[at],
            self.classes[at],
            self.live.get(&at),
        )
    }

    /// How many stages there are.
    pub(super) fn len(&self) -> usize {
        self.classes.len()
    }

    /// How many stages are in a class.
    pub(super) fn count(&self, class: Class) -> usize {
        self.sets[class.index()].len()
    }

    /// Stages of a class, in declaration order.
    pub(super) fn of_class(&self, class: Class) -> impl Iterator<Item = usize> {
        self.sets[class.index()].iter().copied()
    }

    /// Stages that ended last, newest first.
    pub(super) fn recent(&self) -> impl Iterator<Item = usize> {
        self.recent.iter().rev().copied()
    }

    /// Stages that ended.
    pub(super) fn ended(&self) -> usize {
        self.len()
            - self.count(Class::Pending)
            - self.count(Class::Waiting)
            - self.count(Class::Running)
    }

    fn live(&mut self, stage: &StageId) -> Option<&mut Live> {
        let at = *self.index.get(stage)?;
        match self.classes[at] {
            // Late lines of a stage that failed still belong to it.
            Class::Ended(_) => self.live.get_mut(&at),
            _ => Some(self.live.entry(at).or_default()),
        }
    }

    fn event(&mut self, recorded: &Recorded) {
        if recorded.seq != 0 && recorded.seq <= self.state.seq {
            return;
        }
        self.state.apply(recorded);
        for at in self.classes.len()..self.state.stages().len() {
            let id = self.state.stages()[at].id.clone();
            self.index.insert(id, at);
            self.classes.push(Class::Pending);
            self.sets[Class::Pending.index()].insert(at);
        }
        match &recorded.event {
            Event::RunStarted { reset, .. } => reset.iter().for_each(|stage| self.sort(stage)),
            Event::StageStarted { stage, .. } => {
                self.sort(stage);
                if let Some(live) = self.live(stage) {
                    *live = Live::default();
                }
            }
            Event::StageRetried {
                stage,
                reason,
                wait_ms,
                ..
            } => {
                self.sort(stage);
                let wait = i64::try_from(*wait_ms).unwrap_or(i64::MAX);
                let until = Timestamp(recorded.at.0.saturating_add(wait));
                if let Some(live) = self.live(stage) {
                    live.retry = Some((super::text::one_line(reason), until));
                    live.parts.clear();
                }
            }
            Event::StageWaiting { stage, .. } | Event::StageFinished { stage, .. } => {
                self.sort(stage);
            }
            Event::RunCreated(_)
            | Event::Intent { .. }
            | Event::Effect { .. }
            | Event::Warning { .. }
            | Event::CancelRequested { .. }
            | Event::ChainCreated { .. }
            | Event::RunFinished { .. } => {}
        }
    }

    /// Puts a stage into the set of its class.
    fn sort(&mut self, stage: &StageId) {
        let Some(&at) = self.index.get(stage) else {
            return;
        };
        let (old, new) = (self.classes[at], Class::of(&self.state.stages()[at]));
        self.sets[old.index()].remove(&at);
        self.sets[new.index()].insert(at);
        self.classes[at] = new;
        if let Class::Ended(_) = new {
            let failing = [Outcome::Failed, Outcome::Errored, Outcome::TimedOut];
            let failing: usize = failing.map(|o| self.count(Class::Ended(o))).iter().sum();
            if !new.is_culprit() || failing > TAILS {
                self.live.remove(&at);
            }
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(at);
        } else if old != new {
            self.recent.retain(|ended| *ended != at);
        }
    }
}

/// When something that began is likely to end.
pub(super) type Expected = HashMap<StageId, Duration>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::Story;

    fn part(id: &str, done: u64, total: Option<u64>) -> Part {
        Part {
            id: id.to_owned(),
            label: id.to_owned(),
            done,
            total,
        }
    }

    #[test]
    fn classes_follow_events() {
        let mut tree = Tree::default();
        let mut story = Story::new("release", &["run.a", "run.b", "run.c"]);
        story
            .start("run.a")
            .start("run.b")
            .end("run.b", Outcome::Failed, "no");
        story.add(Event::StageWaiting {
            stage: "run.c".into(),
            group: "prod".to_owned(),
        });
        let events = story.events.clone();
        for recorded in events.iter().chain(&events) {
            tree.signal(&Signal::Event(recorded.clone()));
        }
        let run = &tree.runs()[0];
        assert_eq!((run.len(), run.ended()), (3, 1));
        assert_eq!(run.of_class(Class::Running).collect::<Vec<_>>(), [0]);
        assert_eq!(run.of_class(Class::Waiting).collect::<Vec<_>>(), [2]);
        assert_eq!(run.count(Class::Ended(Outcome::Failed)), 1);
        assert_eq!(run.recent().collect::<Vec<_>>(), [1]);

        story.events.clear();
        story.add(Event::RunStarted {
            attempt: 2,
            reset: vec!["run.b".into()],
        });
        tree.signal(&Signal::Event(story.events[0].clone()));
        let run = &tree.runs()[0];
        assert_eq!(run.count(Class::Pending), 1);
        assert_eq!(run.recent().count(), 0);
    }

    #[test]
    fn indexes_are_distinct() {
        let mut seen: Vec<usize> = Class::all().map(Class::index).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..Class::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn transfers_add_up() {
        let mut live = Live::default();
        assert_eq!(live.step(), None);
        live.progress(part("resolve", 0, None), PartState::Running);
        assert_eq!(live.step(), Some(Step::Work("resolve")));
        live.progress(part("a", 10, Some(100)), PartState::Running);
        live.progress(part("b", 500, Some(50)), PartState::Running);
        let (done, total, label) = (60, 150, "b");
        assert_eq!(live.step(), Some(Step::Transfer { done, total, label }));
        live.progress(part("b", 50, Some(50)), PartState::Done);
        let (done, total, label) = (60, 150, "a");
        assert_eq!(live.step(), Some(Step::Transfer { done, total, label }));
        live.progress(part("a", 0, None), PartState::Failed);
        live.progress(part("never seen", 0, None), PartState::Cached);
        assert_eq!(live.step(), Some(Step::Work("resolve")));
    }

    #[test]
    fn parts_are_bounded() {
        let mut live = Live::default();
        for n in 0..10_000 {
            live.progress(part(&n.to_string(), 1, Some(u64::MAX)), PartState::Running);
        }
        assert_eq!(live.parts.len(), PARTS);
        assert!(matches!(live.step(), Some(Step::Transfer { .. })));
    }
}
