//! Commits laid out as directories, each made once and shared by all that ask.
//!
//! `trees/SHA` is the tree and `trees/SHA.lock` says that it is complete and who uses it:
//! - whoever uses a tree holds the lock shared, whoever makes or removes one holds it exclusively;
//! - the lock file's content is the system's boot id, written after the finished tree was renamed
//!   into place. A tree without it is half made. A tree of an earlier boot is made again, because
//!   after a power cut a renamed directory may hold files whose content never reached the disk.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use git2::{ObjectType, Odb, Oid, Repository, Tree};
use rustix::fs::{
    AtFlags, Mode, Timespec, Timestamps, fchmod, futimens, mkdirat, openat, symlinkat, utimensat,
};

use super::files::{self, broken, refused};
use super::lock::FileLock;
use crate::base::human_bytes;
use crate::ports::workspace::WorkspaceError;

/// How many trees are kept although nobody uses them.
const KEPT: usize = 5;
/// How long after the last request a tree of this process counts as used. A stage asks for the tree
/// when it starts and reads it then (to copy it or to send it as a build context); this is far
/// longer than any of that takes, while a server that runs for months must let go of old commits.
const IN_USE: Duration = Duration::from_secs(6 * 3600);
/// The largest file of a commit; each is held in memory once.
const MAX_BLOB: usize = 2 << 30;
/// The most entries of a commit: a small repository can describe billions of files.
const MAX_ENTRIES: u64 = 1_000_000;

/// The trees of a state directory.
pub(super) struct Trees {
    dir: PathBuf,
    boot: String,
    held: Mutex<HashMap<String, Held>>,
}

struct Held {
    lock: FileLock,
    used: Instant,
}

impl Trees {
    /// The trees below a directory that need not exist yet.
    pub(super) fn new(dir: PathBuf) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
        Self {
            dir,
            boot,
            held: Mutex::default(),
        }
    }

    /// The tree of a commit if this process used it before: no git, a handful of system calls.
    pub(super) fn known(&self, sha: &str) -> Option<PathBuf> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = held.get_mut(sha)?;
        let path = self.dir.join(sha);
        // Somebody may have removed the state directory under us.
        if !path.is_dir() {
            held.remove(sha);
            return None;
        }
        entry.used = Instant::now();
        let _ = entry.lock.file().set_modified(SystemTime::now());
        Some(path)
    }

    /// The tree of a commit, made if it is not there yet.
    pub(super) fn get(&self, repo: &Repository, sha: &str) -> Result<PathBuf, WorkspaceError> {
        let fail = |e: &dyn std::fmt::Display| broken(format!("laying out commit {sha}"), e);
        std::fs::create_dir_all(&self.dir).map_err(|e| fail(&e))?;
        let path = self.dir.join(sha);
        let lock_path = self.dir.join(format!("{sha}.lock"));
        let lock = loop {
            let lock = FileLock::shared(&lock_path).map_err(|e| fail(&e))?;
            if self.complete(&lock, &path) {
                break lock;
            }
            drop(lock);
            let lock = FileLock::exclusive(&lock_path).map_err(|e| fail(&e))?;
            if !self.complete(&lock, &path) {
                self.make(repo, sha, &lock)?;
            }
            lock.downgrade().map_err(|e| fail(&e))?;
            if self.complete(&lock, &path) {
                break lock;
            }
        };
        let _ = lock.file().set_modified(SystemTime::now());
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let used = Instant::now();
        held.insert(sha.to_owned(), Held { lock, used });
        // Removing takes long, and lookups must not wait for it.
        drop(held);
        self.prune();
        Ok(path)
    }

    fn complete(&self, lock: &FileLock, path: &Path) -> bool {
        let mut mark = String::new();
        let mut file = lock.file();
        let read = file.rewind().and_then(|()| {
            let bound = self.boot.len() as u64 + 1;
            file.take(bound).read_to_string(&mut mark)
        });
        read.is_ok() && mark == self.boot && path.is_dir()
    }

    fn make(&self, repo: &Repository, sha: &str, lock: &FileLock) -> Result<(), WorkspaceError> {
        let fail = |e: &dyn std::fmt::Display| broken(format!("laying out commit {sha}"), e);
        let part = self.dir.join(format!("{sha}.part"));
        let path = self.dir.join(sha);
        let mut file = lock.file();
        file.set_len(0).map_err(|e| fail(&e))?;
        files::remove(&part).map_err(|e| fail(&e))?;
        files::remove(&path).map_err(|e| fail(&e))?;
        std::fs::create_dir(&part).map_err(|e| fail(&e))?;
        if let Err(error) = lay(repo, sha, &part) {
            let _ = files::remove(&part);
            return Err(error);
        }
        std::fs::rename(&part, &path).map_err(|e| fail(&e))?;
        file.rewind().map_err(|e| fail(&e))?;
        file.write_all(self.boot.as_bytes()).map_err(|e| fail(&e))
    }

    /// Whether this process uses a tree; if not, its hold on the tree ends.
    fn keeps(&self, sha: &str) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let used = held.get(sha).is_some_and(|own| own.used.elapsed() < IN_USE);
        if !used {
            held.remove(sha);
        }
        used
    }

    /// Removes trees that are neither among the newest nor used by a live process. Failing to
    /// remove one only costs space, so errors are ignored.
    fn prune(&self) {
        let Ok(entries) = std::fs::read_dir(&self.dir) else {
            return;
        };
        let mut trees: Vec<(SystemTime, String)> = entries
            .flatten()
            .filter_map(|entry| {
                let sha = entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".lock")?
                    .to_owned();
                Some((entry.metadata().ok()?.modified().ok()?, sha))
            })
            .collect();
        if trees.len() <= KEPT {
            return;
        }
        trees.sort_unstable_by(|a, b| b.cmp(a));
        for (_, sha) in trees.into_iter().skip(KEPT) {
            if self.keeps(&sha) {
                continue;
            }
            let lock_path = self.dir.join(format!("{sha}.lock"));
            let Ok(Some(lock)) = FileLock::try_exclusive(&lock_path) else {
                continue;
            };
            // Without its mark the tree is void, even if we die half way.
            if lock.file().set_len(0).is_ok()
                && files::remove(&self.dir.join(format!("{sha}.part"))).is_ok()
                && files::remove(&self.dir.join(&sha)).is_ok()
            {
                let _ = lock.remove();
            }
        }
    }
}

/// Writes the files of a commit below an empty directory.
fn lay(repo: &Repository, sha: &str, into: &Path) -> Result<(), WorkspaceError> {
    let fail = |e: git2::Error| broken(format!("reading commit {sha}"), e.message());
    let commit = Oid::from_str(sha)
        .and_then(|id| repo.find_commit(id))
        .map_err(|_| WorkspaceError::NoRevision {
            revision: sha.to_owned(),
        })?;
    let time = Timespec {
        tv_sec: commit.time().seconds(),
        tv_nsec: 0,
    };
    let layout = Layout {
        repo,
        odb: repo.odb().map_err(fail)?,
        times: Timestamps {
            last_access: time,
            last_modification: time,
        },
    };
    let tree = commit.tree().map_err(fail)?;
    let entries = count(repo, &tree, &mut HashMap::new(), 0)?;
    if entries > MAX_ENTRIES {
        return Err(broken(
            format!("laying out commit {sha}"),
            format!("it has more than {MAX_ENTRIES} entries"),
        ));
    }
    let dir = files::open_root(into)?;
    layout.level(&tree, dir.as_fd(), &mut PathBuf::new())?;
    let mode = Mode::from_raw_mode(0o755);
    fchmod(&dir, mode)
        .and_then(|()| futimens(&dir, &layout.times))
        .map_err(|e| broken(format!("writing {}", into.display()), e))
}

struct Layout<'repo> {
    repo: &'repo Repository,
    odb: Odb<'repo>,
    times: Timestamps,
}

/// The number of entries of a directory and all below it. Counts each directory object once, so
/// that a commit which repeats one directory a billion times is refused before it fills the disk.
fn count(
    repo: &Repository,
    tree: &Tree<'_>,
    known: &mut HashMap<Oid, u64>,
    depth: usize,
) -> Result<u64, WorkspaceError> {
    if let Some(count) = known.get(&tree.id()) {
        return Ok(*count);
    }
    let mut total = 0u64;
    for entry in tree {
        total = total.saturating_add(1);
        if entry.filemode() == 0o040_000 {
            let at = || String::from_utf8_lossy(entry.name_bytes()).into_owned();
            if depth > files::MAX_DEPTH {
                let message = format!("is nested deeper than {} directories", files::MAX_DEPTH);
                return Err(refused(at(), message));
            }
            let inner = repo
                .find_tree(entry.id())
                .map_err(|e| broken(format!("reading {}", at()), e.message()))?;
            total = total.saturating_add(count(repo, &inner, known, depth + 1)?);
        }
    }
    known.insert(tree.id(), total);
    Ok(total)
}

impl Layout<'_> {
    fn level(
        &self,
        tree: &Tree<'_>,
        dir: BorrowedFd<'_>,
        at: &mut PathBuf,
    ) -> Result<(), WorkspaceError> {
        for entry in tree {
            let name = OsStr::from_bytes(entry.name_bytes());
            at.push(name);
            check_name(name, at)?;
            match entry.filemode() {
                0o040_000 => self.subdir(entry.id(), dir, name, at)?,
                0o160_000 => self.empty(dir, name, at)?,
                mode => self.leaf(entry.id(), mode, dir, name, at)?,
            }
            at.pop();
        }
        Ok(())
    }

    fn subdir(
        &self,
        id: Oid,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        at: &mut PathBuf,
    ) -> Result<(), WorkspaceError> {
        let tree = self
            .repo
            .find_tree(id)
            .map_err(|e| broken(format!("reading {}", at.display()), e.message()))?;
        let fail = |at: &Path, e| broken(format!("writing {}", at.display()), e);
        mkdirat(dir, name, Mode::RWXU).map_err(|e| fail(at, e))?;
        let inner = files::open_dir(dir, name).map_err(|e| fail(at, e))?;
        self.level(&tree, inner.as_fd(), at)?;
        fchmod(&inner, Mode::from_raw_mode(0o755))
            .and_then(|()| futimens(&inner, &self.times))
            .map_err(|e| fail(at, e))
    }

    /// A submodule's commit is not in this repository: its directory stays empty, as git leaves it.
    fn empty(&self, dir: BorrowedFd<'_>, name: &OsStr, at: &Path) -> Result<(), WorkspaceError> {
        mkdirat(dir, name, Mode::from_raw_mode(0o755))
            .and_then(|()| utimensat(dir, name, &self.times, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|e| broken(format!("writing {}", at.display()), e))
    }

    fn leaf(
        &self,
        id: Oid,
        mode: i32,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        at: &Path,
    ) -> Result<(), WorkspaceError> {
        let git = |e: git2::Error| broken(format!("reading {}", at.display()), e.message());
        let (size, kind) = self.odb.read_header(id).map_err(git)?;
        if kind != ObjectType::Blob {
            return Err(refused(at, "is no file although its directory says so"));
        }
        if size > MAX_BLOB {
            return Err(files::too_large(at, MAX_BLOB as u64));
        }
        // Raw bytes: no line-ending conversion, no filter, no LFS.
        let blob = self.odb.read(id).map_err(git)?;
        let written = if mode == 0o120_000 {
            symlinkat(OsStr::from_bytes(blob.data()), dir, name)
                .and_then(|()| utimensat(dir, name, &self.times, AtFlags::SYMLINK_NOFOLLOW))
        } else {
            let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
            let mode = Mode::from_raw_mode(mode);
            openat(dir, name, files::CREATE, mode).and_then(|file| {
                files::write_all(&file, blob.data())?;
                fchmod(&file, mode)?;
                futimens(&file, &self.times)
            })
        };
        written.map_err(|e| {
            let size = human_bytes(size as u64);
            broken(format!("writing {} ({size})", at.display()), e)
        })
    }
}

/// Refuses names that git itself would never check out.
fn check_name(name: &OsStr, at: &Path) -> Result<(), WorkspaceError> {
    let bytes = name.as_bytes();
    if bytes.is_empty()
        || bytes == b"."
        || bytes == b".."
        || bytes.contains(&b'/')
        || bytes.contains(&0)
        || bytes.eq_ignore_ascii_case(b".git")
    {
        return Err(refused(
            at,
            "is a name that no file of a repository may have",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(dir: &Path) -> Repository {
        Repository::init(dir).expect("a repository")
    }

    /// Makes a commit with one file and a time.
    fn commit(repo: &Repository, content: &str, time: i64) -> String {
        let mut builder = repo.treebuilder(None).expect("builder");
        let blob = repo.blob(content.as_bytes()).expect("blob");
        builder.insert("f", blob, 0o100_644).expect("insert");
        let tree = repo
            .find_tree(builder.write().expect("write"))
            .expect("tree");
        let who = git2::Signature::new("a", "a@b", &git2::Time::new(time, 0)).expect("who");
        repo.commit(None, &who, &who, "m", &tree, &[])
            .expect("commit")
            .to_string()
    }

    #[test]
    fn a_half_made_tree_is_made_again() {
        let dir = tempfile::tempdir().expect("dir");
        let repo = repo(&dir.path().join("r"));
        let sha = commit(&repo, "one", 1_000);
        let at = dir.path().join("trees");
        std::fs::create_dir_all(at.join(format!("{sha}.part"))).expect("mkdir");
        std::fs::create_dir_all(at.join(&sha)).expect("mkdir");
        std::fs::write(at.join(&sha).join("f"), "on").expect("write");
        let path = Trees::new(at.clone()).get(&repo, &sha).expect("tree");
        assert_eq!(std::fs::read(path.join("f")).expect("read"), b"one");
        assert!(!at.join(format!("{sha}.part")).exists());
        // A tree that survived a reboot is not trusted either.
        std::fs::write(at.join(format!("{sha}.lock")), "another boot").expect("write");
        std::fs::write(path.join("f"), "").expect("write");
        let path = Trees::new(at).get(&repo, &sha).expect("tree");
        assert_eq!(std::fs::read(path.join("f")).expect("read"), b"one");
    }

    #[test]
    fn old_trees_go_unless_used() {
        let dir = tempfile::tempdir().expect("dir");
        let repo = repo(&dir.path().join("r"));
        let shas: Vec<_> = (0..9).map(|i| commit(&repo, &i.to_string(), i)).collect();
        let at = dir.path().join("trees");
        let old = SystemTime::now() - Duration::from_secs(3600);
        let user = Trees::new(at.clone());
        for (age, sha) in shas[..8].iter().enumerate() {
            let trees = Trees::new(at.clone());
            let chosen = if age == 0 { &user } else { &trees };
            chosen.get(&repo, sha).expect("tree");
            let lock = std::fs::File::options()
                .write(true)
                .open(at.join(format!("{sha}.lock")))
                .expect("lock");
            let time = old + Duration::from_secs(age as u64);
            lock.set_modified(time).expect("time");
        }
        Trees::new(at.clone()).get(&repo, &shas[8]).expect("tree");
        let there: Vec<bool> = shas.iter().map(|sha| at.join(sha).exists()).collect();
        let expected = [true, false, false, false, true, true, true, true, true];
        assert_eq!(there, expected);
        assert!(user.known(&shas[0]).is_some());
        drop(user);
        assert!(!at.join(format!("{}.lock", shas[1])).exists());
    }

    #[test]
    fn two_makers_at_once_agree() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("r");
        let sha = commit(&repo(&path), "x", 5);
        let at = dir.path().join("trees");
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let repo = Repository::open(&path).expect("open");
                        Trees::new(at.clone()).get(&repo, &sha).expect("tree")
                    })
                })
                .collect();
            for maker in makers {
                let tree = maker.join().expect("maker");
                assert_eq!(std::fs::read(tree.join("f")).expect("read"), b"x");
            }
        });
    }
}
