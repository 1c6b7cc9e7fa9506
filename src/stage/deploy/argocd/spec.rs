//! How `deploy { argocd … }` is written, and its lowering.

use std::time::Duration;

use super::Argo;
use crate::base::Spanned;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template};
use crate::stage::Lowering;
use crate::stage::common::duration;

const ALSO: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "application"),
    ..NodeSpec::new(
        "also",
        "More applications, synced one after the other after `app`.",
    )
};
const PARALLEL: NodeSpec = NodeSpec::new(
    "parallel",
    "Syncs all applications at once instead of in order.",
);
const CHILDREN: NodeSpec = NodeSpec::new(
    "children",
    "Waits for the applications that the application consists of as well (app of apps).",
);
const PRUNE: NodeSpec = NodeSpec::new(
    "prune",
    "Deletes resources that are not in the repository any more.",
);
const FORCE: NodeSpec = NodeSpec::new(
    "force",
    "Deletes and makes again what cannot be changed in place. Interrupts what runs.",
);
const REPLACE: NodeSpec = NodeSpec::new("replace", "Replaces resources instead of applying them.");
const SERVER_SIDE: NodeSpec = NodeSpec::new("server-side", "Applies on the server's side.");
const OPTION: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "option"),
    many: true,
    ..NodeSpec::new(
        "option",
        "Sync option of Argo CD, such as \"Validate=false\".",
    )
};
const HARD_REFRESH: NodeSpec = NodeSpec::new(
    "hard-refresh",
    "Has manifests made anew at first, whatever is in Argo CD's caches.",
);
const RESOURCE: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "resource"),
    many: true,
    ..NodeSpec::new(
        "resource",
        "Syncs only this resource, `[GROUP/]KIND/NAME`. Hooks do not run then.",
    )
};
const WINDOW: NodeSpec = NodeSpec::field(
    "window",
    Type::OneOf(&["wait", "fail"]),
    "What to do while a sync window is closed; `wait` if absent.",
);
const ON_CANCEL: NodeSpec = NodeSpec::field(
    "on-cancel",
    Type::OneOf(&["leave", "terminate"]),
    "Whether the operation is stopped if we are cancelled; `leave` if absent.",
);
const HEALTHY_WITHIN: NodeSpec = NodeSpec::field(
    "healthy-within",
    Type::Duration,
    "Longest wait until an application is synced and healthy; \"30m\" if absent.",
);

pub(in crate::stage::deploy) const SPEC: NodeSpec = NodeSpec {
    args: Args::one(Type::Decl("argocd"), "server"),
    props: &[
        PropSpec::required("app", Type::Text, "application"),
        PropSpec::new(
            "revision",
            Type::Text,
            "commit it must be synced to, or a descendant of it; what it follows if absent",
        ),
        PropSpec::new(
            "namespace",
            Type::Text,
            "namespace of the application; the server's own if absent",
        ),
        PropSpec::new("project", Type::Text, "project the application must be of"),
    ],
    children: &[
        &ALSO,
        &PARALLEL,
        &CHILDREN,
        &PRUNE,
        &FORCE,
        &REPLACE,
        &SERVER_SIDE,
        &OPTION,
        &HARD_REFRESH,
        &RESOURCE,
        &WINDOW,
        &ON_CANCEL,
        &HEALTHY_WITHIN,
    ],
    ..NodeSpec::new("argocd", "Applications of Argo CD.")
};

impl Argo {
    /// Lowers the `argocd` node of a stage.
    pub(super) fn lower(cx: &mut Lowering<'_>) -> Self {
        let stage = cx.node;
        let node = stage.child("argocd").unwrap_or(stage);
        let prop = |name: &str| node.prop(name).map(|value| cx.template(value));
        let server = node.args.first().and_then(|value| cx.name(value));
        let word = |name: &str| node.child_arg(name).and_then(|value| value.as_str());
        let mut options: Vec<Template> = Vec::new();
        let mut resources = Vec::new();
        for child in &node.children {
            let values = child.args.iter().map(|value| cx.template(value));
            match child.name.value.as_str() {
                "option" => options.extend(values),
                "resource" => resources.extend(values),
                _ => {}
            }
        }
        let argo = Self {
            server: server.unwrap_or_else(|| Spanned::new(String::new(), stage.head())),
            apps: prop("app").into_iter().chain(also(cx, node)).collect(),
            revision: prop("revision"),
            namespace: prop("namespace"),
            project: prop("project"),
            parallel: node.flag("parallel"),
            children: node.flag("children"),
            prune: node.flag("prune"),
            force: node.flag("force"),
            replace: node.flag("replace"),
            server_side: node.flag("server-side"),
            options,
            hard: node.flag("hard-refresh"),
            resources,
            window_fails: word("window") == Some("fail"),
            terminates: word("on-cancel") == Some("terminate"),
            healthy_within: duration(node, "healthy-within").unwrap_or(Duration::from_secs(1800)),
        };
        for child in node.children_named("resource") {
            let Some(text) = child.args.first().and_then(|value| value.spanned()) else {
                continue;
            };
            if !text.value.contains("${") && super::filter(&text.value).is_none() {
                cx.error(
                    "PW0015",
                    format!("\"{}\" names no resource", text.value),
                    text.span,
                    "write `KIND/NAME` or `GROUP/KIND/NAME`, such as \"apps/Deployment/web\"",
                );
            }
        }
        if let (Some(child), false) = (node.child("replace"), !node.flag("server-side")) {
            cx.error(
                "PW0019",
                "what is replaced is not applied on the server's side",
                child.head(),
                "keep one of `replace` and `server-side`",
            );
        }
        argo
    }
}

fn also(cx: &Lowering<'_>, node: &Node) -> Vec<Template> {
    let values = node.child("also").map(|also| also.args.as_slice());
    values
        .unwrap_or_default()
        .iter()
        .map(|value| cx.template(value))
        .collect()
}
