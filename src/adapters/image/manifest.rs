//! Which layers an image has: Docker's `manifest.json`, or OCI's `index.json` and what it leads to.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::ImageError;
use crate::base::Digest;

/// Longest document that is read.
pub(super) const MAX_DOCUMENT: u64 = 16 << 20;
/// Most layers of an image. Engines accept 127.
const LAYERS: usize = 1000;
/// Indexes within indexes that are followed.
const DEPTH: usize = 3;

/// The documents of an image by name.
pub(super) trait Documents {
    /// A document; none if it is not there.
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError>;

    /// How long a part is, where that is known before it is read.
    fn length(&self, name: &str) -> Option<u64>;
}

/// Which layers an image has.
#[derive(Debug)]
pub(super) struct ImageManifest {
    /// Digest of its configuration.
    pub(super) id: String,
    pub(super) layers: Vec<LayerName>,
}

/// One layer.
#[derive(Debug)]
pub(super) struct LayerName {
    /// Name of the part it is in.
    pub(super) blob: String,
    /// Digest of its uncompressed content.
    pub(super) digest: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl ImageManifest {
    /// Finds the one image there is, or the one of a name.
    pub(super) fn find(
        documents: &dyn Documents,
        reference: Option<&str>,
    ) -> Result<Self, ImageError> {
        if let Some(bytes) = documents.document("manifest.json")? {
            return docker(documents, parse("manifest.json", &bytes)?, reference);
        }
        if let Some(bytes) = documents.document("index.json")? {
            let index: Index = parse("index.json", &bytes)?;
            return oci(documents, &chosen(documents, index, reference, DEPTH)?);
        }
        Err(ImageError::damaged(
            "the image",
            "it has neither a manifest.json nor an index.json",
        ))
    }
}

fn docker(
    documents: &dyn Documents,
    images: Vec<DockerImage>,
    reference: Option<&str>,
) -> Result<ImageManifest, ImageError> {
    let tags = |image: &DockerImage| image.repo_tags.clone().unwrap_or_default();
    let names: Vec<String> = images.iter().flat_map(tags).collect();
    let fits = |image: &DockerImage| match reference {
        Some(reference) => tags(image).iter().any(|tag| tag == reference),
        None => true,
    };
    let image = only(images.into_iter().filter(fits), &names)?;
    let config = required(documents, &image.config)?;
    manifest(&config, image.layers)
}

fn oci(documents: &dyn Documents, descriptor: &Descriptor) -> Result<ImageManifest, ImageError> {
    let bytes = blob(documents, descriptor)?;
    let found: Manifest = parse(&descriptor.digest, &bytes)?;
    let config = blob(documents, &found.config)?;
    let mut layers = Vec::new();
    for layer in &found.layers {
        let name = blob_name(&layer.digest)?;
        if documents
            .length(&name)
            .is_some_and(|length| length != layer.size)
        {
            let why = "it is not as long as the manifest says";
            return Err(ImageError::damaged(format!("the layer {name}"), why));
        }
        layers.push(name);
    }
    manifest(&config, layers)
}

/// Puts the names of layers and what the configuration says about them together.
fn manifest(config: &[u8], layers: Vec<String>) -> Result<ImageManifest, ImageError> {
    let id = Digest::of(config).to_string();
    let read: Config = parse("the configuration of the image", config)?;
    let digests = read.rootfs.diff_ids.unwrap_or_default();
    if layers.len() != digests.len() {
        let why = format!(
            "its manifest has {} layers, its configuration {}",
            layers.len(),
            digests.len()
        );
        return Err(ImageError::damaged("the image", why));
    }
    if layers.len() > LAYERS {
        return Err(ImageError::TooLarge(format!(
            "it has more than {LAYERS} layers"
        )));
    }
    let valid = |digest: String| {
        digest
            .parse::<Digest>()
            .ok()
            .map(|digest| digest.to_string())
    };
    let layers = layers.into_iter().zip(digests);
    Ok(ImageManifest {
        id,
        layers: layers
            .map(|(blob, digest)| LayerName {
                blob,
                digest: valid(digest),
            })
            .collect(),
    })
}

/// The manifest that is meant, through further indexes.
fn chosen(
    documents: &dyn Documents,
    index: Index,
    reference: Option<&str>,
    depth: usize,
) -> Result<Descriptor, ImageError> {
    let name = |descriptor: &Descriptor| {
        let keys = [
            "org.opencontainers.image.ref.name",
            "io.containerd.image.name",
        ];
        keys.iter()
            .find_map(|key| descriptor.annotations.get(*key))
            .cloned()
    };
    let names: Vec<String> = index.manifests.iter().filter_map(name).collect();
    // What is attached to an image stands beside it.
    let attached = |descriptor: &Descriptor| {
        descriptor
            .annotations
            .contains_key("vnd.docker.reference.type")
            || descriptor
                .platform
                .as_ref()
                .is_some_and(|platform| platform.architecture == "unknown")
    };
    let fits = |descriptor: &Descriptor| match reference {
        Some(reference) => {
            let own = [name(descriptor), Some(descriptor.digest.clone())];
            own.iter().flatten().any(|name| name == reference)
        }
        None => !attached(descriptor),
    };
    let mut found: Vec<Descriptor> = index.manifests.into_iter().filter(fits).collect();
    if found.len() > 1 {
        // One image for several platforms: the one that would run here.
        let here = found.iter().position(|descriptor| {
            descriptor.platform.as_ref().is_some_and(|platform| {
                platform.os == "linux" && platform.architecture == architecture()
            })
        });
        if let Some(here) = here {
            found.swap(0, here);
            found.truncate(1);
        }
    }
    let found = only(found.into_iter(), &names)?;
    let is_index = found.media_type.ends_with("image.index.v1+json")
        || found.media_type.ends_with("manifest.list.v2+json");
    if !is_index {
        return Ok(found);
    }
    if depth == 0 {
        return Err(ImageError::damaged(
            "the image",
            "its indexes are nested too deeply",
        ));
    }
    let bytes = blob(documents, &found)?;
    chosen(documents, parse(&found.digest, &bytes)?, None, depth - 1)
}

/// This machine's, in the words of images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn only<T>(mut found: impl Iterator<Item = T>, names: &[String]) -> Result<T, ImageError> {
    let list = || match names {
        [] => "its images have no names".to_owned(),
        names => {
            let names: Vec<_> = names
                .iter()
                .take(10)
                .map(|name| format!("{name:?}"))
                .collect();
            format!("there are {}", names.join(", "))
        }
    };
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(ImageError::Choice(format!(
            "there is no such image; {}",
            list()
        ))),
        (Some(_), Some(_)) => Err(ImageError::Choice(format!(
            "there are several images, name one; {}",
            list()
        ))),
    }
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| ImageError::damaged(name, error.to_string()))
}

fn required(documents: &dyn Documents, name: &str) -> Result<Vec<u8>, ImageError> {
    let document = documents.document(name)?;
    document.ok_or_else(|| ImageError::damaged("the image", format!("{name:?} is not in it")))
}

/// A document by its digest, which it must have.
fn blob(documents: &dyn Documents, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
    let name = blob_name(&descriptor.digest)?;
    let bytes = required(documents, &name)?;
    if bytes.len() as u64 != descriptor.size || Digest::of(&bytes).as_str() != descriptor.digest {
        return Err(ImageError::damaged(name, "it is not what its digest says"));
    }
    Ok(bytes)
}

/// The name of the part with a digest.
fn blob_name(digest: &str) -> Result<String, ImageError> {
    let digest: Digest = digest
        .parse()
        .map_err(|error| ImageError::damaged("the image", format!("{error}")))?;
    Ok(format!("blobs/sha256/{}", digest.hex()))
}
