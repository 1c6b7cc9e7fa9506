//! How a bump is written: its nodes, and their lowering.

use std::sync::Arc;

use super::Bump;
use crate::base::Spanned;
use crate::lang::Template;
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};
use crate::stage::{Kind, Lowering, Stage};
use crate::stage_children;

const OPTIONAL: NodeSpec = NodeSpec::new(
    "optional",
    "Leave the edit out if the image it needs was skipped.",
);
const CREATE: NodeSpec = NodeSpec::new("create", "Add the key if it is missing.");
const SET: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("path", Type::Text),
        ArgSpec::new("value", Type::Text),
    ]),
    many: true,
    children: &[&OPTIONAL, &CREATE],
    ..NodeSpec::new(
        "set",
        "Sets the value at a path: `.front.imageTag`, `.containers[0].image`, `.containers[name=app].image`.",
    )
};
const FILE: NodeSpec = NodeSpec {
    args: Args::one(Type::Path, "file"),
    many: true,
    children: &[&SET],
    ..NodeSpec::new(
        "file",
        "A YAML file of the repository to edit. Everything but the values set stays byte for byte.",
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
const CREATE_FLAG: NodeSpec = NodeSpec::new("create", "Add entries that are missing.");
const IMAGE_ENTRY: NodeSpec = NodeSpec {
    args: Args::some(Type::Decl("image"), "image"),
    many: true,
    children: &[&CREATE_FLAG, &OPTIONAL],
    ..NodeSpec::new("image", "Images whose entries follow.")
};
const KUSTOMIZE: NodeSpec = NodeSpec {
    args: Args::one(Type::Path, "directory"),
    many: true,
    children: &[&IMAGE_ENTRY],
    ..NodeSpec::new("kustomize", "A kustomization whose `images:` follow.")
};
const LABEL: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "label"),
    ..NodeSpec::new("label", "Labels of the pull request.")
};
const REVIEWER: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "reviewer"),
    ..NodeSpec::new("reviewer", "Reviewers to ask.")
};
const WAIT: NodeSpec = NodeSpec::field(
    "wait",
    Type::OneOf(&["merged", "checks"]),
    "Wait until it is merged, or its checks passed.",
);
const TITLE: NodeSpec = NodeSpec::field(
    "title",
    Type::Text,
    "Title; the first line of the commit message if absent.",
);
const AUTO_MERGE: NodeSpec = NodeSpec::new(
    "auto-merge",
    "Have the forge merge it once its checks pass.",
);
const PULL_REQUEST: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "branch"),
    children: &[&TITLE, &LABEL, &REVIEWER, &AUTO_MERGE, &WAIT],
    ..NodeSpec::new(
        "pull-request",
        "Commit to a branch of this name and open or update a pull request.",
    )
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

#[derive(Debug)]
pub(super) struct File {
    pub(super) path: Template,
    pub(super) edits: Vec<EditSpec>,
}

#[derive(Debug)]
pub(super) struct EditSpec {
    pub(super) path: Template,
    pub(super) value: Template,
    pub(super) optional: bool,
    pub(super) create: bool,
}

fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    let node = cx.node;
    let repo = node.prop("repo").and_then(|value| cx.name(value));
    let repo = repo.unwrap_or_else(|| Spanned::new(String::new(), node.head()));
    let files: Vec<File> = node
        .children_named("file")
        .filter_map(|file| {
            let edits = file
                .children_named("set")
                .filter_map(|set| match set.args.as_slice() {
                    [path, value] => Some(EditSpec {
                        path: cx.template(path),
                        value: cx.template(value),
                        optional: set.flag("optional"),
                        create: set.flag("create"),
                    }),
                    _ => None,
                })
                .collect();
            Some(File {
                path: cx.template(file.args.first()?),
                edits,
            })
        })
        .collect();
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
    let later: Vec<&'static str> = ["kustomize", "pull-request"]
        .into_iter()
        .filter(|name| node.flag(name))
        .collect();
    let later_templates = ["kustomize", "pull-request"]
        .into_iter()
        .flat_map(|name| node.children_named(name))
        .flat_map(|child| {
            child
                .args
                .iter()
                .chain(child.children.iter().flat_map(|grand| &grand.args))
        })
        .map(|value| cx.template(value))
        .collect();
    if files.is_empty() && !node.flag("kustomize") {
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
        repo,
        source: node.source.clone(),
        files,
        message: cx.child_template(node, "commit"),
        co_authors,
        sign_off: commit.is_some_and(|commit| commit.flag("sign-off")),
        allow_downgrade: node.flag("allow-downgrade"),
        later,
        later_templates,
    })
}
