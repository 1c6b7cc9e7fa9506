//! Readers against what nobody thought of: any bytes, and valid files with some bytes changed.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Changes some bytes of a file, cuts it, and repeats a part of it.
fn damaged(whole: &[u8], changes: &[(usize, u8)], cut: usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for (at, byte) in changes {
        let length = bytes.len();
        if length > 0 {
            bytes[at % length] = *byte;
        }
    }
    // Most changes are worth more in a whole file.
    if cut.is_multiple_of(4) {
        bytes.truncate(cut % (bytes.len() + 1));
    }
    bytes
}

/// A small database of rpm, a zip archive, a program, and texts.
fn samples() -> Vec<(FileKind, &'static str, Vec<u8>)> {
    let jar = zip::tests::zip(&[
        ("META-INF/MANIFEST.MF", b"Implementation-Version: 1\n"),
        (
            "lib/a.jar",
            &zip::tests::zip(&[("META-INF/maven/g/a/pom.properties", b"version=1\n")]),
        ),
        ("META-INF/maven/g/b/pom.xml", b""),
    ]);
    vec![
        (FileKind::DpkgStatus, "var/lib/dpkg/status", b"Package: a\nStatus: install ok installed\nVersion: 1\nSource: b (2)\n\nPackage: b\nVersion: 2\n".to_vec()),
        (FileKind::DpkgFiles, "var/lib/dpkg/info/a.list", b"/.\n/usr\n/usr/bin/a\n".to_vec()),
        (FileKind::Apk, "lib/apk/db/installed", b"C:x\nP:a\nV:1-r0\no:b\nF:usr\nR:a\n\nP:c\nV:2\n".to_vec()),
        (FileKind::RpmSqlite, "var/lib/rpm/rpmdb.sqlite", rpm::tests::database()),
        (FileKind::Java, "a.jar", jar),
        (FileKind::OsRelease, "etc/os-release", b"ID=\"a\\\"b\"\nVERSION_ID='1'\n".to_vec()),
        (FileKind::CargoLock, "Cargo.lock", b"[[package]]\nname = \"a\"\nversion = \"1\"\n".to_vec()),
        (FileKind::NpmLock, "package-lock.json", br#"{"packages":{"node_modules/a":{"version":"1.0.0"}},"dependencies":{"a":{"version":"1"}}}"#.to_vec()),
        (FileKind::YarnLock, "yarn.lock", b"\"@s/a@^1\", b@1:\n  version \"1.2.0\"\n".to_vec()),
        (FileKind::PnpmLock, "pnpm-lock.yaml", b"packages:\n  '@s/a@1.0.0(b@2)':\n  /c/1.0.0_x:\n".to_vec()),
        (FileKind::NpmPackage, "node_modules/a/package.json", br#"{"name":"a","version":"1","license":{"type":"MIT"}}"#.to_vec()),
        (FileKind::PythonMetadata, "a.egg-info", b"Name: a\nVersion: 1\nClassifier: License :: X\n\nText".to_vec()),
    ]
}

fn programs() -> Vec<Vec<u8>> {
    let go = go::tests::inline(
        "go1.22.1",
        "path\tx\nmod\tx\tv1.0.0\ndep\ty\tv1\n=>\tz\tv2\n",
    );
    let crates = cargo::tests::section(br#"{"packages":[{"name":"a","version":"1"}]}"#);
    vec![
        [b"\x7fELF".as_slice(), &[0; 60], &go].concat(),
        program::tests::elf(".dep-v0", &crates),
        program::tests::elf(".go.buildinfo", &go),
        [b"MZ".as_slice(), &[0; 100]].concat(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(changes in vec((any::<usize>(), any::<u8>()), 0..8), cut in any::<usize>()) {
        let hasher = PathHasher::default();
        for (kind, path, whole) in samples() {
            let contents = read(kind, path, &damaged(&whole, &changes, cut), &hasher);
            for item in &contents.items {
                prop_assert!(!item.name.is_empty() && !item.version.is_empty());
                prop_assert!(!item.name.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        let hasher = PathHasher::default();
        for (kind, path, _) in samples() {
            read(kind, path, &bytes, &hasher);
        }
        cargo::read_section(&bytes);
    }

    #[test]
    fn damaged_programs_never_panic(changes in vec((any::<usize>(), any::<u8>()), 0..8), cut in any::<usize>(), piece in 1_usize..100) {
        for whole in programs() {
            let bytes = damaged(&whole, &changes, cut);
            if let Some(mut program) = Program::begins(&bytes, bytes.len() as u64) {
                bytes.chunks(piece).for_each(|piece| program.take(piece));
                program.finish();
            }
        }
    }

    #[test]
    fn paths_stay_inside(path in "[a./\\\\]{0,20}") {
        if let Some(clean) = clean(path.as_bytes()) {
            prop_assert!(clean.is_empty() || clean.split('/').all(|part| !matches!(part, "" | "." | "..")));
        }
    }
}

#[test]
fn the_samples_are_valid() {
    let hasher = PathHasher::default();
    for (kind, path, whole) in samples() {
        let contents = read(kind, path, &whole, &hasher);
        assert!(!contents.is_empty(), "{path}");
        assert!(contents.unread.is_empty(), "{path}: {contents:?}");
    }
    let told = programs().into_iter().take(3).filter(|program| {
        let mut passing = Program::begins(program, program.len() as u64).expect("it is one");
        passing.take(program);
        passing
            .finish()
            .is_some_and(|contents| !contents.items.is_empty())
    });
    assert_eq!(told.count(), 3);
}
