//! Accounts of a cloud and who we are there. No SDK types: an account is what a pipeline declares,
//! with its texts resolved, and at the same time the key under which credentials are kept.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_trait::async_trait;

use super::Retry;
use super::registry::Ecr;
use crate::base::{Secret, human_bytes};

/// An account as a pipeline declares it: where, and how to become who.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// Its name in the pipeline, for messages.
    pub name: String,
    /// The region; what the environment or the profile says if absent.
    pub region: Option<String>,
    /// The profile of the shared configuration.
    pub profile: Option<String>,
    /// Address that replaces the services' own.
    pub endpoint: Option<String>,
    /// Roles to assume, one after another.
    pub roles: Vec<String>,
    /// How long the last role's credentials last.
    pub session: Option<Duration>,
    /// What the first role is assumed with, instead of credentials.
    pub web_identity: Option<WebIdentity>,
    /// External id the roles ask for.
    pub external_id: Option<Secret>,
    /// Session policy, as JSON, that narrows the last role.
    pub policy: Option<String>,
    /// Session tags of the last role.
    pub tags: Vec<(String, String)>,
    /// Account ids that may be worked on; every one if empty.
    pub allowed: Vec<String>,
}

/// Where the token comes from that a role is assumed with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WebIdentity {
    /// A file, read anew each time.
    File(PathBuf),
    /// Signed here, for each use, as the issuer that the environment names.
    Issuer(Box<Bearer>),
}

/// On whose behalf a token is: what a run works on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bearer {
    /// The repository: host and path of its origin, or the name of its directory.
    pub repository: String,
    /// The ref: `refs/heads/main`; `refs/pull/7` of a pull request, `dirty` of a working tree.
    pub reference: String,
    /// The commit, if it is one.
    pub sha: Option<String>,
    /// The pipeline.
    pub pipeline: String,
    /// The run, if it is one.
    pub run: Option<String>,
}

impl Bearer {
    /// What a role's trust policy compares.
    pub fn subject(&self) -> String {
        format!(
            "repo:{}:ref:{}:pipeline:{}",
            self.repository, self.reference, self.pipeline
        )
    }
}

/// Who a call was made as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Id of the account: twelve digits.
    pub account: String,
    /// The user or the assumed role.
    pub arn: String,
}

/// Where an object is kept, written `s3://BUCKET/KEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPlace {
    /// The bucket.
    pub bucket: String,
    /// Its name there.
    pub key: String,
}

/// Longest key, in bytes.
const LONGEST_KEY: usize = 1024;

impl FromStr for ObjectPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("s3://");
        let parts = rest.and_then(|rest| rest.split_once('/'));
        let Some((bucket, key)) = parts.filter(|(_, key)| !key.is_empty()) else {
            return Err(format!("\"{text}\" is no object: write s3://BUCKET/KEY"));
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        // Two dots would be a way up in an address.
        if bucket.len() < 3
            || bucket.len() > 255
            || !bucket.bytes().all(fits)
            || bucket.contains("..")
        {
            return Err(format!(
                "\"{bucket}\" is no bucket: names have 3 to 63 letters, digits, dots and hyphens"
            ));
        }
        if key.len() > LONGEST_KEY || key.contains(char::is_control) {
            return Err(format!(
                "the key in bucket {bucket} is longer than {LONGEST_KEY} bytes, or holds control characters"
            ));
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }
}

impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// What can go wrong with a cloud. No message holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// There is no way to be anybody, or it is not usable.
    #[error("aws `{account}`: {message}")]
    NoCredentials {
        /// The account's name in the pipeline.
        account: String,
        /// Why, and what to do.
        message: String,
    },
    /// We are somebody who may not.
    #[error("aws `{account}` denied {action}: {message}")]
    Denied {
        /// The account's name in the pipeline.
        account: String,
        /// What was asked for: `ecr:GetAuthorizationToken`.
        action: String,
        /// What it said, who we are, and what would have to be allowed.
        message: String,
    },
    /// It refused for a reason that will not go away.
    #[error("aws `{account}` refused {action}: {code}: {message}")]
    Refused {
        /// The account's name in the pipeline.
        account: String,
        /// What was asked for.
        action: String,
        /// The service's word for it: `ResourceNotFoundException`.
        code: String,
        /// What it said.
        message: String,
    },
    /// There is more than we are willing to take.
    #[error("aws `{account}`: {object} is larger than {}", human_bytes(*.limit))]
    TooLarge {
        /// The account's name in the pipeline.
        account: String,
        /// What was read.
        object: String,
        /// So many bytes would have been taken.
        limit: u64,
    },
    /// It asks us to slow down, and went on to.
    #[error("aws `{account}` limits our rate at {action}")]
    Throttled {
        /// The account's name in the pipeline.
        account: String,
        /// What was asked for.
        action: String,
    },
    /// No answer, a broken one, or a server error.
    #[error("aws `{account}` failed at {action}: {message}")]
    Broken {
        /// The account's name in the pipeline.
        account: String,
        /// What was asked for.
        action: String,
        /// What it or the transport said.
        message: String,
    },
}

impl CloudError {
    /// Whether another try may help.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Throttled { .. } | Self::Broken { .. } => Retry::After(None),
            _ => Retry::Never,
        }
    }

    /// The service's word for why it refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// Looks at a cloud. Retries what is worth retrying by itself.
#[async_trait]
pub trait CloudReader: Send + Sync {
    /// Who we are in an account.
    async fn caller(&self, account: &Account) -> Result<Caller, CloudError>;

    /// Host under which a registry of an account is reached: `host[:port]`.
    async fn registry_host(&self, registry: &Ecr) -> Result<String, CloudError>;

    /// An object, whole, of at most so many bytes; nothing if its bucket does not have it. A bucket
    /// that does not exist is an error.
    async fn object(
        &self,
        account: &Account,
        place: &ObjectPlace,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, CloudError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_by_their_addresses() {
        let place: ObjectPlace = "s3://tasks/a/b.json".parse().unwrap();
        assert_eq!(
            (place.bucket.as_str(), place.key.as_str()),
            ("tasks", "a/b.json")
        );
        assert_eq!(place.to_string(), "s3://tasks/a/b.json");
        let long = format!("s3://tasks/{}", "x".repeat(LONGEST_KEY + 1));
        for text in [
            "",
            "tasks/a",
            "s3://tasks",
            "s3://tasks/",
            "s3:///a",
            "s3://a/b",
            "s3://user@host/a",
            "s3://ta..sks/a",
            "s3://arn:aws:s3:::x/a",
            "s3://tasks/a\nb",
            long.as_str(),
        ] {
            assert!(text.parse::<ObjectPlace>().is_err(), "{text}");
        }
    }
}
