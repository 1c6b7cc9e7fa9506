//! The stage `bump` with every kind of edit, in the simulated world.

use pipewright::event::Outcome;

use crate::support::flow::{Flow, MANIFESTS, files};

const STAGES: &str = r##"
build app web
push app web
bump production repo=manifests {
    kustomize "main/overlays/production" {
        image app web { create }
    }
    kustomize "pinned/" { image app { pinned } }
    file "k8s/all.yaml" {
        image app
        image web container=proxy
        set "kind=Deployment/name=back:.spec.replicas" "2" { literal }
    }
    file "values.yaml" { image app at=".front.image" }
    file "release.env" {
        match #"^APP=(\S*)$"# "${image.app.tag}"
        marker web "${image.web.tag}"
    }
    file "values" format=yaml { set ".tag" "${git.sha}" { create } }
}
"##;

/// Files before, and after, where `SHA` is the commit and `DIGEST` that of the app.
const FILES: &[(&str, &str, &str)] = &[
    (
        "main/overlays/production/kustomization.yml",
        "resources: [../../base]\nimages:\n- name: localhost:5000/app\n  newTag: old\n",
        "resources: [../../base]\nimages:\n- name: localhost:5000/app\n  newTag: SHORT\n- name: localhost:5000/web\n  newTag: SHORT\n",
    ),
    (
        "pinned/Kustomization",
        "images:\n- name: app\n  newName: localhost:5000/app\n  digest: old\n",
        "images:\n- name: app\n  newName: localhost:5000/app\n  digest: DIGEST\n",
    ),
    (
        "k8s/all.yaml",
        "kind: Deployment\nmetadata: {name: front}\nspec:\n  containers:\n  - name: app\n    image: localhost:5000/app:old # 注\n  - {name: proxy, image: 'nginx:1'}\n---\nkind: Deployment\nmetadata: {name: back}\nspec: {replicas: 1}\n",
        "kind: Deployment\nmetadata: {name: front}\nspec:\n  containers:\n  - name: app\n    image: localhost:5000/app:SHORT # 注\n  - {name: proxy, image: 'localhost:5000/web:SHORT'}\n---\nkind: Deployment\nmetadata: {name: back}\nspec: {replicas: 2}\n",
    ),
    (
        "values.yaml",
        "front:\r\n  image: {repository: localhost:5000/app, tag: \"old\"}\r\n",
        "front:\r\n  image: {repository: localhost:5000/app, tag: \"SHORT\"}\r\n",
    ),
    (
        "release.env",
        "APP=\nWEB=old # pipewright: web\n",
        "APP=SHORT\nWEB=SHORT # pipewright: web\n",
    ),
    ("values", "other: x\n", "other: x\ntag: \"SHA\"\n"),
];

fn flow(stages: &str, texts: &[(&str, &str)]) -> Flow {
    let flow = Flow::new(stages);
    flow.sim.remote(MANIFESTS, "main", &files(texts));
    flow
}

fn before() -> Vec<(&'static str, &'static str)> {
    FILES.iter().map(|(path, text, _)| (*path, *text)).collect()
}

fn at_tip(flow: &Flow, path: &str) -> String {
    let bytes = flow.sim.remote_file(MANIFESTS, "main", path);
    String::from_utf8(bytes.expect("it is there")).expect("it is text")
}

#[tokio::test(start_paused = true)]
async fn several_files_and_edits_are_one_commit() {
    let flow = flow(STAGES, &before());
    let length = flow.sim.remote_length(MANIFESTS, "main");
    let run = flow.run("p").await;
    assert_eq!(
        flow.state(&run).outcome,
        Some(Outcome::Succeeded),
        "{:?}",
        flow.told(&run)
    );
    let life = flow.life();
    assert_eq!(flow.sim.remote_length(MANIFESTS, "main"), length + 1);
    let commit = life
        .engine
        .world
        .readers
        .workspace
        .commit(None)
        .await
        .expect("a head");
    let pinned = at_tip(&flow, "pinned/Kustomization");
    let digest = pinned
        .trim_end()
        .rsplit_once("digest: ")
        .expect("it is there")
        .1;
    assert!(digest.starts_with("sha256:"), "{pinned}");
    for (path, _, after) in FILES {
        let short = commit.short_sha();
        let quoted = match short.parse::<u64>().is_ok() {
            true => format!("\"{short}\""),
            false => short.to_owned(),
        };
        let plain = path.ends_with("yml");
        let after = after
            .replace("SHORT", if plain { &quoted } else { short })
            .replace("SHA", &commit.sha)
            .replace("DIGEST", digest);
        let found = at_tip(&flow, path);
        // Whether a commit needs quotes depends on its digits.
        assert_eq!(found.replace('"', ""), after.replace('"', ""), "{path}");
    }
    flow.run("p").await;
    assert_eq!(
        flow.sim.remote_length(MANIFESTS, "main"),
        length + 1,
        "no change, no commit"
    );
    life.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_edit_that_fails_keeps_all_others_from_being_written() {
    let cases = [
        (
            "k8s/all.yaml",
            "kind: A\n",
            "no image here is of localhost:5000/app",
        ),
        (
            "values.yaml",
            "front:\n  image: {tag: a, tag: b}\n",
            "twice",
        ),
        ("release.env", "APP=a\nAPP=b\n", "exactly once"),
        ("values", "{{ x }}: [\n", "not YAML"),
    ];
    for (path, text, message) in cases {
        let mut texts = before();
        texts
            .iter_mut()
            .filter(|(name, _)| *name == path)
            .for_each(|file| file.1 = text);
        let flow = flow(STAGES, &texts);
        let length = flow.sim.remote_length(MANIFESTS, "main");
        let run = flow.run("p").await;
        assert_eq!(flow.state(&run).outcome, Some(Outcome::Failed));
        let shown = flow.told(&run).join("\n");
        assert!(
            shown.contains(message) && shown.contains("nothing was written"),
            "{path}: {shown}"
        );
        assert_eq!(flow.sim.remote_length(MANIFESTS, "main"), length);
    }
}
