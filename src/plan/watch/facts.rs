//! What an image says of itself: when it was built and for which platforms. That never changes for
//! a digest, so it is read once and kept, in a bounded number of places of the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::choose::Facts;
use crate::base::{Digest, Timestamp};
use crate::ports::registry::{RegistryError, RegistryReader, Target};
use crate::ports::store::{Change, StoreReader};

/// The scope of facts that tell what images say of themselves.
const IMAGES: &str = "image";
/// Digits of a digest that say at which of 4,096 places of the store it is kept. Another image of the
/// same place takes it over, so that the store never grows beyond them.
const PLACE: usize = 3;
/// Images that are kept in memory.
const MEMORY: usize = 20_000;
/// Images of an index that are looked at.
const CHILDREN: usize = 64;

/// What is known of images by digest.
pub struct Cache {
    store: Arc<dyn StoreReader>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    facts: HashMap<Digest, Facts>,
    new: Vec<Digest>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    digest: String,
    #[serde(flatten)]
    facts: Facts,
}

impl Cache {
    /// What the store knows.
    pub fn new(store: Arc<dyn StoreReader>) -> Self {
        Self {
            store,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nothing that holds the lock can leave it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a digest.
    pub fn get(&self, digest: &Digest) -> Option<Facts> {
        if let Some(facts) = self.known().facts.get(digest) {
            return Some(facts.clone());
        }
        // What cannot be read is asked for again.
        let text = self.store.fact(IMAGES, place(digest)).ok().flatten()?;
        let kept: Kept = serde_json::from_str(&text).ok()?;
        if kept.digest != digest.as_str() {
            return None;
        }
        let mut known = self.known();
        if known.facts.len() < MEMORY {
            known.facts.insert(digest.clone(), kept.facts.clone());
        }
        Some(kept.facts)
    }

    /// Remembers what an image says.
    pub(super) fn put(&self, digest: &Digest, facts: Facts) {
        let mut known = self.known();
        if known.facts.len() >= MEMORY {
            known.facts.clear();
            known.new.clear();
        }
        known.facts.insert(digest.clone(), facts);
        known.new.push(digest.clone());
    }

    /// What the store does not know yet.
    pub fn changes(&self) -> Vec<Change> {
        let mut known = self.known();
        let new = std::mem::take(&mut known.new);
        let kept = new.iter().filter_map(|digest| {
            let kept = Kept {
                digest: digest.to_string(),
                facts: known.facts.get(digest)?.clone(),
            };
            Some(Change::SetFact {
                scope: IMAGES.to_owned(),
                key: place(digest).to_owned(),
                value: serde_json::to_string(&kept).ok()?,
            })
        });
        kept.collect()
    }
}

fn place(digest: &Digest) -> &str {
    let hex = digest.hex();
    hex.get(..PLACE).unwrap_or(hex)
}

/// Asks a registry what an image says of itself; `None` if it is gone.
pub(super) async fn facts(
    target: &Target,
    repository: &str,
    digest: &Digest,
    registry: &dyn RegistryReader,
) -> Result<Option<Facts>, RegistryError> {
    let broken = |message: &str| RegistryError::Refused {
        host: target.host.clone(),
        what: format!("manifest {repository}@{digest}"),
        message: message.to_owned(),
    };
    let Some(manifest) = registry
        .manifest(target, repository, digest.as_str())
        .await?
    else {
        return Ok(None);
    };
    let json: Value =
        serde_json::from_slice(&manifest.bytes).map_err(|_| broken("it is not JSON"))?;
    let Some(children) = json.get("manifests").and_then(Value::as_array) else {
        return Ok(Some(
            single(target, repository, &json, registry, &broken).await?,
        ));
    };
    let mut facts = Facts::default();
    let mut first = None;
    for child in children.iter().take(CHILDREN) {
        let word = |name: &str| {
            let value = child.pointer(&format!("/platform/{name}"));
            value.and_then(Value::as_str).unwrap_or("")
        };
        let platform = platform(word("os"), word("architecture"), word("variant"));
        // Attestations stand beside images as images of no platform.
        if platform.as_deref() == Some("unknown/unknown") {
            continue;
        }
        facts.platforms.extend(platform);
        if first.is_none() {
            first = child.get("digest").and_then(Value::as_str);
        }
    }
    let Some(first) = first else {
        return Err(broken("it is an index that names no image"));
    };
    let first: Digest = first
        .parse()
        .map_err(|_| broken("it is an index whose digests are none"))?;
    let Some(manifest) = registry
        .manifest(target, repository, first.as_str())
        .await?
    else {
        return Err(broken("it is an index of an image that is not there"));
    };
    let json: Value =
        serde_json::from_slice(&manifest.bytes).map_err(|_| broken("its image is not JSON"))?;
    let one = single(target, repository, &json, registry, &broken).await?;
    facts.created = one.created;
    if facts.platforms.is_empty() {
        facts.platforms = one.platforms;
    }
    Ok(Some(facts))
}

async fn single(
    target: &Target,
    repository: &str,
    manifest: &Value,
    registry: &dyn RegistryReader,
    broken: &(dyn Fn(&str) -> RegistryError + Sync),
) -> Result<Facts, RegistryError> {
    let config = manifest.pointer("/config/digest").and_then(Value::as_str);
    let config: Digest = config
        .and_then(|digest| digest.parse().ok())
        .ok_or_else(|| broken("it names no configuration"))?;
    let Some(bytes) = registry.blob(target, repository, &config).await? else {
        return Err(broken("its configuration is not there"));
    };
    let json: Value =
        serde_json::from_slice(&bytes).map_err(|_| broken("its configuration is not JSON"))?;
    let word = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or("");
    Ok(Facts {
        created: Timestamp::of_rfc3339(word("created")),
        platforms: platform(word("os"), word("architecture"), word("variant"))
            .into_iter()
            .collect(),
    })
}

fn platform(system: &str, architecture: &str, variant: &str) -> Option<String> {
    let fits = |text: &str| text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if system.is_empty() || architecture.is_empty() {
        return None;
    }
    if ![system, architecture, variant].into_iter().all(fits) {
        return None;
    }
    Some(match variant {
        "" => format!("{system}/{architecture}"),
        variant => format!("{system}/{architecture}/{variant}"),
    })
}
