//! Parts of an image that can be read in any order: the files of a directory, or places in an
//! archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bytes::{Buffered, Section};
use super::error::ImageError;
use super::limits::Shared;
use super::manifest::{Documents, MAX_DOCUMENT};
use super::tar::{Kind, Tar};
use crate::scan::inventory::{clean, follow};

/// Most parts of an archive.
const PARTS: usize = 20_000;
/// Links from part to part that are followed.
const HOPS: usize = 8;

/// The parts of an image.
pub(super) enum Blobs {
    Directory(PathBuf),
    Archive {
        section: Section,
        /// Where each begins, and its length.
        parts: BTreeMap<String, (u64, u64)>,
        links: BTreeMap<String, String>,
    },
}

impl Blobs {
    /// The files of a directory.
    pub(super) fn of_directory(directory: &Path) -> Result<Self, ImageError> {
        std::fs::metadata(directory)
            .map_err(|error| ImageError::io(directory, error))?
            .is_dir()
            .then(|| Self::Directory(directory.to_owned()))
            .ok_or_else(|| {
                ImageError::damaged(directory.display().to_string(), "it is no directory")
            })
    }

    /// The parts of an archive, found by going from header to header.
    pub(super) fn of_archive(section: Section, shared: &Shared) -> Result<Self, ImageError> {
        let (mut parts, mut links) = (BTreeMap::new(), BTreeMap::new());
        let mut tar = Tar::new(Buffered::new(section.clone(), shared));
        let broken = |error| ImageError::reading("the image", error);
        while let Some(entry) = tar.next().map_err(broken)? {
            let Some(path) = clean(&entry.path).map(std::borrow::Cow::into_owned) else {
                let why = "a part of it has a name that leads out of it";
                return Err(ImageError::damaged("the image", why));
            };
            if parts.len() + links.len() >= PARTS {
                return Err(ImageError::TooLarge(format!(
                    "it has more than {PARTS} parts"
                )));
            }
            match entry.kind {
                Kind::File => {
                    parts.insert(path, (tar.position(), entry.size));
                }
                Kind::Link(target) => {
                    let target = follow(&path, &String::from_utf8_lossy(&target));
                    links.insert(path, target);
                }
                Kind::HardLink(target) => {
                    links.extend(clean(&target).map(|target| (path, target.into_owned())));
                }
                Kind::Directory | Kind::Other => {}
            }
        }
        Ok(Self::Archive {
            section,
            parts,
            links,
        })
    }

    /// One part; an error if it is not there.
    pub(super) fn section(&self, name: &str) -> Result<Section, ImageError> {
        self.find(name)?.ok_or_else(|| {
            ImageError::damaged(format!("the layer {name}"), "it is not in the image")
        })
    }

    fn find(&self, name: &str) -> Result<Option<Section>, ImageError> {
        match self {
            Self::Directory(directory) => {
                // Names come from the image.
                let Some(clean) = clean(name.as_bytes()).filter(|clean| !clean.is_empty()) else {
                    let why = "its name leads out of the image";
                    return Err(ImageError::damaged(format!("{name:?}"), why));
                };
                let path = directory.join(&*clean);
                // A link could lead anywhere on this machine.
                match std::fs::symlink_metadata(&path) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(ImageError::io(&path, error)),
                    Ok(facts) if !facts.is_file() => {
                        return Err(ImageError::damaged(name, "it is no file"));
                    }
                    Ok(_) => {}
                }
                let file = File::open(&path).map_err(|error| ImageError::io(&path, error))?;
                Section::whole(Arc::new(file), &path).map(Some)
            }
            Self::Archive {
                section,
                parts,
                links,
            } => {
                let mut name = name;
                for _ in 0..HOPS {
                    match links.get(name) {
                        Some(target) => name = target,
                        None => break,
                    }
                }
                let Some((offset, length)) = parts.get(name) else {
                    return Ok(None);
                };
                let part = section.part(*offset, *length);
                part.map(Some)
                    .ok_or_else(|| ImageError::damaged("the image", "it is cut off"))
            }
        }
    }
}

impl Documents for Blobs {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(section) = self.find(name)? else {
            return Ok(None);
        };
        if section.length() > MAX_DOCUMENT {
            return Err(ImageError::damaged(name, "it is too long"));
        }
        let mut document = Vec::new();
        section
            .take(MAX_DOCUMENT)
            .read_to_end(&mut document)
            .map_err(|error| ImageError::reading(name, error))?;
        Ok(Some(document))
    }

    fn length(&self, name: &str) -> Option<u64> {
        let section = self.find(name).ok().flatten()?;
        Some(section.length())
    }
}
