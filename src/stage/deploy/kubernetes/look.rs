//! What is there beside what should be: workloads and their images, and what applying would change.

use serde_json::Value;

use super::Kubernetes;
use super::manifests::{Manifest, Manifests, images};
use super::wanted::{Target, Wanted};
use super::workload::{Stand, containers, has_images, image_of, is_paused, is_zero, stand, text};
use crate::base::Digest;
use crate::formats::diff::unified;
use crate::ports::Readers;
use crate::ports::cluster::{ClusterError, Thing};
use crate::stage::Failure;

/// A workload beside what should run in it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) target: Target,
    pub(super) thing: Thing,
    /// As the cluster keeps it.
    pub(super) live: Value,
}

impl Seen {
    pub(super) fn is_set(&self) -> bool {
        has_images(&self.live, &self.target.images)
    }
}

/// A manifest beside what the cluster has.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) manifest: Manifest,
    pub(super) thing: Thing,
    /// As the cluster keeps it, if it does.
    pub(super) live: Option<Value>,
    /// What it would be; unknown if what it needs is only about to be applied.
    pub(super) then: Option<Value>,
}

impl Applied {
    pub(super) fn changes(&self) -> bool {
        match (&self.live, &self.then) {
            (Some(live), Some(then)) => meaning(live) != meaning(then),
            _ => true,
        }
    }
}

/// What is there.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) namespace: String,
    pub(super) seen: Vec<Seen>,
    pub(super) applied: Vec<Applied>,
    /// Directories that kustomize has to build first.
    pub(super) overlays: Vec<String>,
}

/// Kinds whose roll-out is waited for.
pub(super) fn rolls_out(object: &Value) -> bool {
    text(object, "/apiVersion") == "apps/v1"
        && matches!(
            text(object, "/kind"),
            "Deployment" | "StatefulSet" | "DaemonSet"
        )
}

impl Kubernetes {
    pub(super) async fn look(
        &self,
        readers: &Readers,
        wanted: &Wanted,
        manifests: Manifests,
    ) -> Result<Found, Failure> {
        let (clusters, cluster) = (&*readers.clusters, &wanted.cluster);
        let namespace = match &wanted.namespace {
            Some(namespace) => namespace.clone(),
            None => clusters.namespace(cluster).await?,
        };
        let mut applied = Vec::new();
        for manifest in manifests.objects {
            let object = &manifest.object;
            let own = text(object, "/metadata/namespace");
            let thing = Thing {
                api: text(object, "/apiVersion").to_owned(),
                kind: text(object, "/kind").to_owned(),
                namespace: if own.is_empty() { &namespace } else { own }.to_owned(),
                name: text(object, "/metadata/name").to_owned(),
            };
            let looked = async {
                let live = clusters.get(cluster, &thing).await?;
                let then = clusters
                    .rehearse(cluster, object, &thing.namespace, manifest.force)
                    .await;
                Ok::<_, ClusterError>((live, then))
            };
            let (live, then) = match looked.await {
                Ok((live, Ok(then))) => (live, Some(then)),
                // Its namespace or its kind may be among what is applied before it.
                Ok((live, Err(error))) if waits_for_others(&error, &applied, &thing) => {
                    (live, None)
                }
                Err(error) if waits_for_others(&error, &applied, &thing) => (None, None),
                Ok((_, Err(error))) | Err(error) => return Err(refusal(error, &manifest)),
            };
            applied.push(Applied {
                manifest,
                thing,
                live,
                then,
            });
        }
        let mut seen = Vec::new();
        for target in &wanted.targets {
            let thing = target.thing(&namespace);
            let live = clusters.get(cluster, &thing).await?;
            // It may be among the manifests.
            let made = applied.iter().find(|it| it.thing == thing);
            let live = live.or_else(|| made.map(|it| it.manifest.object.clone()));
            let Some(live) = live else {
                return Err(Failure::failed(format!(
                    "there is no {thing} in namespace {namespace} of cluster `{}`; create it first, or `apply` its manifest",
                    cluster.name
                )));
            };
            for (container, _) in &target.images {
                if image_of(&live, container).is_none() {
                    let there: Vec<&str> = containers(&live).into_iter().map(|it| it.1).collect();
                    return Err(Failure::failed(format!(
                        "{thing} has no container \"{container}\"; it has {}",
                        there.join(", ")
                    )));
                }
            }
            seen.push(Seen {
                target: target.clone(),
                thing,
                live,
            });
        }
        Ok(Found {
            namespace,
            seen,
            applied,
            overlays: manifests.overlays,
        })
    }
}

/// Whether an object cannot be judged before what comes before it is applied.
fn waits_for_others(error: &ClusterError, before: &[Applied], thing: &Thing) -> bool {
    let ClusterError::Refused { reason, .. } = error else {
        return false;
    };
    reason == "NotFound"
        && before.iter().any(|it| {
            it.live.is_none()
                && match it.thing.kind.as_str() {
                    "Namespace" => it.thing.name == thing.namespace,
                    "CustomResourceDefinition" => {
                        text(&it.manifest.object, "/spec/names/kind") == thing.kind
                    }
                    _ => false,
                }
        })
}

/// A refusal with where the manifest stands, and what to do about fields of others.
pub(super) fn refusal(error: ClusterError, manifest: &Manifest) -> Failure {
    let origin = &manifest.origin;
    if let ClusterError::Conflict { fields, .. } = &error
        && !fields.is_empty()
    {
        let thing = format!(
            "{} {}",
            text(&manifest.object, "/kind").to_lowercase(),
            text(&manifest.object, "/metadata/name")
        );
        let owned: Vec<String> = fields
            .iter()
            .map(|it| {
                let by = it.message.strip_prefix("conflict with ");
                format!("{} is owned by {}", it.field, by.unwrap_or(&it.message))
            })
            .collect();
        return Failure::failed(format!(
            "{thing} of {origin} sets fields of other managers: {}; leave them out of the manifest, or take them by `force`",
            owned.join("; ")
        ));
    }
    let failure = Failure::from(error);
    Failure {
        message: format!("{origin}: {}", failure.message),
        ..failure
    }
}

impl Found {
    /// Whether there is nothing to do and nothing to wait for.
    pub(super) fn is_there(&self) -> bool {
        let rolled = |live: &Value| matches!(stand(live), Stand::Done(_));
        self.seen.iter().all(|it| it.is_set() && rolled(&it.live))
            && self.applied.iter().all(|it| {
                !it.changes()
                    && it
                        .live
                        .as_ref()
                        .is_none_or(|live| !rolls_out(live) || rolled(live))
            })
    }

    /// Whether anything would be changed, beside being waited for.
    pub(super) fn changes(&self) -> bool {
        self.seen.iter().any(|it| !it.is_set()) || self.applied.iter().any(Applied::changes)
    }

    /// A workload that was told to stand still, in a sentence.
    pub(super) fn paused(&self) -> Option<String> {
        let seen = self.seen.iter().map(|it| (&it.thing, Some(&it.live)));
        let applied = self.applied.iter().map(|it| {
            let then = it.then.as_ref().or(it.live.as_ref());
            (&it.thing, then.filter(|it| rolls_out(it)))
        });
        let (thing, _) = seen
            .chain(applied)
            .find(|(_, live)| live.is_some_and(is_paused))?;
        Some(format!(
            "{thing} is paused: nothing rolls out before `kubectl rollout resume {}/{}`",
            thing.kind.to_lowercase(),
            thing.name
        ))
    }

    /// What is worth a warning although it is there.
    pub(super) fn remarks(&self) -> Vec<String> {
        let lives = self.seen.iter().map(|it| (&it.thing, &it.live));
        lives
            .filter(|(_, live)| is_zero(live))
            .map(|(thing, _)| format!("{thing} is scaled to zero: no pod runs"))
            .collect()
    }

    pub(super) fn note(&self, wanted: &Wanted) -> String {
        let things: Vec<String> = self.seen.iter().map(|it| it.thing.to_string()).collect();
        let runs = match (things.as_slice(), self.applied.len()) {
            ([], many) => format!("{many} objects are as their manifests say"),
            (things, 0) => things.join(" and "),
            (things, many) => format!("{} and {many} applied objects", things.join(", ")),
        };
        let images: Vec<&str> = wanted
            .pinned
            .iter()
            .map(|it| it.reference.as_str())
            .collect();
        match (self.seen.is_empty(), images.as_slice()) {
            (true, _) | (_, []) => runs,
            (false, images) => format!("{runs}: {}", images.join(", ")),
        }
    }

    /// What runs now.
    pub(super) fn now(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        for it in &self.seen {
            for (container, _) in &it.target.images {
                let image = image_of(&it.live, container).unwrap_or("");
                parts.push(format!("{} runs {image}", it.thing));
            }
        }
        let changed = self.applied.iter().filter(|it| it.changes()).count();
        if changed > 0 {
            parts.push(format!(
                "{changed} of {} manifests differ",
                self.applied.len()
            ));
        }
        parts.join("; ")
    }

    pub(super) fn effects(&self) -> Vec<String> {
        let mut effects = Vec::new();
        for it in self.applied.iter().filter(|it| it.changes()) {
            let verb = if it.live.is_some() {
                "change"
            } else {
                "create"
            };
            effects.push(format!("{verb} {} ({})", it.thing, it.manifest.origin));
        }
        for overlay in &self.overlays {
            effects.push(format!("apply what kustomize makes of {overlay}"));
        }
        for it in &self.seen {
            for (container, image) in &it.target.images {
                if image_of(&it.live, container) != Some(image) {
                    effects.push(format!(
                        "set container {container} of {} to {image}",
                        it.thing
                    ));
                }
            }
            if it.is_set() && !matches!(stand(&it.live), Stand::Done(_)) {
                effects.push(format!("wait until {} has rolled out", it.thing));
            }
        }
        effects
    }

    /// What applying changes, field by field.
    pub(super) fn diff(&self) -> Option<String> {
        const MOST: usize = 200_000;
        let mut text = String::new();
        for it in self.applied.iter().filter(|it| it.changes()) {
            // What a secret holds is nobody's to read in a plan.
            if it.thing.kind == "Secret" {
                continue;
            }
            let shown = |value: Option<&Value>| match value {
                Some(value) => lines(&meaning(value)),
                None => String::new(),
            };
            let then = it.then.as_ref().unwrap_or(&it.manifest.object);
            let name = format!("{}/{}", it.thing.kind.to_lowercase(), it.thing.name);
            text.push_str(&unified(
                &name,
                &shown(it.live.as_ref()),
                &shown(Some(then)),
            ));
            if text.len() > MOST {
                let end = text.floor_char_boundary(MOST);
                text.truncate(end);
                text.push_str("\n… (there is more)\n");
                break;
            }
        }
        (!text.is_empty()).then_some(text)
    }

    /// The output `revision`: images by digest, and the manifests by theirs.
    pub(super) fn revision(&self, wanted: &Wanted) -> String {
        let mut parts: Vec<String> = Vec::new();
        if !wanted.pinned.is_empty() {
            parts.push(wanted.revision());
        }
        if !self.applied.is_empty() {
            let mut all = String::new();
            for it in &self.applied {
                all.push_str(&it.manifest.object.to_string());
                all.push('\n');
            }
            let hex = Digest::of(all.as_bytes());
            parts.push(format!("manifests={}", &hex.hex()[..16]));
        }
        parts.join(" ")
    }
}

/// An object without what the cluster writes about it.
fn meaning(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in [
            "managedFields",
            "resourceVersion",
            "generation",
            "uid",
            "creationTimestamp",
            "selfLink",
        ] {
            metadata.remove(key);
        }
    }
    object
}

/// An object as lines that can be compared.
fn lines(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// The images of an applied workload.
pub(super) fn brings(object: &Value) -> Vec<(String, String)> {
    images(object)
}
