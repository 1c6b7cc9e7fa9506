//! Where a reporter writes: the caller's writer, which may break at any time.

use std::io::{ErrorKind, Write};

/// A writer that falls silent for good once its reader went away.
pub(super) struct Sink {
    out: Box<dyn Write + Send>,
    broken: bool,
}

impl Sink {
    /// Wraps the caller's writer.
    pub(super) fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, broken: false }
    }

    /// Writes; a failure is nobody's business but the reader's.
    pub(super) fn put(&mut self, text: &[u8]) {
        if self.broken {
            return;
        }
        if let Err(error) = self.out.write_all(text) {
            // A full terminal loses a piece and goes on; anything else is final.
            self.broken = error.kind() != ErrorKind::WouldBlock;
        }
    }

    /// Hands everything written to the reader.
    pub(super) fn flush(&mut self) {
        if self.broken {
            return;
        }
        if let Err(error) = self.out.flush() {
            self.broken = error.kind() != ErrorKind::WouldBlock;
        }
    }
}
