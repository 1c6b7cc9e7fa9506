//! What only GitHub does: auto-merge by its GraphQL interface, checks of two kinds, and who closed a
//! pull request. After "enablePullRequestAutoMerge", "REST API endpoints for check runs", "… for
//! commit statuses" and "… for issues" of its documentation.

use std::sync::{Arc, Mutex};

use pipewright::ports::forge::{
    Checks, Forge as _, ForgeError, ForgeReader as _, Hosted, MergeMethod, PullRequest, PullState,
    Software,
};
use serde_json::{Value, json};

use super::adapters::{forges, hosted, token};
use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::strict::{fits, json as answer, page, unknown_query};

fn site(server: &Faulty) -> Hosted {
    let address = format!("http://{}", server.address());
    hosted(Software::GitHub, &address, "acme/m", token("ghp_x"))
}

fn pull() -> PullRequest {
    PullRequest {
        number: 1,
        id: "PR_node".to_owned(),
        url: "https://g/acme/m/pull/1".to_owned(),
        title: "t".to_owned(),
        body: String::new(),
        head: "b".to_owned(),
        head_commit: "c0ffee".to_owned(),
        base: "main".to_owned(),
        state: PullState::Open,
        draft: false,
        labels: Vec::new(),
        reviewers: Vec::new(),
        auto_merge: false,
        conflicts: None,
    }
}

/// Asks for auto-merge of one that answers with an error of a type and a message; returns what came
/// of it and which changes were asked for.
async fn promised(error: Option<(&str, &str)>) -> (Result<(), ForgeError>, Vec<String>) {
    let wrong: Arc<Mutex<Vec<String>>> = Arc::default();
    let theirs = Arc::clone(&wrong);
    let data = match error {
        None => {
            json!({ "data": { "enablePullRequestAutoMerge": { "pullRequest": { "number": 1 } } } })
        }
        Some((kind, message)) => json!({
            "data": { "enablePullRequestAutoMerge": null },
            "errors": [{ "type": kind, "path": ["enablePullRequestAutoMerge"], "message": message }],
        }),
    };
    let server = Faulty::alone(move |request: &Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let (fields, wanted): (_, &[(&str, &str)]) = match (&*request.method, &*request.path) {
            ("POST", "/api/graphql") => (
                fits(&body, &[("query", 's', true), ("variables", 'o', false)]),
                &[
                    ("/variables/id", "PR_node"),
                    ("/variables/method", "SQUASH"),
                    ("/variables/head", "c0ffee"),
                ],
            ),
            ("PUT", "/api/v3/repos/acme/m/pulls/1/merge") => (
                fits(
                    &body,
                    &[
                        ("commit_title", 's', false),
                        ("commit_message", 's', false),
                        ("sha", 's', false),
                        ("merge_method", 's', false),
                    ],
                ),
                &[("/merge_method", "squash"), ("/sha", "c0ffee")],
            ),
            _ => (Err(format!("no such call: {}", request.path)), &[]),
        };
        let differs = wanted
            .iter()
            .find(|(at, value)| body.pointer(at) != Some(&json!(value)));
        let differs = differs.map(|(at, value)| format!("{at} is not {value}: {body}"));
        let header = request.header("authorization") != Some("Bearer ghp_x");
        let header = header.then(|| "no token".to_owned());
        theirs
            .lock()
            .expect("no panic")
            .extend(fields.err().into_iter().chain(differs).chain(header));
        match request.method.as_str() {
            "PUT" => answer(
                200,
                &json!({ "sha": "f00d", "merged": true, "message": "" }),
            ),
            _ => answer(200, &data),
        }
    });
    let result = forges()
        .auto_merge(&site(&server), &pull(), MergeMethod::Squash)
        .await;
    let wrong = wrong.lock().expect("no panic").clone();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let line = |request: &Request| format!("{} {}", request.method, request.path);
    (result, server.seen().iter().map(line).collect())
}

#[tokio::test]
async fn auto_merge_is_promised_or_done_or_refused_with_what_to_do() {
    let (result, calls) = promised(None).await;
    assert_eq!(
        (result, &*calls),
        (Ok(()), &["POST /api/graphql".to_owned()][..])
    );
    // Nothing to wait for: merged at once.
    let (result, calls) = promised(Some((
        "UNPROCESSABLE",
        "Pull request Pull request is in clean status",
    )))
    .await;
    assert_eq!(result, Ok(()));
    assert_eq!(calls[1], "PUT /api/v3/repos/acme/m/pulls/1/merge");
    for (kind, message, says, retries) in [
        (
            "UNPROCESSABLE",
            "Auto merge is not allowed for this repository",
            "allow auto-merge in the repository's settings",
            false,
        ),
        (
            "UNPROCESSABLE",
            "Pull request Pull request is in unstable status",
            "require them in its protection",
            false,
        ),
        (
            "FORBIDDEN",
            "Resource not accessible by personal access token",
            "denied auto-merge of #1",
            false,
        ),
        (
            "NOT_FOUND",
            "Could not resolve to a node",
            "Could not resolve",
            false,
        ),
        ("RATE_LIMITED", "API rate limit exceeded", "slow down", true),
    ] {
        let (result, calls) = promised(Some((kind, message))).await;
        let error = result.expect_err("it is refused");
        assert!(error.to_string().contains(says), "{error}");
        let again = matches!(error.retry(), pipewright::ports::Retry::After(_));
        assert_eq!((again, calls.len()), (retries, 1), "{error}");
    }
}

/// What is said of a commit with these check runs and statuses.
async fn said(runs: Vec<Value>, statuses: Vec<Value>) -> Checks {
    let server = Faulty::alone(move |request: &Request| {
        let allowed: &[(&str, &[&str])] = &[
            ("filter", &["latest", "all"]),
            ("per_page", &[]),
            ("page", &[]),
        ];
        assert_eq!(unknown_query(request, allowed), None);
        let path = request.path.split('?').next().unwrap_or("");
        let (key, list) = match path {
            "/api/v3/repos/acme/m/commits/c0ffee/check-runs" => ("check_runs", &runs),
            "/api/v3/repos/acme/m/commits/c0ffee/status" => ("statuses", &statuses),
            _ => return answer(404, &json!({ "message": "Not Found" })),
        };
        let Reply::Answer(status, headers, body) = page(request, "per_page", 2, list) else {
            return Reply::status(500);
        };
        let list: Value = serde_json::from_str(&body).expect("a list");
        Reply::Answer(
            status,
            headers,
            json!({ "total_count": 9, key: list }).to_string(),
        )
    });
    forges()
        .checks(&site(&server), &pull())
        .await
        .expect("checks")
}

#[tokio::test]
async fn checks_are_runs_and_statuses() {
    assert_eq!(said(Vec::new(), Vec::new()).await, Checks::None);
    let run = |name: &str, status: &str, conclusion: Option<&str>| json!({ "name": name, "status": status, "conclusion": conclusion });
    let state = |context: &str, state: &str| json!({ "context": context, "state": state });
    let fine = || {
        vec![
            run("a", "completed", Some("success")),
            run("b", "completed", Some("neutral")),
            run("c", "completed", Some("skipped")),
        ]
    };
    assert_eq!(
        said(fine(), vec![state("d", "success")]).await,
        Checks::Passed(4)
    );
    for status in ["queued", "in_progress", "waiting", "requested", "pending"] {
        let mut runs = fine();
        runs.push(run("e", status, None));
        assert_eq!(
            said(runs, Vec::new()).await,
            Checks::Pending(vec!["e".to_owned()]),
            "{status}"
        );
    }
    for conclusion in [
        "failure",
        "cancelled",
        "timed_out",
        "action_required",
        "stale",
    ] {
        let mut runs = fine();
        runs.push(run("e", "completed", Some(conclusion)));
        assert_eq!(
            said(runs, Vec::new()).await,
            Checks::Failed(vec!["e".to_owned()]),
            "{conclusion}"
        );
    }
    for (word, expected) in [
        ("pending", Checks::Pending(vec!["d".to_owned()])),
        ("failure", Checks::Failed(vec!["d".to_owned()])),
        ("error", Checks::Failed(vec!["d".to_owned()])),
    ] {
        assert_eq!(
            said(fine(), vec![state("d", word)]).await,
            expected,
            "{word}"
        );
    }
}

#[tokio::test]
async fn the_issue_says_who_closed_it() {
    let server = Faulty::alone(|request: &Request| match request.path.as_str() {
        "/api/v3/repos/acme/m/pulls/1" => answer(
            200,
            &json!({ "number": 1, "state": "closed", "merged": false, "head": {}, "base": {} }),
        ),
        "/api/v3/repos/acme/m/issues/1" => answer(200, &json!({ "closed_by": { "login": "ann" } })),
        _ => answer(404, &json!({ "message": "Not Found" })),
    });
    let pull = forges()
        .pull_request(&site(&server), 1)
        .await
        .expect("it is there");
    assert_eq!(pull.state, PullState::Closed(Some("ann".to_owned())));
}
