//! Remote repositories over HTTP and on this machine: read, commit, push, race, fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pipewright::adapters::git::GitRemotes;
use pipewright::adapters::http::Http;
use pipewright::base::{Secret, Timestamp};
use pipewright::ports::vcs::{
    Access, NewCommit, PushOutcome, Remote, Snapshot, Vcs, VcsError, VcsReader,
};
use tempfile::TempDir;

use crate::support::git_http::GitServer;
use crate::support::repo::{SourceRepo, git, git_ok};

const VALUES: &str = "deploy/values.yaml";

/// A server with one repository, and the adapter.
pub struct Setup {
    pub server: GitServer,
    pub bare: PathBuf,
    pub remote: Remote,
    pub remotes: GitRemotes,
    pub state: TempDir,
}

pub fn setup() -> Setup {
    let server = GitServer::start();
    let files = [
        (VALUES, "tag: one\n"),
        ("deploy/run.sh", "#!/bin/sh\n"),
        ("README", "r"),
    ];
    let bare = server.serve("group/app.git", &files);
    let state = tempfile::tempdir().expect("dir");
    Setup {
        remote: Remote {
            url: server.url("group/app.git"),
            branch: "main".to_owned(),
            access: token(server.token()),
        },
        remotes: GitRemotes::new(state.path(), Http::new()),
        server,
        bare,
        state,
    }
}

pub fn token(token: &str) -> Access {
    Access::Token {
        user: "x-access-token".to_owned(),
        token: Secret::new(token),
    }
}

pub fn paths(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

pub fn edit(parent: &str, files: &[(&str, &str)]) -> NewCommit {
    NewCommit {
        parent: parent.to_owned(),
        files: files
            .iter()
            .map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec()))
            .collect(),
        identity: ("bot".to_owned(), "bot@example.com".to_owned()),
        message: "bump the tag".to_owned(),
        time: Timestamp(1_769_846_400_123),
        signing: None,
    }
}

/// Adds a commit to a bare repository, as somebody else would.
pub fn elsewhere(bare: &Path, name: &str) -> String {
    let dir = tempfile::tempdir().expect("dir");
    let work = dir.path().join("w");
    let target = work.to_str().expect("utf-8");
    git(bare, &["clone", "-q", ".", target]);
    std::fs::write(work.join(name), name).expect("write");
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", name]);
    git(&work, &["push", "-q", "origin", "HEAD:main"]);
    git(&work, &["rev-parse", "HEAD"])
}

pub fn tip(bare: &Path) -> String {
    git(bare, &["rev-parse", "refs/heads/main"])
}

impl Setup {
    pub fn mirrors(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.state.path().join("mirrors"))
            .expect("mirrors")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect()
    }

    pub fn fsck(&self) {
        git(&self.bare, &["fsck", "--strict", "--no-dangling"]);
        for mirror in self.mirrors() {
            git(&mirror, &["fsck", "--strict", "--no-dangling"]);
        }
    }

    pub async fn snapshot(&self) -> Snapshot {
        let wanted = paths(&[VALUES]);
        self.remotes
            .snapshot(&self.remote, &wanted)
            .await
            .expect("snapshot")
    }
}

#[tokio::test]
async fn a_change_goes_from_snapshot_to_push() {
    let s = setup();
    for i in 0..20 {
        elsewhere(&s.bare, &format!("history{i}"));
    }
    let script = git(&s.bare, &["rev-parse", "main:deploy/run.sh"]);
    let start = Instant::now();
    let wanted = paths(&[VALUES, "absent", "deploy/absent"]);
    let snapshot = s
        .remotes
        .snapshot(&s.remote, &wanted)
        .await
        .expect("snapshot");
    let read = start.elapsed();
    assert_eq!(snapshot.commit, tip(&s.bare));
    let expected = BTreeMap::from([(VALUES.to_owned(), b"tag: one\n".to_vec())]);
    assert_eq!(snapshot.files, expected);
    let mirror = s.mirrors().pop().expect("a mirror");
    assert_eq!(
        git(&mirror, &["rev-list", "--count", &snapshot.commit]),
        "1",
        "shallow"
    );

    let change = edit(
        &snapshot.commit,
        &[(VALUES, "tag: two\n"), ("a/b/new", "n")],
    );
    let commit = s.remotes.commit(&s.remote, &change).await.expect("commit");
    assert_eq!(tip(&s.bare), snapshot.commit, "nothing is visible yet");
    let again = s.remotes.commit(&s.remote, &change).await.expect("commit");
    assert_eq!(again, commit, "equal input makes the same commit");
    let outcome = s.remotes.push(&s.remote, &commit).await.expect("push");
    println!("snapshot {read:?}, snapshot to push {:?}", start.elapsed());
    assert_eq!(outcome, PushOutcome::Pushed);
    assert_eq!(tip(&s.bare), commit);
    assert_eq!(
        s.remotes.push(&s.remote, &commit).await.expect("again"),
        PushOutcome::Pushed
    );
    assert_eq!(
        git(&s.bare, &["show", "main:deploy/values.yaml"]),
        "tag: two"
    );
    assert_eq!(git(&s.bare, &["show", "main:a/b/new"]), "n");
    assert_eq!(git(&s.bare, &["rev-parse", "main:deploy/run.sh"]), script);
    let changed = git(&s.bare, &["diff", "--name-only", "main~1", "main"]);
    assert_eq!(changed, "a/b/new\ndeploy/values.yaml");
    let format = "--format=%an <%ae> %at %cn %ct %B";
    let meta = git(&s.bare, &["log", "-1", format, "main"]);
    assert_eq!(
        meta,
        "bot <bot@example.com> 1769846400 bot 1769846400 bump the tag"
    );
    s.fsck();

    // The next snapshot needs no objects, and sees what others do afterwards.
    let before = s.server.requests().len();
    assert_eq!(s.snapshot().await.commit, commit);
    let requests = s.server.requests().split_off(before);
    assert!(
        requests.iter().all(|line| !line.starts_with("POST")),
        "{requests:?}"
    );
    let other = elsewhere(&s.bare, "other");
    let snapshot = s.snapshot().await;
    assert_eq!(snapshot.commit, other);
    assert_eq!(snapshot.files[VALUES], b"tag: two\n");
    s.fsck();
}

#[tokio::test]
async fn file_modes_and_odd_entries() {
    let s = setup();
    let dir = tempfile::tempdir().expect("dir");
    let work = dir.path().join("w");
    git(
        &s.bare,
        &["clone", "-q", ".", work.to_str().expect("utf-8")],
    );
    std::os::unix::fs::symlink("values.yaml", work.join("deploy/link")).expect("link");
    std::os::unix::fs::symlink("deploy", work.join("dir")).expect("link");
    git(
        &work,
        &["update-index", "--add", "--chmod=+x", "deploy/run.sh"],
    );
    let module = "160000,1111111111111111111111111111111111111111,module";
    git(&work, &["update-index", "--add", "--cacheinfo", module]);
    git(&work, &["add", "deploy", "dir"]);
    git(&work, &["update-index", "--chmod=+x", "deploy/run.sh"]);
    git(&work, &["commit", "-q", "-m", "odd"]);
    git(&work, &["push", "-q"]);
    let parent = s.snapshot().await.commit;
    for (path, part) in [
        ("deploy/link", "symbolic link"),
        ("dir/values.yaml", "symbolic link \"dir\""),
        ("deploy", "directory"),
        ("module", "submodule"),
        ("README/x", "no directory"),
        ("../x", "no path"),
        ("/etc/passwd", "no path"),
        ("a//b", "no path"),
        (".git/config", "no path"),
        ("a/.GIT/hooks/x", "no path"),
        ("", "no path"),
    ] {
        let read = s.remotes.snapshot(&s.remote, &paths(&[path])).await;
        let write = s
            .remotes
            .commit(&s.remote, &edit(&parent, &[(path, "x")]))
            .await;
        for error in [read.expect_err(path), write.expect_err(path)] {
            assert!(matches!(error, VcsError::Content { .. }), "{path}: {error}");
            assert!(error.to_string().contains(part), "{path}: {error}");
        }
    }
    let change = edit(
        &parent,
        &[("deploy/run.sh", "#!/bin/sh\ntrue\n"), ("new", "")],
    );
    let commit = s.remotes.commit(&s.remote, &change).await.expect("commit");
    s.remotes.push(&s.remote, &commit).await.expect("push");
    let modes = git(
        &s.bare,
        &["ls-tree", "-r", "--format=%(objectmode) %(path)", "main"],
    );
    for line in [
        "100755 deploy/run.sh",
        "100644 new",
        "120000 deploy/link",
        "160000 module",
    ] {
        assert!(modes.lines().any(|mode| mode == line), "{line}: {modes}");
    }
}

#[tokio::test]
async fn bounds_and_bad_input() {
    let s = setup();
    let parent = s.snapshot().await.commit;
    let big = "x".repeat((16 << 20) + 1);
    let error = s
        .remotes
        .commit(&s.remote, &edit(&parent, &[("big", &big)]))
        .await;
    assert!(matches!(error, Err(VcsError::Content { .. })), "{error:?}");
    let dir = tempfile::tempdir().expect("dir");
    let work = dir.path().join("w");
    git(
        &s.bare,
        &["clone", "-q", ".", work.to_str().expect("utf-8")],
    );
    std::fs::write(work.join("big"), &big).expect("write");
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "big"]);
    git(&work, &["push", "-q"]);
    let error = s.remotes.snapshot(&s.remote, &paths(&["big"])).await;
    let error = error.expect_err("too large");
    assert!(
        error.to_string().contains("big is larger than 16 MiB"),
        "{error}"
    );

    for branch in ["none", "a..b", "", "-x y", "*"] {
        let remote = Remote {
            branch: branch.to_owned(),
            ..s.remote.clone()
        };
        let error = s.remotes.snapshot(&remote, &[]).await.expect_err(branch);
        let expected = match error {
            VcsError::NoBranch { .. } => branch == "none",
            VcsError::Content { .. } => branch != "none",
            _ => false,
        };
        assert!(expected, "{branch}: {error}");
    }
    let bad = NewCommit {
        identity: ("<>".to_owned(), String::new()),
        ..edit(&parent, &[])
    };
    let error = s
        .remotes
        .commit(&s.remote, &bad)
        .await
        .expect_err("identity");
    assert!(matches!(error, VcsError::Content { .. }), "{error}");
    for commit in ["", "zz", "HEAD", &parent[..39]] {
        let error = s.remotes.push(&s.remote, commit).await.expect_err(commit);
        assert!(matches!(error, VcsError::Content { .. }), "{error}");
        assert!(
            s.remotes.contains(&s.remote, commit).await.is_err(),
            "{commit}"
        );
    }
    for url in [
        "git://example.com/x",
        "ssh://git@example.com/x.git", // with a token
    ] {
        let remote = Remote {
            url: url.to_owned(),
            ..s.remote.clone()
        };
        let error = s.remotes.snapshot(&remote, &[]).await.expect_err(url);
        assert!(matches!(error, VcsError::Unsupported { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_race_is_told_from_a_refusal() {
    let s = setup();
    let parent = s.snapshot().await.commit;
    let change = edit(&parent, &[(VALUES, "tag: mine\n")]);
    let commit = s.remotes.commit(&s.remote, &change).await.expect("commit");
    // Moved between what we listed and what we push.
    let bare = s.bare.clone();
    s.server.before_push(move || {
        elsewhere(&bare, "faster");
    });
    let outcome = s
        .remotes
        .push(&s.remote, &commit)
        .await
        .expect("a race is no error");
    assert_eq!(outcome, PushOutcome::Raced);
    assert_eq!(
        git(&s.bare, &["show", "main:deploy/values.yaml"]),
        "tag: one"
    );
    // Moved before we listed; the mirror does not know the new tip.
    let outcome = s
        .remotes
        .push(&s.remote, &commit)
        .await
        .expect("a race is no error");
    assert_eq!(outcome, PushOutcome::Raced);
    // Nor is a rewritten branch overwritten.
    s.snapshot().await;
    git(&s.bare, &["update-ref", "refs/heads/main", &parent]);
    let other = s
        .remotes
        .commit(&s.remote, &edit(&parent, &[("x", "")]))
        .await
        .expect("x");
    assert_eq!(
        s.remotes.push(&s.remote, &other).await.expect("on top"),
        PushOutcome::Pushed
    );
    assert_eq!(
        s.remotes.push(&s.remote, &commit).await.expect("beside"),
        PushOutcome::Raced
    );

    let hook = s.bare.join("hooks/pre-receive");
    std::fs::create_dir_all(s.bare.join("hooks")).expect("mkdir");
    std::fs::write(&hook, "#!/bin/sh\necho 'policy says no' >&2\nexit 1\n").expect("write");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&hook, mode).expect("chmod");
    let parent = s.snapshot().await.commit;
    let next = s
        .remotes
        .commit(&s.remote, &edit(&parent, &[("y", "")]))
        .await
        .expect("y");
    let error = s.remotes.push(&s.remote, &next).await.expect_err("a hook");
    assert!(matches!(error, VcsError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("policy says no"), "{error}");
    std::fs::remove_file(&hook).expect("remove");

    // A new branch is made; one that somebody else made meanwhile is a race.
    let branch = Remote {
        branch: "release-1".to_owned(),
        ..s.remote.clone()
    };
    assert_eq!(
        s.remotes.push(&branch, &next).await.expect("new"),
        PushOutcome::Pushed
    );
    assert_eq!(git(&s.bare, &["rev-parse", "release-1"]), next);
    let second = Remote {
        branch: "release-2".to_owned(),
        ..s.remote.clone()
    };
    let bare = s.bare.clone();
    s.server.before_push(move || {
        git(&bare, &["branch", "release-2", "main"]);
    });
    assert_eq!(
        s.remotes.push(&second, &next).await.expect("raced"),
        PushOutcome::Raced
    );
    s.fsck();
}

/// Writes one file of its own, editing anew after every race.
async fn write_until_done(remotes: GitRemotes, remote: Remote, name: String) -> u32 {
    for attempt in 1..=40 {
        let snapshot = remotes
            .snapshot(&remote, &paths(&["list"]))
            .await
            .expect("snapshot");
        let mut list = snapshot.files.get("list").cloned().unwrap_or_default();
        list.extend_from_slice(format!("{name}\n").as_bytes());
        let mut change = edit(&snapshot.commit, &[(name.as_str(), &name)]);
        change.files.insert("list".to_owned(), list);
        let commit = remotes.commit(&remote, &change).await.expect("commit");
        if remotes.push(&remote, &commit).await.expect("push") == PushOutcome::Pushed {
            return attempt;
        }
    }
    panic!("{name} never landed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_writers_at_once_all_land() {
    let s = setup();
    // Half of them share a mirror, as tasks of one process; the others have one of their own each,
    // as processes on other machines.
    let mut writers = Vec::new();
    let mut states = Vec::new();
    for i in 0..10 {
        let remotes = if i % 2 == 0 {
            GitRemotes::new(s.state.path(), Http::new())
        } else {
            let state = tempfile::tempdir().expect("dir");
            let remotes = GitRemotes::new(state.path(), Http::new());
            states.push(state);
            remotes
        };
        let name = format!("writer{i}");
        writers.push(tokio::spawn(write_until_done(
            remotes,
            s.remote.clone(),
            name,
        )));
    }
    let mut attempts = Vec::new();
    for writer in writers {
        attempts.push(writer.await.expect("writer"));
    }
    println!("attempts: {attempts:?}");
    let mut list: Vec<String> = git(&s.bare, &["show", "main:list"])
        .lines()
        .map(str::to_owned)
        .collect();
    list.sort();
    let expected: Vec<String> = (0..10).map(|i| format!("writer{i}")).collect();
    assert_eq!(list, expected);
    let count = git(&s.bare, &["rev-list", "--count", "--first-parent", "main"]);
    assert_eq!(count, "11");
    s.fsck();
}

#[tokio::test]
async fn history_is_searched_as_deep_as_needed() {
    let s = setup();
    let first = tip(&s.bare);
    let parent = s.snapshot().await.commit;
    let mine = s
        .remotes
        .commit(&s.remote, &edit(&parent, &[("m", "")]))
        .await
        .expect("m");
    assert!(
        !s.remotes
            .contains(&s.remote, &mine)
            .await
            .expect("not pushed")
    );
    s.remotes.push(&s.remote, &mine).await.expect("push");
    assert!(s.remotes.contains(&s.remote, &mine).await.expect("tip"));

    // 200 commits on top, made in one go.
    let mut script = String::from("feature done\n");
    for i in 0..200 {
        script.push_str("commit refs/heads/main\n");
        script.push_str(&format!(
            "committer T <t@example.com> {} +0000\n",
            1_769_846_500 + i
        ));
        script.push_str("data 1\nm\n");
        if i == 0 {
            script.push_str("from refs/heads/main^0\n");
        }
    }
    script.push_str("done\n");
    let file = s.state.path().join("script");
    std::fs::write(&file, script).expect("write");
    let import = format!("git fast-import --quiet <{}", file.display());
    git(
        &s.bare,
        &["-c", &format!("alias.import=!{import}"), "import"],
    );
    assert_eq!(git(&s.bare, &["rev-list", "--count", "main"]), "202");

    let fresh = tempfile::tempdir().expect("dir");
    for remotes in [&s.remotes, &GitRemotes::new(fresh.path(), Http::new())] {
        assert!(remotes.contains(&s.remote, &mine).await.expect("deep"));
        assert!(remotes.contains(&s.remote, &first).await.expect("root"));
        let unknown = "1234567890".repeat(4);
        assert!(
            !remotes
                .contains(&s.remote, &unknown)
                .await
                .expect("unknown")
        );
        let side = git(&s.bare, &["commit-tree", "-m", "side", "main^{tree}"]);
        assert!(!remotes.contains(&s.remote, &side).await.expect("beside"));
        // Reading and writing go on afterwards.
        let snapshot = remotes.snapshot(&s.remote, &[]).await.expect("snapshot");
        let next = edit(&snapshot.commit, &[("n", &snapshot.commit)]);
        let commit = remotes.commit(&s.remote, &next).await.expect("commit");
        assert_eq!(
            remotes.push(&s.remote, &commit).await.expect("push"),
            PushOutcome::Pushed
        );
    }
    s.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn repositories_on_this_machine() {
    let dir = tempfile::tempdir().expect("dir");
    let source = SourceRepo::with_files(&dir.path().join("src"), &[("list", ""), ("x", "1")]);
    let bare = dir.path().join("with space.git");
    source.bare(&bare);
    let state = dir.path().join("state");
    let remotes = GitRemotes::new(&state, Http::new());
    let path = bare.to_str().expect("utf-8").to_owned();
    let url = format!("file://{}", path.replace(' ', "%20"));
    let mut writers = Vec::new();
    for i in 0..10 {
        let remote = Remote {
            url: if i % 2 == 0 {
                path.clone()
            } else {
                url.clone()
            },
            branch: "main".to_owned(),
            access: Access::Anonymous,
        };
        let remotes = remotes.clone();
        writers.push(tokio::spawn(write_until_done(
            remotes,
            remote,
            format!("w{i}"),
        )));
    }
    for writer in writers {
        writer.await.expect("writer");
    }
    assert_eq!(git(&bare, &["show", "main:list"]).lines().count(), 10);
    assert_eq!(git(&bare, &["rev-list", "--count", "main"]), "11");
    git(&bare, &["fsck", "--strict"]);

    let remote = Remote {
        url: path,
        branch: "main".to_owned(),
        access: Access::Anonymous,
    };
    let first = source.git(&["rev-parse", "HEAD"]);
    assert!(remotes.contains(&remote, &first).await.expect("contains"));
    let snapshot = remotes
        .snapshot(&remote, &paths(&["x"]))
        .await
        .expect("snapshot");
    assert_eq!(snapshot.files["x"], b"1");
    let change = edit(&snapshot.commit, &[("y", "")]);
    let commit = remotes.commit(&remote, &change).await.expect("commit");
    assert!(
        !git_ok(&bare, &["cat-file", "-e", &commit]),
        "not there before the push"
    );
    assert!(!remotes.contains(&remote, &commit).await.expect("contains"));
    let working = Remote {
        url: source.path().to_str().expect("utf-8").to_owned(),
        ..remote.clone()
    };
    let there = remotes.snapshot(&working, &[]).await.expect("snapshot");
    let onto = remotes
        .commit(&working, &edit(&there.commit, &[("z", "")]))
        .await
        .expect("z");
    let error = remotes
        .push(&working, &onto)
        .await
        .expect_err("checked out");
    assert!(matches!(error, VcsError::Refused { .. }), "{error}");
    let missing = Remote {
        url: "/no/such/repository".to_owned(),
        ..remote
    };
    let error = remotes.snapshot(&missing, &[]).await.expect_err("missing");
    assert!(error.to_string().contains("no repository"), "{error}");
}
