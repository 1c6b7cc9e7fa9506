//! The source repository: facts, trees, scratch copies, artifacts.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use pipewright::adapters::git::GitWorkspace;
use pipewright::ports::workspace::{Scratch, Workspace, WorkspaceError, WorkspaceReader};
use tempfile::TempDir;

use crate::support::repo::SourceRepo;

struct Setup {
    dir: TempDir,
    repo: SourceRepo,
    workspace: GitWorkspace,
}

fn setup(files: &[(&str, &str)]) -> Setup {
    let dir = tempfile::tempdir().expect("dir");
    let repo = SourceRepo::with_files(&dir.path().join("repo"), files);
    let workspace = open(&repo);
    Setup {
        dir,
        repo,
        workspace,
    }
}

fn open(repo: &SourceRepo) -> GitWorkspace {
    let state = repo.path().join(".pipewright");
    GitWorkspace::open(repo.path(), &state).expect("a repository")
}

/// Every path below a directory with what it is: `d`, `f644 content`, `-> target`.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("read").flatten() {
            let path = entry.path();
            let meta = std::fs::symlink_metadata(&path).expect("stat");
            let text = if meta.is_dir() {
                open.push(path.clone());
                "d".to_owned()
            } else if meta.is_symlink() {
                format!("-> {}", std::fs::read_link(&path).expect("link").display())
            } else {
                let content = std::fs::read(&path).expect("read");
                let mode = meta.permissions().mode() & 0o777;
                format!("f{mode:o} {}", String::from_utf8_lossy(&content))
            };
            let name = path
                .strip_prefix(root)
                .expect("below")
                .display()
                .to_string();
            all.insert(name, text);
        }
    }
    all
}

#[tokio::test]
async fn facts_of_every_kind_of_revision() {
    let s = setup(&[("a", "1")]);
    let first = s.repo.git(&["rev-parse", "HEAD"]);
    s.repo.git(&["tag", "v1.0.0"]);
    s.repo.git(&["tag", "-a", "v1.0.1", "-m", "annotated"]);
    let second = s.repo.commit("second\n\nbody", &[("a", "2")]);
    s.repo.git(&["branch", "feature/x", &first]);
    s.repo.git(&[
        "remote",
        "add",
        "origin",
        "https://bot:pw@example.com/o/r.git",
    ]);

    let head = s.workspace.commit(None).await.expect("HEAD");
    assert_eq!(head.sha, second);
    assert_eq!(head.branch.as_deref(), Some("main"));
    assert_eq!(head.tag, None);
    assert_eq!(head.reference, "refs/heads/main");
    assert_eq!(head.message, "second");
    assert_eq!(head.author, "Test <test@example.com>");
    assert_eq!(head.time.rfc3339(), "2026-01-31T08:00:00Z");
    assert_eq!(head.origin.as_deref(), Some("https://example.com/o/r.git"));
    assert_eq!(s.workspace.commit(Some("HEAD")).await.expect("HEAD"), head);

    let annotated = s.repo.git(&["rev-parse", "v1.0.1"]);
    for (name, sha, branch, tag, reference) in [
        ("main", &second, Some("main"), None, "refs/heads/main"),
        (
            "refs/heads/main",
            &second,
            Some("main"),
            None,
            "refs/heads/main",
        ),
        (
            "feature/x",
            &first,
            Some("feature/x"),
            None,
            "refs/heads/feature/x",
        ),
        ("v1.0.0", &first, None, Some("v1.0.0"), "refs/tags/v1.0.0"),
        ("v1.0.1", &first, None, Some("v1.0.1"), "refs/tags/v1.0.1"),
        (
            "refs/tags/v1.0.1",
            &first,
            None,
            Some("v1.0.1"),
            "refs/tags/v1.0.1",
        ),
        (&first[..7], &first, None, None, &*first),
        (&second, &second, None, None, &*second),
        (&annotated, &first, None, None, &*first),
    ] {
        let commit = s.workspace.commit(Some(name)).await.expect(name);
        assert_eq!(&commit.sha, sha, "{name}");
        assert_eq!(commit.branch.as_deref(), branch, "{name}");
        assert_eq!(commit.tag.as_deref(), tag, "{name}");
        assert_eq!(commit.reference, reference, "{name}");
    }
    for bad in [
        "nope",
        "",
        "HEAD~1",
        "refs/heads/none",
        "0000000",
        "-x",
        "a..b",
    ] {
        let error = s.workspace.commit(Some(bad)).await.expect_err(bad);
        assert!(
            matches!(error, WorkspaceError::NoRevision { .. }),
            "{bad}: {error}"
        );
    }
    s.repo.git(&["tag", "main", &first]);
    let error = s.workspace.commit(Some("main")).await.expect_err("two");
    assert!(error.to_string().contains("refs/heads/main"), "{error}");

    s.repo.git(&["checkout", "-q", "--detach", &first]);
    let detached = s.workspace.commit(None).await.expect("detached");
    assert_eq!((detached.sha, detached.branch), (first.clone(), None));
    assert_eq!(detached.reference, first);
}

#[tokio::test]
async fn no_repository_no_commit_and_a_subdirectory() {
    let dir = tempfile::tempdir().expect("dir");
    let error = GitWorkspace::open(dir.path(), dir.path()).map(|_| ());
    let error = error.expect_err("no repository");
    assert!(
        matches!(error, WorkspaceError::NoRepository { .. }),
        "{error}"
    );
    let repo = SourceRepo::init(&dir.path().join("r"));
    let error = open(&repo).commit(None).await.expect_err("unborn");
    assert!(
        matches!(error, WorkspaceError::NoRevision { .. }),
        "{error}"
    );
    repo.commit("x", &[("d/e/f", "")]);
    let inner = GitWorkspace::open(&repo.path().join("d/e"), dir.path()).expect("found");
    let real = std::fs::canonicalize(repo.path()).expect("path");
    assert_eq!(inner.root(), real);
    let linked = dir.path().join("linked");
    repo.git(&[
        "worktree",
        "add",
        "-q",
        linked.to_str().expect("utf-8"),
        "-b",
        "other",
    ]);
    let worktree = GitWorkspace::open(&linked, dir.path()).expect("found");
    let commit = worktree.commit(None).await.expect("HEAD");
    assert_eq!(commit.branch.as_deref(), Some("other"));
}

#[tokio::test]
async fn dirt_is_what_git_would_commit() {
    let s = setup(&[("a", "1"), (".gitignore", "*.log\n")]);
    let dirty = async || s.workspace.is_dirty().await.expect("status");
    assert!(!dirty().await);
    s.repo
        .write(&[("x.log", "ignored"), (".pipewright/trees/x", "ours")]);
    assert!(!dirty().await);
    s.repo.write(&[("new", "")]);
    assert!(dirty().await);
    std::fs::remove_file(s.repo.path().join("new")).expect("remove");
    assert!(!dirty().await);
    s.repo.write(&[("a", "2")]);
    assert!(dirty().await);
    s.repo.git(&["checkout", "-q", "a"]);
    s.repo.git(&["rm", "-q", "--cached", "a"]);
    assert!(dirty().await);
    s.repo.git(&["reset", "-q", "--hard"]);
    // A state directory deeper down, in an untracked directory of its own.
    let deep = s.repo.path().join("deep/state");
    std::fs::remove_dir_all(s.repo.path().join(".pipewright")).expect("remove");
    s.repo.write(&[("deep/state/f", "")]);
    let workspace = GitWorkspace::open(s.repo.path(), &deep).expect("open");
    assert!(!workspace.is_dirty().await.expect("status"));
    s.repo.write(&[("deep/other", "")]);
    assert!(workspace.is_dirty().await.expect("status"));
}

#[tokio::test]
async fn changes_between_commits() {
    let s = setup(&[("a", "1"), ("d/b", "1"), ("gone", "1")]);
    let first = s.repo.git(&["rev-parse", "HEAD"]);
    std::fs::remove_file(s.repo.path().join("gone")).expect("remove");
    let second = s.repo.commit("2", &[("d/b", "2"), ("d/new ü", "")]);
    let changed = s.workspace.changed(&first, &second).await.expect("diff");
    let names = ["d/b", "d/new ü", "gone"].map(str::to_owned).to_vec();
    assert_eq!(changed, Some(names));
    let same = s.workspace.changed(&second, &second).await.expect("diff");
    assert_eq!(same, Some(Vec::new()));
    let unknown = "1".repeat(40);
    assert_eq!(
        s.workspace.changed(&unknown, &second).await.expect("diff"),
        None
    );
    assert!(s.workspace.changed(&first, &unknown).await.is_err());
}

#[tokio::test]
async fn reads_of_commits_and_of_the_working_tree_agree() {
    let s = setup(&[("d/f", "old")]);
    symlink("d/f", s.repo.path().join("link")).expect("link");
    symlink("d", s.repo.path().join("dir")).expect("link");
    let sha = s.repo.commit("links", &[]);
    s.repo.write(&[("d/f", "newer")]);
    for (sha, content) in [(Some(sha.as_str()), "old"), (None, "newer")] {
        let get = async |path: &str, limit| s.workspace.read(sha, Path::new(path), limit).await;
        let limit = content.len() as u64;
        assert_eq!(get("d/f", limit).await.expect("read"), Some(content.into()));
        assert_eq!(
            get("./d/./f", limit).await.expect("read"),
            Some(content.into())
        );
        assert_eq!(get("none", 9).await.expect("read"), None);
        assert_eq!(get("d/f/x", 9).await.expect("read"), None);
        for (path, limit, part) in [
            ("d/f", limit - 1, "larger"),
            ("../repo/d/f", 99, "outside"),
            ("/etc/passwd", 99, "outside"),
            ("link", 99, "symbolic link"),
            ("dir/f", 99, "symbolic link"),
            ("d", 99, "directory"),
        ] {
            let error = get(path, limit).await.expect_err(path).to_string();
            assert!(error.contains(part), "{path}: {error}");
        }
    }
}

#[tokio::test]
async fn a_tree_is_exactly_the_commit() {
    let s = setup(&[
        ("run.sh", "#!/bin/sh\n"),
        ("crlf.txt", "a\r\nb\n"),
        ("big.bin", "version https://git-lfs.github.com/spec/v1\n"),
        (".gitattributes", "* text=auto eol=crlf\n*.bin filter=lfs\n"),
        ("d/e/f", "deep"),
        ("ignored.log", "tracked all the same"),
    ]);
    s.repo.git(&["config", "core.autocrlf", "true"]);
    s.repo.git(&["config", "filter.lfs.smudge", "false"]);
    s.repo.git(&["config", "filter.lfs.required", "true"]);
    let script = s.repo.path().join("run.sh");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    symlink("../outside", s.repo.path().join("d/link")).expect("link");
    s.repo.git(&["config", "filter.lfs.clean", "cat"]);
    s.repo.git(&["add", "-A"]);
    let module = "160000,1111111111111111111111111111111111111111,module";
    s.repo
        .git(&["update-index", "--add", "--cacheinfo", module]);
    s.repo.git(&["commit", "-q", "-m", "all"]);
    let sha = s.repo.git(&["rev-parse", "HEAD"]);
    s.repo.write(&[("d/e/f", "dirt"), ("untracked", "")]);

    let tree = s.workspace.tree(&sha).await.expect("tree");
    assert_eq!(tree, s.repo.path().join(".pipewright/trees").join(&sha));
    let found = listing(&tree);
    for (path, what) in [
        ("run.sh", "f755 #!/bin/sh\n"),
        (
            "big.bin",
            "f644 version https://git-lfs.github.com/spec/v1\n",
        ),
        ("d/e/f", "f644 deep"),
        ("d/link", "-> ../outside"),
        ("module", "d"),
    ] {
        assert_eq!(found.get(path).map(String::as_str), Some(what), "{path}");
    }
    let mut expected = s.repo.git(&["ls-tree", "-r", "-t", "--name-only", &sha]);
    expected.push('\n');
    let names: Vec<&str> = expected.lines().collect();
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), {
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted
    });
    // Every file has the bytes of its blob, whatever the attributes say.
    for name in names {
        let path = tree.join(name);
        let meta = std::fs::symlink_metadata(&path).expect("stat");
        assert_eq!(meta.mtime(), 1_769_846_400, "{name}");
        if meta.is_file() {
            let blob = format!("{sha}:{name}");
            let file = path.to_str().expect("utf-8");
            let there = s.repo.git(&["hash-object", "--no-filters", file]);
            assert_eq!(there, s.repo.git(&["rev-parse", &blob]), "{name}");
        }
    }
    assert_eq!(s.workspace.tree(&sha).await.expect("again"), tree);
    for bad in ["HEAD", "../../x", &sha[..39], &"f".repeat(40)] {
        let error = s.workspace.tree(bad).await.expect_err(bad);
        assert!(
            matches!(error, WorkspaceError::NoRevision { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn hostile_trees_are_refused() {
    let s = setup(&[("a", "1")]);
    let blob = s.repo.git(&["rev-parse", "HEAD:a"]);
    let write = |entries: &[(&str, &str, &str)]| {
        let mut raw = Vec::new();
        for (mode, name, id) in entries {
            raw.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            let bytes = (0..40)
                .step_by(2)
                .map(|i| u8::from_str_radix(&id[i..i + 2], 16));
            raw.extend(bytes.map(|byte| byte.expect("hex")));
        }
        let file = s.dir.path().join("raw");
        std::fs::write(&file, raw).expect("write");
        let file = file.to_str().expect("utf-8").to_owned();
        let hash = ["hash-object", "-t", "tree", "-w", "--literally", &file];
        s.repo.git(&hash)
    };
    let inner = write(&[("100644", "x", &blob)]);
    let target = s.dir.path().join("outside");
    std::fs::create_dir(&target).expect("mkdir");
    let link_text = s.dir.path().join("link-text");
    std::fs::write(&link_text, target.to_str().expect("utf-8")).expect("write");
    let link = s
        .repo
        .git(&["hash-object", "-w", link_text.to_str().expect("utf-8")]);
    for (what, entries) in [
        ("dots", vec![("100644", "..", blob.as_str())]),
        ("git", vec![("40000", ".GIT", inner.as_str())]),
        ("slash", vec![("100644", "a/../../../x", blob.as_str())]),
        (
            "link then directory",
            vec![("120000", "d", &link), ("40000", "d", &inner)],
        ),
        ("a tree as a file", vec![("100644", "f", inner.as_str())]),
    ] {
        let tree = write(&entries);
        let sha = s.repo.git(&["commit-tree", "-m", "bad", &tree]);
        let result = s.workspace.tree(&sha).await;
        assert!(result.is_err(), "{what}: {result:?}");
        let trees = s.repo.path().join(".pipewright/trees");
        assert!(!trees.join(&sha).exists(), "{what}");
        assert!(!trees.join(format!("{sha}.part")).exists(), "{what}");
    }
    assert!(listing(&target).is_empty());
    // A small repository that describes more files than there are atoms.
    let mut id = inner;
    for _ in 0..40 {
        let names: Vec<String> = (0..10).map(|i| i.to_string()).collect();
        let entries: Vec<_> = names
            .iter()
            .map(|n| ("40000", n.as_str(), id.as_str()))
            .collect();
        id = write(&entries);
    }
    let sha = s.repo.git(&["commit-tree", "-m", "bomb", &id]);
    let error = s.workspace.tree(&sha).await.expect_err("a bomb");
    assert!(error.to_string().contains("1000000 entries"), "{error}");
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
    assert_eq!(
        one.path,
        s.repo.path().join(".pipewright/work/run1/build.a")
    );
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
    assert_eq!((listing(&again.path), &again.path), (before, &one.path));
    let empty = s
        .workspace
        .scratch("run1", "build.a", None)
        .await
        .expect("scratch");
    assert!(listing(&empty.path).is_empty());

    s.workspace.discard(two.clone()).await;
    assert!(!two.path.exists() && empty.path.exists());
    let foreign = Scratch {
        path: s.repo.path().join("d"),
    };
    s.workspace.discard(foreign).await;
    assert!(s.repo.path().join("d/f").exists(), "only below work");
    s.workspace.sweep("run1").await;
    assert!(!empty.path.exists());
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
    assert!(!s.repo.path().join(".pipewright/work/r").exists());
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
