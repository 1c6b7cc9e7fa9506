//! Each way to choose a tag, among images of a real registry.

use crate::support::delivery::Delivery;
use crate::support::repo::git;

use super::{Built, following, judged, once, push, push_built, runs, tag_of};

#[test]
fn what_was_built_last_is_read_once() {
    let delivery = following(
        "watch-newest",
        "app strategy=newest-build { ignore \"*-debug\" }",
    );
    for (tag, at) in [
        ("zeta", "2026-01-01T00:00:00Z"),
        ("alpha", "2026-03-01T00:00:00Z"),
        ("omega", "2026-02-01T00:00:00Z"),
        ("late-debug", "2026-04-01T00:00:00Z"),
    ] {
        let platforms = &["linux/amd64", "linux/arm64"];
        push_built(&delivery, "app-repo", tag, tag, Built { at, platforms });
    }
    once(&delivery).expect(0).says("app:alpha");
    assert_eq!(tag_of(&delivery), "alpha");
    // For each tag that fits: an index, one of its images, that image's configuration.
    let blobs = delivery.front.count("GET /v2/app-repo/blobs/");
    assert_eq!(blobs, 3);
    assert_eq!(delivery.front.count("GET /v2/app-repo/manifests/"), 6);

    // Another process knows it by digest: nothing that counts as a pull is asked for again.
    once(&delivery).expect(0).says("nothing new");
    judged(
        &delivery,
        "app",
        &[
            ("alpha", "chosen", ""),
            ("omega", "older", "alpha stands above it"),
            ("zeta", "older", "alpha stands above it"),
            ("late-debug", "unfit", "ignored by \"*-debug\""),
        ],
    );
    // `images` shows when each was built, also of what was ignored, and that is kept as well.
    assert_eq!(delivery.front.count("GET /v2/app-repo/blobs/"), blobs + 1);
    delivery.pipewright(&["images", "app"]).expect(0);
    assert_eq!(delivery.front.count("GET /v2/app-repo/blobs/"), blobs + 1);
    assert_eq!(runs(&delivery), 1);

    // The same content under another tag is known as well, and is nothing new.
    let (at, platforms) = ("2026-03-01T00:00:00Z", &["linux/amd64", "linux/arm64"][..]);
    push_built(
        &delivery,
        "app-repo",
        "beta",
        "alpha",
        Built { at, platforms },
    );
    once(&delivery).expect(0).says("nothing new");
    assert_eq!(delivery.front.count("GET /v2/app-repo/blobs/"), blobs + 1);
    assert_eq!(runs(&delivery), 1);
}

#[test]
fn one_tag_is_followed_by_its_digest() {
    let delivery = following("watch-digest", "app strategy=digest tag=latest");
    once(&delivery)
        .expect(1)
        .says("latest is listed, but the registry has no manifest under it");
    assert_eq!(runs(&delivery), 0);
    let subject = || {
        let log = ["log", "-1", "--format=%s", "main"];
        git(&delivery.manifests, &log)
    };
    for content in ["one", "two"] {
        push_built(&delivery, "app-repo", "latest", content, Built::default());
        once(&delivery).expect(0).says("is new, run");
        once(&delivery).expect(0).says("nothing new");
        let digest = delivery.digest("app-repo", "latest").expect("pushed");
        // The tag stays `latest`, so there is nothing to write the second time: the run is all the same
        // one of this digest.
        assert_eq!(delivery.show()["watched"]["app"]["digest"], digest);
    }
    assert!(subject().contains("app-repo@sha256:"), "{}", subject());
    assert_eq!(runs(&delivery), 2);
    // No list of tags was needed for that.
    assert_eq!(delivery.front.count("GET /v2/app-repo/tags/"), 0);
    // Back to what a run was started for before: not a second one.
    push_built(&delivery, "app-repo", "latest", "one", Built::default());
    once(&delivery).expect(0).says("nothing new");
    assert_eq!(runs(&delivery), 2);
}

#[test]
fn the_last_in_the_alphabet_among_those_allowed() {
    let watch = r##"app strategy=alphabetical {
        allow #"\d{4}-\d{2}-\d{2}"# #"night-\d+"#
        ignore "2026-02-3*"
    }"##;
    let delivery = following("watch-alphabet", watch);
    for tag in ["2026-01-31", "2026-02-28", "2026-02-30", "2026-03", "zoo"] {
        push(&delivery, "app-repo", tag);
    }
    once(&delivery).expect(0).says("app:2026-02-28");
    assert_eq!(tag_of(&delivery), "2026-02-28");
    judged(
        &delivery,
        "app",
        &[
            ("2026-02-28", "chosen", ""),
            ("2026-01-31", "older", "2026-02-28 stands above it"),
            ("2026-02-30", "unfit", "ignored by \"2026-02-3*\""),
            ("2026-03", "unfit", "not allowed by"),
            ("zoo", "unfit", "not allowed by"),
        ],
    );
    push(&delivery, "app-repo", "night-1");
    once(&delivery).expect(0).says("app:night-1");
    assert_eq!(tag_of(&delivery), "night-1");
}

#[test]
fn an_image_must_have_every_platform() {
    let watch = r#"app semver="^1" { platform "linux/amd64" "linux/arm64" }"#;
    let delivery = following("watch-platform", watch);
    let both = &["linux/amd64", "linux/arm64"][..];
    for (tag, platforms) in [
        ("1.0.0", both),
        ("1.1.0", &["linux/amd64"]),
        ("1.2.0", &["linux/amd64", "windows/amd64"]),
        ("2.0.0", both),
    ] {
        let built = Built {
            platforms,
            ..Built::default()
        };
        push_built(&delivery, "app-repo", tag, tag, built);
    }
    once(&delivery).expect(0).says("app:1.0.0");
    assert_eq!(tag_of(&delivery), "1.0.0");
    judged(
        &delivery,
        "app",
        &[
            (
                "1.2.0",
                "unfit",
                "has no linux/arm64; it has linux/amd64, windows/amd64",
            ),
            ("1.1.0", "unfit", "has no linux/arm64; it has linux/amd64"),
            ("1.0.0", "chosen", ""),
            ("2.0.0", "unfit", "it does not satisfy `^1`"),
        ],
    );
}

#[test]
fn what_was_rolled_back_is_held_until_something_newer_comes() {
    let watch = r#"app web semver="*""#;
    let delivery = following("watch-back", watch);
    for (repository, tag) in [("app-repo", "1.0.0"), ("web-repo", "1.0.0")] {
        push(&delivery, repository, tag);
    }
    once(&delivery).expect(0);
    push(&delivery, "app-repo", "1.1.0");
    once(&delivery).expect(0).says("app:1.1.0");
    assert_eq!(tag_of(&delivery), "1.1.0");
    delivery.pipewright(&["rollback", "last"]).expect(0);
    assert_eq!(tag_of(&delivery), "1.0.0");
    let before = runs(&delivery);
    once(&delivery).expect(0).says("nothing new");
    assert_eq!(runs(&delivery), before);
    judged(
        &delivery,
        "app",
        &[
            ("1.1.0", "held", "rolled back by run"),
            ("1.0.0", "chosen", ""),
        ],
    );
    // Another image moves on: the held one does not come along with it.
    push(&delivery, "web-repo", "1.0.1");
    once(&delivery)
        .expect(0)
        .says("app:1.0.0")
        .says("web:1.0.1");
    let watched = delivery.show()["watched"].clone();
    assert_eq!(watched["app"]["tag"], "1.0.0", "{watched}");
    assert_eq!(tag_of(&delivery), "1.0.0");
    once(&delivery).expect(0).says("nothing new");
    // Something newer is let through, and what was held stays so.
    push(&delivery, "app-repo", "1.2.0");
    once(&delivery).expect(0).says("app:1.2.0");
    assert_eq!(tag_of(&delivery), "1.2.0");
    delivery.pipewright(&["rollback", "last"]).expect(0);
    assert_eq!(tag_of(&delivery), "1.0.0");
    judged(
        &delivery,
        "app",
        &[
            ("1.2.0", "held", "rolled back by run"),
            ("1.1.0", "held", "rolled back by run"),
            ("1.0.0", "chosen", ""),
        ],
    );
    // Pushed anew under the same tag it is something else, and is chosen. This bump writes the tag, which
    // was taken back there, and says so instead of writing it once more.
    push_built(&delivery, "app-repo", "1.2.0", "mended", Built::default());
    once(&delivery)
        .expect(1)
        .says("is new, run")
        .says("1.2.0 was taken back by the rollback");
    assert_eq!(
        delivery.show()["watched"]["app"]["digest"],
        delivery.digest("app-repo", "1.2.0").expect("pushed")
    );
    assert_eq!(tag_of(&delivery), "1.0.0");
}

/// Somebody writes something else into the manifest repository.
fn by_hand(delivery: &Delivery, from: &str, to: &str) {
    let dir = delivery.dir().join("by-hand");
    let (bare, work) = (delivery.manifests.to_str(), dir.to_str());
    let (bare, work) = (bare.expect("UTF-8"), work.expect("UTF-8"));
    git(delivery.dir(), &["clone", "-q", bare, work]);
    let path = dir.join("main/values.yaml");
    let text = std::fs::read_to_string(&path).expect("there are values");
    std::fs::write(&path, text.replace(from, to)).expect("write");
    git(&dir, &["commit", "-qam", "by hand"]);
    git(&dir, &["push", "-q", "origin", "main"]);
}

#[test]
fn nothing_older_is_brought_unless_that_is_said() {
    let delivery = following("watch-down", r#"app semver="*""#);
    for tag in ["1.0.0", "1.1.0"] {
        push(&delivery, "app-repo", tag);
    }
    once(&delivery).expect(0);
    // The newest disappears: what is left is older than what was delivered.
    delivery.spoil(|request| {
        use crate::support::faulty::Reply;
        match request.is("GET /v2/app-repo/tags/list") {
            true => Reply::Answer(
                200,
                vec![],
                r#"{"name":"app-repo","tags":["1.0.0"]}"#.to_owned(),
            ),
            false => Reply::Pass,
        }
    });
    once(&delivery)
        .expect(0)
        .says("1.0.0 is the best there is, and older than 1.1.0, which was delivered");
    judged(&delivery, "app", &[("1.0.0", "behind", "older than 1.1.0")]);
    assert_eq!(runs(&delivery), 1);
    delivery.heal();

    // What stands in the file was put there by hand and is newer: the bump says no, once for a set.
    let other = following("watch-hand", r#"app semver="<2""#);
    push(&other, "app-repo", "1.0.0");
    once(&other).expect(0);
    by_hand(&other, "1.0.0", "9.0.0");
    push(&other, "app-repo", "1.1.0");
    once(&other).expect(1).says("is older than 9.0.0");
    once(&other).expect(0).says("nothing new");
    assert_eq!(tag_of(&other), "9.0.0");
    let update = super::UPDATE.replace("{watch}", r#"app semver="<2""#);
    other.pipeline(&update.replace("commit \"", "allow-downgrade\n        commit \""));
    push(&other, "app-repo", "1.2.0");
    once(&other).expect(0).says("is new, run");
    assert_eq!(tag_of(&other), "1.2.0");
}

#[test]
fn a_simulated_run_pretends_a_choice() {
    let delivery = Delivery::start("watch-sim");
    let update = super::UPDATE.replace("{watch}", r#"app semver="^1.4""#);
    // What a simulated repository holds is made up.
    let path = "\".front.imageTag\" \"${image.app.tag}\"";
    delivery.pipeline(&update.replace(path, "\".tag\" \"${image.app.tag}\" { create }"));
    let run = ["run", "update", "--event", "watch", "--simulate"];
    let said = delivery.pipewright(&[&run[..], &["--format", "json"]].concat());
    let said = said.expect(0).out;
    let events = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let mut watched = events.map(|line: serde_json::Value| line["event"]["watched"]["app"].clone());
    let chosen = watched.find(|it| it.is_object()).expect("a choice");
    assert_eq!(chosen["tag"], "1.4.0", "{chosen}");
    let digest = chosen["digest"].as_str().unwrap_or_default();
    assert!(digest.starts_with("sha256:"), "{chosen}");
    assert!(delivery.front.seen().is_empty(), "no registry was asked");
    assert_eq!(delivery.manifest_commits().len(), 1, "nothing was written");
    // It is nothing that a watch would remember.
    push(&delivery, "app-repo", "1.4.0");
    once(&delivery).expect(0).says("is new, run");
}
