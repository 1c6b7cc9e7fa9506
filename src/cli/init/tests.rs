//! Exact drafts, and that every draft is KDL, with its examples uncommented too.

use super::*;

fn files(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

fn drafted(paths: &[&str], origin: Option<&str>, branch: &str) -> String {
    let text = draft(&files(paths), origin, branch);
    parses(&text);
    // Examples are the lines that begin with `//` and two blanks.
    let uncommented: Vec<String> = text
        .lines()
        .map(|line| match line.trim_start().strip_prefix("//  ") {
            Some(example) => example.to_owned(),
            None => line.to_owned(),
        })
        .filter(|line| !line.trim_start().starts_with("docker run"))
        .collect();
    parses(&uncommented.join("\n"));
    text
}

fn parses(text: &str) {
    if let Err(error) = text.parse::<kdl::KdlDocument>() {
        panic!("{error:?} in\n{text}");
    }
}

fn names(paths: &[&str]) -> Vec<String> {
    let found = images(&files(paths), Some("shop"));
    found.list.into_iter().map(|image| image.name).collect()
}

#[test]
fn three_images_for_a_hosted_repository() {
    let text = drafted(
        &[
            "build/app/Dockerfile.prod",
            "build/web/Dockerfile",
            "services/mail/Dockerfile",
            "services/mail/main.go",
            "chart/Chart.yaml",
            "chart/values.yaml",
            "node_modules/x/Dockerfile",
        ],
        Some("git@github.com:Acme/shop.git"),
        "main",
    );
    assert_eq!(
        text,
        r#"// How a commit of this repository becomes images in a registry.
//
// Check it:  pipewright check
// Plan it:   pipewright plan release     (changes nothing)
// Run it:    pipewright run release

// A secret is never a plain text: it cannot end up in a tag, a label or a log.
secret REGISTRY_TOKEN env=REGISTRY_TOKEN

// Where images go. To try it without an account, start a registry with
//   docker run -d -p 5000:5000 registry:2
// and write instead:
//  registry ghcr "localhost:5000" { plain-http }
registry ghcr "ghcr.io" {
    login "Acme" "${secret.REGISTRY_TOKEN}"
}

// What is built, and its name there. `tag` is the identity of an image: one per commit.
// `${name}` is each of the names in turn.
image app web mail registry=ghcr repository="acme/${name}" {
    tag "${git.sha}"
}

pipeline release {
    // What starts it on a runner. By hand: pipewright run release
    on {
        push branch=main
    }

    // Stages start as soon as what they use is there.
    build app { dockerfile "build/app/Dockerfile.prod" }
    build web { dockerfile "build/web/Dockerfile" }
    build mail {
        context "services/mail"
        dockerfile "services/mail/Dockerfile"
    }

    // A scan stands between an image and its push. It needs Trivy on this machine.
    //  scan app { fail-on high; ignore-unfixed }

    // An image that the registry has already is up-to-date: nothing is sent.
    push app web mail

    // Writes the new tag into a manifest and commits it, only if something changes.
    // Uncomment this, and `repo` below, once the path to the value is right.
    //  bump main repo=manifests {
    //      file "chart/values.yaml" { set ".image.tag" "${image.app.tag}" }
    //      commit "Release ${git.short-sha}"
    //  }
}

// The repository that holds chart/values.yaml.
//  secret GIT_TOKEN env=GIT_TOKEN
//  repo manifests "https://github.com/Acme/shop" branch=main {
//      token "${secret.GIT_TOKEN}"
//      identity "release bot" email="bot@example.com"
//  }
"#
    );
}

#[test]
fn one_image_without_an_origin() {
    let text = drafted(&["Dockerfile", "main.rs"], None, "release/Next");
    assert!(
        text.contains("registry local \"localhost:5000\" {\n    plain-http\n}\n"),
        "{text}"
    );
    assert!(
        text.contains("image app registry=local repository=\"${name}\" {\n"),
        "{text}"
    );
    assert!(
        text.contains("        push branch=\"release/Next\"\n"),
        "{text}"
    );
    assert!(text.contains("    build app\n"), "{text}");
    assert!(!text.contains("bump"), "{text}");
}

#[test]
fn names_come_from_folders() {
    for (paths, expected) in [
        (&["Dockerfile"][..], &["shop"][..]),
        (&["docker/Dockerfile"], &["shop"]),
        (&["api/docker/Dockerfile"], &["api"]),
        (&["Dockerfile.web", "Dockerfile.worker"], &["web", "worker"]),
        (&["Dockerfile", "Dockerfile.dev"], &["shop"]),
        (&["Dockerfile.dev"], &["dev"]),
        (&["docker/web.Dockerfile"], &["web"]),
        (&["api/Dockerfile.alpine"], &["api"]),
        (&["a/web/Dockerfile", "b/web/Dockerfile"], &["web", "b-web"]),
        (
            &["x_Y/Dockerfile", "9lives/Dockerfile", "構築/Dockerfile"],
            &["app-9lives", "x-y", "app"],
        ),
        (
            &["true/Dockerfile", "inf/Containerfile"],
            &["app-inf", "app-true"],
        ),
        (
            &["a/Dockerfile", "A/Dockerfile", "a-/Dockerfile"],
            &["a", "a-2", "a-3"],
        ),
        (
            &[
                "Dockerfile.dockerignore",
                "Dockerfile.md",
                "docs/Dockerfiles",
            ],
            &[],
        ),
        (
            &[
                "1/2/3/4/5/Dockerfile",
                ".git/Dockerfile",
                "vendor/a/Dockerfile",
            ],
            &[],
        ),
        (&["1/2/3/four/Dockerfile"], &["four"]),
    ] {
        assert_eq!(names(paths), expected, "{paths:?}");
    }
}

#[test]
fn manifests_are_found() {
    for (paths, expected) in [
        (
            &[
                "k8s/base/kustomization.yaml",
                "k8s/overlays/production/kustomization.yaml",
            ][..],
            "kustomize \"k8s/overlays/production\" { image app }",
        ),
        (&["kustomization.yml"], "kustomize \".\" { image app }"),
        (
            &["k8s/deployment.yaml"],
            "file \"k8s/deployment.yaml\" { set \".spec.template.spec.containers[0].image\" \"${image.app.ref}\" }",
        ),
        (
            &["main/values.yaml"],
            "file \"main/values.yaml\" { set \".image.tag\" \"${image.app.tag}\" }",
        ),
    ] {
        let mut all = paths.to_vec();
        all.push("Dockerfile");
        let text = drafted(&all, None, "main");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn tests_without_a_dockerfile() {
    let text = drafted(&["Cargo.toml", "Cargo.lock", "Makefile"], None, "main");
    assert!(
        text.contains(
            r#"    // Found Cargo.toml.
    run test {
        container "rust:1"    // remove it to run on this machine
        cache "/usr/local/cargo/registry"
        script "cargo test --locked"
        timeout "20m"
    }
"#
        ),
        "{text}"
    );
    let text = drafted(&["go.mod", "package.json", "yarn.lock"], None, "main");
    assert!(text.contains("    run test-node {\n"), "{text}");
    assert!(
        text.contains(
            "        script #\"\"\"\n            go vet ./...\n            go test ./...\n            \"\"\"#\n"
        ),
        "{text}"
    );
    let text = drafted(&["Makefile"], None, "main");
    assert!(text.contains("script \"make test\""), "{text}");
    let text = drafted(&["pyproject.toml"], None, "main");
    assert!(text.contains("pip install . pytest"), "{text}");
    let text = drafted(&[], None, "main");
    assert!(text.contains("no tests yet"), "{text}");
}

#[test]
fn hostile_paths_and_origins_stay_quoted() {
    let text = drafted(
        &[
            "a\"b\\c/Dockerfile",
            "x${secret.PAT}/Dockerfile",
            "new\nline} pipeline evil {/Dockerfile",
            "\u{202e}evil/Dockerfile",
            "q/\"\n/values.yaml",
        ],
        Some("https://user:password@github.com/acme/shop"),
        "a\"\nb",
    );
    assert!(!text.contains("password"), "{text}");
    assert!(
        text.contains("$$${secret.PAT}") || text.contains("$${secret.PAT}"),
        "{text}"
    );
    assert!(text.contains("\\u{a}line}"), "{text}");
    assert!(!text.contains('\u{202e}'), "{text}");
    let document: kdl::KdlDocument = text.parse().expect("KDL");
    let tops: Vec<&str> = document
        .nodes()
        .iter()
        .map(|node| node.name().value())
        .collect();
    assert_eq!(tops, ["secret", "registry", "image", "pipeline"]);
}

#[test]
fn origins_are_understood() {
    for (origin, expected) in [
        (
            "https://github.com/acme/shop.git",
            Some("github.com acme/shop"),
        ),
        ("git@github.com:acme/shop.git", Some("github.com acme/shop")),
        (
            "ssh://git@gitlab.com:22/acme/team/shop/",
            Some("gitlab.com acme/team/shop"),
        ),
        (
            "https://u:p@git.example.com/a/b",
            Some("git.example.com a/b"),
        ),
        ("/srv/git/shop.git", None),
        ("file:///srv/git/shop", None),
        ("../shop", None),
        ("", None),
    ] {
        let found = Host::parse(origin).map(|host| format!("{} {}", host.name, host.path));
        assert_eq!(found.as_deref(), expected, "{origin}");
    }
    let text = drafted(
        &["Dockerfile"],
        Some("https://gitlab.com/Acme/team/shop"),
        "main",
    );
    assert!(
        text.contains("registry=gitlab repository=\"acme/team/shop/${name}\""),
        "{text}"
    );
}

#[test]
fn many_images_are_bounded() {
    let paths: Vec<String> = (0..2000).map(|n| format!("s{n}/Dockerfile")).collect();
    let text = draft(&paths, None, "main");
    parses(&text);
    assert_eq!(text.matches("    build s").count(), MAX_IMAGES);
    assert!(text.contains("// 1,970 more Dockerfiles found"), "{text}");
}

#[test]
fn next_commands_fit_the_draft() {
    assert_eq!(
        next_commands(&files(&["web/Dockerfile"]), None),
        [
            "pipewright check",
            "pipewright plan release",
            "pipewright run release --only build.web",
            "echo .pipewright/ >> .gitignore"
        ]
    );
    let origin = Some("https://github.com/acme/shop");
    let commands = next_commands(&files(&["Dockerfile"]), origin);
    assert_eq!(commands[2], "pipewright run release --only build.shop");
    assert!(drafted(&["Dockerfile"], origin, "main").contains("    build shop\n"));
    let commands = next_commands(&files(&["go.mod"]), None);
    assert_eq!(commands[2], "pipewright run test");
    assert_eq!(pipeline_name(&files(&["go.mod"])), "test");
}
