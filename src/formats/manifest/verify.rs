//! Splices a text whose structure is not what named the place, and refuses if more than one value
//! of its structure changes.

use super::tree::{Node, What};
use super::{Change, EditError, Format, structured};
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
        Format::Json | Format::Toml => at_most_one_differs(format, text, &after)?,
        Format::Dockerfile | Format::Hcl | Format::Text => {}
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

fn at_most_one_differs(format: Format, before: &str, after: &str) -> Result<(), EditError> {
    let old = structured::read(format, before)?;
    let refuse = || EditError::new("the edit would change more than this value, so it is not made");
    let new = structured::read(format, after).map_err(|_| refuse())?;
    let mut differing = 0;
    let same = old.fits(&new, &mut |old, new| {
        differing += 1;
        let text = |node: &Node| matches!(node.what, What::Scalar { text: true, .. });
        text(old) == text(new)
    });
    match same && differing <= 1 {
        true => Ok(()),
        false => Err(refuse()),
    }
}
