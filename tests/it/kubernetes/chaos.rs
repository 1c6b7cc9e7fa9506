//! Bad weather: calls that fail at random come to the same end, with each change made once.

use super::{start, told};
use crate::support::fake_kubernetes::Beat::{Completes, New, Stale};

#[tokio::test(start_paused = true)]
async fn bad_weather_changes_nothing_twice() {
    let mut worked = 0;
    for seed in 0..60 {
        let percent = 5 + seed % 4 * 8;
        let more = "before migrate image=app { command \"migrate\" }";
        let (flow, fake) = start(&[Stale, New(1), Stale, Completes], more);
        fake.weather(seed, percent);
        let run = flow.run("release").await;
        let (line, log) = told(&flow, &run);
        let changes = fake.changes();
        let count = |name: &str| changes.iter().filter(|it| *it == name).count();
        assert!(
            count("patch deployments/front") <= 1,
            "{seed}: {changes:?}\n{log}"
        );
        assert!(
            count("create jobs/migrate") <= 1,
            "{seed}: {changes:?}\n{log}"
        );
        match line.as_str() {
            "deploy.web succeeded" => {
                worked += 1;
                assert_eq!(count("patch deployments/front"), 1, "{seed}");
            }
            // Too much of it is the weather's fault, and is told as such.
            line => assert!(
                line.starts_with("deploy.web errored: kubernetes `cluster` "),
                "{seed}: {line}\n{log}"
            ),
        }
        // The next run in good weather brings it to its end.
        fake.weather(seed, 0);
        let again = flow.run("release").await;
        let (line, log) = told(&flow, &again);
        let fine = ["deploy.web succeeded", "deploy.web up-to-date"];
        assert!(fine.contains(&line.as_str()), "{seed}: {line}\n{log}");
        fake.clean();
    }
    assert!(worked >= 40, "{worked} of 60 worked");
}
