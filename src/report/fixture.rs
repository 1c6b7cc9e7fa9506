//! Made-up runs for the tests of reporters, with fixed ids and times.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{PartState, Reporter, Signal};
use crate::base::{Commit, RunId, StageId, Timestamp};
use crate::event::{Event, Outcome, Recorded, RunCreated, RunState, Trigger, Upstream};

/// 2026-01-31T08:00:00Z in milliseconds.
pub(crate) const START: i64 = 1_769_846_400_000;

/// A run told event by event.
pub(crate) struct Story {
    pub(crate) run: RunId,
    pub(crate) events: Vec<Recorded>,
    now: i64,
    seq: u64,
}

impl Story {
    /// A run that was created at second 0.
    pub(crate) fn new(pipeline: &str, stages: &[&str]) -> Self {
        Self::with(RunId::new(1_769_846_400_000, 7), pipeline, stages, None)
    }

    /// A run chained from another.
    pub(crate) fn chained(&self, pipeline: &str, stages: &[&str]) -> Self {
        let upstream = Upstream {
            run: self.run.clone(),
            attempt: 1,
            pipeline: "release".to_owned(),
            outcome: Outcome::Succeeded,
            outputs: BTreeMap::new(),
        };
        let run = RunId::new(1_769_846_400_000, 8);
        Self::with(run, pipeline, stages, Some(upstream))
    }

    fn with(run: RunId, pipeline: &str, stages: &[&str], upstream: Option<Upstream>) -> Self {
        let mut story = Self {
            run: run.clone(),
            events: Vec::new(),
            now: START,
            seq: 0,
        };
        story.add(Event::RunCreated(Box::new(RunCreated {
            version: 1,
            pipeline: pipeline.to_owned(),
            commit: Commit {
                sha: "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".to_owned(),
                branch: Some("main".to_owned()),
                reference: "refs/heads/main".to_owned(),
                message: "Add a thing".to_owned(),
                ..Commit::default()
            },
            dirty: false,
            trigger: Trigger::Manual,
            inputs: BTreeMap::new(),
            vars: BTreeMap::new(),
            watched: BTreeMap::new(),
            root: upstream.as_ref().map_or(run, |up| up.run.clone()),
            upstream,
            definition: "0".repeat(64),
            project: "pipelines".to_owned(),
            only: Vec::new(),
            simulated: false,
            stages: stages.iter().map(|id| StageId::from(*id)).collect(),
        })));
        story.add(Event::RunStarted {
            attempt: 1,
            reset: Vec::new(),
        });
        story
    }

    /// Moves to a second.
    pub(crate) fn at(&mut self, second: i64) -> &mut Self {
        self.now = START + second * 1000;
        self
    }

    /// Adds any event.
    pub(crate) fn add(&mut self, event: Event) -> &mut Self {
        self.seq += 1;
        self.events.push(Recorded {
            seq: self.seq,
            at: Timestamp(self.now),
            run: self.run.clone(),
            event,
        });
        self
    }

    pub(crate) fn start(&mut self, stage: &str) -> &mut Self {
        self.add(Event::StageStarted {
            stage: stage.into(),
            attempt: 1,
        })
    }

    pub(crate) fn end(&mut self, stage: &str, outcome: Outcome, reason: &str) -> &mut Self {
        self.end_with(stage, outcome, reason, &[])
    }

    pub(crate) fn end_with(
        &mut self,
        stage: &str,
        outcome: Outcome,
        reason: &str,
        outputs: &[(&str, &str)],
    ) -> &mut Self {
        self.add(Event::StageFinished {
            stage: stage.into(),
            outcome,
            reason: reason.to_owned(),
            outputs: outputs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            allowed: false,
        })
    }

    pub(crate) fn finish(&mut self, outcome: Outcome) -> &mut Self {
        self.add(Event::RunFinished { outcome })
    }

    pub(crate) fn state(&self) -> RunState {
        RunState::of(&self.events)
    }

    /// Gives every event told so far to a reporter, and forgets them.
    pub(crate) fn tell(&mut self, reporter: &mut dyn Reporter) {
        for recorded in self.events.drain(..) {
            reporter.signal(&Signal::Event(recorded));
        }
    }

    pub(crate) fn log(&self, stage: &str, text: &[u8]) -> Signal {
        Signal::Log {
            run: self.run.clone(),
            stage: stage.into(),
            bytes: Bytes::copy_from_slice(text),
        }
    }

    pub(crate) fn progress(
        &self,
        stage: &str,
        label: &str,
        done: u64,
        total: Option<u64>,
        state: PartState,
    ) -> Signal {
        Signal::Progress {
            run: self.run.clone(),
            stage: stage.into(),
            id: label.to_owned(),
            label: label.to_owned(),
            done,
            total,
            state,
        }
    }
}

/// A writer whose text can be read by the test.
#[derive(Clone, Default)]
pub(crate) struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    pub(crate) fn boxed(&self) -> Box<dyn Write + Send> {
        Box::new(self.clone())
    }

    /// Takes what was written since the last call.
    pub(crate) fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().expect("no writer panics"));
        String::from_utf8(bytes).expect("reporters write UTF-8")
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("no writer panics")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe whose reader is gone; counts the attempts.
#[derive(Clone, Default)]
pub(crate) struct ClosedPipe(pub(crate) Arc<Mutex<usize>>);

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        *self.0.lock().expect("no writer panics") += 1;
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}
