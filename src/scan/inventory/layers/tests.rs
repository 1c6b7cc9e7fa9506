//! What shows of layers, and what it is called.

use super::*;
use crate::scan::inventory::read;

/// One layer from lines: `d path`, `f path`, `l path target`, `h path target`, `w path`,
/// `o path`, or a path and what it holds.
fn layer(entries: &[(&str, &str)], hasher: &PathHasher) -> LayerContents {
    let mut layer = LayerContents::default();
    for (entry, content) in entries {
        match entry.split_once(' ') {
            Some(("d", path)) => layer.directory(path, hasher),
            Some(("f", path)) => layer.other(path, hasher),
            Some(("l", path)) => layer.link(path, content, hasher),
            Some(("h", path)) => layer.hard_link(path, content, hasher),
            Some(("w", path)) => layer.whiteout(path, hasher),
            Some(("o", path)) => layer.opaque(path, hasher),
            _ => {
                layer.other(entry, hasher);
                let kind = recognise(entry).expect("it is worth reading");
                layer.read(entry, read(kind, entry, content.as_bytes(), hasher));
            }
        }
    }
    layer.seal();
    layer
}

fn inventory(layers: &[&[(&str, &str)]]) -> Inventory {
    let hasher = PathHasher::default();
    let layers = layers
        .iter()
        .enumerate()
        .map(|(index, entries)| (Some(format!("layer {index}")), layer(entries, &hasher)));
    join("sha256:x".to_owned(), layers.collect(), &hasher)
}

/// Packages as `name version (layer)`.
#[track_caller]
fn check(layers: &[&[(&str, &str)]], expected: &[&str]) {
    let found = inventory(layers);
    let shown = found.packages.iter().map(|package| {
        let layer = package.locations[0].layer.as_deref().unwrap_or_default();
        format!("{} {} ({layer})", package.name, package.version)
    });
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

const STATUS: &str = "var/lib/dpkg/status";
const A1: &str = "Package: a\nVersion: 1\n";
const A1_B1: &str = "Package: a\nVersion: 1\n\nPackage: b\nVersion: 1\n";
const A2_B1: &str = "Package: a\nVersion: 2\n\nPackage: b\nVersion: 1\n";

#[test]
fn a_package_is_of_the_layer_that_brought_it() {
    check(
        &[
            &[(STATUS, A1)],
            &[(STATUS, A1_B1)],
            &[(STATUS, A2_B1)],
            &[(STATUS, A2_B1)],
        ],
        &["a 2 (layer 2)", "b 1 (layer 1)"],
    );
}

#[test]
fn what_a_layer_takes_away_is_gone() {
    let base: &[(&str, &str)] = &[(STATUS, A1)];
    check(&[base, &[]], &["a 1 (layer 0)"]);
    for upper in [
        ("w var/lib/dpkg/status", ""),
        ("w var/lib", ""),
        ("o var", ""),
        ("o ", ""),
        ("f var/lib/dpkg", ""),
        ("f var/lib/dpkg/status", ""),
        ("d var/lib/dpkg/status", ""),
        ("l var/lib", "elsewhere"),
    ] {
        check(&[base, &[upper]], &[]);
    }
    for upper in [
        ("w var/lib/dpkg/status-old", ""),
        ("d var/lib/dpkg", ""),
        ("o var/lib/dpkg/info", ""),
        ("o var/lib/dpkg/status", ""),
        ("f var/lib/dpkg/status/x", ""),
    ] {
        check(&[base, &[upper]], &["a 1 (layer 0)"]);
    }
    // A whiteout is about lower layers only, wherever it stands. The same package in the file that
    // takes the place is no new one.
    check(
        &[
            base,
            &[
                ("o var", ""),
                (STATUS, A1_B1),
                ("w var/lib/dpkg/status", ""),
            ],
        ],
        &["a 1 (layer 0)", "b 1 (layer 1)"],
    );
    // A later entry of the same layer replaces an earlier one.
    check(&[&[(STATUS, A1), ("d var/lib/dpkg/status", "")]], &[]);
}

#[test]
fn links_of_directories_lead_to_the_same_file() {
    let apk = |version: &str| format!("P:musl\nV:{version}\n");
    let (one, two) = (apk("1"), apk("2"));
    check(
        &[
            &[("l lib", "usr/lib"), ("usr/lib/apk/db/installed", &one)],
            &[("lib/apk/db/installed", &two)],
        ],
        &["musl 2 (layer 1)"],
    );
    check(
        &[&[("l lib", "lib"), ("lib/apk/db/installed", &one)]],
        &["musl 1 (layer 0)"],
    );
    check(
        &[&[
            ("l lib", "a"),
            ("l a", "/lib"),
            ("lib/apk/db/installed", &one),
        ]],
        &["musl 1 (layer 0)"],
    );
}

#[test]
fn second_names_count_as_files() {
    check(
        &[
            &[
                ("a.egg-info", "Name: x\nVersion: 1\n"),
                ("h b.egg-info", "a.egg-info"),
            ],
            &[("w a.egg-info", "")],
        ],
        &["x 1 (layer 0)"],
    );
    let found = inventory(&[&[("h b.egg-info", "usr/share/x")]]);
    assert_eq!(
        found.uncovered[0].why,
        "it is a second name of a file that was not read"
    );
}

#[test]
fn the_distribution_may_be_behind_links() {
    let release = "ID=fedora\nVERSION_ID=39\n";
    for layers in [
        &[
            ("etc/os-release", release),
            ("usr/lib/os-release", "ID=other\n"),
        ][..],
        &[("usr/lib/os-release", release)],
        &[
            ("l etc/os-release", "../usr/lib/os-release"),
            ("usr/lib/os-release", release),
        ],
        &[
            ("l etc/os-release", "/usr/lib/os-release"),
            ("l usr/lib/os-release", "./os.release.d/os-release-x"),
            ("usr/lib/os.release.d/os-release-x", release),
        ],
        &[
            ("l etc", "system"),
            ("l system", "etc"),
            ("usr/lib/os-release", release),
        ],
    ] {
        let distro = inventory(&[layers]).distro.expect("it has one");
        assert_eq!(
            (distro.id.as_str(), distro.version.as_str()),
            ("fedora", "39")
        );
    }
    assert_eq!(
        inventory(&[&[("l etc/os-release", "os-release")]]).distro,
        None
    );
}

#[test]
fn what_the_distribution_installed_is_its_own() {
    let found = inventory(&[&[
        ("etc/os-release", "ID=debian\nVERSION_ID=12\n"),
        (
            "usr/lib/python3/dist-packages/x.egg-info",
            "Name: x\nVersion: 1\n",
        ),
        ("opt/x.egg-info", "Name: x\nVersion: 1\n"),
        ("usr/lib/ruby/specifications/a.gemspec", "x"),
        (
            "var/lib/dpkg/info/python3-x.list",
            "/usr/lib/python3/dist-packages/x.egg-info\n",
        ),
        (
            "var/lib/dpkg/info/rake.list",
            "/lib/ruby/specifications/a.gemspec\n",
        ),
    ]]);
    let [free, owned] = found.packages.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (free.owner.as_deref(), &*free.locations[0].path),
        (None, "opt/x.egg-info")
    );
    assert_eq!(owned.owner.as_deref(), Some("python3-x"));
    assert_eq!(found.uncovered, []);
}

#[test]
fn lock_files_count_where_nothing_is_installed() {
    let lock = r#"{"packages": {"node_modules/a": {"version": "1.0.0"}}}"#;
    check(
        &[&[("app/package-lock.json", lock)]],
        &["a 1.0.0 (layer 0)"],
    );
    check(
        &[&[("package-lock.json", lock), ("f node_modules", "")]],
        &["a 1.0.0 (layer 0)"],
    );
    let installed = (
        "app/node_modules/b/package.json",
        r#"{"name": "b", "version": "2"}"#,
    );
    check(
        &[&[("app/package-lock.json", lock), installed]],
        &["b 2 (layer 0)"],
    );
    check(
        &[&[("other/package-lock.json", lock), installed]],
        &["a 1.0.0 (layer 0)", "b 2 (layer 0)"],
    );
}

#[test]
fn what_is_not_covered_is_told_once() {
    let found = inventory(&[
        &[("srv/a/composer.lock", "x"), ("srv/b/composer.lock", "x")],
        &[("var/lib/rpm/Packages", "x"), ("w srv/a", "")],
    ]);
    let shown: Vec<_> = found
        .uncovered
        .iter()
        .map(|uncovered| {
            (
                &*uncovered.what,
                &*uncovered.location.path,
                uncovered.location.layer.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("PHP packages", "srv/b/composer.lock", Some("layer 0")),
            ("packages of rpm", "var/lib/rpm/Packages", Some("layer 1"))
        ]
    );
    let two = inventory(&[&[("a/composer.lock", "x"), ("b/composer.lock", "x")]]);
    assert!(two.uncovered[0].why.ends_with("(2 files)"), "{two:?}");
}

#[test]
fn urls_have_the_qualifiers_of_their_kind() {
    let distro = Distro {
        id: "fedora".to_owned(),
        version: "39".to_owned(),
        ..Distro::default()
    };
    let item = |kind, name: &str, version: &str| Item {
        source: Some(crate::scan::Source {
            name: "src".to_owned(),
            version: "1-2".to_owned(),
        }),
        arch: Some("noarch".to_owned()),
        ..Item::new(kind, name, version)
    };
    for (kind, name, version, expected) in [
        (
            PackageKind::Rpm,
            "a",
            "3:1-2",
            "pkg:rpm/fedora/a@1-2?arch=noarch&distro=fedora-39&epoch=3&upstream=src-1-2.src.rpm",
        ),
        (
            PackageKind::Deb,
            "a",
            "1-2",
            "pkg:deb/fedora/a@1-2?arch=noarch&distro=fedora-39&upstream=src",
        ),
        (
            PackageKind::Apk,
            "a",
            "1-3",
            "pkg:apk/fedora/a@1-3?arch=noarch&distro=fedora-39&upstream=src%401-2",
        ),
        (PackageKind::Npm, "@s/a", "1", "pkg:npm/%40s/a@1"),
        (
            PackageKind::Golang,
            "x.org/a/v2",
            "v2.0.0",
            "pkg:golang/x.org/a/v2@v2.0.0",
        ),
        (
            PackageKind::Golang,
            "x.org/a",
            "(devel)",
            "pkg:golang/x.org/a",
        ),
        (
            PackageKind::Golang,
            "stdlib",
            "1.22.1",
            "pkg:golang/stdlib@1.22.1",
        ),
        (PackageKind::Maven, "g.h:a", "1", "pkg:maven/g.h/a@1"),
        (PackageKind::Maven, "a", "1", "pkg:maven/a@1"),
    ] {
        assert_eq!(purl(&item(kind, name, version), Some(&distro)), expected);
    }
}
