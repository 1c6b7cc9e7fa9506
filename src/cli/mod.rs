//! The command line: arguments, and everything that turns results into text for people.
//!
//! Nothing here touches the world; `main` reads, runs and prints.

pub mod args;
pub mod completions;
pub mod diagnostics;
pub mod format;
pub mod init;
pub mod man;
