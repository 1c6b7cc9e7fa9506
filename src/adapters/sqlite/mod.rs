//! The state directory: an SQLite database for events, runs, facts and blobs; files for logs;
//! file locks for what must vanish with its process.
//!
//! ```text
//! STATE/journal.db          events, index of runs, facts, blobs
//! STATE/logs/RUN/STAGE.zst  log bytes (plus STAGE.idx beside a long one)
//! STATE/locks/RUN           locked by the process that works on a run
//! STATE/groups/HASH/        tickets of a concurrency group
//! ```
//!
//! Knows nothing about what an event means. Several processes may use one directory at a time.

mod db;
mod error;
mod frame;
mod group;
mod lock;
mod log_reader;
mod log_writer;
mod prune;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use self::db::{Access, Db};
use self::group::Groups;
use crate::base::RunId;
use crate::ports::store::{Change, Hold, LogWriter, NewEvent, Store, StoreError};

/// Name of the database in the state directory.
const DATABASE: &str = "journal.db";

/// The store in a state directory.
///
/// Opening is cheap: the database is opened at its first use, once for reading and once for
/// writing, so that readers never wait for a writer of this process.
pub struct SqliteStore {
    dir: PathBuf,
    may_create: bool,
    reader: Mutex<Option<Db>>,
    writer: Mutex<Option<Db>>,
    groups: Groups,
}

impl SqliteStore {
    /// Opens a state directory and creates it, for its owner only and ignored by git, if it is
    /// missing.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        lock::private_dir(&dir)?;
        let ignore = dir.join(".gitignore");
        let created = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&ignore)
            .and_then(|mut file| file.write_all(b"*\n"));
        match created {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                Err(error::io(&ignore, &cause))
            }
            _ => Ok(Self::at(dir, true)),
        }
    }

    /// Opens a state directory that has a database; `None` if there is none. Never creates one.
    pub fn open_existing(dir: impl Into<PathBuf>) -> Option<Self> {
        let dir = dir.into();
        dir.join(DATABASE).is_file().then(|| Self::at(dir, false))
    }

    /// The state directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn at(dir: PathBuf, may_create: bool) -> Self {
        Self {
            groups: Groups::new(dir.join("groups")),
            dir,
            may_create,
            reader: Mutex::default(),
            writer: Mutex::default(),
        }
    }

    fn locks(&self) -> PathBuf {
        self.dir.join("locks")
    }

    fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// Runs a closure with the connection for reading.
    fn reading<T>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let access = if self.may_create {
            Access::Create
        } else {
            Access::Read
        };
        let mut guard = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let db = match &mut *guard {
            Some(db) => db,
            none => none.insert(Db::open(&self.dir, access)?),
        };
        db.run(work)
    }

    /// Runs a closure with the connection for writing.
    fn writing<T>(
        &self,
        work: impl FnOnce(&mut Db) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let access = if self.may_create {
            Access::Create
        } else {
            Access::Write
        };
        let mut guard = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let db = match &mut *guard {
            Some(db) => db,
            none => none.insert(Db::open(&self.dir, access)?),
        };
        work(db)
    }

    /// The path of a stage's log, without its extension.
    fn log_path(&self, run: &RunId, stage_file: &str) -> Result<PathBuf, StoreError> {
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if stage_file.is_empty()
            || stage_file.len() > 200
            || stage_file.starts_with('.')
            || !stage_file.bytes().all(safe)
        {
            let name: String = stage_file.chars().take(80).collect();
            return Err(StoreError::Broken(format!(
                "\"{}\" cannot be the name of a log file",
                name.escape_debug()
            )));
        }
        Ok(self.logs().join(run.as_str()).join(stage_file))
    }
}

impl Store for SqliteStore {
    fn append(&self, events: &[NewEvent], changes: &[Change]) -> Result<Vec<u64>, StoreError> {
        if events.is_empty() && changes.is_empty() {
            return Ok(Vec::new());
        }
        self.writing(|db| write::append(db, events, changes))
    }

    fn put_blob(&self, bytes: &[u8]) -> Result<String, StoreError> {
        self.writing(|db| write::put_blob(db, bytes))
    }

    fn hold_run(&self, run: &RunId) -> Result<Box<dyn Hold>, StoreError> {
        Ok(Box::new(lock::hold_run(&self.locks(), run)?))
    }

    fn enter_group(
        &self,
        group: &str,
        limit: u32,
        order: &str,
    ) -> Result<Option<Box<dyn Hold>>, StoreError> {
        let place = self.groups.enter(group, limit, order)?;
        Ok(place.map(|place| Box::new(place) as Box<dyn Hold>))
    }

    fn leave_group(&self, group: &str, order: &str) {
        self.groups.leave(group, order);
    }

    fn log_writer(&self, run: &RunId, stage_file: &str) -> Result<Box<dyn LogWriter>, StoreError> {
        let path = self.log_path(run, stage_file)?;
        Ok(Box::new(log_writer::FrameWriter::new(path)))
    }

    fn request_cancel(&self, run: &RunId, by: &str) -> Result<(), StoreError> {
        self.writing(|db| write::request_cancel(db, run, by))
    }

    fn cancel_requested(&self, run: &RunId) -> Result<Option<String>, StoreError> {
        self.reading(|connection| read::cancelled_by(connection, run))
    }
}
