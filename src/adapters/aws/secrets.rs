//! Secrets kept in AWS Secrets Manager and in the Systems Manager Parameter Store, beside those of
//! this host. Never logs or keeps a value; an error says where it was looked for.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Clouds;
use super::call::{Call, SECRETS_MANAGER, SSM, Service};
use crate::adapters::secrets::HostSecrets;
use crate::base::Secret;
use crate::ports::cloud::Account;
use crate::ports::secrets::{SecretError, SecretReader, SecretSource, Stored, Vault};

/// The secrets of this host and of the accounts a pipeline declares.
#[derive(Clone, Debug)]
pub struct AwsSecrets {
    clouds: Clouds,
}

impl AwsSecrets {
    /// Reads from these accounts.
    pub fn new(clouds: Clouds) -> Self {
        Self { clouds }
    }

    async fn stored(&self, account: &Account, place: &Stored) -> Result<Secret, SecretError> {
        let what = format!("`{}` in {}", place.name, place.store.as_str());
        let (service, action, body): (&'static Service, _, _) = match place.store {
            Vault::SecretsManager => (&SECRETS_MANAGER, "GetSecretValue", asked_of_manager(place)),
            Vault::ParameterStore => (&SSM, "GetParameter", asked_of_store(place)),
        };
        let call = Call {
            service,
            action,
            resource: &place.name,
            region: region_of(&place.name),
            body: &body,
            repeatable: true,
        };
        let world = self.clouds.of(account);
        let answer = match world.ask(&call).await? {
            Ok(answer) => answer,
            Err(problem)
                if [
                    "ResourceNotFoundException",
                    "ParameterNotFound",
                    "ParameterVersionNotFound",
                ]
                .iter()
                .any(|code| problem.is(code)) =>
            {
                return Err(SecretError::Missing(what));
            }
            Err(problem) => return Err(world.explained(&problem).await.into()),
        };
        let value = value_of(place.store, &answer).map_err(|why| unreadable(&what, why))?;
        let value = match &place.key {
            None => value,
            Some(key) => field(&value, key).map_err(|why| unreadable(&what, why))?,
        };
        if value.expose().is_empty() {
            return Err(SecretError::Missing(what));
        }
        Ok(value)
    }
}

#[async_trait]
impl SecretReader for AwsSecrets {
    async fn read(&self, source: &SecretSource) -> Result<Secret, SecretError> {
        match source {
            SecretSource::Stored { account, place } => self.stored(account, place).await,
            of_this_host => HostSecrets.read(of_this_host).await,
        }
    }
}

fn unreadable(what: &str, message: String) -> SecretError {
    SecretError::Unreadable {
        what: what.to_owned(),
        message,
    }
}

fn asked_of_manager(place: &Stored) -> Value {
    let mut body = json!({ "SecretId": place.name });
    if let Some(stage) = &place.version {
        body["VersionStage"] = json!(stage);
    }
    if let Some(id) = &place.version_id {
        body["VersionId"] = json!(id);
    }
    body
}

fn asked_of_store(place: &Stored) -> Value {
    let name = match &place.version {
        Some(version) => format!("{}:{version}", place.name),
        None => place.name.clone(),
    };
    json!({ "Name": name, "WithDecryption": true })
}

/// The region an ARN names; that of the account for a plain name.
fn region_of(name: &str) -> Option<&str> {
    let mut parts = name.split(':');
    (parts.next() == Some("arn"))
        .then(|| parts.nth(2))?
        .filter(|region| !region.is_empty())
}

fn value_of(store: Vault, answer: &Value) -> Result<Secret, String> {
    let text = match store {
        Vault::SecretsManager => answer["SecretString"].as_str(),
        Vault::ParameterStore => answer["Parameter"]["Value"].as_str(),
    };
    if let Some(text) = text {
        return Ok(Secret::new(text));
    }
    let Some(binary) = answer["SecretBinary"].as_str() else {
        return Err("the answer holds no value".to_owned());
    };
    let bytes = STANDARD.decode(binary).ok();
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Secret::new)
        .ok_or_else(|| "it is binary and not UTF-8 text".to_owned())
}

/// One field of a JSON object. Says nothing about the others but how many there are.
fn field(whole: &Secret, key: &str) -> Result<Secret, String> {
    let value: Value = serde_json::from_str(whole.expose())
        .map_err(|_| format!("it is no JSON, so it has no key `{key}`"))?;
    let Some(map) = value.as_object() else {
        return Err(format!("it is no JSON object, so it has no key `{key}`"));
    };
    match map.get(key) {
        Some(Value::String(text)) => Ok(Secret::new(text.as_str())),
        Some(Value::Number(number)) => Ok(Secret::new(number.to_string())),
        Some(Value::Bool(flag)) => Ok(Secret::new(flag.to_string())),
        Some(_) => Err(format!("its key `{key}` holds no single value")),
        None => Err(format!("it has no key `{key}` among its {}", map.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_json() {
        let whole = Secret::new(r#"{"password":"hunter22","port":5432,"tls":true,"more":{}}"#);
        let get = |key: &str| field(&whole, key).map(|secret| secret.expose().to_owned());
        assert_eq!(get("password").as_deref(), Ok("hunter22"));
        assert_eq!(get("port").as_deref(), Ok("5432"));
        assert_eq!(get("tls").as_deref(), Ok("true"));
        for error in [
            get("more"),
            get("none"),
            field(&Secret::new("hunter22"), "x").map(|_| String::new()),
        ] {
            let error = error.unwrap_err();
            assert!(
                !error.contains("hunter22") && !error.contains("password"),
                "{error}"
            );
        }
    }

    #[test]
    fn values_of_answers() {
        let read = |store, answer: Value| {
            value_of(store, &answer).map(|secret| secret.expose().to_owned())
        };
        let manager = Vault::SecretsManager;
        assert_eq!(
            read(manager, json!({"SecretString": "a"})).as_deref(),
            Ok("a")
        );
        assert_eq!(
            read(manager, json!({"SecretBinary": "YQ=="})).as_deref(),
            Ok("a")
        );
        assert!(read(manager, json!({"SecretBinary": "/w=="})).is_err());
        assert!(read(manager, json!({})).is_err());
        let parameter = json!({"Parameter": {"Value": "b"}});
        assert_eq!(read(Vault::ParameterStore, parameter).as_deref(), Ok("b"));
    }

    #[test]
    fn an_arn_names_its_region() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf";
        assert_eq!(region_of(arn), Some("eu-west-1"));
        assert_eq!(region_of("db"), None);
        assert_eq!(region_of("arn:aws:s3:::bucket"), None);
    }
}
