//! Tests against real components.

mod docker_engine;
mod support;
