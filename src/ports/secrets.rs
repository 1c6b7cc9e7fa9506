//! Where secrets come from.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::cloud::{Account, CloudError};
use crate::base::Secret;

/// The variable with the key of the issuer of tokens. No pipeline can read it: what holds it can be
/// whoever it likes.
pub const ISSUER_KEY: &str = "PIPEWRIGHT_ISSUER_KEY";

/// A place a secret or a variable is read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// An environment variable of this process.
    Env(String),
    /// A file; one trailing newline is dropped.
    File(PathBuf),
    /// A store of a cloud account.
    Stored {
        /// The account.
        account: Arc<Account>,
        /// The place in it.
        place: Stored,
    },
}

/// A place in an account's stores of secrets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// Which store.
    pub store: Vault,
    /// Name or ARN.
    pub name: String,
    /// The key, if the value is a JSON object.
    pub key: Option<String>,
    /// Version stage (Secrets Manager), version or label (Parameter Store); the current one if
    /// absent.
    pub version: Option<String>,
    /// Version id (Secrets Manager).
    pub version_id: Option<String>,
}

/// A store of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vault {
    /// AWS Secrets Manager.
    SecretsManager,
    /// AWS Systems Manager Parameter Store.
    ParameterStore,
}

impl Vault {
    /// What it is called.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecretsManager => "Secrets Manager",
            Self::ParameterStore => "Parameter Store",
        }
    }
}

/// What can go wrong with a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is not there.
    #[error("{0} is not set")]
    Missing(String),
    /// It is there but cannot be read.
    #[error("cannot read {what}: {message}")]
    Unreadable {
        /// Which place.
        what: String,
        /// Why.
        message: String,
    },
    /// The account it is kept in cannot be asked.
    #[error(transparent)]
    Cloud(#[from] CloudError),
}

/// Reads secrets.
#[async_trait]
pub trait SecretReader: Send + Sync {
    /// Reads one. An empty value counts as missing.
    async fn read(&self, source: &SecretSource) -> Result<Secret, SecretError>;
}
