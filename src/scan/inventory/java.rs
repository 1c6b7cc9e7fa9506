//! Java archives, and those within them.
//!
//! Maven writes into an archive what it is; other tools leave it to the manifest and the file's
//! name, which often do not tell the group. Such a package is listed and told as unread, too: no
//! advisory can be looked up for it.

use super::contents::{Contents, Item, Unread, lines, text};
use super::files::is_java;
use super::zip::{Entry, Zip};
use crate::scan::PackageKind;

/// Archives within archives that are entered.
const DEPTH: usize = 5;
/// Largest archive within an archive that is entered, in bytes.
const NESTED: u64 = 32 << 20;
/// Most bytes that are unpacked of one outermost archive.
const BUDGET: u64 = 1 << 30;
/// Most entries that are looked at of one outermost archive.
const ENTRIES: u64 = 4_000_000;
/// Longest manifest and list of properties.
const SMALL: u64 = 1 << 20;
/// Most packages of one outermost archive.
const PACKAGES: usize = 20_000;
const WHAT: &str = "Java archives";

/// Reads an archive at a path.
pub(super) fn read(path: &str, bytes: &[u8]) -> Contents {
    let mut reader = Reader {
        contents: Contents::default(),
        budget: BUDGET,
        entries: ENTRIES,
    };
    let name = path.rsplit('/').next().unwrap_or(path);
    reader.archive(name, None, bytes, DEPTH);
    reader.contents
}

struct Reader {
    contents: Contents,
    budget: u64,
    entries: u64,
}

/// What an archive says about itself.
#[derive(Default)]
struct Archive {
    /// Group, artifact and version of everything Maven put into it.
    poms: Vec<(String, String, String)>,
    /// Group and artifact where only the longer file is there.
    bare: Vec<(String, String)>,
    manifest: Vec<(String, String)>,
    classes: bool,
}

impl Reader {
    fn note(&mut self, within: Option<&str>, why: &str) {
        let known = self.contents.unread.iter().any(|unread| unread.why == why);
        // One bomb may hold thousands.
        if !known || self.contents.unread.len() < 100 {
            self.contents.unread.push(Unread {
                what: WHAT.to_owned(),
                why: why.to_owned(),
                within: within.map(str::to_owned),
            });
        }
    }

    fn archive(&mut self, name: &str, within: Option<&str>, bytes: &[u8], depth: usize) {
        let zip = match Zip::open(bytes) {
            Ok(zip) => zip,
            Err(why) => return self.note(within, &format!("the archive is damaged: {why}")),
        };
        let mut archive = Archive::default();
        for entry in zip.entries() {
            if self.entries == 0 {
                return self.note(within, "there are too many files in the archive");
            }
            self.entries -= 1;
            match entry {
                Ok(entry) => self.entry(&zip, &entry, &mut archive, within, depth),
                Err(why) => {
                    self.note(within, &format!("the archive is damaged: {why}"));
                    break;
                }
            }
        }
        self.identify(name, within, archive);
    }

    fn entry<'a>(
        &mut self,
        zip: &Zip<'a>,
        entry: &Entry<'a>,
        archive: &mut Archive,
        within: Option<&str>,
        depth: usize,
    ) {
        let name = &*entry.name;
        if name.ends_with(".class") {
            archive.classes = true;
        } else if name.eq_ignore_ascii_case("META-INF/MANIFEST.MF") {
            if let Some(content) = self.content(zip, entry, SMALL, within) {
                archive.manifest = manifest(&content);
            }
        } else if let Some((group, artifact, file)) = maven(name) {
            if file == "pom.xml" {
                archive.bare.push((group.to_owned(), artifact.to_owned()));
            } else if let Some(content) = self.content(zip, entry, SMALL, within) {
                let found = properties(&content);
                let own = |name: &str| {
                    found
                        .iter()
                        .find(|(key, _)| key == name)
                        .map(|(_, value)| value.clone())
                };
                let group = own("groupId").unwrap_or_else(|| group.to_owned());
                let artifact = own("artifactId").unwrap_or_else(|| artifact.to_owned());
                match own("version") {
                    Some(version) => archive.poms.push((group, artifact, version)),
                    None => archive.bare.push((group, artifact)),
                }
            }
        } else if is_java(name) {
            let inner = match within {
                Some(outer) => format!("{outer}!{name}"),
                None => name.to_owned(),
            };
            // Names come from the archive and go into the report.
            let inner: String = inner
                .chars()
                .filter(|c| !c.is_control())
                .take(2000)
                .collect();
            if depth == 0 {
                self.note(Some(&inner), "archives are nested too deeply");
            } else if let Some(content) = self.content(zip, entry, NESTED, Some(&inner)) {
                let own = name.rsplit('/').next().unwrap_or(name);
                self.archive(own, Some(&inner), &content, depth - 1);
            }
        }
    }

    fn content<'a>(
        &mut self,
        zip: &Zip<'a>,
        entry: &Entry<'a>,
        limit: u64,
        within: Option<&str>,
    ) -> Option<std::borrow::Cow<'a, [u8]>> {
        match zip.content(entry, limit.min(self.budget)) {
            Ok(content) => {
                self.budget = self.budget.saturating_sub(content.len() as u64);
                Some(content)
            }
            Err(why) => {
                // What is refused was unpacked that far.
                self.budget = self.budget.saturating_sub(limit.min(entry.length));
                self.note(
                    within,
                    &format!("a file in the archive cannot be read: {why}"),
                );
                None
            }
        }
    }

    /// Adds what an archive is, and what was merged into it.
    fn identify(&mut self, name: &str, within: Option<&str>, archive: Archive) {
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let (artifact, version) = split(stem);
        let own = archive
            .poms
            .iter()
            .any(|(_, own, _)| own == artifact || stem.starts_with(own.as_str()));
        let poms = archive.poms.len();
        for (group, artifact, version) in archive.poms {
            self.add(&group, &artifact, &version, within);
        }
        if own {
            return;
        }
        let field = |names: &[&str]| {
            let found = names.iter().find_map(|name| {
                archive
                    .manifest
                    .iter()
                    .find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())
            });
            found.map(|(_, value)| value.as_str())
        };
        let version = version.or_else(|| {
            field(&[
                "Implementation-Version",
                "Bundle-Version",
                "Specification-Version",
            ])
        });
        // One description without a number is that of the archive itself.
        if let ([(group, artifact)], Some(version), 0) = (archive.bare.as_slice(), version, poms) {
            return self.add(group, artifact, version, within);
        }
        let application = !extension.eq_ignore_ascii_case("jar");
        match version {
            // What was merged into it has its own names; the rest is nobody's.
            _ if poms > 0 => {}
            Some(version) => {
                match group(artifact, &field) {
                    Some(group) => self.add(&group, artifact, version, within),
                    None if application || !archive.classes => {}
                    None => {
                        self.add("", artifact, version, within);
                        self.note(within, "it does not say which group it is of, so no advisory can be found for it");
                    }
                }
            }
            None if archive.classes && !application => {
                self.note(within, "it does not say what it is");
            }
            None => {}
        }
    }

    fn add(&mut self, group: &str, artifact: &str, version: &str, within: Option<&str>) {
        if self.contents.items.len() >= PACKAGES {
            return self.note(None, "there are too many packages in the archive");
        }
        let name = match group {
            "" => artifact.to_owned(),
            group => format!("{group}:{artifact}"),
        };
        let added = self.contents.add(Item {
            within: within.map(str::to_owned),
            ..Item::new(PackageKind::Maven, name, version)
        });
        if !added {
            self.note(within, "its name or version makes no sense");
        }
    }
}

/// Group, artifact and file of `META-INF/maven/GROUP/ARTIFACT/pom.properties`.
fn maven(name: &str) -> Option<(&str, &str, &str)> {
    let mut parts = name.strip_prefix("META-INF/maven/")?.split('/');
    let found = (parts.next()?, parts.next()?, parts.next()?);
    let known = matches!(found.2, "pom.properties" | "pom.xml") && parts.next().is_none();
    known.then_some(found)
}

/// Artifact and version of a file name: the version begins with a digit after a hyphen.
fn split(stem: &str) -> (&str, Option<&str>) {
    let bytes = stem.as_bytes();
    let at = (1..bytes.len().saturating_sub(1))
        .find(|at| bytes[*at] == b'-' && bytes[*at + 1].is_ascii_digit());
    match at {
        Some(at) => (&stem[..at], Some(&stem[at + 1..])),
        None => (stem, None),
    }
}

/// The group, where the manifest tells it beyond doubt.
fn group<'a>(artifact: &str, field: &impl Fn(&[&str]) -> Option<&'a str>) -> Option<String> {
    let vendor =
        field(&["Implementation-Vendor-Id"]).filter(|id| id.contains('.') && !id.contains(' '));
    let bundle = field(&["Bundle-SymbolicName", "Automatic-Module-Name"]);
    let bundle = bundle.map(|name| name.split(';').next().unwrap_or(name).trim());
    // `org.example.artifact`, with the artifact's hyphens or without.
    let inner = bundle.and_then(|name| {
        let dotted = artifact.replace('-', ".");
        [artifact, dotted.as_str()]
            .into_iter()
            .find_map(|end| name.strip_suffix(end)?.strip_suffix('.'))
            .filter(|group| group.contains('.'))
    });
    inner.or(vendor).map(str::to_owned)
}

/// The main part of a manifest: `Key: value`, long values go on after a space.
fn manifest(bytes: &[u8]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in lines(bytes) {
        if line.is_empty() {
            break;
        }
        if let (Some(more), Some((_, value))) = (line.strip_prefix(b" "), found.last_mut()) {
            if value.len() < 2000 {
                value.push_str(&text(more));
            }
        } else if let Some(colon) = memchr::memchr(b':', line) {
            found.push((text(&line[..colon]), text(&line[colon + 1..])));
        }
        if found.len() > 500 {
            break;
        }
    }
    found
}

/// A list of properties: `key=value`, in the plain form Maven writes.
fn properties(bytes: &[u8]) -> Vec<(String, String)> {
    lines(bytes)
        .filter(|line| !line.starts_with(b"#"))
        .filter_map(|line| {
            let at = line.iter().position(|byte| matches!(byte, b'=' | b':'))?;
            Some((text(&line[..at]), text(&line[at + 1..])))
        })
        .take(100)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::inventory::zip::tests::zip;

    #[track_caller]
    fn check(name: &str, files: &[(&str, &[u8])], expected: &[&str], unread: &[&str]) {
        let contents = read(name, &zip(files));
        let shown: Vec<String> = contents
            .items
            .iter()
            .map(|item| match &item.within {
                Some(within) => format!("{within}: {} {}", item.name, item.version),
                None => format!("{} {}", item.name, item.version),
            })
            .collect();
        assert_eq!(shown, expected);
        let whys: Vec<&str> = contents
            .unread
            .iter()
            .map(|unread| unread.why.as_str())
            .collect();
        assert_eq!(whys.len(), unread.len(), "{whys:?}");
        for (why, part) in whys.iter().zip(unread) {
            assert!(why.contains(part), "{why}");
        }
    }

    const POM: &str = "META-INF/maven/org.example/lib/pom.properties";

    #[test]
    fn maven_says_what_it_is_also_of_what_was_merged() {
        let own = b"#Generated\r\nversion=1.2.3\r\ngroupId=org.example\r\nartifactId=lib\r\n";
        check(
            "app/lib-1.2.3.jar",
            &[(POM, own)],
            &["org.example:lib 1.2.3"],
            &[],
        );
        check(
            "lib.jar",
            &[
                (POM, own),
                ("META-INF/maven/g/merged/pom.properties", b"version = 2"),
                ("META-INF/maven/g/x/pom.xml", b"<project/>"),
            ],
            &["org.example:lib 1.2.3", "g:merged 2"],
            &[],
        );
        check(
            "a-7.jar",
            &[("META-INF/maven/g/a/pom.xml", b"")],
            &["g:a 7"],
            &[],
        );
    }

    #[test]
    fn the_manifest_tells_less() {
        let class = ("a/B.class", &b""[..]);
        let bundle = b"Manifest-Version: 1.0\r\nBundle-SymbolicName: org.apache.comm\r\n ons.lang3;x=y\r\nImplementation-Version: 3\r\n\r\nName: x\r\n";
        let manifest = "META-INF/MANIFEST.MF";
        check(
            "commons-lang3-3.12.0.jar",
            &[
                (manifest, b"Bundle-SymbolicName: org.x.commons.lang3\n"),
                class,
            ],
            &["org.x:commons-lang3 3.12.0"],
            &[],
        );
        check(
            "lang3.jar",
            &[(manifest, bundle), class],
            &["org.apache.commons:lang3 3"],
            &[],
        );
        check(
            "a.jar",
            &[(
                manifest,
                b"Implementation-Version: 1\nImplementation-Vendor-Id: org.v\n",
            )],
            &["org.v:a 1"],
            &[],
        );
        check(
            "spring-core-6.0.0.jar",
            &[class],
            &["spring-core 6.0.0"],
            &["which group"],
        );
        check("x.jar", &[class], &[], &["does not say what it is"]);
        check("empty.jar", &[], &[], &[]);
        check("app-1.0.war", &[class], &[], &[]);
    }

    #[test]
    fn archives_within_archives() {
        let inner = zip(&[(POM, b"version=1")]);
        let middle = zip(&[("BOOT-INF/lib/lib.jar", &inner), ("x", b"")]);
        check(
            "app.ear",
            &[("middle.war", &middle)],
            &["middle.war!BOOT-INF/lib/lib.jar: org.example:lib 1"],
            &[],
        );
        check(
            "app.jar",
            &[("lib/broken.jar", b"nonsense")],
            &[],
            &["damaged: it has no directory"],
        );
    }

    #[test]
    fn depth_and_size_are_limited() {
        let mut deep = zip(&[(POM, b"version=1")]);
        for _ in 0..8 {
            deep = zip(&[("a.jar", &deep)]);
        }
        check("deep.jar", &[("a.jar", &deep)], &[], &["nested too deeply"]);
        let bomb = vec![0; (NESTED + 1) as usize];
        check("bomb.jar", &[("a.jar", &bomb)], &[], &["it is too large"]);
    }

    #[test]
    fn versions_begin_with_a_digit() {
        for (stem, expected) in [
            ("guava-31.1-jre", ("guava", Some("31.1-jre"))),
            ("log4j-1.2-api-2.17.0", ("log4j", Some("1.2-api-2.17.0"))),
            ("a-b", ("a-b", None)),
            ("-1", ("-1", None)),
            ("", ("", None)),
            ("é-1", ("é", Some("1"))),
        ] {
            assert_eq!(split(stem), expected);
        }
    }
}
