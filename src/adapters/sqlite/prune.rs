//! Retention: forgets old runs with their events, logs and blobs.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rusqlite::{Connection, params};

use super::read::run_id;
use super::{SqliteStore, error, lock};
use crate::base::{RunId, Timestamp};
use crate::ports::store::{LAST_SUCCESS, Pruned, Retention, StoreError};

/// A blob that was put so recently may belong to a run that is just being created, in seconds.
const YOUNG: i64 = 24 * 3600;

/// A run as far as retention is concerned.
struct Old {
    id: i64,
    run: RunId,
    created: Timestamp,
    bytes: u64,
    keep: bool,
}

impl SqliteStore {
    /// Forgets what a policy does not keep, oldest runs first.
    pub fn prune(&self, policy: &Retention) -> Result<Pruned, StoreError> {
        let logs = self.logs();
        let old = self.reading(|connection| candidates(connection, policy, &logs))?;
        let mut count = old.len();
        let mut total: u64 = old.iter().map(|run| run.bytes).sum();
        let mut pruned = Pruned::default();
        for run in old {
            let too_old = policy.before.is_some_and(|before| run.created < before);
            let too_many = policy.runs.is_some_and(|most| count > most);
            let too_large = policy.bytes.is_some_and(|most| total > most);
            if run.keep || !(too_old || too_many || too_large) {
                continue;
            }
            // Held while it goes, so that nobody resumes it in between.
            let Ok(_hold) = lock::hold_run(&self.locks(), &run.run) else {
                continue;
            };
            if policy.dry || self.forget(&run)? {
                count -= 1;
                total -= run.bytes;
                pruned.bytes += run.bytes;
                pruned.runs.push(run.run);
            }
        }
        if !policy.dry {
            pruned.bytes += self.sweep()?;
        }
        Ok(pruned)
    }

    /// Deletes one run unless it was reopened since it was looked at.
    fn forget(&self, old: &Old) -> Result<bool, StoreError> {
        let deleted = self.writing(|db| {
            db.run(|connection| {
                let transaction = connection.unchecked_transaction()?;
                let deleted = transaction.execute(
                    "DELETE FROM run WHERE id = ?1 AND outcome IS NOT NULL",
                    params![old.id],
                )?;
                if deleted == 1 {
                    transaction.execute("DELETE FROM event WHERE run = ?1", params![old.id])?;
                }
                transaction.commit()?;
                Ok(deleted == 1)
            })
        })?;
        if deleted {
            remove_dir(&self.logs().join(old.run.as_str()))?;
        }
        Ok(deleted)
    }

    /// Removes blobs nothing mentions any more and logs of runs that are gone, and gives the
    /// space back.
    fn sweep(&self) -> Result<u64, StoreError> {
        let freed = self.writing(|db| db.run(sweep_blobs))?;
        let logs = self.logs();
        for name in names(&logs)? {
            let Ok(run) = name.parse::<RunId>() else {
                continue;
            };
            let known = self.reading(|connection| {
                connection
                    .prepare_cached("SELECT 1 FROM run WHERE name = ?1")?
                    .exists(params![run.as_str()])
            })?;
            // Whoever is about to create a run holds it.
            if !known && lock::hold_run(&self.locks(), &run).is_ok() {
                remove_dir(&logs.join(name))?;
            }
        }
        Ok(freed)
    }
}

/// Every run, oldest first, with what must stay marked.
fn candidates(
    connection: &Connection,
    policy: &Retention,
    logs: &Path,
) -> rusqlite::Result<Vec<Old>> {
    let mut statement = connection.prepare(
        "SELECT id, name, pipeline, created, outcome, upstream, root, reference,
            (SELECT coalesce(sum(length(json) + 16), 0) FROM event WHERE event.run = run.id)
         FROM run ORDER BY id DESC",
    )?;
    let mut rows = statement.query([])?;
    let mut branches = branches(connection)?;
    let mut successes: HashMap<String, usize> = HashMap::new();
    let mut needed: HashSet<String> = HashSet::new();
    let mut old = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(1)?;
        let outcome: Option<String> = row.get(4)?;
        let unfinished = outcome.is_none();
        if unfinished {
            needed.extend(row.get::<_, Option<String>>(5)?);
            needed.insert(row.get(6)?);
        }
        let mut keep = unfinished || needed.contains(&name);
        if matches!(outcome.as_deref(), Some("succeeded" | "up-to-date")) {
            let seen = successes.entry(row.get(2)?).or_default();
            *seen += 1;
            keep |= *seen <= policy.successes;
            // What is compared with, where a branch is worked on.
            let place = format!("{} {}", row.get::<_, String>(2)?, row.get::<_, String>(7)?);
            keep |= policy.successes > 0 && branches.remove(&place);
        }
        let bytes = row.get::<_, i64>(8)?.unsigned_abs() + size_of(&logs.join(&name));
        old.push(Old {
            id: row.get(0)?,
            run: run_id(1, &name)?,
            created: Timestamp(row.get(3)?),
            bytes,
            keep,
        });
    }
    old.reverse();
    Ok(old)
}

/// Pipelines and branches that had a success: `pipeline branch`.
fn branches(connection: &Connection) -> rusqlite::Result<HashSet<String>> {
    connection
        .prepare("SELECT key FROM fact WHERE scope = ?1")?
        .query_map(params![LAST_SUCCESS], |row| row.get(0))?
        .collect()
}

/// Deletes blobs whose digest stands in no event and no fact; returns their bytes.
fn sweep_blobs(connection: &Connection) -> rusqlite::Result<u64> {
    let transaction = connection.unchecked_transaction()?;
    let mut blobs: HashMap<String, (i64, i64)> = transaction
        .prepare("SELECT digest, id, length(packed) FROM blob WHERE put_at < unixepoch() - ?1")?
        .query_map(params![YOUNG], |row| {
            Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))
        })?
        .collect::<rusqlite::Result<_>>()?;
    if !blobs.is_empty() {
        for sql in ["SELECT json FROM event", "SELECT value FROM fact"] {
            let mut statement = transaction.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let text = row.get_ref(0)?.as_str()?;
                for digest in digests(text) {
                    blobs.remove(digest);
                }
            }
        }
    }
    let mut freed = 0;
    for (id, bytes) in blobs.into_values() {
        transaction.execute("DELETE FROM blob WHERE id = ?1", params![id])?;
        freed += bytes.unsigned_abs();
    }
    transaction.commit()?;
    // Every step of the pragma frees a page and is a row.
    let mut statement = connection.prepare("PRAGMA incremental_vacuum")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(freed)
}

/// Every run of 64 hexadecimal digits in a text.
fn digests(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !matches!(c, '0'..='9' | 'a'..='f'))
        .filter(|part| part.len() == 64)
}

/// Names in a directory; none if it is not there.
fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(cause) => Err(error::io(dir, &cause)),
    }
}

fn remove_dir(dir: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(dir) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => Err(error::io(dir, &cause)),
        _ => Ok(()),
    }
}

/// Bytes of the files in a directory.
fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}
