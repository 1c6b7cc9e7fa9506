//! `kubernetes`: a cluster, and how to be somebody in it.

use super::DeclContext;
use crate::base::{Diagnostic, Span};
use crate::lang::Template;
use crate::lang::spec::{Args, NodeSpec, Type};

const KUBECONFIG: NodeSpec = NodeSpec::field(
    "kubeconfig",
    Type::SecretText,
    "Kubernetes configuration, or the path of a file that holds it.",
);
const CONTEXT: NodeSpec = NodeSpec::field(
    "context",
    Type::Text,
    "Context of the configuration; its current one if absent.",
);
const IN_CLUSTER: NodeSpec = NodeSpec::new(
    "in-cluster",
    "The service account of the pod in which Pipewright runs.",
);
const TOKEN: NodeSpec = NodeSpec::field(
    "token",
    Type::SecretText,
    "Bearer token, beside the cluster's address.",
);
const AUTHORITY: NodeSpec = NodeSpec::field(
    "certificate-authority",
    Type::Text,
    "Certificate of the cluster's authority, or the path of a file that holds it; those of the system if absent.",
);

pub(super) const KUBERNETES: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "name"),
    many: true,
    children: &[&KUBECONFIG, &CONTEXT, &IN_CLUSTER, &TOKEN, &AUTHORITY],
    ..NodeSpec::new(
        "kubernetes",
        "A Kubernetes cluster: a name, and an address if it is reached by `token`. Without any of its fields it is the \
         one of `KUBECONFIG`, `~/.kube/config` or the pod in which Pipewright runs, in this order.",
    )
};

/// A Kubernetes cluster.
#[derive(Clone, Debug, Default)]
pub struct KubernetesDecl {
    /// Its address.
    pub server: Option<Template>,
    /// Configuration, or the path of a file that holds it.
    pub kubeconfig: Option<Template>,
    /// Context of the configuration.
    pub context: Option<Template>,
    /// Whether it is the one this process runs in.
    pub in_cluster: bool,
    /// Bearer token.
    pub token: Option<Template>,
    /// Certificate of its authority, or the path of a file that holds it.
    pub authority: Option<Template>,
}

impl KubernetesDecl {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let field = |name: &str| cx.node.child_arg(name).map(|value| cx.template(value));
        let cluster = Self {
            server: cx.rest.map(|value| cx.template(value)),
            kubeconfig: field("kubeconfig"),
            context: field("context"),
            in_cluster: cx.node.flag("in-cluster"),
            token: field("token"),
            authority: field("certificate-authority"),
        };
        if !broken {
            cluster.check(cx, diagnostics);
        }
        cluster
    }

    fn check(&self, cx: &DeclContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let node = cx.node;
        let place = |name: &str| node.child(name).map_or(node.head(), |child| child.span);
        let mut report = |code, message: &str, span: Span, help: &str| {
            diagnostics
                .push(Diagnostic::error(code, message.to_owned(), &node.source, span).help(help));
        };
        if let Some(value) = cx.rest
            && self.token.is_none()
        {
            report(
                "PW0018",
                "a cluster by its address lacks its token",
                value.span,
                "add `token \"${secret.NAME}\"`, or say `kubeconfig` instead of the address",
            );
        }
        if self.server.is_none() {
            for name in ["token", "certificate-authority"] {
                if node.flag(name) {
                    report(
                        "PW0017",
                        &format!("`{name}` is about a cluster by its address, and there is none"),
                        place(name),
                        "write the address after the name, or leave it out",
                    );
                }
            }
        }
        for name in ["kubeconfig", "in-cluster", "context"] {
            let other = match name {
                "context" => self.in_cluster.then_some("in-cluster"),
                "in-cluster" => self.kubeconfig.is_some().then_some("kubeconfig"),
                _ => None,
            };
            let other = other.or(self.server.is_some().then_some("an address"));
            if let Some(other) = other
                && node.flag(name)
            {
                report(
                    "PW0019",
                    &format!("`{name}` and {other} are two ways to a cluster"),
                    place(name),
                    "keep one of the two",
                );
            }
        }
        if let Some(server) = self.server.as_ref().and_then(Template::as_literal)
            && !server.starts_with("https://")
            && !server.starts_with("http://")
        {
            report(
                "PW0015",
                "that is no address of a cluster",
                cx.rest.map_or(node.head(), |value| value.span),
                "write `https://host:port`",
            );
        }
    }

    /// Every template of the declaration.
    pub fn templates(&self) -> Vec<&Template> {
        let all = [
            &self.server,
            &self.kubeconfig,
            &self.context,
            &self.token,
            &self.authority,
        ];
        all.into_iter().flatten().collect()
    }
}
