//! `watch`: which images of which registries start a pipeline, and how their tag is chosen.
//! Lowers only; `plan::watch` looks and chooses.

use std::time::Duration;

use crate::base::{Diagnostic, Spanned, parse_duration};
use crate::formats::constraint::Constraint;
use crate::lang::Node;
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};

/// How often a registry is looked at if nothing else is said.
const EVERY: Duration = Duration::from_secs(300);
/// The shortest time between two looks: a registry is shared with everybody else.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest: what is looked at less often is not watched.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

const SAME_TAG: NodeSpec = NodeSpec::new(
    "same-tag",
    "Choose only a tag that all of them have, and wait for those that lack the newest.",
);
const ALLOW: NodeSpec = NodeSpec {
    args: Args::some(Type::Regex, "tag"),
    ..NodeSpec::new(
        "allow",
        "Tags that may be chosen: those that one of these expressions fits as a whole.",
    )
};
const IGNORE: NodeSpec = NodeSpec {
    args: Args::some(Type::Glob, "tag"),
    ..NodeSpec::new("ignore", "Tags that may not be chosen, whatever else fits.")
};
const PLATFORM: NodeSpec = NodeSpec {
    args: Args::some(Type::Literal, "platform"),
    ..NodeSpec::new(
        "platform",
        "Platforms the image must have, all of them: \"linux/amd64\".",
    )
};
const LOOSE: NodeSpec = NodeSpec::new(
    "loose",
    "Take tags of one or two parts for versions, too. A commit or a date of digits alone reads as one.",
);

pub(super) const WATCH: NodeSpec = NodeSpec {
    args: Args::some(Type::Decl("image"), "image"),
    props: &[
        PropSpec::new(
            "semver",
            Type::Constraint,
            "choose the highest version that fits; prereleases only if the constraint names one",
        ),
        PropSpec::new(
            "strategy",
            Type::OneOf(&["newest-build", "digest", "alphabetical"]),
            "another way to choose: what was built last, what one tag stands for, the last in alphabetical order",
        ),
        PropSpec::new(
            "tag",
            Type::Literal,
            "the tag that is followed with `strategy=digest`",
        ),
        PropSpec::new(
            "every",
            Type::Duration,
            "how often to look, from \"1s\" to \"7d\"; \"5m\" if absent",
        ),
    ],
    children: &[&SAME_TAG, &ALLOW, &IGNORE, &PLATFORM, &LOOSE],
    many: true,
    ..NodeSpec::new(
        "watch",
        "A new version of images in their registry. Starts one run for each set of digests, in which \
         `${image.NAME.tag}` and its other fields are what was chosen.",
    )
};

/// Images that are watched together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The images.
    pub images: Vec<Spanned<String>>,
    /// How a tag is chosen.
    pub strategy: Strategy,
    /// How often the registries are looked at.
    pub every: Duration,
    /// All of them must have the tag.
    pub same_tag: bool,
    /// Regular expressions, one of which must fit the whole tag, if there are any.
    pub allow: Vec<String>,
    /// Globs, none of which may fit.
    pub ignore: Vec<String>,
    /// Platforms the image must have.
    pub platforms: Vec<String>,
}

/// How one of many tags is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The highest version that fits.
    Semver {
        /// What it must fit.
        constraint: Constraint,
        /// As written.
        text: String,
        /// Whether tags of fewer than three parts are versions.
        loose: bool,
    },
    /// What was built last.
    NewestBuild,
    /// What one tag stands for now.
    Digest {
        /// The tag.
        tag: String,
    },
    /// The last one in the order of its bytes.
    Alphabetical,
}

impl Strategy {
    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Self::Semver { text, .. } => format!("semver \"{text}\""),
            Self::NewestBuild => "newest-build".to_owned(),
            Self::Digest { tag } => format!("digest of {tag}"),
            Self::Alphabetical => "alphabetical".to_owned(),
        }
    }
}

impl Watch {
    /// Names of the images, in the order they are written.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|image| image.value.as_str())
    }

    /// In words, for messages.
    pub fn describe(&self) -> String {
        let names: Vec<&str> = self.names().collect();
        format!("watch {} ({})", names.join(" "), self.strategy.describe())
    }

    /// A tag it could choose, for show. It may be one that `allow` does not.
    pub fn example(&self) -> String {
        match &self.strategy {
            Strategy::Semver { constraint, .. } => constraint
                .example()
                .map_or_else(|| "1.0.0".to_owned(), |version| version.to_string()),
            Strategy::Digest { tag } => tag.clone(),
            Strategy::NewestBuild | Strategy::Alphabetical => "newest".to_owned(),
        }
    }

    pub(super) fn lower(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Self> {
        let mut problem = |code, message: String, span, help: &str| {
            diagnostics.push(Diagnostic::error(code, message, &node.source, span).help(help));
        };
        let text = |name: &str| {
            let value = node.prop(name).and_then(|value| value.as_str());
            value.map(str::to_owned)
        };
        let words = |name: &str| -> Vec<String> {
            let child = node.child(name);
            let args = child.into_iter().flat_map(|child| &child.args);
            args.filter_map(|value| value.as_str().map(str::to_owned))
                .collect()
        };
        let loose = node.flag("loose");
        let tag = text("tag");
        let strategy = match (text("semver"), text("strategy").as_deref()) {
            (Some(_), Some(_)) => {
                problem(
                    "PW0019",
                    "a tag is chosen by `semver` or by `strategy`, not by both".to_owned(),
                    node.head(),
                    "keep one; `allow` and `ignore` narrow either",
                );
                return None;
            }
            (None, None) => {
                problem(
                    "PW0018",
                    "the watch does not say how a tag is chosen".to_owned(),
                    node.head(),
                    "add `semver=\"*\"` for the highest version, or `strategy=newest-build`, `digest` or `alphabetical`",
                );
                return None;
            }
            (Some(text), None) => {
                // A text that is none was reported where it stands.
                let constraint = Constraint::parse(&text).ok()?;
                Strategy::Semver {
                    constraint,
                    text,
                    loose,
                }
            }
            (None, Some("digest")) => match &tag {
                Some(tag) => Strategy::Digest { tag: tag.clone() },
                None => {
                    problem(
                        "PW0018",
                        "the watch does not say which tag's digest it follows".to_owned(),
                        node.head(),
                        "name it: `strategy=digest tag=latest`",
                    );
                    return None;
                }
            },
            (None, Some("newest-build")) => Strategy::NewestBuild,
            (None, Some("alphabetical")) => Strategy::Alphabetical,
            (None, Some(_)) => return None,
        };
        let follows = matches!(strategy, Strategy::Digest { .. });
        if tag.is_some() && !follows {
            problem(
                "PW0019",
                "`tag` names the one tag that `strategy=digest` follows; here one of many is chosen".to_owned(),
                node.head(),
                "remove it, or narrow the tags with `allow`",
            );
        }
        if loose && !matches!(strategy, Strategy::Semver { .. }) {
            problem(
                "PW0019",
                "`loose` is about versions, and this watch does not choose by version".to_owned(),
                node.head(),
                "remove it, or choose with `semver=`",
            );
        }
        if follows && (node.child("allow").is_some() || node.child("ignore").is_some()) {
            problem(
                "PW0019",
                "`allow` and `ignore` choose among tags, and this watch follows one".to_owned(),
                node.head(),
                "remove them",
            );
        }
        let every = text("every").and_then(|text| parse_duration(&text));
        let every = every.unwrap_or(EVERY);
        if !(SHORTEST..=LONGEST).contains(&every)
            && let Some(value) = node.prop("every")
        {
            problem(
                "PW0015",
                "a registry is looked at every second at the most, and once a week at the least"
                    .to_owned(),
                value.span,
                "\"5m\" is often enough; a notification of the registry makes the next look come at once",
            );
        }
        if let Some(child) = node.child("platform") {
            for value in &child.args {
                if let Some(platform) = value.as_str()
                    && !is_platform(platform)
                {
                    problem(
                        "PW0015",
                        format!("\"{platform}\" is not a platform"),
                        value.span,
                        "write system and architecture, perhaps with a variant: \"linux/amd64\", \"linux/arm/v7\"",
                    );
                }
            }
        }
        let images = node.args.iter().filter_map(|value| value.spanned());
        Some(Self {
            images: images.collect(),
            strategy,
            every,
            same_tag: node.flag("same-tag"),
            allow: words("allow"),
            ignore: words("ignore"),
            platforms: words("platform"),
        })
    }
}

fn is_platform(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let part = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    matches!(parts.len(), 2 | 3) && parts.iter().all(part)
}
