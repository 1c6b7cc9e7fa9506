//! Follows a run: past events from the store, then live ones.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::JournalError;
use super::replay::{PAGE, page};
use crate::base::RunId;
use crate::event::Recorded;
use crate::ports::store::StoreReader;

/// A reader of one run's events, each exactly once and in order.
///
/// A slow or forgotten subscription cannot hurt the run: the live events stand in a ring of
/// fixed size, and a reader that the ring overtook goes on from the store.
pub struct Subscription {
    store: Arc<dyn StoreReader>,
    /// Absent once the journal is closed.
    live: Option<broadcast::Receiver<Arc<Recorded>>>,
    run: RunId,
    seq: u64,
    /// Read from the store but not handed out yet.
    ready: VecDeque<Arc<Recorded>>,
    /// The store may have events that were neither read nor seen live.
    behind: bool,
}

impl Subscription {
    pub(super) fn new(
        store: Arc<dyn StoreReader>,
        live: Option<broadcast::Receiver<Arc<Recorded>>>,
        run: RunId,
        seq: u64,
    ) -> Self {
        Self {
            store,
            live,
            run,
            seq,
            ready: VecDeque::new(),
            behind: true,
        }
    }

    /// The next event; `None` once the journal is closed and all was read.
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Arc<Recorded>>, JournalError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.seq = event.seq;
                return Ok(Some(event));
            }
            if self.behind {
                self.read().await?;
                continue;
            }
            let Some(live) = &mut self.live else {
                return Ok(None);
            };
            match live.recv().await {
                Ok(event) if event.run == self.run && event.seq > self.seq => {
                    self.seq = event.seq;
                    return Ok(Some(event));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => self.behind = true,
                Err(RecvError::Closed) => self.live = None,
            }
        }
    }

    /// Reads a page from the store.
    async fn read(&mut self) -> Result<(), JournalError> {
        let (store, run, seq) = (Arc::clone(&self.store), self.run.clone(), self.seq);
        let read = tokio::task::spawn_blocking(move || page(&*store, &run, seq));
        let events = match read.await {
            Ok(events) => events?,
            Err(panic) => return Err(JournalError::Crashed(panic.to_string())),
        };
        // A full page may not be the last one.
        self.behind = events.len() == PAGE;
        self.ready.extend(events.into_iter().map(Arc::new));
        Ok(())
    }
}
