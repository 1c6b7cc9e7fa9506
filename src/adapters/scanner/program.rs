//! Runs scanners as programs of this host.
//!
//! A scanner sees an allow list of the environment and no credential of ours, works in the root
//! directory so that no configuration of a checkout changes what it finds, and what it prints is
//! bounded. It and what it started are killed when the caller cancels.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::ports::Output;
use crate::ports::scanner::ScanError;

/// The most a scanner may print as its report.
pub(super) const REPORT_LIMIT: u64 = 64 << 20;
/// The most it may print about itself.
pub(super) const FACTS_LIMIT: u64 = 256 << 10;
/// How much of its complaints goes into an error.
const TAIL: usize = 2000;

/// The variables a scanner sees: where its programs, caches and databases are, how to reach the
/// engine and the network.
const ALLOWED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "TZ",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "DOCKER_HOST",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "CONTAINER_HOST",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "TRIVY_CACHE_DIR",
    "TRIVY_DB_REPOSITORY",
    "TRIVY_JAVA_DB_REPOSITORY",
    "TRIVY_SKIP_DB_UPDATE",
    "TRIVY_SKIP_JAVA_DB_UPDATE",
    "TRIVY_OFFLINE_SCAN",
    "GRYPE_DB_CACHE_DIR",
    "GRYPE_DB_UPDATE_URL",
    "GRYPE_DB_CA_CERT",
    "GRYPE_DB_AUTO_UPDATE",
];

/// The programs of this host, and what of its environment they see.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    env: BTreeMap<OsString, OsString>,
}

/// How a program ended, and what it printed.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    /// The end of its standard error.
    complaints: Vec<u8>,
}

impl Finished {
    /// The end of what it complained about.
    pub(super) fn complaints(&self) -> String {
        String::from_utf8_lossy(&self.complaints).trim().to_owned()
    }
}

impl Programs {
    /// Programs in an environment, of which only an allow list is used.
    pub(super) fn new(env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let allowed = |name: &OsStr| {
            name.to_str()
                .is_some_and(|n| ALLOWED.contains(&n) || n.starts_with("LC_"))
        };
        Self {
            env: env.into_iter().filter(|(name, _)| allowed(name)).collect(),
        }
    }

    /// The program of this name that the path leads to first.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.env.get(OsStr::new("PATH"))?;
        std::env::split_paths(path)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find(|program| is_program(program))
    }

    /// Runs a program to its end. Its standard error goes to the log as it comes.
    pub(super) async fn run(
        &self,
        call: &Call<'_>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Finished, ScanError> {
        let name = call.name();
        let broken = |what: String, error: std::io::Error| {
            ScanError::Broken(format!("{what} {name}: {error}"))
        };
        let mut child = self
            .command(call)
            .spawn()
            .map_err(|error| broken("cannot start".to_owned(), error))?;
        let stdout = child.stdout.take().expect("it was asked for");
        let stderr = child.stderr.take().expect("it was asked for");
        let read = async { tokio::try_join!(bounded(stdout, call.limit), logged(stderr, output)) };
        let read = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            read = read => Some(read),
        };
        let (stdout, complaints) = match read {
            Some(Ok(read)) => read,
            Some(Err(error)) => {
                kill(&mut child).await;
                return Err(broken("cannot read the output of".to_owned(), error));
            }
            None => {
                kill(&mut child).await;
                return Err(ScanError::Cancelled);
            }
        };
        let status = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            status = child.wait() => Some(status),
        };
        match status {
            Some(status) => Ok(Finished {
                status: status.map_err(|error| broken("lost track of".to_owned(), error))?,
                stdout,
                complaints,
            }),
            None => {
                kill(&mut child).await;
                Err(ScanError::Cancelled)
            }
        }
    }

    fn command(&self, call: &Call<'_>) -> Command {
        let mut command = Command::new(call.program);
        command
            .args(call.args)
            .env_clear()
            .envs(&self.env)
            .envs(call.env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// A call of a program.
pub(super) struct Call<'a> {
    pub(super) program: &'a Path,
    pub(super) args: &'a [OsString],
    /// Variables beside the allow list.
    pub(super) env: &'a [(&'static str, OsString)],
    /// The most it may print, in bytes.
    pub(super) limit: u64,
}

impl Call<'_> {
    fn name(&self) -> String {
        let name = self.program.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Kills a program and what it started, and waits for it.
async fn kill(child: &mut Child) {
    let group = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // It may have ended by itself meanwhile.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill().await;
}

/// All a stream holds; an error at once if that is more than `limit` bytes.
async fn bounded(stream: impl AsyncRead + Unpin, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(limit + 1).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 > limit {
        let message = format!("it is more than {limit} bytes");
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            message,
        ));
    }
    Ok(bytes)
}

/// Passes a stream on to the log and keeps its end.
async fn logged(
    mut stream: impl AsyncRead + Unpin,
    output: &dyn Output,
) -> std::io::Result<Vec<u8>> {
    let mut tail = Vec::new();
    let mut chunk = vec![0; 8 << 10];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(tail);
        }
        output.log(&chunk[..count]);
        tail.extend_from_slice(&chunk[..count]);
        let surplus = tail.len().saturating_sub(TAIL);
        tail.drain(..surplus);
    }
}

/// One line of a bounded number of characters without control characters.
pub(super) fn plain(text: &str, limit: usize) -> String {
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(limit)
        .collect()
}
