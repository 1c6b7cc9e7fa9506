//! Replaces the value that stands before a comment `pipewright: NAME` in its line.

use super::{Change, EditError, Format, changed, verify};
use crate::base::Span;
use crate::formats::yaml::{self, Wanted};

/// What begins a comment, in one language or another.
const COMMENTS: [&str; 6] = ["#", "//", "<!--", "--", ";", "/*"];

/// Whether a text can be the name of a marker.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= 100 && name.chars().all(fits)
}

pub(super) fn apply(
    format: Format,
    text: &str,
    name: &str,
    value: &str,
) -> Result<(String, Vec<Change>), EditError> {
    if !is_name(name) {
        return Err(EditError::new(format!(
            "{name:?} cannot be the name of a marker; use letters, digits, `.`, `_` and `-`"
        )));
    }
    let mut found: Option<(usize, Span)> = None;
    let mut start = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let line_number = index + 1;
        if let Some(comment) = comment_of(line, name) {
            if let Some((first, _)) = found {
                return Err(EditError::new(format!(
                    "the marker {name} is on line {first} and again on line {line_number}; it must be there once"
                )));
            }
            found = Some((line_number, Span::new(start, start + comment)));
        }
        start += line.len();
    }
    let Some((line, before)) = found else {
        return Err(EditError::new(format!(
            "no comment `pipewright: {name}` marks a value"
        )));
    };
    let place = format!("marker {name}");
    if format == Format::Yaml {
        return scalar(text, line, &place, value);
    }
    let offset = value_in(&text[before.start..before.end]).ok_or_else(|| {
        EditError::new(format!(
            "line {line}: there is no value before the marker {name}"
        ))
    })?;
    let span = Span::new(before.start + offset.start, before.start + offset.end);
    if value.contains(['\n', '\r', '"', '\'', '\\']) {
        return Err(EditError::new(format!(
            "{value:?} cannot be written before a marker: it holds a quote, a backslash or a line break"
        )));
    }
    verify::splice(format, text, span, value, &place)
}

/// In YAML the value is the only scalar of its line, with the quotes that its new value needs.
fn scalar(
    text: &str,
    line: usize,
    place: &str,
    value: &str,
) -> Result<(String, Vec<Change>), EditError> {
    let leaves = yaml::leaves(text, |leaf| leaf.line == line)?;
    let [leaf] = leaves.as_slice() else {
        return Err(EditError::new(format!(
            "line {line}: {} values stand before the marker; one must",
            leaves.len()
        )));
    };
    let edited = yaml::set_leaf(text, leaf, Wanted::Text(value))?;
    Ok(changed(edited, place, value))
}

/// Where the comment of a marker begins in a line.
fn comment_of(line: &str, name: &str) -> Option<usize> {
    let at = line.find("pipewright:")?;
    let rest = line[at + "pipewright:".len()..].trim_start();
    let word = rest
        .split(|c: char| c.is_whitespace() || c == '*' || c == '>')
        .next()?;
    // The end of an HTML comment may stand right behind the name.
    if word != name && word.strip_suffix("--") != Some(name) {
        return None;
    }
    let lead = line[..at].trim_end();
    let begin = COMMENTS
        .iter()
        .find_map(|begin| lead.strip_suffix(begin))?
        .len();
    Some(begin)
}

/// The value at the end of what stands before a comment: in quotes, or the last word, without what
/// assigns it and what ends it.
fn value_in(before: &str) -> Option<Span> {
    let text = before.trim_end().trim_end_matches([',', ';']).trim_end();
    let quote = text.chars().next_back().filter(|c| "\"'`".contains(*c));
    if let Some(quote) = quote {
        let end = text.len() - quote.len_utf8();
        let start = text[..end].rfind(quote)? + 1;
        return Some(Span::new(start, end));
    }
    let start = text
        .rfind(|c: char| c.is_whitespace() || c == '=')
        .map_or(0, |at| {
            at + text[at..].chars().next().map_or(1, char::len_utf8)
        });
    (start < text.len()).then(|| Span::new(start, text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_before_comments() {
        let cases = [
            ("TAG=v1 # pipewright: app", Some("v1")),
            ("image: r.io/a:1 # pipewright: app", Some("r.io/a:1")),
            ("const V = \"1.2\"; // pipewright: app", Some("1.2")),
            ("  'x y', # pipewright: app", Some("x y")),
            ("<v>1</v> 2 <!-- pipewright: app-->", Some("2")),
            ("a = 1 /* pipewright: app */", Some("1")),
            ("a = 1 # pipewright: application", None),
            ("a = 1 pipewright: app", None),
            ("# pipewright: app", Some("")),
        ];
        for (line, expected) in cases {
            let found = comment_of(line, "app")
                .map(|end| value_in(&line[..end]).map_or("", |span| &line[span.start..span.end]));
            assert_eq!(found, expected, "{line}");
        }
    }
}
