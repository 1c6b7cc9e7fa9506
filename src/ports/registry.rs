//! OCI and Docker image registries.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::Retry;
use super::cloud::Account;
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
    /// Whatever the registry's AWS account gives out, for as long as it lasts.
    Ecr(Arc<Ecr>),
}

/// An Elastic Container Registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ecr {
    /// The account we ask as.
    pub account: Account,
    /// Id of the account whose registry it is; that of the credentials if absent.
    pub owner: Option<String>,
    /// Its region; the account's if absent.
    pub region: Option<String>,
    /// Whether it is the public one, `public.ecr.aws`.
    pub public: bool,
    /// How a missing repository is made; not at all if absent.
    pub create: Option<NewRepository>,
}

/// How a repository is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NewRepository {
    /// Images are scanned when they are pushed.
    pub scan_on_push: bool,
    /// Tags never move.
    pub immutable: bool,
    /// Tags that move all the same: patterns with `*`.
    pub except: Vec<String>,
    /// Encrypted with KMS, by this key or by the default one if it is empty.
    pub kms: Option<String>,
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
    /// The tag stands at something else and never moves.
    #[error("{host} refused {what}: its tags are immutable and this one is taken: {message}")]
    Immutable {
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

/// How much a registry still lets us pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Pulls that are left.
    pub remaining: u64,
    /// The time that the limit is for.
    pub window: Option<Duration>,
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

    /// How much a registry said it still lets us pull; `None` if it did not say.
    async fn allowance(&self, _target: &Target) -> Option<Allowance> {
        None
    }

    /// The login that a target's stands for, if there is one, for handing to an engine.
    async fn resolve(&self, target: &Target) -> Result<Option<(String, Secret)>, RegistryError>;

    /// The registry did not accept what [`RegistryReader::resolve`] gave: forgets it, so that the
    /// next one is new. False if there is nothing that could be had anew.
    async fn forget(&self, _target: &Target) -> bool {
        false
    }
}

/// Changes registries.
#[async_trait]
pub trait Registry: RegistryReader {
    /// Makes the repository if it is missing and the target says how. True if it was made.
    async fn prepare(&self, _target: &Target, _repository: &str) -> Result<bool, RegistryError> {
        Ok(false)
    }

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
