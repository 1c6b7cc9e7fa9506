//! Builds on a running engine.

#![expect(
    clippy::disallowed_methods,
    reason = "tests of adapters start the components they need"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pipewright::base::Secret;
use pipewright::ports::engine::{Engine, EngineError, EngineReader};
use pipewright::ports::{ProgressState, Retry, Silent};
use tokio_util::sync::CancellationToken;

use super::{docker_command, map, output_of, request, wait_for};
use crate::support::docker::{Kept, Mine, context, engine, unique};

/// Held by the test that removes what it finds new in the builder's cache, and by one that counts
/// on what it put there.
static CACHE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn a_build_honours_everything_it_is_asked() {
    let docker = engine().await;
    let mine = Mine::new("asked");
    let tag = format!("{}:v1", unique("full"));
    let nonce = unique("nonce");
    let root = context(&[
        (
            "app/Dockerfile",
            "FROM scratch AS base\n\
             COPY busybox /bin/busybox\n\
             ARG GREETING\n\
             RUN --mount=type=secret,id=token [\"/bin/busybox\", \"sh\", \"-c\", \
               \"/bin/busybox sha256sum < /run/secrets/token > /sum && /bin/busybox echo $GREETING > /greeting\"]\n\
             COPY . /src/\n\
             FROM base AS never\n\
             RUN [\"/bin/busybox\", \"false\"]\n",
        ),
        (".dockerignore", "**/*.log\n!keep.log\nskipped/\napp\n"),
        ("a.log", "x"),
        ("keep.log", "x"),
        ("skipped/x", "x"),
        ("deep/er/b.log", "x"),
        ("deep/er/c", "x"),
        ("nonce", &nonce),
    ]);
    let secret = "s3cr3t-of-the-build-0123456789";
    let mut build = request(root.path(), &mine);
    build.dockerfile = "app/Dockerfile".into();
    build.target = Some("base".to_owned());
    build.args = map(&[("GREETING", "hello there")]);
    build.secrets = BTreeMap::from([("token".to_owned(), Secret::new(secret))]);
    build
        .labels
        .insert("org.example.note".to_owned(), "a, \"b\"=c".to_owned());
    build.tags = vec![tag.clone()];
    build.platform = Some("linux/amd64".to_owned());
    build.inline_cache = true;

    let kept = Kept::default();
    let id = docker
        .build(&build, &kept, &CancellationToken::new())
        .await
        .expect("built");

    let image = docker
        .image(&tag)
        .await
        .expect("answers")
        .expect("is there");
    assert_eq!(image.id, id);
    assert_eq!(image.labels["org.example.note"], "a, \"b\"=c");
    assert_eq!(image.platform, "linux/amd64");
    assert_eq!(image.tags, std::slice::from_ref(&tag));
    let steps = kept.progress();
    assert!(
        steps.iter().any(|step| step.label.contains("COPY busybox")
            && matches!(step.state, ProgressState::Done | ProgressState::Cached)),
        "{steps:?}"
    );

    let found = output_of(&docker, &mine,
        &id,
        &["/bin/busybox", "sh", "-c", "cat /greeting; cd /src; /bin/busybox find . | /bin/busybox sort; /bin/busybox cat nonce; cat /sum"],
    )
    .await;
    for expected in ["hello there\n", "./deep/er/c\n", "./keep.log\n", &nonce] {
        assert!(found.contains(expected), "{expected:?} in {found}");
    }
    for unexpected in ["a.log", "b.log", "skipped", "Dockerfile", "./app"] {
        assert!(!found.contains(unexpected), "{unexpected:?} in {found}");
    }
    assert!(!kept.text().contains(secret), "{}", kept.text());
    assert!(!docker_command(&["history", "--no-trunc", &id]).contains(secret));
    let archive = std::process::Command::new("docker")
        .args(["save", &id])
        .output()
        .expect("docker runs")
        .stdout;
    assert!(memchr::memmem::find(&archive, b"hello there").is_some());
    assert!(memchr::memmem::find(&archive, secret.as_bytes()).is_none());

    docker.untag(&tag).await.expect("untagged");
    docker.untag(&tag).await.expect("absent is fine");
    assert!(docker.image(&tag).await.expect("answers").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_inputs_give_equal_ids_and_the_times_of_the_request() {
    let docker = engine().await;
    let mine = Mine::new("request");
    let _cache = CACHE.lock().await;
    let nonce = unique("same");
    let dockerfile = format!("FROM scratch\nCOPY busybox {nonce} /\nENV A=1\nCMD [\"/busybox\"]\n");
    let mut ids = Vec::new();
    for _ in 0..2 {
        // Another directory and other times.
        let root = context(&[("Dockerfile", &dockerfile), (&nonce, "1")]);
        let cached = cached_steps();
        let kept = Kept::default();
        let id = docker
            .build(
                &request(root.path(), &mine),
                &kept,
                &CancellationToken::new(),
            )
            .await
            .expect("built");
        let copied = |state| {
            let steps = kept.progress();
            steps
                .iter()
                .any(|step| step.label.contains("COPY") && step.state == state)
        };
        assert!(copied(ProgressState::Done) && !copied(ProgressState::Cached));
        if ids.is_empty() {
            // Nothing of the first build may be left for the second.
            docker_command(&["rmi", "--force", &id]);
            for new in cached_steps().difference(&cached) {
                let filter = format!("id={new}");
                docker_command(&["builder", "prune", "--all", "--force", "--filter", &filter]);
            }
        }
        ids.push(id);
    }
    assert_eq!(ids[0], ids[1]);
    let created = docker_command(&["inspect", "-f", "{{.Created}}", &ids[0]]);
    assert_eq!(created.trim(), "2020-09-13T12:26:40Z");
    let history = docker_command(&[
        "history",
        "--human=false",
        "--format",
        "{{.CreatedAt}}",
        &ids[0],
    ]);
    assert!(
        history
            .lines()
            .all(|line| line.starts_with("2020-09-13T12:26:40")),
        "{history}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_that_share_a_context_send_it_once() {
    let docker = engine().await;
    let mine = Mine::new("once");
    let _cache = CACHE.lock().await;
    let nonce = unique("shared");
    let files: Vec<(String, String)> = (0..4)
        .map(|n| {
            (
                format!("{n}.Dockerfile"),
                format!("FROM scratch\nCOPY busybox nonce /\nLABEL n={n}\nCOPY {n}.Dockerfile /\n"),
            )
        })
        .collect();
    let mut all: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    all.push(("nonce", &nonce));
    let root = context(&all);
    let before = docker.uploads();
    let cancel = CancellationToken::new();
    let builds = (0..4).map(|n| {
        let mut build = request(root.path(), &mine);
        build.dockerfile = format!("{n}.Dockerfile").into();
        let (docker, cancel) = (docker.clone(), cancel.clone());
        tokio::spawn(async move { docker.build(&build, &Silent, &cancel).await })
    });
    let mut ids = Vec::new();
    for build in builds.collect::<Vec<_>>() {
        ids.push(build.await.expect("no panic").expect("built"));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
    assert_eq!(docker.uploads() - before, 1, "one upload for four builds");
    // A later build of the unchanged context sends nothing.
    let mut again = request(root.path(), &mine);
    again.dockerfile = "0.Dockerfile".into();
    again.labels.insert("again".to_owned(), nonce);
    docker.build(&again, &Silent, &cancel).await.expect("built");
    assert_eq!(docker.uploads() - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_leaves_alone_those_that_share_its_context() {
    let docker = engine().await;
    let mine = Mine::new("share");
    let root = context(&[
        ("Dockerfile", "FROM scratch\nCOPY nonce large /\n"),
        ("nonce", &mine.label),
    ]);
    let large = std::fs::File::create(root.path().join("large")).expect("created");
    large.set_len(96 << 20).expect("grown");
    let cancel = CancellationToken::new();
    let start = |cancel: &CancellationToken, n: &str| {
        let (docker, cancel) = (docker.clone(), cancel.clone());
        let mut build = request(root.path(), &mine);
        build.labels.insert("n".to_owned(), n.to_owned());
        tokio::spawn(async move { docker.build(&build, &Silent, &cancel).await })
    };
    let before = docker.uploads();
    let first = start(&cancel, "first");
    wait_for("the upload", || async { docker.uploads() > before }).await;
    let second = start(&CancellationToken::new(), "second");
    cancel.cancel();
    let first = first.await.expect("no panic");
    assert!(matches!(first, Err(EngineError::Cancelled)), "{first:?}");
    second
        .await
        .expect("no panic")
        .expect("the other one is built");
    docker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_step_fails_the_build_with_its_log() {
    let docker = engine().await;
    let mine = Mine::new("log");
    let root = context(&[(
        "Dockerfile",
        "FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"sh\", \"-c\", \"echo to stdout; echo to stderr >&2; exit 7\"]\n",
    )]);
    let kept = Kept::default();
    let error = docker
        .build(
            &request(root.path(), &mine),
            &kept,
            &CancellationToken::new(),
        )
        .await
        .expect_err("it fails");
    assert!(
        matches!(error, EngineError::BuildFailed { .. }),
        "{error:?}"
    );
    assert_eq!(error.retry(), Retry::Never);
    let message = error.to_string();
    for expected in ["RUN [\"/busybox\"", "exit code: 7", "to stderr"] {
        assert!(message.contains(expected), "{message}");
    }
    assert!(kept.text().contains("| to stdout\n"), "{}", kept.text());
    assert!(
        kept.progress()
            .iter()
            .any(|step| step.state == ProgressState::Failed)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_dockerfile_is_said() {
    let docker = engine().await;
    let mine = Mine::new("said");
    for (text, expected) in [
        ("FROM scratch\nNONSENSE x\n", "NONSENSE"),
        ("FROM scratch\nCOPY absent /\n", "absent"),
        (
            "FROM scratch\nCOPY busybox /\nRUN --mount=type=secret,id=none,required=true [\"/busybox\", \"true\"]\n",
            "none",
        ),
    ] {
        let root = context(&[("Dockerfile", text)]);
        let error = docker
            .build(
                &request(root.path(), &mine),
                &Silent,
                &CancellationToken::new(),
            )
            .await
            .expect_err(text);
        assert!(
            matches!(error, EngineError::BuildFailed { .. }),
            "{error:?}"
        );
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_build_ends_at_once_and_really() {
    let docker = engine().await;
    let mine = Mine::new("really");
    let marker = unique("sleep");
    let root = context(&[(
        "Dockerfile",
        &format!(
            "FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"sh\", \"-c\", \"echo started; exec /busybox sleep 300 # {marker}\"]\n"
        ),
    )]);
    let cancel = CancellationToken::new();
    let kept = std::sync::Arc::new(Kept::default());
    let build = {
        let (docker, cancel, kept) = (docker.clone(), cancel.clone(), kept.clone());
        let request = request(root.path(), &mine);
        tokio::spawn(async move { docker.build(&request, &*kept, &cancel).await })
    };
    wait_for("the step to run", || async {
        kept.text().contains("| started")
    })
    .await;
    let before = Instant::now();
    cancel.cancel();
    let result = build.await.expect("no panic");
    assert!(matches!(result, Err(EngineError::Cancelled)), "{result:?}");
    assert!(
        before.elapsed() < Duration::from_secs(3),
        "{:?}",
        before.elapsed()
    );
    wait_for("the step to die", || async {
        let found = std::process::Command::new("pgrep")
            .args(["-f", "busybox sleep 300"])
            .output();
        found.expect("pgrep runs").stdout.is_empty()
    })
    .await;
}

/// Ids of everything in the builder's cache.
fn cached_steps() -> BTreeSet<String> {
    let format = "{{range .BuildCache}}{{.ID}} {{end}}";
    docker_command(&["system", "df", "--verbose", "--format", format])
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}
