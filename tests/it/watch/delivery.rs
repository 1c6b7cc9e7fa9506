//! From what is pushed to a registry to what stands in a manifest repository, with the program itself,
//! Debian's registry and a real bare repository.

use std::time::{Duration, Instant};

use super::{once, push, runs, tag_of, watching};

#[test]
fn each_set_is_delivered_once() {
    let delivery = watching("watch-once");
    once(&delivery).expect(0).says("no tag of app, web fits");
    assert_eq!(runs(&delivery), 0);

    push(&delivery, "app-repo", "1.0.0");
    once(&delivery).expect(0).says("1.0.0 waits for web");
    assert_eq!(runs(&delivery), 0, "a part of a set is no set");

    push(&delivery, "web-repo", "1.0.0");
    let dry = delivery
        .pipewright(&["watch", "update", "--once", "--dry-run"])
        .expect(0);
    dry.says("a run would start");
    assert_eq!(runs(&delivery), 0);
    let plan = delivery
        .pipewright(&["plan", "update", "--event", "watch"])
        .expect(0);
    plan.says("1.0.0");
    once(&delivery).expect(0).says("is new, run");
    assert_eq!(tag_of(&delivery), "1.0.0");
    let commits = delivery.manifest_commits();
    once(&delivery).expect(0).says("nothing new");
    assert_eq!(runs(&delivery), 1);

    // The run keeps what was chosen for it.
    let shown = delivery.show();
    let digest = delivery.digest("web-repo", "1.0.0").expect("pushed");
    assert_eq!(shown["watched"]["web"]["digest"], digest, "{shown}");
    let message =
        crate::support::repo::git(&delivery.manifests, &["log", "-1", "--format=%s", "main"]);
    assert!(
        message.ends_with(&format!("/web-repo@{digest}")),
        "{message}"
    );

    push(&delivery, "app-repo", "1.1.0");
    once(&delivery).expect(0).says("1.1.0 waits for web");
    assert_eq!(delivery.manifest_commits(), commits);
    push(&delivery, "web-repo", "1.1.0");
    once(&delivery).expect(0);
    assert_eq!(tag_of(&delivery), "1.1.0");
    assert_eq!(runs(&delivery), 2);
    // A prerelease, a date and something older are nothing.
    for tag in ["2.0.0-rc.1", "20260131", "0.9.0"] {
        push(&delivery, "app-repo", tag);
        push(&delivery, "web-repo", tag);
    }
    once(&delivery).expect(0).says("nothing new");
    let images = delivery.pipewright(&["images", "app"]).expect(0);
    images
        .says("would be chosen")
        .says("fewer than three parts")
        .says("it is a prerelease");
    let json = delivery
        .pipewright(&["images", "app", "--format", "json"])
        .expect(0)
        .out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["chosen"]["app"]["tag"], "1.1.0", "{json}");
}

#[test]
fn what_cannot_be_read_lets_nothing_older_win() {
    use crate::support::faulty::Reply;
    let delivery = watching("watch-closed");
    for tag in ["1.0.0", "1.1.0"] {
        push(&delivery, "app-repo", tag);
        push(&delivery, "web-repo", tag);
    }
    delivery.spoil(|request| match request.path.contains("/manifests/1.1.0") {
        true => Reply::status(403),
        false => Reply::Pass,
    });
    once(&delivery).expect(1).says("1.1.0 cannot be read");
    assert_eq!(runs(&delivery), 0);
    delivery.heal();
    once(&delivery).expect(0);
    assert_eq!(tag_of(&delivery), "1.1.0");
}

#[test]
fn deaths_and_rivals_start_no_set_twice() {
    let delivery = watching("watch-kill");
    for image in ["app-repo", "web-repo"] {
        push(&delivery, image, "1.0.0");
    }
    // Killed ever later: before it looks, while it remembers, while the run goes.
    for pause in [20, 60, 100, 140, 180, 240, 320] {
        let mut dying = delivery.begin(&["watch", "update"]);
        let end = Instant::now() + Duration::from_millis(pause);
        while Instant::now() < end && !dying.ended() {
            std::thread::yield_now();
        }
        dying.kill();
    }
    let rivals: Vec<_> = (0..3)
        .map(|_| delivery.begin(&["watch", "update", "--once"]))
        .collect();
    for rival in rivals {
        let _ = rival.finish();
    }
    once(&delivery).expect(0).says("nothing new");
    assert_eq!(runs(&delivery), 1);
    assert_eq!(tag_of(&delivery), "1.0.0");
    assert_eq!(delivery.manifest_commits().len(), 2);
}
