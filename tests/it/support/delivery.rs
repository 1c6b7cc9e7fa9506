//! The sample shop with everything its delivery needs: its repository, a manifest repository
//! behind a token, a registry behind a login, and the real program.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::docker::unique;
use super::faulty::{Faulty, Reply, Request};
use super::files;
use super::git_http::GitServer;
use super::registry::{Registry, RegistryOptions};
use super::repo::{self, SourceRepo};

/// Who pushes images.
pub const USER: &str = "bot";
/// Their password.
pub const PASSWORD: &str = "pa55-w0rd/+?of=the bot";
/// The image every image of the shop stands on.
pub const BASE: &str = "pipewright-test-base:latest";
/// Longest time one call of the program may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// The declarations of article one, for this registry and this repository.
pub const DECLARATIONS: &str = r#"
var registry env=TEST_REGISTRY
var manifests env=TEST_MANIFESTS
secret PAT env=TEST_TOKEN
secret PASSWORD env=TEST_PASSWORD
registry local "${var.registry}" { plain-http; login bot "${secret.PASSWORD}" }
image app web migration registry=local "${name}-repo" { tag "${git.sha}" }
repo manifests "${var.manifests}" branch=main {
    token "${secret.PAT}"
    identity "release bot" email="bot@example.com"
}
"#;

type Script = Box<dyn FnMut(&Request) -> Reply + Send>;

/// A sample application on its way.
pub struct Delivery {
    /// A name nobody else uses; containers of the test begin with it.
    pub name: String,
    /// The application's repository.
    pub source: SourceRepo,
    /// The server of the manifest repository.
    pub git: GitServer,
    /// The manifest repository as the server keeps it.
    pub manifests: PathBuf,
    /// The registry itself.
    pub registry: Registry,
    /// The way to the registry that everybody takes.
    pub front: Faulty,
    script: Arc<Mutex<Option<Script>>>,
    /// Variables for the program, beside those every test has.
    env: Vec<(String, String)>,
    dir: TempDir,
}

impl Delivery {
    /// Copies the shop into a repository of its own and starts what it is delivered to.
    pub fn start(test: &str) -> Self {
        base_image();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let shop = files::root().join("tests/data/shop");
        let work = dir.path().join("shop");
        copy(&shop, &work);
        std::fs::remove_dir_all(work.join("manifests")).expect("the shop has manifests");
        std::fs::write(work.join(".gitignore"), ".pipewright/\n").expect("write");
        std::fs::create_dir_all(dir.path().join("home")).expect("mkdir");
        let source = SourceRepo::init(&work);
        source.commit("first", &[]);
        let git = GitServer::start();
        let values = std::fs::read_to_string(shop.join("manifests/main/values.yaml"));
        let values = values.expect("the shop has values");
        let manifests = git.serve("manifests.git", &[("main/values.yaml", &values)]);
        let registry = Registry::start(RegistryOptions {
            login: Some((USER, PASSWORD)),
            tls: false,
        });
        let script: Arc<Mutex<Option<Script>>> = Arc::default();
        let theirs = Arc::clone(&script);
        let front = Faulty::before(registry.address(), move |request| {
            match theirs.lock().expect("no panic").as_mut() {
                Some(script) => script(request),
                None => Reply::Pass,
            }
        });
        Self {
            name: unique(test),
            source,
            git,
            manifests,
            registry,
            front,
            script,
            env: Vec::new(),
            dir,
        }
    }

    /// Writes the one pipeline file and commits it.
    pub fn pipeline(&self, text: &str) -> String {
        let text = format!("{DECLARATIONS}\n{text}");
        self.source
            .commit("pipeline", &[("pipelines/shop.kdl", &text)])
    }

    /// Sets a variable for every later call of the program.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// Decides from now on what the registry does with requests.
    pub fn spoil(&self, script: impl FnMut(&Request) -> Reply + Send + 'static) {
        *self.script.lock().expect("no panic") = Some(Box::new(script));
    }

    /// The registry works as it should again.
    pub fn heal(&self) {
        *self.script.lock().expect("no panic") = None;
    }

    /// `host:port` by which everybody knows the registry.
    pub fn host(&self) -> String {
        self.front.address().to_string()
    }

    /// A directory of the test's own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where the program keeps its state.
    pub fn state(&self) -> PathBuf {
        self.source.path().join(".pipewright")
    }

    /// The program with its environment, to be started in the application's repository.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipewright"));
        command
            .args(args)
            .current_dir(self.source.path())
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path().join("home"))
            .env("DOCKER_CONFIG", self.dir.path().join("home"))
            .env("TEST_REGISTRY", self.host())
            .env("TEST_MANIFESTS", self.git.url("manifests.git"))
            .env("TEST_TOKEN", self.git.token())
            .env("TEST_PASSWORD", PASSWORD);
        if let Some(host) = std::env::var_os("DOCKER_HOST") {
            command.env("DOCKER_HOST", host);
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
        command
    }

    /// Runs the program to its end.
    pub fn pipewright(&self, args: &[&str]) -> Answer {
        self.begin(args).finish()
    }

    /// Starts the program.
    pub fn begin(&self, args: &[&str]) -> Started {
        Started::new(self.command(args))
    }

    /// What `show last` says, as JSON.
    pub fn show(&self) -> serde_json::Value {
        let answer = self.pipewright(&["show", "last", "--format", "json"]);
        serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// The commits of the manifest repository's branch, newest first.
    pub fn manifest_commits(&self) -> Vec<String> {
        let log = repo::git(&self.manifests, &["log", "--format=%H", "main"]);
        log.lines().map(str::to_owned).collect()
    }

    /// A file of the manifest repository.
    pub fn manifest(&self, path: &str) -> String {
        repo::git(&self.manifests, &["show", &format!("main:{path}")])
    }

    /// The digest of a tag, as an independent tool sees it; `None` if the tag is not there.
    pub fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        let reference = format!("docker://{}/{repository}:{tag}", self.registry.host());
        let output = skopeo(&["inspect", "--format", "{{.Digest}}", &reference])?;
        Some(output.trim().to_owned())
    }

    /// The configuration of an image, as an independent tool sees it.
    pub fn image_config(&self, repository: &str, tag: &str) -> serde_json::Value {
        let reference = format!("docker://{}/{repository}:{tag}", self.registry.host());
        let output = skopeo(&["inspect", "--config", &reference]).expect("the image is there");
        serde_json::from_str(&output).expect("JSON")
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        remove_containers(&format!("name=^/?{}", self.name));
        let images = docker(&[
            "images",
            "--format",
            "{{.Repository}}:{{.Tag}} {{.Repository}}@{{.Digest}}",
        ]);
        let ours: Vec<&str> = images
            .split_whitespace()
            .filter(|name| name.starts_with(&format!("{}/", self.host())))
            .filter(|name| !name.ends_with("<none>"))
            .collect();
        if !ours.is_empty() {
            let _ = Command::new("docker")
                .args(["rmi", "-f"])
                .args(ours)
                .output();
        }
    }
}

/// A call of the program under way. Killed when dropped.
pub struct Started {
    child: Child,
    began: Instant,
    output: TempDir,
}

impl Started {
    /// Starts a command with its output going to files, which no reader can hold up.
    pub fn new(mut command: Command) -> Self {
        let output = tempfile::tempdir().expect("a temporary directory");
        let file = |name: &str| File::create(output.path().join(name)).expect("a file");
        command.stdout(file("out")).stderr(file("err"));
        let began = Instant::now();
        let child = command.spawn().expect("the program starts");
        Self {
            child,
            began,
            output,
        }
    }

    /// What it printed so far.
    pub fn out(&self) -> String {
        std::fs::read_to_string(self.output.path().join("out")).unwrap_or_default()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "kill -s {name}"
        );
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits until it ends.
    #[track_caller]
    pub fn finish(mut self) -> Answer {
        let deadline = self.began + PATIENCE;
        let status = loop {
            match self
                .child
                .try_wait()
                .expect("the program can be waited for")
            {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    panic!("the program does not end; it said:\n{}", self.out())
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        Answer {
            status,
            took: self.began.elapsed(),
            out: self.out(),
            err: std::fs::read_to_string(self.output.path().join("err")).unwrap_or_default(),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a call of the program ended.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: ExitStatus,
    /// How long it took.
    pub took: Duration,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Answer {
    /// Fails unless it ended with this status.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "standard output:\n{}\nstandard error:\n{}",
            self.out,
            self.err
        );
        self
    }

    /// Everything it printed.
    pub fn text(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Fails unless it printed a text.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(
            self.text().contains(text),
            "no \"{text}\" in:\n{}",
            self.text()
        );
        self
    }
}

/// Runs `docker` and returns what it printed; the test fails if it fails.
#[track_caller]
pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker")
        .args(args)
        .output()
        .expect("these tests need the program `docker`");
    assert!(
        output.status.success(),
        "docker {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Removes every container that fits a filter.
pub fn remove_containers(filter: &str) {
    let listed = docker(&["ps", "-aq", "--filter", filter]);
    let ids: Vec<&str> = listed.split_whitespace().collect();
    if !ids.is_empty() {
        let _ = Command::new("docker")
            .args(["rm", "-fv"])
            .args(ids)
            .output();
    }
}

/// Polls until something is there. Fails after a generous time.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free loopback port")
        .port()
}

/// Fetches a page over plain HTTP/1.0; `None` if nobody answers with one.
pub fn fetch(port: u16) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a time limit");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.contains(" 200 ").then_some(text)
}

/// Builds the base of the sample images unless the engine has it.
fn base_image() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let there = Command::new("docker")
            .args(["image", "inspect", BASE])
            .output()
            .expect("these tests need the program `docker`");
        if there.status.success() {
            return;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let dockerfile = files::root().join("tests/data/base/Dockerfile");
        std::fs::copy(dockerfile, dir.path().join("Dockerfile")).expect("a Dockerfile");
        std::fs::copy("/bin/busybox", dir.path().join("busybox"))
            .expect("these tests need a static /bin/busybox");
        let path = dir.path().to_str().expect("UTF-8");
        docker(&["build", "-q", "-t", BASE, path]);
    });
}

/// Runs skopeo with the login of [`USER`]; `None` if what it is asked for is not there.
pub fn skopeo(args: &[&str]) -> Option<String> {
    let (command, rest) = args.split_first().expect("a command");
    let output = Command::new("skopeo")
        .arg(command)
        .args(["--tls-verify=false", "--creds"])
        .arg(format!("{USER}:{PASSWORD}"))
        .args(rest)
        .output()
        .expect("these tests need the program `skopeo`");
    let error = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let absent = error.contains("manifest unknown") || error.contains("name unknown");
        assert!(absent, "skopeo: {error}");
        return None;
    }
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("mkdir");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("a readable directory");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copy");
        }
    }
}
