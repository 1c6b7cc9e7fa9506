//! Shows a run while it happens: what stages print and what the journal says go through one
//! queue to one reporter on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::base::{RunId, StageId};
use crate::engine::Feed;
use crate::journal::Journal;
use crate::ports::{Progress, ProgressState};
use crate::report::{PartState, Reporter, Signal};

/// Signals that may wait for the reporter. When there is no room the printing stage is held up a
/// little, like any program whose reader is slow, and then goes on without being shown. Logs are
/// complete in the state directory.
const QUEUE: usize = 256;
/// Bytes of logs that may wait for the reporter beside the last piece: this bounds memory.
const QUEUED_BYTES: usize = 8 << 20;
/// Longest time a stage is held up for one chunk.
const PATIENCE: Duration = Duration::from_secs(2);
/// Time between two looks for room.
const PAUSE: Duration = Duration::from_micros(200);
/// Time between two pictures.
const TICK: Duration = Duration::from_millis(100);

/// The way from a run to its reporter.
pub(super) struct Watch {
    queue: mpsc::Sender<Signal>,
    /// Bytes of logs in the queue.
    waiting: Arc<AtomicUsize>,
    unseen: AtomicU64,
    /// The last chunk had to wait too long: do not wait again until there is room.
    slow: AtomicBool,
}

/// The thread that shows.
pub(super) struct Shown {
    thread: std::thread::JoinHandle<()>,
}

impl Shown {
    /// Waits until everything is shown. Call after every [`Watch`] was dropped.
    pub(super) fn finish(self) {
        // A reporter that failed has nothing more to show.
        let _ = self.thread.join();
    }
}

/// Starts a reporter.
pub(super) fn start(mut reporter: Box<dyn Reporter>) -> (Arc<Watch>, Shown) {
    let (queue, mut signals) = mpsc::channel::<Signal>(QUEUE);
    let waiting = Arc::new(AtomicUsize::new(0));
    let in_queue = waiting.clone();
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::spawn(move || {
        runtime.block_on(async {
            let mut tick = tokio::time::interval(TICK);
            loop {
                tokio::select! {
                    signal = signals.recv() => {
                        let Some(signal) = signal else { break };
                        show(&mut *reporter, &signal, &in_queue);
                        // A turn is bounded, so that a flood of signals cannot keep the picture
                        // from being drawn.
                        for _ in 1..QUEUE {
                            let Ok(signal) = signals.try_recv() else { break };
                            show(&mut *reporter, &signal, &in_queue);
                        }
                        reporter.settle();
                    }
                    _ = tick.tick() => reporter.tick(),
                }
            }
        });
        reporter.finish();
    });
    let watch = Watch {
        queue,
        waiting,
        unseen: AtomicU64::new(0),
        slow: AtomicBool::new(false),
    };
    (Arc::new(watch), Shown { thread })
}

/// Shows a signal from the queue.
fn show(reporter: &mut dyn Reporter, signal: &Signal, waiting: &AtomicUsize) {
    reporter.signal(signal);
    if let Signal::Log { bytes, .. } = signal {
        waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
    }
}

impl Watch {
    /// Passes the events of a run on until it has ended.
    pub(super) fn follow(&self, journal: &Journal, run: &RunId) -> tokio::task::JoinHandle<()> {
        let mut events = journal.subscribe(run, 0);
        let queue = self.queue.clone();
        tokio::spawn(async move {
            while let Ok(Some(event)) = events.next().await {
                let ended = matches!(event.event, crate::event::Event::RunFinished { .. });
                if queue.send(Signal::Event((*event).clone())).await.is_err() || ended {
                    break;
                }
            }
        })
    }

    /// Puts output into the queue if there is room.
    fn offer(&self, run: &RunId, stage: &StageId, bytes: &Bytes) -> bool {
        if self.waiting.load(Ordering::Relaxed) > QUEUED_BYTES {
            return false;
        }
        let Ok(place) = self.queue.try_reserve() else {
            return false;
        };
        self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        place.send(Signal::Log {
            run: run.clone(),
            stage: stage.clone(),
            bytes: bytes.clone(),
        });
        true
    }

    /// Bytes of logs that were not shown.
    pub(super) fn unseen(&self) -> u64 {
        self.unseen.load(Ordering::Relaxed)
    }
}

impl Feed for Watch {
    fn log(&self, run: &RunId, stage: &StageId, bytes: &Bytes) {
        let mut began = None;
        loop {
            if self.offer(run, stage, bytes) {
                self.slow.store(false, Ordering::Relaxed);
                return;
            }
            let waited = began.get_or_insert_with(Instant::now).elapsed();
            if waited >= PATIENCE || self.slow.load(Ordering::Relaxed) || self.queue.is_closed() {
                self.slow.store(true, Ordering::Relaxed);
                self.unseen.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn progress(&self, run: &RunId, stage: &StageId, progress: Progress) {
        // Progress is worth showing only while it is new.
        let _ = self.queue.try_send(Signal::Progress {
            run: run.clone(),
            stage: stage.clone(),
            id: progress.id,
            label: progress.label,
            done: progress.done,
            total: progress.total,
            state: match progress.state {
                ProgressState::Running => PartState::Running,
                ProgressState::Done => PartState::Done,
                ProgressState::Cached => PartState::Cached,
                ProgressState::Failed => PartState::Failed,
            },
        });
    }
}
