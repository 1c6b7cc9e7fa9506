//! Manifest repositories: branches of content-addressed commits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use async_trait::async_trait;

use super::call::{Call, Done, Life};
use super::disk::{Files, relative};
use super::ledger::Rule;
use super::made_up::{is_other_name, placeholder};
use super::state::State;
use crate::base::{Digest, Timestamp};
use crate::ports::vcs::{
    NewCommit, PushOutcome, Remote, Snapshot, Touch, Vcs, VcsError, VcsReader,
};

/// All manifest repositories.
#[derive(Clone, Debug, Default)]
pub(super) struct Remotes {
    remotes: BTreeMap<String, Repo>,
    /// Commits by name; those not yet pushed too: they outlive a crash as a local clone does.
    objects: BTreeMap<String, Object>,
}

#[derive(Clone, Debug, Default)]
struct Repo {
    branches: BTreeMap<String, String>,
    /// Whether files spring up when they are asked for.
    lenient: bool,
    /// How many snapshots of a branch and tip were taken that no push has used up.
    seen: BTreeMap<(String, String), u32>,
    /// Commits whose push raced.
    raced: BTreeSet<(String, String)>,
}

#[derive(Clone, Debug)]
struct Object {
    url: String,
    parent: Option<String>,
    files: Files,
}

impl Remotes {
    /// Puts a commit with exactly these files on a branch.
    pub(super) fn declare(
        &mut self,
        url: &str,
        branch: &str,
        files: Files,
        lenient: bool,
    ) -> String {
        let parent = self.tip(url, branch);
        let name = self.object(url, parent, files, "declared");
        let repo = self.remotes.entry(url.to_owned()).or_default();
        repo.lenient |= lenient;
        repo.branches.insert(branch.to_owned(), name.clone());
        name
    }

    /// Puts a commit of somebody else on a branch that changes some files.
    pub(super) fn foreign(&mut self, url: &str, branch: &str, changes: Files) -> Option<String> {
        let parent = self.tip(url, branch)?;
        let mut files = self.objects.get(&parent)?.files.clone();
        files.extend(changes);
        let name = self.object(url, Some(parent), files, "somebody else");
        self.remotes
            .get_mut(url)?
            .branches
            .insert(branch.to_owned(), name.clone());
        Some(name)
    }

    /// Merges a branch into another as a forge does; the commit.
    pub(super) fn merge(&mut self, url: &str, head: &str, base: &str) -> Option<String> {
        let theirs = self.objects.get(&self.tip(url, head)?)?;
        let origin = theirs
            .parent
            .as_ref()
            .and_then(|name| self.objects.get(name));
        let changed = theirs.files.iter().filter(|(path, bytes)| {
            origin.and_then(|origin| origin.files.get(*path)) != Some(*bytes)
        });
        let changes: Files = changed
            .map(|(path, bytes)| (path.clone(), bytes.clone()))
            .collect();
        self.foreign(url, base, changes)
    }

    pub(super) fn tip(&self, url: &str, branch: &str) -> Option<String> {
        self.remotes.get(url)?.branches.get(branch).cloned()
    }

    pub(super) fn file(&self, url: &str, branch: &str, path: &str) -> Option<Vec<u8>> {
        let object = self.objects.get(&self.tip(url, branch)?)?;
        object.files.get(path).map(|bytes| bytes.to_vec())
    }

    /// Number of commits of a branch's history.
    pub(super) fn length(&self, url: &str, branch: &str) -> usize {
        let tip = self.tip(url, branch);
        self.history(tip).count()
    }

    fn history(&self, tip: Option<String>) -> impl Iterator<Item = String> + '_ {
        std::iter::successors(tip, |name| self.objects.get(name)?.parent.clone())
    }

    fn touched(&self, remote: &Remote, path: &str, since: &str) -> Vec<Touch> {
        if !self.contains(&remote.url, &remote.branch, since) {
            return Vec::new();
        }
        let file = |name: &str| {
            let object = self.objects.get(name)?;
            object.files.get(path).map(|bytes| bytes.to_vec())
        };
        let after = self
            .history(self.tip(&remote.url, &remote.branch))
            .take_while(|name| name != since);
        after
            .filter_map(|name| {
                let parent = self.objects.get(&name)?.parent.clone()?;
                let content = file(&name);
                (content != file(&parent)).then(|| Touch {
                    commit: name,
                    author: "somebody <somebody@example.com>".to_owned(),
                    subject: "something".to_owned(),
                    content,
                })
            })
            .collect()
    }

    fn contains(&self, url: &str, branch: &str, commit: &str) -> bool {
        self.history(self.tip(url, branch))
            .any(|name| name == commit)
    }

    fn object(&mut self, url: &str, parent: Option<String>, files: Files, facts: &str) -> String {
        let mut text = format!("{parent:?}\n{facts}\n");
        for (path, bytes) in &files {
            text.push_str(&format!("{path} {}\n", Digest::of(bytes)));
        }
        let name = Digest::of(text.as_bytes()).hex()[..40].to_owned();
        self.objects.insert(
            name.clone(),
            Object {
                url: url.to_owned(),
                parent,
                files,
            },
        );
        name
    }
}

fn call(name: &'static str, remote: &Remote, also: &[String]) -> Call {
    let subject = format!("{}#{}", remote.url, remote.branch);
    Call::new(name, std::iter::once(subject).chain(also.iter().cloned()))
}

impl State {
    fn check_remote(&mut self, call: &Call, remote: &Remote) {
        let authority = remote
            .url
            .split_once("://")
            .and_then(|(_, rest)| rest.split('/').next());
        // `ssh://git@host` names a user, which is no secret.
        let user = authority.and_then(|authority| authority.rsplit_once('@'));
        if user.is_some_and(|(user, _)| user.contains(':') || !remote.url.starts_with("ssh:")) {
            self.violate(
                Rule::CredentialInUrl,
                call,
                "the address holds a credential",
            );
        }
        self.check_leaks(call, "the address", [&*remote.url]);
    }

    /// Whether a repository may spring up now; an error if it is not there and may not.
    fn springs_up(&self, remote: &Remote, lenient: bool) -> Result<bool, VcsError> {
        match self.remotes.remotes.contains_key(&remote.url) {
            true => Ok(false),
            false if lenient => Ok(true),
            false => Err(VcsError::Denied {
                url: remote.url.clone(),
                message: "the repository does not exist in the simulated world".to_owned(),
            }),
        }
    }

    fn snapshot(
        &mut self,
        remote: &Remote,
        paths: &[String],
        lenient: bool,
        keys: &[(String, String)],
    ) -> Result<Snapshot, VcsError> {
        let url = &remote.url;
        if self.springs_up(remote, lenient)? {
            self.remotes
                .declare(url, &remote.branch, Files::new(), true);
        }
        let Some(tip) = self.remotes.tip(url, &remote.branch) else {
            return Err(VcsError::NoBranch {
                url: url.clone(),
                branch: remote.branch.clone(),
            });
        };
        let Remotes { remotes, objects } = &mut self.remotes;
        let repo = remotes.get_mut(url).expect("it was found or made above");
        *repo
            .seen
            .entry((remote.branch.clone(), tip.clone()))
            .or_default() += 1;
        let object = objects.get_mut(&tip).expect("a branch stands at an object");
        let mut files = BTreeMap::new();
        for path in paths {
            if repo.lenient && !object.files.contains_key(path) && !is_other_name(path, paths) {
                let text = placeholder(path, keys);
                object.files.insert(path.clone(), text.as_bytes().into());
            }
            if let Some(bytes) = object.files.get(path) {
                files.insert(path.clone(), bytes.to_vec());
            }
        }
        Ok(Snapshot { commit: tip, files })
    }

    fn make_commit(
        &mut self,
        call: &Call,
        remote: &Remote,
        commit: &NewCommit,
    ) -> Result<Done<String>, VcsError> {
        let content = |message: String| VcsError::Content {
            url: remote.url.clone(),
            message,
        };
        for path in commit.files.keys() {
            let plain = relative(Path::new(path)).filter(|clean| clean == path);
            let bad = plain.is_none_or(|p| p.is_empty() || p.split('/').any(|name| name == ".git"));
            if bad {
                self.violate(
                    Rule::BadPath,
                    call,
                    format!("git refuses the path {path:?}"),
                );
                return Err(content(format!("{path:?} is not a path of a file")));
            }
        }
        let (name, address) = &commit.identity;
        if name.trim().is_empty() || address.trim().is_empty() || commit.message.trim().is_empty() {
            self.violate(Rule::BadCommit, call, "it has no message or no identity");
        }
        self.check_leaks(call, "the commit message", [&*commit.message]);
        let texts: Vec<_> = commit
            .files
            .values()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        self.check_leaks(call, "a committed file", texts.iter().map(String::as_str));
        let parent = self.remotes.objects.get(&commit.parent);
        let Some(parent) = parent.filter(|parent| parent.url == remote.url) else {
            let message = format!("commit {} is not known here", commit.parent);
            self.violate(Rule::UnknownParent, call, message.clone());
            return Err(content(message));
        };
        let mut files = parent.files.clone();
        for (path, bytes) in &commit.files {
            files.insert(path.clone(), bytes.as_slice().into());
        }
        if files == parent.files {
            self.violate(Rule::EmptyCommit, call, "it changes nothing");
        }
        let facts = facts(commit);
        let known = self.remotes.objects.len();
        let parent = Some(commit.parent.clone());
        let name = self.remotes.object(&remote.url, parent, files, &facts);
        if self.remotes.objects.len() == known {
            return Ok(Done::nothing(name));
        }
        Ok(Done::changed(name.clone(), call.subject(), name))
    }

    fn push_commit(
        &mut self,
        call: &Call,
        remote: &Remote,
        commit: &str,
    ) -> Result<Done<PushOutcome>, VcsError> {
        let object = self.remotes.objects.get(commit);
        let Some(object) = object.filter(|object| object.url == remote.url) else {
            let message = format!("commit {commit} was never made");
            self.violate(Rule::UnknownCommit, call, message.clone());
            return Err(VcsError::Content {
                url: remote.url.clone(),
                message,
            });
        };
        let parent = object.parent.clone().unwrap_or_default();
        let tip = self.remotes.tip(&remote.url, &remote.branch);
        if self.remotes.contains(&remote.url, &remote.branch, commit) {
            self.violate(Rule::PushedTwice, call, format!("the branch has {commit}"));
            return Ok(Done::nothing(PushOutcome::Pushed));
        }
        let repo = self.remotes.remotes.entry(remote.url.clone()).or_default();
        let unused = repo
            .seen
            .entry((remote.branch.clone(), parent.clone()))
            .or_default();
        let fresh = *unused > 0;
        *unused = unused.saturating_sub(1);
        let attempt = (remote.branch.clone(), commit.to_owned());
        if tip.as_ref().is_some_and(|tip| *tip != parent) {
            if !repo.raced.insert(attempt) || !fresh {
                self.violate(
                    Rule::NotFastForward,
                    call,
                    format!("the branch stands at {tip:?}; read it anew before every push"),
                );
            }
            return Ok(Done::nothing(PushOutcome::Raced));
        }
        repo.branches
            .insert(remote.branch.clone(), commit.to_owned());
        Ok(Done::changed(PushOutcome::Pushed, call.subject(), commit))
    }
}

impl State {
    /// Moves a branch of ours if it is where it should be; `None` as the target removes it.
    fn move_branch(
        &mut self,
        call: &Call,
        remote: &Remote,
        target: Option<&str>,
        expected: Option<&str>,
    ) -> Result<Done<PushOutcome>, VcsError> {
        let tip = self.remotes.tip(&remote.url, &remote.branch);
        if tip.as_deref() == target {
            return Ok(Done::nothing(PushOutcome::Pushed));
        }
        if tip.as_deref() != expected {
            return Ok(Done::nothing(PushOutcome::Raced));
        }
        let Some(commit) = target else {
            let repo = self.remotes.remotes.entry(remote.url.clone()).or_default();
            repo.branches.remove(&remote.branch);
            let gone = format!("{} is gone", remote.branch);
            return Ok(Done::changed(PushOutcome::Pushed, call.subject(), gone));
        };
        let object = self.remotes.objects.get(commit);
        if object.is_none_or(|object| object.url != remote.url) {
            let message = format!("commit {commit} was never made");
            self.violate(Rule::UnknownCommit, call, message.clone());
            return Err(VcsError::Content {
                url: remote.url.clone(),
                message,
            });
        }
        let repo = self.remotes.remotes.entry(remote.url.clone()).or_default();
        repo.branches
            .insert(remote.branch.clone(), commit.to_owned());
        Ok(Done::changed(PushOutcome::Pushed, call.subject(), commit))
    }
}

fn facts(commit: &NewCommit) -> String {
    let Timestamp(time) = commit.time;
    let (name, address) = &commit.identity;
    let signed = if commit.signing.is_some() {
        " signed"
    } else {
        ""
    };
    format!("{name} <{address}> {time}{signed}\n{}", commit.message)
}

#[async_trait]
impl VcsReader for Life {
    async fn snapshot(&self, remote: &Remote, paths: &[String]) -> Result<Snapshot, VcsError> {
        let call = call("vcs.snapshot", remote, paths);
        let mut ticket = self.enter::<VcsError>(&call, None).await?;
        let lenient = self.shared.options.lenient_remotes;
        let keys = &self.shared.options.keys;
        self.act(&call, &mut ticket, |state| {
            state.check_remote(&call, remote);
            state
                .snapshot(remote, paths, lenient, keys)
                .map(Done::nothing)
        })
        .await
    }

    async fn contains(&self, remote: &Remote, commit: &str) -> Result<bool, VcsError> {
        let call = call("vcs.contains", remote, &[commit.to_owned()]);
        let mut ticket = self.enter::<VcsError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.check_remote(&call, remote);
            if state.remotes.tip(&remote.url, &remote.branch).is_none() {
                return Err(VcsError::NoBranch {
                    url: remote.url.clone(),
                    branch: remote.branch.clone(),
                });
            }
            let has = state.remotes.contains(&remote.url, &remote.branch, commit);
            Ok(Done::nothing(has))
        })
        .await
    }

    async fn tip(&self, remote: &Remote) -> Result<Option<String>, VcsError> {
        let call = call("vcs.tip", remote, &[]);
        let mut ticket = self.enter::<VcsError>(&call, None).await?;
        let lenient = self.shared.options.lenient_remotes;
        self.act(&call, &mut ticket, |state| {
            state.check_remote(&call, remote);
            state.springs_up(remote, lenient)?;
            let tip = state.remotes.tip(&remote.url, &remote.branch);
            Ok(Done::nothing(tip))
        })
        .await
    }

    async fn touched(
        &self,
        remote: &Remote,
        path: &str,
        since: &str,
    ) -> Result<Vec<Touch>, VcsError> {
        let call = call("vcs.touched", remote, &[path.to_owned(), since.to_owned()]);
        let mut ticket = self.enter::<VcsError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.check_remote(&call, remote);
            Ok(Done::nothing(state.remotes.touched(remote, path, since)))
        })
        .await
    }
}

#[async_trait]
impl Vcs for Life {
    async fn commit(&self, remote: &Remote, commit: &NewCommit) -> Result<String, VcsError> {
        let paths: Vec<_> = commit.files.keys().cloned().collect();
        let call = call("vcs.commit", remote, &paths);
        let mut ticket = self.enter::<VcsError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.check_remote(&call, remote);
            state.make_commit(&call, remote, commit)
        })
        .await
    }

    async fn push(&self, remote: &Remote, commit: &str) -> Result<PushOutcome, VcsError> {
        let call = call("vcs.push", remote, &[commit.to_owned()]);
        let mut ticket = self.enter::<VcsError>(&call, None).await?;
        let time = self
            .shared
            .vary(self.shared.latency().transfer, &format!("push {commit}"));
        self.wait(time, None).await;
        let raced = ticket.raced;
        self.act(&call, &mut ticket, |state| {
            state.check_remote(&call, remote);
            if raced {
                let note = format!("moved before {commit}\n");
                let changes = Files::from([("somebody-else".to_owned(), note.as_bytes().into())]);
                state.remotes.foreign(&remote.url, &remote.branch, changes);
            }
            state.push_commit(&call, remote, commit)
        })
        .await
    }

    async fn put_branch(
        &self,
        remote: &Remote,
        commit: &str,
        expected: Option<&str>,
    ) -> Result<PushOutcome, VcsError> {
        let call = call("vcs.put-branch", remote, &[commit.to_owned()]);
        let mut ticket = self.enter::<VcsError>(&call, None).await?;
        let time = self
            .shared
            .vary(self.shared.latency().transfer, &format!("put {commit}"));
        self.wait(time, None).await;
        self.act(&call, &mut ticket, |state| {
            state.check_remote(&call, remote);
            state.move_branch(&call, remote, Some(commit), expected)
        })
        .await
    }

    async fn remove_branch(
        &self,
        remote: &Remote,
        expected: &str,
    ) -> Result<PushOutcome, VcsError> {
        let call = call("vcs.remove-branch", remote, &[expected.to_owned()]);
        let mut ticket = self.enter::<VcsError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            state.check_remote(&call, remote);
            state.move_branch(&call, remote, None, Some(expected))
        })
        .await
    }
}
