//! `repo`: a git repository that holds manifests.

use super::DeclContext;
use crate::base::{Diagnostic, Spanned};
use crate::lang::Template;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};

const TOKEN: NodeSpec = NodeSpec {
    args: Args::one(Type::SecretText, "token"),
    props: &[PropSpec::new(
        "user",
        Type::Literal,
        "user the host expects beside the token",
    )],
    ..NodeSpec::new("token", "Token for HTTP(S).")
};

const SSH_KEY: NodeSpec = NodeSpec {
    args: Args::one(Type::SecretText, "key"),
    ..NodeSpec::new(
        "ssh-key",
        "Private key for ssh, as OpenSSH writes it and without a passphrase. It is never written to a file. Without this, ssh of this machine uses its own agent and settings.",
    )
};

const KNOWN_HOSTS: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "lines"),
    ..NodeSpec::new(
        "known-hosts",
        "Keys of the host as in `~/.ssh/known_hosts`; those of this machine if absent. A host that is not among them is refused.",
    )
};

const SIGN: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("how", Type::OneOf(&["ssh", "openpgp"])),
        ArgSpec::new("key", Type::SecretText),
    ]),
    ..NodeSpec::new(
        "sign",
        "Sign commits by a private key: an OpenSSH one, or an OpenPGP one in ASCII armour, without a passphrase.",
    )
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
    children: &[&TOKEN, &SSH_KEY, &KNOWN_HOSTS, &IDENTITY, &SIGN],
    ..NodeSpec::new(
        "repo",
        "A git repository that holds manifests: a name and an address, `https://…`, `git@host:path`, `ssh://…` or a path.",
    )
};

/// How commits are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignBy {
    /// By an ssh key.
    Ssh,
    /// By an OpenPGP key.
    OpenPgp,
}

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
    /// Private key for ssh.
    pub ssh_key: Option<Template>,
    /// Host keys for ssh.
    pub known_hosts: Option<Template>,
    /// How commits are signed, and the private key.
    pub sign: Option<(SignBy, Template)>,
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
            && holds_a_credential(text)
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
        exclusive(cx, diagnostics);
        let sign = node.child("sign").and_then(|sign| {
            let by = match sign.args.first()?.as_str()? {
                "ssh" => SignBy::Ssh,
                _ => SignBy::OpenPgp,
            };
            Some((by, cx.template(sign.args.get(1)?)))
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
            ssh_key: node.child_arg("ssh-key").map(|key| cx.template(key)),
            known_hosts: node
                .child_arg("known-hosts")
                .map(|lines| cx.template(lines)),
            sign,
            identity: identity.unwrap_or_else(|| {
                (
                    Template::text("pipewright", node.name.span),
                    Template::text("pipewright@localhost", node.name.span),
                )
            }),
        }
    }

    /// All its templates.
    pub fn templates(&self) -> Vec<&Template> {
        let mut all = vec![&self.url, &self.branch, &self.identity.0, &self.identity.1];
        all.extend(self.token.iter().map(|(_, token)| token));
        all.extend(&self.ssh_key);
        all.extend(&self.known_hosts);
        all.extend(self.sign.iter().map(|(_, key)| key));
        all
    }
}

/// Whether an address holds what should be a secret: a password, or over HTTP any user.
fn holds_a_credential(address: &str) -> bool {
    let Some((scheme, rest)) = address.split_once("://") else {
        return false;
    };
    let authority = rest.split('/').next().unwrap_or(rest);
    authority
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':') || !scheme.contains("ssh"))
}

/// Whether an address is one of ssh; not known before a reference in it is.
fn is_ssh(address: &str) -> Option<bool> {
    if let Some((scheme, _)) = address.split_once("://") {
        return (!scheme.contains("${")).then(|| scheme.contains("ssh"));
    }
    if address.starts_with("${") {
        return None;
    }
    Some(
        address
            .split_once(':')
            .is_some_and(|(host, _)| !host.contains('/')),
    )
}

/// Reports credentials of a transport that the address does not use.
fn exclusive(cx: &DeclContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let node = cx.node;
    let Some(ssh) = cx.rest.and_then(|value| value.as_str()).and_then(is_ssh) else {
        return;
    };
    let (wrong, help) = match ssh {
        true => (
            &["token"][..],
            "write `ssh-key \"${secret.NAME}\"`, or an `https://` address",
        ),
        false => (
            &["ssh-key", "known-hosts"][..],
            "write `token \"${secret.NAME}\"`, or an address such as `git@github.com:acme/manifests.git`",
        ),
    };
    for name in wrong {
        if let Some(child) = node.child(name) {
            let what = if ssh { "one of ssh" } else { "not one of ssh" };
            diagnostics.push(
                Diagnostic::error(
                    "PW0019",
                    format!("`{name}` does not fit: the address is {what}"),
                    &node.source,
                    child.head(),
                )
                .help(help),
            );
        }
    }
}
