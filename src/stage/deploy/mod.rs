//! `deploy`: makes a new version the running one, and waits until it really is.

mod argocd;
mod docker;
mod ecs;
mod kubernetes;

use std::sync::Arc;

use async_trait::async_trait;

use super::{Done, Failure, Forecast, Kind, Lowering, PlanContext, Stage, StageContext, Verdict};
use crate::base::Diagnostic;
use crate::lang::Template;
use crate::lang::spec::{Args, NodeSpec, Type};
use crate::stage_children;

/// The kind.
pub const KIND: Kind = Kind {
    spec: &NodeSpec {
        args: Args::some(Type::Name, "name"),
        many: true,
        children: stage_children![&docker::SPEC, &ecs::SPEC, &argocd::SPEC, &kubernetes::SPEC],
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
        ["argocd"] => argocd::lower(cx),
        ["kubernetes"] => kubernetes::lower(cx),
        several => {
            let message = match several {
                [] => "`deploy` does not say where to".to_owned(),
                several => format!("`deploy` goes to {} at once", several.join(" and ")),
            };
            cx.diagnostics.push(
                Diagnostic::error("PW0019", message, &cx.node.source, cx.node.head())
                    .help(format!("give exactly one of {}", WAYS.join(", "))),
            );
            Arc::new(Nowhere)
        }
    }
}

/// A deployment of which it is not clear where it goes. That was reported, so it is never run.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Stage for Nowhere {
    fn templates(&self) -> Vec<&Template> {
        Vec::new()
    }

    async fn forecast(&self, _cx: &PlanContext<'_>) -> Forecast {
        Forecast::new(Verdict::Fail, "it does not say where to")
    }

    async fn run(&self, _cx: &StageContext<'_>) -> Result<Done, Failure> {
        Err(Failure::failed("it does not say where to"))
    }
}
