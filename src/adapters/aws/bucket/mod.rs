//! Objects of any size: what a bucket has, and transfers in parts that are lost and tried again one
//! by one. What is stored is seen as a whole or not at all.

mod fetch;
mod store;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::RANGE;
use tokio_util::sync::CancellationToken;

use super::s3::{Answer, Ask};
use super::xml::{element, elements};
use super::{Aws, Clouds};
use crate::base::Digest;
use crate::ports::bucket::{BucketError, BucketReader, Buckets, Object};
use crate::ports::cloud::{Account, CloudError, ObjectPlace};
use crate::ports::{Output, Progress, ProgressState};

/// Size of a part; larger if there would be too many.
const PART: u64 = 8 << 20;
/// The most parts of an upload, a few fewer than S3 takes.
const MOST_PARTS: u64 = 9_900;
/// Parts on their way at a time.
const AT_ONCE: usize = 4;
/// Largest list and receipt that is read, in bytes.
const LIST: u64 = 4 << 20;
/// What notes of an object are called on the wire.
const NOTE: &str = "x-amz-meta-";

#[async_trait]
impl BucketReader for Clouds {
    async fn find(
        &self,
        account: &Account,
        place: &ObjectPlace,
    ) -> Result<Option<Object>, CloudError> {
        self.of(account).find(place).await
    }

    async fn list(
        &self,
        account: &Account,
        prefix: &ObjectPlace,
        most: usize,
    ) -> Result<Vec<Object>, CloudError> {
        self.of(account).list(prefix, most).await
    }
}

#[async_trait]
impl Buckets for Clouds {
    async fn fetch(
        &self,
        account: &Account,
        object: &Object,
        wanted: &Digest,
        into: &Path,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<(), BucketError> {
        let aws = self.of(account);
        let label = format!("fetch {}", object.place);
        let transfer = Transfer::new(label, object.size, output, cancel);
        let fetched = aws.fetch(object, wanted, into, &transfer).await;
        transfer.end(fetched.is_ok());
        fetched
    }

    async fn store(
        &self,
        account: &Account,
        place: &ObjectPlace,
        from: &Path,
        notes: &BTreeMap<String, String>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<(), BucketError> {
        let size = std::fs::metadata(from).map_err(|error| file("reading", from, &error))?;
        let label = format!("store {place}");
        let transfer = Transfer::new(label, size.len(), output, cancel);
        let stored = self.of(account).store(place, from, notes, &transfer).await;
        transfer.end(stored.is_ok());
        stored
    }
}

fn file(what: &str, path: &Path, error: &std::io::Error) -> BucketError {
    BucketError::File {
        what: format!("{what} {}", path.display()),
        message: error.to_string(),
    }
}

/// Something on its way.
struct Transfer<'a> {
    label: String,
    total: u64,
    done: AtomicU64,
    output: &'a dyn Output,
    cancel: &'a CancellationToken,
}

impl<'a> Transfer<'a> {
    fn new(
        label: String,
        total: u64,
        output: &'a dyn Output,
        cancel: &'a CancellationToken,
    ) -> Self {
        Self {
            label,
            total,
            done: AtomicU64::new(0),
            output,
            cancel,
        }
    }

    fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.tell(ProgressState::Running);
    }

    fn end(&self, well: bool) {
        self.tell(match well {
            true => ProgressState::Done,
            false => ProgressState::Failed,
        });
    }

    fn tell(&self, state: ProgressState) {
        self.output.progress(Progress {
            id: self.label.clone(),
            label: self.label.clone(),
            done: self.done.load(Ordering::Relaxed),
            total: Some(self.total),
            state,
        });
    }

    /// Size of its parts.
    fn part(&self) -> u64 {
        PART.max(self.total.div_ceil(MOST_PARTS))
    }

    /// Where its parts begin, and their sizes.
    fn parts(&self) -> Vec<(u64, u64)> {
        let part = self.part();
        let begins = (0..self.total.div_ceil(part)).map(|number| number * part);
        begins
            .map(|begin| (begin, part.min(self.total - begin)))
            .collect()
    }
}

impl Aws {
    /// What an object is, by its first byte: unlike a look at its head, that says why not.
    async fn find(&self, place: &ObjectPlace) -> Result<Option<Object>, CloudError> {
        let ask = Ask::get(place, 1).header(RANGE, "bytes=0-0");
        let answer = match self.s3(&ask).await? {
            Ok(answer) => answer,
            Err(no) if no.problem.is("NoSuchKey") => return Ok(None),
            Err(no) => return Err(self.unread(place, &no).await),
        };
        Ok(described(place, &answer))
    }

    async fn list(&self, prefix: &ObjectPlace, most: usize) -> Result<Vec<Object>, CloudError> {
        let bucket = ObjectPlace {
            bucket: prefix.bucket.clone(),
            key: String::new(),
        };
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let page = (most - found.len()).min(1000);
            let mut ask =
                Ask::new("s3:ListBucket", Method::GET, &bucket, LIST).holding("<ListBucketResult");
            // Parameters are signed in the order of their names.
            if let Some(next) = &next {
                ask = ask.query("continuation-token", next);
            }
            ask = ask
                .query("list-type", "2")
                .query("max-keys", page.to_string())
                .query("prefix", &prefix.key);
            let answer = match self.s3(&ask).await? {
                Ok(answer) => answer,
                Err(no) => return Err(self.unread(prefix, &no).await),
            };
            let text = String::from_utf8_lossy(&answer.body);
            let before = found.len();
            found.extend(
                elements(&text, "Contents")
                    .into_iter()
                    .filter_map(|one| listed(&prefix.bucket, one))
                    .filter(|object| object.place.key.starts_with(&prefix.key))
                    .take(most - before),
            );
            next = element(&text, "NextContinuationToken").filter(|next| !next.is_empty());
            // A page that brought nothing would bring nothing again.
            if next.is_none() || found.len() >= most || found.len() == before {
                return Ok(found);
            }
        }
    }
}

fn listed(bucket: &str, text: &str) -> Option<Object> {
    // Only what is an address of an object may be asked for.
    let place = format!("s3://{bucket}/{}", element(text, "Key")?);
    Some(Object {
        place: place.parse().ok()?,
        size: element(text, "Size")?.parse().ok()?,
        etag: element(text, "ETag").unwrap_or_default(),
        stored: element(text, "LastModified").unwrap_or_default(),
        notes: BTreeMap::new(),
    })
}

fn described(place: &ObjectPlace, answer: &Answer) -> Option<Object> {
    let range = answer.header("content-range");
    let size = match range.and_then(|range| range.rsplit_once('/')) {
        Some((_, size)) => size.parse().ok()?,
        // All of it is one byte.
        None => answer.body.len() as u64,
    };
    let notes = answer.headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(NOTE)?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    Some(Object {
        place: place.clone(),
        size,
        etag: answer.header("etag").unwrap_or_default().to_owned(),
        stored: String::new(),
        notes: notes.take(32).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Silent;

    #[test]
    fn transfers_are_cut_into_parts() {
        let cancel = CancellationToken::new();
        let parts = |total: u64| Transfer::new(String::new(), total, &Silent, &cancel).parts();
        assert_eq!(parts(0), []);
        assert_eq!(parts(PART), [(0, PART)]);
        assert_eq!(parts(PART + 1), [(0, PART), (PART, 1)]);
        // As much as an object may be: not more parts than may be.
        let many = parts(5 << 40);
        assert!(many.len() as u64 <= MOST_PARTS);
        assert_eq!(many.iter().map(|(_, size)| size).sum::<u64>(), 5 << 40);
    }

    #[test]
    fn lists_name_only_objects() {
        let text = "<Contents><Key>a/b&amp;c</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                    <ETag>&quot;e&quot;</ETag><Size>7</Size></Contents>";
        let object = listed("tasks", text).expect("an object");
        assert_eq!(
            (object.place.key.as_str(), object.size, object.etag.as_str()),
            ("a/b&c", 7, "\"e\"")
        );
        assert_eq!(listed("tasks", "<Key></Key><Size>7</Size>"), None);
        assert_eq!(listed("tasks", "<Key>a</Key><Size>many</Size>"), None);
    }
}
