//! A door on this machine to a repository behind TLS: libgit2 speaks plain HTTP with it, and it
//! speaks HTTPS with the other side, by the client that everything else here uses.
//!
//! libgit2's own TLS reads every certificate of the system before it does anything, whether a remote
//! is used or not, and that is most of what a short command costs. The door is on the loopback
//! address, has a name that cannot be guessed, leads to one host only, and is closed with the
//! operation that opened it. It changes nothing of what passes and follows no redirect.

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{
    CONNECTION, HOST, HeaderMap, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::adapters::http::Http;

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// An open door; closed when dropped.
#[derive(Debug)]
pub(super) struct Gateway {
    url: String,
    way: Arc<Way>,
    server: JoinHandle<()>,
}

/// Where it leads.
#[derive(Debug)]
struct Way {
    http: Http,
    /// `/` and what cannot be guessed.
    name: String,
    /// `https://host[:port]`.
    origin: String,
    /// Why the other side could not be spoken with; libgit2 can only be told that it was not.
    trouble: Mutex<Option<String>>,
}

impl Gateway {
    /// Opens a door to a repository, if its address is one of HTTPS. Must be called within the
    /// runtime, which then serves it.
    pub(super) async fn open(url: &str, http: &Http) -> io::Result<Option<Self>> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Ok(None);
        };
        if !scheme.eq_ignore_ascii_case("https") {
            return Ok(None);
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let name = format!("/{}", unguessable()?);
        let url = format!("http://{}{name}{path}", listener.local_addr()?);
        let way = Arc::new(Way {
            http: http.clone(),
            name,
            origin: format!("https://{authority}"),
            trouble: Mutex::default(),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&way)));
        Ok(Some(Self { url, way, server }))
    }

    /// The address to give to libgit2.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Why the other side could not be spoken with, if that is what went wrong.
    pub(super) fn trouble(&self) -> Option<String> {
        self.way
            .trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn unguessable() -> io::Result<String> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Serves connections until it is aborted, which ends them too.
async fn serve(listener: TcpListener, way: Arc<Way>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, Arc::clone(&way)));
                }
                // Out of descriptors, most likely: others have to close theirs first.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn converse(stream: TcpStream, way: Arc<Way>) {
    let service = service_fn(move |request| {
        let way = Arc::clone(&way);
        async move { Ok::<_, Infallible>(way.pass(request).await) }
    });
    // A connection that breaks is libgit2's to report.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

impl Way {
    /// The address that a request for this door means.
    fn target(&self, uri: &Uri) -> Option<reqwest::Url> {
        let asked = uri.path_and_query()?.as_str().strip_prefix(&self.name)?;
        if !asked.starts_with(['/', '?']) {
            return None;
        }
        format!("{}{asked}", self.origin).parse().ok()
    }

    async fn pass(&self, request: Request<Incoming>) -> Answer {
        let Some(url) = self.target(request.uri()) else {
            return plain(StatusCode::NOT_FOUND);
        };
        let (parts, body) = request.into_parts();
        let sends = parts.method == Method::POST;
        let mut onward = reqwest::Request::new(parts.method, url);
        *onward.headers_mut() = end_to_end(parts.headers);
        if sends {
            let body = body.into_data_stream();
            *onward.body_mut() = Some(reqwest::Body::wrap_stream(body));
        }
        match self.http.stream(onward).await {
            Ok(answer) => back(answer),
            Err(error) => {
                let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                *trouble = Some(error.to_string());
                plain(StatusCode::BAD_GATEWAY)
            }
        }
    }
}

/// The other side's answer, passed on as it comes.
fn back(answer: reqwest::Response) -> Answer {
    let status = answer.status();
    let headers = end_to_end(answer.headers().clone());
    let body = answer.bytes_stream().map(|piece| {
        piece
            .map(Frame::data)
            .map_err(|error| io::Error::other(error.without_url()))
    });
    let mut response = Response::new(StreamBody::new(body).boxed_unsync());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn plain(status: StatusCode) -> Answer {
    let empty = Full::new(Bytes::new()).map_err(|never| match never {});
    let mut response = Response::new(empty.boxed_unsync());
    *response.status_mut() = status;
    response
}

/// Headers without those that are about one connection (RFC 9110, 7.6.1).
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    for name in named {
        headers.remove(name.as_str());
    }
    for name in [
        CONNECTION,
        HOST,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_https_needs_a_door() {
        let http = Http::new();
        for url in ["http://h/x", "/srv/x", "file:///srv/x"] {
            let open = Gateway::open(url, &http).await.expect("it can listen");
            assert!(open.is_none(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_door_leads_to_one_host_and_has_a_name() {
        let gateway = Gateway::open("https://h:8443/o/r.git", &Http::new()).await;
        let gateway = gateway.expect("it can listen").expect("a door");
        assert!(gateway.url().starts_with("http://127.0.0.1:"));
        assert!(gateway.url().ends_with("/o/r.git"));
        let name = &gateway.way.name;
        assert_eq!(name.len(), 65);
        let target = |path: &str| {
            let uri: Uri = path.parse().expect("a path");
            gateway.way.target(&uri).map(String::from)
        };
        assert_eq!(
            target(&format!("{name}/o/r.git/info/refs?service=git-upload-pack")).as_deref(),
            Some("https://h:8443/o/r.git/info/refs?service=git-upload-pack")
        );
        assert_eq!(target("/o/r.git/info/refs"), None);
        // What follows the name is a path, never more of the host.
        assert_eq!(target(&format!("{name}.evil.example/x")), None);
    }

    #[test]
    fn headers_of_a_connection_stay_on_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "X-Mine, close"),
            ("x-mine", "1"),
            ("host", "127.0.0.1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "3"),
            ("authorization", "Basic x"),
        ] {
            headers.insert(name, value.parse().expect("a value"));
        }
        let left = end_to_end(headers);
        let mut names: Vec<&str> = left.keys().map(hyper::header::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "content-length"]);
    }
}
