//! Outcomes, edges, allowed failures, last stages, retries and time limits.

use std::time::Duration;

use pipewright::adapters::sim::{Failure, Fault};
use pipewright::scan::{Finding, Rating, Report, Tool};

use crate::support::flow::{Flow, run_and_expect};

#[tokio::test(start_paused = true)]
async fn a_skipped_producer_skips_who_uses_it_and_satisfies_who_follows_it() {
    run_and_expect(
        r#"
        run a { script "true"; output x from="f"; when { branch release } }
        run b { env X "${run.a.x}"; script "true" }
        run c { needs run.a; script "true" }
        run d { needs run.a skipped=propagate; script "true" }
        run e { needs run.b run.c; script "true" }
        "#,
        "
        run.a skipped: on branch main, not on release
        run.b skipped: run.a, whose result it needs, was skipped
        run.c succeeded
        run.d skipped: run.a, whose result it needs, was skipped
        run.e succeeded
        = succeeded
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_blocks_who_waits_for_it() {
    run_and_expect(
        r#"
        run a { script "exit 3"; output x from="f" }
        run b { env X "${run.a.x}"; script "true" }
        run c { needs run.b; script "true" }
        run d { script "true" }
        bump e repo=manifests { file "values.yaml" { set ".tag" "new" } }
        "#,
        "
        run.a failed: exited with status 3
        run.b blocked: run.a, which it waits for, failed
        run.c blocked: run.b, which it waits for, was blocked
        run.d succeeded
        bump.e blocked: run.a, which it waits for, failed
        = failed
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_allowed_failure_satisfies_every_edge_but_leaves_no_output() {
    run_and_expect(
        r#"
        run a { allow-failure; script "exit 3"; output x from="f" }
        run b { env X "${run.a.x}"; script "true" }
        run c { needs run.a; script "true" }
        bump d repo=manifests { file "values.yaml" { set ".tag" "new" } }
        "#,
        "
        run.a failed (allowed): exited with status 3
        run.b skipped: run.a, whose result it needs, failed
        run.c succeeded
        bump.d succeeded
        = succeeded
        ",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_run_is_that_of_its_worst_stage() {
    let skipped = r#"run s { script "true"; when { branch release } }"#;
    let good = r#"run g { script "true" }"#;
    let failed = r#"run f { script "false" }"#;
    let late = r#"run t { script "hang"; timeout "5s" }"#;
    let errored = r#"run e { script "true" }"#;
    for (stages, outcome) in [
        (vec![skipped], "skipped"),
        (vec![skipped, good], "succeeded"),
        (vec![good, failed], "failed"),
        (vec![failed, late, good], "timed-out"),
        (vec![late, errored, failed], "errored"),
    ] {
        let flow = Flow::new(&stages.join("\n"));
        let broken = Failure::Broken;
        flow.sim.on(
            "process.run *run.e",
            Fault::Fail {
                times: 1,
                with: broken,
            },
        );
        let run = flow.run("p").await;
        let told = flow.told(&run);
        assert_eq!(told.last(), Some(&format!("= {outcome}")), "{told:?}");
        flow.clean();
    }
}

fn bad_news() -> Report {
    Report {
        findings: vec![Finding {
            fixed: Some("2".to_owned()),
            ..Finding::new("CVE-2026-0001", "libx", "1", Rating::Critical)
        }],
        packages: 1,
        ..Report::new(Tool::named("test"), "app:1")
    }
}

#[tokio::test(start_paused = true)]
async fn a_scan_gates_the_push_of_its_image() {
    for (scan, expected, pushes) in [
        (
            "scan app { fail-on high }",
            "build.app succeeded
             scan.app failed: …
             push.app blocked: scan.app, which it waits for, failed
             = failed",
            0,
        ),
        (
            "scan app { fail-on high; when { branch release } }",
            "build.app succeeded
             scan.app skipped: on branch main, not on release
             push.app skipped: scan.app, whose result it needs, was skipped
             = succeeded",
            0,
        ),
        (
            "scan app { fail-on high; allow-failure }",
            "build.app succeeded
             scan.app failed (allowed): …
             push.app succeeded
             = succeeded",
            1,
        ),
    ] {
        let flow = Flow::new(&format!("build app\n{scan}\npush app"));
        flow.sim.findings("*", bad_news());
        let run = flow.run("p").await;
        flow.expect(&run, expected);
        assert_eq!(flow.sim.effects("engine.push").len(), pushes, "{scan}");
    }
}

#[tokio::test(start_paused = true)]
async fn last_stages_run_after_a_failure_and_see_it() {
    let flow = run_and_expect(
        r#"
        run cleanup { finally; script "true" }
        notify always to=pager { title "${run.outcome} ${run.pipeline}: ${run.url}" }
        notify good to=pager { when { outcome succeeded } }
        run a { script "exit 3" }
        run b { needs run.a; script "true" }
        "#,
        "
        run.cleanup succeeded
        notify.always succeeded
        notify.good skipped: the run failed
        run.a failed: exited with status 3
        run.b blocked: run.a, which it waits for, failed
        = failed
        ",
    )
    .await;
    let [message] = flow.sim.messages().try_into().expect("one message");
    let run = &flow.runs("p")[0];
    let title = format!("\"title\":\"failed p: pipewright show {run}\"");
    assert!(message.contains(&title), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_sent_is_a_warning() {
    let flow = Flow::new(
        r#"
        run a { script "true" }
        notify ops to=pager
        run z { finally; script "true" }
        "#,
    );
    flow.sim.on(
        "notifier.send",
        Fault::Fail {
            times: 9,
            with: Failure::Refused,
        },
    );
    let run = flow.run("p").await;
    flow.expect(
        &run,
        "
        run.a succeeded
        notify.ops failed (allowed): …
        run.z succeeded
        = succeeded
        ",
    );
}

#[tokio::test(start_paused = true)]
async fn only_trouble_of_the_infrastructure_is_tried_again_by_default() {
    let flow = Flow::new(
        r#"
        run fails { retry 3; script "fail-once" }
        run heals { retry 3 { on failed }; script "fail-once; true" }
        run breaks { retry 3 { backoff "1s" }; script "true" }
        run hopeless { retry 2 { backoff "1s" }; script "true" }
        run once { script "true" }
        "#,
    );
    let broken = |times| Fault::Fail {
        times,
        with: Failure::Broken,
    };
    flow.sim.on("process.run *run.breaks", broken(2));
    flow.sim.on("process.run *run.hopeless", broken(5));
    flow.sim.on("process.run *run.once", broken(1));
    let run = flow.run("p").await;
    flow.expect(
        &run,
        "
        run.fails failed: exited with status 1
        run.heals succeeded
        run.breaks succeeded
        run.hopeless errored: …
        run.once errored: …
        = errored
        ",
    );
    let state = flow.state(&run);
    let attempts: Vec<u32> = state.stages().iter().map(|stage| stage.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_time_limit_holds_for_each_attempt_and_the_work_is_awaited() {
    let flow = Flow::new(
        r#"
        run slow { timeout "5s"; retry 2 { backoff "1s" }; script "hang" }
        run stubborn { timeout "5s"; script "trap '' TERM; hang" }
        run fast { timeout "5s"; script "sleep 4" }
        "#,
    );
    let run = flow.run("p").await;
    // Had a future been dropped, the world would have noticed.
    flow.expect(
        &run,
        "
        run.slow timed-out: took longer than 5.0s
        run.stubborn timed-out: took longer than 5.0s
        run.fast succeeded
        = timed-out
        ",
    );
    let state = flow.state(&run);
    let took = |at: usize| {
        let stage = &state.stages()[at];
        let ended = stage.finished_at.expect("it ended");
        ended.since(stage.started_at.expect("it began"))
    };
    assert_eq!(state.stages()[0].attempt, 2);
    assert!(took(0) >= Duration::from_secs(11), "{:?}", took(0));
    assert!(
        took(1) >= Duration::from_secs(15),
        "its grace is ten seconds: {:?}",
        took(1)
    );
}

#[tokio::test(start_paused = true)]
async fn what_stages_worked_in_is_given_back() {
    let flow = run_and_expect(
        r#"
        run a { script "true" }
        run b { needs run.a; script "exit 3" }
        "#,
        "
        run.a succeeded
        run.b failed: exited with status 3
        = failed
        ",
    )
    .await;
    let given = flow.sim.calls("workspace.discard");
    assert_eq!((flow.sim.calls("workspace.scratch"), given), (2, 2));
    flow.clean();
}

/// An engine lets in two networks of one name, and starts nothing in either then. A process that was
/// killed may have asked for one that is made only once the next attempt has asked as well.
#[tokio::test(start_paused = true)]
async fn no_two_attempts_ask_for_one_network() {
    let flow = run_and_expect(
        r#"
        run a {
            container "app:1"
            service db image="app:1"
            retry 2 { on failed; backoff "1s" }
            script "true"
        }
        "#,
        "
        run.a failed: image app:1 does not exist on the engine
        = failed
        ",
    )
    .await;
    let asked = flow.sim.effects("engine.create-network");
    let [first, second] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    assert_ne!(first.subject, second.subject);
    assert_eq!(flow.sim.effects("engine.remove-network").len(), 2);
    flow.clean();
}
