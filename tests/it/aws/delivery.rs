//! The program against AWS as moto plays it: images through a real registry behind ECR's login,
//! secrets from an account, and nothing of either in what is printed or kept.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::delivery::{Answer, Delivery};
use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::moto::{
    self, ACCOUNT, Moto, PASSWORD, REGION, exchange, front, key_of, region_of,
};
use crate::support::registry::{Registry, RegistryOptions};

const PIPELINE: &str = r#"
var images env=TEST_IMAGES
aws prod region=us-east-1 {
    role "arn:aws:iam::123456789012:role/ci"
    session "15m"
    allowed-accounts "123456789012"
}
registry ecr aws=prod {
    endpoint "${var.images}"
    plain-http
    create-repository { scan-on-push; immutable { except latest } }
}
secret DB aws=prod secretsmanager="db" key=password
secret TOKEN aws=prod ssm="/shop/token"
image app registry=ecr "shop/app" { tag "${git.sha}"; alias latest }
pipeline release {
    build app { dockerfile "build/app/Dockerfile.prod" }
    push app
    run use {
        env DB "${secret.DB}"
        env TOKEN "${secret.TOKEN}"
        script "echo the database opens with $DB and the token is $TOKEN"
    }
}
"#;

type Script = Arc<Mutex<Option<Box<dyn FnMut(&Request) -> Reply + Send>>>>;

/// The shop, delivered to an account.
pub(super) struct Account {
    pub(super) shop: Delivery,
    pub(super) moto: Moto,
    pub(super) api: Faulty,
    registry: Registry,
    /// The way to the registry.
    images: Faulty,
    script: Script,
}

impl Account {
    fn new(test: &str) -> Self {
        Self::with(test, PIPELINE, Box::new(|_| None))
    }

    /// The same with a pipeline of its own, and somebody who may answer before anybody else does.
    pub(super) fn with(test: &str, pipeline: &str, first: moto::Script) -> Self {
        let mut shop = Delivery::start(test);
        let moto = Moto::start();
        let registry = Registry::start(RegistryOptions {
            login: Some(("AWS", PASSWORD)),
            tls: false,
        });
        let script: Script = Arc::default();
        let theirs = script.clone();
        let images = Faulty::before(registry.address(), move |request| {
            match theirs.lock().expect("no panic").as_mut() {
                Some(script) => script(request),
                None => Reply::Pass,
            }
        });
        let api = front(&moto, registry.address(), first);
        let secret = json!({ "password": "old-hunter-2" }).to_string();
        moto.call(
            "secretsmanager",
            "secretsmanager.CreateSecret",
            json!({ "Name": "db", "SecretString": secret }),
        );
        let token =
            json!({ "Name": "/shop/token", "Value": "token-of-the-shop", "Type": "SecureString" });
        moto.call("ssm", "AmazonSSM.PutParameter", token);
        // The key is not in the program's arguments, nor is the password ever.
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST"),
            ("AWS_SECRET_ACCESS_KEY", "the-secret-key-of-nobody"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AWS_ENDPOINT_URL_ECR", &format!("http://{}", api.address())),
            ("AWS_ENDPOINT_URL_STS", &format!("http://{}", api.address())),
            (
                "AWS_ENDPOINT_URL_SECRETS_MANAGER",
                &format!("http://{}", api.address()),
            ),
            ("AWS_ENDPOINT_URL_SSM", &format!("http://{}", api.address())),
            ("TEST_IMAGES", &images.address().to_string()),
        ] {
            shop.set(name, value);
        }
        shop.source
            .commit("pipeline", &[("pipelines/shop.kdl", pipeline)]);
        Self {
            shop,
            moto,
            api,
            registry,
            images,
            script,
        }
    }

    pub(super) fn count(&self, action: &str) -> usize {
        let is = |request: &&Request| {
            let target = request.header("x-amz-target").unwrap_or("");
            target.ends_with(&format!(".{action}"))
        };
        self.api.seen().iter().filter(is).count()
    }

    fn run(&self) -> Answer {
        self.shop.pipewright(&["run", "release"])
    }

    fn spoil(&self, script: impl FnMut(&Request) -> Reply + Send + 'static) {
        *self.script.lock().expect("no panic") = Some(Box::new(script));
    }

    /// Status of a manifest in the registry itself.
    pub(super) fn status(&self, repository: &str, tag: &str) -> u16 {
        use base64::Engine as _;
        let login = base64::engine::general_purpose::STANDARD.encode(format!("AWS:{PASSWORD}"));
        let headers = [("Authorization", format!("Basic {login}"))];
        let headers = headers
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let path = format!("/v2/{repository}/manifests/{tag}");
        exchange(self.registry.address(), "GET", &path, &headers, b"").0
    }

    /// Fails if anything secret is in what was printed or kept.
    #[track_caller]
    pub(super) fn is_clean(&self, answer: &Answer) {
        let secrets = [
            "old-hunter-2",
            "token-of-the-shop",
            "the-secret-key-of-nobody",
            PASSWORD,
        ];
        for secret in secrets {
            assert!(
                !answer.text().contains(secret),
                "{secret} in {}",
                answer.text()
            );
        }
        let mut open = vec![self.shop.state()];
        while let Some(path) = open.pop() {
            for entry in std::fs::read_dir(&path).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    for secret in secrets {
                        assert!(!holds(&path, secret), "{secret} in {}", path.display());
                    }
                }
            }
        }
    }
}

fn holds(path: &Path, text: &str) -> bool {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

pub(super) fn outcomes(account: &Account) -> Vec<(String, String)> {
    let shown = account.shop.show();
    let stages = shown["stages"].as_array().expect("stages");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    stages
        .iter()
        .map(|stage| (text(&stage["id"]), text(&stage["outcome"])))
        .collect()
}

#[test]
fn an_image_goes_to_the_account_and_is_there_the_next_time() {
    let account = Account::new("ecr");
    let plan = account.shop.pipewright(&["plan", "release"]).expect(0);
    plan.says("shop/app");
    account.is_clean(&plan);
    assert_eq!(
        account.count("CreateRepository"),
        0,
        "a plan changes nothing"
    );

    let first = account.run().expect(0);
    let opened = account
        .shop
        .pipewright(&["logs", "last", "run.use"])
        .expect(0);
    opened.says("the database opens with *** and the token is ***");
    account.is_clean(&first);
    assert_eq!(account.count("CreateRepository"), 1);
    let made = account.moto.call(
        "ecr",
        "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories",
        json!({ "repositoryNames": ["shop/app"] }),
    );
    assert_eq!(
        made["repositories"][0]["imageTagMutability"],
        "IMMUTABLE_WITH_EXCLUSION"
    );
    let sha = crate::support::repo::git(account.shop.source.path(), &["rev-parse", "HEAD"]);
    assert_eq!(account.status("shop/app", sha.trim()), 200);
    assert_eq!(
        account.status("shop/app", "latest"),
        200,
        "the alias moved by PutImage"
    );
    assert_eq!(account.count("PutImage"), 1);
    // Everything was signed for the region, by credentials of the role.
    for request in account.api.seen() {
        if request.header("x-amz-target").is_some() {
            let signed = request.header("authorization").expect("it is signed");
            assert!(signed.contains(&format!("/{REGION}/")), "{signed}");
            assert!(request.header("x-amz-security-token").is_some());
        }
    }
    // One process, one token, though its end is in 2015. A plan asks the API only and needs none.
    let tokens = account.count("GetAuthorizationToken");
    assert_eq!(tokens, 1);

    let uploads = |account: &Account| {
        let seen = account.images.seen();
        seen.iter()
            .filter(|request| request.method != "GET" && request.method != "HEAD")
            .count()
    };
    let before = uploads(&account);
    let second = account.run().expect(0);
    account.is_clean(&second);
    let told = outcomes(&account);
    for stage in ["build.app", "push.app"] {
        let outcome = told
            .iter()
            .find(|(name, _)| name == stage)
            .map(|(_, outcome)| outcome.as_str());
        assert_eq!(outcome, Some("up-to-date"), "{told:?}");
    }
    assert_eq!(uploads(&account), before, "no byte is sent twice");
    assert_eq!(account.count("PutImage"), 1);
    assert_eq!(account.count("CreateRepository"), 1);
}

#[test]
fn a_token_that_runs_out_in_the_middle_is_renewed() {
    let account = Account::new("ecr-token");
    let mut refused = false;
    account.spoil(move |request| {
        if request.is("POST /v2/shop/app/blobs/uploads/") && !refused {
            refused = true;
            let body = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}"#;
            return Reply::Answer(403, vec![("Content-Type", "application/json".to_owned())], body.to_owned());
        }
        Reply::Pass
    });
    let answer = account.run().expect(0);
    account.is_clean(&answer);
    assert_eq!(account.count("GetAuthorizationToken"), 2);
    let log = account
        .shop
        .pipewright(&["logs", "last", "push.app"])
        .expect(0);
    log.says("pushing again with a new one");
}

#[test]
fn a_tag_that_is_taken_and_never_moves_fails_with_what_to_do() {
    let account = Account::new("ecr-immutable");
    account.spoil(|request| {
        if request.is("PUT /v2/shop/app/manifests/") {
            let body = r#"{"errors":[{"code":"TAG_INVALID","message":"The image tag 'x' already exists in the 'shop/app' repository and cannot be overwritten because the repository is immutable."}]}"#;
            return Reply::Answer(400, vec![("Content-Type", "application/json".to_owned())], body.to_owned());
        }
        Reply::Pass
    });
    let answer = account.run().expect(1);
    answer.says("is taken by another image");
    answer.says("give this one a tag of its own");
    account.is_clean(&answer);
}

#[test]
fn what_is_not_allowed_is_explained_and_nothing_is_made() {
    let account = Account::new("ecr-denied");
    let wrong = PIPELINE.replace(
        "allowed-accounts \"123456789012\"",
        "allowed-accounts \"999999999999\"",
    );
    account
        .shop
        .source
        .commit("pipeline", &[("pipelines/shop.kdl", &wrong)]);
    let answer = account.run().expect(2);
    answer.says(&format!("are for account {ACCOUNT}"));
    answer.says("only 999999999999 may be worked on");
    account.is_clean(&answer);
    assert_eq!(
        account.count("CreateRepository") + account.count("GetSecretValue"),
        0
    );
    // No half-made run is left.
    account
        .shop
        .pipewright(&["runs"])
        .says("nothing has run here yet");
}

/// Two images, one in a registry `near`, one in a registry `far`.
const TWO_IMAGES: &str = r#"
image app registry=near "shop/app" { tag "${git.sha}" }
image copy registry=far "shop/copy" { tag "${git.sha}" }
pipeline release {
    build app copy { dockerfile "build/app/Dockerfile.prod" }
    push app copy
}
"#;

const REGIONS: &str = r#"
var images env=TEST_IMAGES
aws prod region=us-east-1 {
    role "arn:aws:iam::123456789012:role/ci"
}
registry near aws=prod {
    endpoint "${var.images}"
    plain-http
    create-repository
}
registry far aws=prod region=eu-west-1 {
    endpoint "${var.images}"
    plain-http
    create-repository
}
"#;

#[test]
fn one_pipeline_pushes_to_two_regions() {
    let account = Account::with(
        "ecr-regions",
        &[REGIONS, TWO_IMAGES].concat(),
        Box::new(|_| None),
    );
    account.run().expect(0);
    let action = "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories";
    for (region, repository) in [(REGION, "shop/app"), ("eu-west-1", "shop/copy")] {
        let answer = account.moto.call_in(region, "ecr", action, json!({}));
        let all = answer["repositories"].as_array().expect("a list");
        let names: Vec<_> = all
            .iter()
            .filter_map(|one| one["repositoryName"].as_str())
            .collect();
        assert_eq!(names, [repository], "{region}");
    }
    let head = crate::support::repo::git(account.shop.source.path(), &["rev-parse", "HEAD"]);
    let head = head.trim();
    for repository in ["shop/app", "shop/copy"] {
        assert_eq!(account.status(repository, head), 200, "{repository}");
    }
    // Everything about an image is asked in its own region.
    for request in account.api.seen() {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let target = request.header("x-amz-target").unwrap_or("");
        for (region, repository) in [(REGION, "shop/app"), ("eu-west-1", "shop/copy")] {
            if target.contains("ContainerRegistry") && body.contains(repository) {
                assert_eq!(region_of(&request), region, "{target} {body}");
            }
        }
    }
}

const ACCOUNTS: &str = r#"
var images env=TEST_IMAGES
aws prod region=us-east-1 {
    role "arn:aws:iam::123456789012:role/ci"
    allowed-accounts "123456789012"
}
aws shared region=us-east-1 {
    role "arn:aws:iam::210987654321:role/push"
    allowed-accounts "210987654321"
}
registry near aws=prod {
    endpoint "${var.images}"
    plain-http
    create-repository
}
registry far aws=shared {
    endpoint "${var.images}"
    plain-http
    create-repository
}
"#;

/// The registry behind both accounts has one login, so that both are given that one.
#[test]
fn one_pipeline_pushes_to_two_accounts() {
    use base64::Engine as _;
    let token = base64::engine::general_purpose::STANDARD.encode(format!("AWS:{PASSWORD}"));
    let given = json!({ "authorizationData": [{
        "authorizationToken": token, "expiresAt": 4_102_444_800_u64,
        "proxyEndpoint": "https://example.com" }] });
    let first = move |request: &Request| {
        let target = request.header("x-amz-target").unwrap_or("");
        let asks = target.ends_with(".GetAuthorizationToken");
        asks.then(|| Reply::Answer(200, Vec::new(), given.to_string()))
    };
    let account = Account::with(
        "ecr-accounts",
        &[ACCOUNTS, TWO_IMAGES].concat(),
        Box::new(first),
    );
    account.run().expect(0);

    // Whoever asked about an image was somebody of its account, and of no other.
    let asked = account.api.seen();
    let about = |repository: &str| -> std::collections::BTreeSet<&str> {
        let about = asked.iter().filter(|request| {
            let target = request.header("x-amz-target").unwrap_or("");
            target.contains("ContainerRegistry")
                && String::from_utf8_lossy(&request.body).contains(repository)
        });
        about.map(key_of).collect()
    };
    let (near, far) = (about("shop/app"), about("shop/copy"));
    assert!(near.is_disjoint(&far), "{near:?} {far:?}");
    let describe = "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories";
    for (keys, number, repository) in [
        (near, ACCOUNT, "shop/app"),
        (far, "210987654321", "shop/copy"),
    ] {
        assert!(!keys.is_empty(), "{repository}");
        for key in keys {
            let (status, answer) = account.moto.ask_as(key, "ecr", describe, &json!({}));
            assert_eq!(status, 200, "{answer}");
            let all = answer["repositories"].as_array().expect("a list");
            let found: Vec<_> = all
                .iter()
                .map(|one| (one["registryId"].as_str(), one["repositoryName"].as_str()))
                .collect();
            assert_eq!(found, [(Some(number), Some(repository))]);
        }
    }
    let head = crate::support::repo::git(account.shop.source.path(), &["rev-parse", "HEAD"]);
    for repository in ["shop/app", "shop/copy"] {
        assert_eq!(account.status(repository, head.trim()), 200, "{repository}");
    }
}
