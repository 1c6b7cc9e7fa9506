//! Locks between processes: advisory locks on files, which the system drops when a process dies.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A locked file. Dropping it unlocks.
///
/// Two locks of one process exclude each other like those of two processes, because each has its
/// own open file.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Waits until no one holds the file exclusively.
    pub(super) fn shared(path: &Path) -> io::Result<Self> {
        Self::take(path, FlockOperation::LockShared)
    }

    /// Waits until no one else holds the file.
    pub(super) fn exclusive(path: &Path) -> io::Result<Self> {
        Self::take(path, FlockOperation::LockExclusive)
    }

    /// Takes the file if no one else holds it.
    pub(super) fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        match Self::take(path, FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lets others share. Someone may take the file exclusively in between, so look again after it.
    pub(super) fn downgrade(&self) -> io::Result<()> {
        wait(&self.file, FlockOperation::LockShared)
    }

    /// Unlocks now although the value lives on elsewhere.
    pub(super) fn release(&self) {
        // Unlocking an open file cannot fail in a way that leaves it locked.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }

    /// The locked file.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Removes the file; it must be held exclusively.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    fn take(path: &Path, operation: FlockOperation) -> io::Result<Self> {
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            wait(&file, operation)?;
            // The holder before us may have removed the file: then our lock is on a file that
            // nobody else can find.
            let ours = file.metadata()?;
            match std::fs::symlink_metadata(path) {
                Ok(there) if there.ino() == ours.ino() && there.dev() == ours.dev() => {
                    let path = path.to_owned();
                    return Ok(Self { file, path });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn wait(file: &File, operation: FlockOperation) -> io::Result<()> {
    loop {
        match flock(file, operation) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_exclude_and_survive_removal() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("x.lock");
        let first = FileLock::exclusive(&path).expect("lock");
        assert!(FileLock::try_exclusive(&path).expect("try").is_none());
        first.downgrade().expect("downgrade");
        let second = FileLock::shared(&path).expect("share");
        assert!(FileLock::try_exclusive(&path).expect("try").is_none());
        drop(second);
        first.release();
        let third = FileLock::try_exclusive(&path).expect("try").expect("free");
        third.remove().expect("remove");
        assert!(!path.exists());
        assert!(FileLock::try_exclusive(&path).expect("try").is_some());
    }
}
