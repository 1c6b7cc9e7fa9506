//! The nodes of `run`.

use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};

pub(super) const SCRIPT: NodeSpec = NodeSpec::field(
    "script",
    Type::Script,
    "Shell script, run by `bash -euo pipefail`, or `sh -eu` where there is no bash. `${…}` is the shell's own.",
);
pub(super) const COMMAND: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "argument"),
    ..NodeSpec::new("command", "Program and arguments, run without a shell.")
};
pub(super) const CONTAINER: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "image"),
    props: &[
        PropSpec::new("user", Type::Text, "user to run as"),
        PropSpec::new(
            "network",
            Type::OneOf(&["bridge", "none", "host"]),
            "network; `bridge` if absent",
        ),
        PropSpec::new("memory", Type::Size, "memory limit"),
    ],
    ..NodeSpec::new("container", "Image to run in; on the host if absent.")
};
pub(in crate::stage) const ENV: NodeSpec = NodeSpec {
    args: Args::fixed(&[
        ArgSpec::new("name", Type::Literal),
        ArgSpec::new("value", Type::SecretText),
    ]),
    many: true,
    ..NodeSpec::new("env", "Environment variable.")
};
pub(super) const READY: NodeSpec = NodeSpec::field(
    "ready",
    Type::Script,
    "Command, run in the service's container, that succeeds once it is ready.",
);
pub(super) const SERVICE_TIMEOUT: NodeSpec = NodeSpec::field(
    "timeout",
    Type::Duration,
    "Longest wait until it is ready; \"1m\" if absent.",
);
pub(super) const SERVICE_COMMAND: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "argument"),
    ..NodeSpec::new("command", "Replaces the image's command.")
};
pub(super) const SERVICE: NodeSpec = NodeSpec {
    args: Args::some(Type::Name, "name"),
    many: true,
    props: &[PropSpec::required(
        "image",
        Type::Text,
        "image of the service",
    )],
    children: &[&ENV, &READY, &SERVICE_TIMEOUT, &SERVICE_COMMAND],
    ..NodeSpec::new(
        "service",
        "Container that runs beside the script and is reached by its name.",
    )
};
pub(super) const AXIS: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "value"),
    many: true,
    ..NodeSpec::new("axis", "Values of one axis, read as `${matrix.AXIS}`.")
};
pub(super) const MATRIX: NodeSpec = NodeSpec {
    any_child: Some(&AXIS),
    ..NodeSpec::new(
        "matrix",
        "Runs once for every combination of its axes' values.",
    )
};
pub(super) const HASH: NodeSpec = NodeSpec {
    args: Args::some(Type::Glob, "path"),
    ..NodeSpec::new(
        "hash",
        "Files of the working directory, at the start, whose content tells versions of a cache in a bucket apart. \
         Without the very version the newest is taken.",
    )
};
pub(super) const FALLBACK: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "key"),
    ..NodeSpec::new(
        "fallback",
        "Keys of other caches to start from, in this order, if the bucket has none under its own key.",
    )
};
pub(super) const CACHE: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "path"),
    many: true,
    props: &[
        PropSpec::new(
            "key",
            Type::Text,
            "name under which it is kept; the path if absent",
        ),
        PropSpec::new(
            "bucket",
            Type::Decl("bucket"),
            "bucket where it is kept too, for machines that have none of it",
        ),
    ],
    children: &[&HASH, &FALLBACK],
    ..NodeSpec::new(
        "cache",
        "Directories kept from run to run: absolute in a container, relative on the host.",
    )
};
pub(super) const PRODUCES: NodeSpec = NodeSpec {
    args: Args::some(Type::Glob, "path"),
    props: &[PropSpec::new(
        "bucket",
        Type::Decl("bucket"),
        "bucket where they are kept too; outputs `archive` and `archive-digest` say where",
    )],
    ..NodeSpec::new("produces", "Files kept for stages that `uses` this one.")
};
pub(super) const OUTPUT: NodeSpec = NodeSpec {
    args: Args::one(Type::Name, "name"),
    many: true,
    props: &[
        PropSpec::required("from", Type::Literal, "file the value is read from"),
        PropSpec::new(
            "match",
            Type::Regex,
            "expression whose first group is the value; the whole file, trimmed, if absent",
        ),
    ],
    ..NodeSpec::new(
        "output",
        "A value left to other stages, read as `${run.NAME.OUTPUT}`.",
    )
};
pub(super) const FINALLY: NodeSpec = NodeSpec::new(
    "finally",
    "Run once everything else has ended, however it did.",
);
pub(super) const GRACE: NodeSpec = NodeSpec::field(
    "grace",
    Type::Duration,
    "Time between SIGTERM and SIGKILL; \"10s\" if absent.",
);
pub(super) const CHECKOUT: NodeSpec = NodeSpec::field(
    "checkout",
    Type::OneOf(&["commit", "none"]),
    "What the working directory holds at the start: a copy of the commit, or nothing.",
);
