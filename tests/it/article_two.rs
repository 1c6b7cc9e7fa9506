//! The second article for real: a tag becomes three images in a registry; whoever watches it writes
//! the version into a kustomize overlay and waits until Argo CD is there. The project is the example,
//! with other addresses.

use crate::support::delivery::{Answer, Delivery};
use crate::support::fake_argocd::Beat::{self, AtTip, HookFails, Stale};
use crate::support::fake_argocd::{FakeArgo, TOKEN};
use crate::support::faulty::Faulty;
use crate::support::files::root;
use crate::support::repo::git;

const OVERLAY: &str = "# 本番環境\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\ncommonLabels:\n  env: production\nresources:\n- ../../base\n";
const PATH: &str = "main/overlays/production/kustomization.yaml";

struct Article {
    delivery: Delivery,
    argo: FakeArgo,
    bare: std::path::PathBuf,
    _server: Faulty,
}

impl Article {
    fn start(test: &str) -> Self {
        let mut delivery = Delivery::start(test);
        let bare = delivery.git.serve("acme/manifests.git", &[(PATH, OVERLAY)]);
        let argo = FakeArgo::new(&[]);
        let url = delivery.git.url("acme/manifests.git");
        {
            let mut state = argo.state();
            let app = state.main();
            app.auto = true;
            app.repository = format!("{url}/");
            let bare = bare.clone();
            app.follow(move || git(&bare, &["rev-parse", "main"]));
        }
        let server = argo.serve();
        let cd = format!("http://{}/argocd", server.address());
        for (name, value) in [
            ("MANIFESTS_PAT", delivery.git.token().to_owned()),
            ("ARGOCD_TOKEN", TOKEN.to_owned()),
            ("TEST_ARTICLE", url),
            ("TEST_ARGOCD", cd),
        ] {
            delivery.set(name, &value);
        }
        let article = Self {
            delivery,
            argo,
            bare,
            _server: server,
        };
        article.project();
        article
    }

    /// Commits the example, whose registry, repository and Argo CD are those of the test.
    fn project(&self) {
        let read = |name: &str| {
            let path = root().join("pipelines/gitops-image-updater").join(name);
            std::fs::read_to_string(path).expect("the example")
        };
        let mut images = read("images.kdl");
        let start = images.find("aws build").expect("an account");
        let end = images.find("registry ecr aws=build").expect("a registry");
        images.replace_range(start..end, "");
        for (theirs, ours) in [
            (
                "var account env=AWS_ACCOUNT",
                "var host env=TEST_REGISTRY\nvar manifests env=TEST_ARTICLE\nvar cd env=TEST_ARGOCD\nsecret PASSWORD env=TEST_PASSWORD",
            ),
            (
                "registry ecr aws=build",
                "registry ecr \"${var.host}\" { plain-http; login bot \"${secret.PASSWORD}\" }",
            ),
            (
                "\"https://github.com/acme/manifests\"",
                "\"${var.manifests}\"",
            ),
            (
                "\"https://argocd.acme.example\" {",
                "\"${var.cd}\" {\n    plain-http",
            ),
        ] {
            assert!(images.contains(theirs), "{theirs}");
            images = images.replace(theirs, ours);
        }
        let (release, update) = (read("release.kdl"), read("update.kdl"));
        let files = [
            ("pipelines/images.kdl", images.as_str()),
            ("pipelines/release.kdl", release.as_str()),
            ("pipelines/update.kdl", update.as_str()),
        ];
        self.delivery.source.commit("pipelines", &files);
    }

    /// Tags a commit and has the push side make its images.
    fn release(&self, version: &str) {
        self.delivery
            .source
            .commit(version, &[("VERSION", version)]);
        self.delivery.source.git(&["tag", version]);
        let run = ["run", "release", "--event", "tag", "--ref", version];
        self.delivery.pipewright(&run).expect(0);
        for image in ["app", "web", "migration"] {
            let repository = format!("eks-{image}");
            let found = self.delivery.digest(&repository, version);
            assert!(found.is_some(), "{repository}:{version} is pushed");
        }
    }

    fn update(&self, plot: &[Beat]) -> Answer {
        self.argo.state().main().then(plot);
        self.delivery.pipewright(&["watch", "update", "--once"])
    }

    fn tip(&self) -> String {
        git(&self.bare, &["rev-parse", "main"])
    }
}

#[test]
fn a_version_goes_from_a_tag_to_the_cluster() {
    let article = Article::start("two");
    article.release("v1.2.3");
    let before = article.tip();
    article.update(&[Stale, AtTip]).expect(0).says("v1.2.3");
    let after = article.tip();
    assert_ne!(after, before);
    let shown = git(&article.bare, &["show", &format!("main:{PATH}")]);
    assert!(shown.starts_with(OVERLAY.trim_end()), "{shown}");
    for image in ["app", "web", "migration"] {
        let name = format!("{}/eks-{image}", article.delivery.host());
        assert!(shown.contains(&name), "{shown}");
    }
    assert_eq!(shown.matches("newTag: v1.2.3").count(), 3, "{shown}");
    let subject = git(&article.bare, &["log", "-1", "--format=%an: %s", "main"]);
    assert_eq!(subject, "image updater: Release v1.2.3");
    let show = article.delivery.show();
    let stages = show["stages"].as_array().expect("stages");
    let deploy = stages.iter().find(|one| one["id"] == "deploy.main");
    let deploy = deploy.unwrap_or_else(|| panic!("{show:#}"));
    assert_eq!(deploy["outcome"], "succeeded", "{show:#}");
    assert_eq!(deploy["outputs"]["revision"], after, "{show:#}");
    // Argo CD synced by itself, and nothing was asked of it that it does not know.
    assert_eq!(article.argo.changes(), [""; 0]);
    assert_eq!(article.argo.state().breaches, Vec::<String>::new());
    article.update(&[AtTip]).expect(0).says("nothing new");
    assert_eq!(article.tip(), after);

    // The next version's migration fails, and with it the stage.
    article.release("v1.3.0");
    let failed = article.update(&[
        Stale,
        HookFails("Job has reached the specified backoff limit"),
    ]);
    failed
        .expect(1)
        .says("PreSync hook Job migrate failed: Job has reached the specified backoff limit");
    let shown = git(&article.bare, &["show", &format!("main:{PATH}")]);
    assert_eq!(shown.matches("newTag: v1.3.0").count(), 3, "{shown}");
}
