//! Editing other people's manifests: a corpus of real shapes, and the program that edits them.

mod corpus;
mod program;
mod stage;
mod structured;
