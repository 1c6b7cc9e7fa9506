//! Runs that go back to what an earlier one rolled out.
#![expect(
    clippy::disallowed_methods,
    reason = "tests write real files and run real programs"
)]

use std::collections::BTreeMap;

use pipewright::base::{Commit, RunId, StageId};
use pipewright::engine::take_back;

use super::{start, told};
use crate::support::delivery::Delivery;
use crate::support::fake_kubernetes::Beat::{Completes, New};
use crate::support::fake_kubernetes::FakeKubernetes;
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

/// Images are built and pushed for real; only the cluster is scripted.
const SHIP: &str = r#"
var kubeconfig env=TEST_KUBECONFIG
kubernetes cluster { kubeconfig "${var.kubeconfig}" }
pipeline ship {
    build app { dockerfile "build/app/Dockerfile.prod" }
    push app
    deploy front { kubernetes cluster namespace=main { rollout front container=app image=app } }
    run after { script "true"; needs deploy.front }
}
"#;

#[test]
fn the_program_goes_back_run_by_run() {
    let mut delivery = Delivery::start("kubernetes-rollback");
    let fake = FakeKubernetes::new(&[New(1), Completes]);
    fake.state().token = Some("tok-1234567890".to_owned());
    let server = fake.serve();
    let config = delivery.dir().join("kubeconfig");
    let text = format!(
        "current-context: x\nclusters: [{{name: c, cluster: {{server: \"http://{}\"}}}}]\n\
         users: [{{name: u, user: {{token: tok-1234567890}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n",
        server.address()
    );
    std::fs::write(&config, text).expect("written");
    delivery.set("TEST_KUBECONFIG", &config.display().to_string());
    delivery.pipeline(SHIP);
    let image = || fake.image("deployments", "front", "app");
    let mut images = Vec::new();
    for number in 1..=3 {
        fake.then(&[New(1), Completes]);
        let content = format!("apple,{number}\n");
        let files = [("app/prices.csv", content.as_str())];
        delivery.source.commit(&format!("number {number}"), &files);
        delivery.pipewright(&["run", "ship"]).expect(0);
        images.push(image());
    }
    images.dedup();
    assert_eq!(images.len(), 3, "three different ones: {images:?}");
    assert!(images[0].contains("@sha256:"), "{images:?}");
    let patches = || {
        fake.changes()
            .iter()
            .filter(|it| *it == "patch deployments/front")
            .count()
    };
    assert_eq!(patches(), 3);

    let plan = delivery
        .pipewright(&["rollback", "deploy.front", "--plan"])
        .expect(0);
    plan.says(&images[1]);
    assert_eq!(patches(), 3, "a plan changes nothing");
    for (index, changes) in [(1, 4), (0, 5)] {
        fake.then(&[New(1), Completes]);
        let back = delivery.pipewright(&["rollback", "deploy.front"]).expect(0);
        back.says("deploy.front goes back to");
        assert_eq!((image(), patches()), (images[index].clone(), changes));
        let shown = delivery.show();
        let stages = shown["stages"].as_array().expect("stages");
        assert_eq!(stages.len(), 1, "{shown:#}");
        assert_eq!(stages[0]["id"], "deploy.front");
    }
    delivery
        .pipewright(&["rollback", "deploy.front"])
        .expect(2)
        .says("there is nothing to go back to");
    assert_eq!((image(), patches()), (images[0].clone(), 5));
    fake.clean();
}
