//! The source repository: facts and trees.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use pipewright::adapters::git::GitWorkspace;
use pipewright::ports::workspace::{WorkspaceError, WorkspaceReader};
use tempfile::TempDir;

use crate::support::repo::SourceRepo;

/// A repository and the adapter on it.
pub struct Setup {
    pub dir: TempDir,
    pub repo: SourceRepo,
    pub workspace: GitWorkspace,
}

pub fn setup(files: &[(&str, &str)]) -> Setup {
    let dir = tempfile::tempdir().expect("dir");
    let repo = SourceRepo::with_files(&dir.path().join("repo"), files);
    let workspace = open(&repo);
    Setup {
        dir,
        repo,
        workspace,
    }
}

pub fn open(repo: &SourceRepo) -> GitWorkspace {
    let state = repo.path().join(".pipewright");
    GitWorkspace::open(repo.path(), &state).expect("a repository")
}

/// Every path below a directory with what it is: `d`, `f644 content`, `-> target`.
pub fn listing(root: &Path) -> BTreeMap<String, String> {
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
