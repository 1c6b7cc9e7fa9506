//! Archives there and back, and those that somebody hostile made.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tar::{EntryType, Header};

use super::*;

const LARGE: u64 = 1 << 20;

/// A directory with a bit of everything.
fn sample(dir: &Path) {
    std::fs::create_dir_all(dir.join("bin/deep")).expect("mkdir");
    std::fs::create_dir(dir.join("empty")).expect("mkdir");
    std::fs::write(dir.join("bin/tool"), b"#!/bin/sh\n").expect("write");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.join("bin/tool"), mode).expect("chmod");
    let long = "n".repeat(200);
    std::fs::write(dir.join("bin/deep").join(&long), vec![7; 100_000]).expect("write");
    symlink("deep", dir.join("bin/near")).expect("link");
    symlink("/etc/passwd", dir.join("away")).expect("link");
}

fn packed(dir: &Path, secrets: &[(String, Secret)]) -> Result<Archive, WorkspaceError> {
    pack::pack(&dir.join("from"), &dir.join("archive"), LARGE, secrets)
}

#[test]
fn a_directory_there_and_back() {
    let dir = tempfile::tempdir().expect("dir");
    let from = dir.path().join("from");
    sample(&from);
    let archive = packed(dir.path(), &[]).expect("it is packed");
    assert_eq!((archive.files, archive.left_out), (3, 1));
    let bytes = std::fs::read(&archive.path).expect("read");
    assert_eq!(archive.digest, Digest::of(&bytes));
    assert_eq!(archive.size, bytes.len() as u64);

    let into = dir.path().join("into");
    assert_eq!(
        unpack::unpack(&archive.path, &into, LARGE).expect("unpacked"),
        3
    );
    assert_eq!(
        std::fs::read(into.join("bin/tool")).expect("read"),
        b"#!/bin/sh\n"
    );
    let facts = |root: &Path| root.join("bin/tool").metadata().expect("facts");
    assert_eq!(facts(&into).permissions().mode() & 0o777, 0o755);
    let seconds = |root: &Path| {
        let since = facts(root).modified().expect("a time");
        since
            .duration_since(SystemTime::UNIX_EPOCH)
            .map(|age| age.as_secs())
    };
    assert_eq!(seconds(&into).expect("late"), seconds(&from).expect("late"));
    assert!(into.join("empty").is_dir());
    assert_eq!(
        std::fs::read_link(into.join("bin/near")).expect("a link"),
        Path::new("deep")
    );
    assert!(!into.join("away").exists());
    let long = into.join("bin/near").join("n".repeat(200));
    assert_eq!(std::fs::read(long).expect("read").len(), 100_000);

    // The same files are the same stream, however they got there.
    let again = pack::pack(&into, &dir.path().join("again"), LARGE, &[]).expect("packed");
    std::fs::remove_file(from.join("away")).expect("remove");
    let whole = pack::pack(&from, &dir.path().join("whole"), LARGE, &[]).expect("packed");
    assert_eq!(again.content, whole.content);
}

#[test]
fn what_is_too_large_or_secret_is_not_packed() {
    let dir = tempfile::tempdir().expect("dir");
    let from = dir.path().join("from");
    std::fs::create_dir(&from).expect("mkdir");
    std::fs::write(from.join("a"), vec![0; 600]).expect("write");
    std::fs::write(from.join("b"), vec![0; 600]).expect("write");
    let error = pack::pack(&from, &dir.path().join("1"), 1000, &[]).expect_err("too large");
    assert!(
        error.to_string().contains("b: is beyond the 1000 B"),
        "{error}"
    );

    let secrets = [
        ("OTHER".to_owned(), Secret::new("something else")),
        ("TOKEN".to_owned(), Secret::new("s3cr3t-t0k3n")),
    ];
    // Across the boundary of what is read at once, and encoded.
    let mut text = vec![b'x'; (8 << 10) - 5];
    text.extend_from_slice(b"s3cr3t-t0k3n");
    for (name, bytes) in [
        ("plain", text),
        ("hex", b"7333637233742d74306b336e".to_vec()),
    ] {
        std::fs::write(from.join("c"), bytes).expect("write");
        let error = pack::pack(&from, &dir.path().join(name), LARGE, &secrets);
        let error = error.expect_err(name).to_string();
        assert!(error.contains("c: holds secret TOKEN"), "{name}: {error}");
    }
    std::fs::write(from.join("c"), "s3cr3t").expect("write");
    pack::pack(&from, &dir.path().join("fine"), LARGE, &secrets).expect("it holds none");
}

/// An archive of entries: kind, name, link target, content. Written by hand, as no honest writer
/// would write it.
fn hostile(path: &Path, entries: &[(EntryType, &str, &str, &[u8])]) {
    let mut bytes = Vec::new();
    for (kind, name, target, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o6777);
        header.set_size(content.len() as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    let bytes = zstd::encode_all(&*bytes, 1).expect("compressed");
    std::fs::write(path, bytes).expect("write");
}

#[test]
fn hostile_archives_are_refused() {
    use EntryType::{Block, Directory, GNULongName, Link, Regular, Symlink, XHeader};
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(dir.path().join("victim"), "kept").expect("write");
    let huge = vec![b'n'; 9000];
    let zeros = vec![0; (LARGE + 1) as usize];
    type Entry<'a> = (EntryType, &'a str, &'a str, &'a [u8]);
    let cases: &[(&str, &[Entry<'_>])] = &[
        ("outside", &[(Regular, "../victim", "", b"x")]),
        ("outside", &[(Regular, "/victim", "", b"x")]),
        ("outside", &[(Regular, "a/../../victim", "", b"x")]),
        ("outside", &[(Symlink, "l", "/etc", b"")]),
        ("outside", &[(Symlink, "l", "../victim", b"")]),
        (
            "outside",
            &[
                (Directory, "a", "", b""),
                (Symlink, "a/up", "..", b""),
                (Symlink, "l", "a/up/../victim", b""),
            ],
        ),
        // A link is made last, so what goes through it finds a directory in its place.
        (
            "l",
            &[(Symlink, "l", "x", b""), (Regular, "l/victim", "", b"x")],
        ),
        (
            "leads through a file",
            &[(Regular, "f", "", b""), (Regular, "f/g", "", b"x")],
        ),
        (
            "twice",
            &[(Regular, "f", "", b""), (Regular, "f", "", b"x")],
        ),
        ("no file", &[(Link, "h", "../victim", b"")]),
        ("no file", &[(Block, "dev", "", b"")]),
        ("no file", &[(XHeader, "x", "", b"11 path=/a\n")]),
        ("too long", &[(GNULongName, "x", "", &huge)]),
        ("cut off", &[(GNULongName, "x", "", b"name\0")]),
        ("names no file", &[(Regular, "", "", b"x")]),
        ("beyond the 1.0 MiB", &[(Regular, "bomb", "", &zeros)]),
    ];
    for (at, (part, entries)) in cases.iter().enumerate() {
        let archive = dir.path().join(format!("archive-{at}"));
        hostile(&archive, entries);
        let into = dir.path().join(format!("into-{at}"));
        let error = unpack::unpack(&archive, &into, LARGE).expect_err(part);
        assert!(
            error.to_string().contains(part),
            "{at}: {error}, not {part}"
        );
        let kept = std::fs::read(dir.path().join("victim")).expect("read");
        assert_eq!(kept, b"kept", "{at}");
    }
    // Neither special modes nor what is no archive.
    let archive = dir.path().join("setuid");
    hostile(&archive, &[(Regular, "f", "", b"x")]);
    let into = dir.path().join("plain");
    unpack::unpack(&archive, &into, LARGE).expect("unpacked");
    let mode = into
        .join("f")
        .metadata()
        .expect("facts")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o777);
    let whole = std::fs::read(&archive).expect("read");
    for (at, bytes) in [&b""[..], b"garbage", &whole[..whole.len() / 2]]
        .iter()
        .enumerate()
    {
        let broken = dir.path().join(format!("broken-{at}"));
        std::fs::write(&broken, bytes).expect("write");
        let into = dir.path().join(format!("from-broken-{at}"));
        let unpacked = unpack::unpack(&broken, &into, LARGE);
        assert!(
            unpacked.is_err() || unpacked.is_ok_and(|files| files == 0),
            "{at}"
        );
    }
}

#[test]
fn a_directory_takes_its_place_at_once_or_not() {
    let dir = tempfile::tempdir().expect("dir");
    let at = |name: &str| dir.path().join(name);
    for name in ["one", "two", "empty"] {
        std::fs::create_dir(at(name)).expect("mkdir");
    }
    std::fs::write(at("one").join("f"), "one").expect("write");
    std::fs::write(at("two").join("f"), "two").expect("write");
    replace(&at("one"), &at("empty")).expect("it is empty");
    replace(&at("two"), &at("empty")).expect("somebody was faster");
    assert_eq!(std::fs::read(at("empty").join("f")).expect("read"), b"one");
}

#[test]
fn fingerprints_are_of_names_and_contents() {
    let dir = tempfile::tempdir().expect("dir");
    let of = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
        fingerprint(dir.path(), &patterns).expect("it can be read")
    };
    assert_eq!(of(&["*.lock"]), None);
    std::fs::write(dir.path().join("a.lock"), "1").expect("write");
    let first = of(&["*.lock"]);
    assert!(first.is_some());
    std::fs::write(dir.path().join("unrelated"), "2").expect("write");
    assert_eq!(of(&["*.lock"]), first);
    std::fs::write(dir.path().join("a.lock"), "2").expect("write");
    let second = of(&["*.lock"]);
    assert_ne!(second, first);
    std::fs::rename(dir.path().join("a.lock"), dir.path().join("b.lock")).expect("rename");
    assert_ne!(of(&["*.lock"]), second);
}
