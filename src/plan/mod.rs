//! Pipelines to a checked, resolved graph.
