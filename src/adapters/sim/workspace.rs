//! The simulated source repository and the directories of stages.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::call::{Call, Done, Life};
use super::disk::{Files, Kind, ROOT, relative};
use super::ledger::Rule;
use super::state::State;
use crate::base::{Commit, Digest};
use crate::ports::workspace::{Scratch, Workspace, WorkspaceError, WorkspaceReader};

/// The working tree.
pub(super) const WORKING: &str = "/sim/root";

pub(super) fn tree_path(sha: &str) -> PathBuf {
    Path::new(ROOT).join("trees").join(sha)
}

pub(super) fn cache_path(key: &str) -> PathBuf {
    let name = Digest::of(key.as_bytes()).hex()[..16].to_owned();
    Path::new(ROOT).join("cache").join(name)
}

fn scratch_path(run: &str, stage: &str) -> PathBuf {
    Path::new(ROOT).join("scratch").join(run).join(stage)
}

pub(super) fn bad_path(path: &Path, message: &str) -> WorkspaceError {
    WorkspaceError::Path {
        path: path.to_owned(),
        message: message.to_owned(),
    }
}

/// A commit as it was asked for.
fn asked(commits: &[(Commit, Files)], reference: Option<&str>) -> Option<Commit> {
    let Some(text) = reference else {
        return commits.last().map(|(commit, _)| commit.clone());
    };
    let short = text
        .strip_prefix("refs/heads/")
        .or_else(|| text.strip_prefix("refs/tags/"))
        .unwrap_or(text);
    commits.iter().rev().find_map(|(commit, _)| {
        if commit.branch.as_deref() == Some(short) || text == commit.reference {
            return Some(commit.clone());
        }
        let mut found = commit.clone();
        if commit.tag.as_deref() == Some(short) {
            found.reference = format!("refs/tags/{short}");
            found.branch = None;
            return Some(found);
        }
        if text.len() >= 7 && commit.sha.starts_with(text) {
            found.reference = commit.sha.clone();
            found.branch = None;
            found.tag = None;
            return Some(found);
        }
        None
    })
}

/// A safe single name of a directory.
fn is_name(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.contains(['/', '\0'])
}

pub(super) fn globs(patterns: &[String]) -> Result<GlobSet, WorkspaceError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let bad = |message: String| bad_path(Path::new(pattern), &message);
        let plain = pattern.trim_start_matches("./").trim_end_matches('/');
        if relative(Path::new(plain)).is_none() {
            return Err(bad("leads out of the stage's directory".to_owned()));
        }
        // A directory stands for everything in it.
        for text in [plain.to_owned(), format!("{plain}/**")] {
            let glob = GlobBuilder::new(&text).literal_separator(true).build();
            set.add(glob.map_err(|error| bad(error.to_string()))?);
        }
    }
    set.build()
        .map_err(|error| bad_path(Path::new(""), &error.to_string()))
}

fn limited(path: &Path, bytes: &[u8], limit: u64) -> Result<Vec<u8>, WorkspaceError> {
    if bytes.len() as u64 > limit {
        return Err(bad_path(path, &format!("is larger than {limit} bytes")));
    }
    Ok(bytes.to_vec())
}

impl State {
    fn files_at(&self, sha: &str) -> Option<&Files> {
        let found = self.commits.iter().find(|(commit, _)| commit.sha == sha);
        found.map(|(_, files)| files)
    }

    fn check_stage(&mut self, call: &Call, run: &str, stage: &str) -> Result<(), WorkspaceError> {
        if is_name(run) && is_name(stage) {
            return Ok(());
        }
        let message = format!("{run:?} or {stage:?} is not a name of a directory");
        self.violate(Rule::BadPath, call, message.clone());
        Err(bad_path(Path::new(stage), &message))
    }

    pub(super) fn unknown(&mut self, call: &Call, path: &Path) -> WorkspaceError {
        let message = "there is no such directory";
        self.violate(
            Rule::UnknownDirectory,
            call,
            format!("{}: {message}", path.display()),
        );
        bad_path(path, message)
    }
}

#[async_trait]
impl WorkspaceReader for Life {
    async fn commit(&self, reference: Option<&str>) -> Result<Commit, WorkspaceError> {
        let call = Call::one("workspace.commit", reference.unwrap_or("HEAD"));
        self.pass::<WorkspaceError>(&call, None).await?;
        self.look(|state| {
            asked(&state.commits, reference).ok_or_else(|| WorkspaceError::NoRevision {
                revision: reference.unwrap_or("HEAD").to_owned(),
            })
        })
        .await
    }

    async fn is_dirty(&self) -> Result<bool, WorkspaceError> {
        let call = Call::one("workspace.is-dirty", "");
        self.pass::<WorkspaceError>(&call, None).await?;
        self.look(|state| {
            let head = state.commits.last().map(|(_, files)| files);
            let here = state.disk.below(Path::new(WORKING));
            Ok(head != here.as_ref())
        })
        .await
    }

    async fn changed(&self, from: &str, to: &str) -> Result<Option<Vec<String>>, WorkspaceError> {
        let call = Call::new("workspace.changed", [from.to_owned(), to.to_owned()]);
        self.pass::<WorkspaceError>(&call, None).await?;
        self.look(|state| {
            let Some(after) = state.files_at(to) else {
                return Err(WorkspaceError::NoRevision {
                    revision: to.to_owned(),
                });
            };
            let Some(before) = state.files_at(from) else {
                return Ok(None);
            };
            let mut paths: Vec<String> = before
                .keys()
                .chain(after.keys())
                .filter(|path| before.get(*path) != after.get(*path))
                .cloned()
                .collect();
            paths.sort();
            paths.dedup();
            Ok(Some(paths))
        })
        .await
    }

    async fn read(
        &self,
        sha: Option<&str>,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, WorkspaceError> {
        let call = Call::one("workspace.read", &path.to_string_lossy());
        self.pass::<WorkspaceError>(&call, None).await?;
        self.look(|state| {
            let name =
                relative(path).ok_or_else(|| bad_path(path, "leads out of the repository"))?;
            let bytes = match sha {
                Some(sha) => {
                    let files = state.files_at(sha);
                    let files = files.ok_or_else(|| WorkspaceError::NoRevision {
                        revision: sha.to_owned(),
                    })?;
                    files.get(&name).cloned()
                }
                None => state.disk.read(&Path::new(WORKING).join(name)),
            };
            bytes.map(|bytes| limited(path, &bytes, limit)).transpose()
        })
        .await
    }

    async fn entries(
        &self,
        sha: Option<&str>,
        path: &Path,
    ) -> Result<Option<Vec<String>>, WorkspaceError> {
        let call = Call::one("workspace.entries", &path.to_string_lossy());
        self.pass::<WorkspaceError>(&call, None).await?;
        self.look(|state| {
            let name =
                relative(path).ok_or_else(|| bad_path(path, "leads out of the repository"))?;
            let files = match sha {
                Some(sha) => {
                    let files = state.files_at(sha);
                    files.cloned().ok_or_else(|| WorkspaceError::NoRevision {
                        revision: sha.to_owned(),
                    })?
                }
                None => state.disk.below(Path::new(WORKING)).unwrap_or_default(),
            };
            let start = format!("{name}/");
            let below = files.keys().filter_map(|path| path.strip_prefix(&start));
            let mut names: Vec<String> = below
                .filter_map(|rest| rest.split('/').next().map(str::to_owned))
                .collect();
            names.dedup();
            Ok((!names.is_empty()).then_some(names))
        })
        .await
    }

    async fn tree(&self, sha: &str) -> Result<PathBuf, WorkspaceError> {
        let call = Call::one("workspace.tree", sha);
        let mut ticket = self.enter::<WorkspaceError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let path = tree_path(sha);
            if state.disk.exists(&path) {
                return Ok(Done::nothing(path));
            }
            let files = state.files_at(sha).cloned();
            let files = files.ok_or_else(|| WorkspaceError::NoRevision {
                revision: sha.to_owned(),
            })?;
            state.disk.put(&path, Kind::Tree, files);
            let detail = path.to_string_lossy().into_owned();
            Ok(Done::changed(path, sha, detail))
        })
        .await
    }

    fn root(&self) -> &Path {
        Path::new(WORKING)
    }
}

#[async_trait]
impl Workspace for Life {
    async fn scratch(
        &self,
        run: &str,
        stage: &str,
        tree: Option<&Path>,
    ) -> Result<Scratch, WorkspaceError> {
        let call = Call::one("workspace.scratch", &format!("{run}/{stage}"));
        let mut ticket = self.enter::<WorkspaceError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.check_stage(&call, run, stage)?;
            let files = match tree {
                None => Files::new(),
                Some(tree) => match state.disk.below(tree) {
                    Some(files) => files,
                    None => return Err(state.unknown(&call, tree)),
                },
            };
            let path = scratch_path(run, stage);
            state.disk.put(&path, Kind::Scratch, files);
            Ok(Done::changed(Scratch { path }, call.subject(), "made"))
        })
        .await
    }

    async fn collect(
        &self,
        run: &str,
        stage: &str,
        scratch: &Scratch,
        patterns: &[String],
    ) -> Result<(u64, u64), WorkspaceError> {
        let call = Call::one("workspace.collect", &format!("{run}/{stage}"));
        let mut ticket = self.enter::<WorkspaceError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.check_stage(&call, run, stage)?;
            let wanted = globs(patterns)?;
            let Some(files) = state.disk.below(&scratch.path) else {
                return Err(state.unknown(&call, &scratch.path));
            };
            let taken: Files = files
                .into_iter()
                .filter(|(path, _)| wanted.is_match(path))
                .collect();
            let count = taken.len() as u64;
            let bytes = taken.values().map(|bytes| bytes.len() as u64).sum();
            state
                .artifacts
                .insert((run.to_owned(), stage.to_owned()), taken);
            let detail = format!("{count} files");
            Ok(Done::changed((count, bytes), call.subject(), detail))
        })
        .await
    }

    async fn restore(&self, run: &str, stage: &str, into: &Path) -> Result<(), WorkspaceError> {
        let call = Call::one("workspace.restore", &format!("{run}/{stage}"));
        let mut ticket = self.enter::<WorkspaceError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let key = (run.to_owned(), stage.to_owned());
            let Some(files) = state.artifacts.get(&key).cloned() else {
                let message = format!("stage {stage} of run {run} left no artifacts");
                state.violate(Rule::NothingCollected, &call, message.clone());
                return Err(bad_path(into, &message));
            };
            let Some((_, folder, _)) = state.disk.locate(into) else {
                return Err(state.unknown(&call, into));
            };
            if folder.kind == Kind::Tree {
                let message = "lays artifacts over the shared files of a commit";
                state.violate(Rule::TreeWritten, &call, message);
                return Err(bad_path(into, message));
            }
            for (path, bytes) in files {
                let written = state.disk.write(&into.join(path), bytes);
                written.map_err(|error| bad_path(into, &format!("{error:?}")))?;
            }
            Ok(Done::changed((), call.subject(), into.to_string_lossy()))
        })
        .await
    }

    async fn cache(&self, key: &str) -> Result<PathBuf, WorkspaceError> {
        let call = Call::one("workspace.cache", key);
        let mut ticket = self.enter::<WorkspaceError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let path = cache_path(key);
            if state.disk.exists(&path) {
                return Ok(Done::nothing(path));
            }
            state.disk.put(&path, Kind::Cache, Files::new());
            Ok(Done::changed(path, key, "made"))
        })
        .await
    }

    async fn link(&self, root: &Path, path: &Path, target: &Path) -> Result<(), WorkspaceError> {
        let call = Call::one("workspace.link", &path.to_string_lossy());
        let mut ticket = self.enter::<WorkspaceError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            // What a cache holds is not simulated; where it is laid must exist.
            if state.disk.below(root).is_none() {
                return Err(state.unknown(&call, root));
            }
            Ok(Done::changed((), call.subject(), target.to_string_lossy()))
        })
        .await
    }

    async fn read_below(
        &self,
        root: &Path,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, WorkspaceError> {
        let call = Call::one("workspace.read-below", &path.to_string_lossy());
        self.pass::<WorkspaceError>(&call, None).await?;
        self.look(|state| {
            if !state.disk.exists(root) {
                return Err(state.unknown(&call, root));
            }
            let name =
                relative(path).ok_or_else(|| bad_path(path, "leads out of the directory"))?;
            let bytes = state.disk.read(&root.join(name));
            bytes.map(|bytes| limited(path, &bytes, limit)).transpose()
        })
        .await
    }

    async fn discard(&self, scratch: Scratch) {
        let subject = scratch.path.to_string_lossy().into_owned();
        let call = Call::one("workspace.discard", &subject);
        let Ok(mut ticket) = self.enter::<WorkspaceError>(&call, None).await else {
            return;
        };
        // Nobody is told of an error here: a directory left behind is swept later.
        let _: Result<(), WorkspaceError> = self
            .act(&call, &mut ticket, |state| {
                Ok(match state.disk.take(&scratch.path) {
                    Some(_) => Done::changed((), subject, "removed"),
                    None => Done::nothing(()),
                })
            })
            .await;
    }

    async fn sweep(&self, run: &str) {
        let call = Call::one("workspace.sweep", run);
        let Ok(mut ticket) = self.enter::<WorkspaceError>(&call, None).await else {
            return;
        };
        let _: Result<(), WorkspaceError> = self
            .act(&call, &mut ticket, |state| {
                if !is_name(run) {
                    let message = "it would remove what other runs use";
                    state.violate(Rule::BroadReap, &call, message);
                    return Ok(Done::nothing(()));
                }
                let gone = state.disk.clear(&Path::new(ROOT).join("scratch").join(run));
                Ok(match gone {
                    0 => Done::nothing(()),
                    gone => Done::changed((), run, format!("{gone} directories")),
                })
            })
            .await;
    }
}
