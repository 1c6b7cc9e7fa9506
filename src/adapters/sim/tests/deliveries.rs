//! Forges, clusters and servers that sync them.

use serde_json::json;

use super::support::{begin, broke, clean, effects, texts};
use crate::adapters::sim::{Rule, SimWorld};
use crate::base::Timestamp;
use crate::ports::World;
use crate::ports::cluster::{Access as ClusterAccess, Cluster, Thing};
use crate::ports::forge::{
    ForgeError, Hosted, NewPullRequest, PullRequest, SignIn, Site, Software,
};
use crate::ports::gitops::{Access, AppName, Server, SyncRequest};
use crate::ports::vcs::{self, NewCommit, Remote};

const URL: &str = "https://github.com/acme/manifests";

fn hosted() -> Hosted {
    Hosted {
        site: Site {
            name: "hub".to_owned(),
            software: Software::GitHub,
            address: "https://github.com".to_owned(),
            sign_in: SignIn::Anonymous,
        },
        path: "acme/manifests".to_owned(),
        url: URL.to_owned(),
    }
}

/// A remote with a branch `release` of one commit on `main`.
async fn branched() -> (SimWorld, World) {
    let (sim, world) = begin();
    sim.remote(URL, "main", &texts(&[("values.yaml", "tag: a\n")]));
    let branch = |name: &str| Remote {
        url: URL.to_owned(),
        branch: name.to_owned(),
        access: vcs::Access::Anonymous,
    };
    let files = ["values.yaml".to_owned()];
    let main = world.vcs.snapshot(&branch("main"), &files).await;
    let commit = NewCommit {
        parent: main.expect("the branch is there").commit,
        files: [("values.yaml".to_owned(), b"tag: b\n".to_vec())].into(),
        identity: ("bot".to_owned(), "bot@example.com".to_owned()),
        message: "Update tag".to_owned(),
        time: Timestamp(0),
        signing: None,
    };
    let made = world.vcs.commit(&branch("main"), &commit).await;
    let made = made.expect("it is made");
    let pushed = world.vcs.push(&branch("release"), &made).await;
    pushed.expect("it is pushed");
    (sim, world)
}

async fn open(world: &World, head: &str) -> Result<PullRequest, ForgeError> {
    let new = NewPullRequest {
        head: head.to_owned(),
        base: "main".to_owned(),
        title: "Release".to_owned(),
        body: String::new(),
        draft: false,
    };
    world.forge.create(&hosted(), &new).await
}

#[tokio::test(start_paused = true)]
async fn a_pull_request_brings_its_branch() {
    let (sim, world) = branched().await;
    let pull = open(&world, "release").await.expect("it is opened");
    let labels = ["deploy".to_owned()];
    let labelled = world.forge.label(&hosted(), &pull, &labels).await;
    labelled.expect("it is labelled");
    sim.merge_pull_request(pull.number);
    let file = |branch| sim.remote_file(URL, branch, "values.yaml");
    assert_eq!(file("main"), Some(b"tag: b\n".to_vec()));
    assert_eq!(sim.pull_requests(URL)[0].labels, labels);
    clean(&sim);
}

#[tokio::test(start_paused = true)]
async fn a_pull_request_needs_a_branch_with_a_change_and_is_opened_once() {
    for head in ["nowhere", "main"] {
        let (sim, world) = branched().await;
        open(&world, head)
            .await
            .expect_err("there is nothing to merge");
        broke(&sim, Rule::BadPullRequest);
    }
    let (sim, world) = branched().await;
    open(&world, "release").await.expect("it is opened");
    let again = open(&world, "release").await;
    assert!(matches!(again, Err(ForgeError::Exists { .. })), "{again:?}");
    broke(&sim, Rule::BadPullRequest);
}

#[tokio::test(start_paused = true)]
async fn a_pull_request_is_not_changed_into_itself() {
    let (sim, world) = branched().await;
    let pull = open(&world, "release").await.expect("it is opened");
    let same = world.forge.update(&hosted(), &pull, "Release", "").await;
    same.expect("the forge does not mind");
    broke(&sim, Rule::SamePullRequest);

    let (sim, world) = branched().await;
    let pull = open(&world, "release").await.expect("it is opened");
    for _ in 0..2 {
        let said = world.forge.comment(&hosted(), pull.number, "planned").await;
        said.expect("the forge does not mind");
    }
    broke(&sim, Rule::SamePullRequest);
}

#[tokio::test(start_paused = true)]
async fn a_sync_is_asked_for_once() {
    let (sim, world) = begin();
    let server = Server {
        name: "argo".to_owned(),
        url: "https://argo.example.com".to_owned(),
        access: Access::Anonymous,
    };
    let app = AppName {
        name: "shop".to_owned(),
        ..AppName::default()
    };
    let sync = async |run: &str| {
        let request = SyncRequest {
            infos: vec![("run".to_owned(), run.to_owned())],
            ..SyncRequest::default()
        };
        let told = world.gitops.sync(&server, &app, &request).await;
        told.expect("it is told");
    };
    sync("one").await;
    sync("two").await;
    assert_eq!(effects(&sim), ["gitops.sync", "gitops.sync"]);
    clean(&sim);
    sync("two").await;
    broke(&sim, Rule::SyncedTwice);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_not_told_what_it_knows() {
    let cluster = Cluster {
        name: "prod".to_owned(),
        access: ClusterAccess::InCluster,
        base: "/".into(),
    };
    let thing = Thing {
        api: "apps/v1".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: "shop".to_owned(),
        name: "front".to_owned(),
    };
    let (sim, world) = begin();
    let patch = async |image: &str| {
        let containers = json!([{"name": "front", "image": image}]);
        let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
        let told = world.clusters.patch(&cluster, &thing, &patch).await;
        told.expect("it is told");
    };
    patch("front:1").await;
    patch("front:2").await;
    clean(&sim);
    patch("front:2").await;
    broke(&sim, Rule::IdleChange);

    let (sim, world) = begin();
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "front"},
        "data": {"a": "b"}});
    for _ in 0..2 {
        let told = world.clusters.apply(&cluster, &config, "shop", false).await;
        told.expect("it is told");
    }
    broke(&sim, Rule::IdleChange);
}
