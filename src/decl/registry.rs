//! `registry`: where images are pushed to and looked up.

use super::DeclContext;
use crate::base::{Diagnostic, Span, Spanned};
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template};

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

const SCAN_ON_PUSH: NodeSpec = NodeSpec::new("scan-on-push", "Scan images when they are pushed.");

const EXCEPT: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "tag"),
    ..NodeSpec::new(
        "except",
        "Tags that move all the same; `*` stands for any characters.",
    )
};

const IMMUTABLE: NodeSpec = NodeSpec {
    children: &[&EXCEPT],
    ..NodeSpec::new("immutable", "Tags never move.")
};

const ENCRYPTION: NodeSpec = NodeSpec {
    args: Args::one(Type::OneOf(&["kms"]), "how"),
    props: &[PropSpec::new(
        "key",
        Type::Text,
        "ARN or alias of the key; the account's own key for ECR if absent",
    )],
    ..NodeSpec::new(
        "encryption",
        "Encrypt with KMS instead of a key that S3 manages.",
    )
};

const CREATE: NodeSpec = NodeSpec {
    children: &[&SCAN_ON_PUSH, &IMMUTABLE, &ENCRYPTION],
    ..NodeSpec::new(
        "create-repository",
        "Create repositories that are missing, with these settings (ECR).",
    )
};

const PUBLIC: NodeSpec = NodeSpec::field(
    "public",
    Type::Text,
    "The public registry, `public.ecr.aws`, under this alias (ECR).",
);

const ENDPOINT: NodeSpec = NodeSpec::field(
    "endpoint",
    Type::Text,
    "`host[:port]` that images go to instead of the registry's own, such as a VPC endpoint (ECR).",
);

pub(super) const REGISTRY: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "name"),
    many: true,
    props: &[
        PropSpec::new(
            "aws",
            Type::Decl("aws"),
            "account whose ECR this is; replaces address and login",
        ),
        PropSpec::new(
            "account",
            Type::Text,
            "id of the account that owns the registry; that of the credentials if absent (ECR)",
        ),
        PropSpec::new(
            "region",
            Type::Text,
            "region of the registry; that of `aws` if absent (ECR)",
        ),
    ],
    children: &[&PLAIN_HTTP, &LOGIN, &PUBLIC, &ENDPOINT, &CREATE],
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
    /// Id of the account that owns an ECR.
    pub account: Option<Template>,
    /// Region of an ECR.
    pub region: Option<Template>,
    /// Alias of a public ECR.
    pub public: Option<Template>,
    /// Where images go instead of to the ECR's own host.
    pub endpoint: Option<Template>,
    /// How missing repositories are made.
    pub create: Option<Creation>,
}

/// How missing repositories are made.
#[derive(Clone, Debug, Default)]
pub struct Creation {
    /// Images are scanned when they are pushed.
    pub scan_on_push: bool,
    /// Tags never move.
    pub immutable: bool,
    /// Tags that move all the same.
    pub except: Vec<String>,
    /// Encrypted with KMS, by a key of one's own if there is one.
    pub kms: Option<Option<Template>>,
}

impl Creation {
    fn lower(cx: &DeclContext<'_>, node: &Node) -> Self {
        let immutable = node.child("immutable");
        let except = immutable.and_then(|node| node.child("except"));
        let except = except.map(|node| node.args.as_slice()).unwrap_or_default();
        Self {
            scan_on_push: node.flag("scan-on-push"),
            immutable: immutable.is_some(),
            except: except
                .iter()
                .filter_map(|value| value.as_str().map(str::to_owned))
                .collect(),
            kms: node
                .child("encryption")
                .map(|node| node.prop("key").map(|value| cx.template(value))),
        }
    }
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
        if !broken {
            check_kind(cx, aws.is_some(), diagnostics);
        }
        let field = |name: &str| cx.node.child_arg(name).map(|value| cx.template(value));
        let prop = |name: &str| cx.node.prop(name).map(|value| cx.template(value));
        Self {
            address,
            aws,
            plain_http: cx.node.flag("plain-http"),
            login,
            account: prop("account"),
            region: prop("region"),
            public: field("public"),
            endpoint: field("endpoint"),
            create: cx
                .node
                .child("create-repository")
                .map(|node| Creation::lower(cx, node)),
        }
    }

    /// Every template of the declaration.
    pub fn templates(&self) -> Vec<&Template> {
        let single = [
            &self.address,
            &self.account,
            &self.region,
            &self.public,
            &self.endpoint,
        ];
        let mut all: Vec<&Template> = single.into_iter().flatten().collect();
        let kms = self.create.as_ref().and_then(|create| create.kms.as_ref());
        all.extend(kms.and_then(Option::as_ref));
        if let Some((user, password)) = &self.login {
            all.extend([user, password]);
        }
        all
    }
}

/// What is for an ECR only stands at one, and what cannot stand together does not.
fn check_kind(cx: &DeclContext<'_>, ecr: bool, diagnostics: &mut Vec<Diagnostic>) {
    let node = cx.node;
    let mut report = |message: String, span: Span, help: &str| {
        diagnostics.push(Diagnostic::error("PW0019", message, &node.source, span).help(help));
    };
    let child = |name: &str| node.child(name).map(|child| child.span);
    let prop = |name: &str| node.prop(name).map(|value| value.span);
    if !ecr {
        let of_ecr = [
            ("account", prop("account")),
            ("region", prop("region")),
            ("public", child("public")),
            ("endpoint", child("endpoint")),
            ("create-repository", child("create-repository")),
        ];
        for (name, span) in of_ecr {
            if let Some(span) = span {
                report(
                    format!("`{name}` is for the registry of an AWS account, and this is another"),
                    span,
                    "leave it out, or name the account with `aws=NAME` instead of an address",
                );
            }
        }
        return;
    }
    if let Some(span) = child("login") {
        report(
            "the login of an ECR comes from its account".to_owned(),
            span,
            "leave `login` out",
        );
    }
    if let (Some(span), None) = (child("plain-http"), child("endpoint")) {
        report(
            "an ECR speaks TLS".to_owned(),
            span,
            "leave `plain-http` out; it is for an `endpoint` of your own",
        );
    }
    if child("public").is_some() {
        for (name, span) in [("account", prop("account")), ("region", prop("region"))] {
            if let Some(span) = span {
                report(
                    format!("the public registry has no `{name}`"),
                    span,
                    "leave it out",
                );
            }
        }
    }
}
