//! Why a YAML text could not be read or edited, and where.

use std::fmt;

use crate::base::Span;

/// What stands in the way of a read or an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The text, its nesting or the value is beyond the limits.
    TooLarge,
    /// The text is not YAML.
    Invalid,
    /// The path names nothing.
    NotFound,
    /// The path names several places.
    Ambiguous,
    /// A key of the path is there twice.
    Duplicate,
    /// The place holds a collection.
    NotScalar,
    /// The place is an alias, or the path goes through one.
    Alias,
    /// The place is anchored and aliased elsewhere, so that an edit would change that too.
    Shared,
    /// The place is a block scalar.
    Block,
    /// The place is a scalar that runs over several lines.
    MultiLine,
    /// The place carries a tag that a string must not replace.
    Tagged,
    /// What was to be written as a number, boolean or null is none.
    NotLiteral,
    /// The key is missing and this mapping cannot take it.
    CannotCreate,
    /// The parsers do not agree about the text, or the edit would change more than its target.
    Unsafe,
}

/// A YAML text that was left alone, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// The kind of obstacle.
    pub problem: Problem,
    /// One lowercase phrase that names the thing.
    pub message: String,
    /// The place in the text, if it is about one.
    pub span: Option<Span>,
    /// One-based line of the place.
    pub line: Option<usize>,
    /// One action that mends it.
    pub help: Option<String>,
}

impl YamlError {
    pub(super) fn new(problem: Problem, message: impl Into<String>) -> Self {
        Self {
            problem,
            message: message.into(),
            span: None,
            line: None,
            help: None,
        }
    }

    pub(super) fn at(mut self, text: &str, span: Span) -> Self {
        self.line = Some(line_of(text, span.start));
        self.span = Some(span);
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.message)?,
            None => f.write_str(&self.message)?,
        }
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for YamlError {}

/// One-based line of a byte offset; a lone carriage return ends a line, as it does in YAML.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let bytes = text.as_bytes();
    let end = offset.min(bytes.len());
    let breaks = (0..end).filter(|&at| match bytes[at] {
        b'\n' => true,
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        _ => false,
    });
    breaks.count() + 1
}
