//! Moving one branch, never past what somebody else put there, and telling a race from a refusal.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use git2::{Direction, ErrorClass, ErrorCode, Oid, PushOptions, RemoteRedirect, Repository};

use super::address::Address;
use super::mirror::{Fail, Session};
use crate::ports::vcs::{PushOutcome, VcsError};

/// How much of what the remote prints beside its answer is kept.
const MAX_REMARKS: usize = 2_000;

/// What a remote's answer about a ref means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rejection {
    /// Somebody else was faster.
    Raced,
    /// A hook or a rule says no.
    Refused,
    /// The remote has a problem of its own.
    Broken,
}

impl Rejection {
    fn of(message: &str) -> Self {
        let message = message.to_ascii_lowercase();
        let any = |parts: &[&str]| parts.iter().any(|part| message.contains(part));
        // Rules first: "cannot update protected ref" must not read as a race.
        if any(&[
            "hook declined",
            "protected",
            "prohibited",
            "not allowed",
            "deny",
        ]) {
            Self::Refused
        } else if any(&[
            "non-fast-forward",
            "fetch first",
            "cannot lock ref",
            "failed to lock",
            "incorrect old value",
            "failed to update ref",
            "already exists",
            "stale info",
        ]) {
            Self::Raced
        } else if any(&[
            "unpacker error",
            "missing necessary objects",
            "internal",
            "timed out",
            "timeout",
            "unavailable",
        ]) {
            Self::Broken
        } else {
            Self::Refused
        }
    }
}

/// How a branch is to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    /// To a commit that follows its tip.
    Forward(Oid),
    /// To a commit, from exactly there.
    Put(Oid, Option<Oid>),
    /// Away, from exactly there.
    Remove(Oid),
}

impl Move {
    fn target(self) -> Option<Oid> {
        match self {
            Self::Forward(id) | Self::Put(id, _) => Some(id),
            Self::Remove(_) => None,
        }
    }

    /// Whether the branch may be moved from where it is.
    fn may_leave(self, repo: &Repository, tip: Option<Oid>) -> Result<bool, git2::Error> {
        match (self, tip) {
            (Self::Put(_, expected), tip) => Ok(tip == expected),
            (Self::Remove(expected), tip) => Ok(tip == Some(expected)),
            (Self::Forward(_), None) => Ok(true),
            (Self::Forward(id), Some(tip)) => descends(repo, id, tip),
        }
    }

    fn refspec(self, branch: &str) -> String {
        match self {
            Self::Forward(id) => format!("{id}:{branch}"),
            Self::Put(id, _) => format!("+{id}:{branch}"),
            Self::Remove(_) => format!(":{branch}"),
        }
    }
}

fn oid(session: &Session, commit: &str) -> Result<Oid, VcsError> {
    Oid::from_str(commit)
        .ok()
        .filter(|_| commit.len() == 40)
        .ok_or_else(|| session.content(&format!("{commit:?} is no commit")))
}

/// Pushes a commit, for [`crate::ports::vcs::Vcs::push`].
pub(super) fn push(
    session: &Session,
    repo: &Repository,
    commit: &str,
) -> Result<PushOutcome, Fail> {
    go(session, repo, Move::Forward(oid(session, commit)?))
}

/// Puts a branch somewhere, for [`crate::ports::vcs::Vcs::put_branch`].
pub(super) fn put(
    session: &Session,
    repo: &Repository,
    commit: &str,
    expected: Option<&str>,
) -> Result<PushOutcome, Fail> {
    let expected = expected.map(|commit| oid(session, commit)).transpose()?;
    go(session, repo, Move::Put(oid(session, commit)?, expected))
}

/// Removes a branch, for [`crate::ports::vcs::Vcs::remove_branch`].
pub(super) fn remove(
    session: &Session,
    repo: &Repository,
    expected: &str,
) -> Result<PushOutcome, Fail> {
    go(session, repo, Move::Remove(oid(session, expected)?))
}

fn go(session: &Session, repo: &Repository, to: Move) -> Result<PushOutcome, Fail> {
    let branch = session.branch_ref()?;
    if let Some(id) = to.target()
        && repo.find_commit(id).is_err()
    {
        // The mirror was thrown away after the commit was made. To the caller this is as if
        // somebody had moved the branch: it reads the tip again and makes the commit anew.
        return Ok(PushOutcome::Raced);
    }
    match &session.address {
        Address::Local(path) => move_local(session, repo, path, &branch, to),
        Address::Http { .. } | Address::Ssh(_) => move_remote(session, repo, &branch, to),
    }
}

fn move_remote(
    session: &Session,
    repo: &Repository,
    branch: &str,
    to: Move,
) -> Result<PushOutcome, Fail> {
    let mut remote = session.http_remote(repo)?;
    let mut connection = remote
        .connect_auth(
            Direction::Push,
            Some(session.callbacks()),
            Some(session.proxy()),
        )
        .map_err(|error| session.network(error))?;
    let tip = connection
        .list()
        .map_err(|error| session.network(error))?
        .iter()
        .find(|head| head.name() == branch)
        .map(|head| head.oid());
    if tip == to.target() {
        return Ok(PushOutcome::Pushed);
    }
    if !to.may_leave(repo, tip)? {
        return Ok(PushOutcome::Raced);
    }

    let rejection = Arc::new(Mutex::new(None::<String>));
    let remarks = Arc::new(Mutex::new(Vec::<u8>::new()));
    let mut callbacks = session.callbacks();
    let slot = Arc::clone(&rejection);
    callbacks.push_update_reference(move |_, status| {
        if let Some(status) = status {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(status.to_owned());
        }
        Ok(())
    });
    let slot = Arc::clone(&remarks);
    let watch = Arc::clone(&session.watch);
    callbacks.sideband_progress(move |bytes| {
        let mut remarks = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_REMARKS.saturating_sub(remarks.len());
        remarks.extend_from_slice(&bytes[..bytes.len().min(room)]);
        watch.beat()
    });
    let mut options = PushOptions::new();
    options
        .packbuilder_parallelism(1)
        .follow_redirects(RemoteRedirect::None)
        .proxy_options(session.proxy())
        .remote_callbacks(callbacks);
    let pushed = connection
        .remote()
        .push(&[&to.refspec(branch)], Some(&mut options));
    drop(options);

    let rejection = rejection.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(status) = rejection.as_deref() {
        let remarks = remarks.lock().unwrap_or_else(PoisonError::into_inner);
        let remarks = String::from_utf8_lossy(&remarks);
        let message = format!("{status}\n{}", remarks.trim());
        return match Rejection::of(status) {
            // It was where it should be, so this is a rule of the other side.
            Rejection::Raced if status == "non-fast-forward" && !matches!(to, Move::Forward(_)) => {
                Err(session.refused(&message).into())
            }
            Rejection::Raced => Ok(PushOutcome::Raced),
            Rejection::Refused => Err(session.refused(&message).into()),
            Rejection::Broken => Err(session.broken(&message).into()),
        };
    }
    match pushed {
        Ok(()) => {
            // The mirror holds all of the new tip. A lost note only costs a fetch.
            if let Some(id) = to.target() {
                let _ = repo.reference(&session.tracking_ref(), id, true, "pushed");
            }
            Ok(PushOutcome::Pushed)
        }
        Err(error) if error.code() == ErrorCode::NotFastForward => Ok(PushOutcome::Raced),
        Err(error) => Err(match session.network(error) {
            // The commit to push is in this mirror, so it is not thrown away here.
            Fail::Mirror(error) => session.broken(error.message()).into(),
            fail => fail,
        }),
    }
}

/// Whether a commit follows another, as far as the mirror knows.
fn descends(repo: &Repository, commit: Oid, ancestor: Oid) -> Result<bool, git2::Error> {
    if !repo.odb()?.exists(ancestor) {
        return Ok(false);
    }
    repo.graph_descendant_of(commit, ancestor)
}

/// Moves a branch of a repository on this machine. libgit2's own local push overwrites the branch
/// without comparing, so this does what a git server does: objects first, then compare and swap.
fn move_local(
    session: &Session,
    repo: &Repository,
    path: &Path,
    branch: &str,
    to: Move,
) -> Result<PushOutcome, Fail> {
    let there = session.open_local(path)?;
    let checked_out = there.find_reference("HEAD").ok().and_then(|head| {
        let target = head.symbolic_target().ok().flatten()?;
        Some(target == branch)
    });
    if !there.is_bare() && checked_out == Some(true) {
        let message = "the branch is checked out there: push to a bare repository";
        return Err(session.refused(message).into());
    }
    let tip = match there.refname_to_id(branch) {
        Ok(tip) => Some(tip),
        Err(error) if error.code() == ErrorCode::NotFound => None,
        Err(error) => return Err(session.broken(error.message()).into()),
    };
    if tip == to.target() {
        return Ok(PushOutcome::Pushed);
    }
    if !to.may_leave(repo, tip)? {
        return Ok(PushOutcome::Raced);
    }
    let moved = match (to.target(), tip) {
        (Some(id), tip) => {
            send_objects(repo, &there, id).map_err(|error| local(session, &error))?;
            match tip {
                Some(tip) => there.reference_matching(branch, id, true, tip, "push"),
                None => there.reference(branch, id, false, "push"),
            }
            .map(drop)
        }
        (None, Some(tip)) => there.find_reference(branch).and_then(|mut found| {
            // What is removed is what was found, or it fails.
            if found.target() == Some(tip) {
                found.delete()
            } else {
                Err(git2::Error::new(
                    ErrorCode::Modified,
                    ErrorClass::Reference,
                    "moved",
                ))
            }
        }),
        (None, None) => Ok(()),
    };
    match moved {
        Ok(()) => Ok(PushOutcome::Pushed),
        Err(error)
            if matches!(
                error.code(),
                ErrorCode::Modified | ErrorCode::Locked | ErrorCode::Exists | ErrorCode::NotFound
            ) =>
        {
            Ok(PushOutcome::Raced)
        }
        Err(error) => Err(local(session, &error).into()),
    }
}

fn local(session: &Session, error: &git2::Error) -> VcsError {
    if error.class() == ErrorClass::Os && error.message().contains("ermission denied") {
        return session.denied(error.message());
    }
    session.broken(error.message())
}

/// Copies the commit's objects that the other repository lacks.
fn send_objects(from: &Repository, to: &Repository, id: Oid) -> Result<(), git2::Error> {
    let mut walk = from.revwalk()?;
    walk.push(id)?;
    for parent in from.find_commit(id)?.parent_ids() {
        if to.odb()?.exists(parent) {
            walk.hide(parent)?;
        }
    }
    let mut pack = from.packbuilder()?;
    pack.insert_walk(&mut walk)?;
    let odb = to.odb()?;
    let mut writer = odb.packwriter()?;
    let mut failure = None;
    pack.foreach(|bytes| {
        let written = writer.write_all(bytes);
        let good = written.is_ok();
        failure = written.err();
        good
    })
    .map_err(|error| match &failure {
        Some(cause) => git2::Error::from_str(&cause.to_string()),
        None => error,
    })?;
    writer.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections() {
        for (message, expected) in [
            ("non-fast-forward", Rejection::Raced),
            ("fetch first", Rejection::Raced),
            (
                "cannot lock ref 'refs/heads/main': is at 1 but expected 2",
                Rejection::Raced,
            ),
            ("incorrect old value provided", Rejection::Raced),
            ("failed to update ref", Rejection::Raced),
            ("reference already exists", Rejection::Raced),
            ("stale info", Rejection::Raced),
            ("pre-receive hook declined", Rejection::Refused),
            ("protected branch hook declined", Rejection::Refused),
            ("GH006: Protected branch update failed", Rejection::Refused),
            ("deletion prohibited", Rejection::Refused),
            ("something new", Rejection::Refused),
            ("unpacker error", Rejection::Broken),
            ("Internal Server Error", Rejection::Broken),
        ] {
            assert_eq!(Rejection::of(message), expected, "{message}");
        }
    }
}
