//! Strings with `${…}`: parsed once, resolved when the values are known.

use std::fmt;

use super::Value;
use crate::base::{Diagnostic, Source, Span, Spanned, StageId};

/// A string field as written: text and references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its pieces, in order.
    pub parts: Vec<Part>,
    /// Where it stands.
    pub span: Span,
}

/// Values that are known when a template is parsed: of the member at hand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Binding<'a> {
    /// What `${name}` stands for.
    pub name: Option<&'a str>,
    /// What `${matrix.KEY}` stands for.
    pub matrix: &'a [(String, String)],
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Text as it is.
    Text(String),
    /// A value to be looked up.
    Ref(Spanned<Reference>),
}

/// What `${…}` may name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// `git.…`: a fact of the commit.
    Git(GitField),
    /// `var.NAME`.
    Var(String),
    /// `input.NAME`.
    Input(String),
    /// `secret.NAME`.
    Secret(String),
    /// `image.NAME.…`.
    Image(String, ImageField),
    /// `KIND.NAME.OUTPUT`.
    Output(StageId, String),
    /// `upstream.KIND.NAME.OUTPUT`.
    Upstream(StageId, String),
    /// `run.…`.
    Run(RunField),
}

macro_rules! fields {
    ($(#[$doc:meta])* $name:ident { $(#[doc = $vdoc:literal] $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $(#[doc = $vdoc] $variant),+ }

        impl $name {
            /// Every field's name.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// Every field's name, and what it is.
            pub const DOCS: &'static [(&'static str, &'static str)] = &[$(($text, $vdoc)),+];

            /// The field's name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            fn of(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

fields! {
    /// Facts of the commit.
    GitField {
        /// Full object name.
        Sha = "sha",
        /// Its first seven digits.
        ShortSha = "short-sha",
        /// Branch, for runs on a branch.
        Branch = "branch",
        /// Tag, for runs of a tag.
        Tag = "tag",
        /// The tag without its leading `v`.
        Version = "version",
        /// Full ref.
        Ref = "ref",
        /// First line of the message.
        Message = "message",
        /// `Name <address>`.
        Author = "author",
    }
}

fields! {
    /// Facts of an image.
    ImageField {
        /// Registry and repository.
        Name = "name",
        /// Its tag.
        Tag = "tag",
        /// Its digest, known once it is pushed.
        Digest = "digest",
        /// `name:tag`.
        Ref = "ref",
        /// `name@digest`.
        Pinned = "pinned",
    }
}

fields! {
    /// Facts of the run.
    RunField {
        /// Its id.
        Id = "id",
        /// How it stands: only in `notify` and `finally` stages.
        Outcome = "outcome",
        /// Where it can be looked at.
        Url = "url",
        /// Its pipeline.
        Pipeline = "pipeline",
    }
}

const NAMESPACES: [&str; 14] = [
    "git", "var", "input", "secret", "name", "image", "upstream", "run", "build", "scan", "push",
    "bump", "deploy", "notify",
];

impl Template {
    /// A template of text only.
    pub fn text(text: impl Into<String>, span: Span) -> Self {
        Self {
            parts: vec![Part::Text(text.into())],
            span,
        }
    }

    /// Parses a value. Accepts any scalar, so that the caller can report a wrong type itself.
    pub fn parse(source: &Source, value: &Value, binding: Binding<'_>) -> (Self, Vec<Diagnostic>) {
        let Some(text) = value.as_str() else {
            return (Self::text(value.raw.clone(), value.span), Vec::new());
        };
        let mut parts = Vec::new();
        let mut diagnostics = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        let mut occurrence = 0;
        while let Some(at) = rest.find("${") {
            let place = value.place_of("${", occurrence);
            occurrence += 1;
            if rest[..at].ends_with('$') {
                plain.push_str(&rest[..at]);
                plain.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            plain.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else {
                diagnostics.push(
                    Diagnostic::error("PW0030", "`${` is never closed", source, place).help(
                        "close it with `}`, or write `$${` for the two characters themselves",
                    ),
                );
                rest = "";
                break;
            };
            let inner = &rest[at + 2..at + end];
            let span = value.stretch(place, &rest[at..=at + end]);
            match reference(inner.trim(), binding) {
                Ok(Found::Name(member)) => plain.push_str(&member),
                Ok(Found::Reference(reference)) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Ref(Spanned::new(reference, span)));
                }
                Err(problem) => {
                    let mut diagnostic = Diagnostic::error("PW0031", problem.message, source, span);
                    diagnostic.help = problem.help;
                    diagnostics.push(diagnostic);
                }
            }
            rest = &rest[at + end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Part::Text(plain));
        }
        let template = Self {
            parts,
            span: value.span,
        };
        (template, diagnostics)
    }

    /// The references in it.
    pub fn references(&self) -> impl Iterator<Item = &Spanned<Reference>> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Ref(reference) => Some(reference),
        })
    }

    /// The secret it mentions, if it mentions one.
    pub fn secret(&self) -> Option<Spanned<&str>> {
        self.references()
            .find_map(|reference| match &reference.value {
                Reference::Secret(name) => Some(Spanned::new(name.as_str(), reference.span)),
                _ => None,
            })
    }

    /// The text, if it holds no reference.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Looks every reference up and joins the pieces; `None` as soon as one is not known.
    pub fn fill(&self, mut lookup: impl FnMut(&Reference) -> Option<String>) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(piece) => text.push_str(piece),
                Part::Ref(reference) => text.push_str(&lookup(&reference.value)?),
            }
        }
        Some(text)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                Part::Text(text) => f.write_str(text)?,
                Part::Ref(reference) => write!(f, "${{{}}}", reference.value)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git(field) => write!(f, "git.{}", field.as_str()),
            Self::Var(name) => write!(f, "var.{name}"),
            Self::Input(name) => write!(f, "input.{name}"),
            Self::Secret(name) => write!(f, "secret.{name}"),
            Self::Image(name, field) => write!(f, "image.{name}.{}", field.as_str()),
            Self::Output(stage, output) => write!(f, "{stage}.{output}"),
            Self::Upstream(stage, output) => write!(f, "upstream.{stage}.{output}"),
            Self::Run(field) => write!(f, "run.{}", field.as_str()),
        }
    }
}

impl Reference {
    /// Reads a dotted path such as `git.sha`, without `${` and `}`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match reference(text, Binding::default()) {
            Ok(Found::Reference(reference)) => Ok(reference),
            Ok(Found::Name(_)) => {
                Err("`name` is only known inside a stage or a declaration".to_owned())
            }
            Err(problem) => Err(problem.message),
        }
    }
}

enum Found {
    Name(String),
    Reference(Reference),
}

struct Problem {
    message: String,
    help: Option<String>,
}

fn reference(text: &str, binding: Binding<'_>) -> Result<Found, Problem> {
    let problem = |message: String, help: Option<String>| Err(Problem { message, help });
    let parts: Vec<&str> = text.split('.').collect();
    let named = |name: &str| -> Result<String, Problem> {
        if is_name(name) {
            Ok(name.to_owned())
        } else {
            Err(Problem {
                message: format!("`{text}` is not a reference"),
                help: Some("write a name after the dot, such as `${git.sha}`".to_owned()),
            })
        }
    };
    let reference = match parts.as_slice() {
        ["name"] => {
            return match binding.name {
                Some(member) => Ok(Found::Name(member.to_owned())),
                None => problem(
                    "`${name}` has no meaning here".to_owned(),
                    Some("it stands for the member at hand of a stage or a declaration".to_owned()),
                ),
            };
        }
        ["matrix", key] => {
            return match binding.matrix.iter().find(|(name, _)| name == key) {
                Some((_, value)) => Ok(Found::Name(value.clone())),
                None => problem(
                    format!("`matrix.{key}` has no meaning here"),
                    Some("it stands for a value of the stage's own `matrix`".to_owned()),
                ),
            };
        }
        ["git", field] => match GitField::of(field) {
            Some(field) => Reference::Git(field),
            None => return unknown_field("git", field, GitField::NAMES),
        },
        ["var", name] => Reference::Var(named(name)?),
        ["input", name] => Reference::Input(named(name)?),
        ["secret", name] => Reference::Secret(named(name)?),
        ["image", name, field] => match ImageField::of(field) {
            Some(field) => Reference::Image(named(name)?, field),
            None => return unknown_field("image", field, ImageField::NAMES),
        },
        ["run", field] => match RunField::of(field) {
            Some(field) => Reference::Run(field),
            None => return unknown_field("run", field, RunField::NAMES),
        },
        ["upstream", kind, name, output] => {
            Reference::Upstream(StageId::new(kind, &named(name)?), named(output)?)
        }
        [
            kind @ ("build" | "scan" | "push" | "bump" | "deploy" | "run" | "notify"),
            name,
            output,
        ] => Reference::Output(StageId::new(kind, &named(name)?), named(output)?),
        [first, ..] => {
            let help = match super::suggest::suggest(first, NAMESPACES) {
                Some(near) if near != *first => format!("did you mean `{near}.…`?"),
                _ => {
                    "references look like `git.sha`, `var.NAME`, `secret.NAME`, `image.NAME.tag`, \
                      `push.NAME.digest`; write `$${…}` for the characters themselves"
                        .to_owned()
                }
            };
            return problem(format!("`{text}` is not a reference"), Some(help));
        }
        [] => return problem("`${}` names nothing".to_owned(), None),
    };
    Ok(Found::Reference(reference))
}

fn unknown_field(namespace: &str, field: &str, names: &[&str]) -> Result<Found, Problem> {
    let help = match super::suggest::suggest(field, names.iter().copied()) {
        Some(near) => format!("did you mean `{namespace}.{near}`?"),
        None => format!("it has {}", names.join(", ")),
    };
    Err(Problem {
        message: format!("`{namespace}` has no `{field}`"),
        help: Some(help),
    })
}

/// Whether a text can be the name of a thing: letters, digits, `-` and `_`.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::parse;

    fn parse_text(literal: &str) -> (Template, Vec<Diagnostic>) {
        let source = Source::new("t.kdl", format!("a {literal}"));
        let (document, diagnostics) = parse(&source);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let binding = Binding {
            name: Some("app"),
            matrix: &[],
        };
        Template::parse(&source, &document.nodes[0].args[0], binding)
    }

    #[test]
    fn references_are_found_and_placed() {
        let (template, diagnostics) = parse_text("\"x ${name} ${git.sha}-$${keep} ${secret.PAT}\"");
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        assert_eq!(
            template.to_string(),
            "x app ${git.sha}-${keep} ${secret.PAT}"
        );
        let spans: Vec<usize> = template.references().map(|r| r.span.start).collect();
        assert_eq!(spans, [13, 33]);
        assert_eq!(template.secret().map(|s| s.value), Some("PAT"));
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, message) in [
            ("\"${git.shaa}\"", "`git` has no `shaa`"),
            ("\"${gti.sha}\"", "`gti.sha` is not a reference"),
            ("\"${git.sha\"", "`${` is never closed"),
            ("\"${}\"", "`` is not a reference"),
        ] {
            let (_, diagnostics) = parse_text(text);
            assert_eq!(diagnostics[0].message, message);
            assert!(diagnostics[0].help.is_some(), "{text}");
        }
    }

    #[test]
    fn filling_stops_at_the_unknown() {
        let (template, _) = parse_text("\"${git.sha}:${var.x}\"");
        let known = |reference: &Reference| match reference {
            Reference::Git(_) => Some("abc".to_owned()),
            _ => None,
        };
        assert_eq!(template.fill(known), None);
    }
}
