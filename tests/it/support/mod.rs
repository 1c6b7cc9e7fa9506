//! What several areas need: servers that tests start for themselves.

pub mod faulty;
pub mod registry;
//! What several areas of tests share.

pub mod git_http;
pub mod repo;
//! What the tests share.

pub mod docker;
