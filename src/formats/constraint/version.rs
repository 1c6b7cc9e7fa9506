//! Versions of one to three parts, and partial ones with wildcards.

use std::cmp::Ordering;
use std::fmt;

/// A version: up to three numbers, perhaps a prerelease. Build metadata is kept for show and
/// plays no part in the order.
#[derive(Clone, Debug)]
pub struct Version {
    /// Major, minor, patch.
    pub(super) numbers: [u64; 3],
    prerelease: Vec<Identifier>,
    /// How many of the three were written.
    parts: usize,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    // Numbers stand below words, as semver.org's point 11.4.3 has it.
    Number(u64),
    Word(String),
}

/// The longest text worth reading; an image tag has at most 128 characters.
const LONGEST: usize = 256;

impl Version {
    /// Reads a version of one to three parts, with or without a leading `v`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (bare, build) = match bare.split_once('+') {
            Some((bare, build)) => (bare, Some(build)),
            None => (bare, None),
        };
        let (numbers, prerelease) = match bare.split_once('-') {
            Some((numbers, prerelease)) => (numbers, Some(prerelease)),
            None => (bare, None),
        };
        if build.is_some_and(|build| !build.split('.').all(is_identifier)) {
            return None;
        }
        let mut read = [0; 3];
        let mut parts = 0;
        for number in numbers.split('.') {
            *read.get_mut(parts)? = whole(number)?;
            parts += 1;
        }
        Some(Self {
            numbers: read,
            prerelease: prerelease.map_or(Some(Vec::new()), identifiers)?,
            parts,
            text: text.to_owned(),
        })
    }

    /// Whether all three parts were written. Tags that are only digits (a commit, a date) read as
    /// a huge major version otherwise.
    pub fn has_three_parts(&self) -> bool {
        self.parts == 3
    }

    /// Whether it is a prerelease.
    pub fn is_prerelease(&self) -> bool {
        !self.prerelease.is_empty()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers
            .cmp(&other.numbers)
            // A release stands above its prereleases.
            .then_with(|| other.is_prerelease().cmp(&self.is_prerelease()))
            .then_with(|| self.prerelease.cmp(&other.prerelease))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

// By order, so that build metadata makes no difference.
impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn identifiers(text: &str) -> Option<Vec<Identifier>> {
    text.split('.')
        .map(|part| {
            is_identifier(part).then(|| {
                whole(part).map_or_else(|| Identifier::Word(part.to_owned()), Identifier::Number)
            })
        })
        .collect()
}

/// How much of a version was left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    Patch,
    Minor,
    /// `*`.
    All,
}

/// The operand of a comparator: a version of which parts may be missing or wildcards. These are
/// zero in `version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Partial {
    pub(super) version: Version,
    open: Open,
}

impl Partial {
    /// Any version.
    pub(super) fn any() -> Self {
        Self {
            version: Version {
                numbers: [0; 3],
                prerelease: Vec::new(),
                parts: 0,
                text: "*".to_owned(),
            },
            open: Open::All,
        }
    }

    /// Reads `1`, `1.2`, `1.2.x`, `*`, `v1.2.3-rc.1`, `1.2.x-rc`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let bare = text.strip_prefix('v').unwrap_or(text);
        let end = bare.find(['-', '+']).unwrap_or(bare.len());
        let (numbers, rest) = bare.split_at(end);
        let parts: Vec<&str> = numbers.split('.').collect();
        if parts.len() > 3 {
            return None;
        }
        let mut kept = Vec::new();
        for part in &parts {
            if matches!(*part, "x" | "X" | "*") {
                break;
            }
            kept.push(whole(part)?.to_string());
        }
        // What stands after a wildcard is open as well, but has to be a part.
        let after = parts.get(kept.len()..).unwrap_or_default();
        if !after
            .iter()
            .all(|part| matches!(*part, "x" | "X" | "*") || whole(part).is_some())
        {
            return None;
        }
        let open = match kept.len() {
            0 => Open::All,
            1 => Open::Minor,
            2 => Open::Patch,
            _ => Open::Nothing,
        };
        kept.resize(3, "0".to_owned());
        let version = Version::parse(&format!("{}{rest}", kept.join(".")))?;
        Some(Self { version, open })
    }

    pub(super) fn is_partial(&self) -> bool {
        self.open != Open::Nothing
    }

    /// `~`: at least this, and no other minor version; no other major one if the minor is open.
    pub(super) fn tilde(&self, version: &Version) -> bool {
        let [major, minor, _] = self.version.numbers;
        if version < &self.version {
            return false;
        }
        let zero = self.version.numbers == [0; 3];
        if zero && matches!(self.open, Open::All | Open::Nothing) {
            return true;
        }
        version.numbers[0] == major && (self.open == Open::Minor || version.numbers[1] == minor)
    }

    /// `^`: at least this, and the same leftmost part that is not zero or open.
    pub(super) fn caret(&self, version: &Version) -> bool {
        let [major, minor, patch] = self.version.numbers;
        if version < &self.version {
            return false;
        }
        if self.open == Open::All {
            return true;
        }
        if version.numbers[0] != major {
            return false;
        }
        if major > 0 || self.open == Open::Minor {
            return true;
        }
        if version.numbers[1] != minor {
            return false;
        }
        minor > 0 || self.open == Open::Patch || version.numbers[2] == patch
    }

    /// `>` of a partial: above everything it stands for.
    pub(super) fn below(&self, version: &Version) -> bool {
        let [major, minor, _] = self.version.numbers;
        match self.open {
            Open::Minor => version.numbers[0] > major,
            Open::Patch => version.numbers[..2] > [major, minor][..],
            Open::All | Open::Nothing => version > &self.version,
        }
    }

    /// `<=` of a partial: not above everything it stands for.
    pub(super) fn not_above(&self, version: &Version) -> bool {
        let [major, minor, _] = self.version.numbers;
        match self.open {
            Open::All => true,
            Open::Minor => version.numbers[0] <= major,
            Open::Patch | Open::Nothing => version.numbers[..2] <= [major, minor][..],
        }
    }

    /// `!=` of a partial: none of what it stands for. With a prerelease, only that one.
    pub(super) fn differs(&self, version: &Version) -> bool {
        let [major, minor, _] = self.version.numbers;
        match self.open {
            Open::All => false,
            Open::Minor => version.numbers[0] != major,
            Open::Patch | Open::Nothing => {
                version.numbers[..2] != [major, minor][..]
                    || version.prerelease != self.version.prerelease
            }
        }
    }
}
