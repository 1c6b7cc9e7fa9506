//! What is registered and changed, and what is left alone.

use pipewright::plan::forecast;
use pipewright::stage::Verdict;
use serde_json::{Value, json};

use super::{pipeline, start, start_with, told, with_objects};
use crate::support::fake_ecs::Beat::{Completes, Runs};
use crate::support::fake_ecs::{FakeEcs, definition_arn};
use crate::support::flow::Flow;

/// The bodies of the changes by an action.
fn bodies(fake: &FakeEcs, action: &str) -> Vec<Value> {
    let state = fake.state();
    let ours = state.writes.iter().filter(|(name, _)| name == action);
    ours.map(|(_, body)| body.clone()).collect()
}

async fn planned(flow: &Flow, pipeline: &str) -> pipewright::stage::Forecast {
    let life = flow.life();
    let plan = flow.plan(&life, pipeline).await.expect("a valid plan");
    let forecasts = forecast(&plan, &life.engine.world.readers, false)
        .await
        .expect("a forecast");
    let at = plan
        .stages
        .iter()
        .position(|stage| stage.id.as_str() == "deploy.web")
        .expect("the stage");
    forecasts.stages[at].forecast.clone()
}

#[tokio::test(start_paused = true)]
async fn only_what_is_written_changes() {
    let more = r#"
        container web {
            env OPTS "-Dx=y=z"
            env NEW "${git.short-sha}"
            secret TOKEN "/web/token"
            label revision "${git.sha}"
            command "serve" "--port=80"
            log-option mode "non-blocking"
        }"#;
    let text = pipeline("").replace("container web image=app\n", &format!("{more}\n"));
    let (flow, fake) = start_with(&[Completes], &text, &[]);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    let state = fake.state();
    let [before, after] = state.families["web"].as_slice() else {
        panic!("two revisions");
    };
    assert_eq!(
        after["teleportation"], before["teleportation"],
        "a key of tomorrow"
    );
    let web = &after["containerDefinitions"][0];
    let old = &before["containerDefinitions"][0];
    for key in ["image", "portMappings", "essential", "cpu"] {
        assert_eq!(web[key], old[key], "{key}");
    }
    assert_eq!(
        web["environment"][0],
        json!({"name": "OPTS", "value": "-Dx=y=z"})
    );
    assert_eq!(web["environment"][1]["name"], "NEW");
    assert_eq!(
        web["secrets"][1],
        json!({"name": "TOKEN", "valueFrom": "/web/token"})
    );
    assert_eq!(web["command"], json!(["serve", "--port=80"]));
    assert_eq!(web["logConfiguration"]["options"]["mode"], "non-blocking");
    assert_eq!(web["logConfiguration"]["options"]["awslogs-group"], "/web");
    assert!(
        log.contains(
            "containerDefinitions[web].environment[OPTS].value: \"-Da=b=c\" → \"-Dx=y=z\""
        ),
        "{log}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_run_is_up_to_date() {
    let (flow, fake) = start(&[Runs(1), Completes], "");
    let first = flow.run("release").await;
    assert_eq!(told(&flow, &first).0, "deploy.web succeeded");
    let changes = fake.changes();
    let again = flow.run("release").await;
    flow.expect(
        &again,
        "build.app up-to-date\npush.app up-to-date\ndeploy.web up-to-date\n= up-to-date",
    );
    assert_eq!(fake.changes(), changes, "nothing was registered or changed");
    let state = flow.state(&again);
    let outputs = &state.stages()[2].outputs;
    assert_eq!(outputs["revision"], definition_arn("web:2"));
    let forecast = planned(&flow, "release").await;
    assert_eq!(forecast.verdict, Verdict::UpToDate, "{forecast:?}");
    assert_eq!(forecast.reason, "service web runs web:2");
}

#[tokio::test(start_paused = true)]
async fn a_plan_shows_the_fields_and_changes_nothing() {
    let text = r#"
aws prod region=eu-west-1
pipeline release {
    deploy web {
        ecs aws=prod cluster=main service=web {
            container web { env OPTS "new"; env MORE "1" }
            before migrate container=web { command "migrate" }
            desired-count 3
        }
    }
}"#;
    let (flow, fake) = start_with(&[Completes], text, &[]);
    let forecast = planned(&flow, "release").await;
    assert_eq!(forecast.verdict, Verdict::Run);
    assert_eq!(forecast.reason, "service web runs web:1");
    assert_eq!(
        forecast.effects,
        [
            "register a new revision of web",
            "run task migrate before traffic moves",
            "move service web of cluster main from web:1 to web (new revision)",
            "change the number of tasks from 2 to 3",
        ]
    );
    assert_eq!(
        forecast.diff.as_deref(),
        Some(
            "--- web:1\n+++ web (new revision)\n\
             +containerDefinitions[web].environment[MORE].name: \"MORE\"\n\
             +containerDefinitions[web].environment[MORE].value: \"1\"\n\
             -containerDefinitions[web].environment[OPTS].value: \"-Da=b=c\"\n\
             +containerDefinitions[web].environment[OPTS].value: \"new\"\n"
        )
    );
    assert_eq!(fake.changes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_would_fail_is_found_before_anything_is_changed() {
    let (flow, fake) = start(&[Completes], "");
    fake.state().missing = vec![
        "execution",
        "/web",
        "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf",
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/1",
    ];
    fake.state().service["loadBalancers"][0]["containerPort"] = json!(8080);
    let run = flow.run("release").await;
    let (line, _) = told(&flow, &run);
    assert_eq!(
        line,
        "deploy.web failed: targetgroup/web/1 leads to port 8080 of container web, which does not map it; \
         role arn:aws:iam::123456789012:role/execution does not exist; \
         secret arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf:password:: does not exist; \
         log group /web does not exist; create it, or set the log option `awslogs-create-group` to \"true\"; \
         target group arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/1 does not exist; \
         nothing was changed"
    );
    assert_eq!(fake.changes(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_place_or_container_is_named() {
    for (from, to, why) in [
        (
            "service=web",
            "service=shop",
            "cluster main has no service shop",
        ),
        ("cluster=main", "cluster=stg", "there is no cluster stg"),
        (
            "container web",
            "container app",
            "task definition: it has no container `app`; it has web",
        ),
    ] {
        let text = pipeline("").replace(from, to);
        let (flow, fake) = start_with(&[Completes], &text, &[]);
        let run = flow.run("release").await;
        assert_eq!(told(&flow, &run).0, format!("deploy.web failed: {why}"));
        assert_eq!(fake.changes(), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_at_zero_needs_a_word() {
    let (flow, fake) = start(&[Completes], "");
    fake.state().service["desiredCount"] = json!(0);
    let run = flow.run("release").await;
    assert!(
        told(&flow, &run)
            .0
            .starts_with("deploy.web failed: service web is scaled to zero"),
        "{:?}",
        told(&flow, &run)
    );
    let (flow, fake) = start(&[Completes], "desired-count 0");
    fake.state().service["desiredCount"] = json!(0);
    let run = flow.run("release").await;
    assert_eq!(told(&flow, &run).0, "deploy.web succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_file_is_the_base_and_what_is_registered_is_used_again() {
    let base = json!({
        "taskDefinitionArn": "arn:old", "revision": 3, "status": "ACTIVE",
        "containerDefinitions": [
            {"name": "web", "image": "x", "portMappings": [{"containerPort": 80}]},
            {"name": "log", "image": "log:1", "essential": false}],
    });
    let more = r#"task-definition file="deploy/task.json""#;
    let files = [("deploy/task.json", base.to_string())];
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (*p, t.as_str())).collect();
    let (flow, fake) = start_with(&[Completes], &pipeline(more), &files);
    let run = flow.run("release").await;
    assert_eq!(told(&flow, &run).0, "deploy.web succeeded");
    let [sent] = bodies(&fake, "RegisterTaskDefinition")
        .try_into()
        .expect("one");
    assert_eq!(
        sent["family"], "web",
        "that of the service, as the file names none"
    );
    assert_eq!(sent["containerDefinitions"][1]["image"], "log:1");
    for key in ["taskDefinitionArn", "revision", "status"] {
        assert_eq!(sent.get(key), None, "{key}");
    }
    // Somebody registers another one. What runs is still what is wanted.
    {
        let mut state = fake.state();
        let old = state.families["web"][0].clone();
        state.families.get_mut("web").expect("there").push(old);
    }
    let run = flow.run("release").await;
    assert_eq!(told(&flow, &run).0, "deploy.web up-to-date");
}

#[tokio::test(start_paused = true)]
async fn the_other_fields_of_a_service() {
    let more = r#"
        desired-count 5
        capacity-provider FARGATE_SPOT weight=3
        capacity-provider FARGATE base=1
        propagate-tags task-definition
    "#;
    let text = pipeline(more).replace("image=app", "{ env OPTS \"new\" }");
    let (flow, fake) = start_with(&[Completes], &text, &[]);
    {
        let mut state = fake.state();
        let first = &mut state.families.get_mut("web").expect("there")[0];
        first["networkMode"] = json!("awsvpc");
        first["cpu"] = json!("256");
        first["memory"] = json!("512");
        state.service.insert(
            "networkConfiguration".to_owned(),
            json!({"awsvpcConfiguration": {"subnets": ["a"]}}),
        );
    }
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    let [sent] = bodies(&fake, "UpdateService").try_into().expect("one");
    assert_eq!(
        sent,
        json!({
            "cluster": "main", "service": "web", "taskDefinition": definition_arn("web:2"), "desiredCount": 5,
            "capacityProviderStrategy": [
                {"capacityProvider": "FARGATE_SPOT", "weight": 3, "base": 0},
                {"capacityProvider": "FARGATE", "weight": 1, "base": 1}],
            "propagateTags": "TASK_DEFINITION", "forceNewDeployment": true})
    );
}

#[tokio::test(start_paused = true)]
async fn force_starts_new_tasks_of_the_same_revision() {
    let text = pipeline("force").replace("image=app", "{ env OPTS \"-Da=b=c\" }");
    let (flow, fake) = start_with(&[Runs(1), Completes], &text, &[]);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert_eq!(
        bodies(&fake, "UpdateService"),
        [json!({"cluster": "main", "service": "web", "forceNewDeployment": true})]
    );
    assert_eq!(fake.revisions("web"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rule_starts_the_new_revision() {
    let text = r#"
aws prod region=eu-west-1
pipeline release {
    deploy web {
        ecs aws=prod cluster=main {
            container web { env OPTS "new" }
            schedule nightly target=report
        }
    }
}"#;
    let (flow, fake) = start_with(&[], text, &[]);
    let target = |id: &str| {
        json!({"Id": id, "Arn": "arn:cluster", "RoleArn": "arn:role", "Input": "{}",
            "EcsParameters": {"TaskDefinitionArn": definition_arn("web:1"), "TaskCount": 2}})
    };
    fake.state().targets = vec![
        target("report"),
        target("other"),
        json!({"Id": "queue", "Arn": "arn:sqs"}),
    ];
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    let mut expected = target("report");
    expected["EcsParameters"]["TaskDefinitionArn"] = json!(definition_arn("web:2"));
    assert_eq!(
        bodies(&fake, "PutTargets"),
        [json!({"Rule": "nightly", "Targets": [expected]})]
    );
    let again = flow.run("release").await;
    assert_eq!(told(&flow, &again).0, "deploy.web up-to-date");
    // Without a name it is not guessed which one is meant.
    let unnamed = text.replace(" target=report", "");
    let (flow, fake) = start_with(&[], &unnamed, &[]);
    fake.state().targets = vec![target("report"), target("other")];
    let run = flow.run("release").await;
    assert_eq!(
        told(&flow, &run).0,
        "deploy.web failed: rule nightly starts several tasks: name one by `target=`: report, other"
    );
}

/// Article four's base: what Terraform keeps in a bucket.
#[tokio::test(start_paused = true)]
async fn the_base_is_an_object_of_a_bucket() {
    let text = pipeline("task-definition s3=\"s3://bases/web task.json\"");
    let address = "s3://bases/web task.json";
    let base = json!({
        "networkMode": "bridge",
        "teleportation": {"enabled": [], "to": null},
        "containerDefinitions": [
            {"name": "web", "image": "whatever", "essential": true, "levitation": [null],
             "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
             "environment": [{"name": "FROM", "value": "the=bucket"}]},
        ],
    });
    let (flow, fake) = with_objects(&text, &[(address, base.to_string().into_bytes())]);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    {
        let state = fake.state();
        let [_, after] = state.families["web"].as_slice() else {
            panic!("two revisions of the family that runs");
        };
        assert_eq!(after["teleportation"], base["teleportation"]);
        let web = &after["containerDefinitions"][0];
        assert_eq!(web["levitation"], json!([null]));
        assert_eq!(
            web["environment"],
            json!([{"name": "FROM", "value": "the=bucket"}])
        );
        let image = web["image"].as_str().expect("an image");
        assert!(image.starts_with("localhost:5000/app@sha256:"), "{image}");
    }
    let again = flow.run("release").await;
    assert_eq!(told(&flow, &again).0, "deploy.web up-to-date");

    for (object, says) in [
        (None, "s3://bases/web task.json is not there"),
        (Some(b"\xff\xfe".to_vec()), "is no UTF-8 text"),
        (Some(b"{\"family\":".to_vec()), "s3://bases/web task.json"),
        (Some(vec![b' '; 2 << 20]), "is larger than 1.0 MiB"),
    ] {
        let other = ("s3://bases/other.json", b"{}".to_vec());
        let objects = object.map_or(other, |bytes| (address, bytes));
        let (flow, fake) = with_objects(&text, &[objects]);
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        assert!(line.starts_with("deploy.web failed: "), "{line}");
        assert!(
            format!("{line}{log}").contains(says),
            "{says}: {line} {log}"
        );
        assert!(fake.changes().is_empty(), "{says}: {:?}", fake.changes());
    }
    let nonsense = pipeline("task-definition s3=\"bases/web.json\"");
    let (flow, _) = with_objects(&nonsense, &[]);
    let run = flow.run("release").await;
    let (line, _) = told(&flow, &run);
    assert!(line.contains("write s3://BUCKET/KEY"), "{line}");
}
