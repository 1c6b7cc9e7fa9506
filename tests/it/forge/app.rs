//! A GitHub App: what it says of itself, verified by its public key, and the tokens it gets for that.
//! After "Generating a JSON Web Token (JWT) for a GitHub App" and "REST API endpoints for GitHub
//! Apps" of GitHub's documentation.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pipewright::base::Secret;
use pipewright::ports::forge::{ForgeError, ForgeReader as _, SignIn, Software};
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::adapters::{forges, hosted};
use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::strict::{fits, json as answer};

/// A key as GitHub gives it out, and its public half.
fn key() -> (String, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f"])
        .arg(&file)
        .status();
    assert!(made.expect("ssh-keygen starts").success());
    let pem = std::fs::read_to_string(&file).expect("the key");
    assert!(pem.starts_with("-----BEGIN RSA PRIVATE KEY-----"));
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    let der = STANDARD.decode(lines.collect::<String>()).expect("base64");
    let pair = RsaKeyPair::from_der(&der).expect("a key");
    (pem, pair.public_key().as_ref().to_vec())
}

#[derive(Default)]
struct App {
    public: Vec<u8>,
    /// How long each token is good for, in seconds; the last one stands for all that follow.
    good_for: Vec<i64>,
    minted: usize,
    revoked: bool,
    wrong: Vec<String>,
}

impl App {
    fn statement(&self, request: &Request) -> Result<(), String> {
        let header = request.header("authorization").unwrap_or("");
        let text = header.strip_prefix("Bearer ").ok_or("no bearer")?;
        let parts: Vec<&str> = text.split('.').collect();
        let [head, claims, signature] = &*parts else {
            return Err("no web token".to_owned());
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|why| why.to_string());
        let json = |part: &str| -> Result<Value, String> {
            serde_json::from_slice(&decode(part)?).map_err(|why| why.to_string())
        };
        if json(head)?["alg"] != "RS256" {
            return Err("not RS256".to_owned());
        }
        let signed = format!("{head}.{claims}");
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public)
            .verify(signed.as_bytes(), &decode(signature)?)
            .map_err(|_| "the signature is not the app's".to_owned())?;
        let claims = json(claims)?;
        let now = jiff::Timestamp::now().as_second();
        let time = |name: &str| claims[name].as_i64().ok_or(format!("no {name}"));
        if claims["iss"] != "12345" {
            return Err("another app".to_owned());
        }
        if time("iat")? > now || time("exp")? <= now || time("exp")? > now + 600 {
            return Err(format!(
                "'Expiration time' claim is out of bounds: {claims}"
            ));
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> Reply {
        let path = request.path.split('?').next().unwrap_or("");
        let of_app = path.ends_with("/installation") || path.starts_with("/api/v3/app/");
        if of_app && let Err(why) = self.statement(request) {
            self.wrong.push(format!("{path}: {why}"));
            return answer(401, &json!({ "message": why }));
        }
        match (&*request.method, path) {
            ("GET", "/api/v3/repos/acme/m/installation") => answer(200, &json!({ "id": 77 })),
            ("POST", "/api/v3/app/installations/77/access_tokens") => {
                let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
                let fields = &[
                    ("repositories", 'l', false),
                    ("repository_ids", 'i', false),
                    ("permissions", 'o', false),
                ];
                if let Err(why) = fits(&body, fields) {
                    self.wrong.push(why);
                }
                if body["repositories"] != json!(["m"]) {
                    self.wrong.push(format!("more than it needs: {body}"));
                }
                let at = self.minted.min(self.good_for.len() - 1);
                self.minted += 1;
                self.revoked = false;
                let until = jiff::Timestamp::now().as_second() + self.good_for[at];
                let until = jiff::Timestamp::from_second(until).expect("a time");
                let token = format!("ghs_{}", self.minted);
                answer(
                    201,
                    &json!({ "token": token, "expires_at": until.to_string() }),
                )
            }
            ("GET", "/api/v3/repos/acme/m/issues/1/comments") => {
                let expected = format!("Bearer ghs_{}", self.minted);
                if self.revoked || request.header("authorization") != Some(&expected) {
                    return answer(401, &json!({ "message": "Bad credentials" }));
                }
                answer(200, &json!([]))
            }
            _ => answer(404, &json!({ "message": "Not Found" })),
        }
    }
}

fn start(app: App) -> (Faulty, Arc<Mutex<App>>) {
    let app = Arc::new(Mutex::new(app));
    let theirs = Arc::clone(&app);
    let server = Faulty::alone(move |request| theirs.lock().expect("no panic").answer(request));
    (server, app)
}

fn app_of(key: &str, installation: Option<&str>) -> SignIn {
    SignIn::App {
        id: "12345".to_owned(),
        key: Secret::new(key),
        installation: installation.map(str::to_owned),
    }
}

#[tokio::test]
async fn its_tokens_are_renewed_before_they_run_out() {
    let (pem, public) = key();
    let (server, app) = start(App {
        public,
        good_for: vec![200, 3600],
        ..App::default()
    });
    let address = format!("http://{}", server.address());
    let forges = forges();
    let hosted = hosted(Software::GitHub, &address, "acme/m", app_of(&pem, None));
    let minted = || app.lock().expect("no panic").minted;
    for (expected, why) in [
        (1, "the first"),
        (2, "the first has less than five minutes left"),
        (2, "the second is good for an hour"),
    ] {
        let said = forges.has_comment(&hosted, 1, "x").await;
        assert_eq!(said, Ok(false), "{why}");
        assert_eq!(minted(), expected, "{why}");
    }
    // Taken back before its time.
    app.lock().expect("no panic").revoked = true;
    assert_eq!(forges.has_comment(&hosted, 1, "x").await, Ok(false));
    assert_eq!(minted(), 3);
    // Git pushes with the same one.
    let (user, token) = forges
        .git_login(&hosted)
        .await
        .expect("a token")
        .expect("somebody");
    assert_eq!((&*user, token.expose()), ("x-access-token", "ghs_3"));
    assert_eq!(app.lock().expect("no panic").wrong, [] as [String; 0]);
    assert_eq!(server.count("GET /api/v3/repos/acme/m/installation"), 3);
}

#[tokio::test]
async fn whoever_is_no_app_is_told_so() {
    let (pem, _) = key();
    let (_, public) = key();
    let (server, app) = start(App {
        public,
        good_for: vec![3600],
        ..App::default()
    });
    let address = format!("http://{}", server.address());
    // Another app's key.
    let site = hosted(
        Software::GitHub,
        &address,
        "acme/m",
        app_of(&pem, Some("77")),
    );
    let denied = forges()
        .has_comment(&site, 1, "x")
        .await
        .expect_err("denied");
    assert!(matches!(denied, ForgeError::Denied { .. }), "{denied:?}");
    assert!(
        denied
            .to_string()
            .contains("a token for app 12345 on acme/m"),
        "{denied}"
    );
    assert_eq!(app.lock().expect("no panic").minted, 0);
    for bad in [
        "",
        "nothing",
        "-----BEGIN RSA PRIVATE KEY-----\n????\n-----END RSA PRIVATE KEY-----\n",
    ] {
        let site = hosted(
            Software::GitHub,
            &address,
            "acme/m",
            app_of(bad, Some("77")),
        );
        let refused = forges()
            .has_comment(&site, 1, "x")
            .await
            .expect_err("no key");
        assert!(
            refused.to_string().contains("no RSA private key in PEM"),
            "{refused}"
        );
    }
}
