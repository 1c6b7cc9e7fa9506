//! Reading an image: from the engine, from an OCI layout, from an archive on the disk.
//!
//! Layers are streamed, never unpacked onto the disk. Of each only what the readers of
//! [`crate::scan::inventory`] take out of it is kept, and hashes of its paths. An archive may have
//! its layers in any order and its manifest last; the join happens when all is read. Everything
//! is bounded: memory by the limits of the readers, time by what an image may unpack to. Does
//! not verify digests of layers, only those of the documents that say which layers there are.

mod archive;
mod blobs;
mod bytes;
mod error;
mod layer;
mod limits;
mod manifest;
mod tar;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use error::ImageError;
pub use limits::Limits;

use crate::adapters::docker::Docker;
use crate::ports::{Output, Progress, ProgressState};
use crate::scan::Inventory;
use crate::scan::inventory::{LayerContents, join};
use blobs::Blobs;
use bytes::{Buffered, Chunks};
use limits::Shared;
use manifest::ImageManifest;

/// Pieces of an export that may wait to be read; bounds memory.
const QUEUE: usize = 8;
/// Layers that are read at the same time, at most.
const PARALLEL: usize = 4;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(200);

/// Where an image is.
#[derive(Clone)]
pub enum ImageSource {
    /// On a container engine.
    Engine {
        /// The engine.
        docker: Box<Docker>,
        /// Id, or name with a tag or digest.
        reference: String,
    },
    /// In a directory in the form of OCI's image layout.
    Layout {
        /// The directory.
        directory: PathBuf,
        /// The name of one of several images.
        reference: Option<String>,
    },
    /// In a tar archive, as `docker save` writes it or in the form of OCI's image layout;
    /// compressed or not.
    Archive {
        /// The file.
        file: PathBuf,
        /// The name of one of several images.
        reference: Option<String>,
    },
}

/// Lists what an image holds.
pub async fn inventory(
    source: &ImageSource,
    output: &dyn Output,
    cancel: &CancellationToken,
) -> Result<Inventory, ImageError> {
    inventory_within(source, Limits::default(), output, cancel).await
}

/// Lists what an image holds, within limits.
pub async fn inventory_within(
    source: &ImageSource,
    limits: Limits,
    output: &dyn Output,
    cancel: &CancellationToken,
) -> Result<Inventory, ImageError> {
    // The reader's own token: it ends also when this call is dropped.
    let stop = cancel.child_token();
    let _guard = stop.clone().drop_guard();
    let shared = Arc::new(Shared::new(limits, stop));
    let (work, feed) = match source {
        ImageSource::Engine { docker, reference } => {
            let (sender, receiver) = mpsc::channel(QUEUE);
            let within = shared.clone();
            let work = tokio::task::spawn_blocking(move || {
                stream(Buffered::new(Chunks::new(receiver), &within), None, &within)
            });
            (work, Some((docker, reference, sender)))
        }
        ImageSource::Layout {
            directory,
            reference,
        } => {
            let (directory, reference) = (directory.clone(), reference.clone());
            let within = shared.clone();
            let read = move || {
                let blobs = Blobs::of_directory(&directory)?;
                random(&blobs, reference.as_deref(), &within)
            };
            (tokio::task::spawn_blocking(read), None)
        }
        ImageSource::Archive { file, reference } => {
            let (path, reference) = (file.clone(), reference.clone());
            let within = shared.clone();
            let read = move || archive_file(&path, reference.as_deref(), &within);
            (tokio::task::spawn_blocking(read), None)
        }
    };
    let feed = async {
        match feed {
            Some((docker, reference, sender)) => export(docker, reference, sender, cancel).await,
            None => Ok(()),
        }
    };
    let label = match source {
        ImageSource::Engine { reference, .. } => format!("reading {reference}"),
        ImageSource::Layout {
            directory: path, ..
        }
        | ImageSource::Archive { file: path, .. } => {
            format!("reading {}", path.display())
        }
    };
    let done = async { tokio::join!(work, feed) };
    tokio::pin!(done);
    let mut tick = tokio::time::interval(TICK);
    let tell = |state| {
        output.progress(Progress {
            id: "image".to_owned(),
            label: label.clone(),
            done: shared.read(),
            total: shared.total(),
            state,
        });
    };
    let (read, fed) = loop {
        tokio::select! {
            biased;
            done = &mut done => break done,
            _ = tick.tick() => tell(ProgressState::Running),
        }
    };
    let read = read.unwrap_or_else(|error| Err(ImageError::Broken(error.to_string())));
    // What the reader says about a stream that ended too early matters less than why it did.
    let found = match (fed, read) {
        _ if cancel.is_cancelled() => Err(ImageError::Cancelled),
        (Err(error), _) => Err(error),
        (Ok(()), read) => read,
    };
    tell(match found {
        Ok(_) => ProgressState::Done,
        Err(_) => ProgressState::Failed,
    });
    found
}

/// Hands an export over to the reader. Ends early when the reader does.
async fn export(
    docker: &Docker,
    reference: &str,
    sender: mpsc::Sender<::bytes::Bytes>,
    cancel: &CancellationToken,
) -> Result<(), ImageError> {
    let mut pieces = std::pin::pin!(docker.export(reference)?);
    loop {
        let piece = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(ImageError::Cancelled),
            () = sender.closed() => return Ok(()),
            piece = pieces.next() => piece,
        };
        match piece {
            None => return Ok(()),
            Some(piece) => {
                if sender.send(piece?).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// Reads an archive on the disk: in any order if it is plain, as a stream if it is compressed.
fn archive_file(
    path: &Path,
    reference: Option<&str>,
    shared: &Shared,
) -> Result<Inventory, ImageError> {
    let reading = |error| ImageError::reading(&path.display().to_string(), error);
    let file = File::open(path).map_err(|error| ImageError::io(path, error))?;
    let section = bytes::Section::whole(Arc::new(file), path)?;
    let mut start = Buffered::new(section.clone(), shared);
    if bytes::is_compressed(start.peek(4).map_err(reading)?) {
        shared.expect(section.length());
        let unpacked = bytes::unpacked(section, shared).map_err(reading)?;
        return stream(Buffered::new(unpacked, shared), reference, shared);
    }
    let blobs = Blobs::of_archive(section, shared)?;
    random(&blobs, reference, shared)
}

/// Reads an archive that comes in one piece after the other.
fn stream(
    bytes: Buffered<impl bytes::Skip>,
    reference: Option<&str>,
    shared: &Shared,
) -> Result<Inventory, ImageError> {
    let mut archive = archive::read(bytes, shared)?;
    let image = ImageManifest::find(&archive, reference)?;
    let layers = image.layers.iter().map(|layer| archive.layer(&layer.blob));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    Ok(joined(image, layers, shared))
}

/// Reads an image whose parts can be read in any order, several layers at a time.
fn random(
    blobs: &Blobs,
    reference: Option<&str>,
    shared: &Shared,
) -> Result<Inventory, ImageError> {
    let image = ImageManifest::find(blobs, reference)?;
    let mut names: Vec<&str> = image
        .layers
        .iter()
        .map(|layer| layer.blob.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let sections: Vec<bytes::Section> = names
        .iter()
        .map(|name| blobs.section(name))
        .collect::<Result<_, _>>()?;
    shared.expect(sections.iter().map(bytes::Section::length).sum());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done: Vec<(usize, Result<LayerContents, ImageError>)> = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(section) = sections.get(index) else {
                return done;
            };
            let read = layer::read(section.clone(), names[index], shared);
            // The others need not go on.
            if read.is_err() {
                next.store(sections.len(), Ordering::Relaxed);
            }
            done.push((index, read));
        }
    };
    let threads = processors.min(PARALLEL).min(sections.len());
    let mut done: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(_) => done.push((
                    usize::MAX,
                    Err(ImageError::Broken("a reader of layers ended".to_owned())),
                )),
            }
        }
        done
    });
    done.sort_by_key(|(index, _)| *index);
    let read = done.into_iter().map(|(_, read)| read);
    let read = read.collect::<Result<Vec<_>, _>>()?;
    let mut read: Vec<Option<LayerContents>> = read.into_iter().map(Some).collect();
    let mut left: Vec<usize> = vec![0; names.len()];
    let places: Vec<usize> = image
        .layers
        .iter()
        .filter_map(|layer| names.binary_search(&layer.blob.as_str()).ok())
        .collect();
    places.iter().for_each(|place| left[*place] += 1);
    let layers = places
        .into_iter()
        .filter_map(|place| {
            left[place] -= 1;
            // The same layer may be there several times.
            match left[place] {
                0 => read[place].take(),
                _ => read[place].clone(),
            }
        })
        .collect();
    Ok(joined(image, layers, shared))
}

fn joined(image: ImageManifest, layers: Vec<LayerContents>, shared: &Shared) -> Inventory {
    let digests = image.layers.into_iter().map(|layer| layer.digest);
    join(image.id, digests.zip(layers).collect(), shared.hasher())
}
