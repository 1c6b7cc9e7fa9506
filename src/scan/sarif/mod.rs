//! A report as SARIF 2.1.0, for code hosts and editors.
//!
//! One rule for each problem, one result for each package that has it. What is excused stands there
//! as suppressed, with the reason: nothing that was found is missing.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::gate::Judgement;
use super::{Finding, Rating, Report};
use crate::base::Digest;

/// Name of the base of paths: the root of the image.
const ROOT: &str = "IMAGE";
/// Places listed at most of one finding.
const PLACES: usize = 50;

/// Writes a report as a gate judged it; `name` is what the image is called.
pub fn document(report: &Report, judgement: &Judgement<'_>, name: &str) -> Value {
    let rules = rules(report);
    let at: HashMap<&str, usize> = rules.keys().enumerate().map(|(at, id)| (*id, at)).collect();
    let excuses: HashMap<*const Finding, &str> = judgement
        .excused
        .iter()
        .map(|(finding, excuse)| (std::ptr::from_ref(*finding), excuse.words.as_str()))
        .collect();
    let results: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            let mut result = result(finding, name);
            result["ruleIndex"] = json!(at.get(finding.advisory.id.as_str()));
            if let Some(why) = excuses.get(&std::ptr::from_ref(finding)) {
                result["suppressions"] = json!([{
                    "kind": "external",
                    "status": "accepted",
                    "justification": why,
                }]);
            }
            result
        })
        .collect();
    let tool = match report.tool.name.as_str() {
        "builtin" => "pipewright",
        name => name,
    };
    let mut driver = json!({
        "name": tool,
        "rules": rules.values().map(|worst| rule(worst)).collect::<Vec<_>>(),
    });
    if let Some(version) = &report.tool.version {
        driver["version"] = json!(version);
    }
    let mut properties = json!({ "image": name, "imageDigest": report.image });
    if let Some(updated) = report
        .database
        .as_ref()
        .and_then(|database| database.updated)
    {
        properties["advisoriesOf"] = json!(updated.rfc3339());
    }
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver },
            "automationDetails": { "id": format!("image/{name}/") },
            "originalUriBaseIds": {
                ROOT: {
                    "uri": "file:///",
                    "description": { "text": "the root of the image's file system" },
                },
            },
            "columnKind": "unicodeCodePoints",
            "results": results,
            "properties": properties,
        }],
    })
}

/// The problems found, each by the finding in which it is worst.
fn rules(report: &Report) -> BTreeMap<&str, &Finding> {
    let mut rules: BTreeMap<&str, &Finding> = BTreeMap::new();
    for finding in &report.findings {
        let worst = rules.entry(&finding.advisory.id).or_insert(finding);
        if finding.rating > worst.rating {
            *worst = finding;
        }
    }
    rules
}

fn rule(finding: &Finding) -> Value {
    let advisory = &finding.advisory;
    let title = match advisory.title.as_str() {
        "" => advisory.id.as_str(),
        title => title,
    };
    let mut help = format!("{}: {title}", advisory.id);
    if !advisory.aliases.is_empty() {
        help.push_str(&format!("\nAlso known as {}.", advisory.aliases.join(", ")));
    }
    for severity in &advisory.severities {
        help.push_str(&format!(
            "\n{}: {}",
            severity.source,
            severity.rating.word()
        ));
        if let Some(vector) = &severity.vector {
            help.push_str(&format!(" ({vector})"));
        }
    }
    let mut rule = json!({
        "id": advisory.id,
        "name": "VulnerablePackage",
        "shortDescription": { "text": title },
        "fullDescription": { "text": title },
        "help": { "text": help },
        "defaultConfiguration": { "level": level(finding.rating) },
        "properties": {
            "tags": ["security", "vulnerability", finding.rating.word()],
            "precision": "high",
            "security-severity": severity(finding),
        },
    });
    if let Some(url) = &advisory.url {
        rule["helpUri"] = json!(url);
    }
    rule
}

/// A number that code hosts sort and filter by: the score of the decisive severity; the middle of
/// the rating's range where there is none.
fn severity(finding: &Finding) -> String {
    let decisive = finding.advisory.severities.first();
    let tenths = decisive
        .filter(|severity| severity.rating == finding.rating)
        .and_then(|severity| severity.score)
        .filter(|score| Rating::of_score(*score) == finding.rating)
        .unwrap_or(match finding.rating {
            Rating::Critical => 95,
            Rating::High => 80,
            Rating::Medium => 55,
            Rating::Low => 20,
            Rating::Unknown => 0,
        });
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn level(rating: Rating) -> &'static str {
    match rating {
        Rating::Critical | Rating::High => "error",
        Rating::Medium => "warning",
        Rating::Low | Rating::Unknown => "note",
    }
}

fn result(finding: &Finding, image: &str) -> Value {
    let advisory = &finding.advisory;
    let mut text = format!(
        "{} {} has {}",
        finding.package, finding.version, advisory.id
    );
    if !advisory.title.is_empty() {
        text.push_str(&format!(": {}", advisory.title));
    }
    text.push_str(match &finding.fixed {
        Some(_) => ". Fixed in ",
        None => ". No version fixes it yet",
    });
    text.push_str(finding.fixed.as_deref().unwrap_or_default());
    let logical = json!([{
        "fullyQualifiedName": finding
            .purl
            .clone()
            .unwrap_or_else(|| format!("{}@{}", finding.package, finding.version)),
        "name": finding.package,
        "kind": "package",
    }]);
    let place = |location: Value| {
        json!({
            "physicalLocation": {
                "artifactLocation": location,
                // Code hosts show no result without a line.
                "region": { "startLine": 1 },
            },
            "logicalLocations": logical,
        })
    };
    let paths = finding.locations.iter().map(|location| &location.path);
    let mut places: Vec<Value> = paths
        .filter(|path| !path.is_empty())
        .take(PLACES)
        .map(|path| place(json!({ "uri": uri(path, b"/"), "uriBaseId": ROOT })))
        .collect();
    if places.is_empty() {
        places.push(place(json!({ "uri": uri(image, b"/") })));
    }
    let mut properties = json!({
        "package": finding.package,
        "version": finding.version,
        "severity": finding.rating.word(),
        "security-severity": severity(finding),
    });
    for (name, value) in [("purl", &finding.purl), ("fixedVersion", &finding.fixed)] {
        if let Some(value) = value {
            properties[name] = json!(value);
        }
    }
    let layers = finding.locations.iter().filter_map(|l| l.layer.as_ref());
    if let Some(layer) = layers.into_iter().next() {
        properties["layer"] = json!(layer);
    }
    json!({
        "ruleId": advisory.id,
        "level": level(finding.rating),
        "message": { "text": text },
        "locations": places,
        "partialFingerprints": { "problemInPackage/v1": fingerprint(finding) },
        "properties": properties,
    })
}

/// Tells the same problem in the same package again, also in another version or at another place.
fn fingerprint(finding: &Finding) -> String {
    let kind = finding.kind.map_or("", super::PackageKind::word);
    let text = format!("{}\0{kind}\0{}", finding.advisory.id, finding.package);
    Digest::of(text.as_bytes()).hex()[..32].to_owned()
}

/// A relative URI reference of a path; what could be taken for anything else is encoded.
fn uri(path: &str, keep: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.trim_start_matches('/').bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!".contains(&byte) || keep.contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
