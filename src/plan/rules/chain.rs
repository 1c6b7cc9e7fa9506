//! Chained pipelines: unknown ones, and circles.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, Rule};
use crate::base::Diagnostic;
use crate::lang::suggest::suggest;
use crate::pipeline::Trigger;

pub(super) const RULE: Rule = Rule {
    name: "chain",
    doc: "a pipeline is chained to one that does not exist, or to itself over others",
    check,
};

fn check(cx: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let mut follows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pipeline in cx.project.pipelines.values() {
        for trigger in pipeline.upstreams() {
            let Trigger::Pipeline { name, .. } = &trigger.value else {
                continue;
            };
            if cx.project.pipelines.contains_key(&name.value) {
                follows
                    .entry(&name.value)
                    .or_default()
                    .push(&pipeline.name.value);
                continue;
            }
            let names = cx.project.pipelines.keys().map(String::as_str);
            diagnostics.push(
                Diagnostic::error(
                    "PW0045",
                    format!("there is no pipeline `{}`", name.value),
                    &pipeline.source,
                    name.span,
                )
                .help(match suggest(&name.value, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "name a pipeline of this project".to_owned(),
                }),
            );
        }
    }
    let mut reported: BTreeSet<&str> = BTreeSet::new();
    for start in follows.keys() {
        if reported.contains(start) {
            continue;
        }
        let Some(path) = circle(start, &follows) else {
            continue;
        };
        reported.extend(path.iter().copied());
        let Some(pipeline) = cx.project.pipelines.get(*start) else {
            continue;
        };
        diagnostics.push(
            Diagnostic::error(
                "PW0051",
                format!(
                    "pipelines start each other without end: {} → {start}",
                    path.join(" → ")
                ),
                &pipeline.source,
                pipeline.name.span,
            )
            .help("take one of the `on { pipeline … }` out"),
        );
    }
}

/// The way from a pipeline back to itself, if there is one.
fn circle<'a>(start: &'a str, follows: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut open = vec![start];
    while let Some(at) = open.pop() {
        for next in follows.get(at).into_iter().flatten() {
            if *next == start {
                let mut path = vec![at];
                let mut here = at;
                while here != start {
                    here = before.get(here)?;
                    path.push(here);
                }
                path.reverse();
                return Some(path);
            }
            if !before.contains_key(next) {
                before.insert(next, at);
                open.push(next);
            }
        }
    }
    None
}
