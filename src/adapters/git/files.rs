//! Files below a directory, reached by directory handles one component at a time.
//!
//! No function here ever follows a symbolic link below its root, whatever another process does to
//! the directories meanwhile. All sizes and counts are bounded.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fchmod, fstat, openat, statat};
use rustix::io::Errno;

use crate::base::{StageId, human_bytes};
use crate::ports::workspace::WorkspaceError;

/// No directory is nested deeper than this.
pub(super) const MAX_DEPTH: usize = 200;
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
pub(super) fn open_parent(
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

/// Names in a directory; `None` if it is none.
pub(super) fn entries(root: &Path, path: &Path) -> Result<Option<Vec<String>>, WorkspaceError> {
    const MOST: usize = 100_000;
    let what = || format!("listing {}", path.display());
    let root = open_root(root)?;
    let whole = path.as_os_str().is_empty() || path == Path::new(".");
    let dir = if whole {
        root
    } else {
        let names = names(path)?;
        let Some(parent) = open_parent(root.as_fd(), path, &names)? else {
            return Ok(None);
        };
        match open_dir(parent.as_fd(), names[names.len() - 1]) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::LOOP) => return Err(refused(path, "is a symbolic link")),
            Err(error) => return Err(broken(what(), error)),
        }
    };
    let mut names = Vec::new();
    for entry in Dir::new(dir).map_err(|error| broken(what(), error))? {
        let entry = entry.map_err(|error| broken(what(), error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
        if names.len() > MOST {
            return Err(refused(path, "holds too many files"));
        }
    }
    names.sort();
    Ok(Some(names))
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
    let size = u64::try_from(stat.st_size).unwrap_or(0);
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

/// Makes `path` below a root a symbolic link to a directory elsewhere, replacing what is there.
pub(super) fn link(root: &Path, path: &Path, target: &Path) -> Result<(), WorkspaceError> {
    let (name, parents) = match names(path)?.as_slice() {
        [parents @ .., name] => (
            (*name).to_owned(),
            parents.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(),
        ),
        [] => return Err(refused(path, "names no file")),
    };
    let fail = |error: Errno| broken(format!("linking {}", path.display()), error);
    let mut at = open_root(root)?;
    let mut below = root.to_owned();
    for parent in parents {
        match rustix::fs::mkdirat(&at, &*parent, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(fail(error)),
        }
        below.push(&parent);
        at = open_dir(at.as_fd(), &*parent)
            .map_err(|_| refused(path, "leads through a file or a symbolic link"))?;
    }
    let there = below.join(&name);
    if std::fs::symlink_metadata(&there).is_ok() {
        remove(&there).map_err(|error| broken(format!("replacing {}", path.display()), error))?;
    }
    rustix::fs::symlinkat(target, &at, &*name).map_err(fail)
}

/// The error for a file beyond its bound.
pub(super) fn too_large(path: &Path, limit: u64) -> WorkspaceError {
    refused(path, format!("is larger than {}", human_bytes(limit)))
}

/// How new files are opened: never an existing one, never through a link.
pub(super) const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

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
