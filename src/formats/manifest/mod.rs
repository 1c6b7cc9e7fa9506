//! Edits other people's manifests: a value at a path, an image wherever it is named, an entry of a
//! kustomization, what a pattern or a marker points at.
//!
//! Every edit is a splice of the text that is read again afterwards; one that would change anything
//! but its target is refused, and so is one that does not find exactly what it looks for. Nothing
//! here reads or writes a file.

mod from;
mod image;
mod json;
mod kustomize;
mod marker;
mod pattern;
mod structured;
mod toml;
mod tree;
mod verify;

#[cfg(test)]
mod tests;

use std::fmt;

pub use marker::is_name as is_marker;

use super::yaml;

/// Longest text that is edited, in bytes.
pub const MAX_TEXT: usize = yaml::MAX_TEXT;

/// Names a kustomization may have, in the order they are looked for.
pub const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// YAML: Helm values, Kubernetes, Compose.
    Yaml,
    /// JSON.
    Json,
    /// TOML.
    Toml,
    /// A Dockerfile.
    Dockerfile,
    /// Terraform and its kin.
    Hcl,
    /// Anything else that is text.
    Text,
}

impl Format {
    /// The names of the formats, as one writes them.
    pub const NAMES: &'static [&'static str] =
        &["yaml", "json", "toml", "dockerfile", "hcl", "text"];

    /// The format of a name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "yaml" => Self::Yaml,
            "json" => Self::Json,
            "toml" => Self::Toml,
            "dockerfile" => Self::Dockerfile,
            "hcl" => Self::Hcl,
            "text" => Self::Text,
            _ => return None,
        })
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Toml => "toml",
            Self::Dockerfile => "dockerfile",
            Self::Hcl => "hcl",
            Self::Text => "text",
        }
    }

    /// The format that the name of a file tells.
    pub fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        let lower = name.to_ascii_lowercase();
        let stem = |word: &str| lower == word || lower.starts_with(&format!("{word}."));
        if stem("dockerfile") || stem("containerfile") || lower.ends_with(".dockerfile") {
            return Self::Dockerfile;
        }
        if name == "Kustomization" {
            return Self::Yaml;
        }
        match lower.rsplit_once('.').map_or("", |(_, end)| end) {
            "yaml" | "yml" => Self::Yaml,
            "json" => Self::Json,
            "toml" => Self::Toml,
            "tf" | "tfvars" | "hcl" => Self::Hcl,
            _ => Self::Text,
        }
    }
}

/// An image to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Registry and repository.
    pub name: String,
    /// Its tag.
    pub tag: String,
    /// Its digest, if that is to be written too.
    pub digest: Option<String>,
}

/// What is to be changed in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The value at a path.
    Set {
        /// The path.
        path: String,
        /// The value.
        value: String,
        /// Written as a number, boolean or null, not as a string.
        literal: bool,
        /// Add the last key of the path if it is missing.
        create: bool,
    },
    /// An image.
    Image {
        /// The image.
        image: Image,
        /// Where it stands.
        place: Place,
    },
    /// An entry of `images:` of a kustomization.
    Kustomize {
        /// The image.
        image: Image,
        /// The entry's `name`; found by the image if absent.
        name: Option<String>,
        /// What the pipeline calls the image, which may be the entry's `name`.
        alias: String,
        /// Add what is missing.
        create: bool,
    },
    /// What a regular expression captures; it must match exactly once.
    Match {
        /// The expression.
        pattern: String,
        /// What is written instead.
        value: String,
    },
    /// The value before the comment `pipewright: NAME`.
    Marker {
        /// The name.
        name: String,
        /// What is written instead.
        value: String,
    },
}

/// Where an image stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Wherever its repository is named as an image.
    Everywhere,
    /// In the container of this name.
    Container(String),
    /// At a path: a reference, or a mapping with a pair such as `repository` and `tag`.
    At(String),
}

/// A value that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where: a path, `FROM`, a marker, a pattern.
    pub place: String,
    /// What was there; empty if nothing was.
    pub before: String,
    /// What is there now.
    pub after: String,
    /// One-based line in the text after the edit.
    pub line: usize,
}

/// Why a text was left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditError {
    /// One lowercase phrase, with its place, and what to do.
    pub message: String,
}

impl EditError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EditError {}

impl From<yaml::YamlError> for EditError {
    fn from(error: yaml::YamlError) -> Self {
        Self::new(error.to_string())
    }
}

impl Edit {
    /// Where it edits, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Set { path, .. } => path.clone(),
            Self::Image { image, place } => match place {
                Place::Everywhere => format!("image {}", image.name),
                Place::Container(name) => format!("container {name}"),
                Place::At(path) => path.clone(),
            },
            Self::Kustomize { image, name, .. } => {
                format!("images {}", name.as_ref().unwrap_or(&image.name))
            }
            Self::Match { pattern, .. } => format!("/{pattern}/"),
            Self::Marker { name, .. } => format!("marker {name}"),
        }
    }

    /// How a file is written: as it was said, else by its name. What has paths in a file whose name
    /// tells nothing is YAML.
    pub fn format(&self, said: Option<Format>, path: &str) -> Format {
        let named = said.unwrap_or_else(|| Format::of(path));
        match self {
            Self::Set { .. } | Self::Image { .. } if said.is_none() && named == Format::Text => {
                Format::Yaml
            }
            Self::Kustomize { .. } => Format::Yaml,
            _ => named,
        }
    }

    /// Makes the edit in a text; tells the new text and what changed, which is nothing if all of it
    /// was there already.
    pub fn apply(&self, format: Format, text: &str) -> Result<(String, Vec<Change>), EditError> {
        if text.len() > MAX_TEXT {
            return Err(EditError::new(format!(
                "text is larger than {MAX_TEXT} bytes"
            )));
        }
        match self {
            Self::Set {
                path,
                value,
                literal,
                create,
            } => set(format, text, path, value, *literal, *create),
            Self::Image { image, place } => image::apply(format, text, image, place),
            Self::Kustomize {
                image,
                name,
                alias,
                create,
            } => kustomize::apply(text, image, name.as_deref(), alias, *create),
            Self::Match { pattern, value } => pattern::apply(format, text, pattern, value),
            Self::Marker { name, value } => marker::apply(format, text, name, value),
        }
    }
}

fn set(
    format: Format,
    text: &str,
    path: &str,
    value: &str,
    literal: bool,
    create: bool,
) -> Result<(String, Vec<Change>), EditError> {
    match format {
        Format::Yaml => {
            let at = parse_path(path)?;
            let wanted = match literal {
                true => yaml::Wanted::Literal(value),
                false => yaml::Wanted::Text(value),
            };
            let edited = yaml::write(text, &at, wanted, create)?;
            Ok(changed(edited, path, value))
        }
        Format::Json | Format::Toml => structured::set(format, text, path, value, literal, create),
        Format::Dockerfile | Format::Hcl | Format::Text => Err(no_paths(format)),
    }
}

/// Refuses a format whose values have no paths.
pub fn without_paths(format: Format) -> Result<(), EditError> {
    match format {
        Format::Yaml | Format::Json | Format::Toml => Ok(()),
        Format::Dockerfile | Format::Hcl | Format::Text => Err(no_paths(format)),
    }
}

fn no_paths(format: Format) -> EditError {
    let (what, how) = match format {
        Format::Dockerfile => ("a Dockerfile has", "write its base with `image`, or "),
        Format::Hcl => ("HCL is edited as text and has", ""),
        _ => ("a text file has", ""),
    };
    EditError::new(format!(
        "{what} no paths; {how}point at the value with `match` or `marker`"
    ))
}

/// Refuses an expression that cannot be used.
pub fn check_pattern(pattern: &str) -> Result<(), EditError> {
    pattern::compile(pattern).map(|_| ())
}

/// Reads a path.
pub fn parse_path(path: &str) -> Result<yaml::Path, EditError> {
    yaml::Path::parse(path)
        .map_err(|error| EditError::new(format!("\"{path}\" is not a path: {error}")))
}

/// The outcome of an edit of one YAML scalar.
fn changed(edited: yaml::Edited, place: &str, value: &str) -> (String, Vec<Change>) {
    let change = edited.changed.then(|| Change {
        place: place.to_owned(),
        before: edited.before,
        after: value.to_owned(),
        line: edited.line,
    });
    (edited.text, change.into_iter().collect())
}
