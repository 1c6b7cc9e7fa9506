//! Article four from end to end, with the program itself: the image through ECR's login to a real
//! registry, the base from S3, the roll-out on the scripted ECS.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use serde_json::{Value, json};

use super::delivery::{Account, outcomes};
use super::objects::put;
use crate::support::fake_ecs::{Beat, FakeEcs};
use crate::support::faulty::Reply;
use crate::support::files::root;
use crate::support::moto;

const BASE: &str = "/bucket-of-task-definition/task-definition.json";

/// The article's own pipeline; only names and places are those of the test.
fn pipeline() -> String {
    let path = root().join("pipelines/ecs-codepipeline-vs-actions/deploy.kdl");
    let mut text = std::fs::read_to_string(path).expect("the example");
    let registry =
        "registry ecr aws=stg { endpoint \"${var.images}\"; plain-http; create-repository }";
    for (from, to) in [
        ("region=ap-northeast-1", "region=us-east-1"),
        ("registry ecr aws=stg\n", registry),
        (
            "build app\n",
            "build app { dockerfile \"build/app/Dockerfile.prod\" }\n",
        ),
        (
            "cluster=ecs-cluster service=ecs-service",
            "cluster=main service=web",
        ),
        ("container my-container ", "container web "),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        text = text.replace(from, to);
    }
    format!("var images env=TEST_IMAGES\n{text}")
}

/// What goes to ECS and what its preflight asks goes to the fake; the rest is moto's.
fn start(test: &str) -> (Account, FakeEcs) {
    let fake = FakeEcs::new(&[Beat::Runs(1), Beat::Completes]);
    let theirs = fake.clone();
    let first: moto::Script = Box::new(move |request| {
        let signed = request.header("authorization").unwrap_or("");
        let scope = signed.split("/aws4_request").next().unwrap_or("");
        let service = scope.rsplit('/').next().unwrap_or("");
        if matches!(service, "s3" | "sts" | "ecr") {
            return None;
        }
        let (status, body) = theirs.over_http(request);
        Some(Reply::Answer(status, Vec::new(), body))
    });
    let mut account = Account::with(test, &pipeline(), first);
    let everything = format!("http://{}", account.api.address());
    account.shop.set("AWS_ENDPOINT_URL", &everything);
    put(&account.moto, "/bucket-of-task-definition", b"");
    (account, fake)
}

fn base(level: u32) -> Value {
    json!({
        "family": "web",
        "teleportation": {"enabled": [], "to": null},
        "containerDefinitions": [
            {"name": "web", "image": "replaced", "essential": true, "cpu": 0, "levitation": level,
             "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
             "environment": [{"name": "OPTS", "value": "-Da=b=c"}]},
            {"name": "sidecar", "image": "kept:1", "essential": false},
        ],
    })
}

fn outcome(account: &Account, stage: &str) -> String {
    let told = outcomes(account);
    let found = told.iter().find(|(name, _)| name == stage);
    found.unwrap_or_else(|| panic!("{told:?}")).1.clone()
}

#[test]
fn article_four_from_the_commit_to_the_service() {
    let (account, fake) = start("article-four");
    let run = || account.shop.pipewright(&["run", "deploy"]);

    // No base yet: nothing is registered, and it is said what is missing.
    let early = run().expect(1);
    early.says("s3://bucket-of-task-definition/task-definition.json is not there");
    assert!(fake.changes().is_empty(), "{:?}", fake.changes());

    // It was built and pushed, and that is not done again; the deployment is not skipped with it.
    put(&account.moto, BASE, base(1).to_string().as_bytes());
    let plan = account.shop.pipewright(&["plan", "deploy"]).expect(0);
    plan.says("levitation");
    assert!(fake.changes().is_empty(), "a plan changes nothing");
    let first = run().expect(0);
    account.is_clean(&first);
    assert_eq!(outcome(&account, "build.app"), "up-to-date");
    assert_eq!(outcome(&account, "push.app"), "up-to-date");
    assert_eq!(outcome(&account, "deploy.stg"), "succeeded");
    assert_eq!(fake.changes(), ["RegisterTaskDefinition", "UpdateService"]);
    let sha = crate::support::repo::git(account.shop.source.path(), &["rev-parse", "HEAD"]);
    assert_eq!(account.status("my-repository", sha.trim()), 200);
    assert_eq!(account.status("my-repository", "latest"), 200);
    {
        let state = fake.state();
        let after = state.families["web"].last().expect("a revision");
        assert_eq!(after["teleportation"], base(1)["teleportation"]);
        let web = &after["containerDefinitions"][0];
        assert_eq!(web["levitation"], 1);
        let image = web["image"].as_str().expect("an image");
        assert!(image.contains("/my-repository@sha256:"), "{image}");
        assert_eq!(after["containerDefinitions"][1]["image"], "kept:1");
    }

    // The same commit again: everything is as it should be.
    run().expect(0);
    assert_eq!(outcome(&account, "deploy.stg"), "up-to-date");
    assert_eq!(fake.changes().len(), 2);

    // The trap of the article: the image is there, so build and push have nothing to do, and the
    // deployment happens all the same.
    put(&account.moto, BASE, base(2).to_string().as_bytes());
    run().expect(0);
    assert_eq!(outcome(&account, "push.app"), "up-to-date");
    assert_eq!(outcome(&account, "deploy.stg"), "succeeded");
    assert_eq!(fake.changes().len(), 4);
    assert_eq!(account.count("PutImage"), 1, "the alias was set once");
}
