//! Paths within an image, as hashes and in one spelling.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

/// Hashes paths. Every one has its own secret, so that no image can be made to collide.
#[derive(Clone, Debug, Default)]
pub struct PathHasher(RandomState);

impl PathHasher {
    /// The hash of a path in the spelling of [`clean`].
    pub fn hash(&self, path: &str) -> u64 {
        self.0.hash_one(path)
    }
}

/// A path of an archive from the root of the image: without a leading slash or `./`, without empty
/// parts, broken UTF-8 replaced. Empty is the root itself. None if it would leave the image.
pub fn clean(path: &[u8]) -> Option<Cow<'_, str>> {
    let text = String::from_utf8_lossy(path);
    let odd = |part: &str| matches!(part, "" | "." | "..");
    if !text.split('/').any(odd) {
        return Some(text);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            // Even `a/../b` is written by nobody with good intentions.
            ".." => return None,
            part => parts.push(part),
        }
    }
    Some(Cow::Owned(parts.join("/")))
}

/// The paths of all directories above a path, the nearest first, without the root.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/').map(|(at, _)| &path[..at])
}

/// The path a symbolic link at `link` leads to, without a leading slash. Never above the root.
pub fn follow(link: &str, target: &str) -> String {
    let mut parts: Vec<&str> = match target.starts_with('/') {
        true => Vec::new(),
        false => link.split('/').collect(),
    };
    // The link's own name.
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling_and_stay_inside() {
        for (given, expected) in [
            ("./etc//os-release", Some("etc/os-release")),
            ("/etc/passwd", Some("etc/passwd")),
            ("usr/lib/", Some("usr/lib")),
            ("./", Some("")),
            ("../etc/passwd", None),
            ("a/../../b", None),
            ("a..b/...", Some("a..b/...")),
        ] {
            assert_eq!(clean(given.as_bytes()).as_deref(), expected, "{given}");
        }
        assert_eq!(clean(b"a/\xff").as_deref(), Some("a/\u{fffd}"));
    }

    #[test]
    fn links_lead_within_the_image() {
        for (link, target, expected) in [
            (
                "etc/os-release",
                "../usr/lib/os-release",
                "usr/lib/os-release",
            ),
            (
                "etc/os-release",
                "/usr/lib/os-release",
                "usr/lib/os-release",
            ),
            ("lib", "usr/lib", "usr/lib"),
            ("a/b", "../../../../x", "x"),
            ("a/b", ".", "a"),
        ] {
            assert_eq!(follow(link, target), expected);
        }
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a/b", "a"]);
    }
}
