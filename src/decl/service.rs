//! `forge`: services that other declarations refer to.

use super::DeclContext;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template};

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

/// The kinds of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceKind {
    /// A forge.
    Forge,
}

impl ServiceKind {
    /// The node's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forge => "forge",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::Forge].into_iter().find(|kind| kind.as_str() == name)
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
