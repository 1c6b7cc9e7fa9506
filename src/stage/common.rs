//! Fields every kind of stage has: `needs`, `when`, `retry`, `timeout`, `allow-failure`,
//! `concurrency`.

use std::time::Duration;

use super::Lowering;
use crate::base::{Source, Span, Spanned, parse_duration};
use crate::event::Outcome;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, expr};

/// `needs`.
pub const NEEDS: NodeSpec = NodeSpec {
    args: Args::some(Type::Stage, "stage"),
    props: &[PropSpec::new(
        "skipped",
        Type::OneOf(&["satisfies", "propagate"]),
        "whether a skipped stage satisfies (the default) or skips this one too",
    )],
    ..NodeSpec::new(
        "needs",
        "Stages this one waits for, `kind.name`, or a kind for all of it. Replaces the safe default of effects.",
    )
};

const BRANCH: NodeSpec = NodeSpec {
    args: Args::some(Type::Glob, "branch"),
    ..NodeSpec::new(
        "branch",
        "The run is on a branch that fits one of these patterns.",
    )
};
const TAG: NodeSpec = NodeSpec {
    args: Args::some(Type::Glob, "tag"),
    ..NodeSpec::new(
        "tag",
        "The run is for a tag that fits one of these patterns.",
    )
};
const CHANGED: NodeSpec = NodeSpec {
    args: Args::some(Type::Glob, "path"),
    ..NodeSpec::new(
        "changed",
        "A path that fits changed since the last successful run on this branch. `!` excludes.",
    )
};
const EXPR: NodeSpec = NodeSpec::field("expr", Type::Expr, "An expression that must hold.");
const OUTCOME: NodeSpec = NodeSpec {
    args: Args::some(
        Type::OneOf(&[
            "succeeded",
            "up-to-date",
            "skipped",
            "failed",
            "errored",
            "timed-out",
            "cancelled",
        ]),
        "outcome",
    ),
    ..NodeSpec::new(
        "outcome",
        "The run so far has one of these outcomes (`notify` and `finally`).",
    )
};

/// `when`.
pub const WHEN: NodeSpec = NodeSpec {
    children: &[&BRANCH, &TAG, &CHANGED, &EXPR, &OUTCOME],
    ..NodeSpec::new(
        "when",
        "Conditions: arguments are ORed, children are ANDed. If they do not hold, the stage is skipped.",
    )
};

const BACKOFF: NodeSpec = NodeSpec::field(
    "backoff",
    Type::Duration,
    "Wait before the second try; doubles with each.",
);
const ON: NodeSpec = NodeSpec {
    args: Args::some(Type::OneOf(&["errored", "timed-out", "failed"]), "outcome"),
    ..NodeSpec::new(
        "on",
        "Outcomes worth another try; `errored` and `timed-out` if absent.",
    )
};

/// `retry`.
pub const RETRY: NodeSpec = NodeSpec {
    args: Args::one(Type::Int(100), "tries"),
    children: &[&BACKOFF, &ON],
    ..NodeSpec::new("retry", "How often it is tried in all.")
};

/// `timeout`.
pub const TIMEOUT: NodeSpec =
    NodeSpec::field("timeout", Type::Duration, "Longest time of one attempt.");

/// `allow-failure`.
pub const ALLOW_FAILURE: NodeSpec = NodeSpec::new(
    "allow-failure",
    "Its failure is a visible warning and satisfies whoever waits for it.",
);

/// `concurrency`.
pub const CONCURRENCY: NodeSpec = NodeSpec {
    args: Args::one(Type::Name, "group"),
    props: &[
        PropSpec::new(
            "limit",
            Type::Int(1000),
            "how many may be in the group at once; 1 if absent",
        ),
        PropSpec::new(
            "mode",
            Type::OneOf(&["queue", "latest", "cancel"]),
            "who waits: all in order (default), only the newest, or nobody, the running one being cancelled",
        ),
    ],
    ..NodeSpec::new(
        "concurrency",
        "A group of which only so many run at once, across runs.",
    )
};

/// Children of a kind: its own and the common ones.
#[macro_export]
macro_rules! stage_children {
    ($($own:expr),* $(,)?) => {
        &[
            $($own,)*
            &$crate::stage::common::NEEDS,
            &$crate::stage::common::WHEN,
            &$crate::stage::common::RETRY,
            &$crate::stage::common::TIMEOUT,
            &$crate::stage::common::ALLOW_FAILURE,
            &$crate::stage::common::CONCURRENCY,
        ]
    };
}

/// The fields every stage has.
#[derive(Clone, Debug, Default)]
pub struct Common {
    /// Stages it waits for, if it says so: they replace the safe default.
    pub needs: Option<Needs>,
    /// Its conditions.
    pub when: Option<When>,
    /// How often it is tried.
    pub retry: Retries,
    /// Longest time of one attempt.
    pub timeout: Option<Duration>,
    /// Its failure does not count.
    pub allow_failure: bool,
    /// The group it belongs to.
    pub concurrency: Option<Concurrency>,
    /// It runs once everything else has ended.
    pub finally: bool,
}

/// `needs`.
#[derive(Clone, Debug)]
pub struct Needs {
    /// `kind.name` or `kind`.
    pub stages: Vec<Spanned<String>>,
    /// A skipped one skips this one.
    pub propagate: bool,
}

/// `when`.
#[derive(Clone, Debug)]
pub struct When {
    /// Where it stands.
    pub span: Span,
    /// Branch patterns; any may fit.
    pub branches: Vec<String>,
    /// Tag patterns; any may fit.
    pub tags: Vec<String>,
    /// Path patterns.
    pub changed: Vec<String>,
    /// The expression.
    pub expr: Option<expr::Expr>,
    /// Outcomes; any may be.
    pub outcomes: Vec<Outcome>,
}

/// `retry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Tries in all, at least 1.
    pub tries: u32,
    /// Wait before the second.
    pub backoff: Duration,
    /// Outcomes worth another try.
    pub on: Vec<Outcome>,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            tries: 1,
            backoff: Duration::from_secs(2),
            on: vec![Outcome::Errored, Outcome::TimedOut],
        }
    }
}

/// `concurrency`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concurrency {
    /// The group.
    pub group: Spanned<String>,
    /// Places in it.
    pub limit: u32,
    /// Who waits.
    pub mode: Mode,
}

/// What happens to those who find a group full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All wait, in order.
    Queue,
    /// Only the newest waits.
    Latest,
    /// The running one is cancelled.
    Cancel,
}

impl Common {
    /// Lowers the common fields of a member.
    pub fn lower(cx: &mut Lowering<'_>) -> Self {
        let node = cx.node;
        Self {
            needs: node.child("needs").map(|needs| Needs {
                stages: needs
                    .args
                    .iter()
                    .filter_map(|value| cx.name(value))
                    .collect(),
                propagate: needs.prop("skipped").and_then(|value| value.as_str())
                    == Some("propagate"),
            }),
            when: node.child("when").map(|when| When::lower(when, cx)),
            retry: node.child("retry").map(retries).unwrap_or_default(),
            timeout: duration(node, "timeout"),
            allow_failure: node.flag("allow-failure"),
            concurrency: node.child("concurrency").and_then(concurrency),
            finally: node.flag("finally"),
        }
    }
}

impl When {
    fn lower(node: &Node, cx: &mut Lowering<'_>) -> Self {
        let words = |name: &str| -> Vec<String> {
            node.child(name)
                .map(|child| {
                    child
                        .args
                        .iter()
                        .filter_map(|value| {
                            // `${name}` is the member's: a condition is judged for each of a family.
                            let text = cx.name(value).map(|name| name.value);
                            text.or_else(|| value.as_str().map(str::to_owned))
                        })
                        .collect()
                })
                .unwrap_or_default()
        };
        let (branches, tags, changed) = (words("branch"), words("tag"), words("changed"));
        let outcomes = words("outcome");
        let expr = node
            .child_arg("expr")
            .and_then(|value| parse_expr(&cx.node.source, value, cx.diagnostics));
        Self {
            span: node.span,
            branches,
            tags,
            changed,
            expr,
            outcomes: outcomes
                .iter()
                .filter_map(|word| word.parse().ok())
                .collect(),
        }
    }
}

fn parse_expr(
    source: &Source,
    value: &crate::lang::Value,
    diagnostics: &mut Vec<crate::base::Diagnostic>,
) -> Option<expr::Expr> {
    let text = value.as_str()?;
    let place = match value.find(text, 0) {
        Some(span) => expr::Place::At(span.start),
        None => expr::Place::Within(value.span),
    };
    match expr::parse(source, place, text) {
        Ok(expr) => Some(expr),
        Err(problems) => {
            diagnostics.extend(problems);
            None
        }
    }
}

fn retries(node: &Node) -> Retries {
    let default = Retries::default();
    let tries = match node.args.first().map(|value| &value.kind) {
        Some(crate::lang::ValueKind::Integer(tries)) => u32::try_from(*tries).unwrap_or(1).max(1),
        _ => 1,
    };
    let mut on: Vec<Outcome> = node
        .child("on")
        .map(|on| {
            on.args
                .iter()
                .filter_map(|value| value.as_str()?.parse().ok())
                .collect()
        })
        .unwrap_or_default();
    if on.is_empty() {
        on = default.on;
    }
    Retries {
        tries,
        backoff: duration(node, "backoff").unwrap_or(default.backoff),
        on,
    }
}

/// Lowers `concurrency`.
pub fn concurrency(node: &Node) -> Option<Concurrency> {
    let limit = match node.prop("limit").map(|value| &value.kind) {
        Some(crate::lang::ValueKind::Integer(limit)) => u32::try_from(*limit).unwrap_or(1).max(1),
        _ => 1,
    };
    Some(Concurrency {
        group: node.args.first()?.spanned()?,
        limit,
        mode: match node.prop("mode").and_then(|value| value.as_str()) {
            Some("latest") => Mode::Latest,
            Some("cancel") => Mode::Cancel,
            _ => Mode::Queue,
        },
    })
}

/// The duration of a child.
pub fn duration(node: &Node, name: &str) -> Option<Duration> {
    parse_duration(node.child_arg(name)?.as_str()?)
}
