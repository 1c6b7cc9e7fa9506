//! The first article for real: three images from three Dockerfiles into a registry that asks for
//! a login, and their tag into the Helm values of a repository that asks for a token.

use crate::support::delivery::{Delivery, PASSWORD, docker};
use crate::support::repo;

const IMAGES: [&str; 3] = ["app", "web", "migration"];

/// The pipeline of the article.
const RELEASE: &str = r#"
pipeline release {
    on { push branch=main }
    build app { dockerfile "build/app/Dockerfile.prod" }
    build web migration { dockerfile "build/${name}/Dockerfile" }
    push app web migration
    bump main repo=manifests {
        file "main/values.yaml" { set ".front.imageTag" "${image.app.tag}" }
        commit "Update image tag to ${git.sha}"
    }
}
"#;

/// Uploads and changes: everything but looking.
fn changes(delivery: &Delivery) -> usize {
    ["POST", "PATCH", "PUT", "DELETE"]
        .iter()
        .map(|method| delivery.front.count(&format!("{method} ")))
        .sum()
}

fn uploads(delivery: &Delivery) -> usize {
    delivery.front.count("POST ") + delivery.front.count("PATCH ")
}

/// What the program says each stage came to: `build.app succeeded`.
fn outcomes(delivery: &Delivery) -> Vec<String> {
    let shown = delivery.show();
    let stages = shown["stages"]
        .as_array()
        .unwrap_or_else(|| panic!("{shown}"));
    let mut lines: Vec<String> = stages
        .iter()
        .map(|stage| {
            let word = |key: &str| stage[key].as_str().unwrap_or("?").to_owned();
            format!("{} {}", word("id"), word("outcome"))
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn three_images_and_a_tag_in_the_values() {
    let delivery = Delivery::start("article");
    let sha = delivery.pipeline(RELEASE);
    let before = delivery.manifest("main/values.yaml");
    let first = delivery.manifest_commits();

    let cold = delivery.pipewright(&["run", "release"]).expect(0);
    for image in IMAGES {
        let repository = format!("{image}-repo");
        let digest = delivery.digest(&repository, &sha).expect("pushed");
        cold.says(&digest[..19]);
        let config = delivery.image_config(&repository, &sha);
        let labels = &config["config"]["Labels"];
        assert_eq!(
            labels["org.opencontainers.image.revision"], *sha,
            "{config}"
        );
        assert_eq!(config["created"], "2026-01-31T08:00:00Z", "{config}");
    }
    // Exactly one line of one file changed, in one commit of the bot.
    let commits = delivery.manifest_commits();
    assert_eq!(commits.len(), first.len() + 1);
    assert_eq!(commits[1..], first[..]);
    let after = delivery.manifest("main/values.yaml");
    let expected = before.replace("\"0000000\"", &format!("\"{sha}\""));
    assert_eq!(after, expected);
    let show = repo::git(
        &delivery.manifests,
        &["show", "--format=%an <%ae>|%cn|%s", "--stat", "main"],
    );
    assert!(
        show.starts_with(&format!(
            "release bot <bot@example.com>|release bot|Update image tag to {sha}"
        )),
        "{show}"
    );
    assert!(
        show.contains("1 file changed, 1 insertion(+), 1 deletion(-)"),
        "{show}"
    );

    // Again: nothing to do, and nothing done.
    let changed = changes(&delivery);
    let warm = delivery.pipewright(&["run", "release"]).expect(0);
    assert_eq!(
        changes(&delivery),
        changed,
        "nothing was written to the registry"
    );
    assert_eq!(delivery.manifest_commits(), commits);
    let outcomes = outcomes(&delivery);
    assert_eq!(outcomes.len(), 7, "{outcomes:?}");
    for outcome in &outcomes {
        assert!(outcome.ends_with(" up-to-date"), "{outcome}");
    }
    eprintln!("article one: cold {:?}, again {:?}", cold.took, warm.took);
}

#[test]
fn a_commit_that_changes_one_image_moves_only_its_layer() {
    let delivery = Delivery::start("one-of-three");
    let first = delivery.pipeline(RELEASE);
    delivery.pipewright(&["run", "release"]).expect(0);
    let layers = delivery.front.count("PATCH ");
    let second = delivery
        .source
        .commit("prices", &[("app/prices.csv", "name,price\nfig,200\n")]);
    delivery.pipewright(&["run", "release"]).expect(0);
    // The commit is part of every image's configuration, so all three are new; but of layers only
    // the one with the prices is.
    for image in IMAGES {
        let repository = format!("{image}-repo");
        let (old, new) = (
            delivery.digest(&repository, &first),
            delivery.digest(&repository, &second),
        );
        assert!(
            old.is_some() && new.is_some() && old != new,
            "{image}: {old:?} {new:?}"
        );
        let layers =
            |tag: &str| delivery.image_config(&repository, tag)["rootfs"]["diff_ids"].clone();
        assert_eq!(layers(&first) == layers(&second), image != "app", "{image}");
    }
    let sent = delivery.front.count("PATCH ") - layers;
    assert_eq!(sent, 4, "three configurations and one layer");
    assert_eq!(delivery.manifest_commits().len(), 3);
    assert!(
        delivery
            .manifest("main/values.yaml")
            .contains(&format!("imageTag: \"{second}\""))
    );
}

#[test]
fn a_plan_shows_everything_and_changes_nothing() {
    let delivery = Delivery::start("plan");
    let sha = delivery.pipeline(RELEASE);
    let commits = delivery.manifest_commits();
    let images = docker(&["images", "--format", "{{.Repository}}"]);
    assert!(!images.contains(&delivery.host()));

    let plan = delivery.pipewright(&["plan", "release"]).expect(0);
    plan.says("-  imageTag: \"0000000\"  # 初期値")
        .says(&format!("+  imageTag: \"{sha}\"  # 初期値"))
        .says(&format!("push {}/app-repo:{sha}", delivery.host()))
        .says(&format!("push {}/web-repo:{sha}", delivery.host()))
        .says(&format!("push {}/migration-repo:{sha}", delivery.host()))
        .says("commit to main of ")
        .says(&format!("Update image tag to {sha}"))
        .says("build.app");
    assert!(!plan.text().contains(delivery.git.token()));
    assert!(!plan.text().contains(PASSWORD));

    assert_eq!(changes(&delivery), 0);
    assert_eq!(delivery.manifest_commits(), commits);
    assert_eq!(delivery.digest("app-repo", &sha), None);
    let images = docker(&["images", "--format", "{{.Repository}}"]);
    assert!(!images.contains(&delivery.host()), "{images}");
    let runs = delivery.pipewright(&["runs"]);
    assert!(!runs.out.contains("release "), "{runs:?}");

    // After the run the plan knows that nothing is left to do, and proves it.
    delivery.pipewright(&["run", "release"]).expect(0);
    let sent = uploads(&delivery);
    let plan = delivery.pipewright(&["plan", "release"]).expect(0);
    plan.says("up-to-date").says("is in the registry");
    assert!(!plan.out.contains("+  imageTag"), "{}", plan.out);
    assert_eq!(uploads(&delivery), sent);
}

#[test]
fn a_wrong_token_is_named_and_not_leaked() {
    let mut delivery = Delivery::start("wrong-token");
    delivery.pipeline(RELEASE);
    let wrong = "ghp_wr0ng-t0ken-of-somebody-else";
    delivery.set("TEST_TOKEN", wrong);
    let commits = delivery.manifest_commits();
    let answer = delivery.pipewright(&["run", "release"]).expect(1);
    answer
        .says("denied access")
        .says("check the repository's `token`");
    assert!(!answer.text().contains(wrong), "{}", answer.text());
    assert_eq!(delivery.manifest_commits(), commits);
    let outcomes = outcomes(&delivery);
    assert!(
        outcomes.contains(&"bump.main failed".to_owned()),
        "{outcomes:?}"
    );

    // With the right one, only what is left is done.
    let token = delivery.git.token().to_owned();
    delivery.set("TEST_TOKEN", &token);
    let sent = uploads(&delivery);
    delivery
        .pipewright(&["rerun", "last", "--failed"])
        .expect(0);
    assert_eq!(uploads(&delivery), sent);
    assert_eq!(delivery.manifest_commits().len(), commits.len() + 1);
}

#[test]
fn a_wrong_registry_password_is_named_and_not_leaked() {
    let mut delivery = Delivery::start("wrong-password");
    let sha = delivery.pipeline(RELEASE);
    let wrong = "hunter2-but-l0nger";
    delivery.set("TEST_PASSWORD", wrong);
    let commits = delivery.manifest_commits();
    let answer = delivery.pipewright(&["run", "release"]).expect(1);
    answer.says("check the registry's `login`");
    assert!(!answer.text().contains(wrong), "{}", answer.text());
    assert_eq!(
        delivery.manifest_commits(),
        commits,
        "nothing that follows a push was done"
    );
    assert_eq!(delivery.digest("app-repo", &sha), None);
}

#[test]
fn a_missing_secret_is_found_before_anything_runs() {
    let mut delivery = Delivery::start("no-token");
    delivery.pipeline(RELEASE);
    delivery.set("TEST_TOKEN", "");
    let answer = delivery.pipewright(&["run", "release"]);
    assert_ne!(answer.status.code(), Some(0), "{answer:?}");
    answer.says("TEST_TOKEN");
    assert_eq!(delivery.front.seen().len(), 0, "nobody was asked anything");
    assert!(!delivery.pipewright(&["runs"]).out.contains("release "));
}
