//! What is written about an image, against the published schemas.

use std::path::PathBuf;
use std::process::Command;

use pipewright::base::Timestamp;
use pipewright::ports::scanner::Subject;
use pipewright::scan::gate::Gate;
use pipewright::scan::sbom::{self, About, Format};
use pipewright::scan::vex::Product;
use pipewright::scan::{
    Distro, Finding, Inventory, Location, Package, PackageKind, Rating, Report, Severity, Source,
    Tool, Uncovered, sarif,
};

use crate::support::files::root;

/// Fails with what a schema has against a document.
#[track_caller]
fn validate(kind: &str, document: &[u8]) {
    let schemas = root().join("target/schemas");
    // Fetched once; a missing schema is a failure.
    let fetched = Command::new("bash")
        .args(["-c", "source scripts/lib.sh; need_schemas"])
        .current_dir(root())
        .output()
        .expect("bash runs");
    assert!(fetched.status.success(), "{fetched:?}");
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::io::Write::write_all(&mut file, document).expect("it is written");
    let judged = Command::new(schemas.join("venv/bin/python"))
        .arg(root().join("scripts/validate.py"))
        .args([&schemas, &PathBuf::from(kind), &file.path().to_owned()])
        .output()
        .expect("the validator runs");
    assert!(
        judged.status.success(),
        "{}{}\n{}",
        String::from_utf8_lossy(&judged.stdout),
        String::from_utf8_lossy(&judged.stderr),
        String::from_utf8_lossy(document)
    );
}

/// Packages whose names, versions, licences and places are as odd as they come.
fn inventory() -> Inventory {
    let kinds = [
        PackageKind::Deb,
        PackageKind::Apk,
        PackageKind::Rpm,
        PackageKind::Cargo,
        PackageKind::Npm,
        PackageKind::Pypi,
        PackageKind::Golang,
        PackageKind::Maven,
    ];
    let licences = [
        vec![],
        vec!["MIT"],
        vec!["MIT OR Apache-2.0"],
        vec!["MIT", "GPL-2+", "public domain"],
        vec!["MIT OR Apache-2.0", "ISC"],
        vec!["", "\u{1b}[31m"],
    ];
    let packages = (0..64).map(|at| {
        let kind = kinds[at % kinds.len()];
        let name = match kind {
            PackageKind::Npm => format!("@scope/näme {at}"),
            PackageKind::Maven => format!("org.example:artifact-{at}"),
            _ => format!("name\"{at}\u{7}"),
        };
        Package {
            purl: format!("pkg:{}/name-{at}@1", kind.word()),
            kind,
            name,
            version: format!("1:{at}~rc1+b1"),
            arch: Some("amd64".to_owned()),
            source: (at % 3 == 0).then(|| Source {
                name: "source".to_owned(),
                version: "1".to_owned(),
            }),
            owner: (at % 5 == 0).then(|| "owner".to_owned()),
            licenses: licences[at % licences.len()]
                .iter()
                .map(|licence| (*licence).to_owned())
                .collect(),
            locations: (0..at % 4)
                .map(|n| Location {
                    path: format!("opt/ä {n}!b#c"),
                    layer: (n % 2 == 0).then(|| format!("sha256:{}", "a".repeat(64))),
                })
                .collect(),
        }
    });
    Inventory {
        image: format!("sha256:{}", "0".repeat(64)),
        distro: Some(Distro {
            id: "debian".to_owned(),
            name: "Debian GNU/Linux trixie/sid".to_owned(),
            ..Distro::default()
        }),
        packages: packages.collect(),
        uncovered: vec![Uncovered {
            what: "PHP packages".to_owned(),
            location: Location {
                path: "opt/vendor".to_owned(),
                layer: None,
            },
            why: "not read".to_owned(),
        }],
        layers: vec![format!("sha256:{}", "a".repeat(64))],
    }
}

fn about() -> About<'static> {
    About {
        name: "registry.example.com:5000/team/app:1",
        created: Timestamp(1_780_000_000_000),
        version: "0.1.0",
    }
}

#[test]
fn bills_of_materials_fit_their_schemas() {
    for (format, kind) in [(Format::CycloneDx, "cyclonedx"), (Format::Spdx, "spdx")] {
        validate(kind, &sbom::document(format, &inventory(), &about()));
        let empty = Inventory {
            image: "sha256:0".to_owned(),
            ..Inventory::default()
        };
        validate(kind, &sbom::document(format, &empty, &about()));
    }
}

#[test]
fn a_report_as_sarif_fits_its_schema() {
    let mut finding = Finding::new("CVE-2026-0001", "näme", "1", Rating::High);
    finding.advisory.title = "a \"title\"".to_owned();
    finding.advisory.url = Some("https://example.com/CVE-2026-0001".to_owned());
    finding.advisory.aliases = vec!["GHSA-1".to_owned()];
    finding.advisory.severities = vec![Severity {
        source: "nvd".to_owned(),
        rating: Rating::High,
        vector: Some("CVSS:3.1/AV:N".to_owned()),
        score: Some(75),
    }];
    finding.purl = Some("pkg:npm/n%C3%A4me@1".to_owned());
    finding.locations = vec![Location {
        path: "opt/ä b/package.json".to_owned(),
        layer: Some("sha256:aa".to_owned()),
    }];
    let ratings = Rating::ALL.into_iter();
    let mut findings: Vec<Finding> = ratings
        .map(|rating| Finding::new(&format!("CVE-{}", rating.word()), "b", "", rating))
        .collect();
    findings.push(finding);
    let report = Report {
        findings,
        ..Report::new(
            Tool {
                name: "trivy".to_owned(),
                version: Some("0.58.1".to_owned()),
            },
            "sha256:0",
        )
    };
    let subject = Subject::Engine("localhost:5000/app:1".to_owned());
    for report in [report, Report::new(Tool::named("builtin"), "sha256:0")] {
        let gate = Gate {
            ignore_unfixed: true,
            ..Gate::default()
        };
        let judgement = gate.judge(&report, &Product::default(), Timestamp(0));
        let sarif = sarif::document(&report, &judgement, &subject.to_string());
        let text = serde_json::to_vec(&sarif).expect("it is JSON");
        validate("sarif", &text);
    }
}
