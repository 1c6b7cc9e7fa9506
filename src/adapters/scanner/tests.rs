//! Scanners as stand-in programs that print recorded reports, or do worse.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::base::Timestamp;
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

/// Scanners whose path leads first to one of the stand-ins: `trivy/found`.
fn scanners(stand_in: &str) -> Scanners {
    let root = env!("CARGO_MANIFEST_DIR");
    let path = format!("{root}/tests/data/{stand_in}:/usr/bin:/bin");
    let env = [
        ("PATH", path.as_str()),
        ("HOME", "/nonexistent"),
        ("LC_ALL", "C.UTF-8"),
        ("AWS_SECRET_ACCESS_KEY", "must-not-pass"),
        ("TRIVY_PASSWORD", "must-not-pass"),
        ("GRYPE_REGISTRY_AUTH_TOKEN", "must-not-pass"),
    ];
    Scanners::new(env.map(|(name, value)| (name.into(), value.into())))
}

fn choice(name: ScannerName) -> ScannerChoice {
    ScannerChoice {
        name: Some(name),
        ..ScannerChoice::default()
    }
}

async fn scan_with(
    stand_in: &str,
    choice: Option<&ScannerChoice>,
) -> (Result<Report, ScanError>, String) {
    let log = Log::default();
    let subject = Subject::Engine("localhost:5000/app:1".to_owned());
    let request = ScanRequest {
        subject: &subject,
        choice,
        labels: &Default::default(),
    };
    let cancel = CancellationToken::new();
    let scanned = scanners(stand_in).scan(&request, &log, &cancel).await;
    (scanned.map(|scanned| scanned.report), log.text())
}

#[tokio::test]
async fn trivy_on_the_path_is_asked_without_a_choice() {
    let (report, log) = scan_with("trivy/found", None).await;
    let report = report.expect("it scans");
    assert_eq!(report.tool.version.as_deref(), Some("0.58.1"));
    let database = report.database.expect("it tells");
    assert_eq!(database.version.as_deref(), Some("2"));
    assert_eq!(
        database.updated.map(Timestamp::rfc3339).as_deref(),
        Some("2026-01-31T06:12:07Z")
    );
    assert_eq!((report.findings.len(), report.packages), (4, 5));
    assert!(
        log.starts_with("using trivy: no scanner was asked for, and /"),
        "{log}"
    );
    let arguments = "arguments: image --format json --quiet --scanners vuln --list-all-pkgs localhost:5000/app:1\n";
    assert!(log.contains(arguments), "{log}");
    assert!(log.contains("LC_ALL=C.UTF-8\n") && log.contains("HOME=/nonexistent\n"));
    // No `trivy.yaml` or `.trivyignore` of a checkout decides what it finds.
    assert!(log.contains("directory: /\n"), "{log}");
    assert!(!log.contains("must-not-pass"), "{log}");
}

#[tokio::test]
async fn trivy_is_told_to_work_offline_and_where_its_database_is() {
    let asked = ScannerChoice {
        offline: true,
        database: Some("/var/lib/trivy".into()),
        ..choice(ScannerName::Trivy)
    };
    let (report, log) = scan_with("trivy/found", Some(&asked)).await;
    report.expect("it scans");
    let arguments = "--list-all-pkgs --offline-scan --skip-db-update --skip-java-db-update --cache-dir /var/lib/trivy localhost";
    assert!(log.contains(arguments), "{log}");
    assert!(log.starts_with("using trivy: it was asked for\n"), "{log}");
}

#[tokio::test]
async fn grype_is_told_the_same_by_its_environment() {
    let asked = ScannerChoice {
        offline: true,
        database: Some("/var/lib/grype".into()),
        ..choice(ScannerName::Grype)
    };
    let (report, log) = scan_with("grype/found", Some(&asked)).await;
    let report = report.expect("it scans");
    assert_eq!(report.tool.version.as_deref(), Some("0.87.0"));
    assert_eq!(report.findings.len(), 3);
    for line in [
        "arguments: docker:localhost:5000/app:1 --output json --quiet\n",
        "GRYPE_DB_AUTO_UPDATE=false\n",
        "GRYPE_DB_CACHE_DIR=/var/lib/grype\n",
        "GRYPE_DB_VALIDATE_AGE=false\n",
    ] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(!log.contains("must-not-pass"), "{log}");
    // Findings that a configuration of its own calls too bad are findings, not a breakdown.
    let grype = choice(ScannerName::Grype);
    let (limited, _) = scan_with("grype/limit", Some(&grype)).await;
    assert_eq!(limited.expect("it scans").findings, report.findings);
}

#[tokio::test]
async fn an_image_without_packages_has_no_findings() {
    let (report, _) = scan_with("trivy/nothing", None).await;
    let report = report.expect("it scans");
    assert_eq!((report.tool.version, report.database), (None, None));
    assert_eq!((report.findings.len(), report.uncovered.len()), (0, 0));
}

#[tokio::test]
async fn whatever_is_no_report_is_an_error() {
    for (stand_in, name, expected) in [
        (
            "trivy/failing",
            ScannerName::Trivy,
            "trivy ended with exit status: 1: 2026-01-31T08:00:00Z\tFATAL\timage scan error",
        ),
        (
            "trivy/garbled",
            ScannerName::Trivy,
            "trivy printed no report: missing field `SchemaVersion`",
        ),
        (
            "trivy/endless",
            ScannerName::Trivy,
            "cannot read the output of trivy: it is more than 67108864 bytes",
        ),
        (
            "grype/cut",
            ScannerName::Grype,
            "grype printed no report: EOF while parsing",
        ),
    ] {
        let (report, _) = scan_with(stand_in, Some(&choice(name))).await;
        let Err(ScanError::Broken(message)) = report else {
            panic!("{stand_in}: {report:?}");
        };
        assert!(message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn a_missing_database_is_told_apart() {
    for (stand_in, name) in [
        ("trivy/stale", ScannerName::Trivy),
        ("grype/stale", ScannerName::Grype),
    ] {
        let (report, _) = scan_with(stand_in, Some(&choice(name))).await;
        assert!(
            matches!(report, Err(ScanError::NoDatabase(_))),
            "{stand_in}: {report:?}"
        );
    }
}

#[tokio::test]
async fn cancelling_kills_it() {
    let log = Log::default();
    let cancel = CancellationToken::new();
    let scanners = scanners("trivy/hanging");
    let subject = Subject::Engine("app:1".to_owned());
    let request = ScanRequest {
        subject: &subject,
        choice: None,
        labels: &Default::default(),
    };
    let scan = scanners.scan(&request, &log, &cancel);
    let child = || {
        let text = log.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("waits for "));
        line.map(str::to_owned)
    };
    let stop = async {
        // The scanner runs once it has said so; a test that never gets there times out.
        while child().is_none() {
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
    let child = child().expect("it said for whom");
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
async fn without_the_scanner_asked_for_it_says_what_to_do() {
    let grype = choice(ScannerName::Grype);
    let (report, _) = scan_with("trivy/found", Some(&grype)).await;
    let text = report.expect_err("there is none").to_string();
    assert!(
        text.contains("grype is not on the PATH; install it"),
        "{text}"
    );
    let pinned = ScannerChoice {
        image: Some("aquasec/trivy@sha256:00".to_owned()),
        ..choice(ScannerName::Trivy)
    };
    let (report, _) = scan_with("trivy/found", Some(&pinned)).await;
    assert!(
        matches!(report, Err(ScanError::Unavailable(_))),
        "{report:?}"
    );
}

#[test]
fn the_choice_says_why() {
    let (name, reason) = scanners("nowhere").choose(None);
    assert_eq!(name, ScannerName::Builtin);
    assert!(reason.ends_with("and trivy is not on the path"), "{reason}");
    let offline = ScannerChoice {
        offline: true,
        ..ScannerChoice::default()
    };
    let (name, _) = scanners("trivy/found").choose(Some(&offline));
    assert_eq!(name, ScannerName::Trivy);
}
