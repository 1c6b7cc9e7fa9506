//! Calls go wrong at random: throttled, not made, or made with the answer lost. Whatever happens, one
//! revision is registered and one update made.

use std::collections::BTreeMap;

use super::{pipeline, start_with, told};
use crate::support::fake_ecs::Beat::{Completes, Runs, Stale};
use crate::support::fake_ecs::FakeEcs;

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
