//! Tokens of our own: the documents of an issuer, and a run that a role trusts by them. moto takes any
//! token, so what a role would look at is looked at here: the signature, by the published key.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Value, json};

use super::credentials::field;
use crate::support::faulty::{Faulty, Reply};
use crate::support::moto::{ACCOUNT, Moto, REGION};
use crate::support::program::{Ended, Program};

const URL: &str = "https://ci.example.com/issuer";

struct Site {
    program: Program,
    env: Vec<(String, String)>,
}

impl Site {
    fn new(endpoint: &str) -> Self {
        let text = format!(
            "aws prod region={REGION} {{\n    endpoint \"{endpoint}\"\n    \
             role \"arn:aws:iam::{ACCOUNT}:role/ci\"\n    web-identity issuer\n}}\n\
             secret DB aws=prod secretsmanager=\"db\"\n\
             pipeline release {{ run use {{ env DB \"${{secret.DB}}\"; script \"printf %s \\\"$DB\\\" | wc -c; env\" }} }}\n"
        );
        let mut site = Self {
            program: Program::new(&text),
            env: Vec::new(),
        };
        site.set("AWS_EC2_METADATA_DISABLED", "true");
        site
    }

    fn set(&mut self, name: &str, value: &str) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    fn at(&self, name: &str) -> PathBuf {
        self.program.outside().join(name)
    }

    fn issuer(&self, url: &str, key: &str, out: &str, more: &[&str]) -> Ended {
        let (key, out) = (self.at(key), self.at(out));
        let (key, out) = (key.to_str().expect("text"), out.to_str().expect("text"));
        let args = [&["aws", "issuer", url, "--key", key, "--out", out], more].concat();
        self.program.run(&args)
    }

    fn keys(&self) -> Vec<Value> {
        let set = json_of(&self.at("site/keys.json"));
        set["keys"].as_array().expect("keys").clone()
    }

    fn run(&self) -> Ended {
        let args = ["run", "release", "--format", "plain"];
        self.program.run_with(&self.env, &args)
    }
}

fn json_of(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a file");
    serde_json::from_str(&text).expect("JSON")
}

fn bytes_of(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// The claims of a token, once its signature is that of one of these keys.
fn claims(token: &str, keys: &[Value]) -> Value {
    let parts: Vec<&str> = token.split('.').collect();
    let [head, body, signature] = parts.as_slice() else {
        panic!("a token has three parts");
    };
    let head: Value = serde_json::from_slice(&bytes_of(head)).expect("JSON");
    assert_eq!(head["alg"], "RS256");
    let key = keys.iter().find(|key| key["kid"] == head["kid"]);
    let key = key.unwrap_or_else(|| panic!("{head} names a published key"));
    let part = |name: &str| bytes_of(key[name].as_str().expect("text"));
    let public = RsaPublicKeyComponents {
        n: part("n"),
        e: part("e"),
    };
    let end = token.rfind('.').expect("a signature");
    public
        .verify(
            &RSA_PKCS1_2048_8192_SHA256,
            &token.as_bytes()[..end],
            &bytes_of(signature),
        )
        .expect("the signature is that of the published key");
    serde_json::from_slice(&bytes_of(body)).expect("JSON")
}

/// Every file below a directory that holds a text.
fn holding(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if let Ok(bytes) = std::fs::read(&path)
            && bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_documents_are_made_and_keys_change_without_a_gap() {
    let site = Site::new("http://127.0.0.1:9");
    let made = site.issuer(URL, "one.pem", "site", &[]);
    assert_eq!(made.code, Some(0), "{made:#?}");
    for part in [
        "create-open-id-connect-provider",
        "--trust",
        "PIPEWRIGHT_ISSUER=",
    ] {
        assert!(made.out.contains(part), "{part}: {}", made.out);
    }
    let key = site.at("one.pem");
    let mode = std::fs::metadata(&key).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let pem = std::fs::read_to_string(&key).expect("a key");
    let discovery = json_of(&site.at("site/.well-known/openid-configuration"));
    assert_eq!(discovery["issuer"], URL);
    assert_eq!(discovery["jwks_uri"], format!("{URL}/keys.json"));
    let first = site.keys();
    assert_eq!(first.len(), 1);
    assert!(first[0].get("d").is_none(), "only the public half");

    // Once more changes nothing; another key comes beside it, and the old one goes when it is told to.
    assert_eq!(site.issuer(URL, "one.pem", "site", &[]).code, Some(0));
    assert_eq!(std::fs::read_to_string(&key).expect("a key"), pem);
    assert_eq!(site.keys(), first);
    assert_eq!(site.issuer(URL, "two.pem", "site", &[]).code, Some(0));
    let both = site.keys();
    assert_eq!((both.len(), &both[1]), (2, &first[0]));
    let replaced = site.issuer(URL, "two.pem", "site", &["--replace"]);
    assert_eq!(replaced.code, Some(0), "{replaced:#?}");
    assert_eq!(site.keys(), both[..1]);
}

#[test]
fn what_cannot_be_an_issuer_is_refused_and_nothing_is_made() {
    let site = Site::new("http://127.0.0.1:9");
    for (url, key, says) in [
        ("http://ci.example.com", "key.pem", "https://"),
        ("https://ci.example.com/", "key.pem", "slash"),
        (URL, "site/key.pem", "to be published"),
    ] {
        let refused = site.issuer(url, key, "site", &[]);
        assert_eq!(refused.code, Some(2), "{refused:#?}");
        assert!(refused.err.contains(says), "{says}: {}", refused.err);
    }
    std::fs::write(site.at("odd.pem"), "no key\n").expect("write");
    let refused = site.issuer(URL, "odd.pem", "site", &[]);
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(
        refused.err.contains("no RSA private key"),
        "{}",
        refused.err
    );
    assert!(!site.at("site").exists());
}

#[test]
fn a_role_trusts_a_run_by_the_published_key() {
    let moto = Moto::start();
    let secret = json!({"Name": "db", "SecretString": "fourteen-chars"});
    moto.call("secretsmanager", "secretsmanager.CreateSecret", secret);
    let front = Faulty::before(moto.address(), |_| Reply::Pass);
    let mut site = Site::new(&format!("http://{}", front.address()));
    assert_eq!(site.issuer(URL, "key.pem", "site", &[]).code, Some(0));
    let pem = std::fs::read_to_string(site.at("key.pem")).expect("a key");
    let path = site.at("key.pem").display().to_string();
    let line = pem.lines().nth(3).expect("a line of the key").to_owned();
    site.set("PIPEWRIGHT_ISSUER", URL);
    let mut ids = Vec::new();
    for key in [path, pem] {
        site.set("PIPEWRIGHT_ISSUER_KEY", &key);
        let before = front.seen().len();
        let ended = site.run();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(ended.out.contains("14"), "{}", ended.out);
        assert!(
            !ended.out.contains("ISSUER"),
            "stages do not see it: {}",
            ended.out
        );
        assert!(!ended.out.contains(&line), "{}", ended.out);
        let seen = front.seen().split_off(before);
        let tokens: Vec<String> = seen
            .iter()
            .filter_map(|request| field(request, "WebIdentityToken"))
            .collect();
        assert!(!tokens.is_empty());
        for token in tokens {
            let claims = claims(&token, &site.keys());
            assert_eq!(claims["iss"], URL);
            assert_eq!(claims["aud"], "sts.amazonaws.com");
            let subject = claims["sub"].as_str().expect("text");
            assert!(
                subject.ends_with(":ref:refs/heads/main:pipeline:release"),
                "{subject}"
            );
            let time = |name: &str| claims[name].as_u64().expect("a time");
            assert_eq!((time("exp") - time("nbf"), time("iat")), (600, time("nbf")));
            ids.push(claims["jti"].as_str().expect("text").to_owned());
            let signature = token.rsplit('.').next().expect("a signature");
            let state = site.program.repo.path().join(".pipewright");
            for secret in [signature, line.as_str()] {
                assert_eq!(holding(&state, secret), Vec::<PathBuf>::new());
            }
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "no token is used twice");
}

#[test]
fn without_a_usable_issuer_nobody_is_asked() {
    let front = Faulty::alone(|_| Reply::status(500));
    let mut site = Site::new(&format!("http://{}", front.address()));
    let refused = |site: &Site, says: &str| {
        let ended = site.run();
        assert_ne!(ended.code, Some(0), "{ended:#?}");
        let text = format!("{}{}", ended.out, ended.err);
        assert!(text.contains(says), "{says}: {text}");
        assert!(!text.contains("pass-phrase"), "{text}");
    };
    refused(
        &site,
        "`web-identity issuer` needs the variables PIPEWRIGHT_ISSUER",
    );
    site.set("PIPEWRIGHT_ISSUER", URL);
    refused(&site, "the latter is not set");
    site.set("PIPEWRIGHT_ISSUER_KEY", "/nowhere/key.pem");
    refused(&site, "cannot read the key of the issuer, /nowhere/key.pem");
    site.set(
        "PIPEWRIGHT_ISSUER_KEY",
        "-----BEGIN PRIVATE KEY-----\npass-phrase\n",
    );
    refused(&site, "is no RSA private key in PEM");
    site.set("PIPEWRIGHT_ISSUER", "http://ci.example.com");
    refused(&site, "is not the address of an issuer");
    assert!(front.seen().is_empty());
}
