//! `push`: sends the built image to its registry and moves its aliases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::attach;
use super::context::INPUTS_LABEL;
use super::found::{in_registry, resolved, short};
use super::{
    CheckContext, Done, Failure, Forecast, ImageFacts, Kind, Lowering, PlanContext, Read, Stage,
    StageContext, Values, Verdict, Want,
};
use crate::base::{Diagnostic, Digest, Spanned, StageId};
use crate::decl;
use crate::lang::Template;
use crate::lang::spec::{Args, NodeSpec, Type};
use crate::ports::Retry;
use crate::ports::engine::{EngineError, PushRequest};
use crate::ports::registry::{Manifest, RegistryReader};
use crate::stage_children;

/// The kind.
pub const KIND: Kind = Kind {
    spec: &NodeSpec {
        args: Args::some(Type::Name, "image"),
        many: true,
        children: stage_children![],
        ..NodeSpec::new(
            "push",
            "Sends built images to their registries. Moves no byte the registry has, and aliases only forwards.",
        )
    },
    effect: true,
    outputs: &[
        ("digest", "digest of the pushed image"),
        ("ref", "name:tag"),
        ("pinned", "name@digest"),
    ],
    lower,
};

/// Tries of one transfer; the engine retries single layers by itself.
const TRIES: u32 = 5;

#[derive(Debug)]
struct Push {
    image: Spanned<String>,
    aliases: Vec<Template>,
}

fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let aliases = cx
        .decls
        .images
        .get(cx.member)
        .map(|decl| decl.value.aliases.clone())
        .unwrap_or_default();
    Arc::new(Push {
        image: Spanned::new(cx.member.to_owned(), cx.node.head()),
        aliases,
    })
}

impl Push {
    fn built(&self, values: &Values) -> String {
        values
            .ended(&StageId::new("build", &self.image.value))
            .and_then(|(_, outputs)| outputs.get("id").cloned())
            .unwrap_or_default()
    }

    /// Whether the registry has the image already, and the evidence.
    async fn look(
        &self,
        registry: &dyn RegistryReader,
        values: &Values,
        facts: &ImageFacts,
        id: &str,
        inputs: Option<&Digest>,
    ) -> Result<Option<(Digest, String)>, Failure> {
        let immutable = values
            .decls
            .images
            .get(&self.image.value)
            .is_some_and(|decl| decl.value.immutable);
        let manifest = registry
            .manifest(&facts.target, &facts.repository, &facts.tag)
            .await?;
        let Some(manifest) = manifest else {
            return Ok(None);
        };
        if !id.is_empty() && config_of(&manifest).is_some_and(|config| config == id) {
            return Ok(Some((
                manifest.digest,
                format!("the registry has {} with this content", facts.reference()),
            )));
        }
        let found = in_registry(registry, facts, inputs, immutable).await?;
        Ok(found.and_then(|found| Some((found.digest?, found.evidence))))
    }

    fn done(&self, facts: &ImageFacts, digest: &Digest, done: Done) -> Done {
        done.output("digest", digest.to_string())
            .output("ref", facts.reference())
            .output("pinned", facts.pinned(digest))
    }

    /// Points the aliases at the pushed manifest. Returns those that moved.
    async fn move_aliases(
        &self,
        cx: &StageContext<'_>,
        facts: &ImageFacts,
        digest: &Digest,
    ) -> Result<Moved, Failure> {
        let registry = &cx.world.registry;
        let mut moved = Moved::default();
        for template in &self.aliases {
            let alias = cx.values.plain(template).await?;
            if alias == facts.tag {
                continue;
            }
            let there = registry
                .manifest(&facts.target, &facts.repository, &alias)
                .await?;
            if there
                .as_ref()
                .is_some_and(|manifest| manifest.digest == *digest)
            {
                continue;
            }
            if let Some(there) = there {
                let newer = self.created(cx, facts, &there).await?;
                let ours = cx.values.commit.time.rfc3339();
                // RFC 3339 in UTC compares like text.
                if newer.is_some_and(|theirs| theirs > ours) {
                    moved.warnings.push(format!(
                        "alias {alias} stays: it is at an image of a later commit"
                    ));
                    continue;
                }
            }
            let manifest = registry
                .manifest(&facts.target, &facts.repository, digest.as_str())
                .await?
                .ok_or_else(|| {
                    Failure::errored(format!("the registry lost {}", facts.pinned(digest)))
                })?;
            let key = format!("alias {}:{alias}", facts.name());
            let detail = BTreeMap::from([("digest".to_owned(), digest.to_string())]);
            cx.effects.intend(&key, detail.clone()).await?;
            registry
                .put_manifest(
                    &facts.target,
                    &facts.repository,
                    &alias,
                    &manifest.media_type,
                    &manifest.bytes,
                )
                .await?;
            cx.effects.done(&key, detail).await?;
            cx.say(format!("moved alias {alias}"));
            moved.tags.push(alias);
        }
        Ok(moved)
    }

    /// When the commit of a pushed image was made, if it says so.
    async fn created(
        &self,
        cx: &StageContext<'_>,
        facts: &ImageFacts,
        manifest: &Manifest,
    ) -> Result<Option<String>, Failure> {
        let Some(config) = config_of(manifest).and_then(|config| config.parse().ok()) else {
            return Ok(None);
        };
        let blob = cx
            .world
            .registry
            .blob(&facts.target, &facts.repository, &config)
            .await?;
        Ok(blob.and_then(|blob| {
            let json: serde_json::Value = serde_json::from_slice(&blob).ok()?;
            let label = json
                .pointer("/config/Labels")?
                .get("org.opencontainers.image.created")?;
            Some(label.as_str()?.to_owned())
        }))
    }

    async fn send(
        &self,
        cx: &StageContext<'_>,
        facts: &ImageFacts,
        id: &str,
    ) -> Result<Digest, Failure> {
        let registry = &cx.world.registry;
        if registry.prepare(&facts.target, &facts.repository).await? {
            cx.say(format!("made repository {}", facts.name()));
        }
        let mut attempt = 0;
        let mut renewed = false;
        loop {
            attempt += 1;
            let request = PushRequest {
                id: id.to_owned(),
                target: resolved(&*cx.world.readers.registry, facts.target.clone()).await?,
                repository: facts.repository.clone(),
                tag: facts.tag.clone(),
            };
            match cx.world.engine.push(&request, cx.output, &cx.cancel).await {
                Ok(pushed) => {
                    cx.say(format!(
                        "pushed {} ({} layers sent, {} there already)",
                        pushed.digest.short(),
                        pushed.layers_sent,
                        pushed.layers_reused
                    ));
                    return Ok(pushed.digest);
                }
                Err(EngineError::Cancelled) => {
                    return match self.there(cx, facts, id).await {
                        Ok(Some(digest)) => Ok(digest),
                        Ok(None) => Err(Failure::cancelled("cancelled: not pushed")),
                        Err(_) => Err(Failure::cancelled(
                            "cancelled: whether it was pushed is unknown",
                        )),
                    };
                }
                Err(EngineError::Refused { message, .. }) if is_immutable(&message) => {
                    return self.taken(cx, facts, id, &message).await;
                }
                // A login that runs out while layers are sent is nobody's fault.
                Err(EngineError::Refused { message, .. })
                    if !renewed && is_login(&message) && registry.forget(&facts.target).await =>
                {
                    renewed = true;
                    cx.say(
                        "the registry did not accept its own login; pushing again with a new one",
                    );
                }
                Err(error) => match error.retry() {
                    Retry::After(wait) if attempt < TRIES => {
                        // The answer may have been lost although everything arrived.
                        if let Ok(Some(digest)) = self.there(cx, facts, id).await {
                            return Ok(digest);
                        }
                        let wait = wait
                            .unwrap_or_else(|| backoff(attempt, cx.world.readers.clock.random()));
                        cx.say(format!(
                            "{error}; trying again in {:.1}s",
                            wait.as_secs_f64()
                        ));
                        tokio::select! {
                            () = tokio::time::sleep(wait) => {}
                            () = cx.cancel.cancelled() => return Err(Failure::cancelled("cancelled: not pushed")),
                        }
                    }
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

/// Whether the registry refused because the tag is taken and never moves, as an engine reports it:
/// `tag invalid: The image tag 'v1' already exists … because the repository is immutable`.
fn is_immutable(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("immutable")
        && (message.contains("tag_invalid")
            || message.contains("tag invalid")
            || message.contains("already exists"))
}

/// Whether the registry did not know us, as an engine reports it.
fn is_login(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "unauthorized",
        "authorization token",
        "no basic auth credentials",
        "authentication required",
        "403 forbidden",
    ]
    .iter()
    .any(|sign| message.contains(sign))
}

#[derive(Default)]
struct Moved {
    tags: Vec<String>,
    warnings: Vec<String>,
}

/// Exponential backoff with full jitter: up to 0.5 s, 1 s, 2 s, …, at most 15 s.
pub(super) fn backoff(attempt: u32, random: u64) -> Duration {
    let most = 500u64.saturating_mul(1 << attempt.min(6)).min(15_000);
    Duration::from_millis(100 + random % most)
}

fn config_of(manifest: &Manifest) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(&manifest.bytes).ok()?;
    Some(json.pointer("/config/digest")?.as_str()?.to_owned())
}

#[async_trait]
impl Stage for Push {
    fn reads(&self) -> Vec<Read> {
        let read = |what| Read {
            what,
            span: self.image.span,
            optional: false,
        };
        vec![
            read(Want::Built(self.image.value.clone())),
            read(Want::Gate(self.image.value.clone())),
        ]
    }

    fn templates(&self) -> Vec<&Template> {
        self.aliases.iter().collect()
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        decl::require(
            &cx.decls.images,
            "image",
            &self.image,
            cx.source,
            diagnostics,
        );
        let build = StageId::new("build", &self.image.value);
        if cx.decls.images.contains_key(&self.image.value) && !cx.stages.contains_key(&build) {
            diagnostics.push(
                Diagnostic::error(
                    "PW0042",
                    format!(
                        "nothing here builds `{}`, so there is nothing to push",
                        self.image.value
                    ),
                    cx.source,
                    self.image.span,
                )
                .help(format!("add `build {}` to the pipeline", self.image.value)),
            );
        }
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        let facts = match cx.values.image(&self.image.value).await {
            Ok(facts) => facts,
            Err(missing) => return Forecast::missing(&missing),
        };
        let effect = format!("push {}", facts.reference());
        let id = self.built(cx.values);
        if cx.offline {
            return Forecast::new(Verdict::Unknown, "the registry is not asked offline")
                .effect(effect);
        }
        if id.is_empty() {
            return Forecast::new(Verdict::Run, format!("pushes {}", facts.reference()))
                .effect(effect);
        }
        match self
            .look(&*cx.readers.registry, cx.values, &facts, &id, None)
            .await
        {
            Ok(Some((digest, evidence))) => {
                Forecast::from_done(self.done(&facts, &digest, Done::up_to_date(evidence)))
            }
            Ok(None) => Forecast::new(
                Verdict::Run,
                format!("the registry has no {}", facts.reference()),
            )
            .effect(effect),
            Err(failure) => Forecast::new(Verdict::Unknown, failure.message).effect(effect),
        }
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        let facts = cx.values.image(&self.image.value).await?;
        let id = self.built(cx.values);
        let inputs = match cx.world.readers.engine.image(&id).await? {
            Some(image) => image
                .labels
                .get(INPUTS_LABEL)
                .and_then(|label| label.parse().ok()),
            None => None,
        };
        let registry = &*cx.world.readers.registry;
        let found = self
            .look(registry, cx.values, &facts, &id, inputs.as_ref())
            .await?;
        let (digest, mut done) = match found {
            Some((digest, evidence)) => (digest, Done::up_to_date(evidence)),
            None => {
                if cx.cancel.is_cancelled() {
                    return Err(Failure::cancelled("cancelled: not pushed"));
                }
                let key = format!("push {}", facts.reference());
                let detail = BTreeMap::from([("id".to_owned(), id.clone())]);
                cx.effects.intend(&key, detail).await?;
                let digest = self.send(cx, &facts, &id).await?;
                self.verify(cx, &facts, &digest, &id).await?;
                let detail = BTreeMap::from([("digest".to_owned(), digest.to_string())]);
                cx.effects.done(&key, detail).await?;
                let note = format!("pushed {}", facts.reference());
                (digest, Done::succeeded(note))
            }
        };
        let moved = self.move_aliases(cx, &facts, &digest).await?;
        if !moved.tags.is_empty() && done.up_to_date {
            done = Done::succeeded(format!("moved {}", moved.tags.join(", ")));
        }
        let declared = cx.values.decls.images.get(&self.image.value);
        let formats = declared.map_or(&[][..], |image| &image.value.sbom);
        let attached = attach::bills(cx, &facts, &digest, &id, formats).await?;
        if !attached.is_empty() && done.up_to_date {
            done = Done::succeeded(format!(
                "attached {} to what is there",
                attached.join(" and ")
            ));
        }
        done.warnings.extend(moved.warnings);
        Ok(self.done(&facts, &digest, done))
    }
}

impl Push {
    /// A tag that never moves is taken: well if it stands at our image.
    async fn taken(
        &self,
        cx: &StageContext<'_>,
        facts: &ImageFacts,
        id: &str,
        message: &str,
    ) -> Result<Digest, Failure> {
        if let Some(digest) = self.there(cx, facts, id).await? {
            cx.say(format!(
                "somebody else pushed {} meanwhile",
                facts.reference()
            ));
            return Ok(digest);
        }
        Err(Failure::failed(format!(
            "{} is taken by another image, and tags of {} are immutable: give this one a tag of its own ({message})",
            facts.reference(),
            facts.name()
        )))
    }

    /// The digest under our tag, if the image there is the one we send.
    async fn there(
        &self,
        cx: &StageContext<'_>,
        facts: &ImageFacts,
        id: &str,
    ) -> Result<Option<Digest>, Failure> {
        let registry = &cx.world.readers.registry;
        let manifest = registry
            .manifest(&facts.target, &facts.repository, &facts.tag)
            .await?;
        Ok(manifest
            .filter(|manifest| config_of(manifest).is_some_and(|config| config == id))
            .map(|manifest| manifest.digest))
    }

    /// The registry must report what we sent, under the tag we sent it to.
    async fn verify(
        &self,
        cx: &StageContext<'_>,
        facts: &ImageFacts,
        digest: &Digest,
        id: &str,
    ) -> Result<(), Failure> {
        let registry = &cx.world.readers.registry;
        let manifest = registry
            .manifest(&facts.target, &facts.repository, &facts.tag)
            .await?
            .ok_or_else(|| {
                Failure::errored(format!(
                    "the registry does not have {} after the push",
                    facts.reference()
                ))
            })?;
        if manifest.digest != *digest {
            return Err(Failure::errored(format!(
                "{} is at {} after {} was pushed: somebody else pushes the same tag",
                facts.reference(),
                manifest.digest.short(),
                digest.short()
            )));
        }
        match config_of(&manifest) {
            Some(config) if config != id && !id.is_empty() => Err(Failure::errored(format!(
                "the registry holds image {} under {}, not {}",
                short(&config),
                facts.reference(),
                short(id)
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_registries() {
        for message in [
            "tag invalid: The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the repository is immutable.",
            "TAG_INVALID: tag is immutable",
        ] {
            assert!(is_immutable(message) && !is_login(message), "{message}");
        }
        for message in [
            "denied: Your authorization token has expired. Reauthenticate and try again.",
            "no basic auth credentials",
            "unauthorized: authentication required",
        ] {
            assert!(is_login(message) && !is_immutable(message), "{message}");
        }
        assert!(!is_immutable("an immutable law") && !is_login("denied: quota exceeded"));
    }
}
