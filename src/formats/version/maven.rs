//! The order of Maven, as its POM reference describes it and `ComparableVersion` of Maven 3.9 and
//! later sorts.
//!
//! Zeros and words for a release (`ga`, `final`) that end a group are dropped: before a hyphen,
//! and before a word, however it is separated. Earlier versions of Maven dropped them before a
//! hyphen only, which sent `1`, `1-foo` and `1.0.foo` in a circle.

use std::cmp::Ordering;

use super::digits::Number;

/// Sorts two Maven versions.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    tokens(&a).cmp(&tokens(&b))
}

/// Whether there is anything to sort by. Expressions that no build filled in are no versions.
pub(super) fn reads(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_alphanumeric())
        && !text.contains(|c: char| c.is_whitespace() || matches!(c, '$' | '{' | '}'))
}

/// Tokens from the oldest to the newest, where two versions part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Token<'a> {
    /// `alpha`, `beta`, `milestone`, `rc`, `snapshot`.
    Before(u8),
    End,
    /// `ga`, `final`, or nothing.
    Release,
    /// `sp`.
    ServicePack,
    /// Any other word.
    Word(&'a str),
    /// A number after a hyphen, or after a word without one.
    Hyphen(Number<'a>),
    /// A number after a dot, or the first.
    Dot(Number<'a>),
}

impl Token<'_> {
    fn is_null(&self) -> bool {
        match self {
            Self::Release => true,
            Self::Hyphen(number) | Self::Dot(number) => *number == Number("0"),
            _ => false,
        }
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut hyphen = false;
    loop {
        let digits = rest.starts_with(|c: char| c.is_ascii_digit());
        let end = rest
            .find(|c: char| matches!(c, '.' | '-') || c.is_ascii_digit() != digits)
            .unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        let separator = after.chars().next().filter(|c| matches!(c, '.' | '-'));
        let joined = !after.is_empty() && separator.is_none();
        // A run that is empty counts as a zero.
        let token = if digits || run.is_empty() {
            let number = Number(run);
            if hyphen {
                Token::Hyphen(number)
            } else {
                Token::Dot(number)
            }
        } else {
            word(run, joined)
        };
        if hyphen || !matches!(token, Token::Dot(_)) {
            trim(&mut tokens);
        }
        tokens.push(token);
        if after.is_empty() {
            break;
        }
        rest = &after[separator.map_or(0, char::len_utf8)..];
        hyphen = separator != Some('.');
    }
    trim(&mut tokens);
    tokens.push(Token::End);
    tokens
}

/// Drops what means nothing at the end of a group.
fn trim(tokens: &mut Vec<Token<'_>>) {
    while tokens.last().is_some_and(Token::is_null) {
        tokens.pop();
    }
}

/// A word; `a`, `b` and `m` are short for others if a digit follows at once.
fn word(text: &str, before_digit: bool) -> Token<'_> {
    match text {
        "a" if before_digit => Token::Before(0),
        "b" if before_digit => Token::Before(1),
        "m" if before_digit => Token::Before(2),
        "alpha" => Token::Before(0),
        "beta" => Token::Before(1),
        "milestone" => Token::Before(2),
        "rc" | "cr" => Token::Before(3),
        "snapshot" => Token::Before(4),
        "ga" | "final" | "release" => Token::Release,
        "sp" => Token::ServicePack,
        other => Token::Word(other),
    }
}
