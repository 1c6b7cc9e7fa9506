//! The program itself, in a repository of its own.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use super::repo::SourceRepo;

/// A repository with a pipeline, and the program to run in it.
pub struct Program {
    dir: tempfile::TempDir,
    pub repo: SourceRepo,
}

/// How the program ended and what it printed.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Program {
    /// A repository with one pipeline file, committed.
    pub fn new(pipelines: &str) -> Self {
        Self::with_files(&[
            ("pipelines/p.kdl", pipelines),
            (".gitignore", ".pipewright/\n"),
        ])
    }

    pub fn with_files(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let repo = SourceRepo::with_files(&dir.path().join("repo"), files);
        Self { dir, repo }
    }

    /// A directory beside the repository, for what stages write.
    pub fn outside(&self) -> &Path {
        self.dir.path()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipewright"));
        command
            .current_dir(self.repo.path())
            .args(args)
            .stdin(Stdio::null())
            .env("LC_ALL", "C.UTF-8")
            .env_remove("NO_COLOR");
        command
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args).output().expect("the program starts"))
    }

    /// Runs the program with these variables.
    #[track_caller]
    pub fn run_with(&self, env: &[(String, String)], args: &[&str]) -> Ended {
        let mut command = self.command(args);
        for (name, value) in env {
            command.env(name, value);
        }
        ended(command.output().expect("the program starts"))
    }

    /// Starts the program and leaves it to itself.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Some(command.spawn().expect("the program starts")))
    }

    /// Runs the program; it must end with this status.
    #[track_caller]
    pub fn expect(&self, args: &[&str], code: i32) -> Ended {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:#?}");
        ended
    }

    /// Ids of all runs, newest first.
    pub fn runs(&self) -> Vec<String> {
        let listed = self.expect(&["runs", "--format", "json"], 0).out;
        let rows: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let rows = rows.as_array().or_else(|| rows["runs"].as_array());
        let id = |row: &serde_json::Value| row["run"].as_str().expect("an id").to_owned();
        rows.expect("a list").iter().map(id).collect()
    }

    /// Waits until a file beside the repository is there and not empty, and reads it.
    #[track_caller]
    pub fn wait_for(&self, name: &str) -> String {
        let path = self.outside().join(name);
        poll(name, || {
            std::fs::read_to_string(&path)
                .ok()
                .filter(|text| !text.is_empty())
        })
    }
}

/// A program that may still run; it is ended if nobody waits for it.
pub struct Running(Option<Child>);

impl Running {
    pub fn signal(&self, name: &str) {
        let pid = self.0.as_ref().expect("it was not awaited").id();
        let sent = Command::new("kill")
            .args([format!("-{name}"), pid.to_string()])
            .status();
        assert!(
            sent.expect("the program `kill` must be installed")
                .success()
        );
    }

    pub fn wait(mut self) -> Ended {
        let child = self.0.take().expect("it was not awaited");
        ended(child.wait_with_output().expect("it can be awaited"))
    }

    /// Ends it as a crash would, if it still runs.
    pub fn kill(&mut self) {
        let child = self.0.as_mut().expect("it was not awaited");
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Waits for its end without reading what it prints.
    pub fn status(&mut self) -> ExitStatus {
        let child = self.0.as_mut().expect("it was not awaited");
        child.wait().expect("it can be awaited")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Looks again and again, for a minute at most.
#[track_caller]
pub fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{what} did not come"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
