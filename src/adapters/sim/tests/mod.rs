//! What the simulated world does, and that it notices every breach of its rules.

mod containers;
mod images;
mod lives;
mod processes;
mod registries;
mod remotes;
mod support;
mod workspaces;
