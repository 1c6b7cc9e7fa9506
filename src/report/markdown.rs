//! A Markdown summary, for job pages and pull requests.

use std::io::{self, Write};

use super::summary::{Summary, counts, listed, next_commands, outputs, reason_lines, took, word};
use super::{RunReport, critical_path};
use crate::base::harmless::escape_markdown as escape;
use crate::base::human_duration;

/// Stages listed at most; job pages refuse very long texts.
const ROWS: usize = 200;

/// Writes runs as Markdown.
pub fn markdown(out: &mut dyn Write, runs: &[RunReport<'_>], look: &Summary) -> io::Result<()> {
    for (at, run) in runs.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        section(out, run, look)?;
    }
    let commands = next_commands(runs);
    if !commands.is_empty() {
        writeln!(
            out,
            "\n```sh\n{}\n```",
            commands.join("\n").replace('`', "'")
        )?;
    }
    Ok(())
}

fn section(out: &mut dyn Write, run: &RunReport<'_>, look: &Summary) -> io::Result<()> {
    let state = run.state;
    let outcome = match state.outcome {
        Some(outcome) => format!("{} {outcome}", look.style.symbol(outcome)),
        None => "not finished".to_owned(),
    };
    let pipeline = escape(run.pipeline());
    writeln!(out, "### {pipeline}: {}\n", escape(&outcome))?;
    write!(out, "Run `{}`", run.short_id())?;
    if let Some(created) = &state.created {
        write!(out, " at `{}`", code(created.commit.short_sha()))?;
        let name = created
            .commit
            .branch
            .as_ref()
            .or(created.commit.tag.as_ref());
        if let Some(name) = name {
            write!(out, " ({})", escape(name))?;
        }
    }
    if let Some(start) = state.started_at {
        let end = state.finished_at.unwrap_or(look.now);
        write!(out, " in {}", human_duration(end.since(start)))?;
    }
    let counts: Vec<String> = counts(run)
        .into_iter()
        .map(|(word, _, count)| format!("{count} {word}"))
        .collect();
    writeln!(out, ": {}.\n", counts.join(", "))?;

    let (stages, rest) = listed(run, ROWS);
    if !stages.is_empty() {
        writeln!(out, "| | Stage | Outcome | Time | |")?;
        writeln!(out, "|---|---|---|---:|---|")?;
    }
    for stage in stages {
        let symbol = stage
            .outcome
            .map_or("", |outcome| look.style.symbol(outcome));
        let time = took(stage, look.now).map_or(String::new(), human_duration);
        let mut notes: Vec<String> = reason_lines(&stage.reason)
            .iter()
            .map(|line| escape(line.trim()))
            .collect();
        for (key, value) in outputs(stage) {
            notes.push(format!("{key} {}", escape(&value)));
        }
        let allowed = if stage.allowed { " (allowed)" } else { "" };
        writeln!(
            out,
            "| {} | {} | {}{allowed} | {time} | {} |",
            escape(symbol),
            escape(stage.id.as_str()),
            escape(word(stage)),
            notes.join("<br>")
        )?;
    }
    if !rest.is_empty() {
        let rest: Vec<String> = rest
            .iter()
            .map(|(word, count)| format!("{count} {word}"))
            .collect();
        writeln!(out, "\nNot listed: {}.", rest.join(", "))?;
    }
    let path = critical_path(run);
    if path.len() > 1 {
        let total: std::time::Duration = path.iter().map(|(_, took)| *took).sum();
        let links: Vec<String> = path
            .iter()
            .take(20)
            .map(|(id, took)| format!("{} {}", escape(id.as_str()), human_duration(*took)))
            .collect();
        let more = if path.len() > 20 { " → …" } else { "" };
        let total = human_duration(total);
        writeln!(out, "\nCritical path {total}: {}{more}", links.join(" → "))?;
    }
    for (next, pipeline) in &state.chained {
        writeln!(out, "\nThen {} run `{}`.", escape(pipeline), next.short())?;
    }
    Ok(())
}

fn code(text: &str) -> String {
    super::text::one_line(text).replace('`', "'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::event::{Event, Outcome};
    use crate::report::Style;
    use crate::report::fixture::{START, Story};

    fn text(story: &Story) -> String {
        let look = Summary {
            style: Style::new(false, true),
            now: Timestamp(START + 60_000),
        };
        let edges = [("build.a".into(), "push.a".into())];
        let state = story.state();
        let mut out = Vec::new();
        markdown(&mut out, &[RunReport::with_edges(&state, &edges)], &look)
            .expect("memory does not fail");
        String::from_utf8(out).expect("Markdown is UTF-8")
    }

    #[test]
    fn tells_a_run() {
        let mut story = Story::new("release", &["build.a", "push.a", "run.t[x=1|2]", "run.z"]);
        story
            .start("build.a")
            .at(2)
            .end("build.a", Outcome::Succeeded, "");
        story.start("push.a").at(3).end_with(
            "push.a",
            Outcome::UpToDate,
            "the registry has it",
            &[("ref", "localhost:5000/a:1")],
        );
        story.end(
            "run.t[x=1|2]",
            Outcome::Failed,
            "![x](http://evil)\n<img> @team `a` | b",
        );
        story.add(Event::ChainCreated {
            run: story.run.clone(),
            pipeline: "deploy".to_owned(),
        });
        story.at(5).finish(Outcome::Failed);
        let expected = r"### release: ✗ failed

Run `000007` at `1a2b3c4` (main) in 5.0s: 1 succeeded, 1 up-to-date, 1 failed, 1 pending.

| | Stage | Outcome | Time | |
|---|---|---|---:|---|
| ✓ | build.a | succeeded | 2.0s |  |
| = | push.a | up-to-date | 1.0s | the registry has it<br>ref localhost:5000/a:1 |
| ✗ | run.t\[x=1\|2\] | failed |  | \!\[x\](http:&#47;&#47;evil)<br>&lt;img&gt; &#64;team \`a\` \| b |
|  | run.z | pending |  |  |

Critical path 3.0s: build.a 2.0s → push.a 1.0s

Then deploy run `000007`.

```sh
pipewright logs 000007 'run.t[x=1|2]'
pipewright rerun 000007 --failed
```
";
        assert_eq!(text(&story), expected);
    }

    #[test]
    fn big_runs_stay_readable() {
        let ids: Vec<String> = (0..5000).map(|n| format!("run.s{n}")).collect();
        let names: Vec<&str> = ids.iter().map(String::as_str).collect();
        let text = text(&Story::new("big", &names));
        assert!(text.contains("Not listed: 4800 pending."), "{text}");
        assert!(text.lines().count() < 220);
    }
}
