//! Where the engine is: `DOCKER_HOST` and its relatives, and how a byte stream to it is opened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// The socket used when nothing else is said.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    /// The name under which a pipeline declares it.
    name: Option<String>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
    },
    Tls {
        host: String,
        port: u16,
        certificates: PathBuf,
    },
}

/// A text that names no engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no engine's address: {message}")]
pub struct AddressError {
    text: String,
    /// What is wrong with it.
    pub message: &'static str,
}

impl Address {
    /// Reads `unix:///path`, `tcp://host[:port]`, `http://…` or `https://…`. With a directory of
    /// certificates (`ca.pem`, `cert.pem`, `key.pem`) the connection is encrypted and verified.
    pub fn parse(text: &str, certificates: Option<&Path>) -> Result<Self, AddressError> {
        let fail = |message| AddressError {
            text: text.chars().take(200).collect(),
            message,
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| fail("write unix:///path or tcp://host:port"))?;
        let kind = match scheme {
            "unix" if rest.starts_with('/') => Kind::Unix(PathBuf::from(rest)),
            "unix" => return Err(fail("the path of a socket must be absolute")),
            "tcp" | "http" | "https" => {
                let rest = rest.trim_end_matches('/');
                if rest.contains(['/', '?', '#', '@']) {
                    return Err(fail("only a host and a port may follow"));
                }
                let encrypted = scheme == "https" || (scheme == "tcp" && certificates.is_some());
                let (host, port) = match rest.rsplit_once(':') {
                    Some((host, port)) if !port.contains(']') => (
                        host,
                        port.parse().map_err(|_| fail("the port is no number"))?,
                    ),
                    _ => (rest, if encrypted { 2376 } else { 2375 }),
                };
                let host = host
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .to_owned();
                let host = if host.is_empty() {
                    "127.0.0.1".to_owned()
                } else {
                    host
                };
                match (encrypted, certificates) {
                    (true, Some(path)) => Kind::Tls {
                        host,
                        port,
                        certificates: path.to_owned(),
                    },
                    (true, None) => {
                        return Err(fail("set DOCKER_CERT_PATH for an encrypted engine"));
                    }
                    (false, _) => Kind::Tcp { host, port },
                }
            }
            "ssh" => {
                return Err(fail(
                    "ssh is not supported; forward the remote socket with `ssh -L` and name that",
                ));
            }
            _ => return Err(fail("the scheme must be unix or tcp")),
        };
        Ok(Self {
            text: text.to_owned(),
            name: None,
            kind,
        })
    }

    /// The address of an engine that a pipeline declares.
    #[must_use]
    pub fn of_engine(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The name under which a pipeline declares the engine.
    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether it is a socket of this host.
    pub(super) fn is_socket(&self) -> bool {
        matches!(self.kind, Kind::Unix(_))
    }

    /// Opens a byte stream to the engine.
    pub(super) async fn open(&self) -> io::Result<Wire> {
        match &self.kind {
            Kind::Unix(path) => Ok(Wire::new(UnixStream::connect(path).await?)),
            Kind::Tcp { host, port } => Ok(Wire::new(tcp(host, *port).await?)),
            Kind::Tls {
                host,
                port,
                certificates,
            } => {
                let config = tls_config(certificates).await?;
                let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
                let stream = tcp(host, *port).await?;
                let stream = TlsConnector::from(Arc::new(config))
                    .connect(name, stream)
                    .await?;
                Ok(Wire::new(stream))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn tls_config(directory: &Path) -> io::Result<rustls::ClientConfig> {
    let read = async |name: &str| {
        let path = directory.join(name);
        tokio::fs::read(&path)
            .await
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    };
    let (ca, cert, key) = (
        read("ca.pem").await?,
        read("cert.pem").await?,
        read("key.pem").await?,
    );
    let bad = |what: &str| {
        io::Error::other(format!(
            "{}: not a PEM file",
            directory.join(what).display()
        ))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&ca) {
        let certificate = certificate.map_err(|_| bad("ca.pem"))?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    let chain = CertificateDer::pem_slice_iter(&cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| bad("cert.pem"))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| bad("key.pem"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(io::Error::other)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A byte stream to the engine, whatever carries it.
pub(super) struct Wire(Box<dyn Stream>);

impl Wire {
    /// A stream of any kind.
    pub(super) fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_people_write() {
        let parse = |text: &str| Address::parse(text, None).expect("valid").kind;
        assert_eq!(
            parse("unix:///run/d.sock"),
            Kind::Unix("/run/d.sock".into())
        );
        let tcp = |host: &str, port| Kind::Tcp {
            host: host.to_owned(),
            port,
        };
        assert_eq!(
            parse("tcp://build.example:1234"),
            tcp("build.example", 1234)
        );
        assert_eq!(parse("tcp://[::1]:1234/"), tcp("::1", 1234));
        assert_eq!(parse("tcp://[::1]"), tcp("::1", 2375));
        assert_eq!(parse("tcp://"), tcp("127.0.0.1", 2375));
        let tls = Address::parse("tcp://h", Some(Path::new("/c"))).expect("valid");
        assert!(matches!(tls.kind, Kind::Tls { port: 2376, .. }), "{tls:?}");
    }

    #[test]
    fn addresses_that_make_no_sense_say_why() {
        for (text, part) in [
            ("docker.sock", "write unix:///path"),
            ("unix://docker.sock", "absolute"),
            ("tcp://h:port", "no number"),
            ("tcp://h:1/path", "only a host"),
            ("https://h:1", "DOCKER_CERT_PATH"),
            ("ssh://me@h", "ssh"),
            ("npipe:////./pipe", "scheme"),
        ] {
            let error = Address::parse(text, None).expect_err(text).to_string();
            assert!(error.contains(part) && error.contains(text), "{error}");
        }
    }
}
