//! Looks at registries that are large, slow to give, or hostile.

use std::time::{Duration, Instant};

use serde_json::json;

use pipewright::ports::registry::RegistryReader as _;

use super::{Built, following, judged, once, push, push_built, runs, tag_of};
use crate::registry::{client, page, plain};
use crate::support::faulty::{Faulty, Reply, Request};

/// Pages of `count` versions as registries send them: from the query's `last` on, `n` at a time.
fn paged(request: &Request, count: usize) -> Option<Reply> {
    let query = request.path.strip_prefix("/v2/app-repo/tags/list?")?;
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let size: usize = value("n").and_then(|n| n.parse().ok()).unwrap_or(100);
    let last = value("last").and_then(|last| last.strip_prefix("1.0."));
    let start = last
        .and_then(|last| last.parse::<usize>().ok())
        .map_or(0, |last| last + 1);
    let end = count.min(start + size);
    let tags: Vec<String> = (start..end).map(|n| format!("1.0.{n}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let link = format!(
        "</v2/app-repo/tags/list?n={size}&last=1.0.{}>; rel=\"next\"",
        end - 1
    );
    Some(page(&tags, (end < count).then_some(&link)))
}

#[test]
fn ten_thousand_tags_are_a_matter_of_seconds_and_of_little_memory() {
    let delivery = following("watch-many", r#"app semver="*" every="1h""#);
    push(&delivery, "app-repo", "1.0.9999");
    delivery.spoil(|request| paged(request, 10_000).unwrap_or(Reply::Pass));
    let began = Instant::now();
    let (images, peak) = measured(
        &delivery,
        &["images", "app", "--limit", "1", "--format", "json"],
    );
    let took = began.elapsed();
    let json: serde_json::Value = serde_json::from_str(&images).expect("JSON");
    assert_eq!(json["tags"][0]["tag"], "1.0.9999", "{images}");
    assert_eq!(json["more"], 9_999);
    // Ten pages; whether the last full one is the last is asked of a registry that may not say so.
    assert_eq!(delivery.front.count("GET /v2/app-repo/tags/list"), 11);
    // Once to be told to log in, once to choose, once to show what was chosen.
    assert_eq!(delivery.front.count("HEAD /v2/app-repo/manifests/"), 3);
    println!("10,000 tags: {took:?}, {} MiB at most", peak >> 10);
    // In this build, with others at work.
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(peak < 300 << 10, "{peak} KiB");
    once(&delivery).expect(0).says("app:1.0.9999");
    assert_eq!(tag_of(&delivery), "1.0.9999");
}

#[tokio::test]
async fn a_token_that_runs_out_between_two_pages_is_renewed() {
    let (mut given, mut used) = (0, 0);
    let server = Faulty::alone(move |request| {
        if request.is("GET /token") {
            given += 1;
            let body = json!({ "token": format!("t{given}"), "expires_in": 43_200 });
            return Reply::Answer(200, vec![], body.to_string());
        }
        // Whatever it was said to last: it opens one page.
        let newest = format!("Bearer t{given}");
        if request.header("authorization") == Some(&newest) && used < given {
            used = given;
            return paged(request, 3_500).unwrap_or(Reply::status(400));
        }
        let host = request.header("host").unwrap_or("");
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
        Reply::Answer(401, vec![("WWW-Authenticate", challenge)], String::new())
    });
    let tags = client().tags(&plain(&server), "app-repo").await;
    assert_eq!(tags.expect("all pages").len(), 3_500);
    assert_eq!(server.count("GET /token"), 4, "one for each page");
}

/// Runs the program; what it printed, and the most memory it held, in KiB.
fn measured(delivery: &crate::support::delivery::Delivery, args: &[&str]) -> (String, u64) {
    let mut command = delivery.command(args);
    command.stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    // Printed at the end, and less than a pipe holds.
    while child.try_wait().expect("it can be waited for").is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let line = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(line.unwrap_or(0));
        std::thread::yield_now();
    }
    let output = child.wait_with_output().expect("it can be waited for");
    assert!(output.status.success() && peak > 0, "{output:?}");
    (String::from_utf8(output.stdout).expect("UTF-8"), peak)
}

#[test]
fn the_last_pulls_are_left_to_those_who_deploy() {
    let delivery = following("watch-pulls", "app strategy=newest-build");
    for (tag, at) in [("a", "2026-01-01T00:00:00Z"), ("b", "2026-02-01T00:00:00Z")] {
        let built = Built {
            at,
            ..Built::default()
        };
        push_built(&delivery, "app-repo", tag, tag, built);
    }
    // As Docker Hub says it, also to a HEAD, which it does not count.
    let hub = |remaining: u32| {
        move |request: &Request| {
            let headers = vec![
                ("ratelimit-limit", "100;w=21600".to_owned()),
                ("ratelimit-remaining", format!("{remaining};w=21600")),
                (
                    "docker-content-digest",
                    format!("sha256:{}", "0".repeat(64)),
                ),
            ];
            match request.is("HEAD /v2/app-repo/manifests/") {
                true => Reply::Answer(200, headers, String::new()),
                false => Reply::Pass,
            }
        }
    };
    delivery.spoil(hub(5));
    once(&delivery)
        .expect(1)
        .says("it allows 5 more pulls, which are left to those who deploy");
    assert_eq!(delivery.front.count("GET /v2/app-repo/manifests/"), 0);
    assert_eq!(runs(&delivery), 0);
    // A window of the age of the world is no reason to fall over.
    delivery.spoil(|request| {
        let endless = format!("0;w={}", u64::MAX);
        match request.is("HEAD /v2/app-repo/manifests/") {
            true => Reply::Answer(
                200,
                vec![
                    ("ratelimit-remaining", endless),
                    (
                        "docker-content-digest",
                        format!("sha256:{}", "0".repeat(64)),
                    ),
                ],
                String::new(),
            ),
            false => Reply::Pass,
        }
    });
    once(&delivery).expect(1).says("it allows 0 more pulls");
    delivery.heal();
    once(&delivery).expect(0).says("app:b");
    assert_eq!(tag_of(&delivery), "b");
}

#[test]
fn a_registry_that_cannot_be_read_starts_nothing_and_says_why() {
    let delivery = following("watch-shut", r#"app semver="*""#);
    push(&delivery, "app-repo", "1.0.0");
    let list = |body: String| Reply::Answer(200, vec![], body);
    let long = "x".repeat(129);
    for (reply, why) in [
        (Reply::status(403), "denied tags of app-repo"),
        (Reply::status(500), "500 Internal Server Error"),
        (Reply::Reset, "failed at tags of app-repo"),
        (list("{".to_owned()), "a list of tags that is none"),
        (
            list(r#"{"tags":"1.0.0"}"#.to_owned()),
            "a list of tags that is none",
        ),
        (
            list(json!({ "tags": ["1.0.0", "../../etc"] }).to_string()),
            "a tag that is none: \"../../etc\"",
        ),
        (
            list(json!({ "tags": ["1.0.0", "\u{1b}[2J9.9.9"] }).to_string()),
            "a tag that is none: \"[2J9.9.9\"",
        ),
        (
            list(json!({ "tags": ["1.0.0", long] }).to_string()),
            "a tag that is none",
        ),
        (
            list(json!({ "tags": ["1.0.0", "$(id)"] }).to_string()),
            "a tag that is none",
        ),
        (
            list(json!({ "tags": ["1.0.0"], "x": "x".repeat(9 << 20) }).to_string()),
            "larger than 8",
        ),
        (
            page(
                &["1.0.0"],
                Some("<http://169.254.169.254/latest/>; rel=next"),
            ),
            "its next page of tags is on another host",
        ),
        (
            page(
                &["1.0.0"],
                Some("</v2/app-repo/tags/list?n=1000>; rel=next"),
            ),
            "go in a circle",
        ),
    ] {
        let answer = reply.clone();
        delivery.spoil(
            move |request| match request.is("GET /v2/app-repo/tags/list") {
                true => answer.clone(),
                false => Reply::Pass,
            },
        );
        let said = once(&delivery).expect(1);
        said.says("nothing is chosen").says(why);
        let text = said.text();
        assert!(!text.contains('\u{1b}') && text.len() < 4_000, "{text}");
        assert_eq!(runs(&delivery), 0);
    }
    assert_eq!(tag_of(&delivery), "0000000");
    delivery.heal();
    judged(&delivery, "app", &[("1.0.0", "chosen", "")]);
    once(&delivery).expect(0).says("app:1.0.0");
}
