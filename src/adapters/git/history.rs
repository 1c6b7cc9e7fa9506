//! The history of a branch, fetched no deeper than a question needs.

use git2::{Oid, Repository, Sort};

use super::mirror::{Fail, MAX_FILE, Session};
use crate::ports::vcs::Touch;

/// How far to fetch, step by step, to find a commit; the last means everything.
const DEPTHS: [i32; 3] = [64, 1_024, i32::MAX];
/// Commits that are looked at for who changed a file.
const MAX_LOOKS: usize = 5_000;
/// Commits that changed it which are told.
const MAX_TOUCHES: usize = 50;

/// Who changed a file since, for [`crate::ports::vcs::VcsReader::touched`].
pub(super) fn touched(
    session: &Session,
    repo: &Repository,
    path: &str,
    since: &str,
) -> Result<Vec<Touch>, Fail> {
    let since = Oid::from_str(since)
        .ok()
        .filter(|_| since.len() == 40)
        .ok_or_else(|| session.content(&format!("{since:?} is no commit")))?;
    let Some((tip, repo)) = session.reach(repo, since)? else {
        return Ok(Vec::new());
    };
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL)?;
    walk.push(tip)?;
    walk.hide(since)?;
    let blob = |commit: Oid| {
        // What lies beyond the border of the mirror, or is no file, is not compared.
        let found = session.file(&repo, commit, path).ok()?;
        Some(found.map(|(id, _)| id))
    };
    let mut touches = Vec::new();
    for id in walk.take(MAX_LOOKS) {
        let id = id?;
        session.watch.beat();
        let commit = repo.find_commit(id)?;
        let now = blob(id);
        // A merge that took one side over did not change the file itself.
        let changed = commit.parent_ids().all(|parent| blob(parent) != now);
        let Some(now) = now.filter(|_| changed) else {
            continue;
        };
        let content = match now {
            None => None,
            Some(id) => {
                let odb = repo.odb()?;
                let (size, _) = odb.read_header(id)?;
                (size <= MAX_FILE)
                    .then(|| odb.read(id).map(|blob| blob.data().to_vec()))
                    .transpose()?
            }
        };
        let author = commit.author();
        touches.push(Touch {
            commit: id.to_string(),
            author: one_line(&format!(
                "{} <{}>",
                String::from_utf8_lossy(author.name_bytes()),
                String::from_utf8_lossy(author.email_bytes())
            )),
            subject: one_line(&String::from_utf8_lossy(commit.message_bytes())),
            content,
        });
        if touches.len() == MAX_TOUCHES {
            break;
        }
    }
    Ok(touches)
}

/// The first line of what anybody may have written, bounded.
fn one_line(text: &str) -> String {
    let line = text.trim_start().lines().next().unwrap_or("");
    line.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}

impl Session {
    /// Whether the branch contains a commit, for [`crate::ports::vcs::VcsReader::contains`].
    pub(super) fn contains(&self, repo: &Repository, commit: &str) -> Result<bool, Fail> {
        let wanted = Oid::from_str(commit)
            .ok()
            .filter(|_| commit.len() == 40)
            .ok_or_else(|| self.content(&format!("{commit:?} is no commit")))?;
        Ok(self.reach(repo, wanted)?.is_some())
    }

    /// The tip of the branch and a mirror that is deep enough to reach a commit from there; `None`
    /// if that cannot be.
    fn reach(&self, repo: &Repository, wanted: Oid) -> Result<Option<(Oid, Repository)>, Fail> {
        let mut tip = self.tip(repo, None)?;
        let mut depths = DEPTHS.into_iter();
        loop {
            // Opened again because a fetch moves the border of a shallow repository.
            let now = self.open()?;
            if self.reaches(&now, tip, wanted)? {
                return Ok(Some((tip, now)));
            }
            if !now.is_shallow() {
                return Ok(None);
            }
            match depths.next() {
                Some(depth) => tip = self.tip(&now, Some(depth))?,
                // Everything was fetched, so the remote itself is shallow.
                None => return Ok(None),
            }
        }
    }

    fn reaches(&self, repo: &Repository, tip: Oid, wanted: Oid) -> Result<bool, Fail> {
        let mut walk = repo.revwalk()?;
        walk.push(tip)?;
        for id in walk {
            if id? == wanted {
                return Ok(true);
            }
            if !self.watch.beat() {
                return Err(self.broken("given up").into());
            }
        }
        Ok(false)
    }
}
