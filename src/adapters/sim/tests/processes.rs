//! Host processes, messages, secrets and the clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::support::{Events, Log, begin, broke, clean, never, options, process, tree};
use crate::adapters::sim::{Failure, Fault, Latency, Rule, SimOptions, SimWorld};
use crate::base::{Secret, Text};
use crate::ports::notifier::{Message, NotifyError};
use crate::ports::process::{ProcessError, Program};
use crate::ports::secrets::{SecretError, SecretSource};
use crate::ports::{Retry, World};

async fn scratch(world: &World) -> PathBuf {
    let tree = tree(world).await;
    let made = world.workspace.scratch("run", "stage", Some(&tree)).await;
    made.expect("it is made").path
}

#[tokio::test(start_paused = true)]
async fn scripts_are_played() {
    let (sim, world) = begin();
    let workdir = scratch(&world).await;
    for (script, status, log) in [
        ("make all\nmake test", 0, "simulated: make all\n"),
        ("echo hello $NAME; exit 7", 7, "hello value\n"),
        ("cat src/main.c", 0, "int main;\n"),
        ("cat absent", 1, "absent: No such file or directory\n"),
        ("fail-once", 1, "simulated: fails once\n"),
        ("fail-once", 0, ""),
        ("echo x > out && cat out", 0, "x\n"),
        (
            "echo x > ../../../x",
            1,
            "../../../x: No such file or directory\n",
        ),
    ] {
        let output = Log::default();
        let spec = process(workdir.clone(), script);
        let ended = world.host.run(&spec, &output, &never()).await;
        assert_eq!(
            (ended.expect("it runs"), output.text()),
            (status, log.to_owned()),
            "{script}"
        );
    }
    let mut spec = process(workdir, "");
    spec.program = Program::Command(vec!["sleep".to_owned(), "3600".to_owned()]);
    let start = tokio::time::Instant::now();
    assert_eq!(
        world.host.run(&spec, &Log::default(), &never()).await.ok(),
        Some(0)
    );
    assert_eq!(start.elapsed(), Duration::from_secs(3600));
    assert_eq!(sim.effects("process.run run/stage").len(), 9);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn sleeps_are_scaled() {
    let mut latency = Latency::none();
    latency.sleep_percent = 5;
    let sim = SimWorld::new(SimOptions {
        latency,
        ..options()
    });
    let world = sim.world(Arc::new(Events::default()));
    let spec = process(scratch(&world).await, "sleep 60");
    let start = tokio::time::Instant::now();
    assert_eq!(
        world.host.run(&spec, &Log::default(), &never()).await.ok(),
        Some(0)
    );
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn processes_are_cancelled_or_fail_to_start() {
    let (sim, world) = begin();
    let workdir = scratch(&world).await;
    let spec = process(workdir, "hang");
    let cancel = never();
    let output = Log::default();
    let (ended, ()) = tokio::join!(world.host.run(&spec, &output, &cancel), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
    });
    assert!(matches!(ended, Err(ProcessError::Cancelled)), "{ended:?}");
    assert_eq!(world.host.reap("run/").await, 0, "nothing is left");
    for (with, expected) in [
        (
            Failure::NotFound,
            "cannot start run/stage: entity not found",
        ),
        (Failure::Broken, "lost track of run/stage: a scripted fault"),
    ] {
        sim.on("process.run hang", Fault::Fail { times: 1, with });
        let error = world
            .host
            .run(&spec, &output, &never())
            .await
            .expect_err("scripted");
        assert_eq!(error.to_string(), expected);
    }
    let with = Failure::Exit(9);
    sim.on("process.run run/*", Fault::Fail { times: 1, with });
    assert_eq!(world.host.run(&spec, &output, &never()).await.ok(), Some(9));
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_noticed() {
    let (sim, world) = begin();
    let spec = process("/sim/scratch/gone".into(), "true");
    let ended = world.host.run(&spec, &Log::default(), &never()).await;
    assert!(
        matches!(ended, Err(ProcessError::Start { .. })),
        "{ended:?}"
    );
    broke(&sim, Rule::UnknownDirectory);

    let (sim, world) = begin();
    let spec = process(tree(&world).await, "true");
    assert!(
        world
            .host
            .run(&spec, &Log::default(), &never())
            .await
            .is_ok()
    );
    broke(&sim, Rule::TreeWritten);

    let (sim, world) = begin();
    let mut spec = process(scratch(&world).await, "true");
    spec.env = vec![(String::new(), Text::Plain(String::new()))];
    assert!(
        world
            .host
            .run(&spec, &Log::default(), &never())
            .await
            .is_err()
    );
    broke(&sim, Rule::BadEnv);

    let (sim, world) = begin();
    let spec = process(scratch(&world).await, "sleep 1");
    let (one, two) = (Log::default(), Log::default());
    let (cancel, host) = (never(), &world.host);
    let both = tokio::join!(
        host.run(&spec, &one, &cancel),
        host.run(&spec, &two, &cancel)
    );
    assert!(both.0.is_ok() && both.1.is_ok());
    broke(&sim, Rule::BadMarker);

    let (sim, world) = begin();
    assert_eq!(world.host.reap("").await, 0);
    broke(&sim, Rule::BroadReap);

    let (sim, world) = begin();
    sim.secret(SecretSource::Env("T".to_owned()), &Secret::new("hunter22"));
    let spec = process(scratch(&world).await, "echo hunter22");
    assert!(
        world
            .host
            .run(&spec, &Log::default(), &never())
            .await
            .is_ok()
    );
    broke(&sim, Rule::SecretLeak);
}

fn message(url: &str, body: &str) -> Message {
    Message {
        url: Secret::new(url),
        headers: Vec::new(),
        body: body.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_kept() {
    let (sim, world) = begin();
    let good = message("https://hooks.example.com/T/secret", "{\"text\":\"hi\"}");
    let with = Failure::Throttled(Some(Duration::from_secs(3)));
    sim.on(
        "notifier.send hooks.example.com",
        Fault::Fail { times: 1, with },
    );
    let error = world
        .notifier
        .send(&good)
        .await
        .expect_err("it is throttled");
    assert_eq!(error.retry(), Retry::After(Some(Duration::from_secs(3))));
    assert!(world.notifier.send(&good).await.is_ok());
    assert_eq!(sim.messages(), ["{\"text\":\"hi\"}"]);
    assert_eq!(
        sim.ledger()[0].subject,
        "hooks.example.com",
        "the address is no secret's place"
    );
    clean(&sim);
    for bad in [message("ftp://x", "{}"), message("https://x", "{")] {
        let (sim, world) = begin();
        let refused = world.notifier.send(&bad).await;
        assert!(
            matches!(refused, Err(NotifyError::Refused(_))),
            "{refused:?}"
        );
        broke(&sim, Rule::BadMessage);
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_are_declared_or_made_up() {
    let source = SecretSource::Env("AWS_ACCOUNT".to_owned());
    let (sim, world) = begin();
    let missing = world.readers.secrets.read(&source).await;
    assert!(
        matches!(missing, Err(SecretError::Missing(_))),
        "{missing:?}"
    );
    sim.variable(source.clone(), "");
    let empty = world.readers.secrets.read(&source).await;
    assert!(
        matches!(empty, Err(SecretError::Missing(_))),
        "an empty value is missing"
    );
    sim.secret(source.clone(), &Secret::new("1234"));
    let value = world
        .readers
        .secrets
        .read(&source)
        .await
        .expect("it is declared");
    assert_eq!(value.expose(), "1234");

    let sim = SimWorld::new(SimOptions {
        lenient_secrets: true,
        ..options()
    });
    let world = sim.world(Arc::new(Events::default()));
    let value = world
        .readers
        .secrets
        .read(&source)
        .await
        .expect("it is made up");
    assert_eq!(value.expose(), "simulated-aws-account");
    let file = SecretSource::File("/run/secrets/token.txt".into());
    let value = world
        .readers
        .secrets
        .read(&file)
        .await
        .expect("it is made up");
    assert_eq!(value.expose(), "simulated-token-txt");
}

#[tokio::test(start_paused = true)]
async fn the_seed_decides_the_dice() {
    let dice = |seed| {
        let sim = SimWorld::new(SimOptions { seed, ..options() });
        let clock = sim.world(Arc::new(Events::default())).readers.clock;
        [clock.random(), clock.random()]
    };
    assert_eq!(dice(1), dice(1));
    assert_ne!(dice(1), dice(2));
    assert_ne!(dice(1)[0], dice(1)[1]);
}
