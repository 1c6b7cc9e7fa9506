//! Credential plugins: programs that a configuration names to get a token or a certificate.
//!
//! A plugin sees an allow list of the environment, its output is a secret, and it may take a minute.

use std::process::Stdio;
use std::time::Duration;

use kube::config::ExecConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::fault::shortened;
use crate::base::{Secret, Timestamp};

/// Longest time a plugin may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most bytes of a plugin's output.
const MOST: u64 = 1 << 20;
/// What a plugin sees of the environment, beside what the configuration sets.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "TMPDIR",
    "KUBECONFIG",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// Beginnings of names of variables by which the clouds' own plugins know who they are.
const FAMILIES: &[&str] = &[
    "LC_",
    "AWS_",
    "AZURE_",
    "AAD_",
    "GOOGLE_",
    "CLOUDSDK_",
    "XDG_",
];
const APIS: [&str; 2] = [
    "client.authentication.k8s.io/v1",
    "client.authentication.k8s.io/v1beta1",
];

/// What a plugin gave.
pub(super) struct Credential {
    pub(super) token: Option<Secret>,
    pub(super) certificate: Option<String>,
    pub(super) key: Option<Secret>,
    /// When it is of no use any more.
    pub(super) expires: Option<Timestamp>,
}

/// Runs a plugin.
pub(super) async fn run(plugin: &ExecConfig) -> Result<Credential, String> {
    let Some(program) = plugin.command.as_deref().filter(|name| !name.is_empty()) else {
        return Err("its credential plugin has no command".to_owned());
    };
    let api = plugin.api_version.as_deref().unwrap_or(APIS[0]);
    if !APIS.contains(&api) {
        return Err(format!(
            "its credential plugin speaks {}; {} is spoken here",
            shortened(api),
            APIS.join(" and ")
        ));
    }
    let mut command = tokio::process::Command::new(program);
    command
        .args(plugin.args.iter().flatten())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for (name, value) in std::env::vars_os() {
        let passed = name.to_str().is_some_and(|name| {
            (PASSED.contains(&name) || FAMILIES.iter().any(|start| name.starts_with(start)))
                && !plugin.drop_env.iter().flatten().any(|drop| drop == name)
        });
        if passed {
            command.env(name, value);
        }
    }
    for pair in plugin.env.iter().flatten() {
        if let (Some(name), Some(value)) = (pair.get("name"), pair.get("value")) {
            command.env(name, value);
        }
    }
    let mut spec = json!({"interactive": false});
    if plugin.provide_cluster_info {
        spec["cluster"] = serde_json::to_value(&plugin.cluster).unwrap_or_default();
    }
    let info = json!({"apiVersion": api, "kind": "ExecCredential", "spec": spec});
    command.env("KUBERNETES_EXEC_INFO", info.to_string());
    let name = shortened(program);
    let mut child = command.spawn().map_err(|error| {
        let hint = plugin.install_hint.as_deref().map(shortened);
        let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
        format!("its credential plugin {name} cannot be started: {error}; install it{hint}")
    })?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (out, err) = tokio::join!(bounded(out, MOST), bounded(err, 16 << 10));
        (child.wait().await, out, err)
    };
    let Ok((status, out, err)) = tokio::time::timeout(PATIENCE, work).await else {
        return Err(format!(
            "its credential plugin {name} took longer than {} s",
            PATIENCE.as_secs()
        ));
    };
    let status =
        status.map_err(|error| format!("its credential plugin {name} was lost: {error}"))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&err);
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        return Err(format!(
            "its credential plugin {name} failed ({status}): {}",
            shortened(last.unwrap_or("it says nothing"))
        ));
    }
    credential(&out).map_err(|why| format!("its credential plugin {name} {why}"))
}

/// What is in a plugin's output. No message shows any of it.
fn credential(out: &[u8]) -> Result<Credential, &'static str> {
    let said: Value =
        serde_json::from_slice(out).map_err(|_| "printed something else than an ExecCredential")?;
    let text = |key: &str| {
        said.pointer(&format!("/status/{key}"))
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    let credential = Credential {
        token: text("token").map(Secret::new),
        certificate: text("clientCertificateData").map(str::to_owned),
        key: text("clientKeyData").map(Secret::new),
        expires: text("expirationTimestamp").and_then(|time| {
            let time: jiff::Timestamp = time.parse().ok()?;
            Some(Timestamp(time.as_millisecond()))
        }),
    };
    let certified = credential.certificate.is_some() && credential.key.is_some();
    if credential.token.is_none() && !certified {
        return Err("gave neither a token nor a certificate with its key");
    }
    Ok(credential)
}

async fn bounded(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What cannot be read is missing, which is told by what it lacks.
        let _ = (&mut pipe).take(most).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(script: &str) -> ExecConfig {
        serde_json::from_value(json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "sh", "args": ["-c", script],
            "env": [{"name": "AWS_PROFILE", "value": "prod"}]}))
        .expect("a plugin")
    }

    #[tokio::test]
    async fn a_plugin_gives_a_token() {
        let script = r#"test "$AWS_PROFILE" = prod && test -z "$CARGO_PKG_NAME" && echo "$KUBERNETES_EXEC_INFO" | grep -q ExecCredential &&
            echo '{"status":{"token":"t0k3n","expirationTimestamp":"2026-01-02T03:04:05Z"}}'"#;
        let given = run(&plugin(script)).await.expect("a credential");
        assert_eq!(given.token.expect("a token").expose(), "t0k3n");
        assert_eq!(given.expires, Some(Timestamp(1_767_323_045_000)));
    }

    #[tokio::test]
    async fn what_goes_wrong_with_a_plugin_is_told_and_its_output_is_not() {
        for (script, why) in [
            ("echo '{\"status\":{}}'", "gave neither a token"),
            ("echo hush-hush", "something else than an ExecCredential"),
            ("echo no session >&2; exit 3", "no session"),
        ] {
            let error = run(&plugin(script)).await.err().expect("an error");
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
        let mut absent = plugin("");
        absent.command = Some("no-such-plugin-here".to_owned());
        absent.install_hint = Some("see example.com".to_owned());
        let error = run(&absent).await.err().expect("an error");
        assert!(error.contains("install it (see example.com)"), "{error}");
    }
}
