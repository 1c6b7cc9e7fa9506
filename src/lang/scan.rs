//! Text to tokens: words, strings, braces and line breaks, without spaces and comments.
//!
//! The `kdl` crate recurses, once per block, but also once per `*` or `/` of a comment and once per
//! character that it finds at the end of a document where none should be. An overflow of the stack
//! ends the process, and no bound on the nesting of a text prevents it. So the structure of a text
//! is found here and in `parse`, without recursion that depends on the text, and the crate gets
//! what it knows best, one at a time: numbers, keywords, names, and strings with escapes.

use kdl::{KdlEntry, KdlValue};

use super::MAX_DEPTH;
use super::guard::too_deep;
use super::parse::lower_first;
use crate::base::{Diagnostic, Source, Span};

/// A piece of a text.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
    /// Whether white space or a comment stands before it.
    pub spaced: bool,
    /// Whether it is the first of its line.
    pub first: bool,
    /// Start of its line.
    pub line: usize,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A name, number or keyword; whether it is a good one is not known yet.
    Word,
    /// A string and its value.
    String(String),
    /// `=`.
    Equals,
    /// `(name)`.
    Annotation,
    /// `/-`.
    Slashdash,
    /// `{`.
    Open,
    /// `}`.
    Close,
    /// The end of a node: a line break or `;`.
    End,
}

/// Splits a text. `None` if comments are nested too deeply.
pub(super) fn scan(source: &Source, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Token>> {
    let mut scanner = Scanner {
        source,
        text: source.text(),
        tokens: Vec::new(),
        line: 0,
        fresh: true,
        spaced: false,
        diagnostics,
    };
    scanner.run()?;
    Some(scanner.tokens)
}

struct Scanner<'a, 'd> {
    source: &'a Source,
    text: &'a str,
    tokens: Vec<Token>,
    line: usize,
    fresh: bool,
    spaced: bool,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Scanner<'_, '_> {
    fn run(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        // A byte order mark is legal and is no part of the first name.
        let mut at = if self.text.starts_with('\u{feff}') {
            3
        } else {
            0
        };
        self.line = at;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let end = newline(self.text, at);
            if end > at {
                self.push(Kind::End, at, end);
                (self.line, self.fresh) = (end, true);
                at = end;
                continue;
            }
            at = match rest {
                [b'/', b'/', ..] => self.skip(line_end(self.text, at)),
                [b'/', b'*', ..] => {
                    let end = self.comment(at)?;
                    self.skip(end)
                }
                [b'/', b'-', ..] => self.push(Kind::Slashdash, at, at + 2),
                [b'{', ..] => self.push(Kind::Open, at, at + 1),
                [b'}', ..] => self.push(Kind::Close, at, at + 1),
                [b';', ..] => self.push(Kind::End, at, at + 1),
                [b'=', ..] => self.push(Kind::Equals, at, at + 1),
                [b'(', ..] => self.annotation(at),
                [b')', ..] => {
                    self.error("this `)` closes nothing", Span::new(at, at + 1), QUOTE);
                    self.skip(at + 1)
                }
                [b'"' | b'#', ..] if self.quotes(at).1 > 0 => self.string(at),
                [b'\\', ..] if self.continued(at).is_some() => {
                    let end = self.continued(at).unwrap_or(at + 1);
                    // The next line continues this one, but begins anew for the indentation.
                    self.line = end;
                    self.skip(end)
                }
                _ => match self.text[at..].chars().next() {
                    Some(c) if space(c) => self.skip(at + c.len_utf8()),
                    _ => self.word(at),
                },
            };
        }
        Some(())
    }

    fn skip(&mut self, end: usize) -> usize {
        self.spaced = true;
        end
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize) -> usize {
        self.tokens.push(Token {
            kind,
            span: Span::new(start, end),
            spaced: self.spaced,
            first: self.fresh,
            line: self.line,
        });
        self.spaced = false;
        self.fresh = false;
        end
    }

    fn error(&mut self, message: &str, span: Span, help: &str) {
        self.coded("PW0001", message, span, help);
    }

    fn coded(&mut self, code: &'static str, message: &str, span: Span, help: &str) {
        // Who makes so many mistakes has not written a pipeline.
        if self.diagnostics.len() < super::parse::MAX_REPORTED {
            self.diagnostics
                .push(Diagnostic::error(code, message, self.source, span).help(help));
        }
    }

    /// Everything up to what cannot be part of a name, number or keyword.
    fn word(&mut self, start: usize) -> usize {
        let mut end = start;
        let mut before = ' ';
        for (at, c) in self.text[start..].char_indices() {
            let at = start + at;
            let rest = &self.text.as_bytes()[at..];
            let comment = rest.starts_with(b"//") || rest.starts_with(b"/*");
            let ends = matches!(c, '{' | '}' | ';' | '=' | '(' | ')' | '"')
                || space(c)
                || comment
                || newline(self.text, at) > at
                || at > start && c == '#' && before != '#' && self.quotes(at).1 > 0
                || c == '\\' && self.continued(at).is_some();
            if ends {
                break;
            }
            end = at + c.len_utf8();
            before = c;
        }
        self.push(Kind::Word, start, end.max(start + 1))
    }

    /// The end of a `\` that continues a line: white space, a comment perhaps, the line break.
    fn continued(&self, at: usize) -> Option<usize> {
        let mut end = at + 1;
        loop {
            let rest = &self.text[end..];
            end += rest.len() - rest.trim_start_matches(space).len();
            if !self.text[end..].starts_with("/*") {
                break;
            }
            end += self.text[end..].find("*/")? + 2;
        }
        if self.text[end..].starts_with("//") {
            end = line_end(self.text, end);
        }
        let past = newline(self.text, end);
        (past > end || end == self.text.len()).then_some(past)
    }

    /// Goes past a type annotation, `(name)`.
    fn annotation(&mut self, at: usize) -> usize {
        let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let rest = &self.text[at + 1..];
        let left = rest.trim_start_matches(space).trim_start_matches(plain);
        let left = left.trim_start_matches(space);
        let word = rest[..rest.len() - left.len()].trim_matches(space);
        if left.starts_with(')') && word.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return self.push(Kind::Annotation, at, self.text.len() - left.len() + 1);
        }
        let span = Span::new(at, at + 1);
        self.error("this `(` begins no type annotation", span, QUOTE);
        self.skip(at + 1)
    }

    /// The end of a comment. Comments nest.
    fn comment(&mut self, start: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut level = 0usize;
        let mut at = start;
        while at < bytes.len() {
            if bytes[at..].starts_with(b"/*") {
                level += 1;
                at += 2;
                if level > MAX_DEPTH {
                    self.diagnostics.push(too_deep(self.source, start));
                    return None;
                }
            } else if bytes[at..].starts_with(b"*/") {
                level -= 1;
                at += 2;
                if level == 0 {
                    return Some(at);
                }
            } else {
                at += 1;
            }
        }
        self.error(
            "this comment is never closed",
            Span::new(start, start + 2),
            "close it with `*/`; comments nest, so each `/*` inside needs one of its own",
        );
        Some(bytes.len())
    }

    /// How many `#` and how many quotes stand at a place.
    fn quotes(&self, at: usize) -> (usize, usize) {
        let bytes = self.text.as_bytes();
        let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
        let rest = &bytes[at + hashes..];
        let quotes = rest
            .iter()
            .take(3)
            .take_while(|byte| **byte == b'"')
            .count();
        (hashes, quotes)
    }

    fn string(&mut self, start: usize) -> usize {
        let (hashes, quotes) = self.quotes(start);
        let multi = quotes == 3;
        let quotes = if multi { 3 } else { 1 };
        let open = start + hashes + quotes;
        // `r"…"` is how KDL 1 wrote raw strings.
        let word = self.tokens.last().map(|token| token.span);
        let old = word.is_some_and(|word| {
            !self.spaced && word.end == start && self.source.slice(word) == "r"
        });
        let raw = hashes > 0 || old;
        let Some(end) = string_end(self.text, open, hashes, multi, raw) else {
            return self.unclosed(start, open, multi);
        };
        let token = Span::new(start, end);
        let inner = Span::new(open, end - hashes - quotes);
        if let Some(letter) = word.filter(|_| old) {
            let popped = self.tokens.pop();
            self.spaced = popped.is_some_and(|token| token.spaced);
            let value = self.source.slice(inner).to_owned();
            self.coded(
                "PW0002",
                "this raw string is written as in KDL 1",
                letter,
                "KDL 2 writes raw strings `#\"…\"#`, without the `r`",
            );
            return self.push(Kind::String(value), letter.start, end);
        }
        let value = self.decode(token, inner, raw, multi);
        self.push(Kind::String(value), start, end)
    }

    /// Reports a string without an end and takes what may be part of it.
    fn unclosed(&mut self, start: usize, open: usize, multi: bool) -> usize {
        if multi {
            self.error(
                "this string is never closed",
                Span::new(start, open),
                "close it with as many quotes and `#` as it was opened with",
            );
            let value = self.text[open..].to_owned();
            return self.push(Kind::String(value), start, self.text.len());
        }
        let line = self.text[start..line_end(self.text, start)].trim_end();
        self.error(
            "this string is not closed on its line",
            Span::new(start, start + line.len()),
            "close it, or write a text of several lines between `\"\"\"` and `\"\"\"`, each on a line of its own",
        );
        // Closing braces at the end belong to the blocks that the line opened.
        let line_start = self.line;
        let tokens = self.tokens.iter().rev();
        let opened =
            tokens
                .take_while(|token| token.line == line_start)
                .fold(0isize, |open, token| match token.kind {
                    Kind::Open => open + 1,
                    Kind::Close => open - 1,
                    _ => open,
                });
        let kept = line.trim_end_matches([' ', '\t', '}']);
        let closing = line[kept.len()..].matches('}').count() as isize;
        let end = if closing > 0 && closing <= opened {
            start + kept.len().max(open - start)
        } else {
            start + line.len()
        };
        let value = self.text[open..end.max(open)].to_owned();
        self.push(Kind::String(value), start, end.max(open))
    }

    /// The value of a string. Reports what is wrong with it.
    fn decode(&mut self, token: Span, place: Span, raw: bool, multi: bool) -> String {
        let text = self.text;
        let inner = &text[place.start..place.end];
        let plain = !inner.contains(|c: char| c.is_control() || !c.is_ascii() && odd(c));
        if plain && !multi && (raw || !inner.contains('\\')) {
            return inner.to_owned();
        }
        if !raw && let Some((at, len)) = lone_backslash(inner) {
            let start = place.start + at;
            let message = format!("`{}` is not an escape in a string", &inner[at..at + len]);
            self.error(
                &message,
                Span::new(start, start + len),
                "write the string raw, `#\"…\"#`, so that backslashes stand for themselves, or double the backslash",
            );
            return inner.to_owned();
        }
        if multi && newline(inner, 0) == 0 {
            let span = Span::new(token.start, place.start);
            let help = "go on in the next line; the last line holds the closing quotes alone";
            self.error("a text of several lines begins here", span, help);
            return inner.to_owned();
        }
        // A string that the parser does not like must not make it find a comment inside.
        let text = &text[token.start..token.end];
        let stand_in = ('\u{e000}'..='\u{f8ff}').find(|c| !text.contains(*c));
        let stand_in = stand_in.unwrap_or('\u{e000}').to_string();
        match KdlEntry::parse(&text.replace('/', &stand_in)) {
            Ok(entry) => match entry.value() {
                KdlValue::String(value) => value.replace(&stand_in, "/"),
                _ => inner.to_owned(),
            },
            Err(error) => {
                let problem = error.diagnostics.first();
                let message = problem.and_then(|problem| problem.message.as_deref());
                let help = problem.and_then(|problem| problem.help.as_deref());
                let first = Span::new(token.start, line_end(self.text, token.start).min(token.end));
                let message = lower_first(message.unwrap_or("not a string"));
                let help = help.unwrap_or(
                    "a text of several lines stands between `\"\"\"` and `\"\"\"`, each on a line of its own, and is indented at least as far as the last of them",
                );
                self.error(&message, first, help);
                inner.to_owned()
            }
        }
    }
}

/// What KDL takes for a space.
fn space(c: char) -> bool {
    matches!(
        c,
        '\t' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    )
}

const QUOTE: &str =
    "put quotes around values that hold anything but letters, digits, `-`, `_` and `.`";

/// Characters that KDL does not take literally.
fn odd(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The end of the line break at a place; the place itself if there is none.
fn newline(text: &str, at: usize) -> usize {
    let bytes = &text.as_bytes()[at..];
    let len = match bytes {
        [b'\r', b'\n', ..] | [0xc2, 0x85, ..] => 2,
        [b'\n' | b'\r' | 0x0b | 0x0c, ..] => 1,
        [0xe2, 0x80, 0xa8 | 0xa9, ..] => 3,
        _ => 0,
    };
    at + len
}

/// The first line break at or after a place, or the end.
pub(super) fn line_end(text: &str, mut at: usize) -> usize {
    while at < text.len() && newline(text, at) == at {
        at += 1;
    }
    at
}

/// One past the closing quotes of a string.
fn string_end(text: &str, open: usize, hashes: usize, multi: bool, raw: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut closing = vec![b'"'; if multi { 3 } else { 1 }];
    closing.extend(std::iter::repeat_n(b'#', hashes));
    let mut at = open;
    while at < bytes.len() {
        if bytes[at..].starts_with(&closing) {
            return Some(at + closing.len());
        }
        if !raw && bytes[at] == b'\\' {
            at += 1;
            // A backslash before white space takes all of it away, line breaks included.
            let rest = text.get(at..).unwrap_or("");
            let space = rest.len() - rest.trim_start().len();
            at += match space {
                0 => rest.chars().next().map_or(0, char::len_utf8),
                space => space,
            };
            continue;
        }
        if !multi && newline(text, at) > at {
            return None;
        }
        at += 1;
    }
    None
}

/// A backslash that starts no escape: its place and the length of what it wants to be.
fn lone_backslash(text: &str) -> Option<(usize, usize)> {
    let mut rest = text.char_indices();
    while let Some((at, c)) = rest.next() {
        if c != '\\' {
            continue;
        }
        match rest.next() {
            Some((_, 'n' | 'r' | 't' | '\\' | '"' | 'b' | 'f' | 's')) => {}
            Some((_, c)) if c.is_whitespace() => {}
            Some((_, 'u')) => {
                let digits = text[at + 2..]
                    .strip_prefix('{')
                    .and_then(|rest| rest.split_once('}'))
                    .map(|(digits, _)| digits);
                let code = digits
                    .filter(|digits| (1..=6).contains(&digits.len()))
                    .and_then(|digits| u32::from_str_radix(digits, 16).ok());
                if code.and_then(char::from_u32).is_none() {
                    return Some((at, 2));
                }
            }
            Some((_, c)) => return Some((at, 1 + c.len_utf8())),
            None => return Some((at, 1)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> (String, Vec<String>) {
        let source = Source::new("t.kdl", text);
        let mut diagnostics = Vec::new();
        let tokens = scan(&source, &mut diagnostics).unwrap_or_default();
        let shown = tokens.iter().map(|token| match &token.kind {
            Kind::Word => source.slice(token.span).to_owned(),
            Kind::String(value) => format!("{value:?}"),
            Kind::Equals => "=".to_owned(),
            Kind::Annotation => "()".to_owned(),
            Kind::Slashdash => "/-".to_owned(),
            Kind::Open => "{".to_owned(),
            Kind::Close => "}".to_owned(),
            Kind::End => ";".to_owned(),
        });
        let shown: Vec<_> = shown.collect();
        let messages = diagnostics.into_iter().map(|d| d.message);
        (shown.join(" "), messages.collect())
    }

    #[test]
    fn texts_are_split() {
        for (text, expected) in [
            ("a \"b\" c=1", "a \"b\" c = 1"),
            ("a #\"{\\\"}\"# {\n}", "a \"{\\\\\\\"}\" { ; }"),
            ("a // {\nb", "a ; b"),
            ("a /* { /* \" */ \n */ b", "a b"),
            ("a \\  // c\n b", "a b"),
            ("/-a;(t)b #true", "/- a ; () b #true"),
            ("a \"\"\"\n  x/*\n  y\n  \"\"\"", "a \"x/*\\ny\""),
            ("a \"x \\\n   y\"", "a \"x y\""),
            ("a \"\\u{1F600}\"", "a \"\u{1f600}\""),
            ("\u{feff}a\u{3000}\"\"", "a \"\""),
        ] {
            assert_eq!(kinds(text), (expected.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_explained() {
        for (text, message) in [
            ("a \"b", "this string is not closed on its line"),
            ("a { b \"c }", "this string is not closed on its line"),
            ("a \"\"\"\nb", "this string is never closed"),
            ("a /* b", "this comment is never closed"),
            ("a \"\\d\"", "`\\d` is not an escape in a string"),
            ("a \"\\u{d800}\"", "`\\u` is not an escape in a string"),
            ("a r\"\\d\"", "this raw string is written as in KDL 1"),
            ("a r#\"x\"#", "this raw string is written as in KDL 1"),
            ("a )", "this `)` closes nothing"),
            ("a (x", "this `(` begins no type annotation"),
        ] {
            assert_eq!(kinds(text).1, [message], "{text}");
        }
        assert_eq!(kinds("a { b \"c }\nd").0, "a { b \"c\" } ; d");
        assert_eq!(kinds("a r\"\\d\" b").0, "a \"\\\\d\" b");
    }
}
