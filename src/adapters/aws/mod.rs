//! AWS: one `Aws` for each account a pipeline declares, made when it is first needed and shared
//! by all stages of the process. `check` and `--version` never come here.
//!
//! Typed clients of the SDK serve ECR and STS; everything else goes through `call`, which sends
//! JSON as it is, and `s3` with `bucket`.

mod bucket;
mod call;
mod connector;
mod credentials;
mod denied;
mod ecr;
mod issuer;
mod registry;
mod s3;
mod secrets;
pub mod services;
mod sign;
mod xml;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sts::config::retry::{RetryPartition, TokenBucket};
use tokio::sync::OnceCell;

use self::connector::Connector;
use self::credentials::Session;
use self::ecr::Tokens;
use super::backoff::Backoff;
use super::http::Http;
use crate::base::{LateSecrets, Masks};
use crate::ports::cloud::{Account, Caller, CloudError, CloudReader, ObjectPlace, WebIdentity};
use crate::ports::registry::Ecr;

pub use self::issuer::Issuer;
pub use self::registry::EcrRegistry;
pub use self::secrets::AwsSecrets;

/// How long one try of one call may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many accounts are kept before those that nobody uses are let go of.
const MANY: usize = 64;

/// Every account, by what is declared of it.
#[derive(Clone)]
pub struct Clouds {
    inner: Arc<Inner>,
}

struct Inner {
    http: Http,
    late: LateSecrets,
    backoff: Backoff,
    patience: Duration,
    issuer: Issuer,
    worlds: Mutex<HashMap<Account, Arc<Aws>>>,
}

/// One account: its configuration, its credentials and what they opened.
pub(super) struct Aws {
    account: Account,
    http: Http,
    /// What comes up here is masked in every output.
    late: LateSecrets,
    backoff: Backoff,
    patience: Duration,
    issuer: Issuer,
    config: OnceCell<SdkConfig>,
    session: tokio::sync::Mutex<Option<Session>>,
    /// How far the services' clock is ahead of ours, in seconds.
    skew: AtomicI64,
    tokens: Tokens,
    /// Where buckets are, if not in the account's region.
    regions: Mutex<HashMap<String, String>>,
    /// How often in all the SDK tries again: as often as `backoff` lets each call. Its own measure
    /// is shared by the whole process, where one account's trouble would cost another its tries.
    tries: RetryPartition,
}

impl Clouds {
    /// Accounts over a client; what they give out in secret is added to `late`.
    pub fn new(http: Http, late: LateSecrets) -> Self {
        let issuer = Issuer::of_environment();
        Self::with_issuer(http, late, Backoff::default(), PATIENCE, issuer)
    }

    /// The same with other waits between tries, and for one try.
    pub fn with_limits(
        http: Http,
        late: LateSecrets,
        backoff: Backoff,
        patience: Duration,
    ) -> Self {
        Self::with_issuer(http, late, backoff, patience, Issuer::default())
    }

    /// The same with an issuer of tokens.
    pub fn with_issuer(
        http: Http,
        late: LateSecrets,
        backoff: Backoff,
        patience: Duration,
        issuer: Issuer,
    ) -> Self {
        issuer.hide(&late);
        Self {
            inner: Arc::new(Inner {
                issuer,
                http,
                late,
                backoff,
                patience,
                worlds: Mutex::default(),
            }),
        }
    }

    /// The world of an account.
    pub(super) fn of(&self, account: &Account) -> Arc<Aws> {
        let worlds = self.inner.worlds.lock();
        // Nothing that holds the lock can leave it half changed.
        let mut worlds = worlds.unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = worlds.get(account) {
            return world.clone();
        }
        let world = Arc::new(Aws {
            account: account.clone(),
            http: self.inner.http.clone(),
            late: self.inner.late.clone(),
            backoff: self.inner.backoff,
            patience: self.inner.patience,
            issuer: self.inner.issuer.clone(),
            config: OnceCell::new(),
            session: Default::default(),
            skew: AtomicI64::new(0),
            tokens: Tokens::default(),
            regions: Mutex::default(),
            tries: RetryPartition::custom(account.name.clone())
                .token_bucket(TokenBucket::unlimited())
                .build(),
        });
        // An account that signs its own tokens is another one in each run; those of runs that ended
        // are not kept for ever.
        if worlds.len() >= MANY {
            worlds.retain(|account, world| {
                !matches!(account.web_identity, Some(WebIdentity::Issuer(_)))
                    || Arc::strong_count(world) > 1
            });
        }
        worlds.insert(account.clone(), world.clone());
        world
    }
}

impl fmt::Debug for Clouds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clouds").finish_non_exhaustive()
    }
}

#[async_trait]
impl CloudReader for Clouds {
    async fn caller(&self, account: &Account) -> Result<Caller, CloudError> {
        self.of(account).caller().await
    }

    async fn registry_host(&self, registry: &Ecr) -> Result<String, CloudError> {
        self.of(&registry.account).registry_host(registry).await
    }

    async fn object(
        &self,
        account: &Account,
        place: &ObjectPlace,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, CloudError> {
        self.of(account).object(place, limit).await
    }
}

impl Aws {
    /// What the environment and the shared configuration say, with what the pipeline declares.
    /// Reads files and the environment; asks nobody but, for a region that nobody names, the
    /// machine's own metadata service.
    async fn config(&self) -> &SdkConfig {
        self.config
            .get_or_init(|| async {
                let retry = RetryConfig::standard()
                    .with_max_attempts(self.backoff.tries)
                    .with_initial_backoff(self.backoff.base)
                    .with_max_backoff(self.backoff.cap);
                let timeout = TimeoutConfig::builder()
                    .operation_attempt_timeout(self.patience)
                    .build();
                let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
                    .http_client(Connector::new(self.http.clone()))
                    .retry_config(retry)
                    .timeout_config(timeout)
                    .identity_cache(IdentityCache::no_cache());
                if let Some(profile) = &self.account.profile {
                    loader = loader.profile_name(profile);
                }
                if let Some(region) = &self.account.region {
                    loader = loader.region(Region::new(region.clone()));
                }
                if let Some(endpoint) = &self.account.endpoint {
                    loader = loader.endpoint_url(endpoint);
                }
                loader.load().await
            })
            .await
    }

    /// The region calls go to: the one wanted, else the account's.
    async fn region(&self, wanted: Option<&str>) -> Result<String, CloudError> {
        if let Some(wanted) = wanted {
            return Ok(wanted.to_owned());
        }
        let config = self.config().await;
        let region = config.region().map(|region| region.as_ref().to_owned());
        region.ok_or_else(|| {
            self.nobody("no region is set: write `region=…` at its declaration, or set AWS_REGION")
        })
    }

    fn nobody(&self, message: impl Into<String>) -> CloudError {
        CloudError::NoCredentials {
            account: self.account.name.clone(),
            message: message.into(),
        }
    }

    /// Text from outside, fit for a message: one line, bounded, without a secret.
    fn clean(&self, text: &str) -> String {
        let line = super::http::one_line(text, 800);
        Masks::with_late([], self.late.clone()).mask(&line)
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aws")
            .field("account", &self.account.name)
            .finish_non_exhaustive()
    }
}
