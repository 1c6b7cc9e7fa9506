//! One archive per build context, shared by all builds of this process that use it at a time.
//!
//! The archive is never stored: a first pass makes its checksum, which names it to the builder,
//! and a second one writes it, only if the builder does not have it and asks.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sha2::Digest as _;
use tokio::sync::{OnceCell, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::context::{BuildContext, Dockerfile};
use super::error::broken;
use crate::base::{Digest, Timestamp};
use crate::ports::engine::EngineError;

/// Bytes per message on the way to the builder, well below its limit of 4 MiB.
const CHUNK: usize = 512 << 10;
/// Messages that may wait for the builder; bounds memory per upload.
const QUEUE: usize = 4;

/// A context and the name of its archive.
#[derive(Debug)]
pub(super) struct Archive {
    context: BuildContext,
    /// Digest of the archive's bytes.
    pub(super) checksum: Digest,
    epoch: u64,
}

/// A place for an archive that several builds may wait for.
type Slot = OnceCell<Arc<Archive>>;

/// What an archive depends on: the root, the file that says what is left out, the time.
type Key = (PathBuf, Option<PathBuf>, u64);

/// Archives in use.
#[derive(Debug, Default)]
pub(super) struct Archives {
    slots: Mutex<HashMap<Key, Weak<Slot>>>,
    uploads: AtomicU64,
}

impl Archives {
    /// The place for the archive of a context; keep it while a build uses it.
    pub(super) fn slot(&self, dockerfile: &Dockerfile, epoch: Timestamp) -> Arc<Slot> {
        let ignore = dockerfile.ignore.clone();
        let key = (dockerfile.root.clone(), ignore, seconds(epoch));
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| slot.strong_count() > 0);
        let entry = slots.entry(key).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let slot = Arc::default();
            *entry = Arc::downgrade(&slot);
            slot
        })
    }

    /// How many archives were sent to the builder.
    pub(super) fn uploads(&self) -> u64 {
        self.uploads.load(Ordering::Relaxed)
    }

    /// Counts one archive that is sent.
    pub(super) fn count_upload(&self) {
        self.uploads.fetch_add(1, Ordering::Relaxed);
    }
}

impl Archive {
    /// Fills a slot, or waits until another build has.
    pub(super) async fn fill(
        slot: &Slot,
        dockerfile: &Dockerfile,
        epoch: Timestamp,
    ) -> Result<Arc<Self>, EngineError> {
        let make = || async {
            let (root, ignore) = (dockerfile.root.clone(), dockerfile.ignore.clone());
            tokio::task::spawn_blocking(move || Self::new(&root, ignore.as_deref(), epoch))
                .await
                .map_err(|error| broken("reading the build context", error))?
                .map(Arc::new)
        };
        slot.get_or_try_init(make).await.cloned()
    }

    fn new(root: &Path, ignore: Option<&Path>, epoch: Timestamp) -> Result<Self, EngineError> {
        let context = BuildContext::scan(root, ignore)?;
        let epoch = seconds(epoch);
        let mut hash = Hashing(sha2::Sha256::new());
        context
            .write_archive(epoch, &mut hash)
            .map_err(|error| broken("reading the build context", error))?;
        Ok(Self {
            context,
            checksum: Digest::from_hash(&hash.0.finalize()),
            epoch,
        })
    }

    /// The path of the archive on the builder's side of the session.
    pub(super) fn url_path(&self) -> String {
        format!("/{}.tar", self.checksum.hex())
    }

    /// Writes the archive, piece by piece as it is taken.
    pub(super) fn stream(self: Arc<Self>) -> ReceiverStream<io::Result<Vec<u8>>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::task::spawn_blocking(move || {
            let to = Chunks {
                sender: &sender,
                buffer: Vec::with_capacity(CHUNK),
            };
            if let Err(error) = self.context.write_archive(self.epoch, to) {
                // The receiver is gone if the builder no longer wants it.
                let _ = sender.blocking_send(Err(error));
            }
        });
        ReceiverStream::new(receiver)
    }
}

fn seconds(epoch: Timestamp) -> u64 {
    u64::try_from(epoch.0 / 1000).unwrap_or(0)
}

struct Hashing(sha2::Sha256);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Chunks<'a> {
    sender: &'a mpsc::Sender<io::Result<Vec<u8>>>,
    buffer: Vec<u8>,
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.buffer.len();
        let taken = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender
            .blocking_send(Ok(full))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
