//! Whatever goes wrong on the way, in any order: in the end there is one pull request of a release,
//! with all that was asked for, and nothing was said or made twice.

use std::time::Duration;

use pipewright::adapters::sim::{CALLS, Failure, Fault};
use pipewright::ports::forge::PullState;

use super::{PER_RELEASE, URL, prepared};

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// All calls of a port.
fn calls_of(port: &'static str) -> impl Iterator<Item = &'static str> {
    let calls = CALLS.iter().copied();
    calls.filter(move |call| call.split('.').next() == Some(port))
}

/// Changes that are looked for before they are made again.
const LOOKED_FOR: &[&str] = &["forge.create", "forge.comment", "vcs.put-branch"];

fn fault(dice: &mut Dice) -> (&'static str, Fault) {
    let forge: Vec<&str> = calls_of("forge").collect();
    let all: Vec<&str> = calls_of("forge").chain(calls_of("vcs")).collect();
    let times = 1 + dice.below(2) as u32;
    match dice.below(6) {
        0 => (dice.one_of(&all), Fault::CrashBefore),
        1 => (dice.one_of(&all), Fault::CrashAfter),
        2 => {
            let with = Failure::Broken;
            (dice.one_of(LOOKED_FOR), Fault::LoseAnswer { times, with })
        }
        3 => {
            // Only a forge says that it wants less of us.
            let with = Failure::Throttled(Some(Duration::from_secs(3)));
            (dice.one_of(&forge), Fault::Fail { times, with })
        }
        _ => {
            let with = Failure::Broken;
            (dice.one_of(&all), Fault::Fail { times, with })
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_pull_request_comes_out() {
    let (mut met, mut deaths) = (0, 0);
    for seed in 0..300 {
        let mut dice = Dice(seed * 7919 + 1);
        let (branch, more, earlier) = dice.one_of(&[
            (PER_RELEASE, "reviewer ann", true),
            (PER_RELEASE, "auto-merge; wait merged", false),
            (PER_RELEASE, "wait checks", true),
            ("releases", "reviewer ann", true),
        ]);
        let flow = prepared(branch, more, earlier).await;
        let faults: Vec<_> = (0..3).map(|_| fault(&mut dice)).collect();
        for (call, fault) in &faults {
            flow.sim.on(call, fault.clone());
        }
        let case = format!("{seed}: {branch} {more} {faults:?}");
        let mut told = Vec::new();
        for _ in 0..4 {
            let mut life = flow.life();
            let run = flow.create(&life, "p").await;
            for _ in 0..8 {
                let died = tokio::select! {
                    ended = flow.go(&life, &run) => { ended.expect("it ends"); false }
                    () = flow.sim.crashed() => true,
                };
                if !died {
                    break;
                }
                deaths += 1;
                drop(life);
                flow.sim.restart();
                life = flow.life();
            }
            life.end().await;
            told = flow.told(&run);
            if told.last().is_some_and(|last| last != "= errored") {
                break;
            }
        }
        let ended = told.last().map(String::as_str);
        assert!(
            matches!(ended, Some("= succeeded" | "= up-to-date")),
            "{case}: {told:?}"
        );
        met += faults.len() - flow.sim.unspent().len().min(faults.len());
        let pulls = flow.sim.pull_requests(URL);
        let per_release = branch == PER_RELEASE;
        let expected = if earlier && per_release { 2 } else { 1 };
        assert_eq!(pulls.len(), expected, "{case}: {pulls:#?}");
        let last = &pulls[expected - 1];
        assert_eq!(last.labels, ["release"], "{case}");
        match more {
            "auto-merge; wait merged" => {
                assert!(
                    matches!(last.state, PullState::Merged(_)),
                    "{case}: {last:#?}"
                );
            }
            _ => assert_eq!(last.state, PullState::Open, "{case}"),
        }
        let comments = flow.sim.pull_request_comments(1);
        assert_eq!(
            comments.len(),
            usize::from(earlier),
            "{case}: {comments:#?}"
        );
        flow.clean();
    }
    assert!(
        met > 150 && deaths > 30,
        "{met} faults met, {deaths} deaths"
    );
}
