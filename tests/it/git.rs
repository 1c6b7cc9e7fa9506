//! The git adapters against real repositories and a real git server.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

mod branches;
mod bump;
mod faults;
mod remote;
mod scratch;
mod ssh;
mod tls;
mod workspace;
