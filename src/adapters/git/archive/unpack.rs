//! Unpacks an archive that anybody may have made: only files, directories and links that stay
//! inside, through directory handles, bounded in every way. Owners and special modes are ignored.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, Timespec, Timestamps, fchmod, futimens, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use tar::{Archive, EntryType};

use super::super::artifacts::stays;
use super::super::files::{
    CREATE, MAX_DEPTH, broken, names, open_dir, open_root, refused, write_all,
};
use super::MAX_ENTRIES;
use crate::base::human_bytes;
use crate::ports::workspace::WorkspaceError;

/// Longest name, in bytes.
const LONGEST: u64 = 8 << 10;

/// Unpacks into a new directory and returns the number of files and links.
pub(super) fn unpack(archive: &Path, into: &Path, largest: u64) -> Result<u64, WorkspaceError> {
    let bad = |e: io::Error| broken("unpacking an archive", e);
    std::fs::create_dir_all(into).map_err(|e| broken(format!("making {}", into.display()), e))?;
    let file = File::open(archive).map_err(bad)?;
    let stream = zstd::stream::read::Decoder::with_buffer(BufReader::new(file)).map_err(bad)?;
    let mut archive = Archive::new(stream);
    let mut unpack = Unpack {
        root: open_root(into)?,
        largest,
        bytes: 0,
        files: 0,
        links: Vec::new(),
        modes: Vec::new(),
        name: None,
        target: None,
    };
    // Raw: what extends an entry is read here, where it is bounded.
    for (count, entry) in archive.entries().map_err(bad)?.raw(true).enumerate() {
        if count as u64 > 3 * MAX_ENTRIES {
            return Err(refused(into, "would hold too many entries"));
        }
        unpack.entry(entry.map_err(bad)?)?;
    }
    if unpack.name.is_some() || unpack.target.is_some() {
        return Err(refused(into, "comes from an archive that was cut off"));
    }
    unpack.finish(into)
}

struct Unpack {
    root: OwnedFd,
    largest: u64,
    bytes: u64,
    files: u64,
    /// Made last, so that nothing can be written through one.
    links: Vec<(PathBuf, PathBuf)>,
    /// Of directories, set last, so that one may forbid writing.
    modes: Vec<(PathBuf, Mode)>,
    /// What the next entry is called, and what it leads to, if that is long.
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl Unpack {
    fn entry<R: Read>(&mut self, mut entry: tar::Entry<'_, R>) -> Result<(), WorkspaceError> {
        let bad = |e: io::Error| broken("unpacking an archive", e);
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::GNULongName | EntryType::GNULongLink) {
            if entry.size() > LONGEST {
                return Err(refused("archive", "holds a name that is too long"));
            }
            let mut text = Vec::new();
            entry.read_to_end(&mut text).map_err(bad)?;
            if text.last() == Some(&0) {
                text.pop();
            }
            match kind {
                EntryType::GNULongName => self.name = Some(text),
                _ => self.target = Some(text),
            }
            return Ok(());
        }
        let name = match self.name.take() {
            Some(name) => name,
            None => entry.header().path_bytes().into_owned(),
        };
        let path = Path::new(std::ffi::OsStr::from_bytes(&name)).to_owned();
        let path: PathBuf = names(&path)?.into_iter().collect();
        if path.components().count() > MAX_DEPTH {
            return Err(refused(path, "is nested too deep"));
        }
        let target = self.target.take();
        match kind {
            EntryType::Directory => {
                self.dir(&path, path.components())?;
                let mode = entry.header().mode().map_err(bad)?;
                self.modes
                    .push((path, Mode::from_raw_mode(mode & 0o777 | 0o700)));
                Ok(())
            }
            EntryType::Regular => self.file(&path, entry),
            EntryType::Symlink => {
                let target = match target {
                    Some(target) => target,
                    None => match entry.header().link_name_bytes() {
                        Some(target) => target.into_owned(),
                        None => return Err(refused(path, "is a link to nothing")),
                    },
                };
                let target = PathBuf::from(std::ffi::OsStr::from_bytes(&target));
                self.links.push((path, target));
                Ok(())
            }
            _ => Err(refused(path, "is no file, directory or symbolic link")),
        }
    }

    fn file<R: Read>(
        &mut self,
        path: &Path,
        mut entry: tar::Entry<'_, R>,
    ) -> Result<(), WorkspaceError> {
        let fail = |e: &dyn std::fmt::Display| broken(format!("unpacking {}", path.display()), e);
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.bytes > self.largest {
            let largest = human_bytes(self.largest);
            return Err(refused(
                path,
                format!("is beyond the {largest} that are kept"),
            ));
        }
        let (dir, name) = self.parent(path)?;
        let mode = entry.header().mode().map_err(|e| fail(&e))? & 0o777 | 0o200;
        let file = match openat(&dir, name, CREATE, Mode::from_raw_mode(0o600)) {
            Ok(file) => file,
            Err(Errno::EXIST) => return Err(refused(path, "is in the archive twice")),
            Err(error) => return Err(fail(&error)),
        };
        let mut buffer = vec![0; 64 << 10];
        let mut left = entry.size();
        while left > 0 {
            let count = entry.read(&mut buffer).map_err(|e| fail(&e))?;
            if count == 0 {
                return Err(refused(path, "comes from an archive that was cut off"));
            }
            left -= count as u64;
            write_all(&file, &buffer[..count]).map_err(|e| fail(&e))?;
        }
        fchmod(&file, Mode::from_raw_mode(mode)).map_err(|e| fail(&e))?;
        let seconds = entry.header().mtime().map_err(|e| fail(&e))?;
        let time = Timespec {
            tv_sec: i64::try_from(seconds).unwrap_or(0),
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        // A time the file system cannot hold does not matter.
        let _ = futimens(&file, &times);
        self.files += 1;
        Ok(())
    }

    /// Opens a directory below the root, and makes it and those above it.
    fn dir<'a>(
        &self,
        path: &Path,
        parts: impl Iterator<Item = Component<'a>>,
    ) -> Result<OwnedFd, WorkspaceError> {
        let fail = |e: Errno| broken(format!("unpacking {}", path.display()), e);
        let root = self.root.as_fd().try_clone_to_owned();
        let mut at = root.map_err(|e| broken(format!("unpacking {}", path.display()), e))?;
        for part in parts {
            at = step(at.as_fd(), part.as_os_str()).map_err(|error| match error {
                Errno::NOTDIR | Errno::LOOP => refused(path, "leads through a file"),
                error => fail(error),
            })?;
        }
        Ok(at)
    }

    fn parent<'p>(&self, path: &'p Path) -> Result<(OwnedFd, &'p std::ffi::OsStr), WorkspaceError> {
        let above = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default();
        Ok((self.dir(path, above.components())?, name))
    }

    fn finish(mut self, root: &Path) -> Result<u64, WorkspaceError> {
        for (path, target) in &self.links {
            let (dir, name) = self.parent(path)?;
            symlinkat(target, &dir, name)
                .map_err(|e| broken(format!("linking {}", path.display()), e))?;
            self.files += 1;
        }
        // All of them are there: one may lead out by way of another.
        for (path, target) in &self.links {
            if !stays(root, path, target) {
                let message = format!("is a link to {}, outside", target.display());
                return Err(refused(path, message));
            }
        }
        for (path, mode) in &self.modes {
            let dir = self.dir(path, path.components())?;
            fchmod(&dir, *mode).map_err(|e| broken("unpacking an archive", e))?;
        }
        Ok(self.files)
    }
}

fn step(dir: BorrowedFd<'_>, name: &std::ffi::OsStr) -> Result<OwnedFd, Errno> {
    match mkdirat(dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => open_dir(dir, name),
        Err(error) => Err(error),
    }
}
