//! Tells what a watch does: lines for people, each only when it is news, or JSON lines for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::{Commit, RunId, human_duration};
use crate::cli::app::{App, Failure};
use crate::cli::args::WatchFormat;
use crate::event::Chosen;
use crate::pipeline::Watch;
use crate::plan::watch::{Choice, Verdict};
use crate::report::text;

/// What is told.
pub(super) enum Told<'a> {
    /// There is nothing to choose.
    Nothing(&'a str),
    /// The set was started before.
    Known(&'a RunId, &'a BTreeMap<String, Chosen>),
    /// A run was started.
    Started(&'a RunId, &'a BTreeMap<String, Chosen>, &'a Commit),
    /// A run would be started.
    WouldStart(&'a BTreeMap<String, Chosen>, &'a Commit),
    /// The look failed; the next is after this time, if there is one.
    Failed(&'a str, Option<Duration>),
    /// Another process looks.
    Busy,
}

/// Tells, and knows what it told last.
pub(super) struct Teller<'a, 'b> {
    app: &'a App<'b>,
    format: WatchFormat,
    pipeline: &'a str,
    last: BTreeMap<String, String>,
}

impl<'a, 'b> Teller<'a, 'b> {
    pub(super) fn new(app: &'a App<'b>, format: WatchFormat, pipeline: &'a str) -> Self {
        Self {
            app,
            format,
            pipeline,
            last: BTreeMap::new(),
        }
    }

    /// What is watched.
    pub(super) fn begin(&self, watches: &[String]) -> Result<(), Failure> {
        for watch in watches {
            self.note(&format!("pipeline {}: {watch}", self.pipeline))?;
        }
        Ok(())
    }

    /// A line that is no result.
    pub(super) fn note(&self, what: &str) -> Result<(), Failure> {
        match self.format {
            WatchFormat::Text => self.line(what),
            WatchFormat::Json => self.json(json!({ "type": "watch-note", "message": what })),
        }
    }

    /// Tags that stand above what was chosen and are not complete.
    pub(super) fn waits(
        &mut self,
        watch: &Watch,
        images: &[String],
        choice: &Choice,
    ) -> Result<(), Failure> {
        let newest = choice.rows.first();
        let Some(Verdict::Waits(missing)) = newest.map(|row| &row.verdict) else {
            return Ok(());
        };
        let tag = newest.map_or("", |row| row.tag.as_str());
        let line = format!(
            "{}: {tag} waits for {}",
            images.join(" "),
            missing.join(", ")
        );
        if self.is_news(&format!("{} waits", watch.describe()), &line) {
            match self.format {
                WatchFormat::Text => self.line(&line)?,
                WatchFormat::Json => self.json(json!({
                    "type": "watch-waits",
                    "pipeline": self.pipeline,
                    "images": images,
                    "tag": tag,
                    "missing": missing,
                }))?,
            }
        }
        Ok(())
    }

    /// What came of a look.
    pub(super) fn tell(&mut self, watch: &Watch, told: &Told<'_>) -> Result<(), Failure> {
        let images: Vec<&str> = watch.names().collect();
        let who = images.join(" ");
        let (word, line) = match told {
            Told::Nothing(why) => ("nothing", format!("{who}: {why}")),
            Told::Known(run, set) => (
                "known",
                format!(
                    "{who}: nothing new, {} was delivered by run {run}",
                    named(set)
                ),
            ),
            Told::Started(run, set, commit) => (
                "started",
                format!(
                    "{who}: {} is new, run {run} starts at {}",
                    named(set),
                    commit.short_sha()
                ),
            ),
            Told::WouldStart(set, commit) => (
                "would-start",
                format!(
                    "{who}: {} is new, a run would start at {}",
                    named(set),
                    commit.short_sha()
                ),
            ),
            Told::Failed(why, again) => {
                let again = again.map_or(String::new(), |wait| {
                    format!("; the next look is in {}", human_duration(wait))
                });
                ("failed", format!("{who}: nothing is chosen: {why}{again}"))
            }
            Told::Busy => (
                "busy",
                format!("{who}: another process looks for this pipeline; left to it"),
            ),
        };
        match self.format {
            WatchFormat::Text => {
                if self.is_news(&watch.describe(), &line) {
                    self.line(&line)?;
                }
                Ok(())
            }
            WatchFormat::Json => {
                let mut value = json!({
                    "type": "watch-look",
                    "pipeline": self.pipeline,
                    "images": images,
                    "strategy": watch.strategy.describe(),
                    "result": word,
                });
                match told {
                    Told::Nothing(why) | Told::Failed(why, _) => value["reason"] = json!(why),
                    Told::Known(run, set) => {
                        value["run"] = json!(run);
                        value["set"] = json!(set);
                    }
                    Told::Started(run, set, commit) => {
                        value["run"] = json!(run);
                        value["set"] = json!(set);
                        value["sha"] = json!(commit.sha);
                    }
                    Told::WouldStart(set, commit) => {
                        value["set"] = json!(set);
                        value["sha"] = json!(commit.sha);
                    }
                    Told::Busy => {}
                }
                self.json(value)
            }
        }
    }

    fn is_news(&mut self, key: &str, line: &str) -> bool {
        let before = self.last.insert(key.to_owned(), line.to_owned());
        before.as_deref() != Some(line)
    }

    fn line(&self, line: &str) -> Result<(), Failure> {
        let line = text::clean(line).into_owned();
        let line = format!("{}  {line}\n", (self.app.now)().rfc3339());
        self.app.print(&line).map(drop)
    }

    fn json(&self, mut value: Value) -> Result<(), Failure> {
        value["at"] = json!((self.app.now)());
        self.app.print(&format!("{value}\n")).map(drop)
    }
}

/// A set in words: one tag if all have the same.
fn named(set: &BTreeMap<String, Chosen>) -> String {
    let short = |chosen: &Chosen| {
        let hex = chosen.digest.trim_start_matches("sha256:");
        hex.get(..12).unwrap_or(hex).to_owned()
    };
    let parts: Vec<String> = set
        .iter()
        .map(|(image, chosen)| format!("{image}:{} ({})", chosen.tag, short(chosen)))
        .collect();
    parts.join(", ")
}
