//! How `deploy { ecs … }` is written, and its lowering.

use std::time::Duration;

use super::Ecs;
use crate::base::{Diagnostic, Spanned};
use crate::lang::spec::{ArgSpec, Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template, Value, ValueKind};
use crate::ports::services::CapacityProvider;
use crate::stage::Lowering;
use crate::stage::common::duration;

const NAME_AND_VALUE: Args = Args::fixed(&[
    ArgSpec::new("name", Type::Literal),
    ArgSpec::new("value", Type::Text),
]);

const TASK_DEFINITION: NodeSpec = NodeSpec {
    props: &[
        PropSpec::new("file", Type::Path, "file of the commit"),
        PropSpec::new("s3", Type::Text, "object in S3: `s3://BUCKET/KEY`"),
    ],
    ..NodeSpec::new(
        "task-definition",
        "Base task definition, as JSON; the one that runs now if absent. Keys that are not set here stay as they are.",
    )
};
const COMMAND: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "argument"),
    ..NodeSpec::new("command", "Command to run.")
};
const TIMEOUT: NodeSpec = NodeSpec::field(
    "timeout",
    Type::Duration,
    "Longest time it may take; \"10m\" if absent.",
);
const ENV: NodeSpec = NodeSpec {
    args: NAME_AND_VALUE,
    many: true,
    ..NodeSpec::new(
        "env",
        "Environment variable. Everybody who may read the task definition sees it.",
    )
};
const BEFORE: NodeSpec = NodeSpec {
    args: Args::one(Type::Name, "name"),
    props: &[PropSpec::required(
        "container",
        Type::Literal,
        "container of the task definition",
    )],
    children: &[&COMMAND, &ENV, &TIMEOUT],
    many: true,
    ..NodeSpec::new(
        "before",
        "One-off task of the new revision that must exit with status 0 before traffic moves, such as a migration.",
    )
};
const SECRET: NodeSpec = NodeSpec {
    args: NAME_AND_VALUE,
    many: true,
    ..NodeSpec::new(
        "secret",
        "Environment variable that ECS fills in: its name, and the ARN (or parameter name) of the value.",
    )
};
const LABEL: NodeSpec = NodeSpec {
    args: NAME_AND_VALUE,
    many: true,
    ..NodeSpec::new("label", "Docker label.")
};
const LOG_OPTION: NodeSpec = NodeSpec {
    args: NAME_AND_VALUE,
    many: true,
    ..NodeSpec::new("log-option", "Option of the container's log driver.")
};
const CONTAINER: NodeSpec = NodeSpec {
    args: Args::one(Type::Literal, "container"),
    props: &[PropSpec::new(
        "image",
        Type::Decl("image"),
        "image to run, by digest; the one in the base if absent",
    )],
    children: &[&ENV, &SECRET, &LABEL, &COMMAND, &LOG_OPTION],
    many: true,
    ..NodeSpec::new(
        "container",
        "Container of the task definition, and what is set in it.",
    )
};
const DESIRED_COUNT: NodeSpec = NodeSpec::field(
    "desired-count",
    Type::Int(10_000),
    "Number of tasks; left alone if absent.",
);
const CAPACITY_PROVIDER: NodeSpec = NodeSpec {
    args: Args::one(Type::Literal, "name"),
    props: &[
        PropSpec::new(
            "weight",
            Type::Int(1000),
            "its share of the tasks; 1 if absent",
        ),
        PropSpec::new(
            "base",
            Type::Int(100_000),
            "tasks it gets first; 0 if absent",
        ),
    ],
    many: true,
    ..NodeSpec::new(
        "capacity-provider",
        "Where tasks are placed; left alone if absent.",
    )
};
const FORCE: NodeSpec = NodeSpec::new(
    "force",
    "Starts new tasks in every run, also if nothing changed.",
);
const PROPAGATE_TAGS: NodeSpec = NodeSpec::field(
    "propagate-tags",
    Type::OneOf(&["service", "task-definition", "none"]),
    "Whose tags the tasks get; left alone if absent.",
);
const STRATEGY: NodeSpec = NodeSpec {
    args: Args::one(
        Type::OneOf(&["rolling", "blue-green", "codedeploy"]),
        "strategy",
    ),
    props: &[
        PropSpec::new("application", Type::Text, "application of CodeDeploy"),
        PropSpec::new("group", Type::Text, "deployment group of CodeDeploy"),
        PropSpec::new(
            "config",
            Type::Text,
            "deployment configuration of CodeDeploy; the group's if absent",
        ),
        PropSpec::new(
            "appspec",
            Type::Path,
            "application specification in which `<TASK_DEFINITION>` stands for the new revision; made from the service's load balancer if absent",
        ),
    ],
    ..NodeSpec::new(
        "strategy",
        "How traffic moves; as the service is set up if absent.",
    )
};
const SCHEDULE: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "rule"),
    props: &[
        PropSpec::new("bus", Type::Text, "event bus; the default one if absent"),
        PropSpec::new(
            "target",
            Type::Text,
            "id of the target; needed if the rule has several",
        ),
    ],
    many: true,
    ..NodeSpec::new(
        "schedule",
        "Rule of EventBridge whose task is moved to the new revision.",
    )
};
const STABLE_WITHIN: NodeSpec = NodeSpec::field(
    "stable-within",
    Type::Duration,
    "Longest wait until the new tasks run and the old ones are gone; \"30m\" if absent.",
);

pub(in crate::stage::deploy) const SPEC: NodeSpec = NodeSpec {
    props: &[
        PropSpec::required("aws", Type::Decl("aws"), "account"),
        PropSpec::required("cluster", Type::Text, "cluster"),
        PropSpec::new(
            "service",
            Type::Text,
            "service; without it only `schedule` is served",
        ),
    ],
    children: &[
        &TASK_DEFINITION,
        &BEFORE,
        &CONTAINER,
        &DESIRED_COUNT,
        &CAPACITY_PROVIDER,
        &FORCE,
        &PROPAGATE_TAGS,
        &STRATEGY,
        &SCHEDULE,
        &STABLE_WITHIN,
    ],
    ..NodeSpec::new("ecs", "A service or scheduled tasks of Amazon ECS.")
};

/// Where the task definition comes from that is changed.
#[derive(Debug)]
pub(super) enum Base {
    /// What runs now.
    Current,
    /// A file of the commit.
    File(Template),
    /// An object in S3.
    Object(Template),
}

/// What is set in a container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) name: Spanned<String>,
    pub(super) image: Option<Spanned<String>>,
    pub(super) env: Vec<(String, Template)>,
    pub(super) secrets: Vec<(String, Template)>,
    pub(super) labels: Vec<(String, Template)>,
    pub(super) command: Vec<Template>,
    pub(super) log_options: Vec<(String, Template)>,
}

/// A one-off task.
#[derive(Debug)]
pub(super) struct Before {
    pub(super) name: String,
    pub(super) container: String,
    pub(super) command: Vec<Template>,
    pub(super) env: Vec<(String, Template)>,
    pub(super) timeout: Duration,
}

/// How traffic moves.
#[derive(Debug)]
pub(super) enum Strategy {
    /// The service's own, by this word of its.
    Own(&'static str),
    /// CodeDeploy's.
    CodeDeploy(CodeDeploy),
}

/// Who moves the traffic at CodeDeploy.
#[derive(Debug)]
pub(super) struct CodeDeploy {
    pub(super) application: Template,
    pub(super) group: Template,
    pub(super) config: Option<Template>,
    pub(super) appspec: Option<Template>,
}

/// A rule that starts a task.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) rule: Template,
    pub(super) bus: Option<Template>,
    pub(super) target: Option<Template>,
}

impl Ecs {
    /// Lowers the `ecs` node of a stage.
    pub(super) fn lower(cx: &mut Lowering<'_>) -> Self {
        let stage = cx.node;
        let head = stage.head();
        let node = stage.child("ecs").unwrap_or(stage);
        let prop = |name: &str| node.prop(name).map(|value| cx.template(value));
        let aws = node.prop("aws").and_then(|value| cx.name(value));
        let ecs = Self {
            aws: aws.unwrap_or_else(|| Spanned::new(String::new(), head)),
            cluster: prop("cluster"),
            service: prop("service"),
            base: base(cx, node),
            containers: node
                .children_named("container")
                .filter_map(|node| container(cx, node))
                .collect(),
            before: node
                .children_named("before")
                .filter_map(|node| before(cx, node))
                .collect(),
            desired: node.child_arg("desired-count").and_then(whole),
            providers: node
                .children_named("capacity-provider")
                .filter_map(provider)
                .collect(),
            force: node.flag("force"),
            propagate: node
                .child_arg("propagate-tags")
                .and_then(|value| value.as_str())
                .map(|word| word.to_uppercase().replace('-', "_")),
            strategy: node.child("strategy").and_then(|node| strategy(cx, node)),
            schedules: node
                .children_named("schedule")
                .filter_map(|node| rule(cx, node))
                .collect(),
            stable_within: duration(node, "stable-within").unwrap_or(Duration::from_secs(1800)),
        };
        refuse(cx, node, &ecs);
        ecs
    }
}

/// What fits the specification and makes no sense all the same.
fn refuse(cx: &mut Lowering<'_>, node: &Node, ecs: &Ecs) {
    let mut say = |code, message: &str, span, help: &str| {
        cx.diagnostics.push(
            Diagnostic::error(code, message.to_owned(), &cx.node.source, span)
                .help(help.to_owned()),
        );
    };
    if ecs.service.is_none() && ecs.schedules.is_empty() {
        say(
            "PW0018",
            "`ecs` deploys to no service and to no schedule",
            node.head(),
            "add `service=NAME`, or `schedule RULE` inside the braces",
        );
    }
    if ecs.service.is_none() {
        for name in [
            "before",
            "desired-count",
            "capacity-provider",
            "force",
            "propagate-tags",
            "strategy",
        ] {
            if let Some(child) = node.child(name) {
                say(
                    "PW0019",
                    &format!("`{name}` is about a service, and there is none"),
                    child.head(),
                    "add `service=NAME` to `ecs`, or remove it",
                );
            }
        }
    }
    if let Some(child) = node.child("task-definition")
        && child.prop("file").is_some()
        && child.prop("s3").is_some()
    {
        say(
            "PW0019",
            "the task definition is a file or an object in S3, not both",
            child.head(),
            "keep one of the two",
        );
    }
    if let Some(child) = node.child("strategy") {
        let codedeploy = child.args.first().and_then(Value::as_str) == Some("codedeploy");
        for (name, needed) in [
            ("application", true),
            ("group", true),
            ("config", false),
            ("appspec", false),
        ] {
            let given = child.prop(name).is_some();
            if codedeploy && needed && !given {
                say(
                    "PW0018",
                    &format!("`strategy codedeploy` lacks its {name}"),
                    child.head(),
                    &format!("add `{name}=NAME`"),
                );
            }
            if !codedeploy && given {
                say(
                    "PW0019",
                    &format!("only `strategy codedeploy` has `{name}`"),
                    child.head(),
                    "remove it, or let CodeDeploy move the traffic",
                );
            }
        }
    }
}

fn base(cx: &Lowering<'_>, node: &Node) -> Base {
    let prop = |name| {
        let value = node.child("task-definition")?.prop(name)?;
        Some(cx.template(value))
    };
    match (prop("file"), prop("s3")) {
        (Some(file), _) => Base::File(file),
        (None, Some(object)) => Base::Object(object),
        (None, None) => Base::Current,
    }
}

fn container(cx: &Lowering<'_>, node: &Node) -> Option<Container> {
    Some(Container {
        name: node.args.first()?.spanned()?,
        image: node.prop("image").and_then(|value| cx.name(value)),
        env: cx.pairs(node, "env"),
        secrets: cx.pairs(node, "secret"),
        labels: cx.pairs(node, "label"),
        command: command(cx, node),
        log_options: cx.pairs(node, "log-option"),
    })
}

fn before(cx: &Lowering<'_>, node: &Node) -> Option<Before> {
    Some(Before {
        name: node.args.first()?.as_str()?.to_owned(),
        container: node.prop("container")?.as_str()?.to_owned(),
        command: command(cx, node),
        env: cx.pairs(node, "env"),
        timeout: duration(node, "timeout").unwrap_or(Duration::from_secs(600)),
    })
}

fn command(cx: &Lowering<'_>, node: &Node) -> Vec<Template> {
    let args = node.child("command").map(|command| command.args.as_slice());
    args.unwrap_or_default()
        .iter()
        .map(|value| cx.template(value))
        .collect()
}

fn strategy(cx: &Lowering<'_>, node: &Node) -> Option<Strategy> {
    let prop = |name| node.prop(name).map(|value| cx.template(value));
    Some(match node.args.first()?.as_str()? {
        "rolling" => Strategy::Own("ROLLING"),
        "blue-green" => Strategy::Own("BLUE_GREEN"),
        _ => Strategy::CodeDeploy(CodeDeploy {
            application: prop("application")?,
            group: prop("group")?,
            config: prop("config"),
            appspec: prop("appspec"),
        }),
    })
}

fn rule(cx: &Lowering<'_>, node: &Node) -> Option<Rule> {
    let prop = |name| node.prop(name).map(|value| cx.template(value));
    Some(Rule {
        rule: cx.template(node.args.first()?),
        bus: prop("bus"),
        target: prop("target"),
    })
}

fn provider(node: &Node) -> Option<CapacityProvider> {
    Some(CapacityProvider {
        name: node.args.first()?.as_str()?.to_owned(),
        weight: node.prop("weight").and_then(whole).unwrap_or(1),
        base: node.prop("base").and_then(whole).unwrap_or(0),
    })
}

fn whole(value: &Value) -> Option<u32> {
    match &value.kind {
        ValueKind::Integer(number) => u32::try_from(*number).ok(),
        _ => None,
    }
}
