//! `watch` and `images`, from a registry to a commit in a manifest repository.

mod clouds;
mod delivery;
mod foreground;
mod limits;
mod strategies;

use std::process::Command;

use pipewright::base::Digest;
use serde_json::{Value, json};

use crate::support::delivery::{Answer, Delivery, PASSWORD, USER};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What is delivered to whom; `{watch}` stands for what is watched.
const UPDATE: &str = r#"
pipeline update {
    on { watch {watch} }
    bump main repo=manifests {
        file "main/values.yaml" { set ".front.imageTag" "${image.app.tag}" }
        commit "Release ${image.app.pinned}"
    }
}
"#;

/// A delivery with a pipeline that watches so, with nothing pushed yet.
fn following(test: &str, watch: &str) -> Delivery {
    let delivery = Delivery::start(test);
    delivery.pipeline(&UPDATE.replace("{watch}", watch));
    delivery
}

/// A delivery of two images that go together, with nothing pushed yet.
fn watching(test: &str) -> Delivery {
    let delivery = Delivery::start(test);
    let update = UPDATE.replace("{watch}", r#"app web semver="*" every="1s" { same-tag }"#);
    delivery.pipeline(&update.replace("image.app.pinned", "image.web.pinned"));
    delivery
}

/// An image that nobody else has: when it was built, and for what.
#[derive(Clone, Copy)]
struct Built<'a> {
    at: &'a str,
    platforms: &'a [&'a str],
}

impl Default for Built<'_> {
    fn default() -> Self {
        Self {
            at: "2026-01-31T08:00:00Z",
            platforms: &["linux/amd64"],
        }
    }
}

/// Puts an image of its own into the registry: a configuration that nobody else has, no layers.
fn push(delivery: &Delivery, repository: &str, tag: &str) {
    push_built(delivery, repository, tag, tag, Built::default());
}

/// The same, with content that has a name and more to say of it. One platform is an image, several are
/// an index, as buildkit writes one: with an attestation beside the images.
fn push_built(delivery: &Delivery, repository: &str, tag: &str, content: &str, built: Built<'_>) {
    let layout = delivery
        .dir()
        .join(format!("layout-{repository}-{tag}-{content}"));
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("mkdir");
    let keep = |json: &Value, media_type: &str| {
        let bytes = json.to_string();
        let digest = Digest::of(bytes.as_bytes());
        std::fs::write(blobs.join(digest.hex()), &bytes).expect("write");
        json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() })
    };
    let image = |platform: &str| {
        let (system, architecture) = platform.split_once('/').expect("a platform");
        let config = json!({
            "created": built.at,
            "architecture": architecture,
            "os": system,
            "config": { "Labels": { "what": format!("{repository} {content}") } },
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = keep(&config, "application/vnd.oci.image.config.v1+json");
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] });
        let mut kept = keep(&manifest, MANIFEST);
        kept["platform"] = json!({ "os": system, "architecture": architecture });
        kept
    };
    let mut top = match built.platforms {
        [one] => image(one),
        several => {
            let mut all: Vec<Value> = several.iter().map(|one| image(one)).collect();
            all.push(image("unknown/unknown"));
            let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": all });
            keep(&index, INDEX)
        }
    };
    top["annotations"] = json!({ "org.opencontainers.image.ref.name": "x" });
    let index = json!({ "schemaVersion": 2, "manifests": [top] });
    std::fs::write(layout.join("index.json"), index.to_string()).expect("write");
    std::fs::write(
        layout.join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .expect("write");
    let output = Command::new("skopeo")
        .args(["copy", "--all", "--dest-tls-verify=false", "--dest-creds"])
        .arg(format!("{USER}:{PASSWORD}"))
        .arg(format!("oci:{}:x", layout.display()))
        .arg(format!(
            "docker://{}/{repository}:{tag}",
            delivery.registry.host()
        ))
        .output()
        .expect("these tests need the program `skopeo`");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "skopeo: {error}");
}

fn once(delivery: &Delivery) -> Answer {
    delivery.pipewright(&["watch", "update", "--once"])
}

fn tag_of(delivery: &Delivery) -> String {
    let values = delivery.manifest("main/values.yaml");
    let line = values.lines().find(|line| line.contains("imageTag"));
    line.and_then(|line| line.split('"').nth(1))
        .unwrap_or_default()
        .to_owned()
}

fn runs(delivery: &Delivery) -> usize {
    let listed = delivery
        .pipewright(&["runs", "--format", "json"])
        .expect(0)
        .out;
    let rows: Value = serde_json::from_str(&listed).expect("JSON");
    rows.as_array().expect("a list").len()
}

/// What `images` says of each tag: tag, one word, the reason.
fn verdicts(delivery: &Delivery, image: &str) -> Vec<(String, String, String)> {
    let said = delivery.pipewright(&["images", image, "--format", "json"]);
    let json: Value = serde_json::from_str(&said.expect(0).out).expect("JSON");
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = json["tags"].as_array().expect("a list");
    rows.iter()
        .map(|row| (word(row, "tag"), word(row, "verdict"), word(row, "reason")))
        .collect()
}

/// Fails unless `images` thinks so of each tag, in this order: `1.1.0 chosen`.
#[track_caller]
fn judged(delivery: &Delivery, image: &str, expected: &[(&str, &str, &str)]) {
    let found = verdicts(delivery, image);
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            found.0 == expected.0 && found.1 == expected.1 && found.2.contains(expected.2)
        });
    assert!(same, "{found:#?}, expected {expected:?}");
}
