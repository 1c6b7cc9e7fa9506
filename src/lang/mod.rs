//! Text to document: guards, parsing, node specifications, typed decoding, expressions.

pub mod expr;
pub mod suggest;
