//! Clusters that keep workloads running: objects by kind and name, what they say, and what changes
//! them. Objects are JSON as the cluster keeps them, so that kinds and keys nobody here knows survive.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::Retry;
use crate::base::Secret;

/// A cluster, and how to be somebody in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// Its name in the pipeline.
    pub name: String,
    /// How it is reached.
    pub access: Access,
    /// Directory to which paths are relative.
    pub base: PathBuf,
}

/// How a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// As the environment says: `KUBECONFIG`, else `~/.kube/config`, else the service account of the
    /// pod this process runs in.
    Ambient {
        /// Context of the configuration; its current one if absent.
        context: Option<String>,
    },
    /// A configuration, or the path of a file that holds it.
    Kubeconfig {
        /// Text or path.
        config: Secret,
        /// Context of the configuration; its current one if absent.
        context: Option<String>,
    },
    /// The service account of the pod this process runs in.
    InCluster,
    /// An address and a token.
    Token {
        /// `https://host:port`.
        server: String,
        /// The bearer's token.
        token: Secret,
        /// The authority's certificate as PEM, or the path of a file that holds it; those of the
        /// system if absent.
        authority: Option<String>,
    },
}

/// An object of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thing {
    /// `apps/v1`.
    pub api: String,
    /// `Deployment`.
    pub kind: String,
    /// Its namespace; ignored if the kind has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.to_lowercase(), self.name)
    }
}

/// Objects of a kind in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// `v1`.
    pub api: String,
    /// `Pod`.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// Selector by labels; every one if empty.
    pub labels: String,
    /// Selector by fields; every one if empty.
    pub fields: String,
}

/// A piece of the log of a container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodLog {
    /// The namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// Of the instance before the one that runs.
    pub previous: bool,
    /// So many lines at its end; all of them if absent.
    pub tail: Option<u32>,
    /// Lines since this time, as RFC 3339, each with its time before it.
    pub since: Option<String>,
    /// Whether each line has its time before it.
    pub timestamps: bool,
}

/// A field of an object that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// `.spec.replicas`.
    pub field: String,
    /// Who owns it, as the cluster says it: `conflict with "hpa" using apps/v1`.
    pub message: String,
}

/// What can go wrong with a cluster. No message holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// There is no way to be anybody, or it is not usable.
    #[error("kubernetes `{cluster}`: {message}")]
    NoAccess {
        /// The cluster's name in the pipeline.
        cluster: String,
        /// Why, and what to do.
        message: String,
    },
    /// We are nobody, or somebody who may not.
    #[error("kubernetes `{cluster}` denied to {action}: {message}")]
    Denied {
        /// The cluster's name in the pipeline.
        cluster: String,
        /// Verb and object: `patch deployment front in namespace main`.
        action: String,
        /// What it said, and what would have to be allowed.
        message: String,
    },
    /// Somebody else changed it or owns what we set, or it is there already.
    #[error("kubernetes `{cluster}` has a conflict at {action}: {message}")]
    Conflict {
        /// The cluster's name in the pipeline.
        cluster: String,
        /// Verb and object.
        action: String,
        /// What it said.
        message: String,
        /// `Conflict` or `AlreadyExists`.
        reason: String,
        /// The fields that others own.
        fields: Vec<Owned>,
    },
    /// It refused for a reason that will not go away.
    #[error("kubernetes `{cluster}` refused to {action}: {reason}: {message}")]
    Refused {
        /// The cluster's name in the pipeline.
        cluster: String,
        /// Verb and object.
        action: String,
        /// The cluster's word for it: `Invalid`.
        reason: String,
        /// What it said.
        message: String,
    },
    /// It asks us to slow down.
    #[error("kubernetes `{cluster}` limits our rate at {action}{}", waits(*.after))]
    Throttled {
        /// The cluster's name in the pipeline.
        cluster: String,
        /// Verb and object.
        action: String,
        /// How long it asks us to wait.
        after: Option<Duration>,
    },
    /// No answer, a broken one, or a server error.
    #[error("kubernetes `{cluster}` failed to {action}: {message}")]
    Broken {
        /// The cluster's name in the pipeline.
        cluster: String,
        /// Verb and object.
        action: String,
        /// What it or the transport said.
        message: String,
    },
}

/// Longest wait that a cluster may ask for; whoever asks for more is given up.
const LONGEST: Duration = Duration::from_secs(90);

fn waits(after: Option<Duration>) -> String {
    let told = |wait: Duration| format!(": it asks to wait {} s", wait.as_secs());
    after.map(told).unwrap_or_default()
}

impl ClusterError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            // Asking earlier is what it asks us not to do.
            Self::Throttled {
                after: Some(after), ..
            } if *after > LONGEST => Retry::Never,
            Self::Throttled { after, .. } => Retry::After(*after),
            Self::Broken { .. } => Retry::After(None),
            _ => Retry::Never,
        }
    }
}

/// Looks at a cluster.
#[async_trait]
pub trait ClusterReader: Send + Sync {
    /// The namespace of whoever does not say which.
    async fn namespace(&self, cluster: &Cluster) -> Result<String, ClusterError>;

    /// An object, if it is there.
    async fn get(&self, cluster: &Cluster, thing: &Thing) -> Result<Option<Value>, ClusterError>;

    /// Objects, at most 2,000 of them.
    async fn list(&self, cluster: &Cluster, listing: &Listing) -> Result<Vec<Value>, ClusterError>;

    /// A piece of a log, at most 1 MiB; empty while there is none.
    async fn log(&self, cluster: &Cluster, log: &PodLog) -> Result<String, ClusterError>;

    /// What an object would be once it was applied: the cluster admits and completes it and keeps
    /// nothing of it.
    async fn rehearse(
        &self,
        cluster: &Cluster,
        object: &Value,
        namespace: &str,
        force: bool,
    ) -> Result<Value, ClusterError>;
}

/// Changes a cluster. A change whose answer was lost is not repeated: the caller looks what became of
/// it.
#[async_trait]
pub trait Clusters: ClusterReader {
    /// Merges a patch into an object, by the cluster's knowledge of its lists; what it is then. A
    /// `resourceVersion` in the patch makes it fail if somebody was faster.
    async fn patch(
        &self,
        cluster: &Cluster,
        thing: &Thing,
        patch: &Value,
    ) -> Result<Value, ClusterError>;

    /// Applies an object as ours; what it is then. Fields of others are taken only by force.
    async fn apply(
        &self,
        cluster: &Cluster,
        object: &Value,
        namespace: &str,
        force: bool,
    ) -> Result<Value, ClusterError>;

    /// Creates an object that is not there.
    async fn create(
        &self,
        cluster: &Cluster,
        object: &Value,
        namespace: &str,
    ) -> Result<Value, ClusterError>;

    /// Deletes an object and what it owns; nothing happens if it is gone.
    async fn delete(&self, cluster: &Cluster, thing: &Thing) -> Result<(), ClusterError>;
}
