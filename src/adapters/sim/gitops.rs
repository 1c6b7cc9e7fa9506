//! Simulated Argo CD: every server has every application that is asked for, healthy at nothing in
//! particular. A sync brings its revision, and is done at once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use super::call::{Call, Done, Life};
use super::fault::{Failure, PortError};
use super::ledger::Rule;
use super::state::State;
use crate::base::Timestamp;
use crate::ports::gitops::{
    AppName, AppState, GitOps, GitOpsError, GitOpsReader, Managed, Operation, Refresh, Server,
    SyncRequest, SyncResult, Windows,
};

/// The applications of a simulated world.
#[derive(Clone, Debug, Default)]
pub(super) struct Apps {
    /// By server and application.
    apps: BTreeMap<(String, String), AppState>,
    /// Counts operations; stands for time.
    clock: i64,
}

impl Apps {
    fn app(&mut self, server: &Server, name: &AppName) -> &mut AppState {
        let key = (server.url.clone(), name.to_string());
        self.apps.entry(key).or_insert_with(|| AppState {
            project: name.project.clone().unwrap_or_else(|| "default".to_owned()),
            targets: vec!["main".to_owned()],
            sync: "Synced".to_owned(),
            revisions: vec!["0".repeat(40)],
            health: "Healthy".to_owned(),
            history: vec![(0, vec!["0".repeat(40)])],
            ..AppState::default()
        })
    }

    fn bring(
        &mut self,
        server: &Server,
        name: &AppName,
        revision: Option<String>,
        infos: &[(String, String)],
    ) {
        self.clock += 1000;
        let at = Some(Timestamp(self.clock));
        let app = self.app(server, name);
        if let Some(revision) = revision {
            app.revisions = vec![revision];
        }
        let next = app.history.last().map_or(0, |(id, _)| id + 1);
        app.history.push((next, app.revisions.clone()));
        app.reconciled = at;
        app.operation = Some(Operation {
            phase: "Succeeded".to_owned(),
            infos: infos.to_vec(),
            revisions: app.revisions.clone(),
            started: at,
            finished: at,
            ..Operation::default()
        });
    }
}

impl PortError for GitOpsError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        let (server, app) = ("simulated".to_owned(), call.subject().to_owned());
        let message = "a scripted fault".to_owned();
        Some(match failure {
            Failure::Broken => Self::broken(call, message),
            Failure::Denied => Self::Denied {
                server,
                app,
                action: "get".to_owned(),
                message,
            },
            Failure::NotFound => Self::NotFound { server, app },
            Failure::Refused => Self::Refused {
                server,
                app,
                action: call.to_string(),
                message,
            },
            _ => return None,
        })
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Broken {
            server: "simulated".to_owned(),
            action: call.to_string(),
            message,
        }
    }
}

impl Life {
    async fn app_of<T: Send>(
        &self,
        call: &'static str,
        app: &AppName,
        look: impl FnOnce(&mut State) -> T + Send,
    ) -> Result<T, GitOpsError> {
        let call = Call::one(call, &app.to_string());
        self.pass::<GitOpsError>(&call, None).await?;
        Ok(self.look(look).await)
    }
}

#[async_trait]
impl GitOpsReader for Life {
    async fn app(
        &self,
        server: &Server,
        app: &AppName,
        _refresh: Refresh,
    ) -> Result<AppState, GitOpsError> {
        self.app_of("gitops.app", app, |state| {
            state.apps.app(server, app).clone()
        })
        .await
    }

    async fn names(&self, server: &Server) -> Result<Vec<String>, GitOpsError> {
        self.app_of("gitops.names", &AppName::default(), |state| {
            let keys = state.apps.apps.keys();
            keys.filter(|(url, _)| *url == server.url)
                .map(|(_, name)| name.clone())
                .collect()
        })
        .await
    }

    async fn windows(&self, _server: &Server, app: &AppName) -> Result<Windows, GitOpsError> {
        self.app_of("gitops.windows", app, |_| Windows {
            can_sync: true,
            ..Windows::default()
        })
        .await
    }

    async fn managed(&self, _server: &Server, app: &AppName) -> Result<Vec<Managed>, GitOpsError> {
        self.app_of("gitops.managed", app, |_| Vec::new()).await
    }

    async fn manifests(
        &self,
        _server: &Server,
        app: &AppName,
        _revision: &str,
    ) -> Result<Vec<Value>, GitOpsError> {
        self.app_of("gitops.manifests", app, |_| Vec::new()).await
    }

    async fn log(
        &self,
        _server: &Server,
        app: &AppName,
        _of: &SyncResult,
        _lines: u32,
    ) -> Result<Vec<String>, GitOpsError> {
        self.app_of("gitops.log", app, |_| Vec::new()).await
    }
}

#[async_trait]
impl GitOps for Life {
    async fn sync(
        &self,
        server: &Server,
        app: &AppName,
        request: &SyncRequest,
    ) -> Result<(), GitOpsError> {
        let call = Call::one("gitops.sync", &app.to_string());
        let mut ticket = self.enter::<GitOpsError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let told = state.apps.app(server, app).operation.clone();
            if told.is_some_and(|op| !op.infos.is_empty() && op.infos == request.infos) {
                state.violate(
                    Rule::SyncedTwice,
                    &call,
                    "the same sync was asked for twice",
                );
            }
            let revision = request.revision.clone();
            state
                .apps
                .bring(server, app, revision.clone(), &request.infos);
            Ok(Done::changed(
                (),
                app.to_string(),
                revision.unwrap_or_default(),
            ))
        })
        .await
    }

    async fn rollback(
        &self,
        server: &Server,
        app: &AppName,
        id: i64,
        _prune: bool,
    ) -> Result<(), GitOpsError> {
        let call = Call::one("gitops.rollback", &app.to_string());
        let mut ticket = self.enter::<GitOpsError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let history = &state.apps.app(server, app).history;
            let found = history.iter().find(|(known, _)| *known == id);
            let Some((_, revisions)) = found.cloned() else {
                return Err(GitOpsError::Refused {
                    server: server.name.clone(),
                    app: app.to_string(),
                    action: "roll back".to_owned(),
                    message: format!("there is no deployment with id {id}"),
                });
            };
            let revision = revisions.first().cloned();
            state.apps.bring(server, app, revision.clone(), &[]);
            Ok(Done::changed(
                (),
                app.to_string(),
                revision.unwrap_or_default(),
            ))
        })
        .await
    }

    async fn terminate(&self, _server: &Server, app: &AppName) -> Result<(), GitOpsError> {
        let call = Call::one("gitops.terminate", &app.to_string());
        self.pass::<GitOpsError>(&call, None).await
    }
}
