//! Who we are in an account: the default chain, then the roles the pipeline names. Kept until
//! shortly before they run out and shared by everything that works in the account.

use std::error::Error as _;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_sts::types::Tag;

use super::Aws;
use super::connector::Unreadable;
use super::denied::{Problem, about_token};
use crate::adapters::clock::SystemClock;
use crate::adapters::http::one_line;
use crate::base::Secret;
use crate::ports::clock::Clock as _;
use crate::ports::cloud::{Caller, CloudError, WebIdentity};

/// Credentials are not used this close to their end.
const MARGIN: Duration = Duration::from_secs(300);
/// They are used at least so long, also if they claim to have run out: what is fetched again and
/// again does not get better.
const LEAST: Duration = Duration::from_secs(60);
/// How long credentials without an end are kept before the chain is asked again.
const ENDLESS: Duration = Duration::from_secs(900);
/// How long the whole default chain may take.
const CHAIN: Duration = Duration::from_secs(90);
/// Largest token file, in bytes.
const TOKEN: u64 = 64 << 10;

/// Credentials and how long they are used.
pub(super) struct Session {
    credentials: Credentials,
    refresh: SystemTime,
    caller: Option<Caller>,
}

/// When something that runs out is to be fetched again.
pub(super) fn refresh_at(now: SystemTime, end: Option<SystemTime>) -> SystemTime {
    let Some(end) = end else {
        return now + ENDLESS;
    };
    let left = end.duration_since(now).unwrap_or_default();
    // What lasts a quarter of an hour is not thrown away after ten minutes.
    let margin = MARGIN.min(left / 4);
    (now + left - margin).max(now + LEAST)
}

impl Aws {
    /// Credentials that are good for a while.
    pub(super) async fn credentials(&self) -> Result<Credentials, CloudError> {
        // Held while they are fetched, so that many stages fetch them once.
        let mut slot = self.session.lock().await;
        if let Some(session) = &*slot
            && session.refresh > SystemTime::now()
        {
            return Ok(session.credentials.clone());
        }
        *slot = None;
        let credentials = self.obtain().await?;
        let mut session = Session {
            refresh: refresh_at(SystemTime::now(), credentials.expiry()),
            credentials,
            caller: None,
        };
        if !self.account.allowed.is_empty() {
            let caller = self.identify(session.credentials.clone()).await?;
            if !self.account.allowed.contains(&caller.account) {
                return Err(self.nobody(format!(
                    "these credentials are for account {} ({}), and only {} may be worked on (`allowed-accounts`); \
                     nothing was done",
                    caller.account,
                    caller.arn,
                    self.account.allowed.join(", ")
                )));
            }
            session.caller = Some(caller);
        }
        let credentials = session.credentials.clone();
        *slot = Some(session);
        Ok(credentials)
    }

    /// The service did not accept them: the next ones are new.
    pub(super) async fn forget(&self, old: &Credentials) {
        let mut slot = self.session.lock().await;
        if slot.as_ref().is_some_and(|session| {
            session.credentials.access_key_id() == old.access_key_id()
                && session.credentials.session_token() == old.session_token()
        }) {
            *slot = None;
        }
    }

    /// Who we are.
    pub(super) async fn caller(&self) -> Result<Caller, CloudError> {
        let credentials = self.credentials().await?;
        {
            let slot = self.session.lock().await;
            if let Some(session) = &*slot
                && session.credentials == credentials
                && let Some(caller) = &session.caller
            {
                return Ok(caller.clone());
            }
        }
        let caller = self.identify(credentials.clone()).await?;
        let mut slot = self.session.lock().await;
        if let Some(session) = &mut *slot
            && session.credentials == credentials
        {
            session.caller = Some(caller.clone());
        }
        Ok(caller)
    }

    /// The configuration of a typed client: the account's, as somebody, in a region.
    pub(super) async fn acting(
        &self,
        credentials: Option<Credentials>,
        region: Option<&str>,
    ) -> Result<SdkConfig, CloudError> {
        let region = self.region(region).await?;
        let mut config = self.config().await.to_builder();
        config.set_region(aws_config::Region::new(region));
        config.set_credentials_provider(
            credentials.map(aws_credential_types::provider::SharedCredentialsProvider::new),
        );
        Ok(config.build())
    }

    async fn sts(
        &self,
        credentials: Option<Credentials>,
    ) -> Result<aws_sdk_sts::Client, CloudError> {
        let config = self.acting(credentials, None).await?;
        let config = aws_sdk_sts::config::Builder::from(&config)
            .retry_partition(self.tries.clone())
            .retry_classifier(Unreadable);
        Ok(aws_sdk_sts::Client::from_conf(config.build()))
    }

    /// Asks who some credentials stand for. Every principal may.
    pub(super) async fn identify(&self, credentials: Credentials) -> Result<Caller, CloudError> {
        let sts = self.sts(Some(credentials)).await?;
        let answer = sts.get_caller_identity().send().await;
        let answer = answer.map_err(|error| {
            self.explain_plainly(&Problem::of("sts:GetCallerIdentity", "*", error))
        })?;
        let field = |value: Option<&str>| self.clean(value.unwrap_or(""));
        Ok(Caller {
            account: field(answer.account()),
            arn: field(answer.arn()),
        })
    }

    async fn obtain(&self) -> Result<Credentials, CloudError> {
        let mut roles = self.account.roles.iter();
        let mut credentials = match &self.account.web_identity {
            None => self.chain().await?,
            Some(source) => {
                let first = roles
                    .next()
                    .ok_or_else(|| self.nobody("`web-identity` names no `role` that it is for"))?;
                let token = self.token(source).await?;
                let last = roles.len() == 0;
                self.assume_with(first, &token, last).await?
            }
        };
        self.hide(&credentials);
        while let Some(role) = roles.next() {
            let last = roles.len() == 0;
            credentials = self.assume(role, credentials, last).await?;
            self.hide(&credentials);
        }
        Ok(credentials)
    }

    /// Environment, profile, web identity of the environment, container, machine: in this order.
    async fn chain(&self) -> Result<Credentials, CloudError> {
        let Some(provider) = self.config().await.credentials_provider() else {
            return Err(self.nobody("there is no source of credentials"));
        };
        let found = tokio::time::timeout(CHAIN, provider.provide_credentials()).await;
        let error = match found {
            Ok(Ok(credentials)) => return Ok(credentials),
            Ok(Err(error)) => error,
            Err(_) => {
                return Err(self.nobody("no source of credentials answered within 90 seconds"));
            }
        };
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Err(self.nobody(format!(
            "no credentials: {}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a `profile`, or give the \
             account a `role` and a `web-identity`",
            self.clean(&text)
        )))
    }

    async fn assume(
        &self,
        role: &str,
        credentials: Credentials,
        last: bool,
    ) -> Result<Credentials, CloudError> {
        let account = &self.account;
        let sts = self.sts(Some(credentials.clone())).await?;
        let mut request = sts
            .assume_role()
            .role_arn(role)
            .role_session_name(self.session_name())
            .set_external_id(
                account
                    .external_id
                    .as_ref()
                    .map(|id| id.expose().to_owned()),
            );
        if last {
            request = request
                .set_duration_seconds(seconds(account.session))
                .set_policy(account.policy.clone());
            for (key, value) in &account.tags {
                let tag = Tag::builder().key(key).value(value).build();
                // Only a tag without a key or a value cannot be built, and both are set.
                if let Ok(tag) = tag {
                    request = request.tags(tag);
                }
            }
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let problem = Problem::of("sts:AssumeRole", role, error);
                let we = self.identify(credentials).await.ok();
                let hint = we.as_ref().map(|we| {
                    format!(
                        "; the trust policy of {role} must allow sts:AssumeRole{} for {}, and its own policy that action \
                         on the role",
                        if account.tags.is_empty() { "" } else { " and sts:TagSession" },
                        we.arn
                    )
                });
                return Err(self.explain(&problem, we.as_ref(), &hint.unwrap_or_default()));
            }
        };
        self.given(role, answer.credentials())
    }

    async fn assume_with(
        &self,
        role: &str,
        token: &Secret,
        last: bool,
    ) -> Result<Credentials, CloudError> {
        let account = &self.account;
        let sts = self.sts(None).await?;
        let mut request = sts
            .assume_role_with_web_identity()
            .role_arn(role)
            .role_session_name(self.session_name())
            .web_identity_token(token.expose());
        if last {
            request = request
                .set_duration_seconds(seconds(account.session))
                .set_policy(account.policy.clone());
        }
        match request.send().await {
            Ok(answer) => self.given(role, answer.credentials()),
            Err(error) => {
                let problem = Problem::of("sts:AssumeRoleWithWebIdentity", role, error);
                let now = SystemClock.now();
                let ours = matches!(account.web_identity, Some(WebIdentity::Issuer(_)));
                let hint = about_token(&problem, token.expose(), role, now, ours);
                Err(self.explain(&problem, None, &format!("; {hint}")))
            }
        }
    }

    fn given(
        &self,
        role: &str,
        credentials: Option<&aws_sdk_sts::types::Credentials>,
    ) -> Result<Credentials, CloudError> {
        let Some(given) = credentials else {
            return Err(CloudError::Broken {
                account: self.account.name.clone(),
                action: "sts:AssumeRole".to_owned(),
                message: format!("it gave no credentials for {role}"),
            });
        };
        Ok(Credentials::new(
            given.access_key_id(),
            given.secret_access_key(),
            Some(given.session_token().to_owned()),
            SystemTime::try_from(*given.expiration()).ok(),
            "pipewright",
        ))
    }

    async fn token(&self, source: &WebIdentity) -> Result<Secret, CloudError> {
        let path = match source {
            WebIdentity::File(path) => path,
            WebIdentity::Issuer(bearer) => return self.issue(bearer).await,
        };
        let trouble = |why: String| {
            self.nobody(format!(
                "cannot read the token file {}: {why}",
                path.display()
            ))
        };
        let bytes = tokio::fs::metadata(path)
            .await
            .map_err(|error| trouble(error.to_string()))?;
        if !bytes.is_file() || bytes.len() > TOKEN {
            return Err(trouble("it is no small file".to_owned()));
        }
        let text = tokio::fs::read_to_string(path).await;
        let text = text.map_err(|error| trouble(error.to_string()))?;
        let token = text.trim();
        if token.is_empty() {
            return Err(trouble("it is empty".to_owned()));
        }
        let token = Secret::new(token);
        self.late.add(&token);
        Ok(token)
    }

    fn session_name(&self) -> String {
        one_line(&format!("pipewright-{}", self.account.name), 60).replace('…', "")
    }

    fn hide(&self, credentials: &Credentials) {
        self.late.add(&Secret::new(credentials.secret_access_key()));
        if let Some(token) = credentials.session_token() {
            self.late.add(&Secret::new(token));
        }
    }
}

fn seconds(duration: Option<Duration>) -> Option<i32> {
    i32::try_from(duration?.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_out_is_fetched_early_and_never_in_a_loop() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let left = |seconds: u64| {
            let end = now + Duration::from_secs(seconds);
            refresh_at(now, Some(end))
                .duration_since(now)
                .unwrap()
                .as_secs()
        };
        assert_eq!(left(12 * 3600), 12 * 3600 - 300);
        assert_eq!(left(900), 675);
        assert_eq!(left(40), 60);
        let past = now - Duration::from_secs(5_000);
        assert_eq!(refresh_at(now, Some(past)), now + LEAST);
        assert_eq!(refresh_at(now, None), now + ENDLESS);
    }
}
