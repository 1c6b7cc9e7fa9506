//! Pipelines to a checked, resolved graph.
//!
//! A [`Plan`] in hand is valid: only [`build`] makes one, it is acyclic, and its references
//! resolve. [`forecast()`] says what it would do, by looking only.

mod build;
mod forecast;
pub mod graph;
pub mod policy;
mod render;
pub mod rules;
mod types;
pub mod watch;

pub use build::{Origin, Plan, PlanError, build, chained_by};
pub use forecast::{Forecasts, Planned, condition, forecast};
pub use graph::{Graph, Vertex, Why};
pub use render::{dot, json, mermaid, outline, text};
pub use rules::check;
