//! An archive that comes in one piece after the other, with its parts in any order.
//!
//! Whatever looks like a layer is read as one, since what says which parts are layers may come
//! last.

use std::collections::BTreeMap;
use std::io;

use super::bytes::{Buffered, Skip, is_compressed};
use super::error::ImageError;
use super::layer;
use super::limits::Shared;
use super::manifest::{Documents, MAX_DOCUMENT};
use super::tar::{Kind, Tar};
use crate::scan::inventory::{LayerContents, clean, follow};

/// Most parts of an archive.
const PARTS: usize = 20_000;
/// Most bytes of documents that are kept.
const DOCUMENTS: usize = 64 << 20;
/// Links from part to part that are followed.
const HOPS: usize = 8;

/// The parts of an archive by name.
#[derive(Default)]
pub(super) struct Archive {
    parts: BTreeMap<String, Part>,
}

enum Part {
    /// JSON.
    Document(Vec<u8>),
    Layer(Result<Box<LayerContents>, ImageError>),
    /// Another name of another part.
    Alias(String),
    /// Neither.
    Unknown,
}

/// Reads an archive to its end.
pub(super) fn read(bytes: Buffered<'_, impl Skip>, shared: &Shared) -> Result<Archive, ImageError> {
    let mut archive = Archive::default();
    let mut tar = Tar::new(bytes);
    let mut documents = 0;
    let broken = |error| ImageError::reading("the image", error);
    while let Some(entry) = tar.next().map_err(broken)? {
        let Some(path) = clean(&entry.path).map(std::borrow::Cow::into_owned) else {
            return Err(ImageError::damaged(
                "the image",
                "a part of it has a name that leads out of it",
            ));
        };
        if archive.parts.len() >= PARTS {
            return Err(ImageError::TooLarge(format!(
                "it has more than {PARTS} parts"
            )));
        }
        let part = match entry.kind {
            Kind::File => {
                let part = part(&path, entry.size, &mut tar, shared).map_err(broken)?;
                if let Part::Document(document) = &part {
                    documents += document.len();
                }
                part
            }
            Kind::Link(target) => Part::Alias(follow(&path, &String::from_utf8_lossy(&target))),
            Kind::HardLink(target) => match clean(&target) {
                Some(target) => Part::Alias(target.into_owned()),
                None => continue,
            },
            Kind::Directory | Kind::Other => continue,
        };
        if documents > DOCUMENTS {
            let message = format!("its documents are longer than {} MiB", DOCUMENTS >> 20);
            return Err(ImageError::TooLarge(message));
        }
        // An error that nothing else explains ends it here, not when all was read.
        if let Part::Layer(Err(ImageError::TooLarge(message))) = part {
            return Err(ImageError::TooLarge(message));
        }
        if let Part::Layer(Err(ImageError::Cancelled)) = part {
            return Err(ImageError::Cancelled);
        }
        archive.parts.insert(path, part);
    }
    Ok(archive)
}

fn part<R: Skip>(path: &str, size: u64, tar: &mut Tar<'_, R>, shared: &Shared) -> io::Result<Part> {
    let start = tar.peek(512)?;
    if is_compressed(start) || is_tar(start) {
        let read = tar.lend(|content| layer::read(content, path, shared))?;
        return Ok(Part::Layer(read.map(Box::new)));
    }
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(b'{' | b'[')) && size <= MAX_DOCUMENT {
        return Ok(Part::Document(tar.large_content()?));
    }
    Ok(Part::Unknown)
}

/// Whether a block is the header of a tar archive, or of one without entries.
fn is_tar(start: &[u8]) -> bool {
    let header = start.get(..512);
    header
        .is_some_and(|header| &header[257..262] == b"ustar" || header.iter().all(|byte| *byte == 0))
}

impl Archive {
    fn part(&self, name: &str) -> Option<&Part> {
        let mut part = self.parts.get(name)?;
        for _ in 0..HOPS {
            match part {
                Part::Alias(target) => part = self.parts.get(target)?,
                part => return Some(part),
            }
        }
        None
    }

    /// A layer that was read.
    pub(super) fn layer(&mut self, name: &str) -> Result<LayerContents, ImageError> {
        let what = || format!("the layer {name}");
        let mut name = name.to_owned();
        for _ in 0..HOPS {
            match self.parts.get_mut(&name) {
                Some(Part::Alias(target)) => name.clone_from(target),
                Some(Part::Layer(layer @ Err(_))) => {
                    let taken = std::mem::replace(layer, Ok(Box::default()));
                    return taken.map(|layer| *layer);
                }
                // It may be there several times.
                Some(Part::Layer(Ok(layer))) => return Ok((**layer).clone()),
                Some(_) => return Err(ImageError::damaged(what(), "it is no tar archive")),
                None => break,
            }
        }
        Err(ImageError::damaged(what(), "it is not in the image"))
    }
}

impl Documents for Archive {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        match self.part(name) {
            None => Ok(None),
            Some(Part::Document(document)) => Ok(Some(document.clone())),
            Some(_) => Err(ImageError::damaged(name, "it is no JSON, or too long")),
        }
    }

    fn length(&self, _name: &str) -> Option<u64> {
        None
    }
}
