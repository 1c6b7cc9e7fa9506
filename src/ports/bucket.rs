//! Objects kept in a bucket, of any size: found, fetched and stored. An object is there as a whole
//! or not at all, and carries the digest of its bytes.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Output;
use super::cloud::{Account, CloudError, ObjectPlace};
use crate::base::Digest;

/// An object as its bucket describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it is.
    pub place: ObjectPlace,
    /// Its size in bytes.
    pub size: u64,
    /// The version of it that was seen, in the bucket's own words.
    pub etag: String,
    /// When it was stored: as text that sorts by time. Only lists say so.
    pub stored: String,
    /// What was said of it when it was stored, by lower-case names. Lists do not say so.
    pub notes: BTreeMap<String, String>,
}

/// Why an object did not get from here to there.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// The cloud said no, or nothing.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The file on this machine cannot be read or written.
    #[error("{what}: {message}")]
    File {
        /// What was done.
        what: String,
        /// What the system said.
        message: String,
    },
    /// The bytes that came are not those that were stored.
    #[error("{object} is not what was stored: its digest is {found}, not {wanted}")]
    Tampered {
        /// The object.
        object: String,
        /// The digest it should have.
        wanted: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// Somebody stopped it.
    #[error("cancelled")]
    Cancelled,
}

/// Looks at buckets. Retries what is worth retrying by itself.
#[async_trait]
pub trait BucketReader: Send + Sync {
    /// What is known of an object; nothing if its bucket does not have it.
    async fn find(
        &self,
        account: &Account,
        place: &ObjectPlace,
    ) -> Result<Option<Object>, CloudError>;

    /// At most so many of the objects whose key begins as that of `prefix` does.
    async fn list(
        &self,
        account: &Account,
        prefix: &ObjectPlace,
        most: usize,
    ) -> Result<Vec<Object>, CloudError>;
}

/// Moves objects between buckets and this machine.
#[async_trait]
pub trait Buckets: BucketReader {
    /// Fetches an object, as it was found, into a new file, and checks that its bytes have this
    /// digest. What arrived of one that failed may stay in the file.
    async fn fetch(
        &self,
        account: &Account,
        object: &Object,
        wanted: &Digest,
        into: &Path,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<(), BucketError>;

    /// Stores a file with what is to be known of it, in place of what was there. It is seen once it
    /// is there as a whole.
    async fn store(
        &self,
        account: &Account,
        place: &ObjectPlace,
        from: &Path,
        notes: &BTreeMap<String, String>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<(), BucketError>;
}
