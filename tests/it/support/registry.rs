//! A real registry (Debian's `docker-registry`) on a free loopback port, for one test.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pipewright::base::Secret;
use pipewright::ports::registry::{Login, Target};
use tempfile::TempDir;

/// How the registry is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegistryOptions {
    /// Demand this user and password; else let anybody in.
    pub login: Option<(&'static str, &'static str)>,
    /// Speak TLS, with a certificate that nobody trusts.
    pub tls: bool,
}

/// A running registry. Stops and is forgotten when dropped.
pub struct Registry {
    child: Child,
    address: SocketAddr,
    options: RegistryOptions,
    // Holds the configuration, the certificate and what is pushed.
    dir: TempDir,
}

impl Registry {
    /// Starts one and waits until it answers.
    pub fn start(options: RegistryOptions) -> Self {
        // Another process may take the port between our looking and the registry's binding.
        let mut words = String::new();
        for _ in 0..5 {
            match Self::try_start(options) {
                Ok(registry) => return registry,
                Err(log) => words = log,
            }
        }
        panic!("docker-registry does not start: {words}");
    }

    fn try_start(options: RegistryOptions) -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("a directory for the registry");
        let address = free_address();
        let config = dir.path().join("config.yml");
        std::fs::write(&config, configuration(dir.path(), address, options))
            .expect("the registry's configuration can be written");
        let log = dir.path().join("log");
        let output = File::create(&log).expect("a log for the registry");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle of the log"))
            .stderr(output)
            .spawn()
            .expect("docker-registry runs (Debian package docker-registry)");
        let mut registry = Self {
            child,
            address,
            options,
            dir,
        };
        if registry.answers() {
            return Ok(registry);
        }
        Err(std::fs::read_to_string(&log).unwrap_or_default())
    }

    fn answers(&mut self) -> bool {
        let patience = Instant::now() + Duration::from_secs(30);
        while Instant::now() < patience {
            if let Ok(Some(_)) = self.child.try_wait() {
                return false;
            }
            let timeout = Duration::from_millis(50);
            if TcpStream::connect_timeout(&self.address, timeout).is_ok() {
                // Not somebody else who took the port: ours must still live.
                return matches!(self.child.try_wait(), Ok(None));
            }
            std::thread::yield_now();
        }
        false
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `host:port`, as image names begin with.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The file with its certificate, if it speaks TLS.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// The registry as a target, with its login if it demands one.
    pub fn target(&self) -> Target {
        Target {
            host: self.host(),
            plain_http: !self.options.tls,
            login: match self.options.login {
                Some((user, password)) => Login::Basic {
                    user: user.to_owned(),
                    password: Secret::new(password),
                },
                None => Login::Ambient,
            },
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
    listener.local_addr().expect("the port just bound")
}

fn configuration(dir: &Path, address: SocketAddr, options: RegistryOptions) -> String {
    let root = dir.join("data");
    let mut http = format!("addr: \"{address}\", secret: test");
    if options.tls {
        let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        certify(&certificate, &key);
        http += &format!(", tls: {{certificate: {certificate:?}, key: {key:?}}}");
    }
    let mut text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {root:?}}}\n  \
         delete: {{enabled: true}}\nhttp: {{{http}}}\n"
    );
    if let Some((user, password)) = options.login {
        let file = dir.join("htpasswd");
        std::fs::write(&file, htpasswd(user, password)).expect("htpasswd can be written");
        text += &format!("auth:\n  htpasswd: {{realm: \"a, b\", path: {file:?}}}\n");
    }
    text
}

fn htpasswd(user: &str, password: &str) -> Vec<u8> {
    // The registry accepts bcrypt only; the lowest cost keeps tests quick.
    let mut child = Command::new("htpasswd")
        .args(["-niB", "-C", "4", user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("htpasswd runs (Debian package apache2-utils)");
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    writeln!(stdin, "{password}").expect("htpasswd takes the password");
    drop(stdin);
    let output = child.wait_with_output().expect("htpasswd ends");
    assert!(output.status.success(), "htpasswd: {}", output.status);
    output.stdout
}

/// Makes a certificate for 127.0.0.1 that signs itself, and its key.
pub fn certify(certificate: &Path, key: &Path) {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=test",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"])
        .arg(certificate)
        .arg("-keyout")
        .arg(key)
        .output()
        .expect("openssl runs (Debian package openssl)");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl: {words}");
}
