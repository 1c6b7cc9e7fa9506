//! Replaces secrets in streams of bytes, also where one is split over chunks.
//!
//! What counts as a secret's form is in `forms`, how forms are found is in `index`. Where
//! occurrences overlap, their union is replaced, so that no tail of a second secret survives.
//! Never prints a form: `Debug` shows counts only.

mod forms;
mod index;
mod late;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

pub use self::late::LateSecrets;

use self::index::Index;
use super::Secret;

/// What a form of a secret is replaced with.
const REPLACEMENT: &[u8] = b"***";

/// A value with fewer characters is not masked: it would shred every log.
const SHORTEST: usize = 4;

/// The set of byte strings to hide, compiled for searching. What is added to its late secrets
/// is hidden from then on, also by streams that were begun before.
#[derive(Clone, Default)]
pub struct Masks {
    shared: Arc<Shared>,
    too_short: usize,
}

#[derive(Default)]
struct Shared {
    patterns: BTreeSet<Vec<u8>>,
    late: LateSecrets,
    compiled: RwLock<Compiled>,
}

/// An index, and the state of the late secrets it was made from.
#[derive(Default)]
struct Compiled {
    generation: u64,
    index: Option<Arc<Index>>,
}

impl Shared {
    fn index(&self) -> Option<Arc<Index>> {
        let generation = self.late.generation();
        {
            let compiled = self.compiled.read();
            let compiled = compiled.unwrap_or_else(PoisonError::into_inner);
            if compiled.generation == generation {
                return compiled.index.clone();
            }
        }
        let (generation, secrets) = self.late.all();
        let mut patterns = self.patterns.clone();
        add_forms(&secrets, &mut patterns);
        let index = (!patterns.is_empty()).then(|| Arc::new(Index::new(patterns)));
        let mut compiled = self
            .compiled
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been here with what came later.
        if compiled.generation < generation {
            *compiled = Compiled { generation, index };
        }
        compiled.index.clone()
    }
}

/// Adds the forms of secrets and counts those that are too short.
fn add_forms<'a>(
    secrets: impl IntoIterator<Item = &'a Secret>,
    patterns: &mut BTreeSet<Vec<u8>>,
) -> usize {
    let mut too_short = 0;
    for secret in secrets {
        let value = forms::trimmed(secret.expose());
        if value.chars().count() < SHORTEST {
            too_short += 1;
        } else {
            forms::of(value, patterns);
        }
    }
    too_short
}

impl Masks {
    /// Compiles masks for some secrets.
    ///
    /// A value of three characters or fewer is *not* masked, because it would turn every log
    /// into stars; [`Masks::too_short`] counts them so that the caller can warn.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self::with_late(secrets, LateSecrets::default())
    }

    /// The same, and hides what comes up later as well.
    pub fn with_late<'a>(secrets: impl IntoIterator<Item = &'a Secret>, late: LateSecrets) -> Self {
        let mut patterns = BTreeSet::new();
        let too_short = add_forms(secrets, &mut patterns);
        let index = (!patterns.is_empty()).then(|| Arc::new(Index::new(patterns.clone())));
        Self {
            shared: Arc::new(Shared {
                patterns,
                late,
                // What was there before is taken in at the first use.
                compiled: RwLock::new(Compiled {
                    generation: 0,
                    index,
                }),
            }),
            too_short,
        }
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.shared.index().is_none()
    }

    /// How many secrets are too short to be masked.
    pub fn too_short(&self) -> usize {
        self.too_short
    }

    /// Masks one complete text.
    pub fn mask(&self, text: &str) -> String {
        if !self.finds(text) {
            return text.to_owned();
        }
        let mut out = Vec::with_capacity(text.len());
        let mut stream = self.stream();
        stream.push(text.as_bytes(), &mut out);
        stream.finish(&mut out);
        // A form that was cut into pieces may be found from the middle of a character on.
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Whether a text contains anything to hide.
    pub fn finds(&self, text: &str) -> bool {
        let index = self.shared.index();
        index.is_some_and(|index| index.finds(text.as_bytes()))
    }

    /// A stream that masks across chunk boundaries.
    pub fn stream(&self) -> MaskStream {
        MaskStream {
            shared: self.shared.clone(),
            held: Vec::new(),
            covered: 0,
            found: Vec::new(),
        }
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masks")
            .field("forms", &self.shared.index().map_or(0, |index| index.len()))
            .field("too_short", &self.too_short)
            .finish()
    }
}

/// Masks a stream chunk by chunk; holds back only what may be the start of a secret.
///
/// What is held back is always an exact, incomplete beginning of some form and at most one
/// kilobyte. A line that ends with a newline therefore passes at once unless a secret of several
/// lines begins in it, so a live log is not stuck; the rest comes with the next chunk or with
/// [`MaskStream::finish`]. The result does not depend on how the stream is cut into chunks.
pub struct MaskStream {
    shared: Arc<Shared>,
    held: Vec<u8>,
    /// So many bytes at the front of `held` belong to an occurrence that is already replaced.
    covered: usize,
    /// Kept for its capacity.
    found: Vec<(usize, usize)>,
}

impl MaskStream {
    /// Whether a chunk, if it came next, would pass as it is and at once. If so it may be passed
    /// on instead of being fed.
    pub fn lets_pass(&self, chunk: &[u8]) -> bool {
        let Some(index) = self.shared.index() else {
            return true;
        };
        self.held.is_empty()
            && self.covered == 0
            && index.hold_from(chunk) == chunk.len()
            && !index.finds(chunk)
    }

    /// Feeds a chunk and appends what is certain to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let Some(index) = self.shared.index() else {
            out.extend_from_slice(chunk);
            return;
        };
        if self.held.is_empty() {
            let hold = index.hold_from(chunk);
            self.emit(&index, chunk, hold, out);
            self.held.extend_from_slice(&chunk[hold..]);
        } else {
            let mut buffer = std::mem::take(&mut self.held);
            buffer.extend_from_slice(chunk);
            let hold = index.hold_from(&buffer);
            self.emit(&index, &buffer, hold, out);
            buffer.drain(..hold);
            self.held = buffer;
        }
    }

    /// Ends the stream and appends the rest. The stream may be used again.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(index) = self.shared.index() {
            let buffer = std::mem::take(&mut self.held);
            self.emit(&index, &buffer, buffer.len(), out);
        }
        self.covered = 0;
    }

    /// Appends the first `hold` bytes of `buffer`, masked. Every occurrence that starts before
    /// `hold` is complete in `buffer`.
    fn emit(&mut self, index: &Index, buffer: &[u8], hold: usize, out: &mut Vec<u8>) {
        self.found.clear();
        index.find_all(buffer, &mut self.found);
        self.found.sort_unstable();
        let mut done = self.covered;
        for &(start, end) in self.found.iter().take_while(|(start, _)| *start < hold) {
            if start >= done {
                out.extend_from_slice(&buffer[done..start]);
                out.extend_from_slice(REPLACEMENT);
            }
            done = done.max(end);
        }
        if done < hold {
            out.extend_from_slice(&buffer[done..hold]);
        }
        self.covered = done.saturating_sub(hold);
    }
}

impl fmt::Debug for MaskStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MaskStream")
            .field("held", &self.held.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
