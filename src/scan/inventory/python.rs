//! Python: `METADATA` and `PKG-INFO` of installed distributions.

use super::contents::{Contents, Item, license, lines, text};
use crate::scan::PackageKind;

/// Reads the header; what follows the first empty line is a description.
pub(super) fn read(bytes: &[u8]) -> Contents {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (mut name, mut version) = (String::new(), String::new());
    let (mut declared, mut expression) = (None, None);
    let mut classifiers = Vec::new();
    for line in lines(bytes) {
        if line.is_empty() {
            break;
        }
        // What a field goes on with.
        if matches!(line[0], b' ' | b'\t') {
            continue;
        }
        let Some(colon) = memchr::memchr(b':', &line[..line.len().min(64)]) else {
            continue;
        };
        let value = text(&line[colon + 1..]);
        match line[..colon].to_ascii_lowercase().as_slice() {
            b"name" if name.is_empty() => name = value,
            b"version" if version.is_empty() => version = value,
            b"license-expression" => expression = license(&value),
            b"license" => declared = license(&value),
            b"classifier" => {
                let name = value.strip_prefix("License ::");
                let name = name.and_then(|path| path.rsplit("::").next());
                classifiers.extend(name.and_then(license).filter(|name| name != "OSI Approved"));
            }
            _ => {}
        }
    }
    let licenses = match expression.or(declared) {
        Some(one) => vec![one],
        None => classifiers,
    };
    let mut contents = Contents::default();
    let item = Item {
        licenses,
        ..Item::new(PackageKind::Pypi, name, version)
    };
    if !contents.add(item) {
        contents.note("Python packages", "its metadata lacks a name or a version");
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells() {
        let file = b"Metadata-Version: 2.1\nName: typing_extensions\nVersion: 4.9.0\nLicense: PSF\n\tand more\n\
            Classifier: License :: OSI Approved :: Python Software Foundation License\n\nName: no\nVersion: 0\n";
        let contents = read(file);
        let [item] = contents.items.as_slice() else {
            panic!("{contents:?}");
        };
        assert_eq!(
            (item.name.as_str(), item.version.as_str()),
            ("typing_extensions", "4.9.0")
        );
        assert_eq!(item.licenses, ["PSF"]);
        let classified = read(b"Name: a\nVersion: 1\nClassifier: License :: OSI Approved :: MIT License\nClassifier: License :: OSI Approved");
        assert_eq!(classified.items[0].licenses, ["MIT License"]);
    }

    #[test]
    fn without_a_version_it_is_told() {
        let contents = read(b"Name: a\n");
        assert!(contents.items.is_empty() && contents.unread.len() == 1);
    }
}
