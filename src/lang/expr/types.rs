//! Types and values of expressions.

use std::fmt;
use std::time::Duration;

use super::version::Version;
use crate::base::Digest;

/// The type of a name or an expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A text.
    String,
    /// A list of values of one type.
    List(Box<Type>),
    /// A version with its order.
    Version,
    /// A time span.
    Duration,
    /// A reference to an image.
    Image,
    /// A content digest.
    Digest,
    /// A secret: there or not, but never compared.
    Secret,
}

impl Type {
    /// The type with its article: `an int`.
    pub(super) fn with_article(&self) -> String {
        let article = match self {
            Self::Int | Self::Image => "an",
            _ => "a",
        };
        format!("{article} {self}")
    }

    /// Whether values of the type have an order.
    pub(super) fn is_ordered(&self) -> bool {
        matches!(self, Self::Int | Self::Version | Self::Duration)
    }

    /// Whether a string literal beside a value of this type is read as one.
    pub(super) fn has_literal(&self) -> bool {
        matches!(
            self,
            Self::Version | Self::Duration | Self::Image | Self::Digest
        )
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::String => "string",
            Self::List(item) => return write!(f, "list of {item}"),
            Self::Version => "version",
            Self::Duration => "duration",
            Self::Image => "image",
            Self::Digest => "digest",
            Self::Secret => "secret",
        })
    }
}

/// A value that a name stands for while an expression is evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A text.
    String(String),
    /// Values of one type.
    List(Vec<Value>),
    /// A version.
    Version(Version),
    /// A time span.
    Duration(Duration),
    /// A reference to an image.
    Image(String),
    /// A content digest.
    Digest(Digest),
    /// A secret that is there. Expressions never see its text.
    Secret,
}

impl Value {
    /// The name of its type with its article.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::String(_) => "a string",
            Self::List(_) => "a list",
            Self::Version(_) => "a version",
            Self::Duration(_) => "a duration",
            Self::Image(_) => "an image",
            Self::Digest(_) => "a digest",
            Self::Secret => "a secret",
        }
    }

    /// Reads the text of a value whose type is known; `None` if it does not fit.
    pub fn parse(ty: &Type, text: &str) -> Option<Self> {
        match ty {
            Type::Bool => text.parse().ok().map(Self::Bool),
            Type::Int => text.parse().ok().map(Self::Int),
            Type::String => Some(Self::String(text.to_owned())),
            Type::Secret => Some(Self::Secret),
            Type::List(_) => None,
            other => Self::from_literal(text, other).ok(),
        }
    }

    /// Reads a string literal that stands beside a value of a type.
    pub(super) fn from_literal(text: &str, wanted: &Type) -> Result<Self, String> {
        match wanted {
            Type::Version => text
                .parse()
                .map(Self::Version)
                .map_err(|error| format!("{error}")),
            Type::Duration => crate::base::parse_duration(text)
                .map(Self::Duration)
                .ok_or_else(|| format!("{text:?} is not a duration such as \"30s\" or \"1h30m\"")),
            Type::Digest => text.parse().map(Self::Digest).map_err(|_| {
                format!("{text:?} is not a digest such as \"sha256:\" and 64 hexadecimal digits")
            }),
            Type::Image if text.is_empty() => Err("an image reference is not empty".into()),
            Type::Image => Ok(Self::Image(text.to_owned())),
            _ => Ok(Self::String(text.to_owned())),
        }
    }
}
