//! Finds the node that a path names and says why it must not be edited, if so.

use saphyr_parser::ScalarStyle;

use super::error::{Problem, YamlError};
use super::path::{Path, PathStep};
use super::reader::{Events, What};
use crate::base::Span;

/// A step from a node to one directly in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The value of the nth entry of a mapping.
    Entry(usize),
    /// The nth item of a sequence.
    Item(usize),
}

/// A node that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Its event.
    pub(super) node: usize,
    /// The way from the root of its document.
    pub(super) steps: Vec<Step>,
    /// The nodes on that way, without itself.
    pub(super) above: Vec<usize>,
}

impl Events {
    /// The one node that the first `count` steps of a path name.
    pub(super) fn resolve(&self, path: &Path, count: usize) -> Result<Target, YamlError> {
        let mut found: Option<Target> = None;
        let mut failure: Option<(usize, YamlError)> = None;
        let mut selected = 0;
        for root in self.documents() {
            if !self.is_selected(root, path) {
                continue;
            }
            selected += 1;
            match self.walk(root, path, count) {
                Ok(target) => match found {
                    Some(first) => {
                        let lines = [first.node, target.node].map(|node| self.line(node));
                        let [a, b] = lines;
                        return Err(self
                            .error(
                                Problem::Ambiguous,
                                format!("path {path} is in several documents, lines {a} and {b}"),
                                target.node,
                            )
                            .help("select one, as in `kind=Deployment/name=front:.spec`"));
                    }
                    None => found = Some(target),
                },
                // A refusal must not hide behind another document that has the path; the
                // failure that got furthest explains a path that no document has.
                Err((_, error)) if error.problem != Problem::NotFound => return Err(error),
                Err((depth, error)) => {
                    if failure.as_ref().is_none_or(|(best, _)| depth > *best) {
                        failure = Some((depth, error));
                    }
                }
            }
        }
        match (found, failure) {
            (Some(target), _) => Ok(target),
            (None, Some((_, error))) => Err(error),
            (None, None) if selected == 0 && !path.document.is_empty() => {
                let wanted: Vec<_> = path
                    .document
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                Err(YamlError::new(
                    Problem::NotFound,
                    format!("no document has {}", wanted.join("/")),
                ))
            }
            (None, None) => Err(YamlError::new(
                Problem::NotFound,
                format!("text is empty and has no {path}"),
            )),
        }
    }

    /// Whether the document matches the selector of a path.
    fn is_selected(&self, root: usize, path: &Path) -> bool {
        path.document.iter().all(|(key, value)| {
            let keys: &[&str] = match key.as_str() {
                "name" | "namespace" => &["metadata", key],
                _ => &[key],
            };
            let mut node = Some(root);
            for key in keys {
                node = node.and_then(|node| self.value(node, key));
            }
            node.is_some_and(|node| self.list[node].what.scalar() == Some(value))
        })
    }

    /// The first value of a key of a mapping.
    pub(super) fn value(&self, mapping: usize, key: &str) -> Option<usize> {
        if !matches!(self.list[mapping].what, What::Mapping { .. }) {
            return None;
        }
        let mut entries = self.entries(mapping);
        entries
            .find_map(|(name, value)| (self.list[name].what.scalar() == Some(key)).then_some(value))
    }

    /// Follows a path in one document; an error comes with how far it got.
    fn walk(&self, root: usize, path: &Path, count: usize) -> Result<Target, (usize, YamlError)> {
        let mut target = Target {
            node: root,
            steps: Vec::new(),
            above: Vec::new(),
        };
        for (depth, step) in path.steps.iter().take(count).enumerate() {
            let here = path.prefix(depth);
            let (next, taken) = match (step, &self.list[target.node].what) {
                (_, What::Alias(_)) => Err(self
                    .error(
                        Problem::Alias,
                        format!("{here} is an alias, which a path cannot go through"),
                        target.node,
                    )
                    .help("name the place where its anchor is")),
                (PathStep::Key(key), What::Mapping { .. }) => self.entry(target.node, key, &here),
                (PathStep::Index(index), What::Sequence { .. }) => {
                    self.item(target.node, *index, &here)
                }
                (PathStep::Where(key, value), What::Sequence { .. }) => {
                    self.item_where(target.node, key, value, &here)
                }
                (PathStep::Key(key), What::Sequence { .. }) => Err(self
                    .missing(
                        format!("{here} is a sequence and has no key {key:?}"),
                        target.node,
                    )
                    .help("choose an item, as in `[0]` or `[name=app]`")),
                (PathStep::Key(key), _) => Err(self.missing(
                    format!("{here} holds no mapping and so no key {key:?}"),
                    target.node,
                )),
                (PathStep::Index(_) | PathStep::Where(..), _) => {
                    Err(self.missing(format!("{here} is not a sequence"), target.node))
                }
            }
            .map_err(|error| (depth, error))?;
            target.above.push(target.node);
            target.steps.push(taken);
            target.node = next;
        }
        Ok(target)
    }

    fn entry(&self, mapping: usize, key: &str, here: &str) -> Result<(usize, Step), YamlError> {
        let mut found: Option<(usize, usize, usize)> = None;
        let mut merged = false;
        for (index, (name, value)) in self.entries(mapping).enumerate() {
            let text = self.list[name].what.scalar();
            merged |= text == Some("<<");
            if text != Some(key) {
                continue;
            }
            if let Some((_, first, _)) = found {
                let line = self.line(first);
                return Err(self.error(
                    Problem::Duplicate,
                    format!("{here} has the key {key:?} twice, first on line {line}"),
                    name,
                ));
            }
            found = Some((index, name, value));
        }
        if let Some((index, _, value)) = found {
            return Ok((value, Step::Entry(index)));
        }
        let error = self.missing(format!("{here} has no key {key:?}"), mapping);
        if merged {
            return Err(error.help("it may come from a merge (`<<`); name where that is written"));
        }
        let names: Vec<&str> = self
            .entries(mapping)
            .filter_map(|(name, _)| self.list[name].what.scalar())
            .filter(|name| name.len() <= 60)
            .take(12)
            .collect();
        Err(match names.is_empty() {
            true => error,
            false => error.help(format!("its keys are {}", names.join(", "))),
        })
    }

    fn item(&self, sequence: usize, index: usize, here: &str) -> Result<(usize, Step), YamlError> {
        let found = self.children(sequence).nth(index);
        found.map(|node| (node, Step::Item(index))).ok_or_else(|| {
            let count = self.children(sequence).count();
            self.missing(format!("{here} has {count} items, no [{index}]"), sequence)
        })
    }

    fn item_where(
        &self,
        sequence: usize,
        key: &str,
        value: &str,
        here: &str,
    ) -> Result<(usize, Step), YamlError> {
        let mut found: Option<(usize, usize)> = None;
        for (index, item) in self.children(sequence).enumerate() {
            let Some(node) = self.value(item, key) else {
                continue;
            };
            if self.list[node].what.scalar() != Some(value) {
                continue;
            }
            if let Some((_, first)) = found {
                let line = self.line(first);
                return Err(self
                    .error(
                        Problem::Ambiguous,
                        format!(
                            "{here} has several items with {key}={value}, first on line {line}"
                        ),
                        item,
                    )
                    .help("choose one by its index, as in `[0]`"));
            }
            // The selector itself must be readable in one way only.
            self.entry(item, key, &format!("{here}[{index}]"))?;
            found = Some((index, item));
        }
        found
            .map(|(index, item)| (item, Step::Item(index)))
            .ok_or_else(|| self.missing(format!("{here} has no item with {key}={value}"), sequence))
    }

    /// Refuses a scalar that an edit cannot change on its own.
    pub(super) fn editable(&self, target: &Target, here: &str) -> Result<(), YamlError> {
        self.scalar(target, here)?;
        self.unshared(target, here)?;
        self.unique(target, here)?;
        let What::Scalar { style, tag, .. } = &self.list[target.node].what else {
            return Ok(());
        };
        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            return Err(self
                .error(
                    Problem::Block,
                    format!("{here} is a block scalar, which is not edited"),
                    target.node,
                )
                .help("write the value on one line"));
        }
        match tag.as_deref() {
            None | Some("!" | "tag:yaml.org,2002:str") => Ok(()),
            Some(tag) => Err(self.error(
                Problem::Tagged,
                format!("{here} carries the tag {tag:?}, which a string must not replace"),
                target.node,
            )),
        }
    }

    /// Refuses what is below a key that is there twice: which of them counts depends on the reader.
    fn unique(&self, target: &Target, here: &str) -> Result<(), YamlError> {
        for (parent, step) in target.above.iter().zip(&target.steps) {
            let Step::Entry(index) = *step else { continue };
            let keys = || {
                self.entries(*parent)
                    .map(|(key, _)| (key, self.list[key].what.scalar()))
            };
            let Some((_, Some(own))) = keys().nth(index) else {
                continue;
            };
            let other = keys()
                .enumerate()
                .find_map(|(at, (node, key))| (at != index && key == Some(own)).then_some(node));
            if let Some(other) = other {
                let line = self.line(other);
                return Err(self.error(
                    Problem::Duplicate,
                    format!("{here} is below the key {own:?}, which is there again on line {line}"),
                    target.node,
                ));
            }
        }
        Ok(())
    }

    /// Refuses what is not a scalar.
    pub(super) fn scalar(&self, target: &Target, here: &str) -> Result<(), YamlError> {
        let kind = match self.list[target.node].what {
            What::Scalar { .. } => return Ok(()),
            What::Alias(_) => {
                return Err(self
                    .error(
                        Problem::Alias,
                        format!("{here} is an alias, which has no value of its own"),
                        target.node,
                    )
                    .help("name the place where its anchor is"));
            }
            What::Mapping { .. } => "mapping",
            _ => "sequence",
        };
        Err(self.error(
            Problem::NotScalar,
            format!("{here} is a {kind}, not a single value"),
            target.node,
        ))
    }

    /// Refuses what an alias repeats elsewhere.
    pub(super) fn unshared(&self, target: &Target, here: &str) -> Result<(), YamlError> {
        for node in target.above.iter().chain([&target.node]) {
            let anchor = self.list[*node].what.anchor();
            if let Some(alias) = self.alias_of(anchor) {
                let line = self.line(alias);
                return Err(self
                    .error(
                        Problem::Shared,
                        format!(
                            "{here} is anchored and repeated on line {line}, which an edit would \
                             change too"
                        ),
                        *node,
                    )
                    .help("write the value out where it is repeated"));
            }
        }
        Ok(())
    }

    fn missing(&self, message: String, node: usize) -> YamlError {
        self.error(Problem::NotFound, message, node)
    }

    fn line(&self, node: usize) -> usize {
        self.list[node].line
    }

    pub(super) fn error(
        &self,
        problem: Problem,
        message: impl Into<String>,
        node: usize,
    ) -> YamlError {
        let node = &self.list[node];
        let mut error = YamlError::new(problem, message);
        error.span = Some(Span::new(node.start, node.start));
        error.line = Some(node.line);
        error
    }
}
