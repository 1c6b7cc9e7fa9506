//! `repo`: a git repository that holds manifests.

use super::DeclContext;
use crate::base::{Diagnostic, Spanned};
use crate::lang::Template;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};

const TOKEN: NodeSpec = NodeSpec {
    args: Args::one(Type::SecretText, "token"),
    props: &[PropSpec::new(
        "user",
        Type::Literal,
        "user the host expects beside the token",
    )],
    ..NodeSpec::new("token", "Token for HTTP(S).")
};

const IDENTITY: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "name"),
    props: &[PropSpec::required(
        "email",
        Type::Text,
        "address of author and committer",
    )],
    ..NodeSpec::new("identity", "Author and committer of commits.")
};

pub(super) const REPO: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "name"),
    many: true,
    props: &[
        PropSpec::new(
            "branch",
            Type::Text,
            "branch that is read and written; `main` if absent",
        ),
        PropSpec::new(
            "forge",
            Type::Decl("forge"),
            "forge that hosts it, for pull requests",
        ),
    ],
    children: &[&TOKEN, &IDENTITY],
    ..NodeSpec::new(
        "repo",
        "A git repository that holds manifests: a name and an address, `https://…` or a path.",
    )
};

/// A manifest repository.
#[derive(Clone, Debug)]
pub struct Repo {
    /// Its address.
    pub url: Template,
    /// The branch.
    pub branch: Template,
    /// The forge that hosts it.
    pub forge: Option<Spanned<String>>,
    /// User and token.
    pub token: Option<(String, Template)>,
    /// Name and address of author and committer.
    pub identity: (Template, Template),
}

impl Repo {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let node = cx.node;
        if cx.rest.is_none() && !broken {
            diagnostics.push(
                Diagnostic::error(
                    "PW0013",
                    format!("repo `{}` lacks its address", cx.name),
                    &node.source,
                    node.head(),
                )
                .help(format!(
                    "write `repo {} \"https://github.com/acme/manifests\"`",
                    cx.name
                )),
            );
        }
        if let Some(value) = cx.rest
            && let Some(text) = value.as_str()
            && text.split_once("://").is_some_and(|(_, rest)| {
                rest.split('/')
                    .next()
                    .is_some_and(|host| host.contains('@') && host.contains(':'))
            })
        {
            diagnostics.push(
                Diagnostic::error(
                    "PW0032",
                    "credential in a repository's address",
                    &node.source,
                    value.span,
                )
                .help("declare a `secret` and write `token \"${secret.NAME}\"` inside the braces"),
            );
        }
        let branch = match node.prop("branch") {
            Some(value) => cx.template(value),
            None => Template::text("main", node.name.span),
        };
        let token = node.child("token").and_then(|token| {
            let user = token
                .prop("user")
                .and_then(|user| user.as_str())
                .unwrap_or("x-access-token");
            Some((user.to_owned(), cx.template(token.args.first()?)))
        });
        let identity = node.child("identity").and_then(|identity| {
            Some((
                cx.template(identity.args.first()?),
                cx.template(identity.prop("email")?),
            ))
        });
        Self {
            url: cx.rest.map_or_else(
                || Template::text("", node.name.span),
                |value| cx.template(value),
            ),
            branch,
            forge: cx.prop("forge"),
            token,
            identity: identity.unwrap_or_else(|| {
                (
                    Template::text("pipewright", node.name.span),
                    Template::text("pipewright@localhost", node.name.span),
                )
            }),
        }
    }

    pub(super) fn templates(&self) -> Vec<&Template> {
        let mut all = vec![&self.url, &self.branch, &self.identity.0, &self.identity.1];
        all.extend(self.token.iter().map(|(_, token)| token));
        all
    }
}
