//! What stages no longer need and nobody has to wait for: it is removed while others go on.
//!
//! The run waits for all of it before it ends. If the process is killed first, what is left is
//! found by its label like anything else of a run that did not end.

use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::ports::engine::Engine;
use crate::ports::workspace::{Scratch, Workspace};

/// Removals under way at one time. A stage that leaves one more waits: were removing slower than
/// making, the engine would fill up.
const PLACES: usize = 4;

/// Removals under way.
#[derive(Debug)]
pub struct Leftovers {
    tasks: TaskTracker,
    places: Arc<Semaphore>,
    failed: Arc<Mutex<Vec<String>>>,
}

impl Leftovers {
    /// None yet.
    pub fn new() -> Self {
        Self {
            tasks: TaskTracker::new(),
            places: Arc::new(Semaphore::new(PLACES)),
            failed: Arc::default(),
        }
    }

    /// Begins to remove a container that has ended.
    pub async fn remove(&self, engine: &Arc<dyn Engine>, id: String) {
        let place = self.places.clone().acquire_owned().await;
        let engine = engine.clone();
        let failed = self.failed.clone();
        self.tasks.spawn(async move {
            let _place = place;
            if let Err(error) = engine.remove(&id).await {
                let mut failed = failed.lock().expect("no holder of this lock panics");
                failed.push(error.to_string());
            }
        });
    }

    /// Begins to give back the working directory of a stage that will not run again.
    pub async fn discard(&self, workspace: &Arc<dyn Workspace>, scratch: Scratch) {
        let place = self.places.clone().acquire_owned().await;
        let workspace = workspace.clone();
        self.tasks.spawn(async move {
            let _place = place;
            workspace.discard(scratch).await;
        });
    }

    /// Waits until everything is gone. Returns what could not be removed, and why.
    pub async fn gone(&self) -> Vec<String> {
        self.tasks.close();
        self.tasks.wait().await;
        let mut failed = self.failed.lock().expect("no holder of this lock panics");
        std::mem::take(&mut failed)
    }
}

impl Default for Leftovers {
    fn default() -> Self {
        Self::new()
    }
}
