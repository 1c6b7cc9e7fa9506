//! A strict Gitea in miniature, below a sub path, after the groups "repository" and "issue" of
//! Gitea's published description (`/api/swagger`), which Forgejo shares.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::faulty::{Faulty, Reply, Request};
use super::strict::{Fields, fits, json as answer, page, query, unknown_query};

/// The token that it knows.
pub const TOKEN: &str = "91ab-t0ken-of-the-release-bot";
/// The repository that it has.
pub const REPO: &str = "acme/manifests";

const CREATE: Fields = &[
    ("title", 's', true),
    ("head", 's', true),
    ("base", 's', true),
    ("body", 's', false),
    ("labels", 'i', false),
    ("reviewers", 'l', false),
    ("team_reviewers", 'l', false),
];
const UPDATE: Fields = &[
    ("title", 's', false),
    ("body", 's', false),
    ("base", 's', false),
    ("state", 's', false),
];
const MERGE: Fields = &[
    ("Do", 's', true),
    ("merge_when_checks_succeed", 'b', false),
    ("head_commit_id", 's', false),
    ("force_merge", 'b', false),
    ("delete_branch_after_merge", 'b', false),
];
const REVIEWERS: Fields = &[("reviewers", 'l', false), ("team_reviewers", 'l', false)];
const LABEL: Fields = &[
    ("name", 's', true),
    ("color", 's', true),
    ("description", 's', false),
    ("exclusive", 'b', false),
];
const LABELS: Fields = &[("labels", 'i', false)];
const COMMENT: Fields = &[("body", 's', true)];

/// What it has and saw.
#[derive(Default)]
pub struct State {
    /// Pull requests, oldest first.
    pub pulls: Vec<Value>,
    /// Labels of the repository.
    pub labels: Vec<Value>,
    /// Comments: of which, and what.
    pub comments: Vec<(u64, String)>,
    /// Statuses of every commit.
    pub statuses: Vec<Value>,
    /// What a request had wrong.
    pub wrong: Vec<String>,
    /// What the next merge is refused with.
    pub refuse: Vec<(u16, &'static str)>,
}

/// A running fake.
pub struct FakeGitea {
    server: Faulty,
    /// What it has and saw.
    pub state: Arc<Mutex<State>>,
}

impl FakeGitea {
    /// One without pull requests.
    pub fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let theirs = Arc::clone(&state);
        let server = Faulty::alone(move |request| {
            let mut state = theirs.lock().expect("no panic");
            state.answer(request).unwrap_or_else(|why| {
                let line = format!("{} {}: {why}", request.method, request.path);
                state.wrong.push(line);
                error(422, &why)
            })
        });
        Self { server, state }
    }

    /// Its web address, below a sub path.
    pub fn url(&self) -> String {
        format!("http://{}/git", self.server.address())
    }
}

fn error(status: u16, why: &str) -> Reply {
    answer(
        status,
        &json!({ "message": why, "url": "http://git/api/swagger" }),
    )
}

const SORTS: &[&str] = &[
    "oldest",
    "recentupdate",
    "recentclose",
    "leastupdate",
    "mostcomment",
    "leastcomment",
    "priority",
];
const LISTED: &[(&str, &[&str])] = &[
    ("state", &["open", "closed", "all"]),
    ("sort", SORTS),
    ("base_branch", &[]),
    ("limit", &[]),
    ("page", &[]),
];
const PAGED: &[(&str, &[&str])] = &[("limit", &[]), ("page", &[])];

impl State {
    fn answer(&mut self, request: &Request) -> Result<Reply, String> {
        if request.header("authorization") != Some(&format!("token {TOKEN}")) {
            return Ok(error(401, "invalid username, password or token"));
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        if !request.body.is_empty() && request.header("content-type") != Some("application/json") {
            return Err("the content type is not JSON".to_owned());
        }
        if request.header("accept") != Some("application/json") {
            return Err("it does not accept JSON".to_owned());
        }
        let path = request.path.split('?').next().unwrap_or("");
        let path = path
            .strip_prefix("/git/api/v1/repos/")
            .ok_or("no such path")?;
        let Some(rest) = path.strip_prefix(&format!("{REPO}/")) else {
            return Ok(error(404, "The target couldn't be found."));
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let asked = |allowed| unknown_query(request, allowed).map_or(Ok(()), Err);
        let text = |key: &str| body[key].as_str().unwrap_or("").to_owned();
        match (&*request.method, &*parts) {
            ("GET", ["pulls"]) => {
                asked(LISTED)?;
                let state = query(request, "state").unwrap_or_else(|| "open".to_owned());
                let all = self.pulls.iter().rev();
                let list = all.filter(|one| state == "all" || one["state"] == state.as_str());
                let list: Vec<Value> = list.cloned().collect();
                Ok(page(request, "limit", 2, &list))
            }
            ("POST", ["pulls"]) => {
                fits(&body, CREATE)?;
                Ok(self.create(&body))
            }
            ("GET", ["labels"]) => {
                asked(PAGED)?;
                Ok(page(request, "limit", 2, &self.labels))
            }
            ("POST", ["labels"]) => {
                fits(&body, LABEL)?;
                let label = json!({ "id": self.labels.len() + 41, "name": text("name") });
                self.labels.push(label.clone());
                Ok(answer(201, &label))
            }
            ("GET", ["commits", sha, "status"]) => {
                asked(PAGED)?;
                let Reply::Answer(_, headers, list) = page(request, "limit", 2, &self.statuses)
                else {
                    return Err("no page".to_owned());
                };
                let list: Value = serde_json::from_str(&list).expect("a list");
                let list = if self.statuses.is_empty() {
                    Value::Null
                } else {
                    list
                };
                let body = json!({ "sha": sha, "state": "pending", "statuses": list });
                Ok(Reply::Answer(200, headers, body.to_string()))
            }
            (method, [group @ ("pulls" | "issues"), number, rest @ ..]) => {
                let number: u64 = number.parse().map_err(|_| "the index is no number")?;
                if number == 0 || number > self.pulls.len() as u64 {
                    return Ok(error(404, "The target couldn't be found."));
                }
                let at = number as usize - 1;
                match (method, *group, rest) {
                    ("GET", "pulls", []) => Ok(answer(200, &self.pulls[at])),
                    ("PATCH", "pulls", []) => {
                        fits(&body, UPDATE)?;
                        for key in ["title", "body", "state"] {
                            if body[key].is_string() {
                                self.pulls[at][key] = body[key].clone();
                            }
                        }
                        Ok(answer(201, &self.pulls[at]))
                    }
                    ("POST", "pulls", ["requested_reviewers"]) => {
                        fits(&body, REVIEWERS)?;
                        let named = |key: &str, name: &str| -> Value {
                            let all = body[key].as_array().into_iter().flatten();
                            all.map(|one| json!({ name: one })).collect()
                        };
                        self.pulls[at]["requested_reviewers"] = named("reviewers", "login");
                        self.pulls[at]["requested_reviewers_teams"] =
                            named("team_reviewers", "name");
                        Ok(answer(201, &json!([])))
                    }
                    ("POST", "pulls", ["merge"]) => {
                        fits(&body, MERGE)?;
                        Ok(self.merge(at, &body))
                    }
                    ("POST", "issues", ["labels"]) => {
                        fits(&body, LABELS)?;
                        let ids = body["labels"].as_array().cloned().unwrap_or_default();
                        let all = self
                            .labels
                            .iter()
                            .filter(|label| ids.contains(&label["id"]));
                        let all: Vec<Value> = all.cloned().collect();
                        self.pulls[at]["labels"] = json!(all);
                        Ok(answer(200, &self.pulls[at]["labels"]))
                    }
                    ("GET", "issues", ["comments"]) => {
                        let of = self.comments.iter().filter(|(of, _)| *of == number);
                        let list: Vec<Value> =
                            of.map(|(_, body)| json!({ "body": body })).collect();
                        Ok(answer(200, &json!(list)))
                    }
                    ("POST", "issues", ["comments"]) => {
                        fits(&body, COMMENT)?;
                        self.comments.push((number, text("body")));
                        Ok(answer(201, &json!({ "id": self.comments.len() })))
                    }
                    _ => Err("no such call".to_owned()),
                }
            }
            _ => Err("no such call".to_owned()),
        }
    }

    fn create(&mut self, body: &Value) -> Reply {
        let same = self.pulls.iter().any(|one| {
            one["state"] == "open"
                && one["head"]["label"] == body["head"]
                && one["base"]["ref"] == body["base"]
        });
        if same {
            return error(409, "pull request already exists for these targets [id: 1]");
        }
        let number = self.pulls.len() + 1;
        let title = body["title"].as_str().unwrap_or("");
        self.pulls.push(json!({
            "id": 500 + number,
            "number": number,
            "html_url": format!("https://git.example.com/{REPO}/pulls/{number}"),
            "title": title,
            "draft": title.starts_with("WIP: "),
            "body": body["body"],
            "state": "open",
            "merged": false,
            "mergeable": true,
            "merge_commit_sha": null,
            "labels": [],
            "requested_reviewers": [],
            "requested_reviewers_teams": [],
            "head": { "label": body["head"], "ref": body["head"], "sha": "c0ffee", "repo": { "full_name": REPO } },
            "base": { "label": body["base"], "ref": body["base"], "sha": "ba5e", "repo": { "full_name": REPO } },
        }));
        answer(201, &self.pulls[number - 1])
    }

    fn merge(&mut self, at: usize, body: &Value) -> Reply {
        if let Some((status, why)) = self.refuse.pop() {
            return error(status, why);
        }
        let pull = &mut self.pulls[at];
        if body["head_commit_id"].is_string() && body["head_commit_id"] != pull["head"]["sha"] {
            return error(409, "head out of date");
        }
        if pull["merged"] == true {
            return error(405, "");
        }
        pull["state"] = json!("closed");
        pull["merged"] = json!(true);
        pull["merge_commit_sha"] = json!("f00d");
        // As it is once the branch is gone.
        pull["head"]["ref"] = json!(format!("refs/pull/{}/head", at + 1));
        Reply::status(200)
    }
}
