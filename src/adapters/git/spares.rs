//! Scratch copies that were given back and wait for the next stage of the same run.
//!
//! Only within a run: what one run leaves in a copy never comes near another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::refresh::is_light;
use super::stamps::Stamps;

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
}

#[derive(Default)]
struct State {
    /// Places in use, and what is known of the copy in each once it is made.
    used: HashMap<PathBuf, Option<Kind>>,
    idle: HashMap<PathBuf, Vec<Spare>>,
}

/// What is known of a copy in use.
struct Kind {
    of: Of,
    /// How it was when it was lent, if that can be told cheaply.
    stamps: Option<Arc<Stamps>>,
}

/// A copy that waits.
pub(super) struct Spare {
    of: Of,
    /// Where it is.
    pub(super) path: PathBuf,
    /// Its stamps, if nothing in it has changed.
    pub(super) unchanged: Option<Arc<Stamps>>,
}

impl Spares {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a copy of a run waits.
    pub(super) fn has(&self, run_dir: &Path, of: Option<&Path>) -> bool {
        self.with(|state| {
            let idle = state.idle.get(run_dir);
            idle.is_some_and(|idle| idle.iter().any(|spare| spare.of.as_deref() == of))
        })
    }

    /// Takes a waiting copy of a run. Its place is in use from now on.
    pub(super) fn take(&self, run_dir: &Path, of: Option<&Path>) -> Option<Spare> {
        self.with(|state| {
            let idle = state.idle.get_mut(run_dir)?;
            let at = idle.iter().position(|spare| spare.of.as_deref() == of)?;
            let spare = idle.swap_remove(at);
            state.used.insert(spare.path.clone(), None);
            Some(spare)
        })
    }

    /// A place below the directory of a run that is in use from now on. Places are numbered: a
    /// copy that moved to a place of its stage's name would cost each stage a change of two
    /// directories.
    pub(super) fn place(&self, run_dir: &Path) -> PathBuf {
        self.with(|state| {
            let idle = state.idle.get(run_dir).map_or(&[][..], Vec::as_slice);
            let taken = |place: &PathBuf| {
                state.used.contains_key(place) || idle.iter().any(|spare| spare.path == *place)
            };
            let place = (1_u64..)
                .map(|number| run_dir.join(number.to_string()))
                .find(|place| !taken(place))
                .expect("there are more numbers than places");
            state.used.insert(place.clone(), None);
            place
        })
    }

    /// Notes what the copy at a place in use is a copy of, and how it is. One of which nothing is
    /// noted is never kept.
    pub(super) fn lend(&self, path: &Path, of: Option<&Path>, stamps: Option<Arc<Stamps>>) {
        let of = of.map(Path::to_owned);
        self.with(|state| {
            state
                .used
                .insert(path.to_owned(), Some(Kind { of, stamps }))
        });
    }

    /// Keeps a copy for later use, where it is; false if it is better removed, and then its place
    /// is in use until it is released.
    pub(super) fn keep(&self, path: &Path) -> bool {
        let known = self.with(|state| state.used.get_mut(path).and_then(Option::take));
        let (Some(kind), Some(run_dir)) = (known, path.parent()) else {
            return false;
        };
        let waiting = self.with(|state| {
            let idle = state.idle.get(run_dir);
            idle.map_or(0, |idle| {
                idle.iter().filter(|spare| spare.of == kind.of).count()
            })
        });
        if waiting >= MAX_IDLE {
            return false;
        }
        let unchanged = kind.stamps.filter(|stamps| stamps.hold(path));
        if unchanged.is_none() && !is_light(path, MAX_ENTRIES, MAX_BYTES) {
            return false;
        }
        let (of, path, run_dir) = (kind.of, path.to_owned(), run_dir.to_owned());
        self.with(|state| {
            state.used.remove(&path);
            state.idle.entry(run_dir).or_default().push(Spare {
                of,
                path,
                unchanged,
            });
        });
        true
    }

    /// Gives a place free at which nothing is any more.
    pub(super) fn release(&self, path: &Path) {
        self.with(|state| state.used.remove(path));
    }

    /// Forgets all copies of a run.
    pub(super) fn forget(&self, run_dir: &Path) {
        self.with(|state| {
            state.idle.remove(run_dir);
            state.used.retain(|path, _| path.parent() != Some(run_dir));
        });
    }
}
