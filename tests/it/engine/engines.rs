//! Deployments to an engine that is declared: all they do happens there, whatever happens.

use pipewright::adapters::sim::{Failure, Fault};
use pipewright::base::RunId;
use pipewright::event::Outcome;

use crate::support::flow::{Flow, options};

const FAR: &str = "tcp://far.example.com:2375";

const DELIVERY: &str = r#"
engine far "tcp://far.example.com:2375"
pipeline release {
    build app
    push app
    deploy web {
        docker engine=far {
            before migrate { command "true" }
            container web image=app publish="8080:80"
        }
    }
}
"#;

#[track_caller]
fn delivered(flow: &Flow, run: &RunId, when: &str) {
    let outcome = flow.state(run).outcome;
    assert!(
        outcome.is_some_and(Outcome::is_success),
        "{when}: {:?}",
        flow.told(run)
    );
    assert_eq!(flow.sim.containers_at(FAR), ["web"], "{when}");
    assert_eq!(flow.sim.containers(), [""; 0], "{when}");
    let migrations = flow.sim.effects("engine.run *before-migrate").len();
    assert_eq!(migrations, 1, "{when}");
    assert_eq!(flow.sim.violations(), [], "{when}");
}

#[tokio::test(start_paused = true)]
async fn a_deployment_goes_to_the_engine_that_is_named() {
    let flow = Flow::of(DELIVERY, options());
    let run = flow.run("release").await;
    delivered(&flow, &run, "without a crash");
    let again = flow.run("release").await;
    let told = flow.told(&again);
    assert!(
        told.iter().any(|line| line == "deploy.web up-to-date"),
        "{told:?}"
    );
    delivered(&flow, &again, "again");
}

#[tokio::test(start_paused = true)]
async fn a_crash_leaves_nothing_on_either_engine() {
    let flow = Flow::of(DELIVERY, options());
    flow.run("release").await;
    let effects = flow.ledger().len();
    assert!(effects > 8, "{:#?}", flow.ledger());
    for number in 1..=effects {
        for after in [false, true] {
            let flow = Flow::of(DELIVERY, options());
            if after {
                flow.sim.crash_after(number);
            } else {
                flow.sim.crash_before(number);
            }
            let life = flow.life();
            let run = flow.create(&life, "release").await;
            tokio::select! {
                biased;
                () = flow.sim.crashed() => {}
                _ = flow.go(&life, &run) => assert!(flow.sim.is_crashed(), "effect {number}"),
            }
            drop(life);
            flow.sim.restart();
            let life = flow.life();
            let ended = flow.go(&life, &run).await;
            let when = format!(
                "a crash around effect {number}: {}",
                flow.ledger().join("\n")
            );
            assert!(ended.is_ok(), "{when}: {ended:?}");
            delivered(&flow, &run, &when);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_to_an_engine_that_is_gone_goes_nowhere_else() {
    let flow = Flow::of(DELIVERY, options());
    let gone = Fault::Fail {
        times: 20,
        with: Failure::Unreachable,
    };
    flow.sim.on("engine.container web", gone);
    let run = flow.run("release").await;
    let told = flow.told(&run);
    assert!(
        told.iter()
            .any(|line| line.starts_with("deploy.web errored")),
        "{told:?}"
    );
    assert_eq!(flow.sim.containers_at(FAR), [""; 0]);
}
