//! Images as they come, and images made to do harm.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::bytes::Buffered;
use super::limits::Shared;
use super::tar::{Kind, Tar};
use super::*;
use crate::base::Digest;
use crate::ports::Silent;

const STATUS: &str = "var/lib/dpkg/status";

fn package(name: &str) -> String {
    format!("Package: {name}\nStatus: install ok installed\nVersion: 1\n\n")
}

/// One entry of an archive: type, name, target, content.
fn entry(kind: tar_crate::EntryType, name: &str, target: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar_crate::Header::new_ustar();
    // Names are written as they are: the library refuses some of ours.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

use ::tar as tar_crate;
use tar_crate::EntryType;

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(EntryType::Regular, name, "", content)
}

/// An archive of entries.
fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes)
        .and_then(|()| gzip.finish())
        .expect("a vector takes all")
}

fn config(layers: usize) -> Vec<u8> {
    let digests: Vec<String> = (0..layers)
        .map(|at| Digest::of(&[at as u8]).to_string())
        .collect();
    serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}})
        .to_string()
        .into_bytes()
}

/// An image as `docker save` writes it, with the manifest last.
fn saved(layers: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<String> = (0..layers.len())
        .map(|at| format!("{at}/layer.tar"))
        .collect();
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": ["app:1"], "Layers": names}]);
    let mut parts: Vec<Vec<u8>> = vec![file("config.json", &config(layers.len()))];
    // The upper layers come first: the manifest knows their order.
    parts.extend(
        names
            .iter()
            .zip(layers)
            .rev()
            .map(|(name, layer)| file(name, layer)),
    );
    parts.push(file("manifest.json", manifest.to_string().as_bytes()));
    tar(&parts)
}

/// The same image as an OCI layout: names and contents of files.
fn layout(layers: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut blob = |bytes: &[u8], kind: &str| {
        let digest = Digest::of(bytes);
        files.push((format!("blobs/sha256/{}", digest.hex()), bytes.to_vec()));
        serde_json::json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": digest.as_str(),
            "size": bytes.len(),
        })
    };
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| blob(layer, "layer.v1.tar"))
        .collect();
    let config = blob(&config(layers.len()), "config.v1+json");
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
    let manifest = blob(manifest.to_string().as_bytes(), "manifest.v1+json");
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    files.push(("index.json".to_owned(), index.to_string().into_bytes()));
    files
}

fn write(directory: &Path, files: &[(String, Vec<u8>)]) {
    for (name, content) in files {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a directory"))
            .expect("it is made");
        std::fs::write(path, content).expect("it is written");
    }
}

async fn of_archive(bytes: &[u8], limits: Limits) -> Result<Inventory, ImageError> {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("image.tar");
    std::fs::write(&path, bytes).expect("it is written");
    let source = ImageSource::Archive {
        file: path,
        reference: None,
    };
    let cancel = CancellationToken::new();
    inventory_within(&source, limits, &Silent, &cancel).await
}

async fn of_layout(files: &[(String, Vec<u8>)]) -> Result<Inventory, ImageError> {
    let directory = TempDir::new().expect("a directory");
    write(directory.path(), files);
    let source = ImageSource::Layout {
        directory: directory.path().to_owned(),
        reference: None,
    };
    inventory(&source, &Silent, &CancellationToken::new()).await
}

/// What an export in pieces of odd sizes gives: the path of images of an engine.
fn of_stream(bytes: &[u8]) -> Result<Inventory, ImageError> {
    let shared = Shared::new(Limits::default(), CancellationToken::new());
    let (sender, receiver) = mpsc::channel(QUEUE);
    let pieces: Vec<::bytes::Bytes> = bytes
        .chunks(7001)
        .map(::bytes::Bytes::copy_from_slice)
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pieces
                .into_iter()
                .try_for_each(|piece| sender.blocking_send(piece))
        });
        let read = || stream(Buffered::new(Chunks::new(receiver), &shared), None, &shared);
        // Not here: the runtime of the test is driven by this thread.
        scope.spawn(read).join().expect("it does not panic")
    })
}

fn names(inventory: &Inventory) -> Vec<&str> {
    inventory
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .collect()
}

fn two_layers() -> [Vec<u8>; 2] {
    let (a, b) = (package("a"), package("b"));
    [
        tar(&[
            file(STATUS, a.as_bytes()),
            file("x.egg-info", b"Name: x\nVersion: 1\n"),
            file("big", &[1; 300_000]),
        ]),
        tar(&[
            file(STATUS, format!("{a}{b}").as_bytes()),
            file(".wh.x.egg-info", b""),
        ]),
    ]
}

#[tokio::test]
async fn every_form_of_an_image_tells_the_same() {
    let [lower, upper] = two_layers();
    let zstd = zstd::encode_all(&upper[..], 1).expect("it packs");
    let plain = of_archive(&saved(&[lower.clone(), upper.clone()]), Limits::default())
        .await
        .expect("it is read");
    assert_eq!(names(&plain), ["a", "b"]);
    let digests = [Digest::of(&[0]).to_string(), Digest::of(&[1]).to_string()];
    assert_eq!(plain.layers, digests);
    let places: Vec<_> = plain
        .packages
        .iter()
        .map(|package| package.locations[0].layer.clone())
        .collect();
    assert_eq!(places, digests.map(Some));
    assert_eq!(plain.image, Digest::of(&config(2)).to_string());

    let packed = [gzip(&lower), zstd];
    let parts: Vec<Vec<u8>> = layout(&packed)
        .iter()
        .map(|(name, content)| file(name, content))
        .collect();
    for found in [
        of_archive(
            &gzip(&saved(&[lower.clone(), upper.clone()])),
            Limits::default(),
        )
        .await,
        of_stream(&saved(&[lower, upper])),
        of_layout(&layout(&packed)).await,
        of_archive(&tar(&parts), Limits::default()).await,
        of_stream(&tar(&parts)),
    ] {
        assert_eq!(found.expect("it is read"), plain);
    }
}

#[tokio::test]
async fn layers_may_be_links_to_each_other_and_be_there_twice() {
    let [lower, _] = two_layers();
    let manifest = br#"[{"Config": "config.json", "RepoTags": null, "Layers": ["a/layer.tar", "b/layer.tar", "a/layer.tar"]}]"#;
    let image = tar(&[
        file("manifest.json", manifest),
        entry(EntryType::Symlink, "b/layer.tar", "../a/layer.tar", b""),
        file("a/layer.tar", &lower),
        file("config.json", &config(3)),
    ]);
    for found in [
        of_archive(&image, Limits::default()).await,
        of_stream(&image),
    ] {
        let found = found.expect("it is read");
        assert_eq!((names(&found), found.layers.len()), (vec!["a", "x"], 3));
    }
}

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
    let config = files
        .iter()
        .position(|(_, content)| content.starts_with(b"{\"arch"))
        .expect("it is there");
    files[config].1[0] = b' ';
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
            file("config.json", &super::tests::config(2)),
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

fn entries(bytes: &[u8]) -> std::io::Result<Vec<(Vec<u8>, Kind, Vec<u8>)>> {
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
    if cut % 4 == 0 {
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
