//! Finds the bytes of a node whose place in the tree is known.

use yaml_edit::{Document, Mapping, Sequence, YamlFile, YamlNode};

use super::error::{Problem, YamlError};
use super::resolve::Step;
use crate::base::Span;

/// The bytes of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located {
    /// Where it stands; empty if it is a value that was left out.
    pub(super) span: Span,
    /// The key before it, if it is a value of a mapping.
    pub(super) key: Option<Span>,
    /// Its text, if it is a scalar.
    pub(super) value: Option<String>,
    /// Whether it is a mapping in block style.
    pub(super) block_mapping: bool,
}

/// Follows steps from the root of the document that holds the byte `inside`.
pub(super) fn locate(text: &str, inside: usize, steps: &[Step]) -> Result<Located, YamlError> {
    let parse = YamlFile::parse(text);
    if let Some(error) = parse.positioned_errors().first() {
        return Err(disagree(text, inside).help(format!("one of them says: {}", error.message)));
    }
    let file = parse.tree();
    let holds = |document: &Document| {
        let range = document.byte_range();
        (range.start as usize..=range.end as usize).contains(&inside)
    };
    // Where one document ends the next begins: the last that holds the byte is the one.
    let document = file
        .documents()
        .filter(holds)
        .last()
        .ok_or_else(|| disagree(text, inside))?;
    follow(&document, steps).ok_or_else(|| disagree(text, inside))
}

fn follow(document: &Document, steps: &[Step]) -> Option<Located> {
    let mut node = root(document)?;
    let mut key = None;
    for step in steps {
        match *step {
            Step::Entry(index) => {
                let entry = mapping(&node)?.entries().nth(index)?;
                key = entry.key_node().map(|key| span_of(&key));
                node = entry.value_node()?;
            }
            Step::Item(index) => {
                key = None;
                node = sequence(&node)?.get(index)?;
            }
        }
    }
    if let YamlNode::TaggedNode(tagged) = &node
        && let Some(scalar) = tagged.value()
    {
        node = YamlNode::Scalar(scalar);
    }
    Some(Located {
        span: span_of(&node),
        key,
        value: node.as_scalar().map(|scalar| scalar.as_string()),
        block_mapping: mapping(&node).is_some_and(|mapping| !mapping.is_flow_style()),
    })
}

fn root(document: &Document) -> Option<YamlNode> {
    document
        .as_tagged()
        .map(YamlNode::TaggedNode)
        .or_else(|| document.as_mapping().map(YamlNode::Mapping))
        .or_else(|| document.as_sequence().map(YamlNode::Sequence))
        .or_else(|| document.as_scalar().map(YamlNode::Scalar))
}

fn mapping(node: &YamlNode) -> Option<Mapping> {
    match node {
        YamlNode::Mapping(mapping) => Some(mapping.clone()),
        YamlNode::TaggedNode(tagged) => tagged.as_mapping(),
        _ => None,
    }
}

fn sequence(node: &YamlNode) -> Option<Sequence> {
    match node {
        YamlNode::Sequence(sequence) => Some(sequence.clone()),
        YamlNode::TaggedNode(tagged) => tagged.as_sequence(),
        _ => None,
    }
}

fn span_of(node: &YamlNode) -> Span {
    let range = node.byte_range();
    Span::new(range.start as usize, range.end as usize)
}

/// The refusal to touch what the two parsers read differently.
pub(super) fn disagree(text: &str, at: usize) -> YamlError {
    YamlError::new(
        Problem::Unsafe,
        "two YAML parsers read this place differently, so it is not edited",
    )
    .at(text, Span::new(at, at))
}
