//! Composition root: arguments, adapters, one front.

fn main() {}
