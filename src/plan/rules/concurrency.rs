//! A group on a pipeline and on one of its own stages: the stage would wait for its own run.

use super::{Context, Rule};
use crate::base::Diagnostic;

pub(super) const RULE: Rule = Rule {
    name: "concurrency",
    doc: "a stage waits for a group that its own run holds",
    check,
};

fn check(cx: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for checked in &cx.pipelines {
        let Some(own) = &checked.pipeline.concurrency else {
            continue;
        };
        for entry in &checked.pipeline.stages {
            let Some(group) = &entry.common.concurrency else {
                continue;
            };
            if group.group.value == own.group.value {
                diagnostics.push(
                    Diagnostic::error(
                        "PW0052",
                        format!(
                            "`{}` would wait for its own run, which holds group `{}`",
                            entry.id, own.group.value
                        ),
                        &entry.source,
                        group.group.span,
                    )
                    .label(
                        &checked.pipeline.source,
                        own.group.span,
                        "the pipeline holds it here",
                    )
                    .help("keep the group on the pipeline, or on the stage"),
                );
            }
        }
    }
}
