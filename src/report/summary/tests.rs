//! Exact summaries of made-up runs.

use super::*;
use crate::base::StageId;
use crate::event::Event;
use crate::report::fixture::{START, Story};

const LOOK: Summary = Summary {
    style: Style::new(false, true),
    now: Timestamp(START + 60_000),
};

fn text(runs: &[RunReport<'_>], look: &Summary) -> String {
    let mut out = Vec::new();
    summary(&mut out, runs, look).expect("memory does not fail");
    String::from_utf8(out).expect("summaries are UTF-8")
}

fn story() -> Story {
    let mut story = Story::new(
        "release",
        &[
            "build.app",
            "push.app",
            "run.test[go=1.22]",
            "run.lint",
            "deploy.prod",
            "notify.x",
        ],
    );
    story
        .at(0)
        .start("build.app")
        .start("run.test[go=1.22]")
        .start("run.lint");
    story.at(40).end("build.app", Outcome::Succeeded, "");
    story.start("push.app").at(43).end_with(
        "push.app",
        Outcome::UpToDate,
        "the registry has it",
        &[
            ("digest", "sha256:0123456789abcdef0123456789abcdef"),
            ("ref", "localhost:5000/app:1a2b3c4"),
            ("pinned", "not shown"),
        ],
    );
    story.at(42).end(
        "run.test[go=1.22]",
        Outcome::Failed,
        "exit status 1\n\n  see \u{1b}[2Jabove\n",
    );
    story.add(Event::StageFinished {
        stage: "run.lint".into(),
        outcome: Outcome::Failed,
        reason: "exit status 2".to_owned(),
        outputs: BTreeMap::new(),
        allowed: true,
    });
    story.end("deploy.prod", Outcome::Blocked, "run.test[go=1.22] failed");
    story.end("notify.x", Outcome::Skipped, "its condition was false");
    story.add(Event::Warning {
        stage: Some("push.app".into()),
        message: "the cache is cold".to_owned(),
    });
    story.at(62).finish(Outcome::Failed);
    story
}

#[test]
fn tells_everything_once() {
    let story = story();
    let state = story.state();
    let edges = [
        ("build.app".into(), "push.app".into()),
        ("push.app".into(), "deploy.prod".into()),
    ];
    let expected = "\
release run RUN at 1a2b3c4 (main): ✗ failed in 1m02s

  ✓ succeeded   build.app           40.0s
  = up-to-date  push.app             3.0s  the registry has it
                                           ref localhost:5000/app:1a2b3c4  digest sha256:0123456789ab
  ✗ failed      run.test[go=1.22]   42.0s  exit status 1
                                             see above
  ✗ failed      run.lint            42.0s  allowed to fail
                                           exit status 2
  ⊘ blocked     deploy.prod                run.test[go=1.22] failed
  ○ skipped     notify.x                   its condition was false

  warning: push.app: the cache is cold

  6 stages: 1 succeeded, 1 up-to-date, 1 skipped, 1 blocked, 2 failed; 2m07s of work
  critical path 43.0s: build.app 40.0s → push.app 3.0s

next: pipewright logs SHORT 'run.test[go=1.22]'
      pipewright rerun SHORT --failed
";
    let expected = expected.replace("RUN", story.run.as_str());
    assert_eq!(
        text(&[RunReport::with_edges(&state, &edges)], &LOOK),
        expected.replace("SHORT", story.run.short())
    );
}

#[test]
fn chained_runs_follow() {
    let mut first = Story::new("release", &["build.a"]);
    let mut next = first.chained("deploy", &["deploy.a"]);
    first
        .start("build.a")
        .at(1)
        .end("build.a", Outcome::Succeeded, "");
    for (run, pipeline) in [(next.run.clone(), "deploy"), (RunId::new(1, 1), "other")] {
        first.add(Event::ChainCreated {
            run,
            pipeline: pipeline.to_owned(),
        });
    }
    first.finish(Outcome::Succeeded);
    next.at(1).start("deploy.a");
    let (one, two) = (first.state(), next.state());
    let expected = "\
release run FIRST at 1a2b3c4 (main): + succeeded in 1.0s

  + succeeded   build.a    1.0s

  1 stage: 1 succeeded; 1.0s of work
  then deploy run NEXT: not finished
  then other run 0000000001000001

deploy run NEXT at 1a2b3c4 (main): not finished in 1m00s

  > running     deploy.a   59.0s

  1 stage: 1 running; 59.0s of work

next: pipewright logs 000008 --follow
      pipewright run --resume 000008
";
    let look = Summary {
        style: Style::ascii(),
        ..LOOK
    };
    let expected = expected.replace("FIRST", first.run.as_str());
    assert_eq!(
        text(&[RunReport::new(&one), RunReport::new(&two)], &look),
        expected.replace("NEXT", next.run.as_str())
    );
}

#[test]
fn big_runs_list_what_did_not_succeed() {
    let ids: Vec<String> = (0..10_000).map(|n| format!("run.s{n}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut story = Story::new("big", &names);
    for name in &names[..9000] {
        story.start(name).end(name, Outcome::Succeeded, "");
    }
    for name in &names[9000..9999] {
        story.end(name, Outcome::Blocked, "run.s9999 failed");
    }
    story
        .start("run.s9999")
        .end("run.s9999", Outcome::Failed, "no");
    story.finish(Outcome::Failed);
    let state = story.state();
    let text = text(&[RunReport::new(&state)], &LOOK);
    assert!(
        text.contains("✗ failed      run.s9999     0ms  no\n"),
        "{text}"
    );
    assert!(
        text.contains("… and 960 blocked, 9,000 succeeded\n"),
        "{text}"
    );
    assert!(text.lines().count() < 60, "{text}");
}

#[test]
fn success_needs_no_advice_and_reasons_are_bounded() {
    let mut story = Story::new("release", &["run.a"]);
    story.end("run.a", Outcome::Succeeded, &"long\n".repeat(10_000));
    story.finish(Outcome::Succeeded);
    let state = story.state();
    let text = text(&[RunReport::new(&state)], &LOOK);
    assert!(!text.contains("next:"));
    assert_eq!(text.matches("long").count(), REASON_LINES);
    assert!(text.contains("  ...\n"));
}

#[test]
fn long_paths_are_cut_in_the_middle() {
    let ids: Vec<String> = (0..12).map(|n| format!("run.s{n}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut story = Story::new("chain", &names);
    for (n, name) in names.iter().enumerate() {
        story
            .at(n as i64)
            .start(name)
            .at(n as i64 + 1)
            .end(name, Outcome::Succeeded, "");
    }
    let edges: Vec<(StageId, StageId)> = names
        .windows(2)
        .map(|pair| (pair[0].into(), pair[1].into()))
        .collect();
    let state = story.finish(Outcome::Succeeded).state();
    let text = text(&[RunReport::with_edges(&state, &edges)], &LOOK);
    assert!(
        text.contains("run.s3 1.0s → … 4 more → run.s8 1.0s →"),
        "{text}"
    );
}

#[test]
fn words_are_quoted_for_the_shell() {
    assert_eq!(quote("build.app"), "build.app");
    assert_eq!(quote("run.t[a=b c]"), "'run.t[a=b c]'");
    assert_eq!(quote("a'b"), "'a'\\''b'");
}
