//! `registry`: where images are pushed to and looked up.

use super::DeclContext;
use crate::base::{Diagnostic, Spanned};
use crate::lang::Template;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};

const PLAIN_HTTP: NodeSpec = NodeSpec::new(
    "plain-http",
    "Speak HTTP without TLS. Never done unless said.",
);

const LOGIN: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("user", Type::SecretText),
        ArgSpec::new("password", Type::SecretText),
    ]),
    ..NodeSpec::new(
        "login",
        "User and password or token. Without it the docker configuration and its credential helpers are asked.",
    )
};

const CREATE: NodeSpec = NodeSpec::new(
    "create-repository",
    "Create repositories that are missing (ECR).",
);

pub(super) const REGISTRY: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "name"),
    many: true,
    props: &[PropSpec::new(
        "aws",
        Type::Decl("aws"),
        "account whose ECR this is; replaces address and login",
    )],
    children: &[&PLAIN_HTTP, &LOGIN, &CREATE],
    ..NodeSpec::new(
        "registry",
        "An image registry: a name and an address, `host[:port][/path]`.",
    )
};

/// A registry.
#[derive(Clone, Debug)]
pub struct RegistryDecl {
    /// `host[:port][/path]`; the path is put before every repository.
    pub address: Option<Template>,
    /// The account whose ECR it is.
    pub aws: Option<Spanned<String>>,
    /// Speak HTTP without TLS.
    pub plain_http: bool,
    /// User and password.
    pub login: Option<(Template, Template)>,
}

impl RegistryDecl {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let address = cx.rest.map(|value| cx.template(value));
        let aws = cx.prop("aws");
        if !broken && address.is_none() == aws.is_none() {
            diagnostics.push(
                Diagnostic::error(
                    "PW0018",
                    format!(
                        "registry `{}` needs an address or an `aws` account, and not both",
                        cx.name
                    ),
                    &cx.node.source,
                    cx.node.head(),
                )
                .help(format!(
                    "write `registry {} \"registry.example.com\"` or `registry {} aws=NAME`",
                    cx.name, cx.name
                )),
            );
        }
        if !broken
            && let Some(value) = cx.rest
            && value.as_str().is_some_and(|text| text.contains("://"))
        {
            diagnostics.push(
                Diagnostic::error(
                    "PW0015",
                    "a registry's address has no scheme".to_owned(),
                    &cx.node.source,
                    value.span,
                )
                .help(
                    "write `host[:port]`, and `plain-http` inside the braces for HTTP without TLS",
                ),
            );
        }
        let login = cx
            .node
            .child("login")
            .and_then(|node| match node.args.as_slice() {
                [user, password] => Some((cx.template(user), cx.template(password))),
                _ => None,
            });
        Self {
            address,
            aws,
            plain_http: cx.node.flag("plain-http"),
            login,
        }
    }

    /// Every template of the declaration.
    pub fn templates(&self) -> Vec<&Template> {
        let mut all: Vec<&Template> = self.address.iter().collect();
        if let Some((user, password)) = &self.login {
            all.extend([user, password]);
        }
        all
    }
}
