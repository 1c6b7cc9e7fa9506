//! OSV's advisories: what a record says, and which packages of an inventory it is about.
//!
//! Records are [compiled](compile()) once, when they are imported; matching asks a store for what
//! it kept of single packages. Nothing here reads a file or a database.

mod compile;
mod ecosystem;
mod matching;
mod problem;
mod range;
mod record;
mod severity;

pub use compile::{Affected, Compiled, Entry, Notice, compile};
pub use ecosystem::{is_distribution, scheme};
pub use matching::{AdvisoryReader, Family, Matches, ReadError, findings};
pub use range::{Event, Range};
pub use record::{LONGEST_RECORD, Record};
pub use severity::{Weighed, Weight};

#[cfg(test)]
mod tests;
