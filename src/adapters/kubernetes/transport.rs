//! What carries requests to a cluster.

use std::time::Duration;

use async_trait::async_trait;
use hyper::http::Request;

use crate::ports::cluster::{Cluster, ClusterError};

/// An answer, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// How long it asks us to wait.
    pub retry_after: Option<Duration>,
    /// Its body.
    pub body: Vec<u8>,
}

/// Carries a request to a cluster once; authenticates it.
#[async_trait]
pub trait Transport: Send + Sync {
    /// The namespace of whoever does not say which.
    async fn namespace(&self, cluster: &Cluster) -> Result<String, ClusterError>;

    /// Sends a request whose address is a path; `action` says what for.
    async fn send(
        &self,
        cluster: &Cluster,
        action: &str,
        request: Request<Vec<u8>>,
    ) -> Result<Answer, ClusterError>;

    /// 64 random bits.
    fn random(&self) -> u64;
}
