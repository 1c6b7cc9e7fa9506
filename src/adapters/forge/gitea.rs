//! The REST interface of Gitea, which Forgejo has too.

use reqwest::Method;
use serde_json::{Value, json};

use super::call::{Forges, broken, escape, not_yet, refused};
use super::{some, text, texts, verdict};
use crate::ports::forge::{
    Checks, ForgeError, Hosted, MergeMethod, NewPullRequest, PullRequest, PullState,
};

static NONE: Value = Value::Array(Vec::new());

/// The title of a draft begins so.
const DRAFT: &str = "WIP: ";

fn pulls(hosted: &Hosted) -> String {
    format!("/repos/{}/pulls", hosted.path)
}

fn issue(hosted: &Hosted, number: u64) -> String {
    format!("/repos/{}/issues/{number}", hosted.path)
}

fn read(hosted: &Hosted, what: &str, value: &Value) -> Result<PullRequest, ForgeError> {
    let number = value["number"].as_u64();
    let number = number.ok_or_else(|| broken(hosted, what, "the answer is no pull request"))?;
    let state = if value["merged"] == true {
        PullState::Merged(some(&value["merge_commit_sha"]))
    } else if value["state"] == "closed" {
        PullState::Closed(None)
    } else {
        PullState::Open
    };
    let org = hosted.path.split('/').next().unwrap_or("");
    let mut reviewers = texts(&value["requested_reviewers"], "login");
    let teams = texts(&value["requested_reviewers_teams"], "name");
    reviewers.extend(teams.iter().map(|team| format!("{org}/{team}")));
    let branch = match value["head"]["ref"].as_str() {
        // So it is called once its branch is gone; the label keeps the name.
        Some(gone) if gone.starts_with("refs/pull/") => text(&value["head"]["label"]),
        _ => text(&value["head"]["ref"]),
    };
    Ok(PullRequest {
        number,
        id: number.to_string(),
        url: text(&value["html_url"]),
        title: text(&value["title"]).trim_start_matches(DRAFT).to_owned(),
        body: text(&value["body"]),
        head: branch,
        head_commit: text(&value["head"]["sha"]),
        base: text(&value["base"]["ref"]),
        state,
        draft: value["draft"] == true,
        labels: texts(&value["labels"], "name"),
        reviewers,
        // Gitea does not say; asking twice is refused as such.
        auto_merge: false,
        // `false` also stands for "not looked at yet", so it is no proof.
        conflicts: (value["mergeable"] == true).then_some(false),
    })
}

async fn listed(
    forges: &Forges,
    hosted: &Hosted,
    what: &str,
    state: &str,
) -> Result<Vec<PullRequest>, ForgeError> {
    // Newest first is how they come, and no value of `sort` says so.
    let path = format!("{}?state={state}", pulls(hosted));
    let list = forges.list(hosted, what, &path, "limit", |all| all).await?;
    let own = list.iter().filter(|value| {
        let name = value["head"]["repo"]["full_name"].as_str();
        name.is_some_and(|name| name.eq_ignore_ascii_case(&hosted.path))
    });
    let mut pulls = own
        .map(|value| read(hosted, what, value))
        .collect::<Result<Vec<_>, _>>()?;
    pulls.sort_by_key(|pull| std::cmp::Reverse(pull.number));
    Ok(pulls)
}

pub(super) async fn find(
    forges: &Forges,
    hosted: &Hosted,
    head: &str,
    base: &str,
) -> Result<Vec<PullRequest>, ForgeError> {
    let what = format!("pull requests of {head} of {}", hosted.path);
    let mut all = listed(forges, hosted, &what, "all").await?;
    all.retain(|pull| pull.head == head && pull.base == base);
    Ok(all)
}

pub(super) async fn open(
    forges: &Forges,
    hosted: &Hosted,
    base: &str,
) -> Result<Vec<PullRequest>, ForgeError> {
    let what = format!("open pull requests of {}", hosted.path);
    let mut all = listed(forges, hosted, &what, "open").await?;
    all.retain(|pull| pull.base == base);
    Ok(all)
}

pub(super) async fn pull_request(
    forges: &Forges,
    hosted: &Hosted,
    number: u64,
) -> Result<PullRequest, ForgeError> {
    let what = format!("pull request #{number} of {}", hosted.path);
    let path = format!("{}/{number}", pulls(hosted));
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
        "/repos/{}/commits/{}/status?",
        hosted.path,
        escape(&pull.head_commit)
    );
    let list = forges
        .list(hosted, &what, &path, "limit", |all| {
            match &all["statuses"] {
                // What a commit without any has in place of a list.
                Value::Null if all.get("statuses").is_some() => &NONE,
                list => list,
            }
        })
        .await?;
    let checks = list.iter().map(|status| {
        // The field's name in the answers of Gitea is `status`.
        let done = match status["status"].as_str() {
            Some("success" | "warning" | "skipped") => Some(true),
            Some("pending") => None,
            _ => Some(false),
        };
        (text(&status["context"]), done)
    });
    Ok(verdict(checks))
}

pub(super) async fn has_comment(
    forges: &Forges,
    hosted: &Hosted,
    number: u64,
    part: &str,
) -> Result<bool, ForgeError> {
    let what = format!("comments of #{number} of {}", hosted.path);
    let path = format!("{}/comments", issue(hosted, number));
    let list = forges.get(hosted, &what, &path).await?;
    Ok(texts(&list, "body").iter().any(|body| body.contains(part)))
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
    // Gitea knows drafts by their title.
    let title = match new.draft {
        true => format!("{DRAFT}{}", new.title),
        false => new.title.clone(),
    };
    let body = json!({ "title": title, "head": new.head, "base": new.base, "body": new.body });
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
    let title = match pull.draft {
        true => format!("{DRAFT}{title}"),
        false => title.to_owned(),
    };
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
    // Labels are set by id, so that only those there are can be.
    let path = format!("/repos/{}/labels?", hosted.path);
    let known = forges
        .list(hosted, &what, &path, "limit", |all| all)
        .await?;
    let mut ids = Vec::new();
    for label in labels {
        let found = known.iter().find(|known| known["name"] == label.as_str());
        match found.and_then(|known| known["id"].as_u64()) {
            Some(id) => ids.push(id),
            None => {
                let made = json!({ "name": label, "color": "#ededed" });
                let path = format!("/repos/{}/labels", hosted.path);
                let made = forges
                    .change(hosted, &what, Method::POST, &path, &made)
                    .await?;
                ids.extend(made["id"].as_u64());
            }
        }
    }
    let path = format!("{}/labels", issue(hosted, pull.number));
    let body = json!({ "labels": ids });
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

pub(super) async fn auto_merge(
    forges: &Forges,
    hosted: &Hosted,
    pull: &PullRequest,
    method: MergeMethod,
) -> Result<(), ForgeError> {
    let what = format!("auto-merge of #{} of {}", pull.number, hosted.path);
    let path = format!("{}/{}/merge", pulls(hosted), pull.number);
    let word = match method {
        MergeMethod::Merge => "merge",
        MergeMethod::Squash => "squash",
        MergeMethod::Rebase => "rebase",
    };
    let body = json!({
        "Do": word,
        "merge_when_checks_succeed": true,
        "head_commit_id": pull.head_commit,
    });
    match forges
        .change(hosted, &what, Method::POST, &path, &body)
        .await
    {
        // It is promised already.
        Err(ForgeError::Refused { message, .. } | ForgeError::Exists { message, .. })
            if message.contains("auto merge") && message.contains("already") =>
        {
            Ok(())
        }
        // Whether it can be merged is still being found out, or our push was not seen yet.
        Err(ForgeError::Refused { message, .. })
            if message.contains("try again later") || message.contains("head out of date") =>
        {
            Err(not_yet(hosted, &what, &message))
        }
        Err(ForgeError::Refused { message, .. }) if message.contains("405") => Err(refused(
            hosted,
            &what,
            &format!(
                "{message}; a protection of the branch, a conflict or a missing review is in the way"
            ),
        )),
        result => result.map(drop),
    }
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
