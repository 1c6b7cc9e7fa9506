//! Tokens of our own: signed here as an issuer whose documents anybody can host.

use std::fmt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::Aws;
use crate::base::{LateSecrets, Secret};
use crate::formats::issuer;
use crate::formats::web_token::signing::{SigningKey, unique};
use crate::ports::cloud::{Bearer, CloudError};
use crate::ports::secrets::ISSUER_KEY;

/// The variable with the address of the issuer.
const URL: &str = "PIPEWRIGHT_ISSUER";
/// Largest key, in bytes.
const LARGEST: u64 = 64 << 10;
/// A token begins so much earlier, in seconds, for clocks that are a little fast.
const EARLY: u64 = 60;
/// It is good for so long, from its beginning: nobody needs it for more than one call.
const GOOD: u64 = 600;

/// As whom tokens are signed, as the environment says it.
#[derive(Clone, Default)]
pub struct Issuer {
    url: Option<String>,
    key: Option<Secret>,
}

impl Issuer {
    /// The issuer at an address, and its key: PEM, or the path of a file with it.
    pub fn new(url: Option<String>, key: Option<Secret>) -> Self {
        let url = url.filter(|url| !url.is_empty());
        let key = key.filter(|key| !key.expose().is_empty());
        Self { url, key }
    }

    /// The one of this process's environment.
    pub(super) fn of_environment() -> Self {
        let key = std::env::var(ISSUER_KEY).ok().map(Secret::new);
        Self::new(std::env::var(URL).ok(), key)
    }

    /// Hides the key, if it is in the environment itself.
    pub(super) fn hide(&self, late: &LateSecrets) {
        if let Some(key) = self.key.as_ref().filter(|key| is_pem(key)) {
            late.add(key);
        }
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).finish()
    }
}

fn is_pem(key: &Secret) -> bool {
    key.expose().contains("-----BEGIN ")
}

impl Aws {
    /// A new token for what a run does.
    pub(super) async fn issue(&self, bearer: &Bearer) -> Result<Secret, CloudError> {
        let trouble = |why: String| self.nobody(why);
        let missing = match (&self.issuer.url, &self.issuer.key) {
            (Some(url), Some(key)) => Ok((url, key)),
            (None, None) => Err("neither is"),
            (None, _) => Err("the former is not"),
            (_, None) => Err("the latter is not"),
        };
        let (url, key) = missing.map_err(|which| {
            trouble(format!(
                "`web-identity issuer` needs the variables {URL} (address of the issuer) and {ISSUER_KEY} (its key: \
                 PEM, or the path of it), and {which} set; `pipewright aws issuer URL --key FILE --out DIRECTORY` \
                 makes the key and what the issuer has to publish"
            ))
        })?;
        issuer::check(url)
            .map_err(|why| trouble(format!("{URL} is not the address of an issuer: {why}")))?;
        let key = match is_pem(key) {
            true => key.clone(),
            false => self.key_file(Path::new(key.expose())).await?,
        };
        self.late.add(&key);
        let about = |why: String| trouble(format!("the key of {ISSUER_KEY} {why}"));
        let key = SigningKey::from_pem(key.expose()).map_err(about)?;
        let now = self.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = unique().map_err(trouble)?;
        let claims = claims(url, bearer, now.as_secs(), &id);
        let token = key.token(&claims, true).map_err(about)?;
        self.late.add(&token);
        Ok(token)
    }

    async fn key_file(&self, path: &Path) -> Result<Secret, CloudError> {
        let trouble = |why: String| {
            self.nobody(format!(
                "cannot read the key of the issuer, {} ({ISSUER_KEY}): {why}",
                path.display()
            ))
        };
        let found = tokio::fs::metadata(path).await;
        let found = found.map_err(|error| trouble(error.to_string()))?;
        if !found.is_file() || found.len() > LARGEST {
            return Err(trouble("it is no small file".to_owned()));
        }
        let text = tokio::fs::read_to_string(path).await;
        text.map(Secret::new)
            .map_err(|error| trouble(error.to_string()))
    }
}

fn claims(url: &str, bearer: &Bearer, now: u64, id: &str) -> Value {
    let begin = now.saturating_sub(EARLY);
    let mut claims = json!({
        "iss": url,
        "sub": bearer.subject(),
        "aud": "sts.amazonaws.com",
        "iat": begin,
        "nbf": begin,
        "exp": begin + GOOD,
        "jti": id,
        "repository": bearer.repository,
        "ref": bearer.reference,
        "pipeline": bearer.pipeline,
    });
    for (name, value) in [("sha", &bearer.sha), ("run", &bearer.run)] {
        if let Some(value) = value {
            claims[name] = Value::String(value.clone());
        }
    }
    claims
}
