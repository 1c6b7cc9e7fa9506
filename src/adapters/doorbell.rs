//! Takes notifications of registries over HTTP. A request that does not show the secret learns
//! nothing, and what a notification says is only passed on as the name of a repository.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

use crate::base::Secret;
use crate::formats::notification::{LARGEST, repositories};
use crate::ports::doorbell::Doorbell;

/// Connections at a time.
const CONNECTIONS: usize = 32;
/// Longest time for one connection.
const PATIENCE: Duration = Duration::from_secs(15);
/// Names that are kept while nobody waits.
const WAITING: usize = 100;
/// Header of a signature with a shared key, as GitHub and others send it.
const SIGNATURE: &str = "x-hub-signature-256";

/// A listening socket and what rang.
#[derive(Debug)]
pub struct HttpDoorbell {
    address: SocketAddr,
    rung: Arc<Rung>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Rung {
    names: Mutex<Vec<String>>,
    notify: Notify,
}

impl HttpDoorbell {
    /// Listens.
    pub async fn listen(address: SocketAddr, secret: Secret) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let rung = Arc::new(Rung::default());
        let task = tokio::spawn(serve(listener, Arc::new(secret), Arc::clone(&rung)));
        Ok(Self {
            address,
            rung,
            task,
        })
    }
}

impl Drop for HttpDoorbell {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl Doorbell for HttpDoorbell {
    async fn rung(&self) -> Vec<String> {
        loop {
            let notified = self.rung.notify.notified();
            let names = std::mem::take(&mut *lock(&self.rung.names));
            if !names.is_empty() {
                return names;
            }
            notified.await;
        }
    }

    fn address(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn lock(names: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    // Nothing that holds the lock can leave it half changed.
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, secret: Arc<Secret>, rung: Arc<Rung>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let (secret, rung) = (Arc::clone(&secret), Arc::clone(&rung));
                connections.spawn(async move {
                    let _place = place;
                    let talk = connection(stream, secret, rung);
                    // Whoever is slow is cut off; the sender tries again.
                    let _ = tokio::time::timeout(PATIENCE, talk).await;
                });
            }
            // Out of descriptors, or the peer is gone already.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn connection(stream: TcpStream, secret: Arc<Secret>, rung: Arc<Rung>) {
    let service = service_fn(move |request| {
        let (secret, rung) = (Arc::clone(&secret), Arc::clone(&rung));
        async move { Ok::<_, Infallible>(answer(request, &secret, &rung).await) }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 << 10);
    // A broken connection is the sender's trouble.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, secret: &Secret, rung: &Rung) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let open = shows(head.uri.path(), &head.headers, secret);
    let signature = head.headers.get(SIGNATURE).cloned();
    if !open && signature.is_none() {
        return say(StatusCode::UNAUTHORIZED, "the secret is missing or wrong\n");
    }
    if head.method != Method::POST {
        return say(StatusCode::METHOD_NOT_ALLOWED, "notifications are posted\n");
    }
    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
        return say(StatusCode::PAYLOAD_TOO_LARGE, "it is too large\n");
    };
    let body = body.to_bytes();
    let signed = || {
        let text = signature.as_ref()?.to_str().ok()?;
        let expected = hmac(secret.expose().as_bytes(), &body);
        Some(same(
            text.trim_start_matches("sha256=").as_bytes(),
            expected.as_bytes(),
        ))
    };
    if !open && signed() != Some(true) {
        return say(StatusCode::UNAUTHORIZED, "the signature is wrong\n");
    }
    match repositories(&body) {
        Ok(names) => {
            let mut waiting = lock(&rung.names);
            for name in names {
                if waiting.len() < WAITING && !waiting.contains(&name) {
                    waiting.push(name);
                }
            }
            drop(waiting);
            rung.notify.notify_one();
            say(StatusCode::ACCEPTED, "thank you\n")
        }
        Err(error) => say(StatusCode::BAD_REQUEST, &format!("{error}\n")),
    }
}

fn say(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response
}

/// Whether a request shows the secret: as the last part of its path, or as its authorization.
fn shows(path: &str, headers: &HeaderMap, secret: &Secret) -> bool {
    let secret = secret.expose().as_bytes();
    let last = path.rsplit('/').next().unwrap_or("");
    let header = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    let header = header.map_or("", |it| it.strip_prefix("Bearer ").unwrap_or(it));
    // Both, so that the time tells nothing of which was close.
    same(last.as_bytes(), secret) | same(header.as_bytes(), secret)
}

/// Compares in a time that depends on neither: digests of both are compared.
fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter().zip(&b).fold(0, |odd, (a, b)| odd | (a ^ b)) == 0
}

/// HMAC-SHA-256 as hexadecimal digits (RFC 2104).
fn hmac(key: &[u8], message: &[u8]) -> String {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(message)
        .finalize();
    let outer = Sha256::new()
        .chain_update(pad(0x5c))
        .chain_update(inner)
        .finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::http::Http;

    #[test]
    fn signatures_are_those_of_the_standard() {
        // RFC 4231, cases 2 and 6.
        assert_eq!(
            hmac(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hmac(
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First"
            ),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }

    async fn post(
        doorbell: &HttpDoorbell,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> u16 {
        let address = format!("{}{path}", doorbell.address());
        let address = address.parse().expect("an address");
        let mut request = reqwest::Request::new(reqwest::Method::POST, address);
        for (name, value) in headers {
            let name: reqwest::header::HeaderName = name.parse().expect("a name");
            request
                .headers_mut()
                .insert(name, value.parse().expect("a value"));
        }
        *request.body_mut() = Some(body.to_owned().into());
        let answer = Http::new().send(request).await.expect("it answers");
        answer.status().as_u16()
    }

    #[tokio::test]
    async fn only_the_secret_rings() {
        let secret = "correct horse battery".replace(' ', "-");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let bell = HttpDoorbell::listen(address, Secret::new(secret.clone()))
            .await
            .unwrap();
        let body = r#"{"repository":"acme/app","updated_tags":["v1"]}"#;
        let signature = format!("sha256={}", hmac(secret.as_bytes(), body.as_bytes()));
        for (path, headers, body, status) in [
            ("/", vec![], body, 401),
            ("/hook/wrong", vec![], body, 401),
            ("/", vec![("authorization", "Bearer wrong")], body, 401),
            ("/", vec![(SIGNATURE, "sha256=00")], body, 401),
            ("/", vec![(SIGNATURE, signature.as_str())], "{}", 401),
            (&format!("/hook/{secret}"), vec![], "{}", 400),
        ] {
            assert_eq!(
                post(&bell, path, &headers, body).await,
                status,
                "{path} {headers:?}"
            );
        }
        assert!(lock(&bell.rung.names).is_empty(), "nothing rang so far");
        for (path, headers) in [
            (format!("/hook/{secret}"), vec![]),
            (
                "/".to_owned(),
                vec![("authorization", format!("Bearer {secret}"))],
            ),
            ("/".to_owned(), vec![("authorization", secret.clone())]),
            ("/".to_owned(), vec![(SIGNATURE, signature.clone())]),
        ] {
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            assert_eq!(post(&bell, &path, &headers, body).await, 202, "{headers:?}");
            assert_eq!(bell.rung().await, ["acme/app"]);
        }
        let large = "x".repeat(LARGEST + 1);
        assert_eq!(post(&bell, &format!("/{secret}"), &[], &large).await, 413);
    }
}
