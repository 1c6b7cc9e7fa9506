//! Nodes of a file that are no declarations and no stages.

use super::watch::WATCH;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::stage::common::CONCURRENCY;

const ROOT: NodeSpec = NodeSpec::field(
    "root",
    Type::Literal,
    "Directory that paths are relative to; the repository's root if absent.",
);

/// `project`.
pub const PROJECT: NodeSpec = NodeSpec {
    children: &[&ROOT],
    ..NodeSpec::new("project", "Facts about the project as a whole.")
};

const PATHS: NodeSpec = NodeSpec {
    args: Args::some(Type::Glob, "path"),
    ..NodeSpec::new("paths", "Only if a path that fits changed; `!` excludes.")
};
const PUSH: NodeSpec = NodeSpec {
    props: &[
        PropSpec::new("branch", Type::Glob, "branches that fit"),
        PropSpec::new("tag", Type::Glob, "tags that fit"),
    ],
    children: &[&PATHS],
    many: true,
    ..NodeSpec::new("push", "A push to a branch, or of a tag.")
};
const PULL_REQUEST: NodeSpec = NodeSpec {
    props: &[PropSpec::new(
        "base",
        Type::Glob,
        "branches it wants to go to",
    )],
    children: &[&PATHS],
    many: true,
    ..NodeSpec::new("pull-request", "A pull request that is opened or updated.")
};
const SCHEDULE: NodeSpec = NodeSpec {
    args: Args::one(Type::Literal, "cron"),
    props: &[PropSpec::new(
        "timezone",
        Type::Literal,
        "time zone, such as \"Asia/Tokyo\"; UTC if absent",
    )],
    many: true,
    ..NodeSpec::new(
        "schedule",
        "Points in time, as five cron fields: minute, hour, day, month, weekday.",
    )
};
const INPUT: NodeSpec = NodeSpec {
    args: Args::one(Type::Name, "name"),
    props: &[
        PropSpec::new(
            "type",
            Type::OneOf(&["string", "bool", "int", "version", "duration"]),
            "its type; `string` if absent",
        ),
        PropSpec::new("default", Type::Literal, "its value if it is not given"),
        PropSpec::new("description", Type::Literal, "what it is for"),
    ],
    many: true,
    ..NodeSpec::new("input", "A value given by hand, read as `${input.NAME}`.")
};
const MANUAL: NodeSpec = NodeSpec {
    children: &[&INPUT],
    ..NodeSpec::new("manual", "A person. Always possible; declares the inputs.")
};
const CHAINED: NodeSpec = NodeSpec {
    args: Args::one(Type::Name, "pipeline"),
    props: &[PropSpec::new(
        "outcome",
        Type::OneOf(&["succeeded", "failed", "any"]),
        "how it must have ended; `succeeded` if absent, which includes up-to-date",
    )],
    many: true,
    ..NodeSpec::new(
        "pipeline",
        "The end of another pipeline's run, at the same commit.",
    )
};
/// `on`.
pub const ON: NodeSpec = NodeSpec {
    children: &[&PUSH, &PULL_REQUEST, &SCHEDULE, &MANUAL, &CHAINED, &WATCH],
    ..NodeSpec::new("on", "What starts the pipeline, beside a person.")
};

/// `pipeline`, without its stages and declarations, which have tables of their own.
pub const PIPELINE: NodeSpec = NodeSpec {
    args: Args::one(Type::Name, "name"),
    children: &[&ON, &CONCURRENCY],
    many: true,
    ..NodeSpec::new(
        "pipeline",
        "How a commit becomes a running release: stages and what starts them.",
    )
};
