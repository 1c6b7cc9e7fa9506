//! Logins of registries that many use, by their real names, as their documentation says. The program
//! reaches them through a proxy of this machine, behind which each behaves as its own does.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::delivery::{Answer, Started};
use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::repo::SourceRepo;

/// One registry and its token server.
///
/// Facts from: "Configure authentication to Artifact Registry for Docker" (Google Cloud), "Access Tokens -
/// Get" and "Token with Basic Auth" (Azure Container Registry), "Working with the Container registry"
/// (GitHub Docs), "Token Authentication Specification" (distribution), and the challenges that
/// these registries send.
#[derive(Clone, Copy)]
struct Cloud {
    /// Where its API is.
    api: &'static str,
    /// Its token server.
    realm: &'static str,
    /// What it calls itself; some do not.
    service: Option<&'static str>,
    /// The repository as the API knows it.
    repository: &'static str,
    /// What a token must allow for a list of tags.
    lists: &'static str,
    /// The member of an answer that holds the token.
    token: &'static str,
    /// Whether strangers get a token to read with.
    public: bool,
}

const ARTIFACT_REGISTRY: Cloud = Cloud {
    api: "asia-northeast1-docker.pkg.dev",
    realm: "http://asia-northeast1-docker.pkg.dev/v2/token",
    service: None,
    repository: "acme-prod/shop/app",
    lists: "pull",
    token: "token",
    public: false,
};
const GCR: Cloud = Cloud {
    api: "gcr.io",
    realm: "http://gcr.io/v2/token",
    service: Some("gcr.io"),
    repository: "acme-prod/app",
    ..ARTIFACT_REGISTRY
};
const AZURE: Cloud = Cloud {
    api: "acme.azurecr.io",
    realm: "http://acme.azurecr.io/oauth2/token",
    service: Some("acme.azurecr.io"),
    repository: "shop/app",
    lists: "metadata_read",
    token: "access_token",
    public: false,
};
const GITHUB: Cloud = Cloud {
    api: "ghcr.io",
    realm: "http://ghcr.io/token",
    service: Some("ghcr.io"),
    repository: "acme/app",
    lists: "pull",
    token: "token",
    public: true,
};
const HUB: Cloud = Cloud {
    api: "registry-1.docker.io",
    realm: "http://auth.docker.io/token",
    service: Some("registry.docker.io"),
    repository: "library/app",
    lists: "pull",
    token: "token",
    public: true,
};

/// Who the token server knows: how they show it.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    /// User and password, as a `GET` with a Basic login.
    Basic(String, String),
    /// A refresh token, as the form of a `POST`.
    Refresh(String),
}

/// What was wrong with requests: whatever the real ones would take amiss.
type Amiss = Arc<Mutex<Vec<String>>>;

/// A proxy behind which only this registry is.
fn proxy(cloud: Cloud, known: Known) -> (Faulty, Amiss) {
    let amiss = Amiss::default();
    let told = Arc::clone(&amiss);
    let mut granted: HashMap<String, Vec<String>> = HashMap::new();
    let server = Faulty::alone(move |request| {
        let note = |what: String| told.lock().expect("no panic").push(what);
        if request.path.starts_with(cloud.realm) {
            return tokens(cloud, &known, request, &mut granted, &note);
        }
        let base = format!("http://{}/v2/{}/", cloud.api, cloud.repository);
        let Some(rest) = request.path.strip_prefix(&base) else {
            note(format!("somewhere else: {}", request.path));
            return Reply::status(404);
        };
        let lists = rest.starts_with("tags/list");
        let need = if lists { cloud.lists } else { "pull" };
        let authorization = request.header("authorization").unwrap_or("");
        if authorization.starts_with("Basic ") {
            note(format!("a password for the registry itself: {rest}"));
        }
        let scopes = authorization
            .strip_prefix("Bearer ")
            .and_then(|token| granted.get(token));
        let allowed = scopes.is_some_and(|scopes| {
            let resource = format!("repository:{}:", cloud.repository);
            let actions = scopes
                .iter()
                .filter_map(|scope| scope.strip_prefix(&resource));
            actions
                .flat_map(|actions| actions.split(','))
                .any(|action| action == need)
        });
        if !allowed {
            let service = cloud
                .service
                .map_or(String::new(), |it| format!(",service=\"{it}\""));
            let challenge = format!(
                "Bearer realm=\"{}\"{service},scope=\"repository:{}:{need}\"",
                cloud.realm, cloud.repository
            );
            let body = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "authentication required" }] });
            return Reply::Answer(401, vec![("WWW-Authenticate", challenge)], body.to_string());
        }
        match lists {
            true => Reply::Answer(
                200,
                vec![],
                json!({ "tags": ["1.0.0", "1.1.0"] }).to_string(),
            ),
            false => {
                let digest = format!("sha256:{}", "ab".repeat(32));
                let kind = "application/vnd.oci.image.manifest.v1+json".to_owned();
                let headers = vec![("docker-content-digest", digest), ("content-type", kind)];
                Reply::Answer(200, headers, String::new())
            }
        }
    });
    (server, amiss)
}

/// The values of a form or query under a name.
fn values(form: &str, name: &str) -> Vec<String> {
    let address = format!("http://h/?{form}");
    let url: reqwest::Url = address.parse().expect("a query");
    let pairs = url.query_pairs().filter(|(key, _)| key == name);
    pairs.map(|(_, value)| value.into_owned()).collect()
}

fn tokens(
    cloud: Cloud,
    known: &Known,
    request: &Request,
    granted: &mut HashMap<String, Vec<String>>,
    note: &dyn Fn(String),
) -> Reply {
    let query = request.path.split_once('?').map_or("", |(_, query)| query);
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let form = if request.method == "POST" {
        &*body
    } else {
        query
    };
    let authorization = request.header("authorization");
    let is_known = match known {
        Known::Basic(user, password) => {
            let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
            request.method == "GET" && authorization == Some(&*basic)
        }
        Known::Refresh(token) => {
            let kind = request.header("content-type");
            if kind != Some("application/x-www-form-urlencoded") {
                note(format!("a form of type {kind:?}"));
            }
            request.method == "POST"
                && values(form, "grant_type") == ["refresh_token"]
                && values(form, "refresh_token") == [token.clone()]
        }
    };
    let service: Vec<String> = cloud.service.map(str::to_owned).into_iter().collect();
    if values(form, "service") != service {
        note(format!("service in {form}"));
    }
    let stranger = authorization.is_none() && request.method == "GET";
    if !(is_known || (stranger && cloud.public)) {
        let body = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "not known here" }] });
        return Reply::Answer(401, vec![], body.to_string());
    }
    // A form holds all scopes in one value, a query one in each.
    let scopes = values(form, "scope");
    let scopes: Vec<String> = scopes
        .iter()
        .flat_map(|it| it.split(' '))
        .map(str::to_owned)
        .collect();
    if scopes.is_empty() || scopes.iter().any(|scope| scope.contains("push")) {
        note(format!("scopes {scopes:?} for a look"));
    }
    let token = format!("t0ken{}", granted.len());
    granted.insert(token.clone(), scopes);
    Reply::Answer(
        200,
        vec![],
        json!({ cloud.token: token, "expires_in": 300 }).to_string(),
    )
}

/// A project that watches `app` at a registry as it is declared.
struct Shop {
    dir: tempfile::TempDir,
    repo: SourceRepo,
}

impl Shop {
    fn new(declarations: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let text = format!(
            "{declarations}\npipeline p {{\n    on {{ watch app semver=\"*\" }}\n    run a {{ script \"true\" }}\n}}\n"
        );
        let repo = SourceRepo::with_files(&dir.path().join("shop"), &[("pipelines/p.kdl", &text)]);
        std::fs::create_dir_all(dir.path().join("docker")).expect("mkdir");
        Self { dir, repo }
    }

    fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("write");
        path
    }

    fn images(&self, proxy: &Faulty, env: &[(&str, &str)]) -> Answer {
        let path = std::env::var("PATH").unwrap_or_default();
        let docker = self.dir.path().join("docker");
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipewright"));
        command
            .args(["images", "app", "--format", "json"])
            .current_dir(self.repo.path())
            .env_clear()
            .env("PATH", format!("{}:{path}", docker.display()))
            .env("HOME", self.dir.path())
            .env("DOCKER_CONFIG", &docker)
            .env("SHOP_DIR", self.dir.path())
            .env("http_proxy", format!("http://{}", proxy.address()))
            .envs(env.iter().copied());
        Started::new(command).finish()
    }
}

/// A key of a service account, as Google writes it: several lines, quotes, escaped line breaks.
const KEY: &str = "{\n  \"type\": \"service_account\",\n  \"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMIIE+/=\\n\",\n  \"client_email\": \"ci@acme-prod.iam.gserviceaccount.com\"\n}";

/// One way to log in.
struct Way<'a> {
    cloud: Cloud,
    /// The registry and image as a pipeline declares them.
    declared: &'a str,
    /// The user's docker configuration.
    docker: Option<Value>,
    env: &'a [(&'a str, &'a str)],
    known: Known,
}

fn basic(user: &str, password: &str) -> Known {
    Known::Basic(user.to_owned(), password.to_owned())
}

const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

#[test]
fn every_registry_by_the_logins_it_documents() {
    let key64 = STANDARD.encode(KEY);
    let google = |login: &str| {
        format!(
            "secret S env=S\nregistry r \"asia-northeast1-docker.pkg.dev/acme-prod/shop\" {{ plain-http; {login} }}\nimage app registry=r {{ tag latest }}"
        )
    };
    let azure = |login: &str| {
        format!(
            "secret S env=S\nregistry r \"acme.azurecr.io\" {{ plain-http; {login} }}\nimage app registry=r \"shop/app\" {{ tag latest }}"
        )
    };
    let hub = |address: &str, login: &str| {
        format!(
            "secret S env=S\nregistry r \"{address}\" {{ plain-http; {login} }}\nimage app registry=r {{ tag latest }}"
        )
    };
    let auth = |user: &str, password: &str| STANDARD.encode(format!("{user}:{password}"));
    let ways = [
        // Google: the key of a service account as it is, or as base64; an access token; a helper.
        Way {
            cloud: ARTIFACT_REGISTRY,
            declared: &google("login \"_json_key\" \"${secret.S}\""),
            docker: None,
            env: &[("S", KEY)],
            known: basic("_json_key", KEY),
        },
        Way {
            cloud: ARTIFACT_REGISTRY,
            declared: &google("login \"_json_key_base64\" \"${secret.S}\""),
            docker: None,
            env: &[("S", &key64)],
            known: basic("_json_key_base64", &key64),
        },
        Way {
            cloud: ARTIFACT_REGISTRY,
            declared: &google("login oauth2accesstoken \"${secret.S}\""),
            docker: None,
            env: &[("S", "ya29.c.b0Aa-_")],
            known: basic("oauth2accesstoken", "ya29.c.b0Aa-_"),
        },
        Way {
            cloud: ARTIFACT_REGISTRY,
            declared: &google(""),
            docker: Some(json!({ "credHelpers": { "asia-northeast1-docker.pkg.dev": "cloud" } })),
            env: &[("S", "")],
            known: basic("_dcgcloud_token", "of asia-northeast1-docker.pkg.dev"),
        },
        Way {
            cloud: GCR,
            declared: "secret S env=S\nregistry r \"gcr.io/acme-prod\" { plain-http; login \"_json_key\" \"${secret.S}\" }\nimage app registry=r { tag latest }",
            docker: None,
            env: &[("S", KEY)],
            known: basic("_json_key", KEY),
        },
        // Azure: the admin user, a service principal, a token with a scope map, what `az acr login
        // --expose-token` prints, and what `az acr login` leaves in the docker configuration.
        Way {
            cloud: AZURE,
            declared: &azure("login acme \"${secret.S}\""),
            docker: None,
            env: &[("S", "vx4+/=pa55")],
            known: basic("acme", "vx4+/=pa55"),
        },
        Way {
            cloud: AZURE,
            declared: &azure("login \"5b1ee5ac-0a51-4e5b-9c1a-0c1d5a4b7e10\" \"${secret.S}\""),
            docker: None,
            env: &[("S", "a~secret.of_the-app")],
            known: basic(
                "5b1ee5ac-0a51-4e5b-9c1a-0c1d5a4b7e10",
                "a~secret.of_the-app",
            ),
        },
        Way {
            cloud: AZURE,
            declared: &azure(&format!("login \"{NOBODY}\" \"${{secret.S}}\"")),
            docker: None,
            env: &[("S", "eyJhbGci.refresh.t0ken")],
            known: basic(NOBODY, "eyJhbGci.refresh.t0ken"),
        },
        Way {
            cloud: AZURE,
            declared: &azure(""),
            docker: Some(json!({ "auths": { "acme.azurecr.io": {
                "auth": auth(NOBODY, ""), "identitytoken": "eyJhbGci.refresh.t0ken",
            } } })),
            env: &[("S", "")],
            known: Known::Refresh("eyJhbGci.refresh.t0ken".to_owned()),
        },
        // GitHub: any user and a token; strangers, where the package is public.
        Way {
            cloud: GITHUB,
            declared: "secret S env=S\nregistry r \"ghcr.io/acme\" { plain-http; login anybody \"${secret.S}\" }\nimage app registry=r { tag latest }",
            docker: None,
            env: &[("S", "ghp_0123456789abcdef")],
            known: basic("anybody", "ghp_0123456789abcdef"),
        },
        Way {
            cloud: GITHUB,
            declared: "registry r \"ghcr.io/acme\" { plain-http }\nimage app registry=r { tag latest }",
            docker: None,
            env: &[],
            known: basic("nobody", "comes"),
        },
        // Docker Hub: under each of its names, from the pipeline or from `docker login`.
        Way {
            cloud: HUB,
            declared: &hub("docker.io", "login acme \"${secret.S}\""),
            docker: None,
            env: &[("S", "dckr_pat_0123")],
            known: basic("acme", "dckr_pat_0123"),
        },
        Way {
            cloud: HUB,
            declared: &hub("index.docker.io", ""),
            docker: Some(
                json!({ "auths": { "https://index.docker.io/v1/": { "auth": auth("acme", "pa55") } } }),
            ),
            env: &[("S", "")],
            known: basic("acme", "pa55"),
        },
        Way {
            cloud: HUB,
            declared: &hub("docker.io/library", ""),
            docker: Some(json!({ "credsStore": "cloud" })),
            env: &[("S", "")],
            known: basic("_dcgcloud_token", "of https://index.docker.io/v1/"),
        },
    ];
    for way in ways {
        let shop = Shop::new(way.declared);
        if let Some(config) = &way.docker {
            shop.file("docker/config.json", &config.to_string());
        }
        helper(shop.dir.path());
        let (server, amiss) = proxy(way.cloud, way.known.clone());
        let said = shop.images(&server, way.env).expect(0);
        let json: Value = serde_json::from_str(&said.out).expect("JSON");
        assert_eq!(json["chosen"]["app"]["tag"], "1.1.0", "{}", said.text());
        let amiss = amiss.lock().expect("no panic").clone();
        assert!(amiss.is_empty(), "{}: {amiss:?}", way.declared);
        let asked = server
            .seen()
            .iter()
            .filter(|it| it.path.starts_with(way.cloud.realm))
            .count();
        assert!(asked <= 2, "{}: {asked} tokens for one look", way.declared);

        // Somebody else's password: said plainly, without the password.
        if let Known::Basic(user, _) = &way.known
            && way.declared.contains("login")
        {
            let (server, _) = proxy(way.cloud, basic(user, "another one"));
            let said = shop.images(&server, way.env).expect(3);
            said.says("denied").says("not known here");
            let text = said.text();
            for (_, secret) in way.env {
                let parts = secret.lines().filter(|line| line.len() > 3);
                assert!(parts.into_iter().all(|part| !text.contains(part)), "{text}");
            }
        }
    }
}

/// A credential helper that says for which server it was asked.
fn helper(dir: &Path) {
    let path = dir.join("docker/docker-credential-cloud");
    let script = "#!/bin/sh\nread server\nprintf '{\"ServerURL\":\"%s\",\"Username\":\"_dcgcloud_token\",\"Secret\":\"of %s\"}' \"$server\" \"$server\"\n";
    // Written by a process of its own: nobody runs what this process may still have open.
    let mut child = Command::new("tee")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("tee runs");
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    std::io::Write::write_all(&mut stdin, script.as_bytes()).expect("tee takes it");
    drop(stdin);
    assert!(child.wait().is_ok_and(|status| status.success()));
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("it can be made executable");
}
