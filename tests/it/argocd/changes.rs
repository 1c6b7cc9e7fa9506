//! What is sent, what a plan shows, who is let in, and the simulated world.

use pipewright::plan::forecast;
use serde_json::json;

use super::{TOKEN_LINE, pipeline, proper, start, start_with, told};
use crate::support::fake_argocd::Beat::Health;
use crate::support::fake_argocd::NEW;
use crate::support::flow::{Flow, options};

#[tokio::test(start_paused = true)]
async fn what_is_said_is_sent() {
    let props = format!("revision=\"{NEW}\" namespace=team project=shop");
    let more = r#"
        prune; force; server-side; option "Validate=false" "PruneLast=true"
        resource "apps/Deployment/web"; resource "Service/web"
    "#;
    let (flow, fake) = start_with(&[Health("Healthy")], &pipeline(TOKEN_LINE, &props, more));
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.main succeeded", "{log}");
    proper(&fake);
    let (_, mut body) = fake.state().writes[0].clone();
    let infos = body["infos"].take();
    assert_eq!(infos[0]["name"], "pipewright");
    assert_eq!(infos[0]["value"], format!("{run}/deploy.main/1"));
    let expected = json!({
        "name": "main", "appNamespace": "team", "project": "shop", "revision": NEW,
        "dryRun": false, "prune": true, "strategy": {"hook": {"force": true}},
        "syncOptions": {"items": ["ServerSideApply=true", "Validate=false", "PruneLast=true"]},
        "resources": [
            {"group": "apps", "kind": "Deployment", "name": "web"},
            {"group": "", "kind": "Service", "name": "web"}],
        "infos": null
    });
    assert_eq!(body, expected);
    let outputs = flow.state(&run);
    let stage = outputs
        .stages()
        .iter()
        .find(|one| one.id.as_str() == "deploy.main");
    let outputs = &stage.expect("it ran").outputs;
    assert_eq!(outputs["revision"], NEW);
    assert_eq!(
        outputs["url"],
        "https://argocd.example.com/argocd/applications/team/main"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_that_runs_out_is_renewed() {
    let auth = "login admin \"let me in\"";
    let props = format!("revision=\"{NEW}\"");
    let plot = [
        Health("Progressing"),
        Health("Progressing"),
        Health("Healthy"),
    ];
    let (flow, fake) = start_with(&plot, &pipeline(auth, &props, ""));
    fake.state().expires = Some(4);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.main succeeded", "{log}");
    assert_eq!(fake.state().logins, 2);
    proper(&fake);
}

#[tokio::test(start_paused = true)]
async fn cancelling_leaves_or_stops_the_operation() {
    for (more, ends, stopped) in [
        ("", "main goes on by itself, nothing is rolled back", 0),
        ("on-cancel terminate", "main: its operation was stopped", 1),
    ] {
        let revision = format!("revision=\"{NEW}\"");
        let text = pipeline(TOKEN_LINE, &revision, more)
            .replace("deploy main {", "deploy main { timeout \"1m\"; ");
        let (flow, fake) = start_with(&[Health("Progressing")], &text);
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        assert!(
            line.starts_with("deploy.main timed-out: took longer than"),
            "{line}\n{log}"
        );
        assert!(line.contains(ends), "{line}");
        let calls = fake.state().calls.clone();
        let terminated = calls
            .iter()
            .filter(|call| *call == "DELETE operation")
            .count();
        assert_eq!(terminated, stopped);
        assert_eq!(fake.changes(), ["sync"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_reads_only_and_shows_what_would_change() {
    let (flow, fake) = start(&[], "");
    let life = flow.life();
    let plan = flow.plan(&life, "release").await.expect("valid");
    let forecasts = forecast(&plan, &life.engine.world.readers, false)
        .await
        .expect("a forecast");
    let forecast = &forecasts.stages[0].forecast;
    assert_eq!(
        forecast.effects,
        [
            format!("sync main to {NEW}"),
            "main: change Deployment web".to_owned(),
            "main: make ConfigMap extra".to_owned(),
        ]
    );
    let diff = forecast.diff.as_deref().expect("something would change");
    assert_eq!(diff, " main: Deployment web: spec.image\n-web:1\n+web:2\n");
    let calls = fake.state().calls.clone();
    assert!(
        calls.iter().all(|call| call.starts_with("GET ")),
        "{calls:?}"
    );
    assert_eq!(fake.changes(), [""; 0]);
    proper(&fake);
}

#[tokio::test(start_paused = true)]
async fn the_simulated_world_deploys_too() {
    let text = pipeline("", &format!("revision=\"{NEW}\""), "also second");
    let flow = Flow::of(
        &text.replace("secret TOKEN env=ARGOCD_TOKEN", ""),
        options(),
    );
    let run = flow.run("release").await;
    assert_eq!(told(&flow, &run).0, "deploy.main succeeded");
    assert_eq!(flow.sim.effects("gitops.sync").len(), 2);
    let again = flow.run("release").await;
    assert_eq!(told(&flow, &again).0, "deploy.main up-to-date");
    assert_eq!(flow.sim.effects("gitops.sync").len(), 2);
    flow.clean();
}
