//! Files below a directory, reached by directory handles one component at a time.
//!
//! No function here ever follows a symbolic link below its root, whatever another process does to
//! the directories meanwhile. All sizes and counts are bounded.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, fchmod, fstat, futimens,
    mkdirat, openat, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::base::{StageId, human_bytes};
use crate::ports::workspace::WorkspaceError;

/// No copy holds more entries than this.
const MAX_ENTRIES: u64 = 1_000_000;
/// No copy holds more bytes than this.
const MAX_BYTES: u64 = 256 << 30;
/// No directory is nested deeper than this.
pub(super) const MAX_DEPTH: usize = 200;
/// Files up to this size are copied by one read and one write, the cheapest way for them.
pub(super) const SMALL: u64 = 64 << 10;

/// An error about one path.
pub(super) fn refused(path: impl Into<PathBuf>, message: impl Into<String>) -> WorkspaceError {
    WorkspaceError::Path {
        path: path.into(),
        message: message.into(),
    }
}

/// An error of the system while something was done.
pub(super) fn broken(what: impl Into<String>, error: impl std::fmt::Display) -> WorkspaceError {
    WorkspaceError::Broken {
        what: what.into(),
        message: error.to_string(),
    }
}

/// The names of a relative path that stays below its root.
pub(super) fn names(path: &Path) -> Result<Vec<&OsStr>, WorkspaceError> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            _ => return Err(refused(path, "leads outside its directory")),
        }
    }
    if names.is_empty() {
        return Err(refused(path, "names no file"));
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(refused(path, "contains a zero byte"));
    }
    Ok(names)
}

/// A text as one component of a path: neither hidden nor special, and distinct for distinct texts.
pub(super) fn component(text: &str) -> String {
    if text.is_empty() || text.starts_with('.') {
        let hash = crate::base::Digest::of(text.as_bytes());
        return format!("_{}", &hash.hex()[..24]);
    }
    StageId::from(text).file_name()
}

/// Opens a directory that is not under anyone else's control.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd, WorkspaceError> {
    openat(CWD, path, DIRECTORY - OFlags::NOFOLLOW, Mode::empty())
        .map_err(|error| broken(format!("opening {}", path.display()), error))
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens one directory in another, without following links.
pub(super) fn open_dir(
    parent: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
) -> Result<OwnedFd, Errno> {
    openat(parent, name, DIRECTORY, Mode::empty())
}

/// Opens the directory that holds the last of `names`; `None` if it is not there.
fn open_parent(
    root: BorrowedFd<'_>,
    path: &Path,
    names: &[&OsStr],
) -> Result<Option<OwnedFd>, WorkspaceError> {
    let mut dir = root
        .try_clone_to_owned()
        .map_err(|error| broken(format!("opening {}", path.display()), error))?;
    for name in &names[..names.len() - 1] {
        dir = match open_dir(dir.as_fd(), *name) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                if is_link(dir.as_fd(), name) {
                    return Err(refused(
                        path,
                        format!(
                            "passes through the symbolic link {}",
                            Path::new(name).display()
                        ),
                    ));
                }
                return Ok(None);
            }
            Err(error) => return Err(broken(format!("opening {}", path.display()), error)),
        };
    }
    Ok(Some(dir))
}

fn is_link(dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// Reads a regular file of at most `limit` bytes; `None` if it is not there.
pub(super) fn read(
    root: &Path,
    path: &Path,
    limit: u64,
) -> Result<Option<Vec<u8>>, WorkspaceError> {
    let names = names(path)?;
    let root = match open_root(root) {
        Ok(root) => root,
        Err(_) if !root.exists() => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(dir) = open_parent(root.as_fd(), path, &names)? else {
        return Ok(None);
    };
    let what = || format!("reading {}", path.display());
    // Without NONBLOCK opening a named pipe would wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match openat(&dir, names[names.len() - 1], flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(refused(path, "is a symbolic link")),
        Err(Errno::NXIO) => return Err(refused(path, "is not a regular file")),
        Err(error) => return Err(broken(what(), error)),
    };
    let stat = fstat(&file).map_err(|error| broken(what(), error))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(refused(path, "is a directory")),
        _ => return Err(refused(path, "is not a regular file")),
    }
    let size = size(&stat);
    if size > limit {
        return Err(too_large(path, limit));
    }
    let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // The file may grow while it is read.
    File::from(file)
        .take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| broken(what(), error))?;
    if content.len() as u64 > limit {
        return Err(too_large(path, limit));
    }
    Ok(Some(content))
}

/// The error for a file beyond its bound.
pub(super) fn too_large(path: &Path, limit: u64) -> WorkspaceError {
    refused(path, format!("is larger than {}", human_bytes(limit)))
}

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

/// How new files are opened: never an existing one, never through a link.
pub(super) const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

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

pub(super) fn write_all(target: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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

/// Removes whatever is at a path, also directories that forbid it by their mode.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let first = match std::fs::remove_dir_all(path) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    match first.kind() {
        io::ErrorKind::NotFound => Ok(()),
        io::ErrorKind::NotADirectory => std::fs::remove_file(path),
        io::ErrorKind::PermissionDenied => {
            if let Ok(dir) = openat(CWD, path, DIRECTORY, Mode::empty()) {
                open_up(dir.as_fd(), 0);
            }
            std::fs::remove_dir_all(path).map_err(|_| first)
        }
        _ => Err(first),
    }
}

/// Makes directories writable for their owner, as far as it goes.
fn open_up(dir: BorrowedFd<'_>, depth: usize) {
    let _ = fchmod(dir, Mode::RWXU);
    let Ok(entries) = Dir::read_from(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if depth > MAX_DEPTH || name == c"." || name == c".." {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            let _ = rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty());
        }
        if let Ok(inner) = open_dir(dir, name) {
            open_up(inner.as_fd(), depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn paths_stay_below_their_root() {
        assert!(names(Path::new("a/./b")).is_ok());
        for bad in ["", ".", "..", "a/../b", "/etc/passwd", "../x", "a\0b"] {
            assert!(names(Path::new(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn components_are_safe_and_distinct() {
        assert_eq!(component("go-1.22"), "go-1.22");
        let odd = [".", "..", "", ".git", "a/b", "a_b"].map(component);
        for name in &odd {
            assert!(!name.starts_with('.') && !name.contains('/'), "{name}");
        }
        let distinct: std::collections::BTreeSet<_> = odd.iter().collect();
        assert_eq!(distinct.len(), odd.len(), "{odd:?}");
    }

    #[test]
    fn reading_is_bounded_and_follows_no_link() {
        let dir = tempfile::tempdir().expect("dir");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("sub")).expect("mkdir");
        std::fs::write(root.join("sub/f"), "hello").expect("write");
        std::fs::write(dir.path().join("secret"), "s").expect("write");
        symlink("../secret", root.join("leaf")).expect("link");
        symlink("..", root.join("up")).expect("link");
        let get = |path: &str, limit| read(&root, Path::new(path), limit);
        assert_eq!(get("sub/f", 5).expect("read"), Some(b"hello".to_vec()));
        assert_eq!(get("sub/none", 5).expect("read"), None);
        assert_eq!(get("none/f", 5).expect("read"), None);
        assert_eq!(get("sub/f/x", 5).expect("read"), None);
        for (path, limit, part) in [
            ("sub/f", 4, "larger than"),
            ("leaf", 9, "symbolic link"),
            ("up/secret", 9, "symbolic link up"),
            ("../secret", 9, "outside"),
            ("sub", 9, "directory"),
        ] {
            let error = get(path, limit).expect_err(path).to_string();
            assert!(error.contains(part), "{path}: {error}");
        }
    }

    #[test]
    fn a_named_pipe_does_not_block() {
        let dir = tempfile::tempdir().expect("dir");
        let fifo = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("mkfifo");
        let error = read(dir.path(), Path::new("pipe"), 9).expect_err("a pipe");
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

    #[test]
    fn removes_what_forbids_it() {
        let dir = tempfile::tempdir().expect("dir");
        let inner = dir.path().join("a/b");
        std::fs::create_dir_all(&inner).expect("mkdir");
        std::fs::write(inner.join("f"), "").expect("write");
        let mode = std::fs::Permissions::from_mode(0o500);
        std::fs::set_permissions(&inner, mode).expect("chmod");
        remove(&dir.path().join("a")).expect("remove");
        assert!(!dir.path().join("a").exists());
        remove(&dir.path().join("a")).expect("again");
    }
}
