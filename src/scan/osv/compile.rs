//! Makes of a record what a store keeps: a notice (what people read) and, for each package, what
//! decides whether a version is affected.
//!
//! What a record lists version by version is kept only where its ranges do not already say so;
//! the answer is the same and the store a fraction of the size.

use serde::{Deserialize, Serialize};

use super::ecosystem;
use super::range::{Event, Range};
use super::record::{AffectedEntry, EventEntry, Extra, RangeEntry, Record, SeverityEntry};
use super::severity::{self, Weighed, Weight};
use crate::formats::version::Scheme;
use crate::scan::{Ecosystem, Severity};

/// Longest title, in characters.
const LONGEST_TITLE: usize = 200;
/// Longest name of an ecosystem or a package that is believed, in bytes.
const LONGEST_NAME: usize = 512;
/// Prefixes of advisories of distributions that are about errors and new features.
const NO_SECURITY: [&str; 6] = ["ALBA-", "ALEA-", "RHBA-", "RHEA-", "RLBA-", "RLEA-"];

/// What a record says of the problem, whichever package has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The record's id.
    pub id: String,
    /// The problems it is about, each as the ids that mean it. An advisory of a distribution may
    /// be about many.
    #[serde(rename = "p")]
    pub problems: Vec<Vec<String>>,
    /// One line.
    #[serde(rename = "t", default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Where to read about it.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How bad it is.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<Weighed>,
}

/// Which versions of one package a record is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affected {
    /// The number of the notice within its family's store.
    #[serde(skip)]
    pub notice: u64,
    /// Ranges.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
    /// Single versions outside of the ranges.
    #[serde(rename = "v", default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// How bad it is in this package, if that differs.
    #[serde(rename = "s", default, skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<Weighed>,
}

/// A package that a record is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is from.
    pub ecosystem: Ecosystem,
    /// Its name, as the ecosystem compares it.
    pub package: String,
    /// Its versions.
    pub affected: Affected,
}

/// A record made ready to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What people read.
    pub notice: Notice,
    /// When the record last changed, in milliseconds since 1970.
    pub modified: Option<i64>,
    /// Whether it was taken back; then it has no entries.
    pub withdrawn: bool,
    /// Families it names, also those that cannot be matched.
    pub families: Vec<String>,
    /// Packages.
    pub entries: Vec<Entry>,
    /// What is wrong with parts of it; those parts are left out.
    pub complaints: Vec<String>,
}

/// Compiles a record.
pub fn compile(record: &Record<'_>) -> Compiled {
    let mut compiled = Compiled {
        modified: record.modified.as_deref().and_then(timestamp),
        withdrawn: record.withdrawn.is_some(),
        ..Compiled::default()
    };
    if record.modified.is_some() && compiled.modified.is_none() {
        let complaint = "`modified` is no date".to_owned();
        compiled.complaints.push(complaint);
    }
    let mut distribution = false;
    for affected in &record.affected {
        let Some(package) = &affected.package else {
            continue;
        };
        let name = Ecosystem(package.ecosystem.trim().to_owned());
        let family = name.family().to_owned();
        if family.is_empty() {
            continue;
        }
        if name.0.len() > LONGEST_NAME || name.0.contains(char::is_control) {
            let complaint = "the name of an ecosystem is too long or has control characters";
            compiled.complaints.push(complaint.to_owned());
            continue;
        }
        distribution |= ecosystem::is_distribution(&family);
        if !compiled.families.contains(&family) {
            compiled.families.push(family);
        }
    }
    compiled.notice = notice(record, distribution);
    if compiled.withdrawn || compiled.notice.problems.is_empty() {
        return compiled;
    }
    for affected in &record.affected {
        match entry(record, affected) {
            Ok(Some(entry)) => compiled.entries.push(entry),
            Ok(None) => {}
            Err(complaint) => compiled.complaints.push(complaint),
        }
    }
    compiled
}

/// RFC 3339, as milliseconds.
fn timestamp(text: &str) -> Option<i64> {
    let time: jiff::Timestamp = text.trim().parse().ok()?;
    Some(time.as_millisecond())
}

fn notice(record: &Record<'_>, distribution: bool) -> Notice {
    let id = record.id.trim();
    let title = record
        .summary
        .as_deref()
        .filter(|text| !text.trim().is_empty());
    let title = title.or(record.details.as_deref()).unwrap_or_default();
    let advisory = record.references.iter().find(|one| one.kind == "ADVISORY");
    let url = advisory.or(record.references.first());
    let url = url.map(|reference| reference.url.trim());
    let is_web = |url: &&str| {
        url.len() <= 2000
            && (url.starts_with("https://") || url.starts_with("http://"))
            && !url.contains(|c: char| c.is_control() || c.is_whitespace())
    };
    let source = source(id);
    let extra = record.database_specific.as_ref();
    let whose = if distribution {
        Weight::Distribution
    } else {
        Weight::Database
    };
    let mut severities = severities(source, &record.severity);
    severities.extend(words(source, whose, extra));
    Notice {
        id: id.to_owned(),
        problems: problems(record, distribution),
        title: one_line(title),
        url: url.filter(is_web).map(str::to_owned),
        severities,
    }
}

fn is_cve(id: &str) -> bool {
    id.starts_with("CVE-")
}

/// The problems that a record is about, each as the ids that mean it.
fn problems(record: &Record<'_>, distribution: bool) -> Vec<Vec<String>> {
    let id = record.id.trim();
    let owned = |id: &str| id.trim().to_owned();
    let mut same: Vec<String> = vec![id.to_owned()];
    same.extend(record.aliases.iter().map(|alias| owned(alias)));
    same.retain(|id| !id.is_empty() && id.len() <= 128);
    same.dedup();
    if !distribution || same.iter().any(|id| is_cve(id)) {
        return vec![same];
    }
    // An advisory of a distribution stands for the problems it is about. Some say so in
    // `upstream`, others in `related` only.
    let mut about: Vec<String> = Vec::new();
    for list in [&record.upstream, &record.related] {
        if about.is_empty() {
            about.extend(list.iter().map(|id| owned(id)).filter(|id| is_cve(id)));
        }
    }
    about.sort();
    about.dedup();
    match about.len() {
        0 if NO_SECURITY.iter().any(|prefix| id.starts_with(prefix)) => Vec::new(),
        0 => vec![same],
        _ => about.into_iter().map(|id| vec![id]).collect(),
    }
}

/// Who publishes a record, by its id.
fn source(id: &str) -> &'static str {
    let prefix = id.split('-').next().unwrap_or_default();
    match prefix {
        "GHSA" => "ghsa",
        "RUSTSEC" => "rustsec",
        "PYSEC" => "pypa",
        "GO" => "go",
        "DSA" | "DLA" | "DTSA" | "DEBIAN" => "debian",
        "USN" | "UBUNTU" | "LSN" => "ubuntu",
        "ALPINE" => "alpine",
        "RHSA" | "RHBA" | "RHEA" => "redhat",
        "RLSA" | "RXSA" | "RLBA" | "RLEA" => "rocky",
        "ALSA" | "ALBA" | "ALEA" => "almalinux",
        "SUSE" | "openSUSE" => "suse",
        "CGA" => "chainguard",
        _ => "osv",
    }
}

fn severities(source: &str, entries: &[SeverityEntry<'_>]) -> Vec<Weighed> {
    let severities = entries.iter().filter_map(|entry| {
        if entry.kind.starts_with("CVSS") {
            severity::vector(source, &entry.score)
        } else {
            // Ubuntu writes its priority here.
            rated(
                &entry.kind.to_ascii_lowercase(),
                Weight::Distribution,
                &entry.score,
            )
        }
    });
    severities.collect()
}

fn words(source: &str, weight: Weight, extra: Option<&Extra>) -> Vec<Weighed> {
    let Some(extra) = extra else {
        return Vec::new();
    };
    let own = [&extra.urgency, &extra.priority].into_iter().flatten();
    let own = own.filter_map(|word| rated(source, Weight::Distribution, word));
    let word = extra
        .severity
        .iter()
        .filter_map(|word| rated(source, weight, word));
    own.chain(word).collect()
}

fn rated(source: &str, weight: Weight, word: &str) -> Option<Weighed> {
    let severity = Severity {
        source: source.to_owned(),
        rating: severity::word(word)?,
        vector: None,
        score: None,
    };
    Some(Weighed(weight, severity))
}

/// What is kept of one package; nothing if its family cannot be matched, or says nothing.
fn entry(record: &Record<'_>, affected: &AffectedEntry<'_>) -> Result<Option<Entry>, String> {
    let Some(package) = &affected.package else {
        return Ok(None);
    };
    let ecosystem = Ecosystem(package.ecosystem.trim().to_owned());
    let Some(scheme) = ecosystem::scheme(ecosystem.family()) else {
        return Ok(None);
    };
    let name = ecosystem::name(ecosystem.family(), package.name.trim()).into_owned();
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains(char::is_control) {
        return Err(format!(
            "{ecosystem}: a package has no usable name",
            ecosystem = ecosystem.0
        ));
    }
    let mut ranges = Vec::new();
    for range in affected.ranges.iter().filter(|range| range.kind != "GIT") {
        let range = events(scheme, range)
            .map_err(|version| format!("{name} ({}): `{version}` is no version", ecosystem.0))?;
        if let Some(range) = range.filter(|range| !ranges.contains(range)) {
            ranges.push(range);
        }
    }
    let mut versions: Vec<String> = affected
        .versions
        .iter()
        .filter(|version| !ranges.iter().any(|range| range.holds(scheme, version)))
        .map(|version| version.clone().into_owned())
        .collect();
    versions.sort();
    versions.dedup();
    if ranges.is_empty() && versions.is_empty() {
        return Ok(None);
    }
    let source = source(record.id.trim());
    let whose = if ecosystem::is_distribution(ecosystem.family()) {
        Weight::Distribution
    } else {
        Weight::Database
    };
    let mut own = severities(source, &affected.severity);
    own.extend(words(source, whose, affected.ecosystem_specific.as_ref()));
    own.extend(words(source, whose, affected.database_specific.as_ref()));
    Ok(Some(Entry {
        ecosystem,
        package: name,
        affected: Affected {
            notice: 0,
            ranges,
            versions,
            severities: own,
        },
    }))
}

/// A range; nothing if it never begins. Fails with what is no version.
fn events(scheme: Scheme, range: &RangeEntry<'_>) -> Result<Option<Range>, String> {
    let mut events = Vec::new();
    for entry in &range.events {
        events.extend(event(entry));
    }
    for event in &events {
        let (Event::Introduced(version)
        | Event::Fixed(version)
        | Event::LastAffected(version)
        | Event::Limit(version)) = event;
        if !matches!(version.as_str(), "0" | "*") && !scheme.reads(version) {
            return Err(version.chars().take(100).collect());
        }
    }
    let begins = events
        .iter()
        .any(|event| matches!(event, Event::Introduced(_)));
    Ok(begins.then(|| Range::new(scheme, events)))
}

fn event(entry: &EventEntry<'_>) -> Vec<Event> {
    let own = |version: &Option<std::borrow::Cow<'_, str>>, make: fn(String) -> Event| {
        version
            .as_deref()
            .map(|version| make(version.trim().to_owned()))
    };
    [
        own(&entry.introduced, Event::Introduced),
        own(&entry.fixed, Event::Fixed),
        own(&entry.last_affected, Event::LastAffected),
        own(&entry.limit, Event::Limit),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The beginning of a text as one line without control characters.
fn one_line(text: &str) -> String {
    // More than is shown is not looked at, however long the text is.
    let start: String = text.chars().take(LONGEST_TITLE * 4).collect();
    let words: Vec<&str> = start
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    if line.chars().count() <= LONGEST_TITLE {
        return line;
    }
    let mut cut: String = line.chars().take(LONGEST_TITLE - 1).collect();
    cut.push('…');
    cut
}
