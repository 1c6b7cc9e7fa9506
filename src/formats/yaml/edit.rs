//! Reads a scalar, and replaces it by splicing the text.

use saphyr_parser::ScalarStyle;

use super::error::{Problem, YamlError, line_of};
use super::locate::{disagree, locate};
use super::path::{Path, PathStep};
use super::quote::{Style, is_string, render};
use super::reader::{Events, What, read};
use super::resolve::{Step, Target};
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
        events.scalar(&target, path)?;
        place(text, &events, &target).map(|place| place.scalar)
    })
    .map(|(mut scalar, shift)| {
        scalar.span = shift_span(scalar.span, shift);
        scalar
    })
}

/// Replaces the scalar at a path by a string. Keeps the quotes there are; adds some where the
/// new value could otherwise be read as anything but a string.
pub fn set(text: &str, path: &Path, value: &str) -> Result<Edited, YamlError> {
    bounded(value)?;
    shifted(text, |text| {
        let events = read(text)?;
        replace(text, &events, path, value)
    })
    .map(|(edited, shift)| edited.behind_bom(text, shift))
}

/// Replaces the scalar at a path by a string, or adds it if only the last key of the path is
/// missing: at the end of an existing block mapping, indented as its other keys.
pub fn set_or_create(text: &str, path: &Path, value: &str) -> Result<Edited, YamlError> {
    bounded(value)?;
    shifted(text, |text| {
        let events = read(text)?;
        match replace(text, &events, path, value) {
            Err(missing) if missing.problem == Problem::NotFound => {
                create(text, &events, path, value, missing)
            }
            other => other,
        }
    })
    .map(|(edited, shift)| edited.behind_bom(text, shift))
}

impl Edited {
    fn behind_bom(mut self, text: &str, shift: usize) -> Self {
        self.text.insert_str(0, &text[..shift]);
        self.span = shift_span(self.span, shift);
        self
    }
}

/// Runs on the text behind a byte order mark, which the parsers count differently.
fn shifted<T>(
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

fn bounded(value: &str) -> Result<(), YamlError> {
    if value.len() <= MAX_VALUE {
        return Ok(());
    }
    Err(YamlError::new(
        Problem::TooLarge,
        format!("new value is longer than {MAX_VALUE} bytes"),
    ))
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
    let located = locate(text, inside, &target.steps)?;
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

fn replace(text: &str, events: &Events, path: &Path, new: &str) -> Result<Edited, YamlError> {
    let target = events.resolve(path, usize::MAX)?;
    events.editable(&target, path)?;
    let Place { scalar, key } = place(text, events, &target)?;
    let raw = &text[scalar.span.start..scalar.span.end];
    if raw.contains(['\n', '\r']) {
        return Err(YamlError::new(
            Problem::MultiLine,
            format!("{path} runs over several lines, which is not edited"),
        )
        .at(text, scalar.span)
        .help("write the value on one line"));
    }
    let is_same = scalar.value == new && (scalar.style != Style::Plain || is_string(new));
    if is_same {
        return Ok(Edited {
            text: text.to_owned(),
            before: scalar.value,
            span: scalar.span,
            changed: false,
            line: scalar.line,
        });
    }
    let (written, _) = render(new, scalar.style);
    let properties = |node: &What| match node {
        What::Scalar { tag, anchor, .. } => Some((tag.clone(), *anchor)),
        _ => None,
    };
    let kept = properties(&events.list[target.node].what);
    let bare = kept == Some((None, 0));
    let (at, end, lead) = if scalar.span.is_empty() {
        let at = after_colon(text, key).filter(|_| bare).ok_or_else(|| {
            YamlError::new(
                Problem::CannotCreate,
                format!("{path} is empty and there is no `key:` to write behind"),
            )
            .at(text, scalar.span)
            .help("write any value there first, such as \"\"")
        })?;
        (at, at, " ")
    } else {
        (scalar.span.start, scalar.span.end, "")
    };
    let after = [&text[..at], lead, &written, &text[end..]].concat();
    verify(&after, &target.steps, new, |changed| {
        let (old, new) = (&events.list, &changed.list);
        let others = |at: usize| at == target.node || old[at].what == new[at].what;
        let same = old.len() == new.len()
            && (0..old.len()).all(others)
            && kept == properties(&new[target.node].what);
        same.then_some(target.node)
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

/// Reads an edited text with both parsers. `unchanged` looks at all but the new value and tells
/// where that is.
fn verify(
    after: &str,
    steps: &[Step],
    value: &str,
    unchanged: impl FnOnce(&Events) -> Option<usize>,
) -> Result<(), YamlError> {
    if after.len() > MAX_TEXT {
        return Err(YamlError::new(
            Problem::TooLarge,
            format!("text would be larger than {MAX_TEXT} bytes"),
        ));
    }
    let refuse = || {
        YamlError::new(
            Problem::Unsafe,
            "the edit would change more than this value, so it is not made",
        )
    };
    let events = read(after).map_err(|error| refuse().help(error.message))?;
    let node = unchanged(&events).ok_or_else(refuse)?;
    let What::Scalar {
        value: read, style, ..
    } = &events.list[node].what
    else {
        return Err(refuse());
    };
    let is_text = *style != ScalarStyle::Plain || is_string(read);
    let located = locate(after, events.list[node].start, steps)?;
    if read == value && is_text && located.value.as_deref() == Some(value) {
        Ok(())
    } else {
        Err(refuse())
    }
}

/// Adds the last key of a path to the mapping that the rest of it names.
fn create(
    text: &str,
    events: &Events,
    path: &Path,
    new: &str,
    missing: YamlError,
) -> Result<Edited, YamlError> {
    let Some(PathStep::Key(key)) = path.steps.last() else {
        return Err(missing);
    };
    let parent_steps = path.steps.len() - 1;
    let parent = match events.resolve(path, parent_steps) {
        Ok(parent) => parent,
        Err(error) if error.problem == Problem::NotFound => {
            return Err(error.help("only the last key of a path can be created"));
        }
        Err(error) => return Err(error),
    };
    let list = &events.list;
    let refuse = |message: String| {
        YamlError::new(Problem::CannotCreate, message)
            .at(
                text,
                Span::new(list[parent.node].start, list[parent.node].start),
            )
            .help("write the key by hand once")
    };
    let here = path.prefix(parent_steps);
    let entries = events.entries(parent.node).count();
    let Some((first, _)) = (match list[parent.node].what {
        What::Mapping { .. } => events.entries(parent.node).next(),
        _ => None,
    }) else {
        return Err(refuse(format!("{here} holds no entries to add {key:?} to")));
    };
    events.unshared(&parent, path)?;
    let flow = |node: &usize| text[list[*node].start..].starts_with(['{', '[']);
    let start = list[first].start;
    let line_start = text[..start].rfind(['\n', '\r']).map_or(0, |at| at + 1);
    let lead = &text[line_start..start];
    // Anything but dashes before the first key is a `? key`, an anchor or a tag.
    let odd = lead.contains(|c| c != ' ' && c != '-');
    if odd || parent.above.iter().chain([&parent.node]).any(flow) {
        return Err(refuse(format!(
            "{here} is not a block mapping, so {key:?} cannot be added"
        )));
    }
    let located = locate(text, list[first].start, &parent.steps)?;
    if !located.block_mapping {
        return Err(disagree(text, list[parent.node].start));
    }

    let indent = lead.len();
    let end = end_of(text, events, parent.node, indent);
    let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let (key_text, _) = render(key, Style::Plain);
    let (written, _) = render(new, Style::Plain);
    let entry = format!("{}{key_text}: ", " ".repeat(indent));
    // Behind a last line without an end, the line break goes before the entry.
    let open = !text[..end].ends_with(['\n', '\r']);
    let (lead, tail) = if open { (ending, "") } else { ("", ending) };
    let after = [&text[..end], lead, &entry, &written, tail, &text[end..]].concat();

    let mut steps = parent.steps.clone();
    steps.push(Step::Entry(entries));
    let at = list[parent.node].next - 1;
    verify(&after, &steps, new, |changed| {
        let new = &changed.list;
        let same = new.len() == list.len() + 2
            && (0..at).all(|i| list[i].what == new[i].what)
            && new[at].what.scalar() == Some(key)
            && new[at + 1].what.anchor() == 0
            && (at..list.len()).all(|i| list[i].what == new[i + 2].what);
        same.then_some(at + 1)
    })
    .map_err(|error| error.at(text, Span::new(end, end)))?;
    let start = end + lead.len() + entry.len();
    Ok(Edited {
        before: String::new(),
        span: Span::new(start, start + written.len()),
        changed: true,
        line: line_of(&after, start),
        text: after,
    })
}

/// The byte behind the last line of a block mapping: behind its line break, or the end of the
/// text.
fn end_of(text: &str, events: &Events, mapping: usize, indent: usize) -> usize {
    let node = &events.list[mapping];
    let inside = &events.list[mapping + 1..node.next - 1];
    // Ends of block collections stand at whatever comes next; those of flow collections have a
    // bracket of their own.
    let ends = inside
        .iter()
        .filter(|node| node.what != What::End || node.end > node.start)
        .map(|node| match node.what {
            What::Scalar {
                style: ScalarStyle::Literal | ScalarStyle::Folded,
                ..
            } => node.start,
            _ => node.end.max(node.start),
        });
    let last = ends.max().unwrap_or(node.start);
    let leaf = inside.iter().rev().find(|node| node.what != What::End);
    let block = leaf.and_then(|node| match &node.what {
        What::Scalar {
            style: ScalarStyle::Literal | ScalarStyle::Folded,
            value,
            ..
        } => Some(value),
        _ => None,
    });
    let mut at = line_end(text, last);
    let Some(value) = block else {
        return at;
    };
    // The blank lines behind it belong to a block scalar that keeps them (`|+`).
    let keep = value.ends_with("\n\n");
    // A block scalar goes on over blank lines and lines indented more than the mapping.
    let mut end = at;
    while at < text.len() {
        let next = line_end(text, at);
        let line = text[at..next].trim_end();
        let blank = line.is_empty();
        if !blank && line.len() - line.trim_start_matches(' ').len() <= indent {
            break;
        }
        at = next;
        if !blank || keep {
            end = at;
        }
    }
    end
}

/// The byte behind the line break at or after an offset, or the end of the text.
fn line_end(text: &str, from: usize) -> usize {
    match text[from..].find(['\n', '\r']) {
        Some(at) if text[from + at..].starts_with("\r\n") => from + at + 2,
        Some(at) => from + at + 1,
        None => text.len(),
    }
}
