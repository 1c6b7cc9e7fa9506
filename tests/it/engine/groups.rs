//! Concurrency groups, with several processes on one store.

use std::time::Duration;

use pipewright::base::RunId;
use pipewright::engine::Cancel;

use crate::support::flow::{Flow, Life, options};

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

#[tokio::test(start_paused = true)]
async fn a_run_that_never_got_in_still_does_what_follows_everything() {
    let flow = Flow::of(
        r#"
        pipeline p {
            concurrency prod mode=latest
            run a { script "sleep 10" }
            run z { finally; script "true" }
            notify ops to=pager { title "it was ${run.outcome}" }
        }
        pipeline after { on { pipeline p }; run b { script "true" } }
        "#,
        options(),
    );
    let (runs, lives) = three(&flow).await;
    all(&flow, &runs, &lives, [0, 1, 2]).await;
    flow.expect(
        &runs[1],
        &format!(
            "run.a skipped: superseded by run {} in group prod
            run.z succeeded
            notify.ops succeeded
            = skipped",
            runs[2]
        ),
    );
    let told = |what: &str| {
        let messages = flow.sim.messages();
        messages
            .iter()
            .filter(|text| text.contains(&format!("it was {what}")))
            .count()
    };
    assert_eq!((told("skipped"), told("succeeded")), (1, 2));
    // Nothing was delivered, so nothing follows.
    assert_eq!(flow.runs("after").len(), 2);

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
            cancel.request("Ctrl-C");
        },
    );
    assert!(first.is_ok() && second.is_ok());
    flow.expect(
        &runs[1],
        "run.a cancelled: cancelled by Ctrl-C while waiting for its group
        run.z succeeded
        notify.ops succeeded
        = cancelled",
    );
    assert_eq!(told("cancelled"), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_group_takes_no_place_of_those_who_work() {
    let mut flow = Flow::new(
        r#"
        run long { concurrency prod; script "sleep 60" }
        run waits { concurrency prod; script "sleep 1" }
        run also { concurrency prod; script "sleep 1" }
        run free { script "sleep 5" }
        run last { needs run.free; script "true" }
        "#,
    );
    flow.jobs = 2;
    let run = flow.run("p").await;
    let state = flow.state(&run);
    let stages = state.stages();
    let began = |at: usize| {
        let began = stages[at].started_at.expect("it began");
        began.since(state.created_at)
    };
    assert!(began(4) < Duration::from_secs(10), "{:?}", began(4));
    assert!(began(1) >= Duration::from_secs(60), "{:?}", began(1));
    // Those who get in take a place like everybody else.
    let mut marks: Vec<(Duration, i32)> = Vec::new();
    for stage in stages {
        let at = |time: Option<pipewright::base::Timestamp>| {
            time.expect("it ended").since(state.created_at)
        };
        marks.push((at(stage.started_at), 1));
        marks.push((at(stage.finished_at), -1));
    }
    marks.sort();
    let mut running = 0;
    for (_, step) in marks {
        running += step;
        assert!(running <= 2, "{running} at once");
    }
    flow.clean();
}
