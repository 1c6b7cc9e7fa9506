//! The third article for real: an image into a registry with the login of Google's, and its tag
//! into a deployment by a pull request that somebody merges.

use crate::support::delivery::Delivery;
use crate::support::fake_forge::{FakeGitHub, TOKEN};
use crate::support::registry::{Registry, RegistryOptions};
use crate::support::repo::{git, git_ok};

/// A service account's key, as far as a registry cares.
const KEY: &str = r#"{"type":"service_account","private_key":"k3y/+="}"#;

const DEPLOYMENT: &str = "# 本番環境\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: demo}\nspec:\n  template:\n    spec:\n      containers:\n      - name: demo\n        image: asia.gcr.io/old/demo-gitops:0000000  # replaced by the release\n";

const PIPELINE: &str = r#"
var registry env=TEST_REGISTRY
var manifests env=TEST_MANIFESTS
var forge env=TEST_FORGE
secret GCR_KEY file="GCR_KEY_FILE"
secret GIT_TOKEN env=TEST_TOKEN
secret GITHUB_TOKEN env=TEST_GITHUB_TOKEN
registry gcr "${var.registry}" { plain-http; login _json_key "${secret.GCR_KEY}" }
image app registry=gcr "acme/demo-gitops" { tag "${git.short-sha}" }
forge github "${var.forge}" { token "${secret.GITHUB_TOKEN}" }
repo manifests "${var.manifests}" branch=main forge=github {
    token "${secret.GIT_TOKEN}"
    identity "GitOps Bot" email="gitops@example.com"
}
pipeline release {
    on { push branch=main }
    build app { dockerfile "build/app/Dockerfile.prod"; cache registry }
    push app
    bump release repo=manifests {
        file "deployment.yaml" {
            set ".spec.template.spec.containers[0].image" "${image.app.ref}"
        }
        commit "Release demo-gitops ${git.short-sha}"
        pull-request "release-${git.short-sha}" {
            title "Release demo-gitops ${git.short-sha}"
            label release
            reviewer ann "acme/platform"
            WAIT
        }
    }
}
"#;

struct Article {
    delivery: Delivery,
    forge: FakeGitHub,
    _registry: Registry,
    bare: std::path::PathBuf,
}

impl Article {
    fn start(test: &str, wait: &str) -> (Self, String) {
        let mut delivery = Delivery::start(test);
        let registry = Registry::start(RegistryOptions {
            login: Some(("_json_key", KEY)),
            tls: false,
        });
        let bare = delivery
            .git
            .serve("acme/demo-manifest.git", &[("deployment.yaml", DEPLOYMENT)]);
        let forge = FakeGitHub::start("acme/demo-manifest", bare.clone());
        delivery.set("TEST_REGISTRY", &registry.host());
        delivery.set(
            "TEST_MANIFESTS",
            &delivery.git.url("acme/demo-manifest.git"),
        );
        delivery.set("TEST_FORGE", &forge.url());
        delivery.set("TEST_GITHUB_TOKEN", TOKEN);
        let key = delivery.dir().join("gcr-key.json");
        std::fs::write(&key, KEY).expect("write");
        let text = PIPELINE
            .replace("GCR_KEY_FILE", key.to_str().expect("UTF-8"))
            .replace("WAIT", wait);
        delivery
            .source
            .commit("pipeline", &[("pipelines/shop.kdl", &text)]);
        let sha = delivery.source.git(&["rev-parse", "--short=7", "HEAD"]);
        let article = Self {
            delivery,
            forge,
            _registry: registry,
            bare,
        };
        (article, sha)
    }

    fn show(&self, reference: &str) -> String {
        git(
            &self.bare,
            &["show", &format!("{reference}:deployment.yaml")],
        )
    }
}

#[test]
fn a_pull_request_asks_for_the_release() {
    let (article, sha) = Article::start("three", "");
    let plan = article.delivery.pipewright(&["plan", "release"]).expect(0);
    plan.says("open a pull request of release-")
        .says("+        image: ");
    assert_eq!(article.forge.changes(), [] as [String; 0]);

    article.delivery.pipewright(&["run", "release"]).expect(0);
    article.forge.clean();
    let pulls = article.forge.pulls();
    assert_eq!(pulls.len(), 1, "{pulls:#?}");
    let pull = &pulls[0];
    assert_eq!(pull["title"], format!("Release demo-gitops {sha}"));
    assert_eq!(pull["head"]["ref"], format!("release-{sha}"));
    assert_eq!(pull["labels"][0]["name"], "release");
    assert_eq!(pull["requested_reviewers"][0]["login"], "ann");
    assert_eq!(pull["requested_teams"][0]["slug"], "platform");
    assert!(
        pull["body"]
            .as_str()
            .is_some_and(|body| body.contains("+        image: "))
    );
    // One line of one file, on the branch and not on `main`.
    assert_eq!(article.show("main"), DEPLOYMENT.trim_end());
    let image = format!("{}/acme/demo-gitops:{sha}", article._registry.host());
    let expected = DEPLOYMENT.replace("asia.gcr.io/old/demo-gitops:0000000", &image);
    assert_eq!(article.show(&format!("release-{sha}")), expected.trim_end());

    // Again: the same pull request, and nothing to do.
    let changes = article.forge.changes();
    let again = article.delivery.pipewright(&["run", "release"]).expect(0);
    assert_eq!(article.forge.changes(), changes);
    assert!(!again.text().contains(TOKEN), "{}", again.text());
    let shown = article.delivery.show();
    for stage in shown["stages"].as_array().expect("stages") {
        assert_eq!(stage["outcome"], "up-to-date", "{stage}");
    }
}

#[test]
fn a_merge_is_waited_for_and_a_new_release_supersedes_the_old_one() {
    let (article, _) = Article::start("three-merged", "");
    article.delivery.pipewright(&["run", "release"]).expect(0);
    let text = std::fs::read_to_string(article.delivery.source.path().join("pipelines/shop.kdl"));
    let text = text
        .expect("the pipeline")
        .replace("label release", "label release; wait merged");
    article
        .delivery
        .source
        .commit("next", &[("pipelines/shop.kdl", &text)]);
    let sha = article
        .delivery
        .source
        .git(&["rev-parse", "--short=7", "HEAD"]);
    article.forge.merge_all();
    article.delivery.pipewright(&["run", "release"]).expect(0);
    article.forge.clean();
    let pulls = article.forge.pulls();
    assert_eq!(pulls.len(), 2, "{pulls:#?}");
    assert_eq!(
        (&pulls[0]["state"], &pulls[0]["merged"]),
        (&"closed".into(), &false.into())
    );
    assert_eq!(article.forge.comments(1).len(), 1);
    assert!(article.show("main").contains(&format!("demo-gitops:{sha}")));
    let shown = article.delivery.show().to_string();
    assert!(
        shown.contains(pulls[1]["merge_commit_sha"].as_str().expect("merged")),
        "{shown}"
    );
}

#[test]
fn what_github_refuses_is_named() {
    use crate::support::faulty::Reply;
    let (article, _) = Article::start("three-refused", "");
    let say = |status: u16, message: &str| {
        Reply::Answer(status, Vec::new(), format!(r#"{{"message":"{message}"}}"#))
    };
    for (status, message, expected) in [
        (401, "Bad credentials", "check the forge's `token`"),
        (
            403,
            "Resource not accessible by integration",
            "what it is allowed to do",
        ),
        (403, "Repository was archived so is read-only.", "archived"),
        (404, "Not Found", "has access to it"),
        (422, "Validation Failed", "Validation Failed (422)"),
        (301, "Moved Permanently", "moved or renamed"),
    ] {
        let reply = say(status, message);
        article
            .forge
            .trouble(move |request| request.is("POST /api/v3").then(|| reply.clone()));
        let answer = article.delivery.pipewright(&["run", "release"]).expect(1);
        answer.says(expected);
        assert!(!answer.text().contains(TOKEN));
    }
    assert_eq!(article.forge.pulls().len(), 0);
    // A limit is waited out, and a lost answer opens nothing twice.
    let mut left = 3;
    article.forge.trouble(move |request| {
        if !request.is("POST /api/v3/repos/acme/demo-manifest/pulls") || left == 0 {
            return None;
        }
        left -= 1;
        Some(match left {
            2 => Reply::Answer(
                403,
                vec![("Retry-After", "1".to_owned())],
                r#"{"message":"You have exceeded a secondary rate limit."}"#.to_owned(),
            ),
            1 => Reply::status(502),
            _ => Reply::Reset,
        })
    });
    article.delivery.pipewright(&["run", "release"]).expect(0);
    assert_eq!(article.forge.pulls().len(), 1);
    article.forge.clean();
}

#[test]
fn rollback_closes_what_nobody_merged() {
    let (article, sha) = Article::start("three-withdrawn", "");
    article.delivery.pipewright(&["run", "release"]).expect(0);
    let changes = article.forge.changes();
    let plan = article
        .delivery
        .pipewright(&["rollback", "bump.release", "--plan"]);
    plan.expect(0).says("close pull request ");
    assert_eq!(article.forge.changes(), changes);
    article
        .delivery
        .pipewright(&["rollback", "bump.release"])
        .expect(0);
    article.forge.clean();
    let pulls = article.forge.pulls();
    assert_eq!(pulls.len(), 1, "{pulls:#?}");
    assert_eq!(pulls[0]["state"], "closed");
    let comments = article.forge.comments(1);
    assert_eq!(comments.len(), 1, "{comments:#?}");
    assert!(
        comments[0].starts_with("Taken back by run "),
        "{comments:#?}"
    );
    assert_eq!(article.show("main"), DEPLOYMENT.trim_end());
    // Nobody asks for it again by itself.
    let again = article.delivery.pipewright(&["run", "release"]).expect(1);
    again.says("was taken back").says(&sha);
    assert_eq!(article.forge.pulls().len(), 1);
}

#[test]
fn rollback_of_what_was_merged_asks_for_the_revert() {
    let (article, sha) = Article::start("three-reverted", "wait merged");
    article.forge.merge_all();
    article.delivery.pipewright(&["run", "release"]).expect(0);
    assert!(article.show("main").contains(&format!("demo-gitops:{sha}")));
    let branch = format!("refs/heads/release-{sha}");
    assert!(!git_ok(
        &article.bare,
        &["rev-parse", "-q", "--verify", &branch]
    ));
    let plan = article
        .delivery
        .pipewright(&["rollback", "bump.release", "--plan"]);
    plan.expect(0)
        .says(&format!("open a pull request of revert-release-{sha}"))
        .says("+        image: asia.gcr.io/old/demo-gitops:0000000");
    article
        .delivery
        .pipewright(&["rollback", "bump.release"])
        .expect(0);
    article.forge.clean();
    assert_eq!(article.show("main"), DEPLOYMENT.trim_end());
    let pulls = article.forge.pulls();
    assert_eq!(pulls.len(), 2, "{pulls:#?}");
    assert_eq!(
        pulls[1]["title"],
        format!("Revert \"Release demo-gitops {sha}\"")
    );
    assert_eq!(pulls[1]["merged"], true);
}
