//! `deploy argocd` against a scripted Argo CD: how syncs end, in words, and what is changed once.

mod apps;
mod changes;
mod chaos;
mod crash;
mod rollback;
mod rollouts;
mod wire;

use std::sync::Arc;

use pipewright::adapters::argocd::ArgoCd;
use pipewright::base::{LateSecrets, RunId, Secret};
use pipewright::ports::secrets::SecretSource;

use crate::support::fake_argocd::{Beat, FakeArgo, NEW, TOKEN};
use crate::support::flow::{Flow, options};

/// How most tests are known to the server.
const TOKEN_LINE: &str = "token \"${secret.TOKEN}\"";

/// The pipeline of most tests; `more` is what stands in `argocd`, `auth` how it is asked.
fn pipeline(auth: &str, props: &str, more: &str) -> String {
    format!(
        r#"
secret TOKEN env=ARGOCD_TOKEN
argocd cd "https://argocd.example.com/argocd/" {{ {auth} }}
pipeline release {{
    deploy main {{ argocd cd app=main {props} {{ {more} }} }}
}}
"#
    )
}

fn start_with(plot: &[Beat], text: &str) -> (Flow, FakeArgo) {
    let fake = FakeArgo::new(plot);
    let mut flow = Flow::of(text, options());
    let source = SecretSource::Env("ARGOCD_TOKEN".to_owned());
    flow.sim.secret(source, &Secret::new(TOKEN.to_owned()));
    let late = LateSecrets::default();
    flow.gitops = Some(Arc::new(ArgoCd::with(Arc::new(fake.clone()), late)));
    (flow, fake)
}

fn start(plot: &[Beat], more: &str) -> (Flow, FakeArgo) {
    let revision = format!("revision=\"{NEW}\"");
    start_with(plot, &pipeline(TOKEN_LINE, &revision, more))
}

/// What became of the deployment, and its log.
#[track_caller]
fn told(flow: &Flow, run: &RunId) -> (String, String) {
    let told = flow.told(run);
    let line = told.iter().find(|line| line.starts_with("deploy.main "));
    let line = line.unwrap_or_else(|| panic!("{told:#?}"));
    (line.clone(), flow.log(run, "deploy.main"))
}

/// No request broke the published interface.
#[track_caller]
fn proper(fake: &FakeArgo) {
    assert_eq!(fake.state().breaches, Vec::<String>::new());
}
