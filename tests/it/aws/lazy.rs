//! Nobody pays for AWS who does not work with it: its configuration is not even opened.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::faulty::{Faulty, Reply};
use crate::support::program::Program;

const PIPELINES: &str = r#"
aws prod { role "arn:aws:iam::123456789012:role/ci" }
registry ecr aws=prod
secret DB aws=prod secretsmanager="db"
image app registry=ecr "shop/app" { tag "${git.sha}" }
pipeline release {
    build app { dockerfile "Dockerfile" }
    push app
    run use { env DB "${secret.DB}"; script "true" }
}
pipeline local { run a { script "true" } }
"#;

/// A configuration file that counts how often it is opened.
fn counting(path: &Path) -> Arc<AtomicUsize> {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.expect("the program `mkfifo`").success());
    let count = Arc::new(AtomicUsize::new(0));
    let (path, counter) = (path.to_owned(), count.clone());
    // Opening a pipe for writing waits until somebody opens it for reading.
    std::thread::spawn(move || {
        while let Ok(mut pipe) = OpenOptions::new().write(true).open(&path) {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = pipe.write_all(b"[default]\nregion = us-east-1\n");
        }
    });
    count
}

#[test]
fn only_what_works_in_an_account_opens_its_configuration() {
    let program = Program::with_files(&[
        ("pipelines/p.kdl", PIPELINES),
        ("Dockerfile", "FROM scratch\n"),
        (".gitignore", ".pipewright/\n"),
    ]);
    let server = Faulty::alone(|_| Reply::status(403));
    let config = program.outside().join("config");
    let opened = counting(&config);
    let run = |args: &[&str]| {
        let mut command = program.command(args);
        for name in ["AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"] {
            command.env_remove(name);
        }
        let url = format!("http://{}", server.address());
        command
            .env("AWS_CONFIG_FILE", &config)
            .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
            .env("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
            .env("AWS_SECRET_ACCESS_KEY", "the-secret-key-of-nobody")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)
            .env("AWS_ENDPOINT_URL", &url);
        let output = command.output().expect("the program starts");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for args in [
        &["--version"][..],
        &["check"],
        &["graph", "release"],
        &["aws", "policy", "release"],
        &["plan", "local"],
        &["run", "local"],
        &["plan", "release", "--offline"],
    ] {
        let (code, words) = run(args);
        assert_eq!(code, Some(0), "{args:?}: {words}");
        assert_eq!(opened.load(Ordering::SeqCst), 0, "{args:?}");
        assert_eq!(server.seen().len(), 0, "{args:?}");
    }
    // What does work there is seen.
    run(&["plan", "release"]);
    assert!(opened.load(Ordering::SeqCst) > 0);
    assert!(!server.seen().is_empty());
}
