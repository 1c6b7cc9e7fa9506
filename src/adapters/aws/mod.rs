//! AWS.

pub mod services;
