//! Waiting for a pull request: for its merge, or for its checks.

use std::time::Duration;

use tokio::time::Instant;

use super::Bump;
use super::pull_look::closed;
use super::pull_request::Wait;
use crate::event::Outcome;
use crate::ports::forge::{Checks, Hosted, PullRequest, PullState};
use crate::ports::{Progress, ProgressState};
use crate::stage::{Failure, StageContext};

const FIRST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(30);
/// Checks that have not shown up by then do not exist.
const NO_CHECKS: Duration = Duration::from_secs(60);

/// How a wait ended well.
pub(super) enum Ended {
    /// It was merged, as this commit if the forge says so.
    Merged(Option<String>),
    /// Its checks passed; a note.
    Passed(String),
    /// It cannot be merged as it is.
    Conflicts,
}

impl Bump {
    pub(super) async fn wait_for(
        &self,
        cx: &StageContext<'_>,
        hosted: &Hosted,
        pull: &PullRequest,
        what: Wait,
        deadline: Instant,
    ) -> Result<Ended, Failure> {
        let forge = &cx.world.forge;
        let began = Instant::now();
        let mut pause = FIRST;
        let mut said = String::new();
        loop {
            let now = self
                .ask(cx, || forge.pull_request(hosted, pull.number))
                .await?;
            match &now.state {
                PullState::Merged(commit) => return Ok(Ended::Merged(commit.clone())),
                PullState::Closed(who) => return Err(closed(Some(&now), who.as_deref())),
                PullState::Open => {}
            }
            if now.conflicts == Some(true) {
                return Ok(Ended::Conflicts);
            }
            let checks = match self.ask(cx, || forge.checks(hosted, &now)).await {
                // They are only told of while the merge is waited for, and a token that may merge
                // need not be one that may see them.
                Err(failure) if what == Wait::Merged && failure.outcome == Outcome::Failed => {
                    Checks::None
                }
                checks => checks?,
            };
            let line = match (&checks, what) {
                (Checks::Passed(count), Wait::Checks) => {
                    return Ok(Ended::Passed(format!(
                        "{count} checks of {} passed",
                        now.url
                    )));
                }
                (Checks::None, Wait::Checks) if began.elapsed() >= NO_CHECKS => {
                    return Ok(Ended::Passed(format!("{} has no checks", now.url)));
                }
                (Checks::Failed(names), Wait::Checks) => {
                    return Err(Failure::failed(format!(
                        "checks of {} failed: {}",
                        now.url,
                        names.join(", ")
                    )));
                }
                (Checks::Failed(names), _) => format!("checks failed: {}", names.join(", ")),
                (Checks::Pending(names), _) => format!("checks to come: {}", names.join(", ")),
                (Checks::None, Wait::Checks) => "no checks so far".to_owned(),
                _ => "to be merged".to_owned(),
            };
            if line != said {
                cx.say(format!("waiting for {}: {line}", now.url));
                said.clone_from(&line);
            }
            cx.output.progress(Progress {
                id: "pull-request".to_owned(),
                label: format!("#{}: {line}", now.number),
                done: 0,
                total: None,
                state: ProgressState::Running,
            });
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::timed_out(format!(
                    "{} was waited for long enough ({line}); it stays open",
                    now.url
                )));
            }
            tokio::select! {
                () = tokio::time::sleep(pause.min(left)) => {}
                () = cx.cancel.cancelled() => {
                    return Err(Failure::cancelled(format!("cancelled; {} stays open", now.url)));
                }
            }
            pause = (pause * 2).min(LONGEST);
        }
    }
}
