//! Git repositories that hold manifests: read the tip, write one commit on top of it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Retry;
use crate::base::{Secret, Timestamp};

/// A remote repository and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// `https://…`, `http://…`, `ssh://…`, `file://…` or a path. Never holds a credential.
    pub url: String,
    /// The branch to read and to write.
    pub branch: String,
    /// Who we are.
    pub access: Access,
}

/// Credentials for a remote.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nobody.
    Anonymous,
    /// A token over HTTP(S); `user` is what the host expects beside it.
    Token {
        /// User name; `x-access-token` suits the common forges.
        user: String,
        /// The token.
        token: Secret,
    },
    /// A key over ssh.
    Ssh {
        /// The private key; absent: whatever the ssh program of this machine would use.
        key: Option<Secret>,
        /// Lines as in `known_hosts`; absent: those of this machine. Either way, a host that is not
        /// in them is refused.
        known_hosts: Option<String>,
    },
}

/// How a commit is signed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Signing {
    /// By an ssh key: the private key as OpenSSH writes it.
    Ssh(Secret),
    /// By an OpenPGP key: the private key in ASCII armour, without a passphrase.
    OpenPgp(Secret),
}

/// What can go wrong with a remote.
#[derive(Debug, thiserror::Error)]
pub enum VcsError {
    /// The remote does not know us, or does not let us.
    #[error("{url} denied access: {message}")]
    Denied {
        /// The remote.
        url: String,
        /// What it said.
        message: String,
    },
    /// The branch is not there.
    #[error("{url} has no branch \"{branch}\"")]
    NoBranch {
        /// The remote.
        url: String,
        /// The branch.
        branch: String,
    },
    /// The remote refused for a reason that will not go away, such as a hook.
    #[error("{url} refused the push: {message}")]
    Refused {
        /// The remote.
        url: String,
        /// What it said.
        message: String,
    },
    /// Something larger than we accept, a path that is no file, …
    #[error("{url}: {message}")]
    Content {
        /// The remote.
        url: String,
        /// What is wrong.
        message: String,
    },
    /// The transport is not supported by this build.
    #[error("{url}: {message}")]
    Unsupported {
        /// The remote.
        url: String,
        /// What is missing.
        message: String,
    },
    /// No answer or a broken one.
    #[error("{url} failed: {message}")]
    Broken {
        /// The remote.
        url: String,
        /// What it or the transport said.
        message: String,
    },
}

impl VcsError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Broken { .. } => Retry::After(None),
            _ => Retry::Never,
        }
    }
}

/// The tip of a branch and some of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit.
    pub commit: String,
    /// The files asked for that exist, by path.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A commit that changed a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The commit.
    pub commit: String,
    /// Who made it: `name <address>`.
    pub author: String,
    /// First line of its message.
    pub subject: String,
    /// The file as the commit left it; `None` if it removed it.
    pub content: Option<Vec<u8>>,
}

/// A commit to make on top of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCommit {
    /// The commit it goes on.
    pub parent: String,
    /// New content of files, by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Author and committer: name and address.
    pub identity: (String, String),
    /// Full message.
    pub message: String,
    /// Author and committer time.
    pub time: Timestamp,
    /// How it is signed, if it is.
    pub signing: Option<Signing>,
}

/// How a push ended when it was not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// The branch is at our commit.
    Pushed,
    /// Somebody else moved the branch: fetch, edit and commit anew.
    Raced,
}

/// Looks at remotes.
#[async_trait]
pub trait VcsReader: Send + Sync {
    /// Fetches the tip (shallow) and reads files of it. Files larger than 16 MiB are an error.
    async fn snapshot(&self, remote: &Remote, paths: &[String]) -> Result<Snapshot, VcsError>;

    /// Whether the branch's history contains a commit.
    async fn contains(&self, remote: &Remote, commit: &str) -> Result<bool, VcsError>;

    /// The commit that the branch is at, without fetching it; `None` if there is no such branch.
    async fn tip(&self, remote: &Remote) -> Result<Option<String>, VcsError>;

    /// The commits that changed a file after a commit, newest first, a few dozen at most; none if
    /// the branch does not contain that commit (any more).
    async fn touched(
        &self,
        remote: &Remote,
        path: &str,
        since: &str,
    ) -> Result<Vec<Touch>, VcsError>;
}

/// Changes remotes.
#[async_trait]
pub trait Vcs: VcsReader {
    /// Makes a commit object locally and returns its name. Nothing is visible to others yet.
    async fn commit(&self, remote: &Remote, commit: &NewCommit) -> Result<String, VcsError>;

    /// Pushes a commit made by [`Vcs::commit`] to the branch; never forces.
    async fn push(&self, remote: &Remote, commit: &str) -> Result<PushOutcome, VcsError>;

    /// Puts a branch *of ours*, such as that of a pull request, at a commit made by
    /// [`Vcs::commit`] (on top of whichever branch), if it still is where `expected` says; `None`
    /// means that it must not exist yet. Unlike [`Vcs::push`] this may leave commits behind, but
    /// never one that nobody has seen: if the branch is elsewhere, it is a race and stays.
    async fn put_branch(
        &self,
        remote: &Remote,
        commit: &str,
        expected: Option<&str>,
    ) -> Result<PushOutcome, VcsError>;

    /// Removes a branch of ours if it still is where `expected` says. One that is gone already is
    /// no error.
    async fn remove_branch(&self, remote: &Remote, expected: &str)
    -> Result<PushOutcome, VcsError>;
}
