//! Typed declarations that stages refer to by name: images, registries, repositories, secrets…
//!
//! Whatever has an address and a credential is declared once. Declarations stand at the top
//! level of any file or inside one pipeline.

mod argocd;
mod aws;
mod bucket;
mod channel;
mod engine;
mod forge;
mod image;
mod kubernetes;
mod registry;
mod repo;
mod secret;

use std::collections::BTreeMap;

pub use argocd::ArgocdDecl;
pub use aws::{AwsDecl, WebIdentitySource};
pub use bucket::Bucket;
pub use channel::{Channel, Slack, Webhook};
pub use engine::EngineAddress;
pub use forge::{ForgeDecl, ForgeKind, ForgeLogin};
pub use image::{Image, ImageTag};
pub use kubernetes::KubernetesDecl;
pub use registry::{Creation, RegistryDecl};
pub use repo::{Repo, SignBy};
pub use secret::{Kept, KeptIn, SecretDecl, Var, VarSource};

use crate::base::{Applicability, Diagnostic, Source, Span, Spanned};
use crate::lang::spec::NodeSpec;
use crate::lang::{Binding, Node, Reference, Template, Value, is_name, suggest::suggest, validate};

/// A declaration: a value with a name and a place.
#[derive(Clone, Debug)]
pub struct Decl<T> {
    /// Its name and where the name stands.
    pub name: Spanned<String>,
    /// The text it stands in.
    pub source: Source,
    /// What is declared.
    pub value: T,
}

/// All declarations a pipeline can see.
#[derive(Clone, Debug, Default)]
pub struct Decls {
    /// `var`.
    pub vars: BTreeMap<String, Decl<Var>>,
    /// `secret`.
    pub secrets: BTreeMap<String, Decl<SecretDecl>>,
    /// `registry`.
    pub registries: BTreeMap<String, Decl<RegistryDecl>>,
    /// `image`.
    pub images: BTreeMap<String, Decl<Image>>,
    /// `repo`.
    pub repos: BTreeMap<String, Decl<Repo>>,
    /// `slack` and `webhook`, which share one space of names: both are where `notify` goes.
    pub channels: BTreeMap<String, Decl<Channel>>,
    /// `engine`.
    pub engines: BTreeMap<String, Decl<EngineAddress>>,
    /// `aws`.
    pub aws: BTreeMap<String, Decl<AwsDecl>>,
    /// `argocd`.
    pub argocd: BTreeMap<String, Decl<ArgocdDecl>>,
    /// `kubernetes`.
    pub clusters: BTreeMap<String, Decl<KubernetesDecl>>,
    /// `forge`.
    pub forges: BTreeMap<String, Decl<ForgeDecl>>,
    /// `bucket`.
    pub buckets: BTreeMap<String, Decl<Bucket>>,
}

/// The nodes that declare something.
pub const SPECS: &[&NodeSpec] = &[
    &secret::VAR,
    &secret::SECRET,
    &aws::AWS,
    &bucket::BUCKET,
    &registry::REGISTRY,
    &image::IMAGE,
    &repo::REPO,
    &forge::FORGE,
    &argocd::ARGOCD,
    &kubernetes::KUBERNETES,
    &engine::ENGINE,
    &channel::SLACK,
    &channel::WEBHOOK,
];

/// The specification of a declaration's node.
pub fn spec(name: &str) -> Option<&'static NodeSpec> {
    SPECS.iter().copied().find(|spec| spec.name == name)
}

impl Decls {
    /// Adds what a node declares. The node's name must be one of [`SPECS`].
    pub fn add(&mut self, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
        let Some(spec) = spec(&node.name.value) else {
            return;
        };
        let before = diagnostics.len();
        validate(node, spec, diagnostics);
        let (names, rest) = names_and_rest(node, diagnostics);
        let broken = diagnostics[before..].iter().any(Diagnostic::is_error);
        for name in names {
            // A declaration with mistakes keeps its name, so that its users are not reported too.
            let cx = DeclContext {
                node,
                name: &name.value,
                rest,
            };
            self.insert(&name, &cx, broken, diagnostics);
        }
    }

    fn insert(
        &mut self,
        name: &Spanned<String>,
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let node = cx.node;
        match node.name.value.as_str() {
            "var" => put(
                &mut self.vars,
                name,
                node,
                Var::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "secret" => put(
                &mut self.secrets,
                name,
                node,
                SecretDecl::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "aws" => put(
                &mut self.aws,
                name,
                node,
                AwsDecl::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "argocd" => put(
                &mut self.argocd,
                name,
                node,
                ArgocdDecl::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "bucket" => put(
                &mut self.buckets,
                name,
                node,
                Bucket::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "registry" => put(
                &mut self.registries,
                name,
                node,
                RegistryDecl::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "image" => put(
                &mut self.images,
                name,
                node,
                Image::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "repo" => put(
                &mut self.repos,
                name,
                node,
                Repo::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "slack" | "webhook" => put(
                &mut self.channels,
                name,
                node,
                Channel::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "forge" => put(
                &mut self.forges,
                name,
                node,
                ForgeDecl::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "engine" => put(
                &mut self.engines,
                name,
                node,
                EngineAddress::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            "kubernetes" => put(
                &mut self.clusters,
                name,
                node,
                KubernetesDecl::lower(cx, broken, diagnostics),
                diagnostics,
            ),
            // Only nodes of the table come here.
            _ => {}
        }
    }

    /// Checks that every name a declaration refers to is declared.
    pub fn check(&self, diagnostics: &mut Vec<Diagnostic>) {
        for image in self.images.values() {
            if let Some(registry) = &image.value.registry {
                require(
                    &self.registries,
                    "registry",
                    registry,
                    &image.source,
                    diagnostics,
                );
            }
        }
        for registry in self.registries.values() {
            if let Some(aws) = &registry.value.aws {
                require(&self.aws, "aws", aws, &registry.source, diagnostics);
            }
        }
        for bucket in self.buckets.values() {
            let aws = &bucket.value.aws;
            require(&self.aws, "aws", aws, &bucket.source, diagnostics);
        }
        for secret in self.secrets.values() {
            if let Some(aws) = &secret.value.aws {
                require(&self.aws, "aws", aws, &secret.source, diagnostics);
            }
        }
        self.check_accounts(diagnostics);
        for repo in self.repos.values() {
            if let Some(forge) = &repo.value.forge {
                require(&self.forges, "forge", forge, &repo.source, diagnostics);
            }
        }
    }

    /// An account's own secrets cannot be kept in an account: somebody has to be first.
    fn check_accounts(&self, diagnostics: &mut Vec<Diagnostic>) {
        for account in self.aws.values() {
            let references = account.value.templates().into_iter();
            for reference in references.flat_map(Template::references) {
                let Reference::Secret(name) = &reference.value else {
                    continue;
                };
                let kept = self
                    .secrets
                    .get(name)
                    .is_some_and(|secret| secret.value.aws.is_some());
                if kept {
                    diagnostics.push(
                        Diagnostic::error(
                            "PW0047",
                            format!("`secret.{name}` is kept in an account, and an account cannot wait for it"),
                            &account.source,
                            reference.span,
                        )
                        .help("read it from `env` or `file`"),
                    );
                }
            }
        }
    }

    /// Every template of every declaration, with the text it stands in.
    pub fn templates(&self) -> Vec<(&Source, &Template)> {
        let mut all = Vec::new();
        for decl in self.registries.values() {
            all.extend(
                decl.value
                    .templates()
                    .into_iter()
                    .map(|t| (&decl.source, t)),
            );
        }
        for decl in self.aws.values() {
            all.extend(
                decl.value
                    .templates()
                    .into_iter()
                    .map(|t| (&decl.source, t)),
            );
        }
        for decl in self.buckets.values() {
            let templates = decl.value.templates().into_iter();
            all.extend(templates.map(|template| (&decl.source, template)));
        }
        for decl in self.images.values() {
            all.extend(
                decl.value
                    .templates()
                    .into_iter()
                    .map(|t| (&decl.source, t)),
            );
        }
        for decl in self.repos.values() {
            all.extend(
                decl.value
                    .templates()
                    .into_iter()
                    .map(|t| (&decl.source, t)),
            );
        }
        for decl in self.channels.values() {
            all.extend(
                decl.value
                    .templates()
                    .into_iter()
                    .map(|t| (&decl.source, t)),
            );
        }
        for decl in self.argocd.values() {
            let templates = decl.value.templates().into_iter();
            all.extend(templates.map(|t| (&decl.source, t)));
        }
        for decl in self.forges.values() {
            let templates = decl.value.templates().into_iter();
            all.extend(templates.map(|t| (&decl.source, t)));
        }
        for decl in self.clusters.values() {
            all.extend(
                decl.value
                    .templates()
                    .into_iter()
                    .map(|t| (&decl.source, t)),
            );
        }
        all
    }
}

/// Reports a name that a map of declarations does not have.
pub fn require<T>(
    map: &BTreeMap<String, T>,
    what: &str,
    name: &Spanned<String>,
    source: &Source,
    diagnostics: &mut Vec<Diagnostic>,
) {
    // A name that is missing was reported as such.
    if !map.contains_key(&name.value) && !name.value.is_empty() {
        diagnostics.push(undeclared(
            what,
            name,
            map.keys().map(String::as_str),
            source,
        ));
    }
}

/// The finding for a name that is not declared.
pub fn undeclared<'a>(
    what: &str,
    name: &Spanned<String>,
    names: impl Iterator<Item = &'a str> + Clone,
    source: &Source,
) -> Diagnostic {
    let help = match suggest(&name.value, names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let ways = what
                .split(" or ")
                .map(|what| format!("`{what} {} …`", name.value));
            let ways = ways.collect::<Vec<_>>().join(" or ");
            let mut known = names.take(10).peekable();
            match known.peek() {
                None => format!("declare it at the top level: {ways}"),
                Some(_) => {
                    let known = known.collect::<Vec<_>>().join(", ");
                    format!("declare it with {ways}; there are {known}")
                }
            }
        }
    };
    Diagnostic::error(
        "PW0041",
        format!("{what} `{}` is not declared", name.value),
        source,
        name.span,
    )
    .help(help)
}

/// What the lowering of one member of a declaration works on.
pub(crate) struct DeclContext<'a> {
    pub(crate) node: &'a Node,
    pub(crate) name: &'a str,
    /// The argument after the names: an address or a repository.
    pub(crate) rest: Option<&'a Value>,
}

impl DeclContext<'_> {
    pub(crate) fn template(&self, value: &Value) -> Template {
        let binding = Binding {
            name: Some(self.name),
            matrix: &[],
        };
        Template::parse(&self.node.source, value, binding).0
    }

    pub(crate) fn prop(&self, name: &str) -> Option<Spanned<String>> {
        self.node.prop(name)?.spanned()
    }
}

/// Splits a declaration's arguments into names and the one that is no name.
fn names_and_rest<'a>(
    node: &'a Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Vec<Spanned<String>>, Option<&'a Value>) {
    let mut names = Vec::new();
    let mut rest = None;
    for (index, value) in node.args.iter().enumerate() {
        let Some(text) = value.spanned() else {
            continue;
        };
        let last = index + 1 == node.args.len();
        if index > 0 && last && (!is_name(&text.value) || value.raw.starts_with('"')) {
            rest = Some(value);
        } else if index > 0 && last && follows_properties(node, value) {
            // Taken for what it was meant as, so that nothing is said of a second declaration.
            diagnostics.push(behind_properties(node, &text));
            rest = Some(value);
        } else if is_name(&text.value) {
            names.push(text);
        } else {
            diagnostics.push(
                Diagnostic::error(
                    "PW0015",
                    format!("\"{}\" is not a name", text.value),
                    &node.source,
                    text.span,
                )
                .help("a declaration begins with its name: letters, digits, `-` and `_`"),
            );
        }
    }
    (names, rest)
}

/// Whether an argument stands behind the properties, where nobody writes a name.
fn follows_properties(node: &Node, value: &Value) -> bool {
    let mut props = node.props.iter();
    props.any(|prop| prop.name.span.start < value.span.start)
}

fn behind_properties(node: &Node, text: &Spanned<String>) -> Diagnostic {
    let (word, kind) = (&text.value, &node.name.value);
    let meant = match kind.as_str() {
        "image" => "the image's repository",
        _ => "no name",
    };
    Diagnostic::error(
        "PW0015",
        format!("`{word}` would be the name of another {kind}, and stands behind the properties"),
        &node.source,
        text.span,
    )
    .help(format!(
        "if it is {meant}, put it into quotes: `\"{word}\"`; names come before the properties"
    ))
    .fix(
        "put it into quotes",
        Applicability::Unsafe,
        text.span,
        format!("\"{word}\""),
    )
}

fn put<T>(
    map: &mut BTreeMap<String, Decl<T>>,
    name: &Spanned<String>,
    node: &Node,
    value: T,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if let Some(first) = map.get(&name.value) {
        diagnostics.push(duplicate(
            &node.name.value,
            name,
            &node.source,
            &first.source,
            first.name.span,
        ));
        return;
    }
    map.insert(
        name.value.clone(),
        Decl {
            name: name.clone(),
            source: node.source.clone(),
            value,
        },
    );
}

/// The finding for a name that is declared twice.
pub fn duplicate(
    what: &str,
    name: &Spanned<String>,
    source: &Source,
    first: &Source,
    span: Span,
) -> Diagnostic {
    Diagnostic::error(
        "PW0040",
        format!("{what} `{}` is declared twice", name.value),
        source,
        name.span,
    )
    .label(first, span, "first declared here")
    .help("rename one of the two")
}
