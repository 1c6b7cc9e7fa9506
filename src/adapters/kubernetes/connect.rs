//! Connections to clusters: credentials found and renewed, answers bounded in time and size.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http_body_util::{BodyExt as _, Limited};
use hyper::http::Request;
use kube::Client;
use kube::client::Body;
use kube::config::AuthInfo;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use super::account::ServiceAccount;
use super::config::{ambient, by_token, chosen, kubeconfig, small};
use super::exec;
use super::fault::{broken, shortened, why};
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
    /// The file its token is from, and the token.
    file: Option<(String, Secret)>,
}

impl Connection {
    fn is_good(&self, now: Timestamp) -> bool {
        // A file that is gone has done its work: some take it away once it was read.
        let renewed = self
            .file
            .as_ref()
            .is_some_and(|(path, token)| token_of(path).is_ok_and(|now| now != *token));
        !renewed && self.expires.is_none_or(|end| now.0 + EARLY < end.0)
    }
}

/// Connections, made when they are first needed and kept until their credentials end.
#[derive(Clone)]
pub struct Connections {
    open: Arc<Mutex<HashMap<Cluster, Connection>>>,
    late: LateSecrets,
    now: fn() -> Timestamp,
    account: ServiceAccount,
    patience: Duration,
}

impl Connections {
    /// No connection yet. What credentials come up is masked by `late`.
    pub fn new(late: LateSecrets, now: fn() -> Timestamp) -> Self {
        Self {
            open: Arc::default(),
            late,
            now,
            account: ServiceAccount::of_pod(),
            patience: PATIENCE,
        }
    }

    /// The pod in which this process runs has this service account.
    pub fn with_account(self, account: ServiceAccount) -> Self {
        Self { account, ..self }
    }

    /// No request takes longer.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    async fn connection(&self, cluster: &Cluster) -> Result<Connection, ClusterError> {
        // Held while it connects: several that need the same one wait for it.
        let mut open = self.open.lock().await;
        let now = (self.now)();
        if let Some(known) = open.get(cluster)
            && known.is_good(now)
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
            Access::InCluster => self.account.config()?,
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
                None if self.account.exists() => self.account.config()?,
                None => {
                    return Err(
                        "there is neither a configuration (KUBECONFIG, ~/.kube/config) nor the service account of a \
                         pod; declare `kubeconfig`, or an address and `token`"
                            .to_owned(),
                    );
                }
            },
        };
        let expires = self.authenticated(&mut config.auth_info).await?;
        // Read here and not by the client, which would keep it for a minute and not hide it.
        let file = match config.auth_info.token_file.take() {
            Some(path) => {
                let token = token_of(&path).map_err(|why| format!("its token file {why}"))?;
                config.auth_info.token = Some(SecretString::from(token.expose().to_owned()));
                Some((path, token))
            }
            None => None,
        };
        self.hide(&config.auth_info);
        // A request as a whole is bounded. A limit of reading would count the time that a connection was
        // idle before it.
        config.read_timeout = None;
        config.connect_timeout = Some(self.patience.min(Duration::from_secs(10)));
        // The caller knows what may be sent again.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config)
            .map_err(|error| format!("it cannot be used: {}", why(&error)))?;
        Ok(Connection {
            client,
            namespace,
            expires,
            file,
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
        match tokio::time::timeout(self.patience, work).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(message)) => Err(broken(cluster, action, message)),
            Err(_) => Err(broken(
                cluster,
                action,
                format!(
                    "no answer within {} s: is the cluster overloaded, or something in between?",
                    self.patience.as_secs_f32()
                ),
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

/// The token of a file.
fn token_of(path: &str) -> Result<Secret, String> {
    let text = small(Path::new(path))?;
    match text.trim() {
        "" => Err(format!("{path} is empty")),
        token => Ok(Secret::new(token.to_owned())),
    }
}
