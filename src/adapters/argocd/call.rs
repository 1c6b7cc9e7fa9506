//! One request to Argo CD: its address, who asks, and what an answer that is none means.

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, StatusCode, Url};
use serde_json::{Value, json};

use super::super::http::{HttpError, one_line};
use super::{ArgoCd, place};
use crate::base::Secret;
use crate::ports::gitops::{Access, AppName, GitOpsError, Server};

/// Largest answer about an application, in bytes: its manifests may be many.
pub(super) const LARGE: u64 = 64 << 20;
/// Largest other answer.
pub(super) const SMALL: u64 = 1 << 20;

/// What is asked.
pub(super) struct Ask {
    app: AppName,
    action: &'static str,
    pub(super) path: String,
    pub(super) query: Vec<(&'static str, String)>,
    method: Method,
    body: Option<Value>,
    limit: u64,
}

impl Ask {
    /// Something about an application.
    pub(super) fn of(app: &AppName, action: &'static str, rest: &str, limit: u64) -> Self {
        Self {
            app: app.clone(),
            action,
            path: format!("/api/v1/applications/{}{rest}", segment(&app.name)),
            query: place(app),
            method: Method::GET,
            body: None,
            limit,
        }
    }

    /// Makes it a change. Where the application is stands in the body, if there is one.
    pub(super) fn change(&mut self, method: Method, body: Option<Value>) {
        if body.is_some() {
            self.query.clear();
        }
        self.method = method;
        self.body = body;
    }
}

/// A name within a path.
fn segment(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => text.push(byte.into()),
            b'.' if name != "." && name != ".." => text.push('.'),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

impl ArgoCd {
    /// Asks, and takes the answer as JSON.
    pub(super) async fn ask(&self, server: &Server, ask: Ask) -> Result<Value, GitOpsError> {
        let text = self.ask_text(server, &ask).await?;
        serde_json::from_slice(&text).map_err(|_| {
            broken(
                server,
                &ask,
                "its answer is not JSON; is this the address of Argo CD?",
            )
        })
    }

    /// Asks. A session that has run out is renewed.
    pub(super) async fn ask_text(
        &self,
        server: &Server,
        ask: &Ask,
    ) -> Result<Vec<u8>, GitOpsError> {
        let token = match &server.access {
            Access::Anonymous => None,
            Access::Token(token) => Some(token.clone()),
            Access::Login { user, password } => match self.session(server) {
                Some(token) => Some(token),
                None => Some(self.login(server, user, password, None).await?),
            },
        };
        let first = self.once(server, ask, token.as_ref()).await;
        match (&server.access, first) {
            (Access::Login { user, password }, Err(GitOpsError::Unknown { .. })) => {
                let old = token.as_ref();
                let token = self.login(server, user, password, old).await?;
                self.once(server, ask, Some(&token)).await
            }
            (_, answer) => answer,
        }
    }

    /// A token other than the old one. Of several that need one, the first logs in for all.
    async fn login(
        &self,
        server: &Server,
        user: &Secret,
        password: &Secret,
        old: Option<&Secret>,
    ) -> Result<Secret, GitOpsError> {
        let _alone = self.logins.lock().await;
        if let Some(token) = self.session(server).filter(|token| Some(token) != old) {
            return Ok(token);
        }
        let ask = Ask {
            app: AppName::default(),
            action: "log in",
            path: "/api/v1/session".to_owned(),
            query: Vec::new(),
            method: Method::POST,
            body: Some(json!({"username": user.expose(), "password": password.expose()})),
            limit: SMALL,
        };
        let text = self.once(server, &ask, None).await?;
        let answer: Option<Value> = serde_json::from_slice(&text).ok();
        let token = answer.as_ref().and_then(|answer| answer.get("token"));
        match token.and_then(Value::as_str) {
            Some(token) if !token.is_empty() => {
                let token = Secret::new(token.to_owned());
                self.keep(server, &token);
                Ok(token)
            }
            _ => Err(broken(server, &ask, "it gave no token for the login")),
        }
    }

    async fn once(
        &self,
        server: &Server,
        ask: &Ask,
        token: Option<&Secret>,
    ) -> Result<Vec<u8>, GitOpsError> {
        let request =
            request(server, ask, token).map_err(|message| refused(server, ask, message))?;
        let transport = |error: HttpError| match error {
            HttpError::Lost(message) => broken(server, ask, &message),
            HttpError::Unusable(message) if message.contains("certificate is not trusted") => {
                let hint = "add its authority to the certificates of this machine, or point SSL_CERT_FILE at a bundle that has it";
                refused(server, ask, format!("{message}; {hint}"))
            }
            error => refused(server, ask, error.to_string()),
        };
        let answer = self.transport.exchange(request, ask.limit).await;
        let (status, body) = answer.map_err(transport)?;
        match status.is_success() {
            true => Ok(body),
            false => Err(meaning(server, ask, status, &body)),
        }
    }
}

fn request(server: &Server, ask: &Ask, token: Option<&Secret>) -> Result<Request, String> {
    let mut url: Url = server.url.trim_end_matches('/').parse().map_err(|_| {
        format!(
            "its address \"{}\" is not a URL",
            one_line(&server.url, 100)
        )
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("its address does not begin with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its address holds a credential; use `token` or `login`".to_owned());
    }
    let path = format!("{}{}", url.path().trim_end_matches('/'), ask.path);
    url.set_path(&path);
    if url.path() != path {
        return Err("no application can have such a name".to_owned());
    }
    if !ask.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&ask.query);
    }
    let mut request = Request::new(ask.method.clone(), url);
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose().trim()))
            .map_err(|_| "the token has characters a header cannot hold".to_owned())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    if ask.method != Method::GET {
        // Required since Argo CD 2.10 of everything that is no GET, with a body or without.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(body) = &ask.body {
        *request.body_mut() = Some(body.to_string().into());
    }
    Ok(request)
}

fn broken(server: &Server, ask: &Ask, message: &str) -> GitOpsError {
    GitOpsError::Broken {
        server: server.name.clone(),
        action: what(ask),
        message: message.to_owned(),
    }
}

fn refused(server: &Server, ask: &Ask, message: String) -> GitOpsError {
    GitOpsError::Refused {
        server: server.name.clone(),
        app: ask.app.to_string(),
        action: ask.action.to_owned(),
        message,
    }
}

fn what(ask: &Ask) -> String {
    format!("{} {}", ask.action, ask.app).trim_end().to_owned()
}

/// What an answer that is none means: by its status and the words of the server, of which some
/// versions use one status and some another.
fn meaning(server: &Server, ask: &Ask, status: StatusCode, body: &[u8]) -> GitOpsError {
    let said: Option<Value> = serde_json::from_slice(body).ok();
    let said = said.as_ref().and_then(|said| {
        let message = said.get("message").or_else(|| said.get("error"))?;
        message.as_str().map(|text| one_line(text, 500))
    });
    let words = said.clone().unwrap_or_default().to_lowercase();
    let message = match said {
        Some(said) if !said.is_empty() => said,
        _ if status.is_redirection() => {
            format!("it answered {status}, a redirect; use the final address, `https://…`")
        }
        _ => format!("status {}", status.as_u16()),
    };
    let (name, app) = (server.name.clone(), ask.app.to_string());
    let changes = ask.method != Method::GET;
    if changes && words.contains("operation is already in progress") {
        return GitOpsError::Busy { app };
    }
    if changes && words.contains("sync window") {
        return GitOpsError::Closed { app, message };
    }
    if changes && (words.contains("auto-sync") || words.contains("automated sync")) {
        return GitOpsError::SyncsItself { app, message };
    }
    match status {
        StatusCode::UNAUTHORIZED => GitOpsError::Unknown {
            server: name,
            message,
        },
        StatusCode::FORBIDDEN => GitOpsError::Denied {
            server: name,
            app,
            action: ask.action.to_owned(),
            message,
        },
        StatusCode::NOT_FOUND if !app.is_empty() => GitOpsError::NotFound { server: name, app },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => {
            broken(server, ask, &message)
        }
        status if status.is_server_error() => broken(server, ask, &message),
        _ => refused(server, ask, message),
    }
}
