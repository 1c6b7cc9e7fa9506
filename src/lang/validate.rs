//! Holds a node against its specification: unknown names, missing and surplus parts, types.
//!
//! After this, lowering may take the shape of a node for granted and skip what does not fit.

use super::spec::{NodeSpec, PropSpec, Type};
use super::suggest::suggest;
use super::template::is_name;
use super::{Binding, Node, Template, Value, ValueKind};
use crate::base::{Applicability, Diagnostic, parse_duration, parse_size};

/// Reports everything in which a node and its children differ from a specification.
pub fn validate(node: &Node, spec: &'static NodeSpec, diagnostics: &mut Vec<Diagnostic>) {
    // Templates are parsed here only to be judged; which member is at hand does not matter.
    let matrix: Vec<(String, String)> = node
        .child("matrix")
        .map(|matrix| {
            matrix
                .children
                .iter()
                .map(|axis| (axis.name.value.clone(), String::new()))
                .collect()
        })
        .unwrap_or_default();
    let binding = Binding {
        name: Some("name"),
        matrix: &matrix,
    };
    Validation {
        binding,
        diagnostics,
    }
    .node(node, spec);
}

struct Validation<'a> {
    binding: Binding<'a>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Validation<'_> {
    fn node(&mut self, node: &Node, spec: &'static NodeSpec) {
        self.arguments(node, spec);
        self.properties(node, spec);
        self.children(node, spec);
    }

    fn arguments(&mut self, node: &Node, spec: &NodeSpec) {
        for (index, value) in node.args.iter().enumerate() {
            match spec.args.at(index) {
                Some(arg) => self.check_type(node, value, arg.ty),
                None => self.diagnostics.push(
                    Diagnostic::error(
                        "PW0014",
                        format!("`{}` takes {}", spec.name, count_of(spec)),
                        &node.source,
                        value.span,
                    )
                    .help("remove it, or put a text with spaces into quotes"),
                ),
            }
        }
        let fixed_needed = spec.args.required;
        let needed = if spec.args.rest.is_some() {
            spec.args.fixed.len() * usize::from(spec.args.rest_min > 0) + spec.args.rest_min
        } else {
            fixed_needed
        };
        let needed = needed.max(fixed_needed);
        if node.args.len() < needed
            && let Some(arg) = spec.args.at(node.args.len())
        {
            self.diagnostics.push(
                Diagnostic::error(
                    "PW0013",
                    format!("`{}` lacks its {}", spec.name, arg.name),
                    &node.source,
                    node.head(),
                )
                .help(format!("write {} after `{}`", arg.ty.describe(), spec.name)),
            );
        }
    }

    fn properties(&mut self, node: &Node, spec: &NodeSpec) {
        for (index, prop) in node.props.iter().enumerate() {
            let name = &prop.name;
            if let Some(first) = node.props[..index]
                .iter()
                .find(|other| other.name.value == name.value)
            {
                self.diagnostics.push(
                    Diagnostic::error(
                        "PW0012",
                        format!("property `{}` is given twice", name.value),
                        &node.source,
                        name.span.to(prop.value.span),
                    )
                    .label(&node.source, first.name.span, "first given here")
                    .help("keep one of the two"),
                );
                continue;
            }
            match spec.props.iter().find(|known| known.name == name.value) {
                Some(known) => self.check_type(node, &prop.value, known.ty),
                None => self.diagnostics.push(unknown_property(node, spec, prop)),
            }
        }
        for prop in spec.props.iter().filter(|prop| prop.required) {
            if node.prop(prop.name).is_none() {
                self.diagnostics.push(
                    Diagnostic::error(
                        "PW0018",
                        format!("`{}` lacks the property `{}`", spec.name, prop.name),
                        &node.source,
                        node.head(),
                    )
                    .help(format!("write `{}={}` ({})", prop.name, "…", prop.doc)),
                );
            }
        }
    }

    fn children(&mut self, node: &Node, spec: &'static NodeSpec) {
        for (index, child) in node.children.iter().enumerate() {
            let name = &child.name;
            let known = spec.child(&name.value).or(spec.any_child);
            let Some(known) = known else {
                self.diagnostics.push(unknown_child(
                    child,
                    &format!("`{}`", spec.name),
                    &child_names(spec),
                ));
                continue;
            };
            let many = known.many || (spec.any_child.is_some_and(|any| std::ptr::eq(any, known)));
            if !many
                && let Some(first) = node.children[..index]
                    .iter()
                    .find(|other| other.name.value == name.value)
            {
                self.diagnostics.push(
                    Diagnostic::error(
                        "PW0016",
                        format!("`{}` stands twice in `{}`", name.value, spec.name),
                        &node.source,
                        child.head(),
                    )
                    .label(&node.source, first.head(), "first here")
                    .help("keep one of the two"),
                );
            }
            self.node(child, known);
        }
        for known in spec.children.iter().filter(|child| child.required) {
            if node.child(known.name).is_none() {
                self.diagnostics.push(
                    Diagnostic::error(
                        "PW0017",
                        format!("`{}` lacks `{}`", spec.name, known.name),
                        &node.source,
                        node.head(),
                    )
                    .help(format!("add `{}`: {}", known.name, known.doc)),
                );
            }
        }
    }
}

fn count_of(spec: &NodeSpec) -> String {
    match spec.args.fixed.len() + usize::from(spec.args.rest.is_some()) {
        0 => "no argument".to_owned(),
        1 => "one argument".to_owned(),
        more => format!("{more} arguments"),
    }
}

fn unknown_property(node: &Node, spec: &NodeSpec, prop: &super::Prop) -> Diagnostic {
    let name = &prop.name;
    let diagnostic = Diagnostic::error(
        "PW0011",
        format!("`{}` has no property `{}`", spec.name, name.value),
        &node.source,
        name.span,
    );
    if let Some(child) = spec.child(&name.value) {
        return diagnostic.help(format!(
            "`{}` is a child of `{}`: write it inside the braces",
            child.name, spec.name
        ));
    }
    let names: Vec<&str> = spec.props.iter().map(|prop: &PropSpec| prop.name).collect();
    match suggest(&name.value, names.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(
            format!("rename to `{near}`"),
            Applicability::Safe,
            name.span,
            near,
        ),
        None if names.is_empty() => {
            diagnostic.help("it has no properties; fields are children, inside the braces")
        }
        None => diagnostic.help(format!("its properties are {}", names.join(", "))),
    }
}

fn child_names(spec: &NodeSpec) -> Vec<&'static str> {
    spec.children.iter().map(|child| child.name).collect()
}

/// The finding for a node that its parent, as it is called in the message, does not know.
pub fn unknown_child(child: &Node, parent: &str, names: &[&str]) -> Diagnostic {
    let name = &child.name;
    let diagnostic = Diagnostic::error(
        "PW0010",
        format!("{parent} has no `{}`", name.value),
        &child.source,
        name.span,
    );
    match suggest(&name.value, names.iter().copied()) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")).fix(
            format!("rename to `{near}`"),
            Applicability::Safe,
            name.span,
            near,
        ),
        None if names.is_empty() => {
            diagnostic.help("nothing may stand inside it; remove the braces")
        }
        None => diagnostic.help(format!("it may hold {}", names.join(", "))),
    }
}

impl Validation<'_> {
    fn check_type(&mut self, node: &Node, value: &Value, ty: Type) {
        if let Err((message, help)) = fits(value, ty) {
            let mut diagnostic =
                Diagnostic::error("PW0015", message, &node.source, value.span).help(help);
            if matches!(value.kind, ValueKind::Integer(_) | ValueKind::Float(_))
                && !matches!(ty, Type::Int(_))
            {
                diagnostic = diagnostic.fix(
                    "put it into quotes",
                    Applicability::Safe,
                    value.span,
                    format!("\"{}\"", value.raw),
                );
            }
            self.diagnostics.push(diagnostic);
            return;
        }
        match ty {
            Type::Text | Type::SecretText | Type::Path => {
                let (template, mut problems) = Template::parse(&node.source, value, self.binding);
                self.diagnostics.append(&mut problems);
                if ty != Type::SecretText
                    && let Some(secret) = template.secret()
                {
                    self.diagnostics.push(
                        Diagnostic::error(
                            "PW0032",
                            format!(
                                "secret `{}` cannot go into `{}`",
                                secret.value, node.name.value
                            ),
                            &node.source,
                            secret.span,
                        )
                        .note("this text is shown and stored")
                        .help(
                            "pass secrets through `env`, a build `secret`, a `token` or a `header`",
                        ),
                    );
                }
            }
            Type::Script => script(node, value, self.diagnostics),
            _ => {}
        }
    }
}

/// Scripts never interpolate; a reference in one is bound through the environment instead.
fn script(node: &Node, value: &Value, diagnostics: &mut Vec<Diagnostic>) {
    let Some(text) = value.as_str() else { return };
    let mut rest = text;
    let mut occurrence = 0;
    while let Some(at) = rest.find("${") {
        let place = value.place_of("${", occurrence);
        occurrence += 1;
        let Some(end) = rest[at..].find('}') else {
            break;
        };
        let inner = &rest[at + 2..at + end];
        if super::Reference::parse(inner).is_ok() {
            let variable: String = inner
                .chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() {
                        c.to_ascii_uppercase()
                    } else {
                        '_'
                    }
                })
                .collect();
            let whole = &rest[at..=at + end];
            let span = value.stretch(place, whole);
            let diagnostic =
                Diagnostic::error(
                    "PW0033",
                    format!("`${{{inner}}}` is not replaced in a script"),
                    &node.source,
                    span,
                )
                .note("a value from outside could become a command here")
                .help(format!(
                    "add `env {variable} \"${{{inner}}}\"` beside the script and write `\"${{{variable}}}\"` in it"
                ));
            // Behind escapes it is not known what an edit would replace.
            diagnostics.push(if span.end - span.start == whole.len() {
                diagnostic.fix(
                    format!("read it from ${variable}"),
                    Applicability::Unsafe,
                    span,
                    format!("${{{variable}}}"),
                )
            } else {
                diagnostic
            });
        }
        rest = &rest[at + end + 1..];
    }
}

fn fits(value: &Value, ty: Type) -> Result<(), (String, String)> {
    let wrong = || {
        Err((
            format!(
                "{} was expected here, this is {}",
                ty.describe(),
                value.describe()
            ),
            match value.kind {
                ValueKind::Integer(_) | ValueKind::Float(_) => {
                    format!("put it into quotes: `\"{}\"`", value.raw)
                }
                _ => format!("write {}", ty.describe()),
            },
        ))
    };
    if let Type::Int(max) = ty {
        return match value.kind {
            ValueKind::Integer(number) if number >= 0 && number <= i128::from(max) => Ok(()),
            ValueKind::Integer(_) => Err((
                format!("{} is out of range", value.raw),
                format!("write a number from 0 to {max}"),
            )),
            _ => Err((
                format!(
                    "a whole number was expected here, this is {}",
                    value.describe()
                ),
                "write it without quotes".to_owned(),
            )),
        };
    }
    let Some(text) = value.as_str() else {
        return wrong();
    };
    let bad = |message: String, help: &str| Err((message, help.to_owned()));
    match ty {
        Type::Name | Type::Decl(_) if !is_name(text) => bad(
            format!("\"{text}\" is not a name"),
            "names are made of letters, digits, `-` and `_`",
        ),
        Type::Duration if parse_duration(text).is_none() => bad(
            format!("\"{text}\" is not a duration"),
            "write a number and a unit: \"500ms\", \"30s\", \"10m\", \"1h30m\", \"2d\"",
        ),
        Type::Size if parse_size(text).is_none() => bad(
            format!("\"{text}\" is not a size"),
            "write a number and a unit: \"100B\", \"64KiB\", \"512MiB\", \"10GB\"",
        ),
        Type::OneOf(words) if !words.contains(&text) => {
            let help = match suggest(text, words.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("it is one of {}", words.join(", ")),
            };
            Err((format!("\"{text}\" is not known here"), help))
        }
        Type::Glob => match globset::GlobBuilder::new(text.trim_start_matches('!'))
            .literal_separator(true)
            .build()
        {
            Ok(_) => Ok(()),
            Err(error) => bad(
                format!("\"{text}\" is not a glob pattern: {}", error.kind()),
                "patterns use `*`, `**`, `?`, `[a-z]` and `{a,b}`",
            ),
        },
        Type::Regex => match regex::RegexBuilder::new(text).size_limit(1 << 20).build() {
            Ok(_) => Ok(()),
            Err(error) => {
                let last = error.to_string();
                let last = last
                    .lines()
                    .last()
                    .unwrap_or("")
                    .trim_start_matches("error: ")
                    .to_owned();
                bad(
                    format!("not a regular expression: {last}"),
                    "write it as a raw string, `#\"…\"#`, so that backslashes stand for themselves",
                )
            }
        },
        Type::Date if jiff::civil::Date::strptime("%Y-%m-%d", text).is_err() => bad(
            format!("\"{text}\" is not a date"),
            "write it as \"2027-01-31\"",
        ),
        Type::Literal | Type::Name if text.contains("${") => bad(
            "`${…}` is not replaced here".to_owned(),
            "write the text itself",
        ),
        _ => Ok(()),
    }
}
