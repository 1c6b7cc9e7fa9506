//! Commands that run nothing: check, plan, graph, init, help.

use std::io::Read;
use std::process::Stdio;

use crate::support::program::Program;

const GOOD: &str = r#"
registry local "localhost:5000" { plain-http }
image app registry=local { tag "${git.short-sha}" }
pipeline release {
    run test { script "true" }
    build app
    push app
}
"#;

fn good() -> Program {
    Program::with_files(&[
        ("pipelines/p.kdl", GOOD),
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        (".gitignore", ".pipewright/\n"),
    ])
}

#[test]
fn check_says_what_is_wrong_in_every_format() {
    let program = good();
    program.expect(&["check"], 0);
    let bad = GOOD.replace("build app", "biuld app");
    program.repo.write(&[("pipelines/p.kdl", &bad)]);
    let full = program.expect(&["check"], 1);
    assert!(
        full.out.contains("biuld") && full.out.contains("build"),
        "{full:?}"
    );
    let concise = program.expect(&["check", "--format", "concise"], 1);
    let line = concise.out.lines().next().unwrap_or_default();
    assert!(line.starts_with("pipelines/p.kdl:6:5"), "{concise:?}");
    let json = program.expect(&["check", "--format", "json"], 1).out;
    assert!(
        serde_json::from_str::<serde_json::Value>(&json).is_ok(),
        "{json}"
    );
    // What does not check does not run.
    let run = program.expect(&["run", "release"], 2);
    assert!(
        !program.repo.path().join(".pipewright/journal.db").exists(),
        "{run:?}"
    );
}

#[test]
fn wrong_use_is_status_two_and_helps() {
    let program = good();
    for (args, says) in [
        (vec!["run", "relase"], "did you mean `release`?"),
        (vec!["run"], "PIPELINE"),
        (vec!["frobnicate"], "frobnicate"),
        (vec!["plan", "release", "--ref", "nowhere"], "nowhere"),
        (
            vec!["run", "release", "--only", "run.tset"],
            "did you mean `run.test`?",
        ),
        (vec!["run", "release", "--input", "x=1"], "no input `x`"),
        (vec!["show", "last"], "nothing has run here yet"),
        (vec!["logs", "abcd"], "nothing has run here yet"),
        (vec!["cancel", "last"], "nothing has run here yet"),
        (vec!["-C", "/nonexistent", "check"], "/nonexistent"),
        (vec!["check", "elsewhere"], "elsewhere"),
    ] {
        let ended = program.expect(&args, 2);
        assert!(ended.err.contains(says), "{args:?}: {ended:?}");
        assert!(ended.out.is_empty(), "{args:?}: {ended:?}");
    }
}

#[test]
fn a_state_directory_that_cannot_be_used_is_status_three() {
    let program = Program::with_files(&[
        (
            "pipelines/p.kdl",
            r#"pipeline p { run a { script "true" } }"#,
        ),
        (".pipewright", "a file\n"),
    ]);
    let ended = program.expect(&["run", "p"], 3);
    assert!(ended.err.contains(".pipewright"), "{ended:?}");
}

#[test]
fn a_plan_has_four_formats_and_no_effect() {
    let program = good();
    let text = program.expect(&["plan", "release", "--offline"], 0).out;
    assert!(
        text.contains("build.app") && text.contains("push.app"),
        "{text}"
    );
    let json = program
        .expect(&["plan", "release", "--offline", "--format", "json"], 0)
        .out;
    assert!(
        serde_json::from_str::<serde_json::Value>(&json).is_ok(),
        "{json}"
    );
    let dot = program
        .expect(&["plan", "release", "--offline", "--format", "dot"], 0)
        .out;
    assert!(dot.starts_with("digraph"), "{dot}");
    let mermaid = program
        .expect(&["plan", "release", "--offline", "--format", "mermaid"], 0)
        .out;
    assert!(
        mermaid.contains("graph") || mermaid.contains("flowchart"),
        "{mermaid}"
    );
    for format in ["text", "dot", "mermaid"] {
        let graph = program
            .expect(&["graph", "release", "--format", format], 0)
            .out;
        assert!(graph.contains("push.app"), "{format}: {graph}");
    }
}

#[test]
fn a_simulated_run_of_a_whole_delivery_succeeds_without_an_engine() {
    let program = Program::with_files(&[
        ("Dockerfile", "FROM scratch\nCOPY . /\n"),
        (".gitignore", ".pipewright/\n"),
        (
            "pipelines/p.kdl",
            r#"
            secret HOOK env=SLACK_WEBHOOK_OF_NOBODY
            registry local "localhost:5000" { plain-http }
            image app registry=local { tag "${git.short-sha}" }
            repo manifests "https://git.example.com/m" branch=main
            slack team { webhook "${secret.HOOK}" }
            pipeline release {
                run test { script "make test" }
                build app
                scan app { fail-on high }
                push app
                bump main repo=manifests { file "v.yaml" { set ".tag" "${image.app.tag}" { create } } }
                deploy web { docker { container web image=app publish="8080:80" } }
                notify result to=team
            }
            pipeline after { on { pipeline release }; run smoke { script "curl localhost" } }
            "#,
        ),
    ]);
    let mut command = program.command(&["run", "release", "--simulate"]);
    let output = command
        .env("DOCKER_HOST", "unix:///nonexistent.sock")
        .output()
        .expect("it starts");
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for stage in [
        "run.test",
        "build.app",
        "scan.app",
        "push.app",
        "bump.main",
        "deploy.web",
        "run.smoke",
    ] {
        assert!(out.contains(stage), "{stage}: {out}");
    }
    // Nothing of it is remembered.
    let runs = program.run(&["runs"]);
    assert!(!runs.out.contains("release"), "{runs:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let program = good();
    let mut command = program.command(&["man"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut pipe = child.stdout.take().expect("it is piped");
    let mut first = [0];
    pipe.read_exact(&mut first).expect("it prints something");
    drop(pipe);
    let output = child.wait_with_output().expect("it can be awaited");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn colours_come_only_where_they_are_wanted() {
    let program = good();
    let bad = GOOD.replace("build app", "biuld app");
    program.repo.write(&[("pipelines/p.kdl", &bad)]);
    let plain = program.expect(&["check"], 1).out;
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let always = program.expect(&["check", "--color", "always"], 1).out;
    assert!(always.contains('\u{1b}'), "{always}");
    let mut command = program.command(&["check"]);
    let output = command.env("NO_COLOR", "1").output().expect("it starts");
    assert!(!output.stdout.contains(&0x1b));
}

#[test]
fn completions_and_the_manual_are_there() {
    let program = good();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = program.expect(&["completions", shell], 0).out;
        assert!(
            script.contains("pipewright") && script.contains("rerun"),
            "{shell}"
        );
    }
    let page = program.expect(&["man"], 0).out;
    assert!(page.contains(".TH") && page.contains("rerun"));
    let help = program.expect(&["help", "run"], 0).out;
    for status in [
        "0 it succeeded",
        "1 it did not",
        "2 wrong use",
        "3 pipewright itself",
        "130",
    ] {
        assert!(help.contains(status), "{status}: {help}");
    }
    let version = program.expect(&["--version"], 0).out;
    assert_eq!(
        version.trim(),
        format!("pipewright {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn what_init_drafts_passes_the_check() {
    let program = Program::with_files(&[
        ("build/app/Dockerfile", "FROM scratch\nCOPY . /\n"),
        ("build/web/Dockerfile", "FROM scratch\nCOPY . /\n"),
        ("deploy/values.yaml", "app:\n  image:\n    tag: old\n"),
        ("package.json", "{ \"scripts\": { \"test\": \"true\" } }\n"),
    ]);
    program.expect(&["init"], 0);
    program.expect(&["check"], 0);
    let again = program.run(&["init"]);
    assert_ne!(again.code, Some(0), "nothing is overwritten: {again:?}");
}

#[test]
fn a_file_that_is_no_text_is_a_finding_among_the_others() {
    let program = good();
    let pipelines = program.repo.path().join("pipelines");
    std::fs::write(pipelines.join("a.kdl"), b"pipeline x \xff\n").expect("it is writable");
    let bad = GOOD.replace("build app", "biuld app");
    program.repo.write(&[("pipelines/p.kdl", &bad)]);
    let found = program.expect(&["check", "--format", "concise"], 1).out;
    let lines: Vec<&str> = found.lines().collect();
    assert!(
        lines[0].starts_with("pipelines/a.kdl:1:1") && lines[0].contains("PW0005"),
        "{found}"
    );
    assert!(found.contains("pipelines/p.kdl:6:5"), "{found}");
    program.expect(&["run", "release"], 2);
}
