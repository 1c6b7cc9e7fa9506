//! `engine`: a container engine that is not the local one.

use super::DeclContext;
use crate::lang::spec::{Args, NodeSpec, Type};

pub(super) const ENGINE: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "name"),
    many: true,
    ..NodeSpec::new(
        "engine",
        "A container engine by its address, `unix:///path` or `tcp://host:port`. `local` is there without being \
         declared: the engine of `DOCKER_HOST`, or the default socket.",
    )
};

/// A container engine.
#[derive(Clone, Debug)]
pub struct EngineAddress {
    /// Its address; the local engine if absent.
    pub address: Option<String>,
}

impl EngineAddress {
    pub(super) fn lower(cx: &DeclContext<'_>) -> Self {
        Self {
            address: cx.rest.and_then(|value| value.as_str()).map(str::to_owned),
        }
    }
}
