//! Reads and edits one scalar of a YAML text and leaves every other byte as it was.
//!
//! Two parsers take part. `saphyr-parser` reads the text into events: they decide whether the text
//! is YAML at all, which place a path names, and whether that place may be edited. `yaml-edit`
//! finds the bytes of that place. The edit happens only where both agree, is a splice of the
//! text, and stands only if reading the result shows that exactly the target changed.
//!
//! Nothing here writes a file, and nothing prints YAML from a tree.

mod create;
mod edit;
mod error;
mod leaves;
mod locate;
mod path;
mod quote;
mod reader;
mod resolve;
mod window;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use create::append;
pub use edit::{Edited, Scalar, Wanted, get, set, set_or_create, write};
pub use error::{Problem, YamlError};
pub use leaves::{Leaf, at_most_one_differs, leaves, set_leaf};
pub use path::{Path, PathError, PathStep};
pub use quote::{Style, is_literal};

/// Longest text that is read, in bytes.
pub const MAX_TEXT: usize = 16 << 20;
/// Deepest nesting of collections that is read.
pub const MAX_DEPTH: usize = 100;
/// Largest number of nodes that is read.
pub const MAX_NODES: usize = 500_000;
/// Longest value that is written, in bytes.
pub const MAX_VALUE: usize = 64 << 10;
