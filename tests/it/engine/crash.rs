//! The process may die at any moment; the next one finishes the run and repeats no effect.

use std::collections::BTreeMap;

use pipewright::adapters::sim::{Failure, Fault};
use pipewright::base::RunId;
use pipewright::engine::{Cancel, EngineError};
use pipewright::event::Outcome;

use crate::support::flow::{Flow, MANIFESTS, options};

const DELIVERY: &str = r#"
pipeline release {
    build app
    push app
    bump main repo=manifests { file "values.yaml" { set ".tag" "${image.app.tag}" } }
    deploy web {
        docker {
            before migrate { command "true" }
            container web image=app publish="8080:80"
        }
    }
    notify ops to=pager
}
pipeline after {
    on { pipeline release }
    run check { env D "${upstream.push.app.digest}"; script "echo $D" }
    bump mark repo=manifests { file "values.yaml" { set ".web" "${run.id}" } }
}
"#;

/// Runs `release` until it ends or the process dies; whether it died.
async fn first_life(flow: &Flow) -> (RunId, bool) {
    let life = flow.life();
    let run = flow.create(&life, "release").await;
    let died = tokio::select! {
        biased;
        () = flow.sim.crashed() => true,
        ended = flow.go(&life, &run) => {
            // The journal of a dead process cannot be written.
            assert!(ended.is_ok() || flow.sim.is_crashed(), "{ended:?}");
            flow.sim.is_crashed()
        }
    };
    (run, died)
}

async fn second_life(flow: &Flow, run: &RunId) -> Result<Outcome, EngineError> {
    flow.sim.restart();
    let life = flow.life();
    let ended = flow.go(&life, run).await;
    life.end().await;
    ended
}

/// Effects that must be there exactly once, whatever happened.
fn once(flow: &Flow) -> BTreeMap<&'static str, usize> {
    let count = |pattern| flow.sim.effects(pattern).len();
    BTreeMap::from([
        ("engine.push", count("engine.push")),
        ("vcs.push", count("vcs.push")),
        ("the migration", count("engine.run *before-migrate")),
    ])
}

#[track_caller]
fn delivered(flow: &Flow, run: &RunId, when: &str) {
    let expected = BTreeMap::from([("engine.push", 1), ("vcs.push", 2), ("the migration", 1)]);
    assert_eq!(once(flow), expected, "{when}: {:#?}", flow.ledger());
    assert_eq!(flow.sim.violations(), [], "{when}");
    let outcome = flow.state(run).outcome;
    assert!(
        outcome.is_some_and(Outcome::is_success),
        "{when}: {:?}",
        flow.told(run)
    );
    let [after] = flow
        .runs("after")
        .try_into()
        .expect("what follows was created once");
    let outcome = flow.state(&after).outcome;
    assert!(
        outcome.is_some_and(Outcome::is_success),
        "{when}: {:?}",
        flow.told(&after)
    );
    assert_eq!(
        flow.sim.containers(),
        ["web"],
        "{when}: nothing is left over"
    );
    assert_eq!(flow.sim.remote_length(MANIFESTS, "main"), 3, "{when}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_around_any_effect_repeats_none() {
    let flow = Flow::of(DELIVERY, options());
    let (run, died) = first_life(&flow).await;
    assert!(!died);
    delivered(&flow, &run, "without a crash");
    let effects = flow.ledger().len();
    assert!(effects > 12, "{:#?}", flow.ledger());
    for number in 1..=effects {
        for after in [false, true] {
            let flow = Flow::of(DELIVERY, options());
            if after {
                flow.sim.crash_after(number);
            } else {
                flow.sim.crash_before(number);
            }
            let (run, died) = first_life(&flow).await;
            assert!(died, "there is an effect {number}");
            let place = if after { "after" } else { "before" };
            let when = format!(
                "a crash {place} effect {number}: {}",
                flow.ledger().join("\n")
            );
            let ended = second_life(&flow, &run).await;
            assert!(ended.is_ok(), "{when}: {ended:?}");
            delivered(&flow, &run, &when);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_around_any_record_repeats_nothing() {
    for kind in [
        "run-started",
        "stage-started",
        "intent",
        "effect",
        "stage-finished",
        "chain-created",
        "run-finished",
    ] {
        for stage in ["", "push.app", "bump.main", "deploy.web", "bump.mark"] {
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                let flow = Flow::of(DELIVERY, options());
                let pattern = match stage {
                    "" => format!("store.append *\"type\":\"{kind}\"*"),
                    stage => format!("store.append *\"type\":\"{kind}\",\"stage\":\"{stage}\"*"),
                };
                flow.sim.on(&pattern, fault.clone());
                let (run, died) = first_life(&flow).await;
                let when = format!("{fault:?} at {kind} {stage}");
                if !died {
                    let run_event = kind.starts_with("run") || kind.starts_with("chain");
                    assert!(run_event && !stage.is_empty(), "nothing happened: {when}");
                    continue;
                }
                let ended = second_life(&flow, &run).await;
                assert!(ended.is_ok(), "{when}: {ended:?}");
                delivered(&flow, &run, &when);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_crashes_are_as_good_as_one() {
    let flow = Flow::of(DELIVERY, options());
    flow.sim.crash_after(2);
    let (run, died) = first_life(&flow).await;
    assert!(died);
    let effects = flow.ledger().len();
    for step in [2, 4, 3] {
        flow.sim.restart();
        flow.sim.crash_after(flow.ledger().len() + step);
        let life = flow.life();
        tokio::select! {
            biased;
            () = flow.sim.crashed() => {}
            ended = flow.go(&life, &run) => assert!(flow.sim.is_crashed(), "{ended:?}"),
        }
    }
    assert!(flow.ledger().len() > effects);
    let ended = second_life(&flow, &run).await;
    assert!(ended.is_ok(), "{ended:?}");
    delivered(&flow, &run, "after four crashes");
}

#[tokio::test(start_paused = true)]
async fn processes_that_a_killed_run_left_are_ended() {
    let flow = Flow::of(
        r#"pipeline release { run a { script "sleep 20" } }"#,
        options(),
    );
    let life = flow.life();
    let run = flow.create(&life, "release").await;
    tokio::select! {
        _ = flow.go(&life, &run) => panic!("it sleeps"),
        () = flow.until(&run, |state| state.stages()[0].attempt == 1) => {}
    }
    drop(life);
    let ended = second_life(&flow, &run).await;
    assert_eq!(ended.ok(), Some(Outcome::Succeeded));
    assert_eq!(
        flow.sim.effects("process.reap").len(),
        1,
        "{:?}",
        flow.ledger()
    );
    assert_eq!(flow.sim.effects("process.run").len(), 2);
    flow.expect(&run, "run.a succeeded\n= succeeded");
    assert_eq!(flow.state(&run).stages()[0].attempt, 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_deployment_does_not_migrate_again() {
    let text = r#"pipeline release {
        build app
        push app
        deploy web {
            retry 3 { backoff "1s" }
            docker { before migrate { command "true" }; container web image=app }
        }
    }"#;
    let flow = Flow::of(text, options());
    let broken = Fault::Fail {
        times: 2,
        with: Failure::Broken,
    };
    flow.sim.on("engine.create web.candidate", broken);
    let run = flow.run("release").await;
    flow.expect(
        &run,
        "build.app succeeded\npush.app succeeded\ndeploy.web succeeded\n= succeeded",
    );
    assert_eq!(flow.state(&run).stages()[2].attempt, 3);
    assert_eq!(flow.sim.effects("engine.run *before-migrate").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_push_whose_answer_was_lost_is_not_pushed_again() {
    let flow = Flow::of(DELIVERY, options());
    let lost = |times| Fault::LoseAnswer {
        times,
        with: Failure::Broken,
    };
    flow.sim.on("engine.push", lost(1));
    flow.sim.on("vcs.push", lost(1));
    let run = flow.run("release").await;
    delivered(&flow, &run, "lost answers");
}

#[tokio::test(start_paused = true)]
async fn a_rerun_of_what_failed_keeps_what_succeeded() {
    let flow = Flow::of(
        r#"pipeline release {
            build app
            push app
            run flaky { needs push.app; script "fail-once" }
            run next { needs run.flaky; script "true" }
            run z { finally; script "true" }
        }"#,
        options(),
    );
    let run = flow.run("release").await;
    flow.expect(
        &run,
        "
        build.app succeeded
        push.app succeeded
        run.flaky failed: exited with status 1
        run.next blocked: run.flaky, which it waits for, failed
        run.z succeeded
        = failed
        ",
    );
    let reset: Vec<_> = ["run.flaky", "run.next", "run.z"].map(Into::into).into();
    let life = flow.life();
    let ended = flow.go_with(&life, &run, &reset, &Cancel::new()).await;
    assert_eq!(ended.ok(), Some(Outcome::Succeeded));
    flow.expect(
        &run,
        "
        build.app succeeded
        push.app succeeded
        run.flaky succeeded
        run.next succeeded
        run.z succeeded
        = succeeded
        ",
    );
    let state = flow.state(&run);
    assert_eq!(state.attempt, 2);
    assert_eq!(flow.sim.effects("engine.build").len(), 1);
    assert_eq!(flow.sim.effects("engine.push").len(), 1);
    assert_eq!(flow.sim.effects("process.run *run.z").len(), 2);
}
