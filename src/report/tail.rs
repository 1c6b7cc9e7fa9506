//! The last lines a stage printed.

use std::collections::VecDeque;

use super::text;

/// Lines kept per stage.
const LINES: usize = 5;
/// Characters kept per line.
const COLUMNS: usize = 400;
/// Bytes looked at per chunk, and kept of an unfinished line.
const BYTES: usize = 8 << 10;

/// The last lines of a log, safe to show. The cost of a chunk does not grow with its size.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    partial: Vec<u8>,
}

impl Tail {
    /// Takes in the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let recent = &bytes[bytes.len().saturating_sub(BYTES)..];
        if recent.len() < bytes.len() {
            self.partial.clear();
        }
        let mut pieces = recent.split(|byte| *byte == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        let count = recent.iter().filter(|byte| **byte == b'\n').count();
        for (at, piece) in pieces.enumerate() {
            if at == 0 {
                self.extend(piece);
                if let Some(line) = shown(&self.partial) {
                    self.keep(line);
                }
                self.partial.clear();
            } else if count - at <= LINES * 4 {
                // Lines far from the end of a chunk would be pushed out again at once.
                if let Some(line) = shown(piece) {
                    self.keep(line);
                }
            }
        }
        self.extend(last);
    }

    /// The last line that is not blank, finished or not.
    pub(super) fn last(&self) -> Option<String> {
        shown(&self.partial).or_else(|| self.lines.back().cloned())
    }

    /// The last lines that are not blank, oldest first, at most `count`.
    pub(super) fn lines(&self, count: usize) -> Vec<String> {
        let mut lines: Vec<String> = self.lines.iter().cloned().collect();
        lines.extend(shown(&self.partial));
        lines.split_off(lines.len().saturating_sub(count))
    }

    /// How many lines [`Tail::lines`] can give.
    pub(super) fn len(&self) -> usize {
        self.lines.len() + usize::from(shown(&self.partial).is_some())
    }

    fn extend(&mut self, piece: &[u8]) {
        self.partial.extend_from_slice(piece);
        let excess = self.partial.len().saturating_sub(BYTES);
        self.partial.drain(..excess);
    }

    fn keep(&mut self, line: String) {
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

fn shown(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    let text = text.rsplit('\r').next().unwrap_or("");
    let short = match text.char_indices().nth(COLUMNS) {
        Some((end, _)) => &text[..end],
        None => text,
    };
    let line = text::clean(short);
    let line = line.trim_end();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(chunks: &[&[u8]]) -> Vec<String> {
        let mut tail = Tail::default();
        chunks.iter().for_each(|chunk| tail.push(chunk));
        assert_eq!(tail.len(), tail.lines(99).len());
        tail.lines(99)
    }

    #[test]
    fn lines_are_put_together_from_chunks() {
        assert_eq!(tail(&[b"a", b"b\nc", b"d"]), ["ab", "cd"]);
        assert_eq!(tail(&["構".as_bytes(), b"\n\n \n"]), ["構"]);
        assert_eq!(
            tail(&[&"構".as_bytes()[..1], &"構".as_bytes()[1..]]),
            ["構"]
        );
        assert_eq!(tail(&[b"10%\r", b"20%\r"]), ["20%"]);
        assert_eq!(tail(&[b"1\n2\n3\n4\n5\n6\n"]), ["2", "3", "4", "5", "6"]);
    }

    #[test]
    fn huge_chunks_and_lines_are_bounded() {
        let mut huge = b"x".repeat(10 << 20);
        huge.extend_from_slice(b"\nend");
        let lines = tail(&[b"start", &huge]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), COLUMNS);
        assert_eq!(lines[1], "end");
        assert_eq!(tail(&[&b"\n".repeat(1 << 20)]), Vec::<String>::new());
    }
}
