//! The local database of advisories: a directory with one file for each family.
//!
//! Why one file for each, and why SQLite: `docs/design/0009-advisories-in-a-file-each.md`.

mod download;
mod family;
mod import;
mod source;
mod zip;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustix::fs::{FlockOperation, flock};

use crate::adapters::http::Http;
use crate::base::Timestamp;
use crate::ports::advisories::{
    AdvisoryReader, AdvisoryWriter, Family, ImportError, ImportReport, ImportRequest, ImportSource,
    ReadError,
};
use crate::scan::Ecosystem;
use crate::scan::osv::{Affected, Notice};
use family::FamilyReader;

/// Names the directory of the database.
pub const VARIABLE: &str = "PIPEWRIGHT_ADVISORIES";
/// How long another import is waited for.
const PATIENCE: Duration = Duration::from_secs(600);
/// Begins the names of directories that imports work in.
const WORK: &str = ".import-";

/// The database in a directory, which need not exist.
#[derive(Clone)]
pub struct AdvisoryStore {
    directory: PathBuf,
    http: Http,
    /// Files that were opened. What is open stays as it is, also if an import replaces it.
    open: Arc<Mutex<BTreeMap<String, Option<FamilyReader>>>>,
    now: fn() -> Timestamp,
}

/// Where the database of this user is: where `PIPEWRIGHT_ADVISORIES` says, or in the user's
/// directory for data. Nothing if the environment names no home.
pub fn default_directory(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(directory) = set(VARIABLE) {
        return Some(directory);
    }
    let data = set("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let data = data.or_else(|| Some(set("HOME")?.join(".local/share")))?;
    Some(data.join("pipewright/advisories"))
}

impl AdvisoryStore {
    /// The database in a directory.
    pub fn new(directory: PathBuf, http: Http, now: fn() -> Timestamp) -> Self {
        Self {
            directory,
            http,
            open: Arc::default(),
            now,
        }
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn with<T>(
        &self,
        family: &str,
        read: impl FnOnce(&FamilyReader) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.contains_key(family) {
            let path = self.directory.join(family::file_name(family));
            open.insert(family.to_owned(), FamilyReader::open(&path)?);
        }
        match open.get(family) {
            Some(Some(reader)) => read(reader).map(Some),
            _ => Ok(None),
        }
    }
}

impl AdvisoryReader for AdvisoryStore {
    fn families(&self) -> Result<Vec<Family>, ReadError> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                let place = self.directory.display();
                return Err(ReadError(format!("cannot read {place}: {error}")));
            }
        };
        let mut families = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            if path
                .extension()
                .is_some_and(|ending| ending == family::EXTENSION)
                && let Some(reader) = FamilyReader::open(&path)?
            {
                families.push(reader.family().clone());
            }
        }
        families.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(families)
    }

    fn family(&self, name: &str) -> Result<Option<Family>, ReadError> {
        self.with(name, |reader| Ok(reader.family().clone()))
    }

    fn affected(&self, ecosystem: &Ecosystem, package: &str) -> Result<Vec<Affected>, ReadError> {
        let found = self.with(ecosystem.family(), |reader| {
            reader.affected(ecosystem, package)
        })?;
        Ok(found.unwrap_or_default())
    }

    fn notice(&self, family: &str, number: u64) -> Result<Notice, ReadError> {
        let found = self.with(family, |reader| reader.notice(number))?;
        found.ok_or_else(|| ReadError(format!("the advisories of {family} are gone")))
    }
}

#[async_trait]
impl AdvisoryWriter for AdvisoryStore {
    async fn import(&self, request: ImportRequest) -> Result<ImportReport, ImportError> {
        let store = |error: io::Error| ImportError::Store {
            what: self.directory.display().to_string(),
            why: error.to_string(),
        };
        let mut create = DirBuilder::new();
        create
            .recursive(true)
            .mode(0o755)
            .create(&self.directory)
            .map_err(store)?;
        let directory = self.directory.clone();
        let lock = tokio::task::spawn_blocking(move || lock(&directory)).await;
        let lock = lock.map_err(|error| store(io::Error::other(error)))??;
        sweep(&self.directory);
        let work = tempfile::Builder::new()
            .prefix(WORK)
            .tempdir_in(&self.directory)
            .map_err(store)?;
        let mut sources = Vec::new();
        for (at, from) in request.sources.iter().enumerate() {
            let (name, path, published) = match from {
                ImportSource::Path(path) => (path.display().to_string(), path.clone(), None),
                ImportSource::Url(address) => {
                    let path = work.path().join(format!("download-{at}"));
                    let published = download::fetch(&self.http, address, &path).await;
                    let name = without_login(address);
                    let fail = |why| ImportError::Source {
                        what: name.clone(),
                        why,
                    };
                    (name.clone(), path, published.map_err(fail)?)
                }
            };
            let fail = |why| ImportError::Source {
                what: name.clone(),
                why,
            };
            let mut found = source::find(&path, &name).map_err(fail)?;
            for source in &mut found {
                source.published = published;
            }
            sources.extend(found);
        }
        let (directory, now) = (self.directory.clone(), (self.now)());
        let importing = tokio::task::spawn_blocking(move || {
            let report = import::run(&import::Import {
                sources: &sources,
                only: &request.only,
                allow_fewer: request.allow_fewer,
                now,
                store: &directory,
                work: work.path(),
            });
            // Held until the last file is in its place.
            drop(lock);
            report
        });
        let report = importing
            .await
            .map_err(|error| store(io::Error::other(error)))??;
        // What was open is old now.
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        Ok(report)
    }
}

/// An address without a user and password.
fn without_login(address: &str) -> String {
    match address.parse::<reqwest::Url>() {
        Ok(mut url) => {
            // Only addresses without a host refuse, and those have no login.
            let _ = (url.set_username(""), url.set_password(None));
            url.set_query(None);
            url.to_string()
        }
        Err(_) => address.to_owned(),
    }
}

/// Waits until no other process imports. The kernel gives the lock back when its holder dies.
fn lock(directory: &Path) -> Result<File, ImportError> {
    let path = directory.join("lock");
    let store = |error: io::Error| ImportError::Store {
        what: path.display().to_string(),
        why: error.to_string(),
    };
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644);
    let file = options.open(&path).map_err(store)?;
    let began = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(ImportError::Busy(directory.display().to_string()));
            }
            Err(errno) => return Err(store(errno.into())),
        }
    }
}

/// Removes what imports left that did not live to the end. Call with the lock held.
fn sweep(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK) {
            // What cannot be removed is tried again at the next import.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
