//! Writing a bump: edit the tip, commit, push, and once more if somebody was faster.

use std::collections::BTreeMap;

use super::commit::Words;
use super::edits::{Edit, apply, paths, short_commit};
use super::guard::Change;
use super::undo::Undo;
use super::{Bump, KEY, remember};
use crate::ports::Retry;
use crate::ports::vcs::{PushOutcome, Remote, VcsError};
use crate::stage::push::backoff;
use crate::stage::{Done, Failure, StageContext};

/// How often somebody else may be faster before we give up.
pub(super) const RACES: u32 = 10;

pub(super) fn pushed(remote: &Remote, commit: &str) -> Done {
    Done::succeeded(format!(
        "pushed {} to {}",
        short_commit(commit),
        remote.branch
    ))
    .output("commit", commit)
    .output("changed", "true")
}

/// What is to be written.
pub(super) struct Job {
    pub(super) edits: Vec<Edit>,
    pub(super) words: Words,
    /// What it takes back, if it is for that.
    pub(super) undo: Option<Undo>,
}

impl Job {
    /// What is recorded before and after the push.
    pub(super) fn detail(
        &self,
        remote: &Remote,
        commit: &str,
        changes: &[Change],
    ) -> BTreeMap<String, String> {
        let changes = serde_json::to_string(changes).unwrap_or_default();
        // A token that ends up in the journal would stay there; addresses have none (checked).
        BTreeMap::from([
            ("commit".to_owned(), commit.to_owned()),
            ("branch".to_owned(), remote.branch.clone()),
            ("url".to_owned(), remote.url.clone()),
            ("subject".to_owned(), self.words.subject().to_owned()),
            ("changes".to_owned(), changes),
        ])
    }
}

impl Bump {
    pub(super) async fn write(
        &self,
        cx: &StageContext<'_>,
        remote: &Remote,
        job: &Job,
    ) -> Result<Done, Failure> {
        let vcs = &cx.world.vcs;
        let mut tries = 0;
        loop {
            tries += 1;
            let (commit, changes) = match self.attempt(cx, remote, job).await {
                Ok(Attempt::Failed(failure)) => return Err(failure),
                Ok(Attempt::UpToDate(commit)) => {
                    if job.undo.is_some() {
                        remember(cx, remote, &commit, &[], job.undo.as_ref());
                    }
                    return Ok(Done::up_to_date(format!(
                        "{} has these values at {}",
                        remote.branch,
                        short_commit(&commit)
                    ))
                    .output("commit", commit)
                    .output("changed", "false"));
                }
                Ok(Attempt::Commit(commit, changes)) => (commit, changes),
                Err(error) => {
                    self.again(cx, tries, error).await?;
                    continue;
                }
            };
            if cx.cancel.is_cancelled() {
                return Err(Failure::cancelled("cancelled: nothing was pushed"));
            }
            let detail = job.detail(remote, &commit, &changes);
            cx.effects.intend(KEY, detail.clone()).await?;
            match vcs.push(remote, &commit).await {
                Ok(PushOutcome::Pushed) => {
                    for change in &changes {
                        cx.say(format!(
                            "{} {}: {} → {}",
                            change.file, change.path, change.before, change.after
                        ));
                    }
                    remember(cx, remote, &commit, &changes, job.undo.as_ref());
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
                        remember(cx, remote, &commit, &changes, job.undo.as_ref());
                        cx.effects.done(KEY, detail).await?;
                        return Ok(pushed(remote, &commit));
                    }
                    self.again(cx, tries, error).await?;
                }
            }
        }
    }

    /// Edits the tip and commits, locally.
    async fn attempt(
        &self,
        cx: &StageContext<'_>,
        remote: &Remote,
        job: &Job,
    ) -> Result<Attempt, VcsError> {
        let vcs = &cx.world.vcs;
        let snapshot = vcs.snapshot(remote, &paths(&job.edits)).await?;
        let edited = match apply(&job.edits, &snapshot) {
            Ok(edited) => edited,
            Err(failure) => return Ok(Attempt::Failed(failure)),
        };
        if edited.files.is_empty() {
            return Ok(Attempt::UpToDate(snapshot.commit));
        }
        let readers = &cx.world.readers;
        if let Err(failure) = self.guard(readers, remote, job, &edited.changes).await {
            return Ok(Attempt::Failed(failure));
        }
        let time = cx.values.commit.time;
        let commit = job.words.commit(snapshot.commit, edited.files, time);
        let commit = vcs.commit(remote, &commit).await?;
        Ok(Attempt::Commit(commit, edited.changes))
    }

    /// Waits before the next try, or gives up.
    pub(super) async fn again(
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

    pub(super) async fn wait(
        &self,
        cx: &StageContext<'_>,
        time: std::time::Duration,
    ) -> Result<(), Failure> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = cx.cancel.cancelled() => Err(Failure::cancelled("cancelled: nothing was pushed")),
        }
    }
}

enum Attempt {
    UpToDate(String),
    Commit(String, Vec<Change>),
    Failed(Failure),
}
