//! The user's docker configuration: who we are at which registry. Reads, never writes, and never
//! quotes a value it read.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};
use tokio::io::AsyncReadExt as _;

use super::credential_helper;
use super::names::{HUB, canonical_host};
use crate::base::{Secret, human_bytes};

/// The user name that marks a secret as an identity token instead of a password, as credential
/// helpers write it.
pub const IDENTITY_USER: &str = "<token>";

/// Largest configuration file, in bytes.
const LIMIT: u64 = 4 << 20;
/// The name under which docker keeps Docker Hub's login.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// A login found in the docker configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Credentials {
    /// The user, or [`IDENTITY_USER`].
    pub(super) user: String,
    /// The password or token.
    pub(super) secret: Secret,
}

/// Where the user's docker configuration and its credential helpers are.
#[derive(Clone, Debug, Default)]
pub struct DockerConfig {
    dir: Option<PathBuf>,
    helpers: Option<PathBuf>,
}

impl DockerConfig {
    /// `$DOCKER_CONFIG`, else `.docker` in the user's home; helpers from `$PATH`.
    pub fn from_env() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let dir = set("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| Path::new(&home).join(".docker")));
        Self { dir, helpers: None }
    }

    /// A configuration directory.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: Some(dir.into()),
            helpers: None,
        }
    }

    /// Takes credential helpers from a directory instead of `$PATH`.
    pub fn with_helpers_in(mut self, dir: impl Into<PathBuf>) -> Self {
        self.helpers = Some(dir.into());
        self
    }

    /// The login for a registry, if there is one, or what is wrong.
    pub(super) async fn login(&self, host: &str) -> Result<Option<Credentials>, String> {
        let Some(path) = self.dir.as_ref().map(|dir| dir.join("config.json")) else {
            return Ok(None);
        };
        let Some(text) = read(&path).await? else {
            return Ok(None);
        };
        let config =
            Config::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        if let Some(helper) = config.helper(host) {
            let key = if canonical_host(host) == HUB {
                HUB_KEY
            } else {
                host
            };
            let found = credential_helper::get(helper, self.helpers.as_deref(), key).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        config
            .login(host)
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}

async fn read(path: &Path) -> Result<Option<String>, String> {
    let trouble = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(trouble(error)),
    };
    let mut bytes = Vec::new();
    let mut bounded = file.take(LIMIT + 1);
    bounded.read_to_end(&mut bytes).await.map_err(trouble)?;
    if bytes.len() as u64 > LIMIT {
        let limit = human_bytes(LIMIT);
        return Err(format!("{} is larger than {limit}", path.display()));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(format!("{} is not UTF-8 text", path.display())),
    }
}

/// The parts of `config.json` that say who we are.
#[derive(Debug, Default)]
struct Config {
    auths: Map<String, Value>,
    helpers: Map<String, Value>,
    store: Option<String>,
}

impl Config {
    fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        // Only the place is told: the parser's own words could quote a password.
        let value: Value = serde_json::from_str(text).map_err(|error| {
            format!(
                "not valid JSON at line {} column {}",
                error.line(),
                error.column()
            )
        })?;
        let Value::Object(mut root) = value else {
            return Err("it is not a JSON object".to_owned());
        };
        let mut map = |name: &str| match root.remove(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map),
            Some(_) => Err(format!("`{name}` is not an object")),
        };
        let auths = map("auths")?;
        let helpers = map("credHelpers")?;
        let store = match root.remove("credsStore") {
            None | Some(Value::Null) => None,
            Some(Value::String(name)) => Some(name).filter(|name| !name.is_empty()),
            Some(_) => return Err("`credsStore` is not a string".to_owned()),
        };
        Ok(Self {
            auths,
            helpers,
            store,
        })
    }

    /// The credential helper in charge of a registry.
    fn helper(&self, host: &str) -> Option<&str> {
        let own = find(&self.helpers, host).and_then(|(_, name)| name.as_str());
        own.filter(|name| !name.is_empty())
            .or(self.store.as_deref())
    }

    /// The login written in the file itself.
    fn login(&self, host: &str) -> Result<Option<Credentials>, String> {
        let Some((key, entry)) = find(&self.auths, host) else {
            return Ok(None);
        };
        let get = |name: &str| {
            let text = entry.get(name).and_then(Value::as_str);
            text.filter(|text| !text.is_empty())
        };
        if let Some(token) = get("identitytoken") {
            return Ok(Some(Credentials {
                user: IDENTITY_USER.to_owned(),
                secret: Secret::new(token),
            }));
        }
        if let Some(auth) = get("auth") {
            return match decode(auth) {
                Some(found) => Ok(Some(found)),
                None => Err(format!(
                    "`auth` of `{key}` is not the base64 form of user:password; log in again"
                )),
            };
        }
        Ok(match (get("username"), get("password")) {
            (Some(user), Some(password)) => Some(Credentials {
                user: user.to_owned(),
                secret: Secret::new(password),
            }),
            _ => None,
        })
    }
}

/// The entry of a registry, under its exact name or else any of the ways to write it.
fn find<'a>(map: &'a Map<String, Value>, host: &str) -> Option<(&'a str, &'a Value)> {
    let hub = canonical_host(host) == HUB;
    let exact = if hub { HUB_KEY } else { host };
    let mut entries = map.iter().map(|(key, value)| (key.as_str(), value));
    entries
        .clone()
        .find(|(key, _)| *key == exact)
        .or_else(|| entries.find(|(key, _)| canonical_host(key) == canonical_host(host)))
}

fn decode(auth: &str) -> Option<Credentials> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&STANDARD, lenient)
        .decode(auth.trim())
        .ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    let password = password.trim_matches('\0');
    if user.is_empty() || password.is_empty() {
        return None;
    }
    Some(Credentials {
        user: user.to_owned(),
        secret: Secret::new(password),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(config: &str, host: &str) -> Result<Option<(String, String)>, String> {
        let found = Config::parse(config)?.login(host)?;
        Ok(found.map(|one| (one.user, one.secret.expose().to_owned())))
    }

    fn somebody(user: &str, secret: &str) -> Result<Option<(String, String)>, String> {
        Ok(Some((user.to_owned(), secret.to_owned())))
    }

    #[test]
    fn logins_in_the_file() {
        // Y2FybDpwYTpzcw== is carl:pa:ss
        for (config, host, expected) in [
            (
                r#"{"auths":{"h:1":{"auth":"Y2FybDpwYTpzcw=="}}}"#,
                "h:1",
                somebody("carl", "pa:ss"),
            ),
            (
                r#"{"auths":{"h:1":{"auth":"Y2FybDpwYTpzcw"}}}"#,
                "h:1",
                somebody("carl", "pa:ss"),
            ),
            (
                r#"{"auths":{"https://h":{"auth":"Y2FybDpwYTpzcw=="}}}"#,
                "h",
                somebody("carl", "pa:ss"),
            ),
            (
                r#"{"auths":{"https://h/v1/":{"username":"u","password":"p"}}}"#,
                "h",
                somebody("u", "p"),
            ),
            (
                r#"{"auths":{"h":{"auth":"eDp5","identitytoken":"idt"}}}"#,
                "h",
                somebody("<token>", "idt"),
            ),
            (
                r#"{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p"}}}"#,
                "docker.io",
                somebody("u", "p"),
            ),
            (
                r#"{"auths":{"docker.io":{"username":"u","password":"p"}}}"#,
                "registry-1.docker.io",
                somebody("u", "p"),
            ),
            // The exact name wins over a variant of it.
            (
                r#"{"auths":{"https://h":{"username":"old","password":"p"},"h":{"username":"new","password":"p"}}}"#,
                "h",
                somebody("new", "p"),
            ),
            (r#"{"auths":{"h":{}}}"#, "h", Ok(None)),
            (r#"{"auths":{"h":{"auth":""}}}"#, "h", Ok(None)),
            (
                r#"{"auths":{"h:1":{"username":"u","password":"p"}}}"#,
                "h",
                Ok(None),
            ),
            (r#"{"auths":null,"psFormat":"x"}"#, "h", Ok(None)),
            ("{}", "h", Ok(None)),
            ("", "h", Ok(None)),
        ] {
            assert_eq!(login(config, host), expected, "{config}");
        }
    }

    #[test]
    fn broken_files_say_where_but_not_what() {
        for (config, says) in [
            (
                "{\n \"auths\": {\"h\": {\"auth\": \"c2VjcmV0\"",
                "not valid JSON at line 2",
            ),
            ("[1]", "not a JSON object"),
            (r#"{"auths":["c2VjcmV0"]}"#, "`auths` is not an object"),
            (r#"{"credsStore":7}"#, "`credsStore` is not a string"),
            (
                r#"{"auths":{"h":{"auth":"c2VjcmV0"}}}"#,
                "`auth` of `h` is not the base64 form",
            ),
            (
                r#"{"auths":{"h":{"auth":"c2VjcmV0!"}}}"#,
                "`auth` of `h` is not the base64 form",
            ),
        ] {
            let error = login(config, "h").unwrap_err();
            assert!(
                error.contains(says) && !error.contains("c2VjcmV0"),
                "{error}"
            );
        }
    }

    #[test]
    fn helpers() {
        let config = r#"{"credsStore":"desktop","credHelpers":{
            "123.dkr.ecr.eu-west-1.amazonaws.com":"ecr-login","https://gcr.io":"gcloud","docker.io":"hub","h":""}}"#;
        let config = Config::parse(config).unwrap();
        for (host, helper) in [
            ("123.dkr.ecr.eu-west-1.amazonaws.com", "ecr-login"),
            ("gcr.io", "gcloud"),
            ("index.docker.io", "hub"),
            ("h", "desktop"),
            ("other", "desktop"),
        ] {
            assert_eq!(config.helper(host), Some(helper), "{host}");
        }
        assert_eq!(Config::parse("{}").unwrap().helper("h"), None);
    }

    #[tokio::test]
    async fn no_file_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DockerConfig::at(dir.path()).login("h").await, Ok(None));
        assert_eq!(DockerConfig::default().login("h").await, Ok(None));
        std::fs::create_dir(dir.path().join("config.json")).unwrap();
        let error = DockerConfig::at(dir.path()).login("h").await.unwrap_err();
        assert!(error.starts_with("cannot read "), "{error}");
    }
}
