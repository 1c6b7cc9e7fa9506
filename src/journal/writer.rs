//! The task that writes: drains the queue, commits, tells everybody.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::{JournalError, Shared};
use crate::base::{RunId, Timestamp};
use crate::event::{Event, Recorded};
use crate::ports::store::{Change, NewEvent, Store, StoreError};

/// Most messages in one transaction: it bounds how long readers of the database may wait.
const BATCH: usize = 4096;

/// Least time between two transactions that nobody waits for. A run of thousands of short stages
/// would otherwise cost one for nearly each of its events; one event alone is written at once.
const PACE: Duration = Duration::from_millis(10);

/// What a handle sends.
pub(super) struct Message {
    pub(super) at: Timestamp,
    pub(super) events: Vec<(RunId, Event)>,
    pub(super) changes: Vec<Change>,
    pub(super) done: Option<oneshot::Sender<Result<Vec<u64>, JournalError>>>,
}

pub(super) struct Writer {
    store: Arc<dyn Store>,
    inbox: mpsc::UnboundedReceiver<Message>,
    ring: broadcast::Sender<Arc<Recorded>>,
    shared: Arc<Shared>,
    /// Time never runs backwards in a journal.
    latest: Timestamp,
}

/// What became of a batch, and the batch.
type Committed = (Vec<Message>, Vec<NewEvent>, Result<Vec<u64>, JournalError>);

impl Writer {
    pub(super) fn new(
        store: Arc<dyn Store>,
        inbox: mpsc::UnboundedReceiver<Message>,
        ring: broadcast::Sender<Arc<Recorded>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            store,
            inbox,
            ring,
            shared,
            latest: Timestamp(i64::MIN),
        }
    }

    /// Writes until every handle is gone and the queue is empty.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::new();
        let mut next = Instant::now();
        while self.inbox.recv_many(&mut batch, BATCH).await > 0 {
            self.gather(&mut batch, next).await;
            next = Instant::now() + PACE;
            let mut messages = std::mem::take(&mut batch);
            if let Some(error) = self.shared.failure.get() {
                refuse(messages, error);
                continue;
            }
            for message in &mut messages {
                message.at = message.at.max(self.latest);
                self.latest = message.at;
            }
            let store = Arc::clone(&self.store);
            // A blocking task, not a thread of our own: tokio's paused clock does not run ahead
            // while one is busy, so simulated runs keep their time.
            let work = tokio::task::spawn_blocking(move || commit(&*store, messages));
            match work.await {
                Ok((messages, events, Ok(seqs))) => self.tell(messages, events, &seqs),
                Ok((messages, _, Err(error))) => {
                    let _ = self.shared.failure.set(error.clone());
                    refuse(messages, &error);
                }
                Err(panic) => {
                    // Those who wait are told by the closed channel of their lost message.
                    let error = JournalError::Crashed(panic.to_string());
                    let _ = self.shared.failure.set(error);
                }
            }
        }
    }

    /// Takes in what comes until a moment, or until somebody waits for the commit. Sleeps until
    /// then: being woken for every event of a run of thousands of short stages would cost it more
    /// than writing them.
    async fn gather(&mut self, batch: &mut Vec<Message>, until: Instant) {
        loop {
            let room = BATCH.saturating_sub(batch.len());
            batch.extend(std::iter::from_fn(|| self.inbox.try_recv().ok()).take(room));
            let waited_for = batch.iter().any(|message| message.done.is_some());
            if waited_for || batch.len() >= BATCH || Instant::now() >= until {
                return;
            }
            tokio::select! {
                () = self.shared.urgent.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Answers those who wait and shows the events to subscribers.
    fn tell(&self, messages: Vec<Message>, events: Vec<NewEvent>, seqs: &[u64]) {
        let mut places = events.into_iter().zip(seqs);
        for message in messages {
            let mut answer = Vec::with_capacity(message.events.len());
            for (_, event) in message.events {
                let Some((stored, seq)) = places.next() else {
                    break;
                };
                answer.push(*seq);
                // Fails only if nobody listens.
                let _ = self.ring.send(Arc::new(Recorded {
                    seq: *seq,
                    at: stored.at,
                    run: stored.run,
                    event,
                }));
            }
            if let Some(done) = message.done {
                let _ = done.send(Ok(answer));
            }
        }
    }
}

/// Writes a batch as one transaction.
fn commit(store: &dyn Store, mut messages: Vec<Message>) -> Committed {
    let mut events = Vec::new();
    let mut changes = Vec::new();
    for message in &mut messages {
        changes.append(&mut message.changes);
        for (run, event) in &message.events {
            match serde_json::to_string(event) {
                Ok(json) => events.push(NewEvent {
                    at: message.at,
                    run: run.clone(),
                    json,
                }),
                Err(error) => {
                    let message = format!("an event of run {run} cannot be written: {error}");
                    return (messages, events, Err(StoreError::Broken(message).into()));
                }
            }
        }
    }
    if events.is_empty() && changes.is_empty() {
        return (messages, events, Ok(Vec::new()));
    }
    let result = store.append(&events, &changes).map_err(JournalError::from);
    (messages, events, result)
}

fn refuse(messages: Vec<Message>, error: &JournalError) {
    for done in messages.into_iter().filter_map(|message| message.done) {
        let _ = done.send(Err(error.clone()));
    }
}
