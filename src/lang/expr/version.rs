//! Versions as expressions compare them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A semantic version, read leniently: an optional `v` and one to three numbers. Build metadata
/// is dropped, as it takes no part in the order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    numbers: [u64; 3],
    prerelease: Vec<Identifier>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Identifier {
    // Numbers come before words.
    Number(u64),
    Word(String),
}

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version such as \"1.2.3\" or \"v2.0.0-rc.1\"")]
pub struct VersionError(String);

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        parse(text).ok_or_else(|| VersionError(text.chars().take(80).collect()))
    }
}

fn parse(text: &str) -> Option<Version> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    let (core, prerelease) = match text.split_once('-') {
        Some((core, prerelease)) => (core, Some(prerelease)),
        None => (text, None),
    };
    let mut numbers = [0; 3];
    for (index, part) in core.split('.').enumerate() {
        *numbers.get_mut(index)? = number(part)?;
    }
    if build.is_some_and(|build| !build.split('.').all(is_word)) {
        return None;
    }
    let mut identifiers = Vec::new();
    for word in prerelease.into_iter().flat_map(|text| text.split('.')) {
        if !is_word(word) {
            return None;
        }
        identifiers.push(match number(word) {
            Some(number) => Identifier::Number(number),
            None => Identifier::Word(word.to_owned()),
        });
    }
    Some(Version {
        numbers,
        prerelease: identifiers,
    })
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // A prerelease comes before its release, so none at all is the greatest.
        let rank = |version: &Self| version.prerelease.is_empty();
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| rank(self).cmp(&rank(other)))
            .then_with(|| self.prerelease.cmp(&other.prerelease))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (index, identifier) in self.prerelease.iter().enumerate() {
            f.write_str(if index == 0 { "-" } else { "." })?;
            match identifier {
                Identifier::Number(number) => write!(f, "{number}")?,
                Identifier::Word(word) => f.write_str(word)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_ordered() {
        let order = [
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "v1.0.0",
            "1.0.1",
            "1.2",
            "1.10.0",
            "2",
        ];
        for pair in order.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_eq!(version("v1.2"), version("1.2.0+build.5"));
        assert_eq!(version("v1.2-rc.1").to_string(), "1.2.0-rc.1");
    }

    #[test]
    fn what_is_no_version() {
        for text in [
            "",
            "v",
            "latest",
            "1.",
            "1.2.3.4",
            "1.x",
            "-1",
            "1.0.0-",
            "1.0.0-a..b",
            "1.0+",
            "1 ",
            "99999999999999999999",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
