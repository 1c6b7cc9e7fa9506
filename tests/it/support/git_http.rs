//! A git server over HTTP: `git http-backend` behind a tiny HTTP/1.1 server that asks for a token
//! and can misbehave on request.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;

/// How to spoil the next requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answer with this status.
    Status(u16),
    /// Send half of the answer, then close.
    Cut,
    /// Wait before answering.
    Delay(Duration),
    /// Answer nothing until the server ends.
    Hang,
    /// Redirect to another server, keeping the path.
    Redirect(String),
}

type Hook = Box<dyn FnMut() + Send>;

#[derive(Default)]
struct State {
    /// A fault and how many more requests whose path contains the text get it.
    faults: Vec<(String, Fault, usize)>,
    before_push: Option<Hook>,
    before_every_push: Option<Hook>,
    seen: Vec<String>,
}

struct Shared {
    root: PathBuf,
    token: String,
    state: Mutex<State>,
    stop: AtomicBool,
}

/// A running server; ends when dropped.
pub struct GitServer {
    shared: Arc<Shared>,
    port: u16,
    accept: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl GitServer {
    /// Starts a server without repositories on a free port.
    pub fn start() -> Self {
        let output = Command::new("git")
            .arg("--exec-path")
            .output()
            .expect("the program `git` must be installed for these tests");
        let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let backend = Path::new(&path).join("git-http-backend");
        assert!(
            backend.exists(),
            "{} must be installed for these tests",
            backend.display()
        );
        let dir = tempfile::tempdir().expect("a temporary directory");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            root: dir.path().to_owned(),
            token: "s3cr3t-t0ken/with+odd=chars".to_owned(),
            state: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let accept = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if theirs.stop.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&theirs);
                if let Ok(stream) = stream {
                    // A client that goes away is no failure of the server.
                    std::thread::spawn(move || shared.serve(stream).ok());
                }
            }
        });
        Self {
            shared,
            port,
            accept: Some(accept),
            _dir: dir,
        }
    }

    /// The port on the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// The token that opens every repository, with any user name.
    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// Where a bare repository of this name is kept; pushes to it are allowed.
    pub fn bare(&self, name: &str) -> PathBuf {
        self.shared.root.join(name)
    }

    /// Serves a repository with some files under a name; returns where it is kept.
    pub fn serve(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let work = tempfile::tempdir().expect("a temporary directory");
        let source = super::repo::SourceRepo::with_files(work.path(), files);
        let bare = self.bare(name);
        source.bare(&bare);
        super::repo::git(&bare, &["config", "http.receivepack", "true"]);
        bare
    }

    /// Spoils the next `times` requests whose path and query contain a text.
    pub fn fault(&self, part: &str, fault: Fault, times: usize) {
        let mut state = self.shared.state.lock().expect("state");
        state.faults.push((part.to_owned(), fault, times));
    }

    /// Takes back all faults.
    pub fn heal(&self) {
        self.shared.state.lock().expect("state").faults.clear();
    }

    /// Runs something once, after the next push has been announced and before it is carried out.
    pub fn before_push(&self, hook: impl FnOnce() + Send + 'static) {
        let mut hook = Some(hook);
        let run = move || {
            if let Some(hook) = hook.take() {
                hook();
            }
        };
        self.shared.state.lock().expect("state").before_push = Some(Box::new(run));
    }

    /// Runs something before each push from now on.
    pub fn before_every_push(&self, hook: impl FnMut() + Send + 'static) {
        self.shared.state.lock().expect("state").before_every_push = Some(Box::new(hook));
    }

    /// The requests so far: method, target, and `+auth` if a credential came along.
    pub fn requests(&self) -> Vec<String> {
        self.shared.state.lock().expect("state").seen.clone()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accept loop.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
    }
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut stream = stream;
        while let Some(request) = read_request(&mut reader, &mut stream)? {
            let authorized = self.authorized(&request);
            let given = request.header("authorization").is_some();
            let target = format!("{}?{}", request.path, request.query);
            let mark = if given { " +auth" } else { "" };
            let fault = {
                let mut state = self.state.lock().expect("state");
                state
                    .seen
                    .push(format!("{} {target}{mark}", request.method));
                let found = state
                    .faults
                    .iter_mut()
                    .find(|(part, _, times)| *times > 0 && target.contains(part.as_str()));
                found.map(|(_, fault, times)| {
                    *times -= 1;
                    fault.clone()
                })
            };
            let mut cut = false;
            match fault {
                None => {}
                Some(Fault::Cut) => cut = true,
                Some(Fault::Delay(time)) => std::thread::sleep(time),
                Some(Fault::Hang) => {
                    while !self.stop.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    return Ok(());
                }
                Some(Fault::Status(status)) => {
                    respond(&mut stream, status, &[], b"spoiled", false)?;
                    continue;
                }
                Some(Fault::Redirect(to)) => {
                    let location = ("Location".to_owned(), format!("{to}{target}"));
                    respond(&mut stream, 302, &[location], b"", false)?;
                    continue;
                }
            }
            if !authorized {
                let ask = (
                    "WWW-Authenticate".to_owned(),
                    "Basic realm=\"git\"".to_owned(),
                );
                respond(&mut stream, 401, &[ask], b"who are you?", false)?;
                continue;
            }
            if request.method == "POST" && request.path.ends_with("git-receive-pack") {
                let hook = self.state.lock().expect("state").before_push.take();
                if let Some(mut hook) = hook {
                    hook();
                }
                let hook = self.state.lock().expect("state").before_every_push.take();
                if let Some(mut hook) = hook {
                    hook();
                    self.state.lock().expect("state").before_every_push = Some(hook);
                }
            }
            let answer = self.backend(&request)?;
            respond(
                &mut stream,
                answer.status,
                &answer.headers,
                &answer.body,
                cut,
            )?;
            if cut {
                return Ok(());
            }
        }
        Ok(())
    }

    fn authorized(&self, request: &Request) -> bool {
        let given = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Basic "))
            .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        given
            .and_then(|text| text.split_once(':').map(|(_, token)| token == self.token))
            .unwrap_or(false)
    }

    /// Runs the request through CGI.
    fn backend(&self, request: &Request) -> std::io::Result<Response> {
        let mut command = Command::new("git");
        command
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("PATH_INFO", &request.path)
            .env("QUERY_STRING", &request.query)
            .env("REQUEST_METHOD", &request.method)
            .env("CONTENT_LENGTH", request.body.len().to_string())
            .env("REMOTE_USER", "test")
            .env("REMOTE_ADDR", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for (header, variable) in [
            ("content-type", "CONTENT_TYPE"),
            ("content-encoding", "HTTP_CONTENT_ENCODING"),
            ("git-protocol", "GIT_PROTOCOL"),
        ] {
            if let Some(value) = request.header(header) {
                command.env(variable, value);
            }
        }
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().expect("piped");
        let body = request.body.clone();
        let feed = std::thread::spawn(move || stdin.write_all(&body));
        let output = child.wait_with_output()?;
        // The backend may answer without reading everything.
        let _ = feed.join();
        let text = &output.stdout;
        let end = text.windows(4).position(|part| part == b"\r\n\r\n");
        let end = end.unwrap_or(text.len());
        let mut status = if text.is_empty() { 500 } else { 200 };
        let mut headers = Vec::new();
        for line in String::from_utf8_lossy(&text[..end]).lines() {
            if let Some((name, value)) = line.split_once(':') {
                let value = value.trim();
                if name.eq_ignore_ascii_case("status") {
                    status = value
                        .get(..3)
                        .and_then(|code| code.parse().ok())
                        .unwrap_or(500);
                } else {
                    headers.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        let body = text.get(end + 4..).unwrap_or_default().to_vec();
        Ok(Response {
            status,
            headers,
            body,
        })
    }
}

fn read_request(
    reader: &mut BufReader<TcpStream>,
    stream: &mut TcpStream,
) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let mut request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: Vec::new(),
    };
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if request.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = usize::from_str_radix(size.trim(), 16).map_err(std::io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            request.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = request.header("content-length") {
        let length = length.parse().map_err(std::io::Error::other)?;
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body)?;
    }
    Ok(Some(request))
}

fn respond(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    cut: bool,
) -> std::io::Result<()> {
    let mut answer = format!(
        "HTTP/1.1 {status} Test\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    let mut bytes = answer.into_bytes();
    bytes.extend_from_slice(if cut { &body[..body.len() / 2] } else { body });
    stream.write_all(&bytes)?;
    if cut {
        stream.shutdown(std::net::Shutdown::Both)?;
    }
    Ok(())
}
