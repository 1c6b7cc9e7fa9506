//! Builds, pushes, pulls.

use std::collections::BTreeMap;
use std::time::Duration;

use super::support::{Log, begin, broke, built, clean, effects, never, options, push_of, request};
use crate::adapters::sim::{Failure, Fault, Latency, Rule, SimOptions, SimWorld};
use crate::base::{Digest, Secret};
use crate::ports::engine::EngineError;
use crate::ports::scanner::{ScanError, ScanRequest, ScannerChoice, ScannerName, Subject};
use crate::ports::secrets::SecretSource;
use crate::ports::{ProgressState, World};
use crate::scan::{Finding, Rating, Report, Tool};

#[tokio::test(start_paused = true)]
async fn a_build_is_found_by_all_its_names() {
    let (sim, world) = begin();
    let log = Log::default();
    let request = request(&world).await;
    let id = world
        .engine
        .build(&request, &log, &never())
        .await
        .expect("it builds");
    assert!(id.parse::<Digest>().is_ok(), "{id}");
    assert_eq!(
        log.text(),
        "#2 [stage-0 2/3] COPY . /\n#3 [stage-0 3/3] RUN make\nsimulated: make\n"
    );
    for name in [id.as_str(), "app:1", "docker.io/library/app:1"] {
        let image = world.engine.image(name).await.expect("it is a reference");
        assert_eq!(image.map(|image| image.id).as_ref(), Some(&id), "{name}");
    }
    let found = world.engine.images_labelled("stage", "build.app").await;
    assert_eq!(found.expect("it answers")[0].tags, ["app:1"]);

    // The same again changes nothing; another argument makes another image.
    let again = Log::default();
    let same = world.engine.build(&request, &again, &never()).await;
    assert_eq!(same.ok().as_ref(), Some(&id));
    let cached = again
        .progress()
        .iter()
        .filter(|p| p.state == ProgressState::Cached)
        .count();
    assert_eq!((cached, again.text()), (2, String::new()));
    let mut other = request.clone();
    other.platform = Some("linux/arm64".to_owned());
    let other = world.engine.build(&other, &Log::default(), &never()).await;
    assert_ne!(other.expect("it builds"), id);
    let image = world
        .engine
        .image(&id)
        .await
        .expect("it answers")
        .expect("it is there");
    assert_eq!(
        image.tags,
        Vec::<String>::new(),
        "the tag went on to the other image"
    );
    assert_eq!(
        effects(&sim),
        ["workspace.tree", "engine.build", "engine.build"]
    );
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn a_run_instruction_can_fail() {
    let mut options = options();
    let file = "FROM scratch\nRUN echo compiling && exit 3\n".to_owned();
    options.files.insert("Dockerfile".to_owned(), file);
    let sim = SimWorld::new(options);
    let world = sim.world(std::sync::Arc::new(super::support::Events::default()));
    let log = Log::default();
    let request = request(&world).await;
    let failed = world.engine.build(&request, &log, &never()).await;
    let Err(EngineError::BuildFailed { message }) = failed else {
        panic!("{failed:?}");
    };
    assert!(message.ends_with("exit code 3"), "{message}");
    assert!(log.text().ends_with("compiling\n"));
    assert_eq!(
        log.progress().last().map(|p| p.state),
        Some(ProgressState::Failed)
    );
    assert!(sim.effects("engine.build").is_empty());

    let mut missing = request.clone();
    missing.dockerfile = "nope".into();
    let failed = world.engine.build(&missing, &log, &never()).await;
    assert!(
        matches!(failed, Err(EngineError::BuildFailed { .. })),
        "{failed:?}"
    );
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn a_pushed_image_is_what_the_registry_serves() {
    let (sim, world) = begin();
    let id = built(&world).await;
    let target = super::support::target();
    let absent = world.registry.digest(&target, "acme/app", "1").await;
    assert_eq!(absent.expect("it answers"), None);
    let pushed = world
        .engine
        .push(&push_of(&id, "1"), &Log::default(), &never())
        .await;
    let pushed = pushed.expect("it is pushed");
    assert_eq!((pushed.layers_sent, pushed.layers_reused), (2, 0));

    let manifest = world.registry.manifest(&target, "acme/app", "1").await;
    let manifest = manifest.expect("it answers").expect("it is there");
    assert_eq!(manifest.digest, pushed.digest);
    assert_eq!(Digest::of(&manifest.bytes), pushed.digest);
    let value: serde_json::Value = serde_json::from_slice(&manifest.bytes).expect("JSON");
    assert_eq!(value["config"]["digest"], id.as_str());
    let config = id.parse().expect("an id is a digest");
    let config = world.registry.blob(&target, "acme/app", &config).await;
    let config = config.expect("it answers").expect("it is there");
    let value: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!(value["config"]["Labels"]["stage"], "build.app");

    let second = world
        .engine
        .push(&push_of(&id, "2"), &Log::default(), &never())
        .await;
    let second = second.expect("it is pushed");
    assert_eq!((second.layers_sent, second.layers_reused), (0, 2));
    assert_eq!(second.digest, pushed.digest);
    assert_eq!(
        sim.tag("localhost:5000/acme/app:2"),
        Some(pushed.digest.clone())
    );
    let image = world
        .engine
        .image(&format!("localhost:5000/acme/app@{}", pushed.digest))
        .await;
    assert_eq!(image.expect("it answers").map(|image| image.id), Some(id));
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn pushing_twice_is_noticed() {
    let (sim, world) = begin();
    let id = built(&world).await;
    for _ in 0..2 {
        let pushed = world
            .engine
            .push(&push_of(&id, "1"), &Log::default(), &never())
            .await;
        assert!(pushed.is_ok());
    }
    broke(&sim, Rule::DoublePush);
    assert_eq!(sim.effects("engine.push").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_never_built_cannot_be_pushed_or_scanned() {
    let (sim, world) = begin();
    let id = Digest::of(b"nothing").to_string();
    let pushed = world
        .engine
        .push(&push_of(&id, "1"), &Log::default(), &never())
        .await;
    assert!(
        matches!(pushed, Err(EngineError::NotFound { .. })),
        "{pushed:?}"
    );
    broke(&sim, Rule::NeverBuilt);

    let (sim, world) = begin();
    let scan = scanned(&world, &id, None).await;
    assert!(matches!(scan, Err(ScanError::Broken(_))), "{scan:?}");
    broke(&sim, Rule::NeverBuilt);
}

#[tokio::test(start_paused = true)]
async fn names_outside_the_grammar_are_noticed() {
    let (sim, world) = begin();
    let id = built(&world).await;
    let pushed = world
        .engine
        .push(&push_of(&id, "feature/x"), &Log::default(), &never())
        .await;
    assert!(
        matches!(pushed, Err(EngineError::Refused { .. })),
        "{pushed:?}"
    );
    broke(&sim, Rule::BadTag);

    let (sim, world) = begin();
    let id = built(&world).await;
    let mut push = push_of(&id, "1");
    push.repository = "Acme/App".to_owned();
    assert!(
        world
            .engine
            .push(&push, &Log::default(), &never())
            .await
            .is_err()
    );
    broke(&sim, Rule::BadReference);

    for bad in ["App:1", "app:", "app@sha256:12"] {
        let (sim, world) = begin();
        assert!(world.engine.image(bad).await.is_err(), "{bad}");
        broke(&sim, Rule::BadReference);
        let (sim, world) = begin();
        assert!(
            world
                .engine
                .pull(bad, None, &Log::default(), &never())
                .await
                .is_err()
        );
        broke(&sim, Rule::BadReference);
        let (sim, world) = begin();
        assert!(world.engine.untag(bad).await.is_err());
        broke(&sim, Rule::BadReference);
    }

    let (sim, world) = begin();
    let mut request = request(&world).await;
    request.platform = Some("linux".to_owned());
    assert!(
        world
            .engine
            .build(&request, &Log::default(), &never())
            .await
            .is_err()
    );
    broke(&sim, Rule::BadReference);

    let (sim, world) = begin();
    let mut request = super::support::request(&world).await;
    request.tags = vec![format!("app@{}", Digest::of(b""))];
    assert!(
        world
            .engine
            .build(&request, &Log::default(), &never())
            .await
            .is_err()
    );
    broke(&sim, Rule::BadTag);

    let (sim, world) = begin();
    request.tags = Vec::new();
    request.context = "/sim/trees/unknown".into();
    assert!(
        world
            .engine
            .build(&request, &Log::default(), &never())
            .await
            .is_err()
    );
    assert_eq!(sim.violations()[0].rule, Rule::UnknownDirectory);
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_a_label_is_noticed() {
    let (sim, world) = begin();
    sim.secret(
        SecretSource::Env("TOKEN".to_owned()),
        &Secret::new("hunter22"),
    );
    sim.variable(SecretSource::Env("ACCOUNT".to_owned()), "123456");
    let mut request = request(&world).await;
    request.labels = BTreeMap::from([("account".to_owned(), "123456".to_owned())]);
    assert!(
        world
            .engine
            .build(&request, &Log::default(), &never())
            .await
            .is_ok()
    );
    clean(&sim);
    request.args = BTreeMap::from([("T".to_owned(), "x-hunter22-y".to_owned())]);
    assert!(
        world
            .engine
            .build(&request, &Log::default(), &never())
            .await
            .is_ok()
    );
    broke(&sim, Rule::SecretLeak);
}

#[tokio::test(start_paused = true)]
async fn immutable_tags_do_not_move() {
    let (sim, world) = begin();
    sim.publish("localhost:5000/acme/app:1")
        .expect("it is a reference");
    sim.immutable("localhost:5000/acme/*");
    let id = built(&world).await;
    let pushed = world
        .engine
        .push(&push_of(&id, "1"), &Log::default(), &never())
        .await;
    assert!(
        matches!(pushed, Err(EngineError::Refused { .. })),
        "{pushed:?}"
    );
    assert!(
        world
            .engine
            .push(&push_of(&id, "2"), &Log::default(), &never())
            .await
            .is_ok()
    );
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn pulls_find_what_is_published() {
    let (sim, world) = begin();
    let log = Log::default();
    let missing = world.engine.pull("golang:1.23", None, &log, &never()).await;
    assert!(
        matches!(missing, Err(EngineError::NotFound { .. })),
        "{missing:?}"
    );
    let digest = sim.publish("golang:1.23").expect("it is a reference");
    let id = world
        .engine
        .pull("golang:1.23", None, &log, &never())
        .await
        .expect("it is there");
    let again = world.engine.pull("golang:1.23", None, &log, &never()).await;
    assert_eq!(again.ok().as_ref(), Some(&id));
    assert_eq!(effects(&sim), ["engine.pull"]);
    let image = world
        .engine
        .image("golang:1.23")
        .await
        .expect("it answers")
        .expect("is there");
    assert_eq!(image.digests, [format!("golang@{digest}")]);
    let pinned = format!("golang@{digest}");
    assert_eq!(
        world.engine.pull(&pinned, None, &log, &never()).await.ok(),
        Some(id)
    );
    assert!(world.engine.untag("golang:1.23").await.is_ok());
    assert_eq!(
        world.engine.image("golang:1.23").await.expect("it answers"),
        None
    );
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn a_lenient_world_has_every_image_but_ours() {
    let sim = SimWorld::new(SimOptions {
        lenient_images: true,
        ..options()
    });
    let world = sim.world(std::sync::Arc::new(super::support::Events::default()));
    let log = Log::default();
    for name in ["golang:1.22", "golang:1.23"] {
        assert!(
            world.engine.pull(name, None, &log, &never()).await.is_ok(),
            "{name}"
        );
    }
    let id = built(&world).await;
    assert!(
        world
            .engine
            .push(&push_of(&id, "1"), &log, &never())
            .await
            .is_ok()
    );
    let other = "localhost:5000/acme/app:2";
    let pulled = world.engine.pull(other, None, &log, &never()).await;
    assert!(
        matches!(pulled, Err(EngineError::NotFound { .. })),
        "{pulled:?}"
    );
    clean(&sim);
}

async fn scanned(
    world: &World,
    id: &str,
    choice: Option<&ScannerChoice>,
) -> Result<Report, ScanError> {
    let request = ScanRequest {
        subject: &Subject::Engine(id.to_owned()),
        choice,
        labels: &BTreeMap::new(),
    };
    let scanner = &world.scanner;
    let scanned = scanner.scan(&request, &Log::default(), &never()).await;
    scanned.map(|scanned| scanned.report)
}

#[tokio::test(start_paused = true)]
async fn scans_find_what_is_scripted() {
    let (sim, world) = begin();
    let id = built(&world).await;
    let trivy = ScannerChoice {
        name: Some(ScannerName::Trivy),
        ..ScannerChoice::default()
    };
    let nothing = scanned(&world, &id, Some(&trivy)).await;
    let nothing = nothing.expect("it scans");
    assert_eq!(
        (nothing.tool.name.as_str(), nothing.findings.len()),
        ("simulated trivy", 0)
    );
    let report = Report {
        findings: vec![Finding::new("CVE-2026-0001", "zlib", "1", Rating::High)],
        packages: 1,
        ..Report::new(Tool::named("scripted"), "app:1")
    };
    sim.findings("app:*", report.clone());
    let found = scanned(&world, &id, None).await;
    assert_eq!(found.expect("it scans"), report);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn latency_passes_on_tokios_clock() {
    let sim = SimWorld::new(SimOptions {
        latency: Latency::default(),
        ..options()
    });
    let world = sim.world(std::sync::Arc::new(super::support::Events::default()));
    let real = std::time::Instant::now();
    let start = tokio::time::Instant::now();
    let before = world.readers.clock.now();
    let id = built(&world).await;
    let passed = start.elapsed();
    assert!(
        passed >= Duration::from_millis(1500),
        "two steps take time: {passed:?}"
    );
    assert!(
        passed <= Duration::from_millis(4600),
        "but not for ever: {passed:?}"
    );
    let shown = world.readers.clock.now().since(before);
    assert!(
        passed - shown < Duration::from_millis(2),
        "the clock shows it: {shown:?}"
    );
    sim.on("engine.push", Fault::Delay(Duration::from_secs(3600)));
    assert!(
        world
            .engine
            .push(&push_of(&id, "1"), &Log::default(), &never())
            .await
            .is_ok()
    );
    assert!(start.elapsed() >= Duration::from_secs(3600));
    assert!(
        real.elapsed() < Duration::from_secs(60),
        "none of it is real"
    );
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn builds_are_cancelled_and_hang() {
    let (sim, world) = begin();
    sim.on("engine.build app:*", Fault::Hang);
    let request = request(&world).await;
    let cancel = never();
    let log = Log::default();
    let build = world.engine.build(&request, &log, &cancel);
    let stop = async {
        tokio::time::sleep(Duration::from_secs(100)).await;
        cancel.cancel();
    };
    let (built, ()) = tokio::join!(build, stop);
    assert!(matches!(built, Err(EngineError::Cancelled)), "{built:?}");
    assert!(sim.effects("engine.build").is_empty());
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_build_is_noticed() {
    let (sim, world) = begin();
    sim.on("engine.build", Fault::Hang);
    let request = request(&world).await;
    let (log, cancel) = (Log::default(), never());
    let build = world.engine.build(&request, &log, &cancel);
    let late = tokio::time::timeout(Duration::from_secs(1), build).await;
    assert!(late.is_err());
    broke(&sim, Rule::Dropped);
}

#[tokio::test(start_paused = true)]
async fn scripted_failures_come_as_often_as_said() {
    let (sim, world) = begin();
    let with = Failure::Broken;
    sim.on(
        "engine.push localhost:5000/acme/app:1",
        Fault::Fail { times: 2, with },
    );
    assert_eq!(sim.unspent().len(), 1);
    let id = built(&world).await;
    for _ in 0..2 {
        let push = world
            .engine
            .push(&push_of(&id, "1"), &Log::default(), &never())
            .await;
        assert!(matches!(push, Err(EngineError::Broken { .. })), "{push:?}");
    }
    let push = world
        .engine
        .push(&push_of(&id, "1"), &Log::default(), &never())
        .await;
    assert!(push.is_ok(), "{push:?}");
    assert_eq!(sim.unspent(), []);
    assert_eq!(sim.calls("engine.push"), 3);

    // A lost answer: the work is done all the same.
    let with = Failure::Unreachable;
    sim.on("engine.push", Fault::LoseAnswer { times: 1, with });
    let push = world
        .engine
        .push(&push_of(&id, "2"), &Log::default(), &never())
        .await;
    assert!(
        matches!(push, Err(EngineError::Unreachable { .. })),
        "{push:?}"
    );
    assert!(sim.tag("localhost:5000/acme/app:2").is_some());
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn impossible_faults_are_noticed() {
    let (sim, _world) = begin();
    sim.on("engine.fly", Fault::Hang);
    broke(&sim, Rule::BadFault);

    let (sim, world) = begin();
    let with = Failure::Raced;
    sim.on("engine.version", Fault::Fail { times: 1, with });
    assert!(world.engine.version().await.is_err());
    broke(&sim, Rule::BadFault);
}
