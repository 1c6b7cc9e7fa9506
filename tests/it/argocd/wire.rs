//! The adapter over real HTTP: who is let in, and what each answer that is none means, in words.

use pipewright::adapters::argocd::ArgoCd;
use pipewright::adapters::http::Http;
use pipewright::base::{LateSecrets, Secret};
use pipewright::ports::Retry;
use pipewright::ports::gitops::{
    Access, AppName, GitOps as _, GitOpsError, GitOpsReader as _, Refresh, Server, SyncRequest,
};
use serde_json::json;

use crate::support::fake_argocd::Beat::Health;
use crate::support::fake_argocd::{FakeArgo, NEW, TOKEN};
use crate::support::faulty::{Faulty, Reply};
use crate::support::registry::{Registry, RegistryOptions};

fn client() -> ArgoCd {
    ArgoCd::new(Http::new(), LateSecrets::default())
}

fn server(address: impl std::fmt::Display, access: Access) -> Server {
    Server {
        name: "cd".to_owned(),
        url: format!("http://{address}/argocd/"),
        access,
    }
}

fn token() -> Access {
    Access::Token(Secret::new(TOKEN.to_owned()))
}

fn login(password: &str) -> Access {
    Access::Login {
        user: Secret::new("admin".to_owned()),
        password: Secret::new(password.to_owned()),
    }
}

fn main_app() -> AppName {
    AppName {
        name: "main".to_owned(),
        ..AppName::default()
    }
}

async fn look(client: &ArgoCd, server: &Server) -> Result<String, GitOpsError> {
    let app = client.app(server, &main_app(), Refresh::Normal).await?;
    Ok(app.health)
}

#[tokio::test]
async fn every_call_is_one_that_the_server_knows() {
    let fake = FakeArgo::new(&[Health("Healthy")]);
    let http = fake.serve();
    let (client, server, app) = (client(), server(http.address(), token()), main_app());
    let request = SyncRequest {
        revision: Some(NEW.to_owned()),
        infos: vec![("pipewright".to_owned(), "mark".to_owned())],
        ..SyncRequest::default()
    };
    client.sync(&server, &app, &request).await.expect("a sync");
    client.rollback(&server, &app, 0, true).await.expect("back");
    client.terminate(&server, &app).await.expect("stopped");
    assert_eq!(client.names(&server).await.expect("names"), ["main"]);
    let windows = client.windows(&server, &app).await.expect("windows");
    assert!(windows.can_sync && windows.active.is_empty());
    assert_eq!(windows.assigned.len(), 1);
    client.managed(&server, &app).await.expect("resources");
    let manifests = client.manifests(&server, &app, NEW).await;
    assert_eq!(manifests.expect("manifests").len(), 2);
    assert_eq!(look(&client, &server).await.expect("a look"), "Healthy");
    assert_eq!(fake.changes(), ["sync", "rollback"]);
    // As the server reads it: plain JSON, in which a number is not text.
    assert_eq!(fake.state().writes[1].1["id"], json!(0));
    let seen = http.seen();
    let change = seen.iter().find(|one| one.method == "DELETE");
    let kind = change.and_then(|one| one.header("content-type"));
    assert_eq!(kind, Some("application/json"), "refused without since 2.10");
    assert_eq!(fake.state().breaches, Vec::<String>::new());
}

#[tokio::test]
async fn a_login_is_kept_and_renewed_once_it_ran_out() {
    let fake = FakeArgo::new(&[]);
    let http = fake.serve();
    let (client, server) = (client(), server(http.address(), login("let me in")));
    for _ in 0..3 {
        look(&client, &server).await.expect("a look");
    }
    assert_eq!(fake.state().logins, 1);
    fake.state().token = None;
    look(&client, &server).await.expect("a look");
    assert_eq!(fake.state().logins, 2);
    // Many at once that find it ended come through as well.
    fake.state().token = None;
    let many = (0..8).map(|_| look(&client, &server));
    for one in futures_util::future::join_all(many).await {
        one.expect("a look");
    }
    assert_eq!(fake.state().logins, 3, "one logs in for all");
    assert_eq!(fake.state().breaches, Vec::<String>::new());
}

#[tokio::test]
async fn whoever_is_not_known_is_told_so_and_asks_no_more() {
    let fake = FakeArgo::new(&[]);
    let http = fake.serve();
    let stale = Access::Token(Secret::new("an-old-token".to_owned()));
    for (access, requests, words) in [
        (stale, 1, "invalid session: token is expired"),
        (Access::Anonymous, 1, "no session information"),
        (login("wrong"), 1, "Invalid username or password"),
    ] {
        let before = http.seen().len();
        let error = look(&client(), &server(http.address(), access)).await;
        let error = error.expect_err(words);
        assert!(matches!(error, GitOpsError::Unknown { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(!error.to_string().contains("wrong"), "{error}");
        assert_eq!(error.retry(), Retry::Never);
        assert_eq!(http.seen().len() - before, requests, "{words}");
    }
}

/// What is answered, and what that means; whether another try may help.
fn answers() -> Vec<(Reply, &'static str, bool)> {
    let said = |status: u16, body: &str| Reply::Answer(status, Vec::new(), body.to_owned());
    let error = |status: u16, words: &str| {
        said(
            status,
            &json!({"error": words, "code": 7, "message": words}).to_string(),
        )
    };
    vec![
        (
            error(403, "permission denied: applications, get, default/main"),
            "argocd `cd` does not let us get main: permission denied: applications, get, default/main",
            false,
        ),
        (
            error(404, "not found"),
            "argocd `cd` has no application main",
            false,
        ),
        (
            error(500, "rpc error: code = Unknown"),
            "argocd `cd` failed at get main: rpc error: code = Unknown",
            true,
        ),
        (
            said(502, "<html>Bad Gateway</html>"),
            "argocd `cd` failed at get main: status 502",
            true,
        ),
        (
            said(503, ""),
            "argocd `cd` failed at get main: status 503",
            true,
        ),
        (
            said(429, "slow down"),
            "argocd `cd` failed at get main: status 429",
            true,
        ),
        (
            error(400, "bad\nrequest\u{1b}[31m"),
            "argocd `cd` refuses to get main: bad request [31m",
            false,
        ),
        (
            said(418, ""),
            "argocd `cd` refuses to get main: status 418",
            false,
        ),
        (
            said(200, "<!doctype html>"),
            "argocd `cd` failed at get main: its answer is not JSON; is this the address of Argo CD?",
            true,
        ),
        (said(200, ""), "its answer is not JSON", true),
        (
            said(200, "[]"),
            "it answered with something that is no application",
            true,
        ),
        (
            said(200, "{\"metadata\":{}}"),
            "it answered with something that is no application",
            true,
        ),
        (
            said(200, &format!("{}1{}", "[".repeat(9000), "]".repeat(9000))),
            "its answer is not JSON",
            true,
        ),
        (Reply::Reset, "argocd `cd` failed at get main: ", true),
        (Reply::Cut(150), "argocd `cd` failed at get main: ", true),
    ]
}

#[tokio::test]
async fn what_is_answered_instead_is_told_in_words() {
    let fake = FakeArgo::new(&[]);
    let real = fake.serve();
    for (reply, words, again) in answers() {
        let shown = format!("{reply:?}");
        let shown: String = shown.chars().take(200).collect();
        let http = Faulty::before(real.address(), move |_| reply.clone());
        let error = look(&client(), &server(http.address(), token())).await;
        let error = error.expect_err(&shown);
        assert!(error.to_string().contains(words), "{shown}: {error}");
        assert_eq!(error.retry() != Retry::Never, again, "{shown}: {error}");
        assert_eq!(http.seen().len(), 1, "{shown}: asked once");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_taken() {
    let body = format!("{{\"canSync\": true, \"x\": \"{}\"}}", "x".repeat(1 << 20));
    let http = Faulty::alone(move |_| Reply::Answer(200, Vec::new(), body.clone()));
    let server = server(http.address(), token());
    let error = client().windows(&server, &main_app()).await;
    let error = error.expect_err("too much").to_string();
    assert!(error.contains("the answer is larger than"), "{error}");
}

#[tokio::test]
async fn a_token_is_not_carried_to_another_host() {
    let other = Faulty::alone(|_| Reply::status(200));
    for status in [301, 302, 307, 308] {
        let to = format!("http://{}/argocd/api/v1/applications/main", other.address());
        let http = Faulty::alone(move |_| {
            Reply::Answer(status, vec![("Location", to.clone())], String::new())
        });
        let error = look(&client(), &server(http.address(), token())).await;
        let error = error.expect_err("a redirect").to_string();
        assert!(
            error.contains("a redirect; use the final address"),
            "{error}"
        );
    }
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn a_certificate_of_nobody_says_what_to_do() {
    let registry = Registry::start(RegistryOptions {
        login: None,
        tls: true,
    });
    let mut server = server(registry.host(), token());
    server.url = server.url.replace("http://", "https://");
    let error = look(&client(), &server).await.expect_err("not trusted");
    assert_eq!(error.retry(), Retry::Never);
    let error = error.to_string();
    assert!(
        error.contains("its certificate is not trusted")
            && error.contains("point SSL_CERT_FILE at"),
        "{error}"
    );

    let fake = FakeArgo::new(&[]);
    let http = fake.serve();
    server.url = format!("https://{}/argocd", http.address());
    let error = look(&client(), &server).await.expect_err("no TLS");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    assert_eq!(http.seen().len(), 0, "not one request in the clear");
}

#[tokio::test]
async fn names_are_only_ever_names() {
    let fake = FakeArgo::new(&[]);
    let http = fake.serve();
    let server = server(http.address(), token());
    for name in ["../../session", "main?refresh=hard", "main/sync", "..", "é"] {
        let app = AppName {
            name: name.to_owned(),
            ..AppName::default()
        };
        let error = client().app(&server, &app, Refresh::None).await;
        let error = error.expect_err(name);
        match name {
            // A client of URLs would go up a directory.
            ".." => assert!(matches!(error, GitOpsError::Refused { .. }), "{error:?}"),
            _ => assert!(matches!(error, GitOpsError::Denied { .. }), "{error:?}"),
        }
    }
    assert_eq!(fake.state().breaches, Vec::<String>::new());
}
