//! Plain ordered lines with a prefix per stage, for logs of other systems and for pipes.
//!
//! Each stage's output is put together to whole lines, so that lines of stages that run at the
//! same time never mix.

use std::collections::HashMap;
use std::io::Write;

use bytes::Bytes;

use super::flood::{Ended, Flood};
use super::json::unfinished;
use super::sink::Sink;
use super::style::{Style, Tone};
use super::{Now, Reporter, Signal, text};
use crate::base::{RunId, StageId, Timestamp, human_bytes, human_count, human_duration};
use crate::event::{Event, Outcome, Recorded, RunCreated};

/// A line longer than this is split.
const LINE: usize = 64 << 10;

/// Writes lines such as `[build.app] compiling`.
pub struct Plain {
    sink: Sink,
    style: Style,
    now: Option<Now>,
    /// Pipelines of the runs heard of; the first one needs no mention in prefixes.
    runs: HashMap<RunId, Run>,
    open: HashMap<(RunId, StageId), Open>,
    /// Lines about to be written, kept for its capacity.
    page: Vec<u8>,
}

struct Run {
    pipeline: String,
    first: bool,
    started: Timestamp,
}

/// A stage that printed or began something.
#[derive(Default)]
struct Open {
    partial: Vec<u8>,
    started: Option<Timestamp>,
    flood: Flood,
}

impl Plain {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write + Send>, style: Style) -> Self {
        Self {
            sink: Sink::new(out),
            style,
            now: None,
            runs: HashMap::new(),
            open: HashMap::new(),
            page: Vec::new(),
        }
    }

    /// Begins every line with the time.
    #[must_use]
    pub fn with_times(mut self, now: Now) -> Self {
        self.now = Some(now);
        self
    }

    /// Takes in a piece of output and writes it, unless its stage prints too much.
    fn log(&mut self, run: &RunId, stage: &StageId, bytes: &Bytes) {
        let open = self.open.entry((run.clone(), stage.clone())).or_default();
        if open.flood.admits(&mut open.partial, bytes) {
            self.lines(run, stage, bytes);
        }
    }

    /// Writes what a stage printed last before it calmed down.
    fn after_flood(&mut self, run: &RunId, stage: &StageId, ended: &Ended) {
        if ended.left_out > 0 {
            let line = format!(
                "… {} not shown; `pipewright logs {} {stage}` has everything",
                human_bytes(ended.left_out),
                run.short()
            );
            let line = self.style.paint(Tone::Dim, &line).into_owned();
            self.stage_line(run, stage, None, &line);
        }
        self.lines(run, stage, &ended.tail);
    }

    /// Writes the whole lines of a piece of output and keeps the rest.
    ///
    /// Stages may print faster than anything else here runs, so the lines of a piece are put
    /// together first and written at once, and what is plain text is looked at as a whole.
    fn lines(&mut self, run: &RunId, stage: &StageId, bytes: &[u8]) {
        let key = (run.clone(), stage.clone());
        let mut partial = std::mem::take(&mut self.open.entry(key.clone()).or_default().partial);
        let head = format!("{}{} ", self.time(None), self.prefix(run, stage));
        let mut page = std::mem::take(&mut self.page);
        let plain = text::is_plain_log(bytes);
        let mut rest = bytes;
        loop {
            let end = memchr::memchr(b'\n', rest);
            let piece = &rest[..end.unwrap_or(rest.len())];
            let room = LINE - partial.len();
            if piece.len() > room {
                partial.extend_from_slice(&rest[..room]);
                let begun = partial.split_off(partial.len() - unfinished(&partial));
                self.line(&mut page, &head, &partial);
                partial = begun;
                rest = &rest[room..];
                continue;
            }
            let Some(end) = end else {
                partial.extend_from_slice(piece);
                break;
            };
            if !partial.is_empty() {
                partial.extend_from_slice(piece);
                self.line(&mut page, &head, &partial);
                partial.clear();
            } else if plain && piece.last().is_some_and(u8::is_ascii_graphic) {
                page.extend_from_slice(head.as_bytes());
                page.extend_from_slice(&rest[..=end]);
            } else {
                self.line(&mut page, &head, piece);
            }
            rest = &rest[end + 1..];
        }
        self.sink.put(&page);
        page.clear();
        self.page = page;
        self.open.entry(key).or_default().partial = partial;
    }

    /// Adds a line of output, made safe to show, to a page. `head` is what it begins with, up to
    /// the blank before the text.
    fn line(&self, page: &mut Vec<u8>, head: &str, line: &[u8]) {
        page.extend_from_slice(head.as_bytes());
        // Of the head only the blank goes.
        let start = page.len() - 1;
        let line = String::from_utf8_lossy(line);
        let line = text::clean_log(&line, self.style.has_colour());
        page.extend_from_slice(line.trim_end().as_bytes());
        let end = start + page[start..].trim_ascii_end().len();
        page.truncate(end);
        page.push(b'\n');
    }

    /// What the lines of a stage begin with.
    fn prefix(&self, run: &RunId, stage: &StageId) -> String {
        let prefix = match self.runs.get(run) {
            Some(known) if !known.first => format!("[{}:{}]", known.pipeline, stage),
            _ => format!("[{stage}]"),
        };
        let prefix = text::clean(&prefix);
        self.style.paint(Tone::Dim, &prefix).into_owned()
    }

    fn stage_line(&mut self, run: &RunId, stage: &StageId, at: Option<Timestamp>, line: &str) {
        let prefix = self.prefix(run, stage);
        self.put(at, &format!("{prefix} {line}"));
    }

    fn put(&mut self, at: Option<Timestamp>, line: &str) {
        let time = self.time(at);
        self.sink
            .put(format!("{time}{}\n", line.trim_end()).as_bytes());
    }

    /// The time a line begins with, and a blank; nothing unless times were asked for.
    fn time(&self, at: Option<Timestamp>) -> String {
        match &self.now {
            Some(now) => {
                let time = at.unwrap_or_else(now).rfc3339();
                format!("{} ", self.style.paint(Tone::Dim, &time))
            }
            None => String::new(),
        }
    }

    fn end_of(&mut self, run: &RunId, stage: &StageId) -> Open {
        let open = self.open.get_mut(&(run.clone(), stage.clone()));
        if let Some(ended) = open.and_then(|open| open.flood.end()) {
            self.after_flood(run, stage, &ended);
        }
        let open = self.open.remove(&(run.clone(), stage.clone()));
        let mut open = open.unwrap_or_default();
        if !open.partial.is_empty() {
            let mut page = Vec::new();
            let partial = std::mem::take(&mut open.partial);
            let head = format!("{}{} ", self.time(None), self.prefix(run, stage));
            self.line(&mut page, &head, &partial);
            self.sink.put(&page);
        }
        open
    }

    fn created(&mut self, recorded: &Recorded, created: &RunCreated) {
        let first = self.runs.is_empty();
        self.runs.insert(
            recorded.run.clone(),
            Run {
                pipeline: created.pipeline.clone(),
                first,
                started: recorded.at,
            },
        );
        let mut line = format!(
            "run {} of {} at {}",
            recorded.run,
            created.pipeline,
            created.commit.short_sha()
        );
        if created.dirty {
            line.push_str(" with uncommitted changes");
        }
        if let Some(name) = created
            .commit
            .branch
            .as_ref()
            .or(created.commit.tag.as_ref())
        {
            line.push_str(&format!(" ({name})"));
        }
        if created.simulated {
            line.push_str(", simulated");
        }
        line.push_str(&format!(": {}", human_count(created.stages.len(), "stage")));
        if let Some(upstream) = created.follows() {
            line.push_str(&format!(", chained from run {}", upstream.run));
        }
        self.run_line(recorded.at, &line);
    }

    fn run_line(&mut self, at: Timestamp, line: &str) {
        let line = text::one_line(line);
        let line = self.style.paint(Tone::Strong, &line).into_owned();
        self.put(Some(at), &line);
    }

    fn outcome(&self, outcome: Outcome) -> String {
        let word = format!("{} {outcome}", self.style.symbol(outcome));
        self.style
            .paint(self.style.tone(outcome), &word)
            .into_owned()
    }

    fn event(&mut self, recorded: &Recorded) {
        let (at, run) = (recorded.at, &recorded.run);
        match &recorded.event {
            Event::RunCreated(created) => self.created(recorded, created),
            Event::RunStarted { attempt, .. } => {
                if let Some(known) = self.runs.get_mut(run) {
                    known.started = at;
                }
                if *attempt > 1 {
                    self.run_line(at, &format!("run {run}: attempt {attempt}"));
                }
            }
            Event::StageStarted { stage, attempt } => {
                let key = (run.clone(), stage.clone());
                self.open.entry(key).or_default().started.get_or_insert(at);
                let line = match attempt {
                    0 | 1 => "started".to_owned(),
                    more => format!("started, attempt {more}"),
                };
                self.stage_line(run, stage, Some(at), &line);
            }
            Event::Intent { .. } | Event::Effect { .. } => {}
            Event::StageRetried {
                stage,
                outcome,
                reason,
                wait_ms,
            } => {
                let started = self.end_of(run, stage).started;
                if started.is_some() {
                    let key = (run.clone(), stage.clone());
                    self.open.entry(key).or_default().started = started;
                }
                let wait = human_duration(std::time::Duration::from_millis(*wait_ms));
                let line = format!(
                    "{}{}, retrying in {wait}",
                    self.outcome(*outcome),
                    tell(reason)
                );
                self.stage_line(run, stage, Some(at), &line);
            }
            Event::StageWaiting { stage, group } => {
                let line = format!("waiting for a place in group {}", text::one_line(group));
                self.stage_line(run, stage, Some(at), &line);
            }
            Event::StageFinished {
                stage,
                outcome,
                reason,
                allowed,
                ..
            } => {
                let open = self.end_of(run, stage);
                let mut line = self.outcome(*outcome);
                if *allowed && outcome.is_bad() {
                    line.push_str(" (allowed)");
                }
                if let Some(started) = open.started {
                    line.push_str(&format!(" in {}", human_duration(at.since(started))));
                }
                line.push_str(&tell(reason));
                self.stage_line(run, stage, Some(at), &line);
            }
            Event::Warning { stage, message } => {
                let word = self.style.paint(Tone::Held, "warning:").into_owned();
                let line = format!("{word} {}", text::one_line(message));
                match stage {
                    Some(stage) => self.stage_line(run, stage, Some(at), &line),
                    None => self.put(Some(at), &line),
                }
            }
            Event::CancelRequested { by } => {
                self.run_line(at, &format!("run {run}: cancel requested by {by}"));
            }
            Event::ChainCreated {
                run: next,
                pipeline,
            } => self.run_line(at, &format!("run {run} starts run {next} of {pipeline}")),
            Event::RunFinished { outcome } => {
                let took = self.runs.get(run).map_or(String::new(), |known| {
                    format!(" in {}", human_duration(at.since(known.started)))
                });
                let line = format!("run {run}: {}{took}", self.outcome(*outcome));
                self.put(Some(at), &line);
            }
        }
    }
}

/// A reason as it follows an outcome.
fn tell(reason: &str) -> String {
    match text::one_line(reason) {
        reason if reason.is_empty() => reason,
        reason => format!(": {reason}"),
    }
}

impl Reporter for Plain {
    fn signal(&mut self, signal: &Signal) {
        match signal {
            Signal::Event(recorded) => self.event(recorded),
            Signal::Log { run, stage, bytes } => self.log(run, stage, bytes),
            // What a part of the work came to is in the stage's log.
            Signal::Progress { .. } => {}
        }
    }

    fn settle(&mut self) {
        self.sink.flush();
    }

    fn tick(&mut self) {
        let calm = self.open.iter_mut();
        let calm = calm.filter_map(|(place, open)| Some((place.clone(), open.flood.tick()?)));
        let mut calm: Vec<_> = calm.collect();
        calm.sort_by(|(one, _), (other, _)| one.cmp(other));
        for ((run, stage), ended) in calm {
            self.after_flood(&run, &stage, &ended);
        }
        self.sink.flush();
    }

    fn finish(&mut self) {
        let mut open: Vec<_> = self.open.keys().cloned().collect();
        open.sort();
        for (run, stage) in open {
            self.end_of(&run, &stage);
        }
        self.sink.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::{ClosedPipe, Page, START, Story};

    fn plain() -> (Plain, Page) {
        let page = Page::default();
        (Plain::new(page.boxed(), Style::new(false, true)), page)
    }

    #[test]
    fn tells_a_run() {
        let (mut plain, page) = plain();
        let mut story = Story::new("release", &["build.app", "push.app", "deploy.prod"]);
        story.start("build.app").tell(&mut plain);
        plain.signal(&story.log("build.app", b"comp"));
        plain.signal(&story.log("push.app", b"other\n"));
        plain.signal(&story.log("build.app", b"iling\r\n\tdone\nrest"));
        story.at(4).add(Event::StageRetried {
            stage: "build.app".into(),
            outcome: Outcome::Errored,
            reason: "the engine\nbroke off".to_owned(),
            wait_ms: 2000,
        });
        story.at(6).add(Event::StageStarted {
            stage: "build.app".into(),
            attempt: 2,
        });
        story.at(8).end("build.app", Outcome::Succeeded, "");
        story.end("push.app", Outcome::UpToDate, "the registry has it");
        story.add(Event::StageWaiting {
            stage: "deploy.prod".into(),
            group: "prod".to_owned(),
        });
        story.add(Event::Warning {
            stage: None,
            message: "no cache".to_owned(),
        });
        story.add(Event::CancelRequested {
            by: "SIGINT".to_owned(),
        });
        story
            .at(9)
            .end("deploy.prod", Outcome::Cancelled, "by SIGINT");
        story.finish(Outcome::Cancelled).tell(&mut plain);
        plain.finish();
        let expected = "\
run RUN of release at 1a2b3c4 (main): 3 stages
[build.app] started
[push.app] other
[build.app] compiling
[build.app] \tdone
[build.app] rest
[build.app] ! errored: the engine broke off, retrying in 2.0s
[build.app] started, attempt 2
[build.app] ✓ succeeded in 8.0s
[push.app] = up-to-date: the registry has it
[deploy.prod] waiting for a place in group prod
warning: no cache
run RUN: cancel requested by SIGINT
[deploy.prod] ■ cancelled: by SIGINT
run RUN: ■ cancelled in 9.0s
";
        assert_eq!(page.take(), expected.replace("RUN", story.run.as_str()));
    }

    #[test]
    fn chained_runs_are_told_apart() {
        let (mut plain, page) = plain();
        let mut first = Story::new("release", &["build.app"]);
        let mut next = first.chained("deploy-stage", &["deploy.prod"]);
        first.add(Event::ChainCreated {
            run: next.run.clone(),
            pipeline: "deploy-stage".to_owned(),
        });
        first.tell(&mut plain);
        next.start("deploy.prod").tell(&mut plain);
        plain.signal(&next.log("deploy.prod", b"rolling"));
        plain.finish();
        let expected = "\
run FIRST of release at 1a2b3c4 (main): 1 stage
run FIRST starts run NEXT of deploy-stage
run NEXT of deploy-stage at 1a2b3c4 (main): 1 stage, chained from run FIRST
[deploy-stage:deploy.prod] started
[deploy-stage:deploy.prod] rolling
";
        let expected = expected.replace("FIRST", first.run.as_str());
        assert_eq!(page.take(), expected.replace("NEXT", next.run.as_str()));
    }

    #[test]
    fn long_lines_are_split_between_characters() {
        let (mut plain, page) = plain();
        let story = Story::new("release", &["run.x"]);
        let long = format!("a{}\nend\n", "構".repeat(50_000));
        for chunk in long.as_bytes().chunks(10_007) {
            plain.signal(&story.log("run.x", chunk));
        }
        let text = page.take();
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.strip_prefix("[run.x] ").expect("a prefix"))
            .collect();
        assert!(lines.iter().all(|line| line.len() <= LINE));
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[..3].concat(), long.lines().next().expect("a line"));
        assert_eq!(lines[3], "end");
    }

    #[test]
    fn a_line_of_the_limit_is_whole() {
        let (mut plain, page) = plain();
        let story = Story::new("release", &["run.x"]);
        let mut bytes = vec![b'x'; LINE];
        bytes.push(b'\n');
        plain.signal(&story.log("run.x", &bytes));
        assert_eq!(page.take().lines().count(), 1);
        plain.finish();
        assert_eq!(page.take(), "");
    }

    #[test]
    fn the_middle_of_a_flood_is_left_out_and_said() {
        let (mut plain, page) = plain();
        let story = Story::new("release", &["run.x"]);
        let piece = b"a line of many\n".repeat(1 << 10);
        for _ in 0..2_000 {
            plain.signal(&story.log("run.x", &piece));
        }
        plain.signal(&story.log("run.x", b"the last line\n"));
        plain.finish();
        let text = page.take();
        let note: Vec<&str> = text.lines().filter(|line| line.contains('…')).collect();
        let hint = format!("`pipewright logs {} run.x` has", story.run.short());
        assert!(note.len() == 1 && note[0].contains(&hint), "{note:?}");
        assert!(text.ends_with("\n[run.x] a line of many\n[run.x] the last line\n"));
        assert!(text.lines().all(|line| line.starts_with("[run.x] ")));
    }

    #[test]
    fn hostile_output_is_tamed() {
        let (mut plain, page) = plain();
        let story = Story::new("release", &["run.x"]);
        plain.signal(&story.log("run.x", b"\x1b[2J\x1b[1;1H\x1b]0;t\x07ok\x00\xff\n"));
        assert_eq!(page.take(), "[run.x] ok\u{fffd}\n");
    }

    #[test]
    fn colours_and_times() {
        let page = Page::default();
        let mut plain = Plain::new(page.boxed(), Style::new(true, true))
            .with_times(Box::new(|| Timestamp(START + 5000)));
        let mut story = Story::new("release", &["run.x"]);
        story.tell(&mut plain);
        page.take();
        story
            .at(1)
            .end("run.x", Outcome::Failed, "no")
            .tell(&mut plain);
        plain.signal(&story.log("run.x", b"\x1b[32mgreen\n"));
        assert_eq!(
            page.take(),
            "\u{1b}[90m2026-01-31T08:00:01Z\u{1b}[0m \u{1b}[90m[run.x]\u{1b}[0m \
             \u{1b}[31m✗ failed\u{1b}[0m: no\n\
             \u{1b}[90m2026-01-31T08:00:05Z\u{1b}[0m \u{1b}[90m[run.x]\u{1b}[0m \
             \u{1b}[32mgreen\u{1b}[0m\n"
        );
    }

    #[test]
    fn a_closed_pipe_silences_it() {
        let pipe = ClosedPipe::default();
        let mut plain = Plain::new(Box::new(pipe.clone()), Style::ascii());
        Story::new("release", &["run.x"])
            .start("run.x")
            .tell(&mut plain);
        plain.finish();
        assert_eq!(*pipe.0.lock().expect("no writer panics"), 1);
    }
}
