//! Splices a text whose structure is not what named the place, and refuses if more than one value
//! of its structure changes.

use super::{Change, EditError, Format};
use crate::base::Span;
use crate::formats::yaml;

/// Replaces bytes of a text. In a format that is understood, the result must be of the same shape and
/// differ in one value at most, and a string must stay one.
pub(super) fn splice(
    format: Format,
    text: &str,
    span: Span,
    value: &str,
    place: &str,
) -> Result<(String, Vec<Change>), EditError> {
    let before = &text[span.start..span.end];
    if before == value {
        return Ok((text.to_owned(), Vec::new()));
    }
    if value.contains(['\n', '\r']) && !before.contains(['\n', '\r']) {
        return Err(EditError::new(format!(
            "{value:?} holds a line break, which would add a line"
        )));
    }
    let after = [&text[..span.start], value, &text[span.end..]].concat();
    match format {
        Format::Yaml => yaml::at_most_one_differs(text, &after)?,
        Format::Json | Format::Toml | Format::Dockerfile | Format::Hcl | Format::Text => {}
    }
    Ok((
        after,
        vec![Change {
            place: place.to_owned(),
            before: before.to_owned(),
            after: value.to_owned(),
            line: text[..span.start].matches('\n').count() + 1,
        }],
    ))
}
