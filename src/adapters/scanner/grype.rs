//! Grype: how it is asked, and its JSON report.
//!
//! Only what it finds is taken from it; what fails is decided by our gate. Its own limit on the age
//! of its database is off, because ours decides that too.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::program::plain;
use super::trivy::tenths;
use crate::base::Timestamp;
use crate::ports::scanner::{ScannerChoice, Subject};
use crate::scan::{
    Advisory, Database, Distro, Finding, Location, PackageKind, Rating, Report, Severity, Status,
    Tool, fix,
};

/// The longest title kept.
const TITLE: usize = 300;

/// The arguments of a scan.
pub(super) fn arguments(subject: &Subject) -> Vec<OsString> {
    let mut source = OsString::new();
    match subject {
        Subject::Engine(reference) => {
            source.push("docker:");
            source.push(reference);
        }
        Subject::OciLayout(path) => {
            source.push("oci-dir:");
            source.push(path);
        }
        Subject::DockerArchive(path) => {
            source.push("docker-archive:");
            source.push(path);
        }
        Subject::OciArchive(path) => {
            source.push("oci-archive:");
            source.push(path);
        }
    }
    vec![source, "--output".into(), "json".into(), "--quiet".into()]
}

/// The arguments that make it tell about its database.
pub(super) fn facts_arguments() -> Vec<OsString> {
    ["db", "status", "--output", "json"]
        .map(OsString::from)
        .to_vec()
}

/// Variables it is given beside its own.
pub(super) fn variables(
    choice: &ScannerChoice,
    cache: Option<&Path>,
) -> Vec<(&'static str, OsString)> {
    let mut variables: Vec<(&str, OsString)> = vec![
        ("GRYPE_CHECK_FOR_APP_UPDATE", "false".into()),
        ("GRYPE_DB_VALIDATE_AGE", "false".into()),
    ];
    if choice.offline {
        variables.push(("GRYPE_DB_AUTO_UPDATE", "false".into()));
    }
    if let Some(cache) = cache {
        variables.push(("GRYPE_DB_CACHE_DIR", cache.into()));
    }
    variables
}

/// Whether a complaint is about a database that is missing or that it refuses as too old.
pub(super) fn is_about_database(complaint: &str) -> bool {
    let complaint = complaint.to_ascii_lowercase();
    [
        "failed to load vulnerability db",
        "unable to load vulnerability db",
        "db could not be loaded",
        "vulnerability database is invalid",
        "database does not exist",
        "database metadata not found",
        "the vulnerability database was built",
        "no database",
        "unable to update db",
        "unable to update vulnerability database",
    ]
    .iter()
    .any(|sign| complaint.contains(sign))
}

/// Whether a complaint only says that a threshold of its own configuration was reached.
pub(super) fn is_about_findings(complaint: &str) -> bool {
    complaint
        .to_ascii_lowercase()
        .contains("at or above the severity threshold")
}

#[derive(Deserialize)]
struct GrypeReport {
    matches: Vec<Match>,
    #[serde(default)]
    source: Option<Source>,
    #[serde(default)]
    distro: Option<GrypeDistro>,
    descriptor: Descriptor,
}

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    target: Value,
}

#[derive(Default, Deserialize)]
struct GrypeDistro {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default, rename = "idLike")]
    like: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Descriptor {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    db: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Match {
    vulnerability: Vulnerability,
    #[serde(default)]
    related_vulnerabilities: Option<Vec<Vulnerability>>,
    artifact: Artifact,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vulnerability {
    id: String,
    #[serde(default)]
    data_source: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    cvss: Option<Vec<Cvss>>,
    #[serde(default)]
    fix: Fix,
    #[serde(default)]
    advisories: Option<Vec<GrypeAdvisory>>,
}

#[derive(Deserialize)]
struct Cvss {
    #[serde(default)]
    version: String,
    #[serde(default)]
    vector: String,
    #[serde(default)]
    metrics: Metrics,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    #[serde(default)]
    base_score: f64,
}

#[derive(Default, Deserialize)]
struct Fix {
    #[serde(default)]
    versions: Option<Vec<String>>,
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
struct GrypeAdvisory {
    #[serde(default)]
    id: String,
}

#[derive(Deserialize)]
struct Artifact {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    locations: Option<Vec<GrypeLocation>>,
    #[serde(default)]
    purl: String,
}

#[derive(Deserialize)]
struct GrypeLocation {
    #[serde(default)]
    path: String,
    #[serde(default, rename = "layerID")]
    layer: String,
}

/// Reads its report.
pub(super) fn report(subject: &Subject, bytes: &[u8]) -> Result<Report, String> {
    let read: GrypeReport = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if read.descriptor.name != "grype" {
        return Err(format!(
            "it was made by {:?}",
            plain(&read.descriptor.name, 40)
        ));
    }
    let tool = Tool {
        name: "grype".to_owned(),
        version: Some(plain(&read.descriptor.version, 40)).filter(|version| !version.is_empty()),
    };
    let id = read
        .source
        .as_ref()
        .and_then(|source| source.target.get("imageID")?.as_str());
    let image = match (id, subject) {
        (Some(id), _) if !id.is_empty() => plain(id, 200),
        (_, subject) => subject.to_string(),
    };
    let mut report = Report {
        database: database(&read.descriptor.db),
        ..Report::new(tool, &image)
    };
    report.distro = read
        .distro
        .filter(|distro| !distro.name.is_empty())
        .map(|distro| Distro {
            name: format!("{} {}", plain(&distro.name, 60), plain(&distro.version, 60))
                .trim()
                .to_owned(),
            id: plain(&distro.name, 60),
            version: plain(&distro.version, 60),
            like: distro.like.unwrap_or_default(),
            ..Distro::default()
        });
    // It does not tell the packages in which it found nothing.
    let packages: BTreeSet<(&str, &str, &str)> = read
        .matches
        .iter()
        .map(|found| {
            let artifact = &found.artifact;
            (
                artifact.kind.as_str(),
                artifact.name.as_str(),
                artifact.version.as_str(),
            )
        })
        .collect();
    report.packages = packages.len() as u64;
    report.findings = read.matches.into_iter().map(finding).collect();
    report.settle();
    Ok(report)
}

/// What it tells about its database: an object of its own, or one within the report.
pub(super) fn database(told: &Value) -> Option<Database> {
    let status = told.get("status").filter(|status| status.is_object());
    let status = status.unwrap_or(told);
    let version = match status.get("schemaVersion") {
        Some(Value::String(text)) => Some(plain(text, 40)),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let updated = status
        .get("built")
        .and_then(Value::as_str)
        .and_then(Timestamp::of_rfc3339);
    (version.is_some() || updated.is_some()).then_some(Database { version, updated })
}

fn finding(found: Match) -> Finding {
    let Match {
        vulnerability,
        related_vulnerabilities,
        artifact,
    } = found;
    let related = related_vulnerabilities.unwrap_or_default();
    let mut ids = vec![vulnerability.id.clone()];
    ids.extend(related.iter().map(|related| related.id.clone()));
    let advisories = vulnerability.advisories.iter().flatten();
    ids.extend(advisories.map(|advisory| advisory.id.clone()));
    let rating = Rating::of_word(&vulnerability.severity);
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let described = std::iter::once(&vulnerability)
        .chain(&related)
        .find_map(|one| one.description.lines().find(|line| !line.trim().is_empty()));
    let title = plain(described.unwrap_or_default(), TITLE);
    let mut severities = vec![severity(&vulnerability)];
    for other in related.iter().map(severity) {
        if severities.iter().all(|known| known.source != other.source) {
            severities.push(other);
        }
    }
    let places = artifact.locations.unwrap_or_default().into_iter();
    let locations = places.map(|place| Location {
        path: place.path.trim_start_matches('/').to_owned(),
        layer: text(&place.layer),
    });
    let fixes = vulnerability.fix.versions.iter().flatten();
    let fixes: Vec<&str> = fixes.map(String::as_str).collect();
    let kind = PackageKind::of_purl(&artifact.purl);
    Finding {
        advisory: Advisory {
            title,
            url: text(&vulnerability.data_source).filter(|url| url.starts_with("https://")),
            severities,
            ..Advisory::of_ids(ids)
        },
        rating,
        kind,
        purl: text(&artifact.purl),
        fixed: fix::nearest(kind, &artifact.version, &fixes),
        status: match vulnerability.fix.state.as_str() {
            "fixed" => Some(Status::Fixed),
            "not-fixed" => Some(Status::Affected),
            "wont-fix" => Some(Status::WillNotFix),
            _ => None,
        },
        package: artifact.name,
        version: artifact.version,
        locations: locations.collect(),
    }
}

fn severity(told: &Vulnerability) -> Severity {
    let source = match told.namespace.split(':').next().unwrap_or_default() {
        "" => "grype",
        "github" => "ghsa",
        source => source,
    };
    // The newest kind of vector.
    let cvss = told
        .cvss
        .iter()
        .flatten()
        .filter(|cvss| !cvss.vector.is_empty())
        .max_by(|a, b| a.version.cmp(&b.version));
    Severity {
        source: source.to_owned(),
        rating: Rating::of_word(&told.severity),
        vector: cvss.map(|cvss| cvss.vector.clone()),
        score: cvss.and_then(|cvss| tenths(cvss.metrics.base_score)),
    }
}

#[cfg(test)]
mod tests;
