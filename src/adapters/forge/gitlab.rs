//! GitLab's REST interface, where pull requests are merge requests.

use reqwest::Method;
use serde_json::{Value, json};

use super::call::{Forges, broken, escape, not_yet, refused};
use super::{some, text, texts, verdict};
use crate::ports::forge::{
    Checks, ForgeError, Hosted, MergeMethod, NewPullRequest, PullRequest, PullState,
};

/// The title of a draft begins so.
const DRAFT: &str = "Draft: ";

fn project(hosted: &Hosted) -> String {
    format!("/projects/{}", escape(&hosted.path))
}

fn requests(hosted: &Hosted) -> String {
    format!("{}/merge_requests", project(hosted))
}

fn read(hosted: &Hosted, what: &str, value: &Value) -> Result<PullRequest, ForgeError> {
    let number = value["iid"].as_u64();
    let number = number.ok_or_else(|| broken(hosted, what, "the answer is no merge request"))?;
    let state = match value["state"].as_str() {
        Some("merged") => PullState::Merged(
            some(&value["merge_commit_sha"])
                .or_else(|| some(&value["squash_commit_sha"]))
                .or_else(|| some(&value["sha"])),
        ),
        Some("closed") => PullState::Closed(some(&value["closed_by"]["username"])),
        // `locked` is what it is while GitLab is merging it.
        _ => PullState::Open,
    };
    let labels = value["labels"].as_array().into_iter().flatten();
    let known = !matches!(
        value["detailed_merge_status"].as_str(),
        Some("unchecked" | "checking" | "preparing")
    );
    Ok(PullRequest {
        number,
        id: text(&value["id"]),
        url: text(&value["web_url"]),
        title: text(&value["title"]).trim_start_matches(DRAFT).to_owned(),
        body: text(&value["description"]),
        head: text(&value["source_branch"]),
        head_commit: text(&value["sha"]),
        base: text(&value["target_branch"]),
        state,
        draft: value["draft"] == true,
        labels: labels.map(text).collect(),
        reviewers: texts(&value["reviewers"], "username"),
        auto_merge: value["merge_when_pipeline_succeeds"] == true,
        conflicts: value["has_conflicts"].as_bool().filter(|_| known),
    })
}

async fn listed(
    forges: &Forges,
    hosted: &Hosted,
    what: &str,
    query: &str,
) -> Result<Vec<PullRequest>, ForgeError> {
    let path = format!("{}?{query}&order_by=created_at&sort=desc", requests(hosted));
    let list = forges
        .list(hosted, what, &path, "per_page", |all| all)
        .await?;
    let own = list
        .iter()
        .filter(|value| value["source_project_id"] == value["target_project_id"]);
    own.map(|value| read(hosted, what, value)).collect()
}

pub(super) async fn find(
    forges: &Forges,
    hosted: &Hosted,
    head: &str,
    base: &str,
) -> Result<Vec<PullRequest>, ForgeError> {
    let what = format!("merge requests of {head} of {}", hosted.path);
    let query = format!(
        "state=all&source_branch={}&target_branch={}",
        escape(head),
        escape(base)
    );
    listed(forges, hosted, &what, &query).await
}

pub(super) async fn open(
    forges: &Forges,
    hosted: &Hosted,
    base: &str,
) -> Result<Vec<PullRequest>, ForgeError> {
    let what = format!("open merge requests of {}", hosted.path);
    let query = format!("state=opened&target_branch={}", escape(base));
    listed(forges, hosted, &what, &query).await
}

pub(super) async fn pull_request(
    forges: &Forges,
    hosted: &Hosted,
    number: u64,
) -> Result<PullRequest, ForgeError> {
    let what = format!("merge request !{number} of {}", hosted.path);
    let path = format!("{}/{number}", requests(hosted));
    let value = forges.get(hosted, &what, &path).await?;
    read(hosted, &what, &value)
}

pub(super) async fn checks(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
) -> Result<Checks, ForgeError> {
    let what = format!("checks of {} of {}", pull.head_commit, hosted.path);
    let path = format!(
        "{}/repository/commits/{}/statuses?",
        project(hosted),
        escape(&pull.head_commit)
    );
    let list = forges
        .list(hosted, &what, &path, "per_page", |all| all)
        .await?;
    let checks = list.iter().map(|status| {
        let done = match status["status"].as_str() {
            Some("success" | "skipped") => Some(true),
            // A job that somebody has to start blocks its pipeline unless it may fail.
            Some("manual") => (status["allow_failure"] == true).then_some(true),
            Some("failed" | "canceled") => Some(status["allow_failure"] == true),
            _ => None,
        };
        (text(&status["name"]), done)
    });
    Ok(verdict(checks))
}

pub(super) async fn has_comment(
    forges: &Forges,
    hosted: &Hosted,
    number: u64,
    part: &str,
) -> Result<bool, ForgeError> {
    let what = format!("notes of !{number} of {}", hosted.path);
    let path = format!("{}/{number}/notes?", requests(hosted));
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
        "a merge request of {} into {} of {}",
        new.head, new.base, hosted.path
    );
    let title = match new.draft {
        true => format!("{DRAFT}{}", new.title),
        false => new.title.clone(),
    };
    let body = json!({
        "source_branch": new.head,
        "target_branch": new.base,
        "title": title,
        "description": new.body,
    });
    let value = forges
        .change(hosted, &what, Method::POST, &requests(hosted), &body)
        .await?;
    read(hosted, &what, &value)
}

async fn set(
    forges: &Forges,
    hosted: &Hosted,
    what: &str,
    number: u64,
    body: &Value,
) -> Result<(), ForgeError> {
    let path = format!("{}/{number}", requests(hosted));
    forges
        .change(hosted, what, Method::PUT, &path, body)
        .await
        .map(drop)
}

pub(super) async fn update(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
    title: &str,
    body: &str,
) -> Result<(), ForgeError> {
    let what = format!("a change of !{} of {}", pull.number, hosted.path);
    let title = match pull.draft {
        true => format!("{DRAFT}{title}"),
        false => title.to_owned(),
    };
    let body = json!({ "title": title, "description": body });
    set(forges, hosted, &what, pull.number, &body).await
}

pub(super) async fn label(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
    labels: &[String],
) -> Result<(), ForgeError> {
    let what = format!("labels of !{} of {}", pull.number, hosted.path);
    let body = json!({ "add_labels": labels.join(",") });
    set(forges, hosted, &what, pull.number, &body).await
}

pub(super) async fn ask(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
    reviewers: &[String],
) -> Result<(), ForgeError> {
    let what = format!("reviewers of !{} of {}", pull.number, hosted.path);
    // Reviewers are set as a whole and by id, so those that were asked are asked again.
    let mut ids = Vec::new();
    for name in pull.reviewers.iter().chain(reviewers) {
        if name.contains('/') {
            let why = format!("GitLab asks no group such as \"{name}\" for a review; name users");
            return Err(refused(hosted, &what, &why));
        }
        let found = forges
            .get(hosted, &what, &format!("/users?username={}", escape(name)))
            .await?;
        match found[0]["id"].as_u64() {
            Some(id) if !ids.contains(&id) => ids.push(id),
            Some(_) => {}
            None => {
                let why = format!("there is no user \"{name}\"");
                return Err(refused(hosted, &what, &why));
            }
        }
    }
    let body = json!({ "reviewer_ids": ids });
    set(forges, hosted, &what, pull.number, &body).await
}

pub(super) async fn auto_merge(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
    method: MergeMethod,
) -> Result<(), ForgeError> {
    let what = format!("auto-merge of !{} of {}", pull.number, hosted.path);
    let path = format!("{}/{}/merge", requests(hosted), pull.number);
    // Whether it is rebased is a setting of the project.
    let body = json!({
        "merge_when_pipeline_succeeds": true,
        "auto_merge": true,
        "squash": method == MergeMethod::Squash,
        "sha": pull.head_commit,
    });
    match forges
        .change(hosted, &what, Method::PUT, &path, &body)
        .await
    {
        Err(ForgeError::Refused { message, .. })
            if ["(405)", "(406)", "(422)"]
                .iter()
                .any(|code| message.contains(code)) =>
        {
            let why = format!(
                "{message}; a draft, a conflict, a missing approval or a protection of the branch is in the way"
            );
            Err(refused(hosted, &what, &why))
        }
        // It has not seen our push yet.
        Err(ForgeError::Refused { message, .. })
            if message.contains("(409)") && message.contains("SHA does not match") =>
        {
            Err(not_yet(hosted, &what, &message))
        }
        result => result.map(drop),
    }
}

pub(super) async fn comment(
    forges: &Forges,
    hosted: &Hosted,
    number: u64,
    words: &str,
) -> Result<(), ForgeError> {
    let what = format!("a note on !{number} of {}", hosted.path);
    let path = format!("{}/{number}/notes", requests(hosted));
    let body = json!({ "body": words });
    forges
        .change(hosted, &what, Method::POST, &path, &body)
        .await
        .map(drop)
}

pub(super) async fn close(forges: &Forges, hosted: &Hosted, number: u64) -> Result<(), ForgeError> {
    let what = format!("closing !{number} of {}", hosted.path);
    let body = json!({ "state_event": "close" });
    set(forges, hosted, &what, number, &body).await
}
