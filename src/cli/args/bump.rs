//! Arguments of `bump`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args};

use crate::formats::image_reference::ImageReference;
use crate::formats::manifest::{Format, Image};
use crate::formats::yaml;

/// Arguments of `bump`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(group = ArgGroup::new("edits").required(true).multiple(true))]
pub struct Bump {
    /// Files to edit; `-` reads standard input and writes standard output
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Set the value at a path to a string; may be repeated, as all edits may
    #[arg(long, value_name = "PATH=VALUE", group = "edits")]
    pub set: Vec<Assignment>,
    /// Set the value at a path to a number, `true`, `false` or `null`
    #[arg(long, value_name = "PATH=VALUE", group = "edits")]
    pub literal: Vec<Assignment>,
    /// Write an image wherever its repository is named: NAME:TAG or NAME:TAG@DIGEST
    ///
    /// In a kustomization it is the entry of `images:`; ENTRY=NAME:TAG says which.
    #[arg(long, value_name = "[ENTRY=]IMAGE", group = "edits")]
    pub image: Vec<ImageArg>,
    /// Replace what a regular expression captures; it must match exactly once
    #[arg(long = "match", value_names = ["REGEX", "VALUE"], num_args = 2, group = "edits")]
    pub matches: Vec<String>,
    /// Replace the value before the comment `pipewright: NAME` in its line
    #[arg(long, value_name = "NAME=VALUE", group = "edits")]
    pub marker: Vec<Marker>,
    /// Add a key or an entry that is missing
    #[arg(long)]
    pub create: bool,
    /// Write --image into the container of this name only, whatever image it has
    #[arg(long, value_name = "NAME", requires = "image", conflicts_with = "at")]
    pub container: Option<String>,
    /// Write --image at this path only: a reference, or a pair such as `repository` and `tag`
    #[arg(long, value_name = "PATH", requires = "image")]
    pub at: Option<String>,
    /// Paths are of the document with these values, such as kind=Deployment/name=front
    #[arg(long, value_name = "KEY=VALUE/…")]
    pub document: Option<String>,
    /// How the files are written; by their names if not given
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub format: Option<Format>,
    /// Print the difference and write nothing
    #[arg(long, visible_alias = "diff", short = 'n')]
    pub dry_run: bool,
    /// As --dry-run, and exit with 1 if anything would change
    #[arg(long)]
    pub check: bool,
}

fn format(text: &str) -> Result<Format, String> {
    Format::named(text).ok_or_else(|| format!("it is one of {}", Format::NAMES.join(", ")))
}

/// A path and the value to set there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The path.
    pub path: String,
    /// The value.
    pub value: String,
}

impl FromStr for Assignment {
    type Err = String;

    /// The path ends at the first `=` that leaves a path before it: those of selectors do not.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut first: Option<usize> = None;
        for (at, _) in text.match_indices('=') {
            let path = &text[..at];
            if yaml::Path::parse(path).is_err() {
                continue;
            }
            // `kind=Job:.a=b` is a document and a path, not the path `kind`.
            if first.is_none() || path.contains(":.") || path.contains(":[") {
                first = Some(at);
            }
            if path.starts_with(['.', '[']) || first != Some(at) || path.contains(':') {
                break;
            }
        }
        match first {
            Some(at) => Ok(Self {
                path: text[..at].to_owned(),
                value: text[at + 1..].to_owned(),
            }),
            None => match text.split_once('=') {
                Some((path, _)) => Err(match yaml::Path::parse(path) {
                    Err(error) => format!("\"{path}\" is not a path: {error}"),
                    Ok(_) => "write PATH=VALUE".to_owned(),
                }),
                None => Err("there is no `=` between a path and a value".to_owned()),
            },
        }
    }
}

/// A marker and the value to set before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

impl FromStr for Marker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// An image, and the entry of a kustomization it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageArg {
    /// The entry.
    pub entry: Option<String>,
    /// The image.
    pub image: Image,
}

impl FromStr for ImageArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (entry, reference) = match text.split_once('=') {
            Some((entry, reference)) if !entry.is_empty() => (Some(entry.to_owned()), reference),
            _ => (None, text),
        };
        let parsed = ImageReference::parse(reference);
        let (name, tag, digest) = match parsed {
            Some(ImageReference {
                name,
                tag: Some(tag),
                digest,
            }) => (name, tag, digest),
            _ => return Err("write NAME:TAG or NAME:TAG@DIGEST".to_owned()),
        };
        Ok(Self {
            entry,
            image: Image {
                name: name.to_owned(),
                tag: tag.to_owned(),
                digest: digest.map(str::to_owned),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_where_it_reads_as_one() {
        let cases = [
            (".a.b=v", ".a.b", "v"),
            ("a=", "a", ""),
            (".a=b=c", ".a", "b=c"),
            (
                ".c[name=app].image=r.io/a:1",
                ".c[name=app].image",
                "r.io/a:1",
            ),
            (".\"a=b\"=c", ".\"a=b\"", "c"),
            (
                "kind=Job/name=x:.a[n=1].b=c=d",
                "kind=Job/name=x:.a[n=1].b",
                "c=d",
            ),
            ("tag=a/b=c", "tag", "a/b=c"),
            (".x=kind=Job:.a=b", ".x", "kind=Job:.a=b"),
        ];
        for (text, path, value) in cases {
            let found: Assignment = text
                .parse()
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((found.path.as_str(), found.value.as_str()), (path, value));
        }
        for (text, message) in [
            (".a", "no `=`"),
            (".a..b=c", "key is empty"),
            ("=x", "no key"),
        ] {
            let error = text.parse::<Assignment>().unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn images_need_a_tag() {
        let image: ImageArg = "front=localhost:5000/a:v1@sha256:ab".parse().unwrap();
        assert_eq!(image.entry.as_deref(), Some("front"));
        assert_eq!(image.image.name, "localhost:5000/a");
        assert_eq!(image.image.digest.as_deref(), Some("sha256:ab"));
        for text in ["a", "a@sha256:ab", "localhost:5000/a", "", "a:1 b"] {
            assert!(text.parse::<ImageArg>().is_err(), "{text}");
        }
    }
}
