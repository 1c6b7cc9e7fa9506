//! The file of one family: SQLite, written once under another name, then moved into its place
//! and never changed. So readers need no lock, a crash leaves the old file, and a store on a file
//! system that cannot be written works.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use crate::base::Timestamp;
use crate::scan::Ecosystem;
use crate::scan::osv::{Affected, Family, Notice, ReadError};

/// Ends the names of files of families.
pub(super) const EXTENSION: &str = "advisories";
/// Marks the file as ours: "PWad".
const APPLICATION: i32 = 0x5057_6164;
/// Version of what is in it. Another version is imported again, not converted.
const FORMAT: i32 = 1;
/// Longest unpacked value that is believed.
const LONGEST_VALUE: usize = 256 << 20;

/// Values shorter than this are not worth packing.
const WORTH_PACKING: usize = 512;

/// The file name of a family. Names come from outside, so anything odd is written as a number.
pub(super) fn file_name(family: &str) -> String {
    let mut name = String::new();
    for (at, byte) in family.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            b'.' if at > 0 => name.push('.'),
            b' ' => name.push('+'),
            other => name.push_str(&format!("%{other:02X}")),
        }
    }
    format!("{name}.{EXTENSION}")
}

/// Packs a value: a byte that says how, then the bytes.
pub(super) fn pack(bytes: &[u8]) -> Vec<u8> {
    if bytes.len() >= WORTH_PACKING
        && let Ok(packed) = zstd::bulk::compress(bytes, 3)
        && packed.len() < bytes.len()
    {
        return [&[1_u8], packed.as_slice()].concat();
    }
    [&[0_u8], bytes].concat()
}

fn unpack(bytes: &[u8]) -> Option<Vec<u8>> {
    let (how, bytes) = bytes.split_first()?;
    match how {
        0 => Some(bytes.to_vec()),
        1 => {
            use std::io::Read as _;
            let mut unpacked = Vec::new();
            let decoder = zstd::Decoder::new(bytes).ok()?;
            let limit = LONGEST_VALUE as u64 + 1;
            decoder.take(limit).read_to_end(&mut unpacked).ok()?;
            (unpacked.len() <= LONGEST_VALUE).then_some(unpacked)
        }
        _ => None,
    }
}

/// A file that is being written.
pub(super) struct FamilyWriter {
    connection: Connection,
}

impl FamilyWriter {
    pub(super) fn create(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        // Nobody sees the file before it is whole, so nothing needs to survive a crash.
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {FORMAT};
             BEGIN;
             CREATE TABLE family (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;"
        ))?;
        connection.execute_batch(
            "CREATE TABLE ecosystem (
                id INTEGER PRIMARY KEY, name TEXT NOT NULL, records INTEGER NOT NULL) STRICT;
             CREATE TABLE affected (
                ecosystem INTEGER NOT NULL, package TEXT NOT NULL, packed BLOB NOT NULL,
                PRIMARY KEY (ecosystem, package)) STRICT, WITHOUT ROWID;
             CREATE TABLE notice (id INTEGER PRIMARY KEY, packed BLOB NOT NULL) STRICT;",
        )?;
        Ok(Self { connection })
    }

    /// Adds a package; best in the order of the key.
    pub(super) fn affected(
        &self,
        ecosystem: i64,
        package: &str,
        json: &[u8],
    ) -> rusqlite::Result<()> {
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO affected VALUES (?1, ?2, ?3)")?;
        insert.execute(params![ecosystem, package, pack(json)])?;
        Ok(())
    }

    /// Adds a notice, packed already.
    pub(super) fn notice(&self, number: i64, packed: &[u8]) -> rusqlite::Result<()> {
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO notice VALUES (?1, ?2)")?;
        insert.execute(params![number, packed])?;
        Ok(())
    }

    /// Writes what the family is and closes the file.
    pub(super) fn finish(self, family: &Family, numbers: &[i64]) -> rusqlite::Result<()> {
        for ((name, records), number) in family.ecosystems.iter().zip(numbers) {
            self.connection.execute(
                "INSERT INTO ecosystem VALUES (?1, ?2, ?3)",
                params![number, name.0, i64::try_from(*records).unwrap_or(i64::MAX)],
            )?;
        }
        let texts = [("name", &family.name), ("source", &family.source)];
        for (key, value) in texts {
            let sql = "INSERT INTO family VALUES (?1, ?2)";
            self.connection.execute(sql, params![key, value])?;
        }
        let count = |number: u64| Some(i64::try_from(number).unwrap_or(i64::MAX));
        for (key, value) in [
            ("records", count(family.records)),
            ("withdrawn", count(family.withdrawn)),
            ("broken", count(family.broken)),
            ("newest", family.newest.map(|time| time.0)),
            ("published", family.published.map(|time| time.0)),
            ("imported", Some(family.imported.0)),
        ] {
            let sql = "INSERT INTO family VALUES (?1, ?2)";
            self.connection.execute(sql, params![key, value])?;
        }
        self.connection.execute_batch("COMMIT")?;
        self.connection.close().map_err(|(_, error)| error)
    }
}

/// A file that is read.
pub(super) struct FamilyReader {
    connection: Connection,
    path: PathBuf,
    family: Family,
    numbers: Vec<i64>,
}

impl FamilyReader {
    /// Opens a file; nothing if it is not there.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, ReadError> {
        if !path.exists() {
            return Ok(None);
        }
        let reader = open(path).and_then(|connection| Self::read(connection, path));
        reader
            .map(Some)
            .map_err(|error| broken(path, &error.to_string()))
    }

    fn read(connection: Connection, path: &Path) -> rusqlite::Result<Self> {
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
        let is_ours = number("PRAGMA application_id")? == APPLICATION;
        if !is_ours || number("PRAGMA user_version")? != FORMAT {
            return Err(rusqlite::Error::InvalidQuery);
        }
        let text = |key: &str| -> rusqlite::Result<String> {
            let sql = "SELECT value FROM family WHERE key = ?1";
            connection.query_row(sql, [key], |row| row.get(0))
        };
        let integer = |key: &str| -> rusqlite::Result<Option<i64>> {
            let sql = "SELECT value FROM family WHERE key = ?1";
            connection.query_row(sql, [key], |row| row.get(0))
        };
        let count = |key: &str| -> rusqlite::Result<u64> {
            Ok(integer(key)?
                .and_then(|number| u64::try_from(number).ok())
                .unwrap_or(0))
        };
        let mut family = Family {
            name: text("name")?,
            ecosystems: Vec::new(),
            records: count("records")?,
            withdrawn: count("withdrawn")?,
            broken: count("broken")?,
            newest: integer("newest")?.map(Timestamp),
            published: integer("published")?.map(Timestamp),
            imported: Timestamp(integer("imported")?.unwrap_or(0)),
            source: text("source")?,
        };
        let mut numbers = Vec::new();
        {
            let mut all =
                connection.prepare("SELECT id, name, records FROM ecosystem ORDER BY name")?;
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                let records: i64 = row.get(2)?;
                numbers.push(row.get(0)?);
                let records = u64::try_from(records).unwrap_or(0);
                family.ecosystems.push((Ecosystem(row.get(1)?), records));
            }
        }
        Ok(Self {
            connection,
            path: path.to_owned(),
            family,
            numbers,
        })
    }

    pub(super) fn family(&self) -> &Family {
        &self.family
    }

    /// What is known of a package.
    pub(super) fn affected(
        &self,
        ecosystem: &Ecosystem,
        package: &str,
    ) -> Result<Vec<Affected>, ReadError> {
        let at = self
            .family
            .ecosystems
            .iter()
            .position(|(name, _)| name == ecosystem);
        let Some(number) = at.map(|at| self.numbers[at]) else {
            return Ok(Vec::new());
        };
        let packed = self.value(
            "SELECT packed FROM affected WHERE ecosystem = ?1 AND package = ?2",
            params![number, package],
        )?;
        let Some(json) = packed else {
            return Ok(Vec::new());
        };
        let all: Vec<(u64, Affected)> = self.decode(&json)?;
        let numbered = all
            .into_iter()
            .map(|(notice, affected)| Affected { notice, ..affected });
        Ok(numbered.collect())
    }

    /// A notice by its number.
    pub(super) fn notice(&self, number: u64) -> Result<Notice, ReadError> {
        let number = i64::try_from(number).unwrap_or(-1);
        let json = self.value("SELECT packed FROM notice WHERE id = ?1", params![number])?;
        let json = json.ok_or_else(|| broken(&self.path, "an advisory is missing"))?;
        self.decode(&json)
    }

    fn value(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let packed: Option<Vec<u8>> = self
            .connection
            .prepare_cached(sql)
            .and_then(|mut select| select.query_row(params, |row| row.get(0)).optional())
            .map_err(|error| broken(&self.path, &error.to_string()))?;
        packed
            .map(|packed| unpack(&packed).ok_or_else(|| broken(&self.path, "a value is garbled")))
            .transpose()
    }

    fn decode<T: serde::de::DeserializeOwned>(&self, json: &[u8]) -> Result<T, ReadError> {
        serde_json::from_slice(json).map_err(|error| broken(&self.path, &error.to_string()))
    }
}

/// Opens a file that nobody writes: without locks, also where locks cannot be had.
fn open(path: &Path) -> rusqlite::Result<Connection> {
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
    Connection::open_with_flags(uri, flags)
}

fn broken(path: &Path, why: &str) -> ReadError {
    ReadError(format!(
        "the advisory database {} is broken or of another version of pipewright ({why}); import it again",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_families_lead_nowhere() {
        assert_eq!(file_name("crates.io"), "crates.io.advisories");
        assert_eq!(file_name("Red Hat"), "Red+Hat.advisories");
        assert_eq!(file_name("../../etc/x"), "%2E.%2F..%2Fetc%2Fx.advisories");
    }

    #[test]
    fn values_are_packed_and_unpacked() {
        for value in [Vec::new(), b"short".to_vec(), vec![7; 100_000]] {
            let packed = pack(&value);
            assert!(packed.len() <= value.len() + 1 && (value.len() < 1000 || packed.len() < 1000));
            assert_eq!(unpack(&packed), Some(value));
        }
        assert_eq!(unpack(b""), None);
        assert_eq!(unpack(b"\x01garbage"), None);
        assert_eq!(unpack(b"\x02"), None);
    }
}
