//! Repositories over ssh, behind a real sshd; and signatures, verified by real git.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pipewright::adapters::git::GitRemotes;
use pipewright::adapters::http::Http;
use pipewright::base::Secret;
use pipewright::ports::vcs::{
    Access, NewCommit, PushOutcome, Remote, Signing, Vcs, VcsError, VcsReader,
};
use tempfile::TempDir;

use super::remote::{edit, paths, tip};
use crate::support::repo::{SourceRepo, git};

/// Runs a program that has to succeed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Makes a key of ssh; returns the private one.
pub fn keygen(dir: &Path, name: &str, kind: &[&str]) -> String {
    let path = dir.join(name);
    run(Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-C", "test", "-f"])
        .arg(&path)
        .arg("-t")
        .args(kind));
    std::fs::read_to_string(path).expect("a key")
}

/// A real sshd on the loopback address; ends when dropped.
pub struct Sshd {
    child: Child,
    pub port: u16,
    dir: TempDir,
    pub bare: PathBuf,
    /// The key that it accepts.
    pub key: String,
}

impl Sshd {
    pub fn start(kind: &[&str], files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let at = dir.path();
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        keygen(at, "host", &["ed25519"]);
        let key = keygen(at, "user", kind);
        std::fs::copy(at.join("user.pub"), at.join("authorized")).expect("copy");
        let bare = at.join("manifests.git");
        SourceRepo::with_files(&at.join("source"), files).bare(&bare);
        let mut sshd = Self {
            child: Command::new("true").spawn().expect("it starts"),
            port: 0,
            bare,
            key,
            dir,
        };
        sshd.restart("host");
        sshd
    }

    /// Starts it anew with another key of the host, on the same port if there was one.
    pub fn restart(&mut self, host: &str) {
        self.stop();
        let at = self.dir.path().display();
        if self.port == 0 {
            self.port = crate::support::delivery::free_port();
        }
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {at}/{host}\nPidFile none\nUsePAM no\n\
             StrictModes no\nAuthorizedKeysFile {at}/authorized\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\n",
            self.port
        );
        let file = self.dir.path().join("config");
        std::fs::write(&file, config).expect("write");
        // Debian's package makes it when the service starts, which it does not here.
        std::fs::create_dir_all("/run/sshd").expect("mkdir");
        self.child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(self.dir.path().join("log")).expect("log"))
            .spawn()
            .expect("sshd must be installed for these tests");
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "sshd listens");
            std::thread::yield_now();
        }
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn url(&self) -> String {
        let user = run(Command::new("id").arg("-un"));
        format!(
            "ssh://{user}@127.0.0.1:{}{}",
            self.port,
            self.bare.display()
        )
    }

    pub fn known_hosts(&self) -> String {
        let key = std::fs::read_to_string(self.dir.path().join("host.pub")).expect("a key");
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    pub fn fingerprint(&self, name: &str) -> String {
        let file = self.dir.path().join(format!("{name}.pub"));
        let line = run(Command::new("ssh-keygen").arg("-lf").arg(file));
        line.split(' ').nth(1).expect("a fingerprint").to_owned()
    }

    fn remote(&self, key: &str, known_hosts: &str) -> Remote {
        Remote {
            url: self.url(),
            branch: "main".to_owned(),
            access: Access::Ssh {
                key: Some(Secret::new(key)),
                known_hosts: Some(known_hosts.to_owned()),
            },
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn remotes() -> (GitRemotes, TempDir) {
    let state = tempfile::tempdir().expect("dir");
    (GitRemotes::new(state.path(), Http::new()), state)
}

const FILES: &[(&str, &str)] = &[("v.yaml", "tag: one\n"), ("other", "x")];

#[tokio::test]
async fn every_kind_of_key_reads_and_writes() {
    for kind in [
        &["ed25519"][..],
        &["ecdsa", "-b", "256"],
        &["rsa", "-b", "2048"],
    ] {
        let sshd = Sshd::start(kind, FILES);
        let (remotes, state) = remotes();
        let remote = sshd.remote(&sshd.key, &sshd.known_hosts());
        let snapshot = remotes.snapshot(&remote, &paths(&["v.yaml"])).await;
        let snapshot = snapshot.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        assert_eq!(snapshot.files["v.yaml"], b"tag: one\n");
        for text in ["tag: two\n", "tag: three\n"] {
            let parent = tip(&sshd.bare);
            let change = edit(&parent, &[("v.yaml", text)]);
            let commit = remotes.commit(&remote, &change).await.expect("commit");
            let pushed = remotes.push(&remote, &commit).await.expect("push");
            assert_eq!(pushed, PushOutcome::Pushed);
            assert_eq!(tip(&sshd.bare), commit);
            assert!(remotes.contains(&remote, &parent).await.expect("history"));
        }
        // What was fetched before is built upon, and others are seen.
        let other = git(
            &sshd.bare,
            &["commit-tree", "-p", "main", "-m", "x", "main^{tree}"],
        );
        git(&sshd.bare, &["update-ref", "refs/heads/main", &other]);
        let now = remotes.snapshot(&remote, &paths(&["v.yaml"])).await;
        assert_eq!(now.expect("snapshot").commit, other);
        git(&sshd.bare, &["fsck", "--strict", "--no-dangling"]);
        // The key is nowhere below the state directory, and no directory of ours is left.
        let found = Command::new("grep")
            .args(["-rlF", sshd.key.lines().nth(1).expect("a line")])
            .arg(state.path())
            .output()
            .expect("grep");
        assert_eq!(found.status.code(), Some(1), "{found:?}");
    }
}

#[tokio::test]
async fn what_ssh_refuses_is_told_with_the_fingerprint() {
    let mut sshd = Sshd::start(&["ed25519"], FILES);
    let (remotes, _state) = remotes();
    let ask = async |sshd: &Sshd, key: &str, known: &str| {
        let remote = sshd.remote(key, known);
        remotes
            .snapshot(&remote, &[])
            .await
            .map(|found| found.commit)
    };
    let known = sshd.known_hosts();
    let good = sshd.key.clone();
    ask(&sshd, &good, &known).await.expect("the right key");

    let dir = tempfile::tempdir().expect("dir");
    let wrong = keygen(dir.path(), "wrong", &["ed25519"]);
    let error = ask(&sshd, &wrong, &known).await.expect_err("the wrong key");
    assert!(matches!(error, VcsError::Denied { .. }), "{error}");
    assert!(
        error.to_string().contains("does not accept the key"),
        "{error}"
    );

    let fingerprint = sshd.fingerprint("host");
    let error = ask(&sshd, &good, "# nobody").await.expect_err("unknown");
    assert!(matches!(error, VcsError::Content { .. }), "{error}");
    for part in ["the host is not known", &fingerprint] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }

    keygen(sshd.dir.path(), "other", &["ed25519"]);
    sshd.restart("other");
    let error = ask(&sshd, &good, &known).await.expect_err("changed");
    assert!(matches!(error, VcsError::Content { .. }), "{error}");
    for part in ["another key", &sshd.fingerprint("other")] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    sshd.restart("host");

    let elsewhere = Remote {
        url: format!("{}-none", sshd.url()),
        ..sshd.remote(&good, &known)
    };
    let error = remotes.snapshot(&elsewhere, &[]).await.expect_err("none");
    assert!(matches!(error, VcsError::Denied { .. }), "{error}");

    run(Command::new("ssh-keygen")
        .args(["-q", "-N", "secret", "-t", "ed25519", "-f"])
        .arg(dir.path().join("locked")));
    let locked = std::fs::read_to_string(dir.path().join("locked")).expect("a key");
    for (key, part) in [
        (locked.as_str(), "passphrase"),
        ("nonsense", "no private key"),
    ] {
        let error = ask(&sshd, key, &known).await.expect_err(part);
        assert!(matches!(error, VcsError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }

    sshd.stop();
    let error = ask(&sshd, &good, &known).await.expect_err("gone");
    assert!(matches!(error, VcsError::Broken { .. }), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");
}

/// Commits on a repository of this machine, signed.
async fn signed(bare: &Path, signing: Signing) -> Result<String, VcsError> {
    let (remotes, _state) = remotes();
    let remote = Remote {
        url: bare.display().to_string(),
        branch: "main".to_owned(),
        access: Access::Anonymous,
    };
    let commit = NewCommit {
        signing: Some(signing),
        message: "bump\n\nCo-authored-by: Ann <ann@example.com>".to_owned(),
        ..edit(&tip(bare), &[("v.yaml", "tag: two\n")])
    };
    let id = remotes.commit(&remote, &commit).await?;
    let again = remotes.commit(&remote, &commit).await?;
    assert_eq!(id, again, "equal input makes the same commit");
    assert_eq!(remotes.push(&remote, &id).await?, PushOutcome::Pushed);
    Ok(id)
}

#[tokio::test]
async fn real_git_believes_signatures_of_ssh() {
    for kind in [
        &["ed25519"][..],
        &["ecdsa", "-b", "384"],
        &["rsa", "-b", "2048"],
    ] {
        let dir = tempfile::tempdir().expect("dir");
        let bare = dir.path().join("bare");
        SourceRepo::with_files(&dir.path().join("source"), FILES).bare(&bare);
        let key = keygen(dir.path(), "key", kind);
        keygen(dir.path(), "other", kind);
        let commit = signed(&bare, Signing::Ssh(Secret::new(key)))
            .await
            .expect("signed");
        let verify = |name: &str| {
            let public = std::fs::read_to_string(dir.path().join(name)).expect("a key");
            let allowed = dir.path().join("allowed");
            std::fs::write(&allowed, format!("bot@example.com {public}")).expect("write");
            let config = format!("gpg.ssh.allowedSignersFile={}", allowed.display());
            Command::new("git")
                .current_dir(&bare)
                .args(["-c", &config, "verify-commit", &commit])
                .output()
                .expect("git")
        };
        let good = verify("key.pub");
        let words = String::from_utf8_lossy(&good.stderr).into_owned();
        assert!(good.status.success(), "{kind:?}: {good:?}");
        assert!(
            words.contains("Good \"git\" signature for bot@example.com"),
            "{words}"
        );
        assert!(
            !verify("other.pub").status.success(),
            "another key is not believed"
        );
        git(&bare, &["fsck", "--strict", "--no-dangling"]);
    }
}

#[tokio::test]
async fn real_gnupg_believes_signatures_of_openpgp() {
    // The last one signs by a subkey, which is what people do.
    for (kind, subkey) in [
        ("rsa2048", None),
        ("ed25519", None),
        ("ed25519", Some("rsa2048")),
    ] {
        let dir = tempfile::Builder::new().prefix("g").tempdir().expect("dir");
        let home = dir.path().join("h");
        std::fs::create_dir(&home).expect("mkdir");
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        let gpg = |args: &[&str]| {
            let base = [
                "--batch",
                "--quiet",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
            ];
            let mut command = Command::new("gpg");
            command.env("GNUPGHOME", &home).args(base).args(args);
            run(&mut command)
        };
        gpg(&[
            "--quick-gen-key",
            "bot <bot@example.com>",
            kind,
            "sign",
            "never",
        ]);
        if let Some(subkey) = subkey {
            let listed = gpg(&["--list-keys", "--with-colons"]);
            let fingerprint = listed
                .lines()
                .find_map(|line| line.strip_prefix("fpr:"))
                .expect("a fingerprint")
                .trim_matches(':')
                .to_owned();
            gpg(&["--quick-add-key", &fingerprint, subkey, "sign", "never"]);
        }
        let key = gpg(&["--armor", "--export-secret-keys"]);
        let bare = dir.path().join("bare");
        SourceRepo::with_files(&dir.path().join("source"), FILES).bare(&bare);
        let commit = signed(&bare, Signing::OpenPgp(Secret::new(key))).await;
        let commit = commit.unwrap_or_else(|error| panic!("{kind} {subkey:?}: {error}"));
        let verified = Command::new("git")
            .current_dir(&bare)
            .env("GNUPGHOME", &home)
            .args(["verify-commit", "--raw", &commit])
            .output()
            .expect("git");
        let words = String::from_utf8_lossy(&verified.stderr).into_owned();
        let _ = Command::new("gpgconf")
            .env("GNUPGHOME", &home)
            .args(["--kill", "all"])
            .status();
        assert!(verified.status.success(), "{kind} {subkey:?}: {words}");
        assert!(words.contains("GOODSIG"), "{words}");
        git(&bare, &["fsck", "--strict", "--no-dangling"]);
    }
}
