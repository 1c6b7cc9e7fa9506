//! Reads package URLs to compare them. What is read may be written by anybody: nothing is believed
//! but what the specification lets a URL say.

use std::collections::BTreeMap;

/// A package URL, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purl {
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) qualifiers: BTreeMap<String, String>,
    subpath: String,
}

impl Purl {
    /// Reads one; `None` if it is none.
    pub(super) fn read(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("pkg:")?.trim_start_matches('/');
        let (rest, subpath) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (kind, rest) = rest.split_once('/')?;
        let (path, version) = match rest.rsplit_once('@') {
            // A scope of npm begins with the same sign.
            Some((path, version)) if !path.is_empty() && !path.ends_with('/') => {
                (path, Some(decode(version)?))
            }
            _ => (rest, None),
        };
        let path = path.trim_matches('/');
        let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
        let kind = kind.to_ascii_lowercase();
        let mut read = Self {
            namespace: decode(namespace)?,
            name: decode(name)?,
            version: version.filter(|version| !version.is_empty()),
            qualifiers: BTreeMap::new(),
            subpath: decode(subpath.trim_matches('/'))?,
            kind,
        };
        for pair in qualifiers.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=')?;
            read.qualifiers
                .insert(key.to_ascii_lowercase(), decode(value)?);
        }
        match read.kind.as_str() {
            "deb" | "apk" | "rpm" | "golang" | "npm" | "oci" | "github" => {
                read.namespace = read.namespace.to_lowercase();
                read.name = read.name.to_lowercase();
            }
            "pypi" => read.name = read.name.to_lowercase().replace(['_', '.'], "-"),
            _ => {}
        }
        (!read.kind.is_empty() && !read.name.is_empty()).then_some(read)
    }

    /// Whether this one is about a package: what it says is so there. What it leaves open (a
    /// version, a qualifier) may be anything.
    pub(super) fn covers(&self, package: &Self) -> bool {
        self.kind == package.kind
            && self.namespace == package.namespace
            && self.name == package.name
            && (self.version.is_none() || self.version == package.version)
            && (self.subpath.is_empty() || self.subpath == package.subpath)
            && self
                .qualifiers
                .iter()
                .all(|(key, value)| package.qualifiers.get(key) == Some(value))
    }
}

/// Undoes percent-encoding; `None` if what comes out is no text.
fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(wide: &str, narrow: &str, expected: bool) {
        let read = |text: &str| Purl::read(text).expect("a package URL");
        assert_eq!(
            read(wide).covers(&read(narrow)),
            expected,
            "{wide} {narrow}"
        );
    }

    #[test]
    fn what_is_left_open_may_be_anything() {
        let curl = "pkg:deb/debian/curl@7.88.1-10%2Bdeb12u5?arch=amd64&distro=debian-12";
        check("pkg:deb/debian/curl", curl, true);
        check("pkg:deb/debian/curl@7.88.1-10+deb12u5", curl, true);
        check("pkg:deb/debian/curl?arch=amd64", curl, true);
        check("pkg:deb/debian/curl@7.88.1-10", curl, false);
        check("pkg:deb/debian/curl?arch=arm64", curl, false);
        check("pkg:deb/ubuntu/curl", curl, false);
        check("pkg:deb/debian/libcurl4", curl, false);
        check(curl, "pkg:deb/debian/curl", false);
    }

    #[test]
    fn types_have_their_own_case() {
        check("pkg:NPM/%40Scope/Name@1", "pkg:npm/@scope/name@1", true);
        check("pkg:npm/@scope/name", "pkg:npm/%40scope/name@1", true);
        check("pkg:pypi/Ruamel_Yaml", "pkg:pypi/ruamel-yaml@1", true);
        check("pkg:maven/g/A", "pkg:maven/g/a@1", false);
        check("pkg:golang/a/b#c", "pkg:golang/a/b@v1", false);
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "curl",
            "pkg:deb",
            "pkg:deb/",
            "pkg:/curl",
            "pkg:deb/%zz",
            "pkg:deb/%ff",
            "pkg:deb/a%2",
            "pkg:deb/a?b",
        ] {
            assert_eq!(Purl::read(text), None, "{text:?}");
        }
    }
}
