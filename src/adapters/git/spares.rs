//! Scratch copies that were given back and wait for the next stage of the same run.
//!
//! Only within a run: what one run leaves in a copy never comes near another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::refresh::is_light;

/// How many copies of one tree wait in a run; more than that never run at once on one machine.
const MAX_IDLE: usize = 64;
/// Heavier copies are removed at once: most of what is in them would be removed anyway, and the
/// space is needed.
const MAX_ENTRIES: usize = 2_000;
const MAX_BYTES: u64 = 16 << 20;

/// What a copy is a copy of; nothing for an empty directory.
type Of = Option<PathBuf>;

#[derive(Default)]
pub(super) struct Spares {
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Default)]
struct State {
    used: HashMap<PathBuf, Of>,
    idle: HashMap<PathBuf, Vec<(Of, PathBuf)>>,
}

impl Spares {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a copy of a run waits.
    pub(super) fn has(&self, run_dir: &Path, of: Option<&Path>) -> bool {
        self.with(|state| {
            let idle = state.idle.get(run_dir);
            idle.is_some_and(|idle| idle.iter().any(|(kind, _)| kind.as_deref() == of))
        })
    }

    /// Takes a waiting copy of a run.
    pub(super) fn take(&self, run_dir: &Path, of: Option<&Path>) -> Option<PathBuf> {
        self.with(|state| {
            let idle = state.idle.get_mut(run_dir)?;
            let at = idle.iter().position(|(kind, _)| kind.as_deref() == of)?;
            Some(idle.swap_remove(at).1)
        })
    }

    /// Notes what a copy in use is a copy of.
    pub(super) fn lend(&self, path: &Path, of: Option<&Path>) {
        let of = of.map(Path::to_owned);
        self.with(|state| state.used.insert(path.to_owned(), of));
    }

    /// Puts a copy aside for later use; false if it is better removed.
    pub(super) fn keep(&self, path: &Path) -> bool {
        let (Some(of), Some(run_dir)) = (self.with(|state| state.used.remove(path)), path.parent())
        else {
            return false;
        };
        let waiting = self.with(|state| {
            let idle = state.idle.get(run_dir);
            idle.map_or(0, |idle| {
                idle.iter().filter(|(kind, _)| *kind == of).count()
            })
        });
        if waiting >= MAX_IDLE || !is_light(path, MAX_ENTRIES, MAX_BYTES) {
            return false;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // No stage's directory starts with a dot.
        let spare = run_dir.join(format!(".spare-{}-{number}", std::process::id()));
        if std::fs::rename(path, &spare).is_err() {
            return false;
        }
        let run_dir = run_dir.to_owned();
        self.with(|state| state.idle.entry(run_dir).or_default().push((of, spare)));
        true
    }

    /// Forgets all copies of a run.
    pub(super) fn forget(&self, run_dir: &Path) {
        self.with(|state| {
            state.idle.remove(run_dir);
            state.used.retain(|path, _| path.parent() != Some(run_dir));
        });
    }
}
