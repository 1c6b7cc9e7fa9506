//! Wall-clock time and randomness. Waiting is tokio's, so that tests can pause it.

use crate::base::Timestamp;

/// Tells the time of day and rolls dice.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;

    /// 64 random bits, for ids and jitter.
    fn random(&self) -> u64;
}
