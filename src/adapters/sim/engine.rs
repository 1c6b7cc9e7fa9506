//! The simulated engine: images, and the doors to containers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::call::{Call, Done, Life};
use super::container::refused;
use super::disk::context;
use super::image::Image;
use super::ledger::Rule;
use super::reference::{Reference, is_host, is_repository, is_tag};
use super::state::State;
use crate::ports::engine::{
    BuildRequest, ContainerSpec, ContainerState, ContextFacts, Engine, EngineError, EngineReader,
    LocalImage, PushRequest, Pushed,
};
use crate::ports::engines::{EngineReaders, Engines};
use crate::ports::registry::Target;
use crate::ports::{Output, Progress, ProgressState};

/// The platform of the simulated engine.
pub(super) const PLATFORM: &str = "linux/amd64";

impl State {
    /// A local image by id, tag or digest reference; the error says what breaks the grammar.
    pub(super) fn lookup(&mut self, call: &Call, text: &str) -> Result<Option<Image>, String> {
        if let Some(image) = self.images.get(text) {
            return Ok(Some(image.clone()));
        }
        if text.starts_with("sha256:") && text.len() == 71 {
            return Ok(None);
        }
        let reference = self.reference(call, text)?;
        if reference.digest.is_some() {
            let wanted = reference.to_string();
            let has = |image: &&Image| {
                image
                    .digests
                    .iter()
                    .any(|known| Reference::parse(known).is_ok_and(|r| r.to_string() == wanted))
            };
            return Ok(self.images.values().find(has).cloned());
        }
        let id = self.tags.get(&reference.to_string()).map(|(_, id)| id);
        Ok(id.and_then(|id| self.images.get(id)).cloned())
    }

    /// Reads a reference, and notes if it is none.
    pub(super) fn reference(&mut self, call: &Call, text: &str) -> Result<Reference, String> {
        Reference::parse(text).map_err(|why| {
            let message = format!("{text:?} is not an image reference: {why}");
            self.violate(Rule::BadReference, call, message.clone());
            message
        })
    }

    /// An image of a registry; one made up where nobody pushed to its repository, if lenient.
    pub(super) fn fetch(&mut self, reference: &Reference, lenient: bool) -> Option<Image> {
        let key = (reference.host.clone(), reference.repository.clone());
        let repository = self.registries.get(&key);
        let found = repository.and_then(|repository| repository.image(&reference.wanted()));
        let made_up = lenient
            && reference.digest.is_none()
            && repository.is_none_or(|repository| !repository.is_ours);
        match found {
            None if made_up => Some(self.publish(reference)),
            found => found,
        }
    }

    /// Puts somebody else's image into a registry.
    pub(super) fn publish(&mut self, reference: &Reference) -> Image {
        let image = Image::of_somebody(reference, PLATFORM);
        let key = (reference.host.clone(), reference.repository.clone());
        let repository = self.registries.entry(key).or_default();
        let digest = repository.store(&image);
        repository.tags.insert(reference.wanted(), digest);
        image
    }

    /// Makes an image local under some tags, and says whether that changed anything.
    pub(super) fn keep(&mut self, image: Image, tags: &[(String, String)]) -> bool {
        let id = image.id().to_owned();
        let mut changed = false;
        for (full, given) in tags {
            let entry = (given.clone(), id.clone());
            changed |= self.tags.insert(full.clone(), entry.clone()) != Some(entry);
        }
        match self.images.get_mut(&id) {
            Some(known) => {
                let before = known.digests.len();
                known.digests.extend(image.digests);
                changed |= known.digests.len() != before;
            }
            None => {
                self.images.insert(id, image);
                changed = true;
            }
        }
        changed
    }

    fn check_push(&mut self, call: &Call, request: &PushRequest) -> Result<Image, EngineError> {
        let host = &request.target.host;
        let repository = &request.repository;
        if !is_host(host) || !is_repository(repository) {
            let message = format!("\"{host}/{repository}\" is not a repository");
            self.violate(Rule::BadReference, call, message.clone());
            return Err(refused(call, message));
        }
        if !is_tag(&request.tag) {
            let message = format!("{:?} is not a tag", request.tag);
            self.violate(Rule::BadTag, call, message.clone());
            return Err(refused(call, message));
        }
        if let Some(image) = self.images.get(&request.id) {
            return Ok(image.clone());
        }
        let message = format!("the engine has no image {}", request.id);
        self.violate(Rule::NeverBuilt, call, message);
        Err(EngineError::NotFound {
            what: format!("image {}", request.id),
        })
    }
}

/// The name of a digest as an engine writes it: without Docker Hub's host.
fn familiar(host: &str, repository: &str) -> String {
    match (host, repository) {
        ("docker.io", repository) => repository
            .strip_prefix("library/")
            .unwrap_or(repository)
            .to_owned(),
        _ => format!("{host}/{repository}"),
    }
}

pub(super) fn progress(
    output: &dyn Output,
    id: &str,
    label: &str,
    state: ProgressState,
    total: u64,
) {
    let done = match state {
        ProgressState::Done | ProgressState::Cached => total,
        ProgressState::Running | ProgressState::Failed => 0,
    };
    output.progress(Progress {
        id: id.to_owned(),
        label: label.to_owned(),
        done,
        total: Some(total),
        state,
    });
}

impl Life {
    async fn push_image(
        &self,
        call: &Call,
        request: &PushRequest,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Pushed, EngineError> {
        let mut ticket = self.enter::<EngineError>(call, Some(cancel)).await?;
        let key = (request.target.host.clone(), request.repository.clone());
        let (image, missing) = self
            .look(|state| {
                let image = state.check_push(call, request)?;
                let known = state.registries.get(&key);
                let missing: Vec<bool> = image
                    .layers
                    .iter()
                    .map(|layer| known.is_none_or(|known| !known.blobs.contains_key(&layer.digest)))
                    .collect();
                Ok::<_, EngineError>((image, missing))
            })
            .await?;
        for (layer, missing) in image.layers.iter().zip(&missing) {
            let id = layer.digest.as_str();
            let total = layer.bytes.len() as u64;
            let end = if *missing {
                progress(
                    output,
                    id,
                    layer.digest.short(),
                    ProgressState::Running,
                    total,
                );
                let time = self.shared.latency().transfer;
                if self.wait(self.shared.vary(time, id), Some(cancel)).await {
                    return Err(EngineError::Cancelled);
                }
                ProgressState::Done
            } else {
                ProgressState::Cached
            };
            progress(output, id, layer.digest.short(), end, total);
        }
        let sent = missing.iter().filter(|missing| **missing).count() as u64;
        self.act(call, &mut ticket, |state| {
            let digest = image.manifest().digest;
            let pushed = Pushed {
                digest: digest.clone(),
                layers_reused: missing.len() as u64 - sent,
                layers_sent: sent,
            };
            if !state.may_move(call, &key, &request.tag, &digest) {
                return Err(refused(
                    call,
                    "the tag is immutable and stands at another digest",
                ));
            }
            let repository = state.registries.entry(key.clone()).or_default();
            repository.is_ours = true;
            repository.store(&image);
            let before = repository.tags.insert(request.tag.clone(), digest.clone());
            if let Some(image) = state.images.get_mut(&request.id) {
                let name = familiar(&key.0, &key.1);
                image.digests.insert(format!("{name}@{digest}"));
            }
            if before.as_ref() == Some(&digest) {
                return Ok(Done::nothing(pushed));
            }
            Ok(Done::changed(pushed, call.subject(), digest.as_str()))
        })
        .await
    }

    async fn pull_image(
        &self,
        call: &Call,
        text: &str,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<String, EngineError> {
        let mut ticket = self.enter::<EngineError>(call, Some(cancel)).await?;
        let here = self
            .look(|state| state.lookup(call, text))
            .await
            .map_err(|message| refused(call, message))?;
        if let Some(image) = here {
            return Ok(image.id().to_owned());
        }
        progress(output, text, text, ProgressState::Running, 1);
        let time = self.shared.vary(self.shared.latency().transfer, text);
        if self.wait(time, Some(cancel)).await {
            return Err(EngineError::Cancelled);
        }
        let lenient = self.shared.options.lenient_images;
        let id = self
            .act(call, &mut ticket, |state| {
                let reference = state
                    .reference(call, text)
                    .map_err(|message| refused(call, message))?;
                let Some(mut image) = state.fetch(&reference, lenient) else {
                    return Err(EngineError::NotFound {
                        what: format!("image {text}"),
                    });
                };
                let digest = image.manifest().digest;
                let name = familiar(&reference.host, &reference.repository);
                image.digests.insert(format!("{name}@{digest}"));
                let tags = reference.digest.is_none();
                let tags: Vec<_> = tags
                    .then(|| (reference.to_string(), text.to_owned()))
                    .into_iter()
                    .collect();
                let id = image.id().to_owned();
                state.keep(image, &tags);
                Ok(Done::changed(id.clone(), text, id))
            })
            .await?;
        progress(output, text, text, ProgressState::Done, 1);
        Ok(id)
    }
}

impl Life {
    /// Every address leads to an engine of its own, with nothing on it yet.
    fn at(&self, address: &str) -> Arc<Self> {
        Arc::new(Self {
            engine: Some(address.into()),
            ..self.clone()
        })
    }
}

impl EngineReaders for Life {
    fn reader(&self, _: &str, address: &str) -> Result<Arc<dyn EngineReader>, EngineError> {
        Ok(self.at(address))
    }
}

impl Engines for Life {
    fn engine(&self, _: &str, address: &str) -> Result<Arc<dyn Engine>, EngineError> {
        Ok(self.at(address))
    }
}

#[async_trait]
impl EngineReader for Life {
    async fn version(&self) -> Result<String, EngineError> {
        let call = Call::one("engine.version", "");
        self.pass::<EngineError>(&call, None).await?;
        Ok(format!("simulated {PLATFORM}"))
    }

    async fn image(&self, reference: &str) -> Result<Option<LocalImage>, EngineError> {
        let call = Call::one("engine.image", reference);
        self.pass::<EngineError>(&call, None).await?;
        self.look(|state| {
            let image = state.lookup(&call, reference);
            let image = image.map_err(|message| refused(&call, message))?;
            Ok(image.map(|image| state.local(&image)))
        })
        .await
    }

    async fn images_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<LocalImage>, EngineError> {
        let call = Call::one("engine.images-labelled", &format!("{label}={value}"));
        self.pass::<EngineError>(&call, None).await?;
        self.look(|state| {
            let images = state.images.values();
            let has = images.filter(|image| image.labels.get(label).is_some_and(|v| v == value));
            Ok(has.map(|image| state.local(image)).collect())
        })
        .await
    }

    async fn container(&self, name: &str) -> Result<Option<ContainerState>, EngineError> {
        let call = Call::one("engine.container", name);
        self.pass::<EngineError>(&call, None).await?;
        let check = self.check();
        self.look(|state| Ok(state.find(name).map(|found| state.describe(found, check))))
            .await
    }

    async fn containers_labelled(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<ContainerState>, EngineError> {
        let call = Call::one("engine.containers-labelled", &format!("{label}={value}"));
        self.pass::<EngineError>(&call, None).await?;
        let check = self.check();
        self.look(|state| {
            let mut found: Vec<_> = state
                .containers
                .values()
                .filter(|c| c.spec.labels.get(label).is_some_and(|v| v == value))
                .map(|container| state.describe(container, check))
                .collect();
            found.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(found)
        })
        .await
    }

    async fn context(
        &self,
        directory: &Path,
        dockerfile: &Path,
    ) -> Result<ContextFacts, EngineError> {
        let subject = directory.join(dockerfile).to_string_lossy().into_owned();
        let call = Call::one("engine.context", &subject);
        self.pass::<EngineError>(&call, None).await?;
        self.look(|state| {
            context(&state.disk, directory, dockerfile).map_err(|message| refused(&call, message))
        })
        .await
    }
}

#[async_trait]
impl Engine for Life {
    async fn build(
        &self,
        request: &BuildRequest,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<String, EngineError> {
        let dockerfile = request.dockerfile.to_string_lossy().into_owned();
        let labels = request
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let tags = request.tags.iter().cloned();
        let call = Call::new("engine.build", tags.chain([dockerfile]).chain(labels));
        self.tracked(&call, self.build_image(&call, request, output, cancel))
            .await
    }

    async fn push(
        &self,
        request: &PushRequest,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Pushed, EngineError> {
        let PushRequest {
            target,
            repository,
            tag,
            id,
        } = request;
        let name = format!("{}/{repository}:{tag}", target.host);
        let call = Call::new("engine.push", [name, id.clone()]);
        self.tracked(&call, self.push_image(&call, request, output, cancel))
            .await
    }

    async fn pull(
        &self,
        reference: &str,
        _credentials: Option<&Target>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<String, EngineError> {
        let call = Call::one("engine.pull", reference);
        self.tracked(&call, self.pull_image(&call, reference, output, cancel))
            .await
    }

    async fn untag(&self, reference: &str) -> Result<(), EngineError> {
        let call = Call::one("engine.untag", reference);
        let mut ticket = self.enter::<EngineError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let full = state
                .reference(&call, reference)
                .map_err(|message| refused(&call, message))?;
            let Some((_, id)) = state.tags.remove(&full.to_string()) else {
                return Ok(Done::nothing(()));
            };
            let used = state.containers.values().any(|c| c.image_id == id);
            if state.tags_of(&id).is_empty() && !used {
                state.images.remove(&id);
            }
            Ok(Done::changed((), reference, id))
        })
        .await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.create_container(spec).await
    }

    async fn start(&self, id: &str) -> Result<(), EngineError> {
        self.start_container(id).await
    }

    async fn run(
        &self,
        id: &str,
        stdin: Option<&str>,
        output: &dyn Output,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError> {
        self.run_container(id, stdin, output, grace, cancel).await
    }

    async fn attach(
        &self,
        id: &str,
        output: &dyn Output,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> Result<i64, EngineError> {
        self.attach_container(id, output, grace, cancel).await
    }

    async fn exec(
        &self,
        id: &str,
        command: &[String],
        output: &dyn Output,
    ) -> Result<i64, EngineError> {
        self.exec_in(id, command, output).await
    }

    async fn tail(&self, id: &str, lines: usize) -> Result<String, EngineError> {
        self.tail_of(id, lines).await
    }

    async fn stop(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        self.stop_container(id, grace).await
    }

    async fn rename(&self, id: &str, name: &str) -> Result<(), EngineError> {
        self.rename_container(id, name).await
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.remove_container(id).await
    }

    async fn create_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, EngineError> {
        self.make_network(name, labels).await
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        self.drop_network(name).await
    }

    async fn reap(&self, label: &str, value: &str) -> Result<Vec<String>, EngineError> {
        self.reap_labelled(label, value).await
    }
}
