//! Adds what is missing: a key to a block mapping, an item to a block sequence.

use saphyr_parser::ScalarStyle;

use super::edit::{Edited, Wanted, more_would_change, reread, says, shifted};
use super::error::{Problem, YamlError, line_of};
use super::locate::{disagree, locate};
use super::path::{Path, PathStep};
use super::quote::{Style, render};
use super::reader::{Events, What, read};
use super::resolve::{Step, Target};
use crate::base::Span;

/// Adds an item, a mapping of strings, at the end of the block sequence at a path. If only the
/// last key of the path is missing, the sequence is added too. Its keys are in the order given.
pub fn append(text: &str, path: &Path, fields: &[(&str, &str)]) -> Result<Edited, YamlError> {
    shifted(text, |text| {
        let events = read(text)?;
        match events.resolve(path, usize::MAX) {
            Ok(sequence) => item(text, &events, path, &sequence, fields),
            Err(missing) if missing.problem == Problem::NotFound => {
                sequence(text, &events, path, fields, missing)
            }
            Err(error) => Err(error),
        }
    })
    .map(|(edited, shift)| edited.behind_bom(text, shift))
}

/// A block mapping that takes another key.
struct Open {
    target: Target,
    /// How many entries it has.
    entries: usize,
    /// Where its keys stand in their lines.
    indent: usize,
}

/// The mapping that the rest of a path names, if it takes the path's last key.
fn parent<'a>(
    text: &str,
    events: &Events,
    path: &'a Path,
    missing: YamlError,
) -> Result<(Open, &'a str), YamlError> {
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
    let refuse = |message: String| cannot(text, events, parent.node, message);
    let here = path.prefix(parent_steps);
    let entries = events.entries(parent.node).count();
    let Some((first, _)) = (match list[parent.node].what {
        What::Mapping { .. } => events.entries(parent.node).next(),
        _ => None,
    }) else {
        return Err(refuse(format!("{here} holds no entries to add {key:?} to")));
    };
    events.unshared(&parent, &path.prefix(usize::MAX))?;
    let lead = lead_of(text, list[first].start);
    // Anything but dashes before the first key is a `? key`, an anchor or a tag.
    let odd = lead.contains(|c| c != ' ' && c != '-');
    if odd || in_flow(text, events, &parent) {
        return Err(refuse(format!(
            "{here} is not a block mapping, so {key:?} cannot be added"
        )));
    }
    let located = locate(text, list[first].start, &parent.steps)?;
    if !located.block_mapping {
        return Err(disagree(text, list[parent.node].start));
    }
    let open = Open {
        indent: lead.len(),
        target: parent,
        entries,
    };
    Ok((open, key))
}

/// Adds the last key of a path to the mapping that the rest of it names.
pub(super) fn create(
    text: &str,
    events: &Events,
    path: &Path,
    new: Wanted<'_>,
    missing: YamlError,
) -> Result<Edited, YamlError> {
    let (open, key) = parent(text, events, path, missing)?;
    let (key_text, _) = render(key, Style::Plain);
    let entry = format!("{}{key_text}: ", " ".repeat(open.indent));
    let written = match new {
        Wanted::Text(text) => render(text, Style::Plain).0,
        Wanted::Literal(text) => text.to_owned(),
    };
    let insert = Insert {
        target: &open.target,
        indent: open.indent,
        lines: vec![format!("{entry}{written}")],
        events: vec![New::Text(Wanted::Text(key), None), {
            let steps = [Step::Entry(open.entries)];
            New::Text(new, Some(steps.to_vec()))
        }],
        value: (entry.len(), written.len()),
    };
    insert.make(text, events)
}

/// Adds a key with a sequence of one item.
fn sequence(
    text: &str,
    events: &Events,
    path: &Path,
    fields: &[(&str, &str)],
    missing: YamlError,
) -> Result<Edited, YamlError> {
    let (open, key) = parent(text, events, path, missing)?;
    let pad = " ".repeat(open.indent);
    let (key_text, _) = render(key, Style::Plain);
    let mut lines = vec![format!("{pad}{key_text}:")];
    let place = lines_of(fields, &format!("{pad}- "), &mut lines);
    let mut new = vec![New::Text(Wanted::Text(key), None), New::Sequence];
    events_of(
        fields,
        &[Step::Entry(open.entries), Step::Item(0)],
        &mut new,
    );
    new.push(New::End);
    let insert = Insert {
        target: &open.target,
        indent: open.indent,
        lines,
        events: new,
        value: place,
    };
    insert.make(text, events)
}

/// Adds an item behind the last of a block sequence.
fn item(
    text: &str,
    events: &Events,
    path: &Path,
    sequence: &Target,
    fields: &[(&str, &str)],
) -> Result<Edited, YamlError> {
    let list = &events.list;
    let here = path.prefix(usize::MAX);
    let refuse = |message: String| cannot(text, events, sequence.node, message);
    let mut items = match list[sequence.node].what {
        What::Sequence { .. } => events.children(sequence.node),
        What::Alias(_) => {
            events.scalar(sequence, &here)?;
            return Err(refuse(format!("{here} is an alias")));
        }
        _ => return Err(refuse(format!("{here} is not a sequence with items"))),
    };
    let Some(first) = items.next() else {
        return Err(refuse(format!(
            "{here} holds no items that show how to write one"
        )));
    };
    let count = 1 + items.count();
    events.unshared(sequence, &here)?;
    let lead = lead_of(text, list[first].start);
    if lead.trim_matches(' ') != "-" || in_flow(text, events, sequence) {
        return Err(refuse(format!(
            "{here} is not a block sequence of plain items, so none can be added"
        )));
    }
    let mut lines = Vec::new();
    let value = lines_of(fields, lead, &mut lines);
    let mut new = Vec::new();
    events_of(fields, &[Step::Item(count)], &mut new);
    let insert = Insert {
        target: sequence,
        indent: lead.find('-').unwrap_or(0),
        lines,
        events: new,
        value,
    };
    insert.make(text, events)
}

/// Writes the fields of an item behind a dash; tells where the last value starts in its line, and
/// how long it is.
fn lines_of(fields: &[(&str, &str)], lead: &str, lines: &mut Vec<String>) -> (usize, usize) {
    let mut place = (0, 0);
    for (at, (key, value)) in fields.iter().enumerate() {
        let lead = match at {
            0 => lead.to_owned(),
            _ => " ".repeat(lead.len()),
        };
        let key = render(key, Style::Plain).0;
        let value = render(value, Style::Plain).0;
        place = (lead.len() + key.len() + 2, value.len());
        lines.push(format!("{lead}{key}: {value}"));
    }
    place
}

fn events_of<'a>(fields: &[(&'a str, &'a str)], steps: &[Step], new: &mut Vec<New<'a>>) {
    new.push(New::Mapping);
    for (at, (key, value)) in fields.iter().enumerate() {
        let mut steps = steps.to_vec();
        steps.push(Step::Entry(at));
        new.push(New::Text(Wanted::Text(key), None));
        new.push(New::Text(Wanted::Text(value), Some(steps)));
    }
    new.push(New::End);
}

/// An event that an insertion must bring about.
enum New<'a> {
    /// A scalar, and, if it is a value, the steps to it from the collection it is added to.
    Text(Wanted<'a>, Option<Vec<Step>>),
    Sequence,
    Mapping,
    End,
}

/// Lines to add at the end of a block collection, and what they must mean.
struct Insert<'a> {
    target: &'a Target,
    indent: usize,
    lines: Vec<String>,
    events: Vec<New<'a>>,
    /// Where the value stands in the last of the lines, and its length.
    value: (usize, usize),
}

impl Insert<'_> {
    fn make(&self, text: &str, events: &Events) -> Result<Edited, YamlError> {
        let list = &events.list;
        let end = end_of(text, events, self.target.node, self.indent);
        let ending = if text.contains("\r\n") { "\r\n" } else { "\n" };
        // Behind a last line without an end, the line break goes before the entry.
        let open = !text[..end].ends_with(['\n', '\r']);
        let (lead, tail) = if open { (ending, "") } else { ("", ending) };
        let lines = self.lines.join(ending);
        let after = [&text[..end], lead, &lines, tail, &text[end..]].concat();

        let changed = reread(&after).map_err(|error| error.at(text, Span::new(end, end)))?;
        let at = list[self.target.node].next - 1;
        let count = self.events.len();
        let new = &changed.list;
        let same = new.len() == list.len() + count
            && (0..at).all(|i| list[i].what == new[i].what)
            && (at..list.len()).all(|i| list[i].what == new[i + count].what);
        if !same {
            return Err(more_would_change().at(text, Span::new(end, end)));
        }
        for (wanted, node) in self.events.iter().zip(at..) {
            let bare = new[node].what.anchor() == 0;
            let fits = match (wanted, &new[node].what) {
                (New::Text(wanted, None), What::Scalar { value, .. }) => value == wanted.as_str(),
                (New::Text(wanted, Some(steps)), What::Scalar { tag: None, .. }) => {
                    let steps = [self.target.steps.as_slice(), steps].concat();
                    says(&after, &changed, node, &steps, *wanted)?;
                    true
                }
                (New::Sequence, What::Sequence { tag: None, .. })
                | (New::Mapping, What::Mapping { tag: None, .. })
                | (New::End, What::End) => true,
                _ => false,
            };
            if !fits || !bare {
                return Err(more_would_change().at(text, Span::new(end, end)));
            }
        }
        let last = self.lines.last().map_or(0, String::len);
        let start = end + lead.len() + lines.len() - last + self.value.0;
        Ok(Edited {
            before: String::new(),
            span: Span::new(start, start + self.value.1),
            changed: true,
            line: line_of(&after, start),
            text: after,
        })
    }
}

fn cannot(text: &str, events: &Events, node: usize, message: String) -> YamlError {
    let start = events.list[node].start;
    YamlError::new(Problem::CannotCreate, message)
        .at(text, Span::new(start, start))
        .help("write it by hand once")
}

/// What stands before a byte in its line.
fn lead_of(text: &str, start: usize) -> &str {
    let line_start = text[..start].rfind(['\n', '\r']).map_or(0, |at| at + 1);
    &text[line_start..start]
}

/// Whether a collection, or one it is in, is written with brackets.
fn in_flow(text: &str, events: &Events, target: &Target) -> bool {
    let flow = |node: &usize| text[events.list[*node].start..].starts_with(['{', '[']);
    target.above.iter().chain([&target.node]).any(flow)
}

/// The byte behind the last line of a block collection: behind its line break, or the end of the
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
