//! Packs a directory: in the order of names and without owners, so that the same files make the
//! same stream. What changes meanwhile, and a file that holds a secret, is an error.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use super::super::artifacts::stays;
use super::super::copy::{dir_mode, file_mode, size};
use super::super::files::{MAX_DEPTH, broken, open_dir, open_root, refused};
use super::MAX_ENTRIES;
use crate::base::{Digest, Masks, Secret, human_bytes};
use crate::ports::archive::Archive;
use crate::ports::workspace::WorkspaceError;

/// Counts and digests what passes on its way to another writer.
struct Counted<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Counted<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn digest(&self) -> Digest {
        Digest::from_hash(&self.hash.clone().finalize())
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

type Compressed = zstd::stream::write::Encoder<'static, Counted<BufWriter<File>>>;

struct Pack<'a> {
    root: &'a Path,
    tar: Builder<Counted<Compressed>>,
    masks: Masks,
    secrets: &'a [(String, Secret)],
    largest: u64,
    bytes: u64,
    entries: u64,
    files: u64,
    left_out: u64,
}

/// Packs all that is in a directory into a new file.
pub(super) fn pack(
    from: &Path,
    to: &Path,
    largest: u64,
    secrets: &[(String, Secret)],
) -> Result<Archive, WorkspaceError> {
    let fail = |error: io::Error| broken(format!("packing {}", from.display()), error);
    let file = File::create_new(to).map_err(fail)?;
    let compressed =
        zstd::stream::write::Encoder::new(Counted::new(BufWriter::new(file)), 3).map_err(fail)?;
    let mut pack = Pack {
        root: from,
        tar: Builder::new(Counted::new(compressed)),
        masks: Masks::new(secrets.iter().map(|(_, secret)| secret)),
        secrets,
        largest,
        bytes: 0,
        entries: 0,
        files: 0,
        left_out: 0,
    };
    pack.level(open_root(from)?.as_fd(), &mut PathBuf::new(), 0)?;
    let (files, left_out) = (pack.files, pack.left_out);
    let stream = pack.tar.into_inner().map_err(fail)?;
    let content = stream.digest();
    let mut out = stream.inner.finish().map_err(fail)?;
    out.flush().map_err(fail)?;
    Ok(Archive {
        path: to.to_owned(),
        size: out.size,
        digest: out.digest(),
        content,
        files,
        left_out,
    })
}

impl Pack<'_> {
    fn level(
        &mut self,
        dir: BorrowedFd<'_>,
        at: &mut PathBuf,
        depth: usize,
    ) -> Result<(), WorkspaceError> {
        if depth > MAX_DEPTH {
            return Err(refused(&*at, "is nested too deep"));
        }
        let fail = |at: &Path, e| broken(format!("reading {}", at.display()), e);
        let mut names = Vec::new();
        for entry in Dir::read_from(dir).map_err(|e| fail(at, e))? {
            let entry = entry.map_err(|e| fail(at, e))?;
            let name = entry.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(std::ffi::OsString::from_vec(name));
            }
            if names.len() as u64 + self.entries > MAX_ENTRIES {
                let message = format!("is beyond the {MAX_ENTRIES} entries that are packed");
                return Err(refused(&*at, message));
            }
        }
        names.sort();
        for name in names {
            at.push(&name);
            let stat = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| fail(at, e))?;
            self.entries += 1;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let inner = open_dir(dir, &name).map_err(|e| fail(at, e))?;
                    let mut header = header(EntryType::Directory, dir_mode(&stat), &stat);
                    let added = self.tar.append_data(&mut header, &*at, io::empty());
                    added.map_err(|e| broken(format!("packing {}", at.display()), e))?;
                    self.level(inner.as_fd(), at, depth + 1)?;
                }
                FileType::RegularFile => self.file(dir, &name, at, &stat)?,
                FileType::Symlink => self.link(dir, &name, at, &stat)?,
                // Sockets and pipes are of use to nobody later.
                _ => {}
            }
            at.pop();
        }
        Ok(())
    }

    fn file(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &std::ffi::OsStr,
        at: &Path,
        stat: &Stat,
    ) -> Result<(), WorkspaceError> {
        let what = || format!("packing {}", at.display());
        let size = size(stat);
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.largest {
            let largest = human_bytes(self.largest);
            return Err(refused(
                at,
                format!("is beyond the {largest} that are kept"),
            ));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(dir, name, flags, Mode::empty()).map_err(|e| broken(what(), e))?;
        let mut header = header(EntryType::Regular, file_mode(stat), stat);
        header.set_size(size);
        let mut watched = Watched::new(File::from(file).take(size), &self.masks);
        let added = self.tar.append_data(&mut header, at, &mut watched);
        added.map_err(|e| broken(what(), e))?;
        if watched.taken != size {
            return Err(refused(at, "was changed while it was packed"));
        }
        if watched.holds_secret() {
            let name = self.whose(at);
            let message = format!("holds secret {name}, which is never kept elsewhere");
            return Err(refused(at, message));
        }
        self.files += 1;
        Ok(())
    }

    fn link(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &std::ffi::OsStr,
        at: &Path,
        stat: &Stat,
    ) -> Result<(), WorkspaceError> {
        let what = || format!("packing {}", at.display());
        let target = readlinkat(dir, name, Vec::new()).map_err(|e| broken(what(), e))?;
        let target = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()));
        if !stays(self.root, at, target) {
            self.left_out += 1;
            return Ok(());
        }
        let mut header = header(EntryType::Symlink, Mode::from_raw_mode(0o777), stat);
        let added = self.tar.append_link(&mut header, at, target);
        added.map_err(|e| broken(what(), e))?;
        self.files += 1;
        Ok(())
    }

    /// The name of the secret a file holds.
    fn whose(&self, at: &Path) -> String {
        let holds = |secret: &Secret| {
            let file = File::open(self.root.join(at)).ok()?;
            let masks = Masks::new([secret]);
            let mut watched = Watched::new(file, &masks);
            io::copy(&mut watched, &mut io::sink()).ok()?;
            watched.holds_secret().then_some(())
        };
        let mut secrets = self.secrets.iter();
        let found = secrets.find(|(_, secret)| holds(secret).is_some());
        found.map_or("of this run".to_owned(), |(name, _)| name.clone())
    }
}

fn header(kind: EntryType, mode: Mode, stat: &Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode.as_raw_mode());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header
}

/// Looks for secrets in what is read.
struct Watched<R> {
    inner: R,
    masks: Option<crate::base::MaskStream>,
    masked: Vec<u8>,
    taken: u64,
    /// Bytes that came out of masking: fewer, once a secret is in it, since no mask is as long as
    /// the shortest form.
    passed: u64,
}

impl<R> Watched<R> {
    fn new(inner: R, masks: &Masks) -> Self {
        Self {
            inner,
            masks: (!masks.is_empty()).then(|| masks.stream()),
            masked: Vec::new(),
            taken: 0,
            passed: 0,
        }
    }

    fn holds_secret(&mut self) -> bool {
        let Some(masks) = &mut self.masks else {
            return false;
        };
        self.masked.clear();
        masks.finish(&mut self.masked);
        self.passed += self.masked.len() as u64;
        self.passed != self.taken
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.taken += count as u64;
        if let Some(masks) = &mut self.masks {
            self.masked.clear();
            masks.push(&buffer[..count], &mut self.masked);
            self.passed += self.masked.len() as u64;
        }
        Ok(count)
    }
}
