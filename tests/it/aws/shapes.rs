//! The shape of every request our code makes, against moto. A table names the calls; it is held
//! against the source, so that no call comes without a row, and against what moto got, so that no
//! row goes without a call. What moto does not have is named with its own answer, and the request
//! is checked by the fake of the tests instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::calls::{drive, prepare};
use crate::support::fake_ecs::FakeEcs;
use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::files::{below, root};
use crate::support::moto::{Moto, exchange};

/// A call: the file it is made in, the name it has there, and what it is on the wire.
pub(super) type Row = (&'static str, &'static str, &'static str);

/// Every call. What a file of the adapter names more than once it names for the same call.
const CALLS: &[Row] = &[
    ("credentials.rs", "AssumeRole", "sts:AssumeRole"),
    (
        "credentials.rs",
        "AssumeRoleWithWebIdentity",
        "sts:AssumeRoleWithWebIdentity",
    ),
    (
        "credentials.rs",
        "GetCallerIdentity",
        "sts:GetCallerIdentity",
    ),
    ("ecr.rs", "BatchGetImage", "ecr:BatchGetImage"),
    ("ecr.rs", "CreateRepository", "ecr:CreateRepository"),
    ("ecr.rs", "CreateRepository", "ecr-public:CreateRepository"),
    (
        "ecr.rs",
        "GetAuthorizationToken",
        "ecr:GetAuthorizationToken",
    ),
    (
        "ecr.rs",
        "GetAuthorizationToken",
        "ecr-public:GetAuthorizationToken",
    ),
    ("ecr.rs", "PutImage", "ecr:PutImage"),
    ("s3.rs", "GetObject", "s3:GetObject"),
    ("bucket/mod.rs", "ListBucket", "s3:ListObjectsV2"),
    ("bucket/store.rs", "PutObject", "s3:PutObject"),
    ("bucket/store.rs", "PutObject", "s3:CreateMultipartUpload"),
    ("bucket/store.rs", "PutObject", "s3:UploadPart"),
    ("bucket/store.rs", "PutObject", "s3:CompleteMultipartUpload"),
    (
        "bucket/store.rs",
        "AbortMultipartUpload",
        "s3:AbortMultipartUpload",
    ),
    ("bucket/fetch.rs", "GetObject", "s3:GetObject"),
    (
        "secrets.rs",
        "GetSecretValue",
        "secretsmanager:GetSecretValue",
    ),
    ("secrets.rs", "GetParameter", "ssm:GetParameter"),
    (
        "services/codedeploy.rs",
        "CreateDeployment",
        "codedeploy:CreateDeployment",
    ),
    (
        "services/codedeploy.rs",
        "GetDeployment",
        "codedeploy:GetDeployment",
    ),
    (
        "services/codedeploy.rs",
        "ListDeployments",
        "codedeploy:ListDeployments",
    ),
    (
        "services/ecs.rs",
        "DescribeServices",
        "ecs:DescribeServices",
    ),
    (
        "services/ecs.rs",
        "DescribeTaskDefinition",
        "ecs:DescribeTaskDefinition",
    ),
    (
        "services/ecs.rs",
        "RegisterTaskDefinition",
        "ecs:RegisterTaskDefinition",
    ),
    ("services/ecs.rs", "UpdateService", "ecs:UpdateService"),
    (
        "services/ecs.rs",
        "ListServiceDeployments",
        "ecs:ListServiceDeployments",
    ),
    (
        "services/ecs.rs",
        "DescribeServiceDeployments",
        "ecs:DescribeServiceDeployments",
    ),
    (
        "services/ecs.rs",
        "DescribeServiceRevisions",
        "ecs:DescribeServiceRevisions",
    ),
    ("services/ecs.rs", "DescribeTasks", "ecs:DescribeTasks"),
    ("services/ecs.rs", "ListTasks", "ecs:ListTasks"),
    ("services/ecs.rs", "RunTask", "ecs:RunTask"),
    ("services/ecs.rs", "StopTask", "ecs:StopTask"),
    (
        "services/events.rs",
        "ListTargetsByRule",
        "events:ListTargetsByRule",
    ),
    ("services/events.rs", "PutTargets", "events:PutTargets"),
    (
        "services/exists.rs",
        "DescribeClusters",
        "ecs:DescribeClusters",
    ),
    ("services/exists.rs", "GetRole", "iam:GetRole"),
    (
        "services/exists.rs",
        "DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetGroups",
    ),
    (
        "services/exists.rs",
        "DescribeSecret",
        "secretsmanager:DescribeSecret",
    ),
    ("services/exists.rs", "GetParameters", "ssm:GetParameters"),
    (
        "services/exists.rs",
        "DescribeLogGroups",
        "logs:DescribeLogGroups",
    ),
    ("services/logs.rs", "GetLogEvents", "logs:GetLogEvents"),
];

/// What moto does not have, why, and what it prints when it is asked: its answer is that it broke.
const LACKS: &[(&str, &str, &str)] = &[
    (
        "ecs:ListServiceDeployments",
        "moto keeps no record of service deployments",
        "The list_service_deployments action has not been implemented",
    ),
    (
        "ecs:DescribeServiceDeployments",
        "moto keeps no record of service deployments",
        "The describe_service_deployments action has not been implemented",
    ),
    (
        "ecs:DescribeServiceRevisions",
        "moto keeps no revisions of services",
        "The describe_service_revisions action has not been implemented",
    ),
    (
        "ecr-public:GetAuthorizationToken",
        "moto has no public registry",
        UNKNOWN_SERVICE,
    ),
    (
        "ecr-public:CreateRepository",
        "moto has no public registry",
        UNKNOWN_SERVICE,
    ),
];

/// What moto prints of a service whose name it does not know.
const UNKNOWN_SERVICE: &str = "AttributeError: 'NoneType' object has no attribute 'replace'";

/// What names of calls begin with.
const VERBS: &[&str] = &[
    "Abort",
    "Add",
    "Assume",
    "Attach",
    "Batch",
    "Cancel",
    "Complete",
    "Copy",
    "Create",
    "Delete",
    "Deregister",
    "Describe",
    "Detach",
    "Disable",
    "Enable",
    "Execute",
    "Filter",
    "Get",
    "Head",
    "Initiate",
    "Invoke",
    "List",
    "Modify",
    "Publish",
    "Put",
    "Query",
    "Register",
    "Remove",
    "Replace",
    "Reset",
    "Restore",
    "Run",
    "Scan",
    "Send",
    "Set",
    "Start",
    "Stop",
    "Submit",
    "Tag",
    "Terminate",
    "Untag",
    "Update",
    "Upload",
];

/// What begins like the name of a call and is none: a field, and an action that is only talked of.
const OTHERS: &[&str] = &["TagSession", "UploadId"];

/// The code of a file: without its tests and comments.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let lines = code.lines().map(str::trim);
    let lines = lines.filter(|line| !line.starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Literals that are a verb and what it is done to, as calls are named.
fn names(code: &str) -> BTreeSet<String> {
    let literals = code.split('"').skip(1).step_by(2);
    let names = literals.map(|text| text.rsplit(':').next().unwrap_or(text));
    let is_name = |name: &&str| {
        let object = VERBS.iter().find_map(|verb| name.strip_prefix(verb));
        object.is_some_and(|object| {
            object.starts_with(|first: char| first.is_ascii_uppercase())
                && object.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }) && !OTHERS.contains(name)
    };
    names.filter(is_name).map(str::to_owned).collect()
}

fn count(code: &str, what: &str) -> usize {
    code.matches(what).count()
}

#[test]
fn every_call_of_the_source_has_a_row() {
    let directory = root().join("src/adapters/aws");
    let mut sites: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for path in below(&directory, "rs") {
        let name = path.strip_prefix(&directory).expect("a path below it");
        let name = name.display().to_string();
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let code = code(&text);
        // Calls of the SDK end in `send()`, typed ones of ECR are made by one macro.
        let sends = count(&code, ".send()") + count(&code, "typed!(self");
        let of_s3 = count(&code, "Ask::get(") + count(&code, "Ask::new(");
        let of_s3 = if name.starts_with("services") {
            0
        } else {
            of_s3
        };
        if name == "call.rs" {
            // How calls are made, not which.
            assert_eq!((sends, of_s3), (0, 0), "{name}");
        }
        sites.insert(name.clone(), (sends, of_s3));
        found.extend(names(&code).into_iter().map(|call| (name.clone(), call)));
    }
    let rows: BTreeSet<(String, String)> = CALLS
        .iter()
        .map(|(file, name, _)| ((*file).to_owned(), (*name).to_owned()))
        .collect();
    assert_eq!(found, rows, "left: the source, right: the table");
    // One name may be several calls: so many places make one.
    let rows = |file: &str, service: &str| {
        let of = CALLS.iter().filter(|(there, _, _)| *there == file);
        of.filter(|(_, _, wire)| wire.starts_with(service)).count()
    };
    for (file, (sends, of_s3)) in sites {
        let sdk = match file.as_str() {
            "credentials.rs" => rows(&file, "sts:"),
            // The macro itself sends, once.
            "ecr.rs" => rows(&file, "ecr:") + 1,
            _ => 0,
        };
        assert_eq!(sends, sdk, "calls of the SDK in {file}");
        // `find` asks for an object too, in the words of `s3.rs`.
        let words = usize::from(file == "bucket/mod.rs");
        assert_eq!(
            of_s3,
            rows(&file, "s3:") + words,
            "questions to S3 in {file}"
        );
    }
    // Nobody else talks to AWS, and no other client of the SDK is at hand.
    let elsewhere: Vec<_> = below(&root().join("src"), "rs")
        .into_iter()
        .filter(|path| !path.starts_with(&directory))
        .filter(|path| {
            let text = std::fs::read_to_string(path).expect("a readable file");
            text.contains("aws_sdk_") || text.contains("aws_sigv4")
        })
        .collect();
    assert_eq!(elsewhere, Vec::<std::path::PathBuf>::new());
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let clients: Vec<&str> = manifest
        .lines()
        .filter(|line| line.starts_with("aws-sdk-"))
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(clients, ["aws-sdk-ecr", "aws-sdk-sts"]);
}

/// What a request is, by its signature, target, form or address.
pub(super) fn wire(request: &Request) -> String {
    let signed = request.header("authorization").unwrap_or("");
    let scope = signed.split('/').nth(3);
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let action = body.strip_prefix("Action=");
    let action = action.map(|rest| rest.split('&').next().unwrap_or(rest).to_owned());
    if let Some(target) = request.header("x-amz-target") {
        let action = target.rsplit('.').next().unwrap_or(target);
        return format!("{}:{action}", scope.unwrap_or("unsigned"));
    }
    if let Some(action) = action {
        return format!("{}:{action}", scope.unwrap_or("sts"));
    }
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    let has = |name: &str| query.split('&').any(|part| part.starts_with(name));
    let action = match request.method.as_str() {
        "GET" if has("list-type=2") => "ListObjectsV2",
        "GET" => "GetObject",
        "PUT" if has("partNumber=") => "UploadPart",
        "PUT" => "PutObject",
        "POST" if has("uploads=") => "CreateMultipartUpload",
        "POST" if has("uploadId=") => "CompleteMultipartUpload",
        "DELETE" if has("uploadId=") => "AbortMultipartUpload",
        other => other,
    };
    format!("{}:{action}", scope.unwrap_or("unsigned"))
}

/// What stands in for moto where it lacks a call.
fn stand_in(fake: &FakeEcs, call: &str, request: &Request) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let answer = match call {
        "ecr-public:GetAuthorizationToken" => {
            // Page "GetAuthorizationToken" of the Amazon ECR Public API reference.
            assert_eq!(body, json!({}));
            json!({ "authorizationData": { "authorizationToken": "QVdTOnB1YmxpYw==", "expiresAt": 4_000_000_000.5 } })
        }
        "ecr-public:CreateRepository" => {
            assert_eq!(body, json!({ "repositoryName": "app" }));
            json!({ "repository": {} })
        }
        _ => {
            let (status, body) = fake.over_http(request);
            return Reply::Answer(status, Vec::new(), body);
        }
    };
    let target = request.header("x-amz-target").unwrap_or_default();
    assert!(target.starts_with("SpencerFrontendService."), "{target}");
    Reply::Answer(200, Vec::new(), answer.to_string())
}

/// What moto says by itself to a request.
fn asked(moto: std::net::SocketAddr, request: &Request) -> (u16, String) {
    let headers = request
        .headers
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "host" | "connection" | "content-length"));
    let headers: Vec<(&str, &str)> = headers
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let (status, body) = exchange(
        moto,
        &request.method,
        &request.path,
        &headers,
        &request.body,
    );
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_understands_every_call() {
    let moto = Moto::start();
    let fake = prepare(&moto).await;
    let lacking: Arc<Mutex<BTreeMap<String, (u16, String)>>> = Arc::default();
    let noted = lacking.clone();
    let api = moto.address();
    let stood = fake.clone();
    let server = Faulty::before(api, move |request| {
        let call = wire(request);
        // The second part of this object is turned down, so that its upload is given up.
        if request.path.starts_with("/kept/broken") && request.path.contains("partNumber=2") {
            return Reply::Answer(
                403,
                Vec::new(),
                "<Error><Code>AccessDenied</Code></Error>".to_owned(),
            );
        }
        if !LACKS.iter().any(|(lacks, _, _)| *lacks == call) {
            return Reply::Pass;
        }
        let said = asked(api, request);
        let mut noted = noted.lock().expect("no panic");
        noted.insert(call.clone(), said);
        stand_in(&stood, &call, request)
    });
    drive(&moto, &format!("http://{}", server.address())).await;

    let mut understood = BTreeSet::new();
    let mut refused = BTreeMap::new();
    for (request, status) in server.passed() {
        match status {
            200..=299 => drop(understood.insert(wire(&request))),
            status => drop(refused.insert(wire(&request), status)),
        }
    }
    let wanted: BTreeSet<String> = CALLS
        .iter()
        .map(|(_, _, wire)| (*wire).to_owned())
        .filter(|wire| !LACKS.iter().any(|(lacks, _, _)| lacks == wire))
        .collect();
    assert_eq!(
        understood, wanted,
        "left: what moto took, right: the table; it refused {refused:?}"
    );
    let lacking = lacking.lock().expect("no panic");
    let printed = moto.log();
    for (call, why, says) in LACKS {
        let answer = lacking.get(*call);
        let (status, answer) = answer.unwrap_or_else(|| panic!("{call} was not made"));
        assert!(
            *status == 500 && printed.contains(says),
            "{why}, and yet it answers {call} with {status} {answer}: {printed}"
        );
    }
    assert_eq!(lacking.len(), LACKS.len());
}
