//! The engine on the simulated world: what becomes of stages, runs and effects.

mod cancel;
mod chains;
mod conditions;
mod crash;
mod engines;
mod groups;
mod images;
mod journal;
mod masking;
mod outcomes;
mod plans;
mod scans;
