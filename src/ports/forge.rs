//! Forges: where a repository's pull requests live. Looks at them and changes them, one step a call.
//!
//! Nothing here waits or tries a change again: whoever calls knows what a second try would do.

use std::time::Duration;

use async_trait::async_trait;

use super::Retry;
use crate::base::Secret;

/// Which software a forge runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Software {
    /// GitHub, in the cloud or Enterprise Server.
    GitHub,
    /// GitLab.
    GitLab,
    /// Gitea or Forgejo.
    Gitea,
}

impl Software {
    /// Its name, for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GitHub => "GitHub",
            Self::GitLab => "GitLab",
            Self::Gitea => "Gitea",
        }
    }
}

/// Who we are on a forge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SignIn {
    /// Nobody.
    Anonymous,
    /// Whoever a token belongs to.
    Token(Secret),
    /// A GitHub App.
    App {
        /// Its id, or client id.
        id: String,
        /// Its private key, as PEM.
        key: Secret,
        /// The installation; found by the repository if absent.
        installation: Option<String>,
    },
}

/// A forge and who we are there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// Its name in the pipeline, for messages.
    pub name: String,
    /// What it runs.
    pub software: Software,
    /// Its web address, without a slash at its end: `https://github.com`.
    pub address: String,
    /// Who we are.
    pub sign_in: SignIn,
}

/// A repository on a forge.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hosted {
    /// The forge.
    pub site: Site,
    /// The repository's path there: `acme/manifests`, `group/sub/manifests`.
    pub path: String,
    /// The git address it is reached by.
    pub url: String,
}

/// How a pull request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullState {
    /// Open.
    Open,
    /// Closed without a merge; by whom, where the forge says so.
    Closed(Option<String>),
    /// Merged, as this commit where the forge says so.
    Merged(Option<String>),
}

/// A pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    /// Its number in the repository.
    pub number: u64,
    /// The id by which some calls of some forges know it.
    pub id: String,
    /// Its page.
    pub url: String,
    /// Its title.
    pub title: String,
    /// Its description.
    pub body: String,
    /// The branch that is to be merged.
    pub head: String,
    /// The commit that branch is at, as the forge sees it.
    pub head_commit: String,
    /// The branch it is to be merged into.
    pub base: String,
    /// How it stands.
    pub state: PullState,
    /// Whether it is a draft.
    pub draft: bool,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// Users and teams that were asked for a review.
    pub reviewers: Vec<String>,
    /// Whether the forge is to merge it by itself.
    pub auto_merge: bool,
    /// Whether it conflicts with its base; absent while the forge does not know.
    pub conflicts: Option<bool>,
}

/// A pull request to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPullRequest {
    /// The branch to merge.
    pub head: String,
    /// The branch to merge into.
    pub base: String,
    /// Title, one line of at most 255 characters.
    pub title: String,
    /// Description of at most 65,536 bytes.
    pub body: String,
    /// Whether it is a draft.
    pub draft: bool,
}

/// How a pull request is merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MergeMethod {
    /// By a merge commit.
    #[default]
    Merge,
    /// As one commit.
    Squash,
    /// Commit by commit.
    Rebase,
}

/// What the checks of a commit say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checks {
    /// There are none.
    None,
    /// Some are not done; their names.
    Pending(Vec<String>),
    /// All passed; how many.
    Passed(usize),
    /// Some failed; their names.
    Failed(Vec<String>),
}

/// What can go wrong with a forge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForgeError {
    /// It does not know us, or does not let us.
    #[error("{forge} denied {what}: {message}")]
    Denied {
        /// The forge.
        forge: String,
        /// What was asked.
        what: String,
        /// What it said.
        message: String,
    },
    /// It says there is no such thing, which is also what it says to those who may not see it.
    #[error("{forge} does not show {what}: {message}")]
    NotFound {
        /// The forge.
        forge: String,
        /// What was asked.
        what: String,
        /// What it said.
        message: String,
    },
    /// There is such a pull request already.
    #[error("{forge} refused {what}: {message}")]
    Exists {
        /// The forge.
        forge: String,
        /// What was asked.
        what: String,
        /// What it said.
        message: String,
    },
    /// It refused for a reason that will not go away by itself.
    #[error("{forge} refused {what}: {message}")]
    Refused {
        /// The forge.
        forge: String,
        /// What was asked.
        what: String,
        /// What it said.
        message: String,
    },
    /// Too many requests.
    #[error("{forge} asks us to slow down at {what}: {message}")]
    Throttled {
        /// The forge.
        forge: String,
        /// What was asked.
        what: String,
        /// What it said.
        message: String,
        /// How long to wait, if it said so.
        after: Option<Duration>,
    },
    /// No answer or a broken one.
    #[error("{forge} failed at {what}: {message}")]
    Broken {
        /// The forge.
        forge: String,
        /// What was asked.
        what: String,
        /// What it or the transport said.
        message: String,
    },
}

impl ForgeError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Throttled { after, .. } => Retry::After(*after),
            Self::Broken { .. } => Retry::After(None),
            _ => Retry::Never,
        }
    }
}

/// Looks at forges.
#[async_trait]
pub trait ForgeReader: Send + Sync {
    /// Pull requests of a branch of the repository itself into another, newest first, in any state.
    async fn find(
        &self,
        hosted: &Hosted,
        head: &str,
        base: &str,
    ) -> Result<Vec<PullRequest>, ForgeError>;

    /// Open pull requests into a branch, newest first, of branches of the repository itself; a few
    /// hundred at most.
    async fn open(&self, hosted: &Hosted, base: &str) -> Result<Vec<PullRequest>, ForgeError>;

    /// One pull request as it is now.
    async fn pull_request(&self, hosted: &Hosted, number: u64) -> Result<PullRequest, ForgeError>;

    /// What the checks of its commit say.
    async fn checks(&self, hosted: &Hosted, pull: &PullRequest) -> Result<Checks, ForgeError>;

    /// Whether a comment of it contains a text.
    async fn has_comment(
        &self,
        hosted: &Hosted,
        number: u64,
        text: &str,
    ) -> Result<bool, ForgeError>;

    /// User and password by which git reaches the repository as who we are on the forge; none for
    /// nobody.
    async fn git_login(&self, hosted: &Hosted) -> Result<Option<(String, Secret)>, ForgeError>;
}

/// Changes forges.
#[async_trait]
pub trait Forge: ForgeReader {
    /// Opens a pull request.
    async fn create(
        &self,
        hosted: &Hosted,
        new: &NewPullRequest,
    ) -> Result<PullRequest, ForgeError>;

    /// Sets title and description.
    async fn update(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        title: &str,
        body: &str,
    ) -> Result<(), ForgeError>;

    /// Adds labels to those it has.
    async fn label(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        labels: &[String],
    ) -> Result<(), ForgeError>;

    /// Asks users, and teams (`acme/platform`), for a review, beside those that were asked.
    async fn ask(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        reviewers: &[String],
    ) -> Result<(), ForgeError>;

    /// Has the forge merge it once it may, which may be at once.
    async fn auto_merge(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        method: MergeMethod,
    ) -> Result<(), ForgeError>;

    /// Says something about it. A second call says it twice.
    async fn comment(&self, hosted: &Hosted, number: u64, text: &str) -> Result<(), ForgeError>;

    /// Closes it without a merge.
    async fn close(&self, hosted: &Hosted, number: u64) -> Result<(), ForgeError>;
}
