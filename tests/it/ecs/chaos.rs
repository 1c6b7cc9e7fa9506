//! Calls go wrong at random: throttled, not made, or made with the answer lost. Whatever happens, one
//! revision is registered and one update made.

use std::collections::BTreeMap;
use std::sync::Arc;

use pipewright::adapters::aws::services::AwsServices;
use pipewright::base::LateSecrets;

use super::wire::STS;
use super::{pipeline, start_with, told};
use crate::support::fake_ecs::Beat::{Completes, Runs, Stale};
use crate::support::fake_ecs::FakeEcs;
use crate::support::faulty::{Faulty, Reply, Request};
use crate::support::flow::{Flow, options};
use crate::support::moto::{clouds, token};

const BEFORE: &str = r#"before migrate container=web { command "migrate" }"#;

fn count(fake: &FakeEcs, action: &str) -> usize {
    let changes = fake.changes();
    changes.iter().filter(|name| *name == action).count()
}

#[tokio::test(start_paused = true)]
async fn bad_weather_repeats_no_change() {
    let text = pipeline(BEFORE).replace(
        "deploy web {",
        "deploy web {\n retry 5 { on errored; backoff \"1s\" }",
    );
    let mut ends: BTreeMap<bool, u32> = BTreeMap::new();
    for seed in 0..200 {
        let plot = [Stale, Runs(0), Stale, Runs(1), Completes];
        let (flow, fake) = start_with(&plot, &text, &[]);
        // From a drizzle to a storm in which every second call goes wrong.
        fake.weather(seed, 10 + seed % 41);
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        let went_well = line == "deploy.web succeeded";
        *ends.entry(went_well).or_insert(0) += 1;
        assert!(
            went_well || line.starts_with("deploy.web errored: "),
            "{seed}: {line}\n{log}"
        );
        let tokens: std::collections::BTreeSet<String> = fake
            .state()
            .writes
            .iter()
            .filter(|(name, _)| name == "RunTask")
            .map(|(_, body)| body["clientToken"].to_string())
            .collect();
        assert!(tokens.len() <= 1, "{seed}: one migration\n{log}");
        // The sky clears. What is left to do is done, and nothing else.
        fake.weather(0, 0);
        let again = flow.run("release").await;
        let (line, second) = told(&flow, &again);
        assert!(
            matches!(
                line.as_str(),
                "deploy.web up-to-date" | "deploy.web succeeded"
            ),
            "{seed}: {line}\n{log}\n{second}"
        );
        assert_eq!(
            (fake.revisions("web"), count(&fake, "UpdateService")),
            (2, 1),
            "{seed}: {line}\n{log}\n{second}"
        );
        flow.clean();
    }
    // It must have come to both ends, or the weather was no trouble or the retries of no use.
    assert!(ends[&true] > 100 && ends[&false] > 5, "{ends:?}");
}

/// Answers like the fake, but for some calls: an error, nonsense, a broken connection or nothing at
/// all, before the call was made or after it.
fn nuisance(fake: FakeEcs, seed: u64) -> Faulty {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut hangs = 1;
    let answer = move |request: &Request| {
        if String::from_utf8_lossy(&request.body).contains("AssumeRoleWithWebIdentity") {
            return Reply::Answer(200, Vec::new(), STS.to_owned());
        }
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Of a form's answer only refusals are read, so nonsense in it is a yes.
        let json = request.header("x-amz-target").is_some();
        let trouble = match state / 8 % 24 {
            0 => Some(Reply::status(500)),
            1 => Some(Reply::status(503)),
            2 => Some(Reply::Reset),
            3 if json => Some(Reply::Answer(200, Vec::new(), "<html>".to_owned())),
            4 if json => Some(Reply::Answer(200, Vec::new(), "{\"service\":".to_owned())),
            5 if hangs > 0 => {
                hangs -= 1;
                Some(Reply::Hang)
            }
            // What limits our rate does not make the call.
            6 => return Reply::Answer(429, Vec::new(), String::new()),
            _ => None,
        };
        let made = state >> 40 & 1 == 0;
        match trouble {
            Some(trouble) if !made => trouble,
            trouble => {
                let (status, body) = fake.over_http(request);
                trouble.unwrap_or(Reply::Answer(status, Vec::new(), body))
            }
        }
    };
    Faulty::alone(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_on_the_wire_repeats_no_change() {
    let deploy = |seed: u64| async move {
        let fake = FakeEcs::new(&[Runs(0), Runs(1), Completes]);
        let server = nuisance(fake.clone(), seed);
        let dir = tempfile::tempdir().expect("a directory");
        let account = format!(
            "aws prod region=eu-west-1 {{ endpoint \"http://{}\"; \
             role \"arn:aws:iam::123456789012:role/ci\"; web-identity file \"{}\" }}",
            server.address(),
            token(dir.path()).display()
        );
        let text = pipeline(BEFORE)
            .replace("aws prod region=eu-west-1", &account)
            .replace(
                "deploy web {",
                "deploy web {\n retry 9 { on errored; backoff \"10ms\" }",
            );
        let mut flow = Flow::of(&text, options());
        let clouds = clouds(&LateSecrets::default());
        flow.services = Some(Arc::new(AwsServices::new(Arc::new(clouds))));
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        assert_eq!(line, "deploy.web succeeded", "{seed}: {log}");
        assert_eq!(
            (fake.revisions("web"), count(&fake, "UpdateService")),
            (2, 1),
            "{seed}: {log}"
        );
    };
    let all = (1..=8).map(|seed| tokio::spawn(deploy(seed)));
    for ended in all.collect::<Vec<_>>() {
        ended.await.expect("it holds for each seed");
    }
}
