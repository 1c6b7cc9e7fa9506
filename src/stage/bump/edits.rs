//! The edits of a bump: what is to be written, and a repository's files with it written. No
//! effects.

use std::collections::BTreeMap;

use super::Bump;
use super::guard::Change;
use super::spec::{EditSpec, What};
use crate::base::Text;
use crate::formats::diff;
use crate::formats::manifest::{self, Format, Image, KUSTOMIZATIONS, Place};
use crate::lang::{ImageField, Reference};
use crate::ports::vcs::{Snapshot, Touch};
use crate::stage::{Failure, Missing, Values};

/// One edit with everything known.
pub(super) struct Edit {
    /// Where it may be: one path, or those a kustomization can have.
    pub(super) files: Vec<String>,
    pub(super) format: Format,
    pub(super) edit: manifest::Edit,
}

/// The edits of this run, and what was left out.
pub(super) struct Edits {
    pub(super) edits: Vec<Edit>,
    pub(super) left_out: Vec<String>,
}

/// A repository's files after the edits.
pub(super) struct Edited {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// What was changed, in the order of the edits.
    pub(super) changes: Vec<Change>,
    pub(super) diff: String,
}

impl Edit {
    /// The edit that writes a value where a change was made.
    pub(super) fn at(change: &Change, value: &str) -> Result<Self, Failure> {
        let named = change.format.as_deref().and_then(Format::named);
        let value = value.to_owned();
        let path = change.path.as_str();
        let pattern = path
            .strip_prefix('/')
            .and_then(|path| path.strip_suffix('/'));
        let edit = if let Some(name) = path.strip_prefix("marker ") {
            let name = name.to_owned();
            manifest::Edit::Marker { name, value }
        } else if let Some(pattern) = pattern {
            let pattern = pattern.to_owned();
            manifest::Edit::Match { pattern, value }
        } else if path.starts_with("FROM") {
            return Err(Failure::failed(format!(
                "{} {path}: the base of an image is not taken back by itself; nothing was written: change it by hand",
                change.file
            )));
        } else {
            manifest::Edit::Set {
                path: path.to_owned(),
                value,
                literal: change.literal,
                create: false,
            }
        };
        Ok(Self {
            files: vec![change.file.clone()],
            format: edit.format(named, &change.file),
            edit,
        })
    }

    /// Whether a commit left the value that the edit would write in a file.
    pub(super) fn is_made_in(&self, touch: &Touch) -> bool {
        let (Some(content), Some(file)) = (&touch.content, self.files.first()) else {
            return false;
        };
        let snapshot = Snapshot {
            commit: touch.commit.clone(),
            files: BTreeMap::from([(file.clone(), content.clone())]),
        };
        let edit = std::slice::from_ref(self);
        apply(edit, &snapshot).is_ok_and(|edited| edited.changes.is_empty())
    }

    fn changed(&self, file: &str, change: manifest::Change) -> Change {
        let adds = matches!(
            self.edit,
            manifest::Edit::Set { create: true, .. }
                | manifest::Edit::Kustomize { create: true, .. }
        );
        Change {
            file: file.to_owned(),
            path: change.place,
            added: adds && change.before.is_empty(),
            literal: matches!(self.edit, manifest::Edit::Set { literal: true, .. }),
            format: Some(self.format.as_str().to_owned()),
            before: change.before,
            after: change.after,
        }
    }
}

impl Bump {
    /// Resolves what is written, and leaves out what can be left out.
    pub(super) async fn edits(&self, values: &Values) -> Result<Edits, Missing> {
        let mut edits = Vec::new();
        let mut left_out = Vec::new();
        for file in &self.files {
            let name = values.plain(&file.path).await?;
            let files = match file.kustomization {
                true => kustomizations(&name),
                false => vec![name.clone()],
            };
            for edit in &file.edits {
                match resolve(edit, values).await {
                    Ok(edit) => edits.push(Edit {
                        files: files.clone(),
                        format: edit.format(file.format, &name),
                        edit,
                    }),
                    Err(missing @ Missing::Skipped { .. }) if edit.optional => {
                        left_out.push(format!(
                            "{name} {} is left as it is: {missing}",
                            called(edit)
                        ));
                    }
                    Err(missing) => return Err(missing),
                }
            }
        }
        Ok(Edits { edits, left_out })
    }
}

/// What an edit is about, before its values are known.
fn called(edit: &EditSpec) -> String {
    match &edit.what {
        What::Set { path, .. } => path.to_string(),
        What::Image { image, .. } | What::Entry { image, .. } => format!("image {}", image.value),
        What::Match { pattern, .. } => format!("/{}/", pattern.value),
        What::Marker { name, .. } => format!("marker {name}"),
    }
}

async fn resolve(edit: &EditSpec, values: &Values) -> Result<manifest::Edit, Missing> {
    Ok(match &edit.what {
        What::Set {
            path,
            value,
            literal,
            create,
        } => manifest::Edit::Set {
            value: values.plain(value).await?,
            path: values.plain(path).await?,
            literal: *literal,
            create: *create,
        },
        What::Image {
            image: name,
            at,
            container,
            pinned,
        } => {
            let place = match (at, container) {
                (Some(path), _) => Place::At(values.plain(path).await?),
                (None, Some(name)) => Place::Container(values.plain(name).await?),
                (None, None) => Place::Everywhere,
            };
            manifest::Edit::Image {
                image: image(&name.value, *pinned, values).await?,
                place,
            }
        }
        What::Entry {
            image: alias,
            name,
            pinned,
            create,
        } => manifest::Edit::Kustomize {
            image: image(&alias.value, *pinned, values).await?,
            name: match name {
                Some(name) => Some(values.plain(name).await?),
                None => None,
            },
            alias: alias.value.clone(),
            create: *create,
        },
        What::Match { pattern, value } => manifest::Edit::Match {
            pattern: pattern.value.clone(),
            value: values.plain(value).await?,
        },
        What::Marker { name, value } => manifest::Edit::Marker {
            name: values.plain(name).await?,
            value: values.plain(value).await?,
        },
    })
}

/// An image as it is written down.
async fn image(name: &str, pinned: bool, values: &Values) -> Result<Image, Missing> {
    let field = async |field| {
        let text = values
            .lookup(&Reference::Image(name.to_owned(), field))
            .await?;
        match text {
            Text::Plain(text) => Ok(text),
            Text::Secret(_) => Err(Missing::Absent(format!("image `{name}` holds a secret"))),
        }
    };
    Ok(Image {
        name: field(ImageField::Name).await?,
        tag: field(ImageField::Tag).await?,
        digest: match pinned {
            true => Some(field(ImageField::Digest).await?),
            false => None,
        },
    })
}

/// The paths that the kustomization of a directory may have.
fn kustomizations(directory: &str) -> Vec<String> {
    let directory = directory.trim_end_matches('/');
    let path = |name: &&str| match directory {
        "" | "." => (*name).to_owned(),
        directory => format!("{directory}/{name}"),
    };
    KUSTOMIZATIONS.iter().map(path).collect()
}

/// Makes the edits in what was read.
pub(super) fn apply(edits: &[Edit], snapshot: &Snapshot) -> Result<Edited, Failure> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut changes = Vec::new();
    for edit in edits {
        let name = existing(&edit.files, snapshot)?;
        let fail = |why: String| Failure::failed(format!("{name}: {why}; nothing was written"));
        let bytes = files.get(name).or_else(|| snapshot.files.get(name));
        let before = bytes
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .ok_or_else(|| fail("it is not UTF-8 text".to_owned()))?;
        let (after, changed) = edit
            .edit
            .apply(edit.format, before)
            .map_err(|error| fail(format!("{}: {error}", edit.edit.place())))?;
        if changed.is_empty() {
            continue;
        }
        changes.extend(changed.into_iter().map(|change| edit.changed(name, change)));
        files.insert(name.to_owned(), after.into_bytes());
    }
    // Two edits may have cancelled each other out.
    files.retain(|name, after| snapshot.files.get(name) != Some(after));
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

/// The one of several paths that is there.
fn existing<'a>(paths: &'a [String], snapshot: &Snapshot) -> Result<&'a str, Failure> {
    let mut there = paths
        .iter()
        .filter(|path| snapshot.files.contains_key(*path));
    match (there.next(), there.next()) {
        (Some(path), None) => Ok(path),
        (Some(one), Some(other)) => Err(Failure::failed(format!(
            "{one} and {other} are both there, so it is not clear which counts; nothing was written"
        ))),
        (None, _) => Err(Failure::failed(format!(
            "{}: it does not exist at {}; nothing was written",
            paths.join(" or "),
            short_commit(&snapshot.commit)
        ))),
    }
}

/// A commit as people write it.
pub(super) fn short_commit(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// The files that are read.
pub(super) fn paths(edits: &[Edit]) -> Vec<String> {
    let mut paths: Vec<String> = edits
        .iter()
        .flat_map(|edit| edit.files.iter().cloned())
        .collect();
    paths.sort();
    paths.dedup();
    paths
}
