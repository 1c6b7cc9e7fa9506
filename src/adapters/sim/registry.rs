//! Simulated registries: every host there is, each empty at first.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::call::{Call, Done, Life};
use super::fault::matches;
use super::ledger::Rule;
use super::reference::{is_host, is_repository, is_tag};
use super::state::State;
use crate::base::{Digest, Secret};
use crate::ports::registry::{
    Login, Manifest, Referrer, Registry, RegistryError, RegistryReader, Target,
};

type Key = (String, String);

fn refused(call: &Call, message: impl Into<String>) -> RegistryError {
    RegistryError::Refused {
        host: call.host(),
        what: call.to_string(),
        message: message.into(),
    }
}

impl State {
    /// Whether a tag may be set to a digest; notes if it stands there already.
    pub(super) fn may_move(&mut self, call: &Call, key: &Key, tag: &str, to: &Digest) -> bool {
        let before = self.registries.get(key).and_then(|r| r.tags.get(tag));
        let Some(before) = before.cloned() else {
            return true;
        };
        if before == *to {
            let message = format!("the tag stands at {to} already");
            self.violate(Rule::DoublePush, call, message);
            return true;
        }
        let name = format!("{}/{}:{tag}", key.0, key.1);
        !self.immutable.iter().any(|pattern| matches(pattern, &name))
    }

    fn check_name(
        &mut self,
        call: &Call,
        target: &Target,
        repository: &str,
    ) -> Result<Key, RegistryError> {
        if is_host(&target.host) && is_repository(repository) {
            return Ok((target.host.clone(), repository.to_owned()));
        }
        let message = format!("\"{}/{repository}\" is not a repository", target.host);
        self.violate(Rule::BadReference, call, message.clone());
        Err(refused(call, message))
    }

    fn check_reference(&mut self, call: &Call, reference: &str) -> Result<(), RegistryError> {
        if is_tag(reference) || reference.parse::<Digest>().is_ok() {
            return Ok(());
        }
        let message = format!("{reference:?} is neither a tag nor a digest");
        let rule = if reference.contains(':') {
            Rule::BadReference
        } else {
            Rule::BadTag
        };
        self.violate(rule, call, message.clone());
        Err(refused(call, message))
    }

    /// Checks that a manifest is what it is said to be and that its parts are there.
    fn check_manifest(
        &mut self,
        call: &Call,
        key: &Key,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let manifest = serde_json::from_slice::<Value>(bytes).ok();
        let manifest = manifest.filter(|value| {
            value["schemaVersion"] == 2
                && value["mediaType"]
                    .as_str()
                    .is_none_or(|stated| stated == media_type)
                && (value["config"].is_object() || value["manifests"].is_array())
        });
        let Some(manifest) = manifest else {
            let message = format!("it is not a {media_type}");
            self.violate(Rule::BadManifest, call, message.clone());
            return Err(refused(call, message));
        };
        let list = |field: &str| manifest[field].as_array().into_iter().flatten();
        let digests = |descriptor: &Value| descriptor["digest"].as_str()?.parse::<Digest>().ok();
        let repository = self.registries.get(key);
        let blobs = list("layers")
            .chain([&manifest["config"]].into_iter().filter(|c| c.is_object()))
            .map(|descriptor| {
                digests(descriptor)
                    .is_some_and(|d| repository.is_some_and(|r| r.blobs.contains_key(&d)))
            });
        let children = list("manifests").map(|descriptor| {
            digests(descriptor)
                .is_some_and(|d| repository.is_some_and(|r| r.manifests.contains_key(&d)))
        });
        if blobs.chain(children).all(|there| there) {
            return Ok(());
        }
        let message = "it names content that the repository does not have";
        self.violate(Rule::MissingBlob, call, message);
        Err(refused(call, message))
    }
}

fn call(name: &'static str, target: &Target, repository: &str, reference: &str) -> Call {
    let mark = match reference {
        "" => "",
        digest if digest.contains(':') => "@",
        _ => ":",
    };
    Call::one(
        name,
        &format!("{}/{repository}{mark}{reference}", target.host),
    )
}

#[async_trait]
impl RegistryReader for Life {
    async fn digest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Digest>, RegistryError> {
        let call = call("registry.digest", target, repository, reference);
        self.pass::<RegistryError>(&call, None).await?;
        self.look(|state| {
            let key = state.check_name(&call, target, repository)?;
            state.check_reference(&call, reference)?;
            let found = state.registries.get(&key);
            Ok(found.and_then(|found| found.resolve(reference)))
        })
        .await
    }

    async fn manifest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Manifest>, RegistryError> {
        let call = call("registry.manifest", target, repository, reference);
        self.pass::<RegistryError>(&call, None).await?;
        self.look(|state| {
            let key = state.check_name(&call, target, repository)?;
            state.check_reference(&call, reference)?;
            let found = state.registries.get(&key);
            Ok(found.and_then(|found| {
                let digest = found.resolve(reference)?;
                let (media_type, bytes) = found.manifests.get(&digest)?;
                Some(Manifest {
                    digest,
                    media_type: media_type.clone(),
                    bytes: bytes.to_vec(),
                })
            }))
        })
        .await
    }

    async fn blob(
        &self,
        target: &Target,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let call = call("registry.blob", target, repository, digest.as_str());
        self.pass::<RegistryError>(&call, None).await?;
        self.look(|state| {
            let key = state.check_name(&call, target, repository)?;
            let found = state.registries.get(&key);
            Ok(found.and_then(|found| Some(found.blobs.get(digest)?.to_vec())))
        })
        .await
    }

    async fn referrers(
        &self,
        target: &Target,
        repository: &str,
        subject: &Digest,
    ) -> Result<Option<Vec<Referrer>>, RegistryError> {
        let call = call("registry.referrers", target, repository, subject.as_str());
        self.pass::<RegistryError>(&call, None).await?;
        self.look(|state| {
            let key = state.check_name(&call, target, repository)?;
            let manifests = state.registries.get(&key).map(|found| &found.manifests);
            let referrers = manifests
                .into_iter()
                .flatten()
                .filter_map(|(digest, content)| {
                    let manifest: Value = serde_json::from_slice(&content.1).ok()?;
                    (manifest["subject"]["digest"] == subject.as_str()).then(|| Referrer {
                        digest: digest.clone(),
                        artifact_type: manifest["artifactType"].as_str().unwrap_or("").to_owned(),
                    })
                });
            Ok(Some(referrers.collect()))
        })
        .await
    }

    async fn tags(&self, target: &Target, repository: &str) -> Result<Vec<String>, RegistryError> {
        let call = call("registry.tags", target, repository, "");
        self.pass::<RegistryError>(&call, None).await?;
        self.look(|state| {
            let key = state.check_name(&call, target, repository)?;
            let found = state.registries.get(&key);
            Ok(found.map_or_else(Vec::new, |found| found.tags.keys().cloned().collect()))
        })
        .await
    }

    async fn resolve(&self, target: &Target) -> Result<Option<(String, Secret)>, RegistryError> {
        let call = Call::one("registry.resolve", &target.host);
        self.pass::<RegistryError>(&call, None).await?;
        Ok(match &target.login {
            Login::Ambient => None,
            Login::Basic { user, password } => Some((user.clone(), password.clone())),
            Login::Ecr(_) => Some(("AWS".to_owned(), Secret::new("simulated token"))),
        })
    }
}

#[async_trait]
impl Registry for Life {
    async fn put_manifest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let call = call("registry.put-manifest", target, repository, reference);
        let mut ticket = self.enter::<RegistryError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let key = state.check_name(&call, target, repository)?;
            state.check_reference(&call, reference)?;
            state.check_manifest(&call, &key, media_type, bytes)?;
            let digest = Digest::of(bytes);
            let by_digest = reference.parse::<Digest>().ok();
            if by_digest.as_ref().is_some_and(|named| *named != digest) {
                let message = format!("its digest is {digest}");
                state.violate(Rule::BadManifest, &call, message.clone());
                return Err(refused(&call, message));
            }
            if by_digest.is_none() && !state.may_move(&call, &key, reference, &digest) {
                return Err(refused(
                    &call,
                    "the tag is immutable and stands at another digest",
                ));
            }
            let stored = state.registries.entry(key).or_default();
            stored.is_ours = true;
            let content = (media_type.to_owned(), Arc::from(bytes));
            let mut changed = stored.manifests.insert(digest.clone(), content).is_none();
            if by_digest.is_none() {
                let before = stored.tags.insert(reference.to_owned(), digest.clone());
                changed |= before.as_ref() != Some(&digest);
            }
            if changed {
                return Ok(Done::changed(
                    digest.clone(),
                    call.subject(),
                    digest.as_str(),
                ));
            }
            Ok(Done::nothing(digest))
        })
        .await
    }

    async fn put_blob(
        &self,
        target: &Target,
        repository: &str,
        bytes: &[u8],
        from: Option<&str>,
    ) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let call = call("registry.put-blob", target, repository, digest.as_str());
        let mut ticket = self.enter::<RegistryError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let key = state.check_name(&call, target, repository)?;
            if let Some(from) = from {
                state.check_name(&call, target, from)?;
            }
            let stored = state.registries.entry(key).or_default();
            stored.is_ours = true;
            let before = stored.blobs.insert(digest.clone(), Arc::from(bytes));
            if before.is_some() {
                return Ok(Done::nothing(digest));
            }
            Ok(Done::changed(
                digest.clone(),
                call.subject(),
                digest.as_str(),
            ))
        })
        .await
    }
}
