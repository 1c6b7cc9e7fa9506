//! Images on the engine: look, fetch, send, untag.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bollard::models::ImageInspect;
use bollard::query_parameters::{
    ListImagesOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use super::Docker;
use super::client::{Line, Lines, registry_auth};
use super::error::{broken, check_reference, may_pass, refused};
use super::layers::Claim;
use crate::base::Digest;
use crate::ports::engine::{EngineError, LocalImage, PushRequest, Pushed};
use crate::ports::registry::Target;
use crate::ports::{Output, Progress, ProgressState};

/// Images looked at in parallel.
const PARALLEL: usize = 8;

impl Docker {
    /// An image as `docker save` writes it, piece by piece. Dropping the stream ends the export.
    pub fn export(
        &self,
        reference: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, EngineError>> + Send, EngineError> {
        check_reference(reference)?;
        let what = format!("the export of {reference}");
        let client = self.client.clone();
        // The name becomes part of a path; a tag may have a plus sign.
        let pieces = self.client.api.export_image(reference);
        Ok(pieces.map_err(move |error| client.error(&what, error)))
    }

    pub(super) async fn find_image(
        &self,
        reference: &str,
    ) -> Result<Option<LocalImage>, EngineError> {
        Ok(self.inspect_image(reference).await?.map(local))
    }

    async fn inspect_image(&self, reference: &str) -> Result<Option<ImageInspect>, EngineError> {
        check_reference(reference)?;
        let what = format!("image {reference}");
        match self.client.api.inspect_image(reference).await {
            Ok(image) => Ok(Some(image)),
            Err(error) => match self.client.error(&what, error) {
                EngineError::NotFound { .. } => Ok(None),
                other => Err(other),
            },
        }
    }

    pub(super) async fn find_images(
        &self,
        label: &str,
        value: &str,
    ) -> Result<Vec<LocalImage>, EngineError> {
        let options = ListImagesOptionsBuilder::new()
            .filters(&label_filter(label, value))
            .build();
        let found = self
            .client
            .api
            .list_images(Some(options))
            .await
            .map_err(|error| self.client.error("the list of images", error))?;
        let ids: BTreeSet<String> = found.into_iter().map(|image| image.id).collect();
        // The list does not tell the platform.
        let images: Vec<Option<LocalImage>> = futures_util::stream::iter(ids)
            .map(|id| async move { self.find_image(&id).await })
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        Ok(images.into_iter().flatten().collect())
    }

    pub(super) async fn push_image(
        &self,
        request: &PushRequest,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<Pushed, EngineError> {
        let name = format!("{}/{}", request.target.host, request.repository);
        let reference = format!("{name}:{}", request.tag);
        let what = format!("the push of {reference}");
        check_reference(&reference)?;
        if request.tag.is_empty() || request.tag.contains(['/', ':', '@']) {
            return Err(refused(&what, format!("\"{}\" is no tag", request.tag)));
        }
        let found = self.inspect_image(&request.id).await?;
        let mut found = found.ok_or_else(|| EngineError::NotFound {
            what: format!("image {}", request.id),
        })?;
        let layers = found.root_fs.take().and_then(|files| files.layers);
        let image = local(found);
        if !image.tags.contains(&reference) {
            let options = TagImageOptionsBuilder::new()
                .repo(&name)
                .tag(&request.tag)
                .build();
            self.client
                .api
                .tag_image(&request.id, Some(options))
                .await
                .map_err(|error| self.client.error(&what, error))?;
        }
        let send = async {
            let host = &request.target.host;
            let mut claim = self.layers.claim(host, &layers.unwrap_or_default());
            claim.others_are_done().await;
            self.check_tag(&what, &reference, &image.id).await?;
            let pushed = self
                .send_image(request, &name, &what, &mut claim, output)
                .await?;
            self.check_tag(&what, &reference, &image.id).await?;
            Ok(pushed)
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(EngineError::Cancelled),
            pushed = send => pushed,
        }
    }

    /// Somebody else may move a tag of the same name on the same engine; the engine pushes by tag.
    async fn check_tag(&self, what: &str, reference: &str, id: &str) -> Result<(), EngineError> {
        match self.find_image(reference).await? {
            Some(image) if image.id == id => Ok(()),
            _ => Err(broken(
                what,
                format!("another process moved the local tag {reference} meanwhile"),
            )),
        }
    }

    async fn send_image(
        &self,
        request: &PushRequest,
        name: &str,
        what: &str,
        claim: &mut Claim,
        output: &dyn Output,
    ) -> Result<Pushed, EngineError> {
        // The engine insists on the header; "e30=" is an empty object.
        let auth = registry_auth(&request.target).unwrap_or_else(|| "e30=".to_owned());
        let path = format!("/images/{name}/push?tag={}", request.tag);
        let mut lines = self
            .client
            .post_lines(what, &path, &[("X-Registry-Auth", &auth)])
            .await?;
        let mut layers = Layers::default();
        let mut digest = None;
        while let Some(line) = lines.next().await? {
            if let Some(error) = &line.error {
                return Err(transfer_error(what, error));
            }
            digest = pushed_digest(&line).or(digest);
            if let Some(layer) = layers.take(&line, output) {
                claim.arrived(layer);
            }
        }
        let digest = digest.ok_or_else(|| broken(what, "the engine told no digest"))?;
        Ok(Pushed {
            digest,
            layers_reused: layers.count(ProgressState::Cached),
            layers_sent: layers.count(ProgressState::Done),
        })
    }

    pub(super) async fn pull_image(
        &self,
        reference: &str,
        credentials: Option<&Target>,
        output: &dyn Output,
        cancel: &CancellationToken,
    ) -> Result<String, EngineError> {
        check_reference(reference)?;
        // Without a tag the engine would fetch every one there is.
        let reference = with_tag(reference);
        let fetch = async {
            if let Some(image) = self.find_image(&reference).await? {
                return Ok(image.id);
            }
            let what = format!("the pull of {reference}");
            let auth = credentials.and_then(registry_auth);
            let headers: Vec<(&str, &str)> = auth
                .as_deref()
                .map(|auth| ("X-Registry-Auth", auth))
                .into_iter()
                .collect();
            let path = format!("/images/create?fromImage={}", reference.replace('+', "%2B"));
            let mut lines: Lines = self.client.post_lines(&what, &path, &headers).await?;
            let mut layers = Layers::default();
            while let Some(line) = lines.next().await? {
                if let Some(error) = &line.error {
                    return Err(transfer_error(&what, error));
                }
                layers.take(&line, output);
            }
            let image = self.find_image(&reference).await?;
            image
                .map(|image| image.id)
                .ok_or_else(|| broken(&what, "the image is not there after the pull"))
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(EngineError::Cancelled),
            id = fetch => id,
        }
    }

    pub(super) async fn untag_image(&self, reference: &str) -> Result<(), EngineError> {
        check_reference(reference)?;
        let what = format!("untagging {reference}");
        if reference.starts_with("sha256:") {
            return Err(refused(&what, "it is an id, not a tag"));
        }
        let removed = self
            .client
            .api
            .remove_image(reference, None::<RemoveImageOptions>, None)
            .await;
        match removed.map_err(|error| self.client.error(&what, error)) {
            Ok(_) | Err(EngineError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The engine's filter for a label with a value.
pub(super) fn label_filter(label: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{label}={value}")])])
}

fn local(image: ImageInspect) -> LocalImage {
    let platform = [image.os, image.architecture, image.variant]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("/");
    let labels = image.config.and_then(|config| config.labels);
    LocalImage {
        id: image.id.unwrap_or_default(),
        labels: labels.map(BTreeMap::from_iter).unwrap_or_default(),
        tags: image.repo_tags.unwrap_or_default(),
        digests: image.repo_digests.unwrap_or_default(),
        size: image
            .size
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(0),
        platform,
    }
}

/// A reference with `:latest` where neither a tag nor a digest is given.
fn with_tag(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains([':', '@']) {
        reference.to_owned()
    } else {
        format!("{reference}:latest")
    }
}

/// The layers of a transfer, as the engine tells of them.
#[derive(Default)]
struct Layers {
    states: HashMap<String, ProgressState>,
}

impl Layers {
    /// Takes a line in, and returns the layer it ends the transfer of.
    fn take<'a>(&mut self, line: &'a Line, output: &dyn Output) -> Option<&'a str> {
        let status = line.status.as_ref()?;
        let Some(id) = &line.id else {
            output.log(format!("{status}\n").as_bytes());
            return None;
        };
        let state = match status.as_str() {
            "Layer already exists" | "Already exists" => ProgressState::Cached,
            status if status.starts_with("Mounted from") => ProgressState::Cached,
            "Pushed" | "Pull complete" => ProgressState::Done,
            "Preparing" | "Waiting" | "Pushing" | "Pulling fs layer" | "Downloading"
            | "Verifying Checksum" | "Download complete" | "Extracting" => ProgressState::Running,
            // "Pulling from repository" and its like are about the whole.
            _ => return None,
        };
        let before = self.states.insert(id.clone(), state);
        if before != Some(state) && state != ProgressState::Running {
            output.log(format!("{id}: {status}\n").as_bytes());
        }
        let progress = line.progress.as_ref();
        output.progress(Progress {
            id: id.clone(),
            label: format!("{id} {}", status.to_lowercase()),
            done: progress.and_then(|progress| progress.current).unwrap_or(0),
            total: progress.and_then(|progress| progress.total),
            state,
        });
        (state != ProgressState::Running).then_some(id)
    }

    fn count(&self, state: ProgressState) -> u64 {
        self.states
            .values()
            .filter(|found| **found == state)
            .count() as u64
    }
}

/// The digest the registry gave, from the facts for programs or the line for people.
fn pushed_digest(line: &Line) -> Option<Digest> {
    let aux = line
        .aux
        .as_ref()
        .and_then(|aux| aux.get("Digest")?.as_str());
    let spoken = line.status.as_deref().and_then(|status| {
        let (_, rest) = status.split_once("digest: ")?;
        rest.split(' ').next()
    });
    aux.or(spoken)?.parse().ok()
}

fn transfer_error(what: &str, message: &str) -> EngineError {
    if may_pass(message) {
        broken(what, message)
    } else {
        refused(what, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Silent;

    #[test]
    fn references_get_a_tag() {
        for (given, expected) in [
            ("a", "a:latest"),
            ("h:5000/a", "h:5000/a:latest"),
            ("h:5000/a:1", "h:5000/a:1"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(with_tag(given), expected);
        }
    }

    #[test]
    fn layers_are_counted_once_by_how_they_ended() {
        let mut layers = Layers::default();
        for (id, status) in [
            ("a", "Preparing"),
            ("b", "Preparing"),
            ("c", "Waiting"),
            ("a", "Layer already exists"),
            ("b", "Pushing"),
            ("b", "Pushed"),
            ("b", "Pushed"),
            ("c", "Mounted from team/app"),
        ] {
            let line = Line {
                id: Some(id.to_owned()),
                status: Some(status.to_owned()),
                ..Line::default()
            };
            layers.take(&line, &Silent);
        }
        assert_eq!(layers.count(ProgressState::Cached), 2);
        assert_eq!(layers.count(ProgressState::Done), 1);
    }

    #[test]
    fn the_digest_is_found_in_either_form() {
        let digest = Digest::of(b"x");
        let spoken = Line {
            status: Some(format!("v1: digest: {digest} size: 528")),
            ..Line::default()
        };
        assert_eq!(pushed_digest(&spoken), Some(digest.clone()));
        let aux = Line {
            aux: Some(serde_json::json!({"Tag": "v1", "Digest": digest.as_str()})),
            ..Line::default()
        };
        assert_eq!(pushed_digest(&aux), Some(digest));
    }
}
