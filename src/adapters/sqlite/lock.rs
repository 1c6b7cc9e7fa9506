//! File locks. The kernel releases them when their process dies, however it dies.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::error;
use crate::base::RunId;
use crate::ports::store::{Hold, StoreError};

/// How long short critical sections of other processes are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a held run is asked for again: somebody may just be looking whether it is held.
const LOOKING: Duration = Duration::from_millis(150);

const PAUSE: Duration = Duration::from_millis(3);

/// A locked file that is removed when the lock is given up.
#[derive(Debug)]
pub(super) struct LockedFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Hold for LockedFile {}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // While the lock is still held: whoever waits with the old file open sees that it is
        // gone and starts again.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Creates a directory that only its owner may enter.
pub(super) fn private_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|cause| error::io(path, &cause))
}

/// Takes a run.
pub(super) fn hold_run(locks: &Path, run: &RunId) -> Result<LockedFile, StoreError> {
    private_dir(locks)?;
    let path = locks.join(run.as_str());
    let began = Instant::now();
    loop {
        if let Some(file) = try_lock(&path)? {
            let locked = LockedFile { file, path };
            let pid = format!("{}\n", std::process::id());
            // Only for the message below.
            let _ = locked.file.set_len(0);
            let _ = locked.file.write_all_at(pid.as_bytes(), 0);
            return Ok(locked);
        }
        if began.elapsed() > LOOKING {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let mut pid = String::new();
    if let Ok(file) = File::open(&path) {
        let _ = file.take(32).read_to_string(&mut pid);
    }
    let who = match pid.trim() {
        "" => "another process".to_owned(),
        pid => format!("process {pid}"),
    };
    Err(StoreError::Held(format!(
        "run {run} is being worked on by {who}; wait until it ends, or stop it with \
         `pipewright cancel {run}`"
    )))
}

/// Whether a live process holds a run.
pub(super) fn is_held(locks: &Path, run: &RunId) -> Result<bool, StoreError> {
    let path = locks.join(run.as_str());
    match File::open(&path) {
        Ok(file) => is_locked(&file).map_err(|cause| error::io(&path, &cause)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(error::io(&path, &cause)),
    }
}

/// Whether somebody holds the exclusive lock of an open file.
pub(super) fn is_locked(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes a lock that others hold only for moments.
pub(super) fn wait(path: &Path, what: &str) -> Result<File, StoreError> {
    if let Some(parent) = path.parent() {
        private_dir(parent)?;
    }
    let began = Instant::now();
    loop {
        if let Some(file) = try_lock(path)? {
            return Ok(file);
        }
        if began.elapsed() > PATIENCE {
            return Err(StoreError::Held(format!(
                "another process has held {what} ({}) for {} seconds; look for a hung pipewright \
                 process",
                path.display(),
                PATIENCE.as_secs()
            )));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Opens or creates a file and locks it; `None` if somebody else has it.
fn try_lock(path: &Path) -> Result<Option<File>, StoreError> {
    let attempt = || -> io::Result<Option<File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        }
        // The last holder may have removed the file between our opening and locking it.
        let ours = file.metadata()?;
        let still = std::fs::metadata(path)
            .is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino()));
        Ok(still.then_some(file))
    };
    attempt().map_err(|cause| error::io(path, &cause))
}

/// Creates a file that must not exist yet, locked and with some content.
pub(super) fn create_locked(path: PathBuf, content: &[u8]) -> Result<LockedFile, StoreError> {
    let attempt = || -> io::Result<File> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let written = flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(content));
        if written.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        written.map(|()| file)
    };
    match attempt() {
        Ok(file) => Ok(LockedFile { file, path }),
        Err(cause) => Err(error::io(&path, &cause)),
    }
}
