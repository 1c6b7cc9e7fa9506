//! Cancellation: what runs is told to stop, what waits never starts, what ends runs still do.

use std::time::Duration;

use pipewright::adapters::sim::Fault;
use pipewright::base::{Commit, RunId};
use pipewright::engine::Cancel;
use pipewright::ports::engine::Health;

use crate::support::flow::{Flow, files};

/// Runs `p` and asks it to stop after a while.
async fn cancelled_after(flow: &Flow, seconds: u64, cancel: &Cancel) -> RunId {
    let life = flow.life();
    let run = flow.create(&life, "p").await;
    let (ended, ()) = tokio::join!(flow.go_with(&life, &run, &[], cancel), async {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        cancel.request("Ctrl-C");
    });
    ended.expect("it comes to its end");
    life.end().await;
    run
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_says_who_and_still_cleans_up() {
    let flow = Flow::new(
        r#"
        run done { script "true" }
        run a { script "hang" }
        run deaf { script "trap '' TERM; hang" }
        run b { needs run.a; script "true" }
        run c { needs run.b; script "true" }
        bump d repo=manifests { file "values.yaml" { set ".tag" "new" } }
        run z { finally; script "sleep 5" }
        notify ops to=pager { title "${run.outcome}" }
        "#,
    );
    let run = cancelled_after(&flow, 5, &Cancel::new()).await;
    flow.expect(
        &run,
        "
        run.done succeeded
        run.a cancelled: cancelled by Ctrl-C
        run.deaf cancelled: cancelled by Ctrl-C
        run.b cancelled: the run was cancelled by Ctrl-C
        run.c cancelled: the run was cancelled by Ctrl-C
        bump.d cancelled: the run was cancelled by Ctrl-C
        run.z succeeded
        notify.ops succeeded
        = cancelled
        ",
    );
    let state = flow.state(&run);
    assert_eq!(state.cancelled_by.as_deref(), Some("Ctrl-C"));
    let ended = |at: usize| state.stages()[at].finished_at.expect("it ended");
    let waited = ended(2).since(ended(1));
    assert!(
        waited >= Duration::from_secs(10),
        "one is deaf to SIGTERM: {waited:?}"
    );
    assert!(flow.sim.messages()[0].contains("cancelled"));
    assert_eq!(flow.sim.effects("vcs.push").len(), 0);
    // Each stage ended once.
    let events = pipewright::journal::replay(&flow.store, &run).expect("it is there");
    let ends = events.iter().filter(|recorded| {
        matches!(
            recorded.event,
            pipewright::event::Event::StageFinished { .. }
        )
    });
    assert_eq!(ends.count(), state.stages().len());
}

#[tokio::test(start_paused = true)]
async fn an_effect_in_flight_is_finished() {
    let flow = Flow::new(
        r#"
        bump a repo=manifests { file "values.yaml" { set ".tag" "new" } }
        bump b repo=manifests { file "values.yaml" { set ".web" "new" } }
        "#,
    );
    flow.sim
        .on("vcs.push", Fault::Delay(Duration::from_secs(30)));
    let run = cancelled_after(&flow, 5, &Cancel::new()).await;
    flow.expect(
        &run,
        "
        bump.a succeeded
        bump.b cancelled: the run was cancelled by Ctrl-C
        = cancelled
        ",
    );
    assert_eq!(flow.sim.effects("vcs.push").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_was_stopped_says_that_nothing_was_pushed() {
    let flow = Flow::new("build app\npush app");
    flow.sim.on("engine.push", Fault::Hang);
    let run = cancelled_after(&flow, 5, &Cancel::new()).await;
    flow.expect(
        &run,
        "
        build.app succeeded
        push.app cancelled: cancelled by Ctrl-C: not pushed
        = cancelled
        ",
    );
}

#[tokio::test(start_paused = true)]
async fn a_stage_between_two_tries_is_cancelled() {
    let flow = Flow::new(r#"run a { retry 2 { on failed; backoff "60s" }; script "false" }"#);
    let run = cancelled_after(&flow, 5, &Cancel::new()).await;
    flow.expect(
        &run,
        "
        run.a cancelled: cancelled by Ctrl-C before another try: exited with status 1
        = cancelled
        ",
    );
}

#[tokio::test(start_paused = true)]
async fn last_stages_have_ten_minutes_after_a_request_unless_they_say_otherwise() {
    let flow = Flow::new(
        r#"
        run a { script "hang" }
        run short { finally; timeout "30s"; script "hang" }
        run endless { finally; script "hang" }
        "#,
    );
    let run = cancelled_after(&flow, 5, &Cancel::new()).await;
    flow.expect(
        &run,
        "
        run.a cancelled: cancelled by Ctrl-C
        run.short timed-out: took longer than 30.0s
        run.endless timed-out: took longer than 10m00s
        = cancelled
        ",
    );
}

#[tokio::test(start_paused = true)]
async fn the_second_request_stops_last_stages_too() {
    let flow = Flow::new(
        r#"
        run a { script "hang" }
        run z { finally; script "hang" }
        "#,
    );
    let life = flow.life();
    let run = flow.create(&life, "p").await;
    let cancel = Cancel::new();
    let (ended, ()) = tokio::join!(flow.go_with(&life, &run, &[], &cancel), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        cancel.request("Ctrl-C");
        tokio::time::sleep(Duration::from_secs(15)).await;
        cancel.force("Ctrl-C");
    });
    ended.expect("it comes to its end");
    flow.expect(
        &run,
        "
        run.a cancelled: cancelled by Ctrl-C
        run.z cancelled: cancelled by Ctrl-C
        = cancelled
        ",
    );
    let state = flow.state(&run);
    let took = state.finished_at.expect("it ended").since(state.created_at);
    assert!(took < Duration::from_secs(40), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn another_process_can_cancel_a_run_even_before_it_goes_on() {
    let flow = Flow::new(r#"run a { script "sleep 5" }"#);
    let life = flow.life();
    let run = flow.create(&life, "p").await;
    flow.request_cancel(&run, "ops");
    flow.go(&life, &run).await.expect("it comes to its end");
    flow.expect(
        &run,
        "run.a cancelled: the run was cancelled by ops\n= cancelled",
    );
    assert_eq!(flow.sim.effects("process.run").len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_after_the_work_changes_nothing() {
    let flow = Flow::new(
        r#"
        run a { script "true" }
        run z { finally; script "sleep 10" }
        "#,
    );
    let run = cancelled_after(&flow, 5, &Cancel::new()).await;
    flow.expect(&run, "run.a succeeded\nrun.z succeeded\n= succeeded");
}

/// A deployment that takes twenty seconds to get healthy, on trial and again in its place.
fn deployment() -> Flow {
    let flow = Flow::new(
        r#"
        build app
        push app
        deploy web { docker { container web image=app } }
        run smoke { needs deploy.web; script "true" }
        "#,
    );
    let after = Duration::from_secs(20);
    flow.sim.health("web*", Health::Healthy, after);
    flow
}

#[tokio::test(start_paused = true)]
async fn a_switch_that_has_begun_is_brought_to_its_end() {
    let flow = deployment();
    let run = cancelled_after(&flow, 30, &Cancel::new()).await;
    flow.expect(
        &run,
        "
        build.app succeeded
        push.app succeeded
        deploy.web succeeded
        run.smoke cancelled: the run was cancelled by Ctrl-C
        = cancelled
        ",
    );
    assert_eq!(flow.sim.containers(), ["web"]);
}

#[tokio::test(start_paused = true)]
async fn a_version_on_trial_is_given_up_when_the_run_is_cancelled() {
    let flow = deployment();
    let run = cancelled_after(&flow, 10, &Cancel::new()).await;
    flow.expect(
        &run,
        "
        build.app succeeded
        push.app succeeded
        deploy.web cancelled: cancelled by Ctrl-C while waiting for the new version; what ran before keeps running
        run.smoke cancelled: the run was cancelled by Ctrl-C
        = cancelled
        ",
    );
    assert_eq!(flow.sim.containers(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_second_request_leaves_both_versions_to_the_next_deployment() {
    let flow = deployment();
    flow.run("p").await;
    let texts = files(&[
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        ("app/main.c", "new\n"),
    ]);
    flow.sim.add_commit(Commit::default(), &texts);
    let life = flow.life();
    let run = flow.create(&life, "p").await;
    let cancel = Cancel::new();
    let (ended, ()) = tokio::join!(flow.go_with(&life, &run, &[], &cancel), async {
        flow.until(&run, |_| {
            flow.sim.containers().contains(&"web.previous".to_owned())
        })
        .await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        cancel.force("Ctrl-C");
    });
    ended.expect("it comes to its end");
    life.end().await;
    let told = flow.told(&run);
    assert!(
        told[2].contains("what ran before is kept as web.previous"),
        "{told:?}"
    );
    assert_eq!(flow.sim.containers(), ["web", "web.previous"]);
    let next = flow.run("p").await;
    let told = flow.told(&next);
    assert_eq!(told.last().map(String::as_str), Some("= succeeded"));
    assert_eq!(flow.sim.containers(), ["web"]);
    flow.clean();
}
