//! What several areas of tests share.

pub mod delivery;
pub mod docker;
pub mod fake_argocd;
pub mod fake_ecs;
pub mod fake_forge;
pub mod fake_gitea;
pub mod fake_gitlab;
pub mod fake_kubernetes;
pub mod faulty;
pub mod files;
pub mod flow;
pub mod git_http;
pub mod moto;
pub mod program;
pub mod registry;
pub mod repo;
pub mod second_engine;
pub mod strict;
pub mod tls;
