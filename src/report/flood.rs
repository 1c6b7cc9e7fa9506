//! Leaves out the middle of what a stage prints faster than anybody reads.
//!
//! Lines for people cost several times what the bytes themselves cost, and a stage may print at
//! the speed of memory. So each stage may show [`BURST`] bytes at once and [`PER_TICK`] more with
//! every tick; once it printed more than that, only its last lines are kept, until it calms down
//! or ends. The log of the stage has everything.

use std::collections::VecDeque;

use bytes::Bytes;

/// What a stage may print at once: far more than a long build says in all.
const BURST: usize = 16 << 20;
/// What a stage may print between two ticks, all the time.
const PER_TICK: usize = 1 << 20;
/// Of what was left out, the end that is shown nevertheless.
const TAIL: usize = 64 << 10;

/// How much of a stage's output is shown.
pub(super) struct Flood {
    /// Bytes that may still be shown.
    room: usize,
    /// Bytes printed since the last tick.
    fresh: usize,
    held: Option<Held>,
}

/// Output that is not shown for now, of which the end is kept.
#[derive(Default)]
struct Held {
    pieces: VecDeque<Bytes>,
    kept: usize,
    dropped: u64,
}

/// A flood that is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    /// Bytes that are not shown.
    pub(super) left_out: u64,
    /// What came after them; begins with a line.
    pub(super) tail: Vec<u8>,
}

impl Default for Flood {
    fn default() -> Self {
        Self {
            room: BURST,
            fresh: 0,
            held: None,
        }
    }
}

impl Flood {
    /// Takes in a piece of output; whether it is to be shown now. `begun` is the beginning of its
    /// first line, taken only with a piece that is not shown.
    pub(super) fn admits(&mut self, begun: &mut Vec<u8>, bytes: &Bytes) -> bool {
        self.fresh = self.fresh.saturating_add(bytes.len());
        if self.held.is_none() {
            if let Some(room) = self.room.checked_sub(bytes.len()) {
                self.room = room;
                return true;
            }
            self.room = 0;
        }
        let held = self.held.get_or_insert_default();
        if !begun.is_empty() {
            held.keep(std::mem::take(begun).into());
        }
        held.keep(bytes.clone());
        false
    }

    /// Time passed. Returns what was held back if the stage calmed down.
    pub(super) fn tick(&mut self) -> Option<Ended> {
        self.room = BURST.min(self.room + PER_TICK);
        let calm = std::mem::take(&mut self.fresh) < PER_TICK;
        if calm { self.end() } else { None }
    }

    /// The stage ended. Returns what was held back.
    pub(super) fn end(&mut self) -> Option<Ended> {
        self.held.take().map(Held::end)
    }
}

impl Held {
    fn keep(&mut self, piece: Bytes) {
        self.kept += piece.len();
        self.pieces.push_back(piece);
        while let Some(first) = self.pieces.front()
            && self.kept - first.len() >= TAIL
        {
            self.kept -= first.len();
            self.dropped += first.len() as u64;
            self.pieces.pop_front();
        }
    }

    fn end(self) -> Ended {
        let mut tail = Vec::with_capacity(self.kept);
        for piece in &self.pieces {
            tail.extend_from_slice(piece);
        }
        let mut left_out = self.dropped;
        let first = tail.len().saturating_sub(TAIL);
        if left_out > 0 || first > 0 {
            // One line longer than the tail loses its beginning, wherever that is.
            let line = memchr::memchr(b'\n', &tail[first..]).map_or(first, |end| first + end + 1);
            tail.drain(..line);
            left_out += line as u64;
        }
        Ended { left_out, tail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `size` bytes in pieces, lines of ten bytes; how many were shown.
    fn print(flood: &mut Flood, size: usize) -> usize {
        let piece = Bytes::from(b"123456789\n".repeat(1 << 10));
        let mut shown = 0;
        for _ in 0..size.div_ceil(piece.len()) {
            if flood.admits(&mut Vec::new(), &piece) {
                shown += piece.len();
            }
        }
        shown
    }

    #[test]
    fn a_burst_is_shown_and_no_more() {
        let mut flood = Flood::default();
        let size = BURST / 2 - (10 << 10);
        assert!(print(&mut flood, size) >= size && print(&mut flood, size) >= size);
        assert_eq!(flood.end(), None);
        let shown = print(&mut flood, BURST);
        assert!(shown < 64 << 10, "{shown}");
        let ended = flood.end().expect("something was left out");
        assert!(ended.tail.starts_with(b"123456789\n"));
        assert!((TAIL - 10..=TAIL).contains(&ended.tail.len()));
    }

    #[test]
    fn nothing_is_lost_without_being_counted() {
        let mut flood = Flood::default();
        let shown = print(&mut flood, 3 * BURST);
        let ended = flood.end().expect("something was left out");
        let piece = 10 << 10;
        let all = (3 * BURST).div_ceil(piece) * piece;
        assert_eq!(
            shown as u64 + ended.left_out + ended.tail.len() as u64,
            all as u64
        );
    }

    #[test]
    fn what_is_printed_slowly_is_shown_for_ever() {
        let mut flood = Flood::default();
        for _ in 0..100 {
            let size = PER_TICK - (10 << 10);
            assert!(print(&mut flood, size) >= size);
            assert_eq!(flood.tick(), None);
        }
    }

    #[test]
    fn a_stage_that_calms_down_is_shown_again() {
        let mut flood = Flood::default();
        print(&mut flood, 2 * BURST);
        assert_eq!(flood.tick(), None, "it was not calm");
        print(&mut flood, 10);
        assert!(flood.tick().is_some());
        assert!(print(&mut flood, 10) > 0);
        assert_eq!(flood.tick(), None);
    }

    #[test]
    fn the_line_that_was_begun_is_kept_with_its_end() {
        let mut flood = Flood {
            room: 3,
            ..Flood::default()
        };
        let mut begun = b"be".to_vec();
        assert!(flood.admits(&mut begun, &Bytes::from_static(b"gun")));
        assert_eq!(begun, b"be");
        assert!(!flood.admits(&mut begun, &Bytes::from_static(b"\nnext")));
        assert_eq!(begun, b"");
        let ended = flood.end().expect("something was held");
        assert_eq!((ended.left_out, &ended.tail[..]), (0, &b"be\nnext"[..]));
    }

    #[test]
    fn a_line_without_end_loses_its_beginning() {
        let mut flood = Flood::default();
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        let mut shown = 0;
        while flood.admits(&mut Vec::new(), &piece) {
            shown += 1;
        }
        assert_eq!(shown, BURST >> 20);
        let ended = flood.end().expect("something was left out");
        assert_eq!(ended.tail.len(), TAIL);
        assert_eq!(ended.left_out, (piece.len() - TAIL) as u64);
    }
}
