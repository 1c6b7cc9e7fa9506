//! The gate over reports made by hand.

use super::*;
use crate::scan::{Database, Location, Tool, Uncovered};

/// 2026-06-01T12:00:00Z
const NOW: Timestamp = Timestamp(1_780_315_200_000);

fn finding(id: &str, rating: Rating, fixed: Option<&str>) -> Finding {
    let mut finding = Finding::new(id, "openssl", "3.0.1", rating);
    finding.advisory.aliases = vec!["DSA-1".to_owned(), format!("GHSA-{id}")];
    finding.purl = Some("pkg:deb/debian/openssl@3.0.1?arch=amd64".to_owned());
    finding.fixed = fixed.map(str::to_owned);
    finding
}

fn report() -> Report {
    Report {
        findings: vec![
            finding("CVE-1", Rating::Critical, Some("3.0.2")),
            finding("CVE-2", Rating::High, None),
            finding("CVE-3", Rating::Medium, Some("3.0.2")),
        ],
        packages: 1,
        ..Report::new(Tool::named("test"), "sha256:0")
    }
}

fn against(gate: &Gate, report: &Report) -> Vec<String> {
    let judgement = gate.judge(report, &Product::default(), NOW);
    let ids = judgement.against.iter();
    ids.map(|finding| finding.advisory.id.clone()).collect()
}

#[track_caller]
fn check(gate: Gate, expected: &[&str]) {
    assert_eq!(against(&gate, &report()), expected);
}

fn verdict(gate: &Gate, report: &Report) -> Verdict {
    gate.judge(report, &Product::default(), NOW).verdict(report)
}

fn ignore(id: &str, until: &str) -> Vec<Ignore> {
    vec![Ignore {
        id: id.to_owned(),
        until: Some(until.to_owned()),
        reason: Some("not reachable".to_owned()),
    }]
}

#[test]
fn severity_is_a_threshold() {
    check(Gate::default(), &["CVE-1", "CVE-2"]);
    check(
        Gate {
            fail_on: Rating::Critical,
            ..Gate::default()
        },
        &["CVE-1"],
    );
}

#[test]
fn unfixed_can_be_left_out() {
    check(
        Gate {
            ignore_unfixed: true,
            ..Gate::default()
        },
        &["CVE-1"],
    );
}

#[test]
fn ignoring_works_by_alias_and_ends() {
    check(
        Gate {
            ignore: ignore("ghsa-cve-1", "2026-06-01"),
            ..Gate::default()
        },
        &["CVE-2"],
    );
    let late = Gate {
        ignore: ignore("CVE-1", "2026-05-31"),
        ..Gate::default()
    };
    assert_eq!(
        verdict(&late, &report()),
        Verdict::Failed("ignoring CVE-1 ended on 2026-05-31 (not reachable); decide again".into())
    );
    check(late, &["CVE-1", "CVE-2"]);
    // Also if nothing of the kind is found any more: the file has to be cleaned up.
    let gone = Gate {
        ignore: ignore("CVE-9", "2026-05-31"),
        ..Gate::default()
    };
    let clean = Report::new(Tool::named("test"), "sha256:0");
    assert!(matches!(verdict(&gone, &clean), Verdict::Failed(_)));
}

#[test]
fn an_entry_without_effect_is_told() {
    let gate = Gate {
        ignore: ignore("CVE-9", "2026-07-01"),
        ..Gate::default()
    };
    let report = report();
    let judgement = gate.judge(&report, &Product::default(), NOW);
    assert_eq!(
        judgement.warnings(&report),
        ["ignoring CVE-9 has no effect: it is not found"]
    );
    // What is found below the threshold is found.
    let gate = Gate {
        ignore: ignore("CVE-3", "2026-07-01"),
        ..Gate::default()
    };
    let judgement = gate.judge(&report, &Product::default(), NOW);
    assert!(judgement.unused.is_empty());
}

#[test]
fn what_was_known_does_not_fail_again() {
    let mut before = report();
    before.findings.truncate(1);
    // Another version at another place is the same problem.
    before.findings[0].version = "2.9".to_owned();
    before.findings[0].locations = vec![Location {
        path: "elsewhere".to_owned(),
        layer: None,
    }];
    let gate = Gate {
        baseline: Some(Baseline::of(&before)),
        ..Gate::default()
    };
    // CVE-2 shares the advisory DSA-1 with CVE-1, and is new all the same.
    check(gate.clone(), &["CVE-2"]);
    // A scanner that names a problem by another of its ids means the same.
    before.findings[0].advisory.id = "GHSA-CVE-1".to_owned();
    before.findings[0].advisory.aliases.clear();
    let renamed = Gate {
        baseline: Some(Baseline::of(&before)),
        ..Gate::default()
    };
    check(renamed, &["CVE-2"]);
    before.findings[0].package = "libssl3".to_owned();
    let other = Gate {
        baseline: Some(Baseline::of(&before)),
        ..Gate::default()
    };
    check(other, &["CVE-1", "CVE-2"]);
}

#[test]
fn statements_excuse_and_are_kept() {
    let text = r#"{"@context": "https://openvex.dev/ns/v0.2.0", "timestamp": "2026-01-01T00:00:00Z", "statements": [
        {"vulnerability": {"name": "CVE-1"}, "products": [{"@id": "pkg:deb/debian/openssl"}],
         "status": "not_affected", "justification": "vulnerable_code_not_in_execute_path"}]}"#;
    let gate = Gate {
        vex: vec![vex::Document::parse("app.vex.json", text.as_bytes()).expect("a document")],
        ..Gate::default()
    };
    let report = report();
    let judgement = gate.judge(&report, &Product::default(), NOW);
    let [(found, excuse)] = judgement.excused.as_slice() else {
        panic!("{judgement:?}");
    };
    assert_eq!(found.advisory.id, "CVE-1");
    assert_eq!(
        excuse.words,
        "app.vex.json says not_affected: vulnerable_code_not_in_execute_path"
    );
    assert_eq!(judgement.against.len(), 1);
    // What is kept of it says the same.
    let kept = serde_json::to_string(&judgement.kept(&report)).expect("it is data");
    let kept: Judged = serde_json::from_str(&kept).expect("it is read back");
    assert_eq!(kept.of(&report), judgement);
}

fn clean(days_old: Option<i64>) -> Report {
    Report {
        packages: 7,
        database: Some(Database {
            version: None,
            updated: days_old.map(|days| Timestamp(NOW.0 - days * 24 * 3_600_000)),
        }),
        ..Report::new(Tool::named("test"), "sha256:0")
    }
}

fn week(otherwise: Otherwise) -> Gate {
    Gate {
        max_age: Some(MaxAge {
            age: Duration::from_secs(7 * DAY),
            otherwise,
        }),
        ..Gate::default()
    }
}

#[test]
fn an_old_database_decides_as_the_file_says() {
    assert!(matches!(
        verdict(&week(Otherwise::Error), &clean(Some(7))),
        Verdict::Passed(_)
    ));
    assert_eq!(
        verdict(&week(Otherwise::Error), &clean(Some(8))),
        Verdict::Errored(
            "the advisory database of test is 8 days old, which is more than max-db-age allows"
                .to_owned()
        )
    );
    assert!(matches!(
        verdict(&week(Otherwise::Error), &clean(None)),
        Verdict::Errored(_)
    ));
    assert!(matches!(
        verdict(&week(Otherwise::Fail), &clean(Some(8))),
        Verdict::Failed(_)
    ));
    for (otherwise, warnings) in [(Otherwise::Warn, 1), (Otherwise::Ignore, 0)] {
        let (gate, report) = (week(otherwise), clean(Some(8)));
        let judgement = gate.judge(&report, &Product::default(), NOW);
        assert!(matches!(judgement.verdict(&report), Verdict::Passed(_)));
        assert_eq!(judgement.warnings(&report).len(), warnings);
    }
    // Without a limit a very old one is remarked on.
    let (gate, report) = (Gate::default(), clean(Some(31)));
    let judgement = gate.judge(&report, &Product::default(), NOW);
    assert_eq!(judgement.warnings(&report).len(), 1);
    // What is found is found, however old the database is.
    let mut found = clean(Some(8));
    found.findings = self::report().findings;
    assert!(matches!(
        verdict(&week(Otherwise::Error), &found),
        Verdict::Failed(_)
    ));
}

#[test]
fn what_was_not_read_is_no_safety() {
    let mut report = clean(Some(1));
    for at in 0..5 {
        report.uncovered.push(Uncovered {
            what: "PHP packages".to_owned(),
            location: Location {
                path: format!("opt/{at}/vendor"),
                layer: None,
            },
            why: "not read".to_owned(),
        });
    }
    let Verdict::Errored(message) = verdict(&Gate::default(), &report) else {
        panic!("it passes");
    };
    assert!(
        message.starts_with("not covered by test: PHP packages at opt/0/vendor (not read); "),
        "{message}"
    );
    assert!(message.ends_with("; and 2 more"), "{message}");
    let lenient = Gate {
        not_covered: Otherwise::Ignore,
        ..Gate::default()
    };
    assert_eq!(
        verdict(&lenient, &report),
        Verdict::Passed("nothing at or above the gate in 7 packages".to_owned())
    );
}
