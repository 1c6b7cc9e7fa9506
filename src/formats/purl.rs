//! Package URLs: one line that names a package anywhere, `pkg:deb/debian/zlib1g@1:1.2.13-1?arch=amd64`.
//!
//! Builds them as the specification says: which parts are lowercase depends on the type,
//! qualifiers are sorted, everything that could be taken for a separator is percent-encoded. It
//! does not read them, and it does not know which qualifiers a type wants.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A package URL while it is put together.
#[derive(Clone, Debug)]
pub struct Purl<'a> {
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    version: &'a str,
    qualifiers: BTreeMap<&'a str, &'a str>,
}

impl<'a> Purl<'a> {
    /// A URL with a type (`deb`, `npm`) and a name, and nothing else.
    pub fn new(kind: &'a str, name: &'a str) -> Self {
        Self {
            kind,
            namespace: "",
            name,
            version: "",
            qualifiers: BTreeMap::new(),
        }
    }

    /// Adds what stands before the name: a distribution, a scope, a group, a path with slashes.
    pub fn namespace(mut self, namespace: &'a str) -> Self {
        self.namespace = namespace;
        self
    }

    /// Adds a version; none if it is empty.
    pub fn version(mut self, version: &'a str) -> Self {
        self.version = version;
        self
    }

    /// Adds a qualifier; none if its value is empty. `key` is lowercase.
    pub fn qualifier(mut self, key: &'a str, value: &'a str) -> Self {
        if !value.is_empty() {
            self.qualifiers.insert(key, value);
        }
        self
    }

    /// The text of the URL.
    pub fn build(&self) -> String {
        let kind = self.kind.to_ascii_lowercase();
        let mut url = format!("pkg:{kind}");
        let namespace = match kind.as_str() {
            "deb" | "apk" | "rpm" | "golang" | "npm" | "github" => self.namespace.to_lowercase(),
            _ => self.namespace.to_owned(),
        };
        for segment in namespace.split('/').filter(|segment| !segment.is_empty()) {
            url.push('/');
            encode(segment, &mut url);
        }
        url.push('/');
        encode(&name(&kind, self.name), &mut url);
        if !self.version.is_empty() {
            url.push('@');
            encode(self.version, &mut url);
        }
        for (index, (key, value)) in self.qualifiers.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(key);
            url.push('=');
            encode(value, &mut url);
        }
        url
    }
}

/// The name as the type wants it.
fn name(kind: &str, name: &str) -> String {
    match kind {
        "deb" | "apk" | "golang" | "npm" | "github" => name.to_lowercase(),
        // As the index itself compares names: runs of these are one hyphen.
        "pypi" => {
            let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
            parts.collect::<Vec<_>>().join("-").to_lowercase()
        }
        _ => name.to_owned(),
    }
}

/// Appends a text, percent-encoded but for what never separates. A colon stays, as the
/// specification asks.
fn encode(text: &str, to: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => {
                to.push(char::from(byte));
            }
            _ => {
                let _ = write!(to, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(purl: Purl<'_>, expected: &str) {
        assert_eq!(purl.build(), expected);
    }

    #[test]
    fn parts_stand_in_order_and_qualifiers_are_sorted() {
        check(
            Purl::new("deb", "zlib1g")
                .namespace("debian")
                .version("1:1.2.13.dfsg-1+b1")
                .qualifier("upstream", "zlib")
                .qualifier("distro", "debian-12")
                .qualifier("epoch", "")
                .qualifier("arch", "amd64"),
            "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1%2Bb1?arch=amd64&distro=debian-12&upstream=zlib",
        );
        check(Purl::new("cargo", "serde"), "pkg:cargo/serde");
    }

    #[test]
    fn what_separates_is_encoded() {
        check(
            Purl::new("npm", "traverse")
                .namespace("@babel")
                .version("7.0.0-beta/1"),
            "pkg:npm/%40babel/traverse@7.0.0-beta%2F1",
        );
        check(
            Purl::new("deb", "a b").version("1?2#3%4@5~6"),
            "pkg:deb/a%20b@1%3F2%233%254%405~6",
        );
        check(
            Purl::new("apk", "é").qualifier("upstream", "x=y&z"),
            "pkg:apk/%C3%A9?upstream=x%3Dy%26z",
        );
        check(
            Purl::new("golang", "store").namespace("//github.com//a/"),
            "pkg:golang/github.com/a/store",
        );
    }

    #[test]
    fn letters_are_as_the_type_wants_them() {
        check(
            Purl::new("PyPI", "Typing_Extensions").version("4.0RC1"),
            "pkg:pypi/typing-extensions@4.0RC1",
        );
        check(
            Purl::new("pypi", "ruamel.yaml__clib"),
            "pkg:pypi/ruamel-yaml-clib",
        );
        check(
            Purl::new("golang", "Viper").namespace("GitHub.com/Spf13"),
            "pkg:golang/github.com/spf13/viper",
        );
        check(
            Purl::new("rpm", "Judy").namespace("Fedora"),
            "pkg:rpm/fedora/Judy",
        );
        check(
            Purl::new("maven", "jaxb-API").namespace("javax.XML"),
            "pkg:maven/javax.XML/jaxb-API",
        );
    }
}
