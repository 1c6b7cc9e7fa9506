//! The place a stage takes among those at work, which `--jobs` bounds.

use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// A place among those at work. It can be left for a while, by a stage that only waits.
pub(super) struct WorkPlace {
    held: Mutex<Option<OwnedSemaphorePermit>>,
    places: Arc<Semaphore>,
    /// Told when the place is left.
    freed: Arc<Notify>,
}

impl WorkPlace {
    /// A place that was taken.
    pub(super) fn taken(place: OwnedSemaphorePermit, freed: Arc<Notify>) -> Self {
        Self {
            places: Arc::clone(place.semaphore()),
            held: Mutex::new(Some(place)),
            freed,
        }
    }

    /// Gives the place to whoever is next.
    pub(super) fn leave(&self) {
        self.set(None);
        self.freed.notify_one();
    }

    /// Takes a place again if it was left, once there is one: those who left come first.
    pub(super) async fn take(&self) {
        if self.is_held() {
            return;
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        self.set(Some(place.expect("places are never closed")));
    }

    fn is_held(&self) -> bool {
        let held = self.held.lock().expect("no holder of this lock panics");
        held.is_some()
    }

    fn set(&self, place: Option<OwnedSemaphorePermit>) {
        *self.held.lock().expect("no holder of this lock panics") = place;
    }
}
