//! GitHub Apps: a short-lived statement signed by the app's key, exchanged for a token of the
//! installation, which is renewed before it runs out.

use reqwest::Method;
use serde_json::json;

use super::call::{Forges, broken, refused};
use super::text;
use crate::adapters::clock::SystemClock;
use crate::base::{Secret, Timestamp};
use crate::formats::web_token::signing::SigningKey;
use crate::ports::clock::Clock as _;
use crate::ports::forge::{ForgeError, Hosted, SignIn};

/// A token is renewed when it is left with less than this, in milliseconds.
const EARLY: i64 = 5 * 60 * 1000;

/// A token of an installation.
#[derive(Clone)]
pub(super) struct Installed {
    token: Secret,
    expires: Timestamp,
}

fn key_of(hosted: &Hosted) -> String {
    let app = match &hosted.site.sign_in {
        SignIn::App {
            id, installation, ..
        } => format!("{id} {installation:?}"),
        _ => String::new(),
    };
    format!("{} {app} {}", hosted.site.address, hosted.path)
}

impl Forges {
    /// Drops a token that is refused; whether there was one.
    pub(super) fn forget(&self, hosted: &Hosted) -> bool {
        let mut installed = self
            .installed
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        installed.remove(&key_of(hosted)).is_some()
    }

    /// The token of the app's installation on the repository.
    pub(super) async fn installation(&self, hosted: &Hosted) -> Result<Secret, ForgeError> {
        let name = key_of(hosted);
        let now = SystemClock.now();
        let known = {
            let installed = self
                .installed
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            installed.get(&name).cloned()
        };
        if let Some(known) = known.filter(|known| known.expires.0 - EARLY > now.0) {
            return Ok(known.token);
        }
        let SignIn::App {
            id,
            key,
            installation,
        } = &hosted.site.sign_in
        else {
            return Err(refused(hosted, "a token", "it is no app"));
        };
        let what = format!("a token for app {id} on {}", hosted.path);
        let statement = statement(id, key, now).map_err(|why| refused(hosted, &what, &why))?;
        self.late.add(&statement);
        let installation = match installation {
            Some(installation) => installation.clone(),
            None => {
                let path = format!("/repos/{}/installation", hosted.path);
                let answer = self
                    .send(hosted, &what, Method::GET, &path, None, Some(&statement))
                    .await?;
                let id = answer.value["id"].as_u64();
                id.ok_or_else(|| broken(hosted, &what, "the answer has no `id`"))?
                    .to_string()
            }
        };
        let path = format!(
            "/app/installations/{}/access_tokens",
            super::call::escape(&installation)
        );
        let repository = hosted.path.rsplit('/').next().unwrap_or(&hosted.path);
        // No more than this one repository, whatever else the app may reach.
        let body = json!({ "repositories": [repository] });
        let answer = self
            .send(
                hosted,
                &what,
                Method::POST,
                &path,
                Some(&body),
                Some(&statement),
            )
            .await?;
        let answer = answer.value;
        let token = text(&answer["token"]);
        if token.is_empty() {
            return Err(broken(hosted, &what, "the answer has no `token`"));
        }
        let token = Secret::new(token);
        self.late.add(&token);
        let expires = Timestamp::of_rfc3339(&text(&answer["expires_at"]));
        let expires = expires.unwrap_or(Timestamp(now.0 + 10 * 60 * 1000));
        let mut installed = self
            .installed
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        installed.insert(
            name,
            Installed {
                token: token.clone(),
                expires,
            },
        );
        Ok(token)
    }
}

/// What an app says of itself: a web token signed by its key. A minute old, so that a clock that
/// is a little fast is no trouble, and good for nine more.
fn statement(id: &str, key: &Secret, now: Timestamp) -> Result<Secret, String> {
    let about = |why: String| format!("the app's key {why}");
    let key = SigningKey::from_pem(key.expose()).map_err(about)?;
    let seconds = now.0 / 1000;
    let claims = json!({ "iat": seconds - 60, "exp": seconds + 540, "iss": id });
    key.token(&claims, false).map_err(about)
}
