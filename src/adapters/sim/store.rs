//! The real store behind a door that shuts when the simulated process dies: nothing that the
//! old life does after its crash reaches the journal.

use std::sync::Arc;

use super::call::{Call, Life};
use super::fault::{Failure, Fault, PortError};
use super::ledger::Rule;
use crate::base::RunId;
use crate::ports::store::{
    Change, Hold, LogWriter, NewEvent, RunRow, Store, StoreError, StoreReader, StoredEvent,
};

/// A store as one life of the process sees it.
pub(super) struct MortalStore {
    pub(super) life: Life,
    pub(super) inner: Arc<dyn Store>,
}

impl MortalStore {
    fn alive(&self) -> Result<(), StoreError> {
        if self.life.state().is_some() {
            return Ok(());
        }
        Err(StoreError::Broken(
            "the simulated process has crashed".to_owned(),
        ))
    }
}

impl StoreReader for MortalStore {
    fn events(
        &self,
        run: &RunId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.inner.events(run, after, limit)
    }

    fn runs(&self, pipeline: Option<&str>, limit: usize) -> Result<Vec<RunRow>, StoreError> {
        self.inner.runs(pipeline, limit)
    }

    fn run(&self, run: &RunId) -> Result<Option<RunRow>, StoreError> {
        self.inner.run(run)
    }

    fn runs_ending(&self, suffix: &str) -> Result<Vec<RunRow>, StoreError> {
        self.inner.runs_ending(suffix)
    }

    fn chained(&self, upstream: &RunId) -> Result<Vec<RunRow>, StoreError> {
        self.inner.chained(upstream)
    }

    fn unfinished(&self) -> Result<Vec<RunRow>, StoreError> {
        self.inner.unfinished()
    }

    fn fact(&self, scope: &str, key: &str) -> Result<Option<String>, StoreError> {
        self.inner.fact(scope, key)
    }

    fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.blob(digest)
    }

    fn is_held(&self, run: &RunId) -> Result<bool, StoreError> {
        self.inner.is_held(run)
    }

    fn log(
        &self,
        run: &RunId,
        stage_file: &str,
        offset: u64,
        limit: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.inner.log(run, stage_file, offset, limit)
    }
}

impl Store for MortalStore {
    fn append(&self, events: &[NewEvent], changes: &[Change]) -> Result<Vec<u64>, StoreError> {
        self.alive()?;
        let runs = events.iter().map(|event| event.run.to_string());
        let texts = events.iter().map(|event| event.json.clone());
        let call = Call::new("store.append", runs.chain(texts));
        let faults = match self.life.state() {
            Some(mut state) => {
                state.check_leaks(&call, "the journal", events.iter().map(|e| &*e.json));
                state.meet(&call)
            }
            None => return self.alive().map(|()| Vec::new()),
        };
        let told = |failure: &Failure| {
            StoreError::of(failure, &call).unwrap_or_else(|| {
                let message = format!("the store cannot fail with {failure:?}");
                if let Some(mut state) = self.life.state() {
                    state.violate(Rule::BadFault, &call, message.clone());
                }
                StoreError::broken(&call, message)
            })
        };
        for fault in &faults {
            match fault {
                Fault::CrashBefore => self.life.kill(),
                Fault::Fail { with, .. } => return Err(told(with)),
                _ => {}
            }
        }
        self.alive()?;
        let numbers = self.inner.append(events, changes)?;
        for fault in &faults {
            match fault {
                Fault::CrashAfter => self.life.kill(),
                Fault::LoseAnswer { with, .. } => return Err(told(with)),
                _ => {}
            }
        }
        self.alive()?;
        Ok(numbers)
    }

    fn put_blob(&self, bytes: &[u8]) -> Result<String, StoreError> {
        self.alive()?;
        self.inner.put_blob(bytes)
    }

    fn hold_run(&self, run: &RunId) -> Result<Box<dyn Hold>, StoreError> {
        self.alive()?;
        self.inner.hold_run(run)
    }

    fn enter_group(
        &self,
        group: &str,
        limit: u32,
        order: &str,
    ) -> Result<Option<Box<dyn Hold>>, StoreError> {
        self.alive()?;
        self.inner.enter_group(group, limit, order)
    }

    fn leave_group(&self, group: &str, order: &str) {
        self.inner.leave_group(group, order);
    }

    fn log_writer(&self, run: &RunId, stage_file: &str) -> Result<Box<dyn LogWriter>, StoreError> {
        self.alive()?;
        Ok(Box::new(MortalLog {
            life: self.life.clone(),
            inner: self.inner.log_writer(run, stage_file)?,
        }))
    }

    fn request_cancel(&self, run: &RunId, by: &str) -> Result<(), StoreError> {
        self.alive()?;
        self.inner.request_cancel(run, by)
    }

    fn cancel_requested(&self, run: &RunId) -> Result<Option<String>, StoreError> {
        self.inner.cancel_requested(run)
    }
}

/// A log that takes nothing more once its process is dead.
struct MortalLog {
    life: Life,
    inner: Box<dyn LogWriter>,
}

impl LogWriter for MortalLog {
    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if let Some(mut state) = self.life.state() {
            let text = String::from_utf8_lossy(bytes);
            let call = Call::one("store.append", "log");
            state.check_leaks(&call, "a log", [&*text]);
        } else {
            return Err(StoreError::Broken(
                "the simulated process has crashed".to_owned(),
            ));
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.inner.flush()
    }
}
