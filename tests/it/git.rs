//! The git adapters against real repositories and a real git server.

mod remote;
mod workspace;
