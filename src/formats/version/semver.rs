//! The order of Semantic Versioning 2.0 (section 11), and of Go, which uses it.
//!
//! Registries hold versions that the standard does not: with a `v`, with one number or four, with
//! numbers beyond 64 bits. All of them have a plain place in the order, so they are read; this is
//! why the crate `semver` does not serve here.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::digits::Number;

/// Sorts two semantic versions. What is none sorts first, by its bytes.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (None, None) => a.cmp(b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    }
}

/// Whether it is a semantic version, read generously.
pub(super) fn reads(text: &str) -> bool {
    parse(text).is_some()
}

/// Sorts two versions of Go modules or of Go itself.
pub(super) fn compare_go(a: &str, b: &str) -> Ordering {
    compare(&from_tag(a), &from_tag(b))
}

/// Whether it is a version of a Go module or of Go itself. `(devel)` is not.
pub(super) fn reads_go(text: &str) -> bool {
    reads(&from_tag(text))
}

/// Releases of Go are tagged `go1.21.3` and `go1.21rc2`; the latter means `1.21.0-rc.2`.
fn from_tag(text: &str) -> Cow<'_, str> {
    let Some(tag) = text.strip_prefix("go") else {
        return Cow::Borrowed(text);
    };
    // Builds of Go name what they were built with after a space or a hyphen: `go1.21.3 X:boring`.
    let tag = tag.split([' ', '-']).next().unwrap_or(tag);
    let kind = ["alpha", "beta", "rc"]
        .into_iter()
        .find_map(|kind| Some((tag.split_once(kind)?, kind)));
    match kind {
        Some(((release, number), kind)) => {
            let patch = if release.matches('.').count() < 2 {
                ".0"
            } else {
                ""
            };
            Cow::Owned(format!("{release}{patch}-{kind}.{number}"))
        }
        None => Cow::Borrowed(tag),
    }
}

/// Release numbers without trailing zeros, and what comes before the release.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version<'a> {
    release: Vec<Number<'a>>,
    stage: Stage<'a>,
}

/// The derived order is the standard's: any prerelease is older than the release, and of two
/// prereleases that begin alike the shorter is older.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage<'a> {
    Before(Vec<Identifier<'a>>),
    Released,
}

/// An identifier of a prerelease: numbers are older than words.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier<'a> {
    Number(Number<'a>),
    Word(&'a str),
}

fn parse(text: &str) -> Option<Version<'_>> {
    let text = text.trim();
    let text = text.strip_prefix(['v', 'V', '=']).unwrap_or(text);
    // Build metadata does not take part.
    let text = text.split_once('+').map_or(text, |(version, _)| version);
    let (release, before) = match text.split_once('-') {
        Some((release, before)) => (release, Some(before)),
        None => (text, None),
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !release.split('.').all(is_number) {
        return None;
    }
    let mut release: Vec<Number<'_>> = release.split('.').map(Number).collect();
    // `1`, `1.0` and `1.0.0` are the same place.
    while release.last() == Some(&Number("0")) {
        release.pop();
    }
    let stage = match before {
        None => Stage::Released,
        Some(before) => {
            let identifiers = before.split('.').map(|part| match is_number(part) {
                true => Identifier::Number(Number(part)),
                false => Identifier::Word(part),
            });
            Stage::Before(identifiers.collect())
        }
    };
    Some(Version { release, stage })
}
