//! OCI and Docker image registries.

use std::time::Duration;

use async_trait::async_trait;

use super::Retry;
use crate::base::{Digest, Secret};

/// A registry and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// `host[:port]`, without a scheme; `docker.io` for Docker Hub.
    pub host: String,
    /// Speak HTTP without TLS.
    pub plain_http: bool,
    /// Who we are.
    pub login: Login,
}

/// Credentials for a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Login {
    /// Whatever the user's docker configuration and its credential helpers say; else nobody.
    Ambient,
    /// A user and a password or token.
    Basic {
        /// The user.
        user: String,
        /// The password or token.
        password: Secret,
    },
}

/// What can go wrong with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry does not know us, or does not let us.
    #[error("{host} denied {what}: {message}")]
    Denied {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What it said.
        message: String,
    },
    /// The registry refused for a reason that will not go away.
    #[error("{host} refused {what}: {message}")]
    Refused {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What it said.
        message: String,
    },
    /// The registry asks us to slow down.
    #[error("{host} limits our rate at {what}")]
    Throttled {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// How long it asked us to wait.
        after: Option<Duration>,
    },
    /// No answer, a broken one, or a server error.
    #[error("{host} failed at {what}: {message}")]
    Broken {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// What it or the transport said.
        message: String,
    },
    /// The content does not have the digest it was asked for by.
    #[error("{host} sent {what} with digest {found}, expected {expected}")]
    Corrupt {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// Digest asked for.
        expected: Digest,
        /// Digest of what came.
        found: Digest,
    },
}

impl RegistryError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Throttled { after, .. } => Retry::After(*after),
            Self::Broken { .. } => Retry::After(None),
            _ => Retry::Never,
        }
    }
}

/// A manifest or index as the registry stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Media type.
    pub media_type: String,
    /// The exact bytes.
    pub bytes: Vec<u8>,
}

/// What refers to a manifest: a signature, a bill of materials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Digest of its own manifest.
    pub digest: Digest,
    /// What it is, as a media type.
    pub artifact_type: String,
}

/// Looks at registries. Retries what is worth retrying by itself.
#[async_trait]
pub trait RegistryReader: Send + Sync {
    /// Digest a tag or digest reference stands for; `None` only if the registry says it is absent.
    async fn digest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Digest>, RegistryError>;

    /// A manifest by tag or digest, verified against its digest.
    async fn manifest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Manifest>, RegistryError>;

    /// A small blob (an image configuration, at most 8 MiB), verified.
    async fn blob(
        &self,
        target: &Target,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, RegistryError>;

    /// What refers to a manifest; `None` if the registry keeps no list of that, so that those who
    /// attach something keep one under a tag.
    async fn referrers(
        &self,
        target: &Target,
        repository: &str,
        subject: &Digest,
    ) -> Result<Option<Vec<Referrer>>, RegistryError>;

    /// All tags of a repository, in the registry's order; empty if the repository is absent.
    async fn tags(&self, target: &Target, repository: &str) -> Result<Vec<String>, RegistryError>;

    /// The login that [`Login::Ambient`] stands for, if there is one, for handing to an engine.
    async fn resolve(&self, target: &Target) -> Result<Option<(String, Secret)>, RegistryError>;
}

/// Changes registries.
#[async_trait]
pub trait Registry: RegistryReader {
    /// Stores a manifest under a tag, whose blobs must be there, and returns its digest.
    async fn put_manifest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError>;

    /// Stores a blob unless it is there; mounts it from another repository if one is given.
    async fn put_blob(
        &self,
        target: &Target,
        repository: &str,
        bytes: &[u8],
        from: Option<&str>,
    ) -> Result<Digest, RegistryError>;
}
