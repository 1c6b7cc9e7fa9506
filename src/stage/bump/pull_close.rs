//! What becomes of pull requests that are done with: earlier ones are closed, one that is taken back
//! before anybody merged it is withdrawn, and the branch of a merged one is removed.

use super::pull_look::newest;
use super::pull_request::{PullSpec, done, facts};
use super::pull_text::{Wanted, difference};
use super::undo::Undo;
use super::{Bump, memory, remember};
use crate::ports::Readers;
use crate::ports::forge::{Hosted, PullRequest, PullState};
use crate::ports::vcs::{PushOutcome, Remote};
use crate::stage::{Done, Failure, StageContext};

impl Bump {
    /// Closes earlier pull requests of the same bump; whether there were any. Their branches stay:
    /// an older run that is repeated knows by them that it was closed, and does not ask again.
    pub(super) async fn supersede(
        &self,
        cx: &StageContext<'_>,
        hosted: &Hosted,
        base: &Remote,
        wanted: &Wanted,
        pull: &PullRequest,
        diff: &str,
    ) -> Result<bool, Failure> {
        let forge = &cx.world.forge;
        let open = self.ask(cx, || forge.open(hosted, &base.branch)).await?;
        let mut any = false;
        for old in open {
            // An older run that is repeated must not close what came after it.
            if old.number >= pull.number || !old.body.contains(&wanted.mark) {
                continue;
            }
            any = true;
            let words = format!("Superseded by {}", pull.url);
            let text = format!("{words}, which asks for this:\n\n{}\n", difference(diff));
            self.close(cx, hosted, &old, &words, &text).await?;
            cx.say(format!("closed {}, superseded by {}", old.url, pull.url));
        }
        Ok(any)
    }

    /// Says why and closes, each of it once.
    async fn close(
        &self,
        cx: &StageContext<'_>,
        hosted: &Hosted,
        old: &PullRequest,
        words: &str,
        text: &str,
    ) -> Result<(), Failure> {
        let key = format!("close-{}", old.number);
        let detail = facts(&[("url", &old.url), ("why", words)]);
        cx.effects.intend(&key, detail.clone()).await?;
        self.tell(cx, hosted, old.number, words, text).await?;
        let forge = &cx.world.forge;
        self.ask(cx, || forge.close(hosted, old.number)).await?;
        cx.effects.done(&key, detail).await?;
        Ok(())
    }

    /// Comments, unless a comment has these words already.
    pub(super) async fn tell(
        &self,
        cx: &StageContext<'_>,
        hosted: &Hosted,
        number: u64,
        words: &str,
        text: &str,
    ) -> Result<(), Failure> {
        let forge = &cx.world.forge;
        let mut tries = 0;
        while !self
            .ask(cx, || forge.has_comment(hosted, number, words))
            .await?
        {
            tries += 1;
            match forge.comment(hosted, number, text).await {
                Ok(()) => break,
                Err(error) => self.pause(cx, tries, &error).await?,
            }
        }
        Ok(())
    }

    /// The pull request of what is to be taken back, if nobody merged it so far.
    pub(super) async fn unmerged(
        &self,
        readers: &Readers,
        hosted: &Hosted,
        base: &Remote,
        undo: &Undo,
    ) -> Result<Option<PullRequest>, Failure> {
        if undo.branch.is_empty() || undo.branch == base.branch {
            return Ok(None);
        }
        let found = readers.forge.find(hosted, &undo.branch, &base.branch);
        let last = newest(found.await?);
        Ok(last.filter(|pull| pull.state == PullState::Open))
    }

    /// Closes the pull request of what is to be taken back; nothing if it is merged.
    pub(super) async fn withdraw(
        &self,
        cx: &StageContext<'_>,
        spec: &PullSpec,
        hosted: &Hosted,
        undo: &Undo,
    ) -> Result<Option<Done>, Failure> {
        let base = self.remote(cx.values).await?;
        let readers = &cx.world.readers;
        let Some(pull) = self.unmerged(readers, hosted, &base, undo).await? else {
            return Ok(None);
        };
        let words = format!("Taken back by run {} before it was merged.", cx.run);
        self.close(cx, hosted, &pull, &words, &words).await?;
        let tip = cx.world.vcs.tip(&base).await?.unwrap_or_default();
        remember(cx, &base, &tip, &[], Some(undo));
        let note = format!("closed {}, which nobody had merged", pull.url);
        cx.say(&note);
        let done = done(Done::succeeded(note), &pull, true);
        Ok(Some(match spec.is_merged() {
            true => done.output("commit", tip),
            false => done,
        }))
    }

    /// Removes the branch of a merged pull request if it still is as we left it. It is merged all the
    /// same, so that trouble is only told.
    pub(super) async fn tidy(&self, cx: &StageContext<'_>, branch: &Remote) {
        let Ok(Some(left)) = memory::left_at(&*cx.world.store, branch) else {
            return;
        };
        match cx.world.vcs.remove_branch(branch, &left).await {
            Ok(PushOutcome::Pushed) => cx.say(format!("removed branch {}", branch.branch)),
            Ok(PushOutcome::Raced) => cx.say(format!(
                "branch {} stays: somebody else wrote to it",
                branch.branch
            )),
            Err(error) => cx.say(format!("branch {} stays: {error}", branch.branch)),
        }
    }
}
