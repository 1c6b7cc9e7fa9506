//! Stages that are named and do not exist.

use super::{Context, Rule};
use crate::base::Diagnostic;
use crate::lang::suggest::suggest;

pub(super) const RULE: Rule = Rule {
    name: "needs",
    doc: "a stage is named that does not exist",
    check,
};

fn check(cx: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for checked in &cx.pipelines {
        for dangling in &checked.dangling {
            let entry = &checked.pipeline.stages[dangling.stage];
            let names = checked.index.keys().map(|id| id.as_str());
            let help = match suggest(&dangling.what, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None if !dangling.what.contains('.') => {
                    "name a stage as `kind.name`, or a kind that has stages here for all of it"
                        .to_owned()
                }
                None => "stages are named `kind.name`; name one of this pipeline".to_owned(),
            };
            diagnostics.push(
                Diagnostic::error(
                    "PW0042",
                    format!(
                        "there is no stage `{}` in pipeline `{}`",
                        dangling.what, checked.pipeline.name.value
                    ),
                    &entry.source,
                    dangling.span,
                )
                .help(help),
            );
        }
    }
}
