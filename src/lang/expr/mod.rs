//! Conditions of pipelines: a small typed language in the manner of CEL, checked before a run.
//!
//! `== != < <= > >= && || ! in`, the methods `startsWith endsWith contains matches size`, and
//! `has(x)`. There is no arithmetic, so that `-` may stand in names; nothing is converted, and
//! nothing but a bool is true or false. A string literal beside a version, duration, image or
//! digest is read as one. A secret can only be asked for with `has`.
//!
//! Nothing here knows which names exist; callers bring their types and values.

mod check;
mod eval;
mod lexer;
mod parser;
mod types;
mod version;

#[cfg(test)]
mod tests;

pub use eval::EvalError;
pub use types::{Type, Value};
pub use version::{Version, VersionError};

use crate::base::{Applicability, Diagnostic, Source, Span};
use check::{Checker, truth};
use eval::Evaluator;
use parser::{Kind, Method, Node};

/// Longest expression that is read, in bytes.
pub const MAX_TEXT: usize = 4 << 10;

/// Codes of the diagnostics.
mod codes {
    /// The text is not an expression.
    pub(super) const SYNTAX: &str = "PW0130";
    /// It is too long or too deep.
    pub(super) const LIMIT: &str = "PW0131";
    /// A name is unknown.
    pub(super) const UNKNOWN: &str = "PW0132";
    /// Types do not go together.
    pub(super) const TYPE: &str = "PW0133";
    /// The whole is not true or false.
    pub(super) const RESULT: &str = "PW0134";
    /// A secret is looked at.
    pub(super) const SECRET: &str = "PW0135";
    /// A literal is not what it stands for.
    pub(super) const LITERAL: &str = "PW0136";
    /// A regular expression cannot be used.
    pub(super) const REGEX: &str = "PW0137";
    /// A function, method or argument is wrong.
    pub(super) const METHOD: &str = "PW0138";
    /// A list is empty or mixed.
    pub(super) const LIST: &str = "PW0139";
}

/// An expression that was read.
#[derive(Clone, Debug)]
pub struct Expr {
    text: String,
    source: Source,
    place: Place,
    root: Node,
}

/// Where an expression stands in its source.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// It is written there as it is, from this byte on.
    At(usize),
    /// It is written with escapes, so that only the whole of it has a place.
    Within(Span),
}

impl From<usize> for Place {
    fn from(start: usize) -> Self {
        Self::At(start)
    }
}

impl Place {
    /// The place of a part.
    fn of(self, part: Span) -> Span {
        match self {
            Self::At(start) => Span::new(part.start + start, part.end + start),
            Self::Within(whole) => whole,
        }
    }
}

/// Reads an expression that stands somewhere in a source.
pub fn parse(
    source: &Source,
    place: impl Into<Place>,
    text: &str,
) -> Result<Expr, Vec<Diagnostic>> {
    let place = place.into();
    let tree = if text.len() > MAX_TEXT {
        Err(Mistake::new(
            codes::LIMIT,
            format!("expression is longer than {MAX_TEXT} bytes"),
            Span::new(0, text.len()),
        ))
    } else if text.trim().is_empty() {
        Err(Mistake::syntax(
            "expression is empty",
            Span::new(0, text.len()),
        ))
    } else {
        parser::parse(text)
    };
    match tree {
        Ok(root) => Ok(Expr {
            text: text.to_owned(),
            source: source.clone(),
            place,
            root,
        }),
        Err(mistake) => Err(vec![mistake.diagnostic(source, place)]),
    }
}

impl Expr {
    /// The expression as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Every name and its place, those in `has` included, in order.
    pub fn references(&self) -> Vec<(Vec<String>, Span)> {
        let mut found = Vec::new();
        self.walk(&self.root, &mut Vec::new(), &mut |name, span, _| {
            found.push((name.to_vec(), span));
        });
        found
    }

    /// The names that must have a value whenever the expression is evaluated: all but those in
    /// `has` and those that a `has` of the same name guards (`has(x) && x == …`).
    pub fn required(&self) -> Vec<(Vec<String>, Span)> {
        let mut found = Vec::new();
        self.walk(&self.root, &mut Vec::new(), &mut |name, span, guarded| {
            if !guarded {
                found.push((name.to_vec(), span));
            }
        });
        found
    }

    /// Finds everything wrong with the types. `names` are the known names, for suggestions; the
    /// result is always bool.
    pub fn check(
        &self,
        lookup: &dyn Fn(&[String]) -> Option<Type>,
        names: &[&str],
    ) -> Result<Type, Vec<Diagnostic>> {
        let mut checker = Checker {
            lookup,
            names,
            mistakes: Vec::new(),
        };
        let found = checker.check(&self.root);
        let mut mistakes = checker.mistakes;
        if let Some(found) = found
            && found != Type::Bool
        {
            let message = format!("expression is {} and not a bool", found.with_article());
            mistakes.push(Mistake::new(codes::RESULT, message, self.root.span).help(truth(&found)));
        }
        if mistakes.is_empty() {
            return Ok(Type::Bool);
        }
        let diagnostic = |mistake: Mistake| mistake.diagnostic(&self.source, self.place);
        Err(mistakes.into_iter().map(diagnostic).collect())
    }

    /// Evaluates a checked expression. A name without a value is an error unless `has` asks for
    /// it; `&&` and `||` look no further than they must.
    pub fn eval(&self, lookup: &dyn Fn(&[String]) -> Option<Value>) -> Result<bool, EvalError> {
        let evaluator = Evaluator {
            lookup,
            place: self.place,
        };
        evaluator.bool(&self.root)
    }

    /// Visits names with their place and whether they may lack a value.
    fn walk<'a>(
        &self,
        node: &'a Node,
        guards: &mut Vec<&'a [String]>,
        visit: &mut dyn FnMut(&[String], Span, bool),
    ) {
        let place = |span: Span| self.place.of(span);
        match &node.kind {
            Kind::Bool(_) | Kind::Int(_) | Kind::Text(_) => {}
            Kind::Name(name) => visit(name, place(node.span), guards.contains(&name.as_slice())),
            Kind::Has(name, span) => visit(name, place(*span), true),
            Kind::List(items) => items.iter().for_each(|item| self.walk(item, guards, visit)),
            Kind::Not(inner) => self.walk(inner, guards, visit),
            Kind::All(parts) | Kind::Any(parts) => {
                let before = guards.len();
                for part in parts {
                    self.walk(part, guards, visit);
                    // `has(x) && …` and `!has(x) || …` look at the rest only if x is there.
                    match (&node.kind, &part.kind) {
                        (Kind::All(_), Kind::Has(name, _)) => guards.push(name),
                        (Kind::Any(_), Kind::Not(inner)) => {
                            if let Kind::Has(name, _) = &inner.kind {
                                guards.push(name);
                            }
                        }
                        _ => {}
                    }
                }
                guards.truncate(before);
            }
            Kind::Compare(_, left, right) | Kind::In(left, right) => {
                self.walk(left, guards, visit);
                self.walk(right, guards, visit);
            }
            Kind::Call(receiver, method, _) => {
                self.walk(receiver, guards, visit);
                match method {
                    Method::StartsWith(node) | Method::EndsWith(node) | Method::Contains(node) => {
                        self.walk(node, guards, visit);
                    }
                    Method::Matches(_) | Method::Size => {}
                }
            }
        }
    }
}

/// A diagnostic before it is tied to a source; its spans count from the start of the expression.
struct Mistake {
    code: &'static str,
    message: String,
    span: Span,
    help: Option<String>,
    replacement: Option<(Span, String)>,
}

impl Mistake {
    fn new(code: &'static str, message: impl Into<String>, span: Span) -> Self {
        Self {
            code,
            message: message.into(),
            span,
            help: None,
            replacement: None,
        }
    }

    fn syntax(message: impl Into<String>, span: Span) -> Self {
        Self::new(codes::SYNTAX, message, span)
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn set_help(&mut self, help: impl Into<String>) {
        self.help = Some(help.into());
    }

    /// Adds a help and the edit it speaks of.
    fn replace(mut self, help: String, span: Span, replacement: &str) -> Self {
        self.replacement = Some((span, replacement.to_owned()));
        self.help(help)
    }

    fn diagnostic(self, source: &Source, place: Place) -> Diagnostic {
        let mut diagnostic =
            Diagnostic::error(self.code, self.message, source, place.of(self.span));
        diagnostic.help = self.help;
        match self.replacement {
            // An edit of the whole would take the rest of it away.
            Some(_) if matches!(place, Place::Within(_)) => diagnostic,
            Some((span, text)) => {
                let title = format!("replace with `{text}`");
                diagnostic.fix(title, Applicability::Unsafe, place.of(span), text)
            }
            None => diagnostic,
        }
    }
}
