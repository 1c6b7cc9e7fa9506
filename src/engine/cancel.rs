//! Telling a run to stop: once gently, twice at once.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// A request to stop that can be handed to many.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    gentle: CancellationToken,
    forced: CancellationToken,
    by: Arc<OnceLock<String>>,
}

impl Cancel {
    /// Nobody asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop gently: running work gets its grace, `finally` stages still run.
    pub fn request(&self, by: &str) {
        let _ = self.by.set(by.to_owned());
        self.gentle.cancel();
    }

    /// Asks to stop at once.
    pub fn force(&self, by: &str) {
        self.request(by);
        self.forced.cancel();
    }

    /// Who asked.
    pub fn by(&self) -> &str {
        self.by.get().map_or("somebody", String::as_str)
    }

    /// Whether somebody asked.
    pub fn is_requested(&self) -> bool {
        self.gentle.is_cancelled()
    }

    /// For the work of ordinary stages.
    pub(super) fn gentle(&self) -> &CancellationToken {
        &self.gentle
    }

    /// For work that outlives a gentle request.
    pub fn forced(&self) -> &CancellationToken {
        &self.forced
    }
}
