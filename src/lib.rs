//! Pipewright: a declarative delivery engine. A KDL file describes how a commit becomes a running
//! release; Pipewright checks it, plans it, runs it as a typed graph, and never repeats an effect.
//!
//! The life of the data: source text → [`lang`] document → [`pipeline`] → [`plan`] → [`engine`]
//! → [`event`]s → [`report`]ers. `docs/architecture.md` is the map with the reasons.

pub mod adapters;
pub mod base;
pub mod cli;
pub mod decl;
pub mod engine;
pub mod event;
pub mod formats;
pub mod journal;
pub mod lang;
pub mod pipeline;
pub mod plan;
pub mod ports;
pub mod report;
pub mod scan;
pub mod stage;
