//! Concurrency groups, with several processes on one store.

use std::time::Duration;

use pipewright::base::RunId;
use pipewright::engine::Cancel;

use crate::support::flow::{Flow, Life};

/// Three runs, oldest first, each with a process of its own.
async fn three(flow: &Flow) -> ([RunId; 3], [Life; 3]) {
    let lives = [flow.life(), flow.life(), flow.life()];
    let runs = [
        flow.create(&lives[0], "p").await,
        flow.create(&lives[1], "p").await,
        flow.create(&lives[2], "p").await,
    ];
    (runs, lives)
}

/// Executes the runs, each a second after the one before in `order`.
async fn all(flow: &Flow, runs: &[RunId; 3], lives: &[Life; 3], order: [usize; 3]) {
    let start = |at: usize| {
        let place = order
            .iter()
            .position(|run| *run == at)
            .expect("all are in it");
        async move {
            tokio::time::sleep(Duration::from_secs(place as u64)).await;
            flow.go(&lives[at], &runs[at])
                .await
                .expect("it comes to its end")
        }
    };
    tokio::join!(start(0), start(1), start(2));
}

#[tokio::test(start_paused = true)]
async fn runs_queue_in_the_order_of_their_creation() {
    let flow = Flow::new(
        r#"
        concurrency prod
        run a { script "sleep 10" }
        "#,
    );
    let (runs, lives) = three(&flow).await;
    all(&flow, &runs, &lives, [0, 2, 1]).await;
    let began = runs.each_ref().map(|run| {
        let state = flow.state(run);
        state.stages()[0].started_at.expect("it began")
    });
    assert!(began[0] < began[1] && began[1] < began[2], "{began:?}");
    assert!(began[2].since(began[0]) >= Duration::from_secs(20));
    for run in &runs {
        flow.expect(run, "run.a succeeded\n= succeeded");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_two_lets_two_in() {
    let flow = Flow::new(
        r#"
        run a { concurrency prod limit=2; script "sleep 10" }
        "#,
    );
    let (runs, lives) = three(&flow).await;
    all(&flow, &runs, &lives, [0, 1, 2]).await;
    let began = runs.each_ref().map(|run| {
        let state = flow.state(run);
        state.stages()[0].started_at.expect("it began")
    });
    assert!(
        began[1].since(began[0]) < Duration::from_secs(5),
        "{began:?}"
    );
    assert!(
        began[2].since(began[0]) >= Duration::from_secs(10),
        "{began:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn latest_keeps_only_the_newest_waiting() {
    let flow = Flow::new(
        r#"
        concurrency prod mode=latest
        run a { script "sleep 10" }
        "#,
    );
    let (runs, lives) = three(&flow).await;
    all(&flow, &runs, &lives, [0, 1, 2]).await;
    flow.expect(&runs[0], "run.a succeeded\n= succeeded");
    let why = format!("superseded by run {} in group prod", runs[2]);
    flow.expect(&runs[1], &format!("run.a skipped: {why}\n= skipped"));
    flow.expect(&runs[2], "run.a succeeded\n= succeeded");
}

#[tokio::test(start_paused = true)]
async fn stages_of_one_run_do_not_supersede_each_other() {
    for mode in ["latest", "cancel"] {
        let flow = Flow::new(&format!(
            r#"run a b c d {{ concurrency prod mode={mode}; script "sleep 3" }}"#
        ));
        let run = flow.run("p").await;
        flow.expect(
            &run,
            "run.a succeeded\nrun.b succeeded\nrun.c succeeded\nrun.d succeeded\n= succeeded",
        );
    }
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_the_one_that_runs() {
    let flow = Flow::new(
        r#"
        concurrency prod mode=cancel
        run a { script "sleep 30" }
        run z { finally; script "true" }
        "#,
    );
    let (runs, lives) = three(&flow).await;
    all(&flow, &runs, &lives, [0, 1, 2]).await;
    let by = |newer: &RunId| format!("run {newer}, which takes its place in group prod");
    flow.expect(
        &runs[0],
        &format!(
            "run.a cancelled: cancelled by {}\nrun.z succeeded\n= cancelled",
            by(&runs[1])
        ),
    );
    flow.expect(&runs[2], "run.a succeeded\nrun.z succeeded\n= succeeded");
    assert_ne!(
        flow.told(&runs[1]).last().map(String::as_str),
        Some("= succeeded")
    );
}

#[tokio::test(start_paused = true)]
async fn an_older_bump_does_not_undo_a_newer_one() {
    let flow = Flow::new(
        r#"
        concurrency prod
        run a { script "true" }
        bump main repo=manifests { file "values.yaml" { set ".tag" "${run.id}" } }
        "#,
    );
    let (runs, lives) = three(&flow).await;
    flow.go(&lives[1], &runs[1])
        .await
        .expect("it comes to its end");
    flow.go(&lives[0], &runs[0])
        .await
        .expect("it comes to its end");
    flow.go(&lives[2], &runs[2])
        .await
        .expect("it comes to its end");
    flow.expect(
        &runs[1],
        "run.a succeeded\nbump.main succeeded\n= succeeded",
    );
    flow.expect(
        &runs[0],
        &format!(
            "run.a succeeded\nbump.main skipped: superseded by run {}\n= succeeded",
            runs[1]
        ),
    );
    flow.expect(
        &runs[2],
        "run.a succeeded\nbump.main succeeded\n= succeeded",
    );
    assert_eq!(flow.sim.effects("vcs.push").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_its_group_can_be_cancelled_by_another_process() {
    let flow = Flow::new(
        r#"
        concurrency prod
        run a { script "sleep 60" }
        "#,
    );
    let (runs, lives) = three(&flow).await;
    let cancel = Cancel::new();
    let (first, second, ()) = tokio::join!(
        flow.go(&lives[0], &runs[0]),
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            flow.go_with(&lives[1], &runs[1], &[], &cancel).await
        },
        async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            flow.request_cancel(&runs[1], "ops");
        },
    );
    assert!(first.is_ok() && second.is_ok());
    flow.expect(
        &runs[1],
        "run.a cancelled: cancelled by ops while waiting for its group\n= cancelled",
    );
    let state = flow.state(&runs[1]);
    assert_eq!(state.cancelled_by.as_deref(), Some("ops"));
    let waited = state.finished_at.expect("it ended").since(state.created_at);
    assert!(waited < Duration::from_secs(10), "{waited:?}");
}
