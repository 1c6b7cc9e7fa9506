//! Turns a used scratch copy back into an exact copy, writing only what differs.
//!
//! Making files is far slower than comparing small ones: on ext4 a new file costs up to half a
//! millisecond when many were deleted shortly before, which is just what thousands of short stages
//! do. Contents are compared byte by byte: times can be set by anyone and prove nothing.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, futimens, openat, readlinkat, statat,
    unlinkat,
};
use rustix::io::Errno;

use super::copy::{self, Copy};
use super::files::{self, broken, refused};
use crate::ports::workspace::WorkspaceError;

/// Makes `to` an exact copy of `from`, or empty if `from` is absent.
pub(super) fn refresh(from: Option<&Path>, to: &Path) -> Result<(), WorkspaceError> {
    let target = files::open_root(to)?;
    let Some(from) = from else {
        for (name, _) in list(target.as_fd(), to)? {
            remove(target.as_fd(), &name, 0)
                .map_err(|e| broken(format!("clearing {}", to.display()), e))?;
        }
        return Ok(());
    };
    let source = files::open_root(from)?;
    let mut refresh = Refresh {
        copy: Copy::new(),
        ours: Vec::new(),
        theirs: Vec::new(),
    };
    refresh.level(source.as_fd(), target.as_fd(), &mut PathBuf::new(), 0)
}

/// Whether a directory holds at most so many entries and bytes.
pub(super) fn is_light(path: &Path, mut entries: usize, mut bytes: u64) -> bool {
    fn level(dir: BorrowedFd<'_>, entries: &mut usize, bytes: &mut u64, depth: usize) -> bool {
        let Ok(listed) = Dir::read_from(dir) else {
            return false;
        };
        for entry in listed {
            let Ok(entry) = entry else { return false };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                return false;
            };
            let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
            if *entries == 0 || *bytes < size || depth > files::MAX_DEPTH {
                return false;
            }
            *entries -= 1;
            *bytes -= size;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let inner = files::open_dir(dir, name);
                if !inner.is_ok_and(|inner| level(inner.as_fd(), entries, bytes, depth + 1)) {
                    return false;
                }
            }
        }
        true
    }
    files::open_root(path).is_ok_and(|dir| level(dir.as_fd(), &mut entries, &mut bytes, 0))
}

type Listed = Vec<(OsString, FileType)>;

/// The entries of a directory, sorted by name.
fn list(dir: BorrowedFd<'_>, at: &Path) -> Result<Listed, WorkspaceError> {
    let fail = |e: Errno| broken(format!("reading {}", at.display()), e);
    let mut all = Vec::new();
    for entry in Dir::read_from(dir).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let name = OsString::from_vec(name.to_bytes().to_vec());
            all.push((name, entry.file_type()));
        }
    }
    all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

/// Removes one entry and all below it.
fn remove(dir: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Result<(), Errno> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) if depth <= files::MAX_DEPTH => {}
        result => return result,
    }
    let inner = files::open_dir(dir, name)?;
    fchmod(&inner, Mode::RWXU)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&inner)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    for name in names {
        remove(inner.as_fd(), OsStr::from_bytes(&name), depth + 1)?;
    }
    unlinkat(dir, name, AtFlags::REMOVEDIR)
}

struct Refresh {
    copy: Copy,
    ours: Vec<u8>,
    theirs: Vec<u8>,
}

impl Refresh {
    fn level(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        at: &mut PathBuf,
        depth: usize,
    ) -> Result<(), WorkspaceError> {
        if depth > files::MAX_DEPTH {
            return Err(refused(&*at, "is nested too deep"));
        }
        let wanted = list(from, at)?;
        let there = list(to, at)?;
        let find = |all: &Listed, name: &OsStr| {
            let found = all.binary_search_by(|entry| entry.0.as_os_str().cmp(name));
            found.ok().map(|index| all[index].1)
        };
        for (name, kind) in &there {
            if find(&wanted, name) != Some(*kind) {
                remove(to, name, 0)
                    .map_err(|e| broken(format!("clearing {}", at.join(name).display()), e))?;
            }
        }
        for (name, kind) in &wanted {
            at.push(name);
            let present = find(&there, name) == Some(*kind);
            if !(present && self.kept(from, to, name, *kind, at, depth)?) {
                self.copy.entry(from, to, name, *kind, at, depth)?;
            }
            at.pop();
        }
        Ok(())
    }

    /// Whether an entry is right or was made right; if not, it is removed.
    fn kept(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
        at: &mut PathBuf,
        depth: usize,
    ) -> Result<bool, WorkspaceError> {
        let right = match kind {
            FileType::Directory => return self.dir(from, to, name, at, depth),
            FileType::RegularFile => self.same_file(from, to, name),
            FileType::Symlink => same_link(from, to, name),
            _ => Ok(false),
        };
        let fail = |e| broken(format!("renewing {}", at.display()), e);
        if right.map_err(fail)? {
            return Ok(true);
        }
        remove(to, name, 0).map_err(fail)?;
        Ok(false)
    }

    fn dir(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        at: &mut PathBuf,
        depth: usize,
    ) -> Result<bool, WorkspaceError> {
        let fail = |at: &Path, e| broken(format!("renewing {}", at.display()), e);
        let source = files::open_dir(from, name).map_err(|e| fail(at, e))?;
        let target = files::open_dir(to, name).map_err(|e| fail(at, e))?;
        let wanted = fstat(&source).map_err(|e| fail(at, e))?;
        let there = fstat(&target).map_err(|e| fail(at, e))?;
        if there.st_uid != wanted.st_uid {
            remove(to, name, 0).map_err(|e| fail(at, e))?;
            return Ok(false);
        }
        self.level(source.as_fd(), target.as_fd(), at, depth + 1)?;
        // What is right is left alone: a change that changes nothing is still seen as one later.
        let there = fstat(&target).map_err(|e| fail(at, e))?;
        let mode = copy::dir_mode(&wanted);
        if there.st_mode & 0o7777 != mode.as_raw_mode() {
            fchmod(&target, mode).map_err(|e| fail(at, e))?;
        }
        if there.st_mtime != wanted.st_mtime || there.st_mtime_nsec != wanted.st_mtime_nsec {
            futimens(&target, &copy::times(&wanted)).map_err(|e| fail(at, e))?;
        }
        Ok(true)
    }

    fn same_file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<bool, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let source = openat(from, name, flags, Mode::empty())?;
        // A file that cannot be opened (its mode was changed) is made anew.
        let Ok(target) = openat(to, name, flags, Mode::empty()) else {
            return Ok(false);
        };
        let (wanted, there) = (fstat(&source)?, fstat(&target)?);
        let size = copy::size(&wanted);
        // Somebody may keep a second name of the file, and write to it later.
        if there.st_nlink != 1
            || there.st_uid != wanted.st_uid
            || there.st_size != wanted.st_size
            || size > copy::SMALL
            || FileType::from_raw_mode(there.st_mode) != FileType::RegularFile
        {
            return Ok(false);
        }
        // One byte more than expected, to notice growth.
        let room = usize::try_from(size).unwrap_or(0) + 1;
        let ours = fill(&source, &mut self.ours, room)?;
        let theirs = fill(&target, &mut self.theirs, room)?;
        if self.ours[..ours] != self.theirs[..theirs] {
            return Ok(false);
        }
        let mode = copy::file_mode(&wanted);
        if there.st_mode & 0o7777 != mode.as_raw_mode() {
            fchmod(&target, mode)?;
        }
        if there.st_mtime != wanted.st_mtime || there.st_mtime_nsec != wanted.st_mtime_nsec {
            futimens(&target, &copy::times(&wanted))?;
        }
        Ok(true)
    }
}

fn fill(file: impl std::os::fd::AsFd, buffer: &mut Vec<u8>, room: usize) -> Result<usize, Errno> {
    if buffer.len() < room {
        buffer.resize(room, 0);
    }
    let mut done = 0;
    while done < room {
        match rustix::io::read(&file, &mut buffer[done..room]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn same_link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr) -> Result<bool, Errno> {
    Ok(readlinkat(from, name, Vec::new())? == readlinkat(to, name, Vec::new())?)
}
