//! Copying files and directories exactly: content, mode, modification time, links as links.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, fchmod, fstat, futimens,
    mkdirat, openat, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::files::{
    CREATE, MAX_DEPTH, broken, names, open_dir, open_parent, open_root, refused, write_all,
};
use crate::base::human_bytes;
use crate::ports::workspace::WorkspaceError;

/// No copy holds more entries than this.
const MAX_ENTRIES: u64 = 1_000_000;
/// No copy holds more bytes than this.
const MAX_BYTES: u64 = 256 << 30;
/// Files up to this size are copied by one read and one write, the cheapest way for them.
pub(super) const SMALL: u64 = 64 << 10;

/// The size of a file.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The modification time, to be set on a copy.
pub(super) fn times(stat: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: stat.st_mtime,
        tv_nsec: stat.st_mtime_nsec as _,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// The mode of a file's copy: its owner must be able to write it.
pub(super) fn file_mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o777 | 0o200)
}

/// The mode of a directory's copy: its owner must be able to enter and write it.
pub(super) fn dir_mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o777 | 0o700)
}

/// Copies files and directories with their mode and modification time.
pub(super) struct Copy {
    entries: u64,
    bytes: u64,
    merge: bool,
    buffer: Vec<u8>,
}

impl Copy {
    /// A copy into an empty directory.
    pub(super) fn new() -> Self {
        Self {
            entries: 0,
            bytes: 0,
            merge: false,
            buffer: Vec::new(),
        }
    }

    /// A copy over what is there: replaces files and links, keeps other files, and refuses to go
    /// through a link.
    pub(super) fn over() -> Self {
        Self {
            merge: true,
            ..Self::new()
        }
    }

    /// Files (and links) and bytes so far.
    pub(super) fn tally(&self) -> (u64, u64) {
        (self.entries, self.bytes)
    }

    /// Copies all that a directory holds into another.
    pub(super) fn dir(&mut self, from: &Path, to: &Path) -> Result<(), WorkspaceError> {
        let from_dir = open_root(from)?;
        let to_dir = open_root(to)?;
        self.level(from_dir.as_fd(), to_dir.as_fd(), &mut PathBuf::new(), 0)
    }

    fn level(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        at: &mut PathBuf,
        depth: usize,
    ) -> Result<(), WorkspaceError> {
        if depth > MAX_DEPTH {
            return Err(refused(
                &*at,
                format!("is nested deeper than {MAX_DEPTH} directories"),
            ));
        }
        let entries =
            Dir::read_from(from).map_err(|e| broken(format!("reading {}", at.display()), e))?;
        for entry in entries {
            let entry = entry.map_err(|e| broken(format!("reading {}", at.display()), e))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            at.push(name);
            self.entry(from, to, name, entry.file_type(), at, depth)?;
            at.pop();
        }
        Ok(())
    }

    /// Copies one entry of a directory, with all below it.
    pub(super) fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
        at: &mut PathBuf,
        depth: usize,
    ) -> Result<(), WorkspaceError> {
        let kind = match kind {
            FileType::Unknown => statat(from, name, AtFlags::SYMLINK_NOFOLLOW)
                .map(|stat| FileType::from_raw_mode(stat.st_mode))
                .map_err(|e| broken(format!("reading {}", at.display()), e))?,
            kind => kind,
        };
        if kind == FileType::Directory {
            self.subdir(from, to, name, at, depth)
        } else {
            self.leaf(from, to, name, kind, at)
        }
    }

    fn subdir(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        at: &mut PathBuf,
        depth: usize,
    ) -> Result<(), WorkspaceError> {
        let fail = |at: &Path, e| broken(format!("copying {}", at.display()), e);
        let source = open_dir(from, name).map_err(|e| fail(at, e))?;
        let stat = fstat(&source).map_err(|e| fail(at, e))?;
        self.count(at, 0)?;
        let target = make_dir(to, name, at)?;
        self.level(source.as_fd(), target.as_fd(), at, depth + 1)?;
        fchmod(&target, dir_mode(&stat)).map_err(|e| fail(at, e))?;
        if self.merge {
            return Ok(());
        }
        futimens(&target, &times(&stat)).map_err(|e| fail(at, e))
    }

    /// Copies one file or link by its path relative to both roots, making directories on the way.
    pub(super) fn one(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &Path,
    ) -> Result<(), WorkspaceError> {
        let names = names(path)?;
        let gone = || refused(path, "disappeared while it was copied");
        let source = open_parent(from, path, &names)?.ok_or_else(gone)?;
        let name = names[names.len() - 1];
        let kind = statat(&source, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode))
            .map_err(|_| gone())?;
        let mut target = to
            .try_clone_to_owned()
            .map_err(|e| broken(format!("copying {}", path.display()), e))?;
        for name in &names[..names.len() - 1] {
            target = make_dir(target.as_fd(), name, path)?;
        }
        self.leaf(source.as_fd(), target.as_fd(), name, kind, path)
    }

    fn leaf(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
        at: &Path,
    ) -> Result<(), WorkspaceError> {
        let done = match kind {
            FileType::RegularFile => self.file(from, to, name, at)?,
            FileType::Symlink => {
                self.count(at, 0)?;
                self.link(from, to, name)
            }
            _ => {
                return Err(refused(
                    at,
                    "is neither a file, a directory nor a symbolic link",
                ));
            }
        };
        match done {
            Err(Errno::ISDIR) => Err(refused(at, "is a directory where a file must go")),
            done => done.map_err(|e| broken(format!("copying {}", at.display()), e)),
        }
    }

    fn link(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
        let target = readlinkat(from, name, Vec::new())?;
        self.replacing(to, name, || symlinkat(target.as_c_str(), to, name))?;
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        utimensat(to, name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn file(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &OsStr,
        at: &Path,
    ) -> Result<Result<(), Errno>, WorkspaceError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened =
            openat(from, name, flags, Mode::empty()).and_then(|file| Ok((fstat(&file)?, file)));
        let (stat, source) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused(at, "changed while it was copied"));
        }
        self.count(at, size(&stat))?;
        Ok(self.content(&source, &stat, to, name))
    }

    fn content(
        &mut self,
        source: &OwnedFd,
        stat: &Stat,
        to: BorrowedFd<'_>,
        name: &OsStr,
    ) -> Result<(), Errno> {
        let mode = file_mode(stat);
        let target = self.replacing(to, name, || openat(to, name, CREATE, mode))?;
        let size = size(stat);
        if size > SMALL {
            large(source, &target, size)?;
        } else if size > 0 {
            self.buffer.resize(SMALL as usize, 0);
            loop {
                let count = rustix::io::read(source, &mut self.buffer[..])?;
                if count == 0 {
                    break;
                }
                write_all(&target, &self.buffer[..count])?;
                if (count as u64) == size {
                    break;
                }
            }
        }
        // The mode given to open passes through the umask of this process.
        fchmod(&target, mode)?;
        futimens(&target, &times(stat))
    }

    /// Creates something; over an existing file only when merging.
    fn replacing<T>(
        &self,
        to: BorrowedFd<'_>,
        name: &OsStr,
        create: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        match create() {
            Err(Errno::EXIST) if self.merge => {
                unlinkat(to, name, AtFlags::empty())?;
                create()
            }
            result => result,
        }
    }

    fn count(&mut self, at: &Path, bytes: u64) -> Result<(), WorkspaceError> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.entries > MAX_ENTRIES || self.bytes > MAX_BYTES {
            return Err(refused(
                at,
                format!(
                    "is one too many: a copy holds at most {MAX_ENTRIES} entries and {}",
                    human_bytes(MAX_BYTES)
                ),
            ));
        }
        Ok(())
    }
}

/// Makes a directory, or opens it if it is there and is no link.
fn make_dir(to: BorrowedFd<'_>, name: &OsStr, at: &Path) -> Result<OwnedFd, WorkspaceError> {
    match mkdirat(to, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(broken(format!("making {}", at.display()), error)),
    }
    match open_dir(to, name) {
        Ok(dir) => Ok(dir),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(refused(
            at,
            format!(
                "cannot be written: {} is there and is no directory",
                Path::new(name).display()
            ),
        )),
        Err(error) => Err(broken(format!("opening {}", at.display()), error)),
    }
}

/// Copies a large file: shares its blocks where the file system can, else lets the kernel copy.
fn large(source: &OwnedFd, target: &OwnedFd, size: u64) -> Result<(), Errno> {
    #[cfg(target_os = "linux")]
    {
        if rustix::fs::ioctl_ficlone(target, source).is_ok() {
            return Ok(());
        }
        let mut left = size;
        loop {
            let step = usize::try_from(left.clamp(1, 1 << 30)).unwrap_or(1 << 30);
            match rustix::fs::copy_file_range(source, None, target, None, step) {
                Ok(0) => return Ok(()),
                Ok(count) => left = left.saturating_sub(count as u64),
                Err(Errno::INTR) => {}
                // Between some file systems the kernel cannot; nothing was copied then.
                Err(_) if left == size => break,
                Err(error) => return Err(error),
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = size;
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let mut from = File::from(source.try_clone().map_err(errno)?);
    let mut to = File::from(target.try_clone().map_err(errno)?);
    io::copy(&mut from, &mut to).map_err(errno)?;
    to.flush().map_err(errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_named_pipe_does_not_block() {
        let dir = tempfile::tempdir().expect("dir");
        let fifo = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
        let error = crate::adapters::git::files::read(dir.path(), Path::new("pipe"), 9);
        let error = error.expect_err("a pipe");
        assert!(error.to_string().contains("regular file"), "{error}");
        let to = tempfile::tempdir().expect("dir");
        assert!(Copy::new().dir(dir.path(), to.path()).is_err());
    }

    #[test]
    fn copies_keep_modes_links_times_and_large_files() {
        let from = tempfile::tempdir().expect("dir");
        let to = tempfile::tempdir().expect("dir");
        let big: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::create_dir(from.path().join("d")).expect("mkdir");
        std::fs::write(from.path().join("d/big"), &big).expect("write");
        std::fs::write(from.path().join("run"), "#!").expect("write");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(from.path().join("run"), mode).expect("chmod");
        symlink("/nowhere", from.path().join("link")).expect("link");
        Copy::new().dir(from.path(), to.path()).expect("copy");
        assert_eq!(std::fs::read(to.path().join("d/big")).expect("read"), big);
        let copied = std::fs::metadata(to.path().join("run")).expect("stat");
        assert_eq!(copied.permissions().mode() & 0o777, 0o755);
        let original = std::fs::metadata(from.path().join("run")).expect("stat");
        assert_eq!(
            copied.modified().expect("time"),
            original.modified().expect("time")
        );
        let link = std::fs::read_link(to.path().join("link")).expect("link");
        assert_eq!(link, Path::new("/nowhere"));
        assert!(Copy::new().dir(from.path(), to.path()).is_err(), "not over");
        Copy::over().dir(from.path(), to.path()).expect("over");
    }
}
