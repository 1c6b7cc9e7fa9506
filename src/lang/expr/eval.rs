//! Evaluates an expression.

use super::Place;
use super::parser::{Comparison, Kind, Method, Node};
use super::types::{Type, Value};
use crate::base::Span;

/// Why an expression has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// A name has no value in this run.
    #[error("`{name}` has no value in this run; ask with `has({name})` first")]
    Missing {
        /// The name.
        name: String,
        /// Where it stands.
        span: Span,
    },
    /// A value is not of the type the expression was checked for.
    #[error("{message}")]
    Type {
        /// One lowercase phrase.
        message: String,
        /// Where it happened.
        span: Span,
    },
}

/// Looks up values.
pub(super) struct Evaluator<'a> {
    pub(super) lookup: &'a dyn Fn(&[String]) -> Option<Value>,
    /// Where the expression starts in its source.
    pub(super) place: Place,
}

impl Evaluator<'_> {
    /// The value of a part that is true or false.
    pub(super) fn bool(&self, node: &Node) -> Result<bool, EvalError> {
        match self.value(node)? {
            Value::Bool(value) => Ok(value),
            other => Err(self.wrong(format!("expected a bool, found {}", other.kind()), node)),
        }
    }

    fn value(&self, node: &Node) -> Result<Value, EvalError> {
        Ok(match &node.kind {
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Int(value) => Value::Int(*value),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => {
                let values: Result<_, _> = items.iter().map(|item| self.value(item)).collect();
                Value::List(values?)
            }
            Kind::Name(name) => (self.lookup)(name).ok_or_else(|| EvalError::Missing {
                name: name.join("."),
                span: self.place(node.span),
            })?,
            Kind::Has(name, _) => Value::Bool((self.lookup)(name).is_some()),
            Kind::Not(inner) => Value::Bool(!self.bool(inner)?),
            Kind::All(parts) => Value::Bool(self.until(parts, false)?),
            Kind::Any(parts) => Value::Bool(self.until(parts, true)?),
            Kind::Compare(operator, left, right) => {
                Value::Bool(self.compare(*operator, left, right, node)?)
            }
            Kind::In(item, list) => Value::Bool(self.contains(item, list, node)?),
            Kind::Call(receiver, method, _) => self.call(receiver, method)?,
        })
    }

    /// Stops at the first part with the decisive value; what is behind it is not looked at.
    fn until(&self, parts: &[Node], decisive: bool) -> Result<bool, EvalError> {
        for part in parts {
            if self.bool(part)? == decisive {
                return Ok(decisive);
            }
        }
        Ok(!decisive)
    }

    fn compare(
        &self,
        operator: Comparison,
        left: &Node,
        right: &Node,
        node: &Node,
    ) -> Result<bool, EvalError> {
        let (a, b) = (self.value(left)?, self.value(right)?);
        let a = self.like(a, left, &b)?;
        let b = self.like(b, right, &a)?;
        let order = match (&a, &b) {
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Version(a), Value::Version(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            _ => None,
        };
        let same = std::mem::discriminant(&a) == std::mem::discriminant(&b);
        if !same || a == Value::Secret || (operator.is_order() && order.is_none()) {
            let message = format!("{} and {} cannot be compared so", a.kind(), b.kind());
            return Err(self.wrong(message, node));
        }
        Ok(match (operator, order) {
            // Of versions the order decides, so that `1.0` equals `1.0.0`.
            (Comparison::Equal, Some(order)) => order.is_eq(),
            (Comparison::NotEqual, Some(order)) => order.is_ne(),
            (Comparison::Equal, None) => a == b,
            (Comparison::NotEqual, None) => a != b,
            (Comparison::Less, order) => order.is_some_and(|order| order.is_lt()),
            (Comparison::LessOrEqual, order) => order.is_some_and(|order| order.is_le()),
            (Comparison::Greater, order) => order.is_some_and(|order| order.is_gt()),
            (Comparison::GreaterOrEqual, order) => order.is_some_and(|order| order.is_ge()),
        })
    }

    /// A literal string read as what it stands beside; any other value as it is.
    fn like(&self, value: Value, node: &Node, other: &Value) -> Result<Value, EvalError> {
        let wanted = match other {
            Value::Version(_) => Type::Version,
            Value::Duration(_) => Type::Duration,
            Value::Image(_) => Type::Image,
            Value::Digest(_) => Type::Digest,
            _ => return Ok(value),
        };
        match (&node.kind, value) {
            (Kind::Text(text), Value::String(_)) => {
                Value::from_literal(text, &wanted).map_err(|message| self.wrong(message, node))
            }
            (_, value) => Ok(value),
        }
    }

    fn contains(&self, item: &Node, list: &Node, node: &Node) -> Result<bool, EvalError> {
        let (wanted, Value::List(values)) = (self.value(item)?, self.value(list)?) else {
            return Err(self.wrong("expected a list".into(), list));
        };
        for (index, value) in values.into_iter().enumerate() {
            let written = match &list.kind {
                Kind::List(nodes) => nodes.get(index).unwrap_or(list),
                _ => list,
            };
            let value = self.like(value, written, &wanted)?;
            let wanted = self.like(wanted.clone(), item, &value)?;
            if std::mem::discriminant(&value) != std::mem::discriminant(&wanted)
                || wanted == Value::Secret
            {
                let message = format!("{} cannot be where {} is", wanted.kind(), value.kind());
                return Err(self.wrong(message, node));
            }
            if value == wanted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn call(&self, receiver: &Node, method: &Method) -> Result<Value, EvalError> {
        let value = self.value(receiver)?;
        if let (Value::List(items), Method::Size) = (&value, method) {
            return Ok(Value::Int(i64::try_from(items.len()).unwrap_or(i64::MAX)));
        }
        let Value::String(text) = value else {
            let message = format!("expected a string, found {}", value.kind());
            return Err(self.wrong(message, receiver));
        };
        let argument = |node: &Node| match self.value(node)? {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(format!("expected a string, found {}", other.kind()), node)),
        };
        Ok(match method {
            Method::StartsWith(node) => Value::Bool(text.starts_with(&argument(node)?)),
            Method::EndsWith(node) => Value::Bool(text.ends_with(&argument(node)?)),
            Method::Contains(node) => Value::Bool(text.contains(&argument(node)?)),
            Method::Matches(pattern) => Value::Bool(pattern.is_match(&text)),
            // Characters, as a reader counts them.
            Method::Size => Value::Int(i64::try_from(text.chars().count()).unwrap_or(i64::MAX)),
        })
    }

    fn wrong(&self, message: String, node: &Node) -> EvalError {
        EvalError::Type {
            message,
            span: self.place(node.span),
        }
    }

    fn place(&self, span: Span) -> Span {
        self.place.of(span)
    }
}
