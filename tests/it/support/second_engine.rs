//! A docker engine of a test's own, to be stopped and started at will.
//!
//! It lives in a network namespace of its own, so that it cannot touch the bridge of the engine
//! that everybody else uses; registries on the host's loopback interface are out of its reach.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::fs::File;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::delivery::{BASE, docker};

/// A running engine. Ends when dropped.
pub struct SecondEngine {
    child: Child,
    /// What carries connections into its namespace.
    ways: Vec<Child>,
    dir: TempDir,
}

impl SecondEngine {
    /// Starts one that has the base of the sample images.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let engine = Self {
            child: spawn(dir.path()),
            ways: Vec::new(),
            dir,
        };
        engine.wait();
        let image = engine.dir.path().join("base.tar");
        let image = image.to_str().expect("UTF-8");
        docker(&["save", "-o", image, BASE]);
        engine.docker(&["load", "-q", "-i", image]);
        engine
    }

    /// What DOCKER_HOST is to be.
    pub fn address(&self) -> String {
        format!("unix://{}/sock", self.dir.path().display())
    }

    /// Opens a door to it on a port of the loopback interface; returns `host:port`. It stays open
    /// as long as the process of the test.
    pub fn over_tcp(&self) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
        let address = listener.local_addr().expect("the port just bound");
        let socket = self.dir.path().join("sock");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // An engine that is gone looks like one that breaks off.
                if let Ok(engine) = UnixStream::connect(&socket) {
                    join(stream, engine);
                }
            }
        });
        address.to_string()
    }

    /// Lets it reach a port of our loopback interface, such as a registry's, on its own.
    pub fn reach(&mut self, port: u16) {
        let there = format!("--net=/proc/{}/ns/net", self.child.id());
        let here = format!("--net=/proc/{}/ns/net", std::process::id());
        let port = port.to_string();
        let up = Command::new("nsenter")
            .args([&there, "/bin/busybox", "ifconfig", "lo", "up"])
            .status();
        assert!(up.is_ok_and(|status| status.success()), "its loopback");
        let way = Command::new("nsenter")
            .args([&there, "/bin/busybox", "nc", "-ll", "-p", &port, "-e"])
            .args(["nsenter", &here, "/bin/busybox", "nc", "127.0.0.1", &port])
            .stdin(Stdio::null())
            .spawn()
            .expect("these tests need `nsenter` and a static /bin/busybox");
        self.ways.push(way);
    }

    /// Runs `docker` with it.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        let address = self.address();
        let mut all = vec!["-H", &address];
        all.extend(args);
        docker(&all)
    }

    /// Ends it with a signal and starts it again.
    pub fn restart(&mut self, signal: &str) {
        self.stop(signal);
        self.child = spawn(self.dir.path());
        self.wait();
    }

    /// Ends it.
    pub fn stop(&mut self, signal: &str) {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args(["-s", signal, &id]).status();
        let _ = self.child.wait();
        if signal == "KILL" {
            self.bury();
        }
    }

    /// An engine that was killed takes its containerd with it, but not at once, and leaves the
    /// number of its process in a file. Started meanwhile, it would wait for that one in vain.
    fn bury(&self) {
        let Some(containerd) = self.containerd() else {
            return;
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.is_ours(&containerd) {
            assert!(Instant::now() < deadline, "containerd outlives its engine");
            std::thread::sleep(Duration::from_millis(5));
        }
        for file in ["exec/containerd/containerd.pid", "pid"] {
            let _ = std::fs::remove_file(self.dir.path().join(file));
        }
    }

    /// The process that its containerd is or was.
    fn containerd(&self) -> Option<String> {
        let file = self.dir.path().join("exec/containerd/containerd.pid");
        let pid = std::fs::read_to_string(file).ok()?;
        Some(pid.trim().to_owned())
    }

    /// Whether a process lives and was started for it. One that is dead has no command line.
    fn is_ours(&self, pid: &str) -> bool {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains(&self.dir.path().display().to_string())
    }

    fn wait(&self) {
        let address = self.address();
        let log = self.dir.path().join("log");
        let log = || std::fs::read_to_string(&log).unwrap_or_default();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let version = Command::new("docker")
                .args(["-H", &address, "version"])
                .output()
                .expect("these tests need the program `docker`");
            if version.status.success() {
                return;
            }
            assert!(Instant::now() < deadline, "no second engine: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn spawn(dir: &Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .expect("a log");
    let place = dir.display();
    let name = dir
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .replace('.', "");
    Command::new("unshare")
        .args(["--net", "dockerd", "--iptables=false", "--ip-masq=false"])
        .arg(format!("--data-root={place}/data"))
        .arg(format!("--exec-root={place}/exec"))
        .arg(format!("--pidfile={place}/pid"))
        .arg(format!("--containerd-namespace={name}"))
        .arg(format!("--containerd-plugins-namespace={name}-plugins"))
        .arg(format!("--host=unix://{place}/sock"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("these tests need `unshare` and `dockerd`")
}

/// Carries bytes both ways until both sides have ended.
fn join(ours: TcpStream, theirs: UnixStream) {
    let (mut from, mut to) = (
        ours.try_clone().expect("a second handle"),
        theirs.try_clone().expect("a second handle"),
    );
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (theirs, ours);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

impl Drop for SecondEngine {
    fn drop(&mut self) {
        for way in &mut self.ways {
            let _ = way.kill();
            let _ = way.wait();
        }
        self.stop("TERM");
        // An engine that was killed left its containerd, and both may have left mounts.
        if let Some(pid) = self.containerd().filter(|pid| self.is_ours(pid)) {
            let _ = Command::new("kill").args(["-s", "KILL", &pid]).status();
        }
        // Shims outlive what started them; they are told by the directory they were started for.
        let place = self.dir.path().display().to_string();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            if line.contains("containerd-shim") && line.contains(&place) {
                let _ = Command::new("kill").args(["-s", "KILL", &pid]).status();
            }
        }
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let ours = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|place| Path::new(place).starts_with(self.dir.path()));
        for place in ours.collect::<Vec<_>>().into_iter().rev() {
            let _ = Command::new("umount").args(["-l", place]).status();
        }
    }
}
