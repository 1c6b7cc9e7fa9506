//! Concurrency groups across processes: a fair queue of ticket files.
//!
//! Each place, waiting (`w-N`) or held (`h-N`), is a file locked by its process; a ticket that
//! is not locked belongs to a dead process and is removed by whoever looks next. All looking and
//! changing happens under the lock of the group. A ticket says: limit, arrival, order.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::error;
use super::lock::{self, LockedFile};
use crate::base::Digest;
use crate::ports::store::StoreError;

/// Longest order that is accepted, in bytes.
const LONGEST_ORDER: usize = 1024;

/// The groups of a state directory and the places this store waits for.
#[derive(Debug)]
pub(super) struct Groups {
    dir: PathBuf,
    waiting: Mutex<HashMap<(String, String), Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    ticket: LockedFile,
    arrival: u64,
}

/// A live ticket as read from its file.
struct Seen {
    arrival: u64,
    holds: bool,
    limit: u32,
    order: String,
}

impl Groups {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            waiting: Mutex::default(),
        }
    }

    /// Asks for a place; the caller waits (and keeps its rank) until it gets one or leaves.
    pub(super) fn enter(
        &self,
        group: &str,
        limit: u32,
        order: &str,
    ) -> Result<Option<LockedFile>, StoreError> {
        if order.len() > LONGEST_ORDER {
            return Err(StoreError::Broken(format!(
                "an order in group \"{group}\" is longer than {LONGEST_ORDER} bytes"
            )));
        }
        let limit = limit.max(1);
        // Names of groups are free text; a hash is a safe file name.
        let dir = self.dir.join(&Digest::of(group.as_bytes()).hex()[..32]);
        let _section = lock::wait(&dir.join("lock"), &format!("concurrency group \"{group}\""))?;
        let others = live(&dir)?;

        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (group.to_owned(), order.to_owned());
        let mine = match all.remove(&key) {
            Some(waiting) => waiting,
            None => {
                let arrival = others.iter().map(|seen| seen.arrival).max().unwrap_or(0) + 1;
                let content = format!("{limit}\n{order}");
                let path = dir.join(format!("w-{arrival}"));
                Waiting {
                    ticket: lock::create_locked(path, content.as_bytes())?,
                    arrival,
                }
            }
        };
        let others = || others.iter().filter(|seen| seen.arrival != mine.arrival);
        let limit = others()
            .map(|seen| seen.limit)
            .min()
            .unwrap_or(limit)
            .min(limit);
        let rank = (order, mine.arrival);
        let before_me = others()
            .filter(|seen| seen.holds || (seen.order.as_str(), seen.arrival) < rank)
            .count();
        if before_me < limit as usize {
            let mut ticket = mine.ticket;
            let path = dir.join(format!("h-{}", mine.arrival));
            std::fs::rename(&ticket.path, &path)
                .map_err(|cause| error::io(&ticket.path, &cause))?;
            ticket.path = path;
            return Ok(Some(ticket));
        }
        all.insert(key, mine);
        Ok(None)
    }

    /// Gives up a waiting place.
    pub(super) fn leave(&self, group: &str, order: &str) {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(group.to_owned(), order.to_owned()));
    }
}

/// The tickets of live processes; removes those of dead ones.
fn live(dir: &Path) -> Result<Vec<Seen>, StoreError> {
    let entries = std::fs::read_dir(dir).map_err(|cause| error::io(dir, &cause))?;
    let mut seen = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|cause| error::io(dir, &cause))?;
        let name = entry.file_name();
        let Some((state, arrival)) = name.to_str().and_then(|name| name.split_once('-')) else {
            continue;
        };
        let Ok(arrival) = arrival.parse() else {
            continue;
        };
        // A holder removes its ticket without the group's lock.
        let Ok(file) = File::open(entry.path()) else {
            continue;
        };
        if !lock::is_locked(&file).map_err(|cause| error::io(&entry.path(), &cause))? {
            let _ = std::fs::remove_file(entry.path());
            continue;
        }
        let mut content = String::new();
        let _ = file
            .take(LONGEST_ORDER as u64 + 16)
            .read_to_string(&mut content);
        let (limit, order) = content.split_once('\n').unwrap_or(("", ""));
        seen.push(Seen {
            arrival,
            holds: state == "h",
            limit: limit.parse().unwrap_or(u32::MAX),
            order: order.to_owned(),
        });
    }
    Ok(seen)
}
