//! Values of a text with their places, whatever the language: what a path is followed in, and what
//! two texts are compared by.

use super::EditError;
use crate::base::Span;
use crate::formats::yaml::{Path, PathStep};

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) what: What,
    /// Its bytes, quotes and brackets included.
    pub(super) span: Span,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// Keys, where they stand, and values.
    Map(Vec<(String, Span, Node)>),
    List(Vec<Node>),
    Scalar {
        /// Whether it is a string.
        text: bool,
        value: String,
    },
}

impl Node {
    /// What a path leads to; `count` of its steps are taken.
    pub(super) fn find(&self, path: &Path, count: usize) -> Result<&Node, Lost> {
        let other = |message: String| Lost::Other(EditError::new(message));
        if path.has_document() {
            return Err(other(format!(
                "{path} chooses a document, and there is only one"
            )));
        }
        let mut node = self;
        for (at, step) in path.steps().iter().take(count).enumerate() {
            let here = path.prefix(at);
            node = match (step, &node.what) {
                (PathStep::Key(key), What::Map(entries)) => {
                    let mut found = entries.iter().filter(|(name, _, _)| name == key);
                    match (found.next(), found.next()) {
                        (Some((_, _, value)), None) => value,
                        (Some(_), Some(_)) => {
                            return Err(other(format!("{here} has the key {key:?} twice")));
                        }
                        (None, _) => {
                            return Err(Lost::Missing(format!("{here} has no key {key:?}")));
                        }
                    }
                }
                (PathStep::Index(index), What::List(items)) => match items.get(*index) {
                    Some(item) => item,
                    None => {
                        return Err(other(format!(
                            "{here} has {} items, no [{index}]",
                            items.len()
                        )));
                    }
                },
                (PathStep::Where(key, value), What::List(items)) => {
                    let mut found = items.iter().filter(|item| item.says(key, value));
                    match (found.next(), found.next()) {
                        (Some(item), None) => item,
                        (Some(_), Some(_)) => {
                            return Err(other(format!(
                                "{here} has several items with {key}={value}"
                            )));
                        }
                        (None, _) => {
                            return Err(other(format!("{here} has no item with {key}={value}")));
                        }
                    }
                }
                (PathStep::Key(key), _) => {
                    return Err(other(format!("{here} holds no keys and so no {key:?}")));
                }
                _ => return Err(other(format!("{here} is not a list"))),
            };
        }
        Ok(node)
    }

    fn says(&self, key: &str, wanted: &str) -> bool {
        let What::Map(entries) = &self.what else {
            return false;
        };
        entries.iter().any(|(name, _, node)| {
            name == key && matches!(&node.what, What::Scalar { value, .. } if value == wanted)
        })
    }

    /// Whether two values are equal but for the scalars that `may_differ` is asked about, here and
    /// there.
    pub(super) fn fits(
        &self,
        other: &Self,
        may_differ: &mut dyn FnMut(&Self, &Self) -> bool,
    ) -> bool {
        match (&self.what, &other.what) {
            (What::Map(old), What::Map(new)) => {
                old.len() == new.len()
                    && old
                        .iter()
                        .zip(new)
                        .all(|(a, b)| a.0 == b.0 && a.2.fits(&b.2, may_differ))
            }
            (What::List(old), What::List(new)) => {
                old.len() == new.len() && old.iter().zip(new).all(|(a, b)| a.fits(b, may_differ))
            }
            (
                What::Scalar { text, value },
                What::Scalar {
                    text: new_text,
                    value: new_value,
                },
            ) => (text == new_text && value == new_value) || may_differ(self, other),
            _ => false,
        }
    }
}

/// Why a path leads nowhere.
pub(super) enum Lost {
    /// A key is missing.
    Missing(String),
    /// Anything else.
    Other(EditError),
}

impl From<Lost> for EditError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Missing(message) => Self::new(message),
            Lost::Other(error) => error,
        }
    }
}
