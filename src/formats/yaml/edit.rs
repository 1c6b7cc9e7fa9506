//! Reads a scalar, and replaces it by splicing the text.

use saphyr_parser::ScalarStyle;

use super::create::create;
use super::error::{Problem, YamlError, line_of};
use super::locate::{Located, disagree, locate};
use super::path::Path;
use super::quote::{Style, is_literal, is_string, render};
use super::reader::{Events, What, read};
use super::resolve::{Step, Target};
use super::window::locate_target;
use super::{MAX_TEXT, MAX_VALUE};
use crate::base::Span;

const BOM: char = '\u{feff}';

/// A scalar of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// Its value as a string; empty if it was left out.
    pub value: String,
    /// How it is written.
    pub style: Style,
    /// Where it is written, quotes included.
    pub span: Span,
    /// One-based line of its start.
    pub line: usize,
}

/// A text with one scalar replaced or added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// The whole text after the edit.
    pub text: String,
    /// The value before as a string; empty if there was none.
    pub before: String,
    /// Where the value is written in the text after the edit, quotes included.
    pub span: Span,
    /// Whether the text differs from what it was.
    pub changed: bool,
    /// One-based line of the value in the text after the edit.
    pub line: usize,
}

/// Reads the scalar at a path.
pub fn get(text: &str, path: &Path) -> Result<Scalar, YamlError> {
    shifted(text, |text| {
        let events = read(text)?;
        let target = events.resolve(path, usize::MAX)?;
        events.scalar(&target, &path.prefix(usize::MAX))?;
        place(text, &events, &target).map(|place| place.scalar)
    })
    .map(|(mut scalar, shift)| {
        scalar.span = shift_span(scalar.span, shift);
        scalar
    })
}

/// What is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// A string, in quotes where it could be read as anything else.
    Text(&'a str),
    /// A number, a boolean or null, without quotes.
    Literal(&'a str),
}

impl<'a> Wanted<'a> {
    pub(super) fn as_str(self) -> &'a str {
        match self {
            Self::Text(text) | Self::Literal(text) => text,
        }
    }

    /// Whether a scalar says this, and as what it is meant.
    pub(super) fn is(self, value: &str, style: Style) -> bool {
        value == self.as_str()
            && match self {
                Self::Text(text) => style != Style::Plain || is_string(text),
                Self::Literal(_) => style == Style::Plain,
            }
    }

    fn render(self, style: Style) -> String {
        match self {
            Self::Text(text) => render(text, style).0,
            Self::Literal(text) => text.to_owned(),
        }
    }

    pub(super) fn bounded(self) -> Result<(), YamlError> {
        match self {
            Self::Text(value) if value.len() > MAX_VALUE => Err(YamlError::new(
                Problem::TooLarge,
                format!("new value is longer than {MAX_VALUE} bytes"),
            )),
            Self::Literal(value) if !is_literal(value) => Err(YamlError::new(
                Problem::NotLiteral,
                format!("{value:?} is no number, boolean or null"),
            )
            .help("write `true`, `false`, `null` or a number such as `3` or `-1.5`")),
            _ => Ok(()),
        }
    }
}

/// Replaces the scalar at a path by a string. Keeps the quotes there are; adds some where the
/// new value could otherwise be read as anything but a string.
pub fn set(text: &str, path: &Path, value: &str) -> Result<Edited, YamlError> {
    write(text, path, Wanted::Text(value), false)
}

/// Replaces the scalar at a path by a string, or adds it if only the last key of the path is
/// missing: at the end of an existing block mapping, indented as its other keys.
pub fn set_or_create(text: &str, path: &Path, value: &str) -> Result<Edited, YamlError> {
    write(text, path, Wanted::Text(value), true)
}

/// Replaces the scalar at a path, or, if wanted, adds it where only the last key is missing.
pub fn write(text: &str, path: &Path, wanted: Wanted<'_>, add: bool) -> Result<Edited, YamlError> {
    wanted.bounded()?;
    shifted(text, |text| {
        let events = read(text)?;
        let replaced = events
            .resolve(path, usize::MAX)
            .map(|target| (target, path.prefix(usize::MAX)));
        match replaced {
            Ok((target, here)) => replace(text, events, &target, &here, wanted),
            Err(missing) if add && missing.problem == Problem::NotFound => {
                create(text, &events, path, wanted, missing)
            }
            Err(missing) => Err(missing),
        }
    })
    .map(|(edited, shift)| edited.behind_bom(text, shift))
}

impl Edited {
    pub(super) fn behind_bom(mut self, text: &str, shift: usize) -> Self {
        self.text.insert_str(0, &text[..shift]);
        self.span = shift_span(self.span, shift);
        self
    }
}

/// Runs on the text behind a byte order mark, which the parsers count differently.
pub(super) fn shifted<T>(
    text: &str,
    run: impl FnOnce(&str) -> Result<T, YamlError>,
) -> Result<(T, usize), YamlError> {
    let body = text.strip_prefix(BOM).unwrap_or(text);
    let shift = text.len() - body.len();
    match run(body) {
        Ok(value) => Ok((value, shift)),
        Err(mut error) => {
            error.span = error.span.map(|span| shift_span(span, shift));
            Err(error)
        }
    }
}

fn shift_span(span: Span, by: usize) -> Span {
    Span::new(span.start + by, span.end + by)
}

/// A scalar that both parsers found at the same bytes.
struct Place {
    scalar: Scalar,
    key: Option<Span>,
}

fn place(text: &str, events: &Events, target: &Target) -> Result<Place, YamlError> {
    let node = &events.list[target.node];
    let What::Scalar { value, style, .. } = &node.what else {
        return Err(disagree(text, node.start));
    };
    // A value that was left out has no bytes, and its parent's first byte is sure to be in the
    // same document.
    let inside = target
        .above
        .last()
        .map_or(node.start, |parent| events.list[*parent].start);
    let located = locate_target(text, events, target, inside)?;
    let omitted = value.is_empty() && located.span.is_empty();
    let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
    // The event of a scalar may start at its anchor or tag, that of a block behind its header.
    let between = text.get(node.start..located.span.start);
    let properties = |text: &str| {
        text.split_whitespace()
            .all(|word| word.starts_with(['&', '!']))
    };
    let same_start = match block {
        true => located.span.start <= node.start && node.start <= located.span.end,
        false => omitted || between.is_some_and(properties),
    };
    let same_value = located.value.as_deref() == Some(value);
    if !same_start || !same_value || text.get(located.span.start..located.span.end).is_none() {
        return Err(disagree(text, node.start));
    }
    Ok(Place {
        scalar: Scalar {
            value: value.clone(),
            style: (*style).into(),
            line: line_of(text, located.span.start),
            span: located.span,
        },
        key: located.key,
    })
}

/// Replaces a scalar that was found; `here` is what it is called.
pub(super) fn replace(
    text: &str,
    events: Events,
    target: &Target,
    here: &str,
    wanted: Wanted<'_>,
) -> Result<Edited, YamlError> {
    events.editable(target, here)?;
    let Place { scalar, key } = place(text, &events, target)?;
    let raw = &text[scalar.span.start..scalar.span.end];
    if raw.contains(['\n', '\r']) {
        return Err(YamlError::new(
            Problem::MultiLine,
            format!("{here} runs over several lines, which is not edited"),
        )
        .at(text, scalar.span)
        .help("write the value on one line"));
    }
    if wanted.is(&scalar.value, scalar.style) {
        return Ok(Edited {
            text: text.to_owned(),
            before: scalar.value,
            span: scalar.span,
            changed: false,
            line: scalar.line,
        });
    }
    let written = wanted.render(scalar.style);
    let properties = |node: &What| match node {
        What::Scalar { tag, anchor, .. } => Some((tag.clone(), *anchor)),
        _ => None,
    };
    let kept = properties(&events.list[target.node].what);
    let bare = kept == Some((None, 0));
    if let (Wanted::Literal(value), Some((Some(_), _))) = (wanted, &kept) {
        return Err(YamlError::new(
            Problem::Tagged,
            format!("{here} carries the tag of a string, so {value} would be one"),
        )
        .at(text, scalar.span));
    }
    let (at, end, lead) = if scalar.span.is_empty() {
        let at = after_colon(text, key).filter(|_| bare).ok_or_else(|| {
            YamlError::new(
                Problem::CannotCreate,
                format!("{here} is empty and there is no `key:` to write behind"),
            )
            .at(text, scalar.span)
            .help("write any value there first, such as \"\"")
        })?;
        (at, at, " ")
    } else {
        (scalar.span.start, scalar.span.end, "")
    };
    let after = [&text[..at], lead, &written, &text[end..]].concat();
    fits(&after)
        .and_then(|()| events.moved(&after, target.node).map_err(unreadable))
        .and_then(|changed| {
            let same = changed.filter(|new| kept == properties(&new.list[target.node].what));
            let changed = same.ok_or_else(more_would_change)?;
            let inside = changed.list[target.node].start;
            let located = locate_target(&after, &changed, target, inside)?;
            agreed(&changed, target.node, &located, wanted)
        })
        .map_err(|error| error.at(text, scalar.span))?;
    let start = at + lead.len();
    Ok(Edited {
        before: scalar.value,
        span: Span::new(start, start + written.len()),
        changed: true,
        line: line_of(&after, start),
        text: after,
    })
}

/// The byte behind the colon of a key whose value was left out.
fn after_colon(text: &str, key: Option<Span>) -> Option<usize> {
    let key = key?;
    let rest = text.get(key.end..)?;
    let gap = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    let is_colon = rest[gap..].starts_with(':') && !key.is_empty();
    is_colon.then_some(key.end + gap + 1)
}

/// Reads a text after an edit.
pub(super) fn reread(after: &str) -> Result<Events, YamlError> {
    fits(after)?;
    read(after).map_err(unreadable)
}

fn fits(after: &str) -> Result<(), YamlError> {
    if after.len() > MAX_TEXT {
        return Err(YamlError::new(
            Problem::TooLarge,
            format!("text would be larger than {MAX_TEXT} bytes"),
        ));
    }
    Ok(())
}

fn unreadable(error: YamlError) -> YamlError {
    more_would_change().help(error.message)
}

/// Refuses unless both parsers read a scalar as it was wanted.
pub(super) fn says(
    after: &str,
    events: &Events,
    node: usize,
    steps: &[Step],
    wanted: Wanted<'_>,
) -> Result<(), YamlError> {
    let located = locate(after, events.list[node].start, steps)?;
    agreed(events, node, &located, wanted)
}

fn agreed(
    events: &Events,
    node: usize,
    located: &Located,
    wanted: Wanted<'_>,
) -> Result<(), YamlError> {
    let What::Scalar { value, style, .. } = &events.list[node].what else {
        return Err(more_would_change());
    };
    let agreed = located.value.as_deref() == Some(wanted.as_str());
    if agreed && wanted.is(value, (*style).into()) {
        Ok(())
    } else {
        Err(more_would_change())
    }
}

/// The refusal to make an edit that shows on other places too.
pub(super) fn more_would_change() -> YamlError {
    YamlError::new(
        Problem::Unsafe,
        "the edit would change more than this value, so it is not made",
    )
}
