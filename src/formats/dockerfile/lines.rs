//! Joins continued lines to instructions and keeps where every byte came from.

use crate::base::{Span, Spanned};

/// The text of one instruction, without continuations and the comments between.
#[derive(Debug, Default)]
pub(super) struct Logical {
    pub(super) text: String,
    /// Where pieces of the text begin, in it and in the source.
    pieces: Vec<(usize, usize)>,
    /// The whole instruction in the source.
    pub(super) span: Span,
}

impl Logical {
    fn push(&mut self, piece: &str, source: usize) {
        self.pieces.push((self.text.len(), source));
        self.text.push_str(piece);
    }

    fn place(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|(start, _)| *start <= at);
        match self.pieces.get(after.saturating_sub(1)) {
            Some((start, source)) => source + (at - start),
            None => at,
        }
    }

    /// The place in the source of a range that is not empty.
    pub(super) fn span(&self, start: usize, end: usize) -> Span {
        if start >= end {
            let at = self.place(start);
            return Span::new(at, at);
        }
        // The last byte is looked up, because the byte behind it may stand on another line.
        Span::new(self.place(start), self.place(end - 1) + 1)
    }

    /// Words from a byte on, divided by blanks.
    pub(super) fn words(&self, from: usize) -> Vec<Spanned<String>> {
        let mut words = Vec::new();
        let mut at = from;
        for word in self.text[from..].split([' ', '\t']) {
            if !word.is_empty() {
                words.push(Spanned::new(
                    word.to_owned(),
                    self.span(at, at + word.len()),
                ));
            }
            at += word.len() + 1;
        }
        words
    }

    /// Words from a byte on, divided by blanks that are not in quotes or escaped. Each comes with
    /// its first byte.
    pub(super) fn quoted_words(&self, from: usize, escape: char) -> Vec<(usize, &str)> {
        let mut words = Vec::new();
        let mut start = None;
        let mut quote = None;
        let mut escaped = false;
        for (at, c) in self.text[from..].char_indices() {
            let at = from + at;
            if quote.is_none() && !escaped && (c == ' ' || c == '\t') {
                if let Some(start) = start.take() {
                    words.push((start, &self.text[start..at]));
                }
                continue;
            }
            start.get_or_insert(at);
            match (quote, c) {
                _ if escaped => escaped = false,
                (Some('\''), '\'') => quote = None,
                (Some('\''), _) => {}
                (_, c) if c == escape => escaped = true,
                (Some(open), c) if c == open => quote = None,
                (None, '"' | '\'') => quote = Some(c),
                _ => {}
            }
        }
        if let Some(start) = start {
            words.push((start, &self.text[start..]));
        }
        words
    }
}

/// A heredoc that an instruction announces.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Heredoc {
    pub(super) name: String,
    pub(super) strip_tabs: bool,
}

/// Whether a word announces a heredoc: `<<EOF`, `<<-"EOF"`, `3<<EOF`.
pub(super) fn heredoc(word: &str) -> Option<Heredoc> {
    let word = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = word.strip_prefix("<<")?;
    let (rest, strip_tabs) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    let valid = !name.is_empty() && !rest.contains('<');
    valid.then_some(Heredoc { name, strip_tabs })
}

/// Walks through the lines of a text.
pub(super) struct Lines<'a> {
    text: &'a str,
    at: usize,
    pub(super) escape: char,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self {
            text,
            at,
            escape: '\\',
        }
    }

    /// The next line without its end, and where it starts.
    fn line(&mut self) -> Option<(usize, &'a str)> {
        let start = self.at;
        let rest = self.text.get(start..).filter(|rest| !rest.is_empty())?;
        let len = rest.find('\n').map_or(rest.len(), |at| at + 1);
        self.at = start + len;
        Some((start, rest[..len].trim_end_matches(['\n', '\r'])))
    }

    /// The next line, if it is a parser directive: its name in lower case and its value.
    pub(super) fn directive(&mut self) -> Option<(String, Spanned<String>)> {
        let before = self.at;
        let found = self.line().and_then(|(start, line)| {
            let body = line.trim_start().strip_prefix('#')?;
            let (name, value) = body.split_once('=')?;
            let name = name.trim().to_ascii_lowercase();
            let known = matches!(name.as_str(), "syntax" | "escape" | "check");
            let value_start = start + line.len() - value.trim_start().len();
            let value = value.trim();
            let span = Span::new(value_start, value_start + value.len());
            known.then(|| (name, Spanned::new(value.to_owned(), span)))
        });
        if found.is_none() {
            self.at = before;
        }
        found
    }

    /// The next instruction.
    pub(super) fn instruction(&mut self) -> Option<Logical> {
        let mut logical = Logical::default();
        let mut begun = false;
        while let Some((start, line)) = self.line() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let (from, body) = if begun {
                (start, line)
            } else {
                let body = line.trim_start();
                (start + line.len() - body.len(), body)
            };
            if !begun {
                begun = true;
                logical.span.start = from;
            }
            logical.span.end = start + line.trim_end().len();
            let end = body.trim_end_matches([' ', '\t']);
            match end.strip_suffix(self.escape) {
                // An escaped escape character at the end continues nothing.
                Some(kept) if !kept.ends_with(self.escape) => logical.push(kept, from),
                _ => {
                    logical.push(body, from);
                    break;
                }
            }
        }
        begun.then_some(logical)
    }

    /// Skips the body of a heredoc; false if it does not end.
    pub(super) fn skip(&mut self, heredoc: &Heredoc) -> bool {
        while let Some((_, line)) = self.line() {
            let line = match heredoc.strip_tabs {
                true => line.trim_start_matches('\t'),
                false => line,
            };
            if line == heredoc.name {
                return true;
            }
        }
        false
    }
}
