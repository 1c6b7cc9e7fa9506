//! Bad weather: calls that fail at random come to the same end, with one sync.

use super::{proper, start, told};
use crate::support::fake_argocd::Beat::{Health, Pending, Running};

#[tokio::test(start_paused = true)]
async fn bad_weather_syncs_nothing_twice() {
    let mut worked = 0;
    for seed in 0..60 {
        let plot = [
            Pending,
            Running("Running"),
            Health("Progressing"),
            Health("Healthy"),
        ];
        let (flow, fake) = start(&plot, "");
        fake.weather(seed, 5 + (seed % 5) as u8 * 10);
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        assert!(fake.changes().len() <= 1, "{seed}: {line}\n{log}");
        match line.as_str() {
            "deploy.main succeeded" => {
                worked += 1;
                assert_eq!(fake.changes(), ["sync"], "{seed}");
            }
            // Too much of it is the weather's fault, and is told as such.
            line => assert!(
                line.starts_with("deploy.main errored: argocd `cd` failed at "),
                "{seed}: {line}\n{log}"
            ),
        }
        // The next run in good weather brings it to its end.
        fake.weather(seed, 0);
        let again = flow.run("release").await;
        let (line, log) = told(&flow, &again);
        let fine = ["deploy.main succeeded", "deploy.main up-to-date"];
        assert!(fine.contains(&line.as_str()), "{seed}: {line}\n{log}");
        proper(&fake);
    }
    assert!(worked >= 50, "{worked} of 60 worked");
}
