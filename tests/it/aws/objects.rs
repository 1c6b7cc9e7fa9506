//! Objects of buckets: read through moto, and from a server that does as it is told.

use std::collections::HashMap;

use pipewright::base::LateSecrets;
use pipewright::ports::cloud::{CloudError, CloudReader as _, ObjectPlace};

use super::ecr::sts;
use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::moto::{ACCOUNT, Moto, REGION, account, clouds, exchange};

const LIMIT: u64 = 1 << 20;

fn place(text: &str) -> ObjectPlace {
    text.parse().expect("an object's address")
}

/// Puts something into moto's S3.
pub(super) fn put(moto: &Moto, path: &str, body: &[u8]) {
    let credential = format!("AKIATEST/20260101/{REGION}/s3/aws4_request");
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
    let headers = [("Authorization", authorization.as_str())];
    let (status, answer) = exchange(moto.address(), "PUT", path, &headers, body);
    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&answer));
}

/// Reads an object at an endpoint.
async fn read(endpoint: &str, object: &str, limit: u64) -> Result<Option<Vec<u8>>, CloudError> {
    let dir = tempfile::tempdir().expect("a directory");
    let account = account(endpoint, dir.path());
    let clouds = clouds(&LateSecrets::default());
    clouds.object(&account, &place(object), limit).await
}

/// Those of the requests that are for an object.
fn gets(server: &Faulty) -> Vec<Request> {
    let seen = server.seen().into_iter();
    seen.filter(|request| request.method == "GET").collect()
}

fn no(status: u16, code: &str, more: &str) -> Reply {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>no, for a \
         reason</Message>{more}<RequestId>4711</RequestId></Error>"
    );
    Reply::Answer(
        status,
        vec![("Content-Type", "application/xml".to_owned())],
        body,
    )
}

/// A server that answers each read of an object as a test says, counted from 1.
fn bucket(mut script: impl FnMut(usize, &Request) -> Reply + Send + 'static) -> Faulty {
    let mut count = 0;
    Faulty::alone(move |request| {
        if request.method == "GET" {
            count += 1;
            return script(count, request);
        }
        let body = String::from_utf8_lossy(&request.body).into_owned();
        if body.contains("GetCallerIdentity") {
            let body = format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::{ACCOUNT}:assumed-role/ci/x</Arn>\
                 <Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            );
            return Reply::Answer(200, Vec::new(), body);
        }
        sts()
    })
}

fn content(text: &str) -> Reply {
    Reply::Answer(200, Vec::new(), text.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_by_path_from_any_endpoint() {
    let moto = Moto::start();
    let server = Faulty::before(moto.address(), |_| Reply::Pass);
    let endpoint = format!("http://{}", server.address());
    put(&moto, "/tasks.example.com", b"");
    let odd = "team a/task+definition (1) é&=.json";
    let escaped = "team%20a/task%2Bdefinition%20%281%29%20%C3%A9%26%3D.json";
    put(
        &moto,
        &format!("/tasks.example.com/{escaped}"),
        b"{\"family\":\"shop\"}",
    );
    put(&moto, "/tasks.example.com/empty", b"");
    let object = |key: &str| format!("s3://tasks.example.com/{key}");

    let there = read(&endpoint, &object(odd), LIMIT).await;
    assert_eq!(
        there.expect("it can be read").expect("it is there"),
        b"{\"family\":\"shop\"}"
    );
    let empty = read(&endpoint, &object("empty"), LIMIT).await;
    assert_eq!(empty.expect("it can be read"), Some(Vec::new()));
    let absent = read(&endpoint, &object("absent"), LIMIT).await;
    assert_eq!(absent.expect("an answer"), None);
    let whole = read(&endpoint, &object(odd), 17).await;
    assert!(whole.expect("it fits").is_some());
    let error = read(&endpoint, &object(odd), 16).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("aws `prod`: {} is larger than 16 B", object(odd))
    );
    let error = read(&endpoint, "s3://nowhere/x", LIMIT).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("refused s3:GetObject: NoSuchBucket") && text.contains("s3://nowhere/x"),
        "{text}"
    );

    let asked = &gets(&server)[0];
    assert_eq!(asked.path, format!("/tasks.example.com/{escaped}"));
    let header = |name: &str| asked.header(name).unwrap_or_else(|| panic!("no {name}"));
    let signed = header("authorization");
    assert!(
        signed.contains(&format!("/{REGION}/s3/aws4_request"))
            && signed.contains("host;x-amz-content-sha256;x-amz-date;x-amz-security-token"),
        "{signed}"
    );
    let nothing = pipewright::base::Digest::of(b"");
    let nothing = nothing.as_str().trim_start_matches("sha256:");
    assert_eq!(header("x-amz-content-sha256"), nothing);
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_passes_is_sat_out() {
    let throttled =
        "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    for trouble in [
        Reply::status(500),
        Reply::Answer(502, Vec::new(), "<html>sorry</html>".to_owned()),
        Reply::Answer(503, Vec::new(), throttled.to_owned()),
        Reply::status(504),
        Reply::Answer(429, vec![("Retry-After", "0".to_owned())], String::new()),
        no(400, "RequestTimeout", ""),
        Reply::Reset,
    ] {
        let reply = trouble.clone();
        let server = bucket(move |count, _| match count {
            1 | 2 => reply.clone(),
            _ => content("here it is"),
        });
        let endpoint = format!("http://{}", server.address());
        let object = read(&endpoint, "s3://tasks/a", LIMIT).await;
        let object = object.unwrap_or_else(|error| panic!("{trouble:?}: {error}"));
        assert_eq!(object.as_deref(), Some(&b"here it is"[..]), "{trouble:?}");
    }
    // What stays is an error in the end, and no absence.
    for (trouble, asked) in [
        (Reply::status(500), 8),
        (no(503, "SlowDown", ""), 8),
        (Reply::status(404), 1),
        (Reply::Answer(404, Vec::new(), "<html>".to_owned()), 1),
        (no(403, "InvalidObjectState", ""), 1),
    ] {
        let reply = trouble.clone();
        let server = bucket(move |_, _| reply.clone());
        let endpoint = format!("http://{}", server.address());
        let error = read(&endpoint, "s3://tasks/a", LIMIT).await;
        let error = error.expect_err(&format!("{trouble:?}"));
        assert_eq!(gets(&server).len(), asked, "{trouble:?}: {error}");
        assert!(error.to_string().contains("s3:GetObject"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_an_object_is_none() {
    let moto = Moto::start();
    put(&moto, "/tasks", b"");
    put(&moto, "/tasks/a", &[b'x'; 4000]);
    let mut cuts = HashMap::new();
    let server = Faulty::before(moto.address(), move |request| {
        let count = cuts.entry(request.path.clone()).or_insert(0);
        *count += 1;
        match (request.method.as_str(), *count) {
            ("GET", 1) => Reply::Cut(2000),
            _ => Reply::Pass,
        }
    });
    let endpoint = format!("http://{}", server.address());
    let object = read(&endpoint, "s3://tasks/a", LIMIT).await;
    let object = object.expect("it can be read").expect("it is there");
    assert_eq!((object.len(), gets(&server).len()), (4000, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_another_region_is_read_there() {
    let moved = |region: &str| {
        let Reply::Answer(status, mut headers, body) = no(301, "PermanentRedirect", "") else {
            unreachable!("it is an answer");
        };
        headers.push(("x-amz-bucket-region", region.to_owned()));
        // Never followed: the region is the service's word, the address is ours.
        headers.push(("Location", "http://127.0.0.1:9/elsewhere".to_owned()));
        Reply::Answer(status, headers, body)
    };
    for first in [
        moved("eu-west-1"),
        no(
            400,
            "AuthorizationHeaderMalformed",
            "<Region>eu-west-1</Region>",
        ),
    ] {
        let reply = first.clone();
        let server = bucket(move |_, request| {
            let signed = request.header("authorization").unwrap_or("");
            if signed.contains("/eu-west-1/s3/") {
                content("over here")
            } else {
                reply.clone()
            }
        });
        let endpoint = format!("http://{}", server.address());
        let object = read(&endpoint, "s3://tasks/a", LIMIT).await;
        let object = object.unwrap_or_else(|error| panic!("{first:?}: {error}"));
        assert_eq!(object.as_deref(), Some(&b"over here"[..]));
        assert_eq!(gets(&server).len(), 2);
    }
    // A server that sends us from region to region is left.
    let server = bucket(move |count, _| moved(&format!("eu-west-{count}")));
    let endpoint = format!("http://{}", server.address());
    let error = read(&endpoint, "s3://tasks/a", LIMIT).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("declare an account with `region=eu-west-2`"),
        "{text}"
    );
    assert_eq!(gets(&server).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_says_what_it_may_mean() {
    let server = bucket(|_, _| no(403, "AccessDenied", ""));
    let endpoint = format!("http://{}", server.address());
    let error = read(&endpoint, "s3://tasks/a", LIMIT).await.unwrap_err();
    assert!(matches!(error, CloudError::Denied { .. }), "{error:?}");
    let text = error.to_string();
    for part in [
        "denied s3:GetObject: no, for a reason",
        &format!("we are arn:aws:sts::{ACCOUNT}:assumed-role/ci/x in account {ACCOUNT}"),
        "asked for s3:GetObject on s3://tasks/a",
        "(s3:ListBucket)",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(gets(&server).len(), 1, "a denial is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_ran_out_are_renewed_once() {
    let server = bucket(|count, _| match count {
        1 => no(400, "ExpiredToken", ""),
        _ => content("let in"),
    });
    let endpoint = format!("http://{}", server.address());
    let object = read(&endpoint, "s3://tasks/a", LIMIT).await;
    assert_eq!(
        object.expect("it can be read").as_deref(),
        Some(&b"let in"[..])
    );
    let server = bucket(|_, _| no(403, "InvalidAccessKeyId", ""));
    let endpoint = format!("http://{}", server.address());
    read(&endpoint, "s3://tasks/a", LIMIT).await.unwrap_err();
    assert_eq!(gets(&server).len(), 2);
}
