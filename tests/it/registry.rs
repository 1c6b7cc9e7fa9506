//! The registry adapter against a real registry, and against networks and servers that misbehave.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pipewright::adapters::backoff::Backoff;
use pipewright::adapters::http::Http;
use pipewright::adapters::registry::{DockerConfig, HttpRegistry};
use pipewright::base::{Digest, Secret};
use pipewright::ports::Retry;
use pipewright::ports::registry::{
    Login, Registry as _, RegistryError, RegistryReader as _, Target,
};

use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::registry::{Registry, RegistryOptions};

pub const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub fn client() -> HttpRegistry {
    client_as(DockerConfig::default())
}

/// Waits between tries are short; how many there are is not.
pub fn client_as(docker: DockerConfig) -> HttpRegistry {
    let backoff = Backoff {
        base: Duration::from_millis(2),
        ..Backoff::default()
    };
    HttpRegistry::with_backoff(Http::new(), docker, backoff)
}

pub fn plain(server: &Faulty) -> Target {
    Target {
        host: server.address().to_string(),
        plain_http: true,
        login: Login::Ambient,
    }
}

pub fn basic(user: &str, password: &str) -> Login {
    Login::Basic {
        user: user.to_owned(),
        password: Secret::new(password),
    }
}

/// Pushes a small image and gives its digest.
pub async fn push(client: &HttpRegistry, target: &Target, repository: &str, tag: &str) -> Digest {
    let config = format!(r#"{{"architecture":"amd64","os":"linux","tag":"{tag}"}}"#);
    let blob = client
        .put_blob(target, repository, config.as_bytes(), None)
        .await
        .expect("the blob is stored");
    let manifest = manifest(&blob, config.len());
    client
        .put_manifest(target, repository, tag, OCI, manifest.as_bytes())
        .await
        .expect("the manifest is stored")
}

fn manifest(config: &Digest, size: usize) -> String {
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{size}}},"layers":[]}}"#
    )
}

#[tokio::test]
async fn what_is_pushed_can_be_read() {
    let registry = Registry::start(RegistryOptions::default());
    let (client, target) = (client(), registry.target());
    assert_eq!(
        client.digest(&target, "team/app", "v1").await.unwrap(),
        None
    );
    assert_eq!(
        client.manifest(&target, "team/app", "v1").await.unwrap(),
        None
    );
    assert_eq!(client.tags(&target, "team/app").await.unwrap(), [""; 0]);
    let missing = Digest::of(b"missing");
    assert_eq!(
        client.blob(&target, "team/app", &missing).await.unwrap(),
        None
    );

    let digest = push(&client, &target, "team/app", "v1").await;
    assert_eq!(
        client.digest(&target, "team/app", "v1").await.unwrap(),
        Some(digest.clone())
    );
    let manifest = client
        .manifest(&target, "team/app", digest.as_str())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(manifest.digest, digest);
    assert_eq!(manifest.media_type, OCI);
    let value: serde_json::Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let config: Digest = value["config"]["digest"].as_str().unwrap().parse().unwrap();
    let blob = client.blob(&target, "team/app", &config).await.unwrap();
    assert!(String::from_utf8(blob.unwrap()).unwrap().contains("amd64"));

    // An index over it, of another type, under another tag.
    let size = manifest.bytes.len();
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{OCI}","digest":"{digest}","size":{size},"platform":{{"architecture":"amd64","os":"linux"}}}}]}}"#
    );
    let put = client.put_manifest(&target, "team/app", "all", INDEX, index.as_bytes());
    let put = put.await.unwrap();
    let read = client
        .manifest(&target, "team/app", "all")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((read.digest, read.media_type.as_str()), (put, INDEX));
    assert_eq!(read.bytes, index.as_bytes());
    let mut tags = client.tags(&target, "team/app").await.unwrap();
    // This registry lists a directory.
    tags.sort();
    assert_eq!(tags, ["all", "v1"]);

    // The same again changes nothing and is no error.
    assert_eq!(push(&client, &target, "team/app", "v1").await, digest);
    let empty = client
        .put_blob(&target, "team/app", b"", None)
        .await
        .unwrap();
    assert_eq!(
        client.blob(&target, "team/app", &empty).await.unwrap(),
        Some(vec![])
    );
}

#[tokio::test]
async fn blobs_are_asked_for_and_mounted_before_they_are_uploaded() {
    let registry = Registry::start(RegistryOptions::default());
    let proxy = Faulty::before(registry.address(), |_| Reply::Pass);
    let (client, target) = (client(), plain(&proxy));
    let blob = vec![7; 100_000];
    client.put_blob(&target, "from", &blob, None).await.unwrap();
    assert_eq!(proxy.count("PUT "), 1);
    client.put_blob(&target, "from", &blob, None).await.unwrap();
    let mounted = client
        .put_blob(&target, "to", &blob, Some("from"))
        .await
        .unwrap();
    assert_eq!(proxy.count("PUT "), 1, "neither is uploaded again");
    assert_eq!(proxy.count("POST /v2/to/blobs/uploads/?mount="), 1);
    assert_eq!(
        client.blob(&target, "to", &mounted).await.unwrap(),
        Some(blob)
    );
    // What the other repository does not have is uploaded.
    let other = client
        .put_blob(&target, "to", b"other", Some("from"))
        .await
        .unwrap();
    assert_eq!(
        client.blob(&target, "to", &other).await.unwrap(),
        Some(b"other".to_vec())
    );
}

#[tokio::test]
async fn mistakes_are_refused_in_the_registrys_words() {
    let registry = Registry::start(RegistryOptions::default());
    let (client, target) = (client(), registry.target());
    let absent = manifest(&Digest::of(b"absent"), 6);
    let put = client.put_manifest(&target, "app", "v1", OCI, absent.as_bytes());
    let error = put.await.unwrap_err();
    assert_eq!(error.retry(), Retry::Never);
    let text = error.to_string();
    assert!(
        text.contains("refused upload of manifest app:v1: "),
        "{text}"
    );
    assert!(
        text.contains("BLOB_UNKNOWN") && text.contains("sha256:"),
        "{text}"
    );

    for (repository, reference, says) in [
        ("App", "v1", "\"App\" is not a repository's name"),
        ("../app", "v1", "\"../app\" is not a repository's name"),
        ("app", "a b", "\"a b\" is not a tag"),
        ("app", "sha256:12", "\"sha256:12\" is not a digest"),
    ] {
        let error = client
            .digest(&target, repository, reference)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let other = Digest::of(b"other");
    let put = client.put_manifest(&target, "app", other.as_str(), OCI, b"{}");
    let error = put.await.unwrap_err().to_string();
    assert!(error.contains("the manifest has digest"), "{error}");
    let nowhere = Target {
        host: "user@host/path".to_owned(),
        ..target
    };
    let error = client.tags(&nowhere, "app").await.unwrap_err().to_string();
    assert!(error.contains("is not a registry's name"), "{error}");
}

#[tokio::test]
async fn passing_trouble_is_sat_out() {
    let registry = Registry::start(RegistryOptions::default());
    let digest = push(&client(), &registry.target(), "app", "v1").await;
    for (reply, times) in [
        (Reply::status(500), 4),
        (Reply::status(502), 1),
        (Reply::status(503), 2),
        (Reply::status(504), 1),
        (Reply::Reset, 3),
        (Reply::Cut(0), 1),
        (Reply::Cut(20), 1),
        (Reply::Cut(400), 1),
    ] {
        let matches = |request: &Request| request.is("GET /v2/app/manifests/v1");
        let proxy = Faulty::first(registry.address(), times, matches, reply.clone());
        let found = client().manifest(&plain(&proxy), "app", "v1").await;
        let found = found.unwrap_or_else(|error| panic!("{reply:?}: {error}"));
        assert_eq!(found.unwrap().digest, digest, "{reply:?}");
        assert_eq!(proxy.count("GET "), times + 1, "{reply:?}");
    }
}

#[tokio::test]
async fn lasting_trouble_is_given_up() {
    for (reply, tries, says) in [
        (Reply::status(500), 5, "it answered 500"),
        (Reply::Reset, 5, "(tried 5 times)"),
        (
            Reply::status(400),
            1,
            "refused tags of app: it answered 400",
        ),
        (Reply::status(403), 1, "denied tags of app: it answered 403"),
        (
            Reply::status(501),
            1,
            "failed at tags of app: it answered 501",
        ),
        (
            Reply::Answer(200, vec![], "[]".to_owned()),
            1,
            "a list of tags that is none",
        ),
        (
            Reply::Answer(200, vec![], r#"{"tags":["a","../b"]}"#.to_owned()),
            1,
            "a tag that is none: \"../b\"",
        ),
        (Reply::status(302), 1, "without an address"),
        (
            Reply::Answer(302, vec![("Location", "/again".to_owned())], String::new()),
            6,
            "it redirects more than 5 times",
        ),
        (
            Reply::Answer(
                302,
                vec![("Location", "file:///etc/passwd".to_owned())],
                String::new(),
            ),
            1,
            "a file: address",
        ),
    ] {
        let again = reply.clone();
        let server = Faulty::alone(move |_| again.clone());
        let error = client().tags(&plain(&server), "app").await.unwrap_err();
        assert!(error.to_string().contains(says), "{reply:?}: {error}");
        assert_eq!(server.seen().len(), tries, "{reply:?}");
    }
}

#[tokio::test]
async fn rate_limits_are_kept() {
    let registry = Registry::start(RegistryOptions::default());
    let digest = push(&client(), &registry.target(), "app", "v1").await;
    let wait =
        |text: &str| Reply::Answer(429, vec![("Retry-After", text.to_owned())], String::new());
    let proxy = Faulty::first(registry.address(), 1, |_| true, wait("1"));
    let started = Instant::now();
    let found = client().digest(&plain(&proxy), "app", "v1").await.unwrap();
    assert_eq!(found, Some(digest));
    assert!(started.elapsed() >= Duration::from_secs(1));

    // A wait that is too long is the caller's to plan.
    let proxy = Faulty::first(registry.address(), 1, |_| true, wait("3600"));
    let error = client()
        .digest(&plain(&proxy), "app", "v1")
        .await
        .unwrap_err();
    assert_eq!(error.retry(), Retry::After(Some(Duration::from_secs(3600))));
    assert_eq!(proxy.seen().len(), 1);
}

#[tokio::test]
async fn referrers_come_in_pages_or_not_at_all() {
    let subject = Digest::of(b"subject");
    let (first, second) = (Digest::of(b"first"), Digest::of(b"second"));
    let page = |digest: &Digest, kind: &str| {
        format!(
            r#"{{"schemaVersion": 2, "manifests": [{{"digest": "{digest}", "artifactType": "{kind}", "size": 1}}]}}"#
        )
    };
    let pages = [page(&first, "a/b"), page(&second, "c/d")];
    let server = Faulty::alone(move |request| {
        if request.is("GET /more") {
            return Reply::Answer(200, Vec::new(), pages[1].clone());
        }
        let next = ("Link", "</more?n=2>; rel=\"next\"".to_owned());
        Reply::Answer(200, vec![next], pages[0].clone())
    });
    let list = client().referrers(&plain(&server), "app", &subject).await;
    let list = list.unwrap().expect("it keeps a list");
    let found: Vec<(&Digest, &str)> = list
        .iter()
        .map(|one| (&one.digest, one.artifact_type.as_str()))
        .collect();
    assert_eq!(found, [(&first, "a/b"), (&second, "c/d")]);

    // The registry of these tests keeps none; others answer with a page for people.
    let registry = Registry::start(RegistryOptions::default());
    let none = client()
        .referrers(&registry.target(), "app", &subject)
        .await;
    assert_eq!(none.unwrap(), None);
    let server = Faulty::alone(|_| Reply::Answer(200, Vec::new(), "<html>".to_owned()));
    let none = client().referrers(&plain(&server), "app", &subject).await;
    assert_eq!(none.unwrap(), None);
    // An answer that is no list is not taken for an empty one.
    for reply in [
        Reply::status(403),
        Reply::Answer(
            200,
            Vec::new(),
            r#"{"manifests": [{"digest": "x"}]}"#.to_owned(),
        ),
    ] {
        let server = Faulty::alone(move |_| reply.clone());
        let list = client().referrers(&plain(&server), "app", &subject).await;
        assert!(list.is_err(), "{list:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_ends() {
    let server = Faulty::alone(|_| Reply::Hang);
    let started = tokio::time::Instant::now();
    let error = client().tags(&plain(&server), "app").await.unwrap_err();
    assert!(
        error.to_string().contains("no answer within 1m00s"),
        "{error}"
    );
    assert!(
        started.elapsed() <= Duration::from_secs(181),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn broken_uploads_reach_their_end() {
    let registry = Registry::start(RegistryOptions::default());
    let blob: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    for (name, part, reply) in [
        ("begin", "POST ", Reply::Reset),
        ("begin", "POST ", Reply::status(503)),
        ("none", "PUT ", Reply::Reset),
        ("half", "PUT ", Reply::PassPart(1_500_000)),
        ("answer", "PUT ", Reply::Cut(0)),
        ("limit", "PUT ", Reply::status(429)),
        ("ask", "HEAD ", Reply::status(500)),
    ] {
        let proxy = Faulty::first(
            registry.address(),
            1,
            move |one| one.is(part),
            reply.clone(),
        );
        let repository = format!("app-{name}");
        let put = client()
            .put_blob(&plain(&proxy), &repository, &blob, None)
            .await;
        let digest = put.unwrap_or_else(|error| panic!("{reply:?}: {error}"));
        let stored = client()
            .blob(&registry.target(), &repository, &digest)
            .await;
        assert_eq!(stored.unwrap().as_ref(), Some(&blob), "{reply:?}");
        // What arrived although its answer was lost is not sent again.
        let puts = if name == "answer" { 1 } else { 2 };
        if part == "PUT " {
            assert_eq!(proxy.count("PUT "), puts, "{reply:?}");
        }
    }
    let never = Faulty::before(registry.address(), |request| match request.is("PUT ") {
        true => Reply::status(500),
        false => Reply::Pass,
    });
    let put = client()
        .put_blob(&plain(&never), "never", b"never", None)
        .await;
    assert!(matches!(put, Err(RegistryError::Broken { .. })), "{put:?}");
    assert_eq!(never.count("PUT "), 5);
}

/// A registry that keeps what arrived of an upload, as the specification has it.
#[tokio::test]
async fn uploads_go_on_where_they_stopped() {
    let blob: Vec<u8> = (0..100_000u32).map(|n| (n % 241) as u8).collect();
    let held = Arc::new(Mutex::new(Vec::<u8>::new()));
    let store = Arc::clone(&held);
    let mut broken = false;
    let server = Faulty::alone(move |request| {
        let mut held = store.lock().unwrap();
        let here = |n: usize| vec![("Location", format!("/up/{n}?state=a%2Fb"))];
        match request.method.as_str() {
            "HEAD" => Reply::status(404),
            "POST" => Reply::Answer(202, here(1), String::new()),
            "GET" => {
                let mut headers = here(2);
                headers.push(("Range", format!("0-{}", held.len() - 1)));
                Reply::Answer(204, headers, String::new())
            }
            "PUT" if !broken => {
                broken = true;
                held.extend(&request.body[..60_000]);
                Reply::Reset
            }
            "PATCH" => {
                assert_eq!(request.path, "/up/2?state=a%2Fb");
                assert_eq!(request.header("content-range"), Some("60000-99999"));
                held.extend(&request.body);
                Reply::Answer(202, here(3), String::new())
            }
            _ => {
                let digest = Digest::of(&held).to_string().replace(':', "%3A");
                assert_eq!(request.path, format!("/up/3?state=a%2Fb&digest={digest}"));
                Reply::status(201)
            }
        }
    });
    let digest = client()
        .put_blob(&plain(&server), "app", &blob, None)
        .await
        .unwrap();
    assert_eq!(digest, Digest::of(&held.lock().unwrap()));
    assert_eq!(server.count("PATCH "), 1);
    assert_eq!(server.count("POST "), 1);
}

#[tokio::test]
async fn content_that_is_not_what_it_should_be_is_not_believed() {
    let good = Digest::of(b"good");
    let told = Digest::of(b"told").to_string();
    let header = told.clone();
    let server = Faulty::alone(move |request| {
        let type_and_digest = vec![
            ("Content-Type", OCI.to_owned()),
            ("Docker-Content-Digest", header.clone()),
        ];
        match request.method.as_str() {
            "PUT" => Reply::Answer(201, type_and_digest, String::new()),
            _ => Reply::Answer(200, type_and_digest, "evil".to_owned()),
        }
    });
    let (client, target) = (client(), plain(&server));
    let corrupt = |error: RegistryError, with: &str| {
        assert!(matches!(error, RegistryError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(with), "{error}");
        assert_eq!(error.retry(), Retry::Never);
    };
    let evil = Digest::of(b"evil").to_string();
    corrupt(client.blob(&target, "app", &good).await.unwrap_err(), &evil);
    corrupt(
        client
            .manifest(&target, "app", good.as_str())
            .await
            .unwrap_err(),
        &evil,
    );
    corrupt(
        client.manifest(&target, "app", "v1").await.unwrap_err(),
        &told,
    );
    corrupt(
        client
            .digest(&target, "app", good.as_str())
            .await
            .unwrap_err(),
        &told,
    );
    let put = client
        .put_manifest(&target, "app", "v1", OCI, b"good")
        .await;
    corrupt(put.unwrap_err(), &told);
}

#[tokio::test]
async fn answers_are_bounded() {
    let huge = "x".repeat(9 << 20);
    let server = Faulty::alone(
        move |request| match request.is("GET /v2/app/manifests/none") {
            true => Reply::Answer(400, vec![], huge.clone()),
            false => Reply::Answer(200, vec![], huge.clone()),
        },
    );
    let (client, target) = (client(), plain(&server));
    let blob = client
        .blob(&target, "app", &Digest::of(b"x"))
        .await
        .unwrap_err();
    assert!(
        blob.to_string()
            .ends_with("the answer is larger than 8.0 MiB"),
        "{blob}"
    );
    let manifest = client.manifest(&target, "app", "v1").await.unwrap_err();
    assert!(
        manifest.to_string().contains("larger than 4.0 MiB"),
        "{manifest}"
    );
    let words = client.manifest(&target, "app", "none").await.unwrap_err();
    assert!(words.to_string().len() < 400, "{}", words.to_string().len());
    assert_eq!(server.seen().len(), 3, "none is tried again");
}

#[tokio::test]
async fn a_registry_without_head_or_digests_is_read_all_the_same() {
    let bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI}"}}"#);
    let body = bytes.clone();
    let server = Faulty::alone(move |request| match request.method.as_str() {
        "HEAD" => Reply::status(405),
        _ => Reply::Answer(200, vec![], body.clone()),
    });
    let (client, target) = (client(), plain(&server));
    let digest = client.digest(&target, "app", "v1").await.unwrap();
    assert_eq!(digest, Some(Digest::of(bytes.as_bytes())));
    let manifest = client
        .manifest(&target, "app", "v1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(manifest.media_type, OCI);
}

#[tokio::test]
async fn tags_come_in_pages() {
    let server = Faulty::alone(|request| match request.path.as_str() {
        "/v2/app/tags/list?n=1000" => page(
            &["v3", "v1"],
            Some("</v2/app/tags/list?last=v1&n=2>; rel=\"next\""),
        ),
        "/v2/app/tags/list?last=v1&n=2" => page(&[], Some("<list?last=w>; rel=next")),
        "/v2/app/tags/list?last=w" => page(&["v2", "v1"], None),
        _ => Reply::status(400),
    });
    let tags = client().tags(&plain(&server), "app").await.unwrap();
    assert_eq!(
        tags,
        ["v3", "v1", "v2"],
        "in the registry's order, each once"
    );
    assert_eq!(server.seen().len(), 3);
}

pub fn page(tags: &[&str], link: Option<&str>) -> Reply {
    let headers = link
        .map(|link| ("Link", link.to_owned()))
        .into_iter()
        .collect();
    let tags = serde_json::json!({ "name": "app", "tags": tags });
    Reply::Answer(200, headers, tags.to_string())
}

#[tokio::test]
async fn pages_of_tags_end() {
    let names: Vec<String> = (0..2500).map(|n| format!("t{n:04}")).collect();
    // Pages by `last` without ever saying so.
    let all = names.clone();
    let silent = Faulty::alone(move |request| {
        let last = request
            .path
            .split_once("last=")
            .map_or("", |(_, last)| last);
        let rest: Vec<&str> = all
            .iter()
            .map(String::as_str)
            .filter(|tag| *tag > last)
            .collect();
        page(&rest[..rest.len().min(1000)], None)
    });
    assert_eq!(client().tags(&plain(&silent), "app").await.unwrap(), names);
    assert_eq!(silent.seen().len(), 3);
    // Knows no pages at all.
    let all = names.clone();
    let whole =
        Faulty::alone(move |_| page(&all.iter().map(String::as_str).collect::<Vec<_>>(), None));
    assert_eq!(client().tags(&plain(&whole), "app").await.unwrap(), names);
    // Goes in a circle.
    let circle = Faulty::alone(|_| page(&["a"], Some("</v2/app/tags/list?x=1>; rel=next")));
    let error = client().tags(&plain(&circle), "app").await.unwrap_err();
    assert!(error.to_string().contains("in a circle"), "{error}");
    // Leads away.
    let away = Faulty::alone(|_| page(&["a"], Some("<http://127.0.0.2:1/x>; rel=next")));
    let error = client().tags(&plain(&away), "app").await.unwrap_err();
    assert!(error.to_string().contains("on another host"), "{error}");
    // Vanishes half way: that is not a short list.
    let gone = Faulty::alone(|request| match request.path.contains("x=1") {
        true => Reply::status(404),
        false => page(&["a"], Some("</v2/app/tags/list?x=1>; rel=next")),
    });
    let error = client().tags(&plain(&gone), "app").await.unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
}

#[tokio::test]
async fn only_the_registry_says_what_is_absent() {
    let storage = Faulty::alone(|_| Reply::status(404));
    let away = format!("http://{}/bucket/blob", storage.address());
    let server =
        Faulty::alone(move |_| Reply::Answer(307, vec![("Location", away.clone())], String::new()));
    let read = client()
        .blob(&plain(&server), "app", &Digest::of(b"x"))
        .await;
    let error = read.unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");
    assert_eq!(storage.seen().len(), 1);
}
