//! What a repository holds that a first pipeline could use, judged by paths alone.

use std::collections::HashSet;

/// Folders deeper than this are not looked into.
const DEPTH: usize = 4;
/// Words that KDL keeps for itself.
pub(super) const RESERVED: [&str; 5] = ["true", "false", "null", "inf", "nan"];

/// Images that can be built.
pub(super) struct Images {
    /// In order of their paths, with distinct names.
    pub(super) list: Vec<Image>,
}

/// An image that can be built.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Name in the language: `[a-z0-9-]`, beginning with a letter.
    pub(super) name: String,
    /// Path of the Dockerfile.
    pub(super) dockerfile: String,
    /// Folder of the context, `.` for the root.
    pub(super) context: String,
}

/// A file that names an image to deploy.
pub(super) enum Manifest {
    /// Values of a Helm chart.
    Helm(String),
    /// A folder with a kustomization.
    Kustomize(String),
    /// A manifest with a pod template.
    Plain(String),
}

impl Manifest {
    /// Its path.
    pub(super) fn path(&self) -> &str {
        match self {
            Self::Helm(path) | Self::Kustomize(path) | Self::Plain(path) => path,
        }
    }
}

/// Tests that can be run.
pub(super) struct Suite {
    /// What tells it from others.
    pub(super) name: &'static str,
    /// Why it is there, as a comment.
    pub(super) why: &'static str,
    /// Image to run in.
    pub(super) container: Option<&'static str>,
    /// Folder worth keeping between runs.
    pub(super) cache: Option<&'static str>,
    /// Lines of shell.
    pub(super) script: Vec<&'static str>,
}

/// Folders whose files are not the repository's own work.
fn is_foreign(folder: &str) -> bool {
    let known = [
        "node_modules",
        "vendor",
        "third_party",
        "third-party",
        "target",
        "dist",
        "testdata",
        "fixtures",
        "venv",
    ];
    known.contains(&folder) || (folder.starts_with('.') && folder != ".docker")
}

/// Files near enough to the root, in order, without what is foreign.
fn own(files: &[String]) -> Vec<&str> {
    let mut own: Vec<&str> = files
        .iter()
        .map(|path| path.strip_prefix("./").unwrap_or(path))
        .filter(|path| {
            let folders = path.split('/').rev().skip(1);
            !path.is_empty()
                && folders.clone().count() <= DEPTH
                && !folders.into_iter().any(is_foreign)
        })
        .collect();
    own.sort_unstable();
    own.dedup();
    own
}

/// What a Dockerfile's own name adds: `Dockerfile.web` and `web.Dockerfile` add `web`.
fn dockerfile_variant(file: &str) -> Option<&str> {
    let lower = file.to_ascii_lowercase();
    if lower.ends_with(".dockerignore") || lower.ends_with('~') || lower.ends_with(".md") {
        return None;
    }
    for base in ["dockerfile", "containerfile"] {
        if lower == base {
            return Some("");
        }
        if lower.starts_with(base) && lower[base.len()..].starts_with(['.', '-']) {
            return Some(&file[base.len() + 1..]);
        }
        if lower.ends_with(base) && lower[..lower.len() - base.len()].ends_with(['.', '-']) {
            return Some(&file[..file.len() - base.len() - 1]);
        }
    }
    None
}

/// The images of a repository; `project` names the one at the root.
pub(super) fn images(files: &[String], project: Option<&str>) -> Images {
    let own = own(files);
    let found: Vec<(&str, &str, &str)> = own
        .iter()
        .filter_map(|path| {
            let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
            Some((*path, folder, dockerfile_variant(file)?))
        })
        .collect();
    let mut taken = HashSet::new();
    let mut list = Vec::new();
    for (path, folder, variant) in &found {
        let alone = found.iter().filter(|(_, other, _)| other == folder).count() == 1;
        let variant = variant.to_ascii_lowercase();
        if !alone
            && [
                "dev",
                "development",
                "test",
                "tests",
                "debug",
                "local",
                "ci",
            ]
            .contains(&&*variant)
        {
            continue;
        }
        let live = ["", "prod", "production", "release"].contains(&&*variant);
        let base = if live {
            folder_name(folder, project)
        } else if alone && !folder.is_empty() && !is_generic(last(folder)) {
            last(folder).to_owned()
        } else {
            variant
        };
        let mut name = sanitise(&base);
        if taken.contains(&name) && !folder.is_empty() {
            name = sanitise(&folder.replace('/', "-"));
        }
        let mut number = 2;
        let stem = name.clone();
        while !taken.insert(name.clone()) {
            name = format!("{stem}-{number}");
            number += 1;
        }
        list.push(Image {
            name,
            dockerfile: (*path).to_owned(),
            context: context(folder, &own),
        });
    }
    Images { list }
}

/// A folder with sources of its own is its own context; one with nothing but Dockerfiles serves
/// the root.
fn context(folder: &str, own: &[&str]) -> String {
    let inside = |path: &&&str| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    let sources = own.iter().filter(inside).any(|path| {
        let file = path.rsplit('/').next().unwrap_or(path);
        dockerfile_variant(file).is_none() && !file.starts_with('.')
    });
    if !folder.is_empty() && sources {
        folder.to_owned()
    } else {
        ".".to_owned()
    }
}

fn last(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or(folder)
}

fn is_generic(folder: &str) -> bool {
    let generic = [
        "docker",
        ".docker",
        "dockerfiles",
        "container",
        "containers",
        "build",
        "deploy",
        "ci",
        "images",
        "image",
        "src",
    ];
    generic.contains(&folder.to_ascii_lowercase().as_str())
}

/// The folder that says what is built; the project if none does.
fn folder_name(folder: &str, project: Option<&str>) -> String {
    folder
        .rsplit('/')
        .find(|part| !part.is_empty() && !is_generic(part))
        .or(project)
        .unwrap_or("app")
        .to_owned()
}

/// A name as the language wants it.
fn sanitise(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().take(60) {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_matches('-');
    if name.is_empty() {
        "app".to_owned()
    } else if RESERVED.contains(&name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        format!("app-{name}")
    } else {
        name.to_owned()
    }
}

/// The manifest most likely to name an image.
pub(super) fn manifest(files: &[String]) -> Option<Manifest> {
    let own = own(files);
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let folder = |path: &str| {
        path.rsplit_once('/')
            .map_or("", |(folder, _)| folder)
            .to_owned()
    };
    let has = |path: String| own.binary_search(&path.as_str()).is_ok();
    let join = |folder: &str, file: &str| match folder {
        "" => file.to_owned(),
        folder => format!("{folder}/{file}"),
    };
    let helm = own
        .iter()
        .find(|path| name(path) == "values.yaml" && has(join(&folder(path), "Chart.yaml")));
    if let Some(path) = helm {
        return Some(Manifest::Helm((*path).to_owned()));
    }
    let kustomizations: Vec<&&str> = own
        .iter()
        .filter(|path| {
            matches!(
                name(path).as_str(),
                "kustomization.yaml" | "kustomization.yml"
            )
        })
        .collect();
    // An overlay is where a tag belongs; the one for production first.
    let rank = |path: &str| {
        if path.contains("overlays/prod") {
            0
        } else if path.contains("overlays/") {
            1
        } else {
            2
        }
    };
    if let Some(path) = kustomizations
        .iter()
        .min_by_key(|path| (rank(path), path.len()))
    {
        let folder = folder(path);
        return Some(Manifest::Kustomize(if folder.is_empty() {
            ".".to_owned()
        } else {
            folder
        }));
    }
    let values = own.iter().find(|path| name(path) == "values.yaml");
    if let Some(path) = values {
        return Some(Manifest::Helm((*path).to_owned()));
    }
    own.iter()
        .find(|path| {
            let name = name(path);
            let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
            let place = path
                .split('/')
                .any(|part| ["k8s", "kubernetes", "manifests", "deploy"].contains(&part));
            yaml && (name.starts_with("deployment") || (place && name.contains("deploy")))
        })
        .map(|path| Manifest::Plain((*path).to_owned()))
}

/// Tests by the build files at the root.
pub(super) fn suites(files: &[String]) -> Vec<Suite> {
    let own = own(files);
    let has = |path: &str| own.binary_search(&path).is_ok();
    let mut suites = Vec::new();
    if has("Cargo.toml") {
        suites.push(Suite {
            name: "rust",
            why: "Found Cargo.toml.",
            container: Some("rust:1"),
            cache: Some("/usr/local/cargo/registry"),
            script: vec![if has("Cargo.lock") {
                "cargo test --locked"
            } else {
                "cargo test"
            }],
        });
    }
    if has("package.json") {
        let script = if has("pnpm-lock.yaml") {
            vec![
                "corepack enable",
                "pnpm install --frozen-lockfile",
                "pnpm test",
            ]
        } else if has("yarn.lock") {
            vec!["corepack enable", "yarn install", "yarn test"]
        } else if has("package-lock.json") {
            vec!["npm ci", "npm test"]
        } else {
            vec!["npm install", "npm test"]
        };
        suites.push(Suite {
            name: "node",
            why: "Found package.json.",
            container: Some("node:22"),
            cache: Some("/root/.npm"),
            script,
        });
    }
    if has("go.mod") {
        suites.push(Suite {
            name: "go",
            why: "Found go.mod.",
            container: Some("golang:1"),
            cache: Some("/root/.cache/go-build"),
            script: vec!["go vet ./...", "go test ./..."],
        });
    }
    if has("pyproject.toml") {
        suites.push(Suite {
            name: "python",
            why: "Found pyproject.toml.",
            container: Some("python:3"),
            cache: Some("/root/.cache/pip"),
            script: vec!["pip install . pytest", "pytest"],
        });
    }
    if suites.is_empty() && (has("Makefile") || has("GNUmakefile") || has("makefile")) {
        suites.push(Suite {
            name: "make",
            why: "Found a Makefile. Without `container` it runs on this machine.",
            container: None,
            cache: None,
            script: vec!["make test"],
        });
    }
    suites
}
