//! Makes this process the one that orphans are handed to, and tells cheaply whether there are any.
//!
//! A process that detaches itself (double fork, `setsid`) loses its parent on purpose. As a "child
//! subreaper" we become its parent instead of init, so that it stays findable below us.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::process::{getpid, set_child_subreaper};

/// The main processes of all stages that run now. One per process, as its children are.
static ACTIVE: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Children of our first thread. The system hands orphans to that one as long as it lives, which
/// in Rust is as long as the process does. Kept open: it is asked after every stage.
static ADOPTED: LazyLock<Option<File>> = LazyLock::new(|| {
    let pid = getpid().as_raw_nonzero();
    File::open(format!("/proc/self/task/{pid}/children")).ok()
});

/// Asks the system to hand us orphans.
pub(super) fn become_one() {
    // Systems that refuse still have groups and markers; nothing else depends on it.
    let _ = set_child_subreaper(Some(getpid()));
}

/// The main processes of all stages that run now.
pub(super) fn active() -> MutexGuard<'static, BTreeSet<i32>> {
    // A set of numbers is never left half changed, so a panic elsewhere does not matter.
    ACTIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether we have a child that is not the main process of a stage: perhaps an orphan of one,
/// perhaps started by another part of this process.
pub(super) fn has_unknown_child() -> bool {
    let Some(file) = ADOPTED.as_ref() else {
        // A system that does not tell makes us look closer.
        return true;
    };
    let mut buffer = [0; 512];
    let Ok(length) = file.read_at(&mut buffer, 0) else {
        return true;
    };
    if length < buffer.len() {
        return lists_unknown(&buffer[..length]);
    }
    // More than fits: read it all, from a handle of its own.
    let pid = getpid().as_raw_nonzero();
    match std::fs::read(format!("/proc/self/task/{pid}/children")) {
        Ok(all) => lists_unknown(&all),
        Err(_) => true,
    }
}

fn lists_unknown(children: &[u8]) -> bool {
    if children.iter().all(u8::is_ascii_whitespace) {
        return false;
    }
    let active = active();
    children
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .any(|word| {
            let pid = str::from_utf8(word).ok().and_then(|word| word.parse().ok());
            !pid.is_some_and(|pid| active.contains(&pid))
        })
}
