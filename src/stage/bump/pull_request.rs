//! A bump by pull request: a branch with the change, and one pull request that asks for it.
//!
//! Looks first every time, so that whatever an earlier attempt did is found and not done again.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use super::edits::{apply, paths};
use super::pull_look::{Look, Step, address, branch_of, has, has_words, newest};
use super::pull_text::{Wanted, difference};
use super::pull_wait::Ended;
use super::write::{Job, RACES};
use super::{Bump, KEY, memory, remember};
use crate::base::{Diagnostic, parse_duration};
use crate::lang::spec::{Args, NodeSpec, PropSpec, Type};
use crate::lang::{Node, Template};
use crate::ports::Retry;
use crate::ports::forge::{
    ForgeError, Hosted, MergeMethod, NewPullRequest, PullRequest, PullState, Software,
};
use crate::ports::vcs::{PushOutcome, Remote};
use crate::stage::push::backoff;
use crate::stage::{CheckContext, Done, Failure, Lowering, StageContext, Values};

const TITLE: NodeSpec = NodeSpec::field(
    "title",
    Type::Text,
    "Title; the first line of the commit message if absent. Cut at 255 characters.",
);
const BODY: NodeSpec = NodeSpec::field(
    "body",
    Type::Text,
    "What its description begins with; the rest of the commit message if absent. The difference follows.",
);
const LABEL: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "label"),
    ..NodeSpec::new("label", "Labels of the pull request.")
};
const REVIEWER: NodeSpec = NodeSpec {
    args: Args::some(Type::Text, "reviewer"),
    ..NodeSpec::new(
        "reviewer",
        "Users to ask for a review when it is opened, and teams: `acme/platform`.",
    )
};
const DRAFT: NodeSpec = NodeSpec::new("draft", "Open it as a draft.");
const AUTO_MERGE: NodeSpec = NodeSpec {
    props: &[PropSpec::new(
        "method",
        Type::OneOf(&["merge", "squash", "rebase"]),
        "how it is merged; by a merge commit if absent",
    )],
    ..NodeSpec::new(
        "auto-merge",
        "Have the forge merge it once its checks pass.",
    )
};
const WAIT: NodeSpec = NodeSpec {
    args: Args::one(Type::OneOf(&["merged", "checks"]), "what"),
    props: &[PropSpec::new(
        "timeout",
        Type::Duration,
        "longest wait; a day for a merge and an hour for checks if absent",
    )],
    ..NodeSpec::new("wait", "Wait until it is merged, or its checks passed.")
};
const KEEP: NodeSpec = NodeSpec::new(
    "keep-superseded",
    "Leave earlier pull requests of this bump open. Otherwise they are closed with a comment that names the new one.",
);
pub(super) const PULL_REQUEST: NodeSpec = NodeSpec {
    args: Args::one(Type::Text, "branch"),
    children: &[
        &TITLE,
        &BODY,
        &LABEL,
        &REVIEWER,
        &DRAFT,
        &AUTO_MERGE,
        &WAIT,
        &KEEP,
    ],
    ..NodeSpec::new(
        "pull-request",
        "Commit to a branch of this name and open or update a pull request.",
    )
};

/// The key under which the journal knows that we opened one.
const OPENED: &str = "pull-request";

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Merged,
    Checks,
}

/// `pull-request` as it is written.
#[derive(Debug)]
pub(super) struct PullSpec {
    pub(super) branch: Template,
    pub(super) title: Option<Template>,
    pub(super) body: Option<Template>,
    pub(super) labels: Vec<Template>,
    pub(super) reviewers: Vec<Template>,
    pub(super) draft: bool,
    pub(super) auto_merge: Option<MergeMethod>,
    pub(super) wait: Option<(Wait, Duration)>,
    pub(super) keep_superseded: bool,
}

impl PullSpec {
    pub(super) fn lower(cx: &Lowering<'_>, node: &Node) -> Option<Self> {
        let all = |name: &str| -> Vec<Template> {
            let children = node.children_named(name);
            let values = children.flat_map(|child| &child.args);
            values.map(|value| cx.template(value)).collect()
        };
        let wait = node.child("wait").and_then(|wait| {
            let (what, default) = match wait.args.first()?.as_str()? {
                "merged" => (Wait::Merged, 24),
                _ => (Wait::Checks, 1),
            };
            let said = wait.prop("timeout").and_then(|value| value.as_str());
            let timeout = said.and_then(parse_duration);
            Some((what, timeout.unwrap_or(Duration::from_secs(default * 3600))))
        });
        Some(Self {
            branch: cx.template(node.args.first()?),
            title: cx.child_template(node, "title"),
            body: cx.child_template(node, "body"),
            labels: all("label"),
            reviewers: all("reviewer"),
            draft: node.flag("draft"),
            auto_merge: node.child("auto-merge").map(|node| {
                match node.prop("method").and_then(|method| method.as_str()) {
                    Some("squash") => MergeMethod::Squash,
                    Some("rebase") => MergeMethod::Rebase,
                    _ => MergeMethod::Merge,
                }
            }),
            wait,
            keep_superseded: node.flag("keep-superseded"),
        })
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        std::iter::once(&self.branch)
            .chain(&self.title)
            .chain(&self.body)
            .chain(&self.labels)
            .chain(&self.reviewers)
    }

    /// Whether it is waited for until it is merged.
    pub(super) fn is_merged(&self) -> bool {
        matches!(self.wait, Some((Wait::Merged, _)))
    }

    pub(super) fn waits(&self) -> bool {
        self.wait.is_some()
    }
}

impl Bump {
    pub(super) fn check_pull(
        &self,
        pull: &PullSpec,
        cx: &CheckContext<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let Some(repo) = &self.declared else {
            return; // Reported as such.
        };
        let name = &self.repo.value;
        let (message, help) = match (&repo.forge, &self.forge) {
            (None, _) => (
                format!("a pull request needs a forge, and repo `{name}` names none"),
                format!("declare a `forge` and write `repo {name} … forge=NAME`"),
            ),
            (Some(forge), Some(decl)) if decl.login.is_none() => (
                format!(
                    "nobody opens a pull request without signing in to forge `{}`",
                    forge.value
                ),
                "give the forge a `token` or an `app`".to_owned(),
            ),
            _ => return,
        };
        diagnostics
            .push(Diagnostic::error("PW0017", message, cx.source, pull.branch.span).help(help));
    }

    pub(super) async fn hosted(&self, values: &Values) -> Result<Hosted, Failure> {
        let repo = self.declared.as_ref().ok_or_else(|| {
            Failure::failed(format!("repo `{}` is not declared", self.repo.value))
        })?;
        Ok(values.hosted(repo).await?)
    }

    /// Brings the branch and its pull request to what is wanted, and waits for it if it is to.
    pub(super) async fn propose(
        &self,
        cx: &StageContext<'_>,
        spec: &PullSpec,
        job: &Job,
    ) -> Result<Done, Failure> {
        let hosted = self.hosted(cx.values).await?;
        if let Some(undo) = &job.undo
            && let Some(done) = self.withdraw(cx, spec, &hosted, undo).await?
        {
            return Ok(done);
        }
        let wanted = self.wanted(cx.values, cx.stage, spec, job).await?;
        let mut began = None;
        // The commit whose push we have not heard of, by this attempt or an earlier one.
        let mut intended = cx
            .intended(KEY)
            .and_then(|effect| effect.intent.get("commit").cloned());
        // What an earlier attempt of this run did is a change of this run too.
        let mut changed = [KEY, OPENED].iter().any(|key| cx.intended(key).is_some());
        for tries in 1..=RACES {
            // Anew each time: the token of an app runs out.
            let base = self.remote(cx.values).await?;
            let readers = &cx.world.readers;
            let looked = self.look(readers, &hosted, &base, job, &wanted, intended.as_deref());
            let look = match looked.await {
                Err(failure) if failure.outcome == crate::event::Outcome::Errored && tries < 4 => {
                    cx.say(format!("{failure}; trying again"));
                    self.wait(cx, backoff(tries, readers.clock.random()))
                        .await?;
                    continue;
                }
                look => look?,
            };
            let Some(step) = look.step.clone() else {
                if job.undo.is_some() {
                    remember(cx, &base, &look.commit, &[], job.undo.as_ref());
                }
                return Ok(settled(spec, &base, look, changed));
            };
            let (commit, pushed) = self
                .push_branch(cx, &base, job, &wanted, &look, step)
                .await?;
            let Some(pushed) = pushed else {
                intended = Some(commit);
                cx.say(format!("{} moved under us; looking again", wanted.branch));
                self.wait(cx, backoff(tries.min(3), readers.clock.random()))
                    .await?;
                continue;
            };
            let pushed = pushed || intended.as_deref() == Some(&commit);
            let commit = (commit, pushed);
            changed |= commit.1;
            let pull = self.pull_request(cx, &hosted, &base, &wanted, &look, &commit);
            let (pull, fresh) = pull.await?;
            changed |= fresh;
            if job.undo.is_some() {
                // What is taken back must not be asked for again by itself, merged or not.
                remember(cx, &base, &commit.0, &[], job.undo.as_ref());
            }
            if !spec.keep_superseded {
                let differs = &look.edited.diff;
                let closed = self.supersede(cx, &hosted, &base, &wanted, &pull, differs);
                changed |= closed.await?;
            }
            let Some((what, timeout)) = spec.wait else {
                let note = match changed {
                    true => {
                        return Ok(done(
                            Done::succeeded(format!("asked for by {}", pull.url)),
                            &pull,
                            true,
                        ));
                    }
                    false => format!("{} is open with these values", pull.url),
                };
                return Ok(done(Done::up_to_date(note), &pull, false));
            };
            let deadline = *began.get_or_insert_with(tokio::time::Instant::now) + timeout;
            match self.wait_for(cx, &hosted, &pull, what, deadline).await? {
                Ended::Passed(note) => return Ok(done(Done::succeeded(note), &pull, changed)),
                Ended::Merged(merge) => {
                    let merge = match merge {
                        Some(commit) => commit,
                        None => cx.world.vcs.tip(&base).await?.unwrap_or(commit.0),
                    };
                    remember(cx, &base, &merge, &look.edited.changes, job.undo.as_ref());
                    self.tidy(cx, &branch_of(&base, &wanted)).await;
                    let note = format!("{} was merged", pull.url);
                    let done = done(Done::succeeded(note), &pull, true);
                    return Ok(if spec.is_merged() {
                        done.output("commit", merge)
                    } else {
                        done
                    });
                }
                Ended::Conflicts => cx.say(format!(
                    "{} conflicts with {}; making it anew",
                    pull.url, base.branch
                )),
            }
        }
        Err(Failure::errored(format!(
            "{} of {} did not come to rest in {RACES} tries: others change it all the time, or it conflicts with its base and is not ours to make anew",
            wanted.branch, hosted.path
        )))
    }

    /// Brings the branch to what is wanted: its commit, and whether it was pushed; that is unknown
    /// if somebody else moved it meanwhile or the answer was lost.
    async fn push_branch(
        &self,
        cx: &StageContext<'_>,
        base: &Remote,
        job: &Job,
        wanted: &Wanted,
        look: &Look,
        step: Step,
    ) -> Result<(String, Option<bool>), Failure> {
        let vcs = &cx.world.vcs;
        let branch = branch_of(base, wanted);
        let time = cx.values.commit.time;
        let commit = match &step {
            Step::Keep(tip) => return Ok((tip.clone(), Some(false))),
            Step::Make(_) => {
                let files = look.edited.files.clone();
                let commit = job.words.commit(look.commit.clone(), files, time);
                vcs.commit(base, &commit).await?
            }
            Step::Add => {
                let there = vcs.snapshot(&branch, &paths(&job.edits)).await?;
                let edited = apply(&job.edits, &there)?;
                let commit = job.words.commit(there.commit, edited.files, time);
                vcs.commit(&branch, &commit).await?
            }
        };
        if let Step::Make(Some(tip)) = &step
            && *tip == commit
        {
            // It is what we would make; a conflict is not ours to solve.
            return Ok((commit, Some(false)));
        }
        if cx.cancel.is_cancelled() {
            return Err(Failure::cancelled("cancelled: nothing was pushed"));
        }
        let detail = job.detail(&branch, &commit, &look.edited.changes);
        cx.effects.intend(KEY, detail.clone()).await?;
        let pushed = match &step {
            Step::Make(tip) => vcs.put_branch(&branch, &commit, tip.as_deref()).await,
            _ => vcs.push(&branch, &commit).await,
        };
        match pushed {
            Ok(PushOutcome::Pushed) => {}
            Ok(PushOutcome::Raced) => return Ok((commit, None)),
            // The answer may have been lost on the way back: looking again tells.
            Err(error) if matches!(error.retry(), Retry::After(_)) => {
                cx.say(format!("{error}; looking again"));
                return Ok((commit, None));
            }
            Err(error) => return Err(error.into()),
        }
        if let Err(error) = memory::leave_at(&*cx.world.store, &branch, &commit) {
            cx.say(format!("the branch is not remembered as ours: {error}"));
        }
        cx.effects.done(KEY, detail).await?;
        for change in &look.edited.changes {
            cx.say(format!(
                "{} {}: {} → {}",
                change.file, change.path, change.before, change.after
            ));
        }
        Ok((commit, Some(true)))
    }

    /// Brings the pull request to what is wanted; whether that took a change.
    async fn pull_request(
        &self,
        cx: &StageContext<'_>,
        hosted: &Hosted,
        base: &Remote,
        wanted: &Wanted,
        look: &Look,
        (commit, pushed): &(String, bool),
    ) -> Result<(PullRequest, bool), Failure> {
        let forge = &cx.world.forge;
        let body = wanted.body(&look.edited);
        let ours = cx.intended(OPENED).is_some();
        let (mut pull, opened) = match look.open() {
            Some(pull) => (pull.clone(), false),
            None => {
                let new = NewPullRequest {
                    head: wanted.branch.clone(),
                    base: base.branch.clone(),
                    title: wanted.title.clone(),
                    body: body.clone(),
                    draft: wanted.draft,
                };
                let mut detail = facts(&[
                    ("head", &new.head),
                    ("base", &new.base),
                    ("title", &new.title),
                ]);
                cx.effects.intend(OPENED, detail.clone()).await?;
                let pull = self.create(cx, hosted, &new).await?;
                detail.extend(facts(&[("url", &pull.url)]));
                cx.effects.done(OPENED, detail).await?;
                cx.say(format!("opened {}", pull.url));
                (pull, true)
            }
        };
        let mut changed = opened;
        if !has_words(&pull, &wanted.title, &body) {
            self.ask(cx, || forge.update(hosted, &pull, &wanted.title, &body))
                .await?;
            cx.say(format!("updated {}", pull.url));
            changed = true;
        }
        if !opened && !ours && *pushed {
            // Whoever looked at it before is told what it asks for now.
            let words = format!("Now asks for this, as of {commit}:");
            let text = format!("{words}\n\n{}\n", difference(&look.edited.diff));
            self.tell(cx, hosted, pull.number, &words, &text).await?;
        }
        let missing = |all: &[String], have: &[String]| -> Vec<String> {
            all.iter()
                .filter(|name| !has(have, name))
                .cloned()
                .collect()
        };
        let labels = missing(&wanted.labels, &pull.labels);
        if !labels.is_empty() {
            self.ask(cx, || forge.label(hosted, &pull, &labels)).await?;
            changed = true;
        }
        // Whoever gave a review is not asked again by every run.
        let reviewers = missing(&wanted.reviewers, &pull.reviewers);
        if (opened || ours) && !reviewers.is_empty() {
            match self.ask(cx, || forge.ask(hosted, &pull, &reviewers)).await {
                // The change is asked for all the same.
                Err(failure) if failure.outcome == crate::event::Outcome::Failed => {
                    cx.say(format!("warning: {failure}"));
                }
                result => result?,
            }
            changed = true;
        }
        if let Some(method) = wanted.auto_merge
            && !pull.auto_merge
        {
            if hosted.site.software == Software::GitLab {
                // It refuses to merge what it has not looked at yet.
                for _ in 0..10 {
                    let now = self
                        .ask(cx, || forge.pull_request(hosted, pull.number))
                        .await?;
                    if now.conflicts.is_some() {
                        break;
                    }
                    self.wait(cx, Duration::from_secs(1)).await?;
                }
            }
            pull.head_commit.clone_from(commit);
            let key = "auto-merge";
            let detail = facts(&[("url", &pull.url), ("commit", commit)]);
            cx.effects.intend(key, detail.clone()).await?;
            if let Err(failure) = self
                .ask(cx, || forge.auto_merge(hosted, &pull, method))
                .await
            {
                // A call whose answer was lost may have merged it, which a second one is refused.
                let now = self
                    .ask(cx, || forge.pull_request(hosted, pull.number))
                    .await?;
                if !now.auto_merge && !matches!(now.state, PullState::Merged(_)) {
                    return Err(failure);
                }
            }
            cx.effects.done(key, detail).await?;
            changed = true;
        }
        Ok((pull, changed))
    }

    /// Opens a pull request, once, even if answers get lost.
    async fn create(
        &self,
        cx: &StageContext<'_>,
        hosted: &Hosted,
        new: &NewPullRequest,
    ) -> Result<PullRequest, Failure> {
        let forge = &cx.world.forge;
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match forge.create(hosted, new).await {
                Ok(pull) => return Ok(pull),
                Err(error) => error,
            };
            let exists = matches!(error, ForgeError::Exists { .. });
            if !exists {
                self.pause(cx, tries, &error).await?;
            }
            let found = self
                .ask(cx, || forge.find(hosted, &new.head, &new.base))
                .await?;
            match newest(found).filter(|pull| pull.state == PullState::Open) {
                Some(pull) => return Ok(pull),
                None if exists => return Err(error.into()),
                None => {}
            }
        }
    }

    /// Makes a call that may be made twice, as often as it takes.
    pub(super) async fn ask<T, F>(
        &self,
        cx: &StageContext<'_>,
        call: impl Fn() -> F + Send + Sync,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, ForgeError>> + Send,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) => self.pause(cx, tries, &error).await?,
            }
        }
    }

    /// Waits before another try, or gives up.
    pub(super) async fn pause(
        &self,
        cx: &StageContext<'_>,
        tries: u32,
        error: &ForgeError,
    ) -> Result<(), Failure> {
        match error.retry() {
            Retry::After(wait) if tries < RACES => {
                let random = cx.world.readers.clock.random();
                let wait = wait.unwrap_or_else(|| backoff(tries, random));
                cx.say(format!(
                    "{error}; trying again in {}",
                    crate::base::human_duration(wait)
                ));
                self.wait(cx, wait).await
            }
            _ => Err(error.clone().into()),
        }
    }
}

pub(super) fn facts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

pub(super) fn done(done: Done, pull: &PullRequest, changed: bool) -> Done {
    done.output("pull-request", &pull.url)
        .output("changed", changed.to_string())
}

/// The base has the values.
fn settled(spec: &PullSpec, base: &Remote, look: Look, changed: bool) -> Done {
    let note = format!(
        "{} has these values at {}",
        base.branch,
        super::short_commit(&look.commit)
    );
    let done = match changed {
        true => Done::succeeded(note),
        false => Done::up_to_date(note),
    };
    let done = done
        .output("pull-request", address(look.last.as_ref()))
        .output("changed", changed.to_string());
    match spec.is_merged() {
        true => done.output("commit", look.commit),
        false => done,
    }
}
