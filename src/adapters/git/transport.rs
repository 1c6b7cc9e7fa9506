//! How the other side of a remote is spoken to: which credential it gets, and what its errors mean.

use std::sync::Arc;

use git2::{Cred, CredentialType, ErrorClass, ErrorCode, ProxyOptions, RemoteCallbacks};

use super::address::{Address, Origin};
use super::mirror::{Fail, Session};
use crate::ports::vcs::{Access, VcsError};

/// The most that one fetch may bring.
const MAX_FETCH: usize = 4 << 30;
/// How much of what the other side says is repeated.
const MAX_MESSAGE: usize = 2_000;

impl Session {
    /// Callbacks that answer the first question for a credential, and keep the watch alive.
    pub(super) fn callbacks(&self) -> RemoteCallbacks<'static> {
        let mut callbacks = RemoteCallbacks::new();
        let access = self.remote.access.clone();
        let origin = match &self.address {
            Address::Http { .. } => Origin::of(self.reached()),
            Address::Local(_) | Address::Ssh(_) => None,
        };
        let mut asked = 0;
        callbacks.credentials(move |url, _, allowed| {
            asked += 1;
            credential(&access, origin.as_ref(), url, allowed, asked)
        });
        let watch = Arc::clone(&self.watch);
        callbacks.transfer_progress(move |progress| {
            watch.beat() && progress.received_bytes() <= MAX_FETCH
        });
        let watch = Arc::clone(&self.watch);
        callbacks.push_transfer_progress(move |_, _, _| {
            watch.beat();
        });
        let watch = Arc::clone(&self.watch);
        callbacks.sideband_progress(move |_| watch.beat());
        callbacks
    }

    /// The address that libgit2 speaks with.
    pub(super) fn reached(&self) -> &str {
        self.gateway
            .as_ref()
            .map_or(&self.remote.url, |gateway| gateway.url())
    }

    /// The proxy that git's configuration or the environment names. A door is on this machine and
    /// needs none; what passes it takes the proxy of the environment.
    pub(super) fn proxy(&self) -> ProxyOptions<'static> {
        let mut options = ProxyOptions::new();
        if self.gateway.is_none() {
            options.auto();
        }
        options
    }

    /// Says what an error of libgit2 means when it talked to the other side.
    pub(super) fn network(&self, error: git2::Error) -> Fail {
        let trouble = self.gateway.as_ref().and_then(|gateway| gateway.trouble());
        if let Some(trouble) = trouble {
            return match trouble.of(&self.remote.url) {
                VcsError::Broken { message, .. } => self.broken(&message),
                VcsError::Denied { message, .. } => self.denied(&message),
                VcsError::Content { message, .. } => self.content(&message),
                other => other,
            }
            .into();
        }
        let message = error.message();
        let status = message
            .split_once("http status code: ")
            .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next())
            .and_then(|digits| digits.parse::<u16>().ok());
        match error.code() {
            ErrorCode::Auth => return self.denied(message).into(),
            // Only the bound on a transfer stops it while somebody waits.
            ErrorCode::User => return self.content("it sends more than 4 GiB").into(),
            _ => {}
        }
        match status {
            Some(401 | 403) => {
                return self
                    .denied(&format!("HTTP status {}", status.unwrap_or(0)))
                    .into();
            }
            Some(404 | 410) => {
                let hint = match self.remote.access {
                    Access::Anonymous => "there is no such repository, or it is not public",
                    Access::Token { .. } | Access::Ssh { .. } => {
                        "there is no such repository, or this credential may not see it"
                    }
                };
                return self.denied(hint).into();
            }
            Some(status) => return self.broken(&format!("HTTP status {status}")).into(),
            None => {}
        }
        if message.contains("redirect") {
            return VcsError::Unsupported {
                url: self.remote.url.clone(),
                message: format!(
                    "it redirects elsewhere, which is not followed: use the new address ({})",
                    self.clean(message)
                ),
            }
            .into();
        }
        match error.class() {
            // Files of the mirror, not the transport. What the transport delivers broken is caught
            // by the second try, which ends in `Broken` too.
            ErrorClass::Odb
            | ErrorClass::Zlib
            | ErrorClass::Reference
            | ErrorClass::Repository
            | ErrorClass::Object
            | ErrorClass::Tree
            | ErrorClass::Indexer
            | ErrorClass::Config => Fail::Mirror(error),
            _ => self.broken(message).into(),
        }
    }

    pub(super) fn denied(&self, message: &str) -> VcsError {
        let (url, message) = (self.remote.url.clone(), self.clean(message));
        VcsError::Denied { url, message }
    }

    pub(super) fn refused(&self, message: &str) -> VcsError {
        let (url, message) = (self.remote.url.clone(), self.clean(message));
        VcsError::Refused { url, message }
    }

    pub(super) fn broken(&self, message: &str) -> VcsError {
        let (url, message) = (self.remote.url.clone(), self.clean(message));
        VcsError::Broken { url, message }
    }

    pub(super) fn content(&self, message: &str) -> VcsError {
        let (url, message) = (self.remote.url.clone(), self.clean(message));
        VcsError::Content { url, message }
    }

    /// A message that may repeat what the other side said: bounded, on few lines, without the token.
    fn clean(&self, message: &str) -> String {
        clean(message, &self.remote.access)
    }
}

/// Bounds a message and takes the credential out of it.
fn clean(message: &str, access: &Access) -> String {
    use base64::Engine as _;
    let mut text = message.to_owned();
    if let Access::Token { user, token } = access
        && !token.expose().is_empty()
    {
        let basic = format!("{user}:{}", token.expose());
        let basic = base64::engine::general_purpose::STANDARD.encode(basic);
        text = text.replace(token.expose(), "***").replace(&basic, "***");
    }
    let text: String = text
        .chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .take(MAX_MESSAGE)
        .collect();
    text.trim().to_owned()
}

fn credential(
    access: &Access,
    origin: Option<&Origin>,
    url: &str,
    allowed: CredentialType,
    asked: u32,
) -> Result<Cred, git2::Error> {
    let deny = |message: &str| git2::Error::new(ErrorCode::Auth, ErrorClass::Http, message);
    let Access::Token { user, token } = access else {
        return Err(deny("it asks for a credential, and none is configured"));
    };
    if asked > 1 {
        // The same answer would be asked for again and again.
        return Err(deny("it rejected the credential"));
    }
    if origin.is_none() || Origin::of(url).as_ref() != origin {
        return Err(deny(
            "it redirected to another host, which gets no credential",
        ));
    }
    if !allowed.contains(CredentialType::USER_PASS_PLAINTEXT) {
        return Err(deny("it wants another kind of credential than a token"));
    }
    Cred::userpass_plaintext(user, token.expose())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Secret;

    fn token() -> Access {
        Access::Token {
            user: "bot".to_owned(),
            token: Secret::new("hunter2"),
        }
    }

    #[test]
    fn messages_lose_the_token() {
        let text = "bad hunter2 and Ym90Omh1bnRlcjI=\u{1b}[31m";
        assert_eq!(clean(text, &token()), "bad *** and *** [31m");
        assert_eq!(clean(&"x".repeat(9_000), &token()).len(), MAX_MESSAGE);
    }

    #[test]
    fn a_credential_goes_to_its_origin_once() {
        let origin = Origin::of("https://h/x");
        let ask = |url: &str, allowed, times| {
            credential(&token(), origin.as_ref(), url, allowed, times).map(|_| ())
        };
        let plain = CredentialType::USER_PASS_PLAINTEXT;
        ask("https://h/x", plain, 1).expect("the first time");
        for (url, allowed, times) in [
            ("https://h/x", plain, 2),
            ("https://other/x", plain, 1),
            ("http://h/x", plain, 1),
            ("https://h:444/x", plain, 1),
            ("https://h/x", CredentialType::DEFAULT, 1),
        ] {
            let error = ask(url, allowed, times).expect_err(url);
            assert_eq!(error.code(), ErrorCode::Auth, "{url}");
        }
        let none = credential(&Access::Anonymous, origin.as_ref(), "https://h/x", plain, 1);
        assert!(none.is_err());
    }
}
