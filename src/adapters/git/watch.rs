//! Runs blocking work that may hang on a thread of its own, and gives up on it in time.
//!
//! libgit2 waits for the network without a limit (its timeout settings are process-wide and unsafe
//! to call). So the work reports signs of life, and when they stop the caller goes on without it:
//! the abandoned thread keeps neither its lock nor its mirror. It is no thread of the runtime,
//! whose shutdown would wait for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::files;
use super::lock::FileLock;

/// How long a remote may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Without any byte or message from it.
    pub idle: Duration,
    /// For one operation in all.
    pub total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A hook on the other side may be silent for a while.
            idle: Duration::from_secs(120),
            total: Duration::from_secs(30 * 60),
        }
    }
}

/// What the caller and its thread know of each other.
#[derive(Debug, Default)]
pub(super) struct Watch {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the clock began to run; before that the thread waits for its lock.
    since: Option<Instant>,
    alive: Option<Instant>,
    given_up: bool,
    /// What to take away from the thread when the caller gives up.
    lock: Option<Arc<FileLock>>,
    mirror: Option<PathBuf>,
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the clock: the thread has its lock and may use the mirror. False if it is too late.
    pub(super) fn start(&self, lock: FileLock, mirror: PathBuf) -> bool {
        let mut state = self.state();
        if state.given_up {
            return false;
        }
        let now = Instant::now();
        state.since = Some(now);
        state.alive = Some(now);
        state.lock = Some(Arc::new(lock));
        state.mirror = Some(mirror);
        true
    }

    /// A sign of life. False if nobody waits any more, so that the work may as well stop.
    pub(super) fn beat(&self) -> bool {
        let mut state = self.state();
        state.alive = Some(Instant::now());
        !state.given_up
    }

    /// Does something to the mirror unless it has been taken away.
    pub(super) fn while_owned<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let state = self.state();
        (!state.given_up).then(work)
    }

    /// Ends the thread's hold on the mirror.
    fn finish(&self) {
        let mut state = self.state();
        if let Some(lock) = state.lock.take() {
            lock.release();
        }
        state.mirror = None;
    }

    /// Why to give up now, if so.
    fn overdue(&self, limits: Limits) -> Option<String> {
        let state = self.state();
        let (since, alive) = (state.since?, state.alive?);
        if since.elapsed() > limits.total {
            let limit = crate::base::human_duration(limits.total);
            return Some(format!("not done after {limit}"));
        }
        if alive.elapsed() > limits.idle {
            let limit = crate::base::human_duration(limits.idle);
            return Some(format!("timeout: no sign of life for {limit}"));
        }
        None
    }

    /// Takes lock and mirror away from the thread.
    fn give_up(&self) {
        let mut state = self.state();
        state.given_up = true;
        if let Some(mirror) = state.mirror.take() {
            // The thread may still write there; whoever comes next starts with a new mirror.
            let mut aside = mirror.clone().into_os_string();
            aside.push(format!(".{}.given-up", std::process::id()));
            let aside = PathBuf::from(aside);
            let _ = files::remove(&aside);
            let _ = std::fs::rename(&mirror, &aside);
            let _ = files::remove(&aside);
        }
        if let Some(lock) = state.lock.take() {
            lock.release();
        }
    }
}

/// Gives up when the caller's future is dropped.
struct Guard(Arc<Watch>, bool);

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.1 {
            self.0.give_up();
        }
    }
}

/// Runs work on a thread; the error says why it was given up.
pub(super) async fn watched<T, F>(limits: Limits, work: F) -> Result<T, String>
where
    T: Send + 'static,
    F: FnOnce(&Arc<Watch>) -> T + Send + 'static,
{
    let watch = Arc::new(Watch::default());
    let theirs = Arc::clone(&watch);
    let (send, mut receive) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("git-remote".to_owned())
        .spawn(move || {
            let result = work(&theirs);
            theirs.finish();
            // Nobody waits if they gave up.
            let _ = send.send(result);
        })
        .map_err(|error| format!("starting a thread: {error}"))?;
    let mut guard = Guard(Arc::clone(&watch), false);
    let pause = (limits.idle / 10).clamp(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        match tokio::time::timeout(pause, &mut receive).await {
            Ok(result) => {
                guard.1 = true;
                return result.map_err(|_| "its thread panicked".to_owned());
            }
            Err(_) => {
                if let Some(reason) = watch.overdue(limits) {
                    return Err(reason);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hanging_thread_loses_lock_and_mirror() {
        let dir = tempfile::tempdir().expect("dir");
        let (path, mirror) = (dir.path().join("l"), dir.path().join("m"));
        std::fs::create_dir(&mirror).expect("mkdir");
        let limits = Limits {
            idle: Duration::from_millis(50),
            total: Duration::from_secs(60),
        };
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (lock_path, gone) = (path.clone(), mirror.clone());
        let result = watched(limits, move |watch| {
            let lock = FileLock::exclusive(&lock_path).expect("lock");
            assert!(watch.start(lock, gone));
            // Waits until the test lets go.
            let _ = held.recv();
            assert!(!watch.beat());
            assert!(watch.while_owned(|| ()).is_none());
        })
        .await;
        assert!(result.expect_err("given up").contains("no sign of life"));
        assert!(!mirror.exists());
        assert!(FileLock::try_exclusive(&path).expect("try").is_some());
        drop(hold);
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let result = watched(Limits::default(), |_| panic!("on purpose")).await;
        let error: String = result.map(|()| String::new()).expect_err("a panic");
        assert!(error.contains("panicked"), "{error}");
    }
}
