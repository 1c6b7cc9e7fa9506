//! The calls over HTTP: signed, spelled as their pages say, and tried again only where that does no
//! harm.

use std::collections::HashMap;
use std::sync::Arc;

use pipewright::adapters::aws::services::AwsServices;
use pipewright::base::{LateSecrets, Timestamp};
use pipewright::ports::cloud::Account;
use pipewright::ports::services::{
    CapacityProvider, LogStream, OneOffTask, Place, Schedule, ServiceChange, Services as _,
    ServicesReader as _, Shift, Thing,
};
use serde_json::json;

use crate::support::fake_ecs::{FakeEcs, definition_arn};
use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::moto::{account, clouds};

pub(super) const STS: &str = "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
    <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIATEST</AccessKeyId>\
    <SecretAccessKey>not-a-secret-at-all</SecretAccessKey><SessionToken>not-a-token-at-all</SessionToken>\
    <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/ci/s</Arn>\
    <AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser></AssumeRoleWithWebIdentityResult>\
    </AssumeRoleWithWebIdentityResponse>";

/// An account whose services are the fake over HTTP; `trouble` may answer in its place.
struct Site {
    services: AwsServices,
    account: Account,
    _server: Faulty,
    _dir: tempfile::TempDir,
}

impl Site {
    fn new(
        fake: &FakeEcs,
        mut trouble: impl FnMut(&Request) -> Option<Reply> + Send + 'static,
    ) -> Self {
        let fake = fake.clone();
        let server = Faulty::alone(move |request| {
            if String::from_utf8_lossy(&request.body).contains("AssumeRoleWithWebIdentity") {
                return Reply::Answer(200, Vec::new(), STS.to_owned());
            }
            if let Some(reply) = trouble(request) {
                return reply;
            }
            let (status, body) = fake.over_http(request);
            Reply::Answer(status, Vec::new(), body)
        });
        let dir = tempfile::tempdir().expect("a directory");
        let account = account(&format!("http://{}", server.address()), dir.path());
        let clouds = clouds(&LateSecrets::default());
        Self {
            services: AwsServices::new(Arc::new(clouds)),
            account,
            _server: server,
            _dir: dir,
        }
    }
}

fn place() -> Place {
    Place {
        cluster: "main".to_owned(),
        service: "web".to_owned(),
    }
}

fn task(token: &str) -> OneOffTask {
    OneOffTask {
        cluster: "main".to_owned(),
        task_definition: definition_arn("web:1"),
        container: "web".to_owned(),
        command: vec!["migrate".to_owned()],
        env: vec![("A".to_owned(), "b=c".to_owned())],
        launch: Default::default(),
        capacity_providers: vec![CapacityProvider {
            name: "FARGATE".to_owned(),
            weight: 1,
            base: 0,
        }],
        token: token.to_owned(),
    }
}

/// Makes every call that only looks; the fake refuses what its page does not have.
async fn look_at_everything(site: &Site) {
    let (services, account) = (&site.services, &site.account);
    let state = services
        .service(account, &place())
        .await
        .expect("a service");
    let state = state.expect("it is there");
    assert_eq!((state.desired, state.running), (2, 2));
    assert_eq!(state.task_definition, definition_arn("web:1"));
    let lost = Place {
        service: "shop".to_owned(),
        ..place()
    };
    assert_eq!(
        services.service(account, &lost).await.expect("an answer"),
        None
    );
    let latest = services.revision(account, "web").await.expect("a revision");
    assert_eq!(latest.expect("it is there").arn, definition_arn("web:1"));
    let none = services.revision(account, "web:9").await;
    assert_eq!(none.expect("an answer"), None);
    let rollouts = services.rollouts(account, &place(), Timestamp(0)).await;
    assert_eq!(rollouts.expect("an answer"), None, "not recorded here");
    let stopped = services.stopped_tasks(account, &place()).await;
    assert_eq!(stopped.expect("an answer"), []);
    for (thing, there) in [
        (Thing::Cluster("main".to_owned()), true),
        (Thing::Cluster("stg".to_owned()), false),
        (
            Thing::Role("arn:aws:iam::1:role/path/there".to_owned()),
            true,
        ),
        (Thing::Role("arn:aws:iam::1:role/absent".to_owned()), false),
        (
            Thing::Secret("arn:aws:secretsmanager:us-east-1:1:secret:there:key::".to_owned()),
            true,
        ),
        (
            Thing::Secret("arn:aws:secretsmanager:us-east-1:1:secret:absent".to_owned()),
            false,
        ),
        (Thing::Secret("/there".to_owned()), true),
        (
            Thing::Secret("arn:aws:ssm:us-east-1:1:parameter/absent".to_owned()),
            false,
        ),
        (
            Thing::LogGroup {
                region: Some("eu-west-1".to_owned()),
                name: "/there".to_owned(),
            },
            true,
        ),
        (
            Thing::LogGroup {
                region: None,
                name: "absent".to_owned(),
            },
            false,
        ),
        (
            Thing::TargetGroup(
                "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/there/1".to_owned(),
            ),
            true,
        ),
        (
            Thing::TargetGroup(
                "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/absent/1".to_owned(),
            ),
            false,
        ),
    ] {
        let answer = services.exists(account, &thing).await;
        assert_eq!(
            answer.unwrap_or_else(|error| panic!("{thing}: {error}")),
            there,
            "{thing}"
        );
    }
    let stream = LogStream {
        region: None,
        group: "/web".to_owned(),
        stream: "ecs/web/1".to_owned(),
    };
    let page = services.log(account, &stream, None).await.expect("a page");
    assert_eq!(page.lines, ["first"]);
    let rest = services
        .log(account, &stream, page.next.as_deref())
        .await
        .expect("a page");
    assert_eq!((rest.lines.len(), rest.next == page.next), (0, true));
    let nightly = Schedule {
        bus: Some("own".to_owned()),
        rule: "nightly".to_owned(),
    };
    let tasks = services
        .scheduled(account, &nightly)
        .await
        .expect("an answer");
    assert_eq!(tasks.expect("the rule").len(), 1);
    let absent = services.shift(account, "d-7").await.expect("an answer");
    assert_eq!(absent, None);
}

fn prepared() -> FakeEcs {
    let fake = FakeEcs::new(&[]);
    let mut state = fake.state();
    state.missing = vec![
        "absent",
        "arn:aws:secretsmanager:us-east-1:1:secret:absent",
        "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/absent/1",
    ];
    state.task_log = vec!["first"];
    state.targets =
        vec![json!({"Id": "t", "EcsParameters": {"TaskDefinitionArn": definition_arn("web:1")}})];
    drop(state);
    fake
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_signed_and_spelled_as_its_page_says() {
    let fake = prepared();
    let site = Site::new(&fake, |_| None);
    look_at_everything(&site).await;
    let (services, account) = (&site.services, &site.account);
    let definition =
        json!({"family": "web", "containerDefinitions": [{"name": "web", "image": "new"}]});
    let definition = definition.as_object().expect("an object");
    let revision = services
        .register(account, definition)
        .await
        .expect("registered");
    assert_eq!(revision.arn, definition_arn("web:2"));
    fake.state().records = true;
    let change = ServiceChange {
        task_definition: Some(revision.arn.clone()),
        desired: Some(3),
        capacity_providers: task("x").capacity_providers,
        propagate_tags: Some("SERVICE".to_owned()),
        deployment_configuration: Some(Default::default()),
        force: true,
    };
    let updated = services
        .update(account, &place(), &change)
        .await
        .expect("updated");
    assert_eq!(updated.deployments[0].task_definition, revision.arn);
    let rollouts = services
        .rollouts(account, &place(), updated.deployments[0].created)
        .await;
    let rollouts = rollouts.expect("an answer").expect("recorded");
    assert_eq!(
        rollouts[0].task_definition.as_deref(),
        Some(revision.arn.as_str())
    );
    let again = services
        .rollout(account, &rollouts[0].arn)
        .await
        .expect("an answer");
    assert_eq!(again.as_ref(), rollouts.first());
    let started = services
        .run_task(account, &task("token-1"))
        .await
        .expect("started");
    let twice = services
        .run_task(account, &task("token-1"))
        .await
        .expect("the same");
    assert_eq!(started.arn, twice.arn);
    let found = services
        .tasks_of(account, "main", "web", "token-1")
        .await
        .expect("an answer");
    assert_eq!(found[0].arn, started.arn);
    services
        .stop_task(account, "main", &started.arn, "enough")
        .await
        .expect("stopped");
    let stopped = services
        .tasks(account, "main", &[started.arn])
        .await
        .expect("an answer");
    assert_eq!(stopped[0].stopped_reason, "enough");
    let nightly = Schedule {
        bus: None,
        rule: "nightly".to_owned(),
    };
    let tasks = services
        .scheduled(account, &nightly)
        .await
        .expect("an answer");
    let mut moved = tasks.expect("the rule").remove(0);
    moved.task_definition.clone_from(&revision.arn);
    services
        .reschedule(account, &nightly, &moved)
        .await
        .expect("moved");
    assert_eq!(
        fake.state().targets[0]["EcsParameters"]["TaskDefinitionArn"],
        json!(revision.arn)
    );
    let shift = Shift {
        application: "shop".to_owned(),
        group: "web".to_owned(),
        configuration: Some("canary".to_owned()),
        appspec: "version: 0.0".to_owned(),
        description: "ours".to_owned(),
    };
    let id = services.begin_shift(account, &shift).await.expect("begun");
    let shifts = services
        .shifts(account, "shop", "web", Timestamp(0))
        .await
        .expect("an answer");
    assert_eq!(
        (shifts[0].id.as_str(), shifts[0].description.as_str()),
        (id.as_str(), "ours")
    );
}

/// Which call a request is, for counting.
fn name_of(request: &Request) -> String {
    let target = request.header("x-amz-target").unwrap_or_default();
    format!("{target} {}", String::from_utf8_lossy(&request.body))
}

#[tokio::test(flavor = "multi_thread")]
async fn looks_get_through_trouble_that_passes() {
    let throttled = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
    for trouble in [
        Reply::status(500),
        Reply::status(503),
        Reply::Answer(429, Vec::new(), String::new()),
        Reply::Answer(400, Vec::new(), throttled.to_owned()),
        Reply::Answer(200, Vec::new(), "<html>".to_owned()),
        Reply::Reset,
    ] {
        let fake = prepared();
        let mut met: HashMap<String, u32> = HashMap::new();
        let told = trouble.clone();
        let site = Site::new(&fake, move |request| {
            // A form's answer is not read, so nonsense in it does no harm; throttling is told in XML.
            let form = request
                .header("content-type")
                .is_some_and(|kind| kind.contains("form"));
            let times = met.entry(name_of(request)).or_insert(0);
            *times += 1;
            (*times <= 2 && !form).then(|| told.clone())
        });
        look_at_everything(&site).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_answer_is_lost_is_not_repeated() {
    let fake = prepared();
    let behind = fake.clone();
    let site = Site::new(&fake, move |request| {
        let target = request.header("x-amz-target").unwrap_or_default();
        let changes =
            target.ends_with(".RegisterTaskDefinition") || target.ends_with(".UpdateService");
        changes.then(|| {
            // It is made, and the way back breaks.
            drop(behind.over_http(request));
            Reply::status(502)
        })
    });
    let (services, account) = (&site.services, &site.account);
    let definition =
        json!({"family": "web", "containerDefinitions": [{"name": "web", "image": "new"}]});
    let definition = definition.as_object().expect("an object");
    let error = services
        .register(account, definition)
        .await
        .expect_err("it is lost");
    assert!(
        matches!(error.retry(), pipewright::ports::Retry::After(_)),
        "{error}"
    );
    assert_eq!(fake.revisions("web"), 2, "asked for once");
    let change = ServiceChange {
        task_definition: Some(definition_arn("web:2")),
        ..ServiceChange::default()
    };
    services
        .update(account, &place(), &change)
        .await
        .expect_err("it is lost");
    assert_eq!(fake.changes(), ["RegisterTaskDefinition", "UpdateService"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_throttled_was_not_made_and_is_repeated() {
    let fake = prepared();
    let mut met = 0;
    let site = Site::new(&fake, move |_| {
        met += 1;
        (met <= 2).then(|| Reply::Answer(429, Vec::new(), String::new()))
    });
    let definition = json!({"family": "web", "containerDefinitions": []});
    let definition = definition.as_object().expect("an object");
    let registered = site.services.register(&site.account, definition).await;
    assert_eq!(registered.expect("registered").arn, definition_arn("web:2"));
    assert_eq!(fake.changes(), ["RegisterTaskDefinition"]);
}
