//! What a stage prints: masked, written to its log, shown to whoever watches.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::Feed;
use crate::base::{MaskStream, Masks, RunId, StageId};
use crate::ports::store::{LogWriter, Store, StoreError};
use crate::ports::{Output, Progress};

/// The output of one stage.
pub(super) struct StageOutput {
    run: RunId,
    stage: StageId,
    store: Arc<dyn Store>,
    feed: Arc<dyn Feed>,
    masks: Masks,
    state: Mutex<State>,
}

struct State {
    stream: MaskStream,
    /// Opened with the first byte: most stages of a large graph print nothing.
    writer: Option<Box<dyn LogWriter>>,
    failure: Option<StoreError>,
}

impl StageOutput {
    pub(super) fn new(
        run: &RunId,
        stage: &StageId,
        store: Arc<dyn Store>,
        feed: Arc<dyn Feed>,
        masks: &Masks,
    ) -> Self {
        Self {
            run: run.clone(),
            stage: stage.clone(),
            store,
            feed,
            masks: masks.clone(),
            state: Mutex::new(State {
                stream: masks.stream(),
                writer: None,
                failure: None,
            }),
        }
    }

    /// Makes what was written so far readable by others.
    pub(super) fn flush(&self) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        let Some(writer) = &mut state.writer else {
            return;
        };
        if let Err(error) = writer.flush() {
            state.failure.get_or_insert(error);
        }
    }

    /// Writes what is held back. Returns why the log is incomplete, if it is.
    pub(super) fn finish(&self) -> Option<StoreError> {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        let mut rest = Vec::new();
        state.stream.finish(&mut rest);
        self.pass_on(&mut state, &rest.into());
        if let Some(mut writer) = state.writer.take()
            && let Err(error) = writer.flush()
        {
            state.failure.get_or_insert(error);
        }
        state.failure.take()
    }

    /// The feed and the log share the bytes: a stage may print as fast as memory is copied.
    fn pass_on(&self, state: &mut State, bytes: &Bytes) {
        if bytes.is_empty() {
            return;
        }
        self.feed.log(&self.run, &self.stage, bytes);
        if state.failure.is_some() {
            return;
        }
        let written = match &mut state.writer {
            Some(writer) => writer.write_shared(bytes),
            None => self
                .store
                .log_writer(&self.run, &self.stage.file_name())
                .and_then(|mut writer| {
                    writer.write_shared(bytes)?;
                    state.writer = Some(writer);
                    Ok(())
                }),
        };
        // A log that cannot be written is no reason to stop a deployment half way; it is said
        // at the end, and the journal, which shares the disk, decides whether the run goes on.
        if let Err(error) = written {
            state.failure = Some(error);
        }
    }
}

impl Output for StageOutput {
    fn log(&self, bytes: &[u8]) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        let masked = if self.masks.is_empty() {
            Bytes::copy_from_slice(bytes)
        } else {
            let mut masked = Vec::with_capacity(bytes.len());
            state.stream.push(bytes, &mut masked);
            masked.into()
        };
        self.pass_on(&mut state, &masked);
    }

    fn log_shared(&self, bytes: Bytes) {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if state.stream.lets_pass(&bytes) {
            self.pass_on(&mut state, &bytes);
            return;
        }
        let mut masked = Vec::with_capacity(bytes.len());
        state.stream.push(&bytes, &mut masked);
        self.pass_on(&mut state, &masked.into());
    }

    fn progress(&self, progress: Progress) {
        let progress = Progress {
            label: self.masks.mask(&progress.label),
            ..progress
        };
        self.feed.progress(&self.run, &self.stage, progress);
    }
}
