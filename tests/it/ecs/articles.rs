//! Articles four and five for real, with the pipelines as they stand in `pipelines/`: images built by
//! the engine and kept by a registry behind ECR's API, scanned, and rolled out on a scripted ECS.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use serde_json::{Value, json};

use crate::support::delivery::{Answer, Delivery, docker};
use crate::support::fake_ecs::Beat::{Completes, Runs};
use crate::support::fake_ecs::FakeEcs;
use crate::support::faulty::{Faulty, Reply};
use crate::support::files::root;
use crate::support::moto::{Moto, PASSWORD, REGION, exchange, front};
use crate::support::registry::{Registry, RegistryOptions};

/// What stands in the way of the pipelines of an article: only where the registry is.
const ELSEWHERE: &str = "var images env=TEST_IMAGES\n\
    registry ecr aws=ACCOUNT { endpoint \"${var.images}\"; plain-http }";

/// A repository, an account with a registry and a cluster, and a channel.
struct Stand {
    shop: Delivery,
    fake: FakeEcs,
    moto: Moto,
    registry: Registry,
    images: Faulty,
    channel: Faulty,
    api: Faulty,
    _ecs: Faulty,
}

impl Stand {
    fn new(test: &str, repository: &str, fake: FakeEcs) -> Self {
        let mut shop = Delivery::start(test);
        let moto = Moto::start();
        let registry = Registry::start(RegistryOptions {
            login: Some(("AWS", PASSWORD)),
            tls: false,
        });
        let images = Faulty::before(registry.address(), |_| Reply::Pass);
        let api = front(&moto, registry.address(), Box::new(|_| None));
        let channel = Faulty::alone(|_| Reply::Answer(200, Vec::new(), "ok".to_owned()));
        moto.call(
            "ecr",
            "AmazonEC2ContainerRegistry_V20150921.CreateRepository",
            json!({ "repositoryName": repository }),
        );
        let ecs = fake.serve();
        let hook = shop.dir().join("slack-webhook");
        std::fs::write(&hook, format!("http://{}/hook", channel.address())).expect("write");
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST"),
            ("AWS_SECRET_ACCESS_KEY", "the-secret-key-of-nobody"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ENDPOINT_URL", &format!("http://{}", ecs.address())),
            ("AWS_ENDPOINT_URL_ECR", &format!("http://{}", api.address())),
            ("AWS_ENDPOINT_URL_STS", &moto.url()),
            ("AWS_ENDPOINT_URL_S3", &moto.url()),
            ("TEST_IMAGES", &images.address().to_string()),
        ] {
            shop.set(name, value);
        }
        Self {
            shop,
            fake,
            moto,
            registry,
            images,
            channel,
            api,
            _ecs: ecs,
        }
    }

    /// Commits the pipelines of an example, and files.
    fn commit(&self, example: &str, account: &str, files: &[(&str, &str)]) -> String {
        let directory = root().join("pipelines").join(example);
        let elsewhere = ELSEWHERE.replace("ACCOUNT", account);
        let hook = self.shop.dir().join("slack-webhook");
        let mut all: Vec<(String, String)> = Vec::new();
        for path in crate::support::files::below(&directory, "kdl") {
            let text = std::fs::read_to_string(&path).expect("a readable file");
            let text = text
                .replace("ap-northeast-1", REGION)
                .replace(&format!("registry ecr aws={account}"), &elsewhere)
                .replace("/run/secrets/slack-webhook", &hook.display().to_string());
            let name = path.file_name().expect("a name").to_string_lossy();
            all.push((format!("pipelines/{name}"), text));
        }
        let own = files
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        all.extend(own);
        let all: Vec<(&str, &str)> = all.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        self.shop.source.commit("pipelines", &all)
    }

    /// A Dockerfile whose image no other test has built.
    fn dockerfile(&self) -> String {
        format!(
            "FROM scratch\nLABEL test={}\nCOPY app /app\n",
            self.shop.name
        )
    }

    /// A scanner that finds what is recorded.
    fn scanner(&mut self, finds: &str) {
        let own = root().join("tests/data/trivy").join(finds);
        let path = std::env::var("PATH").expect("a path");
        self.shop.set("PATH", &format!("{}:{path}", own.display()));
    }

    /// `stage outcome` of a run, newest run first.
    fn outcomes(&self, run: &str) -> Vec<String> {
        let shown = self
            .shop
            .pipewright(&["show", run, "--format", "json"])
            .expect(0);
        let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
        let stages = shown["stages"].as_array().expect("stages");
        let word = |stage: &Value, key: &str| stage[key].as_str().unwrap_or("?").to_owned();
        stages
            .iter()
            .map(|stage| format!("{} {}", word(stage, "id"), word(stage, "outcome")))
            .collect()
    }

    /// Ids of the runs, newest first.
    fn runs(&self) -> Vec<(String, String)> {
        let listed = self
            .shop
            .pipewright(&["runs", "--format", "json"])
            .expect(0);
        let rows: Value = serde_json::from_str(&listed.out).expect("JSON");
        let rows = rows.as_array().or_else(|| rows["runs"].as_array());
        let word = |row: &Value, key: &str| row[key].as_str().expect("a word").to_owned();
        rows.expect("a list")
            .iter()
            .map(|row| (word(row, "run"), word(row, "pipeline")))
            .collect()
    }

    /// The digest a tag stands at, in the registry itself.
    fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        use base64::Engine as _;
        let login = base64::engine::general_purpose::STANDARD.encode(format!("AWS:{PASSWORD}"));
        let login = format!("Basic {login}");
        let headers = [
            ("Authorization", login.as_str()),
            (
                "Accept",
                "application/vnd.oci.image.manifest.v1+json, \
                 application/vnd.docker.distribution.manifest.v2+json",
            ),
        ];
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, body) = exchange(self.registry.address(), "GET", &path, &headers, b"");
        (status == 200).then(|| pipewright::base::Digest::of(&body).as_str().to_owned())
    }

    fn uploads(&self) -> usize {
        let seen = self.images.seen();
        let changes = |method: &str| method != "GET" && method != "HEAD";
        seen.iter()
            .filter(|request| changes(&request.method))
            .count()
    }

    fn count(&self, action: &str) -> usize {
        let changes = self.fake.changes();
        changes.iter().filter(|name| *name == action).count()
    }

    /// What the channel was told, in order.
    fn told(&self) -> Vec<String> {
        let seen = self.channel.seen();
        seen.iter()
            .map(|request| String::from_utf8_lossy(&request.body).into_owned())
            .collect()
    }

    /// The newest registered definition of a family.
    fn newest(&self, family: &str) -> Value {
        let state = self.fake.state();
        state.families[family].last().expect("a revision").clone()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let ours = format!("{}/", self.images.address());
        let listed = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        for name in listed.lines().filter(|name| name.starts_with(&ours)) {
            // Another test may have taken it away by its id.
            let _ = std::process::Command::new("docker")
                .args(["rmi", "-f", name])
                .output();
        }
    }
}

const FIVE: &str = "ecs-two-stage-build-deploy";

fn definition(memory: &str) -> String {
    json!({
        "family": "sample",
        "networkMode": "bridge",
        "memory": memory,
        "containerDefinitions": [{
            "name": "sample", "image": "PLACEHOLDER", "essential": true,
            "environment": [{"name": "JAVA_OPTS", "value": "-Da=b=c"}],
            "secrets": [], "anUnknownKey": {"kept": [null]},
        }],
    })
    .to_string()
}

fn five() -> Stand {
    let fake = FakeEcs::new(&[Runs(1), Completes]);
    {
        let mut state = fake.state();
        state.name = "sample";
        state.service["serviceName"] = json!("sample");
        state.service["loadBalancers"] = json!([]);
    }
    let mut stand = Stand::new("five", "sample", fake);
    stand.scanner("nothing");
    stand
}

#[test]
fn article_five_deploys_although_the_image_is_there() {
    let mut stand = five();
    let dockerfile = stand.dockerfile();
    let files = |env: &'static str, memory: &str| {
        [
            ("Dockerfile", dockerfile.clone()),
            ("deploy/images.env", format!("SAMPLE_IMAGE=sample:{env}\n")),
            ("deploy/task-definition.json", definition(memory)),
        ]
    };
    let commit = |stand: &Stand, env: &'static str, memory: &str| {
        let files = files(env, memory);
        let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (*a, b.as_str())).collect();
        stand.commit(FIVE, "prod", &files)
    };
    let sha = commit(&stand, "1.4.2", "512");

    // The image is new: built, scanned, pushed; then the second pipeline deploys it at the same commit.
    stand.shop.pipewright(&["run", "build-stage"]).expect(0);
    let runs = stand.runs();
    let [(second, deploy), (first, build)] = runs.as_slice() else {
        panic!("{runs:?}");
    };
    assert_eq!(
        (build.as_str(), deploy.as_str()),
        ("build-stage", "deploy-stage")
    );
    assert_eq!(
        stand.outcomes(first),
        [
            "build.sample succeeded",
            "scan.sample succeeded",
            "push.sample succeeded",
            "notify.result succeeded"
        ]
    );
    assert_eq!(
        stand.outcomes(second),
        ["deploy.prod succeeded", "notify.result succeeded"]
    );
    let shown = stand.shop.pipewright(&["show", second]).expect(0);
    shown.says(&sha[..7]);
    let digest = stand.digest("sample", "1.4.2").expect("it is pushed");
    let registered = stand.newest("sample");
    let container = &registered["containerDefinitions"][0];
    let image = container["image"].as_str().expect("an image");
    assert!(image.ends_with(&format!("/sample@{digest}")), "{image}");
    assert_eq!(container["anUnknownKey"], json!({"kept": [null]}));
    assert_eq!(container["environment"][0]["value"], "-Da=b=c");
    assert_eq!(container["secrets"], json!([]));
    assert_eq!(stand.fake.primary().1, "COMPLETED");
    assert_eq!(stand.told().len(), 2);
    assert!(stand.told()[0].contains("push sample image to ECR"));
    let uploads = stand.uploads();

    // Only the task definition changes. The image is there, so there is nothing to build, scan or
    // push, which is a success and no reason to skip what follows: it is deployed all the same.
    commit(&stand, "1.4.2", "1024");
    stand.shop.pipewright(&["run", "build-stage"]).expect(0);
    let runs = stand.runs();
    assert_eq!(runs.len(), 4);
    assert_eq!(
        stand.outcomes(&runs[1].0),
        [
            "build.sample up-to-date",
            "scan.sample up-to-date",
            "push.sample up-to-date",
            "notify.result succeeded"
        ]
    );
    assert_eq!(
        stand.outcomes(&runs[0].0),
        ["deploy.prod succeeded", "notify.result succeeded"]
    );
    assert_eq!(stand.uploads(), uploads, "no byte is sent twice");
    assert_eq!(stand.newest("sample")["memory"], "1024");
    assert_eq!(
        stand.newest("sample")["containerDefinitions"][0]["image"],
        image
    );
    assert_eq!(
        (
            stand.count("RegisterTaskDefinition"),
            stand.count("UpdateService")
        ),
        (2, 2)
    );

    // Nothing changes: nothing is done.
    stand.shop.pipewright(&["run", "build-stage"]).expect(0);
    let runs = stand.runs();
    assert_eq!(stand.outcomes(&runs[0].0)[0], "deploy.prod up-to-date");
    assert_eq!(
        (
            stand.count("RegisterTaskDefinition"),
            stand.count("UpdateService")
        ),
        (2, 2)
    );

    // A new version with a finding that can be mended is not pushed, and nothing follows.
    stand.scanner("found");
    commit(&stand, "1.4.3", "1024");
    stand.shop.source.commit("change", &[("app/new", "x")]);
    let gate: Answer = stand.shop.pipewright(&["run", "build-stage"]).expect(1);
    gate.says("scan.sample");
    let after = stand.runs();
    assert_eq!(
        after.len(),
        runs.len() + 1,
        "the second pipeline is not started"
    );
    assert_eq!(
        stand.outcomes(&after[0].0),
        [
            "build.sample succeeded",
            "scan.sample failed",
            "push.sample blocked",
            "notify.result succeeded"
        ]
    );
    assert_eq!(stand.digest("sample", "1.4.3"), None);
    assert_eq!(stand.uploads(), uploads);
    assert_eq!(stand.told().len(), 7);
    assert_eq!(stand.count("UpdateService"), 2);

    // And back to what ran before: the first definition, in a run of its own.
    let back = stand
        .shop
        .pipewright(&["rollback", "deploy.prod"])
        .expect(0);
    back.says("deploy.prod goes back to sample:1");
    let (arn, state) = stand.fake.primary();
    assert!(
        arn.ends_with("task-definition/sample:1"),
        "{arn}\n{}",
        back.text()
    );
    assert_eq!(state, "COMPLETED");
    assert_eq!(
        (
            stand.count("RegisterTaskDefinition"),
            stand.count("UpdateService")
        ),
        (2, 3)
    );
}

#[test]
fn article_four_rolls_out_what_is_in_the_bucket_with_a_new_image() {
    let fake = FakeEcs::new(&[Runs(1), Completes]);
    {
        let mut state = fake.state();
        (state.cluster, state.name) = ("ecs-cluster", "ecs-service");
        state.service["serviceName"] = json!("ecs-service");
        state.service["loadBalancers"] = json!([]);
    }
    let stand = Stand::new("four", "my-repository", fake);
    let base = json!({
        "family": "my-task", "networkMode": "bridge", "teleportation": {"enabled": []},
        "containerDefinitions": [
            {"name": "my-container", "image": "PLACEHOLDER", "essential": true,
             "environment": [{"name": "A", "value": "b=c"}]},
            {"name": "log", "image": "fluent:1", "essential": false}],
    })
    .to_string();
    let bucket = "/bucket-of-task-definition";
    for (path, body) in [
        (bucket.to_owned(), ""),
        (format!("{bucket}/task-definition.json"), base.as_str()),
    ] {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=0"
        );
        let headers = [("Authorization", authorization.as_str())];
        let (status, answer) = exchange(
            stand.moto.address(),
            "PUT",
            &path,
            &headers,
            body.as_bytes(),
        );
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&answer));
    }
    let files = [("Dockerfile", stand.dockerfile())];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let sha = stand.commit("ecs-codepipeline-vs-actions", "stg", &files);

    let plan = stand.shop.pipewright(&["plan", "deploy"]).expect(0);
    plan.says("deploy.stg");
    assert_eq!(stand.fake.changes(), [""; 0], "a plan changes nothing");

    stand.shop.pipewright(&["run", "deploy"]).expect(0);
    let runs = stand.runs();
    assert_eq!(
        stand.outcomes(&runs[0].0),
        [
            "build.app succeeded",
            "push.app succeeded",
            "deploy.stg succeeded"
        ]
    );
    let digest = stand.digest("my-repository", &sha).expect("it is pushed");
    assert_eq!(
        stand.digest("my-repository", "latest"),
        Some(digest.clone()),
        "two tags"
    );
    let registered = stand.newest("my-task");
    let containers = &registered["containerDefinitions"];
    let image = containers[0]["image"].as_str().expect("an image");
    assert!(
        image.ends_with(&format!("/my-repository@{digest}")),
        "{image}"
    );
    assert_eq!(containers[1]["image"], "fluent:1");
    assert_eq!(containers[0]["environment"][0]["value"], "b=c");
    assert_eq!(registered["teleportation"], json!({"enabled": []}));
    let (arn, state) = stand.fake.primary();
    assert!(arn.ends_with("task-definition/my-task:1"), "{arn}");
    assert_eq!(state, "COMPLETED");
    let log = stand
        .shop
        .pipewright(&["logs", "last", "deploy.stg"])
        .expect(0);
    log.says("registered my-task:1");

    // A second push to master: another image, another revision, one update each.
    stand.shop.source.commit("change", &[("app/new", "x")]);
    stand.shop.pipewright(&["run", "deploy"]).expect(0);
    assert!(stand.fake.primary().0.ends_with("my-task:2"));
    let uploads = stand.uploads();
    stand.shop.pipewright(&["run", "deploy"]).expect(0);
    assert_eq!(stand.uploads(), uploads, "no byte is sent twice");
    let runs = stand.runs();
    assert_eq!(
        stand.outcomes(&runs[0].0),
        [
            "build.app up-to-date",
            "push.app up-to-date",
            "deploy.stg up-to-date"
        ]
    );
    assert_eq!(
        (
            stand.count("RegisterTaskDefinition"),
            stand.count("UpdateService")
        ),
        (2, 2)
    );
    let asked = stand.api.seen();
    let tokens = asked.iter().filter(|request| {
        let target = request.header("x-amz-target").unwrap_or_default();
        target.ends_with(".GetAuthorizationToken")
    });
    assert!(tokens.count() <= 3, "one login for each run");
}
