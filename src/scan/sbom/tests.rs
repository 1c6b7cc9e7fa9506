//! Bills of inventories made by hand. That they fit the published schemas is tested from outside.

use std::collections::HashSet;

use super::*;
use crate::scan::{Distro, Location, Source, Uncovered};

fn package(kind: PackageKind, name: &str, purl: &str, path: &str) -> Package {
    Package {
        kind,
        name: name.to_owned(),
        version: "1.0-1".to_owned(),
        arch: None,
        source: None,
        owner: None,
        licenses: Vec::new(),
        purl: purl.to_owned(),
        locations: vec![Location {
            path: path.to_owned(),
            layer: Some("sha256:aa".to_owned()),
        }],
    }
}

fn inventory() -> Inventory {
    let mut zlib = package(
        PackageKind::Deb,
        "zlib1g",
        "pkg:deb/debian/zlib1g@1.0-1?arch=amd64",
        "var/lib/dpkg/status",
    );
    zlib.source = Some(Source {
        name: "zlib".to_owned(),
        version: "1.0-1".to_owned(),
    });
    zlib.licenses = vec!["Zlib".to_owned(), "public domain".to_owned()];
    let scoped = "pkg:npm/%40acme/a@1.0-1";
    Inventory {
        image: format!("sha256:{}", "0".repeat(64)),
        distro: Some(Distro {
            id: "debian".to_owned(),
            version: "12".to_owned(),
            name: "Debian GNU/Linux 12 (bookworm)".to_owned(),
            ..Distro::default()
        }),
        packages: vec![
            zlib,
            package(PackageKind::Npm, "@acme/a", scoped, "app/a/package.json"),
            package(PackageKind::Npm, "@acme/a", scoped, "app/b/package.json"),
            // Twice at one place, as a lock file may have it.
            package(PackageKind::Npm, "@acme/a", scoped, "app/b/package.json"),
            package(
                PackageKind::Maven,
                "org.example:lib",
                "pkg:maven/org.example/lib@1.0-1",
                "a.jar!lib.jar",
            ),
        ],
        uncovered: vec![Uncovered {
            what: "PHP packages".to_owned(),
            location: Location {
                path: "opt/vendor".to_owned(),
                layer: None,
            },
            why: "not read".to_owned(),
        }],
        layers: vec!["sha256:aa".to_owned()],
    }
}

fn written(format: Format, inventory: &Inventory) -> Value {
    let about = About {
        name: "localhost:5000/app:1",
        created: Timestamp(1_780_000_000_000),
        version: "0.1.0",
    };
    let bytes = document(format, inventory, &about);
    assert_eq!(bytes, document(format, inventory, &about));
    serde_json::from_slice(&bytes).expect("it is JSON")
}

#[test]
fn cyclonedx_has_every_package_once_by_a_name_of_its_own() {
    let bill = written(Format::CycloneDx, &inventory());
    let components = bill["components"].as_array().expect("components");
    assert_eq!(components.len(), 6);
    let refs: HashSet<&str> = components
        .iter()
        .map(|component| component["bom-ref"].as_str().expect("a reference"))
        .collect();
    assert_eq!(refs.len(), 6);
    assert_eq!(components[0]["type"], "operating-system");
    let zlib = &components[1];
    assert_eq!(zlib["purl"], "pkg:deb/debian/zlib1g@1.0-1?arch=amd64");
    assert_eq!(zlib["licenses"][0]["license"]["id"], "Zlib");
    assert_eq!(zlib["licenses"][1]["license"]["name"], "public domain");
    assert_eq!(
        zlib["evidence"]["occurrences"][0]["location"],
        "var/lib/dpkg/status"
    );
    assert_eq!(
        (&components[2]["group"], &components[2]["name"]),
        (&"@acme".into(), &"a".into())
    );
    assert_eq!(components[5]["group"], "org.example");
    assert_eq!(bill["metadata"]["timestamp"], "2026-05-28T20:26:40Z");
    assert_eq!(bill["compositions"][0]["aggregate"], "incomplete");
    let parts = bill["dependencies"][0]["dependsOn"].as_array();
    assert_eq!(parts.map(Vec::len), Some(6));
}

#[test]
fn spdx_says_the_same() {
    let bill = written(Format::Spdx, &inventory());
    let packages = bill["packages"].as_array().expect("packages");
    assert_eq!(packages.len(), 7);
    let ids: HashSet<&str> = packages
        .iter()
        .map(|package| package["SPDXID"].as_str().expect("an id"))
        .collect();
    assert_eq!(ids.len(), 7);
    let declared = packages[2]["licenseDeclared"].as_str().expect("a licence");
    let reference = bill["hasExtractedLicensingInfos"][0]["licenseId"].as_str();
    assert_eq!(
        Some(declared),
        reference.map(|id| format!("Zlib AND {id}")).as_deref()
    );
    assert_eq!(packages[3]["licenseDeclared"], "NOASSERTION");
    assert_eq!(bill["relationships"].as_array().map(Vec::len), Some(7));
    assert!(
        bill["comment"]
            .as_str()
            .is_some_and(|text| text.contains("PHP packages"))
    );
}

#[test]
fn the_number_is_that_of_the_content() {
    let first = written(Format::CycloneDx, &inventory());
    let mut other = inventory();
    other.packages.pop();
    let second = written(Format::CycloneDx, &other);
    assert_ne!(first["serialNumber"], second["serialNumber"]);
    let number = first["serialNumber"].as_str().expect("a number");
    let form = regex::Regex::new(
        "^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
    );
    assert!(form.expect("a form").is_match(number), "{number}");
}
