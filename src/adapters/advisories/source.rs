//! What advisories come in: zips, single records, and directories of both.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::zip::{self, Member};
use crate::scan::osv::LONGEST_RECORD;

/// Deepest directory that is looked into.
const DEEPEST: usize = 32;

/// Something that is published as one.
#[derive(Debug)]
pub(super) struct Source {
    /// What people call it.
    pub(super) name: String,
    /// Where it is.
    pub(super) content: Content,
    /// When it was published, if known.
    pub(super) published: Option<crate::base::Timestamp>,
}

/// What it is.
#[derive(Debug)]
pub(super) enum Content {
    /// An archive.
    Zip(PathBuf),
    /// Records, each in a file.
    Files(Vec<PathBuf>),
}

/// What a path leads to. A directory may hold archives; each is published by itself.
pub(super) fn find(path: &Path, name: &str) -> Result<Vec<Source>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    let one = |content| Source {
        name: name.to_owned(),
        content,
        published: None,
    };
    if !metadata.is_dir() {
        let content = match is_zip(path)? {
            true => Content::Zip(path.to_owned()),
            false => Content::Files(vec![path.to_owned()]),
        };
        return Ok(vec![one(content)]);
    }
    let mut files = Vec::new();
    walk(path, 0, &mut files)?;
    files.sort();
    let (zips, records): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().partition(|path| {
        path.extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("zip"))
    });
    let mut sources: Vec<Source> = zips
        .into_iter()
        .map(|path| Source {
            name: path.display().to_string(),
            content: Content::Zip(path),
            published: None,
        })
        .collect();
    if !records.is_empty() {
        sources.push(one(Content::Files(records)));
    }
    if sources.is_empty() {
        return Err("there is no .json and no .zip below it".to_owned());
    }
    Ok(sources)
}

fn walk(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{}: {error}", directory.display());
    if depth > DEEPEST {
        return Err(format!("{} lies too deep", directory.display()));
    }
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        // Links are not followed: they may lead out or in circles.
        let kind = entry.file_type().map_err(fail)?;
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if kind.is_dir() && !is_hidden {
            walk(&path, depth + 1, files)?;
        } else if kind.is_file() && !is_hidden {
            let wanted = path.extension().is_some_and(|ending| {
                ending.eq_ignore_ascii_case("json") || ending.eq_ignore_ascii_case("zip")
            });
            if wanted {
                files.push(path);
            }
        }
    }
    Ok(())
}

fn is_zip(path: &Path) -> Result<bool, String> {
    let mut start = [0; 4];
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    match file.read_exact(&mut start) {
        Ok(()) => Ok(matches!(&start, b"PK\x03\x04" | b"PK\x05\x06")),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

impl Source {
    /// Hands over the records, until no more are wanted. A record that cannot be had comes as its
    /// name and why.
    pub(super) fn records(
        &self,
        mut take: impl FnMut(Result<Member, (String, String)>) -> bool,
    ) -> Result<(), String> {
        match &self.content {
            Content::Zip(path) => zip::members(path, LONGEST_RECORD, take),
            Content::Files(paths) => {
                for path in paths {
                    let name = path.display().to_string();
                    let member = match read(path) {
                        Ok(bytes) => Ok(Member::plain(name, bytes)),
                        Err(why) => Err((name, why)),
                    };
                    if !take(member) {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let limit = LONGEST_RECORD as u64 + 1;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() > LONGEST_RECORD {
        return Err(format!("it is longer than {LONGEST_RECORD} bytes"));
    }
    Ok(bytes)
}
