//! Bills of materials from an inventory: CycloneDX 1.6 and SPDX 2.3, both JSON.
//!
//! The same inventory gives the same bytes: numbers and ids are derived from the content, and the time
//! is the caller's, who takes that of the commit. What was seen and not read is told in both.

mod cyclonedx;
mod licence;
mod spdx;

use std::collections::HashSet;

use serde_json::Value;

use super::{Inventory, Package, PackageKind};
use crate::base::{Digest, Timestamp};

/// Media type of a CycloneDX document.
pub const CYCLONEDX_TYPE: &str = "application/vnd.cyclonedx+json";
/// Media type of an SPDX document.
pub const SPDX_TYPE: &str = "application/spdx+json";

/// A format of bills of materials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// CycloneDX 1.6.
    CycloneDx,
    /// SPDX 2.3.
    Spdx,
}

impl Format {
    /// As it is written in files.
    pub fn word(self) -> &'static str {
        match self {
            Self::CycloneDx => "cyclonedx",
            Self::Spdx => "spdx",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::CycloneDx => CYCLONEDX_TYPE,
            Self::Spdx => SPDX_TYPE,
        }
    }
}

/// What a bill is about, beside the inventory.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// What the image is called.
    pub name: &'a str,
    /// Its time: that of the commit it was built from.
    pub created: Timestamp,
    /// Version of this program.
    pub version: &'a str,
}

/// Writes a bill.
pub fn document(format: Format, inventory: &Inventory, about: &About<'_>) -> Vec<u8> {
    let mut document = match format {
        Format::CycloneDx => cyclonedx::document(inventory, about),
        Format::Spdx => spdx::document(inventory, about),
    };
    // The number of a document is that of its content without one.
    let uuid = uuid(&to_bytes(&document));
    match format {
        Format::CycloneDx => cyclonedx::number(&mut document, &uuid),
        Format::Spdx => spdx::number(&mut document, &uuid),
    }
    to_bytes(&document)
}

fn to_bytes(document: &Value) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(document).expect("a value is always JSON");
    bytes.push(b'\n');
    bytes
}

/// A UUID of version 8 (made from whatever one likes): from the digest of the content.
fn uuid(content: &[u8]) -> String {
    let digest = Digest::of(content);
    let hex = digest.hex();
    // The variant is one of 8, 9, a and b.
    let variant = match hex.as_bytes()[16] {
        b'0'..=b'3' => '8',
        b'4'..=b'7' => '9',
        b'8'..=b'9' | b'a'..=b'b' => 'a',
        _ => 'b',
    };
    format!(
        "{}-{}-8{}-{variant}{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..32]
    )
}

/// Packages with an id each, that no other has and that stays while the package does.
fn identified(packages: &[Package]) -> Vec<(String, &Package)> {
    let mut taken: HashSet<String> = HashSet::with_capacity(packages.len());
    packages
        .iter()
        .map(|package| {
            let place = package.locations.first().map_or("", |l| l.path.as_str());
            let text = format!("{}\0{place}", package.purl);
            let digest = Digest::of(text.as_bytes());
            let wish = format!("{}-{}", package.kind.word(), &digest.hex()[..16]);
            let mut id = wish.clone();
            let mut number = 1;
            while !taken.insert(id.clone()) {
                number += 1;
                id = format!("{wish}-{number}");
            }
            (id, package)
        })
        .collect()
}

/// A name in two parts where the manager has two: scope and name, group and artifact.
fn parts(package: &Package) -> (Option<&str>, &str) {
    let split = match package.kind {
        PackageKind::Npm if package.name.starts_with('@') => package.name.split_once('/'),
        PackageKind::Maven => package.name.split_once(':'),
        _ => None,
    };
    match split {
        Some((group, name)) if !group.is_empty() && !name.is_empty() => (Some(group), name),
        _ => (None, &package.name),
    }
}

#[cfg(test)]
mod tests;
