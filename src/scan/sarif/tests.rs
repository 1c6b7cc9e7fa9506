//! SARIF of reports made by hand. That it fits the published schema is tested from outside.

use super::*;
use crate::base::Timestamp;
use crate::scan::gate::{Gate, Ignore};
use crate::scan::vex::Product;
use crate::scan::{Location, Severity, Tool};

fn finding(id: &str, package: &str, rating: Rating) -> Finding {
    Finding {
        fixed: Some("2".to_owned()),
        locations: vec![Location {
            path: "usr/lib/a b#c".to_owned(),
            layer: Some("sha256:aa".to_owned()),
        }],
        ..Finding::new(id, package, "1", rating)
    }
}

fn written(report: &Report) -> Value {
    let gate = Gate {
        ignore: vec![Ignore {
            id: "CVE-2".to_owned(),
            until: None,
            reason: Some("not reachable".to_owned()),
        }],
        ..Gate::default()
    };
    let judgement = gate.judge(report, &Product::default(), Timestamp(0));
    document(report, &judgement, "localhost:5000/app:1")
}

fn report() -> Report {
    let mut first = finding("CVE-1", "a", Rating::High);
    first.advisory.severities = vec![Severity {
        source: "nvd".to_owned(),
        rating: Rating::High,
        vector: Some("CVSS:3.1/AV:N".to_owned()),
        score: Some(75),
    }];
    let mut placeless = finding("CVE-1", "b", Rating::Critical);
    placeless.locations.clear();
    placeless.fixed = None;
    Report {
        findings: vec![first, placeless, finding("CVE-2", "a", Rating::High)],
        ..Report::new(Tool::named("builtin"), "sha256:0")
    }
}

#[test]
fn one_rule_for_a_problem_and_one_result_for_each_package() {
    let sarif = written(&report());
    let run = &sarif["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "pipewright");
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    let ids: Vec<&str> = rules
        .iter()
        .filter_map(|rule| rule["id"].as_str())
        .collect();
    assert_eq!(ids, ["CVE-1", "CVE-2"]);
    // The worst that it is anywhere.
    assert_eq!(rules[0]["properties"]["security-severity"], "9.5");
    assert_eq!(rules[1]["properties"]["security-severity"], "8.0");
    let results = run["results"].as_array().expect("results");
    assert_eq!(results.len(), 3);
    assert_eq!(results[0]["properties"]["security-severity"], "7.5");
    assert_eq!(results[2]["ruleIndex"], 1);
    let place = &results[0]["locations"][0]["physicalLocation"]["artifactLocation"];
    assert_eq!(place["uri"], "usr/lib/a%20b%23c");
    let image = &results[1]["locations"][0]["physicalLocation"]["artifactLocation"];
    assert_eq!(image["uri"], "localhost%3A5000/app%3A1");
    assert_eq!(
        results[1]["message"]["text"],
        "b 1 has CVE-1. No version fixes it yet"
    );
    assert_eq!(results[0]["message"]["text"], "a 1 has CVE-1. Fixed in 2");
}

#[test]
fn what_is_excused_is_suppressed_and_there() {
    let sarif = written(&report());
    let results = sarif["runs"][0]["results"].as_array().expect("results");
    assert!(results[0].get("suppressions").is_none());
    assert_eq!(
        results[2]["suppressions"][0]["justification"],
        "ignored: not reachable"
    );
}

#[test]
fn a_problem_is_the_same_in_another_version_and_place() {
    let mut later = report();
    later.findings[0].version = "1.1".to_owned();
    later.findings[0].locations.clear();
    let print = |sarif: &Value, at: usize| {
        sarif["runs"][0]["results"][at]["partialFingerprints"]["problemInPackage/v1"].clone()
    };
    let (before, after) = (written(&report()), written(&later));
    assert_eq!(print(&before, 0), print(&after, 0));
    assert_ne!(print(&before, 0), print(&before, 1));
    assert_ne!(print(&before, 0), print(&before, 2));
}
