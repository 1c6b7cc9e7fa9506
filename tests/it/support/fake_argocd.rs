//! A strict, scripted Argo CD: refuses what its published interface does not know, and has its
//! applications follow a plot, look by look.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use pipewright::adapters::argocd::Transport;
use pipewright::adapters::http::HttpError;
use reqwest::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// The commit that most tests deploy.
pub const NEW: &str = "1111111111111111111111111111111111111111";
/// What runs before.
pub const OLD: &str = "0000000000000000000000000000000000000000";
/// Somebody else's.
pub const OTHER: &str = "2222222222222222222222222222222222222222";
/// The token that is let in.
pub const TOKEN: &str = "the-token-of-the-release-bot";

/// What an application does at one look after another once it was synced. The last beat lasts.
#[derive(Clone, Debug)]
pub enum Beat {
    /// The answer is from before the sync.
    Stale,
    /// Asked for, not begun.
    Pending,
    /// At work, and a hook with its phase.
    Running(&'static str),
    /// The operation failed because of a hook: its message.
    HookFails(&'static str),
    /// The operation failed because of a resource: its message.
    SyncFails(&'static str),
    /// The operation has ended well, and the health is this.
    Health(&'static str),
    /// It has ended well and was not compared since.
    Uncompared,
    /// It has ended well, and a resource is out of sync all the same.
    OutOfSync,
    /// Somebody syncs this revision instead.
    Theirs(&'static str),
    /// It is at this revision by itself, synced and healthy.
    At(&'static str),
    /// It cannot be compared.
    Broken(&'static str),
    /// It is gone.
    Deleted,
    /// A status instead of an answer.
    Status(u16),
    /// Something that is not JSON.
    Garbage,
}

/// What befalls a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The process dies before it is made.
    DieBefore,
    /// The process dies after it was made.
    DieAfter,
    /// It is made, and its answer is lost.
    AnswerLost,
    /// It is not made: another operation is in progress.
    Busy,
    /// It is not made, for this status.
    Refused(u16),
}

/// What the server holds.
pub struct State {
    pub plot: Vec<Beat>,
    at: usize,
    pub auto: bool,
    pub health: &'static str,
    pub revision: String,
    /// The operation asked for: its revision and infos.
    pub operation: Option<(String, Value)>,
    /// Whether the operation at hand was asked of us.
    synced: bool,
    time: i64,
    /// Bodies of the syncs and rollbacks that were made.
    pub writes: Vec<(String, Value)>,
    pub troubles: Vec<(&'static str, Trouble)>,
    /// Looks at which windows are still closed.
    pub closed: u32,
    /// The token that is let in; `None` lets nobody in.
    pub token: Option<String>,
    /// Logins so far.
    pub logins: u32,
    /// Requests after which the token runs out.
    pub expires: Option<u32>,
    /// What no client should ever have sent.
    pub breaches: Vec<String>,
    pub calls: Vec<String>,
    pub history: Vec<(i64, String)>,
    pub missing: bool,
    /// The log of pods may not be read.
    pub no_logs: bool,
}

/// The server.
#[derive(Clone)]
pub struct FakeArgo {
    state: Arc<Mutex<State>>,
    died: Arc<Notify>,
}

impl FakeArgo {
    pub fn new(plot: &[Beat]) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                plot: plot.to_vec(),
                at: 0,
                auto: false,
                health: "Healthy",
                revision: OLD.to_owned(),
                operation: None,
                synced: false,
                time: 1_800_000_000,
                writes: Vec::new(),
                troubles: Vec::new(),
                closed: 0,
                token: Some(TOKEN.to_owned()),
                logins: 0,
                expires: None,
                breaches: Vec::new(),
                calls: Vec::new(),
                history: vec![(0, OLD.to_owned())],
                missing: false,
                no_logs: false,
            })),
            died: Arc::default(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no test panics while it holds the fake")
    }

    pub async fn died(&self) {
        self.died.notified().await;
    }

    /// What was changed, in order.
    pub fn changes(&self) -> Vec<String> {
        self.state()
            .writes
            .iter()
            .map(|(what, _)| what.clone())
            .collect()
    }
}

fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .expect("a time")
        .to_string()
}

fn error(status: u16, code: u32, message: &str) -> (u16, String) {
    let body = json!({"error": message, "code": code, "message": message});
    (status, body.to_string())
}

/// The fields of a request and their types, as published.
const SYNC: &[(&str, &str)] = &[
    ("appNamespace", "string"),
    ("dryRun", "boolean"),
    ("infos", "array"),
    ("manifests", "array"),
    ("name", "string"),
    ("project", "string"),
    ("prune", "boolean"),
    ("resources", "array"),
    ("retryStrategy", "object"),
    ("revision", "string"),
    ("revisions", "array"),
    ("sourcePositions", "array"),
    ("strategy", "object"),
    ("syncOptions", "object"),
];
const ROLLBACK: &[(&str, &str)] = &[
    ("appNamespace", "string"),
    ("dryRun", "boolean"),
    ("id", "string"),
    ("name", "string"),
    ("project", "string"),
    ("prune", "boolean"),
];
const LOGS: &[&str] = &[
    "namespace",
    "podName",
    "container",
    "sinceSeconds",
    "tailLines",
    "follow",
    "untilTime",
    "filter",
    "kind",
    "group",
    "resourceName",
    "previous",
    "appNamespace",
    "project",
];

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What is wrong with a body.
fn odd(body: &Value, fields: &[(&str, &str)]) -> Option<String> {
    let Some(body) = body.as_object() else {
        return Some("the body is no object".to_owned());
    };
    for (name, value) in body {
        match fields.iter().find(|(known, _)| known == name) {
            None => return Some(format!("unknown field {name}")),
            Some((_, wanted)) if *wanted != kind(value) => {
                return Some(format!("{name} is {}, not {wanted}", kind(value)));
            }
            Some(_) => {}
        }
    }
    for (list, known) in [
        ("infos", &["name", "value"][..]),
        (
            "resources",
            &["group", "kind", "name", "namespace", "exclude"][..],
        ),
    ] {
        for entry in body
            .get(list)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            for name in entry.as_object()?.keys() {
                if !known.contains(&name.as_str()) {
                    return Some(format!("unknown field {list}.{name}"));
                }
            }
        }
    }
    match body.get("strategy") {
        Some(strategy)
            if strategy
                .pointer("/hook/force")
                .is_none_or(|force| !force.is_boolean()) =>
        {
            Some("strategy.hook.force is no boolean".to_owned())
        }
        _ => None,
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> (u16, String) {
        let method = request.method().as_str().to_owned();
        let url = request.url().clone();
        let Some(path) = url.path().strip_prefix("/argocd/api/v1/") else {
            self.breaches
                .push(format!("{} is outside the base path", url.path()));
            return error(404, 5, "Not Found");
        };
        let body: Value = request
            .body()
            .and_then(|body| serde_json::from_slice(body.as_bytes()?).ok())
            .unwrap_or(Value::Null);
        let header = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        if method == "POST" && header("content-type").as_deref() != Some("application/json") {
            return error(415, 3, "Invalid content type");
        }
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        if path == "session" {
            if body != json!({"username": "admin", "password": "let me in"}) {
                return error(401, 16, "Invalid username or password");
            }
            self.logins += 1;
            let token = format!("{TOKEN}-{}", self.logins);
            self.token = Some(token.clone());
            return (200, json!({"token": token}).to_string());
        }
        if let Some(left) = &mut self.expires {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.expires = None;
                self.token = None;
            }
        }
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        if bearer.is_none() || header("authorization") != bearer {
            return error(401, 16, "invalid session: token is expired");
        }
        if path == "applications" {
            return (
                200,
                json!({"items": [{"metadata": {"name": "main"}}]}).to_string(),
            );
        }
        let parts: Vec<&str> = path.split('/').collect();
        let ["applications", name, rest @ ..] = parts.as_slice() else {
            self.breaches.push(format!("no such path: {path}"));
            return error(404, 5, "Not Found");
        };
        let what = rest.join("/");
        self.calls.push(format!("{method} {what}"));
        let known: &[&str] = match (method.as_str(), what.as_str()) {
            ("GET", "") => &["refresh", "project", "appNamespace"],
            ("GET", "manifests") => &["revision", "project", "appNamespace"],
            ("GET", "managed-resources") | ("GET", "syncwindows") | ("DELETE", "operation") => {
                &["project", "appNamespace"]
            }
            ("GET", "logs") => LOGS,
            ("POST", "sync" | "rollback") => &[],
            _ => {
                self.breaches.push(format!("no such call: {method} {path}"));
                return error(405, 12, "Method Not Allowed");
            }
        };
        for (key, _) in &query {
            if !known.contains(&key.as_str()) {
                self.breaches.push(format!("{what} knows no query {key}"));
                return error(400, 3, &format!("unknown query {key}"));
            }
        }
        if *name != "main" || self.missing {
            return error(403, 7, "permission denied");
        }
        match (method.as_str(), what.as_str()) {
            ("GET", "") => self.look(&query),
            ("GET", "syncwindows") => {
                let open = self.closed == 0;
                self.closed = self.closed.saturating_sub(1);
                let window = json!({"kind": "deny", "schedule": "0 22 * * *", "duration": "8h", "manualSync": false});
                (200, json!({"canSync": open, "activeWindows": if open { json!([]) } else { json!([window]) }, "assignedWindows": [window]}).to_string())
            }
            ("GET", "managed-resources") => {
                let live = json!({"kind": "Deployment", "metadata": {"name": "web", "uid": "1"}, "spec": {"replicas": 2, "image": "web:1"}});
                (200, json!({"items": [{"group": "apps", "kind": "Deployment", "namespace": "default", "name": "web",
                    "targetState": live.to_string(), "liveState": live.to_string(), "normalizedLiveState": live.to_string(), "predictedLiveState": live.to_string()}]}).to_string())
            }
            ("GET", "manifests") => {
                let web = json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"image": "web:2"}});
                let job = json!({"kind": "ConfigMap", "metadata": {"name": "extra"}});
                (
                    200,
                    json!({"manifests": [web.to_string(), job.to_string()], "revision": NEW})
                        .to_string(),
                )
            }
            ("GET", "logs") if self.no_logs => {
                error(403, 7, "permission denied: logs, get, default/main")
            }
            ("GET", "logs") => {
                let line = |text: &str| {
                    json!({"result": {"content": text, "podName": "migrate-x", "last": false}})
                        .to_string()
                };
                (
                    200,
                    format!(
                        "{}\n{}\n",
                        line("connecting to db"),
                        line("ERROR: no such column")
                    ),
                )
            }
            ("POST", "sync") => self.sync(&body),
            ("POST", _) => self.rollback(&body),
            _ => (200, "{}".to_owned()),
        }
    }

    fn sync(&mut self, body: &Value) -> (u16, String) {
        if let Some(why) = odd(body, SYNC) {
            self.breaches.push(why.clone());
            return error(400, 3, &why);
        }
        let revision = body.get("revision").and_then(Value::as_str);
        if self.auto && revision.is_some() {
            return error(
                400,
                9,
                "Cannot sync to 1111111: auto-sync currently set to main",
            );
        }
        let revision = revision.unwrap_or(NEW).to_owned();
        self.writes.push(("sync".to_owned(), body.clone()));
        self.begin(revision, body["infos"].clone())
    }

    fn begin(&mut self, revision: String, infos: Value) -> (u16, String) {
        self.time += 10;
        self.at = 0;
        self.synced = true;
        self.history
            .push((self.history.len() as i64, revision.clone()));
        self.operation = Some((revision, infos));
        (200, self.shown(&Beat::Pending).to_string())
    }

    fn rollback(&mut self, body: &Value) -> (u16, String) {
        if let Some(why) = odd(body, ROLLBACK) {
            self.breaches.push(why.clone());
            return error(400, 3, &why);
        }
        if self.auto {
            return error(
                400,
                9,
                "rollback cannot be initiated when auto-sync is enabled",
            );
        }
        let id: i64 = body["id"]
            .as_str()
            .and_then(|id| id.parse().ok())
            .unwrap_or(-1);
        let Some((_, revision)) = self.history.iter().find(|(known, _)| *known == id).cloned()
        else {
            return error(
                400,
                3,
                "application main does not have deployment with that id",
            );
        };
        self.writes.push(("rollback".to_owned(), body.clone()));
        self.begin(revision, Value::Null)
    }

    fn look(&mut self, query: &[(String, String)]) -> (u16, String) {
        for (key, value) in query {
            if key == "refresh" && !matches!(value.as_str(), "normal" | "hard") {
                self.breaches.push(format!("refresh={value}"));
            }
        }
        if !self.synced && !self.auto {
            return (200, self.shown(&Beat::Stale).to_string());
        }
        let beat = self.plot.get(self.at).or(self.plot.last()).cloned();
        self.at += 1;
        match beat.unwrap_or(Beat::Health("Healthy")) {
            Beat::Deleted => error(404, 5, "applications.argoproj.io \"main\" not found"),
            Beat::Status(status) => error(status, 14, "upstream connect error"),
            Beat::Garbage => (200, "<html>hello</html>".to_owned()),
            beat => (200, self.shown(&beat).to_string()),
        }
    }

    fn shown(&self, beat: &Beat) -> Value {
        let (revision, infos) = self
            .operation
            .clone()
            .unwrap_or((NEW.to_owned(), Value::Null));
        let mut app = json!({
            "metadata": {"name": "main", "namespace": "argocd"},
            "spec": {
                "project": "default",
                "source": {"repoURL": "https://git.example.com/m.git", "path": ".", "targetRevision": "main"},
                "destination": {"server": "https://kubernetes.default.svc"},
                "syncPolicy": if self.auto { json!({"automated": {"prune": true}}) } else { json!({}) }
            },
            "status": {
                "sync": {"status": "OutOfSync", "revision": self.revision},
                "health": {"status": self.health},
                "reconciledAt": stamp(self.time + 5),
                "history": self.history.iter().map(|(id, revision)| json!({"id": id, "revision": revision})).collect::<Vec<_>>(),
                "resources": [{"group": "apps", "version": "v1", "kind": "Deployment", "namespace": "default",
                    "name": "web", "status": "Synced", "health": {"status": "Healthy"}}]
            }
        });
        let operation = |phase: &str, revision: &str, infos: &Value, results: Value| {
            let mut state = json!({
                "phase": phase, "message": if phase == "Running" { "waiting for completion of hook batch/Job/migrate" } else { "one or more synchronization tasks completed" },
                "startedAt": stamp(self.time),
                "operation": {"sync": {"revision": revision}, "info": infos},
                "syncResult": {"revision": revision, "resources": results}
            });
            if phase != "Running" {
                state["finishedAt"] = json!(stamp(self.time + 3));
            }
            state
        };
        let synced = |app: &mut Value, revision: &str| {
            app["status"]["sync"] = json!({"status": "Synced", "revision": revision});
        };
        let hook = |phase: &str, message: &str| {
            json!([{"group": "batch", "kind": "Job", "namespace": "default", "name": "migrate",
            "hookType": "PreSync", "hookPhase": phase, "message": message, "syncPhase": "PreSync"}])
        };
        match beat {
            Beat::Stale => {}
            Beat::Pending => {
                app["operation"] = json!({"sync": {"revision": revision}, "info": infos});
            }
            Beat::Running(phase) => {
                app["status"]["operationState"] =
                    operation("Running", &revision, &infos, hook(phase, ""));
            }
            Beat::HookFails(message) => {
                app["status"]["operationState"] =
                    operation("Failed", &revision, &infos, hook("Failed", message));
            }
            Beat::SyncFails(message) => {
                let results = json!([{"group": "apps", "kind": "Deployment", "namespace": "default", "name": "web", "status": "SyncFailed", "message": message}]);
                app["status"]["operationState"] = operation("Failed", &revision, &infos, results);
            }
            Beat::Health(health) => {
                app["status"]["operationState"] =
                    operation("Succeeded", &revision, &infos, json!([]));
                synced(&mut app, &revision);
                app["status"]["health"] = json!({"status": health});
                app["status"]["resources"][0]["health"] = json!({"status": health, "message": if *health == "Healthy" { "" } else { "0 of 2 pods are ready" }});
            }
            Beat::Uncompared => {
                app["status"]["operationState"] =
                    operation("Succeeded", &revision, &infos, json!([]));
                synced(&mut app, &revision);
                app["status"]["reconciledAt"] = json!(stamp(self.time - 1));
            }
            Beat::OutOfSync => {
                app["status"]["operationState"] =
                    operation("Succeeded", &revision, &infos, json!([]));
                app["status"]["sync"]["revision"] = json!(revision);
                app["status"]["resources"][0]["status"] = json!("OutOfSync");
            }
            Beat::Theirs(theirs) => {
                app["status"]["operationState"] =
                    operation("Succeeded", theirs, &Value::Null, json!([]));
                app["status"]["operationState"]["startedAt"] = json!(stamp(self.time + 1));
                synced(&mut app, theirs);
            }
            Beat::At(revision) => {
                app["status"]["operationState"] =
                    operation("Succeeded", revision, &Value::Null, json!([]));
                synced(&mut app, revision);
            }
            Beat::Broken(message) => {
                app["status"]["conditions"] =
                    json!([{"type": "ComparisonError", "message": message}]);
                app["status"]["sync"]["status"] = json!("Unknown");
            }
            Beat::Deleted | Beat::Status(_) | Beat::Garbage => {}
        }
        app
    }
}

#[async_trait]
impl Transport for FakeArgo {
    async fn exchange(
        &self,
        request: Request,
        _limit: u64,
    ) -> Result<(StatusCode, Vec<u8>), HttpError> {
        let call = request
            .url()
            .path()
            .rsplit('/')
            .next()
            .unwrap_or("")
            .to_owned();
        let trouble = {
            let mut state = self.state();
            let at = state.troubles.iter().position(|(name, _)| *name == call);
            at.map(|at| state.troubles.remove(at).1)
        };
        match trouble {
            Some(Trouble::DieBefore) => {
                self.died.notify_one();
                return std::future::pending().await;
            }
            Some(Trouble::Busy) => {
                let (_, body) = error(400, 9, "another operation is already in progress");
                return Ok((StatusCode::BAD_REQUEST, body.into_bytes()));
            }
            Some(Trouble::Refused(status)) => {
                let (_, body) = error(status, 14, "upstream connect error");
                let status = StatusCode::from_u16(status).expect("a status");
                return Ok((status, body.into_bytes()));
            }
            _ => {}
        }
        let (status, body) = self.state().answer(&request);
        match trouble {
            Some(Trouble::DieAfter) => {
                self.died.notify_one();
                std::future::pending().await
            }
            Some(Trouble::AnswerLost) => Err(HttpError::Lost("no answer".to_owned())),
            _ => Ok((
                StatusCode::from_u16(status).expect("a status"),
                body.into_bytes(),
            )),
        }
    }
}
