//! `deploy`: makes a new version the running one, and waits until it really is.

mod docker;
mod ecs;
mod kubernetes;
mod later;

use std::sync::Arc;

use super::{Kind, Lowering, Stage};
use crate::base::Diagnostic;
use crate::lang::spec::{Args, NodeSpec, Type};
use crate::stage_children;

/// The kind.
pub const KIND: Kind = Kind {
    spec: &NodeSpec {
        args: Args::some(Type::Name, "name"),
        many: true,
        children: stage_children![&docker::SPEC, &ecs::SPEC, &later::ARGOCD, &kubernetes::SPEC],
        ..NodeSpec::new(
            "deploy",
            "Deploys to a container engine, ECS, Argo CD or Kubernetes.",
        )
    },
    effect: true,
    outputs: &[
        ("revision", "what runs now"),
        ("url", "where it can be reached"),
    ],
    lower,
};

const WAYS: [&str; 4] = ["docker", "ecs", "argocd", "kubernetes"];

fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let ways: Vec<&'static str> = WAYS.into_iter().filter(|way| cx.node.flag(way)).collect();
    match ways.as_slice() {
        ["docker"] => docker::lower(cx),
        ["ecs"] => ecs::lower(cx),
        ["kubernetes"] => kubernetes::lower(cx),
        [way] => later::lower(cx, way),
        several => {
            let message = match several {
                [] => "`deploy` does not say where to".to_owned(),
                several => format!("`deploy` goes to {} at once", several.join(" and ")),
            };
            cx.diagnostics.push(
                Diagnostic::error("PW0019", message, &cx.node.source, cx.node.head())
                    .help(format!("give exactly one of {}", WAYS.join(", "))),
            );
            later::lower(cx, "docker")
        }
    }
}
