//! Deployments whose back ends are not part of this version: they are decoded, checked and
//! planned, and fail at run time with an error that says what is missing.

use std::sync::Arc;

use async_trait::async_trait;

use crate::base::{Diagnostic, Spanned};
use crate::decl::ServiceKind;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template};
use crate::stage::{
    CheckContext, Done, Failure, Forecast, Lowering, PlanContext, Read, Stage, StageContext,
    Verdict, Want,
};

pub(super) const ARGOCD: NodeSpec = NodeSpec {
    args: Args::one(Type::Decl("argocd"), "server"),
    props: &[
        PropSpec::required("app", Type::Text, "application"),
        PropSpec::new("revision", Type::Text, "commit it must be synced to"),
    ],
    ..NodeSpec::new("argocd", "An application of Argo CD.")
};

#[derive(Debug)]
struct Later {
    way: &'static str,
    service: Option<(ServiceKind, Spanned<String>)>,
    templates: Vec<Template>,
    images: Vec<Spanned<String>>,
}

pub(super) fn lower(cx: &mut Lowering<'_>, way: &'static str) -> Arc<dyn Stage> {
    let node = cx.node.child(way);
    let mut templates = Vec::new();
    let mut images = Vec::new();
    if let Some(node) = node {
        collect(cx, node, &mut templates, &mut images);
    }
    let service = node.and_then(|node| match way {
        "argocd" => Some((ServiceKind::Argocd, cx.name(node.args.first()?)?)),
        _ => None,
    });
    Arc::new(Later {
        way,
        service,
        templates,
        images,
    })
}

fn collect(
    cx: &Lowering<'_>,
    node: &Node,
    templates: &mut Vec<Template>,
    images: &mut Vec<Spanned<String>>,
) {
    for prop in &node.props {
        if prop.name.value == "image" {
            images.extend(cx.name(&prop.value));
        } else {
            templates.push(cx.template(&prop.value));
        }
    }
    templates.extend(node.args.iter().map(|value| cx.template(value)));
    for child in &node.children {
        collect(cx, child, templates, images);
    }
}

#[async_trait]
impl Stage for Later {
    fn reads(&self) -> Vec<Read> {
        self.images
            .iter()
            .map(|image| Read {
                what: Want::Image(image.value.clone()),
                span: image.span,
                optional: false,
            })
            .collect()
    }

    fn templates(&self) -> Vec<&Template> {
        self.templates.iter().collect()
    }

    fn variant(&self) -> Option<&'static str> {
        Some(self.way)
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        if let Some((kind, name)) = &self.service {
            cx.decls
                .require_service(*kind, name, cx.source, diagnostics);
        }
        for image in &self.images {
            crate::decl::require(&cx.decls.images, "image", image, cx.source, diagnostics);
        }
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        for image in &self.images {
            if let Err(missing @ super::super::Missing::Later { .. }) =
                cx.values.digest(&image.value).await
            {
                return Forecast::missing(&missing);
            }
        }
        Forecast::new(Verdict::Fail, missing(self.way)).effect(format!("deploy to {}", self.way))
    }

    async fn run(&self, _cx: &StageContext<'_>) -> Result<Done, Failure> {
        Err(Failure::errored(missing(self.way)))
    }
}

fn missing(way: &str) -> String {
    format!(
        "deploying to {way} is not part of this version yet: nothing was changed; `deploy docker`, `deploy ecs` and `deploy kubernetes` are"
    )
}
