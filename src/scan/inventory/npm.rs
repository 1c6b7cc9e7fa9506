//! Node.js: `package.json` of installed packages.

use serde::Deserialize;
use serde_json::Value;

use super::contents::{Contents, Item, license};
use crate::scan::PackageKind;

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    name: Value,
    #[serde(default)]
    version: Value,
    #[serde(default)]
    license: Value,
    #[serde(default)]
    licenses: Value,
}

/// Reads one manifest. Packages carry more of them, for their parts and for their tests: only one
/// that stands where packages are installed has to make sense.
pub(super) fn read(path: &str, bytes: &[u8]) -> Contents {
    let mut contents = Contents::default();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let why = match serde_json::from_slice::<Manifest>(bytes) {
        Ok(manifest) if item(&manifest).is_some_and(|item| contents.add(item)) => {
            return contents;
        }
        Ok(_) => "it lacks a name or a version that can be one".to_owned(),
        Err(error) => format!("it is no manifest: {error}"),
    };
    if is_installed(path) {
        contents.note("Node.js packages", why);
    }
    contents
}

fn item(manifest: &Manifest) -> Option<Item> {
    let name = manifest.name.as_str()?;
    let version = manifest.version.as_str()?;
    let mut licenses: Vec<String> = one(&manifest.license).into_iter().collect();
    if let (true, Value::Array(several)) = (licenses.is_empty(), &manifest.licenses) {
        licenses = several.iter().take(20).filter_map(one).collect();
    }
    Some(Item {
        licenses,
        ..Item::new(PackageKind::Npm, name.trim(), version.trim())
    })
}

/// A licence, written as text or, long ago, as an object.
fn one(value: &Value) -> Option<String> {
    let text = value.as_str().or_else(|| value.get("type")?.as_str());
    text.and_then(license)
}

/// Whether it is that of a package itself: `node_modules/NAME/package.json`, with a scope or not.
fn is_installed(path: &str) -> bool {
    let mut parts = path.rsplit('/').skip(1);
    let name = parts.next();
    let above = parts.next();
    match (name, above) {
        (Some(name), Some("node_modules")) => !name.starts_with(['.', '@']),
        (Some(_), Some(scope)) if scope.starts_with('@') => parts.next() == Some("node_modules"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "app/node_modules/@a/b/package.json";

    #[track_caller]
    fn check(json: &str, expected: Result<(&str, &str, &[&str]), &str>) {
        let contents = read(HERE, json.as_bytes());
        match expected {
            Ok((name, version, licenses)) => {
                let [item] = contents.items.as_slice() else {
                    panic!("{contents:?}");
                };
                assert_eq!((item.name.as_str(), item.version.as_str()), (name, version));
                assert_eq!(item.licenses, licenses);
            }
            Err(why) => {
                assert!(contents.items.is_empty());
                assert!(contents.unread[0].why.contains(why), "{contents:?}");
            }
        }
    }

    #[test]
    fn manifests_of_all_times_are_read() {
        check(
            r#"{"name": "@a/b", "version": "1.0.0", "license": "MIT", "dependencies": {"c": "1"}}"#,
            Ok(("@a/b", "1.0.0", &["MIT"])),
        );
        check(
            "\u{feff}{\"name\": \"b\", \"version\": \"=1\", \"licenses\": [{\"type\": \"BSD\"}, \"X\"]}",
            Ok(("b", "=1", &["BSD", "X"])),
        );
        check(
            r#"{"name": "b", "version": "1", "license": {"type": "MIT", "url": "x"}}"#,
            Ok(("b", "1", &["MIT"])),
        );
        check(r#"{"name": "b"}"#, Err("lacks a name or a version"));
        check(
            r#"{"name": "b", "version": 1}"#,
            Err("lacks a name or a version"),
        );
        check("[", Err("it is no manifest"));
    }

    #[test]
    fn parts_and_tests_of_packages_may_be_anything() {
        for path in [
            "app/node_modules/a/esm/package.json",
            "app/node_modules/a/test/x/package.json",
            "app/node_modules/.cache/package.json",
        ] {
            assert!(read(path, br#"{"type": "module"}"#).is_empty(), "{path}");
            assert!(read(path, b"{").is_empty(), "{path}");
        }
        assert!(!read("node_modules/a/package.json", b"{").is_empty());
    }
}
