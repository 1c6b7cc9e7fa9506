//! What several areas need: servers that tests start for themselves.

pub mod faulty;
pub mod files;
pub mod registry;
