//! An import: one thread reads, others unpack and compile, one writes what they made into a
//! staging file, from which the file of each family is written in the order of its key.
//!
//! Memory is bounded by the few records on their way, and a number for each record.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, params};

use super::family::{self, FamilyWriter};
use super::source::Source;
use super::zip::Member;
use crate::base::Timestamp;
use crate::ports::advisories::{Broken, ImportError, ImportReport, Imported, Refused};
use crate::scan::Ecosystem;
use crate::scan::osv::{Compiled, Family, LONGEST_RECORD, Record, compile, scheme};

/// Records on their way between two threads. A record may have 16 MiB.
const ON_THE_WAY: usize = 8;
/// Most broken records that are named.
const MOST_NAMED: usize = 100;
/// Most bytes that are unpacked in one import.
const MOST_UNPACKED: u64 = 64 << 30;
/// Most bytes kept of one package.
const MOST_OF_ONE_PACKAGE: usize = 200 << 20;
/// Clocks of other machines may be ahead of ours by this.
const AHEAD: i64 = 24 * 3600 * 1000;

/// A record on its way to a compiling thread.
struct Packed {
    source: usize,
    member: Result<Member, (String, String)>,
}

/// What became of it.
struct Made {
    source: usize,
    name: String,
    /// Bytes unpacked.
    size: u64,
    result: Result<Ready, String>,
}

/// A compiled record, packed for the store.
struct Ready {
    compiled: Compiled,
    notice: Vec<u8>,
    affected: Vec<Vec<u8>>,
}

/// The staging file and what is counted along the way.
struct Staging<'a> {
    connection: Connection,
    sources: &'a [Source],
    now: Timestamp,
    hasher: RandomState,
    /// The number and date of each record, by a hash of its id.
    seen: HashMap<u64, (i64, i64)>,
    /// Numbers of records that a newer one of the same id replaced.
    replaced: HashSet<i64>,
    next: i64,
    unpacked: u64,
    families: BTreeMap<String, Counted>,
    ecosystems: BTreeMap<String, i64>,
    /// For each source: its records that name a family, and how many name which.
    named: Vec<(u64, BTreeMap<String, u64>)>,
    broken: Vec<Broken>,
    broken_count: u64,
    unreadable: u64,
}

/// What is known of a family while it is read.
#[derive(Default)]
struct Counted {
    number: i64,
    withdrawn: u64,
    broken: u64,
    newest: Option<i64>,
}

/// What an import works with.
pub(super) struct Import<'a> {
    pub(super) sources: &'a [Source],
    pub(super) only: &'a [String],
    pub(super) allow_fewer: bool,
    pub(super) now: Timestamp,
    /// The store's directory.
    pub(super) store: &'a Path,
    /// A directory on the same file system, for this import alone.
    pub(super) work: &'a Path,
}

/// Reads all sources and replaces the families they are about.
pub(super) fn run(import: &Import<'_>) -> Result<ImportReport, ImportError> {
    let mut staging = Staging::new(import).map_err(|error| storing(import.work, &error))?;
    read_all(import, &mut staging)?;
    staging.write(import)
}

fn storing(path: &Path, error: &rusqlite::Error) -> ImportError {
    ImportError::Store {
        what: path.display().to_string(),
        why: error.to_string(),
    }
}

fn read_all(import: &Import<'_>, staging: &mut Staging<'_>) -> Result<(), ImportError> {
    let threads = std::thread::available_parallelism()
        .map_or(2, std::num::NonZero::get)
        .clamp(1, 8);
    let (to_compile, packed) = sync_channel::<Packed>(ON_THE_WAY);
    let (to_stage, made) = sync_channel::<Made>(ON_THE_WAY);
    let packed = Arc::new(Mutex::new(packed));
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(import.sources, &to_compile));
        for _ in 0..threads {
            let (packed, to_stage) = (packed.clone(), to_stage.clone());
            scope.spawn(move || compile_all(&packed, &to_stage));
        }
        // Only the threads hold these now, so that the channels end when they do.
        drop((packed, to_stage));
        let staged = stage_all(made, staging);
        let read = reader.join().unwrap_or_else(|_| {
            Err(ImportError::Source {
                what: "the sources".to_owned(),
                why: "reading them failed".to_owned(),
            })
        });
        staged.and(read)
    })
}

fn stage_all(made: Receiver<Made>, staging: &mut Staging<'_>) -> Result<(), ImportError> {
    for one in made {
        staging.add(one)?;
    }
    Ok(())
}

fn read(sources: &[Source], to_compile: &SyncSender<Packed>) -> Result<(), ImportError> {
    for (source, from) in sources.iter().enumerate() {
        let read = from.records(|member| to_compile.send(Packed { source, member }).is_ok());
        read.map_err(|why| ImportError::Source {
            what: from.name.clone(),
            why,
        })?;
    }
    Ok(())
}

fn compile_all(packed: &Mutex<Receiver<Packed>>, to_stage: &SyncSender<Made>) {
    loop {
        let next = packed.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Packed { source, member }) = next else {
            return;
        };
        let made = match member {
            Err((name, why)) => Made {
                source,
                name,
                size: 0,
                result: Err(why),
            },
            Ok(member) => {
                let unpacked = member.unpack(LONGEST_RECORD);
                Made {
                    source,
                    size: unpacked.as_ref().map_or(0, |bytes| bytes.len() as u64),
                    result: unpacked.and_then(|bytes| ready(&bytes)),
                    name: member.name,
                }
            }
        };
        if to_stage.send(made).is_err() {
            return;
        }
    }
}

fn ready(json: &[u8]) -> Result<Ready, String> {
    let compiled = compile(&Record::parse(json)?);
    let fail = |error: serde_json::Error| error.to_string();
    let notice = serde_json::to_vec(&compiled.notice).map_err(fail)?;
    let affected = compiled
        .entries
        .iter()
        .map(|entry| serde_json::to_vec(&entry.affected));
    Ok(Ready {
        notice: family::pack(&notice),
        affected: affected.collect::<Result<_, _>>().map_err(fail)?,
        compiled,
    })
}

impl<'a> Staging<'a> {
    fn new(import: &Import<'a>) -> rusqlite::Result<Self> {
        let connection = Connection::open(import.work.join("staging"))?;
        connection.execute_batch(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA temp_store = FILE; PRAGMA cache_size = -32768;
             BEGIN;
             CREATE TABLE notice (id INTEGER PRIMARY KEY, packed BLOB NOT NULL) STRICT;
             CREATE TABLE affected (
                family INTEGER NOT NULL, ecosystem INTEGER NOT NULL, package TEXT NOT NULL,
                notice INTEGER NOT NULL, json BLOB NOT NULL) STRICT;",
        )?;
        Ok(Self {
            connection,
            sources: import.sources,
            now: import.now,
            hasher: RandomState::new(),
            seen: HashMap::new(),
            replaced: HashSet::new(),
            next: 0,
            unpacked: 0,
            families: BTreeMap::new(),
            ecosystems: BTreeMap::new(),
            named: import
                .sources
                .iter()
                .map(|_| (0, BTreeMap::new()))
                .collect(),
            broken: Vec::new(),
            broken_count: 0,
            unreadable: 0,
        })
    }

    fn add(&mut self, made: Made) -> Result<(), ImportError> {
        self.unpacked = self.unpacked.saturating_add(made.size);
        if self.unpacked > MOST_UNPACKED {
            return Err(ImportError::Source {
                what: self.sources[made.source].name.clone(),
                why: format!("it holds more than {} GiB", MOST_UNPACKED >> 30),
            });
        }
        let ready = match made.result {
            Ok(ready) => ready,
            Err(why) => {
                self.unreadable += 1;
                self.complain(made.name, why);
                return Ok(());
            }
        };
        let compiled = &ready.compiled;
        if !compiled.complaints.is_empty() {
            self.complain(made.name, compiled.complaints.join("; "));
        }
        if !compiled.families.is_empty() {
            let (named, families) = &mut self.named[made.source];
            *named += 1;
            for family in &compiled.families {
                *families.entry(family.clone()).or_default() += 1;
            }
        }
        // A date in the future would make the database look fresh for ever.
        let latest = self.now.0.saturating_add(AHEAD);
        let modified = compiled.modified.filter(|modified| *modified <= latest);
        if let Some((older, date)) = self
            .seen
            .get_mut(&self.hasher.hash_one(&compiled.notice.id))
        {
            let new = modified.unwrap_or(i64::MIN);
            if new <= *date {
                return Ok(());
            }
            self.replaced.insert(*older);
            (*older, *date) = (self.next, new);
        } else {
            let id = self.hasher.hash_one(&compiled.notice.id);
            self.seen
                .insert(id, (self.next, modified.unwrap_or(i64::MIN)));
        }
        for family in &compiled.families {
            let number = i64::try_from(self.families.len()).unwrap_or(i64::MAX);
            let counted = self
                .families
                .entry(family.clone())
                .or_insert_with(|| Counted {
                    number,
                    ..Counted::default()
                });
            counted.newest = counted.newest.max(modified);
            counted.withdrawn += u64::from(compiled.withdrawn);
            counted.broken += u64::from(!compiled.complaints.is_empty());
        }
        self.stage(&ready).map_err(|error| ImportError::Store {
            what: "the staging file".to_owned(),
            why: error.to_string(),
        })
    }

    fn complain(&mut self, name: String, why: String) {
        self.broken_count += 1;
        if self.broken.len() < MOST_NAMED {
            self.broken.push(Broken { name, why });
        }
    }

    fn stage(&mut self, ready: &Ready) -> rusqlite::Result<()> {
        let notice = self.next;
        self.next += 1;
        if ready.compiled.entries.is_empty() {
            return Ok(());
        }
        self.connection
            .prepare_cached("INSERT INTO notice VALUES (?1, ?2)")?
            .execute(params![notice, ready.notice])?;
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO affected VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for (entry, json) in ready.compiled.entries.iter().zip(&ready.affected) {
            let family = self.families.get(entry.ecosystem.family());
            let family = family.map_or(-1, |counted| counted.number);
            let next = i64::try_from(self.ecosystems.len()).unwrap_or(i64::MAX);
            let ecosystem = match self.ecosystems.get(&entry.ecosystem.0) {
                Some(number) => *number,
                None => {
                    self.ecosystems.insert(entry.ecosystem.0.clone(), next);
                    next
                }
            };
            insert.execute(params![family, ecosystem, entry.package, notice, json])?;
        }
        Ok(())
    }

    /// The families that the sources were published for, and those they only touch upon.
    ///
    /// Every record of `npm/all.zip` names npm, and some name others besides: of those it holds
    /// but a few, which must not pass for all there are. A source that no family runs through is
    /// about all that it names.
    fn meant(&self, import: &Import<'_>) -> (HashSet<String>, BTreeMap<String, u64>) {
        let mut meant: HashSet<String> = HashSet::new();
        let mut beside: BTreeMap<String, u64> = BTreeMap::new();
        for (records, families) in &self.named {
            let common: Vec<&String> = families
                .iter()
                .filter(|(_, count)| *count == records)
                .map(|(family, _)| family)
                .collect();
            for (family, count) in families {
                if common.is_empty() || common.contains(&family) {
                    meant.insert(family.clone());
                } else {
                    *beside.entry(family.clone()).or_default() += count;
                }
            }
        }
        if !import.only.is_empty() {
            meant.retain(|family| import.only.contains(family));
        }
        for family in self.families.keys() {
            // Families that nothing here can match are not kept.
            if scheme(family).is_none() && meant.remove(family) {
                let count = self
                    .named
                    .iter()
                    .filter_map(|(_, families)| families.get(family))
                    .sum();
                beside.insert(family.clone(), count);
            }
        }
        beside.retain(|family, _| !meant.contains(family));
        (meant, beside)
    }

    fn write(mut self, import: &Import<'_>) -> Result<ImportReport, ImportError> {
        let (meant, beside) = self.meant(import);
        let failed = |error: &rusqlite::Error| storing(import.work, error);
        self.connection
            .execute_batch("COMMIT")
            .map_err(|error| failed(&error))?;
        let mut report = ImportReport {
            left_out: beside.into_iter().collect(),
            broken: std::mem::take(&mut self.broken),
            broken_count: self.broken_count,
            ..ImportReport::default()
        };
        let mut written = Vec::new();
        for name in self.families.keys().filter(|name| meant.contains(*name)) {
            let family = self.family(import, name).map_err(|error| match error {
                Failed::Sql(error) => failed(&error),
                Failed::TooMuch(package) => ImportError::Source {
                    what: name.clone(),
                    why: format!("there is too much about the package {package}"),
                },
            })?;
            written.push(family);
        }
        if written.is_empty() {
            return Err(nothing(&report, import));
        }
        // Only when all of them are written is the first one moved into place.
        for family in written {
            let place = import.store.join(family::file_name(&family.name));
            // One that cannot be read any more is no reason to keep it.
            let before = family::FamilyReader::open(&place).ok().flatten();
            let before = before.map(|reader| reader.family().records);
            let has = before.unwrap_or(0);
            if family.records.saturating_mul(2) < has && !import.allow_fewer {
                report.refused.push(Refused {
                    family: family.name.clone(),
                    has,
                    offered: family.records,
                });
                continue;
            }
            let from = import.work.join(family::file_name(&family.name));
            move_into_place(&from, &place).map_err(|error| ImportError::Store {
                what: place.display().to_string(),
                why: error.to_string(),
            })?;
            report.imported.push(Imported { family, before });
        }
        Ok(report)
    }

    /// Writes the file of a family into the work directory.
    fn family(&self, import: &Import<'_>, name: &str) -> Result<Family, Failed> {
        let counted = &self.families[name];
        let writer = FamilyWriter::create(&import.work.join(family::file_name(name)))?;
        let mut select = self.connection.prepare_cached(
            "SELECT ecosystem, package, notice, json FROM affected WHERE family = ?1
             ORDER BY ecosystem, package, notice",
        )?;
        let mut rows = select.query([counted.number])?;
        let mut group = Group::default();
        let mut notices: Vec<bool> = vec![false; usize::try_from(self.next).unwrap_or(0)];
        let mut records_of: BTreeMap<i64, HashSet<i64>> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let (ecosystem, notice): (i64, i64) = (row.get(0)?, row.get(2)?);
            if self.replaced.contains(&notice) {
                continue;
            }
            let package = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            if group.ecosystem != ecosystem || group.package != package {
                group.write(&writer)?;
                group = Group::new(ecosystem, package);
            }
            let json = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
            group.add(notice, json)?;
            if let Some(used) = usize::try_from(notice)
                .ok()
                .and_then(|at| notices.get_mut(at))
            {
                *used = true;
            }
            records_of.entry(ecosystem).or_default().insert(notice);
        }
        group.write(&writer)?;
        let mut records = 0;
        let mut packed = self
            .connection
            .prepare_cached("SELECT packed FROM notice WHERE id = ?1")?;
        for (at, _) in notices.iter().enumerate().filter(|(_, used)| **used) {
            let number = i64::try_from(at).unwrap_or(i64::MAX);
            packed.query_row([number], |row| {
                writer.notice(number, row.get_ref(0)?.as_blob()?)
            })?;
            records += 1;
        }
        let mut ecosystems: Vec<(Ecosystem, u64)> = Vec::new();
        let mut numbers = Vec::new();
        for (ecosystem, number) in &self.ecosystems {
            if let Some(records) = records_of.get(number) {
                ecosystems.push((Ecosystem(ecosystem.clone()), records.len() as u64));
                numbers.push(*number);
            }
        }
        let sources = self.named.iter().zip(self.sources);
        let sources = sources.filter(|((_, families), _)| families.contains_key(name));
        let sources: Vec<&Source> = sources.map(|(_, source)| source).collect();
        let names: Vec<&str> = sources
            .iter()
            .take(3)
            .map(|source| source.name.as_str())
            .collect();
        let family = Family {
            name: name.to_owned(),
            ecosystems,
            records,
            withdrawn: counted.withdrawn,
            broken: counted.broken + self.unreadable,
            newest: counted.newest.map(Timestamp),
            published: sources
                .iter()
                .map(|source| source.published)
                .min()
                .flatten(),
            imported: self.now,
            source: names.join(", "),
        };
        writer.finish(&family, &numbers)?;
        Ok(family)
    }
}

/// Why the file of a family could not be written.
enum Failed {
    Sql(rusqlite::Error),
    TooMuch(String),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

/// What is known of one package, as it is gathered.
#[derive(Default)]
struct Group {
    ecosystem: i64,
    package: String,
    json: Vec<u8>,
}

impl Group {
    fn new(ecosystem: i64, package: &str) -> Self {
        Self {
            ecosystem,
            package: package.to_owned(),
            json: Vec::new(),
        }
    }

    /// Adds `[notice, affected]` to a list that stays open.
    fn add(&mut self, notice: i64, affected: &[u8]) -> Result<(), Failed> {
        if self.json.len() + affected.len() > MOST_OF_ONE_PACKAGE {
            return Err(Failed::TooMuch(self.package.clone()));
        }
        let mark = if self.json.is_empty() { '[' } else { ',' };
        self.json
            .extend_from_slice(format!("{mark}[{notice},").as_bytes());
        self.json.extend_from_slice(affected);
        self.json.push(b']');
        Ok(())
    }

    fn write(&mut self, writer: &FamilyWriter) -> rusqlite::Result<()> {
        if self.json.is_empty() {
            return Ok(());
        }
        self.json.push(b']');
        writer.affected(self.ecosystem, &self.package, &self.json)
    }
}

fn nothing(report: &ImportReport, import: &Import<'_>) -> ImportError {
    let names: Vec<&str> = import
        .sources
        .iter()
        .map(|source| source.name.as_str())
        .collect();
    let mut why = "no advisories that can be matched".to_owned();
    if !import.only.is_empty() {
        why = format!("no advisories of {}", import.only.join(", "));
    }
    if let Some(broken) = report.broken.first() {
        why = format!(
            "{why}; {} records are broken, the first is {}: {}",
            report.broken_count, broken.name, broken.why
        );
    }
    ImportError::Source {
        what: names.join(", "),
        why,
    }
}

/// Makes a file durable and gives it its name in one step.
fn move_into_place(from: &Path, place: &Path) -> std::io::Result<()> {
    std::fs::File::open(from)?.sync_all()?;
    std::fs::rename(from, place)?;
    match place.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
