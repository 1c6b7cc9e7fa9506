//! Secrets from this process' environment and from files. Never logs or keeps a value.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::base::{Secret, human_bytes, human_duration};
use crate::ports::secrets::{ISSUER_KEY, SecretError, SecretReader, SecretSource};

/// Longest secret, in bytes.
const LIMIT: u64 = 1 << 20;
/// How long a pipe may take to deliver its secret.
const PATIENCE: Duration = Duration::from_secs(10);

/// The environment and the files of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostSecrets;

#[async_trait]
impl SecretReader for HostSecrets {
    async fn read(&self, source: &SecretSource) -> Result<Secret, SecretError> {
        match source {
            SecretSource::Env(name) => from_env(name),
            SecretSource::File(path) => from_file(path).await,
            // Kept elsewhere; who can reach it never passes it on to here.
            SecretSource::Stored { place, .. } => Err(SecretError::Unreadable {
                what: format!("`{}` in {}", place.name, place.store.as_str()),
                message: "it is not kept on this host".to_owned(),
            }),
        }
    }
}

fn from_env(name: &str) -> Result<Secret, SecretError> {
    let what = format!("environment variable `{name}`");
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(SecretError::Unreadable {
            what,
            message: "that is no name for a variable".to_owned(),
        });
    }
    if name == ISSUER_KEY {
        return Err(SecretError::Unreadable {
            what,
            message: "it is the issuer's key, which no pipeline gets to see".to_owned(),
        });
    }
    match std::env::var(name) {
        Ok(value) => accept(what, value.into_bytes()),
        Err(std::env::VarError::NotPresent) => Err(SecretError::Missing(what)),
        Err(std::env::VarError::NotUnicode(_)) => Err(not_text(what)),
    }
}

async fn from_file(path: &Path) -> Result<Secret, SecretError> {
    let what = format!("secret file `{}`", path.display());
    let bytes = match read_file(path).await {
        Ok(bytes) => bytes,
        Err(Trouble::Missing) => return Err(SecretError::Missing(what)),
        Err(Trouble::Because(message)) => return Err(SecretError::Unreadable { what, message }),
    };
    accept(what, without_newline(bytes))
}

enum Trouble {
    Missing,
    Because(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::PermissionDenied => {
                Self::Because("permission denied for the user this runs as".to_owned())
            }
            ErrorKind::NotADirectory => {
                Self::Because("a part of its path is not a directory".to_owned())
            }
            _ => Self::Because(error.to_string()),
        }
    }
}

async fn read_file(path: &Path) -> Result<Vec<u8>, Trouble> {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = tokio::fs::metadata(path).await?.file_type();
    if kind.is_file() {
        return bounded(tokio::fs::File::open(path).await?).await;
    }
    if kind.is_dir() {
        return Err(Trouble::Because("it is a directory".to_owned()));
    }
    // A pipe is what a shell's `<(…)` gives. Opened without blocking, so that one that nobody
    // writes to cannot hold a thread.
    if kind.is_fifo() {
        let pipe = tokio::net::unix::pipe::OpenOptions::new().open_receiver(path)?;
        return tokio::time::timeout(PATIENCE, bounded(pipe))
            .await
            .unwrap_or_else(|_| {
                let waited = human_duration(PATIENCE);
                Err(Trouble::Because(format!(
                    "the pipe did not end in {waited}"
                )))
            });
    }
    Err(Trouble::Because(
        "it is neither a file nor a pipe".to_owned(),
    ))
}

async fn bounded(reader: impl AsyncRead + Unpin) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    reader.take(LIMIT + 3).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

fn without_newline(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

fn accept(what: String, bytes: Vec<u8>) -> Result<Secret, SecretError> {
    if bytes.is_empty() {
        return Err(SecretError::Missing(what));
    }
    if bytes.len() as u64 > LIMIT {
        let message = format!("it is larger than {}", human_bytes(LIMIT));
        return Err(SecretError::Unreadable { what, message });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Secret::new(text)),
        Err(_) => Err(not_text(what)),
    }
}

fn not_text(what: String) -> SecretError {
    SecretError::Unreadable {
        what,
        message: "it is not UTF-8 text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    async fn read(content: &[u8]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, content).unwrap();
        outcome(SecretSource::File(path)).await
    }

    async fn outcome(source: SecretSource) -> Result<String, String> {
        match HostSecrets.read(&source).await {
            Ok(secret) => Ok(secret.expose().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn exactly_one_newline_is_dropped() {
        for (content, secret) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            ("s3cret\n\n", "s3cret\n"),
            ("s3cret\r", "s3cret\r"),
            (" a\nb \n", " a\nb "),
        ] {
            assert_eq!(read(content.as_bytes()).await.as_deref(), Ok(secret));
        }
    }

    #[tokio::test]
    async fn empty_is_missing() {
        for empty in ["", "\n", "\r\n"] {
            let error = read(empty.as_bytes()).await.unwrap_err();
            assert!(error.ends_with("/secret` is not set"), "{error}");
        }
        let nowhere = outcome(SecretSource::File("/nonexistent/x".into())).await;
        assert_eq!(
            nowhere.unwrap_err(),
            "secret file `/nonexistent/x` is not set"
        );
    }

    #[tokio::test]
    async fn trouble_is_named() {
        let error = read(&[b'a', 0xff]).await.unwrap_err();
        assert!(error.ends_with("it is not UTF-8 text"), "{error}");
        let largest = vec![b'a'; LIMIT as usize];
        assert!(read(&[&largest[..], b"\r\n"].concat()).await.is_ok());
        let error = read(&vec![b'a'; LIMIT as usize + 1]).await.unwrap_err();
        assert!(error.ends_with("it is larger than 1.0 MiB"), "{error}");
        for (path, message) in [
            ("/", "cannot read secret file `/`: it is a directory"),
            (
                "/dev/zero",
                "cannot read secret file `/dev/zero`: it is neither a file nor a pipe",
            ),
        ] {
            let error = outcome(SecretSource::File(PathBuf::from(path))).await;
            assert_eq!(error.unwrap_err(), message);
        }
    }

    fn pipe(dir: &tempfile::TempDir) -> PathBuf {
        let path = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        path
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipe_nobody_writes_to_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let error = outcome(SecretSource::File(pipe(&dir))).await.unwrap_err();
        assert!(error.ends_with("the pipe did not end in 10.0s"), "{error}");
    }

    #[tokio::test]
    async fn pipes_are_read_to_their_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = pipe(&dir);
        let source = SecretSource::File(path.clone());
        // Held open for both, so that neither side waits for the other.
        let mut writer = tokio::net::unix::pipe::OpenOptions::new()
            .read_write(true)
            .open_sender(&path)
            .unwrap();
        use tokio::io::AsyncWriteExt as _;
        writer.write_all(b"piped\n").await.unwrap();
        let reader = tokio::spawn(async move { outcome(source).await });
        // The reader has to open the pipe before the last writer leaves.
        while !reader.is_finished() {
            if writer_alone(&path) {
                tokio::task::yield_now().await;
            } else {
                break;
            }
        }
        drop(writer);
        assert_eq!(reader.await.unwrap().as_deref(), Ok("piped"));
    }

    /// Whether this process holds the pipe open only once.
    fn writer_alone(path: &Path) -> bool {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target == path)
            .count()
            < 2
    }

    #[tokio::test]
    async fn the_environment_is_read() {
        let path = outcome(SecretSource::Env("PATH".to_owned())).await;
        assert_eq!(path.ok(), std::env::var("PATH").ok());
        let name = "PIPEWRIGHT_TEST_UNSET_VARIABLE".to_owned();
        let error = outcome(SecretSource::Env(name)).await.unwrap_err();
        assert_eq!(
            error,
            "environment variable `PIPEWRIGHT_TEST_UNSET_VARIABLE` is not set"
        );
        let error = outcome(SecretSource::Env("A=B".to_owned())).await;
        assert!(error.unwrap_err().contains("no name for a variable"));
    }
}
