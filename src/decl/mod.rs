//! Typed declarations that stages refer to.
