//! The program's database of advisories, filled with published records, and what they say of
//! packages that are vulnerable, fixed, and fixed by their distribution.

use std::path::Path;

use pipewright::adapters::advisories::AdvisoryStore;
use pipewright::adapters::http::Http;
use pipewright::base::Timestamp;
use pipewright::ports::advisories::{AdvisoryWriter as _, ImportRequest, ImportSource};
use pipewright::scan::osv::findings;
use pipewright::scan::{Distro, Inventory, Location, Package, PackageKind, Source};

use crate::support::files::root;
use crate::support::program::Program;

fn records() -> std::path::PathBuf {
    root().join("tests/data/osv")
}

async fn store(directory: &Path) -> AdvisoryStore {
    let store = AdvisoryStore::new(directory.to_owned(), Http::new(), || {
        Timestamp(1_800_000_000_000)
    });
    let request = ImportRequest {
        sources: vec![ImportSource::Path(records())],
        ..ImportRequest::default()
    };
    let report = store.import(request).await.expect("they import");
    assert_eq!(report.broken, []);
    store
}

fn package(kind: PackageKind, name: &str, source: Option<&str>, version: &str) -> Package {
    Package {
        kind,
        name: name.to_owned(),
        version: version.to_owned(),
        arch: None,
        source: source.map(|name| Source {
            name: name.to_owned(),
            version: version.to_owned(),
        }),
        owner: None,
        licenses: Vec::new(),
        purl: String::new(),
        locations: vec![Location {
            path: "a/file".to_owned(),
            layer: None,
        }],
    }
}

/// Each line: distribution or `-`, kind, package (with `/source`), version, and what must be
/// found: `id fixed rating` or nothing.
const CASES: &str = "
debian:11 deb zlib1g/zlib 1:1.2.11.dfsg-2 CVE-2022-37434 1:1.2.11.dfsg-2+deb11u2 unknown
debian:11 deb zlib1g/zlib 1:1.2.11.dfsg-2+deb11u1 CVE-2022-37434 1:1.2.11.dfsg-2+deb11u2 unknown
debian:11 deb zlib1g/zlib 1:1.2.11.dfsg-2+deb11u2
debian:11 deb libc6/glibc 2.31-13+deb11u6 CVE-2023-4911 2.31-13+deb11u7 unknown
debian:11 deb libc6/glibc 2.31-13+deb11u7
debian:12 deb libc6/glibc 2.36-9+deb12u1 CVE-2023-4911 2.36-9+deb12u3 unknown
debian:12 deb libc6/glibc 2.36-9+deb12u3
debian:12 deb libc6/glibc 2.36-9+deb12u10
ubuntu:22.04 deb libssl3/openssl 3.0.2-0ubuntu1 CVE-2022-1292 3.0.2-0ubuntu1.5 unknown
ubuntu:22.04 deb libssl3/openssl 3.0.2-0ubuntu1.5
ubuntu:22.04 deb libssl3/openssl 3.0.2-0ubuntu1.15
alpine:3.23.0 apk libcurl/curl 8.12.1-r0
alpine:3.23.0 apk libcurl/curl 8.13.0-r0 CVE-2026-80255 8.22.0-r0 unknown
alpine:3.23.0 apk libcurl/curl 8.22.0-r0
almalinux:10.1 rpm apr-util/apr-util 1.6.3-23.el10 CVE-2025-49506 1.6.3-23.el10_2.1 unknown CVE-2026-32327 1.6.3-23.el10_2.1 unknown CVE-2026-34501 1.6.3-23.el10_2.1 unknown
almalinux:10.1 rpm apr-util/apr-util 1.6.3-23.el10_2.1
rocky:9.6 rpm python3.12-lxml/python3.12-lxml 4.9.3-2.el9 CVE-2026-49825 0:4.9.3-2.el9_8.1 high
rocky:9.6 rpm python3.12-lxml/python3.12-lxml 4.9.3-2.el9_8.1
rhel:9.5 rpm sudo/sudo 1.9.5p2-10.el9_3 CVE-2025-32462 0:1.9.5p2-10.el9_6.1 unknown
rhel:9.5 rpm sudo/sudo 1.9.5p2-10.el9_6.1
- maven org.apache.logging.log4j:log4j-core 2.14.1 CVE-2021-44228 2.15.0 critical
- maven org.apache.logging.log4j:log4j-core 2.0-beta9 CVE-2021-44228 2.3.1 critical
- maven org.apache.logging.log4j:log4j-core 2.11.2 CVE-2021-44228 2.12.2 critical
- maven org.apache.logging.log4j:log4j-core 2.3.1
- maven org.apache.logging.log4j:log4j-core 2.12.4
- maven org.apache.logging.log4j:log4j-core 2.15.0
- npm minimist 1.2.5 CVE-2021-44906 1.2.6 critical
- npm minimist 0.0.8 CVE-2021-44906 0.2.4 critical
- npm minimist 0.2.4
- npm minimist 1.2.8
- npm lodash 4.17.20 CVE-2021-23337 4.17.21 high
- npm lodash-es 4.17.21
- npm lodash.template 4.5.0
- pypi urllib3 1.26.16 CVE-2023-43804 1.26.17 medium
- pypi urllib3 2.0.5 CVE-2023-43804 2.0.6 medium
- pypi urllib3 2.0.0a1
- pypi urllib3 1.26.17
- pypi urllib3 2.0.6
- cargo time 0.1.45 CVE-2020-26235 0.2.0 medium
- cargo time 0.2.6
- cargo time 0.2.22 CVE-2020-26235 0.2.23 medium
- cargo time 0.3.36
- golang stdlib go1.20.9 CVE-2023-39325 1.20.10 unknown
- golang stdlib go1.21rc4 CVE-2023-39325 1.21.3 unknown
- golang stdlib go1.21.3
- golang golang.org/x/net v0.16.0 CVE-2023-39325 0.17.0 unknown
- golang golang.org/x/net v0.17.0
";

#[tokio::test]
async fn published_advisories_find_what_is_vulnerable_and_pass_what_is_fixed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let store = store(dir.path()).await;
    let mut wrong = Vec::new();
    for line in CASES.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        let [distro, kind, name, version, ..] = words[..] else {
            panic!("{line}");
        };
        let kind: PackageKind =
            serde_json::from_value(serde_json::Value::from(kind)).expect("a kind");
        let (name, source) = match name.split_once('/') {
            Some((name, source)) if distro != "-" => (name, Some(source)),
            _ => (name, None),
        };
        let distro = distro.split_once(':').map(|(id, version)| Distro {
            id: id.to_owned(),
            version: version.to_owned(),
            ..Distro::default()
        });
        let inventory = Inventory {
            distro,
            packages: vec![package(kind, name, source, version)],
            ..Inventory::default()
        };
        let matches = findings(&inventory, &store).expect("the store reads");
        assert_eq!(
            (&matches.missing, &matches.uncovered),
            (&vec![], &vec![]),
            "{line}"
        );
        let found: Vec<String> = matches
            .findings
            .iter()
            .map(|finding| {
                let fixed = finding.fixed.as_deref().unwrap_or("-");
                format!("{} {fixed} {}", finding.advisory.id, finding.rating.word())
            })
            .collect();
        if found.join(" ") != words[4..].join(" ") {
            wrong.push(format!("{line}\n    found: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_command_imports_and_tells_what_is_there() {
    let program = Program::with_files(&[("README.md", "x\n")]);
    let database = program.outside().join("db").display().to_string();
    let status = ["advisories", "status", "--database", &database];
    assert!(
        program
            .expect(&status, 0)
            .out
            .starts_with("no advisories in ")
    );
    let records = records().display().to_string();
    let import = [
        "advisories",
        "import",
        &records,
        "--database",
        &database,
        "--only",
        "npm",
    ];
    let ended = program.expect(&import, 0);
    assert!(ended.out.contains("imported npm: 2 records"), "{ended:?}");
    assert!(!ended.out.contains("imported Debian"), "{ended:?}");
    let ended = program.expect(
        &["advisories", "import", &records, "--database", &database],
        0,
    );
    assert!(
        ended.out.contains("imported Debian: 2 records"),
        "{ended:?}"
    );
    let page = program.expect(&status, 0).out;
    assert!(page.contains("Rocky Linux"), "{page}");
    let json = program
        .expect(&[&status[..], &["--format", "json"]].concat(), 0)
        .out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let families = json["families"].as_array().expect("a list");
    let debian = families
        .iter()
        .find(|family| family["name"] == "Debian")
        .expect("Debian");
    assert_eq!(debian["ecosystems"][0]["name"], "Debian:11");
    assert_eq!(debian["newest"], "2025-11-19T00:00:00Z");

    // A broken record is named and loses nothing else; the environment names the place as well.
    let broken = program.outside().join("broken");
    std::fs::create_dir(&broken).expect("a directory");
    std::fs::write(broken.join("bad.json"), "{").expect("a file");
    let good = std::fs::read(records_file("GO-2023-2102.json")).expect("a record");
    std::fs::write(broken.join("good.json"), good).expect("a file");
    let broken = broken.display().to_string();
    let mut command = program.command(&["advisories", "import", &broken]);
    let output = command
        .env("PIPEWRIGHT_ADVISORIES", &database)
        .output()
        .expect("it starts");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{out}");
    assert!(
        out.contains("imported Go: 1 record (before 1)") && out.contains("bad.json: EOF"),
        "{out}"
    );

    let nothing = [
        "advisories",
        "import",
        "nowhere.zip",
        "--database",
        &database,
    ];
    let ended = program.expect(&nothing, 3);
    assert!(
        ended.err.contains("nowhere.zip") && ended.err.contains("unchanged"),
        "{ended:?}"
    );
    let ftp = [
        "advisories",
        "import",
        "ftp://example.com/all.zip",
        "--database",
        &database,
    ];
    program.expect(&ftp, 2);
    let plain = [
        "advisories",
        "import",
        "http://example.com/all.zip",
        "--database",
        &database,
    ];
    let ended = program.expect(&plain, 3);
    assert!(ended.err.contains("over https only"), "{ended:?}");
}

fn records_file(name: &str) -> std::path::PathBuf {
    records().join(name)
}

/// A process that is killed in the middle leaves what was there, and the next one cleans up.
#[test]
fn killed_imports_leave_the_old_database() {
    let program = Program::with_files(&[("README.md", "x\n")]);
    let database = program.outside().join("db");
    let shown = database.display().to_string();
    let records = records().display().to_string();
    program.expect(&["advisories", "import", &records, "--database", &shown], 0);
    let many = program.outside().join("many");
    std::fs::create_dir(&many).expect("a directory");
    for at in 0..3000 {
        let json = format!(
            r#"{{"id": "GO-{at}", "affected": [{{"package": {{"ecosystem": "Go", "name": "m{at}"}}, "versions": ["1.0.0"]}}]}}"#
        );
        std::fs::write(many.join(format!("{at}.json")), json).expect("a file");
    }
    let many = many.display().to_string();
    let import = ["advisories", "import", &many, "--database", &shown];
    let running = program.start(&import);
    crate::support::program::poll("the work directory", || {
        let entries = std::fs::read_dir(&database).ok()?;
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with(".import-"))
            .then_some(())
    });
    running.signal("KILL");
    drop(running);
    let status = [
        "advisories",
        "status",
        "--database",
        &shown,
        "--format",
        "json",
    ];
    let json: serde_json::Value =
        serde_json::from_str(&program.expect(&status, 0).out).expect("JSON");
    let families = json["families"].as_array().expect("a list");
    let go = families
        .iter()
        .find(|family| family["name"] == "Go")
        .expect("Go");
    let records = go["records"].as_u64().expect("a number");
    assert!(
        records == 1 || records == 3000,
        "all of the old or all of the new: {records}"
    );
    program.expect(&import, 0);
    let left = std::fs::read_dir(&database).expect("a directory").flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(left.count(), 0);
}
