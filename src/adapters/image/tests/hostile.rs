//! Images made to do harm, and archives nobody thought of.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::bytes::{self, Buffered};
use super::super::layer;
use super::super::limits::Shared;
use super::super::tar::{Kind, Tar};
use super::*;

#[tokio::test]
async fn names_that_lead_out_are_refused_and_absolute_ones_are_not_special() {
    for name in ["../etc/passwd", "a/../../b", ".."] {
        let layer = tar(&[file(name, b"x")]);
        let error = of_archive(&saved(&[layer]), Limits::default())
            .await
            .expect_err("it is refused");
        assert!(
            error
                .to_string()
                .contains("an entry leads out of the image"),
            "{error}"
        );
    }
    let outer = tar(&[file("../manifest.json", b"{}")]);
    assert!(of_archive(&outer, Limits::default()).await.is_err() && of_stream(&outer).is_err());
    let layer = tar(&[file("/var/lib/dpkg/status", package("a").as_bytes())]);
    let found = of_archive(&saved(&[layer]), Limits::default())
        .await
        .expect("it is read");
    assert_eq!(found.packages[0].locations[0].path, STATUS);
    // Links lead nowhere at all.
    let layer = tar(&[
        entry(EntryType::Symlink, "a", "b", b""),
        entry(EntryType::Symlink, "b", "a", b""),
        entry(EntryType::Symlink, "etc", "../../../../etc", b""),
        entry(
            EntryType::Symlink,
            "etc/os-release",
            "/proc/self/environ",
            b"",
        ),
        file("a/x.egg-info", b"Name: x\nVersion: 1\n"),
    ]);
    let found = of_archive(&saved(&[layer]), Limits::default())
        .await
        .expect("it is read");
    assert_eq!((names(&found), &found.distro), (vec!["x"], &None));
}

#[tokio::test]
async fn manifests_that_lie_are_found_out() {
    let layers = two_layers();
    let mut files = layout(&layers);
    let layer = files
        .iter()
        .position(|(_, content)| content == &layers[0])
        .expect("it is there");
    files[layer].1.push(0);
    let error = of_layout(&files).await.expect_err("it is longer");
    assert!(
        error
            .to_string()
            .contains("not as long as the manifest says"),
        "{error}"
    );
    files.remove(layer);
    let error = of_layout(&files).await.expect_err("it is gone");
    assert!(
        error.to_string().contains("it is not in the image"),
        "{error}"
    );

    let mut files = layout(&layers);
    let changed = files
        .iter()
        .position(|(_, content)| content.starts_with(b"{\"arch"))
        .expect("it is there");
    files[changed].1[0] = b' ';
    let error = of_layout(&files).await.expect_err("its digest differs");
    assert!(
        error.to_string().contains("not what its digest says"),
        "{error}"
    );

    for (manifest, expected) in [
        ("[]", "there is no such image"),
        (
            r#"[{"Config": "config.json", "Layers": []}]"#,
            "has 0 layers, its configuration 2",
        ),
        (
            r#"[{"Config": "config.json", "Layers": ["0", "1"]}]"#,
            "the layer 0 is damaged: it is not in the image",
        ),
        (
            r#"[{"Config": "config.json", "Layers": ["config.json", "config.json"]}]"#,
            "the layer config.json is damaged",
        ),
        (
            r#"[{"Config": "/etc/hostname", "Layers": []}]"#,
            "is not in it",
        ),
        (r#"{"#, "manifest.json is damaged"),
    ] {
        let image = tar(&[
            file("config.json", &config(2)),
            file("manifest.json", manifest.as_bytes()),
        ]);
        for found in [
            of_archive(&image, Limits::default()).await,
            of_stream(&image),
        ] {
            let error = found.expect_err("it lies").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
    let index = r#"{"manifests": [{"digest": "sha256:../../../etc/passwd", "size": 1}]}"#;
    let error = of_layout(&[("index.json".to_owned(), index.into())])
        .await
        .expect_err("no digest");
    assert!(error.to_string().contains("is not a digest"), "{error}");
    let error = of_layout(&[]).await.expect_err("it is empty");
    assert!(
        error
            .to_string()
            .contains("neither a manifest.json nor an index.json"),
        "{error}"
    );
}

#[tokio::test]
async fn a_layout_cannot_point_at_files_of_this_machine() {
    let directory = TempDir::new().expect("a directory");
    let files = layout(&two_layers());
    write(directory.path(), &files);
    let blob = directory.path().join(&files[0].0);
    std::fs::remove_file(&blob).expect("it was there");
    std::os::unix::fs::symlink("/etc/hostname", &blob).expect("it is made");
    let source = ImageSource::Layout {
        directory: directory.path().to_owned(),
        reference: None,
    };
    let error = inventory(&source, &Silent, &CancellationToken::new())
        .await
        .expect_err("it is refused");
    assert!(error.to_string().contains("it is no file"), "{error}");
}

#[tokio::test]
async fn what_is_cut_off_is_told() {
    let [lower, _] = two_layers();
    for layer in [
        &lower[..700],
        &gzip(&lower)[..300],
        &lower[..lower.len() - 200_000],
        b"",
        &[1; 2000],
    ] {
        let error = of_archive(&saved(&[layer.to_vec()]), Limits::default())
            .await
            .expect_err("it is broken");
        let text = error.to_string();
        assert!(
            text.starts_with("the layer 0/layer.tar is damaged: "),
            "{text}"
        );
    }
    let image = saved(&[lower]);
    for cut in [100, 513, 5000, image.len() / 2] {
        assert!(
            of_archive(&image[..cut], Limits::default()).await.is_err(),
            "{cut}"
        );
        assert!(of_stream(&image[..cut]).is_err(), "{cut}");
    }
    assert!(of_archive(b"", Limits::default()).await.is_err());
}

#[tokio::test]
async fn bombs_go_off_nowhere() {
    let limits = Limits {
        entries: 1000,
        unpacked: 64 << 20,
        ratio: 100,
        bomb: 4 << 20,
        kept: 50,
    };
    let zeros = tar(&[file("zeros", &vec![0; 32 << 20])]);
    let many: Vec<Vec<u8>> = (0..2000).map(|at| file(&format!("f{at}"), b"")).collect();
    let packages: Vec<Vec<u8>> = (0..60)
        .map(|at| file(&format!("f{at}.egg-info"), b"Name: a\nVersion: 1\n"))
        .collect();
    // It claims more than there is.
    let mut claim = file("claim", b"");
    let mut header = tar_crate::Header::from_byte_slice(&claim).clone();
    header.set_size(1 << 40);
    header.set_cksum();
    claim.copy_from_slice(header.as_bytes());
    for (layer, expected) in [
        (gzip(&zeros), "unpacks to more than 100 times its size"),
        (
            zstd::encode_all(&zeros[..], 1).expect("it packs"),
            "unpacks to more than 100 times its size",
        ),
        (tar(&many), "more than 1000 files"),
        (tar(&packages), "more than 50 packages"),
        (tar(&[claim]), "unpack to more than"),
    ] {
        let image = saved(&[layer]);
        let error = of_archive(&image, limits)
            .await
            .expect_err("it is too much");
        assert!(error.to_string().contains(expected), "{error}");
    }
    // A window that would take gigabytes of memory.
    let mut wide = zstd::Encoder::new(Vec::new(), 1).expect("it packs");
    wide.window_log(28)
        .and_then(|()| wide.include_contentsize(false))
        .expect("it can");
    wide.write_all(&zeros).expect("a vector takes all");
    let wide = wide.finish().expect("a vector takes all");
    assert!(
        of_archive(&saved(&[wide]), Limits::default())
            .await
            .is_err()
    );
}

/// A source of a file that nobody would want to write.
struct Endless {
    head: Vec<u8>,
    at: u64,
    length: u64,
}

impl std::io::Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let head = self.head.get(self.at as usize..).unwrap_or_default();
        let count = match head {
            [] => into.len().min((self.length - self.at) as usize),
            head => into.len().min(head.len()),
        };
        match head {
            [] => into[..count].fill(b'x'),
            head => into[..count].copy_from_slice(&head[..count]),
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl bytes::Skip for Endless {
    fn skip(&mut self, _: u64) -> std::io::Result<u64> {
        Ok(0)
    }
}

#[test]
fn a_database_of_one_gigabyte_is_told_and_not_held() {
    let length = 1_u64 << 30;
    let mut header = tar_crate::Header::new_ustar();
    header.set_path(STATUS).expect("it is short");
    header.set_size(length);
    header.set_mode(0o644);
    header.set_cksum();
    let shared = Shared::new(Limits::default(), CancellationToken::new());
    let head = header.as_bytes().to_vec();
    let source = Endless {
        head,
        at: 0,
        length: 512 + length,
    };
    let contents = layer::read(source, "x", &shared).expect("it is passed over");
    let found = join(String::new(), vec![(None, contents)], shared.hasher());
    assert!(found.packages.is_empty());
    assert_eq!(found.uncovered[0].why, "the file is larger than 64 MiB");
}

#[tokio::test]
async fn cancelling_ends_it() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let directory = TempDir::new().expect("a directory");
    write(directory.path(), &layout(&two_layers()));
    let source = ImageSource::Layout {
        directory: directory.path().to_owned(),
        reference: None,
    };
    let error = inventory(&source, &Silent, &cancel)
        .await
        .expect_err("it was cancelled");
    assert!(matches!(error, ImageError::Cancelled), "{error}");
    // Also in the middle, of a stream that never ends.
    let cancel = CancellationToken::new();
    let shared = Arc::new(Shared::new(Limits::default(), cancel.clone()));
    let (sender, receiver) = mpsc::channel(QUEUE);
    let within = shared.clone();
    let reader = tokio::task::spawn_blocking(move || {
        stream(Buffered::new(Chunks::new(receiver), &within), None, &within)
    });
    let mut header = tar_crate::Header::new_ustar();
    header.set_path("endless").expect("it is short");
    header.set_size(1 << 50);
    header.set_cksum();
    let start = ::bytes::Bytes::copy_from_slice(header.as_bytes());
    sender.send(start).await.expect("it is read");
    let mut sent = 0;
    while sender
        .send(::bytes::Bytes::from_static(&[0; 4096]))
        .await
        .is_ok()
    {
        sent += 1;
        if sent == 100 {
            cancel.cancel();
        }
    }
    assert!(reader.await.expect("it ends").is_err());
}

/// Name, kind and content of an entry.
type Entry = (Vec<u8>, Kind, Vec<u8>);

fn entries(bytes: &[u8]) -> std::io::Result<Vec<Entry>> {
    let shared = Shared::new(Limits::default(), CancellationToken::new());
    let source = Endless {
        head: bytes.to_vec(),
        at: 0,
        length: bytes.len() as u64,
    };
    let mut tar = Tar::new(Buffered::new(source, &shared));
    let mut found = Vec::new();
    while let Some(entry) = tar.next()? {
        let content = match entry.size < 1 << 20 {
            true => tar.large_content()?,
            false => Vec::new(),
        };
        found.push((entry.path, entry.kind, content));
    }
    Ok(found)
}

#[test]
fn archives_of_others_are_read_as_they_read_them() {
    let mut builder = tar_crate::Builder::new(Vec::new());
    let long = format!("{}/file", "directory".repeat(30));
    for (name, content) in [("short", "1"), (long.as_str(), "2"), ("é", "3")] {
        let mut header = tar_crate::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .expect("a vector takes all");
    }
    let mut header = tar_crate::Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, "link", &long)
        .expect("a vector takes all");
    builder
        .append_pax_extensions([
            ("path", b"pax/name".as_slice()),
            ("size", b"3"),
            ("mtime", b"1.5"),
        ])
        .expect("a vector takes all");
    let mut header = tar_crate::Header::new_ustar();
    header.set_path("other").expect("it is short");
    header.set_size(3);
    header.set_cksum();
    builder
        .append(&header, &b"abc"[..])
        .expect("a vector takes all");
    let bytes = builder.into_inner().expect("a vector takes all");
    let shown: Vec<_> = entries(&bytes).expect("it is whole");
    let expected = [
        ("short", Kind::File, "1"),
        (&long, Kind::File, "2"),
        ("é", Kind::File, "3"),
        ("link", Kind::Link(long.clone().into_bytes()), ""),
        ("pax/name", Kind::File, "abc"),
    ];
    let expected = expected.map(|(name, kind, content)| (name.into(), kind, content.into()));
    assert_eq!(shown, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_archives_never_panic(changes in vec((any::<usize>(), any::<u8>()), 0..12), cut in any::<usize>()) {
        let [lower, upper] = two_layers();
        let long = entry(EntryType::GNULongName, "././@LongLink", "", b"a/long/name\0");
        let pax = entry(EntryType::XHeader, "pax", "", b"12 path=a/b\n11 size=10\n");
        let whole = tar(&[long, file("x", b"1"), pax, file("y", b"0123456789")]);
        let _ = entries(&damaged(&whole, &changes, cut));
        let layers = [lower[..4096].to_vec(), gzip(&upper)];
        let _ = of_stream(&damaged(&saved(&layers), &changes, cut));
    }

    #[test]
    fn any_archive_never_panics(bytes in vec(any::<u8>(), 0..2000)) {
        let _ = entries(&bytes);
        let _ = of_stream(&bytes);
    }
}

fn damaged(whole: &[u8], changes: &[(usize, u8)], cut: usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for (at, byte) in changes {
        let length = bytes.len();
        // Headers are worth more than contents: every second change hits one.
        let at = if at % 2 == 0 {
            at % length
        } else {
            at % 512 + (at / 512 * 512) % length
        };
        if let Some(place) = bytes.get_mut(at) {
            *place = *byte;
        }
    }
    if cut.is_multiple_of(4) {
        bytes.truncate(cut % (bytes.len() + 1));
    }
    // Sums are made right again, so that what is behind them is reached.
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            let mut header = tar_crate::Header::from_byte_slice(block).clone();
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
    bytes
}
