//! The order of apk-tools 3: numbers, a letter, suffixes (`_alpha` to `_p`), a hash of a commit,
//! a revision.
//!
//! Version 2 differs only where a number after the first has leading zeros and more than one
//! digit after them; packages of Alpine are sorted the same by both.

use std::cmp::Ordering;

use super::digits::{self, Number};

/// Sorts two versions of apk.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    tokens(a).cmp(&tokens(b))
}

/// Whether it is a version throughout.
pub(super) fn reads(text: &str) -> bool {
    let tokens = tokens(text);
    tokens.len() > 1
        && !tokens
            .iter()
            .any(|token| matches!(token, Token::Invalid(_)))
}

/// Tokens from the oldest to the newest, where two versions part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Token<'a> {
    /// `_alpha`, `_beta`, `_pre`, `_rc`.
    Before(u8),
    /// Text that belongs to no version.
    Invalid(&'a str),
    End,
    /// `-r4`.
    Revision(Number<'a>),
    /// `~0a1b2c`.
    Hash(&'a str),
    /// The number of a suffix.
    SuffixNumber(Number<'a>),
    /// `_cvs`, `_svn`, `_git`, `_hg`, `_p`.
    After(u8),
    Letter(u8),
    /// A number after the first. With leading zeros it is a fraction, and sorts by its digits.
    Fraction(&'a str),
    Part(Number<'a>),
    First(Number<'a>),
}

const BEFORE: [&str; 4] = ["alpha", "beta", "pre", "rc"];
const AFTER: [&str; 5] = ["cvs", "svn", "git", "hg", "p"];

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let rest = read(text, &mut tokens);
    if !rest.is_empty() {
        tokens.push(Token::Invalid(rest));
    }
    tokens.push(Token::End);
    tokens
}

/// Reads as far as it is a version and returns the rest.
fn read<'a>(text: &'a str, tokens: &mut Vec<Token<'a>>) -> &'a str {
    let (first, mut rest) = digits::split(text);
    if first.is_empty() {
        return rest;
    }
    tokens.push(Token::First(Number(first)));
    while let Some((number, after)) = numbered(rest, ".") {
        tokens.push(if number.starts_with('0') {
            Token::Fraction(number)
        } else {
            Token::Part(Number(number))
        });
        rest = after;
    }
    if let Some(letter) = rest.bytes().next().filter(u8::is_ascii_lowercase) {
        tokens.push(Token::Letter(letter));
        rest = &rest[1..];
    }
    while let Some((suffix, after)) = suffix(rest) {
        tokens.push(suffix);
        let (number, after) = digits::split(after);
        if !number.is_empty() {
            tokens.push(Token::SuffixNumber(Number(number)));
        }
        rest = after;
    }
    if let Some(hash) = rest.strip_prefix('~') {
        let end = hash
            .bytes()
            .position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            .unwrap_or(hash.len());
        if end > 0 {
            tokens.push(Token::Hash(&hash[..end]));
            rest = &hash[end..];
        }
    }
    if let Some((number, after)) = numbered(rest, "-r") {
        tokens.push(Token::Revision(Number(number)));
        rest = after;
    }
    rest
}

/// A number behind a mark, and what follows it.
fn numbered<'a>(text: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    let (number, rest) = digits::split(text.strip_prefix(mark)?);
    (!number.is_empty()).then_some((number, rest))
}

fn suffix(text: &str) -> Option<(Token<'_>, &str)> {
    let word = text.strip_prefix('_')?;
    let end = word
        .bytes()
        .position(|byte| !byte.is_ascii_lowercase())
        .unwrap_or(word.len());
    let (word, rest) = word.split_at(end);
    let rank = |words: &[&str]| {
        let at = words.iter().position(|known| *known == word)?;
        u8::try_from(at).ok()
    };
    let token = match rank(&BEFORE) {
        Some(rank) => Token::Before(rank),
        None => Token::After(rank(&AFTER)?),
    };
    Some((token, rest))
}
