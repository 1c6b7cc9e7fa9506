//! Containers and networks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::support::{Log, begin, broke, built, clean, container, effects, never, tree};
use crate::adapters::sim::{Failure, Fault, Rule, SimWorld};
use crate::base::Text;
use crate::ports::World;
use crate::ports::engine::{ContainerSpec, EngineError, Health, Mount, Network};

const GRACE: Duration = Duration::from_secs(10);

async fn with_image() -> (SimWorld, World) {
    let (sim, world) = begin();
    built(&world).await;
    (sim, world)
}

async fn create(world: &World, spec: &ContainerSpec) -> String {
    world.engine.create(spec).await.expect("it is created")
}

#[tokio::test(start_paused = true)]
async fn a_container_plays_its_command() {
    let (sim, world) = with_image().await;
    let mut spec = container(
        "job",
        &[
            "sh",
            "-eu",
            "-c",
            "echo one $NAME\nsleep 5\necho two\nexit 3",
        ],
    );
    spec.env = vec![("NAME".to_owned(), Text::Plain("value".to_owned()))];
    let id = create(&world, &spec).await;
    let start = tokio::time::Instant::now();
    let log = Log::default();
    let status = world.engine.run(&id, None, &log, GRACE, &never()).await;
    assert_eq!(status.expect("it runs"), 3);
    assert_eq!(log.text(), "one value\ntwo\n");
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    let state = world
        .engine
        .container("job")
        .await
        .expect("it answers")
        .expect("it is there");
    assert_eq!((state.running, state.exit_code), (false, Some(3)));
    assert_eq!(
        world.engine.tail(&id, 1).await.expect("it was there"),
        "two"
    );

    let spec = container("other", &["go", "test", "./..."]);
    let id = create(&world, &spec).await;
    let log = Log::default();
    let status = world.engine.run(&id, None, &log, GRACE, &never()).await;
    assert_eq!(
        (status.expect("it runs"), log.text()),
        (0, "simulated: go test ./...\n".to_owned())
    );

    let spec = container("piped", &["sh"]);
    let id = create(&world, &spec).await;
    let status = world
        .engine
        .run(&id, Some("exit 4"), &Log::default(), GRACE, &never())
        .await;
    assert_eq!(status.expect("it runs"), 4);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn a_container_without_a_command_serves() {
    let (sim, world) = with_image().await;
    sim.health("web", Health::Unhealthy, Duration::from_secs(3));
    let mut spec = container("web", &[]);
    spec.publish = vec!["8080:80".to_owned(), "443".to_owned()];
    let id = create(&world, &spec).await;
    assert!(world.engine.start(&id).await.is_ok());
    assert!(
        world.engine.start("web").await.is_ok(),
        "running already is fine"
    );
    let state = || async {
        world
            .engine
            .container("web")
            .await
            .expect("it answers")
            .expect("is")
    };
    let seen = state().await;
    assert!(seen.running);
    assert_eq!(seen.health, Health::Starting);
    assert_eq!(
        seen.ports[0],
        ("80/tcp".to_owned(), "0.0.0.0:8080".to_owned())
    );
    assert_eq!(seen.ports[1].0, "443/tcp");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(state().await.health, Health::Unhealthy);
    let log = Log::default();
    let ready = world.engine.exec(&id, &["false".to_owned()], &log).await;
    assert_eq!(ready.expect("it runs"), 1);

    let mut rival = container("rival", &[]);
    rival.publish = vec!["8080:80".to_owned()];
    let rival = create(&world, &rival).await;
    let taken = world.engine.start(&rival).await;
    assert!(
        matches!(taken, Err(EngineError::Refused { .. })),
        "{taken:?}"
    );

    assert!(world.engine.stop(&id, GRACE).await.is_ok());
    assert_eq!(state().await.exit_code, Some(143));
    assert!(
        world.engine.stop(&id, GRACE).await.is_ok(),
        "stopped already is fine"
    );
    assert!(
        world.engine.start(&rival).await.is_ok(),
        "the port is free again"
    );
    for _ in 0..2 {
        assert!(world.engine.remove(&id).await.is_ok());
    }
    assert_eq!(sim.containers(), ["rival"]);
    assert_eq!(sim.effects("engine.remove").len(), 1);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn health_checks_of_the_image_pass_after_a_while() {
    let (sim, world) = with_image().await;
    let id = create(&world, &container("web", &[])).await;
    assert!(world.engine.start(&id).await.is_ok());
    let health = || async {
        let state = world.engine.container(&id).await.expect("it answers");
        state.expect("it is there").health
    };
    assert_eq!(health().await, Health::Starting);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(health().await, Health::Healthy);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_stops_its_container() {
    for (command, status, time) in [
        ("hang", 143, Duration::from_secs(1)),
        ("trap '' TERM; hang", 137, Duration::from_secs(11)),
    ] {
        let (sim, world) = with_image().await;
        let id = create(&world, &container("job", &["sh", "-c", command])).await;
        let cancel = never();
        let log = Log::default();
        let start = tokio::time::Instant::now();
        let run = world.engine.run(&id, None, &log, GRACE, &cancel);
        let stop = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cancel.cancel();
        };
        let (ended, ()) = tokio::join!(run, stop);
        assert!(matches!(ended, Err(EngineError::Cancelled)), "{ended:?}");
        assert_eq!(start.elapsed(), time);
        let state = world
            .engine
            .container(&id)
            .await
            .expect("it answers")
            .expect("is there");
        assert_eq!(state.exit_code, Some(status));
        clean(&sim);
    }
}

#[tokio::test(start_paused = true)]
async fn removing_a_container_ends_who_follows_it() {
    let (sim, world) = with_image().await;
    let id = create(&world, &container("job", &["hang"])).await;
    let (log, cancel) = (Log::default(), never());
    let run = world.engine.run(&id, None, &log, GRACE, &cancel);
    let (status, removed) = tokio::join!(run, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.engine.remove(&id).await
    });
    assert!(removed.is_ok());
    assert_eq!(status.expect("it was killed"), 137);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn statuses_can_be_scripted() {
    let (sim, world) = with_image().await;
    let with = Failure::Exit(42);
    sim.on("engine.run stage=run.test", Fault::Fail { times: 1, with });
    let mut spec = container("job", &["go", "test"]);
    spec.labels = BTreeMap::from([("stage".to_owned(), "run.test".to_owned())]);
    let id = create(&world, &spec).await;
    let status = world
        .engine
        .run(&id, None, &Log::default(), GRACE, &never())
        .await;
    assert_eq!(status.expect("it runs"), 42);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn names_in_use_are_noticed() {
    let (sim, world) = with_image().await;
    create(&world, &container("web", &[])).await;
    let second = world.engine.create(&container("web", &[])).await;
    assert!(
        matches!(second, Err(EngineError::Refused { .. })),
        "{second:?}"
    );
    broke(&sim, Rule::NameInUse);

    let (sim, world) = with_image().await;
    create(&world, &container("web", &[])).await;
    let next = create(&world, &container("web-next", &[])).await;
    assert!(world.engine.rename(&next, "web").await.is_err());
    broke(&sim, Rule::NameInUse);
    assert!(world.engine.rename("web", "web-old").await.is_ok());
    assert!(world.engine.rename(&next, "web").await.is_ok());
    assert_eq!(sim.containers(), ["web", "web-old"]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_container_stays_removed() {
    let (sim, world) = with_image().await;
    let id = create(&world, &container("web", &[])).await;
    assert!(world.engine.remove(&id).await.is_ok());
    let started = world.engine.start(&id).await;
    assert!(
        matches!(started, Err(EngineError::NotFound { .. })),
        "{started:?}"
    );
    broke(&sim, Rule::RemovedContainer);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_container_is_noticed_by_every_call() {
    let (sim, world) = with_image().await;
    let (log, none) = (Log::default(), never());
    let engine = &world.engine;
    assert!(engine.start("x1").await.is_err());
    assert!(engine.run("x1", None, &log, GRACE, &none).await.is_err());
    assert!(engine.attach("x1", &log, GRACE, &none).await.is_err());
    assert!(engine.exec("x1", &["true".to_owned()], &log).await.is_err());
    assert!(engine.tail("x1", 3).await.is_err());
    assert!(engine.rename("x1", "x2").await.is_err());
    let found: Vec<_> = sim.violations().iter().map(|v| v.rule).collect();
    assert_eq!(found, [Rule::UnknownContainer; 6]);
    assert!(engine.stop("x1", GRACE).await.is_ok(), "absent is fine");
    assert!(engine.remove("x1").await.is_ok(), "absent is fine");
    assert_eq!(sim.violations().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn running_twice_is_noticed() {
    let (sim, world) = with_image().await;
    let id = create(&world, &container("job", &["true"])).await;
    assert!(
        world
            .engine
            .run(&id, None, &Log::default(), GRACE, &never())
            .await
            .is_ok()
    );
    assert!(
        world
            .engine
            .run(&id, None, &Log::default(), GRACE, &never())
            .await
            .is_err()
    );
    broke(&sim, Rule::RunTwice);
}

#[tokio::test(start_paused = true)]
async fn a_command_in_a_stopped_container_is_noticed() {
    let (sim, world) = with_image().await;
    let id = create(&world, &container("web", &[])).await;
    let ran = world
        .engine
        .exec(&id, &["true".to_owned()], &Log::default())
        .await;
    assert!(matches!(ran, Err(EngineError::Refused { .. })), "{ran:?}");
    broke(&sim, Rule::NotRunning);
}

#[tokio::test(start_paused = true)]
async fn the_same_container_twice_is_noticed() {
    let (sim, world) = with_image().await;
    let mut spec = container("web-1", &[]);
    spec.labels = BTreeMap::from([("run".to_owned(), "1".to_owned())]);
    let id = create(&world, &spec).await;
    assert!(world.engine.start(&id).await.is_ok());
    let mut other = spec.clone();
    other.name = "web-2".to_owned();
    other.labels.insert("run".to_owned(), "2".to_owned());
    create(&world, &other).await;
    clean(&sim);
    spec.name = "web-3".to_owned();
    create(&world, &spec).await;
    broke(&sim, Rule::DoubleContainer);
}

#[tokio::test(start_paused = true)]
async fn bad_specifications_are_noticed() {
    type Break = fn(&mut ContainerSpec);
    let cases: [(Rule, Break); 8] = [
        (Rule::BadName, |spec| spec.name = "a/b".to_owned()),
        (Rule::NoImage, |spec| spec.image = "absent:1".to_owned()),
        (Rule::BadReference, |spec| spec.image = "Bad".to_owned()),
        (Rule::NoNetwork, |spec| {
            spec.network = Some(Network::Named {
                name: "absent".to_owned(),
                aliases: Vec::new(),
            });
        }),
        (Rule::BadPort, |spec| spec.publish = vec!["http".to_owned()]),
        (Rule::BadEnv, |spec| {
            spec.env = vec![("A=B".to_owned(), Text::Plain(String::new()))];
        }),
        (Rule::BadMount, |spec| {
            spec.mounts = vec![Mount {
                source: "./relative".to_owned(),
                target: "/x".to_owned(),
                read_only: false,
            }];
        }),
        (Rule::UnknownDirectory, |spec| {
            spec.mounts = vec![Mount {
                source: "/sim/scratch/gone".to_owned(),
                target: "/x".to_owned(),
                read_only: false,
            }];
        }),
    ];
    for (rule, spoil) in cases {
        let (sim, world) = with_image().await;
        let mut spec = container("job", &["true"]);
        spoil(&mut spec);
        assert!(world.engine.create(&spec).await.is_err(), "{rule:?}");
        broke(&sim, rule);
    }
}

#[tokio::test(start_paused = true)]
async fn mounts_carry_files() {
    let (sim, world) = with_image().await;
    let tree = tree(&world).await;
    let scratch = world
        .workspace
        .scratch("r", "s", Some(&tree))
        .await
        .expect("a scratch");
    let mount = |source: &std::path::Path, read_only| Mount {
        source: source.to_string_lossy().into_owned(),
        target: "/work".to_owned(),
        read_only,
    };
    let mut spec = container("job", &["sh", "-c", "echo 83% > out/cover\ncat src/main.c"]);
    spec.workdir = Some("/work".to_owned());
    spec.mounts = vec![mount(&scratch.path, false)];
    let id = create(&world, &spec).await;
    let log = Log::default();
    let status = world.engine.run(&id, None, &log, GRACE, &never()).await;
    assert_eq!(
        (status.expect("it runs"), log.text()),
        (0, "int main;\n".to_owned())
    );
    let path = std::path::Path::new("out/cover");
    let read = world
        .workspace
        .read_below(&scratch.path, path, 100)
        .await
        .expect("a path");
    assert_eq!(read.as_deref(), Some(&b"83%\n"[..]));
    clean(&sim);

    let mut careful = spec.clone();
    careful.name = "careful".to_owned();
    careful.mounts = vec![mount(&tree, true)];
    let id = create(&world, &careful).await;
    let log = Log::default();
    let status = world.engine.run(&id, None, &log, GRACE, &never()).await;
    assert_eq!(status.expect("it runs"), 1);
    assert_eq!(log.text(), "out/cover: Read-only file system\n");
    clean(&sim);

    careful.name = "careless".to_owned();
    careful.mounts = vec![mount(&tree, false)];
    create(&world, &careful).await;
    broke(&sim, Rule::TreeWritten);
}

#[tokio::test(start_paused = true)]
async fn networks() {
    let (sim, world) = with_image().await;
    let labels = BTreeMap::from([("run".to_owned(), "1".to_owned())]);
    let id = world
        .engine
        .create_network("net", &labels)
        .await
        .expect("it is made");
    let same = world.engine.create_network("net", &labels).await;
    assert_eq!(same.ok().as_ref(), Some(&id));
    let mut spec = container("db", &[]);
    spec.network = Some(Network::Named {
        name: id,
        aliases: vec!["db".to_owned()],
    });
    spec.labels = labels;
    create(&world, &spec).await;
    clean(&sim);
    let removed = world.engine.remove_network("net").await;
    assert!(
        matches!(removed, Err(EngineError::Refused { .. })),
        "{removed:?}"
    );
    broke(&sim, Rule::NetworkInUse);
    let reaped = world.engine.reap("run", "1").await.expect("it reaps");
    assert_eq!(reaped, ["container db", "network net"]);
    assert!(
        world.engine.remove_network("net").await.is_ok(),
        "absent is fine"
    );
    assert_eq!(effects(&sim).last(), Some(&"engine.reap"));
    assert!(sim.containers().is_empty());

    let (sim, world) = begin();
    assert!(
        world
            .engine
            .create_network("a b", &BTreeMap::new())
            .await
            .is_err()
    );
    broke(&sim, Rule::BadName);
    let (sim, world) = begin();
    assert!(world.engine.reap("run", "").await.is_err());
    broke(&sim, Rule::BroadReap);
}
