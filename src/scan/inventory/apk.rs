//! apk: `installed`, which lists packages and their files.

use super::contents::{Contents, Item, license, lines, text};
use super::paths::{PathHasher, clean};
use crate::scan::{PackageKind, Source};

/// Most files whose owner is remembered.
const MAX_FILES: usize = 2_000_000;

/// The fields we want of one package.
#[derive(Default)]
struct Entry {
    name: String,
    version: String,
    arch: String,
    origin: String,
    license: String,
}

/// Reads blocks of lines, each a letter, a colon and a value.
pub(super) fn read(bytes: &[u8], hasher: &PathHasher) -> Contents {
    let mut contents = Contents::default();
    let mut entry = Entry::default();
    let mut any = false;
    let mut directory = String::new();
    let mut broken = 0_u64;
    for line in lines(bytes).chain(std::iter::once(&b""[..])) {
        let (letter, value) = match line {
            [] => {
                if std::mem::take(&mut any) && !take(std::mem::take(&mut entry), &mut contents) {
                    broken += 1;
                }
                directory.clear();
                continue;
            }
            [letter, b':', value @ ..] => (*letter, value),
            _ => (b'?', line),
        };
        any = true;
        match letter {
            b'P' => entry.name = text(value),
            b'V' => entry.version = text(value),
            b'A' => entry.arch = text(value),
            b'o' => entry.origin = text(value),
            b'L' => entry.license = text(value),
            b'F' => directory = text(value),
            // Names come first in every block, so that its files know whose they are.
            b'R' if contents.owned.len() < MAX_FILES => {
                if contents.owners.last() != Some(&entry.name) {
                    contents.owners.push(entry.name.clone());
                }
                let path = format!("{directory}/{}", text(value));
                let owner = u32::try_from(contents.owners.len() - 1).unwrap_or(u32::MAX);
                let path = clean(path.as_bytes());
                contents
                    .owned
                    .extend(path.map(|path| (hasher.hash(&path), owner)));
            }
            _ => {}
        }
    }
    if broken > 0 {
        let why = format!("{broken} entries lack a name or a version that can be one");
        contents.note("packages of apk", why);
    }
    contents
}

/// Adds a package; false if its block makes no sense.
fn take(entry: Entry, contents: &mut Contents) -> bool {
    // A name for a set of packages: `apk add --virtual .build-deps …`.
    if entry.name.starts_with('.') {
        return true;
    }
    let source = (!entry.origin.is_empty() && entry.origin != entry.name).then(|| Source {
        name: entry.origin,
        version: entry.version.clone(),
    });
    contents.add(Item {
        arch: Some(entry.arch).filter(|arch| !arch.is_empty()),
        source,
        licenses: license(&entry.license).into_iter().collect(),
        ..Item::new(PackageKind::Apk, entry.name, entry.version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_packages_with_files() {
        let db = b"C:Q1x=\nP:musl-utils\nV:1.2.4-r2\nA:x86_64\nL:MIT AND BSD-2-Clause\no:musl\nF:sbin\nR:ldconfig\n\
            a:0:0:755\nF:usr/bin\nR:getconf\n\nP:.build-deps\nV:20240101.000000\n\nP:busybox\nV:1.36.1-r15\no:busybox\n";
        let hasher = PathHasher::default();
        let contents = read(db, &hasher);
        let [utils, busybox] = contents.items.as_slice() else {
            panic!("{contents:?}");
        };
        let source = utils.source.as_ref().expect("it has an origin");
        assert_eq!(
            (source.name.as_str(), source.version.as_str()),
            ("musl", "1.2.4-r2")
        );
        assert_eq!(utils.licenses, ["MIT AND BSD-2-Clause"]);
        assert_eq!(
            (busybox.version.as_str(), &busybox.source),
            ("1.36.1-r15", &None)
        );
        assert_eq!(contents.owners, ["musl-utils"]);
        let files = ["sbin/ldconfig", "usr/bin/getconf"].map(|path| (hasher.hash(path), 0));
        assert_eq!(contents.owned, files);
        assert!(contents.unread.is_empty());
    }

    #[test]
    fn nonsense_is_told() {
        for db in [&b"P:a\n"[..], b"\xff\xfe", b"V:1\n\nV:2\n"] {
            let contents = read(db, &PathHasher::default());
            assert!(
                contents.items.is_empty() && contents.unread.len() == 1,
                "{contents:?}"
            );
        }
    }
}
