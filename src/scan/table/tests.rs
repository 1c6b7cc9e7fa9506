//! Tables of reports made by hand.

use super::*;
use crate::base::Timestamp;
use crate::scan::gate::{Gate, Ignore};
use crate::scan::vex::Product;
use crate::scan::{Database, Location, PackageKind, Tool};

fn finding(id: &str, package: &str, rating: Rating, fixed: Option<&str>) -> Finding {
    let mut finding = Finding::new(id, package, "1.0-1", rating);
    finding.kind = Some(PackageKind::Deb);
    finding.fixed = fixed.map(str::to_owned);
    finding.advisory.title = format!("problem {id}");
    finding
}

fn draw(gate: &Gate, report: &Report) -> String {
    let judgement = gate.judge(report, &Product::default(), Timestamp(1_780_315_200_000));
    render(report, &judgement, &plain)
}

#[test]
fn packages_come_worst_first_with_the_one_fix_to_take() {
    let mut zlib = finding("CVE-2", "zlib1g", Rating::Critical, None);
    zlib.status = Some(Status::WillNotFix);
    zlib.locations = ["a", "b", "c"]
        .map(|path| Location {
            path: path.to_owned(),
            layer: None,
        })
        .to_vec();
    let mut report = Report {
        findings: vec![
            finding("CVE-1", "libssl3", Rating::High, Some("1.0-1+deb12u9")),
            finding("CVE-3", "libssl3", Rating::Critical, Some("1.0-1+deb12u10")),
            finding("CVE-4", "libssl3", Rating::High, None),
            finding("CVE-5", "libssl3", Rating::Low, Some("2.0")),
            finding("CVE-6", "apt", Rating::High, None),
            zlib,
        ],
        packages: 87,
        database: Some(Database {
            version: None,
            updated: Some(Timestamp(1_780_000_000_000)),
        }),
        ..Report::new(Tool::named("trivy"), "sha256:0")
    };
    report.sort();
    let gate = Gate {
        ignore: vec![Ignore {
            id: "CVE-6".to_owned(),
            until: Some("2026-12-31".to_owned()),
            reason: Some("not reachable".to_owned()),
        }],
        ..Gate::default()
    };
    let expected = "\
trivy, advisories of 2026-05-28: 87 packages, 6 findings (2 critical, 3 high, 0 medium, 1 low)

libssl3 1.0-1  take 1.0-1+deb12u10 (fixes 2 of 3)
  critical CVE-3                fixed in 1.0-1+deb12u10; problem CVE-3
  high     CVE-1                fixed in 1.0-1+deb12u9; problem CVE-1
  high     CVE-4                no fix yet; problem CVE-4

zlib1g 1.0-1  no fix yet
  in a and 2 more
  critical CVE-2                will not be fixed; problem CVE-2

not counted
  CVE-6 in apt 1.0-1: ignored until 2026-12-31: not reachable
";
    assert_eq!(draw(&gate, &report), expected);
}

#[test]
fn it_is_bounded() {
    let mut report = Report::new(Tool::named("test"), "sha256:0");
    for package in 0..5_000 {
        for id in 0..20 {
            report.findings.push(finding(
                &format!("CVE-{id}"),
                &format!("p{package}"),
                Rating::High,
                None,
            ));
        }
    }
    let text = draw(&Gate::default(), &report);
    assert!(text.lines().count() < 1_800, "{}", text.lines().count());
    assert!(text.ends_with("… and 98000 more in 4900 packages; the report has all\n"));
    assert!(text.contains("  … and 8 more\n"));
}

#[test]
fn colours_are_the_callers() {
    let report = Report {
        findings: vec![finding("CVE-1", "a", Rating::High, Some("2"))],
        ..Report::new(Tool::named("test"), "sha256:0")
    };
    let gate = Gate::default();
    let judgement = gate.judge(&report, &Product::default(), Timestamp(0));
    let marked = |meaning: Meaning, text: &str| format!("<{meaning:?}:{}>", text.trim());
    let text = render(&report, &judgement, &marked);
    assert!(text.contains("<Package:a 1.0-1>  take <Fix:2>"), "{text}");
    assert!(text.contains("<Rating(High):high>"), "{text}");
}
