//! What a watch asks of a tag, ready to be asked.

use std::cmp::Ordering;

use globset::{Glob, GlobMatcher};
use regex::{Regex, RegexBuilder};

use super::choose::Facts;
use crate::base::Timestamp;
use crate::event::Chosen;
use crate::formats::constraint::Version;
use crate::pipeline::{Strategy, Watch};

/// A watch whose patterns are compiled.
#[derive(Debug)]
pub struct Policy {
    strategy: Strategy,
    allow: Vec<(Regex, String)>,
    ignore: Vec<(GlobMatcher, String)>,
    platforms: Vec<String>,
}

/// Where a tag stands among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rank {
    /// By its version.
    Version(Box<Version>),
    /// By its text.
    Text(String),
    /// By the time it was built, which is read later.
    Built(Timestamp),
    /// The only one.
    Only,
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Version(a), Self::Version(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Built(a), Self::Built(b)) => a.cmp(b),
            // All ranks of one policy are of one sort.
            _ => Ordering::Equal,
        }
    }
}

impl Policy {
    /// Compiles the patterns, which were checked before.
    pub fn of(watch: &Watch) -> Self {
        let allow = watch.allow.iter().filter_map(|text| {
            let whole = format!("^(?:{text})$");
            let regex = RegexBuilder::new(&whole).size_limit(1 << 20).build();
            Some((regex.ok()?, text.clone()))
        });
        let ignore = watch.ignore.iter().filter_map(|text| {
            let glob = Glob::new(text).ok()?;
            Some((glob.compile_matcher(), text.clone()))
        });
        Self {
            strategy: watch.strategy.clone(),
            allow: allow.collect(),
            ignore: ignore.collect(),
            platforms: watch.platforms.iter().map(|text| normal(text)).collect(),
        }
    }

    /// The one tag that is followed.
    pub fn followed(&self) -> Option<&str> {
        match &self.strategy {
            Strategy::Digest { tag } => Some(tag),
            _ => None,
        }
    }

    /// Whether tags are ordered by what has to be read first.
    pub(super) fn by_build(&self) -> bool {
        self.strategy == Strategy::NewestBuild
    }

    /// Whether more than the digest has to be known of a tag.
    pub(super) fn wants_facts(&self) -> bool {
        self.by_build() || !self.platforms.is_empty()
    }

    /// Where a tag stands, or why it does not fit.
    pub fn rank(&self, tag: &str) -> Result<Rank, String> {
        if let Some(followed) = self.followed() {
            return match tag == followed {
                true => Ok(Rank::Only),
                false => Err(format!("not the tag that is followed, {followed}")),
            };
        }
        if let Some((_, pattern)) = self.ignore.iter().find(|(glob, _)| glob.is_match(tag)) {
            return Err(format!("ignored by \"{pattern}\""));
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|(regex, _)| regex.is_match(tag)) {
            let patterns: Vec<&str> = self.allow.iter().map(|(_, text)| text.as_str()).collect();
            return Err(format!("not allowed by {}", patterns.join(" or ")));
        }
        match &self.strategy {
            Strategy::Semver {
                constraint, loose, ..
            } => {
                let Some(version) = Version::parse(tag) else {
                    return Err("not a version".to_owned());
                };
                if !loose && !version.has_three_parts() {
                    return Err(
                        "a version of fewer than three parts, which may be a date or a commit (`loose` takes it)".to_owned(),
                    );
                }
                constraint
                    .judge(&version)
                    .map_err(|unmet| unmet.to_string())?;
                Ok(Rank::Version(Box::new(version)))
            }
            Strategy::Alphabetical => Ok(Rank::Text(tag.to_owned())),
            Strategy::NewestBuild => Ok(Rank::Built(Timestamp(i64::MIN))),
            Strategy::Digest { .. } => Ok(Rank::Only),
        }
    }

    /// Where something that was chosen before stands, if that can be said.
    pub(super) fn rank_of(&self, chosen: &Chosen) -> Option<Rank> {
        match &self.strategy {
            Strategy::Semver { .. } => Version::parse(&chosen.tag).map(Box::new).map(Rank::Version),
            Strategy::Alphabetical => Some(Rank::Text(chosen.tag.clone())),
            Strategy::NewestBuild => chosen.created.map(Rank::Built),
            Strategy::Digest { .. } => None,
        }
    }

    /// Which platforms an image lacks, in words.
    pub fn lacking(&self, facts: &Facts) -> Option<String> {
        let has: Vec<String> = facts.platforms.iter().map(|text| normal(text)).collect();
        let missing = self.platforms.iter().filter(|wanted| {
            let below = format!("{wanted}/");
            !has.iter()
                .any(|have| have == *wanted || have.starts_with(&below))
        });
        let missing: Vec<&str> = missing.map(String::as_str).collect();
        if missing.is_empty() {
            return None;
        }
        let mut shown = has.clone();
        shown.truncate(8);
        Some(format!(
            "has no {}; it has {}",
            missing.join(", "),
            if shown.is_empty() {
                "no platform".to_owned()
            } else {
                shown.join(", ")
            }
        ))
    }
}

/// A platform by its usual name: the variant that is the default is left out, that of 32-bit ARM is
/// added.
pub(super) fn normal(platform: &str) -> String {
    let mut parts: Vec<&str> = platform.splitn(3, '/').collect();
    if let Some(architecture) = parts.get_mut(1) {
        *architecture = match *architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
    }
    match parts.as_slice() {
        [system, "arm64", "v8"] => format!("{system}/arm64"),
        [system, "amd64", "v1"] => format!("{system}/amd64"),
        [system, "arm"] => format!("{system}/arm/v7"),
        parts => parts.join("/"),
    }
}
