//! Text for screens: widths in columns and cutting. What makes text from outside harmless is in
//! [`crate::base::harmless`].

use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

pub use crate::base::harmless::{clean, clean_log, is_plain_log, one_line};

/// Columns a text takes on a screen. Expects no control characters.
pub fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

/// Cuts a text to a number of columns; a cut text ends in `mark`.
pub fn fit<'a>(text: &'a str, columns: usize, mark: &str) -> Cow<'a, str> {
    // A byte takes at most one column, so short texts need no counting.
    if text.len() <= columns || width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mark_width = width(mark);
    let (room, mark) = match columns.checked_sub(mark_width) {
        Some(room) => (room, mark),
        None => (columns, ""),
    };
    let mut used = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        end = at + c.len_utf8();
    }
    Cow::Owned(format!("{}{mark}", &text[..end]))
}

/// Fills a text with blanks on the right up to a number of columns.
pub fn pad(text: &str, columns: usize) -> String {
    let fill = columns.saturating_sub(width(text));
    format!("{text}{:fill$}", "")
}

/// Fills a text with blanks on the left up to a number of columns.
pub fn pad_left(text: &str, columns: usize) -> String {
    let fill = columns.saturating_sub(width(text));
    format!("{:fill$}{text}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_count_columns() {
        assert_eq!(width("abc"), 3);
        assert_eq!(width("構築"), 4);
        assert_eq!(width("e\u{301}"), 1);
        assert_eq!(pad("構築", 6), "構築  ");
        assert_eq!(pad_left("構築", 6), "  構築");
    }

    #[test]
    fn cutting_never_exceeds_and_never_splits() {
        assert_eq!(fit("abcdef", 6, "…"), "abcdef");
        assert_eq!(fit("abcdefg", 6, "…"), "abcde…");
        assert_eq!(fit("構築段階", 6, "…"), "構築…");
        assert_eq!(fit("構築段階", 5, "…"), "構築…");
        assert_eq!(fit("構築", 1, "…"), "…");
        assert_eq!(fit("構築", 0, "…"), "");
        assert_eq!(fit("abcdef", 2, "..."), "ab");
        for columns in 0..12 {
            assert!(width(&fit("a構築b段階c", columns, "…")) <= columns);
        }
    }
}
