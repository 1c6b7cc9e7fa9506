//! The source repository and the directories of stages.

use std::path::Path;

use super::support::{begin, broke, clean, effects, texts, tree};
use crate::adapters::sim::Rule;
use crate::base::Commit;
use crate::ports::workspace::{Scratch, WorkspaceError};

#[tokio::test(start_paused = true)]
async fn commits_are_found_by_name() {
    let (sim, world) = begin();
    let workspace = &world.workspace;
    let first = workspace.commit(None).await.expect("there is a head");
    assert_eq!(
        (first.branch.as_deref(), first.reference.as_str()),
        (Some("main"), "refs/heads/main")
    );
    let second = sim.add_commit(
        Commit {
            branch: Some("main".to_owned()),
            tag: Some("v1.2".to_owned()),
            reference: "refs/heads/main".to_owned(),
            ..Commit::default()
        },
        &texts(&[("Dockerfile", "FROM scratch\n"), ("new", "1")]),
    );
    for name in ["main", "refs/heads/main", second.short_sha()] {
        let found = workspace.commit(Some(name)).await.expect("it is there");
        assert_eq!(found.sha, second.sha, "{name}");
    }
    let tagged = workspace.commit(Some("v1.2")).await.expect("it is there");
    assert_eq!(
        (tagged.reference.as_str(), tagged.version()),
        ("refs/tags/v1.2", Some("1.2"))
    );
    let by_sha = workspace
        .commit(Some(&first.sha))
        .await
        .expect("it is there");
    assert_eq!((by_sha.branch, by_sha.reference), (None, first.sha.clone()));
    let absent = workspace.commit(Some("nope")).await;
    assert!(
        matches!(absent, Err(WorkspaceError::NoRevision { .. })),
        "{absent:?}"
    );

    let changed = workspace
        .changed(&first.sha, &second.sha)
        .await
        .expect("both are known");
    let changed = changed.expect("both are known");
    assert_eq!(
        changed,
        [
            "Dockerfile",
            "new",
            "other/Dockerfile",
            "other/x",
            "src/main.c"
        ]
    );
    assert_eq!(
        workspace
            .changed("unknown", &second.sha)
            .await
            .expect("it answers"),
        None
    );
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn the_working_tree_is_read_and_edited() {
    let (sim, world) = begin();
    let workspace = &world.workspace;
    let head = workspace.commit(None).await.expect("there is a head").sha;
    let path = Path::new("src/main.c");
    assert!(!workspace.is_dirty().await.expect("it answers"));
    sim.edit("src/main.c", "changed");
    assert!(workspace.is_dirty().await.expect("it answers"));
    let now = workspace.read(None, path, 100).await.expect("it is a path");
    assert_eq!(now.as_deref(), Some(&b"changed"[..]));
    let then = workspace
        .read(Some(&head), path, 100)
        .await
        .expect("it is a path");
    assert_eq!(then.as_deref(), Some(&b"int main;\n"[..]));
    assert!(
        workspace.read(None, path, 3).await.is_err(),
        "larger than that"
    );
    assert!(
        workspace.read(None, Path::new("../x"), 3).await.is_err(),
        "leads out"
    );
    assert_eq!(
        workspace
            .read(None, Path::new("absent"), 3)
            .await
            .expect("it is a path"),
        None
    );
    let facts = world
        .engine
        .context(workspace.root(), Path::new("Dockerfile"))
        .await;
    let tree = tree(&world).await;
    let committed = world.engine.context(&tree, Path::new("Dockerfile")).await;
    assert_ne!(
        facts.expect("a context").digest,
        committed.expect("a context").digest
    );
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn artifacts_move_between_stages() {
    let (sim, world) = begin();
    let workspace = &world.workspace;
    let tree = tree(&world).await;
    let made = workspace
        .scratch("r", "run.a", Some(&tree))
        .await
        .expect("it is made");
    let patterns = ["src".to_owned(), "*/Dockerfile".to_owned()];
    let taken = workspace.collect("r", "run.a", &made, &patterns).await;
    assert_eq!(taken.expect("it collects"), (2, 10 + 23));
    workspace.discard(made.clone()).await;
    let other = workspace
        .scratch("r", "run.b", None)
        .await
        .expect("it is made");
    assert!(workspace.restore("r", "run.a", &other.path).await.is_ok());
    let path = Path::new("src/main.c");
    let read = workspace
        .read_below(&other.path, path, 100)
        .await
        .expect("it is a path");
    assert_eq!(read.as_deref(), Some(&b"int main;\n"[..]));
    let none = workspace
        .read_below(&other.path, Path::new("Dockerfile"), 100)
        .await;
    assert_eq!(none.expect("it is a path"), None);
    let cache = workspace.cache("key").await.expect("it is made");
    assert_eq!(workspace.cache("key").await.ok(), Some(cache));
    workspace.sweep("r").await;
    clean(&sim);
    assert_eq!(
        effects(&sim),
        [
            "workspace.tree",
            "workspace.scratch",
            "workspace.collect",
            "workspace.discard",
            "workspace.scratch",
            "workspace.restore",
            "workspace.cache",
            "workspace.sweep",
        ]
    );
    assert!(
        workspace.read_below(&other.path, path, 100).await.is_err(),
        "it was swept"
    );
    broke(&sim, Rule::UnknownDirectory);
}

#[tokio::test(start_paused = true)]
async fn mistakes_are_noticed() {
    let (sim, world) = begin();
    let scratch = world
        .workspace
        .scratch("r", "s", None)
        .await
        .expect("it is made");
    let restored = world.workspace.restore("r", "absent", &scratch.path).await;
    assert!(restored.is_err());
    broke(&sim, Rule::NothingCollected);

    let (sim, world) = begin();
    let scratch = world
        .workspace
        .scratch("r", "s", None)
        .await
        .expect("it is made");
    let collected = world
        .workspace
        .collect("r", "s", &scratch, &["**".to_owned()])
        .await;
    assert_eq!(collected.expect("it collects"), (0, 0));
    let tree = tree(&world).await;
    assert!(world.workspace.restore("r", "s", &tree).await.is_err());
    broke(&sim, Rule::TreeWritten);

    let (sim, world) = begin();
    assert!(
        world
            .workspace
            .scratch("r", "../../etc", None)
            .await
            .is_err()
    );
    broke(&sim, Rule::BadPath);

    let (sim, world) = begin();
    assert!(
        world
            .workspace
            .scratch("r", "s", Some(Path::new("/sim/no")))
            .await
            .is_err()
    );
    broke(&sim, Rule::UnknownDirectory);

    let (sim, world) = begin();
    let path = "/sim/scratch/r/gone".into();
    let gone = world
        .workspace
        .collect("r", "s", &Scratch { path }, &[])
        .await;
    assert!(gone.is_err());
    broke(&sim, Rule::UnknownDirectory);

    let (sim, world) = begin();
    world.workspace.sweep("").await;
    broke(&sim, Rule::BroadReap);

    let (sim, world) = begin();
    let scratch = world
        .workspace
        .scratch("r", "s", None)
        .await
        .expect("it is made");
    let out = world
        .workspace
        .collect("r", "s", &scratch, &["../x".to_owned()])
        .await;
    assert!(matches!(out, Err(WorkspaceError::Path { .. })), "{out:?}");
    clean(&sim);
}
