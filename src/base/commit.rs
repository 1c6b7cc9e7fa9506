//! The facts of a commit that pipelines may read.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A commit of the source repository and how it was named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// Full hexadecimal object name.
    pub sha: String,
    /// Branch it was asked for by, or that is checked out.
    pub branch: Option<String>,
    /// Tag it was asked for by.
    pub tag: Option<String>,
    /// Full ref: `refs/heads/main`, `refs/tags/v1`; the sha if there is none.
    pub reference: String,
    /// First line of the message.
    pub message: String,
    /// `Name <address>`.
    pub author: String,
    /// When it was committed.
    pub time: Timestamp,
    /// Address of the `origin` remote, without credentials.
    pub origin: Option<String>,
}

impl Commit {
    /// The first seven digits of the object name.
    pub fn short_sha(&self) -> &str {
        self.sha.get(..7).unwrap_or(&self.sha)
    }

    /// The tag without a leading `v`, if a digit follows it.
    pub fn version(&self) -> Option<&str> {
        let tag = self.tag.as_deref()?;
        Some(match tag.strip_prefix('v') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => rest,
            _ => tag,
        })
    }
}
