//! GitHub's REST interface, and the one call that only its GraphQL interface has.

use reqwest::Method;
use serde_json::{Value, json};

use super::call::{Forges, broken, denied, escape, refused, throttled};
use super::{some, text, texts, verdict};
use crate::ports::forge::{
    Checks, ForgeError, Hosted, MergeMethod, NewPullRequest, PullRequest, PullState,
};

/// Where the REST interface of an address is.
pub(super) fn root(address: &str) -> String {
    match address.split_once("://") {
        Some((_, "github.com" | "www.github.com")) => "https://api.github.com".to_owned(),
        Some((scheme, host)) if host.ends_with(".ghe.com") => format!("{scheme}://api.{host}"),
        _ => format!("{address}/api/v3"),
    }
}

/// Where the GraphQL interface of an address is.
pub(super) fn graphql(address: &str) -> String {
    let root = root(address);
    match root.strip_suffix("/api/v3") {
        Some(address) => format!("{address}/api/graphql"),
        None => format!("{root}/graphql"),
    }
}

fn owner(hosted: &Hosted) -> &str {
    hosted.path.split('/').next().unwrap_or("")
}

fn pulls(hosted: &Hosted) -> String {
    format!("/repos/{}/pulls", hosted.path)
}

fn issue(hosted: &Hosted, number: u64) -> String {
    format!("/repos/{}/issues/{number}", hosted.path)
}

fn read(hosted: &Hosted, what: &str, value: &Value) -> Result<PullRequest, ForgeError> {
    let number = value["number"].as_u64();
    let number = number.ok_or_else(|| broken(hosted, what, "the answer is no pull request"))?;
    let merged = value["merged_at"].is_string() || value["merged"] == true;
    let state = match value["state"].as_str() {
        Some("closed") if merged => PullState::Merged(some(&value["merge_commit_sha"])),
        Some("closed") => PullState::Closed(some(&value["closed_by"]["login"])),
        _ => PullState::Open,
    };
    let org = owner(hosted);
    let mut reviewers = texts(&value["requested_reviewers"], "login");
    let teams = texts(&value["requested_teams"], "slug");
    reviewers.extend(teams.iter().map(|team| format!("{org}/{team}")));
    Ok(PullRequest {
        number,
        id: text(&value["node_id"]),
        url: text(&value["html_url"]),
        title: text(&value["title"]),
        body: text(&value["body"]),
        head: text(&value["head"]["ref"]),
        head_commit: text(&value["head"]["sha"]),
        base: text(&value["base"]["ref"]),
        state,
        draft: value["draft"] == true,
        labels: texts(&value["labels"], "name"),
        reviewers,
        auto_merge: value["auto_merge"].is_object(),
        conflicts: match value["mergeable_state"].as_str() {
            Some("dirty") => Some(true),
            Some("unknown") | None => None,
            Some(_) => Some(false),
        },
    })
}

/// Whether a pull request is of a branch of the repository itself and not of a fork's.
fn is_own(hosted: &Hosted, value: &Value) -> bool {
    value["head"]["repo"]["full_name"]
        .as_str()
        .is_some_and(|name| name.eq_ignore_ascii_case(&hosted.path))
}

async fn listed(
    forges: &Forges,
    hosted: &Hosted,
    what: &str,
    query: &str,
) -> Result<Vec<PullRequest>, ForgeError> {
    let path = format!("{}?{query}&sort=created&direction=desc", pulls(hosted));
    let list = forges
        .list(hosted, what, &path, "per_page", |all| all)
        .await?;
    let own = list.iter().filter(|value| is_own(hosted, value));
    own.map(|value| read(hosted, what, value)).collect()
}

pub(super) async fn find(
    forges: &Forges,
    hosted: &Hosted,
    head: &str,
    base: &str,
) -> Result<Vec<PullRequest>, ForgeError> {
    let what = format!("pull requests of {head} of {}", hosted.path);
    let head = escape(&format!("{}:{head}", owner(hosted)));
    let query = format!("state=all&head={head}&base={}", escape(base));
    listed(forges, hosted, &what, &query).await
}

pub(super) async fn open(
    forges: &Forges,
    hosted: &Hosted,
    base: &str,
) -> Result<Vec<PullRequest>, ForgeError> {
    let what = format!("open pull requests of {}", hosted.path);
    let query = format!("state=open&base={}", escape(base));
    listed(forges, hosted, &what, &query).await
}

pub(super) async fn pull_request(
    forges: &Forges,
    hosted: &Hosted,
    number: u64,
) -> Result<PullRequest, ForgeError> {
    let what = format!("pull request #{number} of {}", hosted.path);
    let path = format!("{}/{number}", pulls(hosted));
    let value = forges.get(hosted, &what, &path).await?;
    let mut pull = read(hosted, &what, &value)?;
    if matches!(pull.state, PullState::Closed(None)) {
        // Only the issue that it is too says who closed it.
        let issue = forges.get(hosted, &what, &issue(hosted, number)).await?;
        pull.state = PullState::Closed(some(&issue["closed_by"]["login"]));
    }
    Ok(pull)
}

pub(super) async fn checks(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
) -> Result<Checks, ForgeError> {
    let what = format!("checks of {} of {}", pull.head_commit, hosted.path);
    let commit = format!(
        "/repos/{}/commits/{}",
        hosted.path,
        escape(&pull.head_commit)
    );
    let runs = format!("{commit}/check-runs?filter=latest");
    let runs = forges
        .list(hosted, &what, &runs, "per_page", |all| &all["check_runs"])
        .await?;
    let statuses = format!("{commit}/status?");
    let statuses = forges
        .list(hosted, &what, &statuses, "per_page", |all| &all["statuses"])
        .await?;
    let runs = runs.iter().map(|run| {
        let done = (run["status"] == "completed").then(|| {
            matches!(
                run["conclusion"].as_str(),
                Some("success" | "neutral" | "skipped")
            )
        });
        (text(&run["name"]), done)
    });
    let statuses = statuses.iter().map(|status| {
        let done = match status["state"].as_str() {
            Some("success") => Some(true),
            Some("pending") => None,
            _ => Some(false),
        };
        (text(&status["context"]), done)
    });
    Ok(verdict(runs.chain(statuses)))
}

pub(super) async fn has_comment(
    forges: &Forges,
    hosted: &Hosted,
    number: u64,
    part: &str,
) -> Result<bool, ForgeError> {
    let what = format!("comments of #{number} of {}", hosted.path);
    let path = format!("{}/comments?", issue(hosted, number));
    let list = forges
        .list(hosted, &what, &path, "per_page", |all| all)
        .await?;
    Ok(texts(&Value::Array(list), "body")
        .iter()
        .any(|body| body.contains(part)))
}

pub(super) async fn create(
    forges: &Forges,
    hosted: &Hosted,
    new: &NewPullRequest,
) -> Result<PullRequest, ForgeError> {
    let what = format!(
        "a pull request of {} into {} of {}",
        new.head, new.base, hosted.path
    );
    let body = json!({
        "title": new.title, "head": new.head, "base": new.base, "body": new.body, "draft": new.draft,
    });
    let value = forges
        .change(hosted, &what, Method::POST, &pulls(hosted), &body)
        .await?;
    read(hosted, &what, &value)
}

pub(super) async fn update(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
    title: &str,
    body: &str,
) -> Result<(), ForgeError> {
    let what = format!("a change of #{} of {}", pull.number, hosted.path);
    let path = format!("{}/{}", pulls(hosted), pull.number);
    let body = json!({ "title": title, "body": body });
    forges
        .change(hosted, &what, Method::PATCH, &path, &body)
        .await
        .map(drop)
}

pub(super) async fn label(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
    labels: &[String],
) -> Result<(), ForgeError> {
    let what = format!("labels of #{} of {}", pull.number, hosted.path);
    let path = format!("{}/labels", issue(hosted, pull.number));
    let body = json!({ "labels": labels });
    forges
        .change(hosted, &what, Method::POST, &path, &body)
        .await
        .map(drop)
}

pub(super) async fn ask(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
    reviewers: &[String],
) -> Result<(), ForgeError> {
    let what = format!("reviewers of #{} of {}", pull.number, hosted.path);
    let path = format!("{}/{}/requested_reviewers", pulls(hosted), pull.number);
    let (teams, users): (Vec<&String>, Vec<&String>) =
        reviewers.iter().partition(|name| name.contains('/'));
    let teams: Vec<&str> = teams
        .iter()
        .map(|team| team.rsplit('/').next().unwrap_or(team))
        .collect();
    let body = json!({ "reviewers": users, "team_reviewers": teams });
    forges
        .change(hosted, &what, Method::POST, &path, &body)
        .await
        .map(drop)
}

const ENABLE: &str = "mutation($id: ID!, $method: PullRequestMergeMethod!, $head: GitObjectID!) { \
    enablePullRequestAutoMerge(input: { pullRequestId: $id, mergeMethod: $method, expectedHeadOid: $head }) \
    { pullRequest { number } } }";

pub(super) async fn auto_merge(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
    method: MergeMethod,
) -> Result<(), ForgeError> {
    let what = format!("auto-merge of #{} of {}", pull.number, hosted.path);
    let (word, verb) = match method {
        MergeMethod::Merge => ("MERGE", "merge"),
        MergeMethod::Squash => ("SQUASH", "squash"),
        MergeMethod::Rebase => ("REBASE", "rebase"),
    };
    let body = json!({
        "query": ENABLE,
        "variables": { "id": pull.id, "method": word, "head": pull.head_commit },
    });
    let answer = forges
        .change(hosted, &what, Method::POST, "/graphql", &body)
        .await?;
    let errors = texts(&answer["errors"], "message").join("; ");
    if errors.is_empty() {
        return Ok(());
    }
    if errors.contains("clean status") {
        // Nothing is left to wait for, so GitHub wants it merged rather than promised.
        let path = format!("{}/{}/merge", pulls(hosted), pull.number);
        let body = json!({ "merge_method": verb, "sha": pull.head_commit });
        return forges
            .change(hosted, &what, Method::PUT, &path, &body)
            .await
            .map(drop);
    }
    let help = if errors.contains("not allowed") {
        "; allow auto-merge in the repository's settings"
    } else if errors.contains("unstable status") || errors.contains("rules not configured") {
        "; no check is required on the base branch, so that GitHub waits for none: require them in its protection"
    } else {
        ""
    };
    let message = crate::adapters::http::one_line(&errors, 300);
    // This interface says everything with the status 200.
    let kinds = texts(&answer["errors"], "type");
    let is = |kind: &str| kinds.iter().any(|known| known == kind);
    if is("RATE_LIMITED") {
        return Err(throttled(hosted, &what, &message, None));
    }
    if is("FORBIDDEN") || is("INSUFFICIENT_SCOPES") {
        return Err(denied(hosted, &what, &message));
    }
    Err(refused(hosted, &what, &format!("{message}{help}")))
}

pub(super) async fn comment(
    forges: &Forges,
    hosted: &Hosted,
    number: u64,
    words: &str,
) -> Result<(), ForgeError> {
    let what = format!("a comment on #{number} of {}", hosted.path);
    let path = format!("{}/comments", issue(hosted, number));
    let body = json!({ "body": words });
    forges
        .change(hosted, &what, Method::POST, &path, &body)
        .await
        .map(drop)
}

pub(super) async fn close(forges: &Forges, hosted: &Hosted, number: u64) -> Result<(), ForgeError> {
    let what = format!("closing #{number} of {}", hosted.path);
    let path = format!("{}/{number}", pulls(hosted));
    let body = json!({ "state": "closed" });
    forges
        .change(hosted, &what, Method::PATCH, &path, &body)
        .await
        .map(drop)
}
