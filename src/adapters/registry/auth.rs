//! Gets into registries: Basic logins, and tokens from token servers, remembered while they last.
//!
//! Credentials go to the registry or the token server it names, over TLS unless the target says
//! plain HTTP, and only after the registry asked for them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request, Url};
use tokio::time::Instant;

use super::challenge::Challenge;
use super::docker_config::{Credentials, DockerConfig, IDENTITY_USER};
use super::failure::{Asked, Failure};
use super::names::Endpoint;
use crate::adapters::clock::SystemClock;
use crate::adapters::http::{self, Http, retry_after};
use crate::base::Secret;
use crate::ports::clock::Clock as _;
use crate::ports::registry::{Login, Target};

/// Largest answer of a token server, in bytes.
const ANSWER: u64 = 1 << 20;
/// How long a Basic login is used before the docker configuration is asked again.
const BASIC_LASTS: Duration = Duration::from_secs(300);
/// How long a token lasts if the token server does not say.
const TOKEN_LASTS: Duration = Duration::from_secs(60);
/// A token is not used this close to its end.
const MARGIN: Duration = Duration::from_secs(10);
/// Longest that a token is believed to last.
const TOKEN_LASTS_AT_MOST: Duration = Duration::from_secs(12 * 3600);
/// Entries before the memory is swept.
const MEMORY: usize = 1024;

/// What a request must be allowed to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// Read a repository.
    Pull(&'a str),
    /// Read and write a repository.
    Push(&'a str),
    /// Write the first repository with blobs of the second.
    Mount(&'a str, &'a str),
}

impl Scope<'_> {
    fn tokens(self, endpoint: &Endpoint) -> Vec<String> {
        let one = |name, actions| format!("repository:{}:{actions}", endpoint.scope_name(name));
        match self {
            Self::Pull(name) => vec![one(name, "pull")],
            Self::Push(name) => vec![one(name, "pull,push")],
            Self::Mount(name, from) => vec![one(name, "pull,push"), one(from, "pull")],
        }
    }
}

/// One request's business with a registry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Errand<'a> {
    /// For messages.
    pub(super) asked: Asked<'a>,
    /// The registry and who we are.
    pub(super) target: &'a Target,
    /// Where the registry is.
    pub(super) endpoint: &'a Endpoint,
    /// What must be allowed.
    pub(super) scope: Scope<'a>,
}

/// An `Authorization` header and what must not be quoted because of it.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// The header's value.
    pub(super) header: HeaderValue,
    /// The secrets in it.
    pub(super) hidden: Vec<Secret>,
    /// It was used before and may have run out.
    pub(super) remembered: bool,
    /// It was given without a login.
    pub(super) anonymous: bool,
}

/// Knows what registries demand and holds what they accepted.
#[derive(Debug)]
pub(super) struct Authority {
    http: Http,
    docker: DockerConfig,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    challenges: HashMap<String, Challenge>,
    passes: HashMap<PassKey, (Pass, Instant)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PassKey {
    endpoint: String,
    login: Login,
    scopes: Vec<String>,
}

impl Authority {
    pub(super) fn new(http: Http, docker: DockerConfig) -> Self {
        Self {
            http,
            docker,
            memory: Mutex::default(),
        }
    }

    /// What to send along unasked; nothing to a registry that has not asked for anything yet.
    pub(super) async fn pass(&self, errand: Errand<'_>) -> Result<Option<Pass>, Failure> {
        let key = key(errand);
        let known = {
            let memory = self.memory();
            if let Some((pass, until)) = memory.passes.get(&key)
                && *until > Instant::now()
            {
                return Ok(Some(pass.clone()));
            }
            memory.challenges.get(&key.endpoint).cloned()
        };
        match known {
            Some(challenge) => self.obtain(errand, &challenge).await,
            None => Ok(None),
        }
    }

    /// What to send after the registry did not let us in with `old`; `None` if there is nothing
    /// else to try.
    pub(super) async fn renew(
        &self,
        errand: Errand<'_>,
        headers: &HeaderMap,
        old: Option<&Pass>,
    ) -> Result<Option<Pass>, Failure> {
        let key = key(errand);
        let challenge = {
            let mut memory = self.memory();
            memory.passes.remove(&key);
            let told = Challenge::of(headers);
            if let Some(told) = &told {
                // The scope belongs to this request only.
                let mut general = told.clone();
                if let Challenge::Bearer { scope, .. } = &mut general {
                    *scope = None;
                }
                if memory.challenges.len() >= MEMORY {
                    memory.challenges.clear();
                }
                memory.challenges.insert(key.endpoint.clone(), general);
            }
            told.or_else(|| memory.challenges.get(&key.endpoint).cloned())
        };
        let Some(challenge) = challenge else {
            return Ok(None);
        };
        let new = self.obtain(errand, &challenge).await?;
        Ok(new.filter(|new| old.is_none_or(|old| old.header != new.header)))
    }

    async fn obtain(
        &self,
        errand: Errand<'_>,
        challenge: &Challenge,
    ) -> Result<Option<Pass>, Failure> {
        let credentials = self.credentials(errand).await?;
        let (pass, lasts) = match challenge {
            Challenge::Basic => {
                let Some(credentials) = credentials else {
                    return Err(nobody(errand));
                };
                (basic(&credentials), BASIC_LASTS)
            }
            Challenge::Bearer {
                realm,
                service,
                scope,
            } => {
                let scopes = scopes(errand, scope.as_deref());
                let request = token_request(
                    errand,
                    realm,
                    service.as_deref(),
                    &scopes,
                    credentials.as_ref(),
                )?;
                self.token(errand, request, credentials).await?
            }
        };
        if lasts > MARGIN {
            let stored = Pass {
                remembered: true,
                ..pass.clone()
            };
            let mut memory = self.memory();
            if memory.passes.len() >= MEMORY {
                let now = Instant::now();
                memory.passes.retain(|_, (_, until)| *until > now);
                if memory.passes.len() >= MEMORY {
                    memory.passes.clear();
                }
            }
            let until = Instant::now() + (lasts - MARGIN);
            memory.passes.insert(key(errand), (stored, until));
        }
        Ok(Some(pass))
    }

    /// The login a target stands for, if there is one.
    pub(super) async fn credentials(
        &self,
        errand: Errand<'_>,
    ) -> Result<Option<Credentials>, Failure> {
        match &errand.target.login {
            Login::Basic { user, password } => Ok(Some(Credentials {
                user: user.clone(),
                secret: password.clone(),
            })),
            Login::Ecr(_) => Err(errand
                .asked
                .refused("its login comes from an AWS account, which was not asked")),
            Login::Ambient => {
                let found = self.docker.login(&errand.target.host).await;
                found.map_err(|error| errand.asked.refused(format!("no login: {error}")))
            }
        }
    }

    async fn token(
        &self,
        errand: Errand<'_>,
        request: Request,
        credentials: Option<Credentials>,
    ) -> Result<(Pass, Duration), Failure> {
        let what = format!("a token for {}", errand.asked.what);
        let asked = Asked {
            what: &what,
            ..errand.asked
        };
        let mut hidden = Vec::new();
        let anonymous = credentials.is_none();
        if let Some(credentials) = credentials {
            hidden = basic(&credentials).hidden;
        }
        let send = self.http.send(request).await;
        let answer = send.map_err(|error| asked.lost(error))?;
        let status = answer.status();
        if status.is_redirection() {
            return Err(asked.refused("its token server redirects elsewhere"));
        }
        if !status.is_success() {
            let after = retry_after(answer.headers(), SystemClock.now());
            let body = http::read_start(answer, ANSWER).await;
            let failure = asked.answered(status, &body, after, &hidden);
            // A token server that is not there says nothing about what we came for.
            return Err(Failure {
                absent: false,
                status: None,
                ..failure
            });
        }
        let read = http::read(answer, ANSWER).await;
        let body = read.map_err(|error| asked.lost(error))?;
        let value: serde_json::Value = serde_json::from_slice(&body)
            .map_err(|_| asked.broken("its token server sent no JSON"))?;
        let get = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
        let token = get("token").filter(|token| !token.is_empty());
        let token = token
            .or_else(|| get("access_token"))
            .filter(|token| !token.is_empty())
            .ok_or_else(|| asked.broken("its token server sent no token"))?;
        let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| asked.broken("its token server sent a token that is none"))?;
        header.set_sensitive(true);
        hidden.push(Secret::new(token));
        let lasts = value
            .get("expires_in")
            .and_then(serde_json::Value::as_f64)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .unwrap_or(TOKEN_LASTS);
        let pass = Pass {
            header,
            hidden,
            remembered: false,
            anonymous,
        };
        Ok((pass, lasts.min(TOKEN_LASTS_AT_MOST)))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        // Nothing that holds the lock can leave it half changed.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(errand: Errand<'_>) -> PassKey {
    PassKey {
        endpoint: errand.endpoint.key().to_owned(),
        login: errand.target.login.clone(),
        scopes: errand.scope.tokens(errand.endpoint),
    }
}

fn nobody(errand: Errand<'_>) -> Failure {
    let host = errand.asked.host;
    errand.asked.denied(format!(
        "it wants a login and there is none for it (`docker login {host}`, or give this registry a login)"
    ))
}

fn basic(credentials: &Credentials) -> Pass {
    let Credentials { user, secret } = credentials;
    let encoded = STANDARD.encode(format!("{user}:{}", secret.expose()));
    let mut header = HeaderValue::from_str(&format!("Basic {encoded}"))
        .expect("base64 has only characters a header can hold");
    header.set_sensitive(true);
    Pass {
        header,
        hidden: vec![secret.clone(), Secret::new(encoded)],
        remembered: false,
        anonymous: false,
    }
}

/// What we need, and what the registry says we need if it knows the repository by another name or what
/// we do there by another word: Azure wants `metadata_read` of whoever lists tags.
fn scopes(errand: Errand<'_>, told: Option<&str>) -> Vec<String> {
    let mut scopes = errand.scope.tokens(errand.endpoint);
    for scope in told.unwrap_or("").split_ascii_whitespace().take(8) {
        let (resource, actions) = scope.rsplit_once(':').unwrap_or((scope, ""));
        let own = scopes.iter_mut().find(|own| {
            let own = own.rsplit_once(':');
            own.is_some_and(|(own, _)| own == resource)
        });
        let Some(own) = own else {
            scopes.push(scope.to_owned());
            continue;
        };
        for action in actions.split(',').filter(|action| !action.is_empty()) {
            let have = own.rsplit_once(':').map_or("", |(_, actions)| actions);
            if !have.split(',').any(|have| have == action) {
                own.push(',');
                own.push_str(action);
            }
        }
    }
    scopes
}

fn token_request(
    errand: Errand<'_>,
    realm: &str,
    service: Option<&str>,
    scopes: &[String],
    credentials: Option<&Credentials>,
) -> Result<Request, Failure> {
    let mut url = Url::parse(realm)
        .map_err(|_| errand.asked.refused("its token server's address is no URL"))?;
    let allowed = url.scheme() == "https" || (url.scheme() == "http" && errand.target.plain_http);
    if !allowed {
        let message = "its token server has an address without TLS, where no login is sent";
        return Err(errand.asked.refused(message));
    }
    if let Some(Credentials { user, secret }) = credentials
        && user == IDENTITY_USER
    {
        // A scratch address does the form encoding.
        let mut form = url.clone();
        form.query_pairs_mut()
            .clear()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service.unwrap_or(""))
            .append_pair("client_id", "pipewright")
            .append_pair("scope", &scopes.join(" "))
            .append_pair("refresh_token", secret.expose());
        let body = form.query().unwrap_or("").to_owned();
        let mut request = Request::new(Method::POST, url);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        *request.body_mut() = Some(body.into());
        return Ok(request);
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
    }
    let mut request = Request::new(Method::GET, url);
    if let Some(credentials) = credentials {
        let pass = basic(credentials);
        request.headers_mut().insert(AUTHORIZATION, pass.header);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(plain_http: bool, look: impl FnOnce(Errand<'_>) -> T) -> T {
        let target = Target {
            host: "docker.io".to_owned(),
            plain_http,
            login: Login::Ambient,
        };
        let endpoint = Endpoint::of(&target).unwrap();
        look(Errand {
            asked: Asked {
                host: "docker.io",
                what: "tags of app",
            },
            target: &target,
            endpoint: &endpoint,
            scope: Scope::Mount("app", "team/base"),
        })
    }

    #[test]
    fn scopes_are_ours_and_the_registrys() {
        with(false, |errand| {
            let ours = [
                "repository:library/app:pull,push",
                "repository:team/base:pull",
            ];
            assert_eq!(scopes(errand, None), ours);
            let told = "repository:library/app:pull repository:proxy/app:pull";
            let expected = [&ours[..], &["repository:proxy/app:pull"]].concat();
            assert_eq!(scopes(errand, Some(told)), expected);
            let told = "repository:team/base:pull,metadata_read repository:team/base: odd";
            let expected = [ours[0], "repository:team/base:pull,metadata_read", "odd"];
            assert_eq!(scopes(errand, Some(told)), expected);
        });
    }

    #[test]
    fn no_login_goes_to_a_token_server_in_the_clear() {
        let credentials = Credentials {
            user: "u".to_owned(),
            secret: Secret::new("p"),
        };
        let ask = |plain, realm: &str| {
            with(plain, |errand| {
                let scopes = ["a".to_owned(), "b c".to_owned()];
                token_request(errand, realm, Some("s&s"), &scopes, Some(&credentials))
                    .map(|request| request.url().to_string())
                    .map_err(|failure| failure.error.to_string())
            })
        };
        let error = ask(false, "http://auth.example/token").unwrap_err();
        assert!(error.contains("without TLS"), "{error}");
        assert!(ask(true, "ftp://auth.example/").is_err());
        assert!(ask(false, "/token").is_err());
        let query = "service=s%26s&scope=a&scope=b+c";
        assert_eq!(
            ask(true, "http://auth.example/token"),
            Ok(format!("http://auth.example/token?{query}"))
        );
        assert_eq!(
            ask(false, "https://auth.example/token?x=1"),
            Ok(format!("https://auth.example/token?x=1&{query}"))
        );
    }

    #[test]
    fn identity_tokens_are_posted() {
        let credentials = Credentials {
            user: IDENTITY_USER.to_owned(),
            secret: Secret::new("i+d&t"),
        };
        let request = with(false, |errand| {
            let scopes = ["a:b:pull".to_owned()];
            token_request(errand, "https://h/t", None, &scopes, Some(&credentials)).unwrap()
        });
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.url().as_str(), "https://h/t");
        assert!(request.headers().get(AUTHORIZATION).is_none());
        let body = request.body().and_then(|body| body.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8_lossy(body),
            "grant_type=refresh_token&service=&client_id=pipewright&scope=a%3Ab%3Apull&refresh_token=i%2Bd%26t"
        );
    }
}
