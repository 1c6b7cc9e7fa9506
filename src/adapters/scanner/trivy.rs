//! Trivy: how it is asked, and its JSON report of schema version 2.
//!
//! Only what it finds is taken from it; what fails is decided by our gate. It is told to list all
//! packages, so that an image in which it saw none is told from one in which it found nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde::Deserialize;

use super::program::plain;
use crate::base::Timestamp;
use crate::ports::scanner::{ScannerChoice, Subject};
use crate::scan::{
    Advisory, Database, Distro, Finding, Location, PackageKind, Rating, Report, Severity, Status,
    Tool, fix,
};

/// The longest title kept.
const TITLE: usize = 300;

/// The arguments of a scan; an error for an image it cannot read.
pub(super) fn arguments(
    subject: &Subject,
    choice: &ScannerChoice,
    cache: Option<&Path>,
) -> Result<Vec<OsString>, String> {
    let mut args: Vec<OsString> = [
        "image",
        "--format",
        "json",
        "--quiet",
        "--scanners",
        "vuln",
        "--list-all-pkgs",
    ]
    .map(OsString::from)
    .to_vec();
    if choice.offline {
        args.extend(
            [
                "--offline-scan",
                "--skip-db-update",
                "--skip-java-db-update",
            ]
            .map(Into::into),
        );
    }
    args.extend(cache_arguments(cache));
    match subject {
        Subject::Engine(reference) => args.push(reference.into()),
        Subject::OciLayout(path) | Subject::DockerArchive(path) => {
            args.extend(["--input".into(), path.into()]);
        }
        Subject::OciArchive(_) => {
            return Err(
                "trivy reads no oci-archive; unpack it and name the directory as `oci:DIR`"
                    .to_owned(),
            );
        }
    }
    Ok(args)
}

/// The arguments that make it tell about itself.
pub(super) fn facts_arguments(cache: Option<&Path>) -> Vec<OsString> {
    let mut args = ["version", "--format", "json"].map(OsString::from).to_vec();
    args.extend(cache_arguments(cache));
    args
}

fn cache_arguments(cache: Option<&Path>) -> Vec<OsString> {
    cache.map_or_else(Vec::new, |cache| vec!["--cache-dir".into(), cache.into()])
}

/// Variables it is given: it need not call home.
pub(super) fn variables() -> Vec<(&'static str, OsString)> {
    vec![
        ("TRIVY_SKIP_VERSION_CHECK", "true".into()),
        ("TRIVY_DISABLE_TELEMETRY", "true".into()),
    ]
}

/// Whether a complaint is about a database that is missing or that it refuses as too old.
pub(super) fn is_about_database(complaint: &str) -> bool {
    let complaint = complaint.to_ascii_lowercase();
    [
        "cannot be specified on the first run",
        "cannot be specified with the old db schema",
        "failed to download vulnerability db",
        "failed to download java db",
        "init db error",
        "db error:",
        "database error",
        "oci artifact error",
    ]
    .iter()
    .any(|sign| complaint.contains(sign))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Facts {
    #[serde(default)]
    version: String,
    #[serde(default, rename = "VulnerabilityDB")]
    database: Option<FactsDatabase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FactsDatabase {
    #[serde(default)]
    version: u64,
    #[serde(default)]
    updated_at: String,
}

/// What it tells about itself: its version and its database.
pub(super) fn facts(bytes: &[u8]) -> Option<(String, Option<Database>)> {
    let facts: Facts = serde_json::from_slice(bytes).ok()?;
    let database = facts.database.map(|database| Database {
        version: Some(database.version.to_string()),
        updated: Timestamp::of_rfc3339(&database.updated_at),
    });
    (!facts.version.is_empty()).then(|| (plain(&facts.version, 40), database))
}

/// Its report, as far as we read it. The first two fields tell it from any other JSON.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyReport {
    schema_version: u32,
    artifact_name: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    results: Option<Vec<TrivyResult>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(default, rename = "OS")]
    os: Option<Os>,
    #[serde(default, rename = "ImageID")]
    image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Os {
    #[serde(default)]
    family: String,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "EOSL")]
    unsupported: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyResult {
    #[serde(default)]
    target: String,
    #[serde(default)]
    class: String,
    #[serde(default, rename = "Type")]
    kind: String,
    #[serde(default)]
    packages: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(default)]
    vulnerabilities: Option<Vec<TrivyFinding>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyFinding {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    #[serde(default, rename = "VendorIDs")]
    vendor_ids: Option<Vec<String>>,
    pkg_name: String,
    #[serde(default)]
    pkg_path: String,
    #[serde(default)]
    pkg_identifier: Identifier,
    #[serde(default)]
    installed_version: String,
    #[serde(default)]
    fixed_version: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    layer: Layer,
    #[serde(default)]
    severity_source: String,
    #[serde(default, rename = "PrimaryURL")]
    url: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    vendor_severity: Option<BTreeMap<String, u8>>,
    #[serde(default, rename = "CVSS")]
    cvss: Option<BTreeMap<String, Cvss>>,
}

#[derive(Default, Deserialize)]
struct Identifier {
    #[serde(default, rename = "PURL")]
    purl: String,
}

#[derive(Default, Deserialize)]
struct Layer {
    #[serde(default, rename = "DiffID")]
    diff_id: String,
}

#[derive(Default, Deserialize)]
struct Cvss {
    #[serde(default, rename = "V2Vector")]
    v2: String,
    #[serde(default, rename = "V3Vector")]
    v3: String,
    #[serde(default, rename = "V40Vector")]
    v4: String,
    #[serde(default, rename = "V2Score")]
    v2_score: f64,
    #[serde(default, rename = "V3Score")]
    v3_score: f64,
    #[serde(default, rename = "V40Score")]
    v4_score: f64,
}

/// Reads its report.
pub(super) fn report(tool: Tool, subject: &Subject, bytes: &[u8]) -> Result<Report, String> {
    let read: TrivyReport = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if read.schema_version != 2 {
        return Err(format!(
            "its schema is version {}, we know version 2",
            read.schema_version
        ));
    }
    let image = match (&read.metadata.image, subject) {
        (id, _) if !id.is_empty() => plain(id, 200),
        (_, Subject::Engine(reference)) => reference.clone(),
        _ => plain(&read.artifact_name, 300),
    };
    let results = read.results.unwrap_or_default();
    let packages = results.iter().flat_map(|result| &result.packages);
    let mut report = Report {
        packages: packages.map(|list| list.len() as u64).sum(),
        ..Report::new(tool, &image)
    };
    if let Some(os) = read.metadata.os.filter(|os| !os.family.is_empty()) {
        let name = format!("{} {}", plain(&os.family, 60), plain(&os.name, 60));
        if os.unsupported {
            report.remarks.push(format!(
                "{name} is no longer supported: newer problems are neither fixed nor told of"
            ));
        }
        report.distro = Some(Distro {
            id: plain(&os.family, 60),
            version: plain(&os.name, 60),
            name: name.trim().to_owned(),
            ..Distro::default()
        });
    }
    for result in results {
        let place = Place::of(&result);
        let found = result.vulnerabilities.into_iter().flatten();
        report
            .findings
            .extend(found.map(|found| finding(found, &place)));
    }
    report.doubt_emptiness();
    report.settle();
    Ok(report)
}

/// Where packages of a result are, and what they are.
struct Place {
    path: Option<String>,
    kind: Option<PackageKind>,
}

impl Place {
    fn of(result: &TrivyResult) -> Self {
        // These gather packages from all over the image under a name that is no path.
        let gathered = matches!(
            result.kind.as_str(),
            "node-pkg" | "python-pkg" | "jar" | "gemspec" | "conda-pkg"
        );
        let path = (result.class == "lang-pkgs" && !gathered && !result.target.is_empty())
            .then(|| result.target.trim_start_matches('/').to_owned());
        let kind = match result.kind.as_str() {
            "debian" | "ubuntu" => Some(PackageKind::Deb),
            "alpine" | "wolfi" | "chainguard" | "minimos" => Some(PackageKind::Apk),
            _ if result.class == "os-pkgs" => Some(PackageKind::Rpm),
            "cargo" | "rustbinary" => Some(PackageKind::Cargo),
            "npm" | "yarn" | "pnpm" | "bun" | "node-pkg" => Some(PackageKind::Npm),
            "python-pkg" | "pip" | "pipenv" | "poetry" | "uv" => Some(PackageKind::Pypi),
            "gomod" | "gobinary" => Some(PackageKind::Golang),
            "jar" | "pom" | "gradle" | "sbt" => Some(PackageKind::Maven),
            _ => None,
        };
        Self { path, kind }
    }
}

fn finding(found: TrivyFinding, place: &Place) -> Finding {
    let title = match found.title.is_empty() {
        true => found.description.lines().next().unwrap_or_default(),
        false => &found.title,
    };
    let rating = Rating::of_word(&found.severity);
    let mut ids = vec![found.id.clone()];
    ids.extend(found.vendor_ids.clone().unwrap_or_default());
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let kind = PackageKind::of_purl(&found.pkg_identifier.purl).or(place.kind);
    let layer = text(&found.layer.diff_id);
    let path = match found.pkg_path.as_str() {
        "" => place.path.clone(),
        path => Some(path.trim_start_matches('/').to_owned()),
    };
    let locations = match (path, layer) {
        (None, None) => Vec::new(),
        (path, layer) => vec![Location {
            path: path.unwrap_or_default(),
            layer,
        }],
    };
    Finding {
        advisory: Advisory {
            title: plain(title, TITLE),
            url: text(&found.url).filter(|url| url.starts_with("https://")),
            severities: severities(&found, rating),
            ..Advisory::of_ids(ids)
        },
        rating,
        kind,
        purl: text(&found.pkg_identifier.purl),
        fixed: fix::nearest(
            kind,
            &found.installed_version,
            &found.fixed_version.split(',').collect::<Vec<_>>(),
        ),
        status: status(&found.status),
        package: found.pkg_name,
        version: found.installed_version,
        locations,
    }
}

fn status(word: &str) -> Option<Status> {
    Some(match word {
        "fixed" => Status::Fixed,
        "affected" => Status::Affected,
        "under_investigation" => Status::UnderInvestigation,
        "fix_deferred" => Status::FixDeferred,
        "will_not_fix" => Status::WillNotFix,
        "end_of_life" => Status::EndOfLife,
        _ => return None,
    })
}

/// The decisive severity first, then what others say, by name.
fn severities(found: &TrivyFinding, rating: Rating) -> Vec<Severity> {
    let cvss = found.cvss.as_ref();
    let scored = |source: &str| {
        let (vector, score) = cvss
            .and_then(|cvss| cvss.get(source))
            .map_or((None, None), best);
        (vector, score)
    };
    let decisive = match found.severity_source.as_str() {
        "" => "trivy",
        source => source,
    };
    let (vector, score) = scored(decisive);
    let mut all = vec![Severity {
        source: decisive.to_owned(),
        rating,
        vector,
        score,
    }];
    let none = BTreeMap::new();
    let told = found.vendor_severity.as_ref().unwrap_or(&none);
    for (source, level) in told {
        if source != decisive {
            let (vector, score) = scored(source);
            all.push(Severity {
                source: source.clone(),
                rating: level_rating(*level),
                vector,
                score,
            });
        }
    }
    for (source, entry) in cvss.into_iter().flatten() {
        let (vector, score) = best(entry);
        if source != decisive && !told.contains_key(source) && vector.is_some() {
            all.push(Severity {
                source: source.clone(),
                rating: score.map_or(Rating::Unknown, Rating::of_score),
                vector,
                score,
            });
        }
    }
    all
}

fn level_rating(level: u8) -> Rating {
    match level {
        1 => Rating::Low,
        2 => Rating::Medium,
        3 => Rating::High,
        4 => Rating::Critical,
        _ => Rating::Unknown,
    }
}

/// The newest kind of vector there is, with its score in tenths.
fn best(cvss: &Cvss) -> (Option<String>, Option<u8>) {
    let kinds = [
        (&cvss.v4, cvss.v4_score),
        (&cvss.v3, cvss.v3_score),
        (&cvss.v2, cvss.v2_score),
    ];
    kinds
        .into_iter()
        .find(|(vector, _)| !vector.is_empty())
        .map_or((None, None), |(vector, score)| {
            (Some(vector.clone()), tenths(score))
        })
}

/// A CVSS score in tenths; none if it is not between 0 and 10.
pub(super) fn tenths(score: f64) -> Option<u8> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 0 and 100"
    )]
    (0.0..=10.0)
        .contains(&score)
        .then(|| (score * 10.0).round() as u8)
}

#[cfg(test)]
mod tests;
