//! A simulated forge: pull requests of the simulated remotes, in memory.
//!
//! In a lenient world somebody merges a pull request as soon as it is looked at twice; in a strict
//! one a test decides with [`SimWorld::merge_pull_request`] and its like.

use async_trait::async_trait;

use super::SimWorld;
use super::call::{Call, Done, Life};
use super::ledger::Rule;
use super::state::State;
use crate::base::Secret;
use crate::ports::forge::{
    Checks, Forge, ForgeError, ForgeReader, Hosted, MergeMethod, NewPullRequest, PullRequest,
    PullState, SignIn,
};

/// All pull requests, in the order they were opened.
#[derive(Clone, Debug, Default)]
pub(super) struct PullRequests(Vec<Kept>);

#[derive(Clone, Debug)]
struct Kept {
    url: String,
    pull: PullRequest,
    comments: Vec<String>,
    looked: u32,
}

fn call(name: &'static str, hosted: &Hosted, about: &str) -> Call {
    Call::one(name, &format!("{}#{about}", hosted.url))
}

impl State {
    fn kept(&mut self, hosted: &Hosted, number: u64) -> Result<&mut Kept, ForgeError> {
        let found = self
            .pulls
            .0
            .iter_mut()
            .find(|kept| kept.url == hosted.url && kept.pull.number == number);
        found.ok_or_else(|| ForgeError::NotFound {
            forge: "simulated forge".to_owned(),
            what: format!("pull request #{number}"),
            message: "there is none".to_owned(),
        })
    }

    /// What is open follows its branch.
    fn follow(&mut self) {
        for at in 0..self.pulls.0.len() {
            let kept = &self.pulls.0[at];
            if kept.pull.state == PullState::Open
                && let Some(tip) = self.remotes.tip(&kept.url, &kept.pull.head)
            {
                self.pulls.0[at].pull.head_commit = tip;
            }
        }
    }

    fn merge_pull(&mut self, at: usize) {
        self.follow();
        let (url, pull) = (self.pulls.0[at].url.clone(), self.pulls.0[at].pull.clone());
        let commit = self.remotes.merge(&url, &pull.head, &pull.base);
        self.pulls.0[at].pull.state = PullState::Merged(commit);
    }

    fn pull_requests(
        &mut self,
        hosted: &Hosted,
        fits: impl Fn(&PullRequest) -> bool,
    ) -> Vec<PullRequest> {
        self.follow();
        let all = self.pulls.0.iter().rev();
        all.filter(|kept| kept.url == hosted.url && fits(&kept.pull))
            .map(|kept| kept.pull.clone())
            .collect()
    }

    fn open_pull_request(
        &mut self,
        call: &Call,
        hosted: &Hosted,
        new: &NewPullRequest,
    ) -> Result<Done<PullRequest>, ForgeError> {
        self.check_leaks(call, "a pull request", [&*new.title, &*new.body]);
        let head = self.remotes.tip(&hosted.url, &new.head);
        let base = self.remotes.tip(&hosted.url, &new.base);
        let what = format!("a pull request of {}", new.head);
        let refused = |message: &str| ForgeError::Refused {
            forge: "simulated forge".to_owned(),
            what: what.clone(),
            message: message.to_owned(),
        };
        let Some(head_commit) = head.clone() else {
            self.violate(Rule::BadPullRequest, call, "its branch is not there");
            return Err(refused("head is invalid"));
        };
        if head == base || new.title.trim().is_empty() {
            self.violate(Rule::BadPullRequest, call, "it has no commits or no title");
            return Err(refused("no commits between the branches"));
        }
        if new.title.chars().count() > 255 || new.body.len() > 65_536 {
            self.violate(Rule::BadPullRequest, call, "title or body is too long");
        }
        let doubled = self.pulls.0.iter().any(|kept| {
            kept.url == hosted.url
                && kept.pull.state == PullState::Open
                && (&kept.pull.head, &kept.pull.base) == (&new.head, &new.base)
        });
        if doubled {
            self.violate(Rule::BadPullRequest, call, "it is open already");
            return Err(ForgeError::Exists {
                forge: "simulated forge".to_owned(),
                what,
                message: "it already exists".to_owned(),
            });
        }
        let number = self.pulls.0.len() as u64 + 1;
        let pull = PullRequest {
            number,
            id: format!("PR_{number}"),
            url: format!("{}/pull/{number}", hosted.url.trim_end_matches(".git")),
            title: new.title.clone(),
            body: new.body.clone(),
            head: new.head.clone(),
            head_commit,
            base: new.base.clone(),
            state: PullState::Open,
            draft: new.draft,
            labels: Vec::new(),
            reviewers: Vec::new(),
            auto_merge: false,
            conflicts: Some(false),
        };
        self.pulls.0.push(Kept {
            url: hosted.url.clone(),
            pull: pull.clone(),
            comments: Vec::new(),
            looked: 0,
        });
        let detail = format!("#{number}");
        Ok(Done::changed(pull, call.subject(), detail))
    }

    /// Changes a pull request; one that is not changed by it is a breach.
    fn alter_pull(
        &mut self,
        call: &Call,
        hosted: &Hosted,
        number: u64,
        change: impl FnOnce(&mut Kept),
    ) -> Result<Done<()>, ForgeError> {
        let kept = self.kept(hosted, number)?;
        let before = (kept.pull.clone(), kept.comments.len());
        change(kept);
        let twice = kept
            .comments
            .last()
            .is_some_and(|last| kept.comments.iter().filter(|text| *text == last).count() > 1);
        let same = before == (kept.pull.clone(), kept.comments.len());
        if same || twice {
            self.violate(Rule::SamePullRequest, call, "it was so before");
        }
        Ok(Done::changed((), call.subject(), format!("#{number}")))
    }
}

impl SimWorld {
    /// Pull requests of a remote, oldest first.
    pub fn pull_requests(&self, url: &str) -> Vec<PullRequest> {
        let mut state = self.state();
        state.follow();
        let of = state.pulls.0.iter().filter(|kept| kept.url == url);
        of.map(|kept| kept.pull.clone()).collect()
    }

    /// Comments on a pull request.
    pub fn pull_request_comments(&self, number: u64) -> Vec<String> {
        let state = self.state();
        let of = state
            .pulls
            .0
            .iter()
            .filter(|kept| kept.pull.number == number);
        of.flat_map(|kept| kept.comments.clone()).collect()
    }

    /// Lets somebody merge a pull request.
    pub fn merge_pull_request(&self, number: u64) {
        let mut state = self.state();
        let at = state
            .pulls
            .0
            .iter()
            .position(|kept| kept.pull.number == number);
        if let Some(at) = at {
            state.merge_pull(at);
        }
    }

    /// Lets somebody close a pull request.
    pub fn close_pull_request(&self, number: u64, who: &str) {
        let mut state = self.state();
        for kept in &mut state.pulls.0 {
            if kept.pull.number == number {
                kept.pull.state = PullState::Closed(Some(who.to_owned()));
            }
        }
    }

    /// Decides whether a pull request conflicts with its base.
    pub fn pull_request_conflicts(&self, number: u64, conflicts: bool) {
        let mut state = self.state();
        for kept in &mut state.pulls.0 {
            if kept.pull.number == number {
                kept.pull.conflicts = Some(conflicts);
            }
        }
    }
}

#[async_trait]
impl ForgeReader for Life {
    async fn find(
        &self,
        hosted: &Hosted,
        head: &str,
        base: &str,
    ) -> Result<Vec<PullRequest>, ForgeError> {
        let call = call("forge.find", hosted, head);
        self.pass::<ForgeError>(&call, None).await?;
        let fits = |pull: &PullRequest| pull.head == head && pull.base == base;
        Ok(self.look(|state| state.pull_requests(hosted, fits)).await)
    }

    async fn open(&self, hosted: &Hosted, base: &str) -> Result<Vec<PullRequest>, ForgeError> {
        let call = call("forge.open", hosted, base);
        self.pass::<ForgeError>(&call, None).await?;
        let fits = |pull: &PullRequest| pull.state == PullState::Open && pull.base == base;
        Ok(self.look(|state| state.pull_requests(hosted, fits)).await)
    }

    async fn pull_request(&self, hosted: &Hosted, number: u64) -> Result<PullRequest, ForgeError> {
        let call = call("forge.pull-request", hosted, &number.to_string());
        self.pass::<ForgeError>(&call, None).await?;
        let lenient = self.shared.options.lenient_remotes;
        self.look(|state| {
            state.follow();
            let kept = state.kept(hosted, number)?;
            kept.looked += 1;
            let merges = kept.pull.state == PullState::Open
                && (kept.pull.auto_merge || lenient && kept.looked > 1);
            if merges {
                let at = state
                    .pulls
                    .0
                    .iter()
                    .position(|kept| kept.pull.number == number);
                at.into_iter().for_each(|at| state.merge_pull(at));
            }
            Ok(state.kept(hosted, number)?.pull.clone())
        })
        .await
    }

    async fn checks(&self, hosted: &Hosted, pull: &PullRequest) -> Result<Checks, ForgeError> {
        let call = call("forge.checks", hosted, &pull.number.to_string());
        self.pass::<ForgeError>(&call, None).await?;
        Ok(Checks::Passed(1))
    }

    async fn has_comment(
        &self,
        hosted: &Hosted,
        number: u64,
        text: &str,
    ) -> Result<bool, ForgeError> {
        let call = call("forge.has-comment", hosted, &number.to_string());
        self.pass::<ForgeError>(&call, None).await?;
        self.look(|state| {
            let kept = state.kept(hosted, number)?;
            Ok(kept.comments.iter().any(|comment| comment.contains(text)))
        })
        .await
    }

    async fn git_login(&self, hosted: &Hosted) -> Result<Option<(String, Secret)>, ForgeError> {
        Ok(match &hosted.site.sign_in {
            SignIn::Anonymous => None,
            SignIn::Token(token) => Some(("simulated".to_owned(), token.clone())),
            SignIn::App { key, .. } => Some(("simulated".to_owned(), key.clone())),
        })
    }
}

#[async_trait]
impl Forge for Life {
    async fn create(
        &self,
        hosted: &Hosted,
        new: &NewPullRequest,
    ) -> Result<PullRequest, ForgeError> {
        let call = call("forge.create", hosted, &new.head);
        let mut ticket = self.enter::<ForgeError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.open_pull_request(&call, hosted, new)
        })
        .await
    }

    async fn update(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        title: &str,
        body: &str,
    ) -> Result<(), ForgeError> {
        let call = call("forge.update", hosted, &pull.number.to_string());
        let mut ticket = self.enter::<ForgeError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.check_leaks(&call, "a pull request", [title, body]);
            state.alter_pull(&call, hosted, pull.number, |kept| {
                title.clone_into(&mut kept.pull.title);
                body.clone_into(&mut kept.pull.body);
            })
        })
        .await
    }

    async fn label(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        labels: &[String],
    ) -> Result<(), ForgeError> {
        let call = call("forge.label", hosted, &pull.number.to_string());
        let mut ticket = self.enter::<ForgeError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.alter_pull(&call, hosted, pull.number, |kept| {
                kept.pull.labels.extend(labels.iter().cloned());
            })
        })
        .await
    }

    async fn ask(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        reviewers: &[String],
    ) -> Result<(), ForgeError> {
        let call = call("forge.ask", hosted, &pull.number.to_string());
        let mut ticket = self.enter::<ForgeError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.alter_pull(&call, hosted, pull.number, |kept| {
                kept.pull.reviewers.extend(reviewers.iter().cloned());
            })
        })
        .await
    }

    async fn auto_merge(
        &self,
        hosted: &Hosted,
        pull: &PullRequest,
        _method: MergeMethod,
    ) -> Result<(), ForgeError> {
        let call = call("forge.auto-merge", hosted, &pull.number.to_string());
        let mut ticket = self.enter::<ForgeError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.alter_pull(&call, hosted, pull.number, |kept| {
                kept.pull.auto_merge = true;
            })
        })
        .await
    }

    async fn comment(&self, hosted: &Hosted, number: u64, text: &str) -> Result<(), ForgeError> {
        let call = call("forge.comment", hosted, &number.to_string());
        let mut ticket = self.enter::<ForgeError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.check_leaks(&call, "a comment", [text]);
            state.alter_pull(&call, hosted, number, |kept| {
                kept.comments.push(text.to_owned());
            })
        })
        .await
    }

    async fn close(&self, hosted: &Hosted, number: u64) -> Result<(), ForgeError> {
        let call = call("forge.close", hosted, &number.to_string());
        let mut ticket = self.enter::<ForgeError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.alter_pull(&call, hosted, number, |kept| {
                kept.pull.state = PullState::Closed(None);
            })
        })
        .await
    }
}
