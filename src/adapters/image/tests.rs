//! Images in all the forms they come in.

mod hostile;

use std::io::Write as _;
use std::path::Path;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::bytes::Buffered;
use super::limits::Shared;
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
