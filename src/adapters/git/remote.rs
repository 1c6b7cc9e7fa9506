//! Remote repositories that hold manifests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use git2::Repository;

use super::address::Address;
use super::gateway::Gateway;
use super::history;
use super::lock::FileLock;
use super::mirror::{Fail, Session};
use super::push;
use super::watch::{Limits, Watch, watched};
use crate::adapters::http::Http;
use crate::base::Digest;
use crate::ports::vcs::{
    NewCommit, PushOutcome, Remote, Snapshot, Touch, Vcs, VcsError, VcsReader,
};

/// Reaches remote repositories over HTTP(S), over ssh or on this machine, through one mirror for each address.
#[derive(Clone, Debug)]
pub struct GitRemotes {
    mirrors: Arc<PathBuf>,
    limits: Limits,
    http: Http,
}

impl GitRemotes {
    /// Keeps the mirrors below a state directory, which need not exist yet.
    pub fn new(state_dir: &Path, http: Http) -> Self {
        Self {
            http,
            mirrors: Arc::new(state_dir.join("mirrors")),
            limits: Limits::default(),
        }
    }

    /// The same with other limits of time.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Runs work on the locked mirror of a remote.
    async fn on_mirror<T, F>(&self, remote: &Remote, work: F) -> Result<T, VcsError>
    where
        T: Send + 'static,
        F: Fn(&Session, &Repository) -> Result<T, Fail> + Send + 'static,
    {
        let address = Address::parse(&remote.url)?;
        let gateway = Gateway::open(&remote.url, &address, &remote.access, &self.http).await;
        let gateway = gateway
            .map_err(|trouble| trouble.of(&remote.url))?
            .map(Arc::new);
        let mirrors = Arc::clone(&self.mirrors);
        let theirs = remote.clone();
        let result = watched(self.limits, move |watch| {
            let session = lock(&mirrors, theirs, address, gateway, watch)?;
            session.run(work)
        })
        .await;
        result.unwrap_or_else(|message| {
            Err(VcsError::Broken {
                url: remote.url.clone(),
                message,
            })
        })
    }
}

/// Waits for the mirror of an address.
fn lock(
    mirrors: &Path,
    remote: Remote,
    address: Address,
    gateway: Option<Arc<Gateway>>,
    watch: &Arc<Watch>,
) -> Result<Session, VcsError> {
    let broken = |message: String| VcsError::Broken {
        url: remote.url.clone(),
        message,
    };
    let name = Digest::of(remote.url.as_bytes()).hex()[..32].to_owned();
    let mirror = mirrors.join(&name);
    private_dir(mirrors)
        .and_then(|()| FileLock::exclusive(&mirrors.join(format!("{name}.lock"))))
        .map_err(|error| broken(format!("locking its mirror: {error}")))
        .and_then(|lock| {
            if watch.start(lock, mirror.clone()) {
                Ok(())
            } else {
                Err(broken("given up while waiting for its mirror".to_owned()))
            }
        })?;
    Ok(Session {
        remote,
        address,
        gateway,
        mirror,
        watch: Arc::clone(watch),
    })
}

/// Makes a directory that only its owner may look into: mirrors hold private repositories.
fn private_dir(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

#[async_trait]
impl VcsReader for GitRemotes {
    async fn snapshot(&self, remote: &Remote, paths: &[String]) -> Result<Snapshot, VcsError> {
        let paths = paths.to_vec();
        self.on_mirror(remote, move |session, repo| session.snapshot(repo, &paths))
            .await
    }

    async fn contains(&self, remote: &Remote, commit: &str) -> Result<bool, VcsError> {
        let commit = commit.to_owned();
        self.on_mirror(remote, move |session, repo| session.contains(repo, &commit))
            .await
    }

    async fn tip(&self, remote: &Remote) -> Result<Option<String>, VcsError> {
        self.on_mirror(remote, |session, repo| {
            Ok(session.listed(repo)?.map(|tip| tip.to_string()))
        })
        .await
    }

    async fn touched(
        &self,
        remote: &Remote,
        path: &str,
        since: &str,
    ) -> Result<Vec<Touch>, VcsError> {
        let (path, since) = (path.to_owned(), since.to_owned());
        self.on_mirror(remote, move |session, repo| {
            history::touched(session, repo, &path, &since)
        })
        .await
    }
}

#[async_trait]
impl Vcs for GitRemotes {
    async fn commit(&self, remote: &Remote, commit: &NewCommit) -> Result<String, VcsError> {
        let commit = commit.clone();
        self.on_mirror(remote, move |session, repo| session.commit(repo, &commit))
            .await
    }

    async fn push(&self, remote: &Remote, commit: &str) -> Result<PushOutcome, VcsError> {
        let commit = commit.to_owned();
        self.on_mirror(remote, move |session, repo| {
            push::push(session, repo, &commit)
        })
        .await
    }

    async fn put_branch(
        &self,
        remote: &Remote,
        commit: &str,
        expected: Option<&str>,
    ) -> Result<PushOutcome, VcsError> {
        let (commit, expected) = (commit.to_owned(), expected.map(str::to_owned));
        self.on_mirror(remote, move |session, repo| {
            push::put(session, repo, &commit, expected.as_deref())
        })
        .await
    }

    async fn remove_branch(
        &self,
        remote: &Remote,
        expected: &str,
    ) -> Result<PushOutcome, VcsError> {
        let expected = expected.to_owned();
        self.on_mirror(remote, move |session, repo| {
            push::remove(session, repo, &expected)
        })
        .await
    }
}
