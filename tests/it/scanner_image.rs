//! A scanner run from an image, by a real engine: a stand-in that looks around before it reports.
#![expect(
    clippy::disallowed_methods,
    reason = "tests of adapters start the components they need"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use pipewright::adapters::scanner::Scanners;
use pipewright::ports::scanner::{
    ScanError, ScanRequest, Scanner as _, ScannerChoice, ScannerName, Subject,
};
use pipewright::scan::Report;
use tokio_util::sync::CancellationToken;

use crate::support::docker::{Kept, LABEL, Mine, context, engine, unique};
use crate::support::files::root;
use crate::support::registry::{Registry, RegistryOptions};

/// Ends badly if it can do what a scanner must not, and tells what it sees.
const STAND_IN: &str = r#"#!/busybox sh
if [ "$1" = version ]; then exec /busybox cat /version.json; fi
echo "arguments: $*"
while [ $# -gt 0 ]; do
    case "$1" in --output) OUT=$2 ;; --input) IN=$2 ;; --cache-dir) DB=$2 ;; esac
    shift
done
/busybox tar -tf "$IN" | /busybox grep -q manifest.json || { echo "no archive of an image"; exit 1; }
if (: >>"$IN") 2>/dev/null; then echo "the image can be changed"; exit 1; fi
if [ -e /var/run/docker.sock ]; then echo "the engine can be reached"; exit 1; fi
/busybox env
/busybox ip -o link | /busybox grep -v LOOPBACK && echo "there is a network"
if [ -e "$DB/seen" ]; then echo "the database is kept"; fi
echo yes >"$DB/seen"
[ -e "$DB/broken" ] && { echo "FATAL DB error: --skip-db-update cannot be specified on the first run"; exit 1; }
/busybox cat /report.json >"$OUT"
"#;

fn docker(args: &[&str]) -> String {
    let done = Command::new("docker").args(args).output();
    let done = done.expect("these tests need the docker command");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "docker {args:?}: {done:?}");
    text
}

/// Builds the stand-in, pushes it, and forgets it here; the reference by digest.
fn publish(registry: &Registry, mine: &Mine) -> String {
    let data = |name: &str| {
        std::fs::read_to_string(root().join("tests/data/trivy").join(name))
            .expect("a recorded file")
    };
    let dir = context(&[
        (
            "Dockerfile",
            "FROM scratch\nCOPY busybox trivy report.json version.json /\n\
             RUN [\"/busybox\", \"chmod\", \"755\", \"/trivy\"]\nENTRYPOINT [\"/trivy\"]\n",
        ),
        ("trivy", STAND_IN),
        ("report.json", &data("report.json")),
        ("version.json", &data("version.json")),
    ]);
    let name = format!("{}/scanner", registry.target().host);
    let tagged = format!("{name}:1");
    let label = format!("{LABEL}={}", mine.label);
    let path = dir.path().to_str().expect("a plain path");
    docker(&["build", "-q", "--label", &label, "-t", &tagged, path]);
    let pushed = docker(&["push", &tagged]);
    let digest = pushed
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"))
        .expect("the digest is told");
    docker(&["rmi", &tagged]);
    format!("{name}@{digest}")
}

/// An image to scan.
fn subject(mine: &Mine) -> Subject {
    let dir = context(&[("Dockerfile", "FROM scratch\nCOPY busybox /\n")]);
    let label = format!("{LABEL}={}", mine.label);
    let path = dir.path().to_str().expect("a plain path");
    let id = docker(&["build", "-q", "--label", &label, path]);
    Subject::Engine(id.trim().to_owned())
}

async fn scan(
    scanners: &Scanners,
    subject: &Subject,
    choice: &ScannerChoice,
    mine: &Mine,
) -> (Result<Report, ScanError>, String) {
    let kept = Kept::default();
    let labels = BTreeMap::from([(LABEL.to_owned(), mine.label.clone())]);
    let request = ScanRequest {
        subject,
        choice: Some(choice),
        labels: &labels,
    };
    let scanned = scanners
        .scan(&request, &kept, &CancellationToken::new())
        .await;
    (scanned.map(|scanned| scanned.report), kept.text())
}

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gets_the_image_as_a_file_and_nothing_else() {
    let docker_engine = engine().await;
    let mine = Mine::new("scanner-image");
    let registry = Registry::start(RegistryOptions::default());
    let image = publish(&registry, &mine);
    let work = tempfile::tempdir().expect("a directory");
    let database = tempfile::tempdir().expect("a directory");
    let scanners = Scanners::new([
        ("PATH".into(), "/nonexistent".into()),
        ("AWS_SECRET_ACCESS_KEY".into(), "must-not-pass".into()),
    ])
    .with_engine(docker_engine, work.path().join(unique("scan")));
    let subject = subject(&mine);
    let choice = ScannerChoice {
        name: Some(ScannerName::Trivy),
        image: Some(image.clone()),
        offline: true,
        database: Some(database.path().to_owned()),
    };
    let (report, log) = scan(&scanners, &subject, &choice, &mine).await;
    let report = report.unwrap_or_else(|error| panic!("{error}\n{log}"));
    assert_eq!(report.findings.len(), 4);
    assert_eq!(report.tool.version.as_deref(), Some("0.58.1"));
    assert!(
        report
            .database
            .is_some_and(|database| database.updated.is_some())
    );
    assert!(log.contains("--offline-scan"), "{log}");
    assert!(!log.contains("must-not-pass"), "{log}");
    assert!(!log.contains("there is a network"), "{log}");
    assert!(!log.contains("the database is kept"), "{log}");

    let (report, log) = scan(&scanners, &subject, &choice, &mine).await;
    report.expect("it scans again");
    assert!(log.contains("the database is kept"), "{log}");

    std::fs::write(database.path().join("broken"), "").expect("it is written");
    let (report, _) = scan(&scanners, &subject, &choice, &mine).await;
    assert!(
        matches!(report, Err(ScanError::NoDatabase(_))),
        "{report:?}"
    );

    let unpinned = ScannerChoice {
        image: image.split('@').next().map(|name| format!("{name}:1")),
        ..choice
    };
    let (report, _) = scan(&scanners, &subject, &unpinned, &mine).await;
    let text = report.expect_err("it is refused").to_string();
    assert!(text.contains("not pinned by a digest"), "{text}");

    let filter = format!("label={LABEL}={}", mine.label);
    let left = docker(&["ps", "-aq", "--filter", &filter]);
    assert_eq!(left, "", "containers are left");
    let room = std::fs::read_dir(work.path()).expect("it reads");
    for entry in room.flatten() {
        assert_eq!(entries(&entry.path()), 0, "archives are left");
    }
    // The reference by digest has no label to be found by.
    docker(&["rmi", "-f", &image]);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_database_outlives_the_run() {
    let docker_engine = engine().await;
    let mine = Mine::new("scanner-volume");
    let registry = Registry::start(RegistryOptions::default());
    let image = publish(&registry, &mine);
    let work = tempfile::tempdir().expect("a directory");
    let scanners = Scanners::new([("PATH".into(), "/nonexistent".into())])
        .with_engine(docker_engine, work.path().to_owned());
    let subject = subject(&mine);
    let choice = ScannerChoice {
        name: Some(ScannerName::Trivy),
        image: Some(image.clone()),
        ..ScannerChoice::default()
    };
    let volume = "pipewright-scanner-trivy";
    let listed = || docker(&["volume", "ls", "-q", "--filter", &format!("name={volume}")]);
    let before = listed();
    let (report, _) = scan(&scanners, &subject, &choice, &mine).await;
    report.expect("it scans");
    let (report, log) = scan(&scanners, &subject, &choice, &mine).await;
    report.expect("it scans again");
    assert!(log.contains("the database is kept"), "{log}");
    assert!(log.contains("there is a network"), "{log}");
    // No run owns it, so none takes it away.
    let labels = docker(&["volume", "inspect", "-f", "{{json .Labels}}", volume]);
    assert!(!labels.contains(LABEL), "{labels}");
    docker(&["rmi", "-f", &image]);
    if !before.contains(volume) {
        docker(&["volume", "rm", volume]);
    }
}
