//! `slack` and `webhook`: where `notify` goes.

use super::DeclContext;
use crate::base::Diagnostic;
use crate::lang::Template;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, Type};

const WEBHOOK_FIELD: NodeSpec = NodeSpec {
    required: true,
    ..NodeSpec::field(
        "webhook",
        Type::SecretText,
        "Address of the incoming web hook; usually a secret.",
    )
};

const CHANNEL: NodeSpec = NodeSpec::field(
    "channel",
    Type::Text,
    "Channel, if it is not the web hook's own.",
);

pub(super) const SLACK: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "name"),
    many: true,
    children: &[&WEBHOOK_FIELD, &CHANNEL],
    ..NodeSpec::new("slack", "A Slack channel that `notify` can post to.")
};

const HEADER: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("header", Type::Literal),
        ArgSpec::new("value", Type::SecretText),
    ]),
    many: true,
    ..NodeSpec::new("header", "Header to send along.")
};

pub(super) const WEBHOOK: NodeSpec = NodeSpec {
    args: Args::some(Type::SecretText, "name"),
    many: true,
    children: &[&HEADER],
    ..NodeSpec::new(
        "webhook",
        "An address that `notify` posts a JSON message to.",
    )
};

/// Where messages go.
#[derive(Clone, Debug)]
pub enum Channel {
    /// A Slack channel.
    Slack(Slack),
    /// A generic web hook.
    Webhook(Webhook),
}

/// A Slack channel.
#[derive(Clone, Debug)]
pub struct Slack {
    /// The incoming web hook.
    pub webhook: Template,
    /// The channel.
    pub channel: Option<Template>,
}

/// A generic web hook.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its address.
    pub url: Template,
    /// Headers.
    pub headers: Vec<(String, Template)>,
}

impl Channel {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let node = cx.node;
        let empty = || Template::text("", node.name.span);
        if node.name.value == "slack" {
            return Self::Slack(Slack {
                webhook: node
                    .child_arg("webhook")
                    .map_or_else(empty, |value| cx.template(value)),
                channel: node.child_arg("channel").map(|value| cx.template(value)),
            });
        }
        if cx.rest.is_none() && !broken {
            diagnostics.push(
                Diagnostic::error(
                    "PW0013",
                    format!("webhook `{}` lacks its address", cx.name),
                    &node.source,
                    node.head(),
                )
                .help(format!("write `webhook {} \"https://…\"`", cx.name)),
            );
        }
        Self::Webhook(Webhook {
            url: cx.rest.map_or_else(empty, |value| cx.template(value)),
            headers: node
                .children_named("header")
                .filter_map(|header| match header.args.as_slice() {
                    [name, value] => Some((name.as_str()?.to_owned(), cx.template(value))),
                    _ => None,
                })
                .collect(),
        })
    }

    /// Every template of the declaration.
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Slack(slack) => std::iter::once(&slack.webhook)
                .chain(&slack.channel)
                .collect(),
            Self::Webhook(hook) => std::iter::once(&hook.url)
                .chain(hook.headers.iter().map(|(_, value)| value))
                .collect(),
        }
    }
}
