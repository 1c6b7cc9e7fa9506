//! Accounts of a cloud and who we are there. No SDK types: an account is what a pipeline declares,
//! with its texts resolved, and at the same time the key under which credentials are kept.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use super::Retry;
use super::registry::Ecr;
use crate::base::Secret;

/// An account as a pipeline declares it: where, and how to become who.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// Its name in the pipeline, for messages.
    pub name: String,
    /// The region; what the environment or the profile says if absent.
    pub region: Option<String>,
    /// The profile of the shared configuration.
    pub profile: Option<String>,
    /// Address that replaces the services' own.
    pub endpoint: Option<String>,
    /// Roles to assume, one after another.
    pub roles: Vec<String>,
    /// How long the last role's credentials last.
    pub session: Option<Duration>,
    /// What the first role is assumed with, instead of credentials.
    pub web_identity: Option<WebIdentity>,
    /// External id the roles ask for.
    pub external_id: Option<Secret>,
    /// Session policy, as JSON, that narrows the last role.
    pub policy: Option<String>,
    /// Session tags of the last role.
    pub tags: Vec<(String, String)>,
    /// Account ids that may be worked on; every one if empty.
    pub allowed: Vec<String>,
}

/// Where the token comes from that a role is assumed with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WebIdentity {
    /// A file, read anew each time.
    File(PathBuf),
    /// The runner's own issuer.
    Issuer,
}

/// Who a call was made as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Id of the account: twelve digits.
    pub account: String,
    /// The user or the assumed role.
    pub arn: String,
}

/// What can go wrong with a cloud. No message holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// There is no way to be anybody, or it is not usable.
    #[error("aws `{account}`: {message}")]
    NoCredentials {
        /// The account's name in the pipeline.
        account: String,
        /// Why, and what to do.
        message: String,
    },
    /// We are somebody who may not.
    #[error("aws `{account}` denied {action}: {message}")]
    Denied {
        /// The account's name in the pipeline.
        account: String,
        /// What was asked for: `ecr:GetAuthorizationToken`.
        action: String,
        /// What it said, who we are, and what would have to be allowed.
        message: String,
    },
    /// It refused for a reason that will not go away.
    #[error("aws `{account}` refused {action}: {code}: {message}")]
    Refused {
        /// The account's name in the pipeline.
        account: String,
        /// What was asked for.
        action: String,
        /// The service's word for it: `ResourceNotFoundException`.
        code: String,
        /// What it said.
        message: String,
    },
    /// It asks us to slow down, and went on to.
    #[error("aws `{account}` limits our rate at {action}")]
    Throttled {
        /// The account's name in the pipeline.
        account: String,
        /// What was asked for.
        action: String,
    },
    /// No answer, a broken one, or a server error.
    #[error("aws `{account}` failed at {action}: {message}")]
    Broken {
        /// The account's name in the pipeline.
        account: String,
        /// What was asked for.
        action: String,
        /// What it or the transport said.
        message: String,
    },
}

impl CloudError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Throttled { .. } | Self::Broken { .. } => Retry::After(None),
            _ => Retry::Never,
        }
    }

    /// The service's word for why it refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// Looks at a cloud. Retries what is worth retrying by itself.
#[async_trait]
pub trait CloudReader: Send + Sync {
    /// Who we are in an account.
    async fn caller(&self, account: &Account) -> Result<Caller, CloudError>;

    /// Host under which a registry of an account is reached: `host[:port]`.
    async fn registry_host(&self, registry: &Ecr) -> Result<String, CloudError>;
}
