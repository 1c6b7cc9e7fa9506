//! What one file of an image tells.

use super::files::FileKind;
use crate::scan::{Distro, PackageKind, Source};

/// Longest name or version that is taken for one, in bytes. Go modules have the longest.
const LONGEST: usize = 512;

/// What one file tells. Where it is and which distribution it belongs to comes with the join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Packages.
    pub items: Vec<Item>,
    /// Files that packages installed: hash of the path, index into `owners`.
    pub owned: Vec<(u64, u32)>,
    /// Names of the packages of `owned`.
    pub owners: Vec<String>,
    /// What it says about the distribution.
    pub distro: Option<Distro>,
    /// What it plainly holds and was not read.
    pub unread: Vec<Unread>,
}

/// A package as its manager wrote it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The manager.
    pub kind: PackageKind,
    /// Its name, as in [`crate::scan::Package`].
    pub name: String,
    /// Its version, as in [`crate::scan::Package`].
    pub version: String,
    /// Its architecture.
    pub arch: Option<String>,
    /// What it was built from.
    pub source: Option<Source>,
    /// Its declared licences.
    pub licenses: Vec<String>,
    /// Path within the file, if that is an archive: `lib/a.jar`, further levels after `!`.
    pub within: Option<String>,
}

/// Something that was seen and not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// What it is.
    pub what: String,
    /// Why it was not read.
    pub why: String,
    /// Path within the file, if that is an archive.
    pub within: Option<String>,
}

impl Contents {
    /// Nothing but something unread.
    pub(super) fn unread(what: impl Into<String>, why: impl Into<String>) -> Self {
        let mut contents = Self::default();
        contents.note(what, why);
        contents
    }

    /// A file that is larger than what is read of its kind.
    pub fn too_large(kind: FileKind) -> Self {
        let why = format!("the file is larger than {} MiB", kind.limit() >> 20);
        Self::unread(kind.what(), why)
    }

    /// Adds something unread.
    pub(super) fn note(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.unread.push(Unread {
            what: what.into(),
            why: why.into(),
            within: None,
        });
    }

    /// Adds a package; tells whether its name and version can be those of one.
    #[must_use]
    pub(super) fn add(&mut self, item: Item) -> bool {
        let fits = plausible(&item.name) && plausible(&item.version);
        if fits {
            self.items.push(item);
        }
        fits
    }

    /// Whether the file told nothing at all.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
            && self.owned.is_empty()
            && self.distro.is_none()
            && self.unread.is_empty()
    }
}

impl Item {
    /// A package of which nothing but name and version is known.
    pub(super) fn new(
        kind: PackageKind,
        name: impl Into<String>,
        version: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            name: name.into(),
            version: version.into(),
            arch: None,
            source: None,
            licenses: Vec::new(),
            within: None,
        }
    }
}

/// Whether a text can be a name or a version: not empty, short, one line.
fn plausible(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && !text.chars().any(char::is_control)
}

/// A licence as it is declared, if it is short enough to be one.
pub(super) fn license(text: &str) -> Option<String> {
    let text = text.trim();
    // Many a package has the whole text of its licence in the field.
    (plausible(text) && text.len() <= 200 && text != "UNKNOWN").then(|| text.to_owned())
}

/// Lines of bytes that may be no UTF-8, without their ends.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, after) = match memchr::memchr(b'\n', rest) {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = after;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

/// Text of a field: at most a few kilobytes, trimmed, broken UTF-8 replaced.
pub(super) fn text(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(8 << 10)];
    String::from_utf8_lossy(shown).trim().to_owned()
}
