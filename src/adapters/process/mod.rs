//! Runs processes on this host: the [`Host`] port.
//!
//! One call of [`Host::run`] is one stage's process with everything it starts. It gets a process
//! group, an allow list of variables, a marker, and one pipe for both outputs. Starting one must
//! stay cheap: the program is looked up here and nothing is asked of `std` that would make it
//! fork a copy of this process. Whether something was left running is decided from three cheap
//! signs (the pipe, the group, our adopted children); `/proc` is walked only if one of them speaks.

mod environment;
mod signals;
mod stage;
mod subreaper;
mod tree;

use std::collections::HashSet;
use std::ffi::OsString;
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::environment::{Environment, check_name, find_program};
use self::signals::Signals;
use self::stage::Stage;
use self::tree::{MARKER, Snapshot};
use crate::ports::Output;
use crate::ports::process::{Host, ProcessError, ProcessSpec, Program};

/// Scripts beyond this size are handed over as a file: the system takes 128 KiB per argument.
const MAX_INLINE_SCRIPT: usize = 100 << 10;

/// How often a program is tried that another process still has open for writing.
const BUSY_TRIES: u32 = 20;

/// What is left after a crash gets this long between `SIGTERM` and `SIGKILL`.
const REAP_GRACE: Duration = Duration::from_secs(2);

/// After `SIGKILL` a process may need a moment, or for ever if the kernel holds it.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Processes on this host. Needs Linux 5.3 or later and a tokio runtime with I/O and time.
#[derive(Clone, Debug)]
pub struct HostProcesses {
    environment: Environment,
    shell: Shell,
    signals: Arc<Mutex<Option<Signals>>>,
}

#[derive(Clone, Debug)]
struct Shell {
    program: PathBuf,
    is_bash: bool,
}

impl HostProcesses {
    /// Takes what stages may see from this process's environment.
    ///
    /// Makes this process the one that orphaned descendants are handed to.
    pub fn new() -> Self {
        Self::with_environment(std::env::vars_os())
    }

    /// Takes what stages may see from the variables given.
    pub fn with_environment(all: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        subreaper::become_one();
        let environment = Environment::from_variables(all);
        let shell = match find_program("bash", environment.path(), Path::new("/")) {
            Ok(program) => Shell {
                program,
                is_bash: true,
            },
            Err(_) => Shell {
                program: find_program("sh", environment.path(), Path::new("/"))
                    .unwrap_or_else(|_| PathBuf::from("/bin/sh")),
                is_bash: false,
            },
        };
        Self {
            environment,
            shell,
            signals: Arc::default(),
        }
    }

    /// The command for a spec, and the file of its script if it needs one.
    fn command(
        &self,
        spec: &ProcessSpec,
    ) -> io::Result<(Command, Option<tempfile::NamedTempFile>)> {
        let mut script_file = None;
        let mut command = match &spec.program {
            Program::Command(words) => {
                let name = words.first().map_or("", String::as_str);
                let given = spec.env.iter().rev().find(|(name, _)| name == "PATH");
                let path = match given {
                    Some((_, path)) => OsString::from(path.expose()),
                    None => self.environment.path().to_owned(),
                };
                let mut command = Command::new(find_program(name, &path, &spec.workdir)?);
                command.arg0(name).args(&words[1..]);
                command
            }
            Program::Script(script) => {
                let mut command = Command::new(&self.shell.program);
                if self.shell.is_bash {
                    command.args(["-euo", "pipefail"]);
                } else {
                    command.arg("-eu");
                }
                if script.len() <= MAX_INLINE_SCRIPT {
                    command.arg("-c").arg(script);
                } else {
                    let mut file = tempfile::Builder::new()
                        .prefix("pipewright-script-")
                        .tempfile()?;
                    file.write_all(script.as_bytes())?;
                    command.arg(file.path());
                    script_file = Some(file);
                }
                command
            }
        };
        command
            .env_clear()
            .envs(self.environment.variables())
            .current_dir(&spec.workdir)
            .stdin(Stdio::null())
            .process_group(0);
        for (name, value) in &spec.env {
            check_name(name)?;
            command.env(name, value.expose());
        }
        command.env(MARKER, &spec.marker);
        Ok((command, script_file))
    }

    async fn start(
        &self,
        spec: &ProcessSpec,
        command: &mut Command,
    ) -> Result<Stage, ProcessError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Stage::start(command) {
                // A child that another thread is just starting may hold the program open for
                // writing until it runs its own; that passes.
                Err(error)
                    if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES =>
                {
                    sleep(Duration::from_millis(10)).await;
                }
                other => return other.map_err(|error| start_error(spec, explain(spec, error))),
            }
        }
    }
}

impl Default for HostProcesses {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Host for HostProcesses {
    async fn run(
        &self,
        spec: &ProcessSpec,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<i32, ProcessError> {
        if cancel.is_cancelled() {
            return Err(ProcessError::Cancelled);
        }
        let (mut command, _script_file) = self
            .command(spec)
            .map_err(|error| start_error(spec, explain(spec, error)))?;
        if matches!(spec.program, Program::Script(_)) && !self.shell.is_bash {
            output.log(b"pipewright: no bash on this host; the script runs under sh -eu\n");
        }
        let stage = self.start(spec, &mut command).await?;
        stage.run(spec, output, cancel).await
    }

    async fn asked_to_stop(&self) -> Option<String> {
        // Listened to from the first call on, also while nobody waits: a signal between two
        // calls is the second call's.
        poll_fn(|cx| {
            let mut signals = self.signals.lock().expect("no holder of this lock panics");
            if signals.is_none() {
                *signals = Signals::listen().ok();
            }
            signals
                .as_mut()
                .map_or(Poll::Ready(None), |signals| signals.poll(cx))
        })
        .await
    }

    async fn reap(&self, prefix: &str) -> usize {
        if prefix.is_empty() {
            // Would end every stage of every Pipewright on this host.
            return 0;
        }
        let mut seen = HashSet::new();
        let start = Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            let prefix = prefix.to_owned();
            let (left, snapshot) = walk(move || {
                let snapshot = Snapshot::take();
                (snapshot.marked(&prefix), snapshot)
            })
            .await;
            // Only orphans: a child of this very process is waited for by whoever started it.
            snapshot.collect_ended(&HashSet::new(), &subreaper::active());
            let overdue = start.elapsed() >= REAP_GRACE;
            for process in &left {
                let is_new = seen.insert((process.pid, process.started));
                if overdue {
                    process.signal(Signal::KILL);
                } else if is_new {
                    process.signal(Signal::TERM);
                    // A stopped process only hears it once it goes on.
                    process.signal(Signal::CONT);
                }
            }
            if left.is_empty() || start.elapsed() > REAP_GRACE + KILL_PATIENCE {
                return seen.len();
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

/// Reads `/proc` where it does not hold up other tasks: a busy host has thousands of processes.
async fn walk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn program_name(spec: &ProcessSpec) -> String {
    match &spec.program {
        Program::Command(words) => format!("{:?}", words.first().map_or("", String::as_str)),
        Program::Script(_) => "the script's shell".to_owned(),
    }
}

fn start_error(spec: &ProcessSpec, source: io::Error) -> ProcessError {
    ProcessError::Start {
        program: program_name(spec),
        source,
    }
}

fn lost(spec: &ProcessSpec, source: io::Error) -> ProcessError {
    ProcessError::Lost {
        program: program_name(spec),
        source,
    }
}

/// Replaces what the system says where that misleads.
fn explain(spec: &ProcessSpec, error: io::Error) -> io::Error {
    let message = match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::PermissionDenied
            if !spec.workdir.is_dir() =>
        {
            format!(
                "its working directory {} is not a directory it can enter",
                spec.workdir.display()
            )
        }
        io::ErrorKind::NotFound if is_there(spec) => {
            "it exists, but the interpreter its first line names, or its loader, does not"
                .to_owned()
        }
        io::ErrorKind::ArgumentListTooLong => {
            let biggest = spec
                .env
                .iter()
                .max_by_key(|(_, value)| value.expose().len());
            let hint = biggest.map_or(String::new(), |(name, value)| {
                format!(
                    " (the biggest variable is {name}, {} bytes)",
                    value.expose().len()
                )
            });
            format!(
                "its arguments and variables are too long for the system, \
                 which takes 128 KiB for each{hint}; pass large values in files"
            )
        }
        _ => return error,
    };
    io::Error::new(error.kind(), message)
}

fn is_there(spec: &ProcessSpec) -> bool {
    match &spec.program {
        Program::Command(words) => words
            .first()
            .is_some_and(|name| name.contains('/') && spec.workdir.join(name).exists()),
        Program::Script(_) => false,
    }
}

#[cfg(test)]
mod tests;
