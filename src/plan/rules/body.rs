//! What each kind of stage checks itself.

use super::{Context, Rule};
use crate::base::Diagnostic;
use crate::stage::CheckContext;

pub(super) const RULE: Rule = Rule {
    name: "body",
    doc: "a stage's own fields do not fit together or name nothing",
    check,
};

fn check(cx: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for checked in &cx.pipelines {
        for entry in &checked.pipeline.stages {
            let context = CheckContext {
                id: &entry.id,
                source: &entry.source,
                span: entry.span,
                decls: &checked.pipeline.decls,
                stages: &checked.index,
            };
            entry.body.check(&context, diagnostics);
        }
    }
}
