//! Grype's report, as its schema has it.

use super::*;

const REPORT: &[u8] = include_bytes!("../../../../tests/data/grype/report.json");

fn read(bytes: &[u8]) -> Result<Report, String> {
    report(&Subject::Engine("app:1".to_owned()), bytes)
}

#[test]
fn everything_it_tells_is_kept() {
    let report = read(REPORT).expect("a report");
    assert!(report.image.starts_with("sha256:0b1c6f2c"));
    let database = report.database.as_ref().expect("it tells");
    assert_eq!(database.version.as_deref(), Some("v6.0.2"));
    assert_eq!(
        database.updated.map(Timestamp::rfc3339).as_deref(),
        Some("2026-01-31T04:18:11Z")
    );
    let [libc, urllib, apt] = report.findings.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(
        (libc.advisory.id.as_str(), libc.rating),
        ("CVE-2023-4911", Rating::High)
    );
    assert_eq!(libc.advisory.aliases, ["DSA-5514-1"]);
    assert_eq!(libc.fixed.as_deref(), Some("2.36-9+deb12u3"));
    assert_eq!(libc.locations.len(), 2);
    assert_eq!(libc.locations[0].path, "var/lib/dpkg/status");
    let told: Vec<(&str, Option<u8>)> = libc
        .advisory
        .severities
        .iter()
        .map(|severity| (severity.source.as_str(), severity.score))
        .collect();
    assert_eq!(told, [("debian", None), ("nvd", Some(78))]);

    // A GitHub advisory goes by the CVE it is about, with the severity of who was matched.
    assert_eq!(urllib.advisory.id, "CVE-2023-43804");
    assert_eq!(urllib.advisory.aliases, ["GHSA-v845-jxx5-vc9f"]);
    assert_eq!(urllib.rating, Rating::Medium);
    let first = &urllib.advisory.severities[0];
    assert_eq!((first.source.as_str(), first.score), ("ghsa", Some(75)));
    assert!(
        first
            .vector
            .as_ref()
            .is_some_and(|v| v.starts_with("CVSS:4.0/"))
    );

    assert_eq!(
        (apt.rating, apt.status),
        (Rating::Low, Some(Status::WillNotFix))
    );
    assert_eq!((&apt.fixed, apt.kind), (&None, None));
}

#[test]
fn its_database_is_read_in_every_form() {
    for (told, version) in [
        (
            r#"{"built": "2024-05-01T01:02:03Z", "schemaVersion": 5, "location": "/x", "error": null}"#,
            "5",
        ),
        (
            r#"{"schemaVersion": "v6.1.7", "built": "2024-05-01T01:02:03Z", "valid": true}"#,
            "v6.1.7",
        ),
    ] {
        let told: Value = serde_json::from_str(told).expect("JSON");
        let database = database(&told).expect("it tells");
        assert_eq!(database.version.as_deref(), Some(version));
        assert!(database.updated.is_some());
    }
    assert_eq!(database(&Value::Null), None);
}

#[test]
fn what_another_program_wrote_is_refused() {
    let other = br#"{"matches": [], "descriptor": {"name": "other"}}"#;
    assert!(read(other).is_err_and(|why| why.contains("other")));
    let none = br#"{"descriptor": {"name": "grype"}}"#;
    assert!(read(none).is_err_and(|why| why.contains("matches")));
}
