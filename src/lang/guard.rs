//! Bounds on texts: what is larger or nested deeper is refused before the parser sees it.
//!
//! The parser recurses once per nesting level and would overflow its stack, which aborts the
//! process. 32 levels stay far below that (80 overflow 2 MiB in a debug build); no pipeline
//! needs more than eight.

use crate::base::{Diagnostic, Source, Span};

/// Deepest nesting accepted, in blocks or comments.
pub const MAX_DEPTH: usize = 32;

/// Largest file accepted, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// The finding for a file that is too large.
pub(super) fn too_large(source: &Source) -> Option<Diagnostic> {
    (source.text().len() > MAX_BYTES).then(|| {
        Diagnostic::error(
            "PW0004",
            format!("file is larger than {} KiB", MAX_BYTES / 1024),
            source,
            Span::new(0, 0),
        )
        .help("split it into several files of the same directory; they are read together")
    })
}

/// The finding for a place that is nested too deeply.
pub(super) fn too_deep(source: &Source, at: usize) -> Diagnostic {
    Diagnostic::error(
        "PW0003",
        format!("nested deeper than {MAX_DEPTH} levels"),
        source,
        Span::new(at, at + 1),
    )
    .help("no pipeline needs this depth; look for a brace that was never closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::parse;

    fn code(text: &str) -> Option<&'static str> {
        let (_, diagnostics) = parse(&Source::new("t.kdl", text));
        diagnostics.first().map(|diagnostic| diagnostic.code)
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
        // Neither do they make up for those outside.
        assert_eq!(code(&"a \"}\" {".repeat(33)), Some("PW0003"));
    }

    #[test]
    fn an_unclosed_quote_hides_nothing() {
        let text = format!("a \"\n{}", "b {".repeat(40));
        let (_, diagnostics) = parse(&Source::new("t.kdl", text));
        assert!(diagnostics.iter().any(|d| d.code == "PW0003"));
    }

    #[test]
    fn size_is_bounded() {
        assert_eq!(code(&" ".repeat(MAX_BYTES + 1)), Some("PW0004"));
    }
}
