//! The node of `scan` in the language.

use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::scan::gate::Otherwise;
use crate::stage_children;

const RATINGS: &[&str] = &["low", "medium", "high", "critical"];

const OFFLINE: NodeSpec = NodeSpec::new(
    "offline",
    "Ask nothing of the network: the scanner's database must be there.",
);
const SCANNER: NodeSpec = NodeSpec {
    args: Args::one(Type::OneOf(&["trivy", "grype", "builtin"]), "scanner"),
    props: &[
        PropSpec::new(
            "image",
            Type::Literal,
            "image to run it from, pinned by digest (`name@sha256:…`); the program on the path if absent",
        ),
        PropSpec::new(
            "database",
            Type::Text,
            "directory of its database, an absolute path; its own default if absent",
        ),
    ],
    children: &[&OFFLINE],
    ..NodeSpec::new(
        "scanner",
        "Scanner to use. If absent, Trivy if it is on the path, else the built-in one.",
    )
};
const FAIL_ON: NodeSpec = NodeSpec::field(
    "fail-on",
    Type::OneOf(RATINGS),
    "Lowest severity that fails; `high` if absent.",
);
const IGNORE_UNFIXED: NodeSpec = NodeSpec::new(
    "ignore-unfixed",
    "Leave out findings that no version fixes yet.",
);
const IGNORE: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "advisory"),
    props: &[
        PropSpec::new(
            "until",
            Type::Date,
            "last day it is ignored; afterwards the stage fails and says so",
        ),
        PropSpec::new("reason", Type::Literal, "why it is ignored"),
    ],
    many: true,
    ..NodeSpec::new("ignore", "Advisories to leave out.")
};
const RESCAN: NodeSpec = NodeSpec::new("rescan", "Scan also what is in the registry already.");
const VEX: NodeSpec = NodeSpec {
    args: Args::some(Type::Path, "file"),
    many: true,
    ..NodeSpec::new(
        "vex",
        "OpenVEX files of the commit that say what does not apply.",
    )
};
const ONLY_NEW: NodeSpec = NodeSpec::new(
    "only-new",
    "Fail only on what the last successful run of the branch did not have. Without one everything counts.",
);
const MAX_DB_AGE: NodeSpec = NodeSpec {
    args: Args::one(Type::Duration, "age"),
    props: &[PropSpec::new(
        "otherwise",
        Type::OneOf(Otherwise::WORDS),
        "what an older or missing database means: the stage is errored (`error`, the default), fails, warns, or says so in its log (`ignore`)",
    )],
    ..NodeSpec::new("max-db-age", "Oldest advisory database accepted.")
};
const NOT_COVERED: NodeSpec = NodeSpec::field(
    "not-covered",
    Type::OneOf(Otherwise::WORDS),
    "What it means that the image has packages the scanner does not read; `error` if absent.",
);

/// The node.
pub(super) const SPEC: NodeSpec = NodeSpec {
    args: Args::some(Type::Name, "image"),
    many: true,
    children: stage_children![
        &SCANNER,
        &FAIL_ON,
        &IGNORE_UNFIXED,
        &IGNORE,
        &VEX,
        &ONLY_NEW,
        &MAX_DB_AGE,
        &NOT_COVERED,
        &RESCAN
    ],
    ..NodeSpec::new(
        "scan",
        "Scans built images for known vulnerabilities and gates their push.",
    )
};
