//! Repositories over ssh, for the door through which libgit2 goes: git's protocol as it is over
//! HTTP on one side, the ssh program on the other.
//!
//! Over HTTP each question is complete in itself, so each can be put to a service of its own: the
//! answer to the first is what the service says unasked, and the next question goes to that same
//! service. One connection does for a fetch or a push, mostly.

mod agent;
mod client;

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use self::agent::Agent;
use self::client::{Call, Trust};
use super::address::SshAddress;
use super::keys::SshKey;
use crate::ports::vcs::{Access, VcsError};

/// The longest list of branches and tags that is read.
const MAX_LIST: usize = 64 << 20;

/// Why the other side could not be spoken with.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// No answer or a broken one.
    Broken(String),
    /// It does not let us.
    Denied(String),
    /// It is not whom it should be.
    Untrusted(String),
    /// It cannot be done here.
    Unsupported(String),
}

impl Trouble {
    /// The error for an address.
    pub(super) fn of(self, url: &str) -> VcsError {
        let url = url.to_owned();
        match self {
            Self::Broken(message) => VcsError::Broken { url, message },
            Self::Denied(message) => VcsError::Denied { url, message },
            Self::Untrusted(message) => VcsError::Content { url, message },
            Self::Unsupported(message) => VcsError::Unsupported { url, message },
        }
    }
}

/// The way to one repository over ssh. Our key and the hosts we know are served for as long as it
/// is there.
#[derive(Debug)]
pub(super) struct SshWay {
    to: SshAddress,
    trust: Trust,
    /// A service that has said what it has and was not asked yet.
    open: Mutex<Option<(Service, Call)>>,
    _agent: Option<Agent>,
    /// Private to us; goes last.
    _dir: Option<tempfile::TempDir>,
}

/// What is asked of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Fetch,
    Push,
}

impl Service {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "git-upload-pack" => Some(Self::Fetch),
            "git-receive-pack" => Some(Self::Push),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fetch => "git-upload-pack",
            Self::Push => "git-receive-pack",
        }
    }
}

impl SshWay {
    /// Makes ready to go there.
    pub(super) fn open(to: SshAddress, access: &Access) -> Result<Self, Trouble> {
        let mut way = Self {
            to,
            trust: Trust::default(),
            open: Mutex::default(),
            _agent: None,
            _dir: None,
        };
        let (key, known_hosts) = match access {
            Access::Anonymous => (None, None),
            Access::Ssh { key, known_hosts } => (key.as_ref(), known_hosts.as_ref()),
            Access::Token { .. } => {
                return Err(Trouble::Unsupported(
                    "a token does not open a repository over ssh: give an `ssh-key`, or use its https address"
                        .to_owned(),
                ));
            }
        };
        if key.is_none() && known_hosts.is_none() {
            return Ok(way);
        }
        let fail =
            |error: io::Error| Trouble::Broken(format!("making a private directory: {error}"));
        // Its mode lets nobody else in.
        let dir = tempfile::Builder::new()
            .prefix("pipewright-")
            .tempdir()
            .map_err(fail)?;
        if let Some(lines) = known_hosts {
            let file = dir.path().join("known_hosts");
            std::fs::write(&file, format!("{}\n", lines.trim_end())).map_err(fail)?;
            way.trust.known_hosts = Some(file);
        }
        if let Some(key) = key {
            let key = SshKey::parse(key).map_err(Trouble::Unsupported)?;
            let socket = dir.path().join("agent");
            way._agent = Some(Agent::start(key, &socket).map_err(fail)?);
            way.trust.agent = Some(socket);
        }
        way._dir = Some(dir);
        Ok(way)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Option<(Service, Call)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a service says unasked: the branches and tags it has.
    pub(super) async fn list(&self, service: Service) -> Result<Vec<u8>, Trouble> {
        let mut call = Call::start(&self.to, &self.trust, service.name())?;
        match advertisement(&mut call.output).await {
            Ok(list) => {
                *self.kept() = Some((service, call));
                Ok(list)
            }
            Err(error) => Err(match call.end(false).await {
                Err(trouble) => trouble,
                Ok(()) => Trouble::Broken(error.to_string()),
            }),
        }
    }

    /// Puts a question and passes the answer on as it comes.
    pub(super) async fn ask<Q>(
        &self,
        service: Service,
        mut question: Q,
    ) -> Result<impl Stream<Item = Result<Bytes, Trouble>> + Send + use<Q>, Trouble>
    where
        Q: Stream<Item = Result<Bytes, io::Error>> + Send + Unpin + 'static,
    {
        let kept = self.kept().take().filter(|(kept, _)| *kept == service);
        let mut call = match kept {
            Some((_, call)) => call,
            None => {
                let mut call = Call::start(&self.to, &self.trust, service.name())?;
                if let Err(error) = advertisement(&mut call.output).await {
                    call.end(false).await?;
                    return Err(Trouble::Broken(error.to_string()));
                }
                call
            }
        };
        let input = call.input.take();
        // Both directions at once: a service may answer before it has read everything.
        let writer = Writer(tokio::spawn(async move {
            let Some(mut input) = input else {
                return;
            };
            while let Some(Ok(piece)) = question.next().await {
                if input.write_all(&piece).await.is_err() {
                    return;
                }
            }
            // What is left unsaid shows in the answer.
            let _ = input.shutdown().await;
        }));
        let state = Some((call, writer, false));
        Ok(stream::unfold(state, |state| async move {
            let (mut call, writer, answered) = state?;
            let mut piece = vec![0; 32 << 10];
            match call.output.read(&mut piece).await {
                Ok(0) => match call.end(answered).await {
                    Ok(()) => None,
                    Err(trouble) => Some((Err(trouble), None)),
                },
                Ok(count) => {
                    piece.truncate(count);
                    Some((Ok(Bytes::from(piece)), Some((call, writer, true))))
                }
                Err(error) => Some((Err(Trouble::Broken(error.to_string())), None)),
            }
        }))
    }
}

/// A task that ends with its owner.
struct Writer(JoinHandle<()>);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads packets up to the one that ends the list.
async fn advertisement(output: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut list = Vec::new();
    loop {
        let mut length = [0; 4];
        output.read_exact(&mut length).await?;
        list.extend_from_slice(&length);
        let bad = || io::Error::other("it does not speak git's protocol");
        let text = std::str::from_utf8(&length).map_err(|_| bad())?;
        let length = usize::from_str_radix(text, 16).map_err(|_| bad())?;
        if length == 0 {
            return Ok(list);
        }
        let length = length.checked_sub(4).ok_or_else(bad)?;
        if list.len() + length > MAX_LIST {
            return Err(io::Error::other(
                "it has more branches and tags than we read",
            ));
        }
        let at = list.len();
        list.resize(at + length, 0);
        output.read_exact(&mut list[at..]).await?;
        if list[at..].starts_with(b"ERR ") {
            let message = String::from_utf8_lossy(&list[at + 4..]).trim().to_owned();
            return Err(io::Error::other(message));
        }
    }
}
