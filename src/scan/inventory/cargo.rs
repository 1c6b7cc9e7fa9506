//! Rust: `Cargo.lock`, and the list of crates that `cargo auditable` puts into a program.

use std::io::Read as _;

use serde::Deserialize;

use super::contents::{Contents, Item, lines, text};
use crate::scan::PackageKind;

/// Longest list of crates of one program that is read, uncompressed.
const MAX_LIST: u64 = 16 << 20;
const WHAT: &str = "Rust crates";

/// Reads the `[[package]]` tables of a lock file.
pub(super) fn read_lock(bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let (mut name, mut version) = (None, None);
    let mut inside = false;
    let mut broken = 0_u64;
    for line in lines(bytes).chain(std::iter::once(&b"[end]"[..])) {
        if line.starts_with(b"[") {
            let package = (name.take(), version.take());
            if let ((Some(name), Some(version)), true) = (&package, inside) {
                broken += u64::from(!contents.add(Item::new(PackageKind::Cargo, name, version)));
            } else if inside {
                broken += 1;
            }
            inside = line == b"[[package]]";
        } else if let Some(value) = value(line, b"name") {
            name = Some(value);
        } else if let Some(value) = value(line, b"version") {
            version = Some(value);
        }
    }
    if broken > 0 {
        let why = format!("{broken} entries of the lock file lack a name or a version");
        contents.note(WHAT, why);
    }
    contents
}

/// The text of a line `key = "text"`.
fn value(line: &[u8], key: &[u8]) -> Option<String> {
    let value = line.strip_prefix(key)?.strip_prefix(b" = \"")?;
    value.strip_suffix(b"\"").map(text)
}

#[derive(Deserialize)]
struct Audit {
    packages: Vec<Audited>,
}

#[derive(Deserialize)]
struct Audited {
    name: String,
    version: String,
    /// `build` for what only the compilation needed.
    #[serde(default)]
    kind: Option<String>,
}

/// Reads the section `.dep-v0` of a program: JSON, compressed by zlib.
pub(super) fn read_section(section: &[u8]) -> Contents {
    let mut json = Vec::new();
    let inflated = flate2::read::ZlibDecoder::new(section)
        .take(MAX_LIST + 1)
        .read_to_end(&mut json);
    if let Err(error) = inflated {
        return Contents::unread(WHAT, format!("the list in the program is broken: {error}"));
    }
    if json.len() as u64 > MAX_LIST {
        let why = format!(
            "the list in the program is longer than {} MiB",
            MAX_LIST >> 20
        );
        return Contents::unread(WHAT, why);
    }
    let audit: Audit = match serde_json::from_slice(&json) {
        Ok(audit) => audit,
        Err(error) => {
            return Contents::unread(WHAT, format!("the list in the program is broken: {error}"));
        }
    };
    let mut contents = Contents::default();
    let mut broken = 0_u64;
    for package in audit.packages {
        if package.kind.as_deref() != Some("build") {
            let item = Item::new(PackageKind::Cargo, package.name, package.version);
            broken += u64::from(!contents.add(item));
        }
    }
    if broken > 0 {
        let why = format!("{broken} entries of the list in the program make no sense");
        contents.note(WHAT, why);
    }
    contents
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;

    use super::*;

    fn shown(contents: &Contents) -> Vec<String> {
        let items = contents.items.iter();
        items
            .map(|item| format!("{} {}", item.name, item.version))
            .collect()
    }

    pub(in crate::scan::inventory) fn section(json: &[u8]) -> Vec<u8> {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(json)
            .and_then(|()| zlib.finish())
            .expect("a vector takes all")
    }

    #[test]
    fn lock_files_are_lists_of_tables() {
        let lock = b"# comment\nversion = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"x\"\n\
            dependencies = [\n \"b\",\n]\n\n[[package]]\nname = \"b\"\nversion = \"2.0.0+x\"\n\n[metadata]\nname = \"no\"\nversion = \"0\"\n";
        let contents = read_lock(lock);
        assert_eq!(shown(&contents), ["a 1.0.0", "b 2.0.0+x"]);
        assert!(contents.unread.is_empty());
        let broken = read_lock(b"[[package]]\nname = \"a\"\n[[package]]\n");
        assert_eq!(
            broken.unread[0].why,
            "2 entries of the lock file lack a name or a version"
        );
    }

    #[test]
    fn sections_list_what_runs() {
        let json = br#"{"packages":[{"name":"app","version":"0.1.0","source":"local","dependencies":[1],"root":true},
            {"name":"serde","version":"1.0.1","source":"crates.io"},
            {"name":"cc","version":"1.0.0","source":"crates.io","kind":"build"}]}"#;
        let contents = read_section(&section(json));
        assert_eq!(shown(&contents), ["app 0.1.0", "serde 1.0.1"]);
    }

    #[test]
    fn broken_sections_and_bombs_are_told() {
        let bomb = section(&vec![b' '; 20 << 20]);
        for (bytes, why) in [
            (&b"nonsense"[..], "is broken"),
            (&section(b"{}"), "is broken: missing field"),
            (&section(b"{\"packages\":[]}")[..6], "is broken"),
            (&bomb, "longer than 16 MiB"),
        ] {
            let contents = read_section(bytes);
            assert!(contents.unread[0].why.contains(why), "{contents:?}");
        }
    }
}
