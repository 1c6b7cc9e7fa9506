//! A remote behind TLS: read, commit and push, and what is not trusted.

use std::path::Path;
use std::sync::Arc;

use pipewright::adapters::git::GitRemotes;
use pipewright::adapters::http::Http;
use pipewright::ports::vcs::{PushOutcome, Remote, Vcs as _, VcsError, VcsReader as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};

use super::remote::{edit, paths, setup, token};
use crate::http::again;
use crate::support::registry::certify;
use crate::support::repo::git;

const FILE: &str = "deploy/values.yaml";

/// Puts TLS before a server, for as long as the runtime lives. Returns its port.
async fn behind_tls(port: u16, certificate: &Path, key: &Path) -> u16 {
    let chain = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .expect("they belong together");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let own = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut near) = acceptor.accept(stream).await else {
                    return;
                };
                let mut far = TcpStream::connect(("127.0.0.1", port))
                    .await
                    .expect("it runs");
                // Either side may hang up.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    own
}

/// Runs itself again in a process that trusts the server's certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_remote_behind_tls_is_read_and_written() {
    const URL: &str = "PIPEWRIGHT_TEST_TLS_GIT";
    const TOKEN: &str = "PIPEWRIGHT_TEST_TLS_GIT_TOKEN";
    let remote = |url: &str, secret: &str| Remote {
        url: url.to_owned(),
        branch: "main".to_owned(),
        access: token(secret),
    };
    let state = tempfile::tempdir().expect("a directory");
    let remotes = GitRemotes::new(state.path(), Http::new());
    if let (Ok(url), Ok(secret)) = (std::env::var(URL), std::env::var(TOKEN)) {
        let there = remote(&url, &secret);
        let before = remotes
            .snapshot(&there, &paths(&[FILE]))
            .await
            .expect("read");
        assert_eq!(before.files[FILE], b"tag: one\n");
        // More than one buffer, so that it is sent in pieces.
        let large = "0123456789abcdef\n".repeat(100_000);
        let change = edit(&before.commit, &[(FILE, "tag: two\n"), ("large", &large)]);
        let commit = remotes.commit(&there, &change).await.expect("made");
        let pushed = remotes.push(&there, &commit).await.expect("sent");
        assert_eq!(pushed, PushOutcome::Pushed);
        let after = remotes
            .snapshot(&there, &paths(&[FILE]))
            .await
            .expect("read");
        assert_eq!(after.commit, commit);
        let denied = remotes.snapshot(&remote(&url, "wrong"), &[]).await;
        assert!(matches!(denied, Err(VcsError::Denied { .. })), "{denied:?}");
        return;
    }
    let s = setup();
    let (certificate, key) = (state.path().join("cert"), state.path().join("key"));
    certify(&certificate, &key);
    let port = behind_tls(s.server.port(), &certificate, &key).await;
    let url = format!("https://127.0.0.1:{port}/group/app.git");
    let error = remotes.snapshot(&remote(&url, s.server.token()), &[]).await;
    let text = error.expect_err("nobody vouches for it").to_string();
    assert!(text.contains("certificate is not trusted"), "{text}");

    let certificate = certificate.display().to_string();
    let secret = s.server.token().to_owned();
    tokio::task::spawn_blocking(move || {
        again(
            "git::tls::a_remote_behind_tls_is_read_and_written",
            &[
                (URL, &url),
                (TOKEN, &secret),
                ("SSL_CERT_FILE", &certificate),
            ],
        );
    })
    .await
    .expect("the other process says so");
    assert_eq!(
        git(&s.bare, &["show", "main:deploy/values.yaml"]),
        "tag: two"
    );
}
