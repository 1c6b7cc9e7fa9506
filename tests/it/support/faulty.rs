//! An HTTP server that does as a test says: answers by itself, passes requests on to a real
//! server, or breaks the connection in one of the ways networks do. It runs on a thread of its
//! own, for synchronous and asynchronous tests alike.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lowercase.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// Method and path begin like this: `is("GET /v2/")`.
    pub fn is(&self, start: &str) -> bool {
        format!("{} {}", self.method, self.path).starts_with(start)
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Passes it on to the real server.
    Pass,
    /// Passes on the request with only so much of its body, then breaks both connections.
    PassPart(usize),
    /// Passes it on and breaks the connection after so many bytes of the answer.
    Cut(usize),
    /// Answers with a status, headers and a body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Breaks the connection without an answer.
    Reset,
    /// Never answers.
    Hang,
}

impl Reply {
    /// A bare status.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), String::new())
    }
}

/// Decides what to do with a request.
type Script = Box<dyn FnMut(&Request) -> Reply + Send>;

/// The server. Stops when dropped.
pub struct Faulty {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    passed: Arc<Mutex<Vec<(Request, u16)>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Faulty {
    /// A server that answers everything itself.
    pub fn alone(script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self::start(None, Box::new(script))
    }

    /// A server in front of a real one.
    pub fn before(
        real: SocketAddr,
        script: impl FnMut(&Request) -> Reply + Send + 'static,
    ) -> Self {
        Self::start(Some(real), Box::new(script))
    }

    /// In front of a real one, does the same to the first `times` requests that match.
    pub fn first(
        real: SocketAddr,
        mut times: usize,
        matches: impl Fn(&Request) -> bool + Send + 'static,
        reply: Reply,
    ) -> Self {
        Self::before(real, move |request| {
            if times > 0 && matches(request) {
                times -= 1;
                return reply.clone();
            }
            Reply::Pass
        })
    }

    fn start(real: Option<SocketAddr>, script: Script) -> Self {
        let bind = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = bind.expect("a free loopback port");
        let address = listener.local_addr().expect("the port just bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let passed = Arc::default();
        let (stop, stopped) = oneshot::channel();
        let state = Arc::new(State {
            real,
            script: Mutex::new(script),
            seen: Arc::clone(&seen),
            passed: Arc::clone(&passed),
        });
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime for the server");
            runtime.block_on(async {
                let nonblocking = listener.set_nonblocking(true);
                nonblocking.expect("a listener can be made nonblocking");
                let listener =
                    TcpListener::from_std(listener).expect("the runtime takes the listener");
                tokio::select! {
                    _ = stopped => {}
                    () = accept(listener, state) => {}
                }
            });
        });
        Self {
            address,
            seen,
            passed,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in order.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("the server does not panic").clone()
    }

    /// What was passed on to the real server so far, and the status it answered with.
    pub fn passed(&self) -> Vec<(Request, u16)> {
        let passed = self.passed.lock();
        passed.expect("the server does not panic").clone()
    }

    /// How many requests so far begin like this.
    pub fn count(&self, start: &str) -> usize {
        self.seen().iter().filter(|one| one.is(start)).count()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct State {
    real: Option<SocketAddr>,
    script: Mutex<Script>,
    seen: Arc<Mutex<Vec<Request>>>,
    passed: Arc<Mutex<Vec<(Request, u16)>>>,
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            // A connection that ends early is what this server is for.
            let _ = serve(client, &state).await;
        });
    }
}

/// Serves one request; connections are not kept, which keeps framing out of the way.
async fn serve(mut client: TcpStream, state: &State) -> io::Result<()> {
    let Some(request) = receive(&mut client).await? else {
        return Ok(());
    };
    let reply = {
        let mut seen = state.seen.lock().expect("the server does not panic");
        seen.push(request.clone());
        let mut script = state.script.lock().expect("the script does not panic");
        (*script)(&request)
    };
    match reply {
        Reply::Pass => pass(&mut client, state, &request, usize::MAX).await,
        Reply::Cut(bytes) => {
            pass(&mut client, state, &request, bytes).await?;
            client.set_zero_linger()
        }
        Reply::PassPart(bytes) => {
            let mut real = connect(state).await?;
            real.write_all(&head(&request)).await?;
            real.write_all(&request.body[..bytes.min(request.body.len())])
                .await?;
            real.shutdown().await?;
            // Until the real server has dealt with what it got.
            let _ = real.read_to_end(&mut Vec::new()).await;
            client.set_zero_linger()
        }
        Reply::Answer(status, headers, body) => {
            let mut text = format!("HTTP/1.1 {status} Scripted\r\nConnection: close\r\n");
            for (name, value) in headers {
                text += &format!("{name}: {value}\r\n");
            }
            text += &format!("Content-Length: {}\r\n\r\n", body.len());
            if request.method != "HEAD" {
                text += &body;
            }
            client.write_all(text.as_bytes()).await?;
            client.shutdown().await
        }
        Reply::Reset => client.set_zero_linger(),
        Reply::Hang => std::future::pending().await,
    }
}

async fn connect(state: &State) -> io::Result<TcpStream> {
    let real = state.real.expect("a real server to pass requests on to");
    TcpStream::connect(real).await
}

async fn pass(
    client: &mut TcpStream,
    state: &State,
    request: &Request,
    limit: usize,
) -> io::Result<()> {
    let mut real = connect(state).await?;
    real.write_all(&head(request)).await?;
    real.write_all(&request.body).await?;
    let mut answer = Vec::new();
    real.read_to_end(&mut answer).await?;
    let status = String::from_utf8_lossy(&answer[..answer.len().min(20)])
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok());
    {
        let mut passed = state.passed.lock().expect("the server does not panic");
        passed.push((request.clone(), status.unwrap_or(0)));
    }
    answer.truncate(limit);
    client.write_all(&answer).await
}

fn head(request: &Request) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        if !matches!(
            name.as_str(),
            "connection" | "content-length" | "transfer-encoding"
        ) {
            text += &format!("{name}: {value}\r\n");
        }
    }
    text += &format!(
        "content-length: {}\r\nconnection: close\r\n\r\n",
        request.body.len()
    );
    text.into_bytes()
}

async fn receive(client: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
        // Somebody speaks TLS to us: answered as real servers do.
        if !bytes[0].is_ascii_uppercase() {
            client
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await?;
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or("").split(' ');
    let method = words.next().unwrap_or("").to_owned();
    let path = words.next().unwrap_or("").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut body = bytes.split_off(end + 4);
    let find = |name| headers.iter().find(|(key, _)| key == name);
    if find("transfer-encoding").is_some() {
        let Some(whole) = receive_chunks(client, body).await? else {
            return Ok(None);
        };
        body = whole;
    } else {
        let length = find("content-length").map_or(0, |(_, value)| value.parse().unwrap_or(0));
        while body.len() < length {
            if client.read_buf(&mut body).await? == 0 {
                return Ok(None);
            }
        }
    }
    Ok(Some(Request {
        method,
        path,
        headers,
        body,
    }))
}

/// Puts a chunked body together; `None` if the client goes away in the middle of it.
async fn receive_chunks(client: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = bytes.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            if client.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        };
        let size = String::from_utf8_lossy(&bytes[..line]).into_owned();
        let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
        bytes.drain(..line + 2);
        while bytes.len() < size + 2 {
            if client.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        }
        body.extend_from_slice(&bytes[..size]);
        bytes.drain(..size + 2);
        if size == 0 {
            return Ok(Some(body));
        }
    }
}
