//! Which version to take: of several that fix one problem, and for several problems at once.

use std::cmp::Ordering;

use super::PackageKind;
use crate::formats::version::Scheme;

/// How versions of a kind of package are sorted.
pub fn scheme(kind: PackageKind) -> Scheme {
    match kind {
        PackageKind::Deb => Scheme::Deb,
        PackageKind::Apk => Scheme::Apk,
        PackageKind::Rpm => Scheme::Rpm,
        PackageKind::Cargo | PackageKind::Npm => Scheme::Semver,
        PackageKind::Pypi => Scheme::Pep440,
        PackageKind::Golang => Scheme::Go,
        PackageKind::Maven => Scheme::Maven,
    }
}

/// Sorts as the kind does; as most languages do if the kind is not known.
fn compare(kind: Option<PackageKind>, a: &str, b: &str) -> Ordering {
    kind.map_or(Scheme::Semver, scheme).compare(a, b)
}

/// Of the versions that fix a problem the nearest to the installed one: the lowest above it. Those
/// of other lines of releases do not help, unless there is no other.
pub fn nearest(kind: Option<PackageKind>, installed: &str, fixes: &[&str]) -> Option<String> {
    let lowest = |above: bool| {
        fixes
            .iter()
            .map(|fix| fix.trim())
            .filter(|fix| !fix.is_empty())
            .filter(|fix| !above || compare(kind, fix, installed) == Ordering::Greater)
            .min_by(|a, b| compare(kind, a, b))
    };
    lowest(true).or_else(|| lowest(false)).map(str::to_owned)
}

/// The version that fixes several problems at once: the highest of those that fix one.
pub fn highest<'a>(kind: Option<PackageKind>, fixes: &[&'a str]) -> Option<&'a str> {
    fixes.iter().copied().max_by(|a, b| compare(kind, a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_fix_is_of_the_same_line_of_releases() {
        let fixes = ["2.0.6", " 1.26.17"];
        let kind = Some(PackageKind::Pypi);
        assert_eq!(nearest(kind, "1.26.5", &fixes).as_deref(), Some("1.26.17"));
        assert_eq!(nearest(kind, "2.0.1", &fixes).as_deref(), Some("2.0.6"));
        // What is told is told, even if it is lower than what is there.
        assert_eq!(nearest(kind, "3.0", &fixes).as_deref(), Some("1.26.17"));
        assert_eq!(nearest(kind, "3.0", &[""]), None);
    }

    #[test]
    fn the_one_fix_to_take_is_the_highest() {
        let kind = Some(PackageKind::Deb);
        let fixes = ["2.36-9+deb12u3", "2.36-9+deb12u10", "2.36-9+deb12u4"];
        assert_eq!(highest(kind, &fixes), Some("2.36-9+deb12u10"));
        assert_eq!(highest(None, &["1.9.0", "1.10.0"]), Some("1.10.0"));
        assert_eq!(highest(None, &[]), None);
    }
}
