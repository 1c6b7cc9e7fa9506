//! Stores a file as an object: small ones with one request, others in parts. S3 checks every part
//! against the digest in its signature, and shows the object once all of them are there.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderName};

use super::super::Aws;
use super::super::s3::{Ask, No};
use super::super::xml::element;
use super::{AT_ONCE, LIST, NOTE, PART, Transfer, file};
use crate::ports::bucket::BucketError;
use crate::ports::cloud::{CloudError, ObjectPlace};

const PUT: &str = "s3:PutObject";

impl Aws {
    pub(super) async fn store(
        &self,
        place: &ObjectPlace,
        from: &Path,
        notes: &BTreeMap<String, String>,
        transfer: &Transfer<'_>,
    ) -> Result<(), BucketError> {
        let opened = File::open(from).map_err(|error| file("reading", from, &error))?;
        let opened = Arc::new(opened);
        let source = Source { from, opened };
        if transfer.total <= PART {
            let body = source.read(0, transfer.total).await?;
            let ask = noted(
                Ask::new(PUT, Method::PUT, place, LIST).header(CONTENT_TYPE, "application/zstd"),
                notes,
            )?;
            let ask = Ask { body, ..ask };
            tokio::select! {
                answer = self.s3(&ask) => self.yes(place, answer?).await?,
                () = transfer.cancel.cancelled() => return Err(BucketError::Cancelled),
            };
            transfer.add(transfer.total);
            return Ok(());
        }
        let ask = Ask::new(PUT, Method::POST, place, LIST)
            .header(CONTENT_TYPE, "application/zstd")
            .query("uploads", "")
            .holding("<UploadId>");
        let begun = self.s3(&noted(ask, notes)?).await?;
        let begun = self.yes(place, begun).await?;
        let text = String::from_utf8_lossy(&begun.body);
        let upload = element(&text, "UploadId").filter(|id| !id.is_empty());
        let upload = upload.ok_or_else(|| self.no_receipt("it gave the upload no id"))?;
        let stored = tokio::select! {
            stored = self.in_parts(place, &source, &upload, notes, transfer) => stored,
            () = transfer.cancel.cancelled() => Err(BucketError::Cancelled),
        };
        if stored.is_err() {
            // What this misses a lifecycle rule of the bucket clears away.
            let ask = Ask::new("s3:AbortMultipartUpload", Method::DELETE, place, LIST)
                .query("uploadId", &upload);
            let _ = tokio::time::timeout(self.patience, self.s3(&ask)).await;
        }
        stored
    }

    async fn in_parts(
        &self,
        place: &ObjectPlace,
        source: &Source<'_>,
        upload: &str,
        notes: &BTreeMap<String, String>,
        transfer: &Transfer<'_>,
    ) -> Result<(), BucketError> {
        let parts = transfer.parts().into_iter().zip(1_u32..);
        let sent = parts.map(|((begin, size), number)| async move {
            let body = source.read(begin, size).await?;
            let ask = Ask::new(PUT, Method::PUT, place, LIST)
                .query("partNumber", number.to_string())
                .query("uploadId", upload);
            let ask = Ask { body, ..ask };
            let answer = self.s3(&ask).await?;
            let answer = self.yes(place, answer).await?;
            let etag = answer.header("etag").unwrap_or_default();
            if etag.is_empty() || etag.contains(['<', '&']) {
                return Err(self.no_receipt("it gave a part no receipt").into());
            }
            transfer.add(size);
            Ok::<_, BucketError>(etag.to_owned())
        });
        let etags: Vec<String> = stream::iter(sent).buffered(AT_ONCE).try_collect().await?;
        let list: String = etags
            .iter()
            .zip(1_u32..)
            .map(|(etag, number)| {
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
            })
            .collect();
        let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
        let ask = Ask::new(PUT, Method::POST, place, LIST)
            .header(CONTENT_TYPE, "application/xml")
            .query("uploadId", upload)
            .holding("<CompleteMultipartUploadResult");
        let ask = Ask {
            body: Bytes::from(list),
            ..ask
        };
        match self.s3(&ask).await? {
            Ok(_) => Ok(()),
            // An answer that was lost: the second time there is nothing left to put together.
            Err(no) if no.problem.is("NoSuchUpload") => match self.find(place).await? {
                Some(object) if object.notes == *notes => Ok(()),
                _ => Err(self.unread(place, &no).await.into()),
            },
            Err(no) => Err(self.unread(place, &no).await.into()),
        }
    }

    async fn yes<T>(&self, place: &ObjectPlace, answer: Result<T, No>) -> Result<T, BucketError> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(no) => Err(self.unread(place, &no).await.into()),
        }
    }

    fn no_receipt(&self, message: &str) -> CloudError {
        CloudError::Broken {
            account: self.account.name.clone(),
            action: PUT.to_owned(),
            message: message.to_owned(),
        }
    }
}

/// A file that is read in pieces.
struct Source<'a> {
    from: &'a Path,
    opened: Arc<File>,
}

impl Source<'_> {
    async fn read(&self, begin: u64, size: u64) -> Result<Bytes, BucketError> {
        let opened = self.opened.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let size = usize::try_from(size).map_err(std::io::Error::other)?;
            let mut bytes = vec![0; size];
            opened.read_exact_at(&mut bytes, begin)?;
            Ok::<_, std::io::Error>(bytes)
        });
        let bytes = reading.await.map_err(std::io::Error::other);
        let bytes = bytes.and_then(|bytes| bytes);
        let bytes = bytes.map_err(|error| file("reading", self.from, &error))?;
        Ok(bytes.into())
    }
}

fn noted<'a>(mut ask: Ask<'a>, notes: &BTreeMap<String, String>) -> Result<Ask<'a>, BucketError> {
    for (name, value) in notes {
        let header = HeaderName::from_bytes(format!("{NOTE}{name}").as_bytes());
        let header = header.map_err(|error| BucketError::File {
            what: format!("noting {name}"),
            message: error.to_string(),
        })?;
        ask = ask.header(header, value);
    }
    Ok(ask)
}
