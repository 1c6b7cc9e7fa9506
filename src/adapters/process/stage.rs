//! One stage's process from its start to the end of its last descendant.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, test_kill_process_group,
};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::subreaper::{active, has_unknown_child};
use super::tree::{Process, Quarry, Snapshot};
use super::{KILL_PATIENCE, lost, walk};
use crate::adapters::buffers::Buffers;
use crate::ports::Output;
use crate::ports::process::{ProcessError, ProcessSpec};

/// Size of the first read buffer, and of a pipe as the system makes it.
const SMALL_READ: usize = 64 << 10;

/// Size of the pipe for a stage that prints much: fewer switches between it and us.
const LARGE_PIPE: usize = 1 << 20;

/// Size of a read from such a pipe. What is read is still in the processor's cache when it is
/// passed on, and is as much as the log takes in one piece.
const LARGE_READ: usize = 256 << 10;

/// A read of so many bytes is shared with its receivers, a smaller one is copied.
const SHARED_READ: usize = LARGE_READ / 2;

/// Reads in a row before other tasks get their turn.
const READS_PER_TURN: usize = 8;

/// After the main process ended, those that still hold its output get this long to finish by
/// themselves: `> >(tee log)` in bash is not waited for by the shell.
const SETTLE: Duration = Duration::from_millis(300);

/// What a finished stage left running gets at most this long between `SIGTERM` and `SIGKILL`.
const LEFTOVER_GRACE: Duration = Duration::from_secs(2);

/// A running stage. Dropping it unfinished kills its process group.
pub(super) struct Stage {
    /// Taken only when it is dropped.
    child: Option<Child>,
    group: Pid,
    /// A process handle, readable once the main process ended. No pipe, but waiting for it is the
    /// same, and this is tokio's safe way to wait for any descriptor.
    exit: Receiver,
    status: Option<ExitStatus>,
    output: OutputPipe,
    _presence: Presence,
}

/// Counts the stages from their start to the end of their last descendant.
struct Presence;

static PRESENT: AtomicUsize = AtomicUsize::new(0);

impl Presence {
    fn new() -> Self {
        PRESENT.fetch_add(1, Ordering::Relaxed);
        Self
    }

    fn is_alone() -> bool {
        PRESENT.load(Ordering::Relaxed) == 1
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        PRESENT.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Until {
    Exited,
    Cancelled,
    Time,
}

impl Stage {
    /// Starts it.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        // One at a time: until it runs its own program, a child holds copies of all our
        // descriptors, and one that holds the writing end of another stage's pipe would make that
        // stage look as if it had left something running.
        static STARTING: Mutex<()> = Mutex::new(());
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let (reader, writer) = io::pipe()?;
        let output = OutputPipe::new(reader.into())?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn();
        // Closes our copies of the writing end, without which the pipe would never end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = child?;
        let pid = i32::try_from(child.id()).expect("process ids are positive 32-bit numbers");
        let group = Pid::from_raw(pid).expect("a child's process id is not zero");
        let exit = pidfd_open(group, PidfdFlags::empty())
            .map_err(io::Error::from)
            .and_then(Receiver::from_owned_fd_unchecked);
        match exit {
            Ok(exit) => {
                active().insert(pid);
                Ok(Self {
                    child: Some(child),
                    group,
                    exit,
                    status: None,
                    output,
                    _presence: Presence::new(),
                })
            }
            Err(error) => {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Waits for its end, passes its output on, and ends what it left.
    pub(super) async fn run(
        mut self,
        spec: &ProcessSpec,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<i32, ProcessError> {
        let lose = |error| lost(spec, error);
        match self.until(output, Some(cancel), None).await.map_err(lose)? {
            Until::Exited => {}
            Until::Cancelled | Until::Time => {
                self.end(spec, output, spec.grace).await.map_err(lose)?;
                return Err(ProcessError::Cancelled);
            }
        }
        if self.leaves_something(output).map_err(lose)? {
            let settled = Instant::now() + SETTLE;
            tokio::select! {
                drained = self.output.drain_until(output, settled) => drained.map_err(lose)?,
                () = cancel.cancelled() => {}
            }
            let left = self
                .end(spec, output, spec.grace.min(LEFTOVER_GRACE))
                .await
                .map_err(lose)?;
            report(output, &left);
        }
        let status = self.status.expect("the process has ended");
        let by_signal = status.signal().map(|signal| 128 + signal);
        Ok(status.code().or(by_signal).unwrap_or(-1))
    }

    /// Passes output on until the main process ended or the time is over.
    async fn until(
        &mut self,
        output: &dyn Output,
        cancel: Option<&CancellationToken>,
        deadline: Option<Instant>,
    ) -> io::Result<Until> {
        let time = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let cancelled = async {
            match cancel {
                Some(cancel) => cancel.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(time, cancelled);
        loop {
            tokio::select! {
                // Its end comes first: a cancellation that arrives after it changes nothing.
                biased;
                ready = self.exit.readable() => {
                    ready?;
                    if self.has_exited()? {
                        return Ok(Until::Exited);
                    }
                    tokio::task::yield_now().await;
                }
                () = &mut cancelled => return Ok(Until::Cancelled),
                () = &mut time => return Ok(Until::Time),
                turn = self.output.turn(output), if !self.output.ended => turn?,
            }
        }
    }

    /// Asks for the exit status of the main process.
    fn has_exited(&mut self) -> io::Result<bool> {
        if self.status.is_none()
            && let Some(child) = &mut self.child
        {
            self.status = child.try_wait()?;
            if self.status.is_some() {
                active().remove(&self.group.as_raw_nonzero().get());
            }
        }
        Ok(self.status.is_some())
    }

    /// Takes the last output and looks for signs of processes left behind.
    fn leaves_something(&mut self, output: &dyn Output) -> io::Result<bool> {
        self.output.drain(output)?;
        Ok(!self.output.ended || self.group_lives() || has_unknown_child())
    }

    fn group_lives(&self) -> bool {
        test_kill_process_group(self.group) != Err(Errno::SRCH)
    }

    /// Ends every process of the stage, and returns those that were there beside the main one.
    async fn end(
        &mut self,
        spec: &ProcessSpec,
        output: &dyn Output,
        grace: Duration,
    ) -> io::Result<Vec<Process>> {
        let start = Instant::now();
        let mut asked = HashSet::new();
        let mut found = Vec::new();
        let mut pause = Duration::from_millis(2);
        if self.status.is_none() {
            // All of the group at one moment, before anyone can start another process.
            let _ = kill_process_group(self.group, Signal::TERM);
            let _ = kill_process_group(self.group, Signal::CONT);
        }
        let mut group_was_asked = self.status.is_none();
        loop {
            let elapsed = start.elapsed();
            let overdue = elapsed >= grace;
            if overdue && (self.status.is_none() || self.group_lives()) {
                let _ = kill_process_group(self.group, Signal::KILL);
            }
            let left = self.left(spec, &asked).await?;
            for process in &left {
                let is_new = asked.insert((process.pid, process.started));
                if is_new {
                    found.push(process.clone());
                }
                if overdue {
                    process.signal(Signal::KILL);
                } else if is_new {
                    // Asking twice makes some programs leave without cleaning up.
                    let in_group = process.group == self.group.as_raw_nonzero().get();
                    if !(group_was_asked && in_group) {
                        process.signal(Signal::TERM);
                        // A stopped process only hears it once it goes on.
                        process.signal(Signal::CONT);
                    }
                }
            }
            group_was_asked = false;
            if left.is_empty() && self.status.is_some() {
                break;
            }
            if elapsed > grace + KILL_PATIENCE {
                let names: Vec<String> = left.iter().map(describe).collect();
                output.log(
                    format!("pipewright: not even SIGKILL ended {}\n", names.join(", ")).as_bytes(),
                );
                break;
            }
            let next = Instant::now() + pause;
            if self.status.is_some() {
                self.output.drain_until(output, next).await?;
                tokio::time::sleep_until(next).await;
            } else {
                self.until(output, None, Some(next)).await?;
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        self.output.drain(output)?;
        Ok(found)
    }

    /// Processes of the stage that have not ended, beside the main one.
    async fn left(
        &self,
        spec: &ProcessSpec,
        known: &HashSet<(i32, u64)>,
    ) -> io::Result<Vec<Process>> {
        let gone = self.status.is_some() && !self.group_lives();
        let quarry = Quarry {
            main: if gone {
                0
            } else {
                self.group.as_raw_nonzero().get()
            },
            marker: spec.marker.clone(),
            pipe: rustix::fs::fstat(&self.output.pipe)?.st_ino,
            workdir: spec.workdir.clone(),
            alone: Presence::is_alone(),
        };
        let known = known.clone();
        Ok(walk(move || {
            let mut running = active().clone();
            let quarry = Quarry {
                workdir: quarry.workdir.canonicalize().unwrap_or(quarry.workdir),
                ..quarry
            };
            let snapshot = Snapshot::take();
            // Also those that were started while we looked.
            running.extend(active().iter());
            let left = snapshot.of_stage(&quarry, &running);
            snapshot.collect_ended(&known, &running);
            left
        })
        .await)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.status.is_some() {
            return;
        }
        // Reading or waiting failed, or the future was dropped, or not even SIGKILL helped.
        let _ = kill_process_group(self.group, Signal::KILL);
        let main = self.group.as_raw_nonzero().get();
        let Some(mut child) = self.child.take() else {
            return;
        };
        // Nothing may wait here, and the thread ends with the process.
        std::thread::spawn(move || {
            let _ = child.wait();
            active().remove(&main);
        });
    }
}

/// The reading end of standard output and standard error.
struct OutputPipe {
    pipe: Receiver,
    buffer: Vec<u8>,
    /// Large buffers, once the stage has shown that it prints much.
    large: Option<Buffers>,
    ended: bool,
}

enum Read {
    Some(usize),
    Nothing,
    End,
}

impl OutputPipe {
    fn new(reader: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            pipe: Receiver::from_owned_fd(reader)?,
            buffer: Vec::new(),
            large: None,
            ended: false,
        })
    }

    /// Waits for output and passes some on.
    async fn turn(&mut self, output: &dyn Output) -> io::Result<()> {
        self.pipe.readable().await?;
        for _ in 0..READS_PER_TURN {
            let Self {
                pipe,
                buffer,
                large,
                ..
            } = self;
            // Through tokio, which has to know when there is nothing left.
            let read = pipe.try_io(|| match read(pipe.as_fd(), buffer, large, output)? {
                Read::Nothing => Err(io::ErrorKind::WouldBlock.into()),
                read => Ok(read),
            });
            match read {
                Ok(Read::End) => {
                    self.ended = true;
                    break;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Passes on what is there now, but no more than a pipe can hold: a process that was left
    /// behind may print for ever.
    fn drain(&mut self, output: &dyn Output) -> io::Result<()> {
        let mut taken = 0;
        while !self.ended && taken < 2 * LARGE_PIPE {
            let Self {
                pipe,
                buffer,
                large,
                ..
            } = self;
            match read(pipe.as_fd(), buffer, large, output)? {
                Read::Some(length) => taken += length,
                Read::Nothing => break,
                Read::End => self.ended = true,
            }
        }
        Ok(())
    }

    /// Passes output on until its end or a deadline.
    async fn drain_until(&mut self, output: &dyn Output, deadline: Instant) -> io::Result<()> {
        while !self.ended && Instant::now() < deadline {
            match timeout_at(deadline, self.turn(output)).await {
                Ok(turn) => turn?,
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// Reads once, without waiting, into an emptied `buffer`, and passes the bytes on.
fn read(
    pipe: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    large: &mut Option<Buffers>,
    output: &dyn Output,
) -> io::Result<Read> {
    buffer.clear();
    if buffer.capacity() == 0 {
        buffer.reserve_exact(SMALL_READ);
    }
    let length = loop {
        match rustix::io::read(pipe, rustix::buffer::spare_capacity(buffer)) {
            Ok(length) => break length,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Read::Nothing),
            Err(error) => return Err(error.into()),
        }
    };
    if length == 0 {
        return Ok(Read::End);
    }
    match large {
        Some(large) if length >= SHARED_READ => {
            let full = std::mem::replace(buffer, large.take());
            output.log_shared(large.share(full));
        }
        Some(_) => output.log(buffer),
        None => {
            output.log(buffer);
            if length == buffer.capacity() {
                // The system may refuse, for example because a user has too much in pipes already.
                let _ = rustix::pipe::fcntl_setpipe_size(pipe, LARGE_PIPE);
                *buffer = large.insert(Buffers::new(LARGE_READ)).take();
            }
        }
    }
    Ok(Read::Some(length))
}

fn describe(process: &Process) -> String {
    format!("{} (process {})", process.name, process.pid)
}

/// Tells what a finished stage had left running.
fn report(output: &dyn Output, left: &[Process]) {
    const SHOWN: usize = 5;
    if left.is_empty() {
        return;
    }
    let mut names: Vec<String> = left.iter().take(SHOWN).map(describe).collect();
    if left.len() > SHOWN {
        names.push(format!("{} more", left.len() - SHOWN));
    }
    output.log(
        format!(
            "pipewright: ended what was left running: {}\n",
            names.join(", ")
        )
        .as_bytes(),
    );
}
