//! Documents to typed pipelines.
