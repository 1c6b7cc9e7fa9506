//! Simulated buckets. One that nobody declared does not exist, unless the world is lenient.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::archive::decoded;
use super::call::{Call, Done, Life};
use super::fault::{Failure, PortError};
use super::ledger::Rule;
use super::state::State;
use crate::base::Digest;
use crate::ports::Output;
use crate::ports::bucket::{BucketError, BucketReader, Buckets, Object};
use crate::ports::cloud::{Account, CloudError, ObjectPlace};

/// Objects by bucket and key.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    buckets: BTreeMap<String, BTreeMap<String, Held>>,
    lenient: bool,
    count: u64,
}

#[derive(Clone, Debug)]
struct Held {
    bytes: Arc<[u8]>,
    notes: BTreeMap<String, String>,
    number: u64,
}

impl Stored {
    /// Buckets with these objects.
    pub(super) fn new(objects: &BTreeMap<String, Vec<u8>>, lenient: bool) -> Self {
        let mut stored = Self {
            lenient,
            ..Self::default()
        };
        for (address, bytes) in objects {
            if let Ok(place) = address.parse::<ObjectPlace>() {
                stored.declare(&place.bucket);
                stored.put(&place, bytes.as_slice().into(), BTreeMap::new());
            }
        }
        stored
    }

    /// Makes a bucket.
    pub(super) fn declare(&mut self, bucket: &str) {
        self.buckets.entry(bucket.to_owned()).or_default();
    }

    /// Everything there is, by address.
    pub(super) fn addresses(&self) -> Vec<String> {
        let all = self.buckets.iter();
        all.flat_map(|(bucket, keys)| keys.keys().map(move |key| format!("s3://{bucket}/{key}")))
            .collect()
    }

    /// Replaces the bytes of an object, and says nothing.
    pub(super) fn tamper(&mut self, place: &ObjectPlace, bytes: &[u8]) {
        let keys = self.buckets.get_mut(&place.bucket);
        if let Some(held) = keys.and_then(|keys| keys.get_mut(&place.key)) {
            held.bytes = bytes.into();
        }
    }

    fn bucket(
        &mut self,
        account: &Account,
        action: &str,
        bucket: &str,
    ) -> Result<&mut BTreeMap<String, Held>, CloudError> {
        if self.lenient {
            self.declare(bucket);
        }
        self.buckets
            .get_mut(bucket)
            .ok_or_else(|| CloudError::Refused {
                account: account.name.clone(),
                action: action.to_owned(),
                code: "NoSuchBucket".to_owned(),
                message: format!("the bucket {bucket} does not exist"),
            })
    }

    fn put(&mut self, place: &ObjectPlace, bytes: Arc<[u8]>, notes: BTreeMap<String, String>) {
        self.count += 1;
        let number = self.count;
        if let Some(keys) = self.buckets.get_mut(&place.bucket) {
            let held = Held {
                bytes,
                notes,
                number,
            };
            keys.insert(place.key.clone(), held);
        }
    }

    /// The bytes of an object.
    pub(super) fn read(
        &mut self,
        account: &Account,
        place: &ObjectPlace,
    ) -> Result<Option<Arc<[u8]>>, CloudError> {
        let keys = self.bucket(account, "s3:GetObject", &place.bucket)?;
        Ok(keys.get(&place.key).map(|held| held.bytes.clone()))
    }
}

fn object(bucket: &str, key: &str, held: &Held) -> Object {
    Object {
        place: ObjectPlace {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        },
        size: held.bytes.len() as u64,
        etag: format!("\"{}\"", held.number),
        stored: format!("{:012}", held.number),
        notes: held.notes.clone(),
    }
}

impl PortError for BucketError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        CloudError::of(failure, call).map(Self::Cloud)
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Cloud(CloudError::broken(call, message))
    }

    fn cancelled() -> Option<Self> {
        Some(Self::Cancelled)
    }
}

fn broken(what: &str, path: &Path) -> BucketError {
    BucketError::File {
        what: what.to_owned(),
        message: format!("{} is not there", path.display()),
    }
}

impl State {
    fn file(&mut self, call: &Call, path: &Path) -> Result<Arc<[u8]>, BucketError> {
        self.disk.read(path).ok_or_else(|| {
            let message = format!("{} is not there", path.display());
            self.violate(Rule::UnknownDirectory, call, message);
            broken("reading a file", path)
        })
    }
}

#[async_trait]
impl BucketReader for Life {
    async fn find(
        &self,
        account: &Account,
        place: &ObjectPlace,
    ) -> Result<Option<Object>, CloudError> {
        let call = Call::one("buckets.find", &place.to_string());
        self.pass::<CloudError>(&call, None).await?;
        self.look(|state| {
            let keys = state
                .buckets
                .bucket(account, "s3:GetObject", &place.bucket)?;
            let held = keys.get(&place.key);
            Ok(held.map(|held| object(&place.bucket, &place.key, held)))
        })
        .await
    }

    async fn list(
        &self,
        account: &Account,
        prefix: &ObjectPlace,
        most: usize,
    ) -> Result<Vec<Object>, CloudError> {
        let call = Call::one("buckets.list", &prefix.to_string());
        self.pass::<CloudError>(&call, None).await?;
        self.look(|state| {
            let keys = state
                .buckets
                .bucket(account, "s3:ListBucket", &prefix.bucket)?;
            let found = keys.iter().filter(|(key, _)| key.starts_with(&prefix.key));
            let listed = found.map(|(key, held)| Object {
                notes: BTreeMap::new(),
                ..object(&prefix.bucket, key, held)
            });
            Ok(listed.take(most).collect())
        })
        .await
    }
}

#[async_trait]
impl Buckets for Life {
    async fn fetch(
        &self,
        account: &Account,
        object: &Object,
        wanted: &Digest,
        into: &Path,
        _output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<(), BucketError> {
        let address = object.place.to_string();
        let call = Call::one("buckets.fetch", &address);
        let mut ticket = self.enter::<BucketError>(&call, Some(cancel)).await?;
        self.act(&call, &mut ticket, |state| {
            let read = state.buckets.read(account, &object.place)?;
            let bytes = read.ok_or_else(|| broken("fetching an object", into))?;
            let found = Digest::of(&bytes);
            if found != *wanted {
                return Err(BucketError::Tampered {
                    object: address.clone(),
                    wanted: wanted.clone(),
                    found,
                });
            }
            let written = state.disk.write(into, bytes);
            written.map_err(|_| broken("writing an object", into))?;
            Ok(Done::changed((), address.clone(), into.to_string_lossy()))
        })
        .await
    }

    async fn store(
        &self,
        account: &Account,
        place: &ObjectPlace,
        from: &Path,
        notes: &BTreeMap<String, String>,
        _output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<(), BucketError> {
        let address = place.to_string();
        let call = Call::one("buckets.store", &address);
        let mut ticket = self.enter::<BucketError>(&call, Some(cancel)).await?;
        self.act(&call, &mut ticket, |state| {
            let bytes = state.file(&call, from)?;
            state
                .buckets
                .bucket(account, "s3:PutObject", &place.bucket)?;
            // Whatever is stored is read by others.
            for (path, bytes) in decoded(&bytes).unwrap_or_default() {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                state.check_leaks(&call, &path, [text.as_str()]);
            }
            state.buckets.put(place, bytes, notes.clone());
            Ok(Done::changed((), address.clone(), "stored"))
        })
        .await
    }
}
