//! What was chosen for an image by watching its registry.

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;

/// A tag and what it stood for when it was chosen. A run keeps it, so that going on with the run
/// never chooses again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Chosen {
    /// The tag.
    pub tag: String,
    /// The digest it stood for.
    pub digest: String,
    /// When the image says it was built, if that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
}
