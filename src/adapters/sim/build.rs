//! Builds of the simulated engine.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Call, Done, Life};
use super::container::refused;
use super::disk::context;
use super::dockerfile::{Recipe, Step, read};
use super::engine::{PLATFORM, progress};
use super::image::{Blob, Image, Parts};
use super::ledger::Rule;
use super::play::{Place, Play};
use super::reference::{Reference, is_platform};
use super::script::Act;
use super::state::State;
use crate::ports::engine::{BuildRequest, EngineError};
use crate::ports::{Output, ProgressState};

impl State {
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
}

impl Life {
    pub(super) async fn build_image(
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
