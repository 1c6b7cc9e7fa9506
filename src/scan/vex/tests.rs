//! OpenVEX documents made by hand, as the specification describes them.

use super::*;
use crate::scan::Rating;

const PURL: &str = "pkg:npm/%40acme/lib@1.2.3";

fn finding() -> Finding {
    let mut finding = Finding::new("CVE-2026-1", "@acme/lib", "1.2.3", Rating::High);
    finding.advisory.aliases = vec!["DSA-7-1".to_owned(), "GHSA-aaaa-bbbb-cccc".to_owned()];
    finding.purl = Some(PURL.to_owned());
    finding
}

fn product() -> Product {
    Product {
        names: vec!["registry.example.com/team/app:1".to_owned()],
        digests: vec!["sha256:ab".to_owned()],
    }
}

fn document(statements: &str) -> Result<Document, String> {
    let text = format!(
        r#"{{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/1",
            "author": "Example", "timestamp": "2026-01-01T00:00:00Z", "version": 1,
            "statements": [{statements}]}}"#
    );
    Document::parse("x.json", text.as_bytes())
}

fn statement(id: &str, products: &str, status: &str) -> String {
    format!(
        r#"{{"vulnerability": {{"name": "{id}"}}, "products": [{products}], "status": "{status}",
            "justification": "component_not_present"}}"#
    )
}

#[track_caller]
fn check(statements: &str, excused: bool) {
    let documents = [document(statements).expect("a document")];
    let index = Index::new(&documents);
    let verdict = index.verdict(&finding(), &product());
    assert_eq!(verdict.is_some(), excused, "{statements}");
}

#[test]
fn the_problem_is_named_by_any_of_its_ids() {
    let package = r#"{"@id": "pkg:npm/%40acme/lib"}"#;
    for (id, excused) in [
        ("CVE-2026-1", true),
        ("cve-2026-1", true),
        ("GHSA-aaaa-bbbb-cccc", true),
        ("DSA-7-1", true),
        ("CVE-2026-2", false),
    ] {
        check(&statement(id, package, "not_affected"), excused);
    }
    // An alias that several problems share does not stretch a statement about another.
    let shared = format!(
        r#"{{"vulnerability": {{"name": "CVE-2026-2", "aliases": ["DSA-7-1"]}}, "products": [{package}], "status": "fixed"}}"#
    );
    check(&shared, false);
    let alias = shared.replace("DSA-7-1", "CVE-2026-1");
    check(&alias, true);
}

#[test]
fn the_product_is_the_package_or_the_image_with_it() {
    for (product, excused) in [
        (r#"{"@id": "pkg:npm/%40acme/lib@1.2.3"}"#, true),
        (r#"{"@id": "pkg:npm/%40acme/lib@1.2.4"}"#, false),
        (r#"{"identifiers": {"purl": "pkg:npm/@acme/lib"}}"#, true),
        (r#""pkg:npm/%40acme/lib""#, true),
        (r#"{"@id": "registry.example.com/team/app:1"}"#, true),
        (r#"{"@id": "registry.example.com/team/app:2"}"#, false),
        (r#"{"hashes": {"sha-256": "AB"}}"#, true),
        (r#"{"@id": "pkg:oci/app"}"#, true),
        (
            r#"{"@id": "pkg:oci/app@sha256%3Aab?repository_url=registry.example.com/team"}"#,
            true,
        ),
        (r#"{"@id": "pkg:oci/app@sha256%3Acd"}"#, false),
        (
            r#"{"@id": "pkg:oci/app?repository_url=registry.example.com/team/app&tag=1"}"#,
            true,
        ),
        (r#"{"@id": "pkg:oci/app?tag=2"}"#, false),
        (
            r#"{"@id": "pkg:oci/app", "subcomponents": [{"@id": "pkg:npm/%40acme/lib@1.2.3"}]}"#,
            true,
        ),
        (
            r#"{"@id": "pkg:oci/app", "subcomponents": [{"@id": "pkg:npm/other"}]}"#,
            false,
        ),
        (
            r#"{"@id": "pkg:npm/%40acme/lib", "subcomponents": [{"@id": "pkg:npm/other"}]}"#,
            false,
        ),
    ] {
        check(&statement("CVE-2026-1", product, "not_affected"), excused);
    }
}

#[test]
fn only_some_words_excuse() {
    let package = r#"{"@id": "pkg:npm/%40acme/lib"}"#;
    for (status, excused) in [
        ("not_affected", true),
        ("fixed", true),
        ("affected", false),
        ("under_investigation", false),
    ] {
        check(&statement("CVE-2026-1", package, status), excused);
    }
}

#[test]
fn the_latest_statement_decides() {
    let at = |status: &str, time: &str| {
        let one = statement("CVE-2026-1", r#"{"@id": "pkg:npm/%40acme/lib"}"#, status);
        one.replacen('{', &format!(r#"{{"timestamp": "{time}", "#), 1)
    };
    let early = at("not_affected", "2026-02-01T00:00:00Z");
    let late = at("affected", "2026-03-01T00:00:00+01:00");
    check(&format!("{early}, {late}"), false);
    check(&format!("{late}, {early}"), false);
    // Of the same time the last one.
    let same = at("affected", "2026-02-01T00:00:00Z");
    check(&format!("{same}, {early}"), true);
    check(&format!("{early}, {same}"), false);
}

#[test]
fn documents_that_break_the_rules_are_refused() {
    for (statements, why) in [
        (
            r#"{"vulnerability": {"name": "CVE-1"}, "products": [{"@id": "pkg:a/b"}], "status": "not_affected"}"#,
            "x.json: statement 1 says not_affected without a justification or an impact_statement",
        ),
        (
            r#"{"vulnerability": {"name": "CVE-1"}, "status": "fixed"}"#,
            "x.json: statement 1 names no product",
        ),
        (
            r#"{"vulnerability": {"name": " "}, "products": ["pkg:a/b"], "status": "fixed"}"#,
            "x.json: statement 1 names no vulnerability",
        ),
        (
            r#"{"vulnerability": "CVE-1", "products": ["pkg:a/b"], "status": "safe"}"#,
            "x.json: statement 1 has the unknown status \"safe\"",
        ),
    ] {
        assert_eq!(document(statements), Err(why.to_owned()));
    }
    let other = Document::parse("x.json", br#"{"@context": "https://x", "statements": []}"#);
    assert!(other.is_err_and(|why| why.contains("@context")));
    assert!(Document::parse("x.json", b"[]").is_err());
}
