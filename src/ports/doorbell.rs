//! Where registries may tell that something changed. What they say is never believed: it only makes
//! the next look come at once.

use async_trait::async_trait;

/// Takes notifications.
#[async_trait]
pub trait Doorbell: Send + Sync {
    /// Waits until somebody who knows the secret says that something changed, and tells in which
    /// repositories. Notifications that come while nobody waits are told together.
    async fn rung(&self) -> Vec<String>;

    /// Where it listens.
    fn address(&self) -> String;
}
