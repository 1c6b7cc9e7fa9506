//! What may be wrong with pipelines that fit their specifications: one rule, one file.

mod availability;
mod body;
mod chain;
mod concurrency;
mod cycle;
mod expressions;
mod needs;
mod references;
mod triggers;

use super::graph::{Dangling, Graph};
use crate::base::{Diagnostic, StageId};
use crate::pipeline::{Pipeline, Project};
use std::collections::BTreeMap;

/// A rule: what it looks for, and the function that looks.
pub struct Rule {
    /// Name, for suppression lists and the reference.
    pub name: &'static str,
    /// What it finds, in a sentence.
    pub doc: &'static str,
    check: fn(&Context<'_>, &mut Vec<Diagnostic>),
}

/// Every rule, in the order findings of one place are listed.
pub const RULES: &[&Rule] = &[
    &references::RULE,
    &needs::RULE,
    &body::RULE,
    &expressions::RULE,
    &availability::RULE,
    &cycle::RULE,
    &chain::RULE,
    &concurrency::RULE,
    &triggers::RULE,
];

/// What a rule looks at.
pub struct Context<'a> {
    project: &'a Project,
    pipelines: Vec<Checked<'a>>,
}

struct Checked<'a> {
    pipeline: &'a Pipeline,
    index: BTreeMap<StageId, usize>,
    graph: Graph,
    dangling: Vec<Dangling>,
}

/// Checks a project against every rule.
pub fn check(project: &Project) -> Vec<Diagnostic> {
    let pipelines = project
        .pipelines
        .values()
        .map(|pipeline| {
            let (graph, dangling) = Graph::build(&pipeline.stages, &pipeline.decls);
            Checked {
                pipeline,
                index: pipeline.index(),
                graph,
                dangling,
            }
        })
        .collect();
    let context = Context { project, pipelines };
    let mut diagnostics = Vec::new();
    for rule in RULES {
        (rule.check)(&context, &mut diagnostics);
    }
    dedup(&mut diagnostics);
    diagnostics
}

/// Members of a family share their text, so their findings are the same.
fn dedup(diagnostics: &mut Vec<Diagnostic>) {
    let mut seen = std::collections::HashSet::new();
    diagnostics.retain(|d| {
        seen.insert((
            d.code,
            d.source.name().to_owned(),
            d.span,
            d.message.clone(),
        ))
    });
}
