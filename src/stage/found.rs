//! Looks for images that are there already: what makes building and pushing unnecessary.

use std::collections::BTreeMap;

use super::context::INPUTS_LABEL;
use super::{Failure, ImageFacts};
use crate::base::Digest;
use crate::ports::registry::{Login, RegistryReader, Target};

/// Where the registry or the engine already has what would be built.
#[derive(Debug)]
pub(super) struct Found {
    /// Image id, which on a registry is the digest of the image's configuration.
    pub id: String,
    /// Digest of the manifest, if it is in the registry.
    pub digest: Option<Digest>,
    /// Why it counts, in a sentence.
    pub evidence: String,
    /// Something odd about it.
    pub warning: Option<String>,
}

/// Looks a tag up in its registry. It counts if the image was built from the same inputs or is
/// immutable.
pub(super) async fn in_registry(
    registry: &dyn RegistryReader,
    facts: &ImageFacts,
    inputs: Option<&Digest>,
    immutable: bool,
) -> Result<Option<Found>, Failure> {
    let Some(manifest) = registry
        .manifest(&facts.target, &facts.repository, &facts.tag)
        .await?
    else {
        return Ok(None);
    };
    let reference = facts.reference();
    let json: serde_json::Value = serde_json::from_slice(&manifest.bytes).map_err(|error| {
        Failure::errored(format!("the manifest of {reference} is not JSON: {error}"))
    })?;
    let config = json
        .pointer("/config/digest")
        .and_then(|digest| digest.as_str());
    let Some(config) = config.and_then(|digest| digest.parse::<Digest>().ok()) else {
        // An index has no single configuration. It was not made by us, so only immutability decides.
        return Ok(immutable.then(|| Found {
            id: String::new(),
            evidence: format!("{reference} is in the registry and immutable"),
            digest: Some(manifest.digest.clone()),
            warning: None,
        }));
    };
    let labels = match registry
        .blob(&facts.target, &facts.repository, &config)
        .await?
    {
        Some(blob) => labels_of(&blob),
        None => BTreeMap::new(),
    };
    let same = inputs.is_some_and(|inputs| {
        labels
            .get(INPUTS_LABEL)
            .is_some_and(|label| *label == inputs.as_str())
    });
    let evidence = match (immutable, same) {
        (true, _) => format!("{reference} is in the registry and immutable"),
        (false, true) => format!("{reference} is in the registry, built from the same inputs"),
        (false, false) => return Ok(None),
    };
    let warning = (immutable && !same && inputs.is_some() && labels.contains_key(INPUTS_LABEL)).then(|| {
        format!("{reference} was built from other inputs than this commit has; give it a new tag if they should be released")
    });
    Ok(Some(Found {
        id: config.to_string(),
        evidence,
        digest: Some(manifest.digest),
        warning,
    }))
}

fn labels_of(config: &[u8]) -> BTreeMap<String, String> {
    serde_json::from_slice::<serde_json::Value>(config)
        .ok()
        .and_then(|config| serde_json::from_value(config.pointer("/config/Labels")?.clone()).ok())
        .unwrap_or_default()
}

pub(super) fn short(id: &str) -> &str {
    id.get(..19).unwrap_or(id)
}

/// A target whose login is spelled out, for handing to an engine.
pub(super) async fn resolved(
    registry: &dyn RegistryReader,
    mut target: Target,
) -> Result<Target, Failure> {
    if let Some((user, password)) = registry.resolve(&target).await? {
        target.login = Login::Basic { user, password };
    }
    Ok(target)
}
