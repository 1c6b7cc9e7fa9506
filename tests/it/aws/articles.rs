//! Articles four and five from end to end, with the program itself: the image through ECR's login to
//! a real registry, the base from S3 or the commit, the roll-out on the scripted ECS.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use serde_json::{Value, json};

use super::delivery::{Account, outcomes};
use super::objects::put;
use crate::support::delivery::docker;
use crate::support::fake_ecs::{Beat, FakeEcs};
use crate::support::faulty::{Faulty, Reply};
use crate::support::files::root;
use crate::support::moto;

const BASE: &str = "/bucket-of-task-definition/task-definition.json";

/// An article's own pipelines; only names and places are those of the test.
fn example(name: &str, replace: &[(&str, &str)]) -> String {
    let mut text = String::from("var images env=TEST_IMAGES\n");
    let mut paths = crate::support::files::below(&root().join("pipelines").join(name), "kdl");
    paths.sort();
    for path in paths {
        text.push_str(&std::fs::read_to_string(path).expect("the example"));
        text.push('\n');
    }
    let registry = "{ endpoint \"${var.images}\"; plain-http; create-repository }\n";
    let text = text.replace("region=ap-northeast-1", "region=us-east-1");
    let mut text = text.replace(
        "registry ecr aws=stg\n",
        &format!("registry ecr aws=stg {registry}"),
    );
    text = text.replace(
        "registry ecr aws=prod\n",
        &format!("registry ecr aws=prod {registry}"),
    );
    for (from, to) in replace {
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        text = text.replace(from, to);
    }
    text
}

fn article_four() -> String {
    let replace = [
        (
            "build app\n",
            "build app { dockerfile \"build/app/Dockerfile.prod\" }\n",
        ),
        (
            "cluster=ecs-cluster service=ecs-service",
            "cluster=main service=web",
        ),
        ("container my-container ", "container web "),
    ];
    example("ecs-codepipeline-vs-actions", &replace)
}

fn article_five() -> String {
    let replace = [
        ("file=\"/run/secrets/slack-webhook\"", "env=TEST_SLACK"),
        ("build sample\n", "build sample { context \"tool\" }\n"),
        (
            "fail-on high\n",
            "scanner builtin; max-db-age \"3650d\"; fail-on medium\n",
        ),
        ("cluster=main service=sample", "cluster=main service=web"),
        ("container sample ", "container web "),
    ];
    example("ecs-two-stage-build-deploy", &replace)
}

/// What goes to ECS and what its preflight asks goes to the fake; the rest is moto's.
fn start(test: &str, pipeline: &str) -> (Account, FakeEcs) {
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
    let mut account = Account::with(test, pipeline, first);
    let everything = format!("http://{}", account.api.address());
    account.shop.set("AWS_ENDPOINT_URL", &everything);
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
    let (account, fake) = start("article-four", &article_four());
    put(&account.moto, "/bucket-of-task-definition", b"");
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

/// The stages of the newest run of a pipeline.
fn newest(account: &Account, pipeline: &str) -> Vec<Value> {
    let listed = account
        .shop
        .pipewright(&["runs", "--format", "json"])
        .expect(0);
    let rows: Value = serde_json::from_str(&listed.out).expect("JSON");
    let rows = rows.as_array().or_else(|| rows["runs"].as_array());
    let row = rows
        .expect("a list")
        .iter()
        .find(|row| row["pipeline"] == pipeline);
    let row = row.unwrap_or_else(|| panic!("no run of {pipeline} in {}", listed.out));
    let id = row["run"].as_str().expect("an id");
    let shown = account
        .shop
        .pipewright(&["show", id, "--format", "json"])
        .expect(0);
    let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
    shown["stages"].as_array().expect("stages").clone()
}

fn told(stages: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let stages = stages.iter();
    stages
        .map(|stage| format!("{} {}", text(&stage["id"]), text(&stage["outcome"])))
        .collect()
}

/// A commit with the image's name, what is in it, and the base.
fn commit(account: &Account, tag: &str, urllib3: &str, level: u32) {
    let metadata =
        format!("Metadata-Version: 2.1\nName: urllib3\nVersion: {urllib3}\nLicense: MIT\n");
    account.shop.source.commit(
        tag,
        &[
            (
                "deploy/images.env",
                &format!("SAMPLE_IMAGE=team/sample:{tag}\n"),
            ),
            ("deploy/task-definition.json", &base(level).to_string()),
            ("tool/Dockerfile", "FROM scratch\nCOPY root /\n"),
            // No other test, nor an earlier go of this one, has built the same.
            ("tool/root/name", &account.shop.name),
            (
                "tool/root/usr/lib/python3/dist-packages/urllib3.dist-info/METADATA",
                &metadata,
            ),
        ],
    );
}

#[test]
fn article_five_in_two_pipelines_and_without_its_trap() {
    let slack = Faulty::alone(|_| Reply::Answer(200, Vec::new(), "ok".to_owned()));
    let (mut account, fake) = start("article-five", &article_five());
    let advisories = account.shop.dir().join("advisories");
    let hook = format!("http://{}/services/T/B/the-hook", slack.address());
    account.shop.set("TEST_SLACK", &hook);
    account.shop.set(
        "PIPEWRIGHT_ADVISORIES",
        advisories.to_str().expect("a plain path"),
    );
    let records = root().join("tests/data/osv");
    let records = records.to_str().expect("a plain path");
    account
        .shop
        .pipewright(&["advisories", "import", records])
        .expect(0);
    let run = |code: i32| {
        account
            .shop
            .pipewright(&["run", "build-stage"])
            .expect(code)
    };

    // The gate: a finding that a newer version mends is not pushed, and nothing is deployed.
    commit(&account, "1.4.1", "1.26.5", 1);
    run(1).says("CVE-2023-43804 in urllib3 1.26.5");
    assert_eq!(account.status("team/sample", "1.4.1"), 404);
    assert!(fake.changes().is_empty(), "{:?}", fake.changes());

    // Built, scanned and pushed; the second pipeline follows at the same commit.
    commit(&account, "1.4.2", "1.26.17", 1);
    account.is_clean(&run(0));
    assert_eq!(
        told(&newest(&account, "build-stage")),
        [
            "build.sample succeeded",
            "scan.sample succeeded",
            "push.sample succeeded",
            "notify.result succeeded"
        ]
    );
    assert_eq!(account.status("team/sample", "1.4.2"), 200);
    let deployed = ["deploy.prod succeeded", "notify.result succeeded"];
    assert_eq!(told(&newest(&account, "deploy-stage")), deployed);
    assert_eq!(fake.changes(), ["RegisterTaskDefinition", "UpdateService"]);

    // A machine that does not have the image: there is nothing to scan there.
    let built = newest(&account, "build-stage")[0]["outputs"]["id"].clone();
    docker(&["image", "rm", "--force", built.as_str().expect("an id")]);

    // Only the task definition changes: the image is there already, which is a success, and what
    // follows happens all the same.
    commit(&account, "1.4.2", "1.26.17", 2);
    run(0);
    assert_eq!(
        told(&newest(&account, "build-stage"))[..3],
        [
            "build.sample up-to-date",
            "scan.sample up-to-date",
            "push.sample up-to-date"
        ]
    );
    assert_eq!(told(&newest(&account, "deploy-stage")), deployed);
    assert_eq!(fake.changes().len(), 4);
    {
        let state = fake.state();
        let after = state.families["web"].last().expect("a revision");
        let web = &after["containerDefinitions"][0];
        assert_eq!(web["levitation"], 2);
        let image = web["image"].as_str().expect("an image");
        assert!(image.contains("/team/sample@sha256:"), "{image}");
    }
    assert!(slack.seen().len() >= 5, "{}", slack.seen().len());
}
