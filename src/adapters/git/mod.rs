//! Git by libgit2: the repository that holds the pipelines ([`GitWorkspace`]) and the remote
//! repositories that hold manifests ([`GitRemotes`]).
//!
//! Runs no `git` program and no hook; `ssh` is run for repositories behind it. Below the state
//! directory it owns `trees/` (commits laid out, read only), `work/` (scratch copies),
//! `artifacts/`, `cache/`, `arrivals/` (archives on their way) and `mirrors/`.

mod address;
mod archive;
mod artifacts;
mod copy;
mod facts;
mod files;
mod forget;
mod gateway;
mod history;
mod keys;
mod lock;
mod mirror;
mod openpgp;
mod push;
mod refresh;
mod remote;
mod spares;
mod ssh;
mod stamps;
mod transport;
mod trees;
mod watch;
mod workspace;

pub use forget::{Forgotten, forget};
pub use remote::GitRemotes;
pub use watch::Limits;
pub use workspace::GitWorkspace;
