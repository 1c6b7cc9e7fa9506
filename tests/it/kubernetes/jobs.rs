//! One-off jobs before a roll-out.

use serde_json::json;

use super::{start, told};
use crate::support::fake_kubernetes::Beat::{Completes, JobEnds, JobRuns, JobWaits};
use crate::support::fake_kubernetes::Trouble;

const MIGRATE: &str =
    r#"before migrate image=app { command "migrate" "--all"; env MODE "up"; timeout "5m" }"#;

#[tokio::test(start_paused = true)]
async fn a_job_runs_in_the_surroundings_of_the_rollout_and_its_log_is_told() {
    let (flow, fake) = start(&[Completes], MIGRATE);
    {
        let mut state = fake.state();
        state.job_plot = [JobRuns, JobRuns, JobRuns, JobEnds(0, "")].into();
        let log = "2026-01-01T00:00:00.1Z first line\n2026-01-01T00:00:00.12Z second line\n2026-01-01T00:00:01Z third line";
        state.logs.insert("migrate-pod".to_owned(), log);
    }
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    for words in ["first line", "second line", "third line"] {
        assert_eq!(log.matches(words).count(), 1, "{words} is told once: {log}");
    }
    let state = fake.state();
    let (name, job) = &state.writes[0];
    assert_eq!(name, "create jobs/migrate");
    assert_eq!(job["spec"]["backoffLimit"], 0);
    assert!(job["spec"]["ttlSecondsAfterFinished"].as_u64().is_some());
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(pod["serviceAccountName"], "front");
    let one = &pod["containers"][0];
    assert_eq!(one["args"], json!(["migrate", "--all"]));
    assert_eq!(one["env"][0]["valueFrom"]["secretKeyRef"]["name"], "db");
    assert_eq!(one["env"][1], json!({"name": "MODE", "value": "up"}));
    assert!(
        one["image"]
            .as_str()
            .expect("an image")
            .starts_with("localhost:5000/app@sha256:")
    );
    let length = job["metadata"]["name"].as_str().map(str::len);
    assert!(length.is_some_and(|length| length <= 63));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_comes_to_a_bad_end_keeps_the_old_version() {
    for (plot, deleted, why) in [
        (
            vec![JobRuns, JobEnds(2, "")],
            false,
            "failed: migrate exited with status 2; the old version keeps running",
        ),
        (
            vec![JobRuns, JobEnds(137, "OOMKilled")],
            false,
            "failed: migrate exited with status 137 (OOMKilled); the old version keeps running",
        ),
        (
            vec![JobWaits("ImagePullBackOff", "not found")],
            true,
            "failed: migrate cannot start: container migrate cannot start: ImagePullBackOff: not found; it was stopped, \
             the old version keeps running",
        ),
        (
            vec![JobRuns],
            true,
            "timed-out: migrate took longer than 5m00s: it was stopped, the old version keeps running",
        ),
    ] {
        let (flow, fake) = start(&[Completes], MIGRATE);
        fake.state().job_plot = plot.into();
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        assert_eq!(line, format!("deploy.web {why}"), "{log}");
        let changes = fake.changes();
        assert_eq!(
            changes.contains(&"delete jobs/migrate".to_owned()),
            deleted,
            "{changes:?}"
        );
        assert!(!changes.contains(&"patch deployments/front".to_owned()));
        fake.clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_answer_was_lost_is_found() {
    let (flow, fake) = start(&[Completes], MIGRATE);
    fake.trouble("create jobs", Trouble::AnswerLost);
    let run = flow.run("release").await;
    let (line, log) = told(&flow, &run);
    assert_eq!(line, "deploy.web succeeded", "{log}");
    assert_eq!(
        fake.changes(),
        ["create jobs/migrate", "patch deployments/front"]
    );
}
