//! Vulnerability scanners found on the path. Knows Trivy.
//!
//! A scanner sees an allow list of the environment and no credential of ours. What it prints
//! is bounded, and anything but a whole report is an error, never "no findings".

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use async_trait::async_trait;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::ports::Output;
use crate::ports::scanner::{ScanError, Scanner, ScannerChoice, ScannerName};
use crate::scan::{Advisory, Finding, Rating, Report, Severity, Tool};

/// The most a scanner may print.
const REPORT_LIMIT: u64 = 64 << 20;
/// How much of its complaints goes into an error.
const TAIL: usize = 2000;
/// The longest title kept.
const TITLE: usize = 300;

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
];

/// Runs whichever scanner is on the path.
#[derive(Clone, Debug)]
pub struct PathScanner {
    env: BTreeMap<OsString, OsString>,
}

impl PathScanner {
    /// A scanner for an environment, of which only an allow list is used. `PATH` decides where
    /// scanners are looked for.
    pub fn new(env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let allowed = |name: &OsStr| {
            name.to_str()
                .is_some_and(|n| ALLOWED.contains(&n) || n.starts_with("LC_"))
        };
        Self {
            env: env.into_iter().filter(|(name, _)| allowed(name)).collect(),
        }
    }

    /// A scanner for the environment of this process.
    pub fn from_env() -> Self {
        Self::new(std::env::vars_os())
    }

    /// The program of this name that the path leads to first.
    fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.env.get(OsStr::new("PATH"))?;
        std::env::split_paths(path)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(name))
            .find(|program| is_program(program))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(&self.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// The first line of `--version`, for people; nothing depends on it.
    async fn version(
        &self,
        program: &Path,
        cancel: &CancellationToken,
    ) -> Result<Option<String>, ScanError> {
        let mut command = self.command(program);
        command.arg("--version");
        let done = run(command, &crate::ports::Silent, 64 << 10, cancel).await;
        let text = match done {
            Ok(done) if done.status.success() => done.stdout,
            Err(ScanError::Cancelled) => return Err(ScanError::Cancelled),
            _ => Vec::new(),
        };
        let text = String::from_utf8_lossy(&text);
        let version = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("Version: "));
        Ok(version.map(|version| plain(version, 40)))
    }
}

#[async_trait]
impl Scanner for PathScanner {
    async fn scan(
        &self,
        image: &str,
        choice: Option<&ScannerChoice>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Report, ScanError> {
        if let Some(other) = choice.filter(|choice| choice.name != ScannerName::Trivy) {
            return Err(ScanError::Unavailable(format!(
                "\"{}\" is not part of this version yet; leave it out or write \"trivy\"",
                other.name.word()
            )));
        }
        let Some(program) = self.find("trivy") else {
            return Err(ScanError::Unavailable(
                "trivy is not on the PATH; install it (https://trivy.dev) or add its directory"
                    .to_owned(),
            ));
        };
        if image.is_empty() || image.starts_with('-') {
            return Err(ScanError::Broken(format!(
                "{image:?} is not the name of an image"
            )));
        }
        let tool = Tool {
            name: "trivy".to_owned(),
            version: self.version(&program, cancel).await?,
        };
        let mut command = self.command(&program);
        command.args(["image", "--format", "json", "--quiet", image]);
        let done = run(command, output, REPORT_LIMIT, cancel).await?;
        if !done.status.success() {
            let tail = String::from_utf8_lossy(&done.complaints);
            return Err(ScanError::Broken(match tail.trim() {
                "" => format!("trivy ended with {}", done.status),
                tail => format!("trivy ended with {}: {tail}", done.status),
            }));
        }
        report(tool, image, &done.stdout)
            .map_err(|why| ScanError::Broken(format!("trivy printed no report: {why}")))
    }
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// How a program ended, and what it printed.
struct Finished {
    status: ExitStatus,
    stdout: Vec<u8>,
    /// The end of its standard error.
    complaints: Vec<u8>,
}

/// Runs a program to its end. Its standard error goes to the log as it comes.
async fn run(
    mut command: Command,
    output: &dyn Output,
    limit: u64,
    cancel: &CancellationToken,
) -> Result<Finished, ScanError> {
    let broken = |what: &str, error: std::io::Error| ScanError::Broken(format!("{what}: {error}"));
    let mut child = command
        .spawn()
        .map_err(|error| broken("cannot start trivy", error))?;
    let stdout = child.stdout.take().expect("it was asked for");
    let stderr = child.stderr.take().expect("it was asked for");
    let read = async { tokio::try_join!(bounded(stdout, limit), logged(stderr, output)) };
    let read = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        read = read => Some(read),
    };
    let (stdout, complaints) = match read {
        Some(Ok(read)) => read,
        Some(Err(error)) => {
            kill(&mut child).await;
            return Err(broken("cannot read what trivy prints", error));
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
            status: status.map_err(|error| broken("lost track of trivy", error))?,
            stdout,
            complaints,
        }),
        None => {
            kill(&mut child).await;
            Err(ScanError::Cancelled)
        }
    }
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

/// Trivy's report, as far as we read it. The first two fields tell it from any other JSON.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyReport {
    schema_version: u32,
    #[expect(dead_code, reason = "has to be there for this to be a report")]
    artifact_name: String,
    #[serde(default)]
    results: Option<Vec<TrivyResult>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyResult {
    #[serde(default)]
    packages: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(default)]
    vulnerabilities: Option<Vec<TrivyFinding>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyFinding {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    #[serde(default, rename = "VendorIDs")]
    vendor_ids: Option<Vec<String>>,
    pkg_name: String,
    #[serde(default)]
    installed_version: String,
    #[serde(default)]
    fixed_version: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    description: String,
}

fn report(tool: Tool, image: &str, bytes: &[u8]) -> Result<Report, String> {
    let read: TrivyReport = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if read.schema_version != 2 {
        return Err(format!(
            "its schema is version {}, we know version 2",
            read.schema_version
        ));
    }
    let results = read.results.unwrap_or_default();
    let packages = results.iter().flat_map(|result| &result.packages);
    Ok(Report {
        packages: packages.map(|list| list.len() as u64).sum(),
        findings: results
            .into_iter()
            .filter_map(|result| result.vulnerabilities)
            .flatten()
            .map(finding)
            .collect(),
        ..Report::new(tool, image)
    })
}

fn finding(found: TrivyFinding) -> Finding {
    let title = match found.title.is_empty() {
        true => found.description.lines().next().unwrap_or_default(),
        false => &found.title,
    };
    let rating = match found.severity.to_ascii_uppercase().as_str() {
        "CRITICAL" => Rating::Critical,
        "HIGH" => Rating::High,
        "MEDIUM" => Rating::Medium,
        "LOW" => Rating::Low,
        _ => Rating::Unknown,
    };
    Finding {
        advisory: Advisory {
            title: plain(title, TITLE),
            id: found.id,
            aliases: found.vendor_ids.unwrap_or_default(),
            url: None,
            severities: vec![Severity {
                source: "trivy".to_owned(),
                rating,
                vector: None,
                score: None,
            }],
        },
        rating,
        package: found.pkg_name,
        version: found.installed_version,
        kind: None,
        purl: None,
        fixed: Some(found.fixed_version).filter(|version| !version.is_empty()),
        locations: Vec::new(),
    }
}

/// One line of a bounded number of characters without control characters.
fn plain(text: &str, limit: usize) -> String {
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::ports::Progress;

    #[derive(Default)]
    struct Log(Mutex<Vec<u8>>);

    impl Log {
        fn text(&self) -> String {
            let bytes = self.0.lock().expect("no test panics while logging");
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }

    impl Output for Log {
        fn log(&self, bytes: &[u8]) {
            let mut log = self.0.lock().expect("no test panics while logging");
            log.extend_from_slice(bytes);
        }

        fn progress(&self, _: Progress) {}
    }

    /// A scanner whose path leads first to one of the stand-ins.
    fn scanner(name: &str) -> PathScanner {
        let root = env!("CARGO_MANIFEST_DIR");
        let path = format!("{root}/tests/data/trivy/{name}:/usr/bin:/bin");
        let env = [
            ("PATH", path.as_str()),
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C.UTF-8"),
            ("AWS_SECRET_ACCESS_KEY", "must-not-pass"),
            ("TRIVY_PASSWORD", "must-not-pass"),
        ];
        PathScanner::new(env.map(|(name, value)| (name.into(), value.into())))
    }

    async fn scan(name: &str) -> (Result<Report, ScanError>, String) {
        let log = Log::default();
        let cancel = CancellationToken::new();
        let report = scanner(name)
            .scan("localhost:5000/app:1", None, &log, &cancel)
            .await;
        (report, log.text())
    }

    #[tokio::test]
    async fn a_report_is_read() {
        let (report, log) = scan("found").await;
        let report = report.expect("it scans");
        assert_eq!(
            (report.tool.name.as_str(), report.tool.version.as_deref()),
            ("trivy", Some("0.58.1"))
        );
        let [zlib, libc, module] = report.findings.as_slice() else {
            panic!("{report:?}");
        };
        assert_eq!(report.packages, 3);
        assert_eq!((zlib.rating, &zlib.fixed), (Rating::Critical, &None));
        assert_eq!(
            (zlib.package.as_str(), zlib.version.as_str()),
            ("zlib1g", "1:1.2.13.dfsg-1")
        );
        assert!(zlib.advisory.is("CVE-2023-45853") && zlib.advisory.is("DSA-0000-1"));
        assert_eq!(
            zlib.advisory.title,
            "zlib: integer overflow in zipOpenNewFileInZip4_6"
        );
        assert_eq!(libc.fixed.as_deref(), Some("2.36-9+deb12u3"));
        assert_eq!(
            libc.advisory.title,
            "A buffer overflow in the dynamic loader."
        );
        assert_eq!((module.rating, &module.fixed), (Rating::Unknown, &None));
        assert!(log.contains("arguments: image --format json --quiet localhost:5000/app:1\n"));
        assert!(log.contains("LC_ALL=C.UTF-8\n") && log.contains("HOME=/nonexistent\n"));
        assert!(!log.contains("must-not-pass"), "{log}");
    }

    #[tokio::test]
    async fn an_image_without_packages_has_no_findings() {
        let (report, _) = scan("nothing").await;
        let report = report.expect("it scans");
        assert_eq!(
            (report.tool.name.as_str(), report.findings.len()),
            ("trivy", 0)
        );
    }

    #[tokio::test]
    async fn whatever_is_no_report_is_an_error() {
        for (name, expected) in [
            ("failing", "no such image: localhost:5000/app:1"),
            (
                "garbled",
                "trivy printed no report: missing field `SchemaVersion`",
            ),
            (
                "endless",
                "cannot read what trivy prints: it is more than 67108864 bytes",
            ),
        ] {
            let (report, _) = scan(name).await;
            let Err(ScanError::Broken(message)) = report else {
                panic!("{name}: {report:?}");
            };
            assert!(message.contains(expected), "{message}");
        }
        let other = r#"{"SchemaVersion": 3, "ArtifactName": "x"}"#;
        let why = report(Tool::named("trivy"), "app:1", other.as_bytes());
        assert_eq!(
            why,
            Err("its schema is version 3, we know version 2".to_owned())
        );
    }

    #[tokio::test]
    async fn cancelling_kills_it() {
        let log = Log::default();
        let cancel = CancellationToken::new();
        let scanner = scanner("hanging");
        let scan = scanner.scan("app:1", None, &log, &cancel);
        let stop = async {
            // The scanner runs once it has logged; a test that never gets there times out.
            while log.text().is_empty() {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        };
        let both = async { tokio::join!(scan, stop) };
        let (report, ()) = tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .expect("it ends soon after it was cancelled");
        assert!(matches!(report, Err(ScanError::Cancelled)), "{report:?}");
        // What it started is gone too, or at least a zombie without a command line.
        let text = log.text();
        let child = text
            .trim()
            .strip_prefix("waits for ")
            .expect("it says for whom");
        let command = PathBuf::from(format!("/proc/{child}/cmdline"));
        let gone = async {
            while std::fs::read(&command).is_ok_and(|line| !line.is_empty()) {
                tokio::task::yield_now().await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(60), gone).await;
        assert!(gone.is_ok(), "process {child} lives on");
    }

    #[tokio::test]
    async fn without_a_scanner_it_says_what_to_do() {
        let cancel = CancellationToken::new();
        let nowhere = PathScanner::new([("PATH".into(), "relative:/nonexistent".into())]);
        let error = nowhere.scan("app:1", None, &Log::default(), &cancel).await;
        let text = error.expect_err("there is none").to_string();
        assert!(
            text.contains("trivy is not on the PATH; install it"),
            "{text}"
        );
        let grype = ScannerChoice {
            name: ScannerName::Grype,
            image: None,
            offline: false,
            database: None,
        };
        let error = scanner("found")
            .scan("app:1", Some(&grype), &Log::default(), &cancel)
            .await;
        assert!(matches!(error, Err(ScanError::Unavailable(_))), "{error:?}");
        let error = scanner("found")
            .scan("--config=x", None, &Log::default(), &cancel)
            .await;
        assert!(matches!(error, Err(ScanError::Broken(_))), "{error:?}");
    }
}
