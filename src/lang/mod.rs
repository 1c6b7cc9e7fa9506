//! Text to document: guards against hostile input, parsing with recovery, the node
//! specifications everything about the language is derived from, and templates.
//!
//! Knows the shape of the language and nothing of what a stage means.

mod braces;
mod codes;
mod document;
pub mod expr;
mod guard;
mod parse;
mod scan;
pub mod spec;
pub mod suggest;
mod template;
mod validate;

pub use codes::{CODES, Code, explain};
pub use document::{Document, Node, Prop, Value, ValueKind};
pub use guard::{MAX_BYTES, MAX_DEPTH};
pub use parse::parse;
pub use template::{Binding, GitField, ImageField, Part, Reference, RunField, Template, is_name};
pub use validate::{unknown_child, validate};
