//! What is changed, and what is not.

use serde_json::json;

use super::{FRONT, start, start_with, told};
use crate::support::fake_kubernetes::Beat::{Completes, New};
use crate::support::fake_kubernetes::{Trouble, key};

#[tokio::test(start_paused = true)]
async fn a_second_run_has_nothing_to_do() {
    let (flow, fake) = start(
        &[New(1), Completes],
        "before migrate image=app { command \"up\" }",
    );
    let first = flow.run("release").await;
    assert_eq!(told(&flow, &first).0, "deploy.web succeeded");
    assert_eq!(
        fake.changes(),
        ["create jobs/migrate", "patch deployments/front"]
    );
    let again = flow.run("release").await;
    let (line, log) = told(&flow, &again);
    assert_eq!(line, "deploy.web up-to-date", "{log}");
    assert_eq!(fake.changes().len(), 2, "neither a job nor a patch");
    let outputs = |run| {
        let state = flow.state(run);
        let stage = state
            .stages()
            .iter()
            .find(|it| it.id.as_str() == "deploy.web")
            .cloned();
        stage.expect("the stage").outputs
    };
    let revision = &outputs(&first)["revision"];
    assert!(
        revision.starts_with("app=localhost:5000/app@sha256:"),
        "{revision}"
    );
    assert_eq!(outputs(&again)["revision"], *revision);
    fake.clean();
}

#[tokio::test(start_paused = true)]
async fn a_patch_touches_its_containers_and_leaves_a_note() {
    let inside = "rollout front container=app image=app\nrollout front container=init image=app";
    let (flow, fake) = start_with(&[Completes], inside, &[]);
    let run = flow.run("release").await;
    assert_eq!(told(&flow, &run).0, "deploy.web succeeded");
    let state = fake.state();
    let (name, patch) = state.writes[0].clone();
    assert_eq!(
        (name.as_str(), state.writes.len()),
        ("patch deployments/front", 1)
    );
    let spec = &patch["spec"]["template"]["spec"];
    assert_eq!(spec["containers"].as_array().map(Vec::len), Some(1));
    assert_eq!(spec["initContainers"][0]["name"], "init");
    assert_eq!(
        patch["spec"]["template"].as_object().map(|it| it.len()),
        Some(1),
        "no mark in the template"
    );
    assert_eq!(
        patch["metadata"]["annotations"]["dev.pipewright.run"],
        run.to_string()
    );
    assert_eq!(
        patch["metadata"]["annotations"]["dev.pipewright.stage"],
        "deploy.web"
    );
    let live = &state.objects[&key("apps/v1", "deployments", "main", "front")];
    let containers = &live["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[1]["futureKey"], json!({"kept": true}));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_changed_says_what_is_there() {
    for (inside, trouble, why) in [
        (
            "rollout front container=web image=app",
            None,
            "failed: deployment front has no container \"web\"; it has app, proxy, init",
        ),
        (
            "rollout back container=web image=app",
            None,
            "failed: there is no deployment back in namespace main of cluster `cluster`; create it first, or `apply` its manifest",
        ),
        (
            FRONT,
            Some(("patch deployments", Trouble::Denied)),
            "failed: kubernetes `cluster` denied to patch deployment front in namespace main: User \"bot\" cannot do this in the \
             namespace \"main\"; allow the verb `patch` on `deployments.apps` by a Role and bind it to that user",
        ),
        (
            FRONT,
            Some(("get deployments", Trouble::Unknown)),
            "failed: kubernetes `cluster` denied to get deployment front in namespace main: Unauthorized: it does not know who we are; \
             the token may have expired, or belong to another cluster",
        ),
    ] {
        let (flow, fake) = start_with(&[Completes], inside, &[]);
        if let Some((call, trouble)) = trouble {
            fake.trouble(call, trouble);
        }
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        assert_eq!(line, format!("deploy.web {why}"), "{log}");
        assert!(fake.changes().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_deployment_is_not_touched() {
    let (flow, fake) = start(&[Completes], "");
    let at = key("apps/v1", "deployments", "main", "front");
    fake.state().objects.get_mut(&at).expect("it is there")["spec"]["paused"] = json!(true);
    let run = flow.run("release").await;
    assert_eq!(
        told(&flow, &run).0,
        "deploy.web failed: deployment front is paused: nothing rolls out before `kubectl rollout resume deployment/front`; \
         nothing was changed"
    );
    assert!(fake.changes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn scaled_to_zero_is_a_success_with_a_remark() {
    let (flow, fake) = start(&[Completes], "");
    let at = key("apps/v1", "deployments", "main", "front");
    fake.state().objects.get_mut(&at).expect("it is there")["spec"]["replicas"] = json!(0);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded");
    assert!(log.contains("it is scaled to zero: no pod runs"), "{log}");
}

#[tokio::test(start_paused = true)]
async fn whoever_was_faster_is_looked_at_again() {
    // Two looks may bring a version that is no longer the newest; the next one is.
    let (flow, fake) = start(&[New(1), Completes], "");
    let at = key("apps/v1", "deployments", "main", "front");
    let (watched, other) = (fake.clone(), at.clone());
    fake.trouble("patch deployments", Trouble::AnswerLost);
    let life = flow.life();
    let run = flow.create(&life, "release").await;
    flow.go(&life, &run)
        .await
        .expect("the run comes to its end");
    life.end().await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert!(log.contains("looking what became of it"), "{log}");
    assert_eq!(
        watched.changes(),
        ["patch deployments/front"],
        "its answer was lost, it was made"
    );
    assert!(watched.state().objects.contains_key(&other));
}

#[tokio::test(start_paused = true)]
async fn a_list_whose_place_was_forgotten_is_begun_anew() {
    let (flow, fake) = start(&[New(1), New(1), Completes], "");
    fake.state().page = Some(1);
    fake.trouble("list replicasets", Trouble::Gone);
    let run = flow.run("release").await;
    assert_eq!(told(&flow, &run).0, "deploy.web succeeded");
    let state = fake.state();
    let pages = state
        .calls
        .iter()
        .filter(|it| *it == "list replicasets")
        .count();
    assert!(pages >= 3, "a page each: {:?}", state.calls);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_change_is_asked_for_again_after_its_time() {
    let (flow, fake) = start(&[Completes], "");
    fake.trouble("patch deployments", Trouble::Throttled(30));
    let began = tokio::time::Instant::now();
    let run = flow.run("release").await;
    assert_eq!(told(&flow, &run).0, "deploy.web succeeded");
    assert!(began.elapsed().as_secs() >= 30);
    assert_eq!(fake.changes().len(), 1);
}
