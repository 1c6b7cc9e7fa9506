//! How a bump is written: its nodes, and their lowering.

use std::sync::Arc;

use super::Bump;
use super::pull_request::{PULL_REQUEST, PullSpec};
use crate::base::Spanned;
use crate::decl::ForgeDecl;
use crate::formats::manifest::Format;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template};
use crate::stage::{Kind, Lowering, Stage};
use crate::stage_children;

const OPTIONAL: NodeSpec = NodeSpec::new(
    "optional",
    "Leave the edit out if the image it needs was skipped.",
);
const CREATE: NodeSpec = NodeSpec::new("create", "Add the key if it is missing.");
const LITERAL: NodeSpec = NodeSpec::new(
    "literal",
    "Write a number, `true`, `false` or `null` as such, not as a string.",
);
const PINNED: NodeSpec = NodeSpec::new(
    "pinned",
    "Write the digest too, beside the tag where there is one.",
);
const SET: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("path", Type::Text),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    children: &[&OPTIONAL, &CREATE, &LITERAL],
    ..NodeSpec::new(
        "set",
        "Sets the value at a path: `.front.imageTag`, `.containers[0].image`, `.containers[name=app].image`, and `kind=Deployment/name=front:.spec.replicas` where a file holds several documents.",
    )
};
const IMAGE: NodeSpec = NodeSpec {
    args: Args::some(Type::Decl("image"), "image"),
    props: &[
        PropSpec::new(
            "at",
            Type::Text,
            "path of the one place: a reference, or a mapping with `repository` (or `name`, `image`) and `tag`, or with `spec`, as charts have it",
        ),
        PropSpec::new(
            "container",
            Type::Text,
            "name of the container, where its image may be of another repository",
        ),
    ],
    many: true,
    children: &[&PINNED, &OPTIONAL],
    ..NodeSpec::new(
        "image",
        "Writes the version of images wherever the file names their repository: a key `image` in YAML, `FROM` in a Dockerfile.",
    )
};
const MATCH: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("pattern", Type::Regex),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    children: &[&OPTIONAL],
    ..NodeSpec::new(
        "match",
        "Replaces what the group of a regular expression captures, or the whole match without one. It must match exactly once; `^` and `$` are the ends of lines.",
    )
};
const MARKER: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("name", Type::Text),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    children: &[&OPTIONAL],
    ..NodeSpec::new(
        "marker",
        "Replaces the value before the comment `pipewright: NAME` in its line.",
    )
};
const FILE: NodeSpec = NodeSpec {
    args: Args::one(Type::Path, "file"),
    props: &[PropSpec::new(
        "format",
        Type::OneOf(Format::NAMES),
        "how it is written; by its name if absent",
    )],
    many: true,
    children: &[&SET, &IMAGE, &MATCH, &MARKER],
    ..NodeSpec::new(
        "file",
        "A file of the repository to edit. Everything but the values set stays byte for byte.",
    )
};
const CO_AUTHOR: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "name"),
    props: &[PropSpec::required("email", Type::Text, "their address")],
    many: true,
    ..NodeSpec::new("co-author", "Name somebody as a `Co-authored-by`.")
};
const SIGN_OFF: NodeSpec = NodeSpec::new(
    "sign-off",
    "End the message with a `Signed-off-by` of the repository's identity.",
);
const COMMIT: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "message"),
    children: &[&CO_AUTHOR, &SIGN_OFF],
    ..NodeSpec::new("commit", "Commit message.")
};
const CREATE_FLAG: NodeSpec = NodeSpec::new(
    "create",
    "Add entries that are missing, and keys that entries lack.",
);
const IMAGE_ENTRY: NodeSpec = NodeSpec {
    args: Args::some(Type::Decl("image"), "image"),
    props: &[PropSpec::new(
        "name",
        Type::Text,
        "`name` of the entry; the one of the image's repository, or called as the image is here, if absent",
    )],
    many: true,
    children: &[&CREATE_FLAG, &PINNED, &OPTIONAL],
    ..NodeSpec::new("image", "Images whose entries follow.")
};
const KUSTOMIZE: NodeSpec = NodeSpec {
    args: Args::one(Type::Path, "directory"),
    many: true,
    children: &[&IMAGE_ENTRY],
    ..NodeSpec::new("kustomize", "A kustomization whose `images:` follow.")
};
const ALLOW_DOWNGRADE: NodeSpec = NodeSpec::new(
    "allow-downgrade",
    "Allow to write an older version than is there.",
);

/// The kind.
pub const KIND: Kind = Kind {
    spec: &NodeSpec {
        args: Args::some(Type::Name, "name"),
        many: true,
        props: &[PropSpec::required(
            "repo",
            Type::Decl("repo"),
            "repository to write to",
        )],
        children: stage_children![&FILE, &KUSTOMIZE, &COMMIT, &PULL_REQUEST, &ALLOW_DOWNGRADE],
        ..NodeSpec::new(
            "bump",
            "Edits manifests in a git repository and commits them. No change, no commit.",
        )
    },
    effect: true,
    outputs: &[
        ("commit", "the commit that holds the values"),
        ("changed", "`true` if a commit was made"),
        ("pull-request", "address of the pull request"),
    ],
    lower,
};

/// A file, or the kustomization of a directory.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: Template,
    pub(super) kustomization: bool,
    pub(super) format: Option<Format>,
    pub(super) edits: Vec<EditSpec>,
}

/// One edit as it is written.
#[derive(Debug)]
pub(super) struct EditSpec {
    pub(super) what: What,
    pub(super) optional: bool,
}

#[derive(Debug)]
pub(super) enum What {
    Set {
        path: Template,
        value: Template,
        literal: bool,
        create: bool,
    },
    Image {
        image: Spanned<String>,
        at: Option<Template>,
        container: Option<Template>,
        pinned: bool,
    },
    Entry {
        image: Spanned<String>,
        name: Option<Template>,
        pinned: bool,
        create: bool,
    },
    Match {
        pattern: Spanned<String>,
        value: Template,
    },
    Marker {
        name: Template,
        value: Template,
    },
}

impl EditSpec {
    /// Its templates.
    pub(super) fn templates(&self) -> Vec<&Template> {
        match &self.what {
            What::Set { path, value, .. } => vec![path, value],
            What::Image { at, container, .. } => at.iter().chain(container).collect(),
            What::Entry { name, .. } => name.iter().collect(),
            What::Match { value, .. } => vec![value],
            What::Marker { name, value } => vec![name, value],
        }
    }

    /// The image it writes, if it names one.
    pub(super) fn image(&self) -> Option<&Spanned<String>> {
        match &self.what {
            What::Image { image, .. } | What::Entry { image, .. } => Some(image),
            _ => None,
        }
    }
}

/// The edits of one child of `file` or `kustomize`: several if it names several images.
fn edits(cx: &mut Lowering<'_>, node: &Node, kustomization: bool) -> Vec<EditSpec> {
    let property = |cx: &Lowering<'_>, name: &str| node.prop(name).map(|it| cx.template(it));
    let pair = |cx: &Lowering<'_>| match node.args.as_slice() {
        [first, second] => Some((cx.template(first), cx.template(second))),
        _ => None,
    };
    let all: Vec<What> = match node.name.value.as_str() {
        "set" => pair(cx)
            .map(|(path, value)| What::Set {
                path,
                value,
                literal: node.flag("literal"),
                create: node.flag("create"),
            })
            .into_iter()
            .collect(),
        "match" => match node.args.as_slice() {
            [pattern, value] => pattern
                .spanned()
                .map(|pattern| What::Match {
                    pattern,
                    value: cx.template(value),
                })
                .into_iter()
                .collect(),
            _ => Vec::new(),
        },
        "marker" => pair(cx)
            .map(|(name, value)| What::Marker { name, value })
            .into_iter()
            .collect(),
        "image" => {
            let several = node.args.len() > 1;
            for name in ["at", "container", "name"] {
                if let Some(value) = node.prop(name).filter(|_| several) {
                    cx.error(
                        "PW0019",
                        format!("`{name}` names one place, but there are several images"),
                        value.span,
                        "write an `image` of its own for each",
                    );
                }
            }
            if let (Some(_), Some(value)) = (node.prop("at"), node.prop("container")) {
                cx.error(
                    "PW0019",
                    "`at` and `container` exclude each other",
                    value.span,
                    "leave one of them out",
                );
            }
            let images = node.args.iter().filter_map(|arg| cx.name(arg));
            images
                .map(|image| match kustomization {
                    true => What::Entry {
                        image,
                        name: property(cx, "name"),
                        pinned: node.flag("pinned"),
                        create: node.flag("create"),
                    },
                    false => What::Image {
                        image,
                        at: property(cx, "at"),
                        container: property(cx, "container"),
                        pinned: node.flag("pinned"),
                    },
                })
                .collect()
        }
        _ => Vec::new(),
    };
    let optional = node.flag("optional");
    all.into_iter()
        .map(|what| EditSpec { what, optional })
        .collect()
}

fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let node = cx.node;
    let repo = node.prop("repo").and_then(|value| cx.name(value));
    let repo = repo.unwrap_or_else(|| Spanned::new(String::new(), node.head()));
    let mut files = Vec::new();
    for child in &node.children {
        let kustomization = child.name.value == "kustomize";
        if !kustomization && child.name.value != "file" {
            continue;
        }
        let Some(path) = child.args.first() else {
            continue;
        };
        let format = child.prop("format").and_then(|format| format.as_str());
        let mut all = Vec::new();
        for edit in &child.children {
            all.extend(edits(cx, edit, kustomization));
        }
        files.push(File {
            path: cx.template(path),
            kustomization,
            format: format.and_then(Format::named),
            edits: all,
        });
    }
    let commit = node.child("commit");
    let co_authors = commit
        .into_iter()
        .flat_map(|commit| commit.children_named("co-author"))
        .filter_map(|author| {
            Some((
                cx.template(author.args.first()?),
                cx.template(author.prop("email")?),
            ))
        })
        .collect();
    if files.iter().all(|file| file.edits.is_empty()) {
        cx.error(
            "PW0017",
            "`bump` edits nothing",
            node.head(),
            "add `file \"values.yaml\" { set \".path\" \"value\" }`",
        );
    }
    Arc::new(Bump {
        declared: cx
            .decls
            .repos
            .get(&repo.value)
            .map(|decl| decl.value.clone()),
        source: node.source.clone(),
        files,
        message: cx.child_template(node, "commit"),
        co_authors,
        sign_off: commit.is_some_and(|commit| commit.flag("sign-off")),
        allow_downgrade: node.flag("allow-downgrade"),
        pull: node
            .child("pull-request")
            .and_then(|pull| PullSpec::lower(cx, pull)),
        forge: declared_forge(cx, &repo.value),
        repo,
    })
}

/// The forge of a repository.
fn declared_forge(cx: &Lowering<'_>, repo: &str) -> Option<ForgeDecl> {
    let name = cx.decls.repos.get(repo)?.value.forge.as_ref()?;
    Some(cx.decls.forges.get(&name.value)?.value.clone())
}
