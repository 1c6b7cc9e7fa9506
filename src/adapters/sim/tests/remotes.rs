//! Manifest repositories.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::support::{Events, begin, broke, clean, effects, options, texts};
use crate::adapters::sim::{Failure, Fault, Rule, SimOptions, SimWorld};
use crate::base::{Secret, Timestamp};
use crate::ports::World;
use crate::ports::secrets::SecretSource;
use crate::ports::vcs::{Access, NewCommit, PushOutcome, Remote, VcsError};

const URL: &str = "https://git.example.com/acme/manifests";

fn remote() -> Remote {
    Remote {
        url: URL.to_owned(),
        branch: "main".to_owned(),
        access: Access::Anonymous,
    }
}

fn declared() -> (SimWorld, World) {
    let (sim, world) = begin();
    sim.remote(
        URL,
        "main",
        &texts(&[("values.yaml", "tag: a\n"), ("other", "x")]),
    );
    (sim, world)
}

async fn read(world: &World) -> String {
    let snapshot = world
        .vcs
        .snapshot(&remote(), &["values.yaml".to_owned()])
        .await;
    snapshot.expect("the branch is there").commit
}

fn edit(parent: &str, text: &str) -> NewCommit {
    NewCommit {
        parent: parent.to_owned(),
        files: BTreeMap::from([("values.yaml".to_owned(), text.as_bytes().to_vec())]),
        identity: ("bot".to_owned(), "bot@example.com".to_owned()),
        message: "Update tag".to_owned(),
        time: Timestamp(0),
        signing: None,
    }
}

async fn commit(world: &World, parent: &str, text: &str) -> String {
    let made = world.vcs.commit(&remote(), &edit(parent, text)).await;
    made.expect("it is made")
}

#[tokio::test(start_paused = true)]
async fn a_commit_goes_on_the_branch() {
    let (sim, world) = declared();
    let asked = ["values.yaml".to_owned(), "absent".to_owned()];
    let snapshot = world
        .vcs
        .snapshot(&remote(), &asked)
        .await
        .expect("it is there");
    assert_eq!(snapshot.files.keys().collect::<Vec<_>>(), ["values.yaml"]);
    let name = commit(&world, &snapshot.commit, "tag: b\n").await;
    assert_eq!(name.len(), 40);
    assert_eq!(
        commit(&world, &snapshot.commit, "tag: b\n").await,
        name,
        "content decides"
    );
    assert!(
        !world
            .vcs
            .contains(&remote(), &name)
            .await
            .expect("the branch is there")
    );
    assert_eq!(sim.remote_tip(URL, "main"), Some(snapshot.commit.clone()));
    let pushed = world.vcs.push(&remote(), &name).await;
    assert_eq!(pushed.expect("it is pushed"), PushOutcome::Pushed);
    assert!(
        world
            .vcs
            .contains(&remote(), &name)
            .await
            .expect("the branch is there")
    );
    assert!(
        world
            .vcs
            .contains(&remote(), &snapshot.commit)
            .await
            .expect("it is there")
    );
    assert_eq!(
        sim.remote_file(URL, "main", "values.yaml").as_deref(),
        Some(&b"tag: b\n"[..])
    );
    assert_eq!(
        sim.remote_file(URL, "main", "other").as_deref(),
        Some(&b"x"[..])
    );
    assert_eq!(sim.remote_length(URL, "main"), 2);
    assert_eq!(effects(&sim), ["vcs.commit", "vcs.push"]);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn a_race_is_no_mistake() {
    let (sim, world) = declared();
    let with = Failure::Raced;
    sim.on("vcs.push", Fault::Fail { times: 1, with });
    let parent = read(&world).await;
    let name = commit(&world, &parent, "tag: b\n").await;
    assert_eq!(
        world.vcs.push(&remote(), &name).await.ok(),
        Some(PushOutcome::Raced)
    );
    let tip = read(&world).await;
    assert_ne!(tip, parent, "somebody else was there");
    let name = commit(&world, &tip, "tag: b\n").await;
    assert_eq!(
        world.vcs.push(&remote(), &name).await.ok(),
        Some(PushOutcome::Pushed)
    );
    assert_eq!(sim.remote_length(URL, "main"), 3);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn two_at_once_race_without_a_mistake() {
    let (sim, world) = declared();
    let (first, second) = (read(&world).await, read(&world).await);
    let one = commit(&world, &first, "tag: b\n").await;
    let two = commit(&world, &second, "tag: c\n").await;
    assert_eq!(
        world.vcs.push(&remote(), &one).await.ok(),
        Some(PushOutcome::Pushed)
    );
    assert_eq!(
        world.vcs.push(&remote(), &two).await.ok(),
        Some(PushOutcome::Raced)
    );
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn pushing_without_looking_again_is_noticed() {
    let (sim, world) = declared();
    let parent = read(&world).await;
    let name = commit(&world, &parent, "tag: b\n").await;
    let foreign = sim.foreign_commit(URL, "main", &texts(&[("new", "1")]));
    assert!(foreign.is_some());
    assert_eq!(
        world.vcs.push(&remote(), &name).await.ok(),
        Some(PushOutcome::Raced)
    );
    clean(&sim);
    assert_eq!(
        world.vcs.push(&remote(), &name).await.ok(),
        Some(PushOutcome::Raced)
    );
    broke(&sim, Rule::NotFastForward);

    let (sim, world) = declared();
    let old = read(&world).await;
    let name = commit(&world, &old, "tag: b\n").await;
    assert!(world.vcs.push(&remote(), &name).await.is_ok());
    let late = commit(&world, &old, "tag: c\n").await;
    assert_eq!(
        world.vcs.push(&remote(), &late).await.ok(),
        Some(PushOutcome::Raced)
    );
    broke(&sim, Rule::NotFastForward);
}

#[tokio::test(start_paused = true)]
async fn pushing_twice_is_noticed() {
    let (sim, world) = declared();
    let name = commit(&world, &read(&world).await, "tag: b\n").await;
    for _ in 0..2 {
        assert_eq!(
            world.vcs.push(&remote(), &name).await.ok(),
            Some(PushOutcome::Pushed)
        );
    }
    broke(&sim, Rule::PushedTwice);
    assert_eq!(sim.effects("vcs.push").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn commits_need_a_known_parent_and_a_change() {
    let (sim, world) = declared();
    let made = world
        .vcs
        .commit(&remote(), &edit(&"0".repeat(40), "x"))
        .await;
    assert!(matches!(made, Err(VcsError::Content { .. })), "{made:?}");
    broke(&sim, Rule::UnknownParent);

    let (sim, world) = declared();
    let elsewhere = sim.remote(
        "https://git.example.com/other",
        "main",
        &texts(&[("a", "b")]),
    );
    assert!(
        world
            .vcs
            .commit(&remote(), &edit(&elsewhere, "x"))
            .await
            .is_err()
    );
    broke(&sim, Rule::UnknownParent);

    let (sim, world) = declared();
    commit(&world, &read(&world).await, "tag: a\n").await;
    broke(&sim, Rule::EmptyCommit);

    let (sim, world) = declared();
    assert!(world.vcs.push(&remote(), &"1".repeat(40)).await.is_err());
    broke(&sim, Rule::UnknownCommit);
}

#[tokio::test(start_paused = true)]
async fn bad_commits_are_noticed() {
    for path in [
        "/abs",
        "../up",
        "a/../b",
        "",
        ".git/config",
        "a/.git/x",
        "./a",
    ] {
        let (sim, world) = declared();
        let mut bad = edit(&read(&world).await, "x");
        bad.files = BTreeMap::from([(path.to_owned(), Vec::new())]);
        assert!(world.vcs.commit(&remote(), &bad).await.is_err(), "{path}");
        broke(&sim, Rule::BadPath);
    }
    let (sim, world) = declared();
    let mut bad = edit(&read(&world).await, "x");
    bad.message = " ".to_owned();
    assert!(world.vcs.commit(&remote(), &bad).await.is_ok());
    broke(&sim, Rule::BadCommit);

    let (sim, world) = declared();
    sim.secret(SecretSource::Env("T".to_owned()), &Secret::new("hunter22"));
    commit(&world, &read(&world).await, "tag: hunter22\n").await;
    broke(&sim, Rule::SecretLeak);

    let (sim, world) = begin();
    let mut remote = remote();
    remote.url = "https://bot:token@git.example.com/x".to_owned();
    assert!(world.vcs.snapshot(&remote, &[]).await.is_err());
    broke(&sim, Rule::CredentialInUrl);
}

#[tokio::test(start_paused = true)]
async fn a_new_branch_starts_from_another() {
    let (sim, world) = declared();
    let name = commit(&world, &read(&world).await, "tag: b\n").await;
    let mut branch = remote();
    branch.branch = "release".to_owned();
    let absent = world.vcs.snapshot(&branch, &[]).await;
    assert!(
        matches!(absent, Err(VcsError::NoBranch { .. })),
        "{absent:?}"
    );
    assert_eq!(
        world.vcs.push(&branch, &name).await.ok(),
        Some(PushOutcome::Pushed)
    );
    assert_eq!(sim.remote_tip(URL, "release"), Some(name));
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn an_undeclared_remote_denies_unless_lenient() {
    let (sim, world) = begin();
    let denied = world.vcs.snapshot(&remote(), &[]).await;
    assert!(matches!(denied, Err(VcsError::Denied { .. })), "{denied:?}");
    clean(&sim);

    let sim = SimWorld::new(SimOptions {
        lenient_remotes: true,
        ..options()
    });
    let world = sim.world(Arc::new(Events::default()));
    let paths = ["values.yaml", "k/kustomization.yaml", "x.json"].map(str::to_owned);
    let snapshot = world
        .vcs
        .snapshot(&remote(), &paths)
        .await
        .expect("it springs up");
    let text = |path: &str| String::from_utf8_lossy(&snapshot.files[path]).into_owned();
    assert!(text("values.yaml").contains("simulated: true\n"));
    assert!(text("k/kustomization.yaml").contains("kind: Kustomization\n"));
    assert!(serde_json::from_str::<serde_json::Value>(&text("x.json")).is_ok());
    let name = commit(&world, &snapshot.commit, "simulated: true\ntag: b\n").await;
    assert_eq!(
        world.vcs.push(&remote(), &name).await.ok(),
        Some(PushOutcome::Pushed)
    );
    let again = world
        .vcs
        .snapshot(&remote(), &paths)
        .await
        .expect("it is there");
    assert_eq!(again.commit, name);
    let mut branch = remote();
    branch.branch = "release".to_owned();
    let absent = world.vcs.snapshot(&branch, &[]).await;
    assert!(
        matches!(absent, Err(VcsError::NoBranch { .. })),
        "{absent:?}"
    );
    clean(&sim);
}
