//! Who a cluster is and who we are, over TLS: authorities, client certificates, the service account of
//! a pod; and servers that take their time.
#![expect(
    clippy::disallowed_methods,
    reason = "tests write real files and run real programs"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine as _;
use hyper::http::Request;
use pipewright::adapters::kubernetes::{Answer, Connections, ServiceAccount, Transport as _};
use pipewright::base::{LateSecrets, Secret, Timestamp};
use pipewright::ports::cluster::{Access, Cluster, ClusterError};

use crate::support::fake_kubernetes::FakeKubernetes;
use crate::support::faulty::{Faulty, Reply};
use crate::support::tls::{Authority, Tls};

const LOCAL: &str = "IP:127.0.0.1";

fn connections() -> (Connections, LateSecrets) {
    let late = LateSecrets::default();
    let now = || Timestamp(1_767_323_045_000);
    (Connections::new(late.clone(), now), late)
}

fn cluster(access: Access, base: &Path) -> Cluster {
    Cluster {
        name: "c".to_owned(),
        access,
        base: base.to_owned(),
    }
}

async fn look(connections: &Connections, cluster: &Cluster) -> Result<Answer, ClusterError> {
    let request = Request::get("/apis/apps/v1/namespaces/main/deployments/front");
    let request = request.body(Vec::new()).expect("a request");
    connections.send(cluster, "look", request).await
}

/// The status a look has, or the error it tells.
async fn told(connections: &Connections, cluster: &Cluster) -> String {
    match look(connections, cluster).await {
        Ok(answer) => answer.status.to_string(),
        Err(error) => error.to_string(),
    }
}

fn encoded(path: &Path) -> String {
    let bytes = std::fs::read(path).expect("a file");
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

/// A directory, its authority, and a fake.
struct Site {
    dir: tempfile::TempDir,
    authority: Authority,
    fake: FakeKubernetes,
    server: Faulty,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let fake = FakeKubernetes::new(&[]);
        Self {
            authority: Authority::new(&dir.path().join("pki")),
            server: fake.serve(),
            fake,
            dir,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn tls(&self, name: &str, clients: Option<&Authority>) -> Tls {
        let shown = self.authority.server(name);
        Tls::before(self.server.address(), &shown, clients)
    }

    /// A configuration beside the authority's directory.
    fn kubeconfig(&self, cluster: &str, user: &str) -> PathBuf {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
        );
        // Another one each time: connections are known by their path.
        let number = std::fs::read_dir(self.path()).expect("a directory").count();
        let path = self.path().join(format!("kubeconfig-{number}"));
        std::fs::write(&path, text).expect("written");
        path
    }

    fn by_file(&self, cluster_says: &str, user: &str) -> Cluster {
        let path = self.kubeconfig(cluster_says, user);
        let config = Secret::new(path.display().to_string());
        let context = None;
        cluster(Access::Kubeconfig { config, context }, self.path())
    }

    fn by_text(&self, cluster_says: &str, user: &str) -> Cluster {
        let path = self.kubeconfig(cluster_says, user);
        let config = Secret::new(std::fs::read_to_string(path).expect("a file"));
        let context = None;
        cluster(Access::Kubeconfig { config, context }, self.path())
    }

    fn by_token(&self, address: &str, authority: Option<&str>) -> Cluster {
        let access = Access::Token {
            server: address.to_owned(),
            token: Secret::new("tok-1234567890".to_owned()),
            authority: authority.map(str::to_owned),
        };
        cluster(access, self.path())
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_where_it_is_declared_and_only_there() {
    let site = Site::new();
    let tls = site.tls(LOCAL, None);
    let url = format!("https://{}", tls.address());
    let path = site.authority.certificate();
    let text = std::fs::read_to_string(path).expect("a file");
    let data = encoded(path);
    let (connections, _) = connections();
    for trusted in [
        site.by_token(&url, Some(&text)),
        site.by_token(&url, Some("pki/authority.crt")),
        site.by_file(
            &format!("server: \"{url}\", certificate-authority: pki/authority.crt"),
            "",
        ),
        site.by_text(
            &format!("server: \"{url}\", certificate-authority: pki/authority.crt"),
            "",
        ),
        site.by_text(
            &format!("server: \"{url}\", certificate-authority-data: {data}"),
            "",
        ),
    ] {
        assert_eq!(told(&connections, &trusted).await, "200", "{trusted:?}");
    }
    let asked = site.server.seen().len();
    let stranger = Authority::new(&site.path().join("other"));
    let other = std::fs::read_to_string(stranger.certificate()).expect("a file");
    for untrusted in [
        site.by_token(&url, None),
        site.by_token(&url, Some(&other)),
        site.by_file(&format!("server: \"{url}\""), ""),
    ] {
        let words = told(&connections, &untrusted).await;
        assert!(
            words.contains("give it by `certificate-authority`"),
            "{words}"
        );
    }
    assert_eq!(site.server.seen().len(), asked, "no token went there");
    for (authority, why) in [
        ("pki/authority.key", "holds no certificate"),
        ("pki/none.crt", "pki/none.crt: No such file"),
        ("/dev/zero", "/dev/zero is no file"),
    ] {
        let words = told(&connections, &site.by_token(&url, Some(authority))).await;
        assert!(words.contains(why), "{words}");
        assert!(!words.contains("PRIVATE"), "{words}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_name_is_told_and_its_name_may_be_given() {
    let site = Site::new();
    let tls = site.tls("DNS:kubernetes.example.com", None);
    let says = format!(
        "server: \"https://{}\", certificate-authority: pki/authority.crt",
        tls.address()
    );
    let (connections, _) = connections();
    let words = told(&connections, &site.by_file(&says, "")).await;
    assert!(
        words.contains("the certificate is of another name"),
        "{words}"
    );
    let named = format!("{says}, tls-server-name: kubernetes.example.com");
    assert_eq!(told(&connections, &site.by_text(&named, "")).await, "200");
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_wants_one() {
    let site = Site::new();
    let tls = site.tls(LOCAL, Some(&site.authority));
    let says = format!(
        "server: \"https://{}\", certificate-authority: pki/authority.crt",
        tls.address()
    );
    let bot = site.authority.client("bot");
    let (certificate, key) = (encoded(&bot.certificate), encoded(&bot.key));
    let (connections, late) = connections();
    let files = "client-certificate: pki/bot.crt, client-key: pki/bot.key";
    let data = format!("client-certificate-data: {certificate}, client-key-data: {key}");
    for known in [
        site.by_file(&says, files),
        site.by_text(&says, files),
        site.by_text(&says, &data),
    ] {
        assert_eq!(told(&connections, &known).await, "200");
    }
    assert!(
        late.all().1.contains(&Secret::new(key)),
        "the key is masked"
    );

    let asked = site.server.seen().len();
    let stranger = Authority::new(&site.path().join("other"));
    stranger.client("bot");
    for (user, why) in [
        ("", "the cluster wants a client certificate"),
        (
            "client-certificate: other/bot.crt, client-key: other/bot.key",
            "the cluster does not take our client certificate",
        ),
        (
            "client-certificate: pki/bot.crt",
            "has a `client-certificate` without a `client-key`",
        ),
        (
            "client-key: pki/bot.key",
            "has a `client-key` without a `client-certificate`",
        ),
        (
            "client-certificate: pki/bot.crt, client-key: pki/none.key",
            "pki/none.key: No such file",
        ),
        (
            "client-certificate: pki/bot.crt, client-key: /dev/zero",
            "its `client-key` /dev/zero is no file",
        ),
    ] {
        let words = told(&connections, &site.by_file(&says, user)).await;
        assert!(words.contains(why), "{user}: {words}");
    }
    assert_eq!(site.server.seen().len(), asked, "nobody came through");
}

#[tokio::test]
async fn the_service_account_of_a_pod_is_read_again_once_its_token_is_renewed() {
    let site = Site::new();
    let tls = site.tls(LOCAL, None);
    let account = site.path().join("account");
    std::fs::create_dir(&account).expect("a directory");
    let put = |name: &str, text: &str| std::fs::write(account.join(name), text).expect("written");
    let authority = std::fs::read_to_string(site.authority.certificate()).expect("a file");
    put("ca.crt", &authority);
    put("namespace", "main\n");
    put("token", "token-of-monday\n");
    let know = |token: &str| site.fake.state().token = Some(token.to_owned());
    let own = ServiceAccount::at(account.clone(), "127.0.0.1", tls.address().port());
    let (connections, late) = connections();
    let connections = connections.with_account(own);
    let pod = cluster(Access::InCluster, site.path());

    know("token-of-monday");
    assert_eq!(told(&connections, &pod).await, "200");
    let namespace = connections.namespace(&pod).await;
    assert_eq!(namespace.expect("it has one"), "main");
    // It is renewed before the old one ends: the new one is used from then on.
    put("token", "token-of-tuesday\n");
    know("token-of-tuesday");
    assert_eq!(told(&connections, &pod).await, "200");
    let given: Vec<_> = site
        .server
        .seen()
        .iter()
        .map(|it| it.header("authorization").map(str::to_owned))
        .collect();
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    assert_eq!(
        given,
        [bearer("token-of-monday"), bearer("token-of-tuesday")],
        "none was refused"
    );
    for token in ["token-of-monday", "token-of-tuesday"] {
        let secret = Secret::new(token.to_owned());
        assert!(late.all().1.contains(&secret), "{token} is masked");
    }
    // What is gone or half written was read before.
    put("token", "");
    assert_eq!(told(&connections, &pod).await, "200");
    std::fs::remove_file(account.join("token")).expect("removed");
    assert_eq!(told(&connections, &pod).await, "200");
}

#[tokio::test]
async fn what_is_missing_of_a_service_account_is_told() {
    let site = Site::new();
    let account = site.path().join("account");
    std::fs::create_dir(&account).expect("a directory");
    let put = |name: &str, text: &str| std::fs::write(account.join(name), text).expect("written");
    let pod = cluster(Access::InCluster, site.path());
    let own = ServiceAccount::at(account.clone(), "127.0.0.1", 9);
    let connections = connections().0.with_account(own);
    let authority = std::fs::read_to_string(site.authority.certificate()).expect("a file");
    for (name, text, why) in [
        ("none", "", "is `automountServiceAccountToken` false?"),
        ("token", "\n", "account/ca.crt: No such file"),
        (
            "ca.crt",
            "nothing",
            "the service account's ca.crt holds no certificate",
        ),
        (
            "ca.crt",
            authority.as_str(),
            "account/namespace: No such file",
        ),
        ("namespace", "main", "account/token is empty"),
        ("token", "some-token", "nothing listens there"),
    ] {
        put(name, text);
        let words = told(&connections, &pod).await;
        assert!(words.contains(why), "{words}");
    }
}

#[tokio::test]
async fn who_never_answers_is_given_up() {
    let site = Site::new();
    let (connections, _) = connections();
    let connections = connections.with_patience(Duration::from_millis(300));
    let silent = Faulty::alone(|_| Reply::Hang);
    // Accepts connections and says nothing, neither in HTTP nor in TLS.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let deaf = deaf.local_addr().map(|at| (deaf, at)).expect("its address");
    for (url, why) in [
        (
            format!("http://{}", silent.address()),
            "failed to look: no answer within 0.3 s",
        ),
        (
            format!("http://{}", deaf.1),
            "failed to look: no answer within 0.3 s",
        ),
        (format!("https://{}", deaf.1), "failed to look: "),
    ] {
        let began = Instant::now();
        let words = told(&connections, &site.by_token(&url, None)).await;
        assert!(words.contains(why), "{words}");
        assert!(began.elapsed() < Duration::from_secs(5), "{words}");
    }
}
