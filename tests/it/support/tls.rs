//! Certificates of an authority of our own, and TLS before a server that speaks none. Made by
//! `openssl`, so that nothing of what is tested has made them.
#![expect(
    clippy::disallowed_methods,
    reason = "tests write real files and run real programs"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A certificate and its key, as PEM files.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// An authority whose files are in a directory.
pub struct Authority {
    directory: PathBuf,
    own: Pair,
}

impl Authority {
    pub fn new(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).expect("a directory");
        let own = pair(directory, "authority");
        let constraint = "basicConstraints=critical,CA:TRUE";
        make(&own, "authority", constraint, None);
        let directory = directory.to_owned();
        Self { directory, own }
    }

    /// Its own certificate.
    pub fn certificate(&self) -> &Path {
        &self.own.certificate
    }

    /// A certificate of a server: `IP:127.0.0.1`.
    pub fn server(&self, name: &str) -> Pair {
        let made = pair(&self.directory, "server");
        let extension = format!("subjectAltName={name}");
        make(&made, "server", &extension, Some(&self.own));
        made
    }

    /// A certificate of a client.
    pub fn client(&self, name: &str) -> Pair {
        let made = pair(&self.directory, name);
        make(&made, name, "extendedKeyUsage=clientAuth", Some(&self.own));
        made
    }
}

fn pair(directory: &Path, name: &str) -> Pair {
    Pair {
        certificate: directory.join(format!("{name}.crt")),
        key: directory.join(format!("{name}.key")),
    }
}

fn make(pair: &Pair, name: &str, extension: &str, authority: Option<&Pair>) {
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", extension]);
    if let Some(authority) = authority {
        command
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-CA")
            .arg(&authority.certificate)
            .arg("-CAkey")
            .arg(&authority.key);
    }
    let output = command
        .arg("-out")
        .arg(&pair.certificate)
        .arg("-keyout")
        .arg(&pair.key)
        .output()
        .expect("openssl runs (Debian package openssl)");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl: {words}");
}

/// TLS before a server, on a thread of its own. Stops when dropped.
pub struct Tls {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Tls {
    /// Shows a certificate; wants one of `clients` if there is such an authority.
    pub fn before(real: SocketAddr, shown: &Pair, clients: Option<&Authority>) -> Self {
        let chain = CertificateDer::from_pem_file(&shown.certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&shown.key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions");
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let trusted = CertificateDer::from_pem_file(authority.certificate());
                let mut roots = rustls::RootCertStore::empty();
                let added = roots.add(trusted.expect("a certificate"));
                added.expect("an authority");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let config = config.with_single_cert(vec![chain], key);
        let config = Arc::new(config.expect("they belong together"));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("the port just bound");
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                listener.set_nonblocking(true).expect("nonblocking");
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, real, config) => {}
                }
            });
        });
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, real: SocketAddr, config: Arc<rustls::ServerConfig>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // Who is refused hangs up, and either side may.
            if let Ok(mut near) = acceptor.accept(stream).await {
                let mut far = TcpStream::connect(real).await.expect("it runs");
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
