//! Deployments whose back ends are not part of this version: they are decoded, checked and
//! planned, and fail at run time with an error that says what is missing.

use std::sync::Arc;

use async_trait::async_trait;

use super::allowed::EcsNeeds;
use crate::base::{Diagnostic, Spanned};
use crate::decl::ServiceKind;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template};
use crate::stage::grant::{Arns, Grant};
use crate::stage::{
    CheckContext, Done, Failure, Forecast, Lowering, PlanContext, Read, Stage, StageContext,
    Verdict, Want,
};

const TASK_DEFINITION: NodeSpec = NodeSpec {
    props: &[
        PropSpec::new("file", Type::Path, "file of the commit"),
        PropSpec::new("s3", Type::Text, "object in S3"),
    ],
    ..NodeSpec::new(
        "task-definition",
        "Base task definition; the service's current one if absent.",
    )
};
const COMMAND: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "argument"),
    ..NodeSpec::new("command", "Command to run.")
};
const TIMEOUT: NodeSpec = NodeSpec::field("timeout", Type::Duration, "Longest time it may take.");
const BEFORE: NodeSpec = NodeSpec {
    args: Args::one(Type::Name, "name"),
    props: &[PropSpec::required(
        "container",
        Type::Literal,
        "container of the task definition",
    )],
    children: &[&COMMAND, &TIMEOUT],
    many: true,
    ..NodeSpec::new("before", "One-off task before traffic moves.")
};
const ENV: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("name", Type::Literal),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    ..NodeSpec::new("env", "Environment variable.")
};
const CONTAINER: NodeSpec = NodeSpec {
    args: Args::one(Type::Literal, "container"),
    props: &[PropSpec::required(
        "image",
        Type::Decl("image"),
        "image to run",
    )],
    children: &[&ENV],
    many: true,
    ..NodeSpec::new(
        "container",
        "Container of the task definition and the image it gets.",
    )
};

pub(super) const ECS: NodeSpec = NodeSpec {
    props: &[
        PropSpec::required("aws", Type::Decl("aws"), "account"),
        PropSpec::required("cluster", Type::Text, "cluster"),
        PropSpec::required("service", Type::Text, "service"),
    ],
    children: &[&TASK_DEFINITION, &BEFORE, &CONTAINER],
    ..NodeSpec::new("ecs", "A service of Amazon ECS.")
};

pub(super) const ARGOCD: NodeSpec = NodeSpec {
    args: Args::one(Type::Decl("argocd"), "server"),
    props: &[
        PropSpec::required("app", Type::Text, "application"),
        PropSpec::new("revision", Type::Text, "commit it must be synced to"),
    ],
    ..NodeSpec::new("argocd", "An application of Argo CD.")
};

const ROLLOUT: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "deployment"),
    props: &[
        PropSpec::required("container", Type::Literal, "container of the pod"),
        PropSpec::required("image", Type::Decl("image"), "image to run"),
    ],
    many: true,
    ..NodeSpec::new("rollout", "Deployment and the image it gets.")
};
const APPLY: NodeSpec = NodeSpec {
    args: Args::some(Type::Path, "path"),
    ..NodeSpec::new("apply", "Manifests to apply.")
};

pub(super) const KUBERNETES: NodeSpec = NodeSpec {
    args: Args::one(Type::Decl("kubernetes"), "cluster"),
    props: &[PropSpec::new(
        "namespace",
        Type::Text,
        "namespace; `default` if absent",
    )],
    children: &[&ROLLOUT, &APPLY],
    ..NodeSpec::new("kubernetes", "Workloads of a Kubernetes cluster.")
};

#[derive(Debug)]
struct Later {
    way: &'static str,
    aws: Option<Spanned<String>>,
    service: Option<(ServiceKind, Spanned<String>)>,
    templates: Vec<Template>,
    images: Vec<Spanned<String>>,
    ecs: Option<EcsNeeds>,
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
        "kubernetes" => Some((ServiceKind::Kubernetes, cx.name(node.args.first()?)?)),
        _ => None,
    });
    let aws = node.and_then(|node| cx.name(node.prop("aws")?));
    Arc::new(Later {
        way,
        aws,
        service,
        templates,
        images,
        ecs: node
            .filter(|_| way == "ecs")
            .and_then(|node| needs(cx, node)),
    })
}

fn needs(cx: &Lowering<'_>, node: &Node) -> Option<EcsNeeds> {
    let definition = node.child("task-definition");
    Some(EcsNeeds {
        cluster: cx.template(node.prop("cluster")?),
        service: cx.template(node.prop("service")?),
        object: definition.and_then(|node| Some(cx.template(node.prop("s3")?))),
        before: node.flag("before"),
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

    fn accounts(&self) -> Vec<String> {
        self.aws.iter().map(|aws| aws.value.clone()).collect()
    }

    fn grants(&self, arns: &Arns<'_>) -> Vec<Grant> {
        match (&self.ecs, &self.aws) {
            (Some(ecs), Some(aws)) => ecs.grants(&aws.value, arns),
            _ => Vec::new(),
        }
    }

    fn variant(&self) -> Option<&'static str> {
        Some(self.way)
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        if let Some(aws) = &self.aws {
            crate::decl::require(&cx.decls.aws, "aws", aws, cx.source, diagnostics);
        }
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
        "deploying to {way} is not part of this version yet: nothing was changed; `deploy docker` is"
    )
}
