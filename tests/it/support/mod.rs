//! What several areas of tests share.

pub mod git_http;
pub mod repo;
