//! A strict GitLab in miniature, below a sub path, after "Merge requests API", "Notes API",
//! "Commits API" and "Users API" of GitLab's REST documentation.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::faulty::{Faulty, Reply, Request};
use super::strict::{Fields, fits, json as answer, page, query, unknown_query};

/// The token that it knows.
pub const TOKEN: &str = "glpat-t0ken-of-the-release-bot";
/// The project that it has.
pub const PROJECT: &str = "acme/deploy/manifests";

const CREATE: Fields = &[
    ("source_branch", 's', true),
    ("target_branch", 's', true),
    ("title", 's', true),
    ("description", 's', false),
    ("reviewer_ids", 'i', false),
    ("labels", 's', false),
    ("remove_source_branch", 'b', false),
    ("squash", 'b', false),
];
const UPDATE: Fields = &[
    ("title", 's', false),
    ("description", 's', false),
    ("state_event", 's', false),
    ("add_labels", 's', false),
    ("reviewer_ids", 'i', false),
];
const MERGE: Fields = &[
    ("merge_when_pipeline_succeeds", 'b', false),
    ("auto_merge", 'b', false),
    ("squash", 'b', false),
    ("sha", 's', false),
];
const NOTE: Fields = &[("body", 's', true)];

/// What it has and saw.
#[derive(Default)]
pub struct State {
    /// Merge requests, oldest first.
    pub requests: Vec<Value>,
    /// Notes: of which, and what.
    pub notes: Vec<(u64, String)>,
    /// Statuses of every commit.
    pub statuses: Vec<Value>,
    /// What a request had wrong.
    pub wrong: Vec<String>,
    /// What the next merge is refused with.
    pub refuse: Vec<(u16, &'static str)>,
}

/// A running fake.
pub struct FakeGitLab {
    server: Faulty,
    /// What it has and saw.
    pub state: Arc<Mutex<State>>,
}

impl FakeGitLab {
    /// One without merge requests.
    pub fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let theirs = Arc::clone(&state);
        let server = Faulty::alone(move |request| {
            let mut state = theirs.lock().expect("no panic");
            state.answer(request).unwrap_or_else(|why| {
                let line = format!("{} {}: {why}", request.method, request.path);
                state.wrong.push(line);
                answer(400, &json!({ "error": why }))
            })
        });
        Self { server, state }
    }

    /// Its web address, below a sub path.
    pub fn url(&self) -> String {
        format!("http://{}/gitlab", self.server.address())
    }
}

const LISTED: &[(&str, &[&str])] = &[
    ("state", &["opened", "closed", "locked", "merged", "all"]),
    ("source_branch", &[]),
    ("target_branch", &[]),
    ("order_by", &["created_at", "updated_at", "title"]),
    ("sort", &["asc", "desc"]),
    ("per_page", &[]),
    ("page", &[]),
];
const PAGED: &[(&str, &[&str])] = &[("per_page", &[]), ("page", &[])];

impl State {
    fn answer(&mut self, request: &Request) -> Result<Reply, String> {
        if request.header("private-token") != Some(TOKEN) {
            return Ok(answer(401, &json!({ "message": "401 Unauthorized" })));
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        if !request.body.is_empty() && request.header("content-type") != Some("application/json") {
            return Err("the content type is not JSON".to_owned());
        }
        if request.header("accept") != Some("application/json") {
            return Err("it does not accept JSON".to_owned());
        }
        let path = request.path.split('?').next().unwrap_or("");
        let path = path.strip_prefix("/gitlab/api/v4/").ok_or("no such path")?;
        let parts: Vec<&str> = path.split('/').collect();
        if let ("GET", ["users"]) = (&*request.method, &*parts) {
            let wrong = unknown_query(request, &[("username", &[])]);
            return wrong.map_or_else(|| Ok(users(request)), Err);
        }
        let ["projects", project, rest @ ..] = &*parts else {
            return Err("no such path".to_owned());
        };
        if *project != PROJECT.replace('/', "%2F") {
            return Ok(answer(404, &json!({ "message": "404 Project Not Found" })));
        }
        let asked = |allowed| unknown_query(request, allowed).map_or(Ok(()), Err);
        match (&*request.method, rest) {
            ("GET", ["merge_requests"]) => {
                asked(LISTED)?;
                let is = |value: &Value, name: &str| {
                    query(request, name).is_none_or(|wanted| *value == wanted.as_str())
                };
                let state = query(request, "state").unwrap_or_else(|| "all".to_owned());
                let all = self.requests.iter().rev().filter(|one| {
                    (state == "all" || one["state"] == state.as_str())
                        && is(&one["source_branch"], "source_branch")
                        && is(&one["target_branch"], "target_branch")
                });
                let list: Vec<Value> = all.cloned().collect();
                Ok(page(request, "per_page", 2, &list))
            }
            ("POST", ["merge_requests"]) => {
                fits(&body, CREATE)?;
                Ok(self.create(&body))
            }
            ("GET", ["repository", "commits", _, "statuses"]) => {
                asked(PAGED)?;
                Ok(page(request, "per_page", 2, &self.statuses))
            }
            (method, ["merge_requests", number, rest @ ..]) => {
                let number: u64 = number.parse().map_err(|_| "the iid is no number")?;
                if number == 0 || number > self.requests.len() as u64 {
                    return Ok(answer(404, &json!({ "message": "404 Not found" })));
                }
                match (method, rest) {
                    ("GET", []) => Ok(answer(200, self.one(number))),
                    ("PUT", []) => {
                        fits(&body, UPDATE)?;
                        self.update(number, &body)
                    }
                    ("PUT", ["merge"]) => {
                        fits(&body, MERGE)?;
                        Ok(self.merge(number, &body))
                    }
                    ("GET", ["notes"]) => {
                        asked(PAGED)?;
                        let of = self.notes.iter().filter(|(of, _)| *of == number);
                        let list: Vec<Value> =
                            of.map(|(_, body)| json!({ "body": body })).collect();
                        Ok(page(request, "per_page", 2, &list))
                    }
                    ("POST", ["notes"]) => {
                        fits(&body, NOTE)?;
                        let words = body["body"].as_str().unwrap_or("").to_owned();
                        self.notes.push((number, words));
                        Ok(answer(201, &json!({ "id": self.notes.len() })))
                    }
                    _ => Err("no such call".to_owned()),
                }
            }
            _ => Err("no such call".to_owned()),
        }
    }

    fn one(&mut self, number: u64) -> &mut Value {
        &mut self.requests[number as usize - 1]
    }

    fn create(&mut self, body: &Value) -> Reply {
        let same = self.requests.iter().position(|one| {
            one["state"] == "opened"
                && one["source_branch"] == body["source_branch"]
                && one["target_branch"] == body["target_branch"]
        });
        if let Some(at) = same {
            let why = format!(
                "Another open merge request already exists for this source branch: !{}",
                at + 1
            );
            return answer(409, &json!({ "message": [why] }));
        }
        let number = self.requests.len() + 1;
        let title = body["title"].as_str().unwrap_or("");
        self.requests.push(json!({
            "id": 1000 + number,
            "iid": number,
            "source_project_id": 3,
            "target_project_id": 3,
            "web_url": format!("https://gitlab.example.com/{PROJECT}/-/merge_requests/{number}"),
            "title": title,
            "draft": title.starts_with("Draft: "),
            "description": body["description"],
            "source_branch": body["source_branch"],
            "target_branch": body["target_branch"],
            "state": "opened",
            "sha": "c0ffee",
            "labels": [],
            "reviewers": [],
            "merge_when_pipeline_succeeds": false,
            "merge_commit_sha": null,
            "squash_commit_sha": null,
            "has_conflicts": false,
            "detailed_merge_status": "mergeable",
            "closed_by": null,
        }));
        answer(201, &self.requests[number - 1])
    }

    fn update(&mut self, number: u64, body: &Value) -> Result<Reply, String> {
        let one = self.one(number);
        for key in ["title", "description"] {
            if body[key].is_string() {
                one[key] = body[key].clone();
            }
        }
        let labels = body["add_labels"].as_str().into_iter();
        for label in labels.flat_map(|labels| labels.split(',')) {
            one["labels"]
                .as_array_mut()
                .expect("a list")
                .push(json!(label));
        }
        if let Some(ids) = body["reviewer_ids"].as_array() {
            let name =
                |id: &Value| json!({ "id": id, "username": if *id == 7 { "ann" } else { "bob" } });
            one["reviewers"] = ids.iter().map(name).collect();
        }
        match body["state_event"].as_str() {
            Some("close") => {
                one["state"] = json!("closed");
                one["closed_by"] = json!({ "username": "release-bot" });
            }
            Some("reopen") => one["state"] = json!("opened"),
            Some(other) => return Err(format!("state_event is {other}")),
            None => {}
        }
        Ok(answer(200, one))
    }

    fn merge(&mut self, number: u64, body: &Value) -> Reply {
        if let Some((status, why)) = self.refuse.pop() {
            return answer(status, &json!({ "message": why }));
        }
        let one = self.one(number);
        if body["sha"].is_string() && body["sha"] != one["sha"] {
            let why = "SHA does not match HEAD of source branch: c0ffee";
            return answer(409, &json!({ "message": why }));
        }
        if one["state"] != "opened" || one["draft"] == true {
            return answer(405, &json!({ "message": "405 Method Not Allowed" }));
        }
        if body["auto_merge"] == true || body["merge_when_pipeline_succeeds"] == true {
            one["merge_when_pipeline_succeeds"] = json!(true);
        } else {
            one["state"] = json!("merged");
            one["merge_commit_sha"] = json!("f00d");
        }
        answer(200, one)
    }
}

fn users(request: &Request) -> Reply {
    let list = match query(request, "username").as_deref() {
        Some("ann") => json!([{ "id": 7, "username": "ann" }]),
        Some("bob") => json!([{ "id": 8, "username": "bob" }]),
        _ => json!([]),
    };
    answer(200, &list)
}
