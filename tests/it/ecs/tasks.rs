//! One-off tasks before traffic moves, and traffic that CodeDeploy moves.

use std::collections::VecDeque;

use serde_json::json;

use super::{pipeline, start, start_with, told};
use crate::support::fake_ecs::Beat::{Completes, Runs};
use crate::support::fake_ecs::{FakeEcs, Trouble, definition_arn};

const MIGRATE: &str = r#"
    before migrate container=web { command "migrate" "--to=7"; env MODE "once"; timeout "2m" }
"#;

#[tokio::test(start_paused = true)]
async fn a_task_runs_after_the_revision_and_before_the_traffic() {
    let (flow, fake) = start(&[Runs(1), Completes], MIGRATE);
    fake.state().task_log = vec!["applying 0001", "applying 0002"];
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert_eq!(
        fake.changes(),
        ["RegisterTaskDefinition", "RunTask", "UpdateService"]
    );
    assert_eq!(
        log.matches("applying 0001\napplying 0002\n").count(),
        1,
        "{log}"
    );
    let (_, sent) = fake.state().writes[1].clone();
    assert_eq!(sent["taskDefinition"], definition_arn("web:2"));
    assert_eq!(
        sent["overrides"],
        json!({"containerOverrides": [{"name": "web", "command": ["migrate", "--to=7"],
            "environment": [{"name": "MODE", "value": "once"}]}]})
    );
    assert_eq!(sent["launchType"], "EC2");
    assert_eq!(sent["clientToken"], sent["startedBy"]);
    // Up to date: nothing is migrated again.
    let again = flow.run("release").await;
    assert_eq!(told(&flow, &again).0, "deploy.web up-to-date");
    assert_eq!(fake.changes().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_does_not_exit_with_zero_stops_the_deployment() {
    for (exit, ends) in [
        (
            (Some(3), ""),
            "deploy.web failed: migrate exited with status 3; the old version keeps running",
        ),
        (
            (None, "CannotPullContainerError: not found"),
            "deploy.web failed: migrate has no exit status: task one-1 stopped: EssentialContainerExited: \
             Essential container in task exited; container web did not run: CannotPullContainerError: not found; \
             the old version keeps running",
        ),
    ] {
        let (flow, fake) = start(&[Completes], MIGRATE);
        fake.state().task_exit = exit;
        let run = flow.run("release").await;
        assert_eq!(told(&flow, &run).0, ends);
        assert_eq!(fake.changes(), ["RegisterTaskDefinition", "RunTask"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_that_takes_too_long_is_stopped() {
    let (flow, fake) = start(&[Completes], MIGRATE);
    fake.state().task_exit = (None, "hangs");
    let run = flow.run("release").await;
    assert_eq!(
        told(&flow, &run).0,
        "deploy.web timed-out: migrate took longer than 2m00s: it was stopped; web:2 is not deployed, \
         the old version keeps running"
    );
    assert_eq!(
        fake.changes(),
        ["RegisterTaskDefinition", "RunTask", "StopTask"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_finds_no_place_says_so() {
    let (flow, fake) = start(&[Completes], MIGRATE);
    fake.state().missing = vec!["capacity"];
    let run = flow.run("release").await;
    assert_eq!(
        told(&flow, &run).0,
        "deploy.web failed: migrate could not be started: aws `prod` refused ecs:RunTask: RESOURCE:MEMORY: \
         not enough memory; the old version keeps running"
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_migrates_anew_only_what_did_not_succeed() {
    let retry = pipeline(MIGRATE).replace(
        "deploy web {",
        "deploy web {\n retry 3 { on failed; backoff \"1s\" }",
    );
    // The migration succeeds, the roll-out fails, and is made anew.
    let plot = [
        crate::support::fake_ecs::Beat::GoesBack,
        crate::support::fake_ecs::Beat::IsBack,
        Runs(1),
        Completes,
    ];
    let (flow, fake) = start_with(&plot, &retry, &[]);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert_eq!(
        fake.changes(),
        [
            "RegisterTaskDefinition",
            "RunTask",
            "UpdateService",
            "UpdateService"
        ],
        "{log}"
    );
    // A failing migration is run again, as another task.
    let (flow, fake) = start_with(&[Completes], &retry, &[]);
    fake.state().task_exit = (Some(1), "");
    flow.run("release").await;
    assert_eq!(
        fake.changes(),
        ["RegisterTaskDefinition", "RunTask", "RunTask", "RunTask"]
    );
    let state = fake.state();
    let tokens: std::collections::BTreeSet<String> = state.writes[1..]
        .iter()
        .map(|(_, body)| body["clientToken"].to_string())
        .collect();
    assert_eq!(tokens.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn lost_answers_repeat_nothing() {
    let (flow, fake) = start(&[Runs(1), Completes], MIGRATE);
    for action in ["RegisterTaskDefinition", "RunTask", "UpdateService"] {
        fake.trouble(action, Trouble::AnswerLost);
    }
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert_eq!(fake.revisions("web"), 2, "one was registered");
    let changes = fake.changes();
    // The token makes it safe to ask for the task again.
    assert_eq!(
        changes,
        [
            "RegisterTaskDefinition",
            "RunTask",
            "RunTask",
            "UpdateService"
        ]
    );
    // What was not made at all is asked for again.
    let (flow, fake) = start(&[Runs(1), Completes], MIGRATE);
    for action in ["RegisterTaskDefinition", "RunTask", "UpdateService"] {
        fake.trouble(action, Trouble::Broken);
        fake.trouble(action, Trouble::Throttled);
    }
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert_eq!(
        fake.changes(),
        ["RegisterTaskDefinition", "RunTask", "UpdateService"]
    );
}

pub(super) const SHIFT: &str = "strategy codedeploy application=shop group=shop-web config=canary";

/// A service whose traffic CodeDeploy moves.
pub(super) fn code_deployed(fake: &FakeEcs) {
    let mut state = fake.state();
    state.service["deploymentController"] = json!({"type": "CODE_DEPLOY"});
    state.service.insert(
        "taskSets".to_owned(),
        json!([{"status": "PRIMARY", "taskDefinition": definition_arn("web:1"), "stabilityStatus": "STEADY_STATE"}]),
    );
}

#[tokio::test(start_paused = true)]
async fn codedeploy_moves_the_traffic() {
    let (flow, fake) = start(&[], SHIFT);
    code_deployed(&fake);
    fake.state().shift = VecDeque::from(["Created", "InProgress", "Ready", "Succeeded"]);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert!(log.contains("CodeDeploy d-1: InProgress\n"), "{log}");
    assert_eq!(
        fake.changes(),
        ["RegisterTaskDefinition", "CreateDeployment"]
    );
    let state = fake.state();
    let (_, sent) = &state.writes[1];
    assert_eq!(sent["deploymentConfigName"], "canary");
    let content = sent["revision"]["appSpecContent"]["content"]
        .as_str()
        .expect("text");
    let appspec: serde_json::Value = serde_json::from_str(content).expect("JSON");
    assert_eq!(
        appspec["Resources"][0]["TargetService"]["Properties"],
        json!({"TaskDefinition": definition_arn("web:2"),
            "LoadBalancerInfo": {"ContainerName": "web", "ContainerPort": 80}})
    );
}

#[tokio::test(start_paused = true)]
async fn codedeploy_says_why_it_failed() {
    let (flow, fake) = start(&[], SHIFT);
    code_deployed(&fake);
    fake.state().shift = VecDeque::from(["InProgress", "Failed"]);
    fake.trouble("CreateDeployment", Trouble::AnswerLost);
    let run = flow.run("release").await;
    assert_eq!(
        told(&flow, &run).0,
        "deploy.web failed: web:2 does not serve: CodeDeploy d-1 failed: HEALTH_CONSTRAINTS: too many tasks failed: \
         rolled back by d-9"
    );
    assert_eq!(
        fake.changes(),
        ["RegisterTaskDefinition", "CreateDeployment"],
        "a lost answer is looked for"
    );
}

#[tokio::test(start_paused = true)]
async fn an_appspec_is_filled_in() {
    let appspec = "version: 0.0\nResources:\n  - TargetService:\n      Properties:\n        TaskDefinition: <TASK_DEFINITION>\n";
    let more = format!(r#"{SHIFT} appspec="appspec.yaml""#);
    let (flow, fake) = start_with(&[], &pipeline(&more), &[("appspec.yaml", appspec)]);
    code_deployed(&fake);
    let run = flow.run("release").await;
    assert_eq!(told(&flow, &run).0, "deploy.web succeeded");
    let state = fake.state();
    assert_eq!(
        state.writes[1].1["revision"]["appSpecContent"]["content"],
        appspec.replace("<TASK_DEFINITION>", &definition_arn("web:2"))
    );
}

#[tokio::test(start_paused = true)]
async fn who_moves_the_traffic_must_be_said_right() {
    let (flow, fake) = start(&[], "");
    code_deployed(&fake);
    let run = flow.run("release").await;
    assert_eq!(
        told(&flow, &run).0,
        "deploy.web failed: CodeDeploy moves the traffic of service web: say `strategy codedeploy application=… group=…`; \
         nothing was changed"
    );
    let (flow, _) = start(&[], SHIFT);
    let run = flow.run("release").await;
    assert!(
        told(&flow, &run)
            .0
            .starts_with("deploy.web failed: service web moves its traffic itself"),
        "{:?}",
        told(&flow, &run)
    );
}
