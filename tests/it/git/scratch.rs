//! Working directories of stages: scratch copies, artifacts, caches, and what they cost.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use pipewright::ports::workspace::{Scratch, Workspace, WorkspaceReader};

use super::workspace::{Setup, listing, open, setup};

/// Where the working directories of a run are.
fn work_of(s: &Setup, run: &str) -> PathBuf {
    s.repo.path().join(".pipewright").join("work").join(run)
}

#[tokio::test]
async fn scratch_copies_are_private() {
    let s = setup(&[("run", "x"), ("d/f", "1")]);
    symlink("d/f", s.repo.path().join("link")).expect("link");
    let sha = s.repo.commit("link", &[]);
    let tree = s.workspace.tree(&sha).await.expect("tree");
    let before = listing(&tree);
    let one = s
        .workspace
        .scratch("run1", "build.a", Some(&tree))
        .await
        .expect("scratch");
    let two = s
        .workspace
        .scratch("run1", "run.b[x=1/2]", Some(&tree))
        .await
        .expect("scratch");
    assert_eq!(listing(&one.path), before);
    let work = work_of(&s, "run1");
    assert_eq!((&one.path, &two.path), (&work.join("1"), &work.join("2")));
    std::fs::write(one.path.join("d/f"), "changed").expect("write");
    std::fs::write(one.path.join("more"), "m").expect("write");
    assert_eq!(listing(&two.path), before);
    assert_eq!(listing(&tree), before);
    let time = |root: &Path| std::fs::metadata(root.join("run")).expect("stat").mtime();
    assert_eq!(time(&two.path), 1_769_846_400);

    // A second attempt starts afresh.
    let again = s
        .workspace
        .scratch("run1", "build.a", Some(&tree))
        .await
        .expect("scratch");
    assert_eq!(
        (listing(&again.path), &again.path),
        (before, &work.join("3"))
    );
    let empty = s
        .workspace
        .scratch("run1", "build.a", None)
        .await
        .expect("scratch");
    assert!(listing(&empty.path).is_empty());

    // What is given back may wait for another stage, changed as it is.
    std::fs::write(two.path.join("left"), "over").expect("write");
    s.workspace.discard(two).await;
    let three = s.workspace.scratch("run1", "build.c", Some(&tree)).await;
    let three = three.expect("scratch");
    assert_eq!(
        (listing(&three.path), &three.path),
        (listing(&tree), &work.join("2"))
    );
    assert!(empty.path.exists());
    let foreign = Scratch {
        path: s.repo.path().join("d"),
    };
    s.workspace.discard(foreign).await;
    assert!(s.repo.path().join("d/f").exists(), "only below work");
    s.workspace.sweep("run1").await;
    assert!(!empty.path.exists() && !three.path.exists());
    for hostile in ["..", "../..", "", "a/b"] {
        let scratch = s
            .workspace
            .scratch(hostile, hostile, None)
            .await
            .expect("scratch");
        assert!(
            scratch
                .path
                .starts_with(s.repo.path().join(".pipewright/work"))
        );
        let depth = scratch.path.components().count();
        assert_eq!(depth, empty.path.components().count(), "{hostile:?}");
    }
}

/// A change that changes nothing sets the time of the last change all the same, by which a copy that
/// was left as it was is told without being read.
#[tokio::test]
async fn a_copy_that_is_right_is_left_alone() {
    let s = setup(&[("a", "one"), ("d/e/f", "deep"), ("d/g", "g")]);
    let sha = s.repo.commit("more", &[]);
    let tree = s.workspace.tree(&sha).await.expect("tree");
    let first = s.workspace.scratch("r", "first", Some(&tree)).await;
    let first = first.expect("scratch");
    let stamps = |root: &Path| -> Vec<_> {
        let stamp = |name: &&str| {
            let found = std::fs::symlink_metadata(root.join(name)).expect("stat");
            (found.ino(), found.ctime(), found.ctime_nsec())
        };
        ["", "a", "d", "d/e", "d/e/f", "d/g"]
            .iter()
            .map(stamp)
            .collect()
    };
    let before = stamps(&first.path);
    s.workspace.discard(first).await;
    let second = s.workspace.scratch("r", "second", Some(&tree)).await;
    assert_eq!(stamps(&second.expect("scratch").path), before);
}

#[tokio::test]
async fn a_used_scratch_becomes_an_exact_copy_again() {
    let s = setup(&[
        ("a", "one"),
        ("b", "two"),
        ("d/e/f", "deep"),
        ("d/g", "g"),
        ("x", "x"),
    ]);
    symlink("a", s.repo.path().join("link")).expect("link");
    let sha = s.repo.commit("link", &[]);
    let tree = s.workspace.tree(&sha).await.expect("tree");
    let expected = listing(&tree);
    let first = s
        .workspace
        .scratch("r", "first", Some(&tree))
        .await
        .expect("scratch");
    let inode = std::fs::metadata(&first.path).expect("stat").ino();
    let file = |name: &str| first.path.join(name);
    let inside = std::fs::metadata(file("d/g")).expect("stat").ino();
    // Same size and time, other content.
    let time = std::fs::metadata(file("a"))
        .expect("stat")
        .modified()
        .expect("time");
    std::fs::write(file("a"), "ONE").expect("write");
    let handle = std::fs::File::options()
        .write(true)
        .open(file("a"))
        .expect("open");
    handle.set_modified(time).expect("time");
    drop(handle);
    // A second name from which the content could be changed later.
    let second_name = s.dir.path().join("second-name");
    std::fs::hard_link(file("b"), &second_name).expect("link");
    std::fs::remove_file(file("x")).expect("remove");
    std::fs::create_dir_all(file("x/y/z")).expect("mkdir");
    std::fs::remove_dir_all(file("d/e")).expect("remove");
    symlink(s.repo.path(), file("d/e")).expect("link");
    std::fs::remove_file(file("link")).expect("remove");
    symlink("b", file("link")).expect("link");
    std::fs::create_dir(file("locked")).expect("mkdir");
    std::fs::write(file("locked/f"), "").expect("write");
    for (name, mode) in [("locked", 0o500), ("d/g", 0o777), ("d", 0o755)] {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file(name), mode).expect("chmod");
    }
    s.workspace.discard(first).await;
    let second = s
        .workspace
        .scratch("r", "second", Some(&tree))
        .await
        .expect("scratch");
    assert_eq!(listing(&second.path), expected);
    let meta = |path: &str| std::fs::metadata(second.path.join(path)).expect("stat");
    assert_eq!(meta("").ino(), inode, "the same directory");
    assert_eq!(meta("d/g").ino(), inside, "the same file");
    for name in ["a", "b", "d", "d/e", "d/e/f", "d/g", "x"] {
        assert_eq!(meta(name).mtime(), 1_769_846_400, "{name}");
    }
    std::fs::write(&second_name, "EVIL").expect("write");
    assert_eq!(listing(&second.path), expected);
    assert!(
        s.repo.path().join("d/e/f").exists(),
        "nothing beyond a link was touched"
    );

    // Another run, another tree and an empty directory get none of it.
    std::fs::write(second.path.join("left"), "over").expect("write");
    s.workspace.discard(second).await;
    let empty = s
        .workspace
        .scratch("r", "empty", None)
        .await
        .expect("scratch");
    assert!(listing(&empty.path).is_empty());
    let other = s
        .workspace
        .scratch("r2", "first", Some(&tree))
        .await
        .expect("scratch");
    assert_ne!(std::fs::metadata(&other.path).expect("stat").ino(), inode);
    std::fs::write(empty.path.join("left"), "over").expect("write");
    s.workspace.discard(empty).await;
    let empty = s
        .workspace
        .scratch("r", "empty2", None)
        .await
        .expect("scratch");
    assert!(listing(&empty.path).is_empty());
    s.workspace.sweep("r").await;
    assert!(!work_of(&s, "r").exists());
}

/// What a container of another user left behind may be there for good.
#[tokio::test]
async fn a_place_that_cannot_be_made_empty_is_left_alone() {
    let s = setup(&[("a", "1")]);
    let sha = s.repo.git(&["rev-parse", "HEAD"]);
    let tree = s.workspace.tree(&sha).await.expect("tree");
    let work = work_of(&s, "r");
    std::fs::create_dir_all(work.join("1")).expect("mkdir");
    // Not even root removes a directory that something is mounted on.
    let mount = |args: &[&str]| {
        let done = std::process::Command::new(args[0])
            .args(&args[1..])
            .status();
        assert!(done.expect("it starts").success(), "{args:?}");
    };
    let blocked = work.join("1").display().to_string();
    mount(&["mount", "-t", "tmpfs", "none", &blocked]);
    let first = s.workspace.scratch("r", "a", Some(&tree)).await;
    let second = s.workspace.scratch("r", "b", Some(&tree)).await;
    mount(&["umount", &blocked]);
    let paths = [first, second].map(|scratch| scratch.expect("scratch").path);
    assert_eq!(paths, [work.join("2"), work.join("3")]);
}

/// Copies are only thrown away once they are removed, and nothing is made where one still is.
#[tokio::test]
async fn places_are_used_again_and_never_by_two() {
    let s = setup(&[("a", "1")]);
    let work = work_of(&s, "r");
    let root = s.workspace.root().to_owned();
    let absent = s.dir.path().join("absent");
    assert!(s.workspace.scratch("r", "a", Some(&absent)).await.is_err());
    assert!(!work.join("1").exists(), "what was begun is removed");
    for _ in 0..3 {
        let dirty = s.workspace.scratch("r", "a", Some(&root)).await;
        let dirty = dirty.expect("scratch");
        assert_eq!(dirty.path, work.join("1"));
        s.workspace.discard(dirty).await;
        assert!(!work.join("1").exists());
    }
    let one = s.workspace.scratch("r", "a", None).await.expect("scratch");
    let two = s.workspace.scratch("r", "b", Some(&root)).await;
    let two = two.expect("scratch");
    assert_eq!([&one.path, &two.path], [&work.join("1"), &work.join("2")]);
    s.workspace.discard(one).await;
    let three = s.workspace.scratch("r", "c", Some(&root)).await;
    assert_eq!(three.expect("scratch").path, work.join("3"), "1 waits");
    let four = s.workspace.scratch("r", "d", None).await;
    assert_eq!(four.expect("scratch").path, work.join("1"));
    let five = s.workspace.scratch("r", "e", Some(&root)).await;
    assert_eq!(five.expect("scratch").path, work.join("4"), "1 is in use");
}

#[tokio::test]
async fn a_dirty_scratch_holds_what_a_commit_would() {
    let s = setup(&[
        ("a", "1"),
        ("gone", "1"),
        (".gitignore", "*.log\ntarget/\n"),
    ]);
    s.repo.write(&[
        ("a", "2"),
        ("n/new", "3"),
        ("secret.log", ""),
        ("target/x", ""),
    ]);
    s.repo.write(&[(".pipewright/cache/x", "")]);
    std::fs::remove_file(s.repo.path().join("gone")).expect("remove");
    let root = s.workspace.root().to_owned();
    let scratch = s
        .workspace
        .scratch("r", "s", Some(&root))
        .await
        .expect("scratch");
    let names: Vec<_> = listing(&scratch.path).into_keys().collect();
    assert_eq!(names, [".gitignore", "a", "n", "n/new"]);
    assert_eq!(std::fs::read(scratch.path.join("a")).expect("read"), b"2");
}

#[tokio::test]
async fn artifacts_travel_between_stages() {
    let s = setup(&[("a", "1")]);
    let w = &s.workspace;
    let from = w.scratch("r", "build.x", None).await.expect("scratch");
    std::fs::create_dir_all(from.path.join("out/bin")).expect("mkdir");
    std::fs::write(from.path.join("out/bin/app"), "program").expect("write");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(from.path.join("out/bin/app"), mode).expect("chmod");
    symlink("app", from.path.join("out/bin/alias")).expect("link");
    std::fs::write(from.path.join("junk"), "").expect("write");
    let patterns = ["out/**".to_owned()];
    let tally = w
        .collect("r", "build.x", &from, &patterns)
        .await
        .expect("collect");
    assert_eq!(tally, (2, 7));
    w.discard(from).await;
    let into = w.scratch("r", "run.y", None).await.expect("scratch");
    w.restore("r", "build.x", &into.path)
        .await
        .expect("restore");
    let found = listing(&into.path);
    assert_eq!(
        found.get("out/bin/app").map(String::as_str),
        Some("f755 program")
    );
    assert_eq!(
        found.get("out/bin/alias").map(String::as_str),
        Some("-> app")
    );
    assert!(!found.contains_key("junk"));
    w.sweep("r").await;
    let kept = s.dir.path().join("kept");
    w.restore("r", "build.x", &kept)
        .await
        .expect("artifacts survive");
    assert_eq!(listing(&kept), found);
    let error = w.restore("r", "other", &kept).await.expect_err("none");
    assert!(error.to_string().contains("no artifacts"), "{error}");
}

#[tokio::test]
async fn caches_last_and_reads_below_are_bounded() {
    let s = setup(&[("a", "1")]);
    let cache = s.workspace.cache("go mod/../x").await.expect("cache");
    assert!(cache.starts_with(s.repo.path().join(".pipewright/cache")));
    std::fs::write(cache.join("f"), "kept").expect("write");
    assert_eq!(
        s.workspace.cache("go mod/../x").await.expect("cache"),
        cache
    );
    assert_ne!(
        s.workspace.cache("go mod/__/x").await.expect("cache"),
        cache
    );
    let get = async |path: &str, limit| {
        let path = PathBuf::from(path);
        s.workspace.read_below(&cache, &path, limit).await
    };
    assert_eq!(get("f", 4).await.expect("read"), Some(b"kept".to_vec()));
    assert_eq!(get("g", 4).await.expect("read"), None);
    assert!(get("f", 3).await.is_err());
    assert!(get("../../f", 9).await.is_err());
    let missing = cache.join("no/such");
    let none = s.workspace.read_below(&missing, Path::new("f"), 1).await;
    assert_eq!(none.expect("read"), None);
}

/// Thousands of stages each get a scratch copy, so one must cost next to nothing. The bound is far
/// above what is measured (printed) because the machine may be busy with other tests.
#[tokio::test(flavor = "multi_thread")]
async fn opening_and_scratch_copies_are_cheap() {
    let files = [
        ("a", "1"),
        ("b", "2"),
        ("c", "3"),
        ("d/e", "4"),
        ("d/f", "5"),
    ];
    let s = setup(&files);
    let start = Instant::now();
    for _ in 0..20 {
        open(&s.repo);
    }
    let opening = start.elapsed() / 20;
    let sha = s.repo.git(&["rev-parse", "HEAD"]);
    let tree = s.workspace.tree(&sha).await.expect("tree");
    let count = 500;
    let start = Instant::now();
    let mut made = Vec::new();
    for i in 0..count {
        let stage = format!("run.s{i}");
        made.push(
            s.workspace
                .scratch("r", &stage, Some(&tree))
                .await
                .expect("scratch"),
        );
    }
    let fresh = start.elapsed() / count;
    assert_eq!(listing(&made[499].path), listing(&tree));
    for scratch in made {
        s.workspace.discard(scratch).await;
    }
    // As a run of many short stages does it.
    let start = Instant::now();
    for i in 0..count {
        let stage = format!("run.t{i}");
        let tree = s.workspace.tree(&sha).await.expect("tree");
        let scratch = s
            .workspace
            .scratch("r", &stage, Some(&tree))
            .await
            .expect("scratch");
        s.workspace.discard(scratch).await;
    }
    let cycle = start.elapsed() / count;
    let start = Instant::now();
    for i in 0..count {
        let stage = format!("run.e{i}");
        let scratch = s
            .workspace
            .scratch("r", &stage, None)
            .await
            .expect("scratch");
        s.workspace.discard(scratch).await;
    }
    let empty = start.elapsed() / count;
    println!("open {opening:?}, fresh {fresh:?}, again with discard {cycle:?}, empty {empty:?}");
    assert!(opening.as_millis() < 20, "{opening:?}");
    assert!(cycle.as_millis() < 5, "{cycle:?}");
}

/// What a disk has damaged is noticed, for packed objects and for loose ones.
#[tokio::test]
async fn a_damaged_object_is_not_laid_out() {
    for packed in [false, true] {
        let s = setup(&[("small", "1")]);
        let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(300_000)
            .collect();
        std::fs::write(s.repo.path().join("big"), random).expect("write");
        let sha = s.repo.commit("big", &[]);
        if packed {
            s.repo.git(&["gc", "--quiet"]);
        }
        let objects = s.repo.path().join(".git/objects");
        let found = s.repo.git(&["rev-parse", "HEAD:big"]);
        let file = match packed {
            false => objects.join(&found[..2]).join(&found[2..]),
            true => std::fs::read_dir(objects.join("pack"))
                .expect("packs")
                .flatten()
                .map(|entry| entry.path())
                .find(|path| path.extension().is_some_and(|ending| ending == "pack"))
                .expect("a pack"),
        };
        let mut bytes = std::fs::read(&file).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&file, mode).expect("chmod");
        std::fs::write(&file, bytes).expect("write");
        let laid = s.workspace.tree(&sha).await;
        assert!(laid.is_err(), "packed: {packed}");
    }
}
