//! JUnit XML, for services that show test results: a suite per run, a case per stage.

use std::io::{self, Write};

use super::RunReport;
use super::summary::{reason_lines, took};
use crate::base::Timestamp;
use crate::event::{Outcome, StageState};

/// Writes runs as JUnit XML.
///
/// Failed stages are failures; errored, timed-out and cancelled ones errors; stages that did not
/// run, and failures that are allowed, are skipped.
pub fn junit(out: &mut dyn Write, runs: &[RunReport<'_>]) -> io::Result<()> {
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"pipewright\">")?;
    for run in runs {
        suite(out, run)?;
    }
    writeln!(out, "</testsuites>")
}

#[derive(PartialEq, Eq)]
enum Case {
    Passed,
    Failure,
    Error,
    Skipped,
}

impl Case {
    const fn of(stage: &StageState) -> Self {
        match stage.outcome {
            Some(Outcome::Succeeded | Outcome::UpToDate) => Self::Passed,
            Some(Outcome::Skipped | Outcome::Blocked) | None => Self::Skipped,
            Some(_) if stage.allowed => Self::Skipped,
            Some(Outcome::Failed) => Self::Failure,
            Some(Outcome::Errored | Outcome::TimedOut | Outcome::Cancelled) => Self::Error,
        }
    }
}

fn suite(out: &mut dyn Write, run: &RunReport<'_>) -> io::Result<()> {
    let stages = run.state.stages();
    let count = |case: Case| {
        stages
            .iter()
            .filter(|stage| Case::of(stage) == case)
            .count()
    };
    let took = match (run.state.started_at, run.state.finished_at) {
        (Some(start), Some(end)) => end.since(start),
        _ => std::time::Duration::ZERO,
    };
    writeln!(
        out,
        "  <testsuite name=\"{}\" id=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" \
         time=\"{:.3}\" timestamp=\"{}\">",
        escape(run.pipeline()),
        escape(run.id()),
        stages.len(),
        count(Case::Failure),
        count(Case::Error),
        count(Case::Skipped),
        took.as_secs_f64(),
        run.state.created_at.rfc3339().trim_end_matches('Z'),
    )?;
    for stage in stages {
        case(out, run.pipeline(), stage)?;
    }
    writeln!(out, "  </testsuite>")
}

fn case(out: &mut dyn Write, pipeline: &str, stage: &StageState) -> io::Result<()> {
    let time = took(stage, stage.started_at.unwrap_or(Timestamp(0))).unwrap_or_default();
    write!(
        out,
        "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
        escape(pipeline),
        escape(stage.id.as_str()),
        time.as_secs_f64()
    )?;
    let lines = reason_lines(&stage.reason);
    let word = stage.outcome.map_or("did not run", Outcome::as_str);
    let message = match lines.first() {
        Some(first) => format!("{word}: {first}"),
        None => word.to_owned(),
    };
    let message = escape(&message);
    match Case::of(stage) {
        Case::Passed => return writeln!(out, "/>"),
        Case::Skipped => writeln!(out, ">\n      <skipped message=\"{message}\"/>")?,
        Case::Failure => element(out, "failure", word, &message, &lines)?,
        Case::Error => element(out, "error", word, &message, &lines)?,
    }
    writeln!(out, "    </testcase>")
}

fn element(
    out: &mut dyn Write,
    name: &str,
    word: &str,
    message: &str,
    lines: &[String],
) -> io::Result<()> {
    writeln!(
        out,
        ">\n      <{name} type=\"{word}\" message=\"{message}\">{}</{name}>",
        escape(&lines.join("\n"))
    )
}

/// Text as XML 1.0 may hold it, in elements and in attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' => escaped.push('\n'),
            '\t' => escaped.push(' '),
            // XML 1.0 has no way to write these at all.
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::report::fixture::Story;

    #[test]
    fn tells_every_outcome() {
        let stages = [
            "build.a",
            "push.a",
            "run.t[x=<1>]",
            "run.l",
            "scan.a",
            "deploy.p",
            "run.z",
        ];
        let mut story = Story::new("rel & co", &stages);
        story
            .start("build.a")
            .at(2)
            .end("build.a", Outcome::Succeeded, "");
        story.end("push.a", Outcome::UpToDate, "");
        story.start("run.t[x=<1>]").at(3);
        story.end(
            "run.t[x=<1>]",
            Outcome::Failed,
            "exit \"1\"\n<b>\u{1b}[2J\u{0}\u{ffff}&</b>",
        );
        story.add(Event::StageFinished {
            stage: "run.l".into(),
            outcome: Outcome::Failed,
            reason: "lint".to_owned(),
            outputs: Default::default(),
            allowed: true,
        });
        story.end("scan.a", Outcome::Errored, "no scanner");
        story.end("deploy.p", Outcome::Blocked, "scan.a errored");
        story.at(5).finish(Outcome::Errored);
        let state = story.state();
        let mut out = Vec::new();
        junit(&mut out, &[RunReport::new(&state)]).expect("memory does not fail");
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="pipewright">
  <testsuite name="rel &amp; co" id="RUN" tests="7" failures="1" errors="1" skipped="3" time="5.000" timestamp="2026-01-31T08:00:00">
    <testcase classname="rel &amp; co" name="build.a" time="2.000"/>
    <testcase classname="rel &amp; co" name="push.a" time="0.000"/>
    <testcase classname="rel &amp; co" name="run.t[x=&lt;1&gt;]" time="1.000">
      <failure type="failed" message="failed: exit &quot;1&quot;">exit &quot;1&quot;
&lt;b&gt;&amp;&lt;/b&gt;</failure>
    </testcase>
    <testcase classname="rel &amp; co" name="run.l" time="0.000">
      <skipped message="failed: lint"/>
    </testcase>
    <testcase classname="rel &amp; co" name="scan.a" time="0.000">
      <error type="errored" message="errored: no scanner">no scanner</error>
    </testcase>
    <testcase classname="rel &amp; co" name="deploy.p" time="0.000">
      <skipped message="blocked: scan.a errored"/>
    </testcase>
    <testcase classname="rel &amp; co" name="run.z" time="0.000">
      <skipped message="did not run"/>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(
            String::from_utf8(out).expect("XML is UTF-8"),
            expected.replace("RUN", story.run.as_str())
        );
    }
}
