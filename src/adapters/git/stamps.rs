//! Tells cheaply that nothing below a directory has changed since it was last looked at.
//!
//! A file's status-change time is set by the system at every change of it, and nobody else can set
//! it; the time of modification proves nothing. What was changed in the same moment as it was looked
//! at cannot be told from what was not, so only entries whose last change lies back for a while are
//! believed. Writes nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, statat};

use super::files;

/// The system's clock for files moves in steps of some milliseconds.
const STEPS: Duration = Duration::from_millis(100);

/// More entries than this are not worth remembering.
const MAX_ENTRIES: usize = 2_000;

/// What stood below a directory, and how it was.
#[derive(Debug)]
pub(super) struct Stamps {
    /// The directory itself.
    root: Stamp,
    /// All entries, a directory before what is in it.
    entries: Vec<(PathBuf, Stamp)>,
}

/// What tells one state of an entry from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    mode: u32,
    owner: u32,
    links: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamps {
    /// Looks at everything below a directory that nobody writes to now; nothing if it is too much
    /// or was changed just now.
    pub(super) fn take(root: &Path) -> Option<Self> {
        let dir = files::open_root(root).ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let believed = now.checked_sub(STEPS)?;
        let mut entries = Vec::new();
        walk(dir.as_fd(), &mut PathBuf::new(), &mut entries, 0)?;
        let limit = (
            i64::try_from(believed.as_secs()).ok()?,
            i64::from(believed.subsec_nanos()),
        );
        let root = Stamp::of_root(dir.as_fd())?;
        let is_old = |stamp: &Stamp| stamp.changed < limit;
        let all_old = is_old(&root) && entries.iter().all(|(_, stamp)| is_old(stamp));
        all_old.then_some(Self { root, entries })
    }

    /// Whether everything is as it was.
    pub(super) fn hold(&self, root: &Path) -> bool {
        let Ok(dir) = files::open_root(root) else {
            return false;
        };
        // What is in a directory cannot change without its own stamp.
        self.entries
            .iter()
            .all(|(path, stamp)| Stamp::of(dir.as_fd(), path).is_some_and(|now| now == *stamp))
            && Stamp::of_root(dir.as_fd()).is_some_and(|root| root == self.root)
    }
}

impl Stamp {
    fn of_root(dir: BorrowedFd<'_>) -> Option<Self> {
        fstat(dir).ok().map(|stat| Self::from(&stat))
    }

    fn of(dir: BorrowedFd<'_>, path: &Path) -> Option<Self> {
        statat(dir, path, AtFlags::SYMLINK_NOFOLLOW)
            .ok()
            .map(|stat| Self::from(&stat))
    }
}

impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Self {
        Self {
            inode: (stat.st_dev, stat.st_ino),
            mode: stat.st_mode,
            owner: stat.st_uid,
            links: stat.st_nlink,
            size: stat.st_size,
            modified: (
                stat.st_mtime,
                i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
            changed: (
                stat.st_ctime,
                i64::try_from(stat.st_ctime_nsec).unwrap_or(0),
            ),
        }
    }
}

fn names(dir: BorrowedFd<'_>) -> Option<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(dir).ok()? {
        let name = entry.ok()?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(OsString::from_vec(name));
        }
        if names.len() > MAX_ENTRIES {
            return None;
        }
    }
    Some(names)
}

fn walk(
    dir: BorrowedFd<'_>,
    at: &mut PathBuf,
    entries: &mut Vec<(PathBuf, Stamp)>,
    depth: usize,
) -> Option<()> {
    for name in names(dir)? {
        let stat = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        at.push(&name);
        if entries.len() >= MAX_ENTRIES || depth > files::MAX_DEPTH {
            return None;
        }
        entries.push((at.clone(), Stamp::from(&stat)));
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let inner = files::open_dir(dir, &name).ok()?;
            walk(inner.as_fd(), at, entries, depth + 1)?;
        }
        at.pop();
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A directory whose last change lies back far enough to be believed.
    fn settled() -> (tempfile::TempDir, Stamps) {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::create_dir(dir.path().join("a")).expect("mkdir");
        std::fs::write(dir.path().join("a/file"), "text").expect("write");
        std::fs::write(dir.path().join("top"), "text").expect("write");
        let stamps = std::iter::repeat_with(|| Stamps::take(dir.path()))
            .find_map(|stamps| stamps)
            .expect("time goes on");
        (dir, stamps)
    }

    #[test]
    fn what_was_changed_just_now_is_not_believed() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join("new"), "text").expect("write");
        assert!(Stamps::take(dir.path()).is_none());
    }

    #[test]
    fn every_change_is_seen() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 9] = [
            ("mode of the whole", |at| {
                let mode = std::fs::Permissions::from_mode(0o711);
                std::fs::set_permissions(at, mode).expect("chmod");
            }),
            ("content", |at| {
                std::fs::write(at.join("a/file"), "tex2").expect("write")
            }),
            ("content, with its old time", |at| {
                let file = at.join("a/file");
                let old = std::fs::metadata(&file)
                    .expect("stat")
                    .modified()
                    .expect("time");
                std::fs::write(&file, "tex2").expect("write");
                let open = std::fs::File::options()
                    .write(true)
                    .open(&file)
                    .expect("open");
                open.set_modified(old).expect("touch");
            }),
            ("new at the top", |at| {
                std::fs::write(at.join("new"), "").expect("write")
            }),
            ("new below", |at| {
                std::fs::write(at.join("a/new"), "").expect("write")
            }),
            ("gone at the top", |at| {
                std::fs::remove_file(at.join("top")).expect("rm")
            }),
            ("gone below", |at| {
                std::fs::remove_file(at.join("a/file")).expect("rm")
            }),
            ("mode", |at| {
                let mode = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(at.join("a/file"), mode).expect("chmod");
            }),
            ("a second name elsewhere", |at| {
                let other = at
                    .parent()
                    .expect("parent")
                    .join(format!("link-{}", std::process::id()));
                let _ = std::fs::remove_file(&other);
                std::fs::hard_link(at.join("top"), &other).expect("link");
                std::fs::remove_file(&other).expect("rm");
            }),
        ];
        for (name, change) in changes {
            let (dir, stamps) = settled();
            change(dir.path());
            assert!(!stamps.hold(dir.path()), "{name}");
        }
    }
}
