//! The simulated engine: images, and the doors to containers.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Call, Done, Life};
use super::container::refused;
use super::disk::context;
use super::dockerfile::{Recipe, Step, read};
use super::image::{Blob, Image, Parts};
use super::ledger::Rule;
use super::play::{Place, Play};
use super::reference::{Reference, is_host, is_platform, is_repository, is_tag};
use super::script::Act;
use super::state::State;
use crate::ports::engine::{
    BuildRequest, ContainerSpec, ContainerState, ContextFacts, Engine, EngineError, EngineReader,
    LocalImage, PushRequest, Pushed,
};
use crate::ports::registry::Target;
use crate::ports::{Output, Progress, ProgressState};

/// The platform of the simulated engine.
const PLATFORM: &str = "linux/amd64";

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
    fn reference(&mut self, call: &Call, text: &str) -> Result<Reference, String> {
        Reference::parse(text).map_err(|why| {
            let message = format!("{text:?} is not an image reference: {why}");
            self.violate(Rule::BadReference, call, message.clone());
            message
        })
    }

    fn check_build(&mut self, call: &Call, request: &BuildRequest) -> Result<(), EngineError> {
        for tag in request.tags.iter().chain(&request.cache_from) {
            let reference = self.reference(call, tag).map_err(|m| refused(call, m))?;
            if reference.digest.is_some() && request.tags.contains(tag) {
                let message = format!("{tag:?} is not a tag: it names a digest");
                self.violate(Rule::BadTag, call, message.clone());
                return Err(refused(call, message));
            }
        }
        if let Some(platform) = request.platform.as_deref()
            && !is_platform(platform)
        {
            let message = format!("{platform:?} is not a platform");
            self.violate(Rule::BadReference, call, message.clone());
            return Err(refused(call, message));
        }
        let texts: Vec<&str> = request
            .labels
            .iter()
            .chain(&request.args)
            .flat_map(|(key, value)| [key.as_str(), value.as_str()])
            .chain(request.tags.iter().map(String::as_str))
            .collect();
        self.check_leaks(call, "the build's labels, arguments or tags", texts);
        if !self.disk.exists(&request.context) {
            let message = format!("{} does not exist", request.context.display());
            self.violate(Rule::UnknownDirectory, call, message);
        }
        Ok(())
    }

    /// The layers of a base image, if there is such an image.
    fn base(&mut self, call: &Call, text: &str, lenient: bool) -> Result<Vec<Blob>, EngineError> {
        let failed = |message: String| EngineError::BuildFailed { message };
        let image = match Reference::parse(text) {
            // An argument without a value: BuildKit would know it, we need not.
            Err(_) if lenient && text.contains('$') => return Ok(Vec::new()),
            Err(why) => return Err(failed(format!("failed to parse {text:?}: {why}"))),
            Ok(reference) => match self.lookup(call, text) {
                Ok(Some(image)) => Some(image),
                _ => self.fetch(&reference, lenient),
            },
        };
        let image = image.ok_or_else(|| failed(format!("{text}: not found")))?;
        Ok(image.layers)
    }

    /// An image of a registry; one made up where nobody pushed to its repository, if lenient.
    fn fetch(&mut self, reference: &Reference, lenient: bool) -> Option<Image> {
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
    fn keep(&mut self, image: Image, tags: &[(String, String)]) -> bool {
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

fn progress(output: &dyn Output, id: &str, label: &str, state: ProgressState, total: u64) {
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
    async fn build_image(
        &self,
        call: &Call,
        request: &BuildRequest,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<String, EngineError> {
        let mut ticket = self.enter::<EngineError>(call, Some(cancel)).await?;
        let recipe = self
            .look(|state| {
                state.check_build(call, request)?;
                let failed = |message| EngineError::BuildFailed { message };
                let facts =
                    context(&state.disk, &request.context, &request.dockerfile).map_err(failed)?;
                let target = request.target.as_deref();
                read(&facts.dockerfile, target, &request.args, &facts.digest).map_err(failed)
            })
            .await?;
        let mut layers = Vec::new();
        for (index, step) in recipe.steps.iter().enumerate() {
            let added = self.step(call, index, step, output, cancel).await;
            let state = match &added {
                Err(_) => ProgressState::Failed,
                Ok((_, true)) => ProgressState::Cached,
                Ok((_, false)) => ProgressState::Done,
            };
            progress(output, &format!("step-{index}"), &step.label, state, 1);
            if step.is_final {
                layers.extend(added?.0);
            } else {
                added?;
            }
        }
        let image = finished(request, &recipe, layers);
        self.act(call, &mut ticket, |state| {
            let id = image.id().to_owned();
            let full = |tag: &String| {
                let reference = Reference::parse(tag).ok()?;
                Some((reference.to_string(), tag.clone()))
            };
            let tags: Vec<_> = request.tags.iter().filter_map(full).collect();
            if state.keep(image, &tags) {
                return Ok(Done::changed(id.clone(), call.subject(), id));
            }
            Ok(Done::nothing(id))
        })
        .await
    }

    /// Does one step of a build: the layers it adds, and whether they were there.
    async fn step(
        &self,
        call: &Call,
        index: usize,
        step: &Step,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<(Vec<Blob>, bool), EngineError> {
        progress(
            output,
            &format!("step-{index}"),
            &step.label,
            ProgressState::Running,
            1,
        );
        let lenient = self.shared.options.lenient_images;
        if let Some(base) = &step.base {
            let layers = self.look(|state| state.base(call, base, lenient)).await?;
            return Ok((layers, false));
        }
        let Some(layer) = step.layer.clone() else {
            return Ok((Vec::new(), false));
        };
        let cached = self
            .look(|state| {
                let mut images = state.images.values();
                images.any(|image| image.layers.contains(&layer))
            })
            .await;
        if cached {
            return Ok((vec![layer], true));
        }
        let label = format!("#{} {}\n", index + 1, step.label);
        output.log(label.as_bytes());
        let acts: VecDeque<Act> = step
            .acts
            .iter()
            .filter(|act| **act != Act::Work)
            .cloned()
            .collect();
        let time = self.shared.latency().step;
        if self
            .wait(self.shared.vary(time, &step.label), Some(cancel))
            .await
        {
            return Err(EngineError::Cancelled);
        }
        let play = self
            .look(|state| {
                let place = Place::Container {
                    workdir: "/".to_owned(),
                    mounts: Vec::new(),
                    own: BTreeMap::new(),
                };
                let latency = self.shared.latency();
                let play = Play::new(acts, Instant::now(), place, latency, Duration::ZERO, false);
                state.begin(play)
            })
            .await;
        let status = self
            .follow(play, output, Duration::ZERO, Some(cancel))
            .await;
        self.look(|state| state.plays.remove(&play)).await;
        match status {
            None => Err(EngineError::Cancelled),
            Some(0) => Ok((vec![layer], false)),
            Some(code) => Err(EngineError::BuildFailed {
                message: format!("{} did not complete: exit code {code}", step.label),
            }),
        }
    }

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

fn finished(request: &BuildRequest, recipe: &Recipe, layers: Vec<Blob>) -> Image {
    let history = recipe.steps.iter().filter(|step| step.is_final);
    Image::assemble(Parts {
        platform: request
            .platform
            .clone()
            .unwrap_or_else(|| PLATFORM.to_owned()),
        created: request.epoch,
        labels: request.labels.clone(),
        checked: recipe.checked,
        history: history.map(|step| step.label.clone()).collect(),
        layers,
    })
}

#[async_trait]
impl EngineReader for Life {
    async fn version(&self) -> Result<String, EngineError> {
        let call = Call::one("engine.version", "");
        self.enter::<EngineError>(&call, None).await?;
        Ok(format!("simulated {PLATFORM}"))
    }

    async fn image(&self, reference: &str) -> Result<Option<LocalImage>, EngineError> {
        let call = Call::one("engine.image", reference);
        self.enter::<EngineError>(&call, None).await?;
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
        self.enter::<EngineError>(&call, None).await?;
        self.look(|state| {
            let images = state.images.values();
            let has = images.filter(|image| image.labels.get(label).is_some_and(|v| v == value));
            Ok(has.map(|image| state.local(image)).collect())
        })
        .await
    }

    async fn container(&self, name: &str) -> Result<Option<ContainerState>, EngineError> {
        let call = Call::one("engine.container", name);
        self.enter::<EngineError>(&call, None).await?;
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
        self.enter::<EngineError>(&call, None).await?;
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
        self.enter::<EngineError>(&call, None).await?;
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
