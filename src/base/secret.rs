//! Values that must not be shown, and strings that may contain one.

use std::fmt;
use std::sync::Arc;

/// A secret string. It has no `Display`, is redacted in `Debug` and cannot be serialized;
/// [`Secret::expose`] is the only way to its bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the call that sends it where it belongs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// A resolved string: plain, or tainted because a secret took part in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// May be shown, stored and sent anywhere.
    Plain(String),
    /// Must not be shown.
    Secret(Secret),
}

impl Text {
    /// The value, whatever its taint, for the call that sends it where it belongs.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }

    /// The value as a secret.
    pub fn into_secret(self) -> Secret {
        match self {
            Self::Plain(text) => Secret::new(text),
            Self::Secret(secret) => secret,
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Plain(text)
    }
}
