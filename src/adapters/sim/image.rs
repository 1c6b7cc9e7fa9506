//! Images of a simulated world: real JSON with real digests, made of very small layers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::reference::Reference;
use crate::base::{Digest, Timestamp};
use crate::ports::engine::LocalImage;

/// Media type of an image's manifest.
pub(super) const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Bytes and their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) bytes: Arc<[u8]>,
}

impl Blob {
    pub(super) fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        Self {
            digest: Digest::of(&bytes),
            bytes,
        }
    }
}

/// An image that an engine has.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) config: Blob,
    pub(super) layers: Vec<Blob>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) platform: String,
    /// Whether it has a health check.
    pub(super) checked: bool,
    /// `repository@sha256:…` names.
    pub(super) digests: BTreeSet<String>,
}

/// What an image is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    pub(super) platform: String,
    pub(super) created: Timestamp,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) checked: bool,
    pub(super) history: Vec<String>,
    pub(super) layers: Vec<Blob>,
}

impl Image {
    pub(super) fn assemble(parts: Parts) -> Self {
        let mut platform = parts.platform.splitn(3, '/');
        let (os, architecture) = (platform.next(), platform.next());
        let mut config = json!({
            "architecture": architecture,
            "os": os,
            "created": parts.created.rfc3339(),
            "config": { "Labels": parts.labels },
            "history": parts.history.iter().map(|line| json!({"created_by": line})).collect::<Vec<_>>(),
            "rootfs": {
                "type": "layers",
                "diff_ids": parts.layers.iter().map(|blob| blob.digest.as_str()).collect::<Vec<_>>(),
            },
        });
        if let Some(variant) = platform.next() {
            config["variant"] = variant.into();
        }
        if parts.checked {
            config["config"]["Healthcheck"] = json!({ "Test": ["CMD-SHELL", "true"] });
        }
        Self {
            config: Blob::new(config.to_string().into_bytes()),
            layers: parts.layers,
            labels: parts.labels,
            platform: parts.platform,
            checked: parts.checked,
            digests: BTreeSet::new(),
        }
    }

    /// An image somebody else made: the same for everybody who asks for this reference.
    pub(super) fn of_somebody(reference: &Reference, platform: &str) -> Self {
        let layer = Blob::new(format!("simulated layer of {reference}").into_bytes());
        Self::assemble(Parts {
            platform: platform.to_owned(),
            history: vec![format!("simulated {reference}")],
            layers: vec![layer],
            ..Parts::default()
        })
    }

    /// Reads an image back from its manifest and blobs.
    pub(super) fn from_blobs(
        manifest: &[u8],
        blob: impl Fn(&Digest) -> Option<Arc<[u8]>>,
    ) -> Option<Self> {
        let manifest: Value = serde_json::from_slice(manifest).ok()?;
        let fetch = |descriptor: &Value| {
            let digest: Digest = descriptor["digest"].as_str()?.parse().ok()?;
            let bytes = blob(&digest)?;
            Some(Blob { digest, bytes })
        };
        let config = fetch(&manifest["config"])?;
        let layers = manifest["layers"]
            .as_array()?
            .iter()
            .map(fetch)
            .collect::<Option<Vec<_>>>()?;
        let value: Value = serde_json::from_slice(&config.bytes).ok()?;
        let labels = value["config"]["Labels"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let platform = ["os", "architecture", "variant"]
            .iter()
            .filter_map(|key| value[*key].as_str())
            .collect::<Vec<_>>()
            .join("/");
        Some(Self {
            layers,
            labels,
            platform,
            checked: value["config"]["Healthcheck"].is_object(),
            config,
            digests: BTreeSet::new(),
        })
    }

    pub(super) fn id(&self) -> &str {
        self.config.digest.as_str()
    }

    /// The manifest under which a registry stores it.
    pub(super) fn manifest(&self) -> Blob {
        let describe = |media_type: &str, blob: &Blob| {
            json!({
                "mediaType": media_type,
                "size": blob.bytes.len(),
                "digest": blob.digest.as_str(),
            })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": describe(CONFIG, &self.config),
            "layers": self.layers.iter().map(|blob| describe(LAYER, blob)).collect::<Vec<_>>(),
        });
        Blob::new(manifest.to_string().into_bytes())
    }

    pub(super) fn local(&self, tags: Vec<String>) -> LocalImage {
        LocalImage {
            id: self.id().to_owned(),
            labels: self.labels.clone(),
            tags,
            digests: self.digests.iter().cloned().collect(),
            size: self.layers.iter().map(|blob| blob.bytes.len() as u64).sum(),
            platform: self.platform.clone(),
        }
    }
}

/// One repository of a registry.
#[derive(Clone, Debug, Default)]
pub(super) struct Repository {
    /// Media type and bytes by digest.
    pub(super) manifests: BTreeMap<Digest, (String, Arc<[u8]>)>,
    pub(super) tags: BTreeMap<String, Digest>,
    pub(super) blobs: BTreeMap<Digest, Arc<[u8]>>,
    /// Whether it was pushed to: then it holds what was pushed and nothing else.
    pub(super) is_ours: bool,
}

impl Repository {
    pub(super) fn resolve(&self, reference: &str) -> Option<Digest> {
        match reference.parse::<Digest>() {
            Ok(digest) => self.manifests.contains_key(&digest).then_some(digest),
            Err(_) => self.tags.get(reference).cloned(),
        }
    }

    /// Stores an image and returns the digest of its manifest.
    pub(super) fn store(&mut self, image: &Image) -> Digest {
        for blob in image.layers.iter().chain([&image.config]) {
            self.blobs.insert(blob.digest.clone(), blob.bytes.clone());
        }
        let manifest = image.manifest();
        self.manifests.insert(
            manifest.digest.clone(),
            (MANIFEST.to_owned(), manifest.bytes),
        );
        manifest.digest
    }

    /// The image a reference stands for; of an index, its first.
    pub(super) fn image(&self, reference: &str) -> Option<Image> {
        let (_, bytes) = self.manifests.get(&self.resolve(reference)?)?;
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let bytes = match value["manifests"][0]["digest"].as_str() {
            Some(digest) => &self.manifests.get(&digest.parse::<Digest>().ok()?)?.1,
            None => bytes,
        };
        Image::from_blobs(bytes, |digest| self.blobs.get(digest).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_survives_a_registry() {
        let image = Image::assemble(Parts {
            platform: "linux/arm/v7".to_owned(),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            checked: true,
            layers: vec![Blob::new(b"layer".to_vec())],
            ..Parts::default()
        });
        let mut repository = Repository::default();
        let digest = repository.store(&image);
        let back = repository.image(digest.as_str()).expect("it was stored");
        assert_eq!(back.id(), image.id());
        assert_eq!(back.manifest(), image.manifest());
        assert_eq!(
            (back.labels, back.platform, back.checked),
            (image.labels, image.platform, true)
        );
        assert_eq!(repository.resolve("latest"), None);
    }
}
