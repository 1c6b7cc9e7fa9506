//! The container registry of an account: its API against moto, images through a real registry.

use std::sync::Arc;
use std::time::Duration;

use pipewright::adapters::aws::EcrRegistry;
use pipewright::adapters::http::Http;
use pipewright::adapters::registry::{DockerConfig, HttpRegistry};
use pipewright::base::{Digest, LateSecrets, Masks};
use pipewright::ports::cloud::CloudReader;
use pipewright::ports::registry::{
    Ecr, Login, NewRepository, Registry as _, RegistryError, RegistryReader as _, Target,
};
use serde_json::{Value, json};

use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::moto::{ACCOUNT, Moto, PASSWORD, REGION, account, clouds, front, region_of};
use crate::support::registry::{Registry, RegistryOptions};

const API: &str = "AmazonEC2ContainerRegistry_V20150921";

struct World {
    ecr: Ecr,
    registry: EcrRegistry,
    late: LateSecrets,
    host: Option<String>,
    _dir: tempfile::TempDir,
}

impl World {
    /// A registry of the account behind an endpoint; images go to a host of their own if one is
    /// given.
    fn new(endpoint: &str, host: Option<String>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let late = LateSecrets::default();
        let http = HttpRegistry::new(Http::new(), DockerConfig::at("/nonexistent"));
        Self {
            ecr: Ecr {
                account: account(endpoint, dir.path()),
                ..Ecr::default()
            },
            registry: EcrRegistry::new(http, clouds(&late)),
            late,
            host,
            _dir: dir,
        }
    }

    fn target(&self) -> Target {
        let own = format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com");
        Target {
            plain_http: self.host.is_some(),
            host: self.host.clone().unwrap_or(own),
            login: Login::Ecr(Arc::new(self.ecr.clone())),
        }
    }
}

fn manifest(text: &str) -> Vec<u8> {
    let config = Digest::of(text.as_bytes());
    let value = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.as_str(),
            "size": text.len(),
        },
        "layers": [],
    });
    value.to_string().into_bytes()
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

/// How often an action was asked for.
fn count(server: &Faulty, action: &str) -> usize {
    let is = |request: &&Request| {
        let target = request.header("x-amz-target").unwrap_or("");
        target.ends_with(action)
    };
    server.seen().iter().filter(is).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_says_what_is_there_and_what_is_not() {
    let moto = Moto::start();
    let server = Faulty::before(moto.address(), |_| Reply::Pass);
    let mut world = World::new(&format!("http://{}", server.address()), None);
    let target = world.target();
    // Moto gives a token that ran out in 2015: used as it is, and not fetched again and again.
    for _ in 0..5 {
        let login = world.registry.resolve(&target).await.expect("a token");
        let (user, password) = login.expect("a token");
        assert_eq!((user.as_str(), password.expose()), ("AWS", PASSWORD));
    }
    assert_eq!(count(&server, "GetAuthorizationToken"), 1);
    assert_eq!(
        Masks::with_late([], world.late.clone()).mask(PASSWORD),
        "***"
    );
    let host = clouds(&LateSecrets::default())
        .registry_host(&world.ecr)
        .await;
    assert_eq!(host.expect("an address"), target.host);

    // A repository that is missing is an error unless it may be made.
    let error = world
        .registry
        .manifest(&target, "shop/app", "v1")
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("there is no repository shop/app; create it, or write"),
        "{text}"
    );
    world.ecr.create = Some(NewRepository {
        scan_on_push: true,
        immutable: true,
        kms: Some(String::new()),
        ..NewRepository::default()
    });
    let target = world.target();
    let registry = &world.registry;
    assert_eq!(
        registry
            .manifest(&target, "shop/app", "v1")
            .await
            .expect("an answer"),
        None
    );
    assert!(
        registry
            .prepare(&target, "shop/app")
            .await
            .expect("it can be made")
    );
    assert!(
        !registry
            .prepare(&target, "shop/app")
            .await
            .expect("it is there")
    );
    assert_eq!(count(&server, "CreateRepository"), 1);
    let names = json!({ "repositoryNames": ["shop/app"] });
    let made = moto.call("ecr", &format!("{API}.DescribeRepositories"), names);
    let made = &made["repositories"][0];
    assert_eq!(made["imageTagMutability"], "IMMUTABLE");
    assert_eq!(made["imageScanningConfiguration"]["scanOnPush"], true);
    assert_eq!(made["encryptionConfiguration"]["encryptionType"], "KMS");

    // Absent, stored, there, there again, and taken.
    assert_eq!(
        registry
            .digest(&target, "shop/app", "v1")
            .await
            .expect("an answer"),
        None
    );
    let (one, other) = (manifest("one"), manifest("other"));
    let put = |tag, bytes| registry.put_manifest(&target, "shop/app", tag, OCI, bytes);
    let digest = put("v1", &one).await.expect("it is stored");
    assert_eq!(digest, Digest::of(&one));
    assert_eq!(put("v1", &one).await.expect("it is there already"), digest);
    let taken = put("v1", &other).await.unwrap_err();
    assert!(matches!(taken, RegistryError::Immutable { .. }), "{taken}");
    let found = registry
        .manifest(&target, "shop/app", "v1")
        .await
        .expect("an answer");
    let found = found.expect("it is there");
    assert_eq!(
        (&found.digest, found.media_type.as_str(), found.bytes),
        (&digest, OCI, one)
    );
    let by_digest = registry.digest(&target, "shop/app", digest.as_str()).await;
    assert_eq!(by_digest.expect("an answer"), Some(digest));

    // What was asked is what a role that may only push is allowed to ask.
    let seen = server.seen();
    let asked = seen
        .iter()
        .find(|request| request.header("x-amz-target") == Some(&format!("{API}.BatchGetImage")));
    let asked: Value = serde_json::from_slice(&asked.expect("it was asked").body).expect("JSON");
    assert_eq!(asked["repositoryName"], "shop/app");
    assert_eq!(asked["imageIds"], json!([{ "imageTag": "v1" }]));
    assert_eq!(
        asked["acceptedMediaTypes"].as_array().map(Vec::len),
        Some(4)
    );
    assert_eq!(count(&server, "Describe"), 0);
}

/// A server of the API that gives tokens and answers one question as a test says.
fn api(answer: Value) -> Faulty {
    Faulty::alone(move |request| {
        let target = request.header("x-amz-target").unwrap_or("").to_owned();
        if target.is_empty() {
            return sts();
        }
        if target.ends_with("GetAuthorizationToken") {
            return token("AWS:first", 4_000_000_000);
        }
        let status = if answer.get("__type").is_some() {
            400
        } else {
            200
        };
        Reply::Answer(status, Vec::new(), answer.to_string())
    })
}

pub(super) fn sts() -> Reply {
    let body = "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>\
        <AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>a secret key</SecretAccessKey>\
        <SessionToken>a session token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
        </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
    Reply::Answer(200, Vec::new(), body.to_owned())
}

fn token(login: &str, expires: u64) -> Reply {
    use base64::Engine as _;
    let token = base64::engine::general_purpose::STANDARD.encode(login);
    let body = json!({ "authorizationData": [{
        "authorizationToken": token,
        "expiresAt": expires,
        "proxyEndpoint": format!("https://{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"),
    }]});
    Reply::Answer(200, Vec::new(), body.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_image_not_found_is_absent() {
    let failure = |code: &str| json!({ "images": [], "failures": [{ "failureCode": code, "failureReason": "why" }] });
    for (answer, says) in [
        (failure("ImageNotFound"), None),
        (failure("ImageInaccessible"), Some("ImageInaccessible: why")),
        (
            failure("UpstreamUnavailable"),
            Some("UpstreamUnavailable: why"),
        ),
        (failure("SomethingNew"), Some("SomethingNew: why")),
        (
            json!({ "images": [], "failures": [] }),
            Some("neither an image nor a reason"),
        ),
        (json!({}), Some("neither an image nor a reason")),
        (
            json!({ "images": [{}] }),
            Some("an image without a manifest"),
        ),
        (
            json!({ "__type": "InvalidParameterException", "message": "no such thing" }),
            Some("InvalidParameterException: no such thing"),
        ),
        (
            json!({ "images": [{
                "imageId": { "imageDigest": Digest::of(b"x").as_str() }, "imageManifest": "{}",
            }]}),
            Some("with digest"),
        ),
    ] {
        let server = api(answer.clone());
        let world = World::new(&format!("http://{}", server.address()), None);
        let found = world.registry.digest(&world.target(), "app", "v1").await;
        match says {
            None => assert_eq!(found.expect("an answer"), None),
            Some(says) => {
                let text = found.expect_err(&answer.to_string()).to_string();
                assert!(text.contains(says), "{text}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_never_moves_is_an_outcome() {
    let server = api(json!({
        "__type": "ImageTagAlreadyExistsException",
        "message": "The image tag 'v1' already exists in the 'app' repository and cannot be overwritten",
    }));
    let world = World::new(&format!("http://{}", server.address()), None);
    let bytes = manifest("one");
    let put = world
        .registry
        .put_manifest(&world.target(), "app", "v1", OCI, &bytes)
        .await;
    let error = put.unwrap_err();
    assert!(matches!(error, RegistryError::Immutable { .. }), "{error}");
    assert!(
        error.to_string().contains("cannot be overwritten"),
        "{error}"
    );
    assert_eq!(count(&server, "PutImage"), 1, "it is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_says_who_we_are_and_what_was_asked() {
    let server = Faulty::alone(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        match request.header("x-amz-target") {
            None if body.contains("GetCallerIdentity") => Reply::Answer(
                200,
                Vec::new(),
                format!(
                    "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::{ACCOUNT}:assumed-role/ci/x</Arn>\
                     <Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
                ),
            ),
            None => sts(),
            Some(_) => {
                let body = json!({ "__type": "AccessDeniedException", "message": "User: x is not authorized" });
                Reply::Answer(400, Vec::new(), body.to_string())
            }
        }
    });
    let mut world = World::new(&format!("http://{}", server.address()), None);
    world.ecr.owner = Some("210987654321".to_owned());
    let target = world.target();
    let error = world
        .registry
        .digest(&target, "app", "v1")
        .await
        .unwrap_err();
    let text = error.to_string();
    for part in [
        "denied ecr:BatchGetImage: User: x is not authorized",
        &format!("we are arn:aws:sts::{ACCOUNT}:assumed-role/ci/x in account {ACCOUNT}"),
        "asked for ecr:BatchGetImage on repository app of account 210987654321",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("docker login"), "{text}");
    let host = clouds(&LateSecrets::default())
        .registry_host(&world.ecr)
        .await;
    assert_eq!(
        host.expect("another account's address is known"),
        format!("210987654321.dkr.ecr.{REGION}.amazonaws.com")
    );
}

/// The registry turns a token down that should last: a new one is had, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_accepted_is_renewed_once() {
    let real = Registry::start(RegistryOptions {
        login: Some(("AWS", "second")),
        tls: false,
    });
    let mut given = 0;
    let server = Faulty::alone(
        move |request| match request.header("x-amz-target").unwrap_or("") {
            "" => sts(),
            _ => {
                given += 1;
                token(
                    if given == 1 {
                        "AWS:first"
                    } else {
                        "AWS:second"
                    },
                    4_000_000_000,
                )
            }
        },
    );
    let world = World::new(&format!("http://{}", server.address()), Some(real.host()));
    let target = world.target();
    let blob = world
        .registry
        .put_blob(&target, "app", b"hello", None)
        .await;
    let digest = blob.expect("the second token is accepted");
    let read = world
        .registry
        .blob(&target, "app", &digest)
        .await
        .expect("an answer");
    assert_eq!(read.as_deref(), Some(b"hello".as_slice()));
    assert_eq!(count(&server, "GetAuthorizationToken"), 2);

    // One that never works is an error, not a loop.
    let server = Faulty::alone(|request| match request.header("x-amz-target") {
        None => sts(),
        Some(_) => token("AWS:wrong", 1_400_000_000),
    });
    let world = World::new(&format!("http://{}", server.address()), Some(real.host()));
    let error = world
        .registry
        .blob(&world.target(), "app", &digest)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    assert_eq!(count(&server, "GetAuthorizationToken"), 2);
    assert!(!error.to_string().contains("wrong"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_registry_is_another_service_in_one_region() {
    let server = Faulty::alone(|request| {
        let target = request.header("x-amz-target").unwrap_or("").to_owned();
        if target.is_empty() {
            return sts();
        }
        let authorization = request.header("authorization").unwrap_or("");
        assert!(
            authorization.contains("/us-east-1/ecr-public/"),
            "{authorization}"
        );
        let body = match target.as_str() {
            "SpencerFrontendService.GetAuthorizationToken" => json!({ "authorizationData": {
                "authorizationToken": "QVdTOnB1YmxpYw==", "expiresAt": 4_000_000_000.5,
            }}),
            "SpencerFrontendService.CreateRepository" => {
                let asked: Value = serde_json::from_slice(&request.body).expect("JSON");
                assert_eq!(asked, json!({ "repositoryName": "app" }));
                json!({ "repository": {} })
            }
            other => panic!("{other}"),
        };
        Reply::Answer(200, Vec::new(), body.to_string())
    });
    let mut world = World::new(&format!("http://{}", server.address()), None);
    world.ecr.account.region = Some("eu-west-1".to_owned());
    world.ecr.public = true;
    world.ecr.create = Some(NewRepository::default());
    let host = clouds(&LateSecrets::default())
        .registry_host(&world.ecr)
        .await;
    assert_eq!(host.expect("an address"), "public.ecr.aws");
    let target = world.target();
    let login = world.registry.resolve(&target).await.expect("a token");
    let login = login.map(|(user, password)| (user, password.expose().to_owned()));
    assert_eq!(login, Some(("AWS".to_owned(), "public".to_owned())));
    assert!(
        world
            .registry
            .prepare(&target, "acme/app")
            .await
            .expect("it can be made")
    );
}

/// What is written through the registry is what the API says is there, as in ECR.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_api_agree() {
    let moto = Moto::start();
    let real = Registry::start(RegistryOptions {
        login: Some(("AWS", PASSWORD)),
        tls: false,
    });
    moto.call(
        "ecr",
        &format!("{API}.CreateRepository"),
        json!({ "repositoryName": "shop/app" }),
    );
    let server = front(&moto, real.address(), Box::new(|_| None));
    let world = World::new(&format!("http://{}", server.address()), Some(real.host()));
    let target = world.target();
    let registry = &world.registry;
    assert_eq!(
        registry
            .digest(&target, "shop/app", "v1")
            .await
            .expect("an answer"),
        None
    );
    registry
        .put_blob(&target, "shop/app", b"one", None)
        .await
        .expect("it is stored");
    let bytes = manifest("one");
    let stored = registry
        .put_manifest(&target, "shop/app", "v1", OCI, &bytes)
        .await;
    let digest = stored.expect("it is stored");
    let found = registry
        .digest(&target, "shop/app", "v1")
        .await
        .expect("an answer");
    assert_eq!(found, Some(digest));
    assert_eq!(
        registry.tags(&target, "shop/app").await.expect("tags"),
        ["v1"]
    );
    tokio::time::timeout(Duration::from_secs(60), registry.resolve(&target))
        .await
        .expect("an answer in time")
        .expect("a login");
}

/// An account has a registry in every region: other hosts, other tokens, other repositories.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_in_another_region_is_another_registry() {
    let moto = Moto::start();
    let server = Faulty::before(moto.address(), |_| Reply::Pass);
    let mut world = World::new(&format!("http://{}", server.address()), None);
    let near = world.target();
    world.ecr.region = Some("eu-west-1".to_owned());
    world.ecr.create = Some(NewRepository::default());
    let far = Target {
        host: format!("{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com"),
        ..world.target()
    };
    let clouds = clouds(&LateSecrets::default());
    let host = clouds.registry_host(&world.ecr).await;
    assert_eq!(host.expect("an address"), far.host);
    let foreign = Ecr {
        owner: Some("210987654321".to_owned()),
        ..world.ecr.clone()
    };
    assert_eq!(
        clouds.registry_host(&foreign).await.expect("an address"),
        "210987654321.dkr.ecr.eu-west-1.amazonaws.com"
    );
    let registry = &world.registry;
    for target in [&near, &far, &near, &far] {
        assert!(registry.resolve(target).await.expect("a token").is_some());
    }
    // One token for each, kept apart.
    let seen = server.seen();
    let asked: Vec<&str> = seen
        .iter()
        .filter(|request| {
            let target = request.header("x-amz-target").unwrap_or("");
            target.ends_with("GetAuthorizationToken")
        })
        .map(region_of)
        .collect();
    assert_eq!(
        asked,
        ["eu-west-1", REGION, "eu-west-1"],
        "the first for the host"
    );
    assert!(registry.prepare(&far, "app").await.expect("made"));
    let bytes = manifest("one");
    let stored = registry.put_manifest(&far, "app", "v1", OCI, &bytes).await;
    let digest = stored.expect("stored");
    let found = registry.digest(&far, "app", "v1").await;
    assert_eq!(found.expect("an answer"), Some(digest));
    let error = registry.digest(&near, "app", "v1").await.unwrap_err();
    assert!(
        error.to_string().contains("there is no repository app"),
        "{error}"
    );
    let names = json!({ "repositoryNames": ["app"] });
    let action = format!("{API}.DescribeRepositories");
    let made = moto.call_in("eu-west-1", "ecr", &action, names.clone());
    assert_eq!(made["repositories"][0]["repositoryName"], "app");
    let (status, _) = moto.ask("ecr", &action, &names);
    assert_eq!(status, 400, "it is not in {REGION}");
}
