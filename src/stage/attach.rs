//! Attaches bills of materials to a pushed image: as manifests that refer to it.
//!
//! A registry either keeps the list of what refers to a manifest, or whoever attaches something keeps
//! it as an index under a tag made from the digest (OCI distribution 1.1). Looks first: what is
//! attached already is not attached again.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Failure, ImageFacts, StageContext};
use crate::base::{Digest, Timestamp};
use crate::ports::registry::Manifest;
use crate::ports::scanner::Subject;
use crate::scan::Inventory;
use crate::scan::sbom::{self, About, Format};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const EMPTY_CONTENT: &[u8] = b"{}";
/// How often the list under the tag is written again because somebody else wrote it meanwhile.
const TRIES: u32 = 5;

/// Attaches bills in these formats to a pushed image; the formats that were not there yet.
pub(super) async fn bills(
    cx: &StageContext<'_>,
    facts: &ImageFacts,
    digest: &Digest,
    id: &str,
    formats: &[String],
) -> Result<Vec<&'static str>, Failure> {
    if formats.is_empty() {
        return Ok(Vec::new());
    }
    let place = Place { cx, facts, digest };
    let there = place.listed().await?;
    let wanted = |format: &Format| formats.iter().any(|word| word == format.word());
    let known = |format: &Format| there.iter().any(|kind| kind == format.media_type());
    let missing: Vec<Format> = [Format::CycloneDx, Format::Spdx]
        .into_iter()
        .filter(|format| wanted(format) && !known(format))
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    if cx.cancel.is_cancelled() {
        return Err(Failure::cancelled(
            "cancelled: no bill of materials attached",
        ));
    }
    let inventory = place.inventory(id).await?;
    let mut attached = Vec::new();
    for format in missing {
        place.attach(format, &inventory).await?;
        attached.push(format.word());
    }
    Ok(attached)
}

/// A pushed image.
struct Place<'a> {
    cx: &'a StageContext<'a>,
    facts: &'a ImageFacts,
    digest: &'a Digest,
}

impl Place<'_> {
    /// What the image holds. An image that the engine does not have is fetched.
    async fn inventory(&self, id: &str) -> Result<Inventory, Failure> {
        let cx = self.cx;
        let engine = &cx.world.engine;
        let there = !id.is_empty() && engine.image(id).await?.is_some();
        let reference = if there {
            id.to_owned()
        } else {
            let registry = &*cx.world.readers.registry;
            let target = super::found::resolved(registry, self.facts.target.clone()).await?;
            let pinned = self.facts.pinned(self.digest);
            engine
                .pull(&pinned, Some(&target), cx.output, &cx.cancel)
                .await?
        };
        let subject = Subject::Engine(reference);
        let scanner = &cx.world.scanner;
        Ok(scanner.inventory(&subject, cx.output, &cx.cancel).await?)
    }

    /// The kinds of what refers to the image.
    async fn listed(&self) -> Result<Vec<String>, Failure> {
        let registry = &self.cx.world.readers.registry;
        let listed = registry
            .referrers(&self.facts.target, &self.facts.repository, self.digest)
            .await?;
        if let Some(listed) = listed {
            return Ok(listed.into_iter().map(|one| one.artifact_type).collect());
        }
        let index = self.index().await?;
        let kinds = index["manifests"].as_array().into_iter().flatten();
        Ok(kinds
            .filter_map(|one| one["artifactType"].as_str().map(str::to_owned))
            .collect())
    }

    /// The tag under which the list is kept if the registry keeps none.
    fn tag(&self) -> String {
        format!("sha256-{}", self.digest.hex())
    }

    /// The list under the tag; an empty one if there is none.
    async fn index(&self) -> Result<Value, Failure> {
        let registry = &self.cx.world.readers.registry;
        let found = registry
            .manifest(&self.facts.target, &self.facts.repository, &self.tag())
            .await?;
        let Some(found) = found else {
            return Ok(json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }));
        };
        let index: Option<Value> = serde_json::from_slice(&found.bytes).ok();
        index
            .filter(|index| index["manifests"].is_array())
            .ok_or_else(|| {
                Failure::failed(format!(
                    "{}:{} is no list of what refers to the image; remove that tag",
                    self.facts.name(),
                    self.tag()
                ))
            })
    }

    async fn attach(&self, format: Format, inventory: &Inventory) -> Result<(), Failure> {
        let (cx, facts) = (self.cx, self.facts);
        let registry = &cx.world.registry;
        let subject = registry
            .manifest(&facts.target, &facts.repository, self.digest.as_str())
            .await?
            .ok_or_else(|| {
                Failure::errored(format!("the registry lost {}", facts.pinned(self.digest)))
            })?;
        let created = cx.values.commit.time;
        let about = About {
            name: &facts.reference(),
            created,
            version: env!("CARGO_PKG_VERSION"),
        };
        let bill = sbom::document(format, inventory, &about);
        let manifest = manifest(format, &bill, &subject, created);
        let digest = Digest::of(&manifest);
        let key = format!("sbom {} {}", format.word(), facts.pinned(self.digest));
        let detail = BTreeMap::from([("digest".to_owned(), digest.to_string())]);
        cx.effects.intend(&key, detail.clone()).await?;
        for content in [EMPTY_CONTENT, &bill] {
            registry
                .put_blob(&facts.target, &facts.repository, content, None)
                .await?;
        }
        registry
            .put_manifest(
                &facts.target,
                &facts.repository,
                digest.as_str(),
                MANIFEST,
                &manifest,
            )
            .await?;
        let listed = registry
            .referrers(&facts.target, &facts.repository, self.digest)
            .await?;
        // A registry may have the list and not put into it what it was sent.
        let known = |one: &crate::ports::registry::Referrer| one.digest == digest;
        if !listed.is_some_and(|listed| listed.iter().any(known)) {
            self.list(format, &digest, manifest.len(), created).await?;
        }
        cx.effects.done(&key, detail).await?;
        cx.say(format!(
            "attached a {} bill of materials of {} packages",
            format.word(),
            inventory.packages.len()
        ));
        Ok(())
    }

    /// Adds a manifest to the list under the tag, also if others add theirs at the same time.
    async fn list(
        &self,
        format: Format,
        digest: &Digest,
        size: usize,
        created: Timestamp,
    ) -> Result<(), Failure> {
        let registry = &self.cx.world.registry;
        for _ in 0..TRIES {
            let mut index = self.index().await?;
            let has = |index: &Value| {
                let all = index["manifests"].as_array().into_iter().flatten();
                all.into_iter().any(|one| one["digest"] == digest.as_str())
            };
            if has(&index) {
                return Ok(());
            }
            if let Some(all) = index["manifests"].as_array_mut() {
                all.push(json!({
                    "mediaType": MANIFEST,
                    "digest": digest.as_str(),
                    "size": size,
                    "artifactType": format.media_type(),
                    "annotations": { "org.opencontainers.image.created": created.rfc3339() },
                }));
            }
            let bytes = serde_json::to_vec(&index).expect("a value is always JSON");
            registry
                .put_manifest(
                    &self.facts.target,
                    &self.facts.repository,
                    &self.tag(),
                    INDEX,
                    &bytes,
                )
                .await?;
            if has(&self.index().await?) {
                return Ok(());
            }
        }
        Err(Failure::errored(format!(
            "others keep overwriting {}:{}, which lists what refers to the image",
            self.facts.name(),
            self.tag()
        )))
    }
}

/// A manifest that refers to the image and holds the bill.
fn manifest(format: Format, bill: &[u8], subject: &Manifest, created: Timestamp) -> Vec<u8> {
    let descriptor = |media_type: &str, content: &[u8]| {
        json!({
            "mediaType": media_type,
            "digest": Digest::of(content).as_str(),
            "size": content.len(),
        })
    };
    let title = match format {
        Format::CycloneDx => "bom.cdx.json",
        Format::Spdx => "bom.spdx.json",
    };
    let mut layer = descriptor(format.media_type(), bill);
    layer["annotations"] = json!({ "org.opencontainers.image.title": title });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": format.media_type(),
        "config": descriptor(EMPTY, EMPTY_CONTENT),
        "layers": [layer],
        "subject": {
            "mediaType": subject.media_type,
            "digest": subject.digest.as_str(),
            "size": subject.bytes.len(),
        },
        "annotations": { "org.opencontainers.image.created": created.rfc3339() },
    });
    serde_json::to_vec(&manifest).expect("a value is always JSON")
}
