//! CycloneDX 1.6.

use serde_json::{Value, json};

use super::licence::Licence;
use super::{About, identified, parts};
use crate::scan::{Inventory, Package};

/// Reference of the image within the document.
const IMAGE: &str = "image";
/// Reference of the distribution.
const DISTRO: &str = "distro";
/// Places listed at most of one package.
const PLACES: usize = 100;

/// The document without its number.
pub(super) fn document(inventory: &Inventory, about: &About<'_>) -> Value {
    let packages = identified(&inventory.packages);
    let mut components = Vec::with_capacity(packages.len() + 1);
    let mut parts: Vec<&str> = Vec::with_capacity(packages.len() + 1);
    if let Some(distro) = &inventory.distro {
        let mut component = json!({
            "type": "operating-system",
            "bom-ref": DISTRO,
            "name": distro.id,
        });
        if !distro.version.is_empty() {
            component["version"] = json!(distro.version);
        }
        if !distro.name.is_empty() {
            component["description"] = json!(distro.name);
        }
        components.push(component);
        parts.push(DISTRO);
    }
    for (id, package) in &packages {
        components.push(component(id, package));
        parts.push(id);
    }
    let mut image = json!({
        "type": "container",
        "bom-ref": IMAGE,
        "name": about.name,
        "version": inventory.image,
    });
    let mut properties: Vec<Value> = inventory
        .layers
        .iter()
        .map(|layer| property("pipewright:layer", layer))
        .collect();
    properties.extend(inventory.uncovered.iter().map(|uncovered| {
        let text = format!(
            "{} at {}: {}",
            uncovered.what, uncovered.location.path, uncovered.why
        );
        property("pipewright:not-covered", &text)
    }));
    if !properties.is_empty() {
        image["properties"] = json!(properties);
    }
    let dependencies = std::iter::once(json!({ "ref": IMAGE, "dependsOn": parts }))
        .chain(parts.iter().map(|part| json!({ "ref": part })));
    let dependencies: Vec<Value> = dependencies.collect();
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": about.created.rfc3339(),
            "tools": {
                "components": [{
                    "type": "application",
                    "name": "pipewright",
                    "version": about.version,
                }],
            },
            "component": image,
        },
        "components": components,
        "dependencies": dependencies,
    });
    if !inventory.uncovered.is_empty() {
        document["compositions"] = json!([{ "aggregate": "incomplete", "assemblies": [IMAGE] }]);
    }
    document
}

/// Numbers the document.
pub(super) fn number(document: &mut Value, uuid: &str) {
    document["serialNumber"] = json!(format!("urn:uuid:{uuid}"));
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn component(id: &str, package: &Package) -> Value {
    let (group, name) = parts(package);
    let mut component = json!({ "type": "library", "bom-ref": id });
    if let Some(group) = group {
        component["group"] = json!(group);
    }
    component["name"] = json!(name);
    component["version"] = json!(package.version);
    let licences = licences(&package.licenses);
    if !licences.is_empty() {
        component["licenses"] = json!(licences);
    }
    component["purl"] = json!(package.purl);
    let mut properties = vec![property("pipewright:kind", package.kind.word())];
    if let Some(source) = &package.source {
        properties.push(property("pipewright:source:name", &source.name));
        properties.push(property("pipewright:source:version", &source.version));
    }
    if let Some(owner) = &package.owner {
        properties.push(property("pipewright:owner", owner));
    }
    let mut layers: Vec<&str> = package
        .locations
        .iter()
        .filter_map(|location| location.layer.as_deref())
        .collect();
    layers.dedup();
    properties.extend(
        layers
            .iter()
            .take(PLACES)
            .map(|layer| property("pipewright:layer", layer)),
    );
    component["properties"] = json!(properties);
    let places: Vec<Value> = package
        .locations
        .iter()
        .filter(|location| !location.path.is_empty())
        .take(PLACES)
        .map(|location| json!({ "location": location.path }))
        .collect();
    if !places.is_empty() {
        component["evidence"] = json!({ "occurrences": places });
    }
    component
}

/// Either one expression or any number of licences: the format allows no mixture.
fn licences(declared: &[String]) -> Vec<Value> {
    let mut declared: Vec<Licence> = declared.iter().filter_map(|l| Licence::of(l)).collect();
    declared.dedup();
    if let [Licence::Expression(expression)] = declared.as_slice() {
        return vec![json!({ "expression": expression })];
    }
    declared
        .into_iter()
        .map(|licence| match licence {
            Licence::Id(id) => json!({ "license": { "id": id } }),
            Licence::Expression(name) | Licence::Name(name) => {
                json!({ "license": { "name": name } })
            }
        })
        .collect()
}
