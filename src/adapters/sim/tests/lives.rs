//! Crashes, restarts, and that the same world goes the same way twice.

use std::sync::Arc;
use std::time::Duration;

use super::support::{
    Events, Log, begin, broke, built, clean, container, never, options, process, push_of, texts,
    tree,
};
use crate::adapters::sim::{Effect, Failure, Fault, Latency, Rule, SimOptions, SimWorld};
use crate::base::{RunId, Secret, Timestamp};
use crate::ports::World;
use crate::ports::secrets::SecretSource;
use crate::ports::store::{NewEvent, StoreError};
use crate::ports::vcs::{Access, NewCommit, PushOutcome, Remote};

fn event(json: &str) -> NewEvent {
    NewEvent {
        at: Timestamp(0),
        run: RunId::new(0, 0),
        json: json.to_owned(),
    }
}

fn remote() -> Remote {
    Remote {
        url: "https://git.example.com/m".to_owned(),
        branch: "main".to_owned(),
        access: Access::Anonymous,
    }
}

fn sim() -> SimWorld {
    let sim = SimWorld::new(SimOptions {
        latency: Latency::default(),
        ..options()
    });
    sim.remote(&remote().url, "main", &texts(&[("tag", "old")]));
    sim
}

/// A small careful pipeline: it looks before every effect, so it can begin anew at any time.
async fn deliver(world: &World) {
    let id = built(world).await;
    let target = super::support::target();
    let there = world
        .registry
        .digest(&target, "acme/app", "1")
        .await
        .expect("it answers");
    if there.is_none() {
        let pushed = world
            .engine
            .push(&push_of(&id, "1"), &Log::default(), &never())
            .await;
        assert!(pushed.is_ok(), "{pushed:?}");
    }
    let snapshot = world
        .vcs
        .snapshot(&remote(), &["tag".to_owned()])
        .await
        .expect("it is there");
    if snapshot.files["tag"] != b"new" {
        let commit = NewCommit {
            parent: snapshot.commit,
            files: [("tag".to_owned(), b"new".to_vec())].into(),
            identity: ("bot".to_owned(), "bot@example.com".to_owned()),
            message: "Update".to_owned(),
            time: Timestamp(0),
            signing: None,
        };
        let commit = world
            .vcs
            .commit(&remote(), &commit)
            .await
            .expect("it is made");
        let pushed = world.vcs.push(&remote(), &commit).await;
        assert_eq!(pushed.ok(), Some(PushOutcome::Pushed));
    }
    let found = world.engine.container("web").await.expect("it answers");
    let id = match found {
        Some(found) => found.id,
        None => world
            .engine
            .create(&container("web", &[]))
            .await
            .expect("it is created"),
    };
    assert!(world.engine.start(&id).await.is_ok());
}

/// What was done, whoever did it when.
fn done(ledger: &[Effect]) -> Vec<(&'static str, String, String)> {
    let each = ledger.iter();
    each.map(|e| (e.call, e.subject.clone(), e.detail.clone()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_effect_is_survived_and_every_effect_made_once() {
    let whole = sim();
    deliver(&whole.world(Arc::new(Events::default()))).await;
    clean(&whole);
    let expected = whole.ledger();
    assert_eq!(expected.len(), 7, "{expected:?}");

    for number in 1..=expected.len() {
        for before in [true, false] {
            let sim = sim();
            if before {
                sim.crash_before(number);
            } else {
                sim.crash_after(number);
            }
            let world = sim.world(Arc::new(Events::default()));
            let finished = tokio::select! {
                () = deliver(&world) => true,
                () = sim.crashed() => false,
            };
            assert!(!finished && sim.is_crashed(), "effect {number}");
            assert_eq!(sim.ledger().len(), if before { number - 1 } else { number });
            sim.restart();
            deliver(&sim.world(Arc::new(Events::default()))).await;
            clean(&sim);
            assert_eq!(done(&sim.ledger()), done(&expected), "effect {number}");
            let lives: Vec<_> = sim.ledger().iter().map(|effect| effect.life).collect();
            assert!(lives.is_sorted() && lives.iter().all(|life| *life <= 2));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_ledger() {
    let mut ledgers = Vec::new();
    for seed in [7, 7, 8] {
        let sim = SimWorld::new(SimOptions {
            seed,
            latency: Latency::default(),
            ..options()
        });
        sim.remote(&remote().url, "main", &texts(&[("tag", "old")]));
        deliver(&sim.world(Arc::new(Events::default()))).await;
        ledgers.push(sim.ledger());
    }
    assert_eq!(ledgers[0], ledgers[1]);
    assert_ne!(ledgers[0], ledgers[2], "another seed takes other times");
}

#[tokio::test(start_paused = true)]
async fn the_dead_do_nothing() {
    let (sim, world) = begin();
    let id = built(&world).await;
    sim.on("engine.version", Fault::CrashBefore);
    let died = tokio::time::timeout(Duration::from_secs(9), world.engine.version()).await;
    assert!(died.is_err());
    let effects = sim.ledger().len();
    let push = push_of(&id, "1");
    let (log, cancel) = (Log::default(), never());
    let push = world.engine.push(&push, &log, &cancel);
    assert!(
        tokio::time::timeout(Duration::from_secs(9), push)
            .await
            .is_err()
    );
    assert!(world.store.append(&[event("{}")], &[]).is_err());

    sim.restart();
    let again = tokio::time::timeout(Duration::from_secs(9), world.engine.version()).await;
    assert!(again.is_err(), "handles of the old life stay dead");
    let world = sim.world(Arc::new(Events::default()));
    assert!(world.engine.version().await.is_ok());
    assert_eq!(sim.ledger().len(), effects);
    assert_eq!(sim.unspent(), []);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn a_crash_freezes_the_journal() {
    let (sim, _) = begin();
    let events = Arc::new(Events::default());
    let world = sim.world(events.clone());
    assert_eq!(world.store.append(&[event("1")], &[]).ok(), Some(vec![1]));
    let with = Failure::Full;
    sim.on("store.append", Fault::Fail { times: 1, with });
    let full = world.store.append(&[event("2")], &[]);
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    sim.on("store.append", Fault::CrashAfter);
    assert!(world.store.append(&[event("3")], &[]).is_err());
    assert!(sim.is_crashed());
    assert!(world.store.append(&[event("4")], &[]).is_err());
    sim.restart();
    let world = sim.world(events.clone());
    sim.on("store.append 5", Fault::CrashBefore);
    assert!(world.store.append(&[event("5")], &[]).is_err());
    sim.restart();
    assert!(
        sim.world(events.clone())
            .store
            .append(&[event("6")], &[])
            .is_ok()
    );
    assert_eq!(events.texts(), ["1", "3", "6"]);
    clean(&sim);

    sim.secret(SecretSource::Env("T".to_owned()), &Secret::new("hunter22"));
    let world = sim.world(events);
    assert!(world.store.append(&[event("\"hunter22\"")], &[]).is_ok());
    broke(&sim, Rule::SecretLeak);
}

#[tokio::test(start_paused = true)]
async fn containers_and_processes_outlive_the_process() {
    let (sim, world) = begin();
    built(&world).await;
    let spec = container("job", &["sh", "-c", "echo one; sleep 10; echo two; exit 5"]);
    let id = world.engine.create(&spec).await.expect("it is created");
    let tree = tree(&world).await;
    let scratch = world
        .workspace
        .scratch("run", "s", Some(&tree))
        .await
        .expect("it is made");
    let host = process(scratch.path, "hang");
    let (log, cancel) = (Log::default(), never());
    let grace = Duration::from_secs(1);
    {
        let run = world.engine.run(&id, None, &log, grace, &cancel);
        let process = world.host.run(&host, &log, &cancel);
        let both = async { tokio::join!(run, process) };
        let late = tokio::time::timeout(Duration::from_secs(4), async {
            tokio::select! {
                _ = both => {}
                () = async {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    // As `kill -9` would: nothing is awaited, nothing is noted.
                    sim.restart();
                } => {}
            }
        });
        assert!(late.await.is_ok());
    }
    clean(&sim);
    let world = sim.world(Arc::new(Events::default()));
    let state = world
        .engine
        .container("job")
        .await
        .expect("it answers")
        .expect("it is there");
    assert!(state.running);
    assert_eq!(
        world.host.reap("stage").await,
        0,
        "a marker starts with its run"
    );
    assert_eq!(world.host.reap("run/").await, 1);
    assert_eq!(world.host.reap("run/").await, 0);
    let log = Log::default();
    let start = tokio::time::Instant::now();
    let status = world.engine.attach(&id, &log, grace, &cancel).await;
    assert_eq!(
        (status.expect("it runs"), log.text()),
        (5, "one\ntwo\n".to_owned())
    );
    assert_eq!(start.elapsed(), Duration::from_secs(7));
    clean(&sim);
}
