//! What the state directory keeps of stages as compressed archives, and back. Packing follows no
//! link and unpacking believes nothing.

mod pack;
mod unpack;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};

use super::artifacts;
use super::files::{self, broken};
use super::workspace::GitWorkspace;
use crate::base::{Digest, Secret};
use crate::ports::archive::{Archive, Archives, Kept};
use crate::ports::workspace::{Scratch, WorkspaceError};

/// The most files, directories and links in an archive.
const MAX_ENTRIES: u64 = 1_000_000;
/// An archive that arrived before this was left by a process that died.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// A name that no other archive of this machine has.
fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", std::process::id())
}

/// Makes the directory of archives, and clears it of what was forgotten.
fn arrivals(dir: &Path) -> Result<PathBuf, WorkspaceError> {
    std::fs::create_dir_all(dir).map_err(|e| broken(format!("making {}", dir.display()), e))?;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let since = entry.metadata().and_then(|facts| facts.modified());
        let age = since.map(|since| SystemTime::now().duration_since(since).unwrap_or_default());
        if age.is_ok_and(|age| age > FORGOTTEN) {
            let _ = files::remove(&entry.path());
        }
    }
    Ok(dir.join(unique()))
}

fn is_filled(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

#[async_trait]
impl Archives for GitWorkspace {
    async fn is_kept(&self, what: &Kept) -> Result<bool, WorkspaceError> {
        let what = what.clone();
        self.blocking(move |inner| Ok(is_filled(&inner.kept(&what))))
            .await
    }

    async fn pack(
        &self,
        what: &Kept,
        largest: u64,
        secrets: Vec<(String, Secret)>,
    ) -> Result<Option<Archive>, WorkspaceError> {
        let what = what.clone();
        self.blocking(move |inner| {
            let from = inner.kept(&what);
            if !is_filled(&from) {
                return Ok(None);
            }
            let path = arrivals(&inner.arrivals())?;
            let packed = pack::pack(&from, &path, largest, &secrets);
            if packed.is_err() {
                let _ = files::remove(&path);
            }
            packed.map(Some)
        })
        .await
    }

    async fn unpack(
        &self,
        archive: &Path,
        what: &Kept,
        largest: u64,
    ) -> Result<u64, WorkspaceError> {
        let (archive, what) = (archive.to_owned(), what.clone());
        self.blocking(move |inner| {
            let into = inner.kept(&what);
            // No stage's directory and no cache starts with a dot.
            let part = into.with_file_name(format!(".part-{}", unique()));
            let unpacked = unpack::unpack(&archive, &part, largest).and_then(|files| {
                replace(&part, &into)?;
                Ok(files)
            });
            let _ = files::remove(&part);
            unpacked
        })
        .await
    }

    async fn arrival(&self) -> Result<PathBuf, WorkspaceError> {
        self.blocking(|inner| arrivals(&inner.arrivals())).await
    }

    async fn drop_archive(&self, path: &Path) {
        let path = path.to_owned();
        // What stays is cleared away with what is forgotten.
        let _ = self
            .blocking(move |inner| {
                if path.starts_with(inner.arrivals()) {
                    let _ = files::remove(&path);
                }
                Ok(())
            })
            .await;
    }

    async fn fingerprint(
        &self,
        scratch: &Scratch,
        patterns: &[String],
    ) -> Result<Option<Digest>, WorkspaceError> {
        let (root, patterns) = (scratch.path.clone(), patterns.to_vec());
        self.blocking(move |_| fingerprint(&root, &patterns)).await
    }
}

/// Puts a finished directory where an empty one or none is; leaves another alone.
fn replace(part: &Path, into: &Path) -> Result<(), WorkspaceError> {
    match std::fs::rename(part, into) {
        Err(_) if is_filled(into) => Ok(()),
        renamed => renamed.map_err(|e| broken(format!("making {}", into.display()), e)),
    }
}

fn fingerprint(root: &Path, patterns: &[String]) -> Result<Option<Digest>, WorkspaceError> {
    let mut found = artifacts::find(root, patterns)?;
    if found.is_empty() {
        return Ok(None);
    }
    found.sort();
    let mut all = Sha256::new();
    for path in found {
        use std::os::unix::ffi::OsStrExt as _;
        let fail = |e: std::io::Error| broken(format!("reading {}", path.display()), e);
        let at = root.join(&path);
        let mut one = Sha256::new();
        match std::fs::read_link(&at) {
            Ok(target) => one.update(target.as_os_str().as_bytes()),
            Err(_) => {
                let mut file = File::open(&at).map_err(fail)?;
                let mut buffer = vec![0; 64 << 10];
                loop {
                    match file.read(&mut buffer).map_err(fail)? {
                        0 => break,
                        count => one.update(&buffer[..count]),
                    }
                }
            }
        }
        let name = path.as_os_str().as_bytes();
        // Lengths keep names and contents apart.
        all.update((name.len() as u64).to_be_bytes());
        all.update(name);
        all.update(one.finalize());
    }
    Ok(Some(Digest::from_hash(&all.finalize())))
}

#[cfg(test)]
mod tests;
