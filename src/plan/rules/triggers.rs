//! Two triggers of one pipeline that are the same.

use super::{Context, Rule};
use crate::base::Diagnostic;
use crate::pipeline::Trigger;

pub(super) const RULE: Rule = Rule {
    name: "triggers",
    doc: "a pipeline has the same trigger twice, or watches an image that is not declared",
    check,
};

fn check(cx: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for checked in &cx.pipelines {
        let pipeline = checked.pipeline;
        for (at, trigger) in pipeline.triggers.iter().enumerate() {
            let same = |other: &&crate::base::Spanned<Trigger>| match (&other.value, &trigger.value)
            {
                (
                    Trigger::Pipeline {
                        name: a,
                        outcome: x,
                    },
                    Trigger::Pipeline {
                        name: b,
                        outcome: y,
                    },
                ) => a.value == b.value && x == y,
                (Trigger::Watch(a), Trigger::Watch(b)) => a.names().eq(b.names()),
                (a, b) => a == b,
            };
            if let Some(first) = pipeline.triggers[..at].iter().find(same) {
                diagnostics.push(
                    Diagnostic::error(
                        "PW0053",
                        format!("trigger `{}` stands twice", trigger.value.describe()),
                        &pipeline.source,
                        trigger.span,
                    )
                    .label(&pipeline.source, first.span, "first here")
                    .help("remove one; a run would start once all the same"),
                );
            }
            if let Trigger::Watch(watch) = &trigger.value {
                for image in &watch.images {
                    crate::decl::require(
                        &pipeline.decls.images,
                        "image",
                        image,
                        &pipeline.source,
                        diagnostics,
                    );
                }
            }
        }
    }
}
