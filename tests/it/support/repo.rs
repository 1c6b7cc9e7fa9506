//! Makes git repositories with the `git` program, with commits that come out the same every time.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs `git` in a directory and returns what it printed.
///
/// Reads no configuration of the user or the system.
#[track_caller]
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = command(dir, args)
        .output()
        .expect("the program `git` must be installed for these tests");
    assert!(
        output.status.success(),
        "git {args:?} in {}: {}",
        dir.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .expect("git prints UTF-8")
        .trim_end()
        .to_owned()
}

/// Whether `git` succeeds.
pub fn git_ok(dir: &Path, args: &[&str]) -> bool {
    command(dir, args)
        .output()
        .expect("the program `git` must be installed for these tests")
        .status
        .success()
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(dir)
        .args(args)
        .stdin(Stdio::null())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C");
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "Test")
            .env(format!("GIT_{who}_EMAIL"), "test@example.com")
            .env(format!("GIT_{who}_DATE"), "2026-01-31T08:00:00Z");
    }
    command
}

/// A repository with a working tree, on branch `main`.
pub struct SourceRepo {
    path: PathBuf,
}

impl SourceRepo {
    /// Makes an empty repository.
    pub fn init(path: &Path) -> Self {
        std::fs::create_dir_all(path).expect("a directory for the repository");
        git(path, &["init", "-q", "-b", "main"]);
        Self {
            path: path.to_owned(),
        }
    }

    /// Makes a repository with one commit of some files.
    pub fn with_files(path: &Path, files: &[(&str, &str)]) -> Self {
        let repo = Self::init(path);
        repo.commit("first", files);
        repo
    }

    /// The working tree.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes files of the working tree.
    pub fn write(&self, files: &[(&str, &str)]) {
        for (name, content) in files {
            let path = self.path.join(name);
            std::fs::create_dir_all(path.parent().expect("a file has a parent")).expect("mkdir");
            std::fs::write(path, content).expect("write");
        }
    }

    /// Commits all of the working tree after writing some files; returns the commit.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> String {
        self.write(files);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs `git` in the working tree.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        git(&self.path, args)
    }

    /// Makes a bare copy, as a server holds it.
    pub fn bare(&self, path: &Path) {
        let target = path.to_str().expect("a path in UTF-8");
        self.git(&["clone", "-q", "--bare", ".", target]);
    }
}
