//! Matching, with records and packages made for one question each.

use std::collections::BTreeMap;

use super::{
    AdvisoryReader, Affected, Family, Matches, Notice, ReadError, Record, compile, findings,
};
use crate::base::Timestamp;
use crate::scan::{
    Distro, Ecosystem, Finding, Inventory, Location, Package, PackageKind, Rating, Source,
};

/// A store in memory.
#[derive(Default)]
struct Memory {
    notices: Vec<Notice>,
    affected: Vec<(Ecosystem, String, Affected)>,
    families: BTreeMap<String, Family>,
}

impl Memory {
    fn of(records: &[&str]) -> Self {
        let mut memory = Self::default();
        for json in records {
            let record = Record::parse(json.as_bytes()).expect("a record");
            let compiled = compile(&record);
            assert_eq!(compiled.complaints, Vec::<String>::new());
            let number = memory.notices.len() as u64;
            memory.notices.push(compiled.notice);
            for mut entry in compiled.entries {
                let family = entry.ecosystem.family().to_owned();
                let family = memory.families.entry(family.clone()).or_insert(Family {
                    name: family,
                    ecosystems: Vec::new(),
                    records: 0,
                    withdrawn: 0,
                    broken: 0,
                    newest: compiled.modified.map(Timestamp),
                    published: None,
                    imported: Timestamp(0),
                    source: "memory".to_owned(),
                });
                family.ecosystems.push((entry.ecosystem.clone(), 1));
                entry.affected.notice = number;
                memory
                    .affected
                    .push((entry.ecosystem, entry.package, entry.affected));
            }
        }
        memory
    }
}

impl AdvisoryReader for Memory {
    fn families(&self) -> Result<Vec<Family>, ReadError> {
        Ok(self.families.values().cloned().collect())
    }

    fn family(&self, name: &str) -> Result<Option<Family>, ReadError> {
        Ok(self.families.get(name).cloned())
    }

    fn affected(&self, ecosystem: &Ecosystem, package: &str) -> Result<Vec<Affected>, ReadError> {
        let found = self
            .affected
            .iter()
            .filter(|(of, name, _)| of == ecosystem && name == package);
        Ok(found.map(|(_, _, affected)| affected.clone()).collect())
    }

    fn notice(&self, _family: &str, number: u64) -> Result<Notice, ReadError> {
        let at = usize::try_from(number).expect("a small number");
        Ok(self.notices[at].clone())
    }
}

fn package(kind: PackageKind, name: &str, version: &str) -> Package {
    Package {
        kind,
        name: name.to_owned(),
        version: version.to_owned(),
        arch: None,
        source: None,
        owner: None,
        licenses: Vec::new(),
        purl: format!("pkg:test/{name}@{version}"),
        locations: vec![Location {
            path: format!("srv/{name}"),
            layer: None,
        }],
    }
}

fn built_from(mut package: Package, name: &str, version: &str) -> Package {
    package.source = Some(Source {
        name: name.to_owned(),
        version: version.to_owned(),
    });
    package
}

fn matched(distro: Option<(&str, &str)>, packages: Vec<Package>, records: &[&str]) -> Matches {
    let distro = distro.map(|(id, version)| Distro {
        id: id.to_owned(),
        version: version.to_owned(),
        name: id.to_owned(),
        ..Distro::default()
    });
    let inventory = Inventory {
        distro,
        packages,
        ..Inventory::default()
    };
    findings(&inventory, &Memory::of(records)).expect("the store can be read")
}

/// `id package fixed`, one for each finding.
fn lines(matches: &Matches) -> Vec<String> {
    let line = |finding: &Finding| {
        let fixed = finding.fixed.as_deref().unwrap_or("-");
        format!("{} {} {fixed}", finding.advisory.id, finding.package)
    };
    matches.findings.iter().map(line).collect()
}

const ZLIB: &str = r#"{"id": "DEBIAN-CVE-2022-37434", "upstream": ["CVE-2022-37434"],
    "modified": "2026-01-02T00:00:00Z",
    "affected": [
      {"package": {"ecosystem": "Debian:11", "name": "zlib"}, "ranges": [{"type": "ECOSYSTEM",
        "events": [{"introduced": "0"}, {"fixed": "1:1.2.11.dfsg-2+deb11u2"}]}],
        "ecosystem_specific": {"urgency": "not yet assigned"}},
      {"package": {"ecosystem": "Debian:12", "name": "zlib"}, "ranges": [{"type": "ECOSYSTEM",
        "events": [{"introduced": "0"}, {"fixed": "1:1.2.11.dfsg-4.1"}]}]}],
    "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
    "details": "zlib through 1.2.12 has a heap-based buffer over-read."}"#;

#[test]
fn distributions_are_matched_by_release_and_source() {
    let zlib = |version: &str| {
        let binary = package(PackageKind::Deb, "zlib1g", version);
        vec![built_from(binary, "zlib", version)]
    };
    let old = matched(
        Some(("debian", "11")),
        zlib("1:1.2.11.dfsg-2+deb11u1"),
        &[ZLIB],
    );
    assert_eq!(
        lines(&old),
        ["CVE-2022-37434 zlib1g 1:1.2.11.dfsg-2+deb11u2"]
    );
    let finding = &old.findings[0];
    assert_eq!(finding.advisory.aliases, ["DEBIAN-CVE-2022-37434"]);
    assert_eq!(finding.rating, Rating::Critical);
    assert_eq!(finding.advisory.severities[0].score, Some(98));
    assert!(finding.advisory.title.starts_with("zlib through 1.2.12"));
    assert_eq!(old.database.updated, Some(Timestamp(1_767_312_000_000)));
    // The fix that was carried back to the old version counts.
    let fixed = matched(
        Some(("debian", "11")),
        zlib("1:1.2.11.dfsg-2+deb11u2"),
        &[ZLIB],
    );
    assert_eq!((lines(&fixed).len(), fixed.missing.len()), (0, 0));
    // What is known of another release is not taken for this one.
    let other = matched(Some(("debian", "13")), zlib("1:1.2.11.dfsg-2"), &[ZLIB]);
    assert_eq!(lines(&other), Vec::<String>::new());
    assert_eq!(other.missing, [Ecosystem("Debian:13".to_owned())]);
    // Advisories name sources: a binary package of the same name is not meant.
    let binary = built_from(package(PackageKind::Deb, "zlib", "1"), "other", "1");
    assert_eq!(
        lines(&matched(Some(("debian", "11")), vec![binary], &[ZLIB])).len(),
        0
    );
}

#[test]
fn an_advisory_of_many_problems_counts_each_once() {
    let dsa = r#"{"id": "DSA-1-1", "summary": "zlib - update", "upstream":
        ["CVE-2022-37434", "CVE-2018-25032", "DEBIAN-CVE-2022-37434"], "affected": [{"package":
        {"ecosystem": "Debian:11", "name": "zlib"}, "ranges": [{"type": "ECOSYSTEM",
        "events": [{"introduced": "0"}, {"fixed": "1:1.2.11.dfsg-2+deb11u2"}]}]}]}"#;
    let zlib = package(PackageKind::Deb, "zlib", "1:1.2.11.dfsg-2");
    let matches = matched(Some(("debian", "11")), vec![zlib], &[dsa, ZLIB]);
    let fix = "1:1.2.11.dfsg-2+deb11u2";
    assert_eq!(
        lines(&matches),
        [
            format!("CVE-2022-37434 zlib {fix}"),
            format!("CVE-2018-25032 zlib {fix}")
        ]
    );
    let aliases = &matches.findings[0].advisory.aliases;
    assert_eq!(aliases, &["DEBIAN-CVE-2022-37434", "DSA-1-1"]);
    // Only the advisory of many is left to tell of the other.
    assert_eq!(matches.findings[1].advisory.title, "zlib - update");
    assert_eq!(matches.findings[1].rating, Rating::Unknown);
}

#[test]
fn databases_that_write_of_one_problem_are_merged() {
    let ghsa = r#"{"id": "GHSA-aaaa", "aliases": ["CVE-2020-1"], "summary": "Bad thing",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "Some.Thing"}, "ranges": [{"type":
        "ECOSYSTEM", "events": [{"introduced": "1.0"}, {"fixed": "2.0.1"}]}]}],
        "database_specific": {"severity": "MODERATE"}, "severity": [{"type": "CVSS_V4", "score":
        "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N"}]}"#;
    let pysec = r#"{"id": "PYSEC-2020-1", "aliases": ["GHSA-aaaa"], "affected": [{"package":
        {"ecosystem": "PyPI", "name": "some-thing"}, "ranges": [{"type": "ECOSYSTEM", "events":
        [{"introduced": "0"}, {"fixed": "2.0.2"}]}, {"type": "GIT", "events": [{"introduced": "0"}]}],
        "versions": ["1.0", "1.5", "9.9.dev1"]}]}"#;
    let other = r#"{"id": "GHSA-bbbb", "affected": [{"package": {"ecosystem": "PyPI", "name":
        "some_thing"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]}"#;
    let taken_back = r#"{"id": "GHSA-cccc", "withdrawn": "2021-01-01T00:00:00Z", "affected":
        [{"package": {"ecosystem": "PyPI", "name": "some-thing"}, "ranges": [{"type": "ECOSYSTEM",
        "events": [{"introduced": "0"}]}]}]}"#;
    let records = [ghsa, pysec, other, taken_back];
    let of = |version: &str| {
        matched(
            None,
            vec![package(PackageKind::Pypi, "some_Thing", version)],
            &records,
        )
    };
    let matches = of("1.5");
    // 2.0.1 ends it by one advisory only.
    assert_eq!(
        lines(&matches),
        ["CVE-2020-1 some_Thing 2.0.2", "GHSA-bbbb some_Thing -"]
    );
    let advisory = &matches.findings[0].advisory;
    assert_eq!(advisory.aliases, ["GHSA-aaaa", "PYSEC-2020-1"]);
    let ratings: Vec<Rating> = advisory.severities.iter().map(|one| one.rating).collect();
    assert_eq!(ratings, [Rating::Medium, Rating::Critical]);
    assert_eq!(
        advisory.url.as_deref(),
        Some("https://osv.dev/vulnerability/CVE-2020-1")
    );
    assert_eq!(
        lines(&of("2.0.1")),
        ["GHSA-bbbb some_Thing -", "PYSEC-2020-1 some_Thing 2.0.2"]
    );
    assert_eq!(
        lines(&of("9.9.0.dev1")),
        ["GHSA-bbbb some_Thing -", "PYSEC-2020-1 some_Thing -"]
    );
}

#[test]
fn the_distribution_answers_for_what_it_ships() {
    let ghsa = r#"{"id": "GHSA-yyyy", "affected": [
        {"package": {"ecosystem": "PyPI", "name": "pyyaml"}, "ranges": [{"type": "ECOSYSTEM",
         "events": [{"introduced": "0"}, {"fixed": "6.1"}]}]},
        {"package": {"ecosystem": "Go", "name": "pyyaml"}, "ranges": [{"type": "SEMVER",
         "events": [{"introduced": "0"}, {"fixed": "6.1.0"}]}]}]}"#;
    let debian = r#"{"id": "DEBIAN-CVE-2020-1", "upstream": ["CVE-2020-1"], "affected": [{"package":
        {"ecosystem": "Debian:12", "name": "pyyaml"}, "ranges": [{"type": "ECOSYSTEM",
        "events": [{"introduced": "0"}, {"fixed": "5.3.1-1"}]}]}]}"#;
    let from = |kind: PackageKind, owner: Option<&str>| {
        let mut module = package(kind, "pyyaml", "6.0");
        module.owner = owner.map(str::to_owned);
        module
    };
    let deb = |name: &str, source: &str| {
        built_from(
            package(PackageKind::Deb, name, "6.0-3+deb12u1"),
            source,
            "6.0-3+deb12u1",
        )
    };
    let installed = [
        deb("python3-yaml", "pyyaml"),
        deb("vendors-tool", "vendors-tool"),
    ];
    let check = |distro: &str, module: Package, expected: usize| {
        let packages = [installed.as_slice(), &[module]].concat();
        let matches = matched(Some((distro, "12")), packages, &[ghsa, debian]);
        assert_eq!(matches.findings.len(), expected, "{matches:?}");
    };
    check("debian", from(PackageKind::Pypi, Some("python3-yaml")), 0);
    check("debian", from(PackageKind::Pypi, None), 1);
    // Nobody else answers for it.
    check("debian", from(PackageKind::Pypi, Some("vendors-tool")), 1);
    check("debian", from(PackageKind::Pypi, Some("gone")), 1);
    check("raspbian", from(PackageKind::Pypi, Some("python3-yaml")), 1);
    check("debian", from(PackageKind::Golang, Some("python3-yaml")), 1);
}

#[test]
fn what_cannot_be_decided_is_said() {
    let go = r#"{"id": "GO-2023-1", "affected": [{"package": {"ecosystem": "Go", "name": "stdlib"},
        "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}, {"fixed": "1.20.10"},
        {"introduced": "1.21.0-0"}, {"fixed": "1.21.3"}]}]}]}"#;
    let of = |name: &str, version: &str| {
        matched(
            None,
            vec![package(PackageKind::Golang, name, version)],
            &[go],
        )
    };
    assert_eq!(
        lines(&of("stdlib", "go1.20.9")),
        ["GO-2023-1 stdlib 1.20.10"]
    );
    assert_eq!(lines(&of("stdlib", "1.21rc2")).len(), 0);
    assert_eq!(
        lines(&of("stdlib", "go1.21rc2")),
        ["GO-2023-1 stdlib 1.21.3"]
    );
    assert_eq!(lines(&of("stdlib", "go1.21.3")).len(), 0);
    // Nobody warns of the program itself, so its version does not matter.
    assert_eq!(of("example.com/app", "(devel)").uncovered, []);
    let undecided = of("stdlib", "devel go1.23-abc");
    assert_eq!(undecided.uncovered[0].what, "advisories for stdlib");
    let npm = matched(None, vec![package(PackageKind::Npm, "x", "1.0.0")], &[go]);
    assert_eq!(npm.missing, [Ecosystem("npm".to_owned())]);
    assert_eq!(npm.database.updated, None);
    let rpms = vec![
        package(PackageKind::Rpm, "x", "1-1"),
        package(PackageKind::Rpm, "y", "1-1"),
    ];
    let fedora = matched(Some(("fedora", "40")), rpms, &[]);
    assert_eq!(fedora.uncovered[0].what, "advisories for 2 rpm packages");
    assert_eq!(
        fedora.uncovered[0].why,
        "OSV has no advisories for rpm packages of fedora"
    );
}

#[test]
fn modules_and_longer_maintenance_are_told_apart() {
    let rhel = r#"{"id": "RHSA-1", "upstream": ["CVE-2026-1"], "affected": [
        {"package": {"ecosystem": "Red Hat:enterprise_linux:9::appstream", "name": "nodejs"},
         "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1:22.2-2.module+el9.8.0+1+a"}]}]},
        {"package": {"ecosystem": "Red Hat:enterprise_linux:9::crb", "name": "nodejs"},
         "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1:22.2-2.module+el9.8.0+1+a"}]}]}]}"#;
    let nodejs = |version: &str| {
        let nodejs = vec![package(PackageKind::Rpm, "nodejs", version)];
        lines(&matched(Some(("rhel", "9.4")), nodejs, &[rhel]))
    };
    assert_eq!(nodejs("1:16.20.2-8.el9_4").len(), 0);
    assert_eq!(
        nodejs("1:22.1-1.module+el9.7.0+1+b"),
        ["CVE-2026-1 nodejs 1:22.2-2.module+el9.8.0+1+a"]
    );
    let ubuntu = r#"{"id": "UBUNTU-CVE-2026-2", "upstream": ["CVE-2026-2"], "severity": [{"type":
        "Ubuntu", "score": "low"}, {"type": "CVSS_V3", "score":
        "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}], "affected": [
        {"package": {"ecosystem": "Ubuntu:22.04:LTS", "name": "vips"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]},
        {"package": {"ecosystem": "Ubuntu:Pro:22.04:LTS", "name": "vips"}, "ranges": [{"type": "ECOSYSTEM",
         "events": [{"introduced": "0"}, {"fixed": "8.12.1-1ubuntu0.1~esm1"}]}]}]}"#;
    let vips = |version: &str| {
        let vips = vec![package(PackageKind::Deb, "vips", version)];
        matched(Some(("ubuntu", "22.04")), vips, &[ubuntu])
    };
    let plain = vips("8.12.1-1build1");
    assert_eq!(lines(&plain), ["CVE-2026-2 vips -"]);
    assert_eq!(plain.findings[0].rating, Rating::Low);
    assert_eq!(lines(&vips("8.12.1-1ubuntu0.1~esm1")).len(), 0);
}

#[test]
fn what_is_no_security_is_left_out_and_what_is_broken_complained_of() {
    let errata = r#"{"id": "ALBA-2019:1", "affected": [{"package": {"ecosystem": "AlmaLinux:8",
        "name": "bash"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]}"#;
    let record = Record::parse(errata.as_bytes()).expect("a record");
    assert_eq!(compile(&record).entries, []);
    let broken = r#"{"id": "GHSA-x", "modified": "yesterday", "affected": [
        {"package": {"ecosystem": "npm", "name": "a"}, "ranges": [{"type": "SEMVER", "events": [{"introduced": "one"}]}]},
        {"package": {"ecosystem": "npm", "name": ""}, "versions": ["1.0.0"]},
        {"package": {"ecosystem": "npm", "name": "b"}, "versions": ["1.0.0"]},
        {"package": {"ecosystem": "Android", "name": "c"}, "versions": ["1"]}]}"#;
    let compiled = compile(&Record::parse(broken.as_bytes()).expect("a record"));
    assert_eq!(compiled.entries.len(), 1);
    assert_eq!(compiled.families, ["npm", "Android"]);
    assert_eq!(
        compiled.complaints,
        [
            "`modified` is no date",
            "a (npm): `one` is no version",
            "npm: a package has no usable name"
        ]
    );
}
