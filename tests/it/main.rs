//! The integration tests: one binary, one module per area. Those that need a container engine
//! fail without one.
#![expect(
    clippy::disallowed_methods,
    reason = "tests set up the world that they look at"
)]

mod cli;
mod docker_engine;
mod engine;
mod git;
mod http;
mod registry;
mod registry_login;
mod store;
mod support;
mod webhook;
