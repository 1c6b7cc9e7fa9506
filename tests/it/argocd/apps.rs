//! Several applications, applications of applications, and commits on top of ours.

use super::{TOKEN_LINE, pipeline, proper, start_with, told};
use crate::support::fake_argocd::Beat::{self, At, AtTip, Health, HookFails, OutOfSync, Stale};
use crate::support::fake_argocd::{FakeArgo, NEW, OLD};
use crate::support::flow::{Flow, MANIFESTS, files};

fn start(more: &str, plot: &[Beat], others: &[(&str, &[Beat])]) -> (Flow, FakeArgo) {
    let revision = format!("revision=\"{NEW}\"");
    let (flow, fake) = start_with(plot, &pipeline(TOKEN_LINE, &revision, more));
    for (name, plot) in others {
        fake.state().add(name, plot);
    }
    (flow, fake)
}

const SLOW: &[Beat] = &[
    Health("Progressing"),
    Health("Progressing"),
    Health("Healthy"),
];

#[tokio::test(start_paused = true)]
async fn several_come_one_after_the_other() {
    let (flow, fake) = start(
        "also second third",
        SLOW,
        &[("second", SLOW), ("third", SLOW)],
    );
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.main succeeded", "{log}");
    assert_eq!(fake.changed(), ["sync main", "sync second", "sync third"]);
    // The next is begun only once the one before is there.
    let place = |words: &str| log.find(words).unwrap_or_else(|| panic!("{words}: {log}"));
    assert!(place("main is synced and healthy") < place("second is being synced"));
    assert!(place("second is synced and healthy") < place("third is being synced"));
    proper(&fake);

    let again = flow.run("release").await;
    assert_eq!(told(&flow, &again).0, "deploy.main up-to-date");
    assert_eq!(fake.changed().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_keeps_those_after_it() {
    let fails: &[Beat] = &[HookFails("backoff")];
    let (flow, fake) = start(
        "also second third",
        SLOW,
        &[("second", fails), ("third", SLOW)],
    );
    let run = flow.run("release").await;
    let (line, _) = told(&flow, &run);
    assert_eq!(
        line,
        "deploy.main failed: second: PreSync hook Job migrate failed: backoff"
    );
    assert_eq!(fake.changed(), ["sync main", "sync second"]);
    proper(&fake);
}

#[tokio::test(start_paused = true)]
async fn several_at_once_all_come_to_their_end() {
    let fails: &[Beat] = &[Health("Degraded")];
    let (flow, fake) = start(
        "also second third; parallel",
        fails,
        &[("second", SLOW), ("third", fails)],
    );
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert!(
        line.starts_with("deploy.main failed: main: it is degraded"),
        "{line}"
    );
    assert!(line.contains("; third: it is degraded"), "{line}");
    let place = |words: &str| log.find(words).unwrap_or_else(|| panic!("{words}: {log}"));
    assert!(place("third is being synced") < place("second is synced and healthy"));
    assert_eq!(fake.changed(), ["sync main", "sync second", "sync third"]);
    proper(&fake);
}

#[tokio::test(start_paused = true)]
async fn an_application_of_applications_is_there_once_its_children_are() {
    let child: &[Beat] = &[Stale, Stale, Health("Progressing"), Health("Healthy")];
    let (flow, fake) = start("children", SLOW, &[("child", child), ("other", &[At(OLD)])]);
    {
        let mut state = fake.state();
        state.main().children = vec!["child", "other"];
        state.app("child").auto = true;
        state.app("other").auto = true;
    }
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.main succeeded", "{log}");
    assert!(
        log.contains("waiting for argocd/child, of which main consists"),
        "{log}"
    );
    assert!(!log.contains("waiting for argocd/other"), "{log}");
    assert_eq!(fake.changed(), ["sync main"], "children sync themselves");
    proper(&fake);

    let sick: &[Beat] = &[Stale, Health("Progressing"), Health("Degraded")];
    let (flow, fake) = start("children", SLOW, &[("child", sick)]);
    fake.state().main().children = vec!["child"];
    fake.state().app("child").auto = true;
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert!(
        line.starts_with("deploy.main failed: argocd/child: it is degraded"),
        "{line}\n{log}"
    );
}

#[tokio::test(start_paused = true)]
async fn only_what_was_asked_for_must_be_in_sync() {
    let (flow, fake) = start("resource \"Service/web\"", &[OutOfSync], &[]);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.main succeeded", "{log}");
    let body = fake.state().writes[0].1.clone();
    assert_eq!(body["resources"][0]["kind"], "Service");
    assert_eq!(body["resources"].as_array().map(Vec::len), Some(1));
    proper(&fake);
}

/// An application that syncs itself is at a commit that somebody made on top of ours; of another
/// commit that is not so.
#[tokio::test(start_paused = true)]
async fn a_commit_on_top_of_ours_will_do() {
    let text = |revision: &str| {
        pipeline(
            TOKEN_LINE,
            &format!("revision=\"{revision}\""),
            "healthy-within \"2m\"",
        )
    };
    let (flow, _) = start_with(&[], &text(NEW));
    let more = files(&[("values.yaml", "tag: theirs\n")]);
    let ours = flow.sim.remote_tip(MANIFESTS, "main").expect("a commit");
    drop(flow);
    for (revision, ends) in [
        (ours.as_str(), "deploy.main up-to-date"),
        (
            NEW,
            "deploy.main timed-out: main was not synced and healthy within 2m00s; it goes on (it is at ",
        ),
    ] {
        let (flow, fake) = start_with(&[AtTip], &text(revision));
        assert_eq!(flow.sim.remote_tip(MANIFESTS, "main"), Some(ours.clone()));
        let theirs = flow.sim.foreign_commit(MANIFESTS, "main", &more);
        let theirs = theirs.expect("a commit");
        assert_ne!(theirs, ours);
        {
            let mut state = fake.state();
            state.main().auto = true;
            let tip = theirs.clone();
            state.main().follow(move || tip.clone());
        }
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        assert!(line.starts_with(ends), "{line}\n{log}");
        assert_eq!(fake.changes(), [""; 0]);
        proper(&fake);
    }
}
