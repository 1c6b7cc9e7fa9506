//! Build contexts: what a build can see of a directory, its digest, and the archive that carries
//! it to the builder. Symbolic links are recorded, never followed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use sha2::Digest as _;

use super::error::broken;
use crate::base::Digest;
use crate::formats::dockerignore::{Ignore, Verdict};
use crate::ports::engine::{ContextFacts, EngineError};

/// Most entries of one context.
const MAX_ENTRIES: usize = 2_000_000;
/// Largest Dockerfile; it travels inside one message.
const MAX_DOCKERFILE: u64 = 2 << 20;
/// Largest `.dockerignore`.
const MAX_IGNORE: u64 = 1 << 20;

/// The recipe of a build, and which file says what its context leaves out.
#[derive(Debug)]
pub(super) struct Dockerfile {
    /// The context's root, symbolic links resolved.
    pub(super) root: PathBuf,
    /// Last name of the path.
    pub(super) name: String,
    /// The recipe itself.
    pub(super) text: String,
    /// The `.dockerignore` that holds for it, relative to the root.
    pub(super) ignore: Option<PathBuf>,
}

impl Dockerfile {
    /// Reads the Dockerfile at `path`, relative to the context's `root`.
    pub(super) fn read(root: &Path, path: &Path) -> Result<Self, EngineError> {
        if root.components().any(|part| part == Component::ParentDir) {
            return Err(bad(format!("{} contains \"..\"", root.display())));
        }
        let root = root.canonicalize().map_err(|error| at(root, &error))?;
        if !root.is_dir() {
            return Err(bad(format!("{} is no directory", root.display())));
        }
        let text = read_text(&inside(&root, path)?, MAX_DOCKERFILE)?
            .ok_or_else(|| bad(format!("there is no Dockerfile at {}", path.display())))?;
        let name = path.file_name().map_or_else(
            || "Dockerfile".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        );
        // Patterns beside the Dockerfile win over those of the context.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".dockerignore");
        let mut ignore = None;
        for candidate in [PathBuf::from(beside), PathBuf::from(".dockerignore")] {
            if inside(&root, &candidate)?.exists() {
                ignore = Some(candidate);
                break;
            }
        }
        Ok(Self {
            root,
            name,
            text,
            ignore,
        })
    }
}

/// What a build can see, without the content of its files.
#[derive(Debug)]
pub(super) struct BuildContext {
    root: PathBuf,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Relative to the root.
    path: PathBuf,
    mode: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory,
    File { size: u64 },
    Link { target: PathBuf },
}

impl BuildContext {
    /// Lists what a build can see of `root`, given the file that says what it cannot.
    pub(super) fn scan(root: &Path, ignore: Option<&Path>) -> Result<Self, EngineError> {
        let ignore = ignore
            .map(|path| read_ignore(root, path))
            .transpose()?
            .unwrap_or_default();
        let mut walk = Walk {
            root,
            ignore: &ignore,
            entries: Vec::new(),
            pending: Vec::new(),
        };
        walk.directory(Path::new(""), &ignore.root())?;
        Ok(Self {
            root: root.to_owned(),
            entries: walk.entries,
        })
    }

    /// Reads every file once and sums up.
    pub(super) fn facts(&self, dockerfile: &Dockerfile) -> Result<ContextFacts, EngineError> {
        let mut hash = sha2::Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        field(b"pipewright context 1");
        field(dockerfile.text.as_bytes());
        let mut total = 0u64;
        let mut buffer = vec![0; 256 << 10];
        for entry in &self.entries {
            let path = entry.path.as_os_str().as_bytes();
            match &entry.kind {
                Kind::Directory => {
                    field(b"d");
                    field(path);
                }
                Kind::File { size } => {
                    let mut content = sha2::Sha256::new();
                    let copied = self
                        .open(entry, *size)
                        .and_then(|file| {
                            copy(file, *size, &mut buffer, |bytes| {
                                content.update(bytes);
                                Ok(())
                            })
                        })
                        .map_err(|error| at(&entry.path, &error))?;
                    field(if entry.mode & 0o100 == 0 { b"f" } else { b"x" });
                    field(path);
                    field(&content.finalize());
                    total += copied;
                }
                Kind::Link { target } => {
                    field(b"l");
                    field(path);
                    field(target.as_os_str().as_bytes());
                }
            }
        }
        Ok(ContextFacts {
            digest: Digest::from_hash(&hash.finalize()),
            dockerfile: dockerfile.text.clone(),
            entries: self.entries.len() as u64,
            bytes: total,
        })
    }

    /// Writes the context as a tar archive whose bytes depend on nothing but names, modes,
    /// contents, link targets and `epoch` (seconds).
    pub(super) fn write_archive(&self, epoch: u64, to: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(to);
        let header = |kind: tar::EntryType, mode: u32, size: u64| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(epoch);
            header.set_size(size);
            header
        };
        // An archive without any entry would not be recognised as one.
        let mut root = header(tar::EntryType::Directory, 0o755, 0);
        if let Some(gnu) = root.as_gnu_mut() {
            gnu.name[..2].copy_from_slice(b"./");
        }
        root.set_cksum();
        archive.append(&root, io::empty())?;
        for entry in &self.entries {
            match &entry.kind {
                Kind::Directory => {
                    let mut header = header(tar::EntryType::Directory, entry.mode, 0);
                    archive.append_data(&mut header, &entry.path, io::empty())?;
                }
                Kind::File { size } => {
                    let mut header = header(tar::EntryType::Regular, entry.mode, *size);
                    let mut file = Exact {
                        inner: self.open(entry, *size)?,
                        left: *size,
                    };
                    archive.append_data(&mut header, &entry.path, &mut file)?;
                    file.finish(&entry.path)?;
                }
                Kind::Link { target } => {
                    let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                    archive.append_link(&mut header, &entry.path, target)?;
                }
            }
        }
        archive.into_inner()?.flush()
    }

    fn open(&self, entry: &Entry, size: u64) -> io::Result<File> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(self.root.join(&entry.path))?;
        let found = file.metadata()?;
        if !found.is_file() || found.len() != size {
            return Err(changed(&entry.path));
        }
        Ok(file)
    }
}

/// A walk over a directory, names in byte order.
struct Walk<'a> {
    root: &'a Path,
    ignore: &'a Ignore,
    entries: Vec<Entry>,
    /// Directories that are left out unless something below them is not.
    pending: Vec<Entry>,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &Path, verdict: &Verdict) -> Result<(), EngineError> {
        let absolute = self.root.join(directory);
        let mut names = fs::read_dir(&absolute)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(|error| at(&absolute, &error))?;
        names.sort_unstable_by_key(fs::DirEntry::file_name);
        for found in names {
            let path = directory.join(found.file_name());
            let verdict = self.ignore.enter(verdict, &path.to_string_lossy());
            let metadata = found.metadata().map_err(|error| at(&path, &error))?;
            let kind = metadata.file_type();
            let mode = metadata.mode() & 0o7777;
            if kind.is_dir() {
                if verdict.excluded && !self.ignore.keeps_below(&path.to_string_lossy()) {
                    continue;
                }
                let entry = Entry {
                    path: path.clone(),
                    mode,
                    kind: Kind::Directory,
                };
                self.pending.push(entry);
                let depth = self.pending.len();
                if !verdict.excluded {
                    self.keep_pending()?;
                }
                self.directory(&path, &verdict)?;
                self.pending.truncate(depth - 1);
            } else if !verdict.excluded {
                let kind = if kind.is_symlink() {
                    let target = fs::read_link(found.path()).map_err(|error| at(&path, &error))?;
                    Kind::Link { target }
                } else if kind.is_file() {
                    Kind::File {
                        size: metadata.len(),
                    }
                } else {
                    // Sockets, pipes and devices mean nothing on another machine.
                    debug_assert!(
                        kind.is_socket()
                            || kind.is_fifo()
                            || kind.is_block_device()
                            || kind.is_char_device()
                    );
                    continue;
                };
                self.keep_pending()?;
                self.push(Entry { path, mode, kind })?;
            }
        }
        Ok(())
    }

    fn keep_pending(&mut self) -> Result<(), EngineError> {
        for entry in std::mem::take(&mut self.pending) {
            self.push(entry)?;
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), EngineError> {
        if self.entries.len() == MAX_ENTRIES {
            let message =
                format!("more than {MAX_ENTRIES} entries; leave some out with .dockerignore");
            return Err(bad(message));
        }
        self.entries.push(entry);
        Ok(())
    }
}

fn read_ignore(root: &Path, path: &Path) -> Result<Ignore, EngineError> {
    let text = read_text(&inside(root, path)?, MAX_IGNORE)?.unwrap_or_default();
    Ignore::parse(&text).map_err(|error| bad(format!("{}: {error}", path.display())))
}

/// The absolute path of a file of the context, symbolic links resolved, which must stay inside.
fn inside(root: &Path, path: &Path) -> Result<PathBuf, EngineError> {
    let escapes = || {
        let message = format!("{} leads outside the context", path.display());
        bad(message)
    };
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if path.as_os_str().is_empty() || !path.components().all(plain) {
        return Err(escapes());
    }
    let joined = root.join(path);
    match joined.canonicalize() {
        Ok(real) if real.starts_with(root) => Ok(real),
        Ok(_) => Err(escapes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(joined),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(joined),
        Err(error) => Err(at(path, &error)),
    }
}

/// Text of a file; `None` if it is not there.
fn read_text(path: &Path, limit: u64) -> Result<Option<String>, EngineError> {
    let absent = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if absent.contains(&error.kind()) => return Ok(None),
        Err(error) => return Err(at(path, &error)),
    };
    if !metadata.is_file() {
        return Err(bad(format!("{} is no regular file", path.display())));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|error| at(path, &error))?;
    if bytes.len() as u64 > limit {
        let message = format!("{} is larger than {limit} bytes", path.display());
        return Err(bad(message));
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| bad(format!("{} is not UTF-8 text", path.display())))
}

fn copy(
    mut file: File,
    size: u64,
    buffer: &mut [u8],
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut copied = 0u64;
    loop {
        let count = file.read(buffer)?;
        if count == 0 {
            break;
        }
        copied += count as u64;
        if copied > size {
            return Err(io::Error::other("it grew while it was read"));
        }
        sink(&buffer[..count])?;
    }
    if copied == size {
        Ok(copied)
    } else {
        Err(io::Error::other("it shrank while it was read"))
    }
}

/// A file of which exactly as many bytes are read as the archive's header promised.
struct Exact {
    inner: File,
    left: u64,
}

impl Exact {
    fn finish(&mut self, path: &Path) -> io::Result<()> {
        if self.left == 0 && self.inner.read(&mut [0])? == 0 {
            Ok(())
        } else {
            Err(changed(path))
        }
    }
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

fn changed(path: &Path) -> io::Error {
    io::Error::other(format!("{} changed while it was read", path.display()))
}

fn bad(message: String) -> EngineError {
    EngineError::BuildFailed { message }
}

fn at(path: &Path, error: &io::Error) -> EngineError {
    if error.kind() == io::ErrorKind::NotFound {
        bad(format!("{} does not exist", path.display()))
    } else {
        broken(
            "reading the build context",
            format!("{}: {error}", path.display()),
        )
    }
}

#[cfg(test)]
mod tests;
