//! The integration tests: one binary, one module per area.
#![expect(
    clippy::disallowed_methods,
    reason = "tests set up the world that they look at"
)]

mod http;
mod registry;
mod registry_login;
mod store;
mod support;
mod webhook;
//! Tests that need real components: a container engine, a registry, a git server.

mod git;
//! Tests against real components.

mod docker_engine;
