//! Bumps as the program makes them: many at once, against remotes that die, against people who
//! revert, and taken back.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::ssh::Sshd;
use crate::support::git_http::GitServer;
use crate::support::program::{Ended, Program};
use crate::support::repo::{SourceRepo, git};

/// A pipeline that bumps one key of one file to what stands in a file of the commit.
fn pipeline(repo: &str, stage: &str) -> String {
    format!(
        r##"
secret KEY env=TEST_KEY
repo manifests {repo}
pipeline release {{
    run version {{ script "cp version out"; output version from="out" }}
    bump app repo=manifests {{
        file "v.yaml" {{ set ".app" "${{run.version.version}}" }}
        {stage}
    }}
}}
"##
    )
}

struct Rig {
    program: Program,
    bare: PathBuf,
    env: Vec<(String, String)>,
}

impl Rig {
    fn with(bare: &Path, text: &str, key: &str) -> Self {
        let program = Program::with_files(&[
            ("pipelines/p.kdl", text),
            (".gitignore", ".pipewright/\nout\n"),
            ("version", "0"),
        ]);
        Self {
            program,
            bare: bare.to_owned(),
            env: vec![("TEST_KEY".to_owned(), key.to_owned())],
        }
    }

    /// On a repository of this machine.
    fn new(stage: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir").keep();
        let bare = dir.join("bare");
        SourceRepo::with_files(
            &dir.join("source"),
            &[("v.yaml", "# kept\napp: 1.0.0\nb: x\n")],
        )
        .bare(&bare);
        let repo = format!("{:?} branch=main", bare.display().to_string());
        Self::with(&bare, &pipeline(&repo, stage), "none")
    }

    #[track_caller]
    fn expect(&self, args: &[&str], code: i32) -> Ended {
        let ended = self.program.run_with(&self.env, args);
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:#?}");
        ended
    }

    #[track_caller]
    fn release(&self, version: &str, code: i32) -> Ended {
        self.program.repo.commit(version, &[("version", version)]);
        self.expect(&["run", "release"], code)
    }

    fn file(&self) -> String {
        git(&self.bare, &["show", "main:v.yaml"])
    }

    fn commits(&self) -> usize {
        git(&self.bare, &["rev-list", "--count", "main"])
            .parse()
            .expect("a number")
    }

    /// A person commits another value.
    fn person(&self, from: &str, to: &str, message: &str) -> String {
        let dir = tempfile::tempdir().expect("dir");
        let work = dir.path().join("w");
        git(
            &self.bare,
            &["clone", "-q", ".", work.to_str().expect("utf-8")],
        );
        let text = std::fs::read_to_string(work.join("v.yaml")).expect("read");
        assert!(text.contains(from), "{text}");
        std::fs::write(work.join("v.yaml"), text.replace(from, to)).expect("write");
        git(&work, &["commit", "-q", "-am", message]);
        git(&work, &["push", "-q", "origin", "HEAD:main"]);
        git(&work, &["rev-parse", "HEAD"])
    }
}

#[test]
fn trailers_and_no_downgrade() {
    let rig = Rig::new(r#"commit "Release" { co-author "Ann" email="ann@example.com"; sign-off }"#);
    rig.release("1.2.0", 0);
    assert_eq!(rig.file(), "# kept\napp: 1.2.0\nb: x");
    let message = git(&rig.bare, &["log", "-1", "--format=%B", "main"]);
    let trailers = "Release\n\nCo-authored-by: Ann <ann@example.com>\nSigned-off-by: pipewright <pipewright@localhost>";
    assert_eq!(message, trailers);
    let older = rig.release("1.1.9", 1);
    assert!(older.out.contains("1.1.9 is older than 1.2.0"), "{older:?}");
    assert_eq!(rig.commits(), 2);
    rig.release("1.2.0", 0);
    assert_eq!(rig.commits(), 2, "no empty commit");
    // Neither is a commit a version.
    rig.release("0000001", 0);
    rig.release("1234567", 0);
    assert_eq!(rig.commits(), 4);

    let rig = Rig::new("allow-downgrade");
    rig.release("0.9.0", 0);
    assert!(rig.file().contains("app: 0.9.0"));
}

#[test]
fn what_a_person_reverted_is_not_written_again() {
    let rig = Rig::new("");
    rig.release("1.1.0", 0);
    let culprit = rig.person("app: 1.1.0", "app: 1.0.0", "back to what worked");
    rig.person("b: x", "b: y", "something else");
    for _ in 0..2 {
        let held = rig.expect(&["run", "release"], 1).out;
        for part in ["wrote 1.1.0", &culprit[..12], "back to what worked"] {
            assert!(held.contains(part), "{part}: {held}");
        }
    }
    let plan = rig.expect(&["plan", "release"], 0).out;
    assert!(!plan.contains("+app"), "{plan}");
    assert!(rig.file().contains("app: 1.0.0"));
    // A newer release is no revert.
    rig.release("1.2.0", 0);
    assert!(rig.file().contains("app: 1.2.0"));
}

#[test]
fn rollback_takes_back_the_values_and_holds_them() {
    let rig = Rig::new("");
    rig.release("1.1.0", 0);
    rig.release("1.2.0", 0);
    let last = rig.program.runs().remove(0);
    rig.person("b: x", "b: y", "beside");
    let shown = rig.expect(&["rollback", "bump.app", "--plan"], 0).out;
    assert!(
        shown.contains("-app: 1.2.0") && shown.contains("+app: 1.1.0"),
        "{shown}"
    );
    assert_eq!(rig.commits(), 4, "a plan changes nothing");

    rig.expect(&["rollback", "last"], 0);
    assert_eq!(
        rig.file(),
        "# kept\napp: 1.1.0\nb: y",
        "what others wrote stays"
    );
    let message = git(&rig.bare, &["log", "-1", "--format=%B", "main"]);
    assert!(
        message.starts_with("Revert \"Update manifests to "),
        "{message}"
    );
    assert!(
        message.contains("This takes back what commit "),
        "{message}"
    );
    let words = rig.expect(&["show", "last"], 0).out;
    assert!(words.contains("rollback of what run"), "{words}");

    // What was taken back is not written again by itself.
    let held = rig.expect(&["run", "release"], 1).out;
    assert!(
        held.contains("1.2.0 was taken back by the rollback"),
        "{held}"
    );
    // Nor taken back twice.
    let twice = rig.expect(&["rollback", &last], 2);
    assert!(twice.err.contains("was taken back by run"), "{twice:?}");
    // The next one goes further.
    rig.expect(&["rollback", "bump.app"], 0);
    assert_eq!(rig.file(), "# kept\napp: 1.0.0\nb: y");
    let nothing = rig.expect(&["rollback", "bump.app"], 2);
    assert!(nothing.err.contains("nothing to go back to"), "{nothing:?}");
    // A newer release is written, and somebody changes it by hand.
    rig.release("1.3.0", 0);
    rig.person("app: 1.3.0", "app: 1.3.1", "by hand");
    let before = rig.commits();
    let refused = rig.expect(&["rollback", "last"], 1).out;
    assert!(
        refused.contains("it is 1.3.1 by now, not 1.3.0"),
        "{refused}"
    );
    assert_eq!(rig.commits(), before);
}

/// Ten programs, each with a state of its own as on ten machines, bump ten keys of one file.
#[test]
fn ten_programs_bump_ten_keys_of_one_file() {
    let server = GitServer::start();
    let text: String = (0..10).map(|i| format!("k{i}: \"0\" # {i}\n")).collect();
    let bare = server.serve("m.git", &[("v.yaml", &text)]);
    let repo = format!(
        "{:?} branch=main {{ token \"${{secret.KEY}}\" }}",
        server.url("m.git")
    );
    let rigs: Vec<Rig> = (0..10)
        .map(|i| {
            let text = pipeline(&repo, "").replace("set \".app\"", &format!("set \".k{i}\""));
            let rig = Rig::with(&bare, &text, server.token());
            rig.program
                .repo
                .commit("v", &[("version", &format!("v{i}"))]);
            rig
        })
        .collect();
    let running: Vec<_> = rigs
        .iter()
        .map(|rig| {
            let mut command = rig.program.command(&["run", "release"]);
            command.envs(rig.env.iter().cloned());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("it starts")
        })
        .collect();
    for child in running {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{output:?}");
    }
    let expected: String = (0..10).map(|i| format!("k{i}: \"v{i}\" # {i}\n")).collect();
    assert_eq!(rigs[0].file(), expected.trim_end());
    assert_eq!(rigs[0].commits(), 11);
    git(&bare, &["fsck", "--strict", "--no-dangling"]);
}

/// Kills the service on the other side in the middle of a push, the first time only: by a hook that
/// runs before the branch moves, or once it has and before anybody is told.
fn deadly(bare: &Path, name: &str) {
    let hook = bare.join("hooks").join(name);
    std::fs::create_dir_all(bare.join("hooks")).expect("mkdir");
    // `pre-receive` has no argument; the other one is called several times.
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in ''|committed) ;; *) exit 0 ;; esac\n\
         grep -q refs/heads/main || exit 0\n\
         if mkdir {}/died 2>/dev/null; then kill -9 $PPID; fi\nexit 0\n",
        bare.display()
    );
    std::fs::write(&hook, script).expect("write");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// After any death: one commit, and nothing in the way of the next one.
fn survives(rig: &Rig) {
    let hooks = ["pre-receive", "reference-transaction"];
    for (at, phase) in hooks.into_iter().enumerate() {
        deadly(&rig.bare, phase);
        let before = rig.commits();
        let version = format!("1.{}.0", at + 1);
        let ended = rig.release(&version, 0);
        assert!(rig.bare.join("died").exists(), "it was killed: {ended:?}");
        std::fs::remove_dir(rig.bare.join("died")).expect("remove");
        std::fs::remove_file(rig.bare.join("hooks").join(phase)).expect("remove");
        assert_eq!(rig.commits(), before + 1, "{phase}: {ended:?}");
        assert!(rig.file().contains(&format!("app: {version}")), "{phase}");
        git(&rig.bare, &["fsck", "--strict", "--no-dangling"]);
    }
}

#[test]
fn a_remote_killed_mid_push_gets_one_commit_over_http() {
    let server = GitServer::start();
    let bare = server.serve("m.git", &[("v.yaml", "app: 1.0.0\n")]);
    let repo = format!(
        "{:?} branch=main {{ token \"${{secret.KEY}}\" }}",
        server.url("m.git")
    );
    survives(&Rig::with(&bare, &pipeline(&repo, ""), server.token()));
}

#[test]
fn a_remote_killed_mid_push_gets_one_commit_over_ssh() {
    let sshd = Sshd::start(&["ed25519"], &[("v.yaml", "app: 1.0.0\n")]);
    let repo = format!(
        "{:?} branch=main {{ ssh-key \"${{secret.KEY}}\"; known-hosts {:?}; sign ssh \"${{secret.KEY}}\" }}",
        sshd.url(),
        sshd.known_hosts().trim()
    );
    let rig = Rig::with(&sshd.bare, &pipeline(&repo, ""), &sshd.key);
    survives(&rig);
    let commit = git(&sshd.bare, &["cat-file", "-p", "main"]);
    assert!(
        commit.contains("gpgsig -----BEGIN SSH SIGNATURE-----"),
        "{commit}"
    );
}
