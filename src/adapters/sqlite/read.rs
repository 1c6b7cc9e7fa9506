//! The reading half of the store.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{SqliteStore, lock, log_reader, write};
use crate::base::{Digest, RunId, Timestamp};
use crate::ports::store::{RunRow, StoreError, StoreReader, StoredEvent};

/// Most rows [`StoreReader::runs_ending`] returns.
const ENDING: usize = 10;

const COLUMNS: &str = "name, pipeline, created, finished, outcome, sha, reference, upstream, root";

impl StoreReader for SqliteStore {
    fn events(
        &self,
        run: &RunId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.reading(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT seq, at, json FROM event
                 WHERE run = (SELECT id FROM run WHERE name = ?1) AND seq > ?2
                 ORDER BY seq LIMIT ?3",
            )?;
            let rows = statement.query_map(
                params![run.as_str(), clamped(after), clamped(limit)],
                |row| {
                    Ok(StoredEvent {
                        seq: row.get::<_, i64>(0)?.unsigned_abs(),
                        at: Timestamp(row.get(1)?),
                        run: run.clone(),
                        json: row.get(2)?,
                    })
                },
            )?;
            rows.collect()
        })
    }

    fn runs(&self, pipeline: Option<&str>, limit: usize) -> Result<Vec<RunRow>, StoreError> {
        let limit = clamped(limit);
        match pipeline {
            Some(pipeline) => self.rows(
                "WHERE pipeline = ?1 ORDER BY id DESC LIMIT ?2",
                params![pipeline, limit],
            ),
            None => self.rows("ORDER BY id DESC LIMIT ?1", params![limit]),
        }
    }

    fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError> {
        Ok(self.rows("WHERE name = ?1", params![run.as_str()])?.pop())
    }

    fn runs_ending(&self, suffix: &str) -> Result<Vec<RunRow>, StoreError> {
        self.rows(
            "WHERE substr(name, max(1, length(name) - length(?1) + 1)) = ?1
             ORDER BY id DESC LIMIT ?2",
            params![suffix, clamped(ENDING)],
        )
    }

    fn chained(&self, upstream: &RunId) -> Result<Vec<RunRow>, StoreError> {
        self.rows(
            "WHERE upstream = ?1 ORDER BY id",
            params![upstream.as_str()],
        )
    }

    fn unfinished(&self) -> Result<Vec<RunRow>, StoreError> {
        self.rows("WHERE outcome IS NULL ORDER BY id", params![])
    }

    fn fact(&self, scope: &str, key: &str) -> Result<Option<String>, StoreError> {
        self.reading(|connection| {
            connection
                .prepare_cached("SELECT value FROM fact WHERE scope = ?1 AND key = ?2")?
                .query_row(params![scope, key], |row| row.get(0))
                .optional()
        })
    }

    fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row: Option<(i64, Vec<u8>)> = self.reading(|connection| {
            connection
                .prepare_cached("SELECT size, packed FROM blob WHERE digest = ?1")?
                .query_row(params![digest], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })?;
        let Some((size, packed)) = row else {
            return Ok(None);
        };
        let capacity = usize::try_from(size).unwrap_or(0).min(write::LARGEST_BLOB);
        match zstd::bulk::decompress(&packed, capacity) {
            Ok(bytes) if Digest::of(&bytes).hex() == digest => Ok(Some(bytes)),
            _ => Err(StoreError::Broken(format!(
                "blob {digest} is damaged; start a new run instead of resuming"
            ))),
        }
    }

    fn is_held(&self, run: &RunId) -> Result<bool, StoreError> {
        lock::is_held(&self.locks(), run)
    }

    fn log(
        &self,
        run: &RunId,
        stage_file: &str,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<u8>, StoreError> {
        log_reader::read(&self.log_path(run, stage_file)?, offset, limit)
    }
}

impl SqliteStore {
    fn rows(&self, rest: &str, values: impl rusqlite::Params) -> Result<Vec<RunRow>, StoreError> {
        self.reading(|connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT {COLUMNS} FROM run {rest}"))?;
            statement.query_map(values, run_row)?.collect()
        })
    }
}

/// Who asked for a run to be cancelled.
pub(super) fn cancelled_by(
    connection: &Connection,
    run: &RunId,
) -> rusqlite::Result<Option<String>> {
    let found: Option<Option<String>> = connection
        .prepare_cached("SELECT cancelled_by FROM run WHERE name = ?1")?
        .query_row(params![run.as_str()], |row| row.get(0))
        .optional()?;
    Ok(found.flatten())
}

fn run_row(row: &Row<'_>) -> rusqlite::Result<RunRow> {
    let upstream: Option<String> = row.get(7)?;
    Ok(RunRow {
        run: run_id(0, &row.get::<_, String>(0)?)?,
        pipeline: row.get(1)?,
        created: Timestamp(row.get(2)?),
        finished: row.get::<_, Option<i64>>(3)?.map(Timestamp),
        outcome: row.get(4)?,
        sha: row.get(5)?,
        reference: row.get(6)?,
        upstream: upstream.map(|text| run_id(7, &text)).transpose()?,
        root: run_id(8, &row.get::<_, String>(8)?)?,
    })
}

/// The id of a run as it stands in a column.
pub(super) fn run_id(column: usize, text: &str) -> rusqlite::Result<RunId> {
    text.parse().map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
    })
}

/// A number as SQLite holds it.
pub(super) fn clamped(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
