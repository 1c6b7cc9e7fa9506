//! Reads a YAML text into a flat list of events, within limits.
//!
//! The list is the whole meaning of the text: two texts with equal lists differ only in looks.

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::error::{Problem, YamlError};
use super::{MAX_DEPTH, MAX_NODES, MAX_TEXT};
use crate::base::Span;

/// About as many bytes of a manifest make one event.
const BYTES_PER_NODE: usize = 8;

/// The events of a text, in its order.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) list: Vec<Node>,
}

/// One event and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) what: What,
    /// First byte of the event.
    pub(super) start: usize,
    /// One past its last byte.
    pub(super) end: usize,
    /// One-based line of its first byte.
    pub(super) line: usize,
    /// The event after this node and all that is in it.
    pub(super) next: usize,
}

/// What an event says, without its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Document {
        explicit: bool,
    },
    Scalar {
        value: String,
        style: ScalarStyle,
        tag: Option<String>,
        anchor: usize,
    },
    /// The number of the anchor it repeats.
    Alias(usize),
    Sequence {
        tag: Option<String>,
        anchor: usize,
    },
    Mapping {
        tag: Option<String>,
        anchor: usize,
    },
    /// The end of a document, sequence or mapping.
    End,
}

impl What {
    /// The number of its anchor; zero is none.
    pub(super) fn anchor(&self) -> usize {
        match self {
            Self::Scalar { anchor, .. }
            | Self::Sequence { anchor, .. }
            | Self::Mapping { anchor, .. } => *anchor,
            _ => 0,
        }
    }

    /// The text of a scalar.
    pub(super) fn scalar(&self) -> Option<&str> {
        match self {
            Self::Scalar { value, .. } => Some(value),
            _ => None,
        }
    }
}

/// Reads a text that is not larger than the limits and is YAML.
pub(super) fn read(text: &str) -> Result<Events, YamlError> {
    // Room for what a manifest of this size usually holds: growing would copy it a dozen times.
    let mut list: Vec<Node> = Vec::with_capacity((text.len() / BYTES_PER_NODE).min(MAX_NODES));
    let mut open: Vec<usize> = Vec::new();
    scan(text, |node| {
        let at = list.len();
        match node.what {
            What::Document { .. } | What::Sequence { .. } | What::Mapping { .. } => open.push(at),
            What::End => {
                if let Some(started) = open.pop() {
                    list[started].next = at + 1;
                }
            }
            _ => {}
        }
        list.push(node);
        true
    })?;
    Ok(Events { list })
}

/// Passes the events of a text on, in its order, until one is refused; whether none was.
fn scan(text: &str, mut take: impl FnMut(Node) -> bool) -> Result<bool, YamlError> {
    if text.len() > MAX_TEXT {
        return Err(YamlError::new(
            Problem::TooLarge,
            format!("text is larger than {MAX_TEXT} bytes"),
        ));
    }
    let (mut count, mut depth) = (0_usize, 0_usize);
    let mut parser = Parser::new_from_str(text);
    let mut cursor = Cursor::new(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| {
            let at = Cursor::new(text).byte_of(error.marker().index());
            YamlError::new(
                Problem::Invalid,
                format!("text is not YAML: {}", error.info()),
            )
            .at(text, Span::new(at, at))
        })?;
        let tag = |tag: Option<std::borrow::Cow<'_, saphyr_parser::Tag>>| {
            tag.map(|tag| format!("{}{}", tag.handle, tag.suffix))
        };
        let what = match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd => continue,
            Event::DocumentStart(explicit) => What::Document { explicit },
            Event::Alias(anchor) => What::Alias(anchor),
            Event::Scalar(value, style, anchor, name) => What::Scalar {
                value: value.into_owned(),
                style,
                tag: tag(name),
                anchor,
            },
            Event::SequenceStart(anchor, name) => What::Sequence {
                tag: tag(name),
                anchor,
            },
            Event::MappingStart(anchor, name) => What::Mapping {
                tag: tag(name),
                anchor,
            },
            Event::DocumentEnd | Event::SequenceEnd | Event::MappingEnd => What::End,
        };
        let start = cursor.byte_of(span.start.index());
        let end = cursor.byte_of(span.end.index());
        match what {
            What::Document { .. } | What::Sequence { .. } | What::Mapping { .. } => depth += 1,
            What::End => depth = depth.saturating_sub(1),
            _ => {}
        }
        count += 1;
        let taken = take(Node {
            what,
            start,
            end,
            line: span.start.line(),
            next: count,
        });
        if !taken {
            return Ok(false);
        }
        let limit = if depth > MAX_DEPTH + 1 {
            format!("collections are nested deeper than {MAX_DEPTH}")
        } else if count > MAX_NODES {
            format!("text has more than {MAX_NODES} nodes")
        } else {
            continue;
        };
        return Err(YamlError::new(Problem::TooLarge, limit).at(text, Span::new(start, start)));
    }
    Ok(true)
}

impl Events {
    /// The events of another text, if that differs in nothing but the event of one number, which stays
    /// a scalar. What is the same is kept, as to make it anew would take as long as to read it.
    pub(super) fn moved(mut self, after: &str, except: usize) -> Result<Option<Self>, YamlError> {
        let mut at = 0;
        let same = scan(after, |node| {
            let Some(old) = self.list.get_mut(at) else {
                return false;
            };
            let replaced = at == except && node.what.scalar().is_some();
            at += 1;
            if replaced {
                old.what = node.what;
            } else if old.what != node.what {
                return false;
            }
            (old.start, old.end, old.line) = (node.start, node.end, node.line);
            true
        })?;
        Ok((same && at == self.list.len()).then_some(self))
    }

    /// The roots of the documents; a document always holds one node.
    pub(super) fn documents(&self) -> Vec<usize> {
        let mut roots = Vec::new();
        let mut at = 0;
        while let Some(node) = self.list.get(at) {
            roots.push(at + 1);
            at = node.next;
        }
        roots
    }

    /// The nodes directly in a collection; those of a mapping are keys and values in turn.
    pub(super) fn children(&self, parent: usize) -> impl Iterator<Item = usize> {
        let mut at = parent + 1;
        std::iter::from_fn(move || {
            let node = self.list.get(at)?;
            if node.what == What::End {
                return None;
            }
            let found = at;
            at = node.next;
            Some(found)
        })
    }

    /// The keys and values of a mapping.
    pub(super) fn entries(&self, mapping: usize) -> impl Iterator<Item = (usize, usize)> {
        let mut nodes = self.children(mapping);
        std::iter::from_fn(move || Some((nodes.next()?, nodes.next()?)))
    }

    /// The first alias of an anchor.
    pub(super) fn alias_of(&self, anchor: usize) -> Option<usize> {
        if anchor == 0 {
            return None;
        }
        let found = |node: &Node| node.what == What::Alias(anchor);
        self.list.iter().position(found)
    }
}

/// Turns counts of characters into byte offsets; cheap while they grow or move little.
struct Cursor<'a> {
    text: &'a str,
    byte: usize,
    character: usize,
}

impl<'a> Cursor<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            byte: 0,
            character: 0,
        }
    }

    fn byte_of(&mut self, character: usize) -> usize {
        while self.character < character {
            let Some(c) = self.text[self.byte..].chars().next() else {
                break;
            };
            self.byte += c.len_utf8();
            self.character += 1;
        }
        while self.character > character {
            let Some(c) = self.text[..self.byte].chars().next_back() else {
                break;
            };
            self.byte -= c.len_utf8();
            self.character -= 1;
        }
        self.byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "a: 1 # 値\nb: [x, y]\n---\nc: &n z\nd: *n\n";

    /// The event of a scalar.
    fn event(events: &Events, value: &str) -> usize {
        let found = |node: &Node| node.what.scalar() == Some(value);
        events.list.iter().position(found).expect("it is there")
    }

    #[test]
    fn what_moves_is_as_if_it_had_been_read_anew() {
        let old = read(OLD).expect("YAML");
        let at = event(&old, "1");
        let after = OLD.replace("a: 1", "a: \"twenty\"");
        let moved = old.moved(&after, at).expect("YAML").expect("the same");
        let anew = read(&after).expect("YAML");
        assert_eq!(moved.list.len(), anew.list.len());
        for (moved, anew) in moved.list.iter().zip(&anew.list) {
            assert_eq!(moved.what, anew.what);
            assert_eq!(
                (moved.start, moved.end, moved.line, moved.next),
                (anew.start, anew.end, anew.line, anew.next)
            );
        }
    }

    #[test]
    fn any_other_difference_is_noticed() {
        for (name, from, to) in [
            ("another value", "y]", "w]"),
            ("one more", "y]", "y, w]"),
            ("one less", "x, y", "x"),
            ("at the end", "d: *n\n", "d: *n\ne: 1\n"),
            ("quotes", "x,", "'x',"),
            ("an anchor", "&n z\nd: *n", "z\nd: z"),
            ("a document", "---\n", ""),
            ("no scalar any more", "a: 1", "a: [1]"),
            ("a key", "b:", "k:"),
        ] {
            let old = read(OLD).expect("YAML");
            let at = event(&old, "1");
            let after = OLD.replace(from, to);
            let moved = old.moved(&after, at).expect("YAML");
            assert!(moved.is_none(), "{name}");
        }
    }
}
