//! Text to document: guards, parsing, node specifications, typed decoding, expressions.
