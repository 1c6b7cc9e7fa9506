//! A door on this machine to a repository behind TLS or ssh: libgit2 speaks plain HTTP with it, and
//! it speaks HTTPS with the other side, by the client that everything else here uses, or lets the
//! ssh program speak with it.
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
    CONNECTION, CONTENT_TYPE, HOST, HeaderMap, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::address::Address;
use super::ssh::{Service, SshWay, Trouble};
use crate::adapters::http::Http;
use crate::ports::vcs::Access;

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
    /// `/` and what cannot be guessed.
    name: String,
    to: To,
    /// Why the other side could not be spoken with; libgit2 can only be told that it was not.
    trouble: Mutex<Option<Trouble>>,
}

#[derive(Debug)]
enum To {
    Https {
        http: Http,
        /// `https://host[:port]`.
        origin: String,
    },
    Ssh(Box<SshWay>),
}

impl Gateway {
    /// Opens a door to a repository, if its address is one of HTTPS or ssh. Must be called within
    /// the runtime, which then serves it.
    pub(super) async fn open(
        url: &str,
        address: &Address,
        access: &Access,
        http: &Http,
    ) -> Result<Option<Self>, Trouble> {
        let (to, path) = match address {
            Address::Local(_) => return Ok(None),
            Address::Ssh(to) => {
                let way = SshWay::open(to.clone(), access)?;
                (To::Ssh(Box::new(way)), "/r")
            }
            Address::Http { .. } => match https(url) {
                Some((authority, path)) => {
                    let (http, origin) = (http.clone(), format!("https://{authority}"));
                    (To::Https { http, origin }, path)
                }
                None => return Ok(None),
            },
        };
        let fail = |error: io::Error| {
            Trouble::Broken(format!("opening a socket on this machine: {error}"))
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(fail)?;
        let name = format!("/{}", unguessable().map_err(fail)?);
        let at = listener.local_addr().map_err(fail)?;
        let url = format!("http://{at}{name}{path}");
        let way = Arc::new(Way {
            name,
            to,
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
    pub(super) fn trouble(&self) -> Option<Trouble> {
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

/// Authority and path of an address of HTTPS.
fn https(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some(rest.split_at(end))
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
    /// What a request asks for, if it is for this door.
    fn asked<'u>(&self, uri: &'u Uri) -> Option<&'u str> {
        let asked = uri.path_and_query()?.as_str().strip_prefix(&self.name)?;
        asked.starts_with(['/', '?']).then_some(asked)
    }

    async fn pass(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let asked = self.asked(request.uri()).map(str::to_owned);
        let answer = match (&self.to, asked) {
            (_, None) => Ok(plain(StatusCode::NOT_FOUND)),
            (To::Https { http, origin }, Some(asked)) => {
                pass_https(http, &format!("{origin}{asked}"), request).await
            }
            (To::Ssh(way), Some(asked)) => self.pass_ssh(way, &asked, request).await,
        };
        answer.unwrap_or_else(|trouble| {
            self.tell(trouble);
            plain(StatusCode::BAD_GATEWAY)
        })
    }

    fn tell(&self, trouble: Trouble) {
        let mut told = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *told = Some(trouble);
    }

    /// Git's protocol over HTTP: a list of what there is, then questions.
    async fn pass_ssh(
        self: &Arc<Self>,
        way: &SshWay,
        asked: &str,
        request: Request<Incoming>,
    ) -> Result<Answer, Trouble> {
        if let Some(name) = asked.strip_prefix("/r/info/refs?service=")
            && let Some(service) = Service::of(name)
        {
            let list = way.list(service).await?;
            let title = format!("# service={}\n", service.name());
            let mut body = format!("{:04x}{title}0000", title.len() + 4).into_bytes();
            body.extend(list);
            let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
            return Ok(git(service, "advertisement", body.boxed_unsync()));
        }
        let Some(service) = asked.strip_prefix("/r/").and_then(Service::of) else {
            return Ok(plain(StatusCode::NOT_FOUND));
        };
        let question = request.into_body().into_data_stream();
        let question = question.map(|piece| piece.map_err(io::Error::other));
        let answer = way.ask(service, question).await?;
        let this = Arc::clone(self);
        let body = StreamBody::new(answer.map(move |piece| match piece {
            Ok(piece) => Ok(Frame::data(piece)),
            Err(trouble) => {
                this.tell(trouble);
                Err(io::Error::other("the other side went away"))
            }
        }));
        Ok(git(service, "result", body.boxed_unsync()))
    }
}

/// An answer of git's protocol.
fn git(service: Service, what: &str, body: UnsyncBoxBody<Bytes, io::Error>) -> Answer {
    let mut response = Response::new(body);
    let kind = format!("application/x-{}-{what}", service.name());
    if let Ok(kind) = kind.parse() {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

async fn pass_https(http: &Http, url: &str, request: Request<Incoming>) -> Result<Answer, Trouble> {
    let Ok(url) = url.parse() else {
        return Ok(plain(StatusCode::NOT_FOUND));
    };
    let (parts, body) = request.into_parts();
    let sends = parts.method == Method::POST;
    let mut onward = reqwest::Request::new(parts.method, url);
    *onward.headers_mut() = end_to_end(parts.headers);
    if sends {
        let body = body.into_data_stream();
        *onward.body_mut() = Some(reqwest::Body::wrap_stream(body));
    }
    match http.stream(onward).await {
        Ok(answer) => Ok(back(answer)),
        Err(error) => Err(Trouble::Broken(error.to_string())),
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

    async fn door(url: &str, http: &Http) -> Option<Gateway> {
        let address = Address::parse(url).expect("an address");
        let open = Gateway::open(url, &address, &Access::Anonymous, http).await;
        open.expect("it can listen")
    }

    #[tokio::test]
    async fn only_https_needs_a_door() {
        let http = Http::new();
        for url in ["http://h/x", "/srv/x", "file:///srv/x"] {
            let open = door(url, &http).await;
            assert!(open.is_none(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_door_leads_to_one_host_and_has_a_name() {
        let gateway = door("https://h:8443/o/r.git", &Http::new()).await;
        let gateway = gateway.expect("a door");
        assert!(gateway.url().starts_with("http://127.0.0.1:"));
        assert!(gateway.url().ends_with("/o/r.git"));
        let name = &gateway.way.name;
        assert_eq!(name.len(), 65);
        let target = |path: &str| {
            let uri: Uri = path.parse().expect("a path");
            gateway.way.asked(&uri).map(str::to_owned)
        };
        assert_eq!(
            target(&format!("{name}/o/r.git/info/refs?service=git-upload-pack")).as_deref(),
            Some("/o/r.git/info/refs?service=git-upload-pack")
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
