//! The run's memory: the single writer, and replay.
