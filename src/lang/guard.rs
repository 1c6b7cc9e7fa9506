//! Refuses texts that are too large or nested too deeply before the parser sees them.
//!
//! The parser recurses once per nesting level and would overflow its stack, which aborts the
//! process. 32 levels stay far below that (80 overflow 2 MiB in a debug build); no pipeline
//! needs more than eight.

use crate::base::{Diagnostic, Source, Span};

/// Deepest nesting accepted, in blocks or comments.
pub const MAX_DEPTH: usize = 32;

/// Largest file accepted, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Checks size and nesting.
pub(super) fn guard(source: &Source) -> Option<Diagnostic> {
    let text = source.text();
    if text.len() > MAX_BYTES {
        return Some(
            Diagnostic::error(
                "PW0004",
                format!("file is larger than {} KiB", MAX_BYTES / 1024),
                source,
                Span::new(0, 0),
            )
            .help("split it into several files of the same directory; they are read together"),
        );
    }
    deepest(text.as_bytes()).map(|at| {
        Diagnostic::error(
            "PW0003",
            format!("nested deeper than {MAX_DEPTH} levels"),
            source,
            Span::new(at, at + 1),
        )
        .help("no pipeline needs this depth; look for a brace that was never closed")
    })
}

/// The first place nested deeper than [`MAX_DEPTH`].
///
/// Strings and comments are skipped as KDL reads them. Where a text is malformed the scan may
/// misread it; braces are counted on both readings of a lone quote by starting afresh at each
/// line end outside multi-line strings, so that an unclosed quote cannot hide depth.
fn deepest(text: &[u8]) -> Option<usize> {
    // A brace count that ignores strings altogether is an upper bound of the depth: if even
    // that stays low, there is nothing to look at more closely.
    let mut bound = 0usize;
    let mut comments = 0usize;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'{' => bound += 1,
            b'}' => bound = bound.saturating_sub(1),
            b'/' if text.get(at + 1) == Some(&b'*') => comments += 1,
            _ => {}
        }
        if comments > MAX_DEPTH * 8 || bound > MAX_DEPTH {
            return precise(text);
        }
        at += 1;
    }
    None
}

fn precise(text: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Some(at);
                }
            }
            b'}' => depth = depth.saturating_sub(1),
            b'/' if text.get(at + 1) == Some(&b'/') => {
                while at < text.len() && text[at] != b'\n' {
                    at += 1;
                }
            }
            b'/' if text.get(at + 1) == Some(&b'*') => {
                let mut level = 0usize;
                let start = at;
                while at < text.len() {
                    if text[at..].starts_with(b"/*") {
                        level += 1;
                        at += 1;
                        if level > MAX_DEPTH {
                            return Some(start);
                        }
                    } else if text[at..].starts_with(b"*/") {
                        level -= 1;
                        at += 1;
                        if level == 0 {
                            break;
                        }
                    }
                    at += 1;
                }
            }
            b'#' | b'"' => {
                if let Some(end) = string_end(text, at) {
                    at = end;
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The end of a string that starts at `at`, if one does and it is closed.
fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let hashes = text[at..].iter().take_while(|byte| **byte == b'#').count();
    let quotes = text[at + hashes..]
        .iter()
        .take_while(|byte| **byte == b'"')
        .count();
    if quotes == 0 {
        return None;
    }
    let body = at + hashes;
    let multi = quotes >= 3;
    let open = if multi { 3 } else { 1 };
    let mut closing = vec![b'"'; open];
    closing.extend(std::iter::repeat_n(b'#', hashes));
    let mut here = body + open;
    while here < text.len() {
        if hashes == 0 && text[here] == b'\\' {
            here += 2;
            continue;
        }
        if !multi && text[here] == b'\n' {
            return None;
        }
        if text[here..].starts_with(&closing) {
            return Some(here + closing.len());
        }
        here += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<&'static str> {
        guard(&Source::new("t.kdl", text)).map(|diagnostic| diagnostic.code)
    }

    #[test]
    fn depth_is_bounded() {
        assert_eq!(code(&"a {".repeat(33)), Some("PW0003"));
        assert_eq!(
            code(&format!("{}{}", "a {".repeat(32), "}".repeat(32))),
            None
        );
        assert_eq!(code(&"/*".repeat(300)), Some("PW0003"));
    }

    #[test]
    fn braces_in_strings_do_not_count() {
        let braces = "{".repeat(100);
        assert_eq!(code(&format!("a \"{braces}\"")), None);
        assert_eq!(code(&format!("a #\"\"\"\n{braces}\n\"\"\"#")), None);
        assert_eq!(code(&format!("// {braces}")), None);
    }

    #[test]
    fn an_unclosed_quote_hides_nothing() {
        assert_eq!(code(&format!("a \"\n{}", "b {".repeat(40))), Some("PW0003"));
    }

    #[test]
    fn size_is_bounded() {
        assert_eq!(code(&" ".repeat(MAX_BYTES + 1)), Some("PW0004"));
    }
}
