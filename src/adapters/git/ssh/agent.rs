//! An ssh agent of one key, for the ssh program that an operation starts: the key is asked for
//! signatures and never leaves this process, so it can be in no file, argument or variable.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ssh_key::HashAlg;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::adapters::git::keys::SshKey;

/// The longest request that is read.
const MAX_REQUEST: usize = 256 << 10;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// A flag of a request: sign by SHA-256, if the key is one of RSA.
const RSA_SHA2_256: u32 = 2;

/// A running agent; ends when dropped.
#[derive(Debug)]
pub(super) struct Agent(JoinHandle<()>);

impl Agent {
    /// Serves a key on a socket in a directory that is ours alone.
    pub(super) fn start(key: SshKey, socket: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(socket)?;
        Ok(Self(tokio::spawn(serve(listener, Arc::new(key)))))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(listener: UnixListener, key: Arc<SshKey>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let key = Arc::clone(&key);
                    // What goes wrong with a client is for it to report.
                    clients.spawn(async move { drop(converse(stream, &key).await) });
                }
                Err(_) => return,
            },
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
        }
    }
}

async fn converse(mut stream: UnixStream, key: &SshKey) -> io::Result<()> {
    loop {
        let length = stream.read_u32().await? as usize;
        if length == 0 || length > MAX_REQUEST {
            return Ok(());
        }
        let mut request = vec![0; length];
        stream.read_exact(&mut request).await?;
        let answer = answer(key, &request).unwrap_or_else(|| vec![FAILURE]);
        let length = u32::try_from(answer.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_be_bytes()).await?;
        stream.write_all(&answer).await?;
    }
}

/// The answer to one request; `None` refuses it.
fn answer(key: &SshKey, request: &[u8]) -> Option<Vec<u8>> {
    let (kind, mut rest) = request.split_first()?;
    let blob = key.blob().ok()?;
    match *kind {
        REQUEST_IDENTITIES => {
            let mut answer = vec![IDENTITIES_ANSWER];
            answer.extend(1u32.to_be_bytes());
            put(&mut answer, &blob)?;
            put(&mut answer, b"pipewright")?;
            Some(answer)
        }
        SIGN_REQUEST => {
            if take(&mut rest)? != blob {
                return None;
            }
            let data = take(&mut rest)?;
            let flags = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
            let hash = match flags & RSA_SHA2_256 {
                0 => HashAlg::Sha512,
                _ => HashAlg::Sha256,
            };
            let mut answer = vec![SIGN_RESPONSE];
            put(&mut answer, &key.sign(data, hash).ok()?)?;
            Some(answer)
        }
        _ => None,
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Option<()> {
    out.extend(u32::try_from(bytes.len()).ok()?.to_be_bytes());
    out.extend(bytes);
    Some(())
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let bytes = rest.get(4..4usize.checked_add(length)?)?;
    *rest = &rest[4 + length..];
    Some(bytes)
}
