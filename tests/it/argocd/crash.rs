//! The process may die around any call and any record; the next one syncs nothing a second time.

use pipewright::adapters::sim::Fault;
use pipewright::base::RunId;

use super::{proper, start, told};
use crate::support::fake_argocd::Beat::{Health, Pending, Running};
use crate::support::fake_argocd::{FakeArgo, Trouble};
use crate::support::flow::Flow;

const PLOT: &[crate::support::fake_argocd::Beat] = &[
    Pending,
    Running("Running"),
    Health("Progressing"),
    Health("Healthy"),
];

async fn first_life(flow: &Flow, fake: &FakeArgo) -> (RunId, bool) {
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

async fn second_life(flow: &Flow, fake: &FakeArgo, run: &RunId, when: &str) {
    flow.sim.restart();
    let life = flow.life();
    let ended = flow.go(&life, run).await;
    ended.expect("the run comes to its end");
    life.end().await;
    let (line, log) = told(flow, run);
    assert_eq!(line, "deploy.main succeeded", "{when}: {log}");
    assert_eq!(fake.changes(), ["sync"], "{when}: {log}");
    proper(fake);
}

#[tokio::test(start_paused = true)]
async fn a_death_around_any_call_syncs_nothing_twice() {
    for trouble in [Trouble::DieBefore, Trouble::DieAfter] {
        let mut deaths = 0;
        // Around the first call, the second, and so on, until there is no such call.
        loop {
            let (flow, fake) = start(PLOT, "");
            fake.state().later = Some((deaths, trouble));
            let (run, died) = first_life(&flow, &fake).await;
            if !died {
                break;
            }
            let when = format!("{trouble:?} at call {deaths}");
            second_life(&flow, &fake, &run, &when).await;
            deaths += 1;
        }
        // A look, the windows, the sync, and a look for each beat.
        assert!(deaths >= 7, "{deaths} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_death_around_any_record_syncs_nothing_twice() {
    for kind in ["stage-started", "intent", "effect", "stage-finished"] {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let (flow, fake) = start(PLOT, "");
            let pattern = format!("store.append *\"type\":\"{kind}\",\"stage\":\"deploy.main\"*");
            flow.sim.on(&pattern, fault.clone());
            let (run, died) = first_life(&flow, &fake).await;
            let when = format!("{fault:?} at {kind}");
            assert!(died, "{when}");
            second_life(&flow, &fake, &run, &when).await;
        }
    }
}
