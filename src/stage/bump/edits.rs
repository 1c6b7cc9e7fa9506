//! The edits of a bump: what is to be written, and a repository's files with it written. No
//! effects.

use std::collections::BTreeMap;

use super::Bump;
use super::guard::Change;
use crate::formats::{diff, yaml};
use crate::ports::vcs::{Snapshot, Touch};
use crate::stage::{Failure, Missing, Values};

/// One edit with everything known.
pub(super) struct Edit {
    pub(super) file: String,
    pub(super) path: String,
    pub(super) value: String,
    pub(super) create: bool,
}

/// The edits of this run, and what was left out.
pub(super) struct Edits {
    pub(super) edits: Vec<Edit>,
    pub(super) left_out: Vec<String>,
}

/// A repository's files after the edits.
pub(super) struct Edited {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) changes: Vec<Change>,
    pub(super) diff: String,
}

impl Edit {
    /// Whether a commit left the value that the edit would write.
    pub(super) fn is_made_in(&self, touch: &Touch) -> bool {
        let Some(content) = &touch.content else {
            return false;
        };
        let snapshot = Snapshot {
            commit: touch.commit.clone(),
            files: BTreeMap::from([(self.file.clone(), content.clone())]),
        };
        let edit = std::slice::from_ref(self);
        apply(edit, &snapshot).is_ok_and(|edited| edited.changes.is_empty())
    }
}

impl Bump {
    /// Resolves what is written, and leaves out what can be left out.
    pub(super) async fn edits(&self, values: &Values) -> Result<Edits, Missing> {
        let mut edits = Vec::new();
        let mut left_out = Vec::new();
        for file in &self.files {
            let name = values.plain(&file.path).await?;
            for edit in &file.edits {
                let value = match values.plain(&edit.value).await {
                    Ok(value) => value,
                    Err(missing @ Missing::Skipped { .. }) if edit.optional => {
                        left_out.push(format!("{name} {} is left as it is: {missing}", edit.path));
                        continue;
                    }
                    Err(missing) => return Err(missing),
                };
                edits.push(Edit {
                    file: name.clone(),
                    path: values.plain(&edit.path).await?,
                    value,
                    create: edit.create,
                });
            }
        }
        Ok(Edits { edits, left_out })
    }
}

/// Makes the edits in what was read.
pub(super) fn apply(edits: &[Edit], snapshot: &Snapshot) -> Result<Edited, Failure> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut changes = Vec::new();
    for edit in edits {
        let fail =
            |why: String| Failure::failed(format!("{}: {why}; nothing was written", edit.file));
        let before = match files
            .get(&edit.file)
            .or_else(|| snapshot.files.get(&edit.file))
        {
            Some(bytes) => {
                std::str::from_utf8(bytes).map_err(|_| fail("it is not UTF-8 text".to_owned()))?
            }
            None => {
                return Err(fail(format!(
                    "it does not exist at {}",
                    short_commit(&snapshot.commit)
                )));
            }
        };
        let path = yaml::Path::parse(&edit.path).map_err(|error| fail(error.to_string()))?;
        let edited = if edit.create {
            yaml::set_or_create(before, &path, &edit.value)
        } else {
            yaml::set(before, &path, &edit.value)
        };
        let edited = edited.map_err(|error| fail(format!("{}: {error}", edit.path)))?;
        if edited.changed {
            changes.push(Change {
                file: edit.file.clone(),
                path: edit.path.clone(),
                added: edit.create && edited.before.is_empty(),
                before: edited.before,
                after: edit.value.clone(),
            });
            files.insert(edit.file.clone(), edited.text.into_bytes());
        }
    }
    let mut text = String::new();
    for (name, after) in &files {
        let before = snapshot
            .files
            .get(name)
            .map(|bytes| String::from_utf8_lossy(bytes))
            .unwrap_or_default();
        text.push_str(&diff::unified(
            name,
            &before,
            &String::from_utf8_lossy(after),
        ));
    }
    Ok(Edited {
        files,
        changes,
        diff: text,
    })
}

/// A commit as people write it.
pub(super) fn short_commit(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// The files that are read.
pub(super) fn paths(edits: &[Edit]) -> Vec<String> {
    let mut paths: Vec<String> = edits.iter().map(|edit| edit.file.clone()).collect();
    paths.sort();
    paths.dedup();
    paths
}
