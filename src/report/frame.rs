//! One picture of the tree: lines that fit a screen. Pure; the cost follows the size of the
//! screen, not the number of stages.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::style::{Style, Tone};
use super::text;
use super::tree::{Class, Expected, Live, RunView, Step, Tree};
use crate::base::{Timestamp, human_bytes, human_count, human_duration, human_number};
use crate::event::{Outcome, StageState};

/// Lines of a failing stage's log shown below it.
const TAIL: usize = 3;
/// Columns of a bar.
const BAR: usize = 20;
/// Longest text after a stage's name and time that is worth cutting to the screen.
const DETAIL: usize = 4096;

/// What a picture needs to know beside the tree.
pub(super) struct Canvas<'a> {
    /// Columns of the screen.
    pub(super) columns: usize,
    /// Rows that may be used.
    pub(super) rows: usize,
    /// How it looks.
    pub(super) style: Style,
    /// When.
    pub(super) now: Timestamp,
    /// Whether it is the last picture: nothing turns.
    pub(super) last: bool,
    /// Expected durations of the first run's stages.
    pub(super) expected: &'a Expected,
}

impl Canvas<'_> {
    /// Draws the tree as at most `rows` lines of at most `columns` columns.
    pub(super) fn draw(&self, tree: &Tree) -> Vec<String> {
        let runs = tree.runs();
        let mut lines = Vec::new();
        // Old runs of a long chain make room for new ones.
        let shown = runs.len().min((self.rows / 2).max(1));
        let hidden = runs.len() - shown;
        if hidden > 0 && self.rows > 1 {
            let mut line = self.line();
            line.push(
                Tone::Dim,
                &format!(
                    "{} {} before",
                    self.style.ellipsis(),
                    human_count(hidden, "run")
                ),
            );
            lines.push(line.text);
        }
        let mut room = self.rows.saturating_sub(shown + lines.len());
        let budgets = self.budgets(&runs[hidden..], &mut room);
        for (at, (run, budget)) in runs[hidden..].iter().zip(budgets).enumerate() {
            lines.push(self.header(run));
            self.stages(run, budget, hidden + at == 0, &mut lines);
        }
        lines.truncate(self.rows.max(1));
        lines
    }

    /// Rows for the stages of each run: first those at work, then what fits.
    fn budgets(&self, runs: &[RunView], room: &mut usize) -> Vec<usize> {
        let mut budgets = vec![0; runs.len()];
        for live in [true, false] {
            let chosen = |run: &RunView| run.state.outcome.is_none() == live;
            let mut open = runs.iter().filter(|run| chosen(run)).count();
            for (at, run) in runs.iter().enumerate().filter(|(_, run)| chosen(run)) {
                let share = room.div_ceil(open.max(1));
                budgets[at] = rows_wanted(run).min(share);
                *room -= budgets[at];
                open -= 1;
            }
        }
        budgets
    }

    fn header(&self, run: &RunView) -> String {
        let mut line = self.line();
        let state = &run.state;
        match state.outcome {
            Some(outcome) => line.push(self.style.tone(outcome), self.style.symbol(outcome)),
            None => line.push(Tone::Busy, self.beat()),
        }
        line.push(Tone::Plain, " ");
        match &state.created {
            Some(created) => {
                line.push(Tone::Strong, &text::clean(&created.pipeline));
                line.push(Tone::Dim, &format!(" {}", run.id.short()));
                let commit = created.commit.short_sha();
                if !commit.is_empty() {
                    line.push(Tone::Dim, &format!(" at {}", text::clean(commit)));
                }
                let name = created
                    .commit
                    .branch
                    .as_ref()
                    .or(created.commit.tag.as_ref());
                if let Some(name) = name {
                    line.push(Tone::Dim, &format!(" ({})", text::clean(name)));
                }
                if let Some(upstream) = &created.upstream {
                    line.push(
                        Tone::Dim,
                        &format!(" after {}", text::clean(&upstream.pipeline)),
                    );
                }
            }
            None => line.push(Tone::Strong, run.id.as_str()),
        }
        line.push(Tone::Plain, &format!("  {}/{}", run.ended(), run.len()));
        if let Some(start) = state.started_at {
            let took = state.finished_at.unwrap_or(self.now).since(start);
            line.push(Tone::Plain, &format!("  {}", human_duration(took)));
        }
        if let Some(outcome) = state.outcome {
            line.push(self.style.tone(outcome), &format!("  {outcome}"));
        } else if let Some(by) = &state.cancelled_by {
            line.push(
                Tone::Held,
                &format!("  cancelling ({})", text::one_line(by)),
            );
        }
        line.text
    }

    fn stages(&self, run: &RunView, budget: usize, first: bool, lines: &mut Vec<String>) {
        if budget == 0 || run.len() == 0 {
            return;
        }
        let (chosen, tails) = if rows_wanted(run) <= budget {
            ((0..run.len()).collect(), all_tails(run))
        } else {
            choose(run, budget - 1)
        };
        let names = chosen
            .iter()
            .map(|at| text::width(&text::clean(run.stage(*at).0.id.as_str())))
            .max()
            .unwrap_or(0)
            .min((self.columns / 3).max(16));
        for at in &chosen {
            lines.push(self.stage(run, *at, names, first));
            let (_, _, live) = run.stage(*at);
            if let (Some(count), Some(live)) = (tails.get(at), live) {
                for text in live.tail.lines(*count) {
                    let mut line = self.line();
                    line.push(Tone::Dim, &format!("      {} ", self.style.gutter()));
                    line.push(Tone::Plain, &text);
                    lines.push(line.text);
                }
            }
        }
        if chosen.len() < run.len() {
            lines.push(self.rest(run, &chosen));
        }
    }

    fn stage(&self, run: &RunView, at: usize, names: usize, first: bool) -> String {
        let (stage, class, live) = run.stage(at);
        let mut line = self.line();
        let (symbol, tone) = match class {
            Class::Pending => (self.style.pending(), Tone::Dim),
            Class::Waiting => (self.style.waiting(), Tone::Held),
            Class::Running => (self.beat(), Tone::Busy),
            Class::Ended(outcome) => (self.style.symbol(outcome), self.style.tone(outcome)),
        };
        line.push(Tone::Plain, "  ");
        line.push(tone, symbol);
        let name = text::clean(stage.id.as_str());
        let name = text::fit(&name, names, self.style.ellipsis());
        if class == Class::Pending {
            line.push(Tone::Dim, &format!(" {name}"));
            return line.text;
        }
        line.push(Tone::Plain, &format!(" {}", text::pad(&name, names)));
        let took = match (class, stage.started_at) {
            (Class::Running, Some(start)) => human_duration(self.now.since(start)),
            (Class::Ended(_), Some(start)) => {
                human_duration(stage.finished_at.unwrap_or(start).since(start))
            }
            _ => String::new(),
        };
        line.push(Tone::Plain, &format!(" {}", text::pad_left(&took, 6)));
        match class {
            Class::Pending => {}
            Class::Waiting => {
                let group = text::one_line(stage.waiting.as_deref().unwrap_or(""));
                line.push(Tone::Held, &format!("  waiting for group {group}"));
            }
            Class::Running => self.running(&mut line, stage, live, first),
            Class::Ended(outcome) => {
                let word = match outcome {
                    Outcome::Succeeded => String::new(),
                    _ if stage.allowed && outcome.is_bad() => format!("  {outcome} (allowed)"),
                    _ => format!("  {outcome}"),
                };
                line.push(tone, &word);
                let end = stage.reason.floor_char_boundary(DETAIL);
                let reason = text::one_line(&stage.reason[..end]);
                if !reason.is_empty() {
                    line.push(Tone::Plain, &format!("  {reason}"));
                }
            }
        }
        line.text
    }

    fn running(&self, line: &mut Line, stage: &StageState, live: Option<&Live>, first: bool) {
        if first && let Some(expected) = self.expected.get(&stage.id) {
            line.push(Tone::Dim, &format!(" / ~{}", human_duration(*expected)));
        }
        if stage.attempt > 1 {
            line.push(Tone::Held, &format!("  attempt {}", stage.attempt));
        }
        let Some(live) = live else { return };
        if let Some((reason, until)) = &live.retry {
            let wait = human_duration(until.since(self.now));
            line.push(Tone::Held, &format!("  again in {wait}: {reason}"));
            return;
        }
        match live.step() {
            Some(Step::Transfer { done, total, label }) => {
                let bar = self.style.bar(done, total, BAR);
                line.push(Tone::Busy, &format!("  {bar}"));
                // Small numbers are steps, not bytes.
                let text = if total < 1024 {
                    format!(" {done}/{total}  {label}")
                } else {
                    format!(" {} of {}  {label}", human_bytes(done), human_bytes(total))
                };
                line.push(Tone::Plain, &text);
            }
            Some(Step::Work(label)) => line.push(Tone::Plain, &format!("  {label}")),
            None => {
                if let Some(last) = live.tail.last() {
                    line.push(Tone::Dim, &format!("  {last}"));
                }
            }
        }
    }

    /// Counts of the stages that have no line.
    fn rest(&self, run: &RunView, chosen: &BTreeSet<usize>) -> String {
        let mut line = self.line();
        line.push(Tone::Dim, &format!("  {} ", self.style.ellipsis()));
        let mut between = "";
        for class in Class::all() {
            let shown = chosen
                .iter()
                .filter(|at| run.stage(**at).1 == class)
                .count();
            let count = run.count(class) - shown;
            if count > 0 {
                let (word, tone) = match class {
                    Class::Pending => ("pending", Tone::Dim),
                    Class::Waiting => ("waiting", Tone::Held),
                    Class::Running => ("running", Tone::Busy),
                    Class::Ended(outcome) => (outcome.as_str(), self.style.tone(outcome)),
                };
                line.push(Tone::Dim, between);
                line.push(tone, &format!("{} {word}", human_number(count)));
                between = ", ";
            }
        }
        line.text
    }

    fn beat(&self) -> &'static str {
        if self.last {
            return self.style.running();
        }
        let beat = self.now.0.div_euclid(100).rem_euclid(1 << 16);
        self.style.busy(usize::try_from(beat).unwrap_or(0))
    }

    fn line(&self) -> Line {
        Line {
            text: String::new(),
            room: self.columns,
            style: self.style,
        }
    }
}

/// A line being written, which never exceeds its columns.
struct Line {
    text: String,
    room: usize,
    style: Style,
}

impl Line {
    fn push(&mut self, tone: Tone, piece: &str) {
        if self.room == 0 {
            return;
        }
        let fitted = text::fit(piece, self.room, self.style.ellipsis());
        self.room = match fitted {
            Cow::Borrowed(_) => self.room - text::width(piece),
            Cow::Owned(_) => 0,
        };
        self.text.push_str(&self.style.paint(tone, &fitted));
    }
}

/// Rows a run would take if it had all it wants.
fn rows_wanted(run: &RunView) -> usize {
    run.len() + all_tails(run).values().sum::<usize>()
}

fn all_tails(run: &RunView) -> HashMap<usize, usize> {
    culprits(run)
        .filter_map(|at| Some((at, run.stage(at).2?.tail.len().min(TAIL))))
        .filter(|(_, count)| *count > 0)
        .take(64)
        .collect()
}

fn culprits(run: &RunView) -> impl Iterator<Item = usize> {
    [Outcome::Failed, Outcome::Errored, Outcome::TimedOut]
        .into_iter()
        .flat_map(|outcome| run.of_class(Class::Ended(outcome)).take(256))
}

/// Chooses the stages most worth a line, and how many lines of their logs.
fn choose(run: &RunView, room: usize) -> (BTreeSet<usize>, HashMap<usize, usize>) {
    let mut chosen = BTreeSet::new();
    let mut tails = HashMap::new();
    let mut left = room;
    // The first failure is why anybody looks; it gets its log if that leaves room for work.
    for at in culprits(run).take(room.div_ceil(3)) {
        if left == 0 {
            break;
        }
        chosen.insert(at);
        left -= 1;
        let lines = run.stage(at).2.map_or(0, |live| live.tail.len().min(TAIL));
        if lines > 0 && room >= 8 && left + chosen.len() > lines + room / 2 && left > lines {
            tails.insert(at, lines);
            left -= lines;
        }
    }
    let order = run
        .of_class(Class::Running)
        .chain(run.of_class(Class::Waiting))
        .chain(culprits(run))
        .chain(run.recent())
        .chain(run.of_class(Class::Pending));
    for at in order {
        if left == 0 {
            break;
        }
        if chosen.insert(at) {
            left -= 1;
        }
    }
    (chosen, tails)
}
