//! Caches and files in a bucket: transfers against moto and against servers that fail, and the
//! program itself in two state directories that have nothing but the bucket in common.

use std::collections::BTreeMap;
use std::path::Path;

use pipewright::base::{Digest, LateSecrets};
use pipewright::ports::Silent;
use pipewright::ports::bucket::{BucketError, BucketReader as _, Buckets as _, Object};
use pipewright::ports::cloud::{CloudError, ObjectPlace};
use tokio_util::sync::CancellationToken;

use super::objects::put;
use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::moto::{Moto, account, clouds, exchange};
use crate::support::program::{Ended, Program};

fn place(text: &str) -> ObjectPlace {
    text.parse().expect("an object's address")
}

/// Bytes that do not repeat.
pub(super) fn noise(size: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&state.to_be_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub(super) fn notes(bytes: &[u8]) -> BTreeMap<String, String> {
    BTreeMap::from([("sha256".to_owned(), Digest::of(bytes).to_string())])
}

async fn store(endpoint: &str, dir: &Path, at: &str, bytes: &[u8]) -> Result<(), BucketError> {
    let file = dir.join("source");
    std::fs::write(&file, bytes).expect("write");
    let clouds = clouds(&LateSecrets::default());
    let (account, cancel) = (account(endpoint, dir), CancellationToken::new());
    let notes = notes(bytes);
    let place = place(at);
    let stored = clouds.store(&account, &place, &file, &notes, &Silent, &cancel);
    stored.await
}

async fn find(endpoint: &str, dir: &Path, at: &str) -> Result<Option<Object>, CloudError> {
    let clouds = clouds(&LateSecrets::default());
    clouds.find(&account(endpoint, dir), &place(at)).await
}

async fn fetch(
    endpoint: &str,
    dir: &Path,
    object: &Object,
    wanted: &Digest,
) -> Result<Vec<u8>, BucketError> {
    let into = dir.join("target");
    let _ = std::fs::remove_file(&into);
    let clouds = clouds(&LateSecrets::default());
    let (account, cancel) = (account(endpoint, dir), CancellationToken::new());
    let fetched = clouds.fetch(&account, object, wanted, &into, &Silent, &cancel);
    fetched.await?;
    Ok(std::fs::read(into).expect("it was fetched"))
}

fn uploads(server: &Faulty, what: impl Fn(&Request) -> bool) -> usize {
    server.seen().iter().filter(|request| what(request)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_every_size_there_and_back() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let server = Faulty::before(moto.address(), |_| Reply::Pass);
    let endpoint = format!("http://{}", server.address());
    let dir = tempfile::tempdir().expect("a directory");
    for (key, size) in [("small", 1), ("part", 8 << 20), ("large", (20 << 20) + 17)] {
        let (at, bytes) = (format!("s3://kept/a/{key}"), noise(size));
        assert!(
            find(&endpoint, dir.path(), &at)
                .await
                .expect("asked")
                .is_none()
        );
        store(&endpoint, dir.path(), &at, &bytes)
            .await
            .expect("stored");
        let object = find(&endpoint, dir.path(), &at).await.expect("asked");
        let object = object.expect("it is there");
        assert_eq!((object.size, &object.notes), (size as u64, &notes(&bytes)));
        let fetched = fetch(&endpoint, dir.path(), &object, &Digest::of(&bytes)).await;
        assert!(fetched.expect("fetched") == bytes, "{key}");
    }
    assert_eq!(uploads(&server, |r| r.path.contains("partNumber=")), 3);
    let clouds = clouds(&LateSecrets::default());
    let account = account(&endpoint, dir.path());
    for most in [1, 2, 100] {
        let listed = clouds.list(&account, &place("s3://kept/a/"), most).await;
        let listed = listed.expect("listed");
        assert_eq!(listed.len(), most.min(3));
        assert!(listed.iter().all(|object| !object.stored.is_empty()));
    }
    let none = clouds.list(&account, &place("s3://kept/b/"), 9).await;
    assert_eq!(none.expect("listed"), []);
    let error = clouds.list(&account, &place("s3://nowhere/a"), 9).await;
    let error = error.expect_err("no bucket").to_string();
    assert!(
        error.contains("refused s3:ListBucket: NoSuchBucket"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_lost_are_sent_again() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let mut seen = std::collections::HashSet::new();
    // Every first try of everything fails, in a way of its own.
    let server = Faulty::before(moto.address(), move |request| {
        let range = request.header("range").unwrap_or("");
        let first = seen.insert(format!("{} {} {range}", request.method, request.path));
        if !first || !request.path.starts_with("/kept/") {
            return Reply::Pass;
        }
        match seen.len() % 4 {
            0 => Reply::Reset,
            1 => Reply::status(500),
            2 => Reply::status(429),
            _ => Reply::Answer(
                503,
                Vec::new(),
                "<Error><Code>SlowDown</Code></Error>".to_owned(),
            ),
        }
    });
    let endpoint = format!("http://{}", server.address());
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = noise((17 << 20) + 1);
    let at = "s3://kept/a";
    store(&endpoint, dir.path(), at, &bytes)
        .await
        .expect("stored");
    let object = find(&endpoint, dir.path(), at).await.expect("asked");
    let object = object.expect("it is there");
    let fetched = fetch(&endpoint, dir.path(), &object, &Digest::of(&bytes)).await;
    assert!(fetched.expect("fetched") == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_is_never_seen() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let server = Faulty::before(moto.address(), |request| {
        match request.path.contains("partNumber=2") {
            true => Reply::Answer(
                403,
                Vec::new(),
                "<Error><Code>AccessDenied</Code><Message>no</Message></Error>".to_owned(),
            ),
            false => Reply::Pass,
        }
    });
    let endpoint = format!("http://{}", server.address());
    let dir = tempfile::tempdir().expect("a directory");
    let error = store(&endpoint, dir.path(), "s3://kept/a", &noise(9 << 20)).await;
    let error = error.expect_err("denied").to_string();
    assert!(
        error.contains("denied s3:PutObject")
            && error.contains("asked for s3:PutObject on s3://kept/a"),
        "{error}"
    );
    assert_eq!(
        uploads(&server, |r| r.method == "DELETE"),
        1,
        "it is aborted"
    );
    let there = find(&endpoint, dir.path(), "s3://kept/a").await;
    assert_eq!(there.expect("asked"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_tampered_with_is_refused() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let dir = tempfile::tempdir().expect("a directory");
    let endpoint = moto.url();
    store(&endpoint, dir.path(), "s3://kept/a", b"good")
        .await
        .expect("stored");
    put(&moto, "/kept/a", b"evil");
    let object = find(&endpoint, dir.path(), "s3://kept/a")
        .await
        .expect("asked");
    let object = object.expect("it is there");
    let error = fetch(&endpoint, dir.path(), &object, &Digest::of(b"good")).await;
    let error = error.expect_err("tampered with");
    assert!(matches!(error, BucketError::Tampered { .. }), "{error}");
    // A version that is gone by now is no half of another one.
    let other = Object {
        etag: "\"0123\"".to_owned(),
        ..object
    };
    let error = fetch(&endpoint, dir.path(), &other, &Digest::of(b"evil")).await;
    let error = error.expect_err("another version").to_string();
    assert!(error.contains("PreconditionFailed"), "{error}");
}

/// A repository with this pipeline, and a way to run it in a state directory of its own.
pub(super) struct Project {
    pub(super) program: Program,
    pub(super) env: Vec<(String, String)>,
}

impl Project {
    pub(super) fn new(endpoint: &str, stages: &str) -> Self {
        let text = format!(
            "aws store region=us-east-1 {{ endpoint \"{endpoint}\" }}\n\
             secret TOKEN env=TOKEN\n\
             bucket ci \"s3://kept/pipewright\" aws=store\n\
             pipeline ci {{\n{stages}\n}}\n"
        );
        let files = [
            ("pipelines/p.kdl", text.as_str()),
            ("lock", "one"),
            (".gitignore", ".pipewright/\n"),
        ];
        let env = [
            ("AWS_ACCESS_KEY_ID", "AKIATEST"),
            ("AWS_SECRET_ACCESS_KEY", "test-access-key"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("TOKEN", "t0p-s3cr3t-value"),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            program: Program::with_files(&files),
            env: env.to_vec(),
        }
    }

    /// Runs the program on a machine: with a state directory of this name.
    pub(super) fn on(&self, machine: &str, args: &[&str]) -> Ended {
        let state = self.program.outside().join(machine);
        let state = state.to_str().expect("a path in UTF-8");
        let args = [&["--state", state], args].concat();
        self.program.run_with(&self.env, &args)
    }

    #[track_caller]
    pub(super) fn run(&self, machine: &str, code: i32) -> String {
        let ended = self.on(machine, &["run", "ci", "--format", "plain"]);
        assert_eq!(ended.code, Some(code), "{machine}: {ended:#?}");
        ended.out
    }
}

pub(super) const COUNT: &str = r#"run count {
    cache "kept" bucket=ci key="counts" { hash "lock"; fallback "other" }
    script "cat kept/* 2>/dev/null || echo nothing; echo from-$(cat lock) > kept/$(cat lock)"
}"#;

#[test]
fn another_machine_finds_the_cache() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let project = Project::new(&moto.url(), COUNT);
    let first = project.run("one", 0);
    assert!(
        first.contains("begins empty") && first.contains("nothing"),
        "{first}"
    );
    assert!(first.contains("cache counts stored"), "{first}");
    let second = project.run("two", 0);
    assert!(
        second.contains("came from s3://kept/pipewright/caches/ci/shared/counts/"),
        "{second}"
    );
    assert!(second.contains("from-one"), "{second}");
    assert!(
        !second.contains("stored"),
        "the very version is there: {second}"
    );
    // Another version begins with the newest there is, and is one of its own.
    project.program.repo.commit("more", &[("lock", "two")]);
    let third = project.run("three", 0);
    assert!(
        third.contains("from-one") && third.contains("cache counts stored"),
        "{third}"
    );
    let fourth = project.run("four", 0);
    assert!(
        fourth.contains("from-one") && fourth.contains("from-two"),
        "{fourth}"
    );
    // A machine that has the cache asks for no other.
    let again = project.run("one", 0);
    assert!(!again.contains("came from"), "{again}");
}

#[test]
fn what_a_pull_request_stores_is_its_own() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let stage = format!("on {{ push branch=main; pull-request base=main }}\n{COUNT}");
    let project = Project::new(&moto.url(), &stage);
    let pull = ["run", "ci", "--format", "plain", "--event", "pull-request"];
    let ended = project.on("pull", &pull);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.out.contains("/caches/ci/pull-"), "{ended:#?}");
    let main = project.run("main", 0);
    assert!(main.contains("begins empty"), "{main}");
}

#[test]
fn trouble_with_a_cache_is_a_warning() {
    let moto = Moto::start();
    let project = Project::new(&moto.url(), COUNT);
    let out = project.run("one", 0);
    assert!(
        out.contains("cache counts was not fetched") && out.contains("NoSuchBucket"),
        "{out}"
    );
    // Poisoned: bytes that are no archive, and an object nobody says a digest of.
    put(&moto, "/kept", b"");
    let project = Project::new(&moto.url(), COUNT);
    project.run("one", 0);
    let listed = exchange(moto.address(), "GET", "/kept?list-type=2", &[], b"").1;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let key = listed
        .split("<Key>")
        .nth(1)
        .and_then(|rest| rest.split('<').next());
    put(
        &moto,
        &format!("/kept/{}", key.expect("a cache")),
        b"poison",
    );
    let out = project.run("two", 0);
    assert!(
        out.contains("says no digest of itself") && out.contains("nothing"),
        "{out}"
    );
    // One that holds a secret stays here.
    let leak = r#"run leak {
        env TOKEN "${secret.TOKEN}"
        cache "kept" bucket=ci
        script "echo \"$TOKEN\" > kept/token"
    }"#;
    let project = Project::new(&moto.url(), leak);
    let out = project.run("one", 0);
    assert!(
        out.contains("was not stored") && out.contains("holds secret TOKEN"),
        "{out}"
    );
}

pub(super) const HAND_ON: &str = r#"run make { script "mkdir dist; echo made > dist/thing"; produces "dist" bucket=ci }
run take {
    uses run.make
    env WHERE "${run.make.archive}"
    script "cat dist/thing; echo at $WHERE; test -e ../../../go"
}"#;

#[test]
fn files_that_are_gone_come_back_from_the_bucket() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let stages = HAND_ON.replace("../../../go", "$GO");
    let project = Project::new(
        &moto.url(),
        &stages.replace("env WHERE", "env GO \"${var.GO}\"; env WHERE"),
    );
    let go = project.program.outside().join("go");
    let mut project = project;
    project
        .env
        .push(("GO".to_owned(), go.display().to_string()));
    let path = project.program.repo.path().join("pipelines/p.kdl");
    let text = std::fs::read_to_string(&path).expect("read");
    project.program.repo.commit(
        "var",
        &[("pipelines/p.kdl", &format!("var GO env=GO\n{text}"))],
    );
    let out = project.run("one", 1);
    assert!(out.contains("at s3://kept/pipewright/files/ci/"), "{out}");
    std::fs::write(&go, "").expect("write");
    let artifacts = project.program.outside().join("one/artifacts");
    let resumed = |project: &Project| project.on("one", &["rerun", "last", "--failed"]);
    // The machine lost its disk but for the journal.
    std::fs::remove_dir_all(&artifacts).expect("files were kept");
    let ended = resumed(&project);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        ended
            .out
            .contains("fetching the files of run.make from s3://"),
        "{ended:#?}"
    );
}

#[test]
fn files_in_a_bucket_that_cannot_be_entered_are_an_error() {
    let moto = Moto::start();
    let project = Project::new(&moto.url(), HAND_ON);
    let planned = project.on("one", &["plan", "ci"]);
    assert!(planned.out.contains("NoSuchBucket"), "{planned:#?}");
    let out = project.run("one", 1);
    assert!(out.contains("refused s3:PutObject: NoSuchBucket"), "{out}");
}
