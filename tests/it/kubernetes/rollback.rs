//! A run that goes back to what an earlier one rolled out.

use std::collections::BTreeMap;

use pipewright::base::{Commit, RunId, StageId};
use pipewright::engine::take_back;

use super::{start, told};
use crate::support::fake_kubernetes::Beat::{Completes, New};
use crate::support::flow::{Flow, files};

fn revision(flow: &Flow, run: &RunId) -> String {
    let state = flow.state(run);
    let stage = state.stage(&StageId::from("deploy.web")).expect("it ran");
    stage.outputs["revision"].clone()
}

#[tokio::test(start_paused = true)]
async fn an_earlier_image_is_rolled_out_again_and_no_job_runs() {
    let more = "before migrate image=app { command \"migrate\" }";
    let (flow, fake) = start(&[New(1), Completes], more);
    let first = flow.run("release").await;
    assert_eq!(told(&flow, &first).0, "deploy.web succeeded");
    let old = fake.image("deployments", "front", "app");
    let text = files(&[("Dockerfile", "FROM scratch\nCOPY . /\n# next\n")]);
    flow.sim.add_commit(Commit::default(), &text);
    fake.then(&[New(1), Completes]);
    let second = flow.run("release").await;
    let (line, log) = told(&flow, &second);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    let new = fake.image("deployments", "front", "app");
    assert_ne!(new, old);
    let count = |name: &str| fake.changes().iter().filter(|it| *it == name).count();
    let jobs = count("create jobs/migrate");

    let life = flow.life();
    let to = BTreeMap::from([(StageId::from("deploy.web"), revision(&flow, &first))]);
    let back = take_back(&life.engine, &first, to).await.expect("a run");
    fake.then(&[New(1), Completes]);
    flow.go(&life, &back).await.expect("it comes to its end");
    life.end().await;
    let (line, log) = told(&flow, &back);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert_eq!(fake.image("deployments", "front", "app"), old);
    assert_eq!(revision(&flow, &back), revision(&flow, &first));
    assert!(log.contains("going back: migrate is not run"), "{log}");
    assert_eq!(count("create jobs/migrate"), jobs);
    assert_eq!(flow.told(&back).len(), 2, "only the deployment runs");
    fake.clean();
}
