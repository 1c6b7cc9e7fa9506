//! Expressions: unknown names and wrong types, before a run.

use super::{Context, Rule};
use crate::base::Diagnostic;
use crate::lang::GitField;
use crate::pipeline::Pipeline;
use crate::plan::types::Types;

pub(super) const RULE: Rule = Rule {
    name: "expressions",
    doc: "an expression names something unknown or compares what cannot be compared",
    check,
};

fn check(cx: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for checked in &cx.pipelines {
        for entry in &checked.pipeline.stages {
            let Some(expr) = entry
                .common
                .when
                .as_ref()
                .and_then(|when| when.expr.as_ref())
            else {
                continue;
            };
            let names = names(checked.pipeline);
            let types = Types {
                stages: &checked.pipeline.stages,
                decls: &checked.pipeline.decls,
                inputs: &checked.pipeline.inputs,
            };
            let lookup = |path: &[String]| types.of(path);
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            if let Err(problems) = expr.check(&lookup, &known) {
                diagnostics.extend(problems);
            }
        }
    }
}

/// Names worth suggesting.
fn names(pipeline: &Pipeline) -> Vec<String> {
    let mut names: Vec<String> = GitField::NAMES
        .iter()
        .map(|field| format!("git.{field}"))
        .collect();
    names.extend(pipeline.inputs.keys().map(|name| format!("input.{name}")));
    names.extend(pipeline.decls.vars.keys().map(|name| format!("var.{name}")));
    for entry in &pipeline.stages {
        names.extend(
            entry
                .kind
                .outputs
                .iter()
                .map(|(output, _)| format!("{}.{output}", entry.id)),
        );
        names.extend(
            entry
                .body
                .outputs()
                .iter()
                .map(|output| format!("{}.{output}", entry.id)),
        );
    }
    names
}
