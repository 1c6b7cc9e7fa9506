//! Ranges of versions, and OSV's published way to say whether a version lies in one.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::formats::version::Scheme;

/// Where a range begins or ends. The names are short because stores hold millions of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// First version with the problem; `0` stands before every version.
    #[serde(rename = "i")]
    Introduced(String),
    /// First version without it.
    #[serde(rename = "f")]
    Fixed(String),
    /// Last version with it.
    #[serde(rename = "l")]
    LastAffected(String),
    /// The range says nothing from here on.
    #[serde(rename = "m")]
    Limit(String),
}

/// Events sorted by their versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Range(Vec<Event>);

impl Event {
    fn version(&self) -> &str {
        match self {
            Self::Introduced(version)
            | Self::Fixed(version)
            | Self::LastAffected(version)
            | Self::Limit(version) => version,
        }
    }

    fn is_beginning(&self) -> bool {
        matches!(self, Self::Introduced(version) if version == "0")
    }
}

impl Range {
    /// Sorts events into a range.
    pub fn new(scheme: Scheme, mut events: Vec<Event>) -> Self {
        // The sort is stable, so that a range that is closed and opened at one version stays open
        // there, and one that is opened and closed at one version is empty.
        events.sort_by(|a, b| match (a.is_beginning(), b.is_beginning()) {
            (false, false) => scheme.compare(a.version(), b.version()),
            (a, b) => b.cmp(&a),
        });
        Self(events)
    }

    /// Whether a version lies in it.
    pub fn holds(&self, scheme: Scheme, version: &str) -> bool {
        self.is_before_limits(scheme, version) && {
            let mut inside = false;
            for event in &self.0 {
                let order = scheme.compare(version, event.version());
                match event {
                    Event::Introduced(_) if event.is_beginning() || order != Ordering::Less => {
                        inside = true;
                    }
                    Event::Fixed(_) if order != Ordering::Less => inside = false,
                    Event::LastAffected(_) if order == Ordering::Greater => inside = false,
                    _ => {}
                }
            }
            inside
        }
    }

    /// Versions that end it.
    pub fn fixes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|event| match event {
            Event::Fixed(version) => Some(version.as_str()),
            _ => None,
        })
    }

    fn is_before_limits(&self, scheme: Scheme, version: &str) -> bool {
        let mut limits = self.0.iter().filter_map(|event| match event {
            Event::Limit(limit) => Some(limit),
            _ => None,
        });
        let Some(first) = limits.next() else {
            return true;
        };
        std::iter::once(first)
            .chain(limits)
            .any(|limit| limit == "*" || scheme.compare(version, limit) == Ordering::Less)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events as `i1.0 f1.2`, versions inside, versions outside.
    fn check(events: &str, inside: &str, outside: &str) {
        let events = events.split_whitespace().map(|event| {
            let version = event[1..].to_owned();
            match &event[..1] {
                "i" => Event::Introduced(version),
                "f" => Event::Fixed(version),
                "l" => Event::LastAffected(version),
                _ => Event::Limit(version),
            }
        });
        let range = Range::new(Scheme::Semver, events.collect());
        for (versions, expected) in [(inside, true), (outside, false)] {
            for version in versions.split_whitespace() {
                assert_eq!(
                    range.holds(Scheme::Semver, version),
                    expected,
                    "{version} {range:?}"
                );
            }
        }
    }

    #[test]
    fn versions_lie_in_ranges() {
        check("i0 f1.2.0", "0.0.0-0 0.0.1 1.1.9 1.2.0-rc.1", "1.2.0 2.0.0");
        check(
            "i1.0.0 f1.2.0 i2.0.0 f2.3.0",
            "1.0.0 1.1.0 2.0.0 2.2.9",
            "0.9.0 1.2.0 1.9.0 2.3.0",
        );
        check("f2.3.0 i2.0.0 f1.2.0 i1.0.0", "1.0.0 2.2.9", "1.2.0 2.3.0");
        check("i1.0.0 l1.4.0", "1.0.0 1.4.0", "0.9.0 1.4.1");
        check("i1.0.0", "1.0.0 99.0.0", "0.9.9");
        check("i0 f0", "", "0.0.0 1.0.0");
        check("i1.0.0 f1.0.0", "", "1.0.0 2.0.0");
        check("i1.0.0 f2.0.0 i2.0.0 f3.0.0", "1.0.0 2.0.0 2.9.0", "3.0.0");
        check("i0 m2.0.0", "1.0.0", "2.0.0 3.0.0");
        check("i0 m2.0.0 m4.0.0", "1.0.0 3.0.0", "4.0.0");
        check("i0 m*", "1.0.0 3.0.0", "");
        check("", "", "0.0.0 1.0.0");
    }
}
