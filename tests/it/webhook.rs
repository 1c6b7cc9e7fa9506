//! The web hook adapter against receivers that take, refuse, fail and fall silent.

use std::time::Duration;

use pipewright::adapters::http::Http;
use pipewright::adapters::webhook::WebHook;
use pipewright::base::{Secret, Text};
use pipewright::ports::Retry;
use pipewright::ports::notifier::{Message, Notifier as _, NotifyError};

use crate::support::faulty::{Faulty, Reply};

fn message(server: &Faulty, path: &str) -> Message {
    Message {
        url: Secret::new(format!("http://{}{path}", server.address())),
        headers: vec![
            ("X-Plain".to_owned(), Text::Plain("yes".to_owned())),
            (
                "Authorization".to_owned(),
                Text::Secret(Secret::new("Bearer h00k-t0ken")),
            ),
        ],
        body: r#"{"text":"done"}"#.to_owned(),
    }
}

#[tokio::test]
async fn messages_are_posted_once() {
    let server = Faulty::alone(|_| Reply::status(200));
    let hook = WebHook::new(Http::new());
    hook.send(&message(&server, "/services/T1/B2?x=y"))
        .await
        .unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].is("POST /services/T1/B2?x=y"));
    assert_eq!(seen[0].body, br#"{"text":"done"}"#);
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[0].header("x-plain"), Some("yes"));
    assert_eq!(seen[0].header("authorization"), Some("Bearer h00k-t0ken"));
    let agent = format!("pipewright/{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(seen[0].header("user-agent"), Some(agent.as_str()));
}

#[tokio::test]
async fn receivers_that_fail_or_refuse() {
    let path = "/services/T12345678/s3cr3tpart";
    let after = vec![("Retry-After", "7".to_owned())];
    let seconds = |n| Retry::After(Some(Duration::from_secs(n)));
    for (reply, retry, says) in [
        (Reply::Answer(429, after, String::new()), seconds(7), "429"),
        (Reply::status(500), Retry::After(None), "500"),
        (Reply::status(408), Retry::After(None), "408"),
        (Reply::Reset, Retry::After(None), "the receiver failed"),
        (
            Reply::Answer(400, vec![], "invalid_payload".to_owned()),
            Retry::Never,
            "invalid_payload",
        ),
        (
            Reply::Answer(
                404,
                vec![],
                format!("Cannot POST {path}, Bearer h00k-t0ken"),
            ),
            Retry::Never,
            "Cannot POST ***, ***",
        ),
        (
            Reply::Answer(
                302,
                vec![("Location", "http://127.0.0.2:1/".to_owned())],
                String::new(),
            ),
            Retry::Never,
            "redirect to another address",
        ),
    ] {
        let again = reply.clone();
        let server = Faulty::alone(move |_| again.clone());
        let error = WebHook::new(Http::new())
            .send(&message(&server, path))
            .await
            .unwrap_err();
        assert_eq!(error.retry(), retry, "{error}");
        let text = error.to_string();
        assert!(text.contains(says), "{text}");
        for secret in [
            "s3cr3tpart",
            "T12345678",
            "h00k-t0ken",
            &server.address().to_string(),
        ] {
            assert!(!text.contains(secret), "{text}");
        }
        assert_eq!(
            server.seen().len(),
            1,
            "the caller decides about another try"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_receiver_is_left() {
    let server = Faulty::alone(|_| Reply::Hang);
    let error = WebHook::new(Http::new())
        .send(&message(&server, "/x"))
        .await
        .unwrap_err();
    assert!(matches!(error, NotifyError::Broken { .. }), "{error}");
    assert!(
        error.to_string().contains("no answer within 1m00s"),
        "{error}"
    );
}
