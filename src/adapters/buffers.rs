//! Read buffers that are used again once everyone who shares their content has let go.
//!
//! What a stage prints goes to its log and to the screen at once. Both get the very bytes that
//! were read, and the memory, which the system hands out page by page, is not given back in
//! between. How many buffers there are at one time is bounded by whoever keeps the bytes.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers kept for the next read.
const KEPT: usize = 8;

/// Gives buffers of one size away and takes them back.
#[derive(Clone, Debug)]
pub(super) struct Buffers {
    size: usize,
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// Buffers of `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            free: Arc::default(),
        }
    }

    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        free.unwrap_or_else(|| Vec::with_capacity(self.size))
    }

    /// A buffer's content, for several to share. The buffer comes back with the last of them.
    pub(super) fn share(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent {
            buffer,
            home: self.clone(),
        })
    }
}

/// A buffer on its way.
struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let free = self.home.free.lock();
        let mut free = free.unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_nobody_reads_it_any_more() {
        let buffers = Buffers::new(64);
        let mut buffer = buffers.take();
        buffer.extend_from_slice(b"text");
        let place = buffer.as_ptr();
        let one = buffers.share(buffer);
        let other = one.slice(1..);
        drop(one);
        let another = buffers.take();
        assert_ne!(another.as_ptr(), place);
        assert_eq!(&other[..], b"ext");
        drop(other);
        let again = buffers.take();
        assert_eq!(
            (again.as_ptr(), again.len(), again.capacity()),
            (place, 0, 64)
        );
    }

    #[test]
    fn only_so_many_are_kept() {
        let buffers = Buffers::new(64);
        let lent: Vec<Bytes> = (0..3 * KEPT)
            .map(|_| buffers.share(buffers.take()))
            .collect();
        drop(lent);
        assert_eq!(buffers.free.lock().unwrap().len(), KEPT);
    }
}
