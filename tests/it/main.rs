//! Tests that need real components: a container engine, a registry, a git server.

mod git;
mod support;
