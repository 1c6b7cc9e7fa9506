//! A store that forgets everything with its process: for simulation and tests.
//!
//! As strict as the real one: the same calls are refused. It can also be told to be full.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::base::{Digest, RunId};
use crate::ports::store::{
    Change, Hold, LogWriter, NewEvent, RunRow, Store, StoreError, StoreReader, StoredEvent,
};

/// A store in memory. Clones share their content.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    /// What `append` changes, apart so that a refused batch leaves nothing.
    tables: Tables,
    blobs: HashMap<String, Vec<u8>>,
    logs: HashMap<(RunId, String), Vec<u8>>,
    held: HashMap<RunId, u64>,
    tickets: Vec<Ticket>,
    /// Numbers for holds and tickets.
    next: u64,
    failure: Option<(usize, StoreError)>,
}

#[derive(Clone, Debug, Default)]
struct Tables {
    seq: u64,
    /// Oldest first.
    runs: Vec<RunRow>,
    places: HashMap<RunId, usize>,
    events: HashMap<RunId, Vec<StoredEvent>>,
    facts: BTreeMap<(String, String), String>,
    cancels: HashMap<RunId, String>,
}

#[derive(Clone, Debug)]
struct Ticket {
    number: u64,
    group: String,
    limit: u32,
    order: String,
    holds: bool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes every write after the next `appends` batches of events fail with `error`.
    pub fn fail_after(&self, appends: usize, error: StoreError) {
        self.lock().failure = Some((appends, error));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn check(&self) -> Result<(), StoreError> {
        match &self.failure {
            Some((0, error)) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Tables {
    fn row(&mut self, run: &RunId) -> Result<&mut RunRow, StoreError> {
        match self.places.get(run) {
            Some(place) => Ok(&mut self.runs[*place]),
            None => Err(unknown(run)),
        }
    }

    /// Makes a change that [`Tables::check`] let pass.
    fn make(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::CreateRun(row) => {
                self.places.insert(row.run.clone(), self.runs.len());
                self.runs.push(row.clone());
            }
            Change::FinishRun { run, at, outcome } => {
                let row = self.row(run)?;
                row.finished = Some(*at);
                row.outcome = Some(outcome.clone());
            }
            Change::ReopenRun(run) => {
                let row = self.row(run)?;
                row.finished = None;
                row.outcome = None;
                self.cancels.remove(run);
            }
            Change::SetFact { scope, key, value } => {
                let key = (scope.clone(), key.clone());
                self.facts.insert(key, value.clone());
            }
        }
        Ok(())
    }

    /// Refuses a batch before anything of it is done.
    fn check(&self, events: &[NewEvent], changes: &[Change]) -> Result<(), StoreError> {
        let mut created: Vec<&RunId> = Vec::new();
        for change in changes {
            match change {
                Change::CreateRun(row) => {
                    if self.places.contains_key(&row.run) || created.contains(&&row.run) {
                        let message = format!("run {} already exists", row.run);
                        return Err(StoreError::Broken(message));
                    }
                    created.push(&row.run);
                }
                Change::FinishRun { run, .. } | Change::ReopenRun(run) => {
                    if !self.places.contains_key(run) && !created.contains(&run) {
                        return Err(unknown(run));
                    }
                }
                Change::SetFact { .. } => {}
            }
        }
        match events
            .iter()
            .find(|event| !self.places.contains_key(&event.run) && !created.contains(&&event.run))
        {
            Some(event) => Err(unknown(&event.run)),
            None => Ok(()),
        }
    }
}

impl StoreReader for MemoryStore {
    fn events(
        &self,
        run: &RunId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let inner = self.lock();
        let all = inner.tables.events.get(run).map_or(&[][..], Vec::as_slice);
        let from = all.partition_point(|event| event.seq <= after);
        Ok(all[from..].iter().take(limit).cloned().collect())
    }

    fn runs(&self, pipeline: Option<&str>, limit: usize) -> Result<Vec<RunRow>, StoreError> {
        let inner = self.lock();
        let rows = inner.tables.runs.iter().rev();
        Ok(rows
            .filter(|row| pipeline.is_none_or(|pipeline| row.pipeline == pipeline))
            .take(limit)
            .cloned()
            .collect())
    }

    fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError> {
        let inner = self.lock();
        let place = inner.tables.places.get(run);
        Ok(place.map(|place| inner.tables.runs[*place].clone()))
    }

    fn runs_ending(&self, suffix: &str) -> Result<Vec<RunRow>, StoreError> {
        let inner = self.lock();
        let rows = inner.tables.runs.iter().rev();
        Ok(rows
            .filter(|row| row.run.as_str().ends_with(suffix))
            .take(10)
            .cloned()
            .collect())
    }

    fn chained(&self, upstream: &RunId) -> Result<Vec<RunRow>, StoreError> {
        let inner = self.lock();
        let rows = inner.tables.runs.iter();
        Ok(rows
            .filter(|row| row.upstream.as_ref() == Some(upstream))
            .cloned()
            .collect())
    }

    fn unfinished(&self) -> Result<Vec<RunRow>, StoreError> {
        let inner = self.lock();
        let rows = inner.tables.runs.iter();
        Ok(rows.filter(|row| row.outcome.is_none()).cloned().collect())
    }

    fn fact(&self, scope: &str, key: &str) -> Result<Option<String>, StoreError> {
        let key = (scope.to_owned(), key.to_owned());
        Ok(self.lock().tables.facts.get(&key).cloned())
    }

    fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().blobs.get(digest).cloned())
    }

    fn is_held(&self, run: &RunId) -> Result<bool, StoreError> {
        Ok(self.lock().held.contains_key(run))
    }

    fn log(
        &self,
        run: &RunId,
        stage_file: &str,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let inner = self.lock();
        let Some(log) = inner.logs.get(&(run.clone(), stage_file.to_owned())) else {
            return Ok(Vec::new());
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(log.len());
        Ok(log[from..].iter().take(limit).copied().collect())
    }
}

impl Store for MemoryStore {
    fn append(&self, events: &[NewEvent], changes: &[Change]) -> Result<Vec<u64>, StoreError> {
        let mut inner = self.lock();
        inner.check()?;
        inner.tables.check(events, changes)?;
        for change in changes {
            inner.tables.make(change)?;
        }
        let mut seqs = Vec::with_capacity(events.len());
        for event in events {
            inner.tables.seq += 1;
            let seq = inner.tables.seq;
            let all = inner.tables.events.entry(event.run.clone()).or_default();
            all.push(StoredEvent {
                seq,
                at: event.at,
                run: event.run.clone(),
                json: event.json.clone(),
            });
            seqs.push(seq);
        }
        if let Some((left, _)) = &mut inner.failure {
            *left -= 1;
        }
        Ok(seqs)
    }

    fn put_blob(&self, bytes: &[u8]) -> Result<String, StoreError> {
        let mut inner = self.lock();
        inner.check()?;
        let digest = Digest::of(bytes).hex().to_owned();
        inner.blobs.insert(digest.clone(), bytes.to_vec());
        Ok(digest)
    }

    fn hold_run(&self, run: &RunId) -> Result<Box<dyn Hold>, StoreError> {
        let mut inner = self.lock();
        if inner.held.contains_key(run) {
            return Err(StoreError::Held(format!(
                "run {run} is being worked on by this process; wait until it ends, or stop it \
                 with `pipewright cancel {run}`"
            )));
        }
        let number = inner.number();
        inner.held.insert(run.clone(), number);
        Ok(Box::new(HeldRun {
            store: self.clone(),
            run: run.clone(),
        }))
    }

    fn enter_group(
        &self,
        group: &str,
        limit: u32,
        order: &str,
    ) -> Result<Option<Box<dyn Hold>>, StoreError> {
        let mut inner = self.lock();
        let waiting = inner
            .tickets
            .iter()
            .position(|ticket| !ticket.holds && ticket.group == group && ticket.order == order);
        let place = match waiting {
            Some(place) => place,
            None => {
                let number = inner.number();
                inner.tickets.push(Ticket {
                    number,
                    group: group.to_owned(),
                    limit: limit.max(1),
                    order: order.to_owned(),
                    holds: false,
                });
                inner.tickets.len() - 1
            }
        };
        let number = inner.tickets[place].number;
        let members = || inner.tickets.iter().filter(|ticket| ticket.group == group);
        let limit = members().map(|ticket| ticket.limit).min().unwrap_or(1);
        let before_me = members()
            .filter(|ticket| {
                ticket.number != number
                    && (ticket.holds || (ticket.order.as_str(), ticket.number) < (order, number))
            })
            .count();
        if before_me >= limit as usize {
            return Ok(None);
        }
        inner.tickets[place].holds = true;
        Ok(Some(Box::new(HeldPlace {
            store: self.clone(),
            number,
        })))
    }

    fn leave_group(&self, group: &str, order: &str) {
        self.lock()
            .tickets
            .retain(|ticket| ticket.holds || ticket.group != group || ticket.order != order);
    }

    fn log_writer(&self, run: &RunId, stage_file: &str) -> Result<Box<dyn LogWriter>, StoreError> {
        Ok(Box::new(MemoryLog {
            store: self.clone(),
            key: (run.clone(), stage_file.to_owned()),
            buffer: Vec::new(),
        }))
    }

    fn request_cancel(&self, run: &RunId, by: &str) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.check()?;
        inner.tables.row(run)?;
        let by = by.to_owned();
        inner.tables.cancels.entry(run.clone()).or_insert(by);
        Ok(())
    }

    fn cancel_requested(&self, run: &RunId) -> Result<Option<String>, StoreError> {
        Ok(self.lock().tables.cancels.get(run).cloned())
    }
}

fn unknown(run: &RunId) -> StoreError {
    StoreError::Broken(format!("there is no run {run}"))
}

struct HeldRun {
    store: MemoryStore,
    run: RunId,
}

impl Hold for HeldRun {}

impl Drop for HeldRun {
    fn drop(&mut self) {
        self.store.lock().held.remove(&self.run);
    }
}

struct HeldPlace {
    store: MemoryStore,
    number: u64,
}

impl Hold for HeldPlace {}

impl Drop for HeldPlace {
    fn drop(&mut self) {
        let number = self.number;
        let mut inner = self.store.lock();
        inner.tickets.retain(|ticket| ticket.number != number);
    }
}

/// Like the real one, shows to others only what was flushed.
struct MemoryLog {
    store: MemoryStore,
    key: (RunId, String),
    buffer: Vec<u8>,
}

impl LogWriter for MemoryLog {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if !self.buffer.is_empty() {
            let mut inner = self.store.lock();
            inner.check()?;
            let log = inner.logs.entry(self.key.clone()).or_default();
            log.append(&mut self.buffer);
        }
        Ok(())
    }
}

impl Drop for MemoryLog {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}
