//! The process may die around any call and any record; the next one registers nothing and changes
//! nothing a second time.

use pipewright::adapters::sim::Fault;
use pipewright::base::RunId;

use super::tasks::{SHIFT, code_deployed};
use super::{start, told};
use crate::support::fake_ecs::Beat::{Completes, GoesBack, IsBack, Runs, Stale};
use crate::support::fake_ecs::{FakeEcs, Trouble};
use crate::support::flow::Flow;

const BEFORE: &str = r#"before migrate container=web { command "migrate" }"#;

/// Runs until the run ends or the process dies; whether it died.
async fn first_life(flow: &Flow, fake: &FakeEcs) -> (RunId, bool) {
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
fn once(flow: &Flow, fake: &FakeEcs, run: &RunId, when: &str) {
    let (line, log) = told(flow, run);
    assert_eq!(line, "deploy.web succeeded", "{when}: {log}");
    assert_eq!(
        fake.revisions("web"),
        2,
        "{when}: one revision was registered"
    );
    let changes = fake.changes();
    let updates = changes
        .iter()
        .filter(|name| *name == "UpdateService")
        .count();
    assert_eq!(updates, 1, "{when}: {changes:?}");
    let state = fake.state();
    let tokens: std::collections::BTreeSet<String> = state
        .writes
        .iter()
        .filter(|(name, _)| name == "RunTask")
        .map(|(_, body)| body["clientToken"].to_string())
        .collect();
    assert_eq!(tokens.len(), 1, "{when}: one task was run");
}

#[tokio::test(start_paused = true)]
async fn a_death_around_any_call_repeats_no_change() {
    let plot = [Stale, Stale, Runs(1), Completes];
    let calls = {
        let (flow, fake) = start(&plot, BEFORE);
        let (run, died) = first_life(&flow, &fake).await;
        assert!(!died);
        once(&flow, &fake, &run, "without a death");
        fake.state().calls.clone()
    };
    let names: std::collections::BTreeSet<String> = calls.into_iter().collect();
    assert!(names.len() > 10, "{names:?}");
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
        for nth in 0..3 {
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                let (flow, fake) = start(&[Stale, Runs(1), Completes], BEFORE);
                let pattern = match (kind, nth) {
                    ("intent" | "effect", 0) => format!(
                        "store.append *\"type\":\"{kind}\",\"stage\":\"deploy.web\",\"key\":\"register\"*"
                    ),
                    ("intent" | "effect", 1) => format!(
                        "store.append *\"type\":\"{kind}\",\"stage\":\"deploy.web\",\"key\":\"before migrate\"*"
                    ),
                    ("intent" | "effect", _) => format!(
                        "store.append *\"type\":\"{kind}\",\"stage\":\"deploy.web\",\"key\":\"update\"*"
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
    assert_eq!(deaths, 24);
}

#[tokio::test(start_paused = true)]
async fn a_death_asks_codedeploy_for_nothing_twice() {
    for name in [
        "RegisterTaskDefinition",
        "CreateDeployment",
        "GetDeployment",
    ] {
        for trouble in [Trouble::DieBefore, Trouble::DieAfter] {
            let (flow, fake) = start(&[], SHIFT);
            code_deployed(&fake);
            fake.state().shift = ["InProgress", "Succeeded"].into();
            fake.trouble(name, trouble);
            let (run, died) = first_life(&flow, &fake).await;
            assert!(died, "{trouble:?} at {name}");
            second_life(&flow, &run).await;
            let (line, log) = told(&flow, &run);
            assert_eq!(line, "deploy.web succeeded", "{trouble:?} at {name}: {log}");
            assert_eq!(
                fake.changes(),
                ["RegisterTaskDefinition", "CreateDeployment"],
                "{trouble:?} at {name}"
            );
        }
    }
}

/// It is looked for among those of others, on several pages, and in lists that are behind.
#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_listed_late_is_not_asked_for_twice() {
    for trouble in [Trouble::DieAfter, Trouble::AnswerLost] {
        let (flow, fake) = start(&[], SHIFT);
        code_deployed(&fake);
        fake.state().unlisted = 2;
        fake.state().other_shifts = 23;
        fake.trouble("CreateDeployment", trouble);
        let (run, died) = first_life(&flow, &fake).await;
        assert_eq!(died, trouble == Trouble::DieAfter);
        if died {
            second_life(&flow, &run).await;
        }
        let (line, log) = told(&flow, &run);
        assert_eq!(line, "deploy.web succeeded", "{trouble:?}: {log}");
        assert_eq!(
            fake.changes(),
            ["RegisterTaskDefinition", "CreateDeployment"],
            "{trouble:?}: {log}"
        );
        assert_eq!(
            fake.state().unlisted,
            0,
            "{trouble:?}: it was looked for again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_went_wrong_while_nobody_looked_is_still_told() {
    let (flow, fake) = start(&[GoesBack, IsBack], "");
    fake.trouble("UpdateService", Trouble::DieAfter);
    let (run, died) = first_life(&flow, &fake).await;
    assert!(died);
    second_life(&flow, &run).await;
    let (line, log) = told(&flow, &run);
    assert!(
        line.starts_with(
            "deploy.web failed: web:2 does not run in service web: it was rolled back to web:1"
        ),
        "{line}\n{log}"
    );
    assert_eq!(fake.changes(), ["RegisterTaskDefinition", "UpdateService"]);
}

#[tokio::test(start_paused = true)]
async fn the_simulated_world_deploys_too() {
    let flow = Flow::of(&super::pipeline(BEFORE), crate::support::flow::options());
    let run = flow.run("release").await;
    assert_eq!(told(&flow, &run).0, "deploy.web succeeded");
    let count = |call: &str| flow.sim.effects(call).len();
    assert_eq!(
        (
            count("services.register"),
            count("services.run-task"),
            count("services.update")
        ),
        (1, 1, 1)
    );
    let again = flow.run("release").await;
    assert_eq!(told(&flow, &again).0, "deploy.web up-to-date");
    flow.clean();
}
