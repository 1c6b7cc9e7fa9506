//! The order of rpm: epoch, then version, then release, each by `rpmvercmp`.

use std::cmp::Ordering;

use super::digits::{self, Number};

/// Sorts two versions of rpm. A missing epoch is zero; a missing release is the oldest.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (split(a), split(b));
    digits::compare(a.0, b.0)
        .then_with(|| segments(a.1).cmp(&segments(b.1)))
        .then_with(|| segments(a.2).cmp(&segments(b.2)))
}

/// Whether there is anything to sort by.
pub(super) fn reads(text: &str) -> bool {
    let version = split(text).1;
    version.contains(|c: char| c.is_ascii_alphanumeric()) && !text.contains(char::is_whitespace)
}

/// Epoch, version, release.
fn split(text: &str) -> (&str, &str, &str) {
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|byte| byte.is_ascii_digit()) => (epoch, rest),
        _ => ("0", text),
    };
    let (version, release) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, version, release)
}

/// Segments from the oldest to the newest, where two versions part. Anything else only separates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment<'a> {
    Tilde,
    End,
    Caret,
    Letters(&'a str),
    Digits(Number<'a>),
}

fn segments(text: &str) -> Vec<Segment<'_>> {
    let mut segments = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.bytes().next() {
        let run = |same: fn(&u8) -> bool| {
            let end = rest.bytes().position(|byte| !same(&byte));
            rest.split_at(end.unwrap_or(rest.len()))
        };
        match first {
            b'0'..=b'9' => {
                let (digits, after) = run(u8::is_ascii_digit);
                segments.push(Segment::Digits(Number(digits)));
                rest = after;
            }
            letter if letter.is_ascii_alphabetic() => {
                let (letters, after) = run(u8::is_ascii_alphabetic);
                segments.push(Segment::Letters(letters));
                rest = after;
            }
            b'~' => {
                segments.push(Segment::Tilde);
                rest = &rest[1..];
            }
            b'^' => {
                segments.push(Segment::Caret);
                rest = &rest[1..];
            }
            _ => {
                let separates =
                    |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'~' | b'^');
                rest = run(separates).1;
            }
        }
    }
    segments.push(Segment::End);
    segments
}
