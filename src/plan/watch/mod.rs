//! Watching registries: which tag of an image would be chosen, why each other would not, and what was
//! started before. Looks only; who starts a run for what was chosen is not its business.

mod choose;
mod facts;
mod look;
mod memory;
mod policy;
#[cfg(test)]
mod tests;

pub use choose::{
    Choice, Facts, Group, MOST_BUILDS, MOST_READ, Past, Reading, Readings, Row, Step, Stop,
    Verdict, Wanted, choose,
};
pub use facts::Cache;
pub use look::{LookError, Place, Sight, look, places, read};
pub use memory::{Held, Memory, Started, WATCHED, Way, WentBack};
pub use policy::{Policy, Rank};
