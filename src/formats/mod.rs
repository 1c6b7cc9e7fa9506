//! Leaf libraries for other people's files: read, locate, edit; no effects.

pub mod constraint;
pub mod diff;
pub mod dockerfile;
pub mod dockerignore;
pub mod image_reference;
pub mod issuer;
pub mod kubernetes_objects;
pub mod manifest;
pub mod notification;
pub mod purl;
pub mod task_definition;
pub mod version;
pub mod web_token;
pub mod yaml;
