//! Who we are: roles, tokens, how long credentials are kept, and what a refusal says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipewright::base::{LateSecrets, Masks, Secret};
use pipewright::ports::cloud::{Account, CloudError, CloudReader, WebIdentity};

use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::moto::{ACCOUNT, Moto, REGION, SIGNATURE, account, clouds};

/// The parameters of a call of the token service, decoded.
pub(super) fn form(request: &Request) -> Vec<(String, String)> {
    let url = format!("http://x/?{}", String::from_utf8_lossy(&request.body));
    let url: reqwest::Url = url.parse().expect("a form");
    let pairs = url.query_pairs();
    pairs
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect()
}

pub(super) fn field(request: &Request, name: &str) -> Option<String> {
    form(request)
        .into_iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

fn actions(server: &Faulty) -> Vec<String> {
    let seen = server.seen();
    seen.iter()
        .filter_map(|request| field(request, "Action"))
        .collect()
}

/// An answer of the token service.
fn answer(action: &str, inner: &str) -> Reply {
    let body = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result>{inner}\
         </{action}Result></{action}Response>"
    );
    Reply::Answer(200, vec![("Content-Type", "text/xml".to_owned())], body)
}

fn credentials(key: &str, expires: &str) -> String {
    format!(
        "<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{key}-secret-4711</SecretAccessKey>\
         <SessionToken>{key}-session-4711</SessionToken><Expiration>{expires}</Expiration></Credentials>"
    )
}

fn caller(arn: &str) -> Reply {
    answer(
        "GetCallerIdentity",
        &format!("<Arn>{arn}</Arn><UserId>x</UserId><Account>{ACCOUNT}</Account>"),
    )
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    let body = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    );
    Reply::Answer(status, vec![("Content-Type", "text/xml".to_owned())], body)
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_assumed_in_order_and_their_credentials_kept() {
    let moto = Moto::start();
    let front = Faulty::before(moto.address(), |_| Reply::Pass);
    let dir = tempfile::tempdir().expect("a directory");
    let late = LateSecrets::default();
    let clouds = clouds(&late);
    let account = Account {
        roles: vec![
            format!("arn:aws:iam::{ACCOUNT}:role/first"),
            "arn:aws:iam::210987654321:role/second".to_owned(),
        ],
        session: Some(Duration::from_secs(900)),
        external_id: Some(Secret::new("the external id")),
        policy: Some(r#"{"Version":"2012-10-17","Statement":[]}"#.to_owned()),
        tags: vec![("team".to_owned(), "shop".to_owned())],
        allowed: vec!["210987654321".to_owned()],
        ..account(&format!("http://{}", front.address()), dir.path())
    };
    let mut all = Vec::new();
    for _ in 0..8 {
        let (clouds, account) = (clouds.clone(), account.clone());
        all.push(tokio::spawn(async move { clouds.caller(&account).await }));
    }
    for caller in all {
        let caller = caller.await.expect("no panic").expect("we are somebody");
        assert_eq!(caller.account, "210987654321");
        assert_eq!(
            caller.arn,
            "arn:aws:sts::210987654321:assumed-role/second/pipewright-prod"
        );
    }
    // Eight stages, one set of credentials, and one question who they are.
    assert_eq!(
        actions(&front),
        [
            "AssumeRoleWithWebIdentity",
            "AssumeRole",
            "GetCallerIdentity"
        ]
    );
    let seen = front.seen();
    assert_eq!(seen[0].header("authorization"), None);
    assert_eq!(
        field(&seen[0], "RoleArn"),
        Some(format!("arn:aws:iam::{ACCOUNT}:role/first"))
    );
    assert_eq!(
        field(&seen[0], "DurationSeconds"),
        None,
        "only the last role's"
    );
    for (name, value) in [
        ("RoleArn", "arn:aws:iam::210987654321:role/second"),
        ("RoleSessionName", "pipewright-prod"),
        ("DurationSeconds", "900"),
        ("ExternalId", "the external id"),
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "shop"),
    ] {
        assert_eq!(field(&seen[1], name).as_deref(), Some(value), "{name}");
    }
    assert!(field(&seen[1], "Policy").is_some_and(|policy| policy.contains("2012-10-17")));
    // What came up is masked, the token included.
    let masks = Masks::with_late([], late);
    let token = field(&seen[0], "WebIdentityToken").expect("a token");
    assert!(token.ends_with(SIGNATURE));
    assert_eq!(masks.mask(&format!("it was {token}!")), "it was ***!");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_than_allowed_is_refused_before_anything_is_done() {
    let front = Faulty::alone(|request| match field(request, "Action").as_deref() {
        Some("AssumeRoleWithWebIdentity") => answer(
            "AssumeRoleWithWebIdentity",
            &credentials("ASIA1", "2099-01-01T00:00:00Z"),
        ),
        _ => caller("arn:aws:sts::123456789012:assumed-role/ci/pipewright-prod"),
    });
    let dir = tempfile::tempdir().expect("a directory");
    let account = Account {
        allowed: vec!["999999999999".to_owned()],
        ..account(&format!("http://{}", front.address()), dir.path())
    };
    let error = clouds(&LateSecrets::default())
        .caller(&account)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("are for account 123456789012"), "{text}");
    assert!(
        text.contains("only 999999999999 may be worked on"),
        "{text}"
    );
    assert_eq!(
        actions(&front),
        ["AssumeRoleWithWebIdentity", "GetCallerIdentity"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_have_run_out_are_not_fetched_in_a_loop() {
    let front = Faulty::alone(|request| match field(request, "Action").as_deref() {
        Some("AssumeRoleWithWebIdentity") => answer(
            "AssumeRoleWithWebIdentity",
            &credentials("ASIA1", "2015-01-01T00:00:00Z"),
        ),
        _ => caller("arn:aws:sts::123456789012:assumed-role/ci/pipewright-prod"),
    });
    let dir = tempfile::tempdir().expect("a directory");
    let account = account(&format!("http://{}", front.address()), dir.path());
    let clouds = clouds(&LateSecrets::default());
    for _ in 0..20 {
        clouds.caller(&account).await.expect("we are somebody");
    }
    assert_eq!(
        actions(&front),
        ["AssumeRoleWithWebIdentity", "GetCallerIdentity"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_does_not_trust_the_token_says_what_it_would_have_to() {
    let front = Faulty::alone(|_| {
        refusal(
            403,
            "AccessDenied",
            "Not authorized to perform sts:AssumeRoleWithWebIdentity",
        )
    });
    let dir = tempfile::tempdir().expect("a directory");
    let account = account(&format!("http://{}", front.address()), dir.path());
    let error = clouds(&LateSecrets::default())
        .caller(&account)
        .await
        .unwrap_err();
    assert!(matches!(error, CloudError::Denied { .. }), "{error:?}");
    let text = error.to_string();
    for part in [
        "aws `prod` denied sts:AssumeRoleWithWebIdentity",
        "iss https://issuer.example.com, sub repo:acme/shop:ref:refs/heads/main, aud sts.amazonaws.com",
        "Federated arn:aws:iam::123456789012:oidc-provider/issuer.example.com",
        "issuer.example.com:sub matches repo:acme/shop:ref:refs/heads/main",
        "asked for sts:AssumeRoleWithWebIdentity on arn:aws:iam::123456789012:role/ci",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains(SIGNATURE), "{text}");
    assert_eq!(front.seen().len(), 1, "a denial is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_we_may_not_assume_says_who_we_are() {
    let us = "arn:aws:sts::123456789012:assumed-role/ci/pipewright-prod";
    let front = Faulty::alone(move |request| match field(request, "Action").as_deref() {
        Some("AssumeRoleWithWebIdentity") => answer(
            "AssumeRoleWithWebIdentity",
            &credentials("ASIA1", "2099-01-01T00:00:00Z"),
        ),
        Some("AssumeRole") => refusal(
            403,
            "AccessDenied",
            "User: x is not authorized to perform: sts:AssumeRole with ASIA1-session-4711",
        ),
        _ => caller(us),
    });
    let dir = tempfile::tempdir().expect("a directory");
    let mut account = account(&format!("http://{}", front.address()), dir.path());
    account
        .roles
        .push("arn:aws:iam::210987654321:role/deploy".to_owned());
    account.tags.push(("team".to_owned(), "shop".to_owned()));
    let error = clouds(&LateSecrets::default())
        .caller(&account)
        .await
        .unwrap_err();
    let text = error.to_string();
    for part in [
        format!("we are {us} in account 123456789012"),
        "asked for sts:AssumeRole on arn:aws:iam::210987654321:role/deploy".to_owned(),
        format!("must allow sts:AssumeRole and sts:TagSession for {us}"),
    ] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    assert!(!text.contains("4711"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let usable = account("http://127.0.0.1:9", dir.path());
    for (account, says) in [
        (
            Account {
                web_identity: Some(WebIdentity::Issuer(Box::default())),
                ..usable.clone()
            },
            "PIPEWRIGHT_ISSUER_KEY (its key: PEM, or the path of it), and neither is set; `pipewright aws issuer",
        ),
        (
            Account {
                web_identity: Some(WebIdentity::File(dir.path().join("none"))),
                ..usable.clone()
            },
            "cannot read the token file",
        ),
        (
            Account {
                web_identity: Some(WebIdentity::File(dir.path().to_owned())),
                ..usable.clone()
            },
            "it is no small file",
        ),
        (
            Account {
                endpoint: Some("nonsense".to_owned()),
                ..usable.clone()
            },
            "failed at sts:AssumeRoleWithWebIdentity",
        ),
    ] {
        let error = clouds(&LateSecrets::default())
            .caller(&account)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains(says) && text.contains("`prod`"), "{text}");
    }
}

/// A clock that is wrong is put right from the service's own, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_put_right() {
    use pipewright::adapters::aws::AwsSecrets;
    use pipewright::ports::secrets::{SecretReader, SecretSource, Stored, Vault};
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let front = Faulty::alone(move |request| {
        if field(request, "Action").is_some() {
            return answer(
                "AssumeRoleWithWebIdentity",
                &credentials("ASIA1", "2099-01-01T00:00:00Z"),
            );
        }
        let signed = request.header("x-amz-date").unwrap_or("").to_owned();
        let date = vec![("Date", "Fri, 31 Dec 2049 23:00:00 GMT".to_owned())];
        counted.fetch_add(1, Ordering::Relaxed);
        if signed.starts_with("20491231T23") {
            return Reply::Answer(200, date, r#"{"SecretString":"right"}"#.to_owned());
        }
        let body = r#"{"__type":"InvalidSignatureException","message":"Signature expired"}"#;
        Reply::Answer(400, date, body.to_owned())
    });
    let dir = tempfile::tempdir().expect("a directory");
    let account = account(&format!("http://{}", front.address()), dir.path());
    let secrets = AwsSecrets::new(clouds(&LateSecrets::default()));
    let source = SecretSource::Stored {
        account: Arc::new(account),
        place: Stored {
            store: Vault::SecretsManager,
            name: "x".to_owned(),
            key: None,
            version: None,
            version_id: None,
        },
    };
    for _ in 0..3 {
        assert_eq!(
            secrets.read(&source).await.expect("a secret").expose(),
            "right"
        );
    }
    assert_eq!(tries.load(Ordering::Relaxed), 4, "only the first was wrong");
    let last = front.seen().pop().expect("a request");
    let authorization = last.header("authorization").expect("signed").to_owned();
    let scope = format!("/20491231/{REGION}/secretsmanager/aws4_request");
    assert!(authorization.contains(&scope), "{authorization}");
    assert_eq!(
        last.header("x-amz-target"),
        Some("secretsmanager.GetSecretValue")
    );
    assert_eq!(
        last.header("x-amz-security-token"),
        Some("ASIA1-session-4711")
    );
}

/// Tokens that are refused for another reason than the role's trust.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_says_why() {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let dir = tempfile::tempdir().expect("a directory");
    for (end, code, says) in [
        (
            1_000_000_000_u64,
            "ExpiredTokenException",
            "the token ran out at 2001-09-09T01:46:40Z: whoever writes it has to write a new one",
        ),
        (
            4_000_000_000,
            "ExpiredTokenException",
            "the token ran out, by the clock of AWS",
        ),
        (
            4_000_000_000,
            "IDPCommunicationError",
            "https://issuer.example.com/.well-known/openid-configuration and what it names must answer AWS",
        ),
        (
            4_000_000_000,
            "InvalidIdentityToken",
            "that identity provider must exist with this audience",
        ),
    ] {
        let front = Faulty::alone(move |_| refusal(400, code, "no"));
        let payload = format!(
            r#"{{"iss":"https://issuer.example.com","sub":"s","aud":"sts.amazonaws.com","exp":{end}}}"#
        );
        let token = format!("{}.{}.{SIGNATURE}", encode("{}"), encode(&payload));
        let path = dir.path().join("own-token");
        std::fs::write(&path, token).expect("write");
        let account = Account {
            web_identity: Some(WebIdentity::File(path)),
            ..account(&format!("http://{}", front.address()), dir.path())
        };
        let late = LateSecrets::default();
        let error = clouds(&late).caller(&account).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(says), "{code}: {text}");
        assert!(!text.contains(SIGNATURE), "{text}");
    }
}
