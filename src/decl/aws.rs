//! `aws`: an account, and how to become somebody in it.

use std::time::Duration;

use super::DeclContext;
use crate::base::{Diagnostic, Span, parse_duration};
use crate::lang::Template;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};

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
        ArgSpec::new("file", Type::Text),
    ]),
    ..NodeSpec::new(
        "web-identity",
        "Token the first role is assumed with: signed here as the issuer PIPEWRIGHT_ISSUER, or from a file of the host.",
    )
};
const SESSION: NodeSpec = NodeSpec::field(
    "session",
    Type::Duration,
    "How long the credentials last: \"15m\" to \"12h\", and at most \"1h\" with several roles.",
);
const EXTERNAL_ID: NodeSpec = NodeSpec::field(
    "external-id",
    Type::SecretText,
    "External id the role asks for.",
);
const POLICY: NodeSpec = NodeSpec::field(
    "policy",
    Type::Path,
    "File with a session policy that narrows the last role.",
);
const TAG: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("key", Type::Literal),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    ..NodeSpec::new("tag", "Session tag of the last role.")
};
const ENDPOINT: NodeSpec = NodeSpec::field(
    "endpoint",
    Type::Text,
    "Address that replaces the services' own; else AWS_ENDPOINT_URL and its kin are heeded.",
);
const ALLOWED: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "account"),
    ..NodeSpec::new(
        "allowed-accounts",
        "Account ids that may be worked on; any other is refused before anything is done.",
    )
};

pub(super) const AWS: NodeSpec = NodeSpec {
    args: Args::some(Type::Name, "name"),
    many: true,
    props: &[
        PropSpec::new(
            "region",
            Type::Text,
            "region; what the environment or the profile says if absent",
        ),
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
    ..NodeSpec::new(
        "aws",
        "An AWS account: its region and how to get credentials. Without a `role` they are those of the environment, \
         the profile, the container or the machine.",
    )
};

/// An AWS account.
#[derive(Clone, Debug, Default)]
pub struct AwsDecl {
    /// Its region.
    pub region: Option<Template>,
    /// Profile of the shared configuration.
    pub profile: Option<String>,
    /// Address that replaces the services' own.
    pub endpoint: Option<Template>,
    /// Roles to assume, one after another.
    pub roles: Vec<Template>,
    /// What the first role is assumed with.
    pub web_identity: Option<WebIdentitySource>,
    /// How long the credentials last.
    pub session: Option<Duration>,
    /// External id the roles ask for.
    pub external_id: Option<Template>,
    /// File with a session policy.
    pub policy: Option<Template>,
    /// Session tags.
    pub tags: Vec<(String, Template)>,
    /// Account ids that may be worked on.
    pub allowed: Vec<Template>,
}

/// Where a web identity token comes from.
#[derive(Clone, Debug)]
pub enum WebIdentitySource {
    /// Signed here, as an issuer of our own.
    Issuer,
    /// A file of the host.
    File(Template),
}

/// Shortest and longest session AWS gives, and the longest if a role assumes a role.
const SESSIONS: [Duration; 3] = [
    Duration::from_secs(900),
    Duration::from_secs(12 * 3600),
    Duration::from_secs(3600),
];

impl AwsDecl {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let node = cx.node;
        let field = |name: &str| node.child_arg(name).map(|value| cx.template(value));
        let all = |name: &str| -> Vec<Template> {
            let args = node.child(name).map(|child| child.args.as_slice());
            let args = args.unwrap_or_default().iter();
            args.map(|value| cx.template(value)).collect()
        };
        let text = |name: &str| Some(node.child_arg(name)?.as_str()?.to_owned());
        let tags = node.children_named("tag");
        let tags = tags.filter_map(|child| match child.args.as_slice() {
            [key, value] => Some((key.as_str()?.to_owned(), cx.template(value))),
            _ => None,
        });
        let web_identity = node.child("web-identity").and_then(|child| {
            match (child.args.first()?.as_str()?, child.args.get(1)) {
                ("file", Some(path)) => Some(WebIdentitySource::File(cx.template(path))),
                ("issuer", _) => Some(WebIdentitySource::Issuer),
                _ => None,
            }
        });
        let account = Self {
            region: node.prop("region").map(|value| cx.template(value)),
            profile: cx.prop("profile").map(|value| value.value),
            endpoint: field("endpoint"),
            roles: all("role"),
            web_identity,
            session: text("session").and_then(|text| parse_duration(&text)),
            external_id: field("external-id"),
            policy: field("policy"),
            tags: tags.collect(),
            allowed: all("allowed-accounts"),
        };
        if !broken {
            account.check(cx, diagnostics);
        }
        account
    }

    fn check(&self, cx: &DeclContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let node = cx.node;
        let place = |name: &str| node.child(name).map_or(node.head(), |child| child.span);
        let mut report = |code, message: String, span: Span, help: &str| {
            diagnostics.push(Diagnostic::error(code, message, &node.source, span).help(help));
        };
        if let Some(child) = node.child("web-identity") {
            match (
                child.args.first().and_then(|arg| arg.as_str()),
                child.args.get(1),
            ) {
                (Some("file"), None) => report(
                    "PW0013",
                    "`web-identity file` does not say which file".to_owned(),
                    child.span,
                    "write `web-identity file \"/var/run/secrets/token\"`",
                ),
                (Some("issuer"), Some(extra)) => report(
                    "PW0014",
                    "`web-identity issuer` takes no file".to_owned(),
                    extra.span,
                    "write `web-identity issuer`, or `web-identity file \"…\"`",
                ),
                _ => {}
            }
        }
        if self.roles.is_empty() {
            for name in ["web-identity", "session", "external-id", "policy", "tag"] {
                if node.flag(name) {
                    report(
                        "PW0017",
                        format!("`{name}` says how a role is assumed, and there is no `role`"),
                        place(name),
                        "add `role \"arn:aws:iam::…:role/…\"`, or leave it out",
                    );
                }
            }
        }
        if self.web_identity.is_some() && self.roles.len() == 1 {
            for name in ["tag", "external-id"] {
                if node.flag(name) {
                    report(
                        "PW0019",
                        format!("`{name}` cannot be sent along with a web identity"),
                        place(name),
                        "the token itself carries what the role may ask for; leave it out",
                    );
                }
            }
        }
        let [least, most, chained] = SESSIONS;
        let session = self.session.filter(|_| !self.roles.is_empty());
        if session.is_some_and(|session| session < least || session > most) {
            report(
                "PW0015",
                "a session lasts from 15 minutes to 12 hours".to_owned(),
                place("session"),
                "write a duration from \"15m\" to \"12h\"",
            );
        } else if self.roles.len() > 1 && session.is_some_and(|session| session > chained) {
            report(
                "PW0015",
                "a session of a role that another role assumes lasts one hour at most".to_owned(),
                place("session"),
                "write \"1h\" or less; credentials are renewed in time anyway",
            );
        }
        for account in &self.allowed {
            let written = account.as_literal();
            let is_id = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
            if written.is_some_and(|text| !is_id(text)) {
                report(
                    "PW0015",
                    "an account id has twelve digits".to_owned(),
                    place("allowed-accounts"),
                    "write it as a string: \"123456789012\"",
                );
            }
        }
    }

    /// Every template of the declaration.
    pub fn templates(&self) -> Vec<&Template> {
        let file = match &self.web_identity {
            Some(WebIdentitySource::File(path)) => Some(path),
            _ => None,
        };
        let single = [
            &self.region,
            &self.endpoint,
            &self.external_id,
            &self.policy,
        ];
        let mut all: Vec<&Template> = single.into_iter().flatten().chain(file).collect();
        all.extend(&self.roles);
        all.extend(self.tags.iter().map(|(_, value)| value));
        all.extend(&self.allowed);
        all
    }
}
