//! The one final summary of a run and of the runs chained to it: what came of every stage and
//! why, what was made, where the time went, what to do next.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::style::{Style, Tone};
use super::{RunReport, critical_path, text};
use crate::base::{RunId, Timestamp, human_count, human_duration, human_number};
use crate::event::{Outcome, StageState};

/// Runs with more stages than this list only what did not succeed.
const ALL: usize = 40;
/// Stages listed at most.
const ROWS: usize = 40;
/// Lines and characters of one reason.
const REASON_LINES: usize = 12;
const REASON: usize = 2000;
/// Warnings listed at most.
const WARNINGS: usize = 10;
/// Links of the critical path named at most.
const PATH: usize = 8;

/// How a summary looks.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Colours and symbols.
    pub style: Style,
    /// The time of day, for what still runs.
    pub now: Timestamp,
}

/// Writes the summary of a run, followed by the runs chained to it.
pub fn summary(out: &mut dyn Write, runs: &[RunReport<'_>], look: &Summary) -> io::Result<()> {
    let mut page = String::new();
    for (at, run) in runs.iter().enumerate() {
        if at > 0 {
            page.push('\n');
        }
        look.run(&mut page, run);
        look.chained(&mut page, run, runs);
    }
    look.next(&mut page, runs);
    out.write_all(page.as_bytes())
}

/// The stages of a run worth listing, and how many of each outcome are left out.
pub(super) fn listed<'a>(
    run: &RunReport<'a>,
    rows: usize,
) -> (Vec<&'a StageState>, BTreeMap<&'static str, usize>) {
    let stages = run.state.stages();
    if stages.len() <= ALL {
        return (stages.iter().collect(), BTreeMap::new());
    }
    let mut chosen: Vec<(u8, usize)> = stages
        .iter()
        .enumerate()
        .filter(|(_, stage)| !stage.outcome.is_some_and(Outcome::is_success))
        .map(|(at, stage)| (weight(stage), at))
        .collect();
    chosen.sort_unstable();
    chosen.truncate(rows);
    let mut chosen: Vec<usize> = chosen.into_iter().map(|(_, at)| at).collect();
    chosen.sort_unstable();

    let mut rest = BTreeMap::new();
    let mut next = chosen.iter().peekable();
    for (at, stage) in stages.iter().enumerate() {
        if next.next_if_eq(&&at).is_none() {
            *rest.entry(word(stage)).or_insert(0) += 1;
        }
    }
    (chosen.iter().map(|at| &stages[*at]).collect(), rest)
}

/// Culprits before victims before the rest.
const fn weight(stage: &StageState) -> u8 {
    match stage.outcome {
        Some(Outcome::Failed | Outcome::Errored | Outcome::TimedOut) => 0,
        Some(Outcome::Cancelled) => 1,
        None => 2,
        Some(Outcome::Blocked) => 3,
        _ => 4,
    }
}

/// How a stage stands, in a word.
pub(super) fn word(stage: &StageState) -> &'static str {
    match stage.outcome {
        Some(outcome) => outcome.as_str(),
        None if stage.waiting.is_some() => "waiting",
        None if stage.is_running() => "running",
        None => "pending",
    }
}

/// How long a stage took, or takes so far.
pub(super) fn took(stage: &StageState, now: Timestamp) -> Option<std::time::Duration> {
    let start = stage.started_at?;
    match (stage.outcome, stage.finished_at) {
        (Some(_), Some(end)) => Some(end.since(start)),
        _ => Some(now.since(start)),
    }
}

/// Counts of a run's stages by word, in a fixed order.
pub(super) fn counts(run: &RunReport<'_>) -> Vec<(&'static str, Option<Outcome>, usize)> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for stage in run.state.stages() {
        *counts.entry(word(stage)).or_insert(0) += 1;
    }
    [
        Outcome::Succeeded,
        Outcome::UpToDate,
        Outcome::Skipped,
        Outcome::Blocked,
        Outcome::Failed,
        Outcome::TimedOut,
        Outcome::Errored,
        Outcome::Cancelled,
    ]
    .into_iter()
    .map(|outcome| (outcome.as_str(), Some(outcome)))
    .chain([("running", None), ("waiting", None), ("pending", None)])
    .filter_map(|(word, outcome)| Some((word, outcome, *counts.get(word)?)))
    .collect()
}

/// Outputs worth seeing at once, short.
pub(super) fn outputs(stage: &StageState) -> Vec<(&str, String)> {
    let shown = ["ref", "digest", "commit", "pull-request", "revision", "url"];
    shown
        .into_iter()
        .filter_map(|key| {
            let value = text::one_line(stage.outputs.get(key)?);
            let value = match key {
                "digest" => text::fit(&value, 19, "").into_owned(),
                "commit" => text::fit(&value, 12, "").into_owned(),
                _ => text::fit(&value, 200, "...").into_owned(),
            };
            (!value.is_empty()).then_some((key, value))
        })
        .collect()
}

/// A reason from outside, as lines that are safe to show.
pub(super) fn reason_lines(reason: &str) -> Vec<String> {
    let end = reason.floor_char_boundary(REASON);
    let mut lines: Vec<String> = reason[..end]
        .lines()
        .map(|line| text::clean(line.trim_end()).into_owned())
        .filter(|line| !line.is_empty())
        .collect();
    if lines.len() > REASON_LINES || end < reason.len() {
        lines.truncate(REASON_LINES);
        lines.push("...".to_owned());
    }
    lines
}

impl Summary {
    fn run(&self, page: &mut String, run: &RunReport<'_>) {
        self.title(page, run);
        let (stages, rest) = listed(run, ROWS);
        if !stages.is_empty() || !rest.is_empty() {
            page.push('\n');
        }
        let names = stages
            .iter()
            .map(|stage| text::width(&text::clean(stage.id.as_str())))
            .max()
            .unwrap_or(0)
            .min(40);
        for stage in stages {
            self.stage(page, stage, names);
        }
        if !rest.is_empty() {
            let rest: Vec<String> = rest
                .iter()
                .map(|(word, count)| format!("{} {word}", human_number(*count)))
                .collect();
            let line = format!("{} and {}", self.style.ellipsis(), rest.join(", "));
            page.push_str(&format!("  {}\n", self.style.paint(Tone::Dim, &line)));
        }
        self.warnings(page, run);
        page.push('\n');
        self.totals(page, run);
        self.path(page, run);
    }

    fn title(&self, page: &mut String, run: &RunReport<'_>) {
        let style = self.style;
        let pipeline = text::clean(run.pipeline());
        page.push_str(&style.paint(Tone::Strong, &pipeline));
        page.push_str(&format!(" run {}", run.id()));
        if let Some(created) = &run.state.created {
            let commit = text::clean(created.commit.short_sha());
            if !commit.is_empty() {
                page.push_str(&format!(" at {commit}"));
            }
            let name = created
                .commit
                .branch
                .as_ref()
                .or(created.commit.tag.as_ref());
            if let Some(name) = name {
                page.push_str(&format!(" ({})", text::clean(name)));
            }
            if created.dirty {
                page.push_str(" with uncommitted changes");
            }
            if created.simulated {
                page.push_str(", simulated");
            }
        }
        if run.state.attempt > 1 {
            page.push_str(&format!(", attempt {}", run.state.attempt));
        }
        page.push_str(": ");
        match run.state.outcome {
            Some(outcome) => {
                let word = format!("{} {outcome}", style.symbol(outcome));
                page.push_str(&style.paint(style.tone(outcome), &word));
            }
            None => page.push_str(&style.paint(Tone::Busy, "not finished")),
        }
        if let Some(start) = run.state.started_at {
            let end = run.state.finished_at.unwrap_or(self.now);
            page.push_str(&format!(" in {}", human_duration(end.since(start))));
        }
        if let Some(by) = &run.state.cancelled_by {
            page.push_str(&format!(", cancelled by {}", text::one_line(by)));
        }
        page.push('\n');
    }

    fn stage(&self, page: &mut String, stage: &StageState, names: usize) {
        let style = self.style;
        let (symbol, tone) = match stage.outcome {
            Some(outcome) => (style.symbol(outcome), style.tone(outcome)),
            None if stage.waiting.is_some() => (style.waiting(), Tone::Held),
            None if stage.is_running() => (style.running(), Tone::Busy),
            None => (style.pending(), Tone::Dim),
        };
        let name = text::clean(stage.id.as_str());
        let name = text::fit(&name, names, style.ellipsis());
        let word = text::pad(word(stage), 10);
        let time = took(stage, self.now).map_or(String::new(), human_duration);
        let mut line = format!(
            "  {} {}  {}  {}",
            style.paint(tone, symbol),
            style.paint(tone, &word),
            text::pad(&name, names),
            text::pad_left(&time, 6)
        );
        let mut lines = reason_lines(&stage.reason);
        if let Some(group) = &stage.waiting {
            lines.insert(0, format!("waiting for group {}", text::one_line(group)));
        }
        if stage.allowed && stage.outcome.is_some_and(Outcome::is_bad) {
            lines.insert(0, "allowed to fail".to_owned());
        }
        if stage.attempt > 1 {
            lines.push(format!("attempt {}", stage.attempt));
        }
        let outputs: Vec<String> = outputs(stage)
            .into_iter()
            .map(|(key, value)| format!("{} {value}", style.paint(Tone::Dim, key)))
            .collect();
        if !outputs.is_empty() {
            lines.push(outputs.join("  "));
        }
        // Continuation lines stand below the first one.
        let indent = 2 + 1 + 1 + 10 + 2 + names + 2 + 6 + 2;
        for (at, text) in lines.iter().enumerate() {
            if at > 0 {
                page.push_str(line.trim_end());
                page.push('\n');
                line = " ".repeat(indent - 2);
            }
            line.push_str("  ");
            line.push_str(text);
        }
        page.push_str(line.trim_end());
        page.push('\n');
    }

    fn warnings(&self, page: &mut String, run: &RunReport<'_>) {
        let warnings = &run.state.warnings;
        if warnings.is_empty() {
            return;
        }
        page.push('\n');
        for (stage, message) in warnings.iter().take(WARNINGS) {
            let word = self.style.paint(Tone::Held, "warning:").into_owned();
            let place = match stage {
                Some(stage) => format!("{}: ", text::clean(stage.as_str())),
                None => String::new(),
            };
            let message = text::one_line(&message[..message.floor_char_boundary(REASON)]);
            page.push_str(&format!("  {word} {place}{message}\n"));
        }
        if let Some(more) = warnings
            .len()
            .checked_sub(WARNINGS)
            .filter(|more| *more > 0)
        {
            page.push_str(&format!("  and {}\n", human_count(more, "more warning")));
        }
    }

    fn totals(&self, page: &mut String, run: &RunReport<'_>) {
        let counts: Vec<String> = counts(run)
            .into_iter()
            .map(|(word, outcome, count)| {
                let text = format!("{} {word}", human_number(count));
                let tone = outcome.map_or(Tone::Plain, |outcome| self.style.tone(outcome));
                self.style.paint(tone, &text).into_owned()
            })
            .collect();
        let stages = human_count(run.state.stages().len(), "stage");
        page.push_str(&format!("  {stages}"));
        if !counts.is_empty() {
            page.push_str(&format!(": {}", counts.join(", ")));
        }
        let work: std::time::Duration = run
            .state
            .stages()
            .iter()
            .filter_map(|stage| took(stage, self.now))
            .sum();
        if !work.is_zero() {
            page.push_str(&format!("; {} of work", human_duration(work)));
        }
        page.push('\n');
    }

    fn path(&self, page: &mut String, run: &RunReport<'_>) {
        let path = critical_path(run);
        if path.len() < 2 {
            return;
        }
        let total: std::time::Duration = path.iter().map(|(_, took)| *took).sum();
        let mut links: Vec<String> = path
            .iter()
            .map(|(id, took)| format!("{} {}", text::clean(id.as_str()), human_duration(*took)))
            .collect();
        if links.len() > PATH {
            let hidden = links.len() - PATH;
            let more = format!("{} {hidden} more", self.style.ellipsis());
            links.splice(PATH / 2..PATH / 2 + hidden, [more]);
        }
        page.push_str(&format!(
            "  critical path {}: {}\n",
            human_duration(total),
            links.join(&format!(" {} ", self.style.arrow()))
        ));
    }

    fn chained(&self, page: &mut String, run: &RunReport<'_>, runs: &[RunReport<'_>]) {
        for (next, pipeline) in &run.state.chained {
            let told = runs
                .iter()
                .find(|run| run.state.run.as_ref() == Some(next))
                .map(|run| match run.state.outcome {
                    Some(outcome) => outcome.as_str(),
                    None => "not finished",
                });
            page.push_str(&format!(
                "  then {} run {next}{}\n",
                text::clean(pipeline),
                told.map_or(String::new(), |told| format!(": {told}"))
            ));
        }
    }

    /// The commands that help on.
    fn next(&self, page: &mut String, runs: &[RunReport<'_>]) {
        let commands = next_commands(runs);
        if commands.is_empty() {
            return;
        }
        page.push('\n');
        for (at, command) in commands.iter().enumerate() {
            let lead = if at == 0 { "next:" } else { "     " };
            page.push_str(&format!(
                "{lead} {}\n",
                self.style.paint(Tone::Strong, command)
            ));
        }
    }
}

/// Commands worth trying after these runs; none if all is well.
pub(super) fn next_commands(runs: &[RunReport<'_>]) -> Vec<String> {
    let mut commands = Vec::new();
    for run in runs {
        let Some(id) = run.state.run.as_ref().map(RunId::short) else {
            continue;
        };
        match run.state.outcome {
            None => {
                commands.push(format!("pipewright logs {id} --follow"));
                commands.push(format!("pipewright run --resume {id}"));
            }
            Some(outcome) if outcome.is_bad() => {
                let culprits = run
                    .state
                    .stages()
                    .iter()
                    .filter(|stage| weight(stage) == 0 && !stage.allowed);
                for stage in culprits.take(3) {
                    let stage = quote(stage.id.as_str());
                    commands.push(format!("pipewright logs {id} {stage}"));
                }
                commands.push(format!("pipewright rerun {id} --failed"));
            }
            Some(_) => {}
        }
    }
    commands
}

/// A word as a shell takes it literally.
fn quote(word: &str) -> String {
    let word = text::one_line(word);
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-/=:@+,".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        word
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests;
