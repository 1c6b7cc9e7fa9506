//! Lock files of Node.js: npm's of all versions, Yarn's, pnpm's.
//!
//! They say what is wanted. The join leaves one out where the packages themselves are installed
//! beside it; what is left is what was bundled into something else. Packages that only
//! development needs are left out where the file tells.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::contents::{Contents, Item, lines};
use crate::scan::PackageKind;

const WHAT: &str = "Node.js packages";

/// `package-lock.json`: flat `packages` since version 2, a tree of `dependencies` before.
#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    packages: Option<BTreeMap<String, Locked>>,
    #[serde(default)]
    dependencies: BTreeMap<String, Branch>,
}

#[derive(Deserialize)]
struct Locked {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    link: bool,
}

#[derive(Deserialize)]
struct Branch {
    #[serde(default)]
    version: String,
    #[serde(default)]
    dev: bool,
    #[serde(default)]
    dependencies: BTreeMap<String, Branch>,
}

/// Reads npm's lock file.
pub(super) fn read_npm(bytes: &[u8]) -> Contents {
    let lock: Lock = match serde_json::from_slice(bytes) {
        Ok(lock) => lock,
        Err(error) => return Contents::unread(WHAT, format!("the lock file is broken: {error}")),
    };
    let mut found = Vec::new();
    match lock.packages {
        Some(packages) => found.extend(packages.into_iter().filter_map(|(path, locked)| {
            // Others are parts of the project itself, or links to them.
            let (_, place) = path.rsplit_once("node_modules/")?;
            let wanted = !locked.dev && !locked.link;
            let name = locked.name.unwrap_or_else(|| place.to_owned());
            Some((name, locked.version?)).filter(|_| wanted)
        })),
        None => flatten(lock.dependencies, &mut found),
    }
    contents(found)
}

/// The parser has bounded the depth.
fn flatten(branches: BTreeMap<String, Branch>, to: &mut Vec<(String, String)>) {
    for (name, branch) in branches {
        if !branch.dev {
            // `npm:other@1.0.0` for an alias.
            let found = match branch.version.strip_prefix("npm:").and_then(split_at) {
                Some((name, version)) => (name.to_owned(), version.to_owned()),
                None => (name, branch.version),
            };
            to.push(found);
        }
        flatten(branch.dependencies, to);
    }
}

/// Reads Yarn's lock file, that of version 1 and the newer one that is nearly YAML.
pub(super) fn read_yarn(bytes: &[u8]) -> Contents {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut name = None;
    for line in lines(bytes) {
        let Ok(line) = std::str::from_utf8(line) else {
            return Contents::unread(WHAT, "the lock file is no text");
        };
        if !line.starts_with([' ', '#']) && line.ends_with(':') {
            name = yarn_name(line);
        } else if let Some(name) = &name {
            let field = line
                .strip_prefix("  ")
                .filter(|rest| !rest.starts_with(' '));
            let value = field.and_then(|field| field.strip_prefix("version"));
            if let Some(value) = value.filter(|value| value.starts_with([' ', ':'])) {
                let version = value.trim_start_matches(':').trim().trim_matches('"');
                // The project's own parts.
                if version != "0.0.0-use.local" {
                    found.push((name.clone(), version.to_owned()));
                }
            }
        }
    }
    contents(found)
}

/// The name that the line above an entry gives: `"@a/b@^1.0.0", "@a/b@^1.1.0":`.
fn yarn_name(line: &str) -> Option<String> {
    let first = line.trim_end_matches(':').split(',').next()?;
    let (name, range) = split_at(first.trim().trim_matches('"'))?;
    // `x@npm:y@^1` is another name for y.
    let alias = range.strip_prefix("npm:").and_then(split_at);
    Some(alias.map_or(name, |(real, _)| real).to_owned())
}

/// Reads pnpm's lock file: the keys of `packages` hold name and version.
pub(super) fn read_pnpm(bytes: &[u8]) -> Contents {
    let mut found = Vec::new();
    let mut inside = false;
    for line in lines(bytes) {
        let Ok(line) = std::str::from_utf8(line) else {
            return Contents::unread(WHAT, "the lock file is no text");
        };
        if !line.starts_with([' ', '#']) && !line.is_empty() {
            inside = line == "packages:";
        } else if let Some(key) = line.strip_prefix("  ").filter(|_| inside) {
            let key = key.strip_suffix(':').or_else(|| key.strip_suffix(": {}"));
            let key = key.filter(|key| !key.starts_with(' '));
            found.extend(key.and_then(pnpm_key));
        }
    }
    contents(found)
}

/// `/@a/b/1.0.0_peer`, `/@a/b@1.0.0(peer)` or `'@a/b@1.0.0'`, by age.
fn pnpm_key(key: &str) -> Option<(String, String)> {
    let key = key.trim_matches(['\'', '"']);
    let bare = key.split('(').next()?;
    let (name, version) = match bare.strip_prefix('/') {
        None => split_at(bare)?,
        Some(bare) => {
            let scope = match bare.starts_with('@') {
                true => bare.find('/')? + 1,
                false => 0,
            };
            let at = scope + bare[scope..].find(['/', '@'])?;
            (&bare[..at], &bare[at + 1..])
        }
    };
    let version = version.split('_').next()?;
    // Those of git and of tarballs have no version of the registry's.
    let numbered = version.starts_with(|first: char| first.is_ascii_digit());
    numbered.then(|| (name.to_owned(), version.to_owned()))
}

/// Splits at the last `@` that is not that of a scope.
fn split_at(text: &str) -> Option<(&str, &str)> {
    let start = usize::from(text.starts_with('@'));
    let at = start + text.get(start..)?.find('@')?;
    (at > 0).then(|| (&text[..at], &text[at + 1..]))
}

fn contents(mut found: Vec<(String, String)>) -> Contents {
    found.sort_unstable();
    found.dedup();
    let mut contents = Contents::default();
    let mut broken = 0_u64;
    for (name, version) in found {
        // What comes from git or a file has an address instead.
        if !version.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        if !contents.add(Item::new(PackageKind::Npm, name, version)) {
            broken += 1;
        }
    }
    if broken > 0 {
        let why = format!("{broken} entries of the lock file have no name that can be one");
        contents.note(WHAT, why);
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(contents: Contents, expected: &[&str]) {
        assert!(contents.unread.is_empty(), "{contents:?}");
        let items = contents.items.iter();
        let shown: Vec<String> = items
            .map(|item| format!("{} {}", item.name, item.version))
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn npm_of_all_versions() {
        let one = r#"{"lockfileVersion": 1, "dependencies": {
            "a": {"version": "1.0.0", "dependencies": {"b": {"version": "2.0.0"}}},
            "d": {"version": "1.0.0", "dev": true},
            "z": {"version": "npm:@s/real@3.0.0"},
            "g": {"version": "git+ssh://x"}}}"#;
        check(
            read_npm(one.as_bytes()),
            &["@s/real 3.0.0", "a 1.0.0", "b 2.0.0"],
        );
        let three = r#"{"lockfileVersion": 3, "packages": {
            "": {"name": "app", "version": "1.0.0", "dependencies": {"a": "^1"}},
            "node_modules/a": {"version": "1.0.0"},
            "node_modules/a/node_modules/@s/b": {"version": "2.0.0"},
            "node_modules/alias": {"name": "real", "version": "3.0.0"},
            "node_modules/dev": {"version": "1.0.0", "dev": true},
            "node_modules/part": {"resolved": "packages/part", "link": true},
            "packages/part": {"version": "9.0.0"}}}"#;
        check(
            read_npm(three.as_bytes()),
            &["@s/b 2.0.0", "a 1.0.0", "real 3.0.0"],
        );
        assert_eq!(read_npm(b"{").unread.len(), 1);
    }

    #[test]
    fn yarn_of_both_kinds() {
        let one =
            b"# yarn lockfile v1\n\n\"@s/a@^1.0.0\", \"@s/a@^1.1.0\":\n  version \"1.2.0\"\n  \
            dependencies:\n    version \"9\"\n\nb@~2, b@2:\n  version \"2.0.1\"\n";
        check(read_yarn(one), &["@s/a 1.2.0", "b 2.0.1"]);
        let berry = b"__metadata:\n  version: 6\n\n\"a@npm:^1.0.0, a@npm:^1.1\":\n  version: 1.2.0\n\n\
            \"x@npm:y@^3\":\n  version: 3.0.0\n\n\"app@workspace:.\":\n  version: 0.0.0-use.local\n";
        check(read_yarn(berry), &["a 1.2.0", "y 3.0.0"]);
    }

    #[test]
    fn pnpm_of_three_ages() {
        let text = b"lockfileVersion: '9.0'\nsettings:\n  /no/1.0.0:\npackages:\n\n  '@s/a@1.0.0':\n    resolution: {x: y}\n  \
            b@2.0.0(c@1.0.0):\n  /@s/d/3.0.0_e@1:\n    dev: false\n  /f@4.0.0(@s/a@1.0.0):\n  github.com/x/y/abc:\n\nsnapshots:\n  z@1.0.0: {}\n";
        check(
            read_pnpm(text),
            &["@s/a 1.0.0", "@s/d 3.0.0", "b 2.0.0", "f 4.0.0"],
        );
    }
}
