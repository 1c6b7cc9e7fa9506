//! Runs `docker-credential-NAME get`, docker's protocol for logins kept elsewhere.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::docker_config::Credentials;
use super::failure::clean;
use crate::base::{Secret, human_bytes, human_duration};
use crate::ports::secrets::ISSUER_KEY;

/// How long a helper may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much a helper may say, in bytes.
const LIMIT: u64 = 1 << 20;

/// Asks a helper, from `dir` or else from `$PATH`, for the login of a registry.
pub(super) async fn get(
    name: &str,
    dir: Option<&Path>,
    key: &str,
) -> Result<Option<Credentials>, String> {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || !name.chars().all(safe) {
        return Err(format!(
            "\"{}\" is not the name of a credential helper",
            clean(name, 60)
        ));
    }
    let program = format!("docker-credential-{name}");
    match tokio::time::timeout(PATIENCE, run(&program, dir, key)).await {
        Ok(found) => found.map_err(|error| format!("credential helper {program}: {error}")),
        Err(_) => Err(format!(
            "credential helper {program} did not answer within {}",
            human_duration(PATIENCE)
        )),
    }
}

/// The call of a helper. It has the environment it needs for whatever it asks, but for our own key.
fn command(path: &Path) -> Command {
    let mut command = Command::new(path);
    command
        .arg("get")
        .env_remove(ISSUER_KEY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn run(program: &str, dir: Option<&Path>, key: &str) -> Result<Option<Credentials>, String> {
    let path = dir.map_or_else(|| program.into(), |dir| dir.join(program));
    let mut child = command(&path).spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            "it is named in the docker configuration but not installed".to_owned()
        }
        _ => format!("cannot be started: {error}"),
    })?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not want to know may close its end.
        let _ = stdin.write_all(format!("{key}\n").as_bytes()).await;
    }
    let (stdout, stderr) = tokio::join!(start(child.stdout.take()), start(child.stderr.take()));
    let stdout = stdout?;
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        return parse(&stdout);
    }
    let stderr = stderr.unwrap_or_default();
    let said = [&stdout[..], &stderr[..]].map(|text| String::from_utf8_lossy(text).into_owned());
    if said
        .iter()
        .any(|text| text.contains("credentials not found"))
    {
        return Ok(None);
    }
    let words = said
        .iter()
        .map(|text| clean(text, 200))
        .find(|text| !text.is_empty());
    Err(words.unwrap_or_else(|| format!("it ended with {status}")))
}

/// All a helper says; it is stopped if that is too much.
async fn start(pipe: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut bounded = pipe.take(LIMIT + 1);
        let read = bounded.read_to_end(&mut bytes).await;
        read.map_err(|error| error.to_string())?;
    }
    if bytes.len() as u64 > LIMIT {
        return Err(format!("it says more than {}", human_bytes(LIMIT)));
    }
    Ok(bytes)
}

fn parse(stdout: &[u8]) -> Result<Option<Credentials>, String> {
    let odd = || "its answer is not an object with Username and Secret".to_owned();
    let value: Value = serde_json::from_slice(stdout).map_err(|_| odd())?;
    let get = |name| value.get(name).and_then(Value::as_str).ok_or_else(odd);
    let (user, secret) = (get("Username")?, get("Secret")?);
    if secret.is_empty() {
        return Ok(None);
    }
    Ok(Some(Credentials {
        user: user.to_owned(),
        secret: Secret::new(secret),
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    async fn ask(script: &str) -> Result<Option<Credentials>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-test");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // A test beside this one may fork while the script is still open for writing.
        for _ in 0..100 {
            match get("test", Some(dir.path()), "h:1").await {
                Err(error) if error.contains("Text file busy") => tokio::task::yield_now().await,
                other => return other,
            }
        }
        panic!("the script stays busy");
    }

    #[test]
    fn the_key_of_the_issuer_is_not_passed_on() {
        let command = command(Path::new("docker-credential-test"));
        let set: Vec<_> = command.as_std().get_envs().collect();
        assert_eq!(set, [(std::ffi::OsStr::new(ISSUER_KEY), None)]);
    }

    #[tokio::test]
    async fn helpers_answer() {
        let script = r#"test "$1" = get && read key && echo "{\"ServerURL\":\"$key\",\"Username\":\"u-$key\",\"Secret\":\"s\"}""#;
        let found = ask(script).await.unwrap().unwrap();
        assert_eq!((found.user.as_str(), found.secret.expose()), ("u-h:1", "s"));
        let silent = r#"echo '{"Username":"","Secret":""}'"#;
        assert_eq!(ask(silent).await, Ok(None));
        for none in [
            "echo credentials not found in native keychain; exit 1",
            "echo credentials not found >&2; exit 1",
        ] {
            assert_eq!(ask(none).await, Ok(None));
        }
    }

    #[tokio::test]
    async fn trouble_names_the_helper() {
        for (script, says) in [
            ("echo locked; exit 1", "docker-credential-test: locked"),
            (
                "exit 3",
                "docker-credential-test: it ended with exit status: 3",
            ),
            ("echo s3cret", "not an object with Username and Secret"),
            ("yes", "it says more than 1.0 MiB"),
        ] {
            let error = ask(script).await.unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let error = get("none", Some(dir.path()), "h").await.unwrap_err();
        assert!(error.ends_with("but not installed"), "{error}");
        for name in ["", "../x", "a b"] {
            let error = get(name, Some(dir.path()), "h").await.unwrap_err();
            assert!(error.contains("is not the name"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stuck_helper_is_left() {
        let error = ask("exec sleep 600").await.unwrap_err();
        assert!(error.ends_with("did not answer within 10.0s"), "{error}");
    }
}
