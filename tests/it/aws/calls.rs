//! Makes every call of the AWS adapters once, on a moto that has what they are about.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use pipewright::adapters::aws::services::AwsServices;
use pipewright::adapters::aws::{AwsSecrets, Clouds, EcrRegistry};
use pipewright::adapters::http::Http;
use pipewright::adapters::registry::{DockerConfig, HttpRegistry};
use pipewright::base::{Digest, LateSecrets, Timestamp};
use pipewright::ports::Silent;
use pipewright::ports::bucket::{BucketReader as _, Buckets as _};
use pipewright::ports::cloud::{Account, CloudReader as _, ObjectPlace};
use pipewright::ports::registry::{
    Ecr, Login, NewRepository, Registry as _, RegistryReader as _, Target,
};
use pipewright::ports::secrets::{SecretReader as _, SecretSource, Stored, Vault};
use pipewright::ports::services::{
    CapacityProvider, Launch, LogStream, OneOffTask, Place, Schedule, ServiceChange, Services as _,
    ServicesReader as _, Shift, Thing,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::objects::put;
use crate::support::fake_ecs::{FakeEcs, definition_arn};
use crate::support::moto::{ACCOUNT, Moto, REGION, account, clouds, exchange};

const ECS: &str = "AmazonEC2ContainerServiceV20141113";

/// A call of a service that takes forms, as nobody in particular; it must succeed.
fn form(moto: &Moto, service: &str, fields: &str) -> String {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/{REGION}/{service}/aws4_request, SignedHeaders=host, Signature=0"
    );
    let headers = [
        ("Authorization", authorization.as_str()),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let (status, answer) = exchange(moto.address(), "POST", "/", &headers, fields.as_bytes());
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(status, 200, "{fields}: {answer}");
    answer
}

/// Puts into moto what the calls are about; the fake has what moto lacks: a service whose
/// deployments are recorded.
pub(super) async fn prepare(moto: &Moto) -> FakeEcs {
    let ecs = |action: &str, body: Value| moto.call("ecs", &format!("{ECS}.{action}"), body);
    ecs("CreateCluster", json!({ "clusterName": "main" }));
    let definition = json!({ "family": "web", "networkMode": "awsvpc", "containerDefinitions": [
        { "name": "web", "image": "old", "memory": 128 } ] });
    ecs("RegisterTaskDefinition", definition);
    let service = json!({
        "cluster": "main", "serviceName": "web", "taskDefinition": "web:1", "desiredCount": 2,
    });
    ecs("CreateService", service);
    let logs =
        |action: &str, body: Value| moto.call("logs", &format!("Logs_20140328.{action}"), body);
    logs("CreateLogGroup", json!({ "logGroupName": "/web" }));
    let stream = json!({ "logGroupName": "/web", "logStreamName": "ecs/web/1" });
    logs("CreateLogStream", stream);
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_millis() as u64;
    let lines = json!({ "logGroupName": "/web", "logStreamName": "ecs/web/1",
        "logEvents": [{ "timestamp": now, "message": "migrated" }] });
    logs("PutLogEvents", lines);
    let events =
        |action: &str, body: Value| moto.call("events", &format!("AWSEvents.{action}"), body);
    events("CreateEventBus", json!({ "Name": "own" }));
    let rule =
        json!({ "Name": "nightly", "EventBusName": "own", "EventPattern": "{\"source\":[\"a\"]}" });
    events("PutRule", rule);
    let target = json!({ "Rule": "nightly", "EventBusName": "own", "Targets": [{
        "Id": "t", "Arn": format!("arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/main"),
        "RoleArn": format!("arn:aws:iam::{ACCOUNT}:role/events"), "Input": "{}",
        "EcsParameters": { "TaskDefinitionArn": "web:1", "TaskCount": 1, "LaunchType": "FARGATE" },
    }]});
    events("PutTargets", target);
    let deploy = |action: &str, body: Value| {
        moto.call("codedeploy", &format!("CodeDeploy_20141006.{action}"), body)
    };
    deploy(
        "CreateApplication",
        json!({ "applicationName": "shop", "computePlatform": "ECS" }),
    );
    let group = json!({
        "applicationName": "shop", "deploymentGroupName": "web",
        "serviceRoleArn": format!("arn:aws:iam::{ACCOUNT}:role/deploy"),
    });
    deploy("CreateDeploymentGroup", group);
    form(
        moto,
        "iam",
        "Action=CreateRole&Version=2010-05-08&RoleName=execution&Path=/ecs/&AssumeRolePolicyDocument=%7B%7D",
    );
    let group = "Action=CreateTargetGroup&Version=2015-12-01&Name=web&TargetType=lambda";
    form(moto, "elasticloadbalancing", group);
    let secret = json!({ "Name": "db", "SecretString": "hunter22" });
    moto.call("secretsmanager", "secretsmanager.CreateSecret", secret);
    let parameter = json!({ "Name": "/p", "Value": "hunter23", "Type": "SecureString" });
    moto.call("ssm", "AmazonSSM.PutParameter", parameter);
    put(moto, "/kept", b"");
    put(moto, "/kept/base.json", b"{}");

    let fake = FakeEcs::new(&[]);
    fake.state().records = true;
    let here = AwsServices::new(Arc::new(fake.clone()));
    let definition = json!({ "family": "web", "containerDefinitions": [] });
    let definition = definition.as_object().expect("an object");
    let made = here.register(&Account::default(), definition).await;
    let change = ServiceChange {
        task_definition: Some(made.expect("registered").arn),
        ..ServiceChange::default()
    };
    let moved = here.update(&Account::default(), &web(), &change).await;
    moved.expect("updated");
    fake
}

fn web() -> Place {
    Place {
        cluster: "main".to_owned(),
        service: "web".to_owned(),
    }
}

/// Makes every call; each brings what moto was given.
pub(super) async fn drive(moto: &Moto, endpoint: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut account = account(endpoint, dir.path());
    account
        .roles
        .push(format!("arn:aws:iam::{ACCOUNT}:role/spoke"));
    let clouds = clouds(&LateSecrets::default());
    let caller = clouds.caller(&account).await.expect("we are somebody");
    assert!(caller.arn.contains("assumed-role/spoke/"), "{}", caller.arn);
    images(&clouds, &account).await;
    objects(&clouds, &account, dir.path()).await;
    secrets(&clouds, &account).await;
    let services = AwsServices::new(Arc::new(clouds));
    let arn = registered(&services, &account).await;
    looks(moto, &services, &account).await;
    tasks(moto, &services, &account, &arn).await;
    schedules(&services, &account, &arn).await;
    shifts(&services, &account).await;
    recorded(&services, &account).await;
}

async fn images(clouds: &Clouds, account: &Account) {
    let http = HttpRegistry::new(Http::new(), DockerConfig::at("/nonexistent"));
    let registry = EcrRegistry::new(http, clouds.clone());
    let target = |public: bool| Target {
        host: format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"),
        plain_http: false,
        login: Login::Ecr(Arc::new(Ecr {
            account: account.clone(),
            create: Some(NewRepository {
                immutable: true,
                except: vec!["latest*".to_owned()],
                scan_on_push: true,
                kms: Some(String::new()),
            }),
            public,
            ..Ecr::default()
        })),
    };
    let own = target(false);
    let login = registry.resolve(&own).await.expect("a token");
    assert!(login.is_some());
    let none = registry.manifest(&own, "shop/app", "v1").await;
    assert_eq!(none.expect("an answer"), None);
    assert!(registry.prepare(&own, "shop/app").await.expect("made"));
    let manifest = json!({ "schemaVersion": 2, "layers": [], "config": {
        "digest": Digest::of(b"c").as_str(), "size": 1, "mediaType": "x" } });
    let manifest = manifest.to_string();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let stored = registry.put_manifest(&own, "shop/app", "v1", kind, manifest.as_bytes());
    let digest = stored.await.expect("stored");
    let found = registry.digest(&own, "shop/app", "v1").await;
    assert_eq!(found.expect("an answer"), Some(digest));

    let public = target(true);
    let login = registry.resolve(&public).await.expect("a token");
    assert_eq!(login.map(|(user, _)| user), Some("AWS".to_owned()));
    assert!(registry.prepare(&public, "acme/app").await.expect("made"));
}

async fn objects(clouds: &Clouds, account: &Account, dir: &Path) {
    let place = |key: &str| -> ObjectPlace { format!("s3://kept/{key}").parse().expect("a place") };
    let base = clouds.object(account, &place("base.json"), 100).await;
    assert_eq!(base.expect("read").as_deref(), Some(b"{}".as_slice()));
    let cancel = CancellationToken::new();
    let file = dir.join("file");
    for (key, size, stays) in [
        ("small", 5, true),
        ("large", 9 << 20, true),
        ("broken", 9 << 20, false),
    ] {
        std::fs::write(&file, vec![7_u8; size]).expect("write");
        let notes = BTreeMap::from([("sha256".to_owned(), "x".to_owned())]);
        let at = place(key);
        let stored = clouds
            .store(account, &at, &file, &notes, &Silent, &cancel)
            .await;
        assert_eq!(stored.is_ok(), stays, "{key}: {stored:?}");
        let found = clouds.find(account, &at).await.expect("asked");
        assert_eq!(found.is_some(), stays, "{key}");
        let Some(object) = found else { continue };
        assert_eq!((object.size, object.notes.len()), (size as u64, 1));
        let into = dir.join(key);
        let wanted = Digest::of(&vec![7_u8; size]);
        let fetched = clouds.fetch(account, &object, &wanted, &into, &Silent, &cancel);
        fetched.await.expect("fetched");
    }
    let listed = clouds.list(account, &place("s"), 10).await;
    assert_eq!(listed.expect("listed").len(), 1);
}

async fn secrets(clouds: &Clouds, account: &Account) {
    let secrets = AwsSecrets::new(clouds.clone());
    for (store, name, value) in [
        (Vault::SecretsManager, "db", "hunter22"),
        (Vault::ParameterStore, "/p", "hunter23"),
    ] {
        let source = SecretSource::Stored {
            account: Arc::new(account.clone()),
            place: Stored {
                store,
                name: name.to_owned(),
                key: None,
                version: None,
                version_id: None,
            },
        };
        let secret = secrets.read(&source).await.expect("a secret");
        assert_eq!(secret.expose(), value);
    }
}

/// Registers a revision and moves the service to it.
async fn registered(services: &AwsServices, account: &Account) -> String {
    let before = services.service(account, &web()).await.expect("an answer");
    let before = before.expect("it is there");
    assert_eq!((before.desired, before.status.as_str()), (2, "ACTIVE"));
    assert!(before.task_definition.ends_with(":task-definition/web:1"));
    let lost = Place {
        service: "shop".to_owned(),
        ..web()
    };
    assert_eq!(
        services.service(account, &lost).await.expect("an answer"),
        None
    );
    let definition = json!({ "family": "web", "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512",
        "containerDefinitions": [{ "name": "web", "image": "new", "essential": true, "memory": 256,
            "environment": [{ "name": "A", "value": "b=c" }] }] });
    let definition = definition.as_object().expect("an object");
    let made = services
        .register(account, definition)
        .await
        .expect("registered");
    let found = services.revision(account, "web").await.expect("an answer");
    assert_eq!(found.expect("it is there").arn, made.arn);
    let none = services.revision(account, "web:9").await;
    assert_eq!(none.expect("an answer"), None);
    let change = ServiceChange {
        task_definition: Some(made.arn.clone()),
        desired: Some(3),
        capacity_providers: vec![fargate()],
        propagate_tags: Some("SERVICE".to_owned()),
        deployment_configuration: before.deployment_configuration.into(),
        force: true,
    };
    let after = services.update(account, &web(), &change).await;
    let after = after.expect("updated");
    assert_eq!(
        (after.task_definition, after.desired),
        (made.arn.clone(), 3)
    );
    made.arn
}

fn fargate() -> CapacityProvider {
    CapacityProvider {
        name: "FARGATE".to_owned(),
        weight: 1,
        base: 0,
    }
}

async fn looks(moto: &Moto, services: &AwsServices, account: &Account) {
    let group = form(
        moto,
        "elasticloadbalancing",
        "Action=DescribeTargetGroups&Version=2015-12-01",
    );
    let group = first(&group, "TargetGroupArn");
    let secret = moto.call(
        "secretsmanager",
        "secretsmanager.DescribeSecret",
        json!({ "SecretId": "db" }),
    );
    let secret = secret["ARN"].as_str().expect("an ARN").to_owned();
    let log = |name: &str| Thing::LogGroup {
        region: None,
        name: name.to_owned(),
    };
    let role = |name: &str| Thing::Role(format!("arn:aws:iam::{ACCOUNT}:role/ecs/{name}"));
    let parameter =
        |name: &str| Thing::Secret(format!("arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/{name}"));
    for (thing, there) in [
        (Thing::Cluster("main".to_owned()), true),
        (Thing::Cluster("other".to_owned()), false),
        (role("execution"), true),
        (role("absent"), false),
        (Thing::TargetGroup(group.clone()), true),
        (Thing::TargetGroup(format!("{group}absent")), false),
        (Thing::Secret(format!("{secret}:key::")), true),
        (Thing::Secret(secret.replace(":db-", ":absent-")), false),
        (Thing::Secret("/p".to_owned()), true),
        (parameter("absent"), false),
        (log("/web"), true),
        (log("/we"), false),
    ] {
        let found = services.exists(account, &thing).await;
        let found = found.unwrap_or_else(|error| panic!("{thing}: {error}"));
        assert_eq!(found, there, "{thing}");
    }
    let stream = LogStream {
        region: None,
        group: "/web".to_owned(),
        stream: "ecs/web/1".to_owned(),
    };
    let page = services.log(account, &stream, None).await.expect("a page");
    assert_eq!(page.lines, ["migrated"]);
    let rest = services.log(account, &stream, page.next.as_deref()).await;
    assert_eq!(rest.expect("a page").lines, Vec::<String>::new());
    let absent = LogStream {
        stream: "ecs/web/2".to_owned(),
        ..stream
    };
    let page = services.log(account, &absent, None).await.expect("a page");
    assert_eq!(page.lines, Vec::<String>::new());
}

/// The text of the first element of a name.
fn first(text: &str, name: &str) -> String {
    let rest = text.split(&format!("<{name}>")).nth(1);
    let rest = rest.unwrap_or_else(|| panic!("no {name} in {text}"));
    rest.split('<').next().unwrap_or_default().to_owned()
}

async fn tasks(moto: &Moto, services: &AwsServices, account: &Account, arn: &str) {
    let ec2 = |action: &str| form(moto, "ec2", &format!("Action={action}&Version=2016-11-15"));
    let network = json!({ "awsvpcConfiguration": {
        "subnets": [first(&ec2("DescribeSubnets"), "subnetId")],
        "securityGroups": [first(&ec2("DescribeSecurityGroups"), "groupId")],
        "assignPublicIp": "ENABLED",
    }});
    let task = OneOffTask {
        cluster: "main".to_owned(),
        task_definition: arn.to_owned(),
        container: "web".to_owned(),
        command: vec!["migrate".to_owned()],
        env: vec![("A".to_owned(), "b=c".to_owned())],
        launch: Launch {
            launch_type: None,
            platform_version: Some("LATEST".to_owned()),
            network: Some(network),
        },
        capacity_providers: vec![fargate()],
        token: "token-1".to_owned(),
    };
    let started = services.run_task(account, &task).await.expect("started");
    assert_eq!(started.task_definition, arn);
    let found = services.tasks_of(account, "main", "web", "token-1").await;
    assert_eq!(found.expect("an answer")[0].arn, started.arn);
    let stopped = services.stop_task(account, "main", &started.arn, "enough");
    stopped.await.expect("stopped");
    let known = services
        .tasks(account, "main", std::slice::from_ref(&started.arn))
        .await;
    assert_eq!(known.expect("an answer")[0].stopped_reason, "enough");
    let of_service = services.stopped_tasks(account, &web()).await;
    // Moto does not look at whose tasks they are.
    let of_service = of_service.expect("an answer");
    assert!(of_service.iter().all(|task| task.status == "STOPPED"));
}

async fn schedules(services: &AwsServices, account: &Account, arn: &str) {
    let nightly = Schedule {
        bus: Some("own".to_owned()),
        rule: "nightly".to_owned(),
    };
    let tasks = services
        .scheduled(account, &nightly)
        .await
        .expect("an answer");
    let mut task = tasks.expect("the rule").remove(0);
    assert_eq!(task.task_definition, "web:1");
    task.task_definition = arn.to_owned();
    let moved = services.reschedule(account, &nightly, &task).await;
    moved.expect("moved");
    let tasks = services
        .scheduled(account, &nightly)
        .await
        .expect("an answer");
    let tasks = tasks.expect("the rule");
    assert_eq!((tasks.len(), tasks[0].task_definition.as_str()), (1, arn));
    assert_eq!(
        tasks[0].target["Input"], "{}",
        "the rest of the target stays"
    );
    let absent = Schedule {
        rule: "weekly".to_owned(),
        ..nightly
    };
    assert_eq!(
        services
            .scheduled(account, &absent)
            .await
            .expect("an answer"),
        None
    );
}

async fn shifts(services: &AwsServices, account: &Account) {
    let shift = Shift {
        application: "shop".to_owned(),
        group: "web".to_owned(),
        configuration: Some("CodeDeployDefault.ECSAllAtOnce".to_owned()),
        appspec: "version: 0.0".to_owned(),
        description: "ours".to_owned(),
    };
    let id = services.begin_shift(account, &shift).await.expect("begun");
    let state = services.shift(account, &id).await.expect("an answer");
    assert_eq!(state.expect("it is there").description, "ours");
    let none = services.shift(account, "d-NONE00000").await;
    assert_eq!(none.expect("an answer"), None);
    let since = Timestamp(1_600_000_000_000);
    let all = services.shifts(account, "shop", "web", since).await;
    let all: Vec<String> = all
        .expect("an answer")
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(all, [id]);
}

/// What only the fake has.
async fn recorded(services: &AwsServices, account: &Account) {
    let rollouts = services.rollouts(account, &web(), Timestamp(0)).await;
    let rollouts = rollouts.expect("an answer").expect("recorded");
    assert_eq!(rollouts[0].task_definition, Some(definition_arn("web:2")));
    let again = services.rollout(account, &rollouts[0].arn).await;
    assert_eq!(again.expect("an answer").as_ref(), rollouts.first());
}
