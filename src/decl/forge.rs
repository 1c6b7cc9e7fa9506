//! `forge`: where repositories and their pull requests live.

use super::DeclContext;
use crate::base::Diagnostic;
use crate::lang::Template;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};

const TOKEN: NodeSpec = NodeSpec::field("token", Type::SecretText, "Access token.");
const APP: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "id"),
    props: &[
        PropSpec::required("key", Type::SecretText, "private key of the app, as PEM"),
        PropSpec::new(
            "installation",
            Type::Text,
            "installation id; that of the repository if absent",
        ),
    ],
    ..NodeSpec::new(
        "app",
        "GitHub App to authenticate as. Its tokens are renewed before they run out.",
    )
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
        "Where repositories and pull requests live: a name, and its web address unless it is github.com or gitlab.com. A repository that names it and has no token of its own is written to with this one.",
    )
};

/// Which software a forge runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForgeKind {
    /// GitHub.
    GitHub,
    /// GitLab.
    GitLab,
    /// Gitea or Forgejo.
    Gitea,
}

impl ForgeKind {
    fn of(word: &str) -> Option<Self> {
        match word {
            "github" => Some(Self::GitHub),
            "gitlab" => Some(Self::GitLab),
            "gitea" | "forgejo" => Some(Self::Gitea),
            _ => None,
        }
    }

    /// The address of the one that everybody knows.
    pub const fn address(self) -> Option<&'static str> {
        match self {
            Self::GitHub => Some("https://github.com"),
            Self::GitLab => Some("https://gitlab.com"),
            Self::Gitea => None,
        }
    }
}

/// How to authenticate.
#[derive(Clone, Debug)]
pub enum ForgeLogin {
    /// By a token.
    Token(Template),
    /// As a GitHub App.
    App {
        /// Its id.
        id: Template,
        /// Its private key.
        key: Template,
        /// Its installation.
        installation: Option<Template>,
    },
}

/// A forge.
#[derive(Clone, Debug)]
pub struct ForgeDecl {
    /// What it runs. Absent only if that was reported.
    pub kind: Option<ForgeKind>,
    /// Its web address, if said.
    pub address: Option<Template>,
    /// How to authenticate, if said.
    pub login: Option<ForgeLogin>,
}

impl ForgeDecl {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let node = cx.node;
        let word = cx.prop("kind").map(|kind| kind.value);
        let kind = ForgeKind::of(word.as_deref().unwrap_or(cx.name));
        let mut error = |code, message: String, span, help: String| {
            if !broken {
                diagnostics.push(Diagnostic::error(code, message, &node.source, span).help(help));
            }
        };
        if kind.is_none() {
            error(
                "PW0013",
                format!("forge `{}` does not say what software it runs", cx.name),
                node.head(),
                "add `kind=github`, `kind=gitlab`, `kind=gitea` or `kind=forgejo`".to_owned(),
            );
        }
        if kind == Some(ForgeKind::Gitea) && cx.rest.is_none() {
            error(
                "PW0013",
                format!("forge `{}` lacks its address", cx.name),
                node.head(),
                format!("write `forge {} \"https://git.example.com\"`", cx.name),
            );
        }
        if let Some(value) = cx.rest
            && let Some(text) = value.as_str()
            && !text.contains("${")
            && !text.starts_with("https://")
            && !text.starts_with("http://")
        {
            error(
                "PW0015",
                format!("\"{text}\" is not the web address of a forge"),
                value.span,
                "begin it with https://".to_owned(),
            );
        }
        let token = node.child("token");
        let app = node.child("app");
        if let (Some(_), Some(app)) = (token, app) {
            error(
                "PW0015",
                format!("forge `{}` has both a token and an app", cx.name),
                app.head(),
                "keep one of them".to_owned(),
            );
        }
        if let Some(app) = app
            && !matches!(kind, None | Some(ForgeKind::GitHub))
        {
            error(
                "PW0015",
                "only GitHub knows apps".to_owned(),
                app.head(),
                "give it a `token`".to_owned(),
            );
        }
        let login = match (token, app) {
            (Some(token), _) => token
                .args
                .first()
                .map(|token| ForgeLogin::Token(cx.template(token))),
            (None, Some(app)) => match (app.args.first(), app.prop("key")) {
                (Some(id), Some(key)) => Some(ForgeLogin::App {
                    id: cx.template(id),
                    key: cx.template(key),
                    installation: app.prop("installation").map(|value| cx.template(value)),
                }),
                _ => None,
            },
            (None, None) => None,
        };
        Self {
            kind,
            address: cx.rest.map(|value| cx.template(value)),
            login,
        }
    }

    /// All its templates.
    pub fn templates(&self) -> Vec<&Template> {
        let mut all: Vec<&Template> = self.address.iter().collect();
        match &self.login {
            Some(ForgeLogin::Token(token)) => all.push(token),
            Some(ForgeLogin::App {
                id,
                key,
                installation,
            }) => {
                all.extend([id, key]);
                all.extend(installation);
            }
            None => {}
        }
        all
    }
}
