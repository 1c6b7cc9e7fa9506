//! Replaces what a regular expression captures, if it matches exactly once.

use regex::RegexBuilder;

use super::{Change, EditError, Format, verify};
use crate::base::Span;

/// Largest compiled expression, in bytes.
const MAX_PATTERN: usize = 1 << 20;

/// Compiles an expression in which `^` and `$` mean the ends of lines; tells the group that is
/// replaced.
pub(super) fn compile(pattern: &str) -> Result<(regex::Regex, usize), EditError> {
    let regex = RegexBuilder::new(pattern)
        .multi_line(true)
        .size_limit(MAX_PATTERN)
        .build()
        .map_err(|error| EditError::new(format!("the regular expression is broken: {error}")))?;
    match regex.captures_len() {
        1 => Ok((regex, 0)),
        2 => Ok((regex, 1)),
        groups => Err(EditError::new(format!(
            "the regular expression has {} groups; capture the value with one, and write the others as `(?:…)`",
            groups - 1
        ))),
    }
}

pub(super) fn apply(
    format: Format,
    text: &str,
    pattern: &str,
    value: &str,
) -> Result<(String, Vec<Change>), EditError> {
    let (regex, group) = compile(pattern)?;
    let mut matches = regex.captures_iter(text);
    let Some(first) = matches.next() else {
        return Err(EditError::new(
            "the regular expression matches nothing; it must match exactly once",
        ));
    };
    if let Some(second) = matches.next() {
        let line = |found: &regex::Captures<'_>| {
            let at = found.get(0).map_or(0, |all| all.start());
            text[..at].matches('\n').count() + 1
        };
        return Err(EditError::new(format!(
            "the regular expression matches on line {} and again on line {}; it must match exactly once",
            line(&first),
            line(&second)
        )));
    }
    let Some(found) = first.get(group) else {
        return Err(EditError::new(
            "the regular expression matches, but its group captures nothing",
        ));
    };
    let span = Span::new(found.start(), found.end());
    verify::splice(format, text, span, value, &format!("/{pattern}/"))
}
