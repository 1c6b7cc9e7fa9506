//! The process may die around any call and any record; the next one patches nothing and runs no job a
//! second time.

use pipewright::adapters::sim::Fault;
use pipewright::base::RunId;

use super::{start, start_with, told};
use crate::support::fake_kubernetes::Beat::{Completes, Crashes, New, Stale, Theirs};
use crate::support::fake_kubernetes::{FakeKubernetes, Trouble};
use crate::support::flow::Flow;

const BEFORE: &str = r#"before migrate image=app { command "migrate" }"#;

/// Runs until the run ends or the process dies; whether it died.
async fn first_life(flow: &Flow, fake: &FakeKubernetes) -> (RunId, bool) {
    let life = flow.life();
    let run = flow.create(&life, "release").await;
    let died = tokio::select! {
        biased;
        () = flow.sim.crashed() => true,
        () = fake.died() => true,
        ended = flow.go(&life, &run) => {
            assert!(ended.is_ok() || flow.sim.is_crashed(), "{ended:?}");
            flow.sim.is_crashed()
        }
    };
    (run, died)
}

async fn second_life(flow: &Flow, run: &RunId) {
    flow.sim.restart();
    let life = flow.life();
    let ended = flow.go(&life, run).await;
    ended.expect("the run comes to its end");
    life.end().await;
}

#[track_caller]
fn once(flow: &Flow, fake: &FakeKubernetes, run: &RunId, when: &str) {
    let (line, log) = told(flow, run);
    assert_eq!(line, "deploy.web succeeded", "{when}: {log}");
    assert_eq!(
        fake.changes(),
        ["create jobs/migrate", "patch deployments/front"],
        "{when}"
    );
    fake.clean();
}

#[tokio::test(start_paused = true)]
async fn a_death_around_any_call_repeats_no_change() {
    let plot = [Stale, New(1), Completes];
    let calls = {
        let (flow, fake) = start(&plot, BEFORE);
        let (run, died) = first_life(&flow, &fake).await;
        assert!(!died);
        once(&flow, &fake, &run, "without a death");
        fake.state().calls.clone()
    };
    let names: std::collections::BTreeSet<String> = calls.into_iter().collect();
    assert!(names.len() >= 6, "{names:?}");
    for name in names {
        for trouble in [Trouble::DieBefore, Trouble::DieAfter] {
            let name: &'static str = name.clone().leak();
            let (flow, fake) = start(&plot, BEFORE);
            fake.trouble(name, trouble);
            let (run, died) = first_life(&flow, &fake).await;
            let when = format!("{trouble:?} at {name}");
            assert!(died, "{when}");
            second_life(&flow, &run).await;
            once(&flow, &fake, &run, &when);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_death_around_any_record_repeats_no_change() {
    let mut deaths = 0;
    for kind in ["stage-started", "intent", "effect", "stage-finished"] {
        for key in ["before migrate", "set deployment front"] {
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                let (flow, fake) = start(&[Stale, New(1), Completes], BEFORE);
                let pattern = match kind {
                    "intent" | "effect" => format!(
                        "store.append *\"type\":\"{kind}\",\"stage\":\"deploy.web\",\"key\":\"{key}\"*"
                    ),
                    _ => format!("store.append *\"type\":\"{kind}\",\"stage\":\"deploy.web\"*"),
                };
                flow.sim.on(&pattern, fault.clone());
                let (run, died) = first_life(&flow, &fake).await;
                let when = format!("{fault:?} at {pattern}");
                assert!(died, "nothing happened: {when}");
                deaths += 1;
                second_life(&flow, &run).await;
                once(&flow, &fake, &run, &when);
            }
        }
    }
    assert_eq!(deaths, 16);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_did_meanwhile_is_not_undone() {
    let (flow, fake) = start(&[Theirs], "");
    fake.trouble("patch deployments", Trouble::DieAfter);
    let (run, died) = first_life(&flow, &fake).await;
    assert!(died);
    second_life(&flow, &run).await;
    let (line, log) = told(&flow, &run);
    assert_eq!(
        line,
        "deploy.web failed: deployment front runs localhost:5000/app:theirs: somebody else's roll-out took the place of ours",
        "{log}"
    );
    assert_eq!(fake.changes(), ["patch deployments/front"]);
}

#[tokio::test(start_paused = true)]
async fn a_way_back_that_was_cut_off_is_gone_to_its_end() {
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        let (flow, fake) = start(&[Crashes(1, "Error")], "rollback");
        fake.then(&[New(1), Completes]);
        let before = fake.image("deployments", "front", "app");
        let pattern =
            "store.append *\"type\":\"intent\",\"stage\":\"deploy.web\",\"key\":\"rollback\"*";
        flow.sim.on(pattern, fault.clone());
        let (run, died) = first_life(&flow, &fake).await;
        assert!(died);
        second_life(&flow, &run).await;
        let (line, log) = told(&flow, &run);
        assert!(
            line.ends_with("it was rolled back to the revision before"),
            "{line}\n{log}"
        );
        assert!(line.contains("exited with status 1"), "{line}");
        assert_eq!(fake.image("deployments", "front", "app"), before);
        assert_eq!(fake.changes().len(), 2, "{fault:?}: there and back");
        fake.clean();
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_world_deploys_too() {
    let inside = format!("{}\n{BEFORE}", super::FRONT);
    let (mut flow, _) = start_with(&[], &inside, &[]);
    flow.clusters = None;
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    let count = |call: &str| flow.sim.effects(call).len();
    assert_eq!((count("clusters.create"), count("clusters.patch")), (1, 1));
    let again = flow.run("release").await;
    assert_eq!(told(&flow, &again).0, "deploy.web up-to-date");
    flow.clean();
}
