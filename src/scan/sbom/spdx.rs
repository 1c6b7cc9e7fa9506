//! SPDX 2.3.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::licence::Licence;
use super::{About, identified};
use crate::base::Digest;
use crate::scan::{Inventory, Package};

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-image";
const DISTRO: &str = "SPDXRef-distro";
const UNKNOWN: &str = "NOASSERTION";

/// The document without its number.
pub(super) fn document(inventory: &Inventory, about: &About<'_>) -> Value {
    let mut extracted: BTreeMap<String, String> = BTreeMap::new();
    let mut packages = vec![image(inventory, about)];
    let mut parts: Vec<String> = Vec::with_capacity(inventory.packages.len() + 1);
    if let Some(distro) = &inventory.distro {
        let mut package = plain(DISTRO, &distro.id, "OPERATING_SYSTEM");
        if !distro.version.is_empty() {
            package["versionInfo"] = json!(distro.version);
        }
        if !distro.name.is_empty() {
            package["summary"] = json!(distro.name);
        }
        packages.push(package);
        parts.push(DISTRO.to_owned());
    }
    for (id, package) in identified(&inventory.packages) {
        let id = format!("SPDXRef-{id}");
        packages.push(entry(&id, package, &mut extracted));
        parts.push(id);
    }
    let relation = |from: &str, kind: &str, to: &str| {
        json!({
            "spdxElementId": from,
            "relationshipType": kind,
            "relatedSpdxElement": to,
        })
    };
    let relationships: Vec<Value> = std::iter::once(relation(DOCUMENT, "DESCRIBES", IMAGE))
        .chain(parts.iter().map(|part| relation(IMAGE, "CONTAINS", part)))
        .collect();
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": about.name,
        "documentNamespace": "",
        "creationInfo": {
            "created": about.created.rfc3339(),
            "creators": [format!("Tool: pipewright-{}", about.version)],
        },
        "packages": packages,
        "relationships": relationships,
    });
    if !inventory.uncovered.is_empty() {
        let missing: Vec<String> = inventory
            .uncovered
            .iter()
            .map(|one| format!("{} at {}: {}", one.what, one.location.path, one.why))
            .collect();
        document["comment"] = json!(format!("Not covered: {}", missing.join("; ")));
    }
    if !extracted.is_empty() {
        let infos: Vec<Value> = extracted
            .into_iter()
            .map(|(id, name)| {
                json!({
                    "licenseId": id,
                    "name": name,
                    "extractedText": name,
                    "comment": "the name that the package declares; its text was not read",
                })
            })
            .collect();
        document["hasExtractedLicensingInfos"] = json!(infos);
    }
    document
}

/// Numbers the document.
pub(super) fn number(document: &mut Value, uuid: &str) {
    document["documentNamespace"] = json!(format!("https://spdx.org/spdxdocs/pipewright-{uuid}"));
}

/// What every package has to say, of one about which no more is known.
fn plain(id: &str, name: &str, purpose: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "primaryPackagePurpose": purpose,
    })
}

fn image(inventory: &Inventory, about: &About<'_>) -> Value {
    let mut package = plain(IMAGE, about.name, "CONTAINER");
    package["versionInfo"] = json!(inventory.image);
    if let Some(hex) = inventory.image.strip_prefix("sha256:")
        && hex.len() == 64
    {
        package["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": hex }]);
    }
    if !inventory.layers.is_empty() {
        package["comment"] = json!(format!("layers: {}", inventory.layers.join(" ")));
    }
    package
}

fn entry(id: &str, package: &Package, extracted: &mut BTreeMap<String, String>) -> Value {
    let mut entry = plain(id, &package.name, "LIBRARY");
    entry["versionInfo"] = json!(package.version);
    entry["licenseDeclared"] = json!(declared(&package.licenses, extracted));
    let places: Vec<String> = package
        .locations
        .iter()
        .take(20)
        .map(|location| match &location.layer {
            Some(layer) => format!("{} in layer {layer}", location.path),
            None => location.path.clone(),
        })
        .collect();
    let mut source = format!("found by its {} record", package.kind.word());
    if !places.is_empty() {
        source.push_str(&format!(": {}", places.join("; ")));
    }
    if let Some(built) = &package.source {
        source.push_str(&format!("; built from {} {}", built.name, built.version));
    }
    entry["sourceInfo"] = json!(source);
    entry["externalRefs"] = json!([{
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": package.purl,
    }]);
    entry
}

/// One expression of all that is declared. Names that are no identifiers get one of their own.
fn declared(licenses: &[String], extracted: &mut BTreeMap<String, String>) -> String {
    let all: Vec<Licence> = licenses.iter().filter_map(|l| Licence::of(l)).collect();
    let several = all.len() > 1;
    let mut terms: Vec<String> = Vec::with_capacity(all.len());
    for licence in all {
        let term = match licence {
            Licence::Id(id) => id.to_owned(),
            Licence::Expression(text) if several => format!("({text})"),
            Licence::Expression(text) => text,
            Licence::Name(name) => {
                let digest = Digest::of(name.as_bytes());
                let id = format!("LicenseRef-{}", &digest.hex()[..16]);
                extracted.insert(id.clone(), name);
                id
            }
        };
        if !terms.contains(&term) {
            terms.push(term);
        }
    }
    match terms.is_empty() {
        true => UNKNOWN.to_owned(),
        false => terms.join(" AND "),
    }
}
