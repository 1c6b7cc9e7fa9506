//! Manifests that are applied.

use serde_json::json;

use super::{start_with, told};
use crate::support::fake_kubernetes::Beat::{Completes, New, Waits};
use crate::support::fake_kubernetes::key;
use crate::support::flow::Flow;

const FRONT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: shop}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
      - {name: app, image: \"localhost:5000/app:latest\", ports: [{containerPort: 80}]}
      - {name: log, image: \"busybox:1\", stdin: false}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}]}
";
const CONFIG: &str = "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {\"name\": \"shop\"}, \"data\": {\"a\": \"1\"}}";

const APPLY: &str = "apply \"k8s\" { image app }";

async fn plan(flow: &Flow) -> pipewright::stage::Forecast {
    let life = flow.life();
    let plan = flow.plan(&life, "release").await.expect("a plan");
    let readers = life.engine.world.readers.clone();
    let forecasts = pipewright::plan::forecast(&plan, &readers, false).await;
    life.end().await;
    let last = forecasts.expect("forecasts").stages.pop();
    last.expect("the deployment is the last").forecast
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_applied_in_order_and_once() {
    let files = [
        ("k8s/a.yaml", FRONT),
        ("k8s/b.json", CONFIG),
        ("k8s/README.md", "no"),
    ];
    let (flow, fake) = start_with(&[New(0), Completes], APPLY, &files);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert_eq!(
        fake.changes(),
        [
            "apply configmaps/shop",
            "apply services/shop",
            "apply deployments/shop"
        ]
    );
    {
        let state = fake.state();
        let live = &state.objects[&key("apps/v1", "deployments", "main", "shop")];
        let containers = &live["spec"]["template"]["spec"]["containers"];
        let image = containers[0]["image"].as_str().expect("an image");
        assert!(image.starts_with("localhost:5000/app@sha256:"), "{image}");
        assert_eq!(containers[1]["image"], "busybox:1");
    }
    let again = flow.run("release").await;
    assert_eq!(told(&flow, &again).0, "deploy.web up-to-date");
    assert_eq!(fake.changes().len(), 3);
    fake.clean();
}

#[tokio::test(start_paused = true)]
async fn an_applied_workload_is_waited_for() {
    let plot = [New(0), Waits("ImagePullBackOff", "no such image")];
    let (flow, fake) = start_with(&plot, APPLY, &[("k8s/a.yaml", FRONT)]);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(
        line,
        "deploy.web failed: deployment shop does not roll out: pod shop-1-new: container app cannot start: ImagePullBackOff: no such image",
        "{log}"
    );
    fake.clean();
}

#[tokio::test(start_paused = true)]
async fn a_field_of_another_is_named_and_taken_by_force_only() {
    let scaled = FRONT.replace("spec:\n  selector", "spec:\n  replicas: 3\n  selector");
    let files = [("k8s/a.yaml", scaled.as_str())];
    let (flow, fake) = start_with(&[Completes], APPLY, &files);
    fake.state()
        .owned
        .push(("Deployment", ".spec.replicas", "hpa-controller"));
    let run = flow.run("release").await;
    assert_eq!(
        told(&flow, &run).0,
        "deploy.web failed: deployment shop of k8s/a.yaml sets fields of other managers: .spec.replicas is owned by \
         \"hpa-controller\" using apps/v1; leave them out of the manifest, or take them by `force`"
    );
    assert!(
        fake.changes().is_empty(),
        "found out before anything is applied"
    );
    let (flow, fake) = start_with(&[Completes], "apply \"k8s\" { image app; force }", &files);
    fake.state()
        .owned
        .push(("Deployment", ".spec.replicas", "hpa-controller"));
    let run = flow.run("release").await;
    assert_eq!(told(&flow, &run).0, "deploy.web succeeded");
}

#[tokio::test(start_paused = true)]
async fn a_new_kind_and_a_new_namespace_come_first() {
    let files = [
        (
            "k8s/a.yaml",
            "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w, namespace: fresh}\nspec: {new: key}\n",
        ),
        (
            "k8s/b.yaml",
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.com}\n\
             spec: {names: {kind: Widget}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: fresh}\n",
        ),
    ];
    let (flow, fake) = start_with(&[Completes], "apply \"k8s\"", &files);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert_eq!(
        fake.changes(),
        [
            "apply namespaces/fresh",
            "apply customresourcedefinitions/widgets.example.com",
            "apply widgets/w"
        ]
    );
    let state = fake.state();
    let widget = &state.objects[&key("example.com/v1", "widgets", "fresh", "w")];
    assert_eq!(widget["spec"], json!({"new": "key"}));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_manifests_is_told_before_anything_is_changed() {
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\n";
    let broken = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\nspec: {broken: true}\n";
    let odd = "apiVersion: example.com/v2\nkind: Gadget\nmetadata: {name: g}\n";
    for (inside, text, why) in [
        (
            "apply \"k8s/b.json\" \"k8s/a.yaml\"",
            twice,
            "configmap shop stands in k8s/b.json and in k8s/a.yaml; keep one of them",
        ),
        (
            "apply \"k8s/a.yaml\" { image app }",
            twice,
            "no container in the manifests is of image `app`, whose repository is localhost:5000/app; there is no container at all",
        ),
        (
            "apply \"k8s/c.yaml\"",
            twice,
            "k8s/c.yaml does not exist in the commit",
        ),
        (
            "apply \"docs\"",
            twice,
            "directory docs holds 0 manifests (`.yaml`, `.yml`, `.json`); 1 to 1000 are applied",
        ),
        ("apply \"k8s/a.yaml\"", "a: [", "k8s/a.yaml: it is no YAML…"),
        (
            "apply \"k8s/a.yaml\"",
            broken,
            "k8s/a.yaml: kubernetes `cluster` refused to rehearse applying configmap bad in namespace main: Invalid: \
             configmaps \"bad\" is invalid: spec.broken: Forbidden",
        ),
        (
            "apply \"k8s/a.yaml\"",
            odd,
            "k8s/a.yaml: kubernetes `cluster` refused to look up kind Gadget of example.com/v2: NotFound: the cluster has no such \
             kind; is its custom resource definition installed, and the apiVersion right?",
        ),
    ] {
        let files = [
            ("k8s/a.yaml", text),
            ("k8s/b.json", CONFIG),
            ("docs/x.txt", ""),
        ];
        let (flow, fake) = start_with(&[Completes], inside, &files);
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        let whole = format!("deploy.web failed: {why}");
        match whole.strip_suffix('…') {
            Some(begin) => assert!(line.starts_with(begin), "{line}\n{log}"),
            None => assert_eq!(line, whole, "{log}"),
        }
        assert!(fake.changes().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_rehearses_and_changes_nothing() {
    let files = [("k8s/b.json", CONFIG)];
    let (flow, fake) = start_with(&[Completes], "apply \"k8s/b.json\"", &files);
    fake.state().keep(
        "v1",
        "configmaps",
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop", "namespace": "main"}, "data": {"a": "0"}}),
    );
    let found = plan(&flow).await;
    assert_eq!(found.effects, ["change configmap shop (k8s/b.json)"]);
    let diff = found.diff.expect("a difference");
    assert!(
        diff.contains("-    \"a\": \"0\"") && diff.contains("+    \"a\": \"1\""),
        "{diff}"
    );
    assert!(fake.changes().is_empty(), "a rehearsal changes nothing");
    assert!(
        fake.state()
            .calls
            .contains(&"rehearse configmaps".to_owned())
    );
    fake.clean();
}

#[tokio::test(start_paused = true)]
async fn an_overlay_is_built_by_a_program_or_says_what_to_install() {
    let files = [
        ("over/kustomization.yaml", "resources: [a.yaml]\n"),
        ("over/a.yaml", CONFIG),
    ];
    let (flow, fake) = start_with(&[Completes], "apply \"over\"", &files);
    let found = plan(&flow).await;
    assert_eq!(found.effects, ["apply what kustomize makes of over"]);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    // The simulated host has every program, and what it prints is no manifest.
    assert!(
        line.starts_with("deploy.web failed: over: "),
        "{line}\n{log}"
    );
    assert!(log.contains("built over by kustomize build"), "{log}");
    assert!(fake.changes().is_empty());
}
