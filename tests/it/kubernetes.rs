//! `deploy kubernetes` against a scripted API server: how roll-outs end, what is changed, and what is
//! changed once.

mod access;
mod changes;
mod chaos;
mod crash;
mod hostile;
mod jobs;
mod manifests;
mod rollback;
mod rollouts;
mod wire;

use std::sync::Arc;

use pipewright::adapters::kubernetes::Kubernetes;
use pipewright::base::RunId;

use crate::support::fake_kubernetes::{Beat, FakeKubernetes};
use crate::support::flow::{Flow, options};

/// The pipeline of most tests; `…` is what stands in `kubernetes`.
fn pipeline(inside: &str) -> String {
    format!(
        r#"
kubernetes cluster
pipeline release {{
    build app
    push app
    deploy web {{
        kubernetes cluster namespace=main {{
            {inside}
        }}
    }}
}}
"#
    )
}

const FRONT: &str = "rollout front container=app image=app";

/// A flow on a fake whose roll-outs follow a plot, with `front` rolled out and something more said.
fn start(plot: &[Beat], more: &str) -> (Flow, FakeKubernetes) {
    start_with(plot, &format!("{FRONT}\n{more}"), &[])
}

fn start_with(plot: &[Beat], inside: &str, files: &[(&str, &str)]) -> (Flow, FakeKubernetes) {
    let mut options = options();
    for (path, text) in files {
        options.files.insert((*path).to_owned(), (*text).to_owned());
    }
    let fake = FakeKubernetes::new(plot);
    let mut flow = Flow::of(&pipeline(inside), options);
    flow.clusters = Some(Arc::new(Kubernetes::new(Arc::new(fake.clone()))));
    (flow, fake)
}

/// What became of the deployment, and its log.
fn told(flow: &Flow, run: &RunId) -> (String, String) {
    let told = flow.told(run);
    let line = told.iter().find(|line| line.starts_with("deploy.web "));
    let line = line.unwrap_or_else(|| panic!("{told:#?}"));
    (line.clone(), flow.log(run, "deploy.web"))
}
