//! The orders of versions, one for each kind of package, as its own manager sorts them.
//!
//! Each order is total over every text, also over nonsense, so that a hostile version can neither
//! fail nor send a search in circles. Whether a text is a version at all is asked apart
//! ([`Scheme::reads`]): a version that is not understood must not be taken for an old or a new one.
//!
//! Most orders compare two sequences of tokens whose end is a token like any other: what stands
//! for "nothing more" sorts between what makes a version older (`~`, `rc`) and what makes it newer.
//! Written so, the order is plainly transitive.

mod apk;
mod deb;
mod digits;
mod maven;
mod pep440;
mod rpm;
mod semver;

use std::cmp::Ordering;

/// How versions are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// dpkg: `epoch:upstream-revision`, `~` before everything.
    Deb,
    /// apk-tools: `1.2.3a_rc1_p2~0a1b-r4`.
    Apk,
    /// rpm: `epoch:version-release`, `~` before and `^` after.
    Rpm,
    /// Semantic Versioning 2.0, with or without a `v`; also with fewer or more than three numbers.
    Semver,
    /// Python: epochs, pre-, post- and development releases, local versions.
    Pep440,
    /// Maven's `ComparableVersion`.
    Maven,
    /// Go modules: Semantic Versioning with a `v`, and tags of Go itself (`go1.21rc2`).
    Go,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 7] = [
        Self::Deb,
        Self::Apk,
        Self::Rpm,
        Self::Semver,
        Self::Pep440,
        Self::Maven,
        Self::Go,
    ];

    /// Sorts two versions. What is no version sorts before every version (where the scheme has a
    /// notion of that), and by its bytes.
    pub fn compare(self, a: &str, b: &str) -> Ordering {
        match self {
            Self::Deb => deb::compare(a, b),
            Self::Apk => apk::compare(a, b),
            Self::Rpm => rpm::compare(a, b),
            Self::Semver => semver::compare(a, b),
            Self::Pep440 => pep440::compare(a, b),
            Self::Maven => maven::compare(a, b),
            Self::Go => semver::compare_go(a, b),
        }
    }

    /// Whether a text is a version of this scheme, so that comparing it means something.
    pub fn reads(self, text: &str) -> bool {
        match self {
            Self::Deb => deb::reads(text),
            Self::Apk => apk::reads(text),
            Self::Rpm => rpm::reads(text),
            Self::Semver => semver::reads(text),
            Self::Pep440 => pep440::reads(text),
            Self::Maven => maven::reads(text),
            Self::Go => semver::reads_go(text),
        }
    }
}

#[cfg(test)]
mod tests;
