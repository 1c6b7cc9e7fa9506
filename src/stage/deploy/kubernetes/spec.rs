//! How `deploy { kubernetes … }` is written, and its lowering.

use std::time::Duration;

use super::Kubernetes;
use super::workload::WORKLOADS;
use crate::base::Spanned;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template};
use crate::stage::Lowering;
use crate::stage::common::duration;

const ROLLOUT: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "workload"),
    props: &[
        PropSpec::required(
            "container",
            Type::Literal,
            "container or init container of the pod",
        ),
        PropSpec::required("image", Type::Decl("image"), "image to run, by digest"),
    ],
    many: true,
    ..NodeSpec::new(
        "rollout",
        "Workload and the image it gets: the name of a deployment, or `statefulset/NAME` or `daemonset/NAME`.",
    )
};
const IMAGE: NodeSpec = NodeSpec {
    args: Args::one(Type::Decl("image"), "image"),
    many: true,
    ..NodeSpec::new(
        "image",
        "Image that every container of its repository gets, by digest.",
    )
};
const FORCE: NodeSpec = NodeSpec::new(
    "force",
    "Takes fields that another manager owns, instead of failing.",
);
const APPLY: NodeSpec = NodeSpec {
    args: Args::some(Type::Path, "path"),
    children: &[&IMAGE, &FORCE],
    many: true,
    ..NodeSpec::new(
        "apply",
        "Files or directories of the commit with manifests to apply; a directory with a `kustomization.yaml` is built \
         by `kustomize` or `kubectl`. What is no longer in them stays in the cluster.",
    )
};
const COMMAND: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "argument"),
    ..NodeSpec::new(
        "command",
        "Replaces the image's command; its entry point stays.",
    )
};
const ENV: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("name", Type::Literal),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    ..NodeSpec::new(
        "env",
        "Environment variable. Everybody who may read jobs sees it.",
    )
};
const SERVICE_ACCOUNT: NodeSpec = NodeSpec::field(
    "service-account",
    Type::Text,
    "Service account; that of the first rollout if absent.",
);
const TIMEOUT: NodeSpec = NodeSpec::field(
    "timeout",
    Type::Duration,
    "Longest time it may take; \"10m\" if absent.",
);
const BEFORE: NodeSpec = NodeSpec {
    args: Args::one(Type::Name, "name"),
    props: &[PropSpec::required(
        "image",
        Type::Decl("image"),
        "image to run, by digest",
    )],
    children: &[&COMMAND, &ENV, &SERVICE_ACCOUNT, &TIMEOUT],
    many: true,
    ..NodeSpec::new(
        "before",
        "Job that must succeed before anything else is changed, such as a migration. It has the environment, volumes \
         and service account of the first rollout.",
    )
};
const ROLLBACK: NodeSpec = NodeSpec::new(
    "rollback",
    "Goes back to the revision before if the new one does not come up.",
);
const STABLE_WITHIN: NodeSpec = NodeSpec::field(
    "stable-within",
    Type::Duration,
    "Longest wait until the new pods are available and the old ones are gone; \"30m\" if absent.",
);
const START_WITHIN: NodeSpec = NodeSpec::field(
    "start-within",
    Type::Duration,
    "Longest time a new pod may be unable to start (no image, crashing, not allowed); \"2m\" if absent.",
);

pub(in crate::stage::deploy) const SPEC: NodeSpec = NodeSpec {
    args: Args::one(Type::Decl("kubernetes"), "cluster"),
    props: &[PropSpec::new(
        "namespace",
        Type::Text,
        "namespace; the one of the cluster's context if absent, else `default`",
    )],
    children: &[
        &BEFORE,
        &APPLY,
        &ROLLOUT,
        &ROLLBACK,
        &STABLE_WITHIN,
        &START_WITHIN,
    ],
    ..NodeSpec::new("kubernetes", "Workloads of a Kubernetes cluster.")
};

/// A container of a workload, and the image it gets.
#[derive(Debug)]
pub(super) struct Rollout {
    /// The kind of the workload.
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) container: String,
    pub(super) image: Spanned<String>,
}

/// Manifests to apply.
#[derive(Debug)]
pub(super) struct Apply {
    pub(super) paths: Vec<Template>,
    pub(super) images: Vec<Spanned<String>>,
    pub(super) force: bool,
}

/// A one-off job.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) name: String,
    pub(super) image: Spanned<String>,
    pub(super) command: Vec<Template>,
    pub(super) env: Vec<(String, Template)>,
    pub(super) service_account: Option<Template>,
    pub(super) timeout: Duration,
}

impl Kubernetes {
    /// Lowers the `kubernetes` node of a stage.
    pub(super) fn lower(cx: &mut Lowering<'_>) -> Self {
        let stage = cx.node;
        let node = stage.child("kubernetes").unwrap_or(stage);
        let cluster = node.args.first().and_then(|value| cx.name(value));
        let rollouts = node
            .children_named("rollout")
            .filter_map(|child| rollout(cx, child))
            .collect();
        let kubernetes = Self {
            cluster: cluster.unwrap_or_else(|| Spanned::new(String::new(), stage.head())),
            namespace: node.prop("namespace").map(|value| cx.template(value)),
            rollouts,
            applies: node
                .children_named("apply")
                .map(|child| apply(cx, child))
                .collect(),
            before: node
                .children_named("before")
                .filter_map(|child| before(cx, child))
                .collect(),
            rollback: node.flag("rollback"),
            stable_within: duration(node, "stable-within").unwrap_or(Duration::from_secs(1800)),
            start_within: duration(node, "start-within").unwrap_or(Duration::from_secs(120)),
        };
        let nothing = !node.flag("rollout") && !node.flag("apply");
        if nothing && stage.flag("kubernetes") {
            cx.error(
                "PW0018",
                "`kubernetes` deploys nothing",
                node.head(),
                "add `rollout DEPLOYMENT container=… image=…`, or `apply PATH`",
            );
        }
        kubernetes
    }
}

fn rollout(cx: &mut Lowering<'_>, node: &Node) -> Option<Rollout> {
    let value = node.args.first()?;
    let Some(written) = cx.name(value) else {
        cx.error(
            "PW0015",
            "the name of a workload cannot be worked out in a run",
            value.span,
            "write it as it is; only `${name}` may stand in it",
        );
        return None;
    };
    let (kind, name) = match written.value.split_once('/') {
        None => ("deployment", written.value.as_str()),
        Some((kind, name)) => (kind, name),
    };
    let known = WORKLOADS
        .iter()
        .find(|(_, words)| words.contains(&kind.to_lowercase().as_str()));
    let Some((kind, _)) = known else {
        cx.error(
            "PW0015",
            format!("\"{kind}\" is no kind of workload that rolls out"),
            value.span,
            "write `deployment/NAME`, `statefulset/NAME` or `daemonset/NAME`",
        );
        return None;
    };
    let fits = !name.is_empty()
        && name.len() <= 253
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b));
    if !fits {
        cx.error(
            "PW0015",
            format!("\"{name}\" is no name of a workload"),
            value.span,
            "names have lower case letters, digits, `-` and `.`",
        );
        return None;
    }
    Some(Rollout {
        kind,
        name: name.to_owned(),
        container: node.prop("container")?.as_str()?.to_owned(),
        image: node.prop("image").and_then(|value| cx.name(value))?,
    })
}

fn apply(cx: &Lowering<'_>, node: &Node) -> Apply {
    let images = node.children_named("image");
    Apply {
        paths: node.args.iter().map(|value| cx.template(value)).collect(),
        images: images
            .filter_map(|child| cx.name(child.args.first()?))
            .collect(),
        force: node.flag("force"),
    }
}

fn before(cx: &Lowering<'_>, node: &Node) -> Option<Before> {
    let command = node.child("command").map(|child| child.args.as_slice());
    Some(Before {
        name: node.args.first()?.as_str()?.to_owned(),
        image: node.prop("image").and_then(|value| cx.name(value))?,
        command: command
            .unwrap_or_default()
            .iter()
            .map(|value| cx.template(value))
            .collect(),
        env: cx.pairs(node, "env"),
        service_account: cx.child_template(node, "service-account"),
        timeout: duration(node, "timeout").unwrap_or(Duration::from_secs(600)),
    })
}
