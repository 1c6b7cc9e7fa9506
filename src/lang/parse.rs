//! Text to [`Document`], with what can be saved of a broken one.
//!
//! One mistake never hides the rest: what is wrong with a value leaves its node in place, and a
//! missing brace leaves the blocks around it. Values, names and keywords are read by the `kdl`
//! crate; its messages are explained anew where they would puzzle.

use std::iter::Peekable;
use std::vec::IntoIter;

use kdl::{KdlEntry, KdlValue};

use super::braces::balance;
use super::guard::too_large;
use super::scan::{Kind, Token, scan};
use super::{Document, Node, Prop, Value, ValueKind};
use crate::base::{Applicability, Diagnostic, Source, Span, Spanned};

/// Syntax problems of one file at most.
pub(super) const MAX_REPORTED: usize = 20;

/// Parses a file and reports every syntax problem.
pub fn parse(source: &Source) -> (Document, Vec<Diagnostic>) {
    let mut diagnostics: Vec<Diagnostic> = too_large(source).into_iter().collect();
    let tokens = match diagnostics.is_empty() {
        true => scan(source, &mut diagnostics),
        false => None,
    };
    let tokens = tokens.and_then(|tokens| balance(source, tokens, &mut diagnostics));
    let mut parser = Parser {
        source,
        tokens: tokens.unwrap_or_default().into_iter().peekable(),
        diagnostics: &mut diagnostics,
    };
    let document = Document {
        source: source.clone(),
        nodes: parser.nodes(),
    };
    diagnostics.sort_by_key(|found| found.span);
    diagnostics.truncate(MAX_REPORTED);
    (document, diagnostics)
}

/// Reads balanced tokens. Recurses once per block, and blocks are bounded.
struct Parser<'a, 'd> {
    source: &'a Source,
    tokens: Peekable<IntoIter<Token>>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

/// What can stand before a node, an entry or a block.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Keep,
    /// It follows `/-`.
    Drop,
}

impl Parser<'_, '_> {
    fn peek(&mut self) -> Option<&Kind> {
        self.tokens.peek().map(|token| &token.kind)
    }

    fn take(&mut self, kind: &Kind) -> Option<Token> {
        self.tokens.next_if(|token| token.kind == *kind)
    }

    fn error(&mut self, message: &str, span: Span, help: &str) {
        let found = Diagnostic::error("PW0001", message, self.source, span).help(help);
        self.report(found);
    }

    fn report(&mut self, found: Diagnostic) {
        if self.diagnostics.len() < MAX_REPORTED {
            self.diagnostics.push(found);
        }
    }

    /// Nodes up to the end of the block or of the text.
    fn nodes(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        loop {
            while let Some(end) = self.take(&Kind::End) {
                if self.source.slice(end.span) == ";" {
                    self.error("this `;` ends no node", end.span, "remove it");
                }
            }
            let mode = self.slashdash();
            match self.peek() {
                None | Some(Kind::Close) => return nodes,
                Some(_) => {}
            }
            let node = self.node();
            if mode == Mode::Keep {
                nodes.extend(node);
            }
            self.take(&Kind::End);
        }
    }

    fn slashdash(&mut self) -> Mode {
        let source = self.source;
        let mut mode = Mode::Keep;
        while let Some(token) = self.take(&Kind::Slashdash) {
            if mode == Mode::Drop {
                let help = "one `/-` takes out what follows it";
                self.error("this `/-` follows another", token.span, help);
            }
            mode = Mode::Drop;
            let mut last = token.span;
            while let Some(end) = self
                .tokens
                .next_if(|next| next.kind == Kind::End && source.slice(next.span) != ";")
            {
                last = end.span;
            }
            if matches!(self.peek(), None | Some(Kind::Close | Kind::End)) {
                let span = token.span.to(Span::new(last.start, last.start));
                self.error("this `/-` takes nothing out", span, "remove it");
            }
        }
        mode
    }

    /// A node; none if there is no name to call it by.
    fn node(&mut self) -> Option<Node> {
        let annotated = self.take(&Kind::Annotation);
        let name = match self.peek() {
            Some(Kind::Word | Kind::String(_)) => {
                let token = self.tokens.next()?;
                self.name(token)
            }
            Some(Kind::Open) => {
                let token = self.tokens.next()?;
                let help = "write the name of a node before it";
                self.error("this block belongs to no node", token.span, help);
                self.nodes();
                self.tokens.next();
                return None;
            }
            _ => {
                let token = match (self.peek(), annotated) {
                    (None | Some(Kind::Close | Kind::End | Kind::Slashdash), Some(token)) => token,
                    _ => self.tokens.next()?,
                };
                self.error(
                    "a name was expected here",
                    token.span,
                    "begin a node with its name",
                );
                return None;
            }
        };
        let mut node = Node {
            source: self.source.clone(),
            span: name.span,
            name,
            args: Vec::new(),
            props: Vec::new(),
            children: Vec::new(),
            has_block: false,
        };
        self.rest(&mut node);
        Some(node)
    }

    /// Arguments, properties and children.
    fn rest(&mut self, node: &mut Node) {
        let mut after_block = false;
        loop {
            let before = self.tokens.peek().map(|token| (token.span, token.spaced));
            let mode = self.slashdash();
            match (self.peek(), mode) {
                (None | Some(Kind::Close | Kind::End), _) => return,
                (Some(Kind::Open), mode) => {
                    let Some(open) = self.tokens.next() else {
                        return;
                    };
                    let children = self.nodes();
                    let close = self.tokens.next().map_or(open.span, |token| token.span);
                    after_block = true;
                    if mode == Mode::Drop {
                        continue;
                    }
                    if node.has_block {
                        let help = "put everything into one of the two";
                        self.error("this node has a block already", open.span, help);
                    }
                    node.has_block = true;
                    node.children.extend(children);
                    node.span = node.span.to(close);
                }
                (Some(_), mode) => {
                    let (place, spaced) = before.unwrap_or((node.span, true));
                    if after_block {
                        let help = "write a line break or `;` after the block";
                        self.error("another node begins here", place, help);
                        return;
                    }
                    if !spaced {
                        let help = "put a space before it, or quotes around the whole";
                        self.error("a space is missing here", place, help);
                    }
                    self.entry(node, mode);
                }
            }
        }
    }

    /// An argument or a property. It is left out of the node if a `/-` stands before it.
    fn entry(&mut self, node: &mut Node, mode: Mode) {
        let annotation = self.take(&Kind::Annotation);
        let Some(first) = self.operand(annotation.as_ref()) else {
            return;
        };
        let start = annotation.map_or(first.span.start, |token| token.span.start);
        let Some(equals) = self.take(&Kind::Equals) else {
            let value = self.value(first, start);
            if mode == Mode::Keep {
                node.span = node.span.to(value.span);
                node.args.push(value);
            }
            return;
        };
        if start != first.span.start {
            let help = "a type annotation stands before a value, not before a property";
            self.error(
                "this property is annotated",
                Span::new(start, first.span.start),
                help,
            );
        }
        let name = self.name(first);
        let annotation = self.take(&Kind::Annotation);
        let Some(second) = self.operand(annotation.as_ref().or(Some(&equals))) else {
            return;
        };
        let start = annotation.map_or(second.span.start, |token| token.span.start);
        let value = self.value(second, start);
        if mode == Mode::Keep {
            node.span = node.span.to(value.span);
            node.props.push(Prop { name, value });
        }
    }

    /// A word or a string; anything else is reported.
    fn operand(&mut self, before: Option<&Token>) -> Option<Token> {
        if let Some(Kind::Word | Kind::String(_)) = self.peek() {
            return self.tokens.next();
        }
        let help = "write a value here, or take the character before it out";
        match before {
            Some(token) => self.error("a value is missing after this", token.span, help),
            None => {
                let span = self.tokens.next()?.span;
                self.error("a value was expected here", span, help);
            }
        }
        None
    }

    fn name(&mut self, token: Token) -> Spanned<String> {
        let span = token.span;
        let text = match token.kind {
            Kind::String(text) => text,
            _ => {
                let word = self.source.slice(span);
                if !plain(word) && !matches!(read(word), Some(ValueKind::String(_))) {
                    self.bad_word(span);
                }
                word.to_owned()
            }
        };
        Spanned::new(text, span)
    }

    /// The value of a token that may have an annotation before it.
    fn value(&mut self, token: Token, start: usize) -> Value {
        let span = Span::new(start, token.span.end);
        let kind = match token.kind {
            Kind::String(text) => ValueKind::String(text),
            _ => {
                let word = self.source.slice(token.span);
                match word {
                    _ if plain(word) => ValueKind::String(word.to_owned()),
                    _ => match read(word) {
                        Some(kind) => kind,
                        None => {
                            self.bad_word(token.span);
                            ValueKind::String(word.to_owned())
                        }
                    },
                }
            }
        };
        Value {
            kind,
            span,
            raw: self.source.slice(span).to_owned(),
        }
    }

    /// Reports a word that is no name, number or keyword.
    fn bad_word(&mut self, span: Span) {
        let word = self.source.slice(span);
        if KEYWORDS.contains(&word) {
            let found = Diagnostic::error(
                "PW0001",
                format!("`{word}` must be written `#{word}`"),
                self.source,
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
            return self.report(found);
        }
        let mut found = Diagnostic::error(
            "PW0001",
            "a name or a quoted value was expected here",
            self.source,
            span,
        )
        .help("put quotes around values that hold anything but letters, digits, `-`, `_` and `.`");
        if !word.contains(['"', '\\', '#']) && !word.chars().any(char::is_control) {
            let quoted = format!("\"{word}\"");
            found = found.fix("put it into quotes", Applicability::Safe, span, quoted);
        }
        self.report(found);
    }
}

/// Words that KDL 1 had and KDL 2 does not.
const KEYWORDS: [&str; 3] = ["true", "false", "null"];

/// Whether a word is plainly a name, so that nobody else need be asked.
fn plain(word: &str) -> bool {
    let others = ["inf", "nan"];
    word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !KEYWORDS.contains(&word)
        && !others.contains(&word)
}

/// A number, a keyword or a name that is not plain.
fn read(word: &str) -> Option<ValueKind> {
    // The crate takes a `\` at the end for a line that goes on.
    if word.contains('\\') {
        return None;
    }
    Some(match KdlEntry::parse(word).ok()?.value() {
        KdlValue::String(text) => ValueKind::String(text.clone()),
        KdlValue::Integer(number) => ValueKind::Integer(*number),
        KdlValue::Float(number) => ValueKind::Float(*number),
        KdlValue::Bool(flag) => ValueKind::Bool(*flag),
        KdlValue::Null => ValueKind::Null,
    })
}

pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
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
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
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
