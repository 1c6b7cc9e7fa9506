//! Remotes that deny, fail, hang, redirect or lie, and mirrors that break.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use pipewright::adapters::git::{GitRemotes, Limits};
use pipewright::adapters::http::Http;
use pipewright::ports::Retry;
use pipewright::ports::vcs::{Access, PushOutcome, Remote, Vcs, VcsError, VcsReader};

use super::remote::{edit, setup, tip, token};
use crate::support::git_http::{Fault, GitServer};
use crate::support::repo::git;

const VALUES: &str = "deploy/values.yaml";

/// Every file below a directory.
fn files_below(root: &Path) -> Vec<PathBuf> {
    let (mut all, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("read").flatten() {
            let path = entry.path();
            if path.is_dir() { &mut open } else { &mut all }.push(path);
        }
    }
    all
}

#[tokio::test]
async fn a_wrong_token_is_denied_at_once_and_never_told() {
    let s = setup();
    let wrong = "ghp_WRONGWRONGWRONG";
    for (access, part) in [
        (token(wrong), "rejected the credential"),
        (Access::Anonymous, "none is configured"),
    ] {
        let remote = Remote {
            access,
            ..s.remote.clone()
        };
        let before = s.server.requests().len();
        let start = Instant::now();
        let error = s.remotes.snapshot(&remote, &[]).await.expect_err("denied");
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(matches!(error, VcsError::Denied { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.retry(), Retry::Never);
        assert!(!format!("{error} {error:?}").contains(wrong));
        let requests = s.server.requests().split_off(before);
        assert!(requests.len() <= 2, "{requests:?}");
        let commit = "1".repeat(40);
        let denied = s
            .remotes
            .contains(&remote, &commit)
            .await
            .expect_err("denied");
        assert!(matches!(denied, VcsError::Denied { .. }), "{denied}");
    }
    let parent = s.snapshot().await.commit;
    let change = edit(&parent, &[(VALUES, "x")]);
    let commit = s.remotes.commit(&s.remote, &change).await.expect("commit");
    let remote = Remote {
        access: token(wrong),
        ..s.remote.clone()
    };
    let error = s.remotes.push(&remote, &commit).await.expect_err("denied");
    assert!(matches!(error, VcsError::Denied { .. }), "{error}");
    s.server.fault("git-receive-pack", Fault::Status(403), 1);
    let error = s
        .remotes
        .push(&s.remote, &commit)
        .await
        .expect_err("read only");
    assert!(matches!(error, VcsError::Denied { .. }), "{error}");
    s.server.fault("info/refs", Fault::Status(404), 1);
    let error = s
        .remotes
        .snapshot(&s.remote, &[])
        .await
        .expect_err("hidden");
    assert!(matches!(error, VcsError::Denied { .. }), "{error}");

    let with_secret = Remote {
        url: s
            .remote
            .url
            .replace("http://", &format!("http://u:{wrong}@")),
        ..s.remote.clone()
    };
    let error = s
        .remotes
        .snapshot(&with_secret, &[])
        .await
        .expect_err("in the address");
    assert!(!format!("{error} {error:?}").contains(wrong), "{error:?}");
    // Neither token was written anywhere.
    for file in files_below(s.state.path()) {
        let bytes = std::fs::read(&file).expect("read");
        for secret in [wrong, s.server.token()] {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{} holds a token", file.display());
        }
    }
}

#[tokio::test]
async fn faults_are_told_apart_and_leave_nothing_broken() {
    let s = setup();
    let broken = |error: &VcsError| {
        assert!(matches!(error, VcsError::Broken { .. }), "{error}");
        assert_eq!(error.retry(), Retry::After(None));
        assert!(!format!("{error:?}").contains(s.server.token()));
    };
    for (part, fault) in [
        ("info/refs", Fault::Status(500)),
        ("info/refs", Fault::Status(503)),
        ("info/refs", Fault::Cut),
        ("git-upload-pack", Fault::Cut),
        ("POST-less", Fault::Status(429)),
    ] {
        let part = if part == "POST-less" {
            "git-upload-pack"
        } else {
            part
        };
        s.server.fault(part, fault.clone(), 50);
        let error = s.remotes.snapshot(&s.remote, &[]).await.expect_err(part);
        broken(&error);
        s.server.heal();
    }
    let parent = s.snapshot().await.commit;
    let commit = s
        .remotes
        .commit(&s.remote, &edit(&parent, &[("x", "")]))
        .await
        .expect("x");
    s.server
        .fault("app.git/git-receive-pack", Fault::Status(502), 1);
    broken(&s.remotes.push(&s.remote, &commit).await.expect_err("502"));
    assert_eq!(tip(&s.bare), parent);
    // The answer is lost after the push was carried out: the caller asks and finds it.
    s.server.fault("app.git/git-receive-pack", Fault::Cut, 1);
    broken(&s.remotes.push(&s.remote, &commit).await.expect_err("cut"));
    assert!(
        s.remotes
            .contains(&s.remote, &commit)
            .await
            .expect("contains")
    );
    s.server
        .fault("info/refs", Fault::Delay(Duration::from_millis(100)), 1);
    assert_eq!(s.snapshot().await.commit, commit);
    s.fsck();
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("port");
    let port = free.local_addr().expect("address").port();
    drop(free);
    let nobody = Remote {
        url: format!("http://127.0.0.1:{port}/x.git"),
        ..s.remote.clone()
    };
    broken(
        &s.remotes
            .snapshot(&nobody, &[])
            .await
            .expect_err("nobody there"),
    );
}

#[tokio::test]
async fn a_silent_remote_is_given_up() {
    let s = setup();
    let limits = Limits {
        idle: Duration::from_millis(300),
        total: Duration::from_secs(60),
    };
    let remotes = s.remotes.clone().with_limits(limits);
    for part in ["info/refs", "app.git/git-upload-pack"] {
        s.server.fault(part, Fault::Hang, 1);
        let start = Instant::now();
        let error = remotes.snapshot(&s.remote, &[]).await.expect_err("silence");
        assert!(matches!(error, VcsError::Broken { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20));
        // The hanging thread holds nothing that the next one needs.
        assert_eq!(s.snapshot().await.commit, tip(&s.bare));
        s.fsck();
        std::fs::remove_dir_all(s.mirrors().pop().expect("mirror")).expect("remove");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_redirects() {
    let s = setup();
    let other = GitServer::start();
    other.serve("group/app.git", &[("f", "")]);
    let there = other.url("").trim_end_matches('/').to_owned();
    for to in [there.clone(), there.replace("127.0.0.1", "localhost")] {
        s.server.fault("info/refs", Fault::Redirect(to), 9);
        let error = s
            .remotes
            .snapshot(&s.remote, &[])
            .await
            .expect_err("redirected");
        let right = matches!(
            error,
            VcsError::Unsupported { .. } | VcsError::Denied { .. }
        );
        assert!(right, "{error}");
        s.server.heal();
    }
    let leaked = other
        .requests()
        .into_iter()
        .find(|line| line.ends_with("+auth"));
    assert_eq!(leaked, None);
}

#[tokio::test]
async fn configuration_does_not_change_the_address() {
    let s = setup();
    let parent = s.snapshot().await.commit;
    let config = s.mirrors().pop().expect("mirror").join("config");
    let nowhere = "[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = http://127.0.0.1\n\
                   \tpushInsteadOf = http://127.0.0.1\n";
    let text = std::fs::read_to_string(&config).expect("read") + nowhere;
    std::fs::write(&config, text).expect("write");
    assert_eq!(s.snapshot().await.commit, parent);
    let commit = s
        .remotes
        .commit(&s.remote, &edit(&parent, &[("x", "")]))
        .await
        .expect("x");
    let pushed = s.remotes.push(&s.remote, &commit).await.expect("push");
    assert_eq!(pushed, PushOutcome::Pushed);
    // One that cannot be overruled is an error, not another address.
    let url = &s.remote.url;
    let exact = format!("[url \"http://127.0.0.1:1/\"]\n\tinsteadOf = {url}\n");
    let text = std::fs::read_to_string(&config)
        .expect("read")
        .replace("insteadOf = http", "x = h");
    std::fs::write(&config, text + &exact).expect("write");
    let error = s
        .remotes
        .snapshot(&s.remote, &[])
        .await
        .expect_err("changed");
    assert!(error.to_string().contains("configuration"), "{error}");
}

#[tokio::test]
async fn an_unknown_certificate_is_not_trusted() {
    let dir = tempfile::tempdir().expect("dir");
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("port");
    let port = free.local_addr().expect("address").port();
    drop(free);
    let openssl = |args: &str| {
        let mut command = std::process::Command::new("openssl");
        command.current_dir(dir.path()).args(args.split(' '));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let mut made = openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 2 -subj /CN=localhost",
    );
    let made = made
        .status()
        .expect("the program `openssl` must be installed");
    assert!(made.success());
    let serve = format!("s_server -accept 127.0.0.1:{port} -key key -cert cert -www -quiet");
    let mut server = openssl(&serve).spawn().expect("openssl");
    let mut up = false;
    for _ in 0..200 {
        up = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        if up {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let remote = Remote {
        url: format!("https://localhost:{port}/x.git"),
        branch: "main".to_owned(),
        access: token("t0ken"),
    };
    let remotes = GitRemotes::new(dir.path(), Http::new());
    let result = remotes.snapshot(&remote, &[]).await;
    server.kill().expect("kill");
    server.wait().expect("wait");
    assert!(up, "openssl s_server did not start");
    let error = result.expect_err("untrusted").to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_corrupted_mirror_is_fetched_again() {
    let s = setup();
    let expected = s.snapshot().await;
    let mirror = s.mirrors().pop().expect("mirror");
    for damage in 0..4 {
        match damage {
            0 => {
                for file in files_below(&mirror.join("objects")) {
                    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
                    std::fs::set_permissions(&file, mode).expect("chmod");
                    std::fs::write(&file, "garbage").expect("write");
                }
            }
            1 => std::fs::write(mirror.join("HEAD"), "").expect("write"),
            2 => std::fs::remove_dir_all(mirror.join("objects")).expect("remove"),
            _ => std::fs::write(mirror.join("config"), "[broken").expect("write"),
        }
        assert_eq!(s.snapshot().await, expected, "damage {damage}");
        git(&s.bare, &["fsck", "--strict"]);
    }
    // One that holds hundreds of packs is fetched anew, too.
    for i in 0..500 {
        std::fs::write(mirror.join(format!("objects/pack/pack-{i}.idx")), "").expect("write");
    }
    assert_eq!(s.snapshot().await, expected, "worn");
    assert!(!mirror.join("objects/pack/pack-0.idx").exists());
    // A commit whose mirror was lost before the push looks like a race: it is made anew.
    let change = edit(&expected.commit, &[("x", "")]);
    let commit = s.remotes.commit(&s.remote, &change).await.expect("commit");
    std::fs::remove_dir_all(&mirror).expect("remove");
    assert_eq!(
        s.remotes.push(&s.remote, &commit).await.expect("lost"),
        PushOutcome::Raced
    );
    std::fs::remove_dir_all(&mirror).expect("remove");
    let again = s.remotes.commit(&s.remote, &change).await.expect("commit");
    assert_eq!(again, commit);
    assert_eq!(
        s.remotes.push(&s.remote, &commit).await.expect("push"),
        PushOutcome::Pushed
    );
}
