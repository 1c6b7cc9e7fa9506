//! Stages that wait for each other.

use super::{Context, Rule};
use crate::base::Diagnostic;

pub(super) const RULE: Rule = Rule {
    name: "cycle",
    doc: "stages wait for each other in a circle",
    check,
};

fn check(cx: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for checked in &cx.pipelines {
        let Some(cycle) = checked.graph.cycle() else {
            continue;
        };
        let stages = &checked.pipeline.stages;
        let Some(first) = cycle.first().map(|at| &stages[*at]) else {
            continue;
        };
        let mut path: Vec<&str> = cycle.iter().map(|at| stages[*at].id.as_str()).collect();
        path.push(first.id.as_str());
        let mut diagnostic = Diagnostic::error(
            "PW0050",
            format!("stages wait for each other: {}", path.join(" → ")),
            &first.source,
            first.span,
        )
        .help("take one of the references or `needs` out; an effect waits for all that is written above it, so order matters");
        for at in cycle.iter().skip(1).take(10) {
            let entry = &stages[*at];
            diagnostic = diagnostic.label(&entry.source, entry.span, "part of the circle");
        }
        diagnostics.push(diagnostic);
    }
}
