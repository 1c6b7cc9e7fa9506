//! The writing half of the store: one transaction for each call.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::db::Db;
use super::read::clamped;
use crate::base::{Digest, RunId};
use crate::ports::store::{Change, NewEvent, RunRow, StoreError};

/// Largest blob that is kept, in bytes.
pub(super) const LARGEST_BLOB: usize = 256 << 20;

/// What keeps a write from happening.
enum Refused {
    Sql(rusqlite::Error),
    Rule(String),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// Appends events and makes changes, all or nothing.
pub(super) fn append(
    db: &mut Db,
    events: &[NewEvent],
    changes: &[Change],
) -> Result<Vec<u64>, StoreError> {
    transact(db, |connection| {
        // Changes first: a run's first event comes with its creation.
        for change in changes {
            make(connection, change)?;
        }
        insert(connection, events)
    })
}

/// Keeps bytes under their digest, once.
pub(super) fn put_blob(db: &mut Db, bytes: &[u8]) -> Result<String, StoreError> {
    if bytes.len() > LARGEST_BLOB {
        return Err(StoreError::Broken(format!(
            "a blob of {} bytes is larger than the {LARGEST_BLOB} that are kept",
            bytes.len()
        )));
    }
    let digest = Digest::of(bytes);
    let digest = digest.hex();
    transact(db, |connection| {
        // Touched, so that a prune in another process keeps it until its run is recorded.
        let known = connection
            .prepare_cached("UPDATE blob SET put_at = unixepoch() WHERE digest = ?1")?
            .execute(params![digest])?;
        if known == 0 {
            let packed = zstd::bulk::compress(bytes, 3)
                .map_err(|error| Refused::Rule(format!("cannot compress a blob: {error}")))?;
            connection
                .prepare_cached(
                    "INSERT INTO blob (digest, size, put_at, packed)
                     VALUES (?1, ?2, unixepoch(), ?3)",
                )?
                .execute(params![digest, clamped(bytes.len()), packed])?;
        }
        Ok(())
    })?;
    Ok(digest.to_owned())
}

/// Notes who wants a run to be cancelled; the first one counts.
pub(super) fn request_cancel(db: &mut Db, run: &RunId, by: &str) -> Result<(), StoreError> {
    transact(db, |connection| {
        let changed = connection.execute(
            "UPDATE run SET cancelled_by = coalesce(cancelled_by, ?2) WHERE name = ?1",
            params![run.as_str(), by],
        )?;
        expect_one(changed, run)
    })
}

/// Runs a closure in a transaction that is rolled back if anything goes wrong.
fn transact<T>(
    db: &mut Db,
    work: impl FnOnce(&Connection) -> Result<T, Refused>,
) -> Result<T, StoreError> {
    let attempt = |connection: &mut Connection| -> Result<T, Refused> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        transaction.commit()?;
        Ok(result)
    };
    attempt(&mut db.connection).map_err(|refused| match refused {
        Refused::Sql(error) => db.error(&error),
        Refused::Rule(message) => StoreError::Broken(message),
    })
}

fn make(connection: &Connection, change: &Change) -> Result<(), Refused> {
    match change {
        Change::CreateRun(row) => create_run(connection, row),
        Change::FinishRun { run, at, outcome } => {
            let changed = connection
                .prepare_cached("UPDATE run SET finished = ?2, outcome = ?3 WHERE name = ?1")?
                .execute(params![run.as_str(), at.0, outcome])?;
            expect_one(changed, run)
        }
        Change::ReopenRun(run) => {
            let changed = connection
                .prepare_cached(
                    "UPDATE run SET finished = NULL, outcome = NULL, cancelled_by = NULL
                     WHERE name = ?1",
                )?
                .execute(params![run.as_str()])?;
            expect_one(changed, run)
        }
        Change::SetFact { scope, key, value } => {
            connection
                .prepare_cached(
                    "INSERT INTO fact (scope, key, value) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET value = excluded.value",
                )?
                .execute(params![scope, key, value])?;
            Ok(())
        }
    }
}

fn create_run(connection: &Connection, row: &RunRow) -> Result<(), Refused> {
    let created = connection
        .prepare_cached(
            "INSERT INTO run (name, pipeline, created, finished, outcome, sha, reference, upstream, root)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (name) DO NOTHING",
        )?
        .execute(params![
            row.run.as_str(),
            row.pipeline,
            row.created.0,
            row.finished.map(|at| at.0),
            row.outcome,
            row.sha,
            row.reference,
            row.upstream.as_ref().map(RunId::as_str),
            row.root.as_str(),
        ])?;
    if created == 1 {
        Ok(())
    } else {
        Err(Refused::Rule(format!("run {} already exists", row.run)))
    }
}

fn insert(connection: &Connection, events: &[NewEvent]) -> Result<Vec<u64>, Refused> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let last: i64 = connection
        .prepare_cached("UPDATE counter SET value = value + ?1 WHERE name = 'seq' RETURNING value")?
        .query_row(params![clamped(events.len())], |row| row.get(0))?;
    let first = last - clamped(events.len()) + 1;
    let mut find = connection.prepare_cached("SELECT id FROM run WHERE name = ?1")?;
    let mut add = connection
        .prepare_cached("INSERT INTO event (run, seq, at, json) VALUES (?1, ?2, ?3, ?4)")?;
    let mut runs: HashMap<&RunId, i64> = HashMap::new();
    for (seq, event) in (first..).zip(events) {
        let id = match runs.get(&event.run) {
            Some(id) => *id,
            None => {
                let id = find
                    .query_row(params![event.run.as_str()], |row| row.get(0))
                    .optional()?
                    .ok_or_else(|| unknown(&event.run))?;
                runs.insert(&event.run, id);
                id
            }
        };
        add.execute(params![id, seq, event.at.0, event.json])?;
    }
    Ok((first..=last).map(i64::unsigned_abs).collect())
}

fn expect_one(changed: usize, run: &RunId) -> Result<(), Refused> {
    if changed == 1 {
        Ok(())
    } else {
        Err(unknown(run))
    }
}

fn unknown(run: &RunId) -> Refused {
    Refused::Rule(format!("there is no run {run}"))
}
