//! One call of the ssh program: how it is started so that it asks nobody and trusts only hosts that
//! are known, and what its words mean when it fails.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::Trouble;
use crate::adapters::git::address::SshAddress;
use crate::ports::secrets::ISSUER_KEY;

/// How much of what it says is kept.
const MAX_WORDS: usize = 64 << 10;
/// The status by which ssh says that it failed itself.
const FAILED: i32 = 255;

/// Whom ssh trusts and how it proves who we are.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust {
    /// The socket of our own agent.
    pub(super) agent: Option<std::path::PathBuf>,
    /// The file of hosts that are known.
    pub(super) known_hosts: Option<std::path::PathBuf>,
}

/// A connection on which the other side runs one service.
#[derive(Debug)]
pub(super) struct Call {
    child: Child,
    pub(super) input: Option<ChildStdin>,
    pub(super) output: ChildStdout,
    words: JoinHandle<Vec<u8>>,
}

impl Call {
    /// Starts a service (`git-upload-pack`, `git-receive-pack`) on the other side.
    pub(super) fn start(to: &SshAddress, trust: &Trust, service: &str) -> Result<Self, Trouble> {
        let mut child = command(to, trust, service).spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Trouble::Unsupported(
                "the program ssh is not installed: install OpenSSH's client, or use an https address"
                    .to_owned(),
            ),
            _ => Trouble::Broken(format!("starting ssh: {error}")),
        })?;
        let (Some(input), Some(output), Some(words)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Trouble::Broken("starting ssh: it has no pipes".to_owned()));
        };
        Ok(Self {
            child,
            input: Some(input),
            output,
            words: tokio::spawn(collect(words)),
        })
    }

    /// Waits until it ends; an error if ssh failed, or if nothing came of it at all.
    pub(super) async fn end(mut self, answered: bool) -> Result<(), Trouble> {
        drop(self.input.take());
        let status = self
            .child
            .wait()
            .await
            .map_err(|error| Trouble::Broken(format!("waiting for ssh: {error}")))?;
        let words = (&mut self.words).await.unwrap_or_default();
        if status.code() != Some(FAILED) && (answered || status.success()) {
            return Ok(());
        }
        Err(meaning(&String::from_utf8_lossy(&words)))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.words.abort();
    }
}

/// The call of ssh. It has the environment its user set up for it, but for our own key.
fn command(to: &SshAddress, trust: &Trust, service: &str) -> Command {
    let mut command = Command::new("ssh");
    command
        .args(arguments(to, trust, service))
        .env("LC_ALL", "C")
        .env_remove("SSH_ASKPASS")
        .env_remove(ISSUER_KEY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if trust.agent.is_some() {
        command.env_remove("SSH_AUTH_SOCK");
    }
    command
}

fn arguments(to: &SshAddress, trust: &Trust, service: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut option = |text: &str| all.extend(["-o".to_owned(), text.to_owned()]);
    for text in [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        "ConnectTimeout=20",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "ControlMaster=no",
        "ControlPath=none",
        // The fingerprint of the host's key is only told here.
        "LogLevel=DEBUG1",
    ] {
        option(text);
    }
    if let Some(socket) = &trust.agent {
        option(&format!("IdentityAgent={}", quoted(socket)));
        option("IdentityFile=none");
        option("PreferredAuthentications=publickey");
        all.extend(["-F".to_owned(), "none".to_owned()]);
    }
    if let Some(file) = &trust.known_hosts {
        let mut option = |text: String| all.extend(["-o".to_owned(), text]);
        option(format!("UserKnownHostsFile={}", quoted(file)));
        option("GlobalKnownHostsFile=none".to_owned());
    }
    all.extend(["-a", "-x", "-T"].map(str::to_owned));
    if let Some(user) = &to.user {
        all.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(port) = to.port {
        all.extend(["-p".to_owned(), port.to_string()]);
    }
    let path = to.path.replace('\'', r"'\''");
    all.extend([to.host.clone(), format!("{service} '{path}'")]);
    all
}

/// A path as a value of an option, where `%` and spaces mean something.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('%', "%%"))
}

/// Reads all, keeps some: the beginning, where the host is named, and the end, where it failed.
async fn collect(mut words: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count) = words.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > MAX_WORDS {
            kept.drain(MAX_WORDS / 4..MAX_WORDS / 2);
        }
    }
    kept
}

/// What ssh, or the other side through it, said.
fn meaning(words: &str) -> Trouble {
    let fingerprint = words
        .lines()
        .find_map(|line| line.strip_prefix("debug1: Server host key: "))
        .map_or_else(
            || "which it did not tell".to_owned(),
            |key| key.trim().to_owned(),
        );
    let said: Vec<&str> = words
        .lines()
        .map(str::trim)
        .filter(|line| {
            !line.is_empty()
                && ![
                    "debug1:",
                    "Authenticated to",
                    "Transferred:",
                    "Bytes per second:",
                    "OpenSSH_",
                    "@",
                ]
                .iter()
                .any(|noise| line.starts_with(noise))
        })
        .collect();
    let last = said.last().copied().unwrap_or("ssh ended without a word");
    let any = |text: &str| said.iter().any(|line| line.contains(text));
    if any("HOST IDENTIFICATION HAS CHANGED") || words.contains("HOST IDENTIFICATION HAS CHANGED") {
        return Trouble::Untrusted(format!(
            "the host shows another key than the one that is known: {fingerprint}; either somebody is in between, or the host has a new key: ask its operator, and then correct `known-hosts`"
        ));
    }
    if any("Host key verification failed") || any("host key is known for") {
        return Trouble::Untrusted(format!(
            "the host is not known, and shows the key {fingerprint}; if its operator names the same one, add a line of `ssh-keyscan HOST` to `known-hosts`"
        ));
    }
    if any("Permission denied (") || any("Too many authentication failures") {
        return Trouble::Denied(format!("it does not accept the key: {last}"));
    }
    let git = said.iter().find(|line| {
        line.starts_with("fatal:") || line.starts_with("ERROR:") || line.starts_with("remote:")
    });
    if let Some(line) = git
        && [
            "does not appear to be a git",
            "not found",
            "Not Found",
            "denied",
            "not have access",
        ]
        .iter()
        .any(|part| line.contains(part))
    {
        return Trouble::Denied((*line).to_owned());
    }
    Trouble::Broken(last.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_issuer_is_not_passed_on() {
        let to = SshAddress {
            user: None,
            host: "example.com".to_owned(),
            port: None,
            path: "acme/shop".to_owned(),
        };
        let command = command(&to, &Trust::default(), "git-upload-pack");
        let mut set = command.as_std().get_envs();
        assert!(set.any(|pair| pair == (std::ffi::OsStr::new(ISSUER_KEY), None)));
    }

    #[test]
    fn what_ssh_says() {
        let known = "debug1: Server host key: ssh-ed25519 SHA256:abc\n";
        for (words, expected) in [
            (
                "ssh: connect to host h port 22: Connection refused\r\n",
                "Broken",
            ),
            (
                "debug1: x\ngit@h: Permission denied (publickey).\r\n",
                "Denied",
            ),
            (
                "No ED25519 host key is known for h and you have requested strict checking.\r\nHost key verification failed.\r\n",
                "Untrusted",
            ),
            (
                "@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.\r\n",
                "Untrusted",
            ),
            (
                "fatal: '/x' does not appear to be a git repository\n",
                "Denied",
            ),
            ("ERROR: Repository not found.\n", "Denied"),
            ("", "Broken"),
        ] {
            let meaning = meaning(&format!("{known}{words}"));
            assert!(
                format!("{meaning:?}").starts_with(expected),
                "{words}: {meaning:?}"
            );
            if expected == "Untrusted" {
                assert!(format!("{meaning:?}").contains("SHA256:abc"), "{meaning:?}");
            }
        }
    }

    #[test]
    fn the_path_is_one_word_to_the_other_side() {
        let to = SshAddress {
            user: Some("git".to_owned()),
            host: "h".to_owned(),
            port: Some(2222),
            path: "a'; rm -rf b".to_owned(),
        };
        let all = arguments(&to, &Trust::default(), "git-upload-pack");
        let end = &all[all.len() - 6..];
        assert_eq!(
            end,
            [
                "-l",
                "git",
                "-p",
                "2222",
                "h",
                r"git-upload-pack 'a'\''; rm -rf b'"
            ]
        );
    }
}
