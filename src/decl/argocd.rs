//! `argocd`: servers that keep what runs in a cluster equal to a repository.

use super::DeclContext;
use crate::base::Diagnostic;
use crate::lang::Template;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, Type};

const TOKEN: NodeSpec = NodeSpec::field(
    "token",
    Type::SecretText,
    "Token of an account or of a project's role.",
);
const LOGIN: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("user", Type::SecretText),
        ArgSpec::new("password", Type::SecretText),
    ]),
    ..NodeSpec::new(
        "login",
        "User and password, for which the server gives a token; renewed when it has run out.",
    )
};
const PLAIN_HTTP: NodeSpec = NodeSpec::new(
    "plain-http",
    "The address may begin with `http://`. Never done unless said.",
);

pub(super) const ARGOCD: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "name"),
    many: true,
    children: &[&TOKEN, &LOGIN, &PLAIN_HTTP],
    ..NodeSpec::new(
        "argocd",
        "An Argo CD server: a name and an address, `https://host[/path]`.",
    )
};

/// A server of Argo CD.
#[derive(Clone, Debug)]
pub struct ArgocdDecl {
    /// Its address.
    pub address: Option<Template>,
    /// The token.
    pub token: Option<Template>,
    /// User and password.
    pub login: Option<(Template, Template)>,
    /// Speak HTTP without TLS.
    pub plain_http: bool,
}

impl ArgocdDecl {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let node = cx.node;
        let login = node
            .child("login")
            .and_then(|login| match login.args.as_slice() {
                [user, password] => Some((cx.template(user), cx.template(password))),
                _ => None,
            });
        let decl = Self {
            address: cx.rest.map(|value| cx.template(value)),
            token: node.child_arg("token").map(|value| cx.template(value)),
            login,
            plain_http: node.flag("plain-http"),
        };
        if !broken {
            decl.refuse(cx, diagnostics);
        }
        decl
    }

    /// What fits the specification and makes no sense all the same.
    fn refuse(&self, cx: &DeclContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let mut say = |code, message: String, span, help: &str| {
            diagnostics.push(Diagnostic::error(code, message, &cx.node.source, span).help(help));
        };
        if self.address.is_none() {
            say(
                "PW0018",
                format!("argocd `{}` has no address", cx.name),
                cx.node.head(),
                "write `argocd NAME \"https://argocd.example.com\"`",
            );
        }
        if let (Some(_), Some(login)) = (&self.token, cx.node.child("login")) {
            say(
                "PW0019",
                "a server is asked by `token` or by `login`, not both".to_owned(),
                login.head(),
                "keep one of the two",
            );
        }
        let Some(value) = cx.rest else {
            return;
        };
        let Some(text) = value.as_str() else {
            return;
        };
        // What stands for the scheme may be a variable.
        if text.starts_with("${") || text.starts_with("https://") {
            return;
        }
        match text.strip_prefix("http://") {
            Some(_) if self.plain_http => {}
            Some(_) => say(
                "PW0015",
                "the token would travel in the clear over `http://`".to_owned(),
                value.span,
                "use `https://`, or say `plain-http` inside the braces",
            ),
            None => say(
                "PW0015",
                "the address of Argo CD has no scheme".to_owned(),
                value.span,
                "write `https://host[/path]`",
            ),
        }
    }

    /// Every template of the declaration.
    pub fn templates(&self) -> Vec<&Template> {
        let mut all: Vec<&Template> = self.address.iter().chain(&self.token).collect();
        if let Some((user, password)) = &self.login {
            all.extend([user, password]);
        }
        all
    }
}
