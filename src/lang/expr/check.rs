//! Finds the type of every part of an expression, and everything wrong with it.

use super::parser::{Comparison, Kind, Method, Node};
use super::types::{Type, Value};
use super::{Mistake, codes};
use crate::base::Span;
use crate::lang::suggest::suggest;

/// Looks up types and collects mistakes.
pub(super) struct Checker<'a> {
    pub(super) lookup: &'a dyn Fn(&[String]) -> Option<Type>,
    pub(super) names: &'a [&'a str],
    pub(super) mistakes: Vec<Mistake>,
}

impl Checker<'_> {
    /// The type of a part; nothing if it has none, which was said.
    pub(super) fn check(&mut self, node: &Node) -> Option<Type> {
        match &node.kind {
            Kind::Bool(_) => Some(Type::Bool),
            Kind::Int(_) => Some(Type::Int),
            Kind::Text(_) => Some(Type::String),
            Kind::List(items) => self.list(items, node.span),
            Kind::Name(name) => self.name(name, node.span),
            Kind::Has(name, span) => {
                self.name(name, *span);
                Some(Type::Bool)
            }
            Kind::Not(inner) => {
                self.bool(inner, "`!`");
                Some(Type::Bool)
            }
            Kind::All(parts) => self.bools(parts, "`&&`"),
            Kind::Any(parts) => self.bools(parts, "`||`"),
            Kind::Compare(operator, left, right) => {
                self.compare(*operator, left, right, node.span);
                Some(Type::Bool)
            }
            Kind::In(item, list) => {
                self.contains(item, list);
                Some(Type::Bool)
            }
            Kind::Call(receiver, method, at) => Some(self.call(receiver, method, *at)),
        }
    }

    fn mistake(&mut self, code: &'static str, message: String, span: Span) -> &mut Mistake {
        self.mistakes.push(Mistake::new(code, message, span));
        self.mistakes.last_mut().expect("one was just pushed")
    }

    fn name(&mut self, name: &[String], span: Span) -> Option<Type> {
        let found = (self.lookup)(name);
        if found.is_none() {
            let text = name.join(".");
            let near = suggest(&text, self.names.iter().copied());
            let mistake = Mistake::new(codes::UNKNOWN, format!("there is no value `{text}`"), span);
            self.mistakes.push(match near {
                Some(near) => mistake.replace(format!("did you mean `{near}`?"), span, near),
                None => mistake.help("strings are quoted; names are those that `${…}` takes"),
            });
        }
        found
    }

    fn bools(&mut self, parts: &[Node], operator: &str) -> Option<Type> {
        for part in parts {
            self.bool(part, operator);
        }
        Some(Type::Bool)
    }

    /// A part that an operator takes for true or false.
    fn bool(&mut self, node: &Node, operator: &str) {
        if let Some(found) = self.check(node)
            && found != Type::Bool
        {
            let code = secret_or(&found, codes::TYPE);
            let message = format!("{operator} needs a bool, this is {}", found.with_article());
            self.mistake(code, message, node.span)
                .set_help(truth(&found));
        }
    }

    fn list(&mut self, items: &[Node], span: Span) -> Option<Type> {
        let types: Vec<_> = items.iter().map(|item| self.check(item)).collect();
        let Some(first) = types.first() else {
            self.mistake(codes::LIST, "list is empty".into(), span);
            return None;
        };
        let first = first.clone()?;
        for (item, found) in items.iter().zip(&types) {
            let Some(found) = found else { return None };
            if *found == Type::Secret {
                self.secret(item.span);
                return None;
            }
            if *found != first {
                let message = format!(
                    "list holds {} and {}",
                    first.with_article(),
                    found.with_article()
                );
                self.mistake(codes::LIST, message, item.span);
                return None;
            }
        }
        Some(Type::List(Box::new(first)))
    }

    fn secret(&mut self, span: Span) {
        let message = "a secret cannot be compared".to_owned();
        self.mistake(codes::SECRET, message, span)
            .set_help("only ask whether it is there, with `has(…)`");
    }

    fn compare(&mut self, operator: Comparison, left: &Node, right: &Node, span: Span) {
        let (Some(a), Some(b)) = (self.check(left), self.check(right)) else {
            return;
        };
        for (node, found) in [(left, &a), (right, &b)] {
            if *found == Type::Secret {
                return self.secret(node.span);
            }
        }
        let Some(common) = self.common(left, &a, right, &b) else {
            return;
        };
        let Some(common) = common else {
            let message = format!(
                "{} and {} cannot be compared",
                a.with_article(),
                b.with_article()
            );
            self.mistake(codes::TYPE, message, span)
                .set_help("both sides must have the same type; nothing is converted");
            return;
        };
        if operator.is_order() && !common.is_ordered() {
            let message = format!("{} has no order", common.with_article());
            self.mistake(codes::TYPE, message, span)
                .set_help("only int, version and duration are less or greater");
        }
    }

    /// The type two sides have in common, with a string literal read as what is on the other
    /// side. The outer option is empty if the literal cannot be read, which was said.
    fn common(&mut self, left: &Node, a: &Type, right: &Node, b: &Type) -> Option<Option<Type>> {
        if a == b {
            return Some(Some(a.clone()));
        }
        for (literal, wanted) in [(left, b), (right, a)] {
            if let Kind::Text(text) = &literal.kind
                && wanted.has_literal()
            {
                self.literal(text, wanted, literal.span)?;
                return Some(Some(wanted.clone()));
            }
        }
        Some(None)
    }

    fn literal(&mut self, text: &str, wanted: &Type, span: Span) -> Option<()> {
        match Value::from_literal(text, wanted) {
            Ok(_) => Some(()),
            Err(message) => {
                self.mistake(codes::LITERAL, message, span);
                None
            }
        }
    }

    fn contains(&mut self, item: &Node, list: &Node) {
        let (Some(found), Some(listed)) = (self.check(item), self.check(list)) else {
            return;
        };
        if found == Type::Secret {
            return self.secret(item.span);
        }
        let Type::List(inside) = &listed else {
            let code = secret_or(&listed, codes::TYPE);
            let message = format!(
                "`in` needs a list on its right, this is {}",
                listed.with_article()
            );
            let mistake = self.mistake(code, message, list.span);
            if listed == Type::String {
                mistake.set_help("for a part of a string write `.contains(…)`");
            }
            return;
        };
        if **inside == found {
            return;
        }
        match (&list.kind, &item.kind) {
            // Literals in a list are read as what is looked for in it, and the other way round.
            (Kind::List(items), _) if found.has_literal() && **inside == Type::String => {
                for node in items {
                    if let Kind::Text(text) = &node.kind {
                        self.literal(text, &found, node.span);
                    } else {
                        let message = format!("a string is not {}", found.with_article());
                        self.mistake(codes::TYPE, message, node.span);
                    }
                }
            }
            (_, Kind::Text(text)) if inside.has_literal() => {
                self.literal(text, inside, item.span);
            }
            _ => {
                let message = format!(
                    "{} is never in {}",
                    found.with_article(),
                    listed.with_article()
                );
                self.mistake(codes::TYPE, message, item.span);
            }
        }
    }

    fn call(&mut self, receiver: &Node, method: &Method, at: Span) -> Type {
        let (name, argument, result) = match method {
            Method::StartsWith(node) => ("startsWith", Some(node), Type::Bool),
            Method::EndsWith(node) => ("endsWith", Some(node), Type::Bool),
            Method::Contains(node) => ("contains", Some(node), Type::Bool),
            Method::Matches(_) => ("matches", None, Type::Bool),
            Method::Size => ("size", None, Type::Int),
        };
        let found = self.check(receiver);
        if let Some(argument) = argument
            && let Some(given) = self.check(argument)
            && given != Type::String
        {
            let code = secret_or(&given, codes::TYPE);
            let message = format!("`{name}` takes a string, this is {}", given.with_article());
            self.mistake(code, message, argument.span);
        }
        let fits = match &found {
            None | Some(Type::String) => true,
            Some(Type::List(_)) => matches!(method, Method::Size),
            Some(_) => false,
        };
        if !fits && let Some(found) = found {
            let code = secret_or(&found, codes::METHOD);
            let message = format!("{} has no method `{name}`", found.with_article());
            let mistake = self.mistake(code, message, at);
            if matches!((&found, method), (Type::List(_), Method::Contains(_))) {
                mistake.set_help("write `x in list`");
            }
        }
        result
    }
}

/// The code for a mistake about a type; that of a secret is always the same.
fn secret_or(found: &Type, code: &'static str) -> &'static str {
    match found {
        Type::Secret => codes::SECRET,
        _ => code,
    }
}

/// How to ask a yes-or-no question of a value of a type.
pub(super) fn truth(found: &Type) -> &'static str {
    match found {
        Type::String => "compare it, as in `x != \"\"`",
        Type::Int => "compare it, as in `x > 0`",
        Type::List(_) => "compare its size, as in `x.size() > 0`",
        Type::Secret => "ask whether it is there, with `has(…)`",
        _ => "compare it with a value, or ask whether it is there with `has(…)`",
    }
}
