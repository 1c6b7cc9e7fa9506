//! Every call our code makes, against an AWS that drops connections, answers with errors, limits
//! our rate and talks nonsense. What may be tried again is, and nothing hangs or loops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pipewright::adapters::aws::{AwsSecrets, EcrRegistry};
use pipewright::adapters::http::Http;
use pipewright::adapters::registry::{DockerConfig, HttpRegistry};
use pipewright::base::LateSecrets;
use pipewright::ports::Retry;
use pipewright::ports::cloud::{CloudError, CloudReader as _};
use pipewright::ports::registry::{
    Ecr, Login, NewRepository, Registry as _, RegistryReader as _, Target,
};
use pipewright::ports::secrets::{SecretReader as _, SecretSource, Stored, Vault};
use serde_json::json;

use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::moto::{Moto, REGION, account, clouds};

/// The ways in which an answer may not come, whatever was asked.
fn troubles(json: bool) -> Vec<Reply> {
    let throttled = if json {
        r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#.to_owned()
    } else {
        "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>"
            .to_owned()
    };
    vec![
        Reply::status(500),
        Reply::status(502),
        Reply::Answer(503, Vec::new(), "<html>sorry</html>".to_owned()),
        Reply::status(504),
        Reply::Answer(
            429,
            vec![("Retry-After", "0".to_owned())],
            throttled.clone(),
        ),
        Reply::Answer(400, Vec::new(), throttled),
        Reply::Answer(200, Vec::new(), "<html>".to_owned()),
        Reply::Answer(200, Vec::new(), "{\"images\":[".to_owned()),
        Reply::Cut(40),
        Reply::Reset,
    ]
}

fn is_json(request: &Request) -> bool {
    request.header("x-amz-target").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_gets_through_trouble_that_passes() {
    let moto = Moto::start();
    moto.call(
        "secretsmanager",
        "secretsmanager.CreateSecret",
        json!({ "Name": "db", "SecretString": "hunter22" }),
    );
    let body = json!({ "Name": "/p", "Value": "hunter23", "Type": "SecureString" });
    moto.call("ssm", "AmazonSSM.PutParameter", body);
    let dir = tempfile::tempdir().expect("a directory");
    for trouble in 0..troubles(true).len() {
        // Every call meets the same trouble twice before it gets through.
        let mut met = std::collections::HashMap::new();
        let server = Faulty::before(moto.address(), move |request| {
            let json = is_json(request);
            let key = match request.header("x-amz-target") {
                Some(target) => target.to_owned(),
                None => String::from_utf8_lossy(&request.body[..request.body.len().min(30)])
                    .into_owned(),
            };
            let times = met.entry(key).or_insert(0);
            *times += 1;
            if *times <= 2 {
                troubles(json)[trouble].clone()
            } else {
                Reply::Pass
            }
        });
        let endpoint = format!("http://{}", server.address());
        let late = LateSecrets::default();
        let clouds = clouds(&late);
        let account = account(&endpoint, dir.path());
        let what = || format!("{:?}", troubles(true)[trouble]);
        let caller = clouds.caller(&account).await;
        caller.unwrap_or_else(|error| panic!("{}: {error}", what()));
        let secrets = AwsSecrets::new(clouds.clone());
        for (store, name, value) in [
            (Vault::SecretsManager, "db", "hunter22"),
            (Vault::ParameterStore, "/p", "hunter23"),
        ] {
            let place = Stored {
                store,
                name: name.to_owned(),
                key: None,
                version: None,
                version_id: None,
            };
            let account = Arc::new(account.clone());
            let secret = secrets.read(&SecretSource::Stored { account, place }).await;
            let secret = secret.unwrap_or_else(|error| panic!("{}: {error}", what()));
            assert_eq!(secret.expose(), value);
        }
        let http = HttpRegistry::new(Http::new(), DockerConfig::at("/nonexistent"));
        let registry = EcrRegistry::new(http, clouds);
        let target = Target {
            host: format!("123456789012.dkr.ecr.{REGION}.amazonaws.com"),
            plain_http: false,
            login: Login::Ecr(Arc::new(Ecr {
                account,
                create: Some(NewRepository::default()),
                ..Ecr::default()
            })),
        };
        let repository = format!("shop/trouble-{trouble}");
        let found = registry.manifest(&target, &repository, "v1").await;
        assert_eq!(
            found.unwrap_or_else(|error| panic!("{}: {error}", what())),
            None
        );
        let made = registry.prepare(&target, &repository).await;
        made.unwrap_or_else(|error| panic!("{}: {error}", what()));
        let manifest = json!({ "schemaVersion": 2, "layers": [], "config": {
            "digest": format!("sha256:{}", "0".repeat(64)), "size": 1, "mediaType": "x" } });
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = manifest.to_string();
        let put = registry
            .put_manifest(&target, &repository, "v1", kind, manifest.as_bytes())
            .await;
        let digest = put.unwrap_or_else(|error| panic!("{}: {error}", what()));
        let found = registry.digest(&target, &repository, "v1").await;
        assert_eq!(
            found.unwrap_or_else(|error| panic!("{}: {error}", what())),
            Some(digest)
        );
        assert!(registry.resolve(&target).await.is_ok(), "{}", what());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_stays_is_an_error_that_may_be_retried() {
    let dir = tempfile::tempdir().expect("a directory");
    for trouble in troubles(false) {
        let reply = trouble.clone();
        let server = Faulty::alone(move |_| match &reply {
            Reply::Cut(_) => Reply::Reset,
            reply => reply.clone(),
        });
        let account = account(&format!("http://{}", server.address()), dir.path());
        let error = clouds(&LateSecrets::default())
            .caller(&account)
            .await
            .unwrap_err();
        assert!(
            matches!(error.retry(), Retry::After(_)),
            "{trouble:?}: {error:?}"
        );
        assert_eq!(server.seen().len(), 8, "{trouble:?}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_service_that_says_nothing() {
    let server = Faulty::alone(|_| Reply::Hang);
    let dir = tempfile::tempdir().expect("a directory");
    let account = account(&format!("http://{}", server.address()), dir.path());
    let backoff = pipewright::adapters::backoff::Backoff {
        tries: 3,
        base: Duration::from_millis(1),
        cap: Duration::from_millis(2),
        total: Duration::from_secs(10),
    };
    let clouds = pipewright::adapters::aws::Clouds::with_limits(
        Http::new(),
        LateSecrets::default(),
        backoff,
        Duration::from_millis(300),
    );
    let began = Instant::now();
    let error = clouds.caller(&account).await.unwrap_err();
    assert!(matches!(error, CloudError::Broken { .. }), "{error:?}");
    assert!(error.to_string().contains("no answer in time"), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(server.seen().len(), 3);
}
