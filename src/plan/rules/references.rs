//! References that name nothing: variables, secrets, images, inputs, outputs.

use super::{Checked, Context, Rule};
use crate::base::{Diagnostic, Source, Spanned};
use crate::decl::{require, undeclared};
use crate::lang::{Reference, Template, suggest::suggest};

pub(super) const RULE: Rule = Rule {
    name: "references",
    doc: "a reference names something that is not declared",
    check,
};

fn check(cx: &Context<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for (source, template) in cx.project.decls.templates() {
        for reference in template.references() {
            declared(&cx.project.decls, reference, source, diagnostics);
        }
    }
    for checked in &cx.pipelines {
        let pipeline = checked.pipeline;
        if !std::sync::Arc::ptr_eq(&pipeline.decls, &cx.project.decls) {
            for (source, template) in pipeline.decls.templates() {
                for reference in template.references() {
                    declared(&pipeline.decls, reference, source, diagnostics);
                }
            }
        }
        for entry in &pipeline.stages {
            let templates = entry
                .body
                .templates()
                .into_iter()
                .chain(entry.body.optional_templates());
            for template in templates {
                stage_template(
                    checked,
                    template,
                    &entry.source,
                    entry.is_last(),
                    diagnostics,
                );
            }
        }
    }
}

fn stage_template(
    checked: &Checked<'_>,
    template: &Template,
    source: &Source,
    last: bool,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let pipeline = checked.pipeline;
    for reference in template.references() {
        declared(&pipeline.decls, reference, source, diagnostics);
        match &reference.value {
            Reference::Input(name) if !pipeline.inputs.contains_key(name) => {
                let near = suggest(name, pipeline.inputs.keys().map(String::as_str));
                diagnostics.push(
                    Diagnostic::error("PW0046", format!("input `{name}` is not declared"), source, reference.span).help(
                        match near {
                            Some(near) => format!("did you mean `input.{near}`?"),
                            None => format!("declare it: `on {{ manual {{ input {name} }} }}`"),
                        },
                    ),
                );
            }
            Reference::Output(stage, output) => output_exists(checked, stage, output, source, reference, diagnostics),
            Reference::Upstream(..) if !sole_upstream(checked) => diagnostics.push(
                Diagnostic::error(
                    "PW0047",
                    "`upstream` is only known if another pipeline is the sole trigger",
                    source,
                    reference.span,
                )
                .help("let `on { pipeline NAME }` be the only trigger, or look the value up in its registry or repository"),
            ),
            Reference::Run(crate::lang::RunField::Outcome) if !last => diagnostics.push(
                Diagnostic::error(
                    "PW0047",
                    "`run.outcome` is only known at the end of a run",
                    source,
                    reference.span,
                )
                .help("read it in a `notify`, or in a `run` that says `finally`"),
            ),
            _ => {}
        }
    }
}

fn sole_upstream(checked: &Checked<'_>) -> bool {
    let mut triggers = checked
        .pipeline
        .triggers
        .iter()
        .filter(|trigger| !matches!(trigger.value, crate::pipeline::Trigger::Manual));
    matches!(
        (triggers.next(), triggers.next()),
        (Some(trigger), None) if matches!(trigger.value, crate::pipeline::Trigger::Pipeline { .. })
    )
}

fn output_exists(
    checked: &Checked<'_>,
    stage: &crate::base::StageId,
    output: &str,
    source: &Source,
    reference: &Spanned<Reference>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let pipeline = checked.pipeline;
    if let Some(instance) = pipeline
        .stages
        .iter()
        .find(|entry| entry.instance_of.as_ref() == Some(stage))
    {
        diagnostics.push(
            Diagnostic::error(
                "PW0047",
                format!("outputs of `{stage}` cannot be read: it runs once per matrix value"),
                source,
                reference.span,
            )
            .label(&instance.source, instance.span, "the matrix is here")
            .help("write the value to a file it `produces`, and `uses` that"),
        );
        return;
    }
    let Some(at) = checked.index.get(stage) else {
        return; // Reported by the rule on stages that do not exist.
    };
    let entry = &pipeline.stages[*at];
    let fixed = entry.kind.outputs.iter().map(|(name, _)| *name);
    let own = entry.body.outputs();
    let names: Vec<&str> = fixed.chain(own.iter().map(String::as_str)).collect();
    if let Some(why) = entry.body.withholds(output) {
        diagnostics.push(
            Diagnostic::error(
                "PW0047",
                format!("`{stage}.{output}` is not known when {stage} ends: {why}"),
                source,
                reference.span,
            )
            .label(&entry.source, entry.span, "the stage is here")
            .help("let its pull request `wait merged`"),
        );
        return;
    }
    if !names.contains(&output) {
        diagnostics.push(
            Diagnostic::error(
                "PW0043",
                format!("`{stage}` has no output `{output}`"),
                source,
                reference.span,
            )
            .label(&entry.source, entry.span, "the stage is here")
            .help(match suggest(output, names.iter().copied()) {
                Some(near) => format!("did you mean `{stage}.{near}`?"),
                None if names.is_empty() => {
                    format!("declare it there: `output {output} from=FILE`")
                }
                None => format!("it has {}", names.join(", ")),
            }),
        );
    }
}

fn declared(
    decls: &crate::decl::Decls,
    reference: &Spanned<Reference>,
    source: &Source,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let named = |name: &str| Spanned::new(name.to_owned(), reference.span);
    match &reference.value {
        Reference::Var(name) => require(&decls.vars, "var", &named(name), source, diagnostics),
        Reference::Secret(name) => {
            require(&decls.secrets, "secret", &named(name), source, diagnostics)
        }
        Reference::Image(name, _) if !decls.images.contains_key(name) => {
            let names = decls.images.keys().map(String::as_str);
            diagnostics.push(undeclared("image", &named(name), names, source));
        }
        _ => {}
    }
}
