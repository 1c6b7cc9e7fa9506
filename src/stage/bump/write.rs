//! Writing a bump: edit the tip, commit, push, and once more if somebody was faster.

use std::collections::BTreeMap;

use super::edits::{Edit, apply, paths, short_commit};
use super::{Bump, KEY};
use crate::ports::Retry;
use crate::ports::vcs::{NewCommit, PushOutcome, Remote, VcsError};
use crate::stage::push::backoff;
use crate::stage::{Done, Failure, StageContext};

/// How often somebody else may be faster before we give up.
const RACES: u32 = 10;

pub(super) fn pushed(remote: &Remote, commit: &str) -> Done {
    Done::succeeded(format!(
        "pushed {} to {}",
        short_commit(commit),
        remote.branch
    ))
    .output("commit", commit)
    .output("changed", "true")
}

impl Bump {
    pub(super) async fn write(
        &self,
        cx: &StageContext<'_>,
        remote: &Remote,
        edits: &[Edit],
        identity: (String, String),
        message: String,
    ) -> Result<Done, Failure> {
        let vcs = &cx.world.vcs;
        let paths = paths(edits);
        // A token that ends up in the journal would stay there; addresses have none (checked).
        let mut tries = 0;
        loop {
            tries += 1;
            let attempt = async {
                let snapshot = vcs.snapshot(remote, &paths).await?;
                let edited = match apply(edits, &snapshot) {
                    Ok(edited) => edited,
                    Err(failure) => return Ok(Attempt::Failed(failure)),
                };
                if edited.files.is_empty() {
                    return Ok(Attempt::UpToDate(snapshot.commit));
                }
                let commit = NewCommit {
                    parent: snapshot.commit,
                    files: edited.files,
                    identity: identity.clone(),
                    message: message.clone(),
                    time: cx.values.commit.time,
                    signing: None,
                };
                let commit = vcs.commit(remote, &commit).await?;
                Ok::<_, VcsError>(Attempt::Commit(commit, edited.lines))
            };
            let (commit, lines) = match attempt.await {
                Ok(Attempt::Failed(failure)) => return Err(failure),
                Ok(Attempt::UpToDate(commit)) => {
                    return Ok(Done::up_to_date(format!(
                        "{} has these values at {}",
                        remote.branch,
                        short_commit(&commit)
                    ))
                    .output("commit", commit)
                    .output("changed", "false"));
                }
                Ok(Attempt::Commit(commit, lines)) => (commit, lines),
                Err(error) => {
                    self.again(cx, tries, error).await?;
                    continue;
                }
            };
            if cx.cancel.is_cancelled() {
                return Err(Failure::cancelled("cancelled: nothing was pushed"));
            }
            let detail = BTreeMap::from([
                ("commit".to_owned(), commit.clone()),
                ("branch".to_owned(), remote.branch.clone()),
                ("url".to_owned(), remote.url.clone()),
            ]);
            cx.effects.intend(KEY, detail.clone()).await?;
            match vcs.push(remote, &commit).await {
                Ok(PushOutcome::Pushed) => {
                    for line in lines {
                        cx.say(line);
                    }
                    cx.effects.done(KEY, detail).await?;
                    return Ok(pushed(remote, &commit));
                }
                Ok(PushOutcome::Raced) => {
                    if tries >= RACES {
                        return Err(Failure::errored(format!(
                            "somebody else was faster {RACES} times in a row on {} of {}; nothing was written",
                            remote.branch, remote.url
                        )));
                    }
                    cx.say(format!(
                        "{} moved under us; editing the new tip",
                        remote.branch
                    ));
                    self.wait(cx, backoff(tries.min(3), cx.world.readers.clock.random()))
                        .await?;
                }
                Err(error) => {
                    // The answer may have been lost on the way back although the push arrived.
                    if let Ok(true) = vcs.contains(remote, &commit).await {
                        cx.effects.done(KEY, detail).await?;
                        return Ok(pushed(remote, &commit));
                    }
                    self.again(cx, tries, error).await?;
                }
            }
        }
    }

    /// Waits before the next try, or gives up.
    async fn again(
        &self,
        cx: &StageContext<'_>,
        tries: u32,
        error: VcsError,
    ) -> Result<(), Failure> {
        match error.retry() {
            Retry::After(wait) if tries < RACES => {
                cx.say(format!("{error}; trying again"));
                self.wait(
                    cx,
                    wait.unwrap_or_else(|| backoff(tries, cx.world.readers.clock.random())),
                )
                .await
            }
            _ => Err(error.into()),
        }
    }

    async fn wait(&self, cx: &StageContext<'_>, time: std::time::Duration) -> Result<(), Failure> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = cx.cancel.cancelled() => Err(Failure::cancelled("cancelled: nothing was pushed")),
        }
    }
}

enum Attempt {
    UpToDate(String),
    Commit(String, Vec<String>),
    Failed(Failure),
}
