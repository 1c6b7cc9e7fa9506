//! Lists every scalar value of a text, for edits that look for values instead of naming them.

use saphyr_parser::ScalarStyle;

use super::edit::{Edited, Wanted, more_would_change, replace, reread, shifted};
use super::error::YamlError;
use super::path::Path;
use super::quote::is_string;
use super::reader::{Events, What, read};
use super::resolve::{Step, Target};

/// A scalar value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    target: Target,
    /// Its path, as text for people and for [`Path`]; the number of the document is not in it.
    pub path: String,
    /// The key it is the value of; none for items of sequences.
    pub key: Option<String>,
    /// What it says.
    pub value: String,
    /// One-based line of its start.
    pub line: usize,
    /// The text of `name` beside it, if it is in a mapping that has one.
    pub name: Option<String>,
}

/// The scalar values that `keep` wants, in the order of the text. Keys, aliases and what is below
/// keys that are collections are not asked about. A caller that may meet a huge text keeps few.
pub fn leaves(text: &str, mut keep: impl FnMut(&Leaf) -> bool) -> Result<Vec<Leaf>, YamlError> {
    shifted(text, |text| {
        let events = read(text)?;
        let mut found = Vec::new();
        for root in events.documents() {
            let target = Target {
                node: root,
                steps: Vec::new(),
                above: Vec::new(),
            };
            let mut walk = Walk {
                events: &events,
                found: &mut found,
                path: String::new(),
                key: None,
                keep: &mut keep,
            };
            walk.node(target, None);
        }
        Ok(found)
    })
    .map(|(found, _)| found)
}

/// Replaces a leaf of this text, or of one that differs from it in the values of scalars only.
pub fn set_leaf(text: &str, leaf: &Leaf, wanted: Wanted<'_>) -> Result<Edited, YamlError> {
    wanted.bounded()?;
    shifted(text, |text| {
        let events = read(text)?;
        replace(text, events, &leaf.target, &leaf.path, wanted)
    })
    .map(|(edited, shift)| edited.behind_bom(text, shift))
}

/// Refuses unless a text differs from another in the value of one scalar at most, and no scalar that
/// was a string has become something else.
pub fn at_most_one_differs(before: &str, after: &str) -> Result<(), YamlError> {
    let ((old, new), _) = shifted(before, |before| {
        let (after, _) = shifted(after, reread)?;
        Ok((read(before)?, after))
    })?;
    let mut differing = 0;
    let same = old.list.len() == new.list.len()
        && old.list.iter().zip(&new.list).all(|(old, new)| {
            if old.what == new.what {
                return true;
            }
            differing += 1;
            match (&old.what, &new.what) {
                (
                    What::Scalar {
                        value: was,
                        style: looked,
                        tag: old_tag,
                        anchor: old_anchor,
                    },
                    What::Scalar {
                        value,
                        style,
                        tag,
                        anchor,
                    },
                ) => {
                    let plain = ScalarStyle::Plain;
                    let was_text = *looked != plain || is_string(was);
                    let is_text = *style != plain || is_string(value);
                    old_tag == tag && old_anchor == anchor && looked == style && was_text == is_text
                }
                _ => false,
            }
        });
    if same && differing <= 1 {
        Ok(())
    } else {
        Err(more_would_change().help("name the value with `set`, which writes the quotes it needs"))
    }
}

/// A walk down to the leaves. Nesting is bounded by the reader.
struct Walk<'a> {
    events: &'a Events,
    found: &'a mut Vec<Leaf>,
    path: String,
    key: Option<String>,
    keep: &'a mut dyn FnMut(&Leaf) -> bool,
}

impl Walk<'_> {
    fn node(&mut self, target: Target, mapping: Option<usize>) {
        let events = self.events;
        match &events.list[target.node].what {
            What::Scalar { value, .. } => {
                let name = mapping.and_then(|mapping| events.value(mapping, "name"));
                let leaf = Leaf {
                    path: self.path.clone(),
                    key: self.key.clone(),
                    value: value.clone(),
                    line: events.list[target.node].line,
                    name: name.and_then(|node| events.list[node].what.scalar().map(str::to_owned)),
                    target,
                };
                if (self.keep)(&leaf) {
                    self.found.push(leaf);
                }
            }
            What::Mapping { .. } => {
                for (index, (key, value)) in events.entries(target.node).enumerate() {
                    let Some(key) = events.list[key].what.scalar() else {
                        continue;
                    };
                    self.below(
                        &target,
                        Step::Entry(index),
                        value,
                        Some(key),
                        &Path::key(key),
                    );
                }
            }
            What::Sequence { .. } => {
                for (index, item) in events.children(target.node).enumerate() {
                    self.below(
                        &target,
                        Step::Item(index),
                        item,
                        None,
                        &format!("[{index}]"),
                    );
                }
            }
            _ => {}
        }
    }

    fn below(
        &mut self,
        parent: &Target,
        step: Step,
        node: usize,
        key: Option<&str>,
        written: &str,
    ) {
        let target = Target {
            node,
            steps: [parent.steps.as_slice(), &[step]].concat(),
            above: [parent.above.as_slice(), &[parent.node]].concat(),
        };
        let len = self.path.len();
        self.path.push_str(written);
        self.key = key.map(str::to_owned);
        self.node(target, key.map(|_| parent.node));
        self.path.truncate(len);
    }
}
