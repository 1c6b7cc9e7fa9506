//! The order of dpkg, as Debian's policy (5.6.12) describes it.

use std::cmp::Ordering;

use super::digits;

/// Sorts two versions of dpkg.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (split(a), split(b));
    digits::compare(a.0, b.0)
        .then_with(|| part(a.1, b.1))
        .then_with(|| part(a.2, b.2))
}

/// Whether it has an upstream version that begins with a digit, and no space.
pub(super) fn reads(text: &str) -> bool {
    let text = text.trim();
    let upstream = split(text).1;
    upstream.starts_with(|c: char| c.is_ascii_digit()) && !text.contains(char::is_whitespace)
}

/// Epoch, upstream version, revision.
fn split(text: &str) -> (&str, &str, &str) {
    let text = text.trim();
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest))
            if !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            (epoch, rest)
        }
        _ => ("0", text),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Compares upstream versions or revisions: runs of other characters and of digits by turns.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (letters_a, rest_a) = letters(a);
        let (letters_b, rest_b) = letters(b);
        let (number_a, rest_a) = digits::split(rest_a);
        let (number_b, rest_b) = digits::split(rest_b);
        let order = weights(letters_a)
            .cmp(weights(letters_b))
            .then_with(|| digits::compare(number_a, number_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

fn letters(text: &str) -> (&str, &str) {
    let end = text
        .bytes()
        .position(|byte| byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

/// What sorts the characters: a tilde before the end of the run, then letters, then the others.
fn weights(letters: &str) -> impl Iterator<Item = u16> {
    let end = std::iter::once(1);
    letters
        .bytes()
        .map(|byte| match byte {
            b'~' => 0,
            letter if letter.is_ascii_alphabetic() => 2 + u16::from(letter),
            other => 0x200 + u16::from(other),
        })
        .chain(end)
}
