//! Secrets kept in an account, read through moto, and what is said when they are not there.

use std::sync::Arc;

use pipewright::adapters::aws::AwsSecrets;
use pipewright::base::LateSecrets;
use pipewright::ports::secrets::{SecretError, SecretReader as _, SecretSource, Stored, Vault};
use serde_json::{Value, json};

use crate::support::moto::{Moto, account, clouds};

fn place(store: Vault, name: &str) -> Stored {
    Stored {
        store,
        name: name.to_owned(),
        key: None,
        version: None,
        version_id: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stores_are_read() {
    let moto = Moto::start();
    let manager = |action: &str, body: Value| {
        moto.call("secretsmanager", &format!("secretsmanager.{action}"), body)
    };
    let old = json!({ "password": "old hunter", "port": 5432 }).to_string();
    let new = json!({ "password": "new hunter", "port": 5432 }).to_string();
    let made = manager("CreateSecret", json!({ "Name": "db", "SecretString": old }));
    let first = made["VersionId"].as_str().expect("an id").to_owned();
    let arn = made["ARN"].as_str().expect("an ARN").to_owned();
    let changed = json!({ "SecretId": "db", "SecretString": new });
    manager("PutSecretValue", changed);
    manager(
        "CreateSecret",
        json!({ "Name": "binary", "SecretBinary": "aHVudGVyMjI=" }),
    );
    let parameter = |name: &str, value: &str, overwrite: bool| {
        let body = json!({
            "Name": name, "Value": value, "Type": "SecureString", "Overwrite": overwrite,
        });
        moto.call("ssm", "AmazonSSM.PutParameter", body)
    };
    parameter("/shop/token", "first token", false);
    parameter("/shop/token", "second token", true);

    let dir = tempfile::tempdir().expect("a directory");
    let account = Arc::new(account(&moto.url(), dir.path()));
    let secrets = AwsSecrets::new(clouds(&LateSecrets::default()));
    let read = async |place: Stored| {
        let account = account.clone();
        secrets.read(&SecretSource::Stored { account, place }).await
    };
    let (db, token) = (
        place(Vault::SecretsManager, "db"),
        place(Vault::ParameterStore, "/shop/token"),
    );
    let with =
        |place: &Stored, key: Option<&str>, version: Option<&str>, id: Option<&str>| Stored {
            key: key.map(str::to_owned),
            version: version.map(str::to_owned),
            version_id: id.map(str::to_owned),
            ..place.clone()
        };
    for (place, value) in [
        (db.clone(), new.as_str()),
        (place(Vault::SecretsManager, &arn), &new),
        (with(&db, Some("password"), None, None), "new hunter"),
        (with(&db, Some("port"), None, None), "5432"),
        (
            with(&db, Some("password"), Some("AWSPREVIOUS"), None),
            "old hunter",
        ),
        (
            with(&db, Some("password"), None, Some(&first)),
            "old hunter",
        ),
        (place(Vault::SecretsManager, "binary"), "hunter22"),
        (token.clone(), "second token"),
        (with(&token, None, Some("1"), None), "first token"),
    ] {
        let secret = read(place.clone()).await;
        assert_eq!(secret.expect("a secret").expose(), value, "{place:?}");
    }
    for (wanted, says) in [
        (
            with(&db, Some("none"), None, None),
            "cannot read `db` in Secrets Manager: it has no key `none` among its 2",
        ),
        (
            with(&token, Some("x"), None, None),
            "cannot read `/shop/token` in Parameter Store: it is no JSON",
        ),
        (
            place(Vault::SecretsManager, "none"),
            "`none` in Secrets Manager is not set",
        ),
        (
            place(Vault::ParameterStore, "/none"),
            "`/none` in Parameter Store is not set",
        ),
    ] {
        let error = read(wanted).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(says), "{text}");
        assert!(
            !text.contains("hunter") && !text.contains("second"),
            "{text}"
        );
    }
    // Another region than the account's is named by an ARN, and moto keeps regions apart.
    let elsewhere = arn.replace("us-east-1", "eu-west-1");
    let error = read(place(Vault::SecretsManager, &elsewhere))
        .await
        .unwrap_err();
    assert!(matches!(error, SecretError::Missing(_)), "{error}");
}
