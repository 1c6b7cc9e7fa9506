//! The shared HTTP client's ways to a server: TLS and its certificates, plain HTTP, proxies.

use pipewright::ports::Retry;
use pipewright::ports::registry::{Login, RegistryReader as _, Target};

use crate::registry::{basic, client, page, plain, push};
use crate::support::faulty::{Faulty, Reply};
use crate::support::registry::{Registry, RegistryOptions};

#[tokio::test]
async fn plain_http_is_never_assumed() {
    let registry = Registry::start(RegistryOptions::default());
    let proxy = Faulty::before(registry.address(), |_| Reply::Pass);
    let target = Target {
        plain_http: false,
        ..plain(&proxy)
    };
    let error = client().tags(&target, "app").await.unwrap_err();
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    assert_eq!(error.retry(), Retry::Never);
    assert_eq!(proxy.seen().len(), 0, "not one request in the clear");
}

/// Runs itself again in a process whose trusted certificates are the registry's.
#[tokio::test]
async fn tls_is_used_and_certificates_are_checked() {
    const CHILD: &str = "PIPEWRIGHT_TEST_TLS_REGISTRY";
    if let Ok(host) = std::env::var(CHILD) {
        let target = Target {
            host,
            plain_http: false,
            login: basic("carl", "pa55word"),
        };
        let digest = push(&client(), &target, "app", "v1").await;
        let found = client().digest(&target, "app", "v1").await.unwrap();
        assert_eq!(found, Some(digest));
        return;
    }
    let registry = Registry::start(RegistryOptions {
        login: Some(("carl", "pa55word")),
        tls: true,
    });
    let error = client().tags(&registry.target(), "app").await.unwrap_err();
    assert!(
        error.to_string().contains("certificate is not trusted"),
        "{error}"
    );
    assert_eq!(error.retry(), Retry::Never);

    let certificate = registry.certificate().display().to_string();
    again(
        "http::tls_is_used_and_certificates_are_checked",
        &[
            (CHILD, &registry.host()),
            ("SSL_CERT_FILE", &certificate),
            // Not asked for what is on this machine.
            ("HTTPS_PROXY", "http://127.0.0.1:1"),
        ],
    );
}

/// Runs itself again in a process that has a proxy.
#[tokio::test]
async fn a_proxy_of_the_environment_is_used() {
    const CHILD: &str = "PIPEWRIGHT_TEST_PROXIED_REGISTRY";
    if std::env::var(CHILD).is_ok() {
        let target = Target {
            host: "registry.invalid".to_owned(),
            plain_http: true,
            login: Login::Ambient,
        };
        assert_eq!(client().tags(&target, "app").await.unwrap(), ["far"]);
        return;
    }
    let proxy = Faulty::alone(|_| page(&["far"], None));
    again(
        "http::a_proxy_of_the_environment_is_used",
        &[
            (CHILD, "yes"),
            ("HTTP_PROXY", &format!("http://{}", proxy.address())),
        ],
    );
    assert_eq!(proxy.count("GET http://registry.invalid/v2/app/"), 1);
}

/// Runs one test of this binary in a process with another environment.
pub fn again(test: &str, environment: &[(&str, &str)]) {
    let program = std::env::current_exe().expect("this binary has a path");
    let output = std::process::Command::new(program)
        .args(["--exact", test])
        .env_remove("SSL_CERT_DIR")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .envs(environment.iter().copied())
        .output()
        .expect("this binary runs");
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{words}");
    assert!(words.contains("1 passed"), "{words}");
}
