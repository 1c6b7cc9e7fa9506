//! The docker adapter against a running engine.
#![expect(
    clippy::disallowed_methods,
    reason = "tests of adapters start the components they need"
)]

mod build;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use pipewright::adapters::docker::{Address, Docker};
use pipewright::base::{Secret, Timestamp};
use pipewright::ports::engine::{
    BuildRequest, ContainerSpec, Engine, EngineError, EngineReader, Health, Mount, Network,
    PushRequest,
};
use pipewright::ports::registry::{Login, Target};
use pipewright::ports::{ProgressState, Retry, Silent};
use tokio_util::sync::CancellationToken;

use crate::support::docker::{
    Kept, LABEL, Mine, PASSWORD, Proxy, Registry, context, engine, unique, write,
};

const GRACE: Duration = Duration::from_secs(5);

fn request(root: &Path, mine: &Mine) -> BuildRequest {
    BuildRequest {
        context: root.to_owned(),
        dockerfile: "Dockerfile".into(),
        target: None,
        platform: None,
        args: BTreeMap::new(),
        secrets: BTreeMap::new(),
        labels: map(&[(LABEL, &mine.label)]),
        tags: Vec::new(),
        cache_from: Vec::new(),
        inline_cache: false,
        epoch: Timestamp(1_600_000_000_000),
        registries: Vec::new(),
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn spec(mine: &Mine, image: &str, command: &[&str]) -> ContainerSpec {
    ContainerSpec {
        labels: map(&[(LABEL, &mine.label)]),
        name: unique("box"),
        image: image.to_owned(),
        command: Some(command.iter().map(|part| (*part).to_owned()).collect()),
        network: Some(Network::None),
        ..ContainerSpec::default()
    }
}

/// An image with busybox under every name a test uses.
async fn busybox(docker: &Docker, mine: &Mine) -> String {
    let root = context(&[(
        "Dockerfile",
        "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\n",
    )]);
    docker
        .build(
            &request(root.path(), mine),
            &Silent,
            &CancellationToken::new(),
        )
        .await
        .expect("a busybox image")
}

/// Runs a command in an image and returns what it printed.
async fn output_of(docker: &Docker, mine: &Mine, image: &str, command: &[&str]) -> String {
    let id = docker
        .create(&spec(mine, image, command))
        .await
        .expect("created");
    let kept = Kept::default();
    let code = docker
        .run(&id, None, &kept, GRACE, &CancellationToken::new())
        .await;
    docker.remove(&id).await.expect("removed");
    assert_eq!(code.expect("ran"), 0, "{}", kept.text());
    kept.text()
}

/// What the `docker` command prints.
fn docker_command(arguments: &[&str]) -> String {
    let output = std::process::Command::new("docker")
        .args(arguments)
        .output()
        .expect("docker runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Polls until something holds, for at most twenty seconds.
async fn wait_for<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_live_and_die() {
    let docker = engine().await;
    let mine = Mine::new("die");
    let image = busybox(&docker, &mine).await;
    let cancel = CancellationToken::new();

    let mut cat = spec(
        &mine,
        &image,
        &["sh", "-c", "cat; echo $WHO at $PWD >&2; exit 3"],
    );
    cat.stdin = Some("first\nlast\n".to_owned());
    cat.env = vec![(
        "WHO".to_owned(),
        pipewright::base::Text::Secret(Secret::new("nobody")),
    )];
    cat.workdir = Some("/tmp".to_owned());
    let id = docker.create(&cat).await.expect("created");
    assert_eq!(docker.create(&cat).await.expect("safe to repeat"), id);
    let kept = Kept::default();
    let code = docker
        .run(&id, cat.stdin.as_deref(), &kept, GRACE, &cancel)
        .await;
    assert_eq!(code.expect("ran"), 3);
    assert_eq!(kept.text(), "first\nlast\nnobody at /tmp\n");
    let state = docker
        .container(&cat.name)
        .await
        .expect("answers")
        .expect("is there");
    assert_eq!(
        (state.running, state.exit_code, state.health),
        (false, Some(3), Health::NoCheck)
    );
    assert_eq!(state.image_id, image);
    let error = docker.create(&cat).await.expect_err("it ran already");
    assert!(matches!(error, EngineError::Refused { .. }), "{error:?}");
    let renamed = unique("renamed");
    docker.rename(&id, &renamed).await.expect("renamed");
    docker.rename(&id, &renamed).await.expect("safe to repeat");
    assert_eq!(
        docker.tail(&renamed, 1).await.expect("tail"),
        "nobody at /tmp\n"
    );
    docker.remove(&id).await.expect("removed");
    docker.remove(&id).await.expect("absent is fine");
    docker.stop(&id, GRACE).await.expect("absent is fine");
    assert!(docker.container(&id).await.expect("answers").is_none());

    let polite = spec(
        &mine,
        &image,
        &[
            "sh",
            "-c",
            "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done",
        ],
    );
    let id = docker.create(&polite).await.expect("created");
    docker.start(&id).await.expect("started");
    docker.start(&id).await.expect("safe to repeat");
    let code = docker
        .exec(
            &id,
            &[
                "sh".to_owned(),
                "-c".to_owned(),
                "echo inside; exit 4".to_owned(),
            ],
            &kept,
        )
        .await;
    assert_eq!(code.expect("executed"), 4);
    assert!(kept.text().ends_with("inside\n"));
    let stop = CancellationToken::new();
    let follow = Kept::default();
    let attached = docker.attach(&id, &follow, GRACE, &stop);
    let trigger = async {
        wait_for("output", || async { follow.text().contains("up") }).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(attached, trigger);
    assert!(matches!(ended, Err(EngineError::Cancelled)), "{ended:?}");
    assert_eq!(follow.text(), "up\nbye\n", "the first and the last byte");
    docker.remove(&id).await.expect("removed");

    let stubborn = spec(
        &mine,
        &image,
        &[
            "sh",
            "-c",
            "trap '' TERM; echo up; while :; do sleep 0.1; done",
        ],
    );
    let id = docker.create(&stubborn).await.expect("created");
    let stop = CancellationToken::new();
    let follow = Kept::default();
    let before = Instant::now();
    let run = docker.run(&id, None, &follow, Duration::from_secs(1), &stop);
    let trigger = async {
        wait_for("output", || async { follow.text().contains("up") }).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(run, trigger);
    assert!(matches!(ended, Err(EngineError::Cancelled)), "{ended:?}");
    assert!(
        before.elapsed() < Duration::from_secs(15),
        "{:?}",
        before.elapsed()
    );
    let state = docker
        .container(&id)
        .await
        .expect("answers")
        .expect("is there");
    assert_eq!((state.running, state.exit_code), (false, Some(137)));
    docker.remove(&id).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_created_or_started_is_refused() {
    let docker = engine().await;
    let mine = Mine::new("refused");
    let image = busybox(&docker, &mine).await;
    let error = docker
        .create(&spec(&mine, "pwtest-absent:none", &["x"]))
        .await
        .expect_err("no image");
    assert!(
        matches!(&error, EngineError::NotFound { what } if what == "image pwtest-absent:none"),
        "{error:?}"
    );

    let bad = spec(&mine, &image, &["/no/such/program"]);
    let id = docker.create(&bad).await.expect("created");
    let error = docker
        .run(&id, None, &Silent, GRACE, &CancellationToken::new())
        .await
        .expect_err("no program");
    assert!(matches!(error, EngineError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    let error = docker
        .attach(&id, &Silent, GRACE, &CancellationToken::new())
        .await;
    assert!(
        error
            .expect_err("never started")
            .to_string()
            .contains("never started")
    );
    docker.remove(&id).await.expect("removed");

    let mut ports = spec(&mine, &image, &["true"]);
    ports.publish = vec!["80:x".to_owned()];
    let error = docker
        .create(&ports)
        .await
        .expect_err("no port")
        .to_string();
    assert!(error.contains("80:x"), "{error}");
    for name in ["../images/x", "a b", "a?force=1"] {
        assert!(
            matches!(
                docker.container(name).await,
                Err(EngineError::Refused { .. })
            ),
            "{name}"
        );
        assert!(
            matches!(docker.image(name).await, Err(EngineError::Refused { .. })),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_volumes_and_the_reaper() {
    let docker = engine().await;
    let mine = Mine::new("reaper");
    let image = busybox(&docker, &mine).await;
    let run = mine.label.clone();
    let labels = map(&[(LABEL, &run)]);
    let network = docker.create_network(&run, &labels).await.expect("created");
    assert_eq!(
        docker.create_network(&run, &labels).await.expect("found"),
        network
    );
    let mut server = spec(&mine, &image, &["httpd", "-f", "-p", "80", "-h", "/data"]);
    server.labels = labels.clone();
    server.network = Some(Network::Named {
        name: run.clone(),
        aliases: vec!["web".to_owned()],
    });
    server.mounts = vec![Mount {
        source: unique("volume"),
        target: "/data".to_owned(),
        read_only: false,
    }];
    server.publish = vec!["127.0.0.1::80".to_owned()];
    let id = docker.create(&server).await.expect("created");
    docker.start(&id).await.expect("started");
    docker
        .exec(
            &id,
            &[
                "sh".to_owned(),
                "-c".to_owned(),
                "echo found it > /data/x".to_owned(),
            ],
            &Silent,
        )
        .await
        .expect("executed");

    let state = docker
        .container(&id)
        .await
        .expect("answers")
        .expect("is there");
    assert!(state.running && state.address.is_some(), "{state:?}");
    assert!(
        matches!(&state.ports[..], [(port, host)] if port == "80/tcp" && host.starts_with("127.0.0.1:")),
        "{:?}",
        state.ports
    );

    let mut client = spec(&mine, &image, &["wget", "-q", "-O", "-", "http://web/x"]);
    client.labels = labels.clone();
    client.network = Some(Network::Named {
        name: run.clone(),
        aliases: Vec::new(),
    });
    let client = docker.create(&client).await.expect("created");
    let kept = Kept::default();
    let code = docker
        .run(&client, None, &kept, GRACE, &CancellationToken::new())
        .await;
    assert_eq!(
        (code.expect("ran"), kept.text().as_str()),
        (0, "found it\n")
    );

    let found = docker
        .containers_labelled(LABEL, &run)
        .await
        .expect("answers");
    assert_eq!(found.len(), 2);
    let removed = docker.reap(LABEL, &run).await.expect("reaped");
    assert_eq!(removed.len(), 4, "{removed:?}");
    assert!(
        docker
            .containers_labelled(LABEL, &run)
            .await
            .expect("answers")
            .is_empty()
    );
    let left = docker.reap(LABEL, &run).await.expect("nothing left");
    assert!(left.is_empty(), "{left:?}");
    docker.remove_network(&run).await.expect("absent is fine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_reuses_layers_and_reports_the_digest() {
    let docker = engine().await;
    let mine = Mine::new("digest");
    let registry = tokio::task::spawn_blocking(Registry::start)
        .await
        .expect("a registry");
    let target = Target {
        host: registry.host(),
        plain_http: true,
        login: Login::Basic {
            user: "bot".to_owned(),
            password: Secret::new(PASSWORD),
        },
    };
    let nonce = unique("push");
    let root = context(&[
        (
            "Dockerfile",
            "FROM scratch\nCOPY busybox /bin/\nCOPY nonce /\nCMD [\"/bin/busybox\", \"cat\", \"/nonce\"]\n",
        ),
        ("nonce", &nonce),
    ]);
    let cancel = CancellationToken::new();
    let id = docker
        .build(&request(root.path(), &mine), &Silent, &cancel)
        .await
        .expect("built");
    let push = |tag: &str, repository: &str| PushRequest {
        id: id.clone(),
        target: target.clone(),
        repository: repository.to_owned(),
        tag: tag.to_owned(),
    };
    let kept = Kept::default();
    let first = docker
        .push(&push("v1", "team/app"), &kept, &cancel)
        .await
        .expect("pushed");
    assert_eq!(
        (first.layers_sent, first.layers_reused),
        (2, 0),
        "{}",
        kept.text()
    );
    let again = docker
        .push(&push("v2", "team/app"), &Silent, &cancel)
        .await
        .expect("pushed");
    assert_eq!((again.layers_sent, again.layers_reused), (0, 2));
    assert_eq!(again.digest, first.digest);
    let other = docker
        .push(&push("v1", "other/app"), &Silent, &cancel)
        .await
        .expect("pushed");
    assert_eq!(
        (other.layers_sent, other.layers_reused),
        (0, 2),
        "mounted across repositories"
    );
    assert!(
        kept.progress()
            .iter()
            .any(|layer| layer.state == ProgressState::Done)
    );

    let mut wrong = push("v3", "team/app");
    wrong.target.login = Login::Basic {
        user: "bot".to_owned(),
        password: Secret::new("no"),
    };
    let error = docker
        .push(&wrong, &Silent, &cancel)
        .await
        .expect_err("denied");
    assert!(matches!(error, EngineError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("auth"), "{error}");
    wrong.target.host = "127.0.0.1:1".to_owned();
    let error = docker
        .push(&wrong, &Silent, &cancel)
        .await
        .expect_err("nobody there");
    assert_eq!(error.retry(), Retry::After(None), "{error:?}");

    let host = registry.host();
    for reference in [
        format!("{host}/team/app:v1"),
        format!("{host}/team/app:v2"),
        format!("{host}/other/app:v1"),
        format!("{host}/team/app:v3"),
        "127.0.0.1:1/team/app:v3".to_owned(),
    ] {
        docker.untag(&reference).await.expect("untagged");
    }
    let reference = format!("{host}/team/app@{}", first.digest);
    let error = docker
        .pull(&reference, None, &Silent, &cancel)
        .await
        .expect_err("no login");
    assert!(
        matches!(
            error,
            EngineError::Refused { .. } | EngineError::NotFound { .. }
        ),
        "{error:?}"
    );
    let pulled = docker
        .pull(&reference, Some(&target), &Silent, &cancel)
        .await
        .expect("pulled");
    assert_eq!(pulled, id);
    assert_eq!(
        output_of(&docker, &mine, &pulled, &["/bin/busybox", "cat", "/nonce"]).await,
        nonce
    );

    // A base image from a registry that wants a login.
    let base = format!("FROM {host}/team/app:v1\nCOPY Dockerfile /again\n");
    write(root.path(), "Dockerfile", &base);
    let mut build = request(root.path(), &mine);
    build.registries = vec![target.clone()];
    build.cache_from = vec![format!("{host}/team/app:v2")];
    docker
        .build(&build, &Silent, &cancel)
        .await
        .expect("built on a private base");
    docker.untag(&reference).await.expect("untagged");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_engine_is_said_with_its_address() {
    let mine = Mine::new("none");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let address = format!("unix://{}", directory.path().join("none.sock").display());
    let docker = Docker::new(Address::parse(&address, None).expect("valid"));
    let error = docker.version().await.expect_err("nobody there");
    assert!(
        matches!(&error, EngineError::Unreachable { address: found, .. } if *found == address),
        "{error:?}"
    );
    assert_eq!(error.retry(), Retry::After(None));
    let root = context(&[("Dockerfile", "FROM scratch")]);
    let error = docker
        .build(
            &request(root.path(), &mine),
            &Silent,
            &CancellationToken::new(),
        )
        .await;
    assert!(
        matches!(error, Err(EngineError::Unreachable { .. })),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_found_by_label() {
    let docker = engine().await;
    let mine = Mine::new("label");
    let value = mine.label.clone();
    let root = context(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let mut build = request(root.path(), &mine);
    build.labels = map(&[(LABEL, &value)]);
    let id = docker
        .build(&build, &Silent, &CancellationToken::new())
        .await
        .expect("built");
    let found = docker
        .images_labelled(LABEL, &value)
        .await
        .expect("answers");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, id);
    assert!(
        found[0].tags.is_empty(),
        "an image without a tag is found as well"
    );
    assert!(
        docker
            .images_labelled(LABEL, "none")
            .await
            .expect("answers")
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_goes_away_is_no_failure_of_the_work() {
    let direct = engine().await;
    let mine = Mine::new("away");
    let image = busybox(&direct, &mine).await;
    for kind in ["build", "run"] {
        let proxy = Proxy::start().await;
        let docker = Docker::new(Address::parse(&proxy.address(), None).expect("valid"));
        let kept = std::sync::Arc::new(Kept::default());
        let work = {
            let (docker, kept) = (docker.clone(), kept.clone());
            let root = context(&[(
                "Dockerfile",
                &format!(
                    "FROM scratch\nCOPY busybox /\nENV X={}\nRUN [\"/busybox\", \"sh\", \"-c\", \"echo started; exec /busybox sleep 301\"]\n",
                    mine.label
                ),
            )]);
            let build = request(root.path(), &mine);
            let endless = spec(&mine, &image, &["sh", "-c", "echo started; sleep 302"]);
            tokio::spawn(async move {
                let cancel = CancellationToken::new();
                if kind == "build" {
                    let _root = root;
                    docker.build(&build, &*kept, &cancel).await.map(drop)
                } else {
                    let id = docker.create(&endless).await.expect("created");
                    docker
                        .run(&id, None, &*kept, GRACE, &cancel)
                        .await
                        .map(drop)
                }
            })
        };
        wait_for("the work to start", || async {
            kept.text().contains("started")
        })
        .await;
        let before = Instant::now();
        proxy.cut();
        let result = tokio::time::timeout(Duration::from_secs(20), work).await;
        let error = result
            .expect("no hang")
            .expect("no panic")
            .expect_err("the engine is gone");
        assert_eq!(error.retry(), Retry::After(None), "{kind}: {error:?}");
        assert!(
            before.elapsed() < Duration::from_secs(10),
            "{kind}: {:?}",
            before.elapsed()
        );
    }
}
