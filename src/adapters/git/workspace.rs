//! The source repository and the directories that stages work in.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use git2::Repository;

use super::copy::Copy;
use super::files::{self, broken, refused};
use super::forget::touch;
use super::refresh::refresh;
use super::spares::Spares;
use super::stamps::Stamps;
use super::trees::Trees;
use super::{artifacts, facts};
use crate::base::Commit;
use crate::ports::archive::Kept;
use crate::ports::workspace::{Scratch, Workspace, WorkspaceError, WorkspaceReader};

/// A repository on this machine, with a state directory for what Pipewright makes of it.
#[derive(Clone)]
pub struct GitWorkspace {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    root: PathBuf,
    git_dir: PathBuf,
    state: PathBuf,
    // libgit2 objects of one repository are not to be used by two threads at once.
    repo: Mutex<Repository>,
    trees: Trees,
    spares: Spares,
    lending: Brief,
    keeping: Brief,
}

/// So many places of a run may hold something that cannot be removed, as what a container left
/// that ran as somebody else.
const MAX_BLOCKED: usize = 64;

/// Longest time that work on files may hold up the tasks of a thread.
const BRIEF: Duration = Duration::from_micros(300);

/// So many pieces of work in a row that took longer are no accident: a busy machine makes any piece
/// of work wait for its turn now and then.
const ACCIDENTS: u8 = 3;

/// Tells whether a kind of work takes only a moment as a rule. Such work is done where it is asked
/// for, because handing it to another thread and back costs as much as the work itself.
struct Brief {
    /// How often in a row it took longer; at [`ACCIDENTS`] until it was done once.
    slow: AtomicU8,
}

impl Brief {
    /// Nothing is known yet.
    const fn new() -> Self {
        Self {
            slow: AtomicU8::new(ACCIDENTS),
        }
    }

    fn is_brief(&self) -> bool {
        self.slow.load(Ordering::Relaxed) < ACCIDENTS
    }

    /// Does the work and remembers how long it took.
    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        let slow = if began.elapsed() < BRIEF {
            0
        } else {
            self.slow.load(Ordering::Relaxed).saturating_add(1)
        };
        self.slow.store(slow.min(ACCIDENTS), Ordering::Relaxed);
        done
    }
}

impl GitWorkspace {
    /// Finds the repository that holds a directory. Makes nothing, not even the state directory.
    pub fn open(start_dir: &Path, state_dir: &Path) -> Result<Self, WorkspaceError> {
        trust_local_objects();
        let repo = Repository::discover(start_dir).map_err(|error| match error.code() {
            git2::ErrorCode::NotFound => WorkspaceError::NoRepository {
                path: start_dir.to_owned(),
            },
            git2::ErrorCode::Owner => refused(
                start_dir,
                "is in a repository that another user owns: add it to git's safe.directory",
            ),
            _ => broken(
                format!("opening the repository of {}", start_dir.display()),
                error.message(),
            ),
        })?;
        let root = repo.workdir().unwrap_or_else(|| repo.path());
        let state = std::path::absolute(state_dir)
            .map_err(|e| broken(format!("finding {}", state_dir.display()), e))?;
        let inner = Inner {
            // libgit2 ends directories with a slash.
            root: root.components().collect(),
            git_dir: repo.path().to_owned(),
            trees: Trees::new(state.join("trees")),
            spares: Spares::default(),
            lending: Brief::new(),
            keeping: Brief::new(),
            state,
            repo: Mutex::new(repo),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    pub(super) async fn blocking<T, F>(&self, work: F) -> Result<T, WorkspaceError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T, WorkspaceError> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || work(&inner))
            .await
            .map_err(|error| broken("working on files", error))?
    }
}

impl Inner {
    fn with_repo<T>(&self, work: impl FnOnce(&Repository) -> T) -> T {
        work(&self.repo.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A second handle, for work that takes long.
    fn reopen(&self) -> Result<Repository, WorkspaceError> {
        Repository::open(&self.git_dir)
            .map_err(|e| broken(format!("opening {}", self.git_dir.display()), e.message()))
    }

    fn run_dir(&self, kind: &str, run: &str) -> PathBuf {
        self.state.join(kind).join(files::component(run))
    }

    /// Where the state directory keeps something.
    pub(super) fn kept(&self, what: &Kept) -> PathBuf {
        match what {
            Kept::Cache(key) => self.state.join("cache").join(files::component(key)),
            Kept::Files { run, stage } => self.artifacts(run, stage),
        }
    }

    /// Where archives wait.
    pub(super) fn arrivals(&self) -> PathBuf {
        self.state.join("arrivals")
    }

    fn artifacts(&self, run: &str, stage: &str) -> PathBuf {
        self.run_dir("artifacts", run).join(files::component(stage))
    }

    fn scratch(&self, run: &str, tree: Option<&Path>) -> Result<Scratch, WorkspaceError> {
        let run_dir = self.run_dir("work", run);
        let (path, stamps) = match self.reuse(&run_dir, tree) {
            Some(again) => again,
            None => (self.fresh(&run_dir, tree)?, None),
        };
        // The working tree changes: what was a copy of it is none later.
        if tree != Some(&self.root) {
            self.spares.lend(&path, tree, stamps);
        }
        Ok(Scratch { path })
    }

    /// A new copy.
    fn fresh(&self, run_dir: &Path, tree: Option<&Path>) -> Result<PathBuf, WorkspaceError> {
        let path = self.empty_place(run_dir)?;
        let filled = match tree {
            None => Ok(()),
            Some(tree) if tree == self.root => self.copy_worktree(&path),
            Some(tree) => Copy::new().dir(tree, &path),
        };
        if let Err(error) = filled {
            self.remove(&path);
            return Err(error);
        }
        Ok(path)
    }

    /// A new empty directory. A place where something stands that cannot be removed is left alone
    /// from then on.
    fn empty_place(&self, run_dir: &Path) -> Result<PathBuf, WorkspaceError> {
        let mut blocked = 0;
        loop {
            let path = self.spares.place(run_dir);
            match make_empty(&path) {
                Ok(()) => return Ok(path),
                Err(_) if blocked < MAX_BLOCKED && path.symlink_metadata().is_ok() => blocked += 1,
                Err(error) => {
                    self.spares.release(&path);
                    return Err(broken(format!("making {}", path.display()), error));
                }
            }
        }
    }

    /// A scratch that an earlier stage of the run gave back, made what it was, and how it is if that
    /// can be told. Whatever goes wrong is only a reason to make a new one.
    fn reuse(&self, run_dir: &Path, tree: Option<&Path>) -> Option<(PathBuf, Option<Arc<Stamps>>)> {
        let spare = self.spares.take(run_dir, tree)?;
        if spare.unchanged.is_some() {
            return Some((spare.path, spare.unchanged));
        }
        if refresh(tree, &spare.path).is_err() {
            self.remove(&spare.path);
            return None;
        }
        let stamps = Stamps::take(&spare.path).map(Arc::new);
        Some((spare.path, stamps))
    }

    /// Removes a scratch. What cannot be removed goes with the run, and nothing else is made there.
    fn remove(&self, path: &Path) {
        if files::remove(path).is_ok() {
            self.spares.release(path);
        }
    }

    /// Copies what a commit of everything would hold: not `.git`, not the state directory, and no
    /// ignored file, which may be huge or secret.
    fn copy_worktree(&self, into: &Path) -> Result<(), WorkspaceError> {
        let paths: BTreeSet<PathBuf> = facts::worktree_files(&self.reopen()?, &self.state)?;
        let from = files::open_root(&self.root)?;
        let to = files::open_root(into)?;
        let mut copy = Copy::new();
        for path in &paths {
            copy.one(from.as_fd(), to.as_fd(), path)?;
        }
        Ok(())
    }
}

/// Has objects read as git itself reads them: with the checksum of each, but without computing its
/// name from its content once more, which takes as long as laying out a commit takes without it. What
/// comes over the network is not concerned: whoever stores it gives it its name.
fn trust_local_objects() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| git2::opts::strict_hash_verification(false));
}

/// Makes a directory, or an empty one of an existing one. The usual case is a single system call.
fn make_empty(path: &Path) -> std::io::Result<()> {
    use std::io::ErrorKind;
    match std::fs::create_dir(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => files::remove(path)?,
        Err(error) => return Err(error),
    }
    std::fs::create_dir(path)
}

#[async_trait]
impl WorkspaceReader for GitWorkspace {
    async fn commit(&self, reference: Option<&str>) -> Result<Commit, WorkspaceError> {
        let reference = reference.map(str::to_owned);
        self.blocking(move |inner| {
            inner.with_repo(|repo| facts::commit(repo, reference.as_deref()))
        })
        .await
    }

    async fn is_dirty(&self) -> Result<bool, WorkspaceError> {
        self.blocking(|inner| facts::is_dirty(&inner.reopen()?, &inner.state))
            .await
    }

    async fn changed(&self, from: &str, to: &str) -> Result<Option<Vec<String>>, WorkspaceError> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.blocking(move |inner| facts::changed(&inner.reopen()?, &from, &to))
            .await
    }

    async fn read(
        &self,
        sha: Option<&str>,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, WorkspaceError> {
        let (sha, path) = (sha.map(str::to_owned), path.to_owned());
        self.blocking(move |inner| match sha {
            Some(sha) => inner.with_repo(|repo| facts::read(repo, &sha, &path, limit)),
            None => files::read(&inner.root, &path, limit),
        })
        .await
    }

    async fn entries(
        &self,
        sha: Option<&str>,
        path: &Path,
    ) -> Result<Option<Vec<String>>, WorkspaceError> {
        let (sha, path) = (sha.map(str::to_owned), path.to_owned());
        self.blocking(move |inner| match sha {
            Some(sha) => inner.with_repo(|repo| facts::entries(repo, &sha, &path)),
            None => files::entries(&inner.root, &path),
        })
        .await
    }

    async fn tree(&self, sha: &str) -> Result<PathBuf, WorkspaceError> {
        // Lookups of a known tree are a few microseconds, less than a change of threads.
        if let Some(path) = self.inner.trees.known(sha) {
            return Ok(path);
        }
        let sha = sha.to_owned();
        self.blocking(move |inner| {
            // The name becomes a path, so it must be exactly an object name.
            let exact =
                sha.len() == 40 && sha.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !exact {
                return Err(WorkspaceError::NoRevision { revision: sha });
            }
            inner.trees.get(&inner.reopen()?, &sha)
        })
        .await
    }

    fn root(&self) -> &Path {
        &self.inner.root
    }
}

#[async_trait]
impl Workspace for GitWorkspace {
    async fn scratch(
        &self,
        run: &str,
        _stage: &str,
        tree: Option<&Path>,
    ) -> Result<Scratch, WorkspaceError> {
        let inner = &self.inner;
        if inner.lending.is_brief() && inner.spares.has(&inner.run_dir("work", run), tree) {
            return inner.lending.timed(|| inner.scratch(run, tree));
        }
        let (run, tree) = (run.to_owned(), tree.map(Path::to_owned));
        self.blocking(move |inner| inner.lending.timed(|| inner.scratch(&run, tree.as_deref())))
            .await
    }

    async fn collect(
        &self,
        run: &str,
        stage: &str,
        scratch: &Scratch,
        patterns: &[String],
    ) -> Result<(u64, u64), WorkspaceError> {
        let store = self.inner.artifacts(run, stage);
        let (from, patterns) = (scratch.path.clone(), patterns.to_vec());
        self.blocking(move |_| artifacts::collect(&from, &store, &patterns))
            .await
    }

    async fn restore(&self, run: &str, stage: &str, into: &Path) -> Result<(), WorkspaceError> {
        let store = self.inner.artifacts(run, stage);
        let (into, what) = (into.to_owned(), format!("{stage} of run {run}"));
        self.blocking(move |_| {
            if !store.is_dir() {
                return Err(refused(store, format!("{what} has left no artifacts")));
            }
            artifacts::restore(&store, &into)
        })
        .await
    }

    async fn cache(&self, key: &str) -> Result<PathBuf, WorkspaceError> {
        let path = self.inner.kept(&Kept::Cache(key.to_owned()));
        self.blocking(move |_| {
            std::fs::create_dir_all(&path)
                .map_err(|e| broken(format!("making {}", path.display()), e))?;
            // Only to tell later that it is used; a cache on a read-only disk serves all the same.
            let _ = touch(&path);
            Ok(path)
        })
        .await
    }

    async fn link(&self, root: &Path, path: &Path, target: &Path) -> Result<(), WorkspaceError> {
        let (root, path, target) = (root.to_owned(), path.to_owned(), target.to_owned());
        self.blocking(move |_| files::link(&root, &path, &target))
            .await
    }

    async fn read_below(
        &self,
        root: &Path,
        path: &Path,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, WorkspaceError> {
        let (root, path) = (root.to_owned(), path.to_owned());
        self.blocking(move |_| files::read(&root, &path, limit))
            .await
    }

    async fn discard(&self, scratch: Scratch) {
        if !scratch.path.starts_with(self.inner.state.join("work")) {
            return;
        }
        let keep = |inner: &Inner, path: &Path| inner.keeping.timed(|| inner.spares.keep(path));
        let tried = self.inner.keeping.is_brief();
        if tried && keep(&self.inner, &scratch.path) {
            return;
        }
        let _ = self
            .blocking(move |inner| {
                if tried || !keep(inner, &scratch.path) {
                    inner.remove(&scratch.path);
                }
                Ok(())
            })
            .await;
    }

    async fn sweep(&self, run: &str) {
        let path = self.inner.run_dir("work", run);
        let _ = self
            .blocking(move |inner| {
                inner.spares.forget(&path);
                let _ = files::remove(&path);
                Ok(())
            })
            .await;
    }
}
