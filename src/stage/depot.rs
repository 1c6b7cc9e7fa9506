//! A declared bucket with every text resolved: where what is kept there goes.

use super::{Missing, Values};
use crate::ports::cloud::{Account, ObjectPlace};

/// A place in a bucket, and how it is entered.
#[derive(Clone, Debug)]
pub struct Depot {
    /// Its name in the pipeline.
    pub name: String,
    /// The account it is entered by.
    pub account: Account,
    /// The bucket.
    pub bucket: String,
    /// What keys begin with: empty, or ending in a slash.
    pub prefix: String,
    /// Most bytes of files that are kept at a time.
    pub largest: u64,
}

impl Depot {
    /// The object of a key below the prefix, or the prefix of several.
    pub fn place(&self, key: &str) -> Result<ObjectPlace, Missing> {
        let address = format!("s3://{}/{}{key}", self.bucket, self.prefix);
        address.parse().map_err(Missing::Absent)
    }

    /// Whether an object lies below the prefix.
    pub fn holds(&self, place: &ObjectPlace) -> bool {
        place.bucket == self.bucket && place.key.starts_with(&self.prefix)
    }
}

impl Values {
    /// A bucket by its declaration.
    pub async fn depot(&self, name: &str) -> Result<Depot, Missing> {
        let decl = self
            .decls
            .buckets
            .get(name)
            .ok_or_else(|| Missing::Absent(format!("bucket `{name}` is not declared")))?;
        let bucket = &decl.value;
        let Some(address) = &bucket.address else {
            return Err(Missing::Absent(format!("bucket `{name}` has no address")));
        };
        let address = Box::pin(self.plain(address)).await?;
        let rest = address.strip_prefix("s3://").unwrap_or_default();
        let (bucket_name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = match prefix.trim_end_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let depot = Depot {
            name: name.to_owned(),
            account: self.account(&bucket.aws.value).await?,
            bucket: bucket_name.to_owned(),
            prefix,
            largest: bucket.largest,
        };
        // Said of the declaration rather than of the first object.
        depot
            .place("x")
            .map_err(|why| Missing::Absent(format!("bucket `{name}`: {why}")))?;
        Ok(depot)
    }
}
