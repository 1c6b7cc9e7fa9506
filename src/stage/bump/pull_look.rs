//! What there is before a pull request is opened: the base, the branch, earlier pull requests. It
//! decides what is to be done and changes nothing.

use super::Bump;
use super::edits::{Edited, apply, paths, short_commit};
use super::memory;
use super::pull_request::PullSpec;
use super::pull_text::Wanted;
use super::write::Job;
use crate::ports::Readers;
use crate::ports::forge::{Hosted, PullRequest, PullState};
use crate::ports::vcs::Remote;
use crate::stage::{Failure, Forecast, PlanContext, Verdict};

/// What is to become of the branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It holds the values already, at this commit.
    Keep(String),
    /// It is made anew on the base; it is at this commit now, which is ours.
    Make(Option<String>),
    /// A commit is added to what is there.
    Add,
}

/// What there is.
pub(super) struct Look {
    /// The base's commit.
    pub(super) commit: String,
    /// The base with the edits made.
    pub(super) edited: Edited,
    /// The newest pull request of the branch.
    pub(super) last: Option<PullRequest>,
    /// What is to be done; nothing if the base has the values.
    pub(super) step: Option<Step>,
}

impl Look {
    /// The pull request, if it is open.
    pub(super) fn open(&self) -> Option<&PullRequest> {
        self.last
            .as_ref()
            .filter(|pull| pull.state == PullState::Open)
    }
}

impl Bump {
    /// Looks at everything. `intended` is the commit that this run was about to push before.
    pub(super) async fn look(
        &self,
        readers: &Readers,
        hosted: &Hosted,
        base: &Remote,
        job: &Job,
        wanted: &Wanted,
        intended: Option<&str>,
    ) -> Result<Look, Failure> {
        let branch = branch_of(base, wanted);
        if branch.branch == base.branch {
            return Err(Failure::failed(format!(
                "a pull request of {} into itself; name another branch",
                base.branch
            )));
        }
        let files = paths(&job.edits);
        let found = readers.forge.find(hosted, &branch.branch, &base.branch);
        let mut last = newest(found.await?);
        if let Some(open) = last.as_ref().filter(|pull| pull.state == PullState::Open) {
            last = Some(readers.forge.pull_request(hosted, open.number).await?);
        }
        // The base after the pull request: one that is merged meanwhile would seem to have brought
        // nothing.
        let snapshot = readers.vcs.snapshot(base, &files).await?;
        let edited = apply(&job.edits, &snapshot)?;
        let mut look = Look {
            commit: snapshot.commit,
            edited,
            last: None,
            step: None,
        };
        if look.edited.files.is_empty() {
            look.last = last;
            return Ok(look);
        }
        self.guard(readers, base, job, &look.edited.changes).await?;
        let Some(tip) = readers.vcs.tip(&branch).await? else {
            look.last = last;
            look.step = Some(Step::Make(None));
            return Ok(look);
        };
        let there = readers.vcs.snapshot(&branch, &files).await?;
        let same = apply(&job.edits, &there).is_ok_and(|edited| edited.files.is_empty());
        let left = memory::left_at(&*readers.store, &branch)
            .map_err(|error| Failure::errored(error.to_string()))?;
        let state = last.as_ref().map(|pull| &pull.state);
        let merged = matches!(state, Some(PullState::Merged(_)))
            && last.as_ref().is_some_and(|pull| pull.head_commit == tip);
        let ours = left.as_deref() == Some(&tip) || intended == Some(&tip) || merged;
        let conflicts = look_conflicts(last.as_ref());
        look.step = Some(match state {
            Some(PullState::Closed(who)) if same => {
                return Err(closed(last.as_ref(), who.as_deref()));
            }
            _ if same && !merged && !(conflicts && ours) => Step::Keep(tip),
            _ if ours || readers.vcs.contains(base, &tip).await? => Step::Make(Some(tip)),
            Some(PullState::Open)
                if last
                    .as_ref()
                    .is_some_and(|pull| pull.body.contains(&wanted.mark)) =>
            {
                Step::Add
            }
            _ => {
                return Err(Failure::failed(format!(
                    "branch {} of {} holds commit {}, which is not ours; remove the branch, or name another one",
                    branch.branch,
                    branch.url,
                    short_commit(&tip)
                )));
            }
        });
        look.last = last;
        Ok(look)
    }

    /// What a run would do.
    pub(super) async fn foresee_pull(
        &self,
        cx: &PlanContext<'_>,
        spec: &PullSpec,
    ) -> Result<Forecast, Failure> {
        let (job, _) = self.job(cx.values, cx.stage).await?;
        let base = self.remote(cx.values).await?;
        let hosted = self.hosted(cx.values).await?;
        if let Some(undo) = &job.undo
            && let Some(pull) = self.unmerged(cx.readers, &hosted, &base, undo).await?
        {
            let reason = format!("{} is not merged", pull.url);
            return Ok(Forecast::new(Verdict::Run, reason)
                .effect(format!("close pull request {}: {}", pull.url, pull.title)));
        }
        let wanted = self.wanted(cx.values, cx.stage, spec, &job).await?;
        let look = self
            .look(cx.readers, &hosted, &base, &job, &wanted, None)
            .await?;
        let at = format!(
            "{} of {} at {}",
            base.branch,
            base.url,
            short_commit(&look.commit)
        );
        let Some(step) = &look.step else {
            let mut forecast = Forecast::new(Verdict::UpToDate, format!("{at} has these values"))
                .output("changed", "false")
                .output("pull-request", address(look.last.as_ref()));
            if spec.is_merged() {
                forecast = forecast.output("commit", look.commit);
            }
            return Ok(forecast);
        };
        let verb = match look.open() {
            Some(pull) => format!("update pull request {}", pull.url),
            None => format!(
                "open a pull request of {} into {} of {}",
                wanted.branch, base.branch, hosted.path
            ),
        };
        let body = wanted.body(&look.edited);
        if let (Step::Keep(_), Some(pull), false) = (step, look.open(), spec.waits())
            && is_as_wanted(pull, &wanted, &body)
        {
            let reason = format!("{} is open with these values", pull.url);
            return Ok(Forecast::new(Verdict::UpToDate, reason)
                .output("changed", "false")
                .output("pull-request", &pull.url));
        }
        let mut forecast = Forecast::new(Verdict::Run, format!("changes {at}"));
        if !matches!(step, Step::Keep(_)) {
            forecast = forecast.effect(format!(
                "commit to {} of {}: {}",
                wanted.branch,
                base.url,
                job.words.subject()
            ));
        }
        forecast = forecast.effect(format!("{verb}: {}", wanted.title));
        forecast.diff = Some(look.edited.diff);
        Ok(forecast)
    }
}

/// Whether nothing is left to say about a pull request.
pub(super) fn is_as_wanted(pull: &PullRequest, wanted: &Wanted, body: &str) -> bool {
    has_words(pull, &wanted.title, body)
        && wanted.labels.iter().all(|label| has(&pull.labels, label))
        && (wanted.auto_merge.is_none() || pull.auto_merge)
}

/// Whether title and description are as they should be; forges change line ends and trim.
pub(super) fn has_words(pull: &PullRequest, title: &str, body: &str) -> bool {
    pull.title.trim() == title.trim() && pull.body.replace('\r', "").trim() == body.trim()
}

/// Whether a list has a name, in whatever case.
pub(super) fn has(list: &[String], name: &str) -> bool {
    list.iter()
        .any(|known| known.to_lowercase() == name.to_lowercase())
}

pub(super) fn address(pull: Option<&PullRequest>) -> String {
    pull.map(|pull| pull.url.clone()).unwrap_or_default()
}

/// The branch of a pull request.
pub(super) fn branch_of(base: &Remote, wanted: &Wanted) -> Remote {
    Remote {
        branch: wanted.branch.clone(),
        ..base.clone()
    }
}

/// The one that is open, else the newest.
pub(super) fn newest(mut found: Vec<PullRequest>) -> Option<PullRequest> {
    let open = found.iter().position(|pull| pull.state == PullState::Open);
    if found.is_empty() {
        return None;
    }
    Some(found.swap_remove(open.unwrap_or(0)))
}

fn look_conflicts(pull: Option<&PullRequest>) -> bool {
    pull.is_some_and(|pull| pull.state == PullState::Open && pull.conflicts == Some(true))
}

/// Somebody closed it without a merge.
pub(super) fn closed(pull: Option<&PullRequest>, who: Option<&str>) -> Failure {
    let by = who.map_or_else(String::new, |who| format!(" by {who}"));
    Failure::failed(format!(
        "{} was closed{by} without a merge; reopen it, or remove its branch to ask again",
        address(pull)
    ))
}
