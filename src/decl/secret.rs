//! `var` and `secret`: values from outside.

use super::DeclContext;
use crate::base::{Diagnostic, Spanned};
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};

pub(super) const VAR: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "name"),
    many: true,
    props: &[
        PropSpec::new("env", Type::Literal, "environment variable it is read from"),
        PropSpec::new("file", Type::Literal, "file it is read from"),
        PropSpec::new("value", Type::Literal, "the value itself"),
        PropSpec::new(
            "default",
            Type::Literal,
            "value if the environment variable or file is not there",
        ),
    ],
    ..NodeSpec::new(
        "var",
        "A value from outside that is no secret, read as `${var.NAME}`. It is shown and stored.",
    )
};

pub(super) const SECRET: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "name"),
    many: true,
    props: &[
        PropSpec::new("env", Type::Literal, "environment variable it is read from"),
        PropSpec::new("file", Type::Literal, "file it is read from"),
        PropSpec::new("aws", Type::Decl("aws"), "account it is read from"),
        PropSpec::new(
            "secretsmanager",
            Type::Literal,
            "name or ARN in AWS Secrets Manager",
        ),
        PropSpec::new("ssm", Type::Literal, "name in the AWS SSM Parameter Store"),
        PropSpec::new("key", Type::Literal, "key, if the secret is a JSON object"),
        PropSpec::new(
            "version",
            Type::Literal,
            "version stage in Secrets Manager (AWSCURRENT if absent); version or label in the Parameter Store",
        ),
        PropSpec::new(
            "version-id",
            Type::Literal,
            "id of a version in Secrets Manager",
        ),
    ],
    ..NodeSpec::new(
        "secret",
        "A value that must not be shown, read as `${secret.NAME}` in fields that accept secrets. It is read \
         when a run needs it, never stored, and masked in all output.",
    )
};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VarSource {
    /// An environment variable.
    Env(String),
    /// A file.
    File(String),
    /// Written in the pipeline file.
    Value(String),
    /// A store of an AWS account.
    Kept(Kept),
}

/// A secret in a store of an AWS account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which store.
    pub store: KeptIn,
    /// Name or ARN.
    pub name: String,
    /// The key, if the value is a JSON object.
    pub key: Option<String>,
    /// Version stage, version or label.
    pub version: Option<String>,
    /// Version id.
    pub version_id: Option<String>,
}

/// A store of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptIn {
    /// AWS Secrets Manager.
    SecretsManager,
    /// The AWS SSM Parameter Store.
    Ssm,
}

/// A variable.
#[derive(Clone, Debug)]
pub struct Var {
    /// Where it comes from.
    pub from: VarSource,
    /// What it is if it is not there.
    pub default: Option<String>,
}

/// A secret.
#[derive(Clone, Debug)]
pub struct SecretDecl {
    /// Where it comes from.
    pub from: VarSource,
    /// The account it is read from.
    pub aws: Option<Spanned<String>>,
}

impl Var {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let from = source(cx, &["env", "file", "value"], broken, diagnostics);
        Self {
            from,
            default: cx.prop("default").map(|value| value.value),
        }
    }
}

impl SecretDecl {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let from = source(
            cx,
            &["env", "file", "secretsmanager", "ssm"],
            broken,
            diagnostics,
        );
        let aws = cx.prop("aws");
        if !broken && aws.is_none() && matches!(from, VarSource::Kept(_)) {
            diagnostics.push(
                Diagnostic::error(
                    "PW0018",
                    format!("secret `{}` lacks the property `aws`", cx.name),
                    &cx.node.source,
                    cx.node.head(),
                )
                .help("name the account it is read from: `aws=NAME`, declared with `aws NAME region=…`"),
            );
        }
        if !broken {
            check_details(cx, &from, diagnostics);
        }
        Self { from, aws }
    }
}

/// What says more about a stored secret stands at one only.
fn check_details(cx: &DeclContext<'_>, from: &VarSource, diagnostics: &mut Vec<Diagnostic>) {
    let store = match from {
        VarSource::Kept(kept) => Some(kept.store),
        _ => None,
    };
    for name in ["aws", "key", "version", "version-id"] {
        let fits = match store {
            None => false,
            Some(KeptIn::Ssm) => name != "version-id",
            Some(KeptIn::SecretsManager) => true,
        };
        if fits {
            continue;
        }
        if let Some(value) = cx.node.prop(name) {
            let message = match store {
                None => format!("`{name}` is for secrets that are kept in an AWS account"),
                Some(_) => format!("the Parameter Store has no `{name}`"),
            };
            diagnostics.push(
                Diagnostic::error("PW0019", message, &cx.node.source, value.span)
                    .help("leave it out"),
            );
        }
    }
}

fn source(
    cx: &DeclContext<'_>,
    kinds: &[&str],
    broken: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> VarSource {
    let what = &cx.node.name.value;
    let given: Vec<&str> = kinds
        .iter()
        .copied()
        .filter(|kind| cx.node.prop(kind).is_some())
        .collect();
    if !broken && given.len() != 1 {
        let message = match given.as_slice() {
            [] => format!("{what} `{}` does not say where it comes from", cx.name),
            several => format!(
                "{what} `{}` comes from {} at once",
                cx.name,
                several.join(" and ")
            ),
        };
        diagnostics.push(
            Diagnostic::error("PW0018", message, &cx.node.source, cx.node.head())
                .help(format!("give exactly one of {}", kinds.join("=…, ") + "=…")),
        );
    }
    let text = |name: &str| cx.prop(name).map(|value| value.value);
    match given.first().copied() {
        Some("env") => VarSource::Env(text("env").unwrap_or_default()),
        Some("file") => VarSource::File(text("file").unwrap_or_default()),
        Some(store @ ("secretsmanager" | "ssm")) => VarSource::Kept(Kept {
            store: match store {
                "ssm" => KeptIn::Ssm,
                _ => KeptIn::SecretsManager,
            },
            name: text(store).unwrap_or_default(),
            key: text("key"),
            version: text("version"),
            version_id: text("version-id"),
        }),
        _ => VarSource::Value(text("value").unwrap_or_default()),
    }
}
