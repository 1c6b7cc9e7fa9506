//! Trivy's report, as its schema has it.

use super::*;

const REPORT: &[u8] = include_bytes!("../../../../tests/data/trivy/report.json");

fn read(bytes: &[u8]) -> Result<Report, String> {
    let subject = Subject::Engine("app:1".to_owned());
    report(Tool::named("trivy"), &subject, bytes)
}

#[test]
fn everything_it_tells_is_kept() {
    let report = read(REPORT).expect("a report");
    assert!(report.image.starts_with("sha256:0b1c6f2c"));
    let distro = report.distro.as_ref().expect("it tells");
    assert_eq!(
        (distro.id.as_str(), distro.version.as_str()),
        ("debian", "12.1")
    );
    let ids: Vec<&str> = report
        .findings
        .iter()
        .map(|finding| finding.advisory.id.as_str())
        .collect();
    assert_eq!(
        ids,
        [
            "CVE-2023-45853",
            "CVE-2023-4911",
            "CVE-2023-43804",
            "GHSA-xxxx-yyyy-zzzz"
        ]
    );
    let [zlib, libc, urllib, module] = report.findings.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(zlib.rating, Rating::Critical);
    assert_eq!(
        (&zlib.fixed, zlib.status),
        (&None, Some(Status::WillNotFix))
    );
    assert_eq!(zlib.kind, Some(PackageKind::Deb));
    assert_eq!(
        zlib.purl.as_deref(),
        Some("pkg:deb/debian/zlib1g@1.2.13.dfsg-1?arch=amd64&distro=debian-12.1&epoch=1")
    );
    let told: Vec<(&str, Rating, Option<u8>)> = zlib
        .advisory
        .severities
        .iter()
        .map(|severity| (severity.source.as_str(), severity.rating, severity.score))
        .collect();
    assert_eq!(
        told,
        [
            ("nvd", Rating::Critical, Some(98)),
            ("bitnami", Rating::Critical, Some(98)),
            ("redhat", Rating::Medium, None),
            ("ghsa", Rating::High, Some(87)),
        ]
    );
    let vectors = zlib.advisory.severities.iter();
    assert!(
        vectors
            .filter_map(|s| s.vector.as_ref())
            .any(|v| v.starts_with("CVSS:4.0/"))
    );

    assert_eq!(libc.advisory.aliases, ["DSA-5514-1"]);
    assert_eq!(
        libc.advisory.title,
        "A buffer overflow in the dynamic loader."
    );
    assert_eq!(libc.fixed.as_deref(), Some("2.36-9+deb12u3"));
    assert_eq!(
        libc.advisory.url.as_deref(),
        Some("https://avd.aquasec.com/nvd/cve-2023-4911")
    );
    // Of a package of the distribution it tells the layer, and no file.
    let [place] = libc.locations.as_slice() else {
        panic!("{libc:?}");
    };
    assert_eq!(place.path, "");
    assert!(
        place
            .layer
            .as_ref()
            .is_some_and(|layer| layer.starts_with("sha256:7c85cfa3"))
    );

    assert_eq!(urllib.kind, Some(PackageKind::Pypi));
    assert_eq!(urllib.fixed.as_deref(), Some("1.26.17"));
    assert!(
        urllib.locations[0]
            .path
            .ends_with("urllib3-1.26.5.dist-info/METADATA")
    );

    assert_eq!((module.rating, &module.fixed), (Rating::Unknown, &None));
    assert_eq!(module.kind, Some(PackageKind::Golang));
    assert_eq!(module.locations[0].path, "app/server");
    // A title cannot colour a terminal.
    assert_eq!(module.advisory.title, "odd [31m");
}

#[test]
fn another_schema_is_refused() {
    let other = br#"{"SchemaVersion": 3, "ArtifactName": "x"}"#;
    let why = read(other).expect_err("it is newer than we know");
    assert_eq!(why, "its schema is version 3, we know version 2");
}

#[test]
fn the_same_problem_at_two_places_is_one_finding() {
    let one = |path: &str| {
        format!(
            r#"{{"VulnerabilityID": "CVE-1", "PkgName": "a", "PkgPath": "{path}", "InstalledVersion": "1", "Severity": "LOW"}}"#
        )
    };
    let text = format!(
        r#"{{"SchemaVersion": 2, "ArtifactName": "x", "Results": [{{"Target": "Node.js", "Class": "lang-pkgs", "Type": "node-pkg", "Packages": [], "Vulnerabilities": [{}, {}]}}]}}"#,
        one("/a/package.json"),
        one("b/package.json")
    );
    let report = read(text.as_bytes()).expect("a report");
    let [finding] = report.findings.as_slice() else {
        panic!("{report:?}");
    };
    let paths: Vec<&str> = finding.locations.iter().map(|l| l.path.as_str()).collect();
    assert_eq!(paths, ["a/package.json", "b/package.json"]);
}

#[test]
fn a_distribution_without_packages_is_not_covered() {
    let text = br#"{"SchemaVersion": 2, "ArtifactName": "x", "Metadata": {"OS": {"Family": "alpine", "Name": "3.19.1", "EOSL": true}}}"#;
    let report = read(text).expect("a report");
    assert_eq!(report.uncovered.len(), 1);
    assert_eq!(report.uncovered[0].what, "packages of alpine 3.19.1");
    assert_eq!(report.remarks.len(), 1, "{:?}", report.remarks);
}

#[test]
fn it_tells_about_itself() {
    let (version, database) =
        facts(include_bytes!("../../../../tests/data/trivy/version.json")).expect("it tells");
    assert_eq!(version, "0.58.1");
    let updated = database.and_then(|database| database.updated);
    assert_eq!(
        updated.map(Timestamp::rfc3339).as_deref(),
        Some("2026-01-31T06:12:07Z")
    );
    assert!(facts(b"Version: 0.20.0").is_none());
}

#[test]
fn archives_are_named_as_it_wants() {
    let choice = ScannerChoice::default();
    let args = arguments(&Subject::DockerArchive("/a.tar".into()), &choice, None);
    let args = args.expect("it reads these");
    assert!(
        args.ends_with(&["--input".into(), "/a.tar".into()]),
        "{args:?}"
    );
    let why = arguments(&Subject::OciArchive("/a.tar".into()), &choice, None);
    assert!(why.is_err_and(|why| why.contains("oci:DIR")));
}
