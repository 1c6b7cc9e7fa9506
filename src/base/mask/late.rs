//! Secrets that come up while a run goes on: tokens a registry gives out, temporary credentials.
//! Only keeps them for masking; nobody can read one from here but the masks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::Secret;

/// So many are kept; the oldest ones have run out by the time they are dropped.
const KEPT: usize = 512;

/// A handle to the secrets that came up so far. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct LateSecrets {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    generation: AtomicU64,
    secrets: Mutex<VecDeque<Secret>>,
}

impl LateSecrets {
    /// Hides a value from now on.
    pub fn add(&self, secret: &Secret) {
        let mut secrets = self.lock();
        if secrets.contains(secret) {
            return;
        }
        if secrets.len() >= KEPT {
            secrets.pop_front();
        }
        secrets.push_back(secret.clone());
        self.inner.generation.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever something was added; 0 before that.
    pub(super) fn generation(&self) -> u64 {
        self.inner.generation.load(Ordering::Acquire)
    }

    /// All of them, with the generation they belong to.
    pub fn all(&self) -> (u64, Vec<Secret>) {
        let secrets = self.lock();
        (self.generation(), secrets.iter().cloned().collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Secret>> {
        // Nothing that holds the lock can leave it half changed.
        let secrets = self.inner.secrets.lock();
        secrets.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LateSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateSecrets")
            .field("count", &self.lock().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Masks;

    #[test]
    fn what_comes_later_is_hidden_from_then_on() {
        let late = LateSecrets::default();
        let first = Secret::new("hunter22");
        let masks = Masks::with_late([&first], late.clone());
        let mut stream = masks.stream();
        let mut out = Vec::new();
        stream.push(b"hunter22 token-", &mut out);
        late.add(&Secret::new("token-4711"));
        stream.push(b"4711 token-4711 hunter22", &mut out);
        stream.finish(&mut out);
        // What was passed on before nobody can take back.
        assert_eq!(String::from_utf8_lossy(&out), "*** token-4711 *** ***");
        assert_eq!(masks.mask("a token-4711 b"), "a *** b");
        assert!(!masks.is_empty() && masks.finds("token-4711"));
    }

    #[test]
    fn a_split_secret_is_found_if_it_is_known_when_it_begins() {
        let late = LateSecrets::default();
        let masks = Masks::with_late([], late.clone());
        assert!(masks.is_empty());
        late.add(&Secret::new("token-4711"));
        late.add(&Secret::new("token-4711"));
        assert_eq!(late.generation(), 1);
        let mut stream = masks.stream();
        let mut out = Vec::new();
        stream.push(b"a tok", &mut out);
        stream.push(b"en-4711 b", &mut out);
        stream.finish(&mut out);
        assert_eq!(String::from_utf8_lossy(&out), "a *** b");
    }

    #[test]
    fn memory_is_bounded() {
        let late = LateSecrets::default();
        for number in 0..2 * KEPT {
            late.add(&Secret::new(format!("secret number {number}")));
        }
        assert_eq!(late.all().1.len(), KEPT);
        assert!(!format!("{late:?}").contains("number"));
    }
}
