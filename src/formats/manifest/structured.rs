//! Sets a value at a path of a JSON or TOML text.

use super::tree::{Lost, Node, What};
use super::{Change, EditError, Format, json, parse_path, toml};
use crate::base::Span;
use crate::formats::yaml::{Path, PathStep, is_literal};

/// Reads a text of a format that has values with places.
pub(super) fn read(format: Format, text: &str) -> Result<Node, EditError> {
    match format {
        Format::Toml => toml::read(text),
        _ => json::read(text),
    }
}

pub(super) fn set(
    format: Format,
    text: &str,
    path: &str,
    value: &str,
    literal: bool,
    create: bool,
) -> Result<(String, Vec<Change>), EditError> {
    if literal && (!is_literal(value) || (format == Format::Toml && value == "null")) {
        return Err(EditError::new(format!(
            "{value:?} is no number or boolean here"
        )));
    }
    let at = parse_path(path)?;
    let root = read(format, text)?;
    let written = match (literal, format) {
        (true, _) => value.to_owned(),
        (false, Format::Toml) => toml::string(value),
        (false, _) => json::string(value),
    };
    let node = match root.find(&at, usize::MAX) {
        Ok(node) => node,
        Err(Lost::Missing(message)) if create => {
            return add(format, text, &root, &at, (value, &written), literal)
                .map_err(|error| EditError::new(format!("{message}; {error}")));
        }
        Err(lost) => return Err(lost.into()),
    };
    let What::Scalar {
        text: was_text,
        value: before,
    } = &node.what
    else {
        return Err(EditError::new(format!("{path} is not a single value")));
    };
    if before == value && *was_text != literal {
        return Ok((text.to_owned(), Vec::new()));
    }
    let raw = text.get(node.span.start..node.span.end).unwrap_or("");
    if raw.is_empty() || raw.contains(['\n', '\r']) {
        return Err(EditError::new(format!(
            "{path} runs over several lines, which is not edited"
        )));
    }
    // A literal string of TOML stays one if it can.
    let written = match raw.starts_with('\'') && !literal && is_raw(value) {
        true => format!("'{value}'"),
        false => written,
    };
    let after = [&text[..node.span.start], &written, &text[node.span.end..]].concat();
    let changed = read(format, &after)?;
    let mut differing = 0;
    let same = root.fits(&changed, &mut |old, new| {
        differing += 1;
        old.span == node.span && new.is(value, literal)
    });
    if !same || differing != 1 {
        return Err(EditError::new(
            "the edit would change more than this value, so it is not made",
        ));
    }
    Ok((
        after,
        vec![Change {
            place: path.to_owned(),
            before: before.clone(),
            after: value.to_owned(),
            line: text[..node.span.start].matches('\n').count() + 1,
        }],
    ))
}

fn is_raw(value: &str) -> bool {
    !value.chars().any(|c| c == '\'' || c.is_control())
}

impl Node {
    fn is(&self, wanted: &str, literal: bool) -> bool {
        match &self.what {
            // A number may be read as one that is written another way.
            What::Scalar { text: false, .. } => literal,
            What::Scalar { text: true, value } => !literal && value == wanted,
            _ => false,
        }
    }
}

/// Adds the last key of a path behind the last entry beside it.
fn add(
    format: Format,
    text: &str,
    root: &Node,
    path: &Path,
    (value, written): (&str, &str),
    literal: bool,
) -> Result<(String, Vec<Change>), EditError> {
    let Some(PathStep::Key(key)) = path.steps().last() else {
        return Err(EditError::new("only keys can be created"));
    };
    let parent = root.find(path, path.steps().len() - 1)?;
    let What::Map(entries) = &parent.what else {
        return Err(EditError::new("only keys of tables can be created"));
    };
    let lines_of = |entry: &&(String, Span, Node)| !matches!(entry.2.what, What::Map(_));
    let last = match format {
        Format::Toml => entries
            .iter()
            .filter(lines_of)
            .max_by_key(|it| it.2.span.end),
        _ => entries.last(),
    };
    let Some((_, last_key, last)) = last else {
        return Err(EditError::new(
            "there is no entry beside it that shows how to write one",
        ));
    };
    let after = match format {
        Format::Toml => {
            let line_start = text[..last_key.start].rfind('\n').map_or(0, |at| at + 1);
            let indent = &text[line_start..last_key.start];
            if !indent.trim().is_empty() || last_key.is_empty() {
                return Err(EditError::new("the table is written on one line"));
            }
            let rest = &text[last.span.end..];
            let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
            let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let key = match !key.is_empty() && key.chars().all(bare) {
                true => key.clone(),
                false => toml::string(key),
            };
            let line = format!("{indent}{key} = {written}");
            match rest.find('\n') {
                Some(end) => {
                    let at = last.span.end + end + 1;
                    [&text[..at], &line, ending, &text[at..]].concat()
                }
                None => [text, ending, &line].concat(),
            }
        }
        _ => {
            let first = entries
                .first()
                .map_or(last_key.start, |entry| entry.1.start);
            let lead = &text[parent.span.start + 1..first];
            let gap = &text[last_key.end..last.span.start];
            let entry = format!(",{lead}{}{gap}{written}", json::string(key));
            [&text[..last.span.end], &entry, &text[last.span.end..]].concat()
        }
    };
    let changed = read(format, &after)?;
    let refuse = || EditError::new("adding it would change more, so it is not done");
    let found = changed.find(path, usize::MAX).map_err(|_| refuse())?;
    let place = found.span;
    if !found.is(value, literal) || !root.fits(&changed.without(place), &mut |_, _| false) {
        return Err(refuse());
    }
    let change = Change {
        place: path.to_string(),
        before: String::new(),
        after: value.to_owned(),
        line: after[..place.start].matches('\n').count() + 1,
    };
    Ok((after, vec![change]))
}

impl Node {
    /// A copy without the entry whose value stands at a place.
    fn without(&self, place: Span) -> Self {
        let what = match &self.what {
            What::Map(entries) => What::Map(
                entries
                    .iter()
                    .filter(|(_, _, node)| node.span != place)
                    .map(|(name, span, node)| (name.clone(), *span, node.without(place)))
                    .collect(),
            ),
            What::List(items) => What::List(items.iter().map(|item| item.without(place)).collect()),
            scalar => scalar.clone(),
        };
        Self {
            what,
            span: self.span,
        }
    }
}
