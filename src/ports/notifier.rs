//! Sends messages to web hooks.

use async_trait::async_trait;

use super::Retry;
use crate::base::{Secret, Text};

/// A message to post.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where to. An address is often a secret itself.
    pub url: Secret,
    /// Extra headers.
    pub headers: Vec<(String, Text)>,
    /// JSON body.
    pub body: String,
}

/// What can go wrong with a message.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The receiver refused for a reason that will not go away.
    #[error("the receiver refused the message: {0}")]
    Refused(String),
    /// No answer, a broken one, a server error or a rate limit.
    #[error("the receiver failed: {message}")]
    Broken {
        /// What it or the transport said. Never holds the address.
        message: String,
        /// Whether and when to try again.
        after: Option<std::time::Duration>,
    },
}

impl NotifyError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused(_) => Retry::Never,
            Self::Broken { after, .. } => Retry::After(*after),
        }
    }
}

/// Posts messages.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Posts one message, once.
    async fn send(&self, message: &Message) -> Result<(), NotifyError>;
}
