//! What each forge may answer instead of what was asked for, over real HTTP.

use std::time::Duration;

use pipewright::ports::Retry;
use pipewright::ports::forge::{Forge as _, ForgeError, Software};

use super::adapters::{forges, hosted, new, token};
use crate::support::faulty::{Faulty, Reply};

const TOKEN: &str = "t0ken-that-nobody-else-may-see";

fn kind(error: &ForgeError) -> &'static str {
    match error {
        ForgeError::Denied { .. } => "denied",
        ForgeError::NotFound { .. } => "not found",
        ForgeError::Exists { .. } => "exists",
        ForgeError::Refused { .. } => "refused",
        ForgeError::Throttled { .. } => "throttled",
        ForgeError::Broken { .. } => "broken",
    }
}

async fn asked(software: Software, reply: Reply) -> ForgeError {
    let server = Faulty::alone(move |_| reply.clone());
    let address = format!("http://{}", server.address());
    let hosted = hosted(software, &address, "acme/m", token(TOKEN));
    let result = forges().create(&hosted, &new("b", false)).await;
    assert_eq!(server.seen().len(), 1, "a change is asked for once");
    let error = result.expect_err("it is no pull request");
    assert!(!error.to_string().contains(TOKEN), "{error}");
    error
}

/// A row: software, status, body, what it is taken for, what the message says.
type Row = (Software, u16, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    (Software::GitHub, 401, r#"{"message":"Bad credentials","documentation_url":"https://docs.github.com/rest","status":"401"}"#, "denied", "Bad credentials (401)"),
    (Software::GitHub, 403, r#"{"message":"Resource not accessible by personal access token"}"#, "denied", "not accessible"),
    (Software::GitHub, 403, r#"{"message":"Repository was archived so is read-only."}"#, "refused", "archived"),
    (Software::GitHub, 404, r#"{"message":"Not Found"}"#, "not found", "does not show a pull request of b into main of acme/m"),
    (Software::GitHub, 422, r#"{"message":"Validation Failed","errors":[{"resource":"PullRequest","code":"custom","message":"A pull request already exists for acme:b."}]}"#, "exists", "already exists"),
    (Software::GitHub, 422, r#"{"message":"Validation Failed","errors":[{"resource":"PullRequest","field":"base","code":"invalid"}]}"#, "refused", "base is invalid"),
    (Software::GitHub, 410, r#"{"message":"Issues are disabled for this repo"}"#, "refused", "disabled"),
    (Software::GitHub, 403, r#"{"message":"API rate limit exceeded for user ID 1."}"#, "throttled", "slow down"),
    (Software::GitHub, 429, r#"{"message":"You have exceeded a secondary rate limit."}"#, "throttled", "slow down"),
    (Software::GitHub, 503, "<html>Unicorn!</html>", "broken", "Unicorn"),
    (Software::GitHub, 502, "", "broken", "502 Bad Gateway"),
    (Software::GitHub, 200, "<html>sign in</html>", "broken", "no JSON"),
    (Software::GitHub, 200, "[]", "broken", "no pull request"),
    (Software::GitLab, 401, r#"{"message":"401 Unauthorized"}"#, "denied", "401"),
    (Software::GitLab, 403, r#"{"error":"insufficient_scope","error_description":"The request requires higher privileges than provided by the access token.","scope":"api"}"#, "denied", "insufficient_scope"),
    (Software::GitLab, 404, r#"{"message":"404 Project Not Found"}"#, "not found", "404 Project Not Found"),
    (Software::GitLab, 409, r#"{"message":["Another open merge request already exists for this source branch: !4"]}"#, "exists", "!4"),
    (Software::GitLab, 400, r#"{"message":{"source_branch":["can't be blank"]}}"#, "refused", "can't be blank"),
    (Software::GitLab, 422, r#"{"message":"422 Unprocessable Entity"}"#, "refused", "422"),
    (Software::GitLab, 429, "Retry later\n", "throttled", "Retry later"),
    (Software::GitLab, 502, "GitLab is not responding", "broken", "not responding"),
    (Software::GitLab, 201, "{\"iid\":", "broken", "no JSON"),
    (Software::Gitea, 401, r#"{"message":"invalid username, password or token","url":"http://g/api/swagger"}"#, "denied", "invalid username"),
    (Software::Gitea, 403, r#"{"message":"token does not have at least one of required scope(s): [write:repository]"}"#, "denied", "write:repository"),
    (Software::Gitea, 404, r#"{"message":"The target couldn't be found.","errors":[]}"#, "not found", "couldn't be found"),
    (Software::Gitea, 409, r#"{"message":"pull request already exists for these targets [id: 1]"}"#, "exists", "already exists"),
    (Software::Gitea, 422, r#"{"message":"[Title]: Required"}"#, "refused", "[Title]: Required"),
    (Software::Gitea, 423, r#"{"message":"Repo is archived."}"#, "refused", "archived"),
    (Software::Gitea, 500, r#"{"message":""}"#, "broken", "500"),
    (Software::Gitea, 201, "", "broken", "no pull request"),
];

#[tokio::test]
async fn are_told_apart() {
    for (software, status, body, expected, says) in ROWS {
        let reply = Reply::Answer(*status, Vec::new(), (*body).to_owned());
        let error = asked(*software, reply).await;
        assert_eq!(
            kind(&error),
            *expected,
            "{software:?} {status} {body}: {error}"
        );
        assert!(
            error.to_string().contains(says),
            "{software:?} {status}: {error}"
        );
        let name = format!("{} at 127.0.0.1", software.as_str());
        assert!(error.to_string().contains(&name), "{error}");
        let retries = matches!(error.retry(), Retry::After(_));
        assert_eq!(
            retries,
            matches!(*expected, "throttled" | "broken"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn limits_say_how_long() {
    let now = jiff::Timestamp::now().as_second();
    let soon = (now + 120).to_string();
    let late = (now + 3000).to_string();
    let primary = r#"{"message":"API rate limit exceeded"}"#;
    let secondary = r#"{"message":"You have exceeded a secondary rate limit. Please wait."}"#;
    let header = |name, value: &str| (name, value.to_owned());
    let left = |left: &str, reset: &str| {
        let left = header("X-RateLimit-Remaining", left);
        vec![left, header("X-RateLimit-Reset", reset)]
    };
    for (software, status, headers, body, from, to) in [
        (Software::GitHub, 403, left("0", &soon), primary, 110, 120),
        (Software::GitHub, 429, left("0", &soon), primary, 110, 120),
        // The hour is not over, and does not matter.
        (
            Software::GitHub,
            403,
            left("4000", &late),
            secondary,
            60,
            60,
        ),
        (
            Software::GitHub,
            403,
            vec![header("Retry-After", "7")],
            secondary,
            7,
            7,
        ),
        (
            Software::GitLab,
            429,
            vec![header("Retry-After", "9")],
            "",
            9,
            9,
        ),
        (
            Software::GitLab,
            429,
            vec![header("RateLimit-Reset", &soon)],
            "",
            110,
            120,
        ),
        // Nobody is waited for forever.
        (
            Software::Gitea,
            429,
            vec![header("Retry-After", "9999999")],
            "",
            3700,
            3700,
        ),
    ] {
        let reply = Reply::Answer(status, headers.clone(), body.to_owned());
        let error = asked(software, reply).await;
        let Retry::After(Some(wait)) = error.retry() else {
            panic!("{software:?} {headers:?}: {error:?}");
        };
        let range = Duration::from_secs(from)..=Duration::from_secs(to);
        assert!(range.contains(&wait), "{software:?} {headers:?}: {wait:?}");
    }
}

#[tokio::test]
async fn no_other_host_gets_the_token() {
    for software in [Software::GitHub, Software::GitLab, Software::Gitea] {
        for status in [301, 302, 307, 308] {
            let other = Faulty::alone(|_| Reply::status(200));
            let there = format!("http://{}/api", other.address());
            let reply = Reply::Answer(status, vec![("Location", there)], String::new());
            let error = asked(software, reply).await;
            assert_eq!(kind(&error), "refused", "{software:?} {status}: {error}");
            assert!(
                error.to_string().contains("write its new address"),
                "{error}"
            );
            assert!(other.seen().is_empty(), "{software:?} {status}");
        }
    }
}

#[tokio::test]
async fn answers_may_be_lost_or_endless() {
    for software in [Software::GitHub, Software::GitLab, Software::Gitea] {
        let lost = asked(software, Reply::Reset).await;
        assert_eq!(kind(&lost), "broken", "{lost}");
        let huge = format!("\"{}\"", "x".repeat(9 << 20));
        let huge = asked(software, Reply::Answer(200, Vec::new(), huge)).await;
        assert_eq!(kind(&huge), "broken", "{huge}");
        assert!(huge.to_string().contains("larger than 8"), "{huge}");
        assert!(huge.to_string().len() < 400);
    }
}
