//! Simulated archives: the names and contents of files, as JSON, and as strict as the real ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::call::{Call, Done, Life};
use super::disk::{Files, Kind, ROOT};
use super::ledger::Rule;
use super::state::State;
use super::workspace::{bad_path, cache_path, globs};
use crate::base::{Digest, Masks, Secret, human_bytes};
use crate::ports::archive::{Archive, Archives, Kept};
use crate::ports::workspace::{Scratch, WorkspaceError};

fn subject(what: &Kept) -> String {
    match what {
        Kept::Cache(key) => key.clone(),
        Kept::Files { run, stage } => format!("{run}/{stage}"),
    }
}

impl State {
    fn archived(&self, what: &Kept) -> Option<Files> {
        match what {
            Kept::Cache(key) => self.disk.below(&cache_path(key)),
            Kept::Files { run, stage } => {
                self.artifacts.get(&(run.clone(), stage.clone())).cloned()
            }
        }
    }
}

/// The folder of archives that wait.
fn folder() -> PathBuf {
    Path::new(ROOT).join("arrivals")
}

/// Bytes of files that are no text survive as a list of numbers.
fn encoded(files: &Files) -> Vec<u8> {
    let files: BTreeMap<&str, &[u8]> = files
        .iter()
        .map(|(path, bytes)| (path.as_str(), &**bytes))
        .collect();
    serde_json::to_vec(&files).unwrap_or_default()
}

pub(super) fn decoded(bytes: &[u8]) -> Result<Files, String> {
    let files: BTreeMap<String, Vec<u8>> =
        serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    Ok(files
        .into_iter()
        .map(|(path, bytes)| (path, Arc::from(bytes)))
        .collect())
}

#[async_trait]
impl Archives for Life {
    async fn is_kept(&self, what: &Kept) -> Result<bool, WorkspaceError> {
        let call = Call::one("workspace.is-kept", &subject(what));
        self.pass::<WorkspaceError>(&call, None).await?;
        self.look(|state| Ok(state.archived(what).is_some_and(|files| !files.is_empty())))
            .await
    }

    async fn pack(
        &self,
        what: &Kept,
        largest: u64,
        secrets: Vec<(String, Secret)>,
    ) -> Result<Option<Archive>, WorkspaceError> {
        let call = Call::one("workspace.pack", &subject(what));
        let mut ticket = self.enter::<WorkspaceError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let Some(files) = state.archived(what).filter(|files| !files.is_empty()) else {
                return Ok(Done::nothing(None));
            };
            let size: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
            if size > largest {
                let message = format!("is beyond the {} that are kept", human_bytes(largest));
                return Err(bad_path(Path::new(&subject(what)), &message));
            }
            for (path, bytes) in &files {
                let text = String::from_utf8_lossy(bytes);
                let mut held = secrets.iter();
                let held = held.find(|(_, secret)| Masks::new([secret]).finds(&text));
                if let Some((name, _)) = held {
                    let message = format!("holds secret {name}, which is never kept elsewhere");
                    return Err(bad_path(Path::new(path), &message));
                }
            }
            let bytes = encoded(&files);
            state.counter += 1;
            let path = folder().join(format!("{}.json", state.counter));
            let digest = Digest::of(&bytes);
            let archive = Archive {
                path: path.clone(),
                size: bytes.len() as u64,
                digest: digest.clone(),
                content: digest,
                files: files.len() as u64,
                left_out: 0,
            };
            state.wait_for_archives();
            let written = state.disk.write(&path, bytes.into());
            written.map_err(|error| bad_path(&path, &format!("{error:?}")))?;
            Ok(Done::changed(
                Some(archive),
                call.subject(),
                path.to_string_lossy(),
            ))
        })
        .await
    }

    async fn unpack(
        &self,
        archive: &Path,
        what: &Kept,
        largest: u64,
    ) -> Result<u64, WorkspaceError> {
        let call = Call::one("workspace.unpack", &subject(what));
        let mut ticket = self.enter::<WorkspaceError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let Some(bytes) = state.disk.read(archive) else {
                let message = "there is no such archive";
                state.violate(Rule::UnknownDirectory, &call, message);
                return Err(bad_path(archive, message));
            };
            let files = decoded(&bytes).map_err(|why| bad_path(archive, &why))?;
            let size: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
            if size > largest {
                let message = format!("is beyond the {} that are kept", human_bytes(largest));
                return Err(bad_path(archive, &message));
            }
            let count = files.len() as u64;
            if state.archived(what).is_none_or(|there| there.is_empty()) {
                match what {
                    Kept::Cache(key) => state.disk.put(&cache_path(key), Kind::Cache, files),
                    Kept::Files { run, stage } => {
                        let key = (run.clone(), stage.clone());
                        state.artifacts.insert(key, files);
                    }
                }
            }
            Ok(Done::changed(
                count,
                call.subject(),
                format!("{count} files"),
            ))
        })
        .await
    }

    async fn arrival(&self) -> Result<PathBuf, WorkspaceError> {
        self.look(|state| {
            state.wait_for_archives();
            state.counter += 1;
            Ok(folder().join(format!("{}.json", state.counter)))
        })
        .await
    }

    async fn drop_archive(&self, path: &Path) {
        self.look(|state| state.disk.remove(path)).await;
    }

    async fn fingerprint(
        &self,
        scratch: &Scratch,
        patterns: &[String],
    ) -> Result<Option<Digest>, WorkspaceError> {
        let call = Call::one("workspace.fingerprint", &scratch.path.to_string_lossy());
        self.pass::<WorkspaceError>(&call, None).await?;
        self.look(|state| {
            let wanted = globs(patterns)?;
            let Some(mut files) = state.disk.below(&scratch.path) else {
                return Err(state.unknown(&call, &scratch.path));
            };
            files.retain(|path, _| wanted.is_match(path));
            Ok((!files.is_empty()).then(|| Digest::of(&encoded(&files))))
        })
        .await
    }
}

impl State {
    fn wait_for_archives(&mut self) {
        if !self.disk.exists(&folder()) {
            self.disk.put(&folder(), Kind::Scratch, Files::new());
        }
    }
}
