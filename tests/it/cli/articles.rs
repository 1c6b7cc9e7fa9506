//! The project of every article, shown without an engine, a registry, a cloud or a cluster.

use crate::support::files::{below, root};
use crate::support::program::Program;
use crate::support::repo::git;

/// A project's pipelines beside the files they are about.
fn article(name: &str, more: &[(&str, &str)]) -> Program {
    let directory = root().join("pipelines").join(name);
    let mut files: Vec<(String, String)> = Vec::new();
    for path in below(&directory, "kdl") {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let name = path.file_name().expect("a name").to_string_lossy();
        files.push((format!("pipelines/{name}"), text));
    }
    assert!(!files.is_empty(), "{name}");
    let mut all: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    all.extend(more);
    all.push((".gitignore", ".pipewright/\n"));
    let program = Program::with_files(&all);
    git(program.repo.path(), &["tag", "v1.2.3"]);
    program
}

#[track_caller]
fn shows(program: &Program, pipeline: &str, stages: &[&str]) {
    let env = [
        ("DOCKER_HOST", "unix:///nonexistent.sock"),
        ("AWS_ACCOUNT", "123456789012"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("GOOGLE_PROJECT_ID", "acme"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let args = [
        "run",
        pipeline,
        "--ref",
        "v1.2.3",
        "--simulate",
        "--format",
        "plain",
    ];
    let ended = program.run_with(&env, &args);
    assert_eq!(ended.code, Some(0), "{pipeline}: {ended:#?}");
    // Nor is anything amiss of which one could do without.
    assert!(!ended.out.contains("failed"), "{pipeline}: {ended:#?}");
    for stage in stages {
        assert!(ended.out.contains(stage), "{stage}: {ended:#?}");
    }
}

const DOCKERFILE: &str = "FROM scratch\nCOPY . /\n";

#[test]
fn article_four_is_shown() {
    let program = article("ecs-codepipeline-vs-actions", &[("Dockerfile", DOCKERFILE)]);
    let stages = ["build.app", "push.app", "deploy.stg"];
    shows(&program, "deploy", &stages);
}

#[test]
fn article_five_is_shown() {
    let definition = r#"{"family": "sample", "containerDefinitions": [
        {"name": "sample", "image": "old", "essential": true, "memory": 128}]}"#;
    let program = article(
        "ecs-two-stage-build-deploy",
        &[
            ("Dockerfile", DOCKERFILE),
            ("deploy/images.env", "SAMPLE_IMAGE=team/sample:1.4.2\n"),
            ("deploy/task-definition.json", definition),
        ],
    );
    let stages = ["scan.sample", "push.sample", "deploy.prod"];
    shows(&program, "build-stage", &stages);
}

const THREE: [(&str, &str); 3] = [
    ("build/app/Dockerfile.prod", DOCKERFILE),
    ("build/web/Dockerfile", DOCKERFILE),
    ("build/migration/Dockerfile", DOCKERFILE),
];

#[test]
fn article_one_is_shown() {
    let program = article("gitops-push-argocd", &THREE);
    let stages = ["push.app", "push.web", "push.migration", "bump.main"];
    shows(&program, "release", &stages);
}

#[test]
fn article_two_is_shown() {
    let program = article("gitops-image-updater", &THREE);
    let stages = ["push.app", "push.web", "push.migration"];
    shows(&program, "release", &stages);
    shows(&program, "update", &["bump.production", "deploy.main"]);
}

#[test]
fn article_three_is_shown() {
    let program = article("gitops-circleci-release-pr", &[("Dockerfile", DOCKERFILE)]);
    let stages = ["build.app", "push.app", "bump.release"];
    shows(&program, "release", &stages);
}
