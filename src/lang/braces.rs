//! Which brace is missing, and which is one too many.
//!
//! Counting alone blames the end of the file. Where the braces of a text do not balance, its
//! indentation tells what was meant.

use super::MAX_DEPTH;
use super::guard::too_deep;
use super::scan::{Kind, Token};
use crate::base::{Diagnostic, Source, Span};

/// Findings of one file at most; one mistake early makes many later.
const MAX_REPORTED: usize = 10;

/// Balances the braces of a text by taking some out and putting others in, and reports which.
/// `None` if they nest too deeply.
pub(super) fn balance(
    source: &Source,
    tokens: Vec<Token>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Token>> {
    let mut depth = 0usize;
    let mut balanced = true;
    let (mut opens, mut closes) = (0usize, 0usize);
    for token in &tokens {
        match token.kind {
            Kind::Open => {
                opens += 1;
                depth += 1;
                if depth > MAX_DEPTH {
                    diagnostics.push(too_deep(source, token.span.start));
                    return None;
                }
            }
            Kind::Close => {
                closes += 1;
                balanced &= depth > 0;
                depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }
    if balanced && depth == 0 {
        return Some(tokens);
    }
    let too_many = closes.saturating_sub(opens);
    mend(source, &tokens, too_many, diagnostics)
}

/// What would mend a text.
#[derive(Default)]
struct Mending {
    /// Positions of braces that close nothing, in order.
    surplus: Vec<usize>,
    /// Blocks that are never closed: where they open, and before which position they should end.
    missing: Vec<(Span, usize)>,
}

fn mend(
    source: &Source,
    tokens: &[Token],
    too_many: usize,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Token>> {
    let indent = |token: &Token| {
        let line = &source.text()[token.line..token.span.start];
        line.len() - line.trim_start_matches([' ', '\t']).len()
    };
    let mut mending = Mending::default();
    let mut open: Vec<(&Token, usize)> = Vec::new();
    let mut line_first = 0;
    for (at, token) in tokens.iter().enumerate() {
        if token.first {
            line_first = at;
        }
        match token.kind {
            Kind::Open => {
                // A block belongs to the line it opens on, and so does its indentation.
                open.push((token, indent(&tokens[line_first])));
                if open.len() > MAX_DEPTH {
                    diagnostics.push(too_deep(source, token.span.start));
                    return None;
                }
            }
            Kind::Close => {
                let own = indent(token);
                // A brace on a line of its own closes the block that is indented like it.
                if token.first && open.iter().any(|(_, other)| *other == own) {
                    while let Some((top, _)) = open.pop_if(|(_, other)| *other > own) {
                        mending.missing.push((top.span, at));
                    }
                }
                // A brace behind something closes what its own line opened.
                let elsewhere = open.last().is_some_and(|(top, _)| top.line != token.line);
                let behind = !token.first && elsewhere && mending.surplus.len() < too_many;
                if behind || open.pop().is_none() {
                    mending.surplus.push(at);
                }
            }
            _ => {}
        }
    }
    while let Some((top, own)) = open.pop() {
        let after = tokens.partition_point(|token| token.span.start <= top.span.start);
        // It ends before the next line that is indented no further.
        let end = tokens[after..].iter().position(|token| {
            token.first && token.line > top.line && token.kind != Kind::End && indent(token) <= own
        });
        mending
            .missing
            .push((top.span, end.map_or(tokens.len(), |end| after + end)));
    }
    mending.report(source, tokens, diagnostics);
    Some(mending.apply(tokens))
}

impl Mending {
    fn report(&self, source: &Source, tokens: &[Token], diagnostics: &mut Vec<Diagnostic>) {
        for (span, _) in self.missing.iter().take(MAX_REPORTED) {
            diagnostics.push(
                Diagnostic::error("PW0001", "this `{` is never closed", source, *span)
                    .help("add the missing `}`"),
            );
        }
        for at in self.surplus.iter().take(MAX_REPORTED) {
            let span = tokens[*at].span;
            diagnostics.push(
                Diagnostic::error("PW0001", "this `}` closes nothing", source, span)
                    .help("remove it, or look for the `{` it should close"),
            );
        }
    }

    fn apply(mut self, tokens: &[Token]) -> Vec<Token> {
        self.missing.sort_by_key(|(_, before)| *before);
        let mut missing = self.missing.iter().peekable();
        let mut surplus = self.surplus.iter().peekable();
        let mut mended = Vec::with_capacity(tokens.len() + self.missing.len() * 2);
        for at in 0..=tokens.len() {
            while missing.next_if(|(_, before)| *before == at).is_some() {
                // It stands where the last token ends, on no line of its own.
                let end = at.checked_sub(1).map_or(0, |last| tokens[last].span.end);
                for kind in [Kind::Close, Kind::End] {
                    mended.push(Token {
                        kind,
                        span: Span::new(end, end),
                        spaced: true,
                        first: false,
                        line: end,
                    });
                }
            }
            if surplus.next_if(|place| **place == at).is_none() {
                mended.extend(tokens.get(at).cloned());
            }
        }
        mended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::scan::scan;

    /// Where braces are missing (by the line of their `{`) and surplus (by their own line).
    fn lines(text: &str) -> Vec<String> {
        let source = Source::new("t.kdl", text);
        let mut diagnostics = Vec::new();
        let tokens = scan(&source, &mut diagnostics).expect("not deep");
        let mended = balance(&source, tokens, &mut diagnostics).expect("not deep");
        let depth = mended.iter().fold(0, |depth, token| match token.kind {
            Kind::Open => depth + 1,
            Kind::Close => depth - 1,
            _ => depth,
        });
        assert_eq!(depth, 0, "{text}");
        let shown = diagnostics.iter().map(|found| {
            let (line, _) = source.line_column(found.span.start);
            format!("{} {line}", source.slice(found.span))
        });
        shown.collect()
    }

    #[test]
    fn indentation_tells_what_was_meant() {
        for (text, expected) in [
            ("a {\n  b\n}\n", vec![]),
            ("a {\n  b\n", vec!["{ 1"]),
            ("a {\n  b {\n    c\n  d {\n    e\n  }\n}\n", vec!["{ 2"]),
            ("a {\n  b\nc {\n  d\n}\n", vec!["{ 1"]),
            ("a {\n  b { c } }\n  d { e }\n}\n", vec!["} 2"]),
            ("a {\n  b\n}\n}\n", vec!["} 4"]),
            ("}}}", vec!["} 1", "} 1", "} 1"]),
        ] {
            assert_eq!(lines(text), expected, "{text}");
        }
    }
}
