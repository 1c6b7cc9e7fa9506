//! The database file: how it is opened, its schema, and how an old schema moves forward.
//!
//! Durability: WAL with `synchronous=NORMAL`. A committed transaction is in the page cache of
//! the kernel, so it survives `kill -9` and a crash of this program at any moment; a loss of
//! power may take the last transactions, but never half of one. `FULL` would buy those back with
//! a disk flush for each group of events; recovery asks the world what exists anyway.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error;
use super::lock;
use crate::ports::store::StoreError;

/// How long a writer waits for another process's transaction.
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// Marks the file as ours: "PWjr".
const APPLICATION: i32 = 0x5057_6a72;

/// One step of the schema each, never changed once released: append only.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE migration (version INTEGER PRIMARY KEY, at INTEGER NOT NULL) STRICT;
    CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO counter VALUES ('seq', 0);
    -- Numbers are never used twice, so that a pruned run's events cannot be taken for another's.
    CREATE TABLE run (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        pipeline TEXT NOT NULL,
        created INTEGER NOT NULL,
        finished INTEGER,
        outcome TEXT,
        sha TEXT NOT NULL,
        reference TEXT NOT NULL,
        upstream TEXT,
        root TEXT NOT NULL,
        cancelled_by TEXT
    ) STRICT;
    CREATE INDEX run_of_pipeline ON run (pipeline);
    CREATE INDEX run_unfinished ON run (id) WHERE outcome IS NULL;
    CREATE INDEX run_chained ON run (upstream) WHERE upstream IS NOT NULL;
    -- Clustered by run: replay reads neighbours.
    CREATE TABLE event (
        run INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        at INTEGER NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (run, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE fact (
        scope TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (scope, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE blob (
        id INTEGER PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        put_at INTEGER NOT NULL,
        packed BLOB NOT NULL
    ) STRICT;
"];

/// Newest schema this program knows.
pub(super) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// How a connection is going to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Creates the file if it is missing.
    Create,
    /// Writes, but the file must exist.
    Write,
    /// Only reads; works on a file system that cannot be written, too.
    Read,
}

/// A connection and the path it leads to, for errors.
pub(super) struct Db {
    pub(super) connection: Connection,
    path: PathBuf,
}

impl Db {
    /// Opens the database of a state directory and brings its schema up to date.
    pub(super) fn open(dir: &Path, access: Access) -> Result<Self, StoreError> {
        let path = dir.join(super::DATABASE);
        let connection = match connect(&path, access) {
            Ok(connection) => connection,
            Err(cause) if access == Access::Read => {
                frozen(&path).ok_or(error::sql(&path, &cause))?
            }
            Err(cause) => return Err(error::sql(&path, &cause)),
        };
        let mut db = Self { connection, path };
        if db.version()? != KNOWN {
            let _schema = lock::wait(&dir.join("locks").join("schema"), "the schema")?;
            db.migrate()?;
        }
        Ok(db)
    }

    /// Maps an error of this connection.
    pub(super) fn error(&self, error: &rusqlite::Error) -> StoreError {
        error::sql(&self.path, error)
    }

    /// Runs a closure and maps its error.
    pub(super) fn run<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(&self.connection).map_err(|error| self.error(&error))
    }

    fn version(&self) -> Result<i64, StoreError> {
        let (application, found): (i32, i64) = self.run(|connection| {
            connection.query_row(
                "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
        })?;
        if found > KNOWN {
            return Err(StoreError::TooNew {
                found,
                known: KNOWN,
            });
        }
        if found != 0 && application != APPLICATION {
            return Err(StoreError::Broken(format!(
                "{} is a database of another program; move it away",
                self.path.display()
            )));
        }
        Ok(found)
    }

    fn migrate(&mut self) -> Result<(), StoreError> {
        let found = self.version()?;
        if found == KNOWN {
            return Ok(());
        }
        let work = |connection: &mut Connection| -> rusqlite::Result<()> {
            if found == 0 {
                // Only has an effect before the first table.
                connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
                connection.pragma_update(None, "journal_mode", "WAL")?;
            }
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let steps = (1i64..).zip(MIGRATIONS);
            for (version, sql) in steps.filter(|(version, _)| *version > found) {
                transaction.execute_batch(sql)?;
                transaction.execute(
                    "INSERT INTO migration (version, at) VALUES (?1, unixepoch() * 1000)",
                    [version],
                )?;
            }
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", KNOWN)?;
            transaction.commit()
        };
        work(&mut self.connection).map_err(|error| error::sql(&self.path, &error))
    }
}

fn connect(path: &Path, access: Access) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if access == Access::Create {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 8388608;",
    )?;
    // The log is merged into the database when it has grown, not whenever a process ends: each
    // time costs four flushes of the disk, most of what a short command takes on a busy one.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.set_prepared_statement_cache_capacity(32);
    // The first read is what fails where the write-ahead log cannot be opened.
    connection
        .query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()))
        .or_else(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => Ok(()),
            error => Err(error),
        })?;
    Ok(connection)
}

/// A database on a file system that cannot be written, where not even the shared-memory file of
/// the write-ahead log can be made. Nobody else can change it either.
fn frozen(path: &Path) -> Option<Connection> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri, flags).ok()?;
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .ok()?;
    Some(connection)
}
