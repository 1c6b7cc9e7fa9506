//! Lists of runs and the head of one run, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::undo::takes_back;
use crate::base::{RunId, Timestamp, human_duration};
use crate::event::{Outcome, RunState, StageState, Trigger};
use crate::ports::store::RunRow;
use crate::report::{Style, Tone, text};

/// Columns of the longest pipeline name and ref that are shown whole.
const NAME: usize = 32;

/// Time that passed, in a word or two: `just now`, `5m ago`, `3h ago`, `2d ago`; after thirty
/// days the date.
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(then).as_secs();
    match seconds {
        0..5 => "just now".to_owned(),
        5..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        86_400..2_592_000 => format!("{}d ago", seconds / 86_400),
        _ => then.rfc3339().chars().take(10).collect(),
    }
}

/// A table of runs, newest first as given.
pub fn runs_table(rows: &[RunRow], now: Timestamp, style: Style) -> String {
    if rows.is_empty() {
        return "no runs yet; `pipewright run PIPELINE` makes one\n".to_owned();
    }
    let heads = [
        "RUN", "PIPELINE", "OUTCOME", "COMMIT", "REF", "CREATED", "TOOK",
    ];
    let mut table = vec![heads.map(|head| (Tone::Dim, head.to_owned())).to_vec()];
    table.extend(rows.iter().map(|row| cells(row, now, style)));
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            let cells = table.iter().map(|row| text::width(&row[column].1));
            cells.max().unwrap_or(0)
        })
        .collect();
    let mut page = String::new();
    for row in &table {
        let mut line = String::new();
        for (at, (tone, cell)) in row.iter().enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            // Nothing follows the last cell, so it needs no filling.
            let fill = if at + 1 == row.len() {
                0
            } else {
                widths[at] - text::width(cell)
            };
            line.push_str(gap);
            line.push_str(&style.paint(*tone, cell));
            line.push_str(&" ".repeat(fill));
        }
        page.push_str(line.trim_end());
        page.push('\n');
    }
    page
}

fn cells(row: &RunRow, now: Timestamp, style: Style) -> Vec<(Tone, String)> {
    let (tone, outcome) = match &row.outcome {
        None => (Tone::Busy, format!("{} not finished", style.running())),
        Some(word) => match word.parse::<Outcome>() {
            Ok(outcome) => (
                style.tone(outcome),
                format!("{} {outcome}", style.symbol(outcome)),
            ),
            // Written by a version that knows more.
            Err(()) => (Tone::Plain, text::one_line(word)),
        },
    };
    let short = |name: &str| text::fit(&text::one_line(name), NAME, style.ellipsis()).into_owned();
    let mut pipeline = short(&row.pipeline);
    if let Some(upstream) = &row.upstream {
        pipeline.push_str(&format!(" (after {})", upstream.short()));
    }
    let took = row.finished.unwrap_or(now).since(row.created);
    let sha = row.sha.get(..7).unwrap_or(&row.sha);
    vec![
        (Tone::Strong, row.run.short().to_owned()),
        (Tone::Plain, pipeline),
        (tone, outcome),
        (Tone::Plain, text::one_line(sha)),
        (Tone::Plain, short(bare_ref(&row.reference))),
        (Tone::Plain, ago(row.created, now)),
        (Tone::Plain, human_duration(took)),
    ]
}

/// A ref without the part that only git needs.
fn bare_ref(reference: &str) -> &str {
    reference
        .strip_prefix("refs/heads/")
        .or_else(|| reference.strip_prefix("refs/tags/"))
        .unwrap_or(reference)
}

/// Runs as a JSON array.
pub fn runs_json(rows: &[RunRow]) -> String {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "run": row.run,
                "pipeline": row.pipeline,
                "outcome": row.outcome,
                "created": row.created,
                "finished": row.finished,
                "sha": row.sha,
                "ref": row.reference,
                "upstream": row.upstream,
                "root": row.root,
            })
        })
        .collect();
    pretty(&Value::Array(rows))
}

/// What stands above the summary of one run in `show`.
pub fn show_head(state: &RunState, now: Timestamp, style: Style) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    if let Some(run) = &state.run {
        let mut line = run.to_string();
        if state.attempt > 1 {
            line.push_str(&format!(", attempt {}", state.attempt));
        }
        lines.push(("run", line));
    }
    if let Some(created) = &state.created {
        let commit = &created.commit;
        lines.push(("commit", format!("{} {}", commit.sha, commit.message)));
        lines.push(("author", commit.author.clone()));
        lines.push(("ref", bare_ref(&commit.reference).to_owned()));
        lines.push(("trigger", trigger(&created.trigger)));
        if let Some(upstream) = &created.upstream {
            let line = format!("{} run {}", upstream.pipeline, upstream.run);
            lines.push(("after", line));
        }
        for (image, chosen) in &created.watched {
            let line = format!("{image}:{} {}", chosen.tag, chosen.digest);
            lines.push(("chosen", line));
        }
        let inputs: Vec<String> = created
            .inputs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        lines.push(("inputs", inputs.join(" ")));
        lines.push(("only", created.only.join(" ")));
    }
    lines.push((
        "created",
        format!("{} ({})", state.created_at, ago(state.created_at, now)),
    ));
    let mut page = String::new();
    for (name, value) in lines {
        let value = text::one_line(&value);
        if value.is_empty() {
            continue;
        }
        let value = text::fit(&value, 500, style.ellipsis());
        let name = text::pad(name, 8);
        page.push_str(&format!("{} {value}\n", style.paint(Tone::Dim, &name)));
    }
    page
}

fn trigger(trigger: &Trigger) -> String {
    match trigger {
        Trigger::Manual => "by hand".to_owned(),
        Trigger::Push { .. } => "push".to_owned(),
        Trigger::PullRequest { base, number } => format!("pull request {number} to {base}"),
        Trigger::Schedule => "schedule".to_owned(),
        Trigger::Pipeline => "another pipeline".to_owned(),
        Trigger::Watch => "a watched registry".to_owned(),
        Trigger::Rollback { of, to } if to.values().all(|to| takes_back(to)) => {
            format!("rollback of what run {of} wrote")
        }
        Trigger::Rollback { of, .. } => format!("rollback to what run {of} deployed"),
    }
}

/// A run as a JSON object.
pub fn show_json(state: &RunState) -> String {
    let chained: Vec<Value> = state
        .chained
        .iter()
        .map(|(run, pipeline)| json!({ "run": run, "pipeline": pipeline }))
        .collect();
    let warnings: Vec<Value> = state
        .warnings
        .iter()
        .map(|(stage, message)| json!({ "stage": stage, "message": message }))
        .collect();
    let created = state.created.as_ref();
    pretty(&json!({
        "run": state.run,
        "pipeline": created.map(|created| &created.pipeline),
        "outcome": state.outcome,
        "attempt": state.attempt,
        "created": state.created_at,
        "started": state.started_at,
        "finished": state.finished_at,
        "commit": created.map(|created| &created.commit),
        "dirty": created.is_some_and(|created| created.dirty),
        "simulated": created.is_some_and(|created| created.simulated),
        "trigger": created.map(|created| &created.trigger),
        "watched": created.map(|created| &created.watched),
        "inputs": created.map(|created| &created.inputs),
        "upstream": created.and_then(|created| created.upstream.as_ref()).map(|up| &up.run),
        "root": created.map_or(state.run.as_ref(), |created| Some::<&RunId>(&created.root)),
        "cancelled-by": state.cancelled_by,
        "chained": chained,
        "warnings": warnings,
        "stages": state.stages().iter().map(stage_json).collect::<Vec<_>>(),
    }))
}

fn stage_json(stage: &StageState) -> Value {
    let took = match (stage.started_at, stage.finished_at) {
        (Some(start), Some(end)) => Some(end.since(start)),
        _ => None,
    };
    json!({
        "id": stage.id,
        "outcome": stage.outcome,
        "reason": stage.reason,
        "attempt": stage.attempt,
        "started": stage.started_at,
        "finished": stage.finished_at,
        "duration-ms": took.map(millis),
        "allowed": stage.allowed,
        "waiting": stage.waiting,
        "outputs": stage.outputs,
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn pretty(value: &Value) -> String {
    // Printing a value with the alternate flag indents it and cannot fail.
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::Commit;
    use crate::event::{Event, Recorded, RunCreated, Upstream};

    const NOW: Timestamp = Timestamp(1_769_846_400_000);

    fn before(seconds: i64) -> Timestamp {
        Timestamp(NOW.0 - seconds * 1000)
    }

    fn row(random: u32, pipeline: &str, created: i64, outcome: Option<&str>) -> RunRow {
        let run = RunId::new(1_769_846_400_000, random);
        RunRow {
            run: run.clone(),
            pipeline: pipeline.to_owned(),
            created: before(created),
            finished: outcome.map(|_| before(created - 62)),
            outcome: outcome.map(ToOwned::to_owned),
            sha: "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".to_owned(),
            reference: "refs/heads/main".to_owned(),
            upstream: None,
            root: run,
        }
    }

    #[test]
    fn relative_times() {
        for (seconds, expected) in [
            (-5, "just now"),
            (0, "just now"),
            (59, "59s ago"),
            (60, "1m ago"),
            (3599, "59m ago"),
            (86_399, "23h ago"),
            (86_400 * 29, "29d ago"),
            (86_400 * 31, "2025-12-31"),
        ] {
            assert_eq!(ago(before(seconds), NOW), expected);
        }
    }

    #[test]
    fn a_table_stays_straight_with_wide_names() {
        let mut chained = row(8, "公開", 3600, Some("failed"));
        chained.upstream = Some(RunId::new(1_769_846_400_000, 7));
        chained.reference = "v1.4.0".to_owned();
        let rows = [
            row(9, "release", 12, None),
            chained,
            row(7, "release", 7200, Some("up-to-date")),
            row(6, "a\u{1b}[2J", 90_000, Some("exploded")),
        ];
        assert_eq!(
            runs_table(&rows, NOW, Style::new(false, true)),
            "\
RUN     PIPELINE             OUTCOME         COMMIT   REF     CREATED  TOOK
000009  release              ▶ not finished  1a2b3c4  main    12s ago  12.0s
000008  公開 (after 000007)  ✗ failed        1a2b3c4  v1.4.0  1h ago   1m02s
000007  release              = up-to-date    1a2b3c4  main    2h ago   1m02s
000006  a                    exploded        1a2b3c4  main    1d ago   1m02s
"
        );
        assert_eq!(
            runs_table(&[], NOW, Style::ascii()),
            "no runs yet; `pipewright run PIPELINE` makes one\n"
        );
    }

    #[test]
    fn colours_do_not_bend_the_table() {
        let rows = [
            row(9, "release", 12, None),
            row(7, "x", 7200, Some("failed")),
        ];
        let plain = runs_table(&rows, NOW, Style::new(false, true));
        let colour = runs_table(&rows, NOW, Style::new(true, true));
        assert!(colour.contains("\u{1b}[31m✗ failed\u{1b}[0m"));
        let stripped: Vec<_> = colour.lines().map(text::clean).collect();
        assert_eq!(stripped.join("\n") + "\n", plain);
    }

    #[test]
    fn runs_as_json() {
        let text = runs_json(&[row(7, "release", 100, Some("failed"))]);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value[0]["outcome"], "failed");
        assert_eq!(value[0]["finished"], NOW.0 - 38_000);
        assert_eq!(value[0]["upstream"], Value::Null);
        assert_eq!(runs_json(&[]), "[]\n");
    }

    fn state() -> RunState {
        let run = RunId::new(1_769_846_400_000, 7);
        let created = RunCreated {
            version: 1,
            pipeline: "release".to_owned(),
            commit: Commit {
                sha: "1a2b3c4d".to_owned(),
                reference: "refs/tags/v1".to_owned(),
                message: "Add \u{1b}[31ma thing".to_owned(),
                author: "A <a@example.com>".to_owned(),
                ..Commit::default()
            },
            dirty: false,
            trigger: Trigger::PullRequest {
                base: "main".to_owned(),
                number: 12,
            },
            inputs: BTreeMap::from([("version".to_owned(), "1.4".to_owned())]),
            vars: BTreeMap::new(),
            watched: BTreeMap::new(),
            upstream: Some(Upstream {
                run: RunId::new(1, 1),
                attempt: 1,
                pipeline: "build".to_owned(),
                outcome: Outcome::Succeeded,
                outputs: BTreeMap::new(),
            }),
            root: RunId::new(1, 1),
            definition: String::new(),
            project: "pipelines".to_owned(),
            only: vec![],
            simulated: false,
            stages: vec!["build.app".into(), "push.app".into()],
        };
        let events = [
            Event::RunCreated(Box::new(created)),
            Event::RunStarted {
                attempt: 2,
                reset: vec![],
            },
            Event::StageStarted {
                stage: "build.app".into(),
                attempt: 1,
            },
            Event::StageFinished {
                stage: "build.app".into(),
                outcome: Outcome::Failed,
                reason: "exit status 1".to_owned(),
                outputs: BTreeMap::from([("id".to_owned(), "sha256:1".to_owned())]),
                allowed: false,
            },
        ];
        let recorded = events.into_iter().enumerate().map(|(at, event)| Recorded {
            seq: at as u64 + 1,
            at: before(100 - at as i64),
            run: run.clone(),
            event,
        });
        RunState::of(&recorded.collect::<Vec<_>>())
    }

    #[test]
    fn the_head_of_a_run() {
        let expected = "\
run      RUN, attempt 2
commit   1a2b3c4d Add a thing
author   A <a@example.com>
ref      v1
trigger  pull request 12 to main
after    build run 0000000001000001
inputs   version=1.4
created  2026-01-31T07:58:20Z (1m ago)
";
        let run = RunId::new(1_769_846_400_000, 7);
        assert_eq!(
            show_head(&state(), NOW, Style::ascii()),
            expected.replace("RUN", run.as_str())
        );
    }

    #[test]
    fn a_run_as_json() {
        let value: Value = serde_json::from_str(&show_json(&state())).expect("JSON");
        assert_eq!(value["pipeline"], "release");
        assert_eq!(value["outcome"], Value::Null);
        assert_eq!(value["trigger"]["kind"], "pull-request");
        assert_eq!(value["root"], "0000000001000001");
        assert_eq!(value["stages"][0]["outcome"], "failed");
        assert_eq!(value["stages"][0]["duration-ms"], 1000);
        assert_eq!(value["stages"][0]["outputs"]["id"], "sha256:1");
        assert_eq!(value["stages"][1]["outcome"], Value::Null);
    }
}
