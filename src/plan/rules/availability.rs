//! Values that not every trigger gives: `git.tag` where a branch may be pushed.

use super::{Context, Rule};
use crate::base::{Diagnostic, Source, Span};
use crate::lang::{GitField, Reference, Template};
use crate::pipeline::{Pipeline, Project, Trigger};

pub(super) const RULE: Rule = Rule {
    name: "availability",
    doc: "a value is read that not every trigger of the pipeline gives",
    check,
};

fn check(cx: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for checked in &cx.pipelines {
        let pipeline = checked.pipeline;
        for entry in &pipeline.stages {
            let mut seen: Vec<(&Source, &Template)> = Vec::new();
            let own = entry
                .body
                .templates()
                .into_iter()
                .chain(entry.body.optional_templates());
            seen.extend(own.map(|template| (&entry.source, template)));
            // The image a stage makes or reads is declared elsewhere, but read here.
            if let Some(image) = pipeline.decls.images.get(entry.id.name())
                && matches!(entry.kind.name(), "build" | "scan" | "push")
            {
                seen.extend(
                    image
                        .value
                        .templates()
                        .into_iter()
                        .map(|template| (&image.source, template)),
                );
            }
            for (source, template) in seen {
                for reference in template.references() {
                    judge(
                        cx.project,
                        pipeline,
                        &reference.value,
                        source,
                        reference.span,
                        diagnostics,
                    );
                }
            }
        }
    }
}

fn judge(
    project: &Project,
    pipeline: &Pipeline,
    reference: &Reference,
    source: &Source,
    span: Span,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let lacking = match reference {
        Reference::Git(field @ (GitField::Tag | GitField::Version | GitField::Branch)) => {
            lacking(project, pipeline, *field, 0)
        }
        Reference::Input(name) => match pipeline.inputs.get(name) {
            Some(input) if input.default.is_none() => pipeline
                .triggers
                .iter()
                .find(|trigger| trigger.value != Trigger::Manual)
                .map(|trigger| trigger.value.describe()),
            _ => None,
        },
        _ => None,
    };
    let Some(trigger) = lacking else { return };
    let help = match reference {
        Reference::Input(name) => format!("give it a default: `input {name} default=\"…\"`"),
        _ => "let every trigger of the pipeline give it, use `git.sha` instead, or split the pipeline in two".to_owned(),
    };
    diagnostics.push(
        Diagnostic::error(
            "PW0044",
            format!(
                "`{reference}` has no value when `{trigger}` starts pipeline `{}`",
                pipeline.name.value
            ),
            source,
            span,
        )
        .help(help),
    );
}

/// A trigger that does not give a field. A person can always choose a ref that does.
fn lacking(
    project: &Project,
    pipeline: &Pipeline,
    field: GitField,
    depth: usize,
) -> Option<String> {
    // Circles of pipelines are another rule's affair.
    if depth > 32 {
        return None;
    }
    pipeline
        .triggers
        .iter()
        .find_map(|trigger| match &trigger.value {
            Trigger::Manual => None,
            // A chained run has its root's ref.
            Trigger::Pipeline { name, .. } => {
                let upstream = project.pipelines.get(&name.value)?;
                lacking(project, upstream, field, depth + 1)
                    .map(|trigger| format!("{trigger}, then pipeline {}", name.value))
            }
            Trigger::Tag { .. } => (field == GitField::Branch).then(|| trigger.value.describe()),
            _ => (field != GitField::Branch).then(|| trigger.value.describe()),
        })
}
