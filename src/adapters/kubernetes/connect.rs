//! Connections to clusters: configurations read, credentials found, answers bounded.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt as _, Limited};
use hyper::http::Request;
use kube::Client;
use kube::client::Body;
use kube::config::{AuthInfo, Config, KubeConfigOptions, Kubeconfig};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use super::exec;
use super::fault::{broken, shortened};
use super::transport::{Answer, Transport};
use crate::base::{LateSecrets, Secret, Timestamp};
use crate::ports::cluster::{Access, Cluster, ClusterError};

/// Longest time a request may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of an answer: the largest list of 500 objects of the largest size would not fit, and
/// nothing that can be worked with does not.
const MOST: usize = 64 << 20;
/// A credential is renewed so long before it ends.
const EARLY: i64 = 30_000;

#[derive(Clone)]
struct Connection {
    client: Client,
    namespace: String,
    expires: Option<Timestamp>,
}

/// Connections, made when they are first needed and kept until their credentials end.
#[derive(Clone)]
pub struct Connections {
    open: Arc<Mutex<HashMap<Cluster, Connection>>>,
    late: LateSecrets,
    now: fn() -> Timestamp,
}

impl Connections {
    /// No connection yet. What credentials come up is masked by `late`.
    pub fn new(late: LateSecrets, now: fn() -> Timestamp) -> Self {
        Self {
            open: Arc::default(),
            late,
            now,
        }
    }

    async fn connection(&self, cluster: &Cluster) -> Result<Connection, ClusterError> {
        // Held while it connects: several that need the same one wait for it.
        let mut open = self.open.lock().await;
        let now = (self.now)();
        if let Some(known) = open.get(cluster)
            && known.expires.is_none_or(|end| now.0 + EARLY < end.0)
        {
            return Ok(known.clone());
        }
        let made = self
            .connect(cluster)
            .await
            .map_err(|message| ClusterError::NoAccess {
                cluster: cluster.name.clone(),
                message,
            })?;
        open.insert(cluster.clone(), made.clone());
        Ok(made)
    }

    async fn connect(&self, cluster: &Cluster) -> Result<Connection, String> {
        let mut config = match &cluster.access {
            Access::InCluster => in_cluster()?,
            Access::Token {
                server,
                token,
                authority,
            } => by_token(&cluster.base, server, token, authority.as_deref())?,
            Access::Kubeconfig { config, context } => {
                let (config, place) = kubeconfig(&cluster.base, config)?;
                chosen(config, context.as_deref(), &place).await?
            }
            Access::Ambient { context } => match ambient()? {
                Some(config) => chosen(config, context.as_deref(), "its configuration").await?,
                None => in_cluster().map_err(|_| {
                    "there is neither a configuration (KUBECONFIG, ~/.kube/config) nor the service account of a pod; \
                     declare `kubeconfig`, or an address and `token`"
                        .to_owned()
                })?,
            },
        };
        let expires = self.authenticated(&mut config.auth_info).await?;
        self.hide(&config.auth_info);
        config.read_timeout = Some(PATIENCE);
        config.connect_timeout = Some(Duration::from_secs(10));
        // The caller knows what may be sent again.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config)
            .map_err(|error| format!("it cannot be used: {}", why(&error)))?;
        Ok(Connection {
            client,
            namespace,
            expires,
        })
    }

    /// Has a credential plugin give what it has; when that ends.
    async fn authenticated(&self, user: &mut AuthInfo) -> Result<Option<Timestamp>, String> {
        if let Some(provider) = &user.auth_provider {
            return Err(format!(
                "its auth provider {} is of the past; use a credential plugin (`exec`) instead",
                shortened(&provider.name)
            ));
        }
        let Some(plugin) = user.exec.take() else {
            return Ok(None);
        };
        let given = exec::run(&plugin).await?;
        if let Some(token) = &given.token {
            self.late.add(token);
            user.token = Some(SecretString::from(token.expose().to_owned()));
        }
        if let (Some(certificate), Some(key)) = (&given.certificate, &given.key) {
            self.late.add(key);
            user.client_certificate_data = Some(BASE64_STANDARD.encode(certificate));
            user.client_key_data = Some(SecretString::from(BASE64_STANDARD.encode(key.expose())));
        }
        Ok(given.expires)
    }

    fn hide(&self, user: &AuthInfo) {
        let secrets = [&user.token, &user.password, &user.client_key_data];
        for secret in secrets.into_iter().flatten() {
            self.late.add(&Secret::new(secret.expose_secret()));
        }
    }

    async fn once(
        &self,
        cluster: &Cluster,
        action: &str,
        request: Request<Vec<u8>>,
    ) -> Result<Answer, ClusterError> {
        let connection = self.connection(cluster).await?;
        let work = async {
            let sent = connection.client.send(request.map(Body::from)).await;
            let response = sent.map_err(|error| why(&error))?;
            let (head, body) = response.into_parts();
            let asked = head.headers.get("retry-after");
            let asked = asked.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            let (status, retry_after) = (head.status.as_u16(), asked.map(Duration::from_secs));
            let body = Limited::new(body, MOST).collect().await;
            let body = body.map_err(|error| format!("its answer broke off: {error}"))?;
            Ok::<_, String>(Answer {
                status,
                retry_after,
                body: body.to_bytes().to_vec(),
            })
        };
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(message)) => Err(broken(cluster, action, message)),
            Err(_) => Err(broken(
                cluster,
                action,
                format!("no answer within {} s", PATIENCE.as_secs()),
            )),
        }
    }
}

#[async_trait]
impl Transport for Connections {
    async fn namespace(&self, cluster: &Cluster) -> Result<String, ClusterError> {
        Ok(self.connection(cluster).await?.namespace)
    }

    async fn send(
        &self,
        cluster: &Cluster,
        action: &str,
        request: Request<Vec<u8>>,
    ) -> Result<Answer, ClusterError> {
        let answer = self.once(cluster, action, request.clone()).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        // A credential may end earlier than it says; what is refused was not done.
        self.open.lock().await.remove(cluster);
        self.once(cluster, action, request).await
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

fn in_cluster() -> Result<Config, String> {
    Config::incluster().map_err(|error| {
        format!(
            "this process does not run in a pod that has a service account: {}",
            why(&error)
        )
    })
}

fn by_token(
    base: &Path,
    server: &str,
    token: &Secret,
    authority: Option<&str>,
) -> Result<Config, String> {
    let address = server
        .parse()
        .map_err(|error| format!("\"{server}\" is no address: {error}"))?;
    let mut config = Config::new(address);
    config.auth_info.token = Some(SecretString::from(token.expose().trim().to_owned()));
    if let Some(authority) = authority {
        let text = match authority.contains("-----BEGIN") {
            true => authority.to_owned(),
            false => read(&at(base, authority))?,
        };
        let ders: Result<Vec<_>, _> =
            <rustls::pki_types::CertificateDer as rustls::pki_types::pem::PemObject>::pem_slice_iter(text.as_bytes())
                .map(|found| found.map(|der| der.to_vec()))
                .collect();
        let ders = ders.map_err(|error| format!("its authority's certificate: {error}"))?;
        if ders.is_empty() {
            return Err("its authority's certificate holds no certificate".to_owned());
        }
        config.root_cert = Some(ders);
    }
    Ok(config)
}

/// The configuration that is given as text or as a path, and where it is from.
fn kubeconfig(base: &Path, config: &Secret) -> Result<(Kubeconfig, String), String> {
    let text = config.expose();
    let is_text = text.contains('\n') || text.trim_start().starts_with('{');
    if is_text {
        // What the parser says may show a piece of it.
        let config = Kubeconfig::from_yaml(text)
            .map_err(|_| "its kubeconfig is no Kubernetes configuration".to_owned())?;
        return Ok((config, "its kubeconfig".to_owned()));
    }
    let path = at(base, text.trim());
    let config = Kubeconfig::read_from(&path).map_err(|error| {
        let hint = "write the path of a file, or the configuration itself";
        match std::fs::metadata(&path) {
            Err(missing) => format!("its kubeconfig {}: {missing}; {hint}", path.display()),
            Ok(_) => format!("its kubeconfig {}: {}", path.display(), why(&error)),
        }
    })?;
    Ok((config, path.display().to_string()))
}

fn ambient() -> Result<Option<Kubeconfig>, String> {
    let of_env = Kubeconfig::from_env().map_err(|error| format!("KUBECONFIG: {}", why(&error)))?;
    if of_env.is_some() {
        return Ok(of_env);
    }
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
        return Ok(None);
    };
    let path = home.join(".kube/config");
    if !path.exists() {
        return Ok(None);
    }
    let config = Kubeconfig::read_from(&path)
        .map_err(|error| format!("{}: {}", path.display(), why(&error)))?;
    Ok(Some(config))
}

/// The connection a context stands for.
async fn chosen(config: Kubeconfig, context: Option<&str>, place: &str) -> Result<Config, String> {
    let names: Vec<&str> = config.contexts.iter().map(|it| it.name.as_str()).collect();
    let there = match names.as_slice() {
        [] => "it has none".to_owned(),
        names => format!("it has {}", shortened(&names.join(", "))),
    };
    match context.or(config
        .current_context
        .as_deref()
        .filter(|it| !it.is_empty()))
    {
        None => {
            return Err(format!(
                "{place} has no current context: name one by `context`; {there}"
            ));
        }
        Some(name) if !names.contains(&name) => {
            return Err(format!(
                "{place} has no context \"{}\": {there}",
                shortened(name)
            ));
        }
        Some(_) => {}
    }
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(config, &options)
        .await
        .map_err(|error| format!("{place}: {}", why(&error)))
}

/// A path relative to the project or the home directory.
fn at(base: &Path, path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => base.join(path),
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// What an error and those behind it say, and what to do about the common ones.
fn why(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    let lower = text.to_lowercase();
    let hint = if lower.contains("certificate") || lower.contains("unknownissuer") {
        "; it is not the cluster's certificate, or its authority is not the one that was declared"
    } else if lower.contains("connection refused") {
        "; nothing listens there: is the address right, and the cluster up?"
    } else if lower.contains("dns error") || lower.contains("failed to lookup") {
        "; there is no such host"
    } else {
        ""
    };
    format!("{}{hint}", shortened(&text))
}
