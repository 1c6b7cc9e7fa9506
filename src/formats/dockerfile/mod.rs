//! Reads what checks need to know of a Dockerfile: its stages and their base images, arguments,
//! what is copied from where, and mounts. Everything keeps its place.
//!
//! Follows BuildKit's reading of continued lines, heredocs, parser directives and JSON forms. It
//! is no validator: instructions that checks have no use for are only skipped rightly. Mistakes
//! are data, never an error, so that one bad line does not hide the rest.

mod expand;
mod instruction;
mod lines;

pub use expand::{ExpandError, expand};

use crate::base::{Span, Spanned};

/// Longest text that is read, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// A Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The escape character, `\` or what the `escape` directive names.
    pub escape: char,
    /// The frontend named by the `syntax` directive.
    pub syntax: Option<Spanned<String>>,
    /// Arguments before the first `FROM`, which only `FROM` lines see.
    pub args: Vec<Arg>,
    /// Stages in order.
    pub stages: Vec<Stage>,
    /// What could not be understood.
    pub problems: Vec<Spanned<String>>,
}

/// One `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The whole `FROM` instruction.
    pub span: Span,
    /// The image or stage it starts from, as written.
    pub image: Spanned<String>,
    /// `--platform`.
    pub platform: Option<Spanned<String>>,
    /// The name after `AS`.
    pub name: Option<Spanned<String>>,
    /// Arguments it declares.
    pub args: Vec<Arg>,
    /// What it copies in.
    pub copies: Vec<Copy>,
    /// Mounts of its commands.
    pub mounts: Vec<Mount>,
}

/// What a stage starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base<'a> {
    /// Nothing.
    Scratch,
    /// An earlier stage, by its index.
    Stage(usize),
    /// An image of a registry.
    Image(&'a str),
    /// Only known once arguments are put in.
    Variable(&'a str),
}

/// One `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Its name.
    pub name: Spanned<String>,
    /// Its default, without quotes.
    pub default: Option<Spanned<String>>,
}

/// One `COPY` or `ADD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Whether it is `ADD`, which also fetches and unpacks.
    pub add: bool,
    /// `--from`: a stage, its number, an image or a named context.
    pub from: Option<Spanned<String>>,
    /// Sources as written, without heredocs.
    pub sources: Vec<Spanned<String>>,
    /// Where they go.
    pub destination: Spanned<String>,
    /// The whole instruction.
    pub span: Span,
}

/// One `RUN --mount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `bind`, `cache`, `tmpfs`, `secret` or `ssh`.
    pub kind: String,
    /// The other fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The flag.
    pub span: Span,
}

/// Reads a Dockerfile.
pub fn parse(text: &str) -> Dockerfile {
    instruction::read(text)
}

impl Dockerfile {
    /// The stage with a name or number, as `--target` and `--from` take it.
    pub fn stage(&self, name: &str) -> Option<(usize, &Stage)> {
        let named = |stage: &Stage| {
            let own = stage.name.as_ref();
            own.is_some_and(|own| own.value.eq_ignore_ascii_case(name))
        };
        // Of equal names the last one counts.
        let index = self.stages.iter().rposition(named).or_else(|| {
            let digits = name.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| name.parse().ok()).flatten()
        })?;
        self.stages.get(index).map(|stage| (index, stage))
    }

    /// What the stage with an index starts from.
    pub fn base(&self, index: usize) -> Option<Base<'_>> {
        let image = self.stages.get(index)?.image.value.as_str();
        let named = |stage: &Stage| {
            let name = stage.name.as_ref();
            name.is_some_and(|name| name.value.eq_ignore_ascii_case(image))
        };
        Some(match self.stages[..index].iter().rposition(named) {
            _ if image.contains('$') => Base::Variable(image),
            Some(stage) => Base::Stage(stage),
            None if image == "scratch" => Base::Scratch,
            None => Base::Image(image),
        })
    }
}

impl Stage {
    /// Whether the base image is written with its digest.
    pub fn is_pinned(&self) -> bool {
        self.image.value.contains("@sha256:") || self.image.value.contains("@sha512:")
    }
}

impl Mount {
    /// A field by any of its names.
    pub fn field(&self, names: &[&str]) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields
            .find(|(name, _)| names.contains(&name.as_str()))
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests;
