//! A live tree for a terminal: drawn over itself at most ten times a second, left as plain text
//! at the end.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use super::frame::Canvas;
use super::sink::Sink;
use super::tree::{Expected, Tree};
use super::{Now, Reporter, Signal, Style, text};
use crate::base::{StageId, Timestamp};

/// Time between two pictures.
const BETWEEN: Duration = Duration::from_millis(100);
/// Rows of the picture that is left at the end.
const LAST_ROWS: usize = 40;

/// The terminal a [`Tty`] draws on.
pub struct Terminal {
    /// Where escape sequences and text go.
    pub out: Box<dyn Write + Send>,
    /// Columns and rows at this moment; asked before each picture.
    pub size: Box<dyn Fn() -> (usize, usize) + Send>,
    /// The time of day.
    pub now: Now,
    /// How it looks.
    pub style: Style,
}

/// Draws the runs as a tree that lives.
pub struct Tty {
    sink: Sink,
    size: Box<dyn Fn() -> (usize, usize) + Send>,
    now: Now,
    style: Style,
    expected: Expected,
    tree: Tree,
    /// Columns each line of the present picture takes.
    drawn: Vec<usize>,
    picture: Vec<String>,
    drawn_at: Option<Timestamp>,
    changed: bool,
    finished: bool,
}

impl Tty {
    /// Draws on a terminal; `expected` holds the usual durations of the first run's stages.
    pub fn new(terminal: Terminal, expected: HashMap<StageId, Duration>) -> Self {
        Self {
            sink: Sink::new(terminal.out),
            size: terminal.size,
            now: terminal.now,
            style: terminal.style,
            expected,
            tree: Tree::default(),
            drawn: Vec::new(),
            picture: Vec::new(),
            drawn_at: None,
            changed: false,
            finished: false,
        }
    }

    fn draw(&mut self, now: Timestamp, last: bool) {
        let (columns, rows) = (self.size)();
        let (columns, rows) = (columns.clamp(1, 1000), rows.clamp(2, 1000));
        let canvas = Canvas {
            // The last column stays free: some terminals wrap as soon as it is written.
            columns: (columns - 1).max(1),
            rows: if last { LAST_ROWS.max(rows) } else { rows - 1 },
            style: self.style,
            now,
            last,
            expected: &self.expected,
        };
        let picture = canvas.draw(&self.tree);
        self.drawn_at = Some(now);
        self.changed = false;
        if picture == self.picture {
            return;
        }
        let mut frame = String::with_capacity(256 + picture.len() * (columns + 16));
        // Synchronized output: terminals that know it show the picture in one go.
        frame.push_str("\u{1b}[?2026h");
        let up = self.rows_drawn(columns).min(rows - 1);
        if up > 0 {
            frame.push_str(&format!("\r\u{1b}[{up}A"));
        }
        for line in &picture {
            frame.push_str(line);
            frame.push_str("\u{1b}[K\r\n");
        }
        frame.push_str("\u{1b}[J\u{1b}[?2026l");
        self.sink.put(frame.as_bytes());
        self.sink.flush();
        self.drawn = picture
            .iter()
            .map(|line| text::width(&text::clean(line)))
            .collect();
        self.picture = picture;
    }

    /// Rows the present picture takes on a terminal that may have been resized since.
    fn rows_drawn(&self, columns: usize) -> usize {
        self.drawn
            .iter()
            .map(|width| width.div_ceil(columns).max(1))
            .sum()
    }
}

impl Reporter for Tty {
    fn signal(&mut self, signal: &Signal) {
        self.tree.signal(signal);
        self.changed = true;
    }

    fn tick(&mut self) {
        if self.finished || !(self.changed || self.tree.is_live()) {
            return;
        }
        let now = (self.now)();
        // A clock that was set back must not freeze the picture.
        let early = |drawn: Timestamp| drawn <= now && now.since(drawn) < BETWEEN;
        if !self.drawn_at.is_some_and(early) {
            self.draw(now, false);
        }
    }

    fn finish(&mut self) {
        if !self.finished && !self.tree.runs().is_empty() {
            let now = (self.now)();
            self.draw(now, true);
        }
        self.finished = true;
    }
}

#[cfg(test)]
mod tests;
