//! The order of Python versions (PEP 440), and of the older ones that the index still holds.

use std::cmp::Ordering;
use std::str::FromStr;

use pep440_rs::Version;

use super::digits::{self, Number};

/// Sorts two Python versions. One that PEP 440 does not know is older than any that it knows.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (None, None) => parts(a).cmp(&parts(b)).then_with(|| a.cmp(b)),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Whether it is a version: of PEP 440, or an older one with a number in it, like `2004d`.
pub(super) fn reads(text: &str) -> bool {
    !text.contains(char::is_whitespace) && text.contains(|c: char| c.is_ascii_digit())
}

fn parse(text: &str) -> Option<Version> {
    Version::from_str(text.trim()).ok()
}

/// Runs of digits and of letters; digits are newer than letters.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Letters(&'a str),
    Digits(Number<'a>),
}

fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (digits, after) = digits::split(rest);
        if !digits.is_empty() {
            parts.push(Part::Digits(Number(digits)));
            rest = after;
            continue;
        }
        let end = rest.bytes().position(|byte| !byte.is_ascii_alphabetic());
        let (letters, after) = rest.split_at(end.unwrap_or(rest.len()));
        if letters.is_empty() {
            rest = &rest[first.len_utf8()..];
        } else {
            parts.push(Part::Letters(letters));
            rest = after;
        }
    }
    parts
}
