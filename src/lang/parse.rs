//! Text to [`Document`], with what can be saved of a broken one.
//!
//! The parser returns no tree when anything is wrong. So that one mistake does not hide the
//! rest, the lines it complains about are blanked (offsets stay) and the text is parsed again,
//! a bounded number of times. Its messages are explained anew where they would puzzle.

use kdl::{KdlDocument, KdlError, KdlNode, KdlValue};

use super::guard::guard;
use super::{Document, Node, Prop, Value, ValueKind};
use crate::base::{Applicability, Diagnostic, Source, Span, Spanned};

const MAX_REPARSES: usize = 16;
const MAX_REPORTED: usize = 20;

/// Parses a file and reports every syntax problem.
pub fn parse(source: &Source) -> (Document, Vec<Diagnostic>) {
    let empty = || Document {
        source: source.clone(),
        nodes: Vec::new(),
    };
    if let Some(diagnostic) = guard(source) {
        return (empty(), vec![diagnostic]);
    }
    let mut diagnostics = Vec::new();
    let mut text = source.text().to_owned();
    // A byte order mark is legal and is no part of the first name.
    if text.starts_with('\u{feff}') {
        text.replace_range(..3, "   ");
    }
    for _ in 0..MAX_REPARSES {
        match KdlDocument::parse(&text) {
            Ok(document) => {
                let nodes = document
                    .nodes()
                    .iter()
                    .map(|node| convert(node, source))
                    .collect();
                let document = Document {
                    source: source.clone(),
                    nodes,
                };
                return (document, diagnostics);
            }
            Err(error) => {
                let lines = report(&error, source, &mut diagnostics);
                if diagnostics.len() >= MAX_REPORTED || !blank(&mut text, &lines) {
                    break;
                }
            }
        }
    }
    (empty(), diagnostics)
}

/// Adds what is new in a parser's error and returns the spans of the lines to blank.
fn report(error: &KdlError, source: &Source, diagnostics: &mut Vec<Diagnostic>) -> Vec<Span> {
    let mut lines: Vec<Span> = Vec::new();
    for problem in &error.diagnostics {
        let span = Span::new(
            problem.span.offset(),
            problem.span.offset() + problem.span.len(),
        );
        let line = line_at(source.text(), span.start);
        // The parser often stumbles several times over one mistake; its first word is the useful one.
        if lines.contains(&line) {
            continue;
        }
        lines.push(line);
        let message = problem.message.as_deref().unwrap_or("syntax error");
        diagnostics.push(explain(
            message,
            problem.help.as_deref(),
            source,
            span,
            line,
        ));
    }
    lines
}

fn explain(
    message: &str,
    help: Option<&str>,
    source: &Source,
    span: Span,
    line: Span,
) -> Diagnostic {
    let text = source.slice(line);
    if let Some((at, word)) = bare_keyword(text) {
        let span = Span::new(line.start + at, line.start + at + word.len());
        return Diagnostic::error(
            "PW0001",
            format!("`{word}` must be written `#{word}`"),
            source,
            span,
        )
        .help(format!(
            "write `#{word}` for the value, or `\"{word}\"` for the word"
        ))
        .fix(
            format!("write `#{word}`"),
            Applicability::Safe,
            span,
            format!("#{word}"),
        );
    }
    if let Some(at) = text.find("r\"").or_else(|| text.find("r#\"")) {
        let span = Span::new(line.start + at, line.start + at + 1);
        return Diagnostic::error(
            "PW0002",
            "this raw string is written as in KDL 1",
            source,
            span,
        )
        .help("KDL 2 writes raw strings `#\"…\"#`, without the `r`");
    }
    if let Some((at, piece)) = lone_backslash(source, span, line) {
        return Diagnostic::error("PW0001", format!("`{piece}` is not an escape in a string"), source, at).help(
            "write the string raw, `#\"…\"#`, so that backslashes stand for themselves, or double the backslash",
        );
    }
    let plain = match message {
        "Expected identifier string" | "Found invalid node name" => {
            "a name or a quoted value was expected here"
        }
        "Unexpected newline in single-line quoted string" | "Expected quoted string" => {
            "this string is not closed on its line"
        }
        "No closing '}' for child block" | "Closing '}' was not found after nodes" => {
            "this `{` is never closed"
        }
        "Expected end of document" => "this `}` closes nothing",
        other => other,
    };
    let mut diagnostic = Diagnostic::error("PW0001", lower_first(plain), source, span);
    diagnostic.help = match plain {
        "a name or a quoted value was expected here" => Some(
            "put quotes around values that hold anything but letters, digits, `-`, `_` and `.`"
                .to_owned(),
        ),
        "this `{` is never closed" => Some("add the missing `}`".to_owned()),
        "this `}` closes nothing" => {
            Some("remove it, or look for the `{` it should close".to_owned())
        }
        _ => help.map(str::to_owned),
    };
    diagnostic
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// `true`, `false` or `null` as a bare value, which KDL 2 does not have.
fn bare_keyword(line: &str) -> Option<(usize, &str)> {
    for word in ["true", "false", "null"] {
        for (at, _) in line.match_indices(word) {
            let before = line[..at].chars().next_back();
            let after = line[at + word.len()..].chars().next();
            let starts = matches!(before, Some(' ' | '\t' | '='));
            let ends = !matches!(after, Some(c) if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '"'));
            if starts && ends && line[..at].matches('"').count().is_multiple_of(2) {
                return Some((at, word));
            }
        }
    }
    None
}

/// A backslash in the faulty place that starts no KDL escape.
fn lone_backslash(source: &Source, span: Span, line: Span) -> Option<(Span, String)> {
    let whole = span.to(line);
    let text = source.slice(whole);
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '\\' {
            continue;
        }
        match chars.next() {
            Some((_, 'n' | 'r' | 't' | '\\' | '"' | 'b' | 'f' | 'u' | 's' | '/' | '\n' | ' '))
            | None => {}
            Some((end, next)) => {
                let span = Span::new(whole.start + at, whole.start + end + next.len_utf8());
                return Some((span, format!("\\{next}")));
            }
        }
    }
    None
}

fn line_at(text: &str, offset: usize) -> Span {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let start = text[..offset].rfind('\n').map_or(0, |at| at + 1);
    let end = text[offset..]
        .find('\n')
        .map_or(text.len(), |at| offset + at);
    Span::new(start, end)
}

/// Replaces lines by spaces but keeps the braces, so that the nesting around them survives.
/// Returns false if nothing changed.
fn blank(text: &mut String, lines: &[Span]) -> bool {
    let mut bytes = std::mem::take(text).into_bytes();
    let mut changed = false;
    for line in lines {
        let slice = &mut bytes[line.start..line.end];
        let only_braces = slice
            .iter()
            .all(|byte| matches!(byte, b' ' | b'{' | b'}' | b'\t' | b'x'));
        let opens = slice.iter().filter(|byte| **byte == b'{').count();
        let closes = slice.iter().filter(|byte| **byte == b'}').count();
        // `x {` keeps an opening line a valid node; whatever does not fit is blanked whole.
        let keep = !only_braces && opens == closes + 1 && slice.len() >= 3;
        for byte in slice.iter_mut() {
            if *byte != b' ' {
                *byte = b' ';
                changed = true;
            }
        }
        if keep {
            slice[..3].copy_from_slice(b"x {");
        } else if !only_braces && closes == opens + 1 {
            slice[0] = b'}';
        }
    }
    // Only whole lines were replaced, by ASCII.
    *text =
        String::from_utf8(bytes).expect("blanked lines are ASCII and begin and end at line ends");
    changed
}

fn convert(node: &KdlNode, source: &Source) -> Node {
    let name_span = span_of(node.name().span());
    let mut args = Vec::new();
    let mut props = Vec::new();
    let mut end = name_span.end;
    for entry in node.entries() {
        let span = span_of(entry.span());
        end = end.max(span.end);
        match entry.name() {
            None => args.push(value(entry.value(), source, span)),
            Some(name) => {
                let name_span = span_of(name.span());
                let start = source
                    .slice(span)
                    .find('=')
                    .map_or(span.start, |at| span.start + at + 1);
                props.push(Prop {
                    name: Spanned::new(name.value().to_owned(), name_span),
                    value: value(entry.value(), source, Span::new(start, span.end)),
                });
            }
        }
    }
    let children: Vec<Node> = node
        .children()
        .map(|block| {
            block
                .nodes()
                .iter()
                .map(|child| convert(child, source))
                .collect()
        })
        .unwrap_or_default();
    if node.children().is_some() {
        let whole = span_of(node.span());
        let text = source.slice(whole);
        end = end.max(whole.start + text.trim_end().len());
    }
    Node {
        source: source.clone(),
        name: Spanned::new(node.name().value().to_owned(), name_span),
        args,
        props,
        children,
        span: Span::new(name_span.start, end),
        has_block: node.children().is_some(),
    }
}

fn value(value: &KdlValue, source: &Source, span: Span) -> Value {
    let kind = match value {
        KdlValue::String(text) => ValueKind::String(text.clone()),
        KdlValue::Integer(number) => ValueKind::Integer(*number),
        KdlValue::Float(number) => ValueKind::Float(*number),
        KdlValue::Bool(flag) => ValueKind::Bool(*flag),
        KdlValue::Null => ValueKind::Null,
    };
    Value {
        kind,
        span,
        raw: source.slice(span).to_owned(),
    }
}

fn span_of(span: miette::SourceSpan) -> Span {
    Span::new(span.offset(), span.offset() + span.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> (Vec<String>, Vec<String>) {
        let source = Source::new("t.kdl", text);
        let (document, diagnostics) = parse(&source);
        let names = document
            .nodes
            .iter()
            .map(|node| node.name.value.clone())
            .collect();
        let messages = diagnostics
            .iter()
            .map(|d| format!("{} {} @{}", d.code, d.message, source.slice(d.span)))
            .collect();
        (names, messages)
    }

    #[test]
    fn spans_are_exact() {
        let source = Source::new("t.kdl", "a \"日本\" b=\"x\" {\n c 1\n}\n");
        let (document, diagnostics) = parse(&source);
        assert!(diagnostics.is_empty());
        let node = &document.nodes[0];
        assert_eq!(source.slice(node.args[0].span), "\"日本\"");
        assert_eq!(source.slice(node.props[0].value.span), "\"x\"");
        assert_eq!(source.slice(node.children[0].args[0].span), "1");
        assert_eq!(source.slice(node.span), "a \"日本\" b=\"x\" {\n c 1\n}");
    }

    #[test]
    fn one_mistake_does_not_hide_the_rest() {
        let (names, messages) = problems("a 1\nb x=true\nc 2\nd y=false\ne 3\n");
        assert_eq!(names, ["a", "c", "e"]);
        assert_eq!(
            messages,
            [
                "PW0001 `true` must be written `#true` @true",
                "PW0001 `false` must be written `#false` @false"
            ]
        );
    }

    #[test]
    fn a_broken_line_that_opens_a_block_keeps_what_follows() {
        let (names, messages) = problems("a {\n  b x=true {\n    c 1\n  }\n}\nd 2\n");
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(names, ["a", "d"]);
    }

    #[test]
    fn messages_are_explained() {
        for (text, expected) in [
            (
                "run { output x match=\"\\d\" }",
                "PW0001 `\\d` is not an escape in a string @\\d",
            ),
            ("a }\n", "PW0001 this `}` closes nothing @}"),
            (
                "a r\"x\"\n",
                "PW0002 this raw string is written as in KDL 1 @r",
            ),
        ] {
            let (_, messages) = problems(text);
            assert_eq!(
                messages.first().map(String::as_str),
                Some(expected),
                "{text}"
            );
        }
        let (_, messages) = problems("a {\n b\n");
        assert!(
            messages[0].starts_with("PW0001 this `{` is never closed"),
            "{messages:?}"
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_name() {
        assert_eq!(problems("\u{feff}a 1\n").0, ["a"]);
    }
}
