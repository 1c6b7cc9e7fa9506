//! A strict GitHub in miniature: refuses any request that its published description would not
//! allow, and really merges in the bare repository behind it. After "REST API endpoints for pull
//! requests", "… for labels", "… for issue comments" and the mutation `enablePullRequestAutoMerge`
//! of GitHub's documentation.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::faulty::{Faulty, Reply, Request};
use super::repo::{git, git_ok};
use super::strict::{Fields, fits, unknown_query};

/// The token that it knows.
pub const TOKEN: &str = "ghp_t0ken-of-the-release-bot";

/// What to answer instead, asked before anything else.
type Trouble = Box<dyn FnMut(&Request) -> Option<Reply> + Send>;

#[derive(Default)]
struct State {
    pulls: Vec<Value>,
    comments: Vec<(u64, String)>,
    /// What a request had wrong.
    wrong: Vec<String>,
    /// Changes, in order: method and path.
    changes: Vec<String>,
    trouble: Option<Trouble>,
    /// Merges what is opened at the first look.
    merges: bool,
}

/// A running fake.
pub struct FakeGitHub {
    server: Faulty,
    state: Arc<Mutex<State>>,
}

impl FakeGitHub {
    /// A GitHub with one repository, kept in a bare one.
    pub fn start(path: &'static str, bare: PathBuf) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let theirs = Arc::clone(&state);
        let server = Faulty::alone(move |request| {
            let mut state = theirs.lock().expect("no panic");
            if let Some(trouble) = state.trouble.as_mut()
                && let Some(reply) = trouble(request)
            {
                return reply;
            }
            state.answer(path, &bare, request)
        });
        Self { server, state }
    }

    /// Its web address, as that of an Enterprise Server.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Answers some requests itself from now on.
    pub fn trouble(&self, trouble: impl FnMut(&Request) -> Option<Reply> + Send + 'static) {
        self.state.lock().expect("no panic").trouble = Some(Box::new(trouble));
    }

    /// Somebody merges whatever is opened.
    pub fn merge_all(&self) {
        self.state.lock().expect("no panic").merges = true;
    }

    /// All pull requests, oldest first.
    pub fn pulls(&self) -> Vec<Value> {
        self.state.lock().expect("no panic").pulls.clone()
    }

    /// Comments on a pull request.
    pub fn comments(&self, number: u64) -> Vec<String> {
        let state = self.state.lock().expect("no panic");
        let of = state.comments.iter().filter(|(of, _)| *of == number);
        of.map(|(_, text)| text.clone()).collect()
    }

    /// Requests that changed something.
    pub fn changes(&self) -> Vec<String> {
        self.state.lock().expect("no panic").changes.clone()
    }

    /// Fails if any request was not as it should be.
    #[track_caller]
    pub fn clean(&self) {
        let state = self.state.lock().expect("no panic");
        assert!(state.wrong.is_empty(), "{:#?}", state.wrong);
    }
}

fn answer(status: u16, body: &Value) -> Reply {
    let headers = vec![("Content-Type", "application/json; charset=utf-8".to_owned())];
    Reply::Answer(status, headers, body.to_string())
}

fn error(status: u16, message: &str) -> Reply {
    let body = json!({ "message": message, "documentation_url": "https://docs.github.com/rest", "status": status.to_string() });
    answer(status, &body)
}

const CREATE: Fields = &[
    ("title", 's', false),
    ("head", 's', true),
    ("head_repo", 's', false),
    ("base", 's', true),
    ("body", 's', false),
    ("maintainer_can_modify", 'b', false),
    ("draft", 'b', false),
    ("issue", 'n', false),
];
const UPDATE: Fields = &[
    ("title", 's', false),
    ("body", 's', false),
    ("state", 's', false),
    ("base", 's', false),
    ("maintainer_can_modify", 'b', false),
];
const LISTED: &[(&str, &[&str])] = &[
    ("state", &["open", "closed", "all"]),
    ("head", &[]),
    ("base", &[]),
    (
        "sort",
        &["created", "updated", "popularity", "long-running"],
    ),
    ("direction", &["asc", "desc"]),
    ("per_page", &[]),
    ("page", &[]),
];
const LABELS: Fields = &[("labels", 'l', false)];
const REVIEWERS: Fields = &[("reviewers", 'l', false), ("team_reviewers", 'l', false)];
const COMMENT: Fields = &[("body", 's', true)];
const GRAPHQL: Fields = &[("query", 's', true), ("variables", 'o', false)];

impl State {
    fn answer(&mut self, repo: &str, bare: &Path, request: &Request) -> Reply {
        let line = format!("{} {}", request.method, request.path);
        let heads = [
            ("accept", "application/vnd.github+json"),
            ("x-github-api-version", "2022-11-28"),
        ];
        for (name, value) in heads {
            if request.header(name) != Some(value) {
                self.wrong
                    .push(format!("{line}: {name} is {:?}", request.header(name)));
            }
        }
        let agent = request.header("user-agent").unwrap_or("");
        if agent.is_empty() {
            return error(403, "Request forbidden by administrative rules.");
        }
        if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
            return error(401, "Bad credentials");
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        if request.method != "GET" {
            self.changes.push(line.clone());
            if request.header("content-type") != Some("application/json") {
                self.wrong
                    .push(format!("{line}: the content type is not JSON"));
            }
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let mut fields = |fields: Fields| {
            fits(&body, fields).map_err(|why| {
                self.wrong.push(format!("{line}: {why}"));
                error(422, &why)
            })
        };
        if path == "/api/graphql" {
            if let Err(reply) = fields(GRAPHQL) {
                return reply;
            }
            let id = body["variables"]["id"].as_str().unwrap_or("");
            let found = self.pulls.iter_mut().find(|pull| pull["node_id"] == id);
            return match found {
                Some(pull) => {
                    pull["auto_merge"] = json!({ "merge_method": "merge" });
                    answer(
                        200,
                        &json!({ "data": { "enablePullRequestAutoMerge": { "pullRequest": { "number": pull["number"] } } } }),
                    )
                }
                None => answer(
                    200,
                    &json!({ "data": null, "errors": [{ "type": "NOT_FOUND", "message": "Could not resolve to a node" }] }),
                ),
            };
        }
        let Some(rest) = path.strip_prefix(&format!("/api/v3/repos/{repo}/")) else {
            return error(404, "Not Found");
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let number = |text: &str| text.parse::<u64>().unwrap_or(0);
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["pulls"]) => {
                self.wrong.extend(unknown_query(request, LISTED));
                let wanted = |name: &str| {
                    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
                    let mut found = pairs.filter(|(key, _)| *key == name);
                    found.next().map(|(_, value)| value.replace("%3A", ":"))
                };
                let owner = repo.split('/').next().unwrap_or("");
                let state = wanted("state").unwrap_or_else(|| "open".to_owned());
                let list: Vec<&Value> = self
                    .pulls
                    .iter()
                    .rev()
                    .filter(|pull| state == "all" || pull["state"] == state.as_str())
                    .filter(|pull| {
                        wanted("head").is_none_or(|head| {
                            head == format!(
                                "{owner}:{}",
                                pull["head"]["ref"].as_str().unwrap_or("")
                            )
                        })
                    })
                    .filter(|pull| {
                        wanted("base").is_none_or(|base| pull["base"]["ref"] == base.as_str())
                    })
                    .collect();
                answer(200, &json!(list))
            }
            ("POST", ["pulls"]) => {
                if let Err(reply) = fields(CREATE) {
                    return reply;
                }
                self.create(repo, bare, &body)
            }
            (method, ["pulls", text]) => {
                if method == "PATCH"
                    && let Err(reply) = fields(UPDATE)
                {
                    return reply;
                }
                let merges = self.merges;
                let Some(pull) = self
                    .pulls
                    .iter_mut()
                    .find(|pull| pull["number"] == number(text))
                else {
                    return error(404, "Not Found");
                };
                if method == "PATCH" {
                    for key in ["title", "body", "state"] {
                        if body[key].is_string() {
                            pull[key] = body[key].clone();
                        }
                    }
                } else if merges && pull["state"] == "open" {
                    merge(bare, pull);
                }
                answer(200, pull)
            }
            ("POST", ["pulls", text, "requested_reviewers"]) => {
                if let Err(reply) = fields(REVIEWERS) {
                    return reply;
                }
                let Some(pull) = self
                    .pulls
                    .iter_mut()
                    .find(|pull| pull["number"] == number(text))
                else {
                    return error(404, "Not Found");
                };
                for (from, to, key) in [
                    ("reviewers", "requested_reviewers", "login"),
                    ("team_reviewers", "requested_teams", "slug"),
                ] {
                    for name in body[from].as_array().into_iter().flatten() {
                        pull[to]
                            .as_array_mut()
                            .expect("a list")
                            .push(json!({ key: name }));
                    }
                }
                answer(201, pull)
            }
            ("POST", ["issues", text, "labels"]) => {
                if let Err(reply) = fields(LABELS) {
                    return reply;
                }
                let Some(pull) = self
                    .pulls
                    .iter_mut()
                    .find(|pull| pull["number"] == number(text))
                else {
                    return error(404, "Not Found");
                };
                for name in body["labels"].as_array().into_iter().flatten() {
                    pull["labels"]
                        .as_array_mut()
                        .expect("a list")
                        .push(json!({ "name": name }));
                }
                answer(200, &pull["labels"])
            }
            ("POST", ["issues", text, "comments"]) => {
                if let Err(reply) = fields(COMMENT) {
                    return reply;
                }
                let words = body["body"].as_str().unwrap_or("").to_owned();
                self.comments.push((number(text), words));
                answer(201, &json!({ "id": self.comments.len() }))
            }
            ("GET", ["issues", text, "comments"]) => {
                let of = self.comments.iter().filter(|(of, _)| *of == number(text));
                let list: Vec<Value> = of.map(|(_, body)| json!({ "body": body })).collect();
                answer(200, &json!(list))
            }
            ("GET", ["issues", _]) => answer(200, &json!({ "closed_by": { "login": "ann" } })),
            ("GET", ["commits", _, "check-runs"]) => {
                answer(200, &json!({ "total_count": 0, "check_runs": [] }))
            }
            ("GET", ["commits", _, "status"]) => {
                answer(200, &json!({ "state": "pending", "statuses": [] }))
            }
            _ => {
                self.wrong.push(format!("{line}: there is no such call"));
                error(404, "Not Found")
            }
        }
    }

    fn create(&mut self, repo: &str, bare: &Path, body: &Value) -> Reply {
        let word = |key: &str| body[key].as_str().unwrap_or("").to_owned();
        let (head, base, title) = (word("head"), word("base"), word("title"));
        let invalid = |field: &str| {
            let detail = json!({ "resource": "PullRequest", "field": field, "code": "invalid" });
            answer(
                422,
                &json!({ "message": "Validation Failed", "errors": [detail] }),
            )
        };
        if title.chars().count() > 255 || word("body").len() > 65_536 {
            self.wrong.push("too long".to_owned());
        }
        let reference = format!("refs/heads/{head}");
        if !git_ok(bare, &["rev-parse", "-q", "--verify", &reference]) {
            return invalid("head");
        }
        let open = self.pulls.iter().any(|pull| {
            pull["state"] == "open"
                && pull["head"]["ref"] == head.as_str()
                && pull["base"]["ref"] == base.as_str()
        });
        if open {
            self.wrong.push(format!("a second pull request of {head}"));
            let message = format!("A pull request already exists for acme:{head}.");
            let detail = json!({ "resource": "PullRequest", "code": "custom", "message": message });
            return answer(
                422,
                &json!({ "message": "Validation Failed", "errors": [detail] }),
            );
        }
        let sha = git(bare, &["rev-parse", &reference]);
        if git_ok(bare, &["merge-base", "--is-ancestor", &sha, &base]) {
            let message = format!("No commits between {base} and {head}");
            let detail = json!({ "resource": "PullRequest", "code": "custom", "message": message });
            return answer(
                422,
                &json!({ "message": "Validation Failed", "errors": [detail] }),
            );
        }
        let number = self.pulls.len() as u64 + 1;
        let pull = json!({
            "number": number,
            "node_id": format!("PR_{number}"),
            "html_url": format!("https://github.example.com/{repo}/pull/{number}"),
            "state": "open",
            "title": title,
            "body": body["body"],
            "draft": body["draft"] == true,
            "labels": [],
            "requested_reviewers": [],
            "requested_teams": [],
            "auto_merge": null,
            "merged": false,
            "merged_at": null,
            "merge_commit_sha": null,
            "mergeable_state": "clean",
            "head": { "ref": head, "sha": sha, "repo": { "full_name": repo } },
            "base": { "ref": base, "repo": { "full_name": repo } },
        });
        self.pulls.push(pull.clone());
        answer(201, &pull)
    }
}

/// Merges as GitHub does: a commit with two parents on the base.
fn merge(bare: &Path, pull: &mut Value) {
    let word = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (head, base) = (word(&pull["head"]["ref"]), word(&pull["base"]["ref"]));
    let tree = git(bare, &["merge-tree", "--write-tree", &base, &head]);
    let message = format!("Merge pull request #{}", pull["number"]);
    let commit = git(
        bare,
        &[
            "commit-tree",
            &tree,
            "-p",
            &base,
            "-p",
            &head,
            "-m",
            &message,
        ],
    );
    git(
        bare,
        &["update-ref", &format!("refs/heads/{base}"), &commit],
    );
    pull["state"] = json!("closed");
    pull["merged"] = json!(true);
    pull["merged_at"] = json!("2026-01-31T09:00:00Z");
    pull["merge_commit_sha"] = json!(commit);
}
