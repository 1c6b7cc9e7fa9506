//! Splits an expression into tokens.

use super::Mistake;
use crate::base::Span;

/// A token; spans count from the start of the expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A dotted name, such as `git.short-sha`.
    Name(Vec<String>),
    Int(i64),
    Text(String),
    /// An operator or a bracket.
    Sign(&'static str),
}

const SIGNS: [&str; 15] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", "[", "]", ",", ".",
];

/// All tokens of a text.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Span)>, Mistake> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let start = at;
        let rest = &text[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let raw = rest.starts_with("r\"") || rest.starts_with("r'");
        let negative = c == '-' && rest[1..].starts_with(|c: char| c.is_ascii_digit());
        let token = if raw || matches!(c, '"' | '\'') {
            let (value, len) = string(rest, start, raw)?;
            at += len;
            Token::Text(value)
        } else if c.is_ascii_digit() || negative {
            let (value, len) = int(rest, start)?;
            at += len;
            Token::Int(value)
        } else if is_name_start(c) {
            let (name, len) = name(rest);
            at += len;
            Token::Name(name)
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            at += sign.len();
            Token::Sign(sign)
        } else {
            return Err(stray(c, start));
        };
        out.push((token, Span::new(start, at)));
    }
    Ok(out)
}

/// What to say about a character that starts no token.
fn stray(c: char, start: usize) -> Mistake {
    let span = Span::new(start, start + c.len_utf8());
    let mistake = Mistake::syntax(format!("unexpected {c:?} in an expression"), span);
    match c {
        '=' => mistake.help("write `==` to compare"),
        '&' => mistake.help("write `&&` for and"),
        '|' => mistake.help("write `||` for or"),
        '+' | '-' | '*' | '/' | '%' => mistake.help("expressions have no arithmetic"),
        '?' | ':' => mistake.help("expressions have no `? :`; combine with `&&` and `||`"),
        '$' | '{' | '}' => mistake.help("write names without `${…}`"),
        '~' => mistake.help("write `.matches(\"…\")` for a regular expression"),
        _ => mistake,
    }
}

fn is_name_start(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// A dotted name; a dot belongs to it only if a name follows at once.
fn name(rest: &str) -> (Vec<String>, usize) {
    let mut parts = Vec::new();
    let mut at = 0;
    loop {
        let part = &rest[at..];
        let len = part.find(|c| !is_name(c)).unwrap_or(part.len());
        parts.push(part[..len].to_owned());
        at += len;
        let mut next = rest[at..].chars();
        if next.next() != Some('.') || !next.next().is_some_and(is_name) {
            return (parts, at);
        }
        at += 1;
    }
}

fn int(rest: &str, start: usize) -> Result<(i64, usize), Mistake> {
    let sign = usize::from(rest.starts_with('-'));
    let digits = rest[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let end = sign + digits;
    let tail = rest[end..].bytes();
    let tail = tail.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'));
    let tail = tail.count();
    let span = Span::new(start, start + end + tail);
    if tail > 0 {
        let text = &rest[..end + tail];
        return Err(
            Mistake::syntax(format!("`{text}` is not a whole number"), span).help(format!(
                "versions, durations and sizes are strings: \"{text}\""
            )),
        );
    }
    let value = rest[..end].parse();
    value
        .map(|value| (value, end))
        .map_err(|_| Mistake::syntax(format!("`{}` is too large a number", &rest[..end]), span))
}

/// A string literal with its quotes; in a raw one the backslash means itself.
fn string(rest: &str, start: usize, raw: bool) -> Result<(String, usize), Mistake> {
    let body = usize::from(raw);
    let quote = rest[body..].chars().next();
    let mut value = String::new();
    let mut chars = rest[body + 1..].char_indices();
    while let Some((at, c)) = chars.next() {
        let at = body + 1 + at;
        if Some(c) == quote {
            return Ok((value, at + 1));
        }
        if c != '\\' || raw {
            value.push(c);
            continue;
        }
        let Some((_, escaped)) = chars.next() else {
            break;
        };
        value.push(match escaped {
            '\\' | '"' | '\'' => escaped,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            other => {
                let span = Span::new(start + at, start + at + 1 + other.len_utf8());
                return Err(Mistake::syntax(format!("`\\{other}` is no escape"), span)
                    .help("write a raw string, r\"…\", where a backslash means itself"));
            }
        });
    }
    let span = Span::new(start, start + rest.len());
    Err(Mistake::syntax("string is not closed", span).help("end it with the quote it began with"))
}
