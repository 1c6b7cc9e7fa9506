//! Argo CD over its REST interface. Asks once; whoever calls decides about another try. Only a
//! session that has run out is renewed here, once per call.

mod call;
mod decode;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use reqwest::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};

use self::call::{Ask, LARGE, SMALL};
use super::http::{Http, HttpError, read, read_start};
use crate::base::{LateSecrets, Secret};
use crate::ports::gitops::{
    AppName, AppState, GitOps, GitOpsError, GitOpsReader, Managed, Refresh, Server, SyncRequest,
    SyncResult, Windows,
};

/// Most names that are listed.
const NAMES: usize = 20;

/// How much of an error is looked at.
const ERROR: u64 = 16 * 1024;

/// Carries a request to a server and its answer back.
#[async_trait]
pub trait Transport: Send + Sync {
    /// The status, and the body of at most `limit` bytes.
    async fn exchange(
        &self,
        request: Request,
        limit: u64,
    ) -> Result<(StatusCode, Vec<u8>), HttpError>;
}

#[async_trait]
impl Transport for Http {
    async fn exchange(
        &self,
        request: Request,
        limit: u64,
    ) -> Result<(StatusCode, Vec<u8>), HttpError> {
        let answer = self.send(request).await?;
        let status = answer.status();
        let body = match status.is_success() {
            true => read(answer, limit).await?,
            false => read_start(answer, ERROR).await,
        };
        Ok((status, body.to_vec()))
    }
}

/// Servers of Argo CD.
#[derive(Clone)]
pub struct ArgoCd {
    transport: Arc<dyn Transport>,
    late: LateSecrets,
    /// Tokens of those who log in.
    sessions: Arc<Mutex<HashMap<Server, Secret>>>,
    /// Held by whoever logs in.
    logins: Arc<tokio::sync::Mutex<()>>,
}

impl std::fmt::Debug for ArgoCd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArgoCd").finish_non_exhaustive()
    }
}

impl ArgoCd {
    /// Servers, reached by the shared client; tokens that come up are hidden through `late`.
    pub fn new(http: Http, late: LateSecrets) -> Self {
        Self::with(Arc::new(http), late)
    }

    /// Servers, reached in another way.
    pub fn with(transport: Arc<dyn Transport>, late: LateSecrets) -> Self {
        Self {
            transport,
            late,
            sessions: Arc::default(),
            logins: Arc::default(),
        }
    }

    fn session(&self, server: &Server) -> Option<Secret> {
        let sessions = self.sessions.lock();
        let sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        sessions.get(server).cloned()
    }

    fn keep(&self, server: &Server, token: &Secret) {
        self.late.add(token);
        let sessions = self.sessions.lock();
        let mut sessions = sessions.unwrap_or_else(PoisonError::into_inner);
        sessions.insert(server.clone(), token.clone());
    }
}

/// The query that says where an application is.
fn place(app: &AppName) -> Vec<(&'static str, String)> {
    let namespace = app.namespace.clone().map(|name| ("appNamespace", name));
    let project = app.project.clone().map(|name| ("project", name));
    namespace.into_iter().chain(project).collect()
}

fn place_in(app: &AppName, body: &mut Map<String, Value>) {
    body.insert("name".to_owned(), json!(app.name));
    for (name, value) in place(app) {
        body.insert(name.to_owned(), json!(value));
    }
}

#[async_trait]
impl GitOpsReader for ArgoCd {
    async fn app(
        &self,
        server: &Server,
        app: &AppName,
        refresh: Refresh,
    ) -> Result<AppState, GitOpsError> {
        let mut ask = Ask::of(app, "get", "", LARGE);
        match refresh {
            Refresh::None => {}
            Refresh::Normal => ask.query.push(("refresh", "normal".to_owned())),
            Refresh::Hard => ask.query.push(("refresh", "hard".to_owned())),
        }
        let answer = self.ask(server, ask).await?;
        decode::app(&answer).ok_or_else(|| GitOpsError::Broken {
            server: server.name.clone(),
            action: format!("get {app}"),
            message: "it answered with something that is no application".to_owned(),
        })
    }

    async fn names(&self, server: &Server) -> Result<Vec<String>, GitOpsError> {
        let mut ask = Ask::of(&AppName::default(), "list", "", LARGE);
        ask.path = "/api/v1/applications".to_owned();
        ask.query.push(("fields", "items.metadata.name".to_owned()));
        let answer = self.ask(server, ask).await?;
        let items = decode::list(&answer, "items");
        let names = items.filter_map(|item| item.pointer("/metadata/name")?.as_str());
        Ok(names.take(NAMES).map(str::to_owned).collect())
    }

    async fn windows(&self, server: &Server, app: &AppName) -> Result<Windows, GitOpsError> {
        let answer = self
            .ask(server, Ask::of(app, "get", "/syncwindows", SMALL))
            .await?;
        Ok(decode::windows(&answer))
    }

    async fn managed(&self, server: &Server, app: &AppName) -> Result<Vec<Managed>, GitOpsError> {
        let mut ask = Ask::of(app, "get", "/managed-resources", LARGE);
        // This name has another meaning here: it would narrow down the resources.
        ask.query.retain(|(name, _)| *name != "namespace");
        let answer = self.ask(server, ask).await?;
        Ok(decode::list(&answer, "items")
            .filter_map(decode::managed)
            .collect())
    }

    async fn manifests(
        &self,
        server: &Server,
        app: &AppName,
        revision: &str,
    ) -> Result<Vec<Value>, GitOpsError> {
        let mut ask = Ask::of(app, "get", "/manifests", LARGE);
        ask.query.push(("revision", revision.to_owned()));
        let answer = self.ask(server, ask).await?;
        Ok(decode::list(&answer, "manifests")
            .filter_map(|text| serde_json::from_str(text.as_str()?).ok())
            .collect())
    }

    async fn log(
        &self,
        server: &Server,
        app: &AppName,
        of: &SyncResult,
        lines: u32,
    ) -> Result<Vec<String>, GitOpsError> {
        let mut ask = Ask::of(app, "read the logs of", "/logs", SMALL);
        ask.query.extend([
            ("namespace", of.namespace.clone()),
            ("group", of.group.clone()),
            ("kind", of.kind.clone()),
            ("resourceName", of.name.clone()),
            ("tailLines", lines.to_string()),
            ("follow", "false".to_owned()),
        ]);
        let answer = self.ask_text(server, &ask).await?;
        Ok(decode::log(&answer))
    }
}

#[async_trait]
impl GitOps for ArgoCd {
    async fn sync(
        &self,
        server: &Server,
        app: &AppName,
        request: &SyncRequest,
    ) -> Result<(), GitOpsError> {
        let mut body = Map::new();
        place_in(app, &mut body);
        if let Some(revision) = &request.revision {
            body.insert("revision".to_owned(), json!(revision));
        }
        body.insert("dryRun".to_owned(), json!(false));
        body.insert("prune".to_owned(), json!(request.prune));
        body.insert(
            "strategy".to_owned(),
            json!({"hook": {"force": request.force}}),
        );
        if !request.options.is_empty() {
            let options = json!({"items": request.options});
            body.insert("syncOptions".to_owned(), options);
        }
        if !request.only.is_empty() {
            let only = request.only.iter();
            let only: Vec<Value> = only
                .map(|one| json!({"group": one.group, "kind": one.kind, "name": one.name}))
                .collect();
            body.insert("resources".to_owned(), json!(only));
        }
        let infos = request.infos.iter();
        let infos: Vec<Value> = infos
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        body.insert("infos".to_owned(), json!(infos));
        let mut ask = Ask::of(app, "sync", "/sync", LARGE);
        ask.change(Method::POST, Some(Value::Object(body)));
        self.ask(server, ask).await.map(|_| ())
    }

    async fn rollback(
        &self,
        server: &Server,
        app: &AppName,
        id: i64,
        prune: bool,
    ) -> Result<(), GitOpsError> {
        let mut body = Map::new();
        place_in(app, &mut body);
        // The description says text, as protocol buffers have it; the server reads plain JSON, in
        // which only a number is one.
        body.insert("id".to_owned(), json!(id));
        body.insert("prune".to_owned(), json!(prune));
        body.insert("dryRun".to_owned(), json!(false));
        let mut ask = Ask::of(app, "roll back", "/rollback", LARGE);
        ask.change(Method::POST, Some(Value::Object(body)));
        self.ask(server, ask).await.map(|_| ())
    }

    async fn terminate(&self, server: &Server, app: &AppName) -> Result<(), GitOpsError> {
        let mut ask = Ask::of(app, "stop the operation of", "/operation", SMALL);
        ask.change(Method::DELETE, None);
        self.ask(server, ask).await.map(|_| ())
    }
}
