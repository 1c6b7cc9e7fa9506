//! `aws`, `forge`, `argocd`, `kubernetes`: services that stages and other declarations refer to.

use super::DeclContext;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template};

const ROLE: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "arn"),
    ..NodeSpec::new(
        "role",
        "Role to assume; several are assumed one after another.",
    )
};
const WEB_IDENTITY: NodeSpec = NodeSpec {
    args: Args::fixed_but_last(&[
        ArgSpec::new("source", Type::OneOf(&["issuer", "file"])),
        ArgSpec::new("file", Type::Path),
    ]),
    ..NodeSpec::new(
        "web-identity",
        "Token to assume the role with: the runner's own issuer, or a file.",
    )
};
const SESSION: NodeSpec = NodeSpec::field(
    "session",
    Type::Duration,
    "How long the credentials last: \"15m\" to \"12h\".",
);
const EXTERNAL_ID: NodeSpec = NodeSpec::field(
    "external-id",
    Type::SecretText,
    "External id the role asks for.",
);
const POLICY: NodeSpec = NodeSpec::field(
    "policy",
    Type::Path,
    "File with a session policy that narrows the role.",
);
const TAG: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("key", Type::Literal),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    ..NodeSpec::new("tag", "Session tag.")
};
const ENDPOINT: NodeSpec = NodeSpec::field(
    "endpoint",
    Type::Text,
    "Address that replaces the service's own.",
);
const ALLOWED: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "account"),
    ..NodeSpec::new(
        "allowed-accounts",
        "Account ids that may be worked on; any other is refused.",
    )
};

pub(super) const AWS: NodeSpec = NodeSpec {
    args: Args::some(Type::Name, "name"),
    many: true,
    props: &[
        PropSpec::new("region", Type::Text, "region"),
        PropSpec::new(
            "profile",
            Type::Literal,
            "profile of the shared configuration",
        ),
    ],
    children: &[
        &ROLE,
        &WEB_IDENTITY,
        &SESSION,
        &EXTERNAL_ID,
        &POLICY,
        &TAG,
        &ENDPOINT,
        &ALLOWED,
    ],
    ..NodeSpec::new("aws", "An AWS account: region and how to get credentials.")
};

const TOKEN: NodeSpec = NodeSpec::field("token", Type::SecretText, "Access token.");
const APP: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "id"),
    props: &[
        PropSpec::required("key", Type::SecretText, "private key of the app"),
        PropSpec::new("installation", Type::Text, "installation id"),
    ],
    ..NodeSpec::new("app", "GitHub App to authenticate as.")
};

pub(super) const FORGE: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "name"),
    many: true,
    props: &[PropSpec::new(
        "kind",
        Type::OneOf(&["github", "gitlab", "gitea", "forgejo"]),
        "which software it runs; the declaration's name if absent",
    )],
    children: &[&TOKEN, &APP],
    ..NodeSpec::new(
        "forge",
        "Where repositories, pull requests and commit statuses live.",
    )
};

const LOGIN: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("user", Type::SecretText),
        ArgSpec::new("password", Type::SecretText),
    ]),
    ..NodeSpec::new("login", "User and password.")
};

pub(super) const ARGOCD: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "name"),
    many: true,
    children: &[&TOKEN, &LOGIN],
    ..NodeSpec::new("argocd", "An Argo CD server: a name and an address.")
};

const KUBECONFIG: NodeSpec = NodeSpec::field(
    "kubeconfig",
    Type::SecretText,
    "Kubernetes configuration, or a file that holds it.",
);
const CONTEXT: NodeSpec = NodeSpec::field("context", Type::Text, "Context of the configuration.");

pub(super) const KUBERNETES: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "name"),
    many: true,
    children: &[&KUBECONFIG, &CONTEXT, &TOKEN],
    ..NodeSpec::new("kubernetes", "A Kubernetes cluster.")
};

/// The kinds of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceKind {
    /// An AWS account.
    Aws,
    /// A forge.
    Forge,
    /// An Argo CD server.
    Argocd,
    /// A Kubernetes cluster.
    Kubernetes,
}

impl ServiceKind {
    /// The node's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Forge => "forge",
            Self::Argocd => "argocd",
            Self::Kubernetes => "kubernetes",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::Aws, Self::Forge, Self::Argocd, Self::Kubernetes]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its address.
    pub address: Option<Template>,
    /// Its fields, by name, in order.
    pub fields: Vec<(String, Vec<Template>)>,
}

impl Service {
    pub(super) fn lower(cx: &DeclContext<'_>, _kind: ServiceKind) -> Self {
        let field = |node: &Node| {
            let props = node.props.iter().map(|prop| &prop.value);
            let values = node
                .args
                .iter()
                .chain(props)
                .map(|value| cx.template(value))
                .collect();
            (node.name.value.clone(), values)
        };
        let props = cx
            .node
            .props
            .iter()
            .map(|prop| (prop.name.value.clone(), vec![cx.template(&prop.value)]));
        Self {
            address: cx.rest.map(|value| cx.template(value)),
            fields: props.chain(cx.node.children.iter().map(field)).collect(),
        }
    }

    pub(super) fn templates(&self) -> Vec<&Template> {
        self.address
            .iter()
            .chain(self.fields.iter().flat_map(|(_, values)| values))
            .collect()
    }
}
