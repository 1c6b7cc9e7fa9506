//! The examples are true: every project under `pipelines/` and every KDL block of the docs.
//!
//! A block marked `kdl` is a fragment: it must decode, but may name what the page does not
//! declare. `kdl,project` is a whole file without any finding. `kdl,error` must be refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipewright::base::{Diagnostic, Source};
use pipewright::{lang, pipeline, plan, stage};

use crate::support::files::{below, root};

/// All findings of a project, from its files' texts.
fn findings(sources: Vec<Source>) -> Vec<Diagnostic> {
    let (project, mut diagnostics) = pipeline::load(sources);
    diagnostics.extend(plan::check(&project));
    diagnostics
}

fn shown(diagnostics: &[Diagnostic]) -> String {
    let lines = diagnostics.iter().map(|found| {
        let (line, column) = found.source.line_column(found.span.start);
        let name = found.source.name();
        format!(
            "{name}:{line}:{column}: {}[{}] {}",
            found.severity.as_str(),
            found.code,
            found.message
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The pipeline files of every directory below `pipelines/`.
fn projects() -> BTreeMap<PathBuf, Vec<Source>> {
    let mut projects: BTreeMap<PathBuf, Vec<Source>> = BTreeMap::new();
    for path in below(&root().join("pipelines"), "kdl") {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let name = path.strip_prefix(root()).expect("a path below the root");
        let directory = path.parent().expect("a file's directory").to_owned();
        let source = Source::new(name.display().to_string(), text);
        projects.entry(directory).or_default().push(source);
    }
    projects
}

#[test]
fn every_example_project_is_clean() {
    let projects = projects();
    let names: Vec<String> = projects
        .keys()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    assert_eq!(
        names,
        [
            "pipelines",
            "demo",
            "ecs-codepipeline-vs-actions",
            "ecs-two-stage-build-deploy",
            "gitops-circleci-release-pr",
            "gitops-image-updater",
            "gitops-push-argocd",
        ]
    );
    for (directory, sources) in projects {
        let diagnostics = findings(sources);
        assert!(
            diagnostics.is_empty(),
            "{}:\n{}",
            directory.display(),
            shown(&diagnostics)
        );
    }
}

/// What the examples are for: the stages each project must have, so that none loses its point.
#[test]
fn the_example_projects_hold_what_their_articles_need() {
    let expected = [
        (
            "demo",
            "build.app build.web build.migration scan.web push.app push.web push.migration bump.main deploy.shop",
        ),
        (
            "ecs-codepipeline-vs-actions",
            "build.app push.app deploy.stg",
        ),
        (
            "ecs-two-stage-build-deploy",
            "build.sample scan.sample push.sample notify.result deploy.prod notify.result",
        ),
        (
            "gitops-circleci-release-pr",
            "build.app push.app bump.release",
        ),
        (
            "gitops-image-updater",
            "build.app build.web build.migration push.app push.web push.migration bump.production deploy.main",
        ),
        (
            "gitops-push-argocd",
            "build.app build.web build.migration push.app push.web push.migration bump.main",
        ),
    ];
    let projects = projects();
    for (name, stages) in expected {
        let sources = projects[&root().join("pipelines").join(name)].clone();
        let (project, _) = pipeline::load(sources);
        let found: Vec<&str> = project
            .pipelines
            .values()
            .flat_map(|pipeline| &pipeline.stages)
            .map(|stage| stage.id.as_str())
            .collect();
        assert_eq!(found.join(" "), stages, "{name}");
    }
}

/// A fenced block of a page.
struct Block {
    /// The words after the fence.
    mark: String,
    text: String,
    /// One-based line of its first line.
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in page.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(mark)) => {
                open = Some(Block {
                    mark: mark.trim().to_owned(),
                    text: String::new(),
                    line: at + 2,
                });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is never closed");
    blocks
}

/// Codes of findings a fragment may have: what it names is declared elsewhere.
const ELSEWHERE: [&str; 5] = ["PW0041", "PW0042", "PW0044", "PW0045", "PW0046"];

/// A fragment of stages stands in a pipeline.
fn whole(name: &str, text: &str) -> Source {
    let source = Source::new(name, text);
    let (document, _) = lang::parse(&source);
    let inner =
        |name: &str| stage::kind(name).is_some() || pipeline::PIPELINE.child(name).is_some();
    let stages = document
        .nodes
        .iter()
        .any(|node| node.name.value != "pipeline" && inner(&node.name.value));
    if stages {
        Source::new(name, format!("pipeline example {{ {text}\n}}"))
    } else {
        source
    }
}

fn judge(page: &Path, block: &Block) -> Result<(), String> {
    let name = format!("{}:{}", page.display(), block.line);
    let plain = || vec![Source::new(name.clone(), block.text.clone())];
    match block.mark.as_str() {
        "kdl" => {
            let mut found = findings(vec![whole(&name, &block.text)]);
            found.retain(|found| !ELSEWHERE.contains(&found.code));
            match found.is_empty() {
                true => Ok(()),
                false => Err(shown(&found)),
            }
        }
        "kdl,project" => match findings(plain()) {
            found if found.is_empty() => Ok(()),
            found => Err(shown(&found)),
        },
        "kdl,error" => match findings(vec![whole(&name, &block.text)]) {
            found if found.iter().any(Diagnostic::is_error) => Ok(()),
            _ => Err(format!("{name}: meant to be refused, and is not")),
        },
        mark if mark.starts_with("kdl") => Err(format!(
            "{name}: `{mark}` is not one of kdl; kdl,project; kdl,error"
        )),
        _ => Ok(()),
    }
}

#[test]
fn every_kdl_block_of_the_docs_is_true() {
    let mut pages = below(&root().join("docs"), "md");
    pages.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    let mut count = 0;
    let mut wrong = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page)
            .unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        let name = page.strip_prefix(root()).expect("a path below the root");
        for block in blocks(&text) {
            count += usize::from(block.mark.starts_with("kdl"));
            wrong.extend(judge(name, &block).err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 15, "only {count} KDL blocks were found");
}

#[test]
fn the_judge_of_blocks_is_strict() {
    let block = |mark: &str, text: &str| Block {
        mark: mark.to_owned(),
        text: text.to_owned(),
        line: 1,
    };
    let page = Path::new("page.md");
    let good = "image app registry=main { tag \"1\" }\n";
    assert_eq!(judge(page, &block("kdl", good)), Ok(()));
    assert_eq!(judge(page, &block("kdl", "build app { target x }")), Ok(()));
    for (mark, text) in [
        ("kdl", "build app { tarket x }"),
        ("kdl", "image app registry=main"),
        ("kdl", "a {"),
        ("kdl,project", good),
        ("kdl,error", "registry main \"localhost:5000\""),
        ("kdl,eror", good),
    ] {
        assert!(judge(page, &block(mark, text)).is_err(), "{mark}: {text}");
    }
}
