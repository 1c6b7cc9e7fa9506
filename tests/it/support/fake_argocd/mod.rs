//! A strict, scripted Argo CD: whatever its published interface does not know is refused or kept as a
//! breach (`wire`), and its applications follow plots, look by look (`app`).
//!
//! It is reached in the process, as a transport of the adapter, so that syncs of half an hour pass at
//! once on a paused clock; or over HTTP.

mod app;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use pipewright::adapters::argocd::Transport;
use pipewright::adapters::http::HttpError;
use reqwest::{StatusCode, Url};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use self::app::{App, Beat};
use self::wire::{Ask, Said, error, spelled};
use super::faulty::{Faulty, Reply};

/// The commit that most tests deploy.
pub const NEW: &str = "1111111111111111111111111111111111111111";
/// What runs before.
pub const OLD: &str = "0000000000000000000000000000000000000000";
/// Somebody else's.
pub const OTHER: &str = "2222222222222222222222222222222222222222";
/// The token that is let in.
pub const TOKEN: &str = "the-token-of-the-release-bot";

/// What befalls a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The process dies before it is made.
    DieBefore,
    /// The process dies after it was made.
    DieAfter,
    /// It is made, and its answer is lost.
    AnswerLost,
    /// It is not made, and there is no answer.
    Lost,
    /// It is not made: another operation is in progress.
    Busy,
    /// It is not made, for this status.
    Refused(u16),
}

/// What the server holds.
pub struct State {
    apps: BTreeMap<String, App>,
    /// Bodies of the syncs and rollbacks that were made.
    pub writes: Vec<(String, Value)>,
    /// By the last part of the path; each befalls one call.
    pub troubles: Vec<(&'static str, Trouble)>,
    /// So many calls from now, this befalls one.
    pub later: Option<(usize, Trouble)>,
    /// Random troubles: how many calls of a hundred.
    weather: Option<(fastrand::Rng, u8)>,
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
    /// A server with one application, `main`.
    pub fn new(plot: &[Beat]) -> Self {
        let apps = [("main".to_owned(), App::new("main", plot))];
        Self {
            state: Arc::new(Mutex::new(State {
                apps: apps.into(),
                writes: Vec::new(),
                troubles: Vec::new(),
                later: None,
                weather: None,
                closed: 0,
                token: Some(TOKEN.to_owned()),
                logins: 0,
                expires: None,
                breaches: Vec::new(),
                calls: Vec::new(),
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

    /// From now on so many calls of a hundred come to grief; none at 0.
    pub fn weather(&self, seed: u64, percent: u8) {
        let weather = (percent > 0).then(|| (fastrand::Rng::with_seed(seed), percent));
        self.state().weather = weather;
    }

    /// What was changed, in order.
    pub fn changes(&self) -> Vec<String> {
        self.state()
            .writes
            .iter()
            .map(|(what, _)| what.clone())
            .collect()
    }

    /// What was changed and of which application, in order.
    pub fn changed(&self) -> Vec<String> {
        let state = self.state();
        let words = |(what, body): &(String, Value)| {
            format!("{what} {}", body["name"].as_str().unwrap_or_default())
        };
        state.writes.iter().map(words).collect()
    }

    /// Listens on a port, below the path `/argocd`.
    pub fn serve(&self) -> Faulty {
        let fake = self.clone();
        Faulty::alone(move |request| fake.reply(request))
    }

    /// What it answers to a request over HTTP.
    pub fn reply(&self, request: &super::faulty::Request) -> Reply {
        let url: Url = format!("http://argocd{}", request.path)
            .parse()
            .expect("a path");
        let header = |name: &str| request.header(name).map(str::to_owned);
        let (status, body) =
            self.state()
                .answer(&request.method, &url, header, request.body.clone());
        let kind = ("content-type", "application/json".to_owned());
        Reply::Answer(status, vec![kind], body)
    }
}

impl State {
    /// The application that every server has.
    pub fn main(&mut self) -> &mut App {
        self.app("main")
    }

    pub fn app(&mut self, name: &str) -> &mut App {
        self.apps.get_mut(name).expect("it was added")
    }

    /// One more application.
    pub fn add(&mut self, name: &str, plot: &[Beat]) -> &mut App {
        self.apps
            .entry(name.to_owned())
            .or_insert_with(|| App::new(name, plot))
    }

    fn answer(
        &mut self,
        method: &str,
        url: &Url,
        header: impl Fn(&str) -> Option<String>,
        body: Vec<u8>,
    ) -> Said {
        let Some(path) = url.path().strip_prefix("/argocd/api/v1/") else {
            let breach = format!("{} is outside the base path", url.path());
            self.breaches.push(breach);
            return error(404, 5, "Not Found");
        };
        let ask = Ask {
            method: method.to_owned(),
            parts: path.split('/').map(str::to_owned).collect(),
            query: url.query_pairs().into_owned().collect(),
            content_type: header("content-type"),
            authorization: header("authorization"),
            body,
        };
        let body = match spelled(&ask, &mut self.breaches) {
            Ok(body) => body,
            Err(said) => return said,
        };
        let parts: Vec<&str> = ask.parts.iter().map(String::as_str).collect();
        if parts == ["session"] {
            return self.login(&ask, &body);
        }
        if let Some(left) = &mut self.expires {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.expires = None;
                self.token = None;
            }
        }
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        match &ask.authorization {
            None => return error(401, 16, "no session information"),
            given if bearer.is_none() || *given != bearer => {
                return error(401, 16, "invalid session: token is expired");
            }
            Some(_) => {}
        }
        let ["applications", name, rest @ ..] = parts.as_slice() else {
            let names = self.apps.keys();
            let items: Vec<Value> = names
                .map(|name| json!({"metadata": {"name": name}}))
                .collect();
            return (200, json!({"items": items}).to_string());
        };
        let what = rest.join("/");
        self.calls.push(format!("{method} {what}"));
        if self.apps.get(*name).is_none_or(|app| app.missing) {
            return error(403, 7, "permission denied");
        }
        match (method, what.as_str()) {
            ("GET", "") => self.look(name),
            ("GET", "syncwindows") => self.windows(),
            ("GET", "managed-resources") => managed(),
            ("GET", "manifests") => manifests(),
            ("GET", "logs") => self.logs(),
            ("POST", "sync") => self.sync(name, &body),
            ("POST", "rollback") => self.rollback(name, &body),
            _ => (200, "{}".to_owned()),
        }
    }

    fn login(&mut self, ask: &Ask, body: &Value) -> Said {
        if ask.authorization.is_some() {
            self.breaches.push("a login with a token".to_owned());
        }
        if *body != json!({"username": "admin", "password": "let me in"}) {
            return error(401, 16, "Invalid username or password");
        }
        self.logins += 1;
        let token = format!("{TOKEN}-{}", self.logins);
        self.token = Some(token.clone());
        (200, json!({"token": token}).to_string())
    }

    fn windows(&mut self) -> Said {
        let open = self.closed == 0;
        self.closed = self.closed.saturating_sub(1);
        let window = json!({"kind": "deny", "schedule": "0 22 * * *", "duration": "8h", "manualSync": false});
        let active = if open { json!([]) } else { json!([window]) };
        let windows =
            json!({"canSync": open, "activeWindows": active, "assignedWindows": [window]});
        (200, windows.to_string())
    }

    fn logs(&self) -> Said {
        if self.no_logs {
            return error(403, 7, "permission denied: logs, get, default/main");
        }
        let line = |text: &str| {
            json!({"result": {"content": text, "podName": "migrate-x", "last": false}}).to_string()
        };
        let (first, last) = (line("connecting to db"), line("ERROR: no such column"));
        (200, format!("{first}\n{last}\n"))
    }

    fn sync(&mut self, name: &str, body: &Value) -> Said {
        let revision = body.get("revision").and_then(Value::as_str);
        let app = self.app(name);
        if app.auto && revision.is_some() {
            let words = "Cannot sync to 1111111: auto-sync currently set to main";
            return error(400, 9, words);
        }
        let revision = revision.unwrap_or(NEW).to_owned();
        let shown = app.begin(revision, body["infos"].clone(), false);
        self.writes.push(("sync".to_owned(), body.clone()));
        (200, shown.to_string())
    }

    fn rollback(&mut self, name: &str, body: &Value) -> Said {
        let app = self.app(name);
        if app.auto {
            let words = "rollback cannot be initiated when auto-sync is enabled";
            return error(400, 9, words);
        }
        let id = body["id"].as_i64().unwrap_or_default();
        let found = app.history.iter().find(|(known, _)| *known == id).cloned();
        let Some((_, revision)) = found else {
            let words = format!("application {name} does not have deployment with id {id}");
            return error(400, 3, &words);
        };
        let shown = app.begin(revision, Value::Null, true);
        self.writes.push(("rollback".to_owned(), body.clone()));
        (200, shown.to_string())
    }

    fn look(&mut self, name: &str) -> Said {
        let app = self.app(name);
        match app.next() {
            Beat::Deleted => {
                let words = format!("applications.argoproj.io \"{name}\" not found");
                error(404, 5, &words)
            }
            Beat::Status(status) => error(status, 14, "upstream connect error"),
            Beat::Garbage => (200, "<html>hello</html>".to_owned()),
            beat => (200, app.shown(&beat).to_string()),
        }
    }

    /// What befalls a call.
    fn trouble(&mut self, call: &str) -> Option<Trouble> {
        if let Some((left, trouble)) = &mut self.later {
            if *left == 0 {
                let trouble = *trouble;
                self.later = None;
                return Some(trouble);
            }
            *left -= 1;
        }
        if let Some(at) = self.troubles.iter().position(|(name, _)| *name == call) {
            return Some(self.troubles.remove(at).1);
        }
        let (random, percent) = self.weather.as_mut()?;
        if random.u8(..100) >= *percent {
            return None;
        }
        Some(match random.u8(..7) {
            0 => Trouble::Refused(429),
            1 => Trouble::Refused(500),
            2 => Trouble::Refused(502),
            3 => Trouble::Refused(503),
            4 => Trouble::Refused(504),
            5 => Trouble::Lost,
            _ => Trouble::AnswerLost,
        })
    }
}

fn managed() -> Said {
    let live = json!({"kind": "Deployment", "metadata": {"name": "web", "uid": "1"}, "spec": {"replicas": 2, "image": "web:1"}});
    let live = live.to_string();
    let item = json!({"group": "apps", "kind": "Deployment", "namespace": "default", "name": "web",
        "targetState": live, "liveState": live, "normalizedLiveState": live, "predictedLiveState": live});
    (200, json!({"items": [item]}).to_string())
}

fn manifests() -> Said {
    let web =
        json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"image": "web:2"}});
    let extra = json!({"kind": "ConfigMap", "metadata": {"name": "extra"}});
    let manifests = json!({"manifests": [web.to_string(), extra.to_string()], "revision": NEW});
    (200, manifests.to_string())
}

#[async_trait]
impl Transport for FakeArgo {
    async fn exchange(
        &self,
        request: reqwest::Request,
        _limit: u64,
    ) -> Result<(StatusCode, Vec<u8>), HttpError> {
        let path = request.url().path();
        let call = path.rsplit('/').next().unwrap_or("").to_owned();
        let trouble = self.state().trouble(&call);
        let said = |(status, body): Said| {
            let status = StatusCode::from_u16(status).expect("a status");
            Ok((status, body.into_bytes()))
        };
        match trouble {
            Some(Trouble::DieBefore) => {
                self.died.notify_one();
                return std::future::pending().await;
            }
            Some(Trouble::Busy) => {
                return said(error(400, 9, "another operation is already in progress"));
            }
            Some(Trouble::Refused(status)) => {
                return said(error(status, 14, "upstream connect error"));
            }
            Some(Trouble::Lost) => return Err(HttpError::Lost("no answer".to_owned())),
            _ => {}
        }
        let header = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let body = request.body().and_then(|body| body.as_bytes());
        let body = body.unwrap_or_default().to_vec();
        let answer = self
            .state()
            .answer(request.method().as_str(), request.url(), header, body);
        match trouble {
            Some(Trouble::DieAfter) => {
                self.died.notify_one();
                std::future::pending().await
            }
            Some(Trouble::AnswerLost) => Err(HttpError::Lost("no answer".to_owned())),
            _ => said(answer),
        }
    }
}
