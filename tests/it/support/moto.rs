//! moto, a stand-in for AWS that knows the shapes of its requests, on a free loopback port for one
//! test. Its registry keeps no image bytes; [`Front`] joins it with a real one.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at real files and run real programs"
)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pipewright::adapters::aws::Clouds;
use pipewright::adapters::backoff::Backoff;
use pipewright::adapters::http::Http;
use pipewright::base::{Digest, LateSecrets};
use pipewright::ports::cloud::{Account, WebIdentity};
use serde_json::{Value, json};

use super::faulty::{Faulty, Reply, Request};

/// The region everything is in.
pub const REGION: &str = "us-east-1";
/// The account of whoever names none.
pub const ACCOUNT: &str = "123456789012";
/// The access key of nobody in particular, in [`ACCOUNT`].
const NOBODY: &str = "AKIATEST";
/// The password moto's registry gives out, with the user `AWS`.
pub const PASSWORD: &str = "123456789012-auth-token";

/// A running moto. Stops when dropped.
pub struct Moto {
    child: Child,
    address: SocketAddr,
    // Holds its log.
    dir: tempfile::TempDir,
}

impl Moto {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        let mut words = String::new();
        for _ in 0..5 {
            match Self::try_start() {
                Ok(moto) => return moto,
                Err(log) => words = log,
            }
        }
        panic!("moto does not start: {words}");
    }

    fn try_start() -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("a directory for moto");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let address = listener.local_addr().expect("the port just bound");
        drop(listener);
        let log = dir.path().join("log");
        let output = File::create(&log).expect("a log for moto");
        let program = program();
        let child = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle of the log"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut moto = Self {
            child,
            address,
            dir,
        };
        let patience = Instant::now() + Duration::from_secs(60);
        while Instant::now() < patience {
            if let Ok(Some(_)) = moto.child.try_wait() {
                break;
            }
            let one = Duration::from_millis(100);
            if TcpStream::connect_timeout(&address, one).is_ok() {
                return Ok(moto);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(std::fs::read_to_string(&log).unwrap_or_default())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its address as an endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a call of a service that speaks JSON, as nobody in particular; it must succeed.
    #[track_caller]
    pub fn call(&self, service: &str, target: &str, body: Value) -> Value {
        let (status, answer) = self.ask(service, target, &body);
        assert_eq!(status, 200, "{target} {body}: {answer}");
        answer
    }

    /// The same, whatever it answers.
    pub fn ask(&self, service: &str, target: &str, body: &Value) -> (u16, Value) {
        ask(self.address, NOBODY, REGION, service, target, body)
    }

    /// The same as whoever has this access key, whose account it then is about.
    pub fn ask_as(&self, key: &str, service: &str, target: &str, body: &Value) -> (u16, Value) {
        ask(self.address, key, REGION, service, target, body)
    }

    /// Makes a call in another region than [`REGION`]; it must succeed.
    #[track_caller]
    pub fn call_in(&self, region: &str, service: &str, target: &str, body: Value) -> Value {
        let (status, answer) = ask(self.address, NOBODY, region, service, target, &body);
        assert_eq!(status, 200, "{target} {body} in {region}: {answer}");
        answer
    }
}

fn ask(
    moto: SocketAddr,
    key: &str,
    region: &str,
    service: &str,
    target: &str,
    body: &Value,
) -> (u16, Value) {
    let credential = format!("{key}/20260101/{region}/{service}/aws4_request");
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
    let headers = [
        ("Authorization", authorization.as_str()),
        ("X-Amz-Target", target),
        ("Content-Type", "application/x-amz-json-1.1"),
    ];
    let body = body.to_string();
    let (status, answer) = exchange(moto, "POST", "/", &headers, body.as_bytes());
    (
        status,
        serde_json::from_slice(&answer).unwrap_or(Value::Null),
    )
}

/// The region a request is signed for.
pub fn region_of(request: &Request) -> &str {
    let signed = request.header("authorization").unwrap_or("");
    signed.split('/').nth(2).unwrap_or(REGION)
}

/// The access key a request is signed with.
pub fn key_of(request: &Request) -> &str {
    let signed = request.header("authorization").unwrap_or("");
    let (_, credential) = signed.split_once("Credential=").unwrap_or(("", ""));
    credential.split('/').next().unwrap_or("")
}

/// Whether there is such a repository where a request asks for it.
fn has_repository(moto: SocketAddr, request: &Request, body: &Value) -> bool {
    let target = "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories";
    let names = json!({ "repositoryNames": [body["repositoryName"]] });
    let (key, region) = (key_of(request), region_of(request));
    ask(moto, key, region, "ecr", target, &names).0 == 200
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, which `scripts/test` installs beside what is built.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("MOTO_SERVER") {
        return path.into();
    }
    let built = Path::new(env!("CARGO_BIN_EXE_pipewright"));
    let found = built
        .ancestors()
        .map(|directory| directory.join("moto/bin/moto_server"))
        .find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!(
            "these tests need moto: run scripts/test, or \
             python3 -m venv target/moto && target/moto/bin/pip install 'moto[server]==5.2.5'"
        )
    })
}

/// Longest silence of a server that answers at all.
const SILENCE: Duration = Duration::from_secs(30);

/// One HTTP exchange that ends with its connection.
pub fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("a server");
    let bounded = stream.set_read_timeout(Some(SILENCE));
    bounded.expect("a time that is not zero");
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).expect("it listens");
    stream.write_all(body).expect("it listens");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it answers");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.expect("an answer has a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.expect("a status"), answer.split_off(end + 4))
}

/// AWS as a pipeline sees it: moto, but images are those of a real registry, as in ECR, where the
/// API and the registry are two doors of one store.
pub fn front(moto: &Moto, registry: SocketAddr, mut script: Script) -> Faulty {
    let api = moto.address();
    Faulty::before(api, move |request| {
        if let Some(reply) = script(request) {
            return reply;
        }
        let target = request.header("x-amz-target").unwrap_or("");
        let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        match target.rsplit('.').next() {
            Some("BatchGetImage") if !has_repository(api, request, &body) => {
                let body = json!({ "__type": "RepositoryNotFoundException", "message": "no such repository" });
                Reply::Answer(400, Vec::new(), body.to_string())
            }
            Some("BatchGetImage") => batch_get(registry, &body),
            Some("PutImage") => put(registry, &body),
            _ => Reply::Pass,
        }
    })
}

/// Decides what happens to a request before anybody else does.
pub type Script = Box<dyn FnMut(&Request) -> Option<Reply> + Send>;

fn login() -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(format!("AWS:{PASSWORD}"));
    format!("Basic {text}")
}

fn batch_get(registry: SocketAddr, body: &Value) -> Reply {
    let repository = body["repositoryName"].as_str().expect("a repository");
    let id = &body["imageIds"][0];
    let digest = id["imageDigest"].as_str();
    let reference = digest.or(id["imageTag"].as_str()).expect("a reference");
    let types = body["acceptedMediaTypes"].as_array().expect("types");
    let types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
    let authorization = login();
    let headers = [
        ("Accept", types.join(", ")),
        ("Authorization", authorization),
    ];
    let headers = headers
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let path = format!("/v2/{repository}/manifests/{reference}");
    let (status, manifest) = exchange(registry, "GET", &path, &headers, b"");
    let answer = match status {
        200 => {
            let digest = Digest::of(&manifest);
            let text = String::from_utf8(manifest).expect("a manifest is text");
            let own: Value = serde_json::from_str(&text).expect("a manifest is JSON");
            json!({ "images": [{
                "repositoryName": repository,
                "imageId": { "imageDigest": digest.as_str() },
                "imageManifest": text,
                "imageManifestMediaType": own["mediaType"],
            }], "failures": [] })
        }
        404 => json!({ "images": [], "failures": [{
            "imageId": id, "failureCode": "ImageNotFound", "failureReason": "Requested image not found",
        }] }),
        status => panic!("the registry answers {status} to {path}"),
    };
    Reply::Answer(200, Vec::new(), answer.to_string())
}

fn put(registry: SocketAddr, body: &Value) -> Reply {
    let repository = body["repositoryName"].as_str().expect("a repository");
    let tag = body["imageTag"].as_str().expect("a tag");
    let kind = body["imageManifestMediaType"].as_str().expect("a type");
    let manifest = body["imageManifest"].as_str().expect("a manifest");
    let authorization = login();
    let headers = [("Content-Type", kind), ("Authorization", &authorization)];
    let path = format!("/v2/{repository}/manifests/{tag}");
    let (status, _) = exchange(registry, "PUT", &path, &headers, manifest.as_bytes());
    assert_eq!(status, 201, "{path}");
    Reply::Answer(200, Vec::new(), json!({ "image": {} }).to_string())
}

/// A JSON Web Token as an issuer would give one; nobody checks its signature.
pub fn token(directory: &Path) -> PathBuf {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let payload = r#"{"iss":"https://issuer.example.com","sub":"repo:acme/shop:ref:refs/heads/main","aud":"sts.amazonaws.com"}"#;
    let token = format!("{}.{}.{}", encode("{}"), encode(payload), SIGNATURE);
    let path = directory.join("token");
    std::fs::write(&path, format!("{token}\n")).expect("write");
    path
}

/// The part of the token that nobody may ever see.
pub const SIGNATURE: &str = "c2lnbmF0dXJlLW9mLXRoZS10b2tlbg";

/// An account that is entered by a role and a token, as no test may change its own environment.
pub fn account(endpoint: &str, directory: &Path) -> Account {
    Account {
        name: "prod".to_owned(),
        region: Some(REGION.to_owned()),
        endpoint: Some(endpoint.to_owned()),
        roles: vec![format!("arn:aws:iam::{ACCOUNT}:role/ci")],
        web_identity: Some(WebIdentity::File(token(directory))),
        ..Account::default()
    }
}

/// Accounts that do not wait long.
pub fn clouds(late: &LateSecrets) -> Clouds {
    let backoff = Backoff {
        tries: 8,
        base: Duration::from_millis(1),
        cap: Duration::from_millis(5),
        total: Duration::from_secs(30),
    };
    let patience = Duration::from_secs(5);
    Clouds::with_limits(Http::new(), late.clone(), backoff, patience)
}
