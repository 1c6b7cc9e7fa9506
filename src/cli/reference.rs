//! The reference of the language, as a page and as JSON, made from the tables that the language is
//! read by.
//!
//! Nothing about the language is written here. A test keeps `docs/reference.md` and
//! `schema/pipewright.schema.json` the same as what this makes.

use std::fmt::{self, Write};

use serde_json::{Map, Value, json};

use crate::decl;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::lang::{CODES, GitField, ImageField, RunField};
use crate::pipeline::{PIPELINE, PROJECT};
use crate::plan::rules::RULES;
use crate::stage::{KINDS, Kind, common};

/// Fields every stage has; they are told once.
const COMMON: [&NodeSpec; 6] = [
    &common::NEEDS,
    &common::WHEN,
    &common::RETRY,
    &common::TIMEOUT,
    &common::ALLOW_FAILURE,
    &common::CONCURRENCY,
];

/// Every type, with one of its values where it has several.
const TYPES: [Type; 17] = [
    Type::Name,
    Type::Literal,
    Type::Text,
    Type::SecretText,
    Type::Script,
    Type::Path,
    Type::Duration,
    Type::Size,
    Type::Int(0),
    Type::OneOf(&[]),
    Type::Stage,
    Type::Decl(""),
    Type::Glob,
    Type::Regex,
    Type::Expr,
    Type::Date,
    Type::Constraint,
];

/// The page.
pub fn page() -> String {
    let mut out = String::new();
    write_page(&mut out).expect("a string grows");
    out
}

fn write_page(out: &mut String) -> fmt::Result {
    out.push_str(
        "# Language reference\n\n\
         <!-- Generated from the node tables. `PIPEWRIGHT_BLESS=1 cargo test --test it fresh::` rewrites it. -->\n\n\
         Every node, what it takes and what it means. [The guide](language.md) tells it in reading order.\n\n\
         *Arguments* stand behind the name, *properties* are `name=value`, *children* stand in braces. \
         `…` means several; what may be left out is in `[ ]`.\n\n\
         - [Top level](#top-level)\n\
         - [Declarations](#declarations)\n\
         - [Pipelines](#pipelines)\n\
         - [Fields of every stage](#fields-of-every-stage)\n\
         - [Stages](#stages)\n\
         - [References](#references)\n\
         - [Types](#types)\n\
         - [Diagnostics](#diagnostics)\n\
         - [Rules](#rules)\n\n\
         ## Top level\n\n",
    );
    let declared: Vec<String> = decl::SPECS.iter().map(|spec| link(spec.name)).collect();
    writeln!(
        out,
        "A file holds {}, {} and declarations: {}. All files of a directory are one project; their order does not \
         matter. A declaration may also stand inside a pipeline, for that pipeline alone.\n",
        link(PIPELINE.name),
        link(PROJECT.name),
        declared.join(", ")
    )?;
    section(out, &PROJECT, &[])?;
    out.push_str(
        "## Declarations\n\nSeveral names declare a family: `image app web …` declares two images, and \
         `${name}` is the one at hand. An argument in quotes behind the names is the address or the repository.\n\n",
    );
    for spec in decl::SPECS {
        section(out, spec, &[])?;
    }
    out.push_str("## Pipelines\n\n");
    section(out, &PIPELINE, &[])?;
    out.push_str("## Fields of every stage\n\n");
    for spec in COMMON {
        bullet(out, spec, 0)?;
    }
    out.push_str("\n## Stages\n\nSeveral names are a family: `build app web` is `build.app` and `build.web`.\n\n");
    let common: Vec<&str> = COMMON.iter().map(|spec| spec.name).collect();
    for kind in KINDS {
        section(out, kind.spec, &common)?;
        outputs(out, kind)?;
    }
    references(out)?;
    tables(out)
}

fn link(name: &str) -> String {
    format!("[`{name}`](#{name})")
}

fn section(out: &mut String, spec: &NodeSpec, hidden: &[&str]) -> fmt::Result {
    writeln!(out, "### `{}`\n", spec.name)?;
    writeln!(out, "{}\n", spec.doc)?;
    writeln!(out, "    {}\n", head(spec))?;
    let children: Vec<_> = spec
        .children
        .iter()
        .filter(|child| !hidden.contains(&child.name))
        .collect();
    for prop in spec.props {
        property(out, prop, 0)?;
    }
    for child in &children {
        bullet(out, child, 0)?;
    }
    if !spec.props.is_empty() || !children.is_empty() {
        out.push('\n');
    }
    if !hidden.is_empty() {
        out.push_str("And the [fields of every stage](#fields-of-every-stage).\n\n");
    }
    Ok(())
}

/// How a node is written, in one line.
fn head(spec: &NodeSpec) -> String {
    let mut line = spec.name.to_owned();
    line.push_str(&arguments(&spec.args, |name, _| name.to_uppercase()));
    for prop in spec.props {
        let text = format!("{}={}", prop.name, prop.name.to_uppercase());
        match prop.required {
            true => line.push_str(&format!(" {text}")),
            false => line.push_str(&format!(" [{text}]")),
        }
    }
    if !spec.children.is_empty() || spec.any_child.is_some() {
        line.push_str(" { … }");
    }
    line
}

fn arguments(args: &Args, show: impl Fn(&str, Type) -> String) -> String {
    let mut text = String::new();
    for (at, arg) in args.fixed.iter().enumerate() {
        let shown = show(arg.name, arg.ty);
        match at < args.required {
            true => text.push_str(&format!(" {shown}")),
            false => text.push_str(&format!(" [{shown}]")),
        }
    }
    if let Some(rest) = &args.rest {
        let dots = if rest.single { "" } else { "…" };
        let shown = show(rest.name, rest.ty);
        match args.rest_min {
            0 => text.push_str(&format!(" [{shown}{dots}]")),
            _ => text.push_str(&format!(" {shown}{dots}")),
        }
    }
    text
}

fn bullet(out: &mut String, spec: &NodeSpec, depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    let arguments = arguments(&spec.args, |_, ty| format!("*{}*", ty_text(ty)));
    let marks = [(spec.required, "required"), (spec.many, "several allowed")];
    let marks: Vec<&str> = marks
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, mark)| *mark)
        .collect();
    let marks = match marks.is_empty() {
        true => String::new(),
        false => format!(" ({})", marks.join(", ")),
    };
    writeln!(
        out,
        "{indent}- `{}`{arguments}{marks}: {}",
        spec.name, spec.doc
    )?;
    for prop in spec.props {
        property(out, prop, depth + 1)?;
    }
    for child in spec.children {
        bullet(out, child, depth + 1)?;
    }
    if let Some(any) = spec.any_child {
        let arguments = self::arguments(&any.args, |_, ty| format!("*{}*", ty_text(ty)));
        writeln!(out, "{indent}  - *any name*{arguments}: {}", any.doc)?;
    }
    Ok(())
}

fn property(out: &mut String, prop: &PropSpec, depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    let required = if prop.required { " (required)" } else { "" };
    writeln!(
        out,
        "{indent}- `{}=`*{}*{required}: {}.",
        prop.name,
        ty_text(prop.ty),
        prop.doc
    )
}

fn ty_text(ty: Type) -> String {
    match ty {
        Type::OneOf(words) => words.join(" or "),
        Type::Int(max) => format!("0 to {max}"),
        Type::Decl(what) => format!("name of {what}"),
        other => other
            .describe()
            .trim_start_matches("an ")
            .trim_start_matches("a ")
            .to_owned(),
    }
}

fn outputs(out: &mut String, kind: &Kind) -> fmt::Result {
    let note = match kind.effect {
        true => "It is an effect: without `needs` it waits for everything written above it.",
        false => "It starts as soon as what it uses is there.",
    };
    writeln!(out, "{note}\n")?;
    if kind.outputs.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = kind
        .outputs
        .iter()
        .map(|(name, doc)| format!("- `${{{}.NAME.{name}}}`: {doc}", kind.name()))
        .collect();
    writeln!(out, "Outputs:\n\n{}\n", shown.join("\n"))
}

/// References by what they begin with: the reference and what it stands for.
fn known_references() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let fields = [
        ("git", GitField::DOCS),
        ("image.NAME", ImageField::DOCS),
        ("run", RunField::DOCS),
    ];
    for (namespace, docs) in fields {
        for (name, doc) in docs {
            all.push((format!("{namespace}.{name}"), doc.trim().to_owned()));
        }
    }
    let others = [
        ("var.NAME", "A declared `var`."),
        (
            "secret.NAME",
            "A declared `secret`, where secrets may stand.",
        ),
        ("input.NAME", "An input of the pipeline."),
        ("name", "The member of a family at hand."),
        (
            "matrix.AXIS",
            "The value of an axis of the stage's own `matrix`.",
        ),
        (
            "KIND.NAME.OUTPUT",
            "An output of a stage of the same pipeline.",
        ),
        (
            "upstream.KIND.NAME.OUTPUT",
            "An output of the run this one is chained to, if another pipeline is the sole trigger.",
        ),
    ];
    all.extend(others.map(|(name, doc)| (name.to_owned(), doc.to_owned())));
    all
}

fn references(out: &mut String) -> fmt::Result {
    out.push_str("## References\n\n| `${…}` | stands for |\n|---|---|\n");
    for (name, doc) in known_references() {
        writeln!(out, "| `{name}` | {doc} |")?;
    }
    out.push('\n');
    Ok(())
}

fn tables(out: &mut String) -> fmt::Result {
    out.push_str("## Types\n\n| type | how it is written |\n|---|---|\n");
    for ty in TYPES {
        writeln!(out, "| {} | {} |", ty.describe(), ty.explain())?;
    }
    out.push_str("\n## Diagnostics\n\n| code | meaning |\n|---|---|\n");
    for code in CODES {
        writeln!(out, "| {} | {} |", code.code, code.title)?;
    }
    out.push_str("\n## Rules\n\nWhat `pipewright check` looks for once every file fits the tables above.\n\n");
    out.push_str("| rule | finds that |\n|---|---|\n");
    for rule in RULES {
        writeln!(out, "| {} | {} |", rule.name, rule.doc)?;
    }
    Ok(())
}

/// The tables as JSON, for editors. `docs/schema.md` tells its form.
pub fn schema() -> String {
    let nodes = |specs: &[&NodeSpec]| -> Vec<Value> { specs.iter().copied().map(node).collect() };
    let kinds: Vec<Value> = KINDS
        .iter()
        .map(|kind| {
            let mut value = node(kind.spec);
            value["effect"] = kind.effect.into();
            let outputs = kind.outputs.iter();
            value["outputs"] = outputs
                .map(|(name, doc)| json!({ "name": name, "doc": doc }))
                .collect();
            value
        })
        .collect();
    let types: Map<String, Value> = TYPES
        .iter()
        .map(|ty| {
            let doc = json!({ "title": ty.describe(), "doc": ty.explain() });
            (type_name(*ty).to_owned(), doc)
        })
        .collect();
    let references: Vec<Value> = known_references()
        .into_iter()
        .map(|(name, doc)| json!({ "name": name, "doc": doc }))
        .collect();
    let codes = CODES.iter();
    let codes: Vec<Value> = codes
        .map(|code| json!({ "code": code.code, "title": code.title }))
        .collect();
    let rules = RULES.iter();
    let rules: Vec<Value> = rules
        .map(|rule| json!({ "name": rule.name, "doc": rule.doc }))
        .collect();
    let all = json!({
        "form": 1,
        "top": nodes(&[&PROJECT, &PIPELINE]),
        "declarations": nodes(decl::SPECS),
        "stages": kinds,
        "references": references,
        "types": types,
        "diagnostics": codes,
        "rules": rules,
    });
    format!("{all:#}\n")
}

fn node(spec: &NodeSpec) -> Value {
    let mut arguments: Vec<Value> = Vec::new();
    for (at, arg) in spec.args.fixed.iter().enumerate() {
        let required = at < spec.args.required;
        arguments.push(
            json!({ "name": arg.name, "type": ty(arg.ty), "required": required, "several": false }),
        );
    }
    if let Some(rest) = &spec.args.rest {
        let required = spec.args.rest_min > 0;
        arguments.push(json!({ "name": rest.name, "type": ty(rest.ty), "required": required, "several": !rest.single }));
    }
    let properties = spec.props.iter();
    let properties: Vec<Value> = properties
        .map(|prop| json!({ "name": prop.name, "type": ty(prop.ty), "doc": prop.doc, "required": prop.required }))
        .collect();
    let children = spec.children.iter().copied();
    let mut value = json!({
        "name": spec.name,
        "doc": spec.doc,
        "arguments": arguments,
        "properties": properties,
        "children": children.map(node).collect::<Vec<_>>(),
        "required": spec.required,
        "several": spec.many,
    });
    if let Some(any) = spec.any_child {
        value["any-child"] = node(any);
    }
    value
}

fn ty(ty: Type) -> Value {
    let name = type_name(ty);
    match ty {
        Type::OneOf(words) => json!({ "is": name, "words": words }),
        Type::Int(max) => json!({ "is": name, "max": max }),
        Type::Decl(what) => json!({ "is": name, "of": what.split(" or ").collect::<Vec<_>>() }),
        _ => json!({ "is": name }),
    }
}

const fn type_name(ty: Type) -> &'static str {
    match ty {
        Type::Name => "name",
        Type::Literal => "string",
        Type::Text => "text",
        Type::SecretText => "secret-text",
        Type::Script => "script",
        Type::Path => "path",
        Type::Duration => "duration",
        Type::Size => "size",
        Type::Int(_) => "int",
        Type::OneOf(_) => "word",
        Type::Stage => "stage",
        Type::Decl(_) => "declaration",
        Type::Glob => "glob",
        Type::Regex => "regex",
        Type::Expr => "expression",
        Type::Date => "date",
        Type::Constraint => "constraint",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_shown_as_they_are_written() {
        let spec = |name: &str| decl::spec(name).expect("a declaration");
        assert_eq!(
            head(spec("image")),
            "image NAME… registry=REGISTRY [repository=REPOSITORY] { … }"
        );
        let run = KINDS.iter().find(|kind| kind.name() == "run");
        assert_eq!(head(run.expect("the kind").spec), "run NAME… { … }");
    }

    #[test]
    fn every_node_of_the_tables_is_told() {
        fn names(spec: &NodeSpec, found: &mut Vec<&'static str>) {
            found.push(spec.name);
            for child in spec.children {
                names(child, found);
            }
        }
        let mut found = Vec::new();
        for spec in decl::SPECS.iter().copied().chain([&PIPELINE, &PROJECT]) {
            names(spec, &mut found);
        }
        for kind in KINDS {
            names(kind.spec, &mut found);
        }
        let page = page();
        let schema: Value = serde_json::from_str(&schema()).expect("JSON");
        assert_eq!(schema["stages"].as_array().map(Vec::len), Some(KINDS.len()));
        for name in found {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
}
