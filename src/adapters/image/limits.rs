//! What an image may cost, and what the readers of its layers share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::error::ImageError;
use crate::scan::inventory::PathHasher;

/// What an image may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries of all layers. A hash of eight bytes is kept of each.
    pub entries: u64,
    /// Bytes of all layers, unpacked.
    pub unpacked: u64,
    /// How many times its own size a layer may unpack to, once that is more than `bomb`.
    pub ratio: u64,
    /// From how many unpacked bytes on the ratio counts.
    pub bomb: u64,
    /// Packages and files of packages that are kept, before layers are joined.
    pub kept: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 8_000_000,
            unpacked: 64 << 30,
            ratio: 300,
            bomb: 2 << 30,
            kept: 400_000,
        }
    }
}

/// What the readers of one image share.
pub(super) struct Shared {
    pub(super) limits: Limits,
    cancel: CancellationToken,
    hasher: PathHasher,
    entries: AtomicU64,
    unpacked: AtomicU64,
    kept: AtomicU64,
    read: AtomicU64,
    total: AtomicU64,
    /// One large file at a time is held in memory.
    large: Mutex<()>,
}

impl Shared {
    pub(super) fn new(limits: Limits, cancel: CancellationToken) -> Self {
        Self {
            limits,
            cancel,
            hasher: PathHasher::default(),
            entries: AtomicU64::new(0),
            unpacked: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            read: AtomicU64::new(0),
            total: AtomicU64::new(0),
            large: Mutex::new(()),
        }
    }

    pub(super) fn hasher(&self) -> &PathHasher {
        &self.hasher
    }

    /// Waits until nobody else holds a large file.
    pub(super) fn large(&self) -> MutexGuard<'_, ()> {
        self.large.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn cancelled(&self) -> Result<(), ImageError> {
        match self.cancel.is_cancelled() {
            true => Err(ImageError::Cancelled),
            false => Ok(()),
        }
    }

    /// Counts an entry of a layer with its content.
    pub(super) fn entry(&self, bytes: u64) -> Result<(), ImageError> {
        let Limits {
            entries, unpacked, ..
        } = self.limits;
        if self.entries.fetch_add(1, Ordering::Relaxed) >= entries {
            let message = format!("its layers have more than {entries} files");
            return Err(ImageError::TooLarge(message));
        }
        let before = self.unpacked.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > unpacked {
            let message = format!("its layers unpack to more than {} GiB", unpacked >> 30);
            return Err(ImageError::TooLarge(message));
        }
        Ok(())
    }

    /// Counts what is kept.
    pub(super) fn keep(&self, count: u64) -> Result<(), ImageError> {
        let kept = self.limits.kept;
        if self
            .kept
            .fetch_add(count, Ordering::Relaxed)
            .saturating_add(count)
            > kept
        {
            let message = format!("its layers have more than {kept} packages");
            return Err(ImageError::TooLarge(message));
        }
        Ok(())
    }

    /// Counts bytes of the source, for progress.
    pub(super) fn took(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says how many bytes of the source there are.
    pub(super) fn expect(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(super) fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0)
    }
}
