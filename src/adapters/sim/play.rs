//! A command on its way: a process or a container's main process, moved on by the clock alone,
//! whether somebody watches or not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::disk::{Disk, ROOT, WriteError};
use super::options::Latency;
use super::script::Act;
use crate::ports::engine::Mount;

/// Status of a process that `SIGTERM` ended.
pub(super) const TERMINATED: i64 = 143;
/// Status of a process that `SIGKILL` ended.
pub(super) const KILLED: i64 = 137;

/// Where a command finds its files.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In a directory of the host.
    Host(PathBuf),
    /// In a container: in its mounts, else in its own layer.
    Container {
        workdir: String,
        mounts: Vec<Mount>,
        own: BTreeMap<String, Arc<[u8]>>,
    },
}

/// A command on its way.
#[derive(Clone, Debug)]
pub(super) struct Play {
    acts: VecDeque<Act>,
    /// When the next act is due; `None` if none ever is.
    next: Option<Instant>,
    place: Place,
    sleep: Latency,
    work: Duration,
    /// Whether it goes on after its last act, as a server does.
    stays: bool,
    /// Whether `SIGTERM` does nothing.
    deaf: bool,
    /// What it printed so far.
    pub(super) log: Vec<u8>,
    /// Its status, once it has ended.
    pub(super) status: Option<i64>,
}

impl Play {
    pub(super) fn new(
        acts: VecDeque<Act>,
        start: Instant,
        place: Place,
        latency: &Latency,
        work: Duration,
        stays: bool,
    ) -> Self {
        Self {
            acts,
            next: Some(start),
            place,
            sleep: *latency,
            work,
            stays,
            deaf: false,
            log: Vec::new(),
            status: None,
        }
    }

    /// When something will happen to it by itself.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.status.is_none().then_some(self.next).flatten()
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Ends it from outside, unless it has ended.
    pub(super) fn end(&mut self, status: i64) {
        self.status.get_or_insert(status);
        self.next = None;
    }

    /// Plays every act that is due.
    pub(super) fn advance(&mut self, now: Instant, disk: &mut Disk, failed: &mut BTreeSet<String>) {
        while self.status.is_none()
            && let Some(due) = self.next
            && due <= now
        {
            let Some(act) = self.acts.pop_front() else {
                if self.stays {
                    self.next = None;
                } else {
                    self.end(0);
                }
                return;
            };
            self.play(act, due, disk, failed);
        }
    }

    fn play(&mut self, act: Act, due: Instant, disk: &mut Disk, failed: &mut BTreeSet<String>) {
        match act {
            Act::Print(text) => self.log.extend_from_slice(text.as_bytes()),
            Act::Write { path, text } => {
                if let Err(why) = self.write(&path, text.as_bytes(), disk) {
                    self.complain(&path, why);
                }
            }
            Act::Cat(path) => match self.read(&path, disk) {
                Some(bytes) => self.log.extend_from_slice(&bytes),
                None => self.complain(&path, "No such file or directory"),
            },
            Act::Sleep(time) => self.next = Some(due + self.sleep.scaled(time)),
            Act::Work => self.next = Some(due + self.work),
            Act::Exit(status) => self.end(status),
            Act::FailOnce(key) => {
                if failed.insert(key) {
                    self.log.extend_from_slice(b"simulated: fails once\n");
                    self.end(1);
                }
            }
            Act::Hang => self.next = None,
            Act::IgnoreTerm => self.deaf = true,
        }
    }

    fn complain(&mut self, path: &str, why: &str) {
        self.log
            .extend_from_slice(format!("{path}: {why}\n").as_bytes());
        self.end(1);
    }

    fn read(&self, path: &str, disk: &Disk) -> Option<Arc<[u8]>> {
        match self.outside(path) {
            Outside::Host(path, _) => disk.read(&path),
            Outside::Own(path) => match &self.place {
                Place::Container { own, .. } => own.get(&path).cloned(),
                Place::Host(_) => None,
            },
        }
    }

    fn write(&mut self, path: &str, bytes: &[u8], disk: &mut Disk) -> Result<(), &'static str> {
        match self.outside(path) {
            Outside::Host(_, true) => Err("Read-only file system"),
            Outside::Host(path, false) if path.starts_with(ROOT) => disk
                .write(&path, Arc::from(bytes))
                .map_err(|error| match error {
                    WriteError::NoFolder => "No such file or directory",
                    WriteError::ReadOnly => "Read-only file system",
                }),
            Outside::Host(..) => Err("Permission denied"),
            Outside::Own(path) => {
                if let Place::Container { own, .. } = &mut self.place {
                    own.insert(path, Arc::from(bytes));
                }
                Ok(())
            }
        }
    }

    /// Where a path of the command leads.
    fn outside(&self, path: &str) -> Outside {
        match &self.place {
            Place::Host(workdir) => Outside::Host(workdir.join(path), false),
            Place::Container {
                workdir, mounts, ..
            } => {
                let inside = Path::new(workdir).join(path);
                let mount = mounts
                    .iter()
                    .filter(|mount| mount.source.starts_with('/'))
                    .filter(|mount| inside.starts_with(&mount.target))
                    .max_by_key(|mount| mount.target.len());
                match mount {
                    Some(mount) => {
                        let rest = inside.strip_prefix(&mount.target).unwrap_or(&inside);
                        Outside::Host(Path::new(&mount.source).join(rest), mount.read_only)
                    }
                    None => Outside::Own(inside.to_string_lossy().into_owned()),
                }
            }
        }
    }
}

/// Where a path leads: on the host, and whether read-only; or in the container's own layer.
enum Outside {
    Host(PathBuf, bool),
    Own(String),
}
