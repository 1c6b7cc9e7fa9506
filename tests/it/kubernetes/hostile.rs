//! Configurations somebody else wrote, or nobody should have.
#![expect(
    clippy::disallowed_methods,
    reason = "tests write real files and run real programs"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use hyper::http::Request;
use pipewright::adapters::kubernetes::{Connections, Transport as _};
use pipewright::base::{LateSecrets, Secret, Timestamp};
use pipewright::ports::cluster::{Access, Cluster};

/// What a look by a configuration, as text or as a path, comes to.
async fn told(base: &Path, config: &str) -> String {
    let connections = Connections::new(LateSecrets::default(), || Timestamp(1_767_323_045_000));
    let cluster = Cluster {
        name: "c".to_owned(),
        access: Access::Kubeconfig {
            config: Secret::new(config.to_owned()),
            context: None,
        },
        base: base.to_owned(),
    };
    let request = Request::get("/version")
        .body(Vec::new())
        .expect("a request");
    let began = Instant::now();
    let answer = connections.send(&cluster, "look", request).await;
    let words = answer.expect_err("there is no cluster").to_string();
    assert!(began.elapsed() < Duration::from_secs(10), "{words}");
    assert!(words.len() < 4000, "{} bytes of words", words.len());
    words
}

/// Nothing listens there.
fn config(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n\
         clusters: [{{name: c, cluster: {{server: \"https://127.0.0.1:9\"{cluster}}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n"
    )
}

/// As text, and as a file.
async fn both(text: &str) -> [String; 2] {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config");
    std::fs::write(&path, text).expect("written");
    let path = path.display().to_string();
    [told(dir.path(), text).await, told(dir.path(), &path).await]
}

#[tokio::test]
async fn what_is_too_large_or_endless_is_not_read() {
    let large = format!("# {}\n{}", "x".repeat(5 << 20), config("", ""));
    for words in both(&large).await {
        assert!(words.contains("is larger than 4 MiB"), "{words}");
    }
    let dir = tempfile::tempdir().expect("a directory");
    for (path, why) in [
        ("/dev/zero", "/dev/zero is no file"),
        (".", "is no file"),
        ("/proc/self/mem", "its kubeconfig /proc/self/mem "),
    ] {
        let words = told(dir.path(), path).await;
        assert!(words.contains(why), "{words}");
    }
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let words = told(dir.path(), "pipe").await;
    assert!(words.contains("pipe is no file"), "{words}");
}

#[tokio::test]
async fn bombs_and_towers_do_not_go_off() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let names = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{names}]\n"));
    }
    bomb.push_str(&config("", ""));
    let lists = format!(
        "deep: {}{}\n{}",
        "[".repeat(100_000),
        "]".repeat(100_000),
        config("", "")
    );
    let maps = format!(
        "{{preferences: {}1{}}}\n",
        "{a: ".repeat(100_000),
        "}".repeat(100_000)
    );
    let ladder: String = (0..1000)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    for text in [bomb, lists, maps, ladder] {
        for words in both(&text).await {
            assert!(words.contains("is no Kubernetes configuration"), "{words}");
        }
    }
}

#[tokio::test]
async fn what_it_holds_is_not_told() {
    let secret = "s3cr3t-of-the-bot";
    for broken in [
        config("", &format!("token: [{secret}]")),
        config("", &format!("token: \"{secret}")),
        format!("{}{secret}: [\n", config("", "")),
        format!("apiVersion: v1\nclusters: {secret}\n"),
    ] {
        for words in both(&broken).await {
            assert!(words.contains("is no Kubernetes configuration"), "{words}");
            assert!(!words.contains("s3cr3t"), "{words}");
        }
    }
}

#[tokio::test]
async fn what_would_be_unsafe_is_refused() {
    for words in both(&config(", insecure-skip-tls-verify: true", "token: t")).await {
        assert!(
            words.contains("its cluster c says `insecure-skip-tls-verify`"),
            "{words}"
        );
        assert!(words.contains("certificate-authority-data"), "{words}");
    }
    for (cluster, user, why) in [
        (", certificate-authority-data: \"%%\"", "", "base64"),
        (
            ", certificate-authority: /dev/zero",
            "",
            "`certificate-authority` /dev/zero is no file",
        ),
        (
            "",
            "tokenFile: /dev/zero",
            "its token file /dev/zero is no file",
        ),
        (
            "",
            "tokenFile: /nowhere/token",
            "its token file /nowhere/token: No such file",
        ),
        (
            "",
            "client-key: /dev/zero, client-certificate: /dev/zero",
            "/dev/zero is no file",
        ),
        (
            "",
            "auth-provider: {name: gcp}",
            "its auth provider gcp is of the past",
        ),
    ] {
        for words in both(&config(cluster, user)).await {
            assert!(words.contains(why), "{words}");
        }
    }
}

#[tokio::test]
async fn a_plugin_by_a_relative_path_is_the_one_beside_the_file() {
    let user = "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, interactiveMode: Never}";
    let text = config("", user);
    let dir = tempfile::tempdir().expect("a directory");
    let (project, home) = (dir.path().join("project"), dir.path().join("home"));
    for place in [&project, &home] {
        std::fs::create_dir(place).expect("a directory");
        let script = "#!/bin/sh\necho \"the plugin of $(basename \"$(cd \"$(dirname \"$0\")\" && pwd)\")\" >&2; exit 1\n";
        let plugin = place.join("plugin");
        std::fs::write(&plugin, script).expect("written");
        let made = std::process::Command::new("chmod")
            .arg("+x")
            .arg(&plugin)
            .status();
        assert!(made.expect("chmod runs").success());
    }
    std::fs::write(home.join("config"), &text).expect("written");
    let path = home.join("config").display().to_string();
    let words = told(&project, &path).await;
    assert!(words.contains("the plugin of home"), "{words}");
    // A secret is no file: what the project holds is not run.
    let words = told(&project, &text).await;
    assert!(
        words.contains("credential plugin ./plugin, a relative path"),
        "{words}"
    );
    assert!(!words.contains("the plugin of"), "{words}");
}
