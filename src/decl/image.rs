//! `image`: what is built, scanned, pushed and deployed, and what it is called.

use super::DeclContext;
use crate::base::{Diagnostic, Spanned};
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template};

const TAG: NodeSpec = NodeSpec::field(
    "tag",
    Type::Text,
    "The image's identity in its repository. Exactly one, unless `from` names it.",
);

const ALIAS: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "tag"),
    ..NodeSpec::new(
        "alias",
        "Further tags that are moved along with each push, never backwards in time.",
    )
};

const FROM: NodeSpec = NodeSpec {
    args: Args::one(Type::Path, "file"),
    props: &[PropSpec::new(
        "key",
        Type::Literal,
        "key, if the file holds `KEY=value` lines",
    )],
    ..NodeSpec::new(
        "from",
        "File of the commit that holds the image's name with its tag, alone or as the value of `key`.",
    )
};

const IMMUTABLE: NodeSpec = NodeSpec::new(
    "immutable",
    "The tag is never overwritten: if the registry has it, build, scan and push are up-to-date.",
);

const SBOM: NodeSpec = NodeSpec {
    args: Args::any(Type::OneOf(&["cyclonedx", "spdx"]), "format"),
    ..NodeSpec::new(
        "sbom",
        "Attach a bill of materials to the pushed image: CycloneDX 1.6 if no format is given, or SPDX 2.3.",
    )
};

pub(super) const IMAGE: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "name"),
    many: true,
    props: &[
        PropSpec::required("registry", Type::Decl("registry"), "registry it lives in"),
        PropSpec::new(
            "repository",
            Type::Text,
            "repository in the registry; the image's name if absent",
        ),
    ],
    children: &[&TAG, &ALIAS, &FROM, &IMMUTABLE, &SBOM],
    ..NodeSpec::new(
        "image",
        "An image by the name stages use, its registry, and its repository if that is called differently: \
         `image app registry=main \"shop/app\"`.",
    )
};

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its registry.
    pub registry: Option<Spanned<String>>,
    /// Its repository.
    pub repository: Template,
    /// Its identity.
    pub tag: ImageTag,
    /// Tags that are moved along.
    pub aliases: Vec<Template>,
    /// Its tag is never overwritten.
    pub immutable: bool,
    /// Formats of the bills of materials that are attached to it.
    pub sbom: Vec<String>,
}

/// Where an image's tag comes from.
#[derive(Clone, Debug)]
pub enum ImageTag {
    /// Written in the pipeline file.
    Tag(Template),
    /// Read from a file of the commit.
    File {
        /// The file.
        path: Template,
        /// The key, if the file holds `KEY=value` lines.
        key: Option<String>,
    },
}

impl Image {
    pub(super) fn lower(
        cx: &DeclContext<'_>,
        broken: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let node = cx.node;
        let repository = match (cx.rest, node.prop("repository")) {
            (Some(value), _) | (None, Some(value)) => cx.template(value),
            (None, None) => Template::text(cx.name, node.name.span),
        };
        let tag = node.child_arg("tag").map(|value| cx.template(value));
        let from = node.child("from");
        if !broken && tag.is_some() == from.is_some() {
            diagnostics.push(
                Diagnostic::error(
                    "PW0054",
                    match tag {
                        Some(_) => format!("image `{}` has a tag and a file it is read from", cx.name),
                        None => format!("image `{}` has no tag", cx.name),
                    },
                    &node.source,
                    node.head(),
                )
                .help("give it exactly one identity: `tag \"${git.sha}\"`, or `from \"FILE\" key=KEY`"),
            );
        }
        let tag = match (tag, from) {
            (Some(tag), _) => ImageTag::Tag(tag),
            (None, Some(from)) => ImageTag::File {
                path: from
                    .args
                    .first()
                    .map_or_else(|| Template::text("", from.span), |value| cx.template(value)),
                key: from
                    .prop("key")
                    .and_then(|value| value.as_str())
                    .map(str::to_owned),
            },
            (None, None) => ImageTag::Tag(Template::text("latest", node.name.span)),
        };
        Self {
            registry: cx.prop("registry"),
            repository,
            tag,
            aliases: node
                .child("alias")
                .map(|alias| alias.args.iter().map(|value| cx.template(value)).collect())
                .unwrap_or_default(),
            immutable: node.flag("immutable"),
            sbom: node.child("sbom").map(formats).unwrap_or_default(),
        }
    }

    /// Every template of the declaration.
    pub fn templates(&self) -> Vec<&Template> {
        let mut all = vec![&self.repository];
        match &self.tag {
            ImageTag::Tag(tag) => all.push(tag),
            ImageTag::File { path, .. } => all.push(path),
        }
        all.extend(&self.aliases);
        all
    }
}

/// The formats that `sbom` names, each once.
fn formats(sbom: &Node) -> Vec<String> {
    let words = sbom.args.iter().filter_map(|value| value.as_str());
    let mut formats: Vec<String> = words.map(str::to_owned).collect();
    formats.sort();
    formats.dedup();
    if formats.is_empty() {
        formats.push("cyclonedx".to_owned());
    }
    formats
}
