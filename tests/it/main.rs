//! The integration tests: one binary, one module per area. Those that need a container engine
//! fail without one.
#![expect(
    clippy::disallowed_methods,
    reason = "tests set up the world that they look at"
)]

mod advisories;
mod argocd;
mod article_one;
mod article_three;
mod article_two;
mod aws;
mod bump_formats;
mod cli;
mod deploy;
mod docker_engine;
mod ecs;
mod engine;
mod engine_restart;
mod examples;
mod faults;
mod forge;
mod fresh;
mod git;
mod http;
mod inventory;
mod kill;
mod kubernetes;
mod language;
mod registry;
mod registry_login;
mod scan_delivery;
mod scan_documents;
mod scanner_image;
mod stages;
mod store;
mod support;
mod tidy;
mod watch;
mod webhook;
