//! Stage kinds: one file per kind.
