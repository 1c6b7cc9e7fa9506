//! The run's memory: the single writer, and replay.
//!
//! All events of a process go through one [`Journal`]. Its task stamps them, commits whatever is
//! queued as one transaction (group commit) and only then shows them to subscribers, so nobody
//! ever sees an event that a crash could undo. Live view and replay are one path: a
//! [`Subscription`] that falls behind reads on from the store.
//!
//! Does not know what an event means beyond its version, and performs no effect: the store does.

mod error;
mod replay;
mod subscription;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;

pub use self::error::JournalError;
pub use self::replay::{replay, tail};
pub use self::subscription::Subscription;

use self::writer::{Message, Writer};
use crate::base::{RunId, Timestamp};
use crate::event::{Event, Recorded};
use crate::ports::clock::Clock;
use crate::ports::store::{Change, Store, StoreReader};

/// Events a subscriber may fall behind before it has to read them from the store.
const RING: usize = 4096;

/// A handle to the journal; clones lead to the same one.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
    /// Unbounded: `record` must never wait, and a plan bounds how many events a run can have.
    queue: mpsc::UnboundedSender<Message>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    store: Arc<dyn StoreReader>,
    failure: OnceLock<JournalError>,
    /// The ring is shared by all subscribers; a slow one loses its place, not our memory.
    ring: broadcast::WeakSender<Arc<Recorded>>,
    /// Told when somebody waits for what was sent.
    urgent: Notify,
}

/// The journal's task. Ends when every [`Journal`] is dropped and all is written.
#[derive(Debug)]
#[must_use = "the journal is only complete once its task was awaited"]
pub struct JournalTask(JoinHandle<()>);

impl JournalTask {
    /// Waits until everything is written and every [`Journal`] is dropped.
    pub async fn finished(self) {
        // A panic of the store is already recorded as the journal's failure.
        let _ = self.0.await;
    }
}

impl Journal {
    /// Starts a journal on a store. Needs a tokio runtime.
    pub fn spawn(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> (Self, JournalTask) {
        let (queue, inbox) = mpsc::unbounded_channel();
        let (ring, _) = broadcast::channel(RING);
        let shared = Arc::new(Shared {
            clock,
            store: Arc::clone(&store) as Arc<dyn StoreReader>,
            failure: OnceLock::new(),
            ring: ring.downgrade(),
            urgent: Notify::new(),
        });
        let writer = Writer::new(store, inbox, ring, Arc::clone(&shared));
        let task = JournalTask(tokio::spawn(writer.run()));
        (Self { shared, queue }, task)
    }

    /// Records an event soon. It is lost if the process is killed first; whoever depends on it
    /// uses [`Journal::record_durable`].
    pub fn record(&self, run: &RunId, event: Event) {
        self.send(vec![(run.clone(), event)], Vec::new(), None);
    }

    /// Records an event soon, with changes in the same transaction.
    pub fn record_with(&self, run: &RunId, event: Event, changes: Vec<Change>) {
        self.send(vec![(run.clone(), event)], changes, None);
    }

    /// Records an event and returns its place once it is committed: it survives `kill -9`.
    pub async fn record_durable(&self, run: &RunId, event: Event) -> Result<u64, JournalError> {
        let seqs = self.commit(vec![(run.clone(), event)], Vec::new()).await?;
        seqs.first().copied().ok_or(JournalError::Closed)
    }

    /// Records events and changes in one transaction; returns their places once it is committed.
    ///
    /// Everything recorded before by the same caller is committed as well.
    pub async fn commit(
        &self,
        events: Vec<(RunId, Event)>,
        changes: Vec<Change>,
    ) -> Result<Vec<u64>, JournalError> {
        let (done, wait) = oneshot::channel();
        self.send(events, changes, Some(done));
        wait.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Waits until everything recorded so far is committed.
    pub async fn flush(&self) -> Result<(), JournalError> {
        self.commit(Vec::new(), Vec::new()).await.map(drop)
    }

    /// Why the journal cannot write any more, if so. Nothing may be done to the world then.
    pub fn failed(&self) -> Option<JournalError> {
        self.shared.failure.get().cloned()
    }

    /// Follows one run from after `seq` (0: from its beginning): first what the store has, then
    /// what is recorded from now on.
    pub fn subscribe(&self, run: &RunId, seq: u64) -> Subscription {
        let live = self.shared.ring.upgrade().map(|ring| ring.subscribe());
        Subscription::new(Arc::clone(&self.shared.store), live, run.clone(), seq)
    }

    fn send(
        &self,
        events: Vec<(RunId, Event)>,
        changes: Vec<Change>,
        done: Option<oneshot::Sender<Result<Vec<u64>, JournalError>>>,
    ) {
        let message = Message {
            at: self.now(),
            events,
            changes,
            done,
        };
        let is_waited_for = message.done.is_some();
        // If the task is gone, dropping `done` tells those who wait.
        let _ = self.queue.send(message);
        if is_waited_for {
            self.shared.urgent.notify_one();
        }
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }
}
