//! Files to a [`Project`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::spec::{ON, PIPELINE, PROJECT};
use super::{Input, Pipeline, Project, StageEntry, Trigger};
use crate::base::{Diagnostic, Source, Span, Spanned, StageId};
use crate::decl::{self, Decls};
use crate::lang::spec::{Args, NodeSpec};
use crate::lang::{Document, Node, parse, unknown_child, validate};
use crate::stage::common::concurrency;
use crate::stage::{self, Common, Kind, Lowering};

/// Most instances one matrix may have.
const MAX_INSTANCES: usize = 1024;

/// Parses and lowers all files of a project and reports every problem.
pub fn load(sources: Vec<Source>) -> (Project, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut documents = Vec::with_capacity(sources.len());
    for source in &sources {
        let (document, mut problems) = parse(source);
        diagnostics.append(&mut problems);
        documents.push(document);
    }
    let mut project = Project {
        sources,
        ..Project::default()
    };
    let mut decls = Decls::default();
    let mut nodes = Vec::new();
    for node in documents
        .iter()
        .flat_map(|document: &Document| &document.nodes)
    {
        match node.name.value.as_str() {
            "pipeline" => nodes.push(node),
            "project" => {
                validate(node, &PROJECT, &mut diagnostics);
                project.root = node
                    .child_arg("root")
                    .and_then(|value| value.as_str())
                    .map(str::to_owned);
            }
            name if decl::spec(name).is_some() => decls.add(node, &mut diagnostics),
            _ => diagnostics.push(top_level(node)),
        }
    }
    decls.check(&mut diagnostics);
    project.decls = Arc::new(decls);
    for node in nodes {
        let pipeline = pipeline(node, &project.decls, &mut diagnostics);
        let name = pipeline.name.clone();
        // One without a name was looked at for what else is wrong in it.
        if name.value.is_empty() {
            continue;
        }
        if let Some(first) = project.pipelines.get(&name.value) {
            diagnostics.push(decl::duplicate(
                "pipeline",
                &name,
                &node.source,
                &first.source,
                first.name.span,
            ));
            continue;
        }
        project.pipelines.insert(name.value, pipeline);
    }
    (project, diagnostics)
}

fn top_level(node: &Node) -> Diagnostic {
    if stage::kind(&node.name.value).is_some() {
        return Diagnostic::error(
            "PW0010",
            format!("stage `{}` stands outside a pipeline", node.name.value),
            &node.source,
            node.head(),
        )
        .help("put it inside `pipeline NAME { … }`");
    }
    let mut names: Vec<&str> = decl::SPECS.iter().map(|spec| spec.name).collect();
    names.extend(["pipeline", "project"]);
    unknown_child(node, "a pipeline file", &names)
}

fn pipeline(node: &Node, globals: &Arc<Decls>, diagnostics: &mut Vec<Diagnostic>) -> Pipeline {
    head(node, diagnostics);
    let name = node.args.first().and_then(|name| name.spanned());
    let name = name.unwrap_or_else(|| Spanned::new(String::new(), node.head()));
    let mut own: Option<Decls> = None;
    let mut stages = Vec::new();
    let mut fields: HashMap<&str, Span> = HashMap::new();
    for child in &node.children {
        let word = child.name.value.as_str();
        if let Some(field) = PIPELINE.child(word) {
            if let Some(first) = fields.insert(field.name, child.head()) {
                diagnostics.push(
                    Diagnostic::error(
                        "PW0016",
                        format!("`{word}` stands twice in `pipeline`"),
                        &node.source,
                        child.head(),
                    )
                    .label(&node.source, first, "first here")
                    .help("put everything into one of the two"),
                );
                continue;
            }
            validate(child, field, diagnostics);
        } else if decl::spec(word).is_some() {
            own.get_or_insert_with(|| (**globals).clone())
                .add(child, diagnostics);
        } else if let Some(kind) = stage::kind(word) {
            stages.push((child, kind));
        } else {
            let kinds = stage::KINDS.iter().map(|kind| kind.name());
            let fields = PIPELINE.children.iter().map(|field| field.name);
            let decls = decl::SPECS.iter().map(|spec| spec.name);
            let names: Vec<&str> = kinds.chain(fields).chain(decls).collect();
            diagnostics.push(unknown_child(child, "`pipeline`", &names));
        }
    }
    if let Some(own) = &own {
        own.check(diagnostics);
    }
    let decls = own.map_or_else(|| globals.clone(), Arc::new);
    let on = node.child("on");
    let triggers = on
        .map(|on| {
            on.children
                .iter()
                .filter(|child| ON.child(&child.name.value).is_some())
        })
        .into_iter()
        .flatten()
        .flat_map(|child| Trigger::lower(child, diagnostics))
        .collect();
    let manual = on.and_then(|on| on.child("manual"));
    let inputs = manual
        .map(|manual| manual.children_named("input"))
        .into_iter()
        .flatten()
        .filter_map(|input| {
            let name = input.args.first()?.as_str()?.to_owned();
            Some((name, Input::lower(input, diagnostics)))
        })
        .collect();
    let mut entries = Entries::default();
    for (child, kind) in stages {
        entries.add(child, kind, &decls, diagnostics);
    }
    Pipeline {
        name,
        source: node.source.clone(),
        triggers,
        inputs,
        concurrency: node.child("concurrency").and_then(concurrency),
        decls,
        stages: entries.stages,
    }
}

/// Checks a pipeline's own arguments and properties; its children are looked at one by one.
fn head(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let bare = node.clone_head();
    static HEAD: NodeSpec = NodeSpec {
        args: Args::one(crate::lang::spec::Type::Name, "name"),
        ..NodeSpec::new("pipeline", "")
    };
    validate(&bare, &HEAD, diagnostics);
}

#[derive(Default)]
struct Entries {
    stages: Vec<StageEntry>,
    seen: BTreeMap<StageId, (Source, Span)>,
}

impl Entries {
    fn add(
        &mut self,
        node: &Node,
        kind: &'static Kind,
        decls: &Decls,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        validate(node, kind.spec, diagnostics);
        for value in &node.args {
            let Some(member) = value.spanned() else {
                continue;
            };
            let id = StageId::new(kind.name(), &member.value);
            if let Some((source, span)) = self.seen.get(&id) {
                let name = member.clone().map(|_| id.to_string());
                diagnostics.push(decl::duplicate("stage", &name, &node.source, source, *span));
                continue;
            }
            self.seen
                .insert(id.clone(), (node.source.clone(), member.span));
            self.member(node, kind, &id, &member, decls, diagnostics);
        }
    }

    fn member(
        &mut self,
        node: &Node,
        kind: &'static Kind,
        id: &StageId,
        member: &Spanned<String>,
        decls: &Decls,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let instances = instances(node, diagnostics);
        let single = instances.is_empty();
        let instances = if single { vec![Vec::new()] } else { instances };
        for (at, matrix) in instances.iter().enumerate() {
            // Problems of a family or a matrix are the same for every member: report them once.
            let mut ignored = Vec::new();
            let first = at == 0 && node.args.first().is_some_and(|arg| arg.span == member.span);
            let mut cx = Lowering {
                node,
                member: &member.value,
                matrix,
                decls,
                diagnostics: if first { diagnostics } else { &mut ignored },
            };
            let body = (kind.lower)(&mut cx);
            let common = Common::lower(&mut cx);
            let name = if single {
                id.clone()
            } else {
                let values: Vec<String> = matrix
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                StageId::from(format!("{id}[{}]", values.join(",")).as_str())
            };
            self.stages.push(StageEntry {
                id: name,
                kind,
                instance_of: (!single).then(|| id.clone()),
                source: node.source.clone(),
                span: node.head(),
                common,
                body,
            });
        }
    }
}

/// Every combination of a matrix's values, first axis slowest.
fn instances(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Vec<Vec<(String, String)>> {
    let Some(matrix) = node.child("matrix") else {
        return Vec::new();
    };
    let count = matrix.children.iter().try_fold(1usize, |count, axis| {
        count.checked_mul(axis.args.len().max(1))
    });
    if count.is_none_or(|count| count > MAX_INSTANCES) {
        diagnostics.push(
            Diagnostic::error(
                "PW0015",
                format!("the matrix has more than {MAX_INSTANCES} combinations"),
                &node.source,
                matrix.head(),
            )
            .help("split it into several stages, or leave combinations out"),
        );
        return Vec::new();
    }
    let mut all: Vec<Vec<(String, String)>> = vec![Vec::new()];
    for axis in &matrix.children {
        let values: Vec<&str> = axis
            .args
            .iter()
            .filter_map(|value| value.as_str())
            .collect();
        all = all
            .into_iter()
            .flat_map(|row| {
                let key = axis.name.value.clone();
                values.iter().map(move |value| {
                    let mut row = row.clone();
                    row.push((key.clone(), (*value).to_owned()));
                    row
                })
            })
            .collect();
    }
    if matrix.children.is_empty() {
        Vec::new()
    } else {
        all
    }
}
