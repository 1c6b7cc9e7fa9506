//! A server that keeps what runs in a cluster equal to what a repository says: its applications,
//! what became of their syncs, and what starts one.
//!
//! The words are those of Argo CD, whose applications, operations and hooks these are.

use async_trait::async_trait;
use serde_json::Value;

use super::Retry;
use crate::base::{Secret, Timestamp};

/// A server and who we are to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Name of its declaration.
    pub name: String,
    /// `https://host[/path]`. Never holds a credential.
    pub url: String,
    /// Who we are.
    pub access: Access,
}

/// Who we are to a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Nobody.
    Anonymous,
    /// The holder of a token.
    Token(Secret),
    /// A user, whom the server gives a token that runs out.
    Login {
        /// The name.
        user: Secret,
        /// The password.
        password: Secret,
    },
}

/// Which application.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AppName {
    /// Its name.
    pub name: String,
    /// Its namespace, if it is not the server's own.
    pub namespace: Option<String>,
    /// The project it must be of.
    pub project: Option<String>,
}

impl std::fmt::Display for AppName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What can go wrong with a server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitOpsError {
    /// It does not know us.
    #[error("argocd `{server}` does not accept our credentials: {message}")]
    Unknown {
        /// The declaration.
        server: String,
        /// What it said.
        message: String,
    },
    /// It knows us, and we may not. It says the same of applications that do not exist.
    #[error("argocd `{server}` does not let us {action} {app}: {message}")]
    Denied {
        /// The declaration.
        server: String,
        /// The application.
        app: String,
        /// The action of its access rules: `get`, `sync`, `action`.
        action: String,
        /// What it said.
        message: String,
    },
    /// There is no such application.
    #[error("argocd `{server}` has no application {app}")]
    NotFound {
        /// The declaration.
        server: String,
        /// The application.
        app: String,
    },
    /// Another operation is in progress.
    #[error("another operation of {app} is in progress")]
    Busy {
        /// The application.
        app: String,
    },
    /// The application syncs itself, and what we ask is not for such.
    #[error("{app} syncs itself: {message}")]
    SyncsItself {
        /// The application.
        app: String,
        /// What the server said.
        message: String,
    },
    /// A sync window is closed.
    #[error("a sync window keeps {app} from being synced: {message}")]
    Closed {
        /// The application.
        app: String,
        /// What the server said.
        message: String,
    },
    /// It refuses what we ask, and will refuse it again.
    #[error("argocd `{server}` refuses to {action} {app}: {message}")]
    Refused {
        /// The declaration.
        server: String,
        /// The application.
        app: String,
        /// What was asked.
        action: String,
        /// What it said.
        message: String,
    },
    /// No answer or a broken one.
    #[error("argocd `{server}` failed at {action}: {message}")]
    Broken {
        /// The declaration.
        server: String,
        /// What was asked.
        action: String,
        /// What it or the transport said.
        message: String,
    },
}

impl GitOpsError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Broken { .. } | Self::Busy { .. } | Self::Closed { .. } => Retry::After(None),
            _ => Retry::Never,
        }
    }
}

/// How fresh an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// As it is known. Changes nothing at all.
    None,
    /// Compared with the repository anew.
    Normal,
    /// Compared anew with manifests that are made anew, whatever is in caches.
    Hard,
}

/// An application as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppState {
    /// Its project.
    pub project: String,
    /// Whether it syncs itself.
    pub auto: bool,
    /// Somebody deletes it.
    pub deleting: bool,
    /// Addresses of the repositories of its sources.
    pub repositories: Vec<String>,
    /// The branches, tags or commits its sources follow.
    pub targets: Vec<String>,
    /// `Synced`, `OutOfSync` or `Unknown`.
    pub sync: String,
    /// What it was compared with: a revision of each source.
    pub revisions: Vec<String>,
    /// `Healthy`, `Progressing`, `Degraded`, `Suspended`, `Missing` or `Unknown`.
    pub health: String,
    /// Why.
    pub health_message: String,
    /// When it was compared last.
    pub reconciled: Option<Timestamp>,
    /// The operation that has been asked for and not begun, by what it was told.
    pub pending: Option<Vec<(String, String)>>,
    /// The operation at work, or the last one.
    pub operation: Option<Operation>,
    /// What is wrong with it: type and message.
    pub conditions: Vec<(String, String)>,
    /// What it consists of.
    pub resources: Vec<Resource>,
    /// What was deployed, oldest first: id and revisions.
    pub history: Vec<(i64, Vec<String>)>,
}

/// An operation of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// `Running`, `Succeeded`, `Failed`, `Error` or `Terminating`.
    pub phase: String,
    /// What is to be said of it.
    pub message: String,
    /// What it was told.
    pub infos: Vec<(String, String)>,
    /// The revisions that it brings.
    pub revisions: Vec<String>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// What became of each resource and hook.
    pub results: Vec<SyncResult>,
}

impl Operation {
    /// Whether it was told this.
    pub fn was_told(&self, name: &str, value: &str) -> bool {
        self.infos.iter().any(|(n, v)| n == name && v == value)
    }

    /// Whether it is at work.
    pub fn is_running(&self) -> bool {
        matches!(self.phase.as_str(), "Running" | "Terminating")
    }
}

/// What became of a resource in a sync.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncResult {
    /// Its group; empty for the core.
    pub group: String,
    /// `Deployment`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `Synced`, `SyncFailed`, `Pruned` or `PruneSkipped`.
    pub status: String,
    /// Why.
    pub message: String,
    /// `PreSync`, if it is a hook.
    pub hook: Option<String>,
    /// `Running`, `Succeeded`, `Failed`, `Error`.
    pub phase: String,
}

/// A resource of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Its group; empty for the core.
    pub group: String,
    /// `Deployment`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `Synced`, `OutOfSync` or nothing.
    pub sync: String,
    /// Its health, if it has one.
    pub health: String,
    /// Why.
    pub message: String,
    /// It is a hook and not a part of the application.
    pub hook: bool,
}

/// Whether an application may be synced now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// By hand, which is what we do.
    pub can_sync: bool,
    /// The windows that are open or closed now, in words.
    pub active: Vec<String>,
    /// All there are, in words.
    pub assigned: Vec<String>,
}

/// A resource as it should be and as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Managed {
    /// `Deployment`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// As the repository says; absent if it is to be pruned.
    pub target: Option<Value>,
    /// As it is; absent if it is to be made.
    pub live: Option<Value>,
}

/// A resource by which a sync is narrowed down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Its group; empty for the core.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A sync to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncRequest {
    /// The revision; what the application follows if absent.
    pub revision: Option<String>,
    /// Delete what is not in the repository any more.
    pub prune: bool,
    /// Delete and make again what cannot be changed.
    pub force: bool,
    /// `Replace=true`, `ServerSideApply=true`.
    pub options: Vec<String>,
    /// Only these resources; all if empty.
    pub only: Vec<Filter>,
    /// What the operation is told, by which it is found again.
    pub infos: Vec<(String, String)>,
}

/// Looks at applications.
#[async_trait]
pub trait GitOpsReader: Send + Sync {
    /// An application.
    async fn app(
        &self,
        server: &Server,
        app: &AppName,
        refresh: Refresh,
    ) -> Result<AppState, GitOpsError>;

    /// Names of some applications that we may see.
    async fn names(&self, server: &Server) -> Result<Vec<String>, GitOpsError>;

    /// Its sync windows.
    async fn windows(&self, server: &Server, app: &AppName) -> Result<Windows, GitOpsError>;

    /// What it consists of, as it should be and as it is.
    async fn managed(&self, server: &Server, app: &AppName) -> Result<Vec<Managed>, GitOpsError>;

    /// The manifests of a revision.
    async fn manifests(
        &self,
        server: &Server,
        app: &AppName,
        revision: &str,
    ) -> Result<Vec<Value>, GitOpsError>;

    /// The end of the log of what a resource started: lines, oldest first.
    async fn log(
        &self,
        server: &Server,
        app: &AppName,
        of: &SyncResult,
        lines: u32,
    ) -> Result<Vec<String>, GitOpsError>;
}

/// Changes applications.
#[async_trait]
pub trait GitOps: GitOpsReader {
    /// Starts a sync.
    async fn sync(
        &self,
        server: &Server,
        app: &AppName,
        request: &SyncRequest,
    ) -> Result<(), GitOpsError>;

    /// Goes back to what the history has under an id.
    async fn rollback(
        &self,
        server: &Server,
        app: &AppName,
        id: i64,
        prune: bool,
    ) -> Result<(), GitOpsError>;

    /// Stops the operation at work.
    async fn terminate(&self, server: &Server, app: &AppName) -> Result<(), GitOpsError>;
}
