//! A parsed file: nodes with arguments, properties, children, and the place of each.

use crate::base::{Source, Span, Spanned};

/// A parsed file.
#[derive(Clone, Debug)]
pub struct Document {
    /// The text it was parsed from.
    pub source: Source,
    /// Its top-level nodes. What could not be parsed is missing.
    pub nodes: Vec<Node>,
}

/// One KDL node.
#[derive(Clone, Debug)]
pub struct Node {
    /// The text it stands in.
    pub source: Source,
    /// Its name.
    pub name: Spanned<String>,
    /// Its arguments, in order.
    pub args: Vec<Value>,
    /// Its properties, in order, duplicates included.
    pub props: Vec<Prop>,
    /// Its children.
    pub children: Vec<Node>,
    /// From its name to its last entry or closing brace.
    pub span: Span,
    /// Whether it has a children block, even an empty one.
    pub has_block: bool,
}

impl Node {
    /// The value of a property.
    pub fn prop(&self, name: &str) -> Option<&Value> {
        self.props
            .iter()
            .find(|prop| prop.name.value == name)
            .map(|prop| &prop.value)
    }

    /// The first child of a name.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.name.value == name)
    }

    /// All children of a name.
    pub fn children_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.children
            .iter()
            .filter(move |child| child.name.value == name)
    }

    /// The first argument of the first child of a name.
    pub fn child_arg(&self, name: &str) -> Option<&Value> {
        self.child(name)?.args.first()
    }

    /// Whether a flag (a bare child) is there.
    pub fn flag(&self, name: &str) -> bool {
        self.child(name).is_some()
    }

    /// A copy without its children.
    pub fn clone_head(&self) -> Self {
        Self {
            source: self.source.clone(),
            name: self.name.clone(),
            args: self.args.clone(),
            props: self.props.clone(),
            children: Vec::new(),
            span: self.span,
            has_block: self.has_block,
        }
    }

    /// Name and arguments: what to point at when the node as a whole is meant.
    pub fn head(&self) -> Span {
        let last = self.args.iter().map(|arg| arg.span.end).max();
        Span::new(self.name.span.start, last.unwrap_or(self.name.span.end))
    }
}

/// A property of a node.
#[derive(Clone, Debug)]
pub struct Prop {
    /// Its name.
    pub name: Spanned<String>,
    /// Its value.
    pub value: Value,
}

/// An argument or a property's value.
#[derive(Clone, Debug)]
pub struct Value {
    /// What it is.
    pub kind: ValueKind,
    /// Where it stands, quotes included.
    pub span: Span,
    /// How it is written, quotes included.
    pub raw: String,
}

/// The kinds of KDL values.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueKind {
    /// A string, quoted or not.
    String(String),
    /// An integer.
    Integer(i128),
    /// A number with a point or an exponent.
    Float(f64),
    /// `#true` or `#false`.
    Bool(bool),
    /// `#null`.
    Null,
}

impl Value {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The string and its place, if it is one.
    pub fn spanned(&self) -> Option<Spanned<String>> {
        self.as_str()
            .map(|text| Spanned::new(text.to_owned(), self.span))
    }

    /// What it is, for messages.
    pub fn describe(&self) -> &'static str {
        match self.kind {
            ValueKind::String(_) => "a string",
            ValueKind::Integer(_) => "a number",
            ValueKind::Float(_) => "a number with a fraction",
            ValueKind::Bool(_) => "a boolean",
            ValueKind::Null => "null",
        }
    }

    /// The place of a piece of the string's content, as exact as escapes allow.
    pub fn place_of(&self, piece: &str, occurrence: usize) -> Span {
        self.find(piece, occurrence).unwrap_or(self.span)
    }

    /// The place of a piece of the string's content, if it is written there as it is.
    pub fn find(&self, piece: &str, occurrence: usize) -> Option<Span> {
        let (at, _) = self.raw.match_indices(piece).nth(occurrence)?;
        let start = self.span.start + at;
        Some(Span::new(start, start + piece.len()))
    }

    /// A place in the string stretched over a piece of its content that begins there, if the
    /// piece is written as it is.
    pub fn stretch(&self, place: Span, piece: &str) -> Span {
        let rest = place
            .start
            .checked_sub(self.span.start)
            .and_then(|at| self.raw.get(at..));
        match rest {
            Some(rest) if rest.starts_with(piece) => {
                Span::new(place.start, place.start + piece.len())
            }
            _ => place,
        }
    }
}
