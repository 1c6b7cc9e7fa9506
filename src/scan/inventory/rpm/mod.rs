//! rpm: packages in `rpmdb.sqlite`.

mod header;
mod pages;

use super::contents::{Contents, Item, license};
use super::paths::{PathHasher, clean};
use crate::scan::{PackageKind, Source};
use header::{Header, Tag};
use pages::Database;

/// Most files whose owner is remembered.
const MAX_FILES: usize = 2_000_000;
/// Largest header of a package. rpm itself accepts 256 MiB; the kernel's has 1.
const MAX_HEADER: usize = 16 << 20;
const WHAT: &str = "packages of rpm";

/// Reads the database from its bytes.
pub(super) fn read(bytes: &[u8], hasher: &PathHasher) -> Contents {
    let mut contents = Contents::default();
    let mut broken = 0_u64;
    let read = Database::open(bytes).and_then(|database| {
        let table = database.table("Packages")?;
        database.rows(table, MAX_HEADER, |blob| match Header::parse(blob) {
            Some(header) => broken += u64::from(!take(&header, &mut contents, hasher)),
            None => broken += 1,
        })
    });
    if let Err(why) = read {
        contents.note(WHAT, format!("the database is damaged: {why}"));
    }
    if broken > 0 {
        contents.note(
            WHAT,
            format!("{broken} entries of the database make no sense"),
        );
    }
    contents
}

/// Adds a package with its files; false if its header makes no sense.
fn take(header: &Header<'_>, contents: &mut Contents, hasher: &PathHasher) -> bool {
    let (Some(name), Some(version)) = (header.text(Tag::Name), header.text(Tag::Version)) else {
        return false;
    };
    // Keys that packages are verified with are kept in the same table.
    if name == "gpg-pubkey" {
        return true;
    }
    let release = header.text(Tag::Release).unwrap_or_default();
    let mut full = match header.number(Tag::Epoch) {
        Some(epoch) => format!("{epoch}:{version}"),
        None => version,
    };
    if !release.is_empty() {
        full = format!("{full}-{release}");
    }
    own(header, &name, contents, hasher);
    contents.add(Item {
        arch: header.text(Tag::Arch).filter(|arch| !arch.is_empty()),
        source: header.text(Tag::SourceRpm).as_deref().and_then(source),
        licenses: header
            .text(Tag::License)
            .as_deref()
            .and_then(license)
            .into_iter()
            .collect(),
        ..Item::new(PackageKind::Rpm, name, full)
    })
}

/// Name, version and release of `glibc-2.34-60.el9.src.rpm`.
fn source(file: &str) -> Option<Source> {
    let stem = file.strip_suffix(".rpm")?;
    let (stem, _) = stem.rsplit_once('.')?;
    let (rest, release) = stem.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    Some(Source {
        name: name.to_owned(),
        version: format!("{version}-{release}"),
    })
}

fn own(header: &Header<'_>, name: &str, contents: &mut Contents, hasher: &PathHasher) {
    let directories: Vec<&[u8]> = header.texts(Tag::DirNames).collect();
    let owner = u32::try_from(contents.owners.len()).unwrap_or(u32::MAX);
    let before = contents.owned.len();
    for (file, index) in header
        .texts(Tag::BaseNames)
        .zip(header.numbers(Tag::DirIndexes))
    {
        if contents.owned.len() >= MAX_FILES {
            break;
        }
        let Some(directory) = usize::try_from(index)
            .ok()
            .and_then(|at| directories.get(at))
        else {
            continue;
        };
        let path = [directory, file].concat();
        let path = clean(&path);
        contents
            .owned
            .extend(path.map(|path| (hasher.hash(&path), owner)));
    }
    if contents.owned.len() > before {
        contents.owners.push(name.to_owned());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A database with one package, as SQLite writes it.
    pub(in crate::scan::inventory) fn database() -> Vec<u8> {
        pages::tests::database(512, &[header::tests::sample()])
    }

    #[test]
    fn packages_are_read_with_their_files() {
        let hasher = PathHasher::default();
        let contents = read(&database(), &hasher);
        let [item] = contents.items.as_slice() else {
            panic!("{contents:?}");
        };
        assert_eq!(
            (item.name.as_str(), item.version.as_str()),
            ("bash", "2:5.2-1")
        );
        assert_eq!(
            contents.owned,
            [(hasher.hash("bin/bash"), 0), (hasher.hash("etc/rc"), 0)]
        );
        assert!(contents.unread.is_empty());
    }

    #[test]
    fn sources_are_split_from_the_right() {
        let found = source("java-17-openjdk-17.0.9.0.9-2.el9.src.rpm").expect("it is one");
        assert_eq!(found.name, "java-17-openjdk");
        assert_eq!(found.version, "17.0.9.0.9-2.el9");
        assert_eq!(source("(none)"), None);
    }

    #[test]
    fn what_is_no_database_is_told() {
        let contents = read(b"not a database", &PathHasher::default());
        assert!(contents.unread[0].why.contains("damaged"), "{contents:?}");
    }
}
