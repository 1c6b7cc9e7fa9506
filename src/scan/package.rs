//! Packages found in an image, and what was seen but not read.

use serde::{Deserialize, Serialize};

/// The manager a package came with. Decides its purl type and the order of its versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageKind {
    /// dpkg: Debian, Ubuntu and what derives from them.
    Deb,
    /// Alpine, Wolfi, Chainguard.
    Apk,
    /// Red Hat, SUSE and what derives from them.
    Rpm,
    /// Rust crates.
    Cargo,
    /// Node.js.
    Npm,
    /// Python.
    Pypi,
    /// Go modules.
    Golang,
    /// Java: `group:artifact`.
    Maven,
}

impl PackageKind {
    /// The kind of a package URL.
    pub fn of_purl(purl: &str) -> Option<Self> {
        let (kind, _) = purl.strip_prefix("pkg:")?.split_once('/')?;
        Some(match kind.to_ascii_lowercase().as_str() {
            "deb" => Self::Deb,
            "apk" => Self::Apk,
            "rpm" => Self::Rpm,
            "cargo" => Self::Cargo,
            "npm" => Self::Npm,
            "pypi" => Self::Pypi,
            "golang" => Self::Golang,
            "maven" => Self::Maven,
            _ => return None,
        })
    }

    /// The word of its package URLs: `deb`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deb => "deb",
            Self::Apk => "apk",
            Self::Rpm => "rpm",
            Self::Cargo => "cargo",
            Self::Npm => "npm",
            Self::Pypi => "pypi",
            Self::Golang => "golang",
            Self::Maven => "maven",
        }
    }
}

/// One installed package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Package {
    /// The manager.
    pub kind: PackageKind,
    /// Name in the manager's own words: `@scope/name` for npm, `group:artifact` for Maven, the
    /// module path for Go.
    pub name: String,
    /// Version in the manager's own words, with epoch and revision.
    pub version: String,
    /// Architecture, for packages of a distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// What it was built from, if the manager tells and it differs. Advisories of distributions name
    /// source packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The package of the distribution that installed it, for a package of a language. Its fixes
    /// come with the distribution, under the distribution's own version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// SPDX licence expressions or names, as declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<String>,
    /// Package URL, with the qualifiers that distributions need.
    pub purl: String,
    /// Where it was found; the first is the evidence shown.
    pub locations: Vec<Location>,
}

/// The source package that a binary package was built from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A place in an image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    /// Path from the root of the image, without a leading slash. A file within an archive follows
    /// after `!`: `app.jar!lib/a.jar`. Empty if only the layer is known.
    pub path: String,
    /// Digest of the uncompressed layer (`sha256:…`), if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
}

/// The distribution, from `os-release`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distro {
    /// `ID`: `debian`, `alpine`, `rhel`.
    pub id: String,
    /// `VERSION_ID`: `12`, `3.19.1`; empty on rolling distributions.
    pub version: String,
    /// `VERSION_CODENAME`, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codename: Option<String>,
    /// `ID_LIKE`, split.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub like: Vec<String>,
    /// `PRETTY_NAME`, for people.
    pub name: String,
}

/// Something an image plainly has that was not read, so that silence is not taken for safety.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Uncovered {
    /// What it is, in a few words: `packages of Berkeley DB rpm`, `PHP packages`.
    pub what: String,
    /// Where it is.
    pub location: Location,
    /// Why it was not read.
    pub why: String,
}

/// What an image holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Digest of the image's configuration (`sha256:…`).
    pub image: String,
    /// The distribution, if the image has one.
    pub distro: Option<Distro>,
    /// Packages, by kind, name, version and place.
    pub packages: Vec<Package>,
    /// What was seen and not read.
    pub uncovered: Vec<Uncovered>,
    /// Layers from the lowest, as digests of their uncompressed content.
    pub layers: Vec<String>,
}

/// A family of advisories, by OSV's name for it: `Debian:12`, `Alpine:v3.19`, `npm`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ecosystem(pub String);

impl Ecosystem {
    /// The part before the release: `Debian` of `Debian:12`.
    pub fn family(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(family, _)| family)
    }

    /// The release: `12` of `Debian:12`.
    pub fn release(&self) -> Option<&str> {
        self.0.split_once(':').map(|(_, release)| release)
    }
}
