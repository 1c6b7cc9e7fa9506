//! Integration tests: one binary, one module for each area.

mod store;
