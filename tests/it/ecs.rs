//! `deploy ecs` against a scripted ECS: how roll-outs end, what is changed, and what is changed once.

mod changes;
mod chaos;
mod crash;
mod rollouts;
mod tasks;
mod wire;

use std::sync::Arc;

use pipewright::adapters::aws::services::AwsServices;
use pipewright::adapters::sim::SimOptions;

use crate::support::fake_ecs::{Beat, FakeEcs};
use crate::support::flow::{Flow, options};

/// The pipeline of most tests; `…` is what stands in `ecs` besides its container.
fn pipeline(more: &str) -> String {
    format!(
        r#"
aws prod region=eu-west-1
pipeline release {{
    build app
    push app
    deploy web {{
        ecs aws=prod cluster=main service=web {{
            container web image=app
            {more}
        }}
    }}
}}
"#
    )
}

/// A flow on a fake whose roll-outs follow a plot.
fn start(plot: &[Beat], more: &str) -> (Flow, FakeEcs) {
    start_with(plot, &pipeline(more), &[])
}

fn start_with(plot: &[Beat], text: &str, files: &[(&str, &str)]) -> (Flow, FakeEcs) {
    let mut options = options();
    for (path, text) in files {
        options.files.insert((*path).to_owned(), (*text).to_owned());
    }
    start_in(plot, text, options)
}

/// A flow whose roll-outs complete at once, with something in buckets.
fn with_objects(text: &str, objects: &[(&str, Vec<u8>)]) -> (Flow, FakeEcs) {
    let mut options = options();
    for (address, object) in objects {
        options
            .objects
            .insert((*address).to_owned(), object.clone());
    }
    start_in(&[Beat::Completes], text, options)
}

fn start_in(plot: &[Beat], text: &str, options: SimOptions) -> (Flow, FakeEcs) {
    let fake = FakeEcs::new(plot);
    let mut flow = Flow::of(text, options);
    flow.services = Some(Arc::new(AwsServices::new(Arc::new(fake.clone()))));
    (flow, fake)
}

/// What became of the deployment, and its log.
fn told(flow: &Flow, run: &pipewright::base::RunId) -> (String, String) {
    let told = flow.told(run);
    let line = told.iter().find(|line| line.starts_with("deploy.web "));
    let line = line.unwrap_or_else(|| panic!("{told:#?}"));
    (line.clone(), flow.log(run, "deploy.web"))
}
