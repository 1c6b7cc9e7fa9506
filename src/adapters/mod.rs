//! The only place with effects: implementations of the ports.
#![expect(
    clippy::disallowed_methods,
    reason = "adapters are where the file system, processes, the environment and time are touched"
)]

pub mod process;
