//! Registries by themselves.

use std::time::Duration;

use super::support::{Log, begin, broke, built, clean, never, push_of, target};
use crate::adapters::sim::{Failure, Fault, Rule};
use crate::base::{Digest, Secret};
use crate::ports::Retry;
use crate::ports::registry::{Login, RegistryError};

#[tokio::test(start_paused = true)]
async fn a_tag_is_put_beside_another() {
    let (sim, world) = begin();
    let id = built(&world).await;
    assert!(
        world
            .engine
            .push(&push_of(&id, "1"), &Log::default(), &never())
            .await
            .is_ok()
    );
    let registry = &world.registry;
    let found = registry
        .manifest(&target(), "acme/app", "1")
        .await
        .expect("it answers");
    let found = found.expect("it is there");
    let (kind, bytes) = (&found.media_type, &found.bytes);
    let put = registry
        .put_manifest(&target(), "acme/app", "latest", kind, bytes)
        .await;
    assert_eq!(put.ok().as_ref(), Some(&found.digest));
    let tags = registry.tags(&target(), "acme/app").await;
    assert_eq!(tags.expect("it answers"), ["1", "latest"]);
    assert_eq!(
        registry
            .tags(&target(), "absent")
            .await
            .expect("it answers"),
        [""; 0]
    );
    clean(&sim);
    let put = registry
        .put_manifest(&target(), "acme/app", "latest", kind, bytes)
        .await;
    assert!(put.is_ok());
    broke(&sim, Rule::DoublePush);
    assert_eq!(sim.effects("registry.put-manifest").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_index_needs_its_manifests() {
    let (sim, world) = begin();
    let id = built(&world).await;
    let pushed = world
        .engine
        .push(&push_of(&id, "1"), &Log::default(), &never())
        .await;
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = |digest: &Digest| {
        let child = serde_json::json!({ "digest": digest.as_str(), "size": 1 });
        let index =
            serde_json::json!({ "schemaVersion": 2, "mediaType": kind, "manifests": [child] });
        index.to_string().into_bytes()
    };
    let bytes = index(&pushed.expect("it is pushed").digest);
    let put = world
        .registry
        .put_manifest(&target(), "acme/app", "all", kind, &bytes)
        .await;
    assert_eq!(put.ok(), Some(Digest::of(&bytes)));
    clean(&sim);
    let pulled = "localhost:5000/acme/app:all";
    let pulled = world
        .engine
        .pull(pulled, None, &Log::default(), &never())
        .await;
    assert_eq!(pulled.ok(), Some(id));

    let bytes = index(&Digest::of(b"absent"));
    let put = world
        .registry
        .put_manifest(&target(), "acme/app", "bad", kind, &bytes)
        .await;
    assert!(matches!(put, Err(RegistryError::Refused { .. })), "{put:?}");
    broke(&sim, Rule::MissingBlob);
}

#[tokio::test(start_paused = true)]
async fn blobs_make_an_image() {
    let (sim, world) = begin();
    let registry = &world.registry;
    let config = registry
        .put_blob(&target(), "a", b"{}", None)
        .await
        .expect("it is put");
    let again = registry.put_blob(&target(), "a", b"{}", Some("b")).await;
    assert_eq!(again.ok().as_ref(), Some(&config));
    assert_eq!(sim.effects("registry.put-blob").len(), 1);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": { "digest": config.as_str() },
        "layers": [],
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    let put = registry
        .put_manifest(&target(), "a", digest.as_str(), kind, &bytes)
        .await;
    assert_eq!(put.ok(), Some(digest));
    clean(&sim);
    let put = registry
        .put_manifest(&target(), "b", "1", kind, &bytes)
        .await;
    assert!(put.is_err(), "the other repository has no such blob");
    broke(&sim, Rule::MissingBlob);
}

#[tokio::test(start_paused = true)]
async fn bad_manifests_are_noticed() {
    let kind = "application/vnd.oci.image.index.v1+json";
    let empty = br#"{"schemaVersion":2,"manifests":[]}"#;
    let other = br#"{"schemaVersion":2,"mediaType":"text/plain","manifests":[]}"#;
    let wrong = Digest::of(b"wrong");
    for (reference, bytes) in [("1", &b"{"[..]), ("1", other), (wrong.as_str(), empty)] {
        let (sim, world) = begin();
        let put = world
            .registry
            .put_manifest(&target(), "a", reference, kind, bytes)
            .await;
        assert!(matches!(put, Err(RegistryError::Refused { .. })), "{put:?}");
        broke(&sim, Rule::BadManifest);
    }
}

#[tokio::test(start_paused = true)]
async fn bad_names_are_noticed() {
    for (repository, reference, rule) in [
        ("A", "1", Rule::BadReference),
        ("a", "-", Rule::BadTag),
        ("a", "sha256:12", Rule::BadReference),
    ] {
        let (sim, world) = begin();
        assert!(
            world
                .registry
                .digest(&target(), repository, reference)
                .await
                .is_err()
        );
        broke(&sim, rule);
        let (sim, world) = begin();
        assert!(
            world
                .registry
                .manifest(&target(), repository, reference)
                .await
                .is_err()
        );
        broke(&sim, rule);
    }
    let (sim, world) = begin();
    let mut bad = target();
    bad.host = "https://localhost".to_owned();
    assert!(world.registry.tags(&bad, "a").await.is_err());
    broke(&sim, Rule::BadReference);
}

#[tokio::test(start_paused = true)]
async fn a_throttled_registry_says_how_long() {
    let (sim, world) = begin();
    let with = Failure::Throttled(Some(Duration::from_secs(9)));
    sim.on(
        "registry.* localhost:5000/*",
        Fault::Fail { times: 1, with },
    );
    let error = world
        .registry
        .digest(&target(), "a", "1")
        .await
        .expect_err("it is throttled");
    assert_eq!(error.retry(), Retry::After(Some(Duration::from_secs(9))));
    assert_eq!(
        error.to_string(),
        "localhost:5000 limits our rate at digest localhost:5000/a:1"
    );
    assert!(world.registry.digest(&target(), "a", "1").await.is_ok());
    clean(&sim);

    // A lost answer to a question is a failure like any other.
    let with = Failure::Denied;
    sim.on("registry.tags", Fault::LoseAnswer { times: 1, with });
    let denied = world.registry.tags(&target(), "a").await;
    assert!(
        matches!(denied, Err(RegistryError::Denied { .. })),
        "{denied:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn logins_are_handed_on() {
    let (sim, world) = begin();
    let mut target = target();
    assert_eq!(
        world.registry.resolve(&target).await.expect("it answers"),
        None
    );
    let password = Secret::new("hunter22");
    target.login = Login::Basic {
        user: "bot".to_owned(),
        password: password.clone(),
    };
    let login = world.registry.resolve(&target).await.expect("it answers");
    assert_eq!(login, Some(("bot".to_owned(), password)));
    clean(&sim);
}
