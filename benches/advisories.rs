//! What it takes to ask the database of advisories about an image: a process that opens it, matches
//! 400 packages of a distribution and 200 of languages, and ends.
//!
//! `cargo bench --bench advisories -- DIRECTORY` with a database imported from what
//! `benches/advisories.py` makes; `scripts/bench advisories` does all of it. Without a directory
//! there is nothing to measure.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]

use std::path::PathBuf;
use std::time::Instant;

use pipewright::adapters::advisories::AdvisoryStore;
use pipewright::adapters::http::Http;
use pipewright::base::Timestamp;
use pipewright::scan::osv::findings;
use pipewright::scan::{Distro, Inventory, Package, PackageKind};

fn package(kind: PackageKind, name: String, version: &str) -> Package {
    Package {
        kind,
        name,
        version: version.to_owned(),
        arch: None,
        source: None,
        owner: None,
        licenses: Vec::new(),
        purl: String::new(),
        locations: Vec::new(),
    }
}

fn main() {
    let directory = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let Some(directory) = directory.map(PathBuf::from) else {
        println!("advisories: name the directory of a database");
        return;
    };
    let began = Instant::now();
    let mut packages = Vec::new();
    for number in 200..600 {
        packages.push(package(
            PackageKind::Deb,
            format!("source-{number}"),
            "1.59.0-1",
        ));
    }
    for number in 0..100 {
        packages.push(package(
            PackageKind::Pypi,
            format!("module-{number}"),
            "2.36.0",
        ));
        packages.push(package(
            PackageKind::Golang,
            format!("module-{number}"),
            "v2.36.0",
        ));
    }
    let inventory = Inventory {
        distro: Some(Distro {
            id: "debian".to_owned(),
            version: "12".to_owned(),
            ..Distro::default()
        }),
        packages,
        ..Inventory::default()
    };
    let store = AdvisoryStore::new(directory, Http::new(), || Timestamp(0));
    let matches = findings(&inventory, &store).expect("the database reads");
    let took = began.elapsed();
    assert!(matches.missing.is_empty(), "{:?}", matches.missing);
    println!(
        "{} packages, {} findings, {:.1} ms",
        inventory.packages.len(),
        matches.findings.len(),
        took.as_secs_f64() * 1000.0
    );
}
