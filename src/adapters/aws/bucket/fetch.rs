//! Fetches an object: in ranges of the one version that was found, a few at a time, and then looks
//! whether the bytes are those that were stored.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::header::{IF_MATCH, RANGE};
use sha2::{Digest as _, Sha256};

use super::super::Aws;
use super::super::s3::Ask;
use super::{AT_ONCE, Transfer, file};
use crate::base::Digest;
use crate::ports::bucket::{BucketError, Object};
use crate::ports::cloud::CloudError;

impl Aws {
    pub(super) async fn fetch(
        &self,
        object: &Object,
        wanted: &Digest,
        into: &Path,
        transfer: &Transfer<'_>,
    ) -> Result<(), BucketError> {
        let written = File::create_new(into).map_err(|error| file("writing", into, &error))?;
        let written = Arc::new(written);
        let parts = transfer.parts();
        let fetches = parts.into_iter().map(|(begin, size)| {
            let written = written.clone();
            async move {
                let bytes = self.range(object, begin, size).await?;
                let put = tokio::task::spawn_blocking(move || written.write_all_at(&bytes, begin));
                let put = put.await.map_err(std::io::Error::other);
                put.and_then(|put| put)
                    .map_err(|error| file("writing", into, &error))?;
                transfer.add(size);
                Ok::<_, BucketError>(())
            }
        });
        let all = stream::iter(fetches).buffer_unordered(AT_ONCE);
        tokio::select! {
            fetched = all.try_collect::<Vec<()>>() => drop(fetched?),
            () = transfer.cancel.cancelled() => return Err(BucketError::Cancelled),
        }
        let path = into.to_owned();
        let found = tokio::task::spawn_blocking(move || digest(&path)).await;
        let found = found.map_err(std::io::Error::other).and_then(|found| found);
        let found = found.map_err(|error| file("reading", into, &error))?;
        if found != *wanted {
            return Err(BucketError::Tampered {
                object: object.place.to_string(),
                wanted: wanted.clone(),
                found,
            });
        }
        Ok(())
    }

    async fn range(&self, object: &Object, begin: u64, size: u64) -> Result<Bytes, BucketError> {
        let last = begin + size - 1;
        let mut ask = Ask::get(&object.place, size).header(RANGE, format!("bytes={begin}-{last}"));
        // Halves of two versions would make neither.
        if !object.etag.is_empty() {
            ask = ask.header(IF_MATCH, &object.etag);
        }
        let answer = match self.s3(&ask).await? {
            Ok(answer) => answer,
            Err(no) => return Err(self.unread(&object.place, &no).await.into()),
        };
        if answer.body.len() as u64 != size {
            return Err(CloudError::Broken {
                account: self.account.name.clone(),
                action: "s3:GetObject".to_owned(),
                message: format!(
                    "it sent {} bytes of {} instead of {size}",
                    answer.body.len(),
                    object.place
                ),
            }
            .into());
        }
        Ok(answer.body)
    }
}

fn digest(path: &Path) -> std::io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_hash(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
