//! The one report that every scanner yields and everything shown is derived from.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::{Deserialize, Serialize};

use super::gate::Judged;
use super::package::{Distro, Location, PackageKind, Uncovered};
use crate::base::{Timestamp, human_count};

/// How bad a finding is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Rating {
    /// Not rated.
    #[default]
    Unknown,
    /// Low; also what some databases call negligible or none.
    Low,
    /// Medium.
    Medium,
    /// High.
    High,
    /// Critical.
    Critical,
}

impl Rating {
    /// From worst to best.
    pub const ALL: [Self; 5] = [
        Self::Critical,
        Self::High,
        Self::Medium,
        Self::Low,
        Self::Unknown,
    ];

    /// The rating of a CVSS base score in tenths.
    pub fn of_score(tenths: u8) -> Self {
        match tenths {
            90.. => Self::Critical,
            70.. => Self::High,
            40.. => Self::Medium,
            _ => Self::Low,
        }
    }

    /// The rating a scanner or database names, whatever its case.
    pub fn of_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "critical" => Self::Critical,
            "high" | "important" => Self::High,
            "medium" | "moderate" => Self::Medium,
            "low" | "negligible" | "none" => Self::Low,
            _ => Self::Unknown,
        }
    }

    /// `critical`, as it is written in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What one source says about how bad an advisory is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Severity {
    /// Who says so: `nvd`, `ghsa`, `debian`, `cvss`.
    pub source: String,
    /// Their rating.
    pub rating: Rating,
    /// CVSS vector, if they give one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<String>,
    /// CVSS base score in tenths (75 is 7.5), if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<u8>,
}

/// What is known about a problem, whichever package has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advisory {
    /// Its id: a CVE if it has one, else the first of the database's own (`GHSA-…`, `DSA-…`).
    pub id: String,
    /// Other ids of the same problem, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// One line about it.
    #[serde(default)]
    pub title: String,
    /// Where to read about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What sources say about how bad it is, the decisive one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<Severity>,
}

impl Advisory {
    /// A problem by its ids: the first CVE names it, else the first id.
    pub fn of_ids(ids: impl IntoIterator<Item = String>) -> Self {
        let mut ids: Vec<String> = ids.into_iter().filter(|id| !id.is_empty()).collect();
        let first = ids.iter().position(|id| id.starts_with("CVE-"));
        let id = match ids.is_empty() {
            true => String::new(),
            false => ids.remove(first.unwrap_or(0)),
        };
        ids.sort();
        ids.dedup();
        ids.retain(|alias| *alias != id);
        Self {
            id,
            aliases: ids,
            ..Self::default()
        }
    }

    /// Whether an id names this problem, whatever its case.
    pub fn is(&self, id: &str) -> bool {
        std::iter::once(&self.id)
            .chain(&self.aliases)
            .any(|own| own.eq_ignore_ascii_case(id))
    }

    /// The decisive rating.
    pub fn rating(&self) -> Rating {
        self.severities
            .first()
            .map_or(Rating::Unknown, |severity| severity.rating)
    }
}

/// Whether an id names one problem. The advisory of a distribution or vendor may be about several, so
/// that sharing one says little.
pub(super) fn is_of_one_problem(id: &str) -> bool {
    let id = id.trim().to_ascii_uppercase();
    ["CVE-", "GHSA-", "GO-", "PYSEC-", "RUSTSEC-"]
        .iter()
        .any(|prefix| id.starts_with(prefix))
}

/// One problem in one package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The problem.
    #[serde(flatten)]
    pub advisory: Advisory,
    /// How bad it is here: the decisive severity.
    pub rating: Rating,
    /// The package, in its manager's words.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The manager, if the scanner tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PackageKind>,
    /// The package URL, if the scanner tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    /// The lowest version after the installed one without the problem, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
    /// How its maker deals with it, if the scanner tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Where the package is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<Location>,
}

/// How the maker of a package deals with a problem in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// There is a version without it.
    Fixed,
    /// It is there, and nothing more is said.
    Affected,
    /// Whether it is there is being looked into.
    UnderInvestigation,
    /// It will be fixed later.
    FixDeferred,
    /// It will not be fixed.
    WillNotFix,
    /// Nothing is fixed in this release any more.
    EndOfLife,
}

impl Status {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Affected => "no fix yet",
            Self::UnderInvestigation => "under investigation",
            Self::FixDeferred => "fix deferred",
            Self::WillNotFix => "will not be fixed",
            Self::EndOfLife => "end of life",
        }
    }
}

/// The program that looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `trivy`, `grype`, `builtin`.
    pub name: String,
    /// Its version, if it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Tool {
    /// A program whose version is not known.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: None,
        }
    }
}

/// The advisory database that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Version of its format or its own number, if it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When its content was made, if it tells. For several parts, the oldest that was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
}

/// What a scanner found in an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form; 1.
    pub schema: u32,
    /// Digest of the image's configuration, or the reference that was scanned.
    pub image: String,
    /// The program.
    pub tool: Tool,
    /// Its database, if it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// The distribution of the image, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distro: Option<Distro>,
    /// Packages looked at.
    pub packages: u64,
    /// Findings: worst first, then by package, version and id. One problem counts once for each
    /// package.
    pub findings: Vec<Finding>,
    /// What the image has and the scanner did not read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncovered: Vec<Uncovered>,
    /// What else is worth saying, such as that the distribution gets no more fixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// What the gate of the pipeline made of it, if one judged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Judged>,
}

impl Finding {
    /// A finding of which no more is known than this.
    pub fn new(id: &str, package: &str, version: &str, rating: Rating) -> Self {
        Self {
            advisory: Advisory {
                id: id.to_owned(),
                ..Advisory::default()
            },
            rating,
            package: package.to_owned(),
            version: version.to_owned(),
            kind: None,
            purl: None,
            fixed: None,
            status: None,
            locations: Vec::new(),
        }
    }
}

impl Finding {
    /// Takes in what another finding of the same problem in the same package says.
    fn absorb(&mut self, other: Self) {
        for location in other.locations {
            if !self.locations.contains(&location) {
                self.locations.push(location);
            }
        }
        for alias in other.advisory.aliases {
            if let Err(at) = self.advisory.aliases.binary_search(&alias) {
                self.advisory.aliases.insert(at, alias);
            }
        }
        for severity in other.advisory.severities {
            if !self.advisory.severities.contains(&severity) {
                self.advisory.severities.push(severity);
            }
        }
        self.rating = self.rating.max(other.rating);
        self.fixed = self.fixed.take().or(other.fixed);
        self.status = self.status.or(other.status);
        self.purl = self.purl.take().or(other.purl);
    }
}

impl Report {
    /// Version of the form that this program writes.
    pub const SCHEMA: u32 = 1;

    /// A report in which nothing was found yet.
    pub fn new(tool: Tool, image: &str) -> Self {
        Self {
            schema: Self::SCHEMA,
            image: image.to_owned(),
            tool,
            database: None,
            distro: None,
            packages: 0,
            findings: Vec::new(),
            uncovered: Vec::new(),
            remarks: Vec::new(),
            judged: None,
        }
    }

    /// How many packages were looked at, in words.
    pub(super) fn packages_in_words(&self) -> String {
        human_count(
            usize::try_from(self.packages).unwrap_or(usize::MAX),
            "package",
        )
    }

    /// Number of findings of a rating.
    pub fn count(&self, rating: Rating) -> usize {
        self.findings
            .iter()
            .filter(|finding| finding.rating == rating)
            .count()
    }

    /// Makes one finding of those that name the same problem in the same package at several places,
    /// and puts findings into their order.
    pub fn settle(&mut self) {
        let key = |finding: &Finding| {
            (
                finding.advisory.id.clone(),
                finding.package.clone(),
                finding.version.clone(),
                finding.kind,
            )
        };
        let mut known: HashMap<_, usize> = HashMap::new();
        let mut settled: Vec<Finding> = Vec::with_capacity(self.findings.len());
        for finding in std::mem::take(&mut self.findings) {
            match known.entry(key(&finding)) {
                Entry::Vacant(place) => {
                    place.insert(settled.len());
                    settled.push(finding);
                }
                Entry::Occupied(place) => settled[*place.get()].absorb(finding),
            }
        }
        self.findings = settled;
        self.sort();
    }

    /// Notes that a scanner which lists packages saw none, although there is a distribution: silence
    /// about packages it did not see is no safety.
    pub fn doubt_emptiness(&mut self) {
        let Some(distro) = self.distro.as_ref().filter(|_| self.packages == 0) else {
            return;
        };
        self.uncovered.push(Uncovered {
            what: format!("packages of {}", distro.name),
            location: Location {
                path: String::new(),
                layer: None,
            },
            why: "the image has a distribution, but no package was found in it".to_owned(),
        });
    }

    /// Puts findings into their order.
    pub fn sort(&mut self) {
        self.findings.sort_by(|a, b| {
            b.rating
                .cmp(&a.rating)
                .then_with(|| a.package.cmp(&b.package))
                .then_with(|| a.version.cmp(&b.version))
                .then_with(|| a.advisory.id.cmp(&b.advisory.id))
        });
    }
}
