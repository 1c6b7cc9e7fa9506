//! The only place with effects: implementations of the ports.
#![expect(
    clippy::disallowed_methods,
    reason = "adapters are where the file system, processes, the environment and time are touched"
)]

pub mod advisories;
pub mod argocd;
pub mod aws;
pub mod backoff;
mod buffers;
pub mod clock;
pub mod forge;
pub mod http;
pub mod kubernetes;
pub mod memory_store;
pub mod process;
pub mod registry;
pub mod secrets;
pub mod sqlite;
pub mod webhook;

pub mod docker;
pub mod doorbell;
pub mod files;
pub mod git;
pub mod image;
pub mod scanner;
pub mod sim;
#[cfg(test)]
mod store_contract;
