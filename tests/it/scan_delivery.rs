//! The fifth article's gate for real, without a network: a vulnerable image is not pushed, the fixed
//! one is, and carries its bill of materials.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use serde_json::Value;

use crate::support::delivery::{Delivery, PASSWORD, USER, docker, skopeo};
use crate::support::files::root;

const PIPELINE: &str = r#"
image tool registry=local "tool-repo" { tag "${git.sha}"; sbom cyclonedx spdx }
pipeline release {
    build tool { context "tool" }
    scan tool { scanner builtin; fail-on medium; ignore-unfixed; max-db-age "3650d" }
    push tool
}
"#;

const METADATA: &str = "usr/lib/python3/dist-packages/urllib3.dist-info/METADATA";

/// A commit whose image has this version of a Python package.
fn commit(delivery: &Delivery, version: &str) -> String {
    let metadata =
        format!("Metadata-Version: 2.1\nName: urllib3\nVersion: {version}\nLicense: MIT\n");
    delivery.source.commit(
        version,
        &[
            ("tool/Dockerfile", "FROM scratch\nCOPY root /\n"),
            (&format!("tool/root/{METADATA}"), &metadata),
        ],
    )
}

fn delivery() -> Delivery {
    let mut delivery = Delivery::start("scan");
    let advisories = delivery.dir().join("advisories");
    let advisories = advisories.to_str().expect("a plain path").to_owned();
    delivery.set("PIPEWRIGHT_ADVISORIES", &advisories);
    delivery.pipeline(PIPELINE);
    delivery
}

fn import(delivery: &Delivery) {
    let records = root().join("tests/data/osv");
    let records = records.to_str().expect("a plain path");
    delivery
        .pipewright(&["advisories", "import", records])
        .expect(0);
}

#[test]
fn a_vulnerable_image_is_not_pushed_and_the_fixed_one_is() {
    let delivery = delivery();
    let vulnerable = commit(&delivery, "1.26.5");
    // Without advisories nothing is known, and nothing is green.
    let blind = delivery.pipewright(&["run", "release"]).expect(1);
    blind.says("the scanner has no advisory database");
    assert_eq!(delivery.digest("tool-repo", &vulnerable), None);

    import(&delivery);
    let blocked = delivery.pipewright(&["run", "release"]).expect(1);
    blocked.says("such as CVE-2023-43804 in urllib3 1.26.5 (fixed in 1.26.17)");
    assert_eq!(delivery.digest("tool-repo", &vulnerable), None);
    let report = delivery.pipewright(&["report", "last"]).expect(0);
    report.says("urllib3 1.26.5  take 1.26.17");
    report.says(METADATA);
    let sarif = delivery.pipewright(&["report", "last", "scan.tool", "--format", "sarif"]);
    let sarif: Value = serde_json::from_str(&sarif.expect(0).out).expect("it is JSON");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "CVE-2023-43804");

    let fixed = commit(&delivery, "1.26.17");
    delivery.pipewright(&["run", "release"]).expect(0);
    let digest = delivery.digest("tool-repo", &fixed).expect("it is pushed");
    attached(&delivery, &digest);

    // Nothing is left to do, and nothing is attached twice.
    let index = list(&delivery, &digest);
    let again = delivery.pipewright(&["run", "release"]).expect(0);
    again.says("up-to-date");
    assert_eq!(list(&delivery, &digest), index);
}

/// What refers to an image, as the registry has it under the tag.
fn list(delivery: &Delivery, digest: &str) -> Value {
    let tag = digest.replace(':', "-");
    let reference = format!("docker://{}/tool-repo:{tag}", delivery.registry.host());
    let raw = skopeo(&["inspect", "--raw", &reference]).expect("the list is there");
    serde_json::from_str(&raw).expect("it is JSON")
}

/// The bills are there as an independent tool sees them, and say what the image holds.
fn attached(delivery: &Delivery, digest: &str) {
    let index = list(delivery, digest);
    assert_eq!(
        index["mediaType"],
        "application/vnd.oci.image.index.v1+json"
    );
    let entries = index["manifests"].as_array().expect("a list");
    let kinds: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry["artifactType"].as_str())
        .collect();
    assert_eq!(
        kinds,
        ["application/vnd.cyclonedx+json", "application/spdx+json"]
    );
    for (entry, expected) in entries.iter().zip(["\"CycloneDX\"", "\"SPDX-2.3\""]) {
        let own = entry["digest"].as_str().expect("a digest");
        let reference = format!("docker://{}/tool-repo@{own}", delivery.registry.host());
        let raw = skopeo(&["inspect", "--raw", &reference]).expect("the manifest is there");
        let manifest: Value = serde_json::from_str(&raw).expect("it is JSON");
        assert_eq!(manifest["subject"]["digest"], digest, "{manifest}");
        assert_eq!(manifest["artifactType"], entry["artifactType"]);
        let dir = delivery.dir().join(own.replace(':', "-"));
        let to = format!("dir:{}", dir.display());
        copied(&reference, &to);
        let layer = manifest["layers"][0]["digest"].as_str().expect("a layer");
        let bill = std::fs::read_to_string(dir.join(&layer[7..])).expect("the bill");
        assert!(bill.contains(expected), "{bill}");
        assert!(bill.contains("pkg:pypi/urllib3@1.26.17"), "{bill}");
        assert!(bill.contains("2026-01-31T08:00:00Z"), "{bill}");
    }
}

/// Copies an artifact. For a copy skopeo wants to know whose login it is.
fn copied(from: &str, to: &str) {
    let done = std::process::Command::new("skopeo")
        .args(["copy", "--src-tls-verify=false", "--src-creds"])
        .arg(format!("{USER}:{PASSWORD}"))
        .args([from, to])
        .output()
        .expect("these tests need the program `skopeo`");
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn an_image_is_scanned_without_a_pipeline() {
    let delivery = delivery();
    import(&delivery);
    commit(&delivery, "1.26.5");
    let context = delivery.source.path().join("tool");
    let context = context.to_str().expect("a plain path");
    let name = format!("{}/alone:1", delivery.host());
    docker(&["build", "-q", "-t", &name, context]);
    let scan = |more: &[&str], code: i32| {
        let args = [&["scan", name.as_str(), "--scanner", "builtin"], more].concat();
        delivery.pipewright(&args).expect(code)
    };
    scan(&["--fail-on", "medium"], 1).says("take 1.26.17");
    scan(&["--fail-on", "high"], 0).says("nothing at or above the gate in 1 package");
    scan(&["--fail-on", "medium", "--ignore", "CVE-2023-43804"], 0);
    let vex = delivery.dir().join("vex.json");
    let text = r#"{"@context": "https://openvex.dev/ns/v0.2.0", "statements": [{
        "vulnerability": {"name": "CVE-2023-43804"}, "status": "not_affected",
        "justification": "component_not_present", "products": [{"@id": "pkg:pypi/urllib3"}]}]}"#;
    std::fs::write(&vex, text).expect("it is written");
    let vex = vex.to_str().expect("a plain path");
    let excused = scan(&["--fail-on", "medium", "--vex", vex], 0);
    excused.says("vex.json says not_affected: component_not_present");
    let empty = delivery.dir().join("empty");
    let empty = empty.to_str().expect("a plain path");
    scan(&["--database", empty], 3).says("the scanner has no advisory database");
    scan(&["--max-db-age", "1m"], 3).says("more than max-db-age allows");

    let archive = delivery.dir().join("image.tar");
    let archive = archive.to_str().expect("a plain path");
    docker(&["save", "-o", archive, &name]);
    let subject = format!("docker-archive:{archive}");
    let args = ["scan", &subject, "--scanner", "builtin", "--format", "json"];
    let json = delivery.pipewright(&[&args[..], &["--fail-on", "medium"]].concat());
    let report: Value = serde_json::from_str(&json.expect(1).out).expect("it is JSON");
    assert_eq!(report["findings"][0]["id"], "CVE-2023-43804");
    let bill = delivery.pipewright(&["scan", &subject, "--format", "cyclonedx"]);
    let bill: Value = serde_json::from_str(&bill.expect(0).out).expect("it is JSON");
    assert_eq!(bill["components"][0]["purl"], "pkg:pypi/urllib3@1.26.5");
    docker(&["rmi", &name]);
}
