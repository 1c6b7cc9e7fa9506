//! The integration tests: one binary, one module per area.
#![expect(
    clippy::disallowed_methods,
    reason = "tests set up the world that they look at"
)]

mod examples;
mod fresh;
mod http;
mod language;
mod registry;
mod registry_login;
mod support;
mod tidy;
mod webhook;
