//! How the registry adapter gets in: logins, docker configurations, token servers; and where its
//! credentials never go.

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pipewright::adapters::registry::{DockerConfig, IDENTITY_USER};
use pipewright::base::{Digest, Secret};
use pipewright::ports::registry::{
    Login, Registry as _, RegistryError, RegistryReader as _, Target,
};

use crate::registry::{OCI, basic, client, client_as, plain, push};
use crate::support::faulty::{Faulty, Reply};
use crate::support::registry::{Registry, RegistryOptions};

#[tokio::test]
async fn basic_logins() {
    let options = RegistryOptions {
        login: Some(("carl", "s3cr:et pass")),
        tls: false,
    };
    let registry = Registry::start(options);
    let (client, target) = (client(), registry.target());
    let digest = push(&client, &target, "app", "v1").await;
    let found = client.digest(&target, "app", "v1").await.unwrap();
    assert_eq!(found, Some(digest.clone()));

    let wrong = Target {
        login: basic("carl", "wr0ngpass"),
        ..target.clone()
    };
    let error = client.manifest(&wrong, "app", "v1").await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("UNAUTHORIZED") && !text.contains("wr0ngpass"),
        "{text}"
    );

    let nobody = Target {
        login: Login::Ambient,
        ..target.clone()
    };
    let error = client.digest(&nobody, "app", "v1").await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("`docker login "), "{error}");
    assert_eq!(client.resolve(&nobody).await.unwrap(), None);

    // From the docker configuration, in each of its shapes.
    let host = registry.host();
    let auth = STANDARD.encode("carl:s3cr:et pass");
    let helper = "#!/bin/sh\nread host\nprintf '{\"ServerURL\":\"%s\",\"Username\":\"carl\",\"Secret\":\"s3cr:et pass\"}' \"$host\"\n";
    for config in [
        format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#),
        format!(
            r#"{{"auths":{{"http://{host}/v1/":{{"username":"carl","password":"s3cr:et pass"}}}}}}"#
        ),
        format!(r#"{{"credHelpers":{{"{host}":"real"}},"credsStore":"none"}}"#),
        r#"{"credsStore":"real"}"#.to_owned(),
    ] {
        let dir = docker_config(&config, &[("real", helper)]);
        let client = client_as(DockerConfig::at(dir.path()).with_helpers_in(dir.path()));
        let found = client.digest(&nobody, "app", "v1").await;
        assert_eq!(found.expect(&config), Some(digest.clone()), "{config}");
        let resolved = client.resolve(&nobody).await.unwrap();
        let expected = Some(("carl".to_owned(), Secret::new("s3cr:et pass")));
        assert_eq!(resolved, expected, "{config}");
    }
    for (config, says) in [
        ("{", "config.json: not valid JSON at line 1"),
        (
            r#"{"credsStore":"none"}"#,
            "docker-credential-none: it is named in the docker",
        ),
        (
            r#"{"credsStore":"bad"}"#,
            "docker-credential-bad: the keychain is locked",
        ),
    ] {
        let dir = docker_config(
            config,
            &[("bad", "#!/bin/sh\necho the keychain is locked; exit 1\n")],
        );
        let client = client_as(DockerConfig::at(dir.path()).with_helpers_in(dir.path()));
        let error = client
            .digest(&nobody, "app", "v1")
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }
}

fn docker_config(config: &str, helpers: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory for the configuration");
    let written = std::fs::write(dir.path().join("config.json"), config);
    written.expect("the configuration can be written");
    for (name, script) in helpers {
        let path = dir.path().join(format!("docker-credential-{name}"));
        // Written by a process of its own: a script that this process has open for writing when
        // another test forks cannot be run.
        let mut child = Command::new("tee")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("tee runs");
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        let written = stdin.write_all(script.as_bytes());
        written.expect("tee takes the script");
        drop(stdin);
        assert!(child.wait().is_ok_and(|status| status.success()));
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("the script can be made executable");
    }
    dir
}

/// A registry in front of a real one that lets in only whom its token server gave a token.
fn guarded(registry: &Registry, lasts: u64) -> Faulty {
    let mut tokens: HashMap<String, Vec<String>> = HashMap::new();
    Faulty::before(registry.address(), move |request| {
        let host = request.header("host").unwrap_or("").to_owned();
        let authorization = request.header("authorization").unwrap_or("").to_owned();
        if let Some((_, query)) = request.path.split_once("/token") {
            let query = format!("{query}&{}", String::from_utf8_lossy(&request.body));
            assert!(query.contains("service=the%2C+registry"), "{query}");
            let carl = format!("Basic {}", STANDARD.encode("carl:pa55word"));
            let known = authorization == carl || query.contains("refresh_token=idt0ken");
            if !known && !authorization.is_empty() {
                let body = format!(r#"{{"details":"who is {authorization}, with wr0ngpass?"}}"#);
                return Reply::Answer(401, vec![], body);
            }
            let scopes = query
                .split(['&', '?'])
                .filter_map(|pair| pair.strip_prefix("scope="))
                .map(|scope| {
                    scope
                        .replace("%3A", ":")
                        .replace("%2C", ",")
                        .replace("%2F", "/")
                })
                // Strangers may only read.
                .filter(|scope| known || !scope.contains("push"))
                .collect();
            let token = format!("t0ken{}", tokens.len());
            tokens.insert(token.clone(), scopes);
            let name = if request.method == "POST" {
                "access_token"
            } else {
                "token"
            };
            let body = format!(r#"{{"{name}":"{token}","expires_in":{lasts}}}"#);
            return Reply::Answer(200, vec![], body);
        }
        let repository = request.path.split('/').nth(2).unwrap_or("");
        let reads = matches!(request.method.as_str(), "GET" | "HEAD");
        let need = if reads { "pull" } else { "pull,push" };
        let scopes = authorization
            .strip_prefix("Bearer ")
            .and_then(|token| tokens.get(token));
        let allowed = scopes.is_some_and(|scopes| {
            scopes
                .iter()
                .any(|scope| scope.starts_with(&format!("repository:{repository}:{need}")))
        });
        if allowed {
            return Reply::Pass;
        }
        let challenge = format!(
            "Bearer realm=\"http://{host}/token\",service=\"the, registry\",scope=\"repository:{repository}:{need}\""
        );
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        Reply::Answer(401, vec![("WWW-Authenticate", challenge)], body.to_owned())
    })
}

#[tokio::test]
async fn tokens_are_fetched_used_and_kept() {
    let registry = Registry::start(RegistryOptions::default());
    let server = guarded(&registry, 300);
    let (client, target) = (
        client(),
        Target {
            login: basic("carl", "pa55word"),
            ..plain(&server)
        },
    );
    let digest = push(&client, &target, "app", "v1").await;
    assert_eq!(
        server.count("GET /token"),
        1,
        "one token for the whole push"
    );
    for _ in 0..3 {
        let found = client.digest(&target, "app", "v1").await.unwrap();
        assert_eq!(found, Some(digest.clone()));
    }
    assert_eq!(server.count("GET /token"), 2, "and one to read");
    let blob = client
        .put_blob(&target, "other", b"{}", None)
        .await
        .unwrap();
    let mounted = client
        .put_blob(&target, "app", b"{}", Some("other"))
        .await
        .unwrap();
    assert_eq!(blob, mounted);
    let mount = server
        .seen()
        .into_iter()
        .find(|one| one.path.contains("mount="))
        .unwrap();
    let tokens: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|one| one.is("GET /token"))
        .collect();
    let scopes = &tokens.last().unwrap().path;
    assert!(
        scopes.contains("app%3Apull%2Cpush&scope=repository%3Aother%3Apull"),
        "{scopes}"
    );
    assert!(
        mount
            .header("authorization")
            .unwrap()
            .starts_with("Bearer ")
    );

    // The password goes to the token server only, and the token only to the registry.
    for request in server.seen() {
        let authorization = request.header("authorization").unwrap_or("");
        assert_eq!(
            authorization.starts_with("Basic "),
            request.is("GET /token"),
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn strangers_and_wrong_passwords_at_a_token_server() {
    let registry = Registry::start(RegistryOptions::default());
    let server = guarded(&registry, 300);
    let digest = push(&client(), &registry.target(), "app", "v1").await;
    let nobody = plain(&server);
    let found = client().digest(&nobody, "app", "v1").await.unwrap();
    assert_eq!(found, Some(digest), "strangers may read");
    let error = client()
        .put_blob(&nobody, "app", b"new", None)
        .await
        .unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("(there is no login for 127.0.0.1:"),
        "{error}"
    );

    let wrong = Target {
        login: basic("carl", "wr0ngpass"),
        ..nobody.clone()
    };
    let error = client().digest(&wrong, "app", "v1").await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("a token for manifest app:v1: who is Basic ***, with ***?"),
        "{text}"
    );

    let host = &nobody.host;
    let config = format!(r#"{{"auths":{{"{host}":{{"identitytoken":"idt0ken"}}}}}}"#);
    let dir = docker_config(&config, &[]);
    let client = client_as(DockerConfig::at(dir.path()));
    push(&client, &nobody, "app", "v2").await;
    assert_eq!(server.count("POST /token"), 1);
    let expected = Some((IDENTITY_USER.to_owned(), Secret::new("idt0ken")));
    assert_eq!(client.resolve(&nobody).await.unwrap(), expected);
}

#[tokio::test]
async fn tokens_that_run_out_are_renewed() {
    let registry = Registry::start(RegistryOptions::default());
    push(&client(), &registry.target(), "app", "v1").await;
    // Tokens that are over before they are used are not kept, and do not make us turn in a circle.
    let short = guarded(&registry, 0);
    let reader = client();
    for n in 1..4 {
        reader.digest(&plain(&short), "app", "v1").await.unwrap();
        assert_eq!(short.count("GET /token"), n);
    }
    // A token that the registry no longer takes is replaced once; then it is a denial.
    let mut given = 0;
    let mut taken = 1;
    let server = Faulty::before(registry.address(), move |request| {
        if request.is("GET /token") {
            given += 1;
            return Reply::Answer(200, vec![], format!(r#"{{"token":"n{given}"}}"#));
        }
        if request.header("authorization") == Some(&format!("Bearer n{taken}")) {
            if request.method == "GET" {
                // From now on only the next but one.
                taken += 2;
            }
            return Reply::Pass;
        }
        let realm = format!(
            "Bearer realm=\"http://{}/token\"",
            request.header("host").unwrap()
        );
        if request.header("authorization") == Some("Bearer n1") {
            // Expired in the way of some: forbidden, without a challenge.
            taken = 2;
            return Reply::status(403);
        }
        Reply::Answer(401, vec![("WWW-Authenticate", realm)], String::new())
    });
    let (reader, target) = (client(), plain(&server));
    reader
        .manifest(&target, "app", "v1")
        .await
        .unwrap()
        .unwrap();
    reader
        .manifest(&target, "app", "v1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(server.count("GET /token"), 2);
    let error = reader.manifest(&target, "app", "v1").await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    assert_eq!(server.count("GET /token"), 3);
}

#[tokio::test]
async fn a_login_stays_with_its_host() {
    let blob = b"far away".to_vec();
    let body = String::from_utf8(blob.clone()).unwrap();
    let storage = Faulty::alone(move |request| match request.header("authorization") {
        Some(_) => Reply::status(400),
        None => Reply::Answer(200, vec![], body.clone()),
    });
    let away = format!("http://{}/bucket?signature=s", storage.address());
    let server = Faulty::alone(move |request| match request.header("authorization") {
        Some(_) => Reply::Answer(307, vec![("Location", away.clone())], String::new()),
        None => Reply::Answer(
            401,
            vec![("WWW-Authenticate", "Basic realm=x".to_owned())],
            String::new(),
        ),
    });
    let target = Target {
        login: basic("carl", "pa55word"),
        ..plain(&server)
    };
    let read = client()
        .blob(&target, "app", &Digest::of(&blob))
        .await
        .unwrap();
    assert_eq!(read, Some(blob));
    assert_eq!(storage.seen().len(), 1);
    // What we write goes nowhere else at all.
    let error = client()
        .put_manifest(&target, "app", "v1", OCI, b"{}")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("to another host"), "{error}");
    assert!(!error.to_string().contains("signature"), "{error}");
    assert_eq!(storage.seen().len(), 1);
}
