//! Where secrets come from.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::base::Secret;

/// A place a secret or a variable is read from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// An environment variable of this process.
    Env(String),
    /// A file; one trailing newline is dropped.
    File(PathBuf),
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
}

/// Reads secrets.
#[async_trait]
pub trait SecretReader: Send + Sync {
    /// Reads one. An empty value counts as missing.
    async fn read(&self, source: &SecretSource) -> Result<Secret, SecretError>;
}
