//! What the tests share.

pub mod docker;
