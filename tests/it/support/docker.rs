//! A docker engine, build contexts for it and a registry on the loopback interface.
#![expect(
    clippy::disallowed_methods,
    reason = "tests of adapters start the components they need"
)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pipewright::adapters::docker::{DEFAULT_HOST, Docker};
use pipewright::ports::engine::EngineReader as _;
use pipewright::ports::{Output, Progress};
use tempfile::TempDir;

/// Label that every container, network, volume and image of these tests carries.
pub const LABEL: &str = "pipewright.test";

/// The engine; the test fails if there is none.
pub async fn engine() -> Docker {
    let docker = Docker::connect().expect("DOCKER_HOST is understood");
    if let Err(error) = docker.version().await {
        panic!("these tests need a running docker engine: {error}");
    }
    docker
}

/// A name nobody else uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_nanos();
    format!("pwtest-{what}-{}-{next}-{time:x}", std::process::id())
}

/// What a test leaves on the engine: everything that carries its label is removed at its end.
pub struct Mine {
    /// The label's value.
    pub label: String,
}

impl Mine {
    /// A label of a test's own.
    pub fn new(test: &str) -> Self {
        Self {
            label: unique(test),
        }
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        let filter = format!("label={LABEL}={}", self.label);
        for (list, remove) in [
            (&["ps", "-aq"][..], &["rm", "-fv"][..]),
            (&["images", "-q"], &["rmi", "-f"]),
            (&["network", "ls", "-q"], &["network", "rm"]),
            (&["volume", "ls", "-q"], &["volume", "rm"]),
        ] {
            let listed = Command::new("docker")
                .args(list)
                .args(["--filter", &filter])
                .output()
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                .unwrap_or_default();
            let found: Vec<&str> = listed.split_whitespace().collect();
            if !found.is_empty() {
                let _ = Command::new("docker").args(remove).args(&found).output();
            }
        }
    }
}

/// A build context of some files, with a static busybox beside them.
pub fn context(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().expect("a temporary directory");
    let busybox = root.path().join("busybox");
    fs::copy("/bin/busybox", &busybox).expect("these tests need a static /bin/busybox");
    fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755)).expect("chmod");
    for (path, content) in files {
        write(root.path(), path, content);
    }
    root
}

/// Writes a file of a context.
pub fn write(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("create");
    fs::write(path, content).expect("write");
}

/// An output that keeps everything.
#[derive(Default)]
pub struct Kept {
    bytes: Mutex<Vec<u8>>,
    progress: Mutex<Vec<Progress>>,
}

impl Kept {
    /// Everything logged.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no panic")).into_owned()
    }

    /// Every progress message.
    pub fn progress(&self) -> Vec<Progress> {
        self.progress.lock().expect("no panic").clone()
    }
}

impl Output for Kept {
    fn log(&self, bytes: &[u8]) {
        self.bytes
            .lock()
            .expect("no panic")
            .extend_from_slice(bytes);
    }

    fn progress(&self, progress: Progress) {
        self.progress.lock().expect("no panic").push(progress);
    }
}

/// A registry on the loopback interface that wants the user `bot` with [`PASSWORD`].
pub struct Registry {
    process: Child,
    port: u16,
    _data: TempDir,
}

impl Registry {
    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let data = tempfile::tempdir().expect("a temporary directory");
        let root = data.path().display();
        write(data.path(), "htpasswd", HTPASSWD);
        write(
            data.path(),
            "config.yml",
            &format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/blobs}}}}\n\
                 http: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"
            ),
        );
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(data.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("these tests need docker-registry");
        let registry = Self {
            process,
            port,
            _data: data,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "docker-registry does not answer");
            std::thread::yield_now();
        }
        registry
    }

    /// `host:port`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `bot` with the password [`PASSWORD`], as `htpasswd -nbBC 5` writes it.
const HTPASSWD: &str = "bot:$2y$05$7nv.oEqkJMJLNnhQ4i5rN.r6R9kZ5MOJzvc1HI1gfT1TsMbRBii06\n";
/// The password of `bot`; its base64 differs between the two alphabets.
pub const PASSWORD: &str = "p?>~~~???word";

/// A way to the engine that can be cut, as if the engine had gone.
pub struct Proxy {
    directory: TempDir,
    cut: tokio_util::sync::CancellationToken,
}

impl Proxy {
    /// Listens on a socket of its own and passes everything on.
    pub async fn start() -> Self {
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| DEFAULT_HOST.to_owned());
        let engine = host
            .strip_prefix("unix://")
            .expect("these tests need an engine on a unix socket")
            .to_owned();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener = tokio::net::UnixListener::bind(directory.path().join("docker.sock"))
            .expect("a socket to listen on");
        let cut = tokio_util::sync::CancellationToken::new();
        let listening = cut.clone();
        tokio::spawn(listening.clone().run_until_cancelled_owned(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = tokio::net::UnixStream::connect(&engine)
                    .await
                    .expect("the engine answers");
                let connection = listening.clone();
                tokio::spawn(connection.run_until_cancelled_owned(async move {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }));
            }
        }));
        Self { directory, cut }
    }

    /// What to connect to.
    pub fn address(&self) -> String {
        format!(
            "unix://{}",
            self.directory.path().join("docker.sock").display()
        )
    }

    /// Breaks every connection and takes no other.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}
