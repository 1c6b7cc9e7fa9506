//! Caches and files in a bucket when things go wrong: bad weather on the wire, a process that is
//! cancelled or dies, and archives that nobody honest made.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pipewright::adapters::aws::Clouds;
use pipewright::adapters::backoff::Backoff;
use pipewright::adapters::http::Http;
use pipewright::adapters::sim::Fault;
use pipewright::base::{Digest, LateSecrets};
use pipewright::ports::bucket::{BucketError, BucketReader as _, Buckets as _};
use pipewright::ports::cloud::ObjectPlace;
use pipewright::ports::{Retry, Silent};
use tokio_util::sync::CancellationToken;

use super::buckets::{COUNT, HAND_ON, Project, noise, notes};
use super::objects::put;
use super::shapes::wire;
use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::flow::{Flow, options};
use crate::support::moto::{Moto, REGION, account as account_of, clouds, exchange};

/// Uploads that were begun and neither finished nor given up.
fn open_uploads(moto: SocketAddr) -> usize {
    let credential = format!("AKIATEST/20260101/{REGION}/s3/aws4_request");
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
    let headers = [("Authorization", authorization.as_str())];
    let (status, answer) = exchange(moto, "GET", "/kept?uploads", &headers, b"");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(status, 200, "{answer}");
    answer.matches("<Upload>").count()
}

/// Does to some requests what happens to them, before they are made or after; counts uploads that
/// were begun without anybody hearing of it.
fn nuisance(moto: SocketAddr, seed: u64, unheard: Arc<AtomicUsize>) -> Faulty {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut hangs = 1;
    Faulty::before(moto, move |request| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let slow_down = "<Error><Code>SlowDown</Code><Message>less</Message></Error>";
        let call = wire(request);
        // The others send and fetch much, for which much time is left.
        let small = request.body.is_empty() && call != "s3:GetObject";
        match state / 8 % 14 {
            0 => Reply::status(500),
            1 => Reply::Answer(503, Vec::new(), slow_down.to_owned()),
            2 => Reply::Answer(429, Vec::new(), "<html>no</html>".to_owned()),
            3 => Reply::Reset,
            4 if small && hangs > 0 => {
                hangs -= 1;
                Reply::Hang
            }
            // What is made, and the answer does not come through.
            5 => {
                if call == "s3:CreateMultipartUpload" {
                    unheard.fetch_add(1, Ordering::Relaxed);
                }
                Reply::Cut(30)
            }
            // An answer of the right status without any sense.
            6 if matches!(request.method.as_str(), "POST") || call == "s3:ListObjectsV2" => {
                Reply::Answer(200, Vec::new(), "<html>".to_owned())
            }
            _ => Reply::Pass,
        }
    })
}

/// Like the tests' other accounts, but soon tired of a service that says nothing.
fn impatient() -> Clouds {
    let backoff = Backoff {
        tries: 8,
        base: Duration::from_millis(1),
        cap: Duration::from_millis(5),
        total: Duration::from_secs(30),
    };
    let patience = Duration::from_millis(700);
    Clouds::with_limits(Http::new(), LateSecrets::default(), backoff, patience)
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_weather_leaves_whole_objects_or_none() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let dir = tempfile::tempdir().expect("a directory");
    let unheard = Arc::new(AtomicUsize::new(0));
    let (mut met, mut stored, mut failed, mut lost) = (0, 0, 0, 0);
    for seed in 1..=24_u64 {
        let server = nuisance(moto.address(), seed, unheard.clone());
        let account = account_of(&format!("http://{}", server.address()), dir.path());
        let clouds = impatient();
        let cancel = CancellationToken::new();
        let size = if seed % 3 == 0 { (9 << 20) + 1 } else { 1000 };
        let mut bytes = noise(size);
        bytes[0] = seed as u8;
        let place: ObjectPlace = format!("s3://kept/a/{seed}").parse().expect("a place");
        let file = dir.path().join("source");
        std::fs::write(&file, &bytes).expect("write");
        let notes = notes(&bytes);
        let put = clouds.store(&account, &place, &file, &notes, &Silent, &cancel);
        match put.await {
            Ok(()) => stored += 1,
            // Whatever it is, the next run may do better.
            Err(error) => {
                failed += 1;
                assert!(matches!(error, BucketError::Cloud(_)), "{seed}: {error}");
            }
        }
        met += server.seen().len() - server.passed().len();
        // With the sky clear it is there as a whole, or not at all.
        let account = account_of(&moto.url(), dir.path());
        let found = clouds.find(&account, &place).await.expect("asked");
        if let Some(object) = found {
            assert_eq!(
                (object.size, &object.notes),
                (size as u64, &notes),
                "{seed}"
            );
            // And comes back through the same weather.
            let server = nuisance(moto.address(), seed + 100, unheard.clone());
            let account = account_of(&format!("http://{}", server.address()), dir.path());
            let into = dir.path().join(format!("target-{seed}"));
            let wanted = Digest::of(&bytes);
            let fetched = clouds
                .fetch(&account, &object, &wanted, &into, &Silent, &cancel)
                .await;
            match fetched {
                Ok(()) => assert!(
                    std::fs::read(&into).expect("it is there") == bytes,
                    "{seed}"
                ),
                Err(error) => assert!(matches!(error, BucketError::Cloud(_)), "{seed}: {error}"),
            }
            let prefix: ObjectPlace = "s3://kept/a/".parse().expect("a place");
            // A list is whole, or an error: one that makes no sense is no empty one.
            match clouds.list(&account, &prefix, 100).await {
                Ok(listed) => {
                    let there = listed.iter().any(|one| one.place == place);
                    assert!(there, "{seed}: {listed:?}");
                }
                Err(error) => {
                    lost += 1;
                    let again = matches!(error.retry(), Retry::After(_));
                    assert!(again, "{seed}: {error}");
                }
            }
        }
    }
    assert!(met > 20, "the weather was fine: {met}");
    assert!(lost < 6, "{lost} lists were lost");
    assert!(stored > 15, "{stored} were stored, {failed} not");
    let unheard = unheard.load(Ordering::Relaxed);
    let left = open_uploads(moto.address());
    assert!(
        left <= unheard + failed,
        "{left} uploads are left, {unheard} nobody heard of"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_cancels_an_upload_leaves_nothing() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let server = Faulty::before(moto.address(), |request| {
        match request.path.contains("partNumber=2") {
            true => Reply::Hang,
            false => Reply::Pass,
        }
    });
    let dir = tempfile::tempdir().expect("a directory");
    let account = account_of(&format!("http://{}", server.address()), dir.path());
    let file = dir.path().join("source");
    std::fs::write(&file, noise(20 << 20)).expect("write");
    let place: ObjectPlace = "s3://kept/large".parse().expect("a place");
    let (clouds, cancel) = (clouds(&LateSecrets::default()), CancellationToken::new());
    let nothing = BTreeMap::new();
    let storing = clouds.store(&account, &place, &file, &nothing, &Silent, &cancel);
    let cancelling = async {
        while !server
            .seen()
            .iter()
            .any(|one| one.path.contains("partNumber=2"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(open_uploads(moto.address()), 1, "it is on its way");
        cancel.cancel();
    };
    let (stored, ()) = tokio::join!(storing, cancelling);
    assert!(matches!(stored, Err(BucketError::Cancelled)), "{stored:?}");
    assert_eq!(open_uploads(moto.address()), 0);
    let found = clouds.find(&account, &place).await;
    assert_eq!(found.expect("asked"), None);
}

/// The key of the only object below a prefix.
fn only_key(moto: &Moto, prefix: &str) -> String {
    let path = format!("/kept?list-type=2&prefix={prefix}");
    let listed = exchange(moto.address(), "GET", &path, &[], b"").1;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let keys: Vec<&str> = listed.split("<Key>").skip(1).collect();
    assert_eq!(keys.len(), 1, "{listed}");
    keys[0].split('<').next().unwrap_or_default().to_owned()
}

/// One entry of an archive, as somebody who means harm writes it.
fn entry(name: &str, kind: u8, link: &str, body: &[u8]) -> Vec<u8> {
    let mut head = [0_u8; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..108].copy_from_slice(b"0000644\0");
    let size = format!("{:011o}\0", body.len());
    head[124..136].copy_from_slice(size.as_bytes());
    head[136..148].copy_from_slice(b"00000000000\0");
    head[148..156].copy_from_slice(b"        ");
    head[156] = kind;
    head[157..157 + link.len()].copy_from_slice(link.as_bytes());
    head[257..263].copy_from_slice(b"ustar\0");
    head[263..265].copy_from_slice(b"00");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut whole = head.to_vec();
    whole.extend_from_slice(body);
    whole.resize(whole.len().div_ceil(512) * 512, 0);
    whole
}

/// An archive of entries, as it is kept.
fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut plain = entries.concat();
    plain.extend_from_slice(&[0; 1024]);
    zstd::bulk::compress(&plain, 3).expect("it is compressed")
}

#[test]
fn an_archive_that_nobody_honest_made_is_not_used() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let project = Project::new(&moto.url(), COUNT);
    let path = project.program.repo.path().join("pipelines/p.kdl");
    let text = std::fs::read_to_string(&path).expect("read");
    let small = text.replace(
        "bucket ci \"s3://kept/pipewright\" aws=store",
        "bucket ci \"s3://kept/pipewright\" aws=store { largest \"1MiB\" }",
    );
    project
        .program
        .repo
        .commit("small", &[("pipelines/p.kdl", &small)]);
    project.run("one", 0);
    let key = only_key(&moto, "pipewright/");
    let outside = project.program.outside().join("evil");
    let evil = outside.to_str().expect("a path in UTF-8").to_owned();
    let file = |name: &str| entry(name, b'0', "", b"evil");
    let good = file("kept");
    let cut = {
        let whole = archive(&[entry("big", b'0', "", &noise(100_000))]);
        whole[..whole.len() / 2].to_vec()
    };
    let hostile = [
        ("above", archive(&[file("../../../../evil")])),
        ("absolute", archive(&[file(&evil)])),
        ("link-out", archive(&[entry("away", b'2', "/etc", b"")])),
        (
            "through-link",
            archive(&[entry("away", b'2', "..", b""), file("away/evil")]),
        ),
        (
            "hard-link",
            archive(&[entry("same", b'1', "/etc/passwd", b"")]),
        ),
        ("device", archive(&[entry("null", b'3', "", b"")])),
        ("twice", archive(&[good.clone(), good])),
        (
            "bomb",
            archive(&[entry("zeros", b'0', "", &vec![0; 2 << 20])]),
        ),
        ("cut", cut),
        ("no-archive", b"not at all".to_vec()),
    ];
    for (name, bytes) in hostile {
        let credential = format!("AKIATEST/20260101/{REGION}/s3/aws4_request");
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
        // It says of itself what is true.
        let digest = Digest::of(&bytes).to_string();
        let headers = [
            ("Authorization", authorization.as_str()),
            ("x-amz-meta-sha256", digest.as_str()),
            ("x-amz-meta-content", digest.as_str()),
        ];
        let at = format!("/kept/{key}");
        let (status, _) = exchange(moto.address(), "PUT", &at, &headers, &bytes);
        assert_eq!(status, 200);
        let out = project.run(name, 0);
        assert!(
            out.contains("was not fetched") && out.contains("is not used"),
            "{name}: {out}"
        );
        assert!(
            out.contains("nothing"),
            "the stage began with an empty cache: {name}: {out}"
        );
        assert!(!outside.exists(), "{name}");
        assert!(!Path::new("/evil").exists(), "{name}");
    }
    // One that is as it should be is used, so that it is not the way of putting it there.
    let bytes = archive(&[entry("good", b'0', "", b"from a friend\n")]);
    let digest = Digest::of(&bytes).to_string();
    let credential = format!("AKIATEST/20260101/{REGION}/s3/aws4_request");
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("x-amz-meta-sha256", digest.as_str()),
    ];
    exchange(
        moto.address(),
        "PUT",
        &format!("/kept/{key}"),
        &headers,
        &bytes,
    );
    let out = project.run("friend", 0);
    assert!(out.contains("from a friend"), "{out}");
}

/// With the least policy S3 denies what is not there, instead of saying so.
#[test]
fn a_cache_is_stored_by_whoever_may_list_only_below_the_prefix() {
    let moto = Moto::start();
    put(&moto, "/kept", b"");
    let api = moto.address();
    let server = Faulty::before(api, move |request: &Request| {
        if wire(request) != "s3:GetObject" {
            return Reply::Pass;
        }
        match exchange(api, "GET", &request.path, &[], b"").0 {
            404 => Reply::Answer(
                403,
                Vec::new(),
                "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
                    .to_owned(),
            ),
            _ => Reply::Pass,
        }
    });
    let stages = format!("{COUNT}\n{}", HAND_ON.replace("; test -e ../../../go", ""));
    let project = Project::new(&format!("http://{}", server.address()), &stages);
    let out = project.run("one", 0);
    assert!(
        out.contains("cache counts stored") && !out.contains("AccessDenied"),
        "{out}"
    );
    assert!(out.contains("at s3://kept/pipewright/files/ci/"), "{out}");
    let out = project.run("two", 0);
    assert!(out.contains("cache counts came from"), "{out}");
}

const KEEPS: &str = r#"
aws store region=us-east-1
bucket ci "s3://kept/pipewright" aws=store
pipeline p {
    run make {
        cache "kept" bucket=ci
        script "echo made > dist/thing"
        produces "dist" bucket=ci
    }
    run take { uses run.make; script "cat dist/thing" }
}
"#;

#[tokio::test(start_paused = true)]
async fn a_death_around_any_step_is_made_good() {
    let mut patterns = vec![
        "buckets.list *".to_owned(),
        "buckets.store *files/*".to_owned(),
    ];
    for kind in ["stage-started", "stage-finished"] {
        patterns.push(format!(
            "store.append *\"type\":\"{kind}\",\"stage\":\"run.make\"*"
        ));
    }
    for pattern in patterns {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let when = format!("{fault:?} at {pattern}");
            let flow = Flow::of(KEEPS, options());
            flow.sim.bucket("kept");
            flow.sim.on(&pattern, fault);
            let life = flow.life();
            let run = flow.create(&life, "p").await;
            tokio::select! {
                biased;
                () = flow.sim.crashed() => {}
                ended = flow.go(&life, &run) => {
                    assert!(flow.sim.is_crashed(), "nothing happened: {when}: {ended:?}");
                }
            }
            flow.sim.restart();
            let life = flow.life();
            flow.go(&life, &run)
                .await
                .expect("the run comes to its end");
            life.end().await;
            flow.expect(&run, "run.make succeeded\nrun.take succeeded\n= succeeded");
            let objects = flow.sim.objects();
            let files = objects.iter().filter(|one| one.contains("/files/p/"));
            assert_eq!(files.count(), 1, "{when}: {objects:?}");
        }
    }
}
