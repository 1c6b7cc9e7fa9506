//! `watch` that stays: looks again and again, is told to look at once, and ends when it is asked to.

use std::time::Duration;

use pipewright::adapters::http::Http;
use serde_json::{Value, json};

use super::{following, once, push, runs, tag_of};
use crate::support::delivery::{Delivery, Started, wait_for};
use crate::support::faulty::Reply;

/// The looks that a watch told of as JSON so far.
fn told(watch: &Started) -> Vec<Value> {
    let out = watch.out();
    let lines = out
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.collect()
}

fn looks(watch: &Started, result: &str) -> usize {
    let told = told(watch);
    let looks = told
        .iter()
        .filter(|one: &&Value| one["type"] == "watch-look");
    looks.filter(|one| one["result"] == result).count()
}

#[test]
fn a_tag_that_is_pushed_later_is_delivered() {
    let delivery = following("watch-stay", r#"app semver="*" every="1s""#);
    let watch = delivery.begin(&["watch", "update", "--format", "json"]);
    wait_for("a look that finds nothing", || {
        (looks(&watch, "nothing") > 0).then_some(())
    });
    for (tag, commits) in [("1.0.0", 2), ("1.1.0", 3)] {
        push(&delivery, "app-repo", tag);
        wait_for("the commit", || (tag_of(&delivery) == tag).then_some(()));
        assert_eq!(delivery.manifest_commits().len(), commits);
    }
    // The registry fails for a while: nothing is chosen, and then it goes on by itself.
    delivery.spoil(|_| Reply::status(503));
    wait_for("a look that fails", || {
        (looks(&watch, "failed") > 0).then_some(())
    });
    delivery.heal();
    push(&delivery, "app-repo", "1.2.0");
    wait_for("the commit", || {
        (tag_of(&delivery) == "1.2.0").then_some(())
    });
    wait_for("the end of the run", || {
        let shown = delivery.show();
        (shown["outcome"] == "succeeded").then_some(())
    });
    watch.signal("TERM");
    let answer = watch.finish().expect(0);
    assert!(answer.out.contains("\"stopped\""), "{}", answer.out);
    assert_eq!(runs(&delivery), 3);
    // What was seen is remembered by the next one.
    once(&delivery).expect(0).says("nothing new");
    assert_eq!(runs(&delivery), 3);
}

const SECRET: &str = "3f1c0d9e5b7a42c1";

/// Starts a watch that looks once an hour and listens; gives its address too.
fn listening(delivery: &Delivery) -> (Started, String) {
    std::fs::write(delivery.dir().join("secret"), format!("{SECRET}\n")).expect("write");
    let secret = delivery.dir().join("secret");
    let secret = secret.to_str().expect("UTF-8");
    let args = [
        "watch",
        "update",
        "--format",
        "json",
        "--listen",
        "127.0.0.1:0",
    ];
    let args = [&args[..], &["--listen-secret", secret]].concat();
    let watch = delivery.begin(&args);
    let address = wait_for("the address", || {
        let told = told(&watch);
        let words = told.iter().find_map(|one| one["message"].as_str())?;
        words.strip_prefix("listening at ").map(str::to_owned)
    });
    (watch, address)
}

fn ring(address: &str, path: &str, body: &Value) -> u16 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let url = format!("{address}{path}").parse().expect("an address");
    let mut request = reqwest::Request::new(reqwest::Method::POST, url);
    *request.body_mut() = Some(body.to_string().into());
    let answer = runtime.block_on(Http::new().send(request));
    answer.expect("it answers").status().as_u16()
}

#[test]
fn a_notification_only_shortens_the_wait() {
    let delivery = following("watch-bell", r#"app semver="<2" every="1h""#);
    let (watch, address) = listening(&delivery);
    wait_for("the first look", || {
        (looks(&watch, "nothing") > 0).then_some(())
    });
    push(&delivery, "app-repo", "1.0.0");
    push(&delivery, "app-repo", "9.0.0");
    let listed = || delivery.front.count("GET /v2/app-repo/tags/list");
    let before = listed();
    // As the distribution registry sends it, naming a tag and a digest that nobody asked for.
    let push_of = |tag: &str| {
        json!({ "events": [{ "action": "push", "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "repository": "app-repo", "tag": tag,
            "digest": format!("sha256:{}", "0".repeat(64)),
        } }] })
    };
    for (path, body, status) in [
        ("/", push_of("1.0.0"), 401),
        ("/0000000000000000", push_of("1.0.0"), 401),
        (&*format!("/{SECRET}"), json!({ "hello": "world" }), 400),
        // Of a repository that is not watched: heard, and of no consequence.
        (
            &*format!("/{SECRET}"),
            json!({ "repository": "acme/other", "updated_tags": ["1.0.0"] }),
            202,
        ),
    ] {
        assert_eq!(ring(&address, path, &body), status, "{path} {body}");
    }
    wait_for("what it says of the other repository", || {
        watch.out().contains("told of acme/other").then_some(())
    });
    assert_eq!(listed(), before, "nobody looked");
    assert_eq!(runs(&delivery), 0);

    assert_eq!(
        ring(&address, &format!("/{SECRET}"), &push_of("9.0.0")),
        202
    );
    wait_for("the commit", || {
        (tag_of(&delivery) != "0000000").then_some(())
    });
    assert_eq!(tag_of(&delivery), "1.0.0", "chosen by the pipeline's rule");
    wait_for("the end of the run", || {
        (delivery.show()["outcome"] == "succeeded").then_some(())
    });
    let digest = delivery.digest("app-repo", "1.0.0").expect("pushed");
    assert_eq!(delivery.show()["watched"]["app"]["digest"], digest);
    // Rung without anything new: a look, no run.
    assert_eq!(
        ring(&address, &format!("/{SECRET}"), &push_of("1.0.0")),
        202
    );
    wait_for("another look", || {
        (looks(&watch, "known") > 0).then_some(())
    });
    assert_eq!(runs(&delivery), 1);
    watch.signal("INT");
    watch.finish().expect(0);
}

#[test]
fn a_registry_that_asks_for_rest_gets_it() {
    let delivery = following("watch-rest", r#"app semver="*" every="1s""#);
    push(&delivery, "app-repo", "1.0.0");
    delivery.spoil(|_| {
        let after = vec![("Retry-After", "7200".to_owned())];
        Reply::Answer(429, after, String::new())
    });
    let watch = delivery.begin(&["watch", "update", "--format", "json"]);
    let failed = wait_for("a look that fails", || {
        let all = told(&watch);
        all.into_iter().find(|one| one["result"] == "failed")
    });
    let reason = failed["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("it asked for 7200 s of rest"), "{reason}");
    let asked = delivery.front.seen().len();
    assert!(asked <= 2, "{asked} requests of which the first said no");
    // A look was due long ago.
    delivery.heal();
    let end = std::time::Instant::now() + Duration::from_secs(3);
    while std::time::Instant::now() < end {
        std::thread::yield_now();
    }
    assert_eq!(delivery.front.seen().len(), asked);
    assert_eq!(runs(&delivery), 0);
    watch.signal("TERM");
    watch.finish().expect(0);
}
