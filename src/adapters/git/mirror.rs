//! One remote repository seen through its mirror: a bare repository with only what was fetched.
//!
//! Remotes on this machine are not copied: their objects are borrowed in memory. The mirror of a
//! remote over HTTP is shallow. Whoever uses a mirror holds its lock, so nothing here has to cope
//! with somebody else writing. A mirror that cannot be read is thrown away and fetched again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{
    AutotagOption, Direction, ErrorCode, FetchOptions, Oid, Remote as GitRemote, RemoteRedirect,
    Repository, RepositoryInitOptions, Signature, Time,
};

use super::address::Address;
use super::files;
use super::gateway::Gateway;
use super::keys::SshKey;
use super::openpgp::PgpKey;
use super::watch::Watch;
use crate::ports::vcs::{NewCommit, Remote, Signing, Snapshot, VcsError};

/// The largest file that is read or written.
pub(super) const MAX_FILE: usize = 16 << 20;
/// A mirror with more packs than this is slow and is fetched anew.
const MAX_PACKS: usize = 200;

/// Why something did not work, before it is known whether a new mirror would help.
pub(super) enum Fail {
    /// The other side or the caller is at fault.
    Vcs(VcsError),
    /// Reading or writing the mirror failed.
    Mirror(git2::Error),
}

impl From<VcsError> for Fail {
    fn from(error: VcsError) -> Self {
        Self::Vcs(error)
    }
}

impl From<git2::Error> for Fail {
    fn from(error: git2::Error) -> Self {
        Self::Mirror(error)
    }
}

/// A remote while its mirror is locked.
pub(super) struct Session {
    pub(super) remote: Remote,
    pub(super) address: Address,
    /// The door to it, if it is behind TLS.
    pub(super) gateway: Option<Arc<Gateway>>,
    pub(super) mirror: PathBuf,
    pub(super) watch: Arc<Watch>,
}

impl Session {
    /// Does work on the mirror; if the mirror turns out to be broken, once more on a new one.
    pub(super) fn run<T>(
        &self,
        work: impl Fn(&Self, &Repository) -> Result<T, Fail>,
    ) -> Result<T, VcsError> {
        let first = match self.open().and_then(|repo| work(self, &repo)) {
            Ok(value) => return Ok(value),
            Err(Fail::Vcs(error)) => return Err(error),
            Err(Fail::Mirror(error)) => error,
        };
        let removed = self.watch.while_owned(|| files::remove(&self.mirror));
        if !matches!(removed, Some(Ok(()))) {
            return Err(self.broken(first.message()));
        }
        match self.open().and_then(|repo| work(self, &repo)) {
            Ok(value) => Ok(value),
            Err(Fail::Vcs(error)) => Err(error),
            Err(Fail::Mirror(error)) => Err(self.broken(error.message())),
        }
    }

    pub(super) fn open(&self) -> Result<Repository, Fail> {
        // Not `open_bare`: that does not look at the border of a shallow repository.
        let repo = match Repository::open(&self.mirror) {
            Ok(repo) => repo,
            Err(error) if error.code() == ErrorCode::NotFound && !self.mirror.exists() => {
                self.create()?
            }
            Err(error) => return Err(error.into()),
        };
        if let Address::Local(path) = &self.address {
            let objects = self.open_local(path)?.commondir().join("objects");
            let objects = objects.to_str().ok_or_else(|| {
                self.content("the path is not written in UTF-8, which is not supported")
            })?;
            repo.odb()?.add_disk_alternate(objects)?;
        }
        Ok(repo)
    }

    /// Makes a mirror, with settings that beat those of the user's configuration: the address is
    /// the one that was asked for, and a redirect never leads a credential to another host.
    fn create(&self) -> Result<Repository, Fail> {
        // Put in place only when complete: a mirror without these settings must not exist.
        let new = self.mirror.with_extension("new");
        let system = |error: std::io::Error| self.broken(&format!("making its mirror: {error}"));
        files::remove(&new).map_err(system)?;
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false);
        let mut config = Repository::init_opts(&new, &options)?.config()?;
        config.set_bool("http.followRedirects", false)?;
        if matches!(self.address, Address::Http { .. }) {
            let url = &self.remote.url;
            config.set_str(&format!("url.{url}.insteadOf"), url)?;
            config.set_str(&format!("url.{url}.pushInsteadOf"), url)?;
        }
        let placed = self
            .watch
            .while_owned(|| std::fs::rename(&new, &self.mirror));
        match placed {
            Some(placed) => placed.map_err(system)?,
            None => return Err(self.broken("given up").into()),
        }
        Ok(Repository::open(&self.mirror)?)
    }

    /// Opens the remote repository itself if it is on this machine.
    pub(super) fn open_local(&self, path: &Path) -> Result<Repository, VcsError> {
        Repository::open(path).map_err(|error| match error.code() {
            ErrorCode::NotFound => self.content("there is no repository"),
            ErrorCode::Owner => self.denied(
                "another user owns the repository: add it to git's safe.directory to trust it",
            ),
            _ => self.broken(error.message()),
        })
    }

    /// The full name of the branch.
    pub(super) fn branch_ref(&self) -> Result<String, VcsError> {
        let name = format!("refs/heads/{}", self.remote.branch);
        if !git2::Reference::is_valid_name(&name) {
            return Err(self.content(&format!("\"{}\" is no branch name", self.remote.branch)));
        }
        Ok(name)
    }

    /// Where the mirror notes the tip that it holds completely.
    pub(super) fn tracking_ref(&self) -> String {
        format!("refs/remotes/origin/{}", self.remote.branch)
    }

    /// The tip of the branch, with its files in the mirror; the history as deep as wanted.
    pub(super) fn tip(&self, repo: &Repository, depth: Option<i32>) -> Result<Oid, Fail> {
        let branch = self.branch_ref()?;
        let no_branch = || VcsError::NoBranch {
            url: self.remote.url.clone(),
            branch: self.remote.branch.clone(),
        };
        if let Address::Local(path) = &self.address {
            let there = self.open_local(path)?;
            let found = there
                .find_reference(&branch)
                .and_then(|found| found.peel_to_commit());
            return Ok(found.map_err(|_| no_branch())?.id());
        }
        let mut remote = self.http_remote(repo)?;
        let mut connection = remote
            .connect_auth(Direction::Fetch, Some(self.callbacks()), Some(self.proxy()))
            .map_err(|error| self.network(error))?;
        let heads = connection.list().map_err(|error| self.network(error))?;
        let tip = heads
            .iter()
            .find(|head| head.name() == branch)
            .map(|head| head.oid())
            .ok_or_else(no_branch)?;
        if depth.is_none() && self.holds(repo, tip) {
            return Ok(tip);
        }
        let tracking = self.tracking_ref();
        let spec = format!("+{branch}:{tracking}");
        let mut options = FetchOptions::new();
        options
            .depth(depth.unwrap_or(1))
            .download_tags(AutotagOption::None)
            .update_fetchhead(false)
            .follow_redirects(RemoteRedirect::None)
            .proxy_options(self.proxy())
            .remote_callbacks(self.callbacks());
        let fetched = connection
            .remote()
            .fetch(&[&spec], Some(&mut options), None);
        if let Err(error) = fetched {
            // A server without this ability has to send everything.
            if error.message().contains("doesn't support shallow") {
                options = FetchOptions::new();
                options
                    .download_tags(AutotagOption::None)
                    .update_fetchhead(false)
                    .follow_redirects(RemoteRedirect::None)
                    .proxy_options(self.proxy())
                    .remote_callbacks(self.callbacks());
                drop(connection);
                let again = remote.fetch(&[&spec], Some(&mut options), None);
                again.map_err(|error| self.network(error))?;
            } else {
                return Err(self.network(error));
            }
        }
        let tip = repo.refname_to_id(&tracking)?;
        repo.find_commit(tip)?.tree()?;
        Ok(tip)
    }

    /// Where the branch is, for [`crate::ports::vcs::VcsReader::tip`].
    pub(super) fn listed(&self, repo: &Repository) -> Result<Option<Oid>, Fail> {
        let branch = self.branch_ref()?;
        if let Address::Local(path) = &self.address {
            let there = self.open_local(path)?;
            return match there.refname_to_id(&branch) {
                Ok(tip) => Ok(Some(tip)),
                Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
                Err(error) => Err(self.broken(error.message()).into()),
            };
        }
        let mut remote = self.http_remote(repo)?;
        let connection = remote
            .connect_auth(Direction::Fetch, Some(self.callbacks()), Some(self.proxy()))
            .map_err(|error| self.network(error))?;
        let heads = connection.list().map_err(|error| self.network(error))?;
        let found = heads.iter().find(|head| head.name() == branch);
        Ok(found.map(|head| head.oid()))
    }

    /// Whether an earlier fetch or push has noted this tip.
    fn holds(&self, repo: &Repository, tip: Oid) -> bool {
        repo.refname_to_id(&self.tracking_ref())
            .is_ok_and(|id| id == tip)
    }

    /// The remote in the mirror's terms; checks that no configuration changed its address.
    pub(super) fn http_remote<'r>(&self, repo: &'r Repository) -> Result<GitRemote<'r>, Fail> {
        let reached = self.reached();
        let remote = repo.remote_anonymous(reached)?;
        let url = remote.url().ok();
        let push = remote.pushurl().ok().flatten();
        if url != Some(reached) || push.is_some_and(|push| push != reached) {
            return Err(self
                .broken("git's configuration changes this address")
                .into());
        }
        Ok(remote)
    }

    /// Tip and files, for [`crate::ports::vcs::VcsReader::snapshot`].
    pub(super) fn snapshot(&self, repo: &Repository, paths: &[String]) -> Result<Snapshot, Fail> {
        if Self::is_worn(repo)
            && let Some(Ok(())) = self.watch.while_owned(|| files::remove(&self.mirror))
        {
            return self.snapshot(&self.open()?, paths);
        }
        let tip = self.tip(repo, None)?;
        let mut files = std::collections::BTreeMap::new();
        for path in paths {
            if let Some((id, _)) = self.file(repo, tip, path)? {
                let odb = repo.odb()?;
                let (size, _) = odb.read_header(id)?;
                if size > MAX_FILE {
                    return Err(self
                        .content(&format!("{path} is larger than 16 MiB"))
                        .into());
                }
                files.insert(path.clone(), odb.read(id)?.data().to_vec());
            }
        }
        Ok(Snapshot {
            commit: tip.to_string(),
            files,
        })
    }

    /// Whether so many fetches have piled up that a new mirror is better. Commits that were made
    /// and not pushed go with the old one, which their writers see as a race.
    fn is_worn(repo: &Repository) -> bool {
        let packs = std::fs::read_dir(repo.path().join("objects/pack"))
            .map_or(0, |entries| entries.flatten().count() / 2);
        packs > MAX_PACKS
    }

    /// The blob and mode of a file of a commit; `None` if it is not there.
    pub(super) fn file(
        &self,
        repo: &Repository,
        commit: Oid,
        path: &str,
    ) -> Result<Option<(Oid, i32)>, Fail> {
        let names = self.names(path)?;
        let mut tree = repo.find_commit(commit)?.tree()?;
        for name in &names[..names.len() - 1] {
            let Some((id, mode)) = tree.get_name(name).map(|e| (e.id(), e.filemode())) else {
                return Ok(None);
            };
            match mode {
                0o040_000 => tree = repo.find_tree(id)?,
                0o120_000 => {
                    let message = format!("{path} passes through the symbolic link \"{name}\"");
                    return Err(self.content(&message).into());
                }
                _ => {
                    return Err(self
                        .content(&format!("{path}: \"{name}\" is no directory"))
                        .into());
                }
            }
        }
        let Some(entry) = tree.get_name(names[names.len() - 1]) else {
            return Ok(None);
        };
        let what = match entry.filemode() {
            0o120_000 => "a symbolic link",
            0o040_000 => "a directory",
            0o160_000 => "a submodule",
            mode => return Ok(Some((entry.id(), mode))),
        };
        Err(self.content(&format!("{path} is {what}")).into())
    }

    fn names<'p>(&self, path: &'p str) -> Result<Vec<&'p str>, VcsError> {
        let names: Vec<&str> = path.split('/').collect();
        let bad = |name: &&str| {
            name.is_empty()
                || *name == "."
                || *name == ".."
                || name.eq_ignore_ascii_case(".git")
                || name.chars().any(char::is_control)
        };
        if path.len() > 4_096 || names.len() > files::MAX_DEPTH || names.iter().any(bad) {
            let path: String = path.chars().take(200).collect();
            return Err(self.content(&format!("{path:?} is no path of a file in a repository")));
        }
        Ok(names)
    }

    /// Makes a commit object, for [`crate::ports::vcs::Vcs::commit`].
    pub(super) fn commit(&self, repo: &Repository, new: &NewCommit) -> Result<String, Fail> {
        let parent = Oid::from_str(&new.parent)
            .map_err(|_| self.content(&format!("{:?} is no commit", new.parent)))?;
        if repo.find_commit(parent).is_err() {
            // The mirror was thrown away since; usually the branch is still there.
            self.tip(repo, None)?;
        }
        let parent = repo.find_commit(parent).map_err(|_| {
            self.broken(&format!(
                "commit {parent} is not the tip any more: read it again"
            ))
        })?;
        let mut update = git2::build::TreeUpdateBuilder::new();
        for (path, content) in &new.files {
            if content.len() > MAX_FILE {
                return Err(self
                    .content(&format!("{path} would be larger than 16 MiB"))
                    .into());
            }
            let mode = match self.file(repo, parent.id(), path)? {
                Some((_, 0o100_755)) => git2::FileMode::BlobExecutable,
                _ => git2::FileMode::Blob,
            };
            update.upsert(path.as_str(), repo.blob(content)?, mode);
        }
        let base = parent.tree()?;
        let tree = if new.files.is_empty() {
            base
        } else {
            repo.find_tree(update.create_updated(repo, &base)?)?
        };
        let (name, email) = &new.identity;
        let time = Time::new(new.time.0.div_euclid(1_000), 0);
        let who = Signature::new(name, email, &time).map_err(|error| {
            self.content(&format!(
                "\"{name} <{email}>\" is no identity: {}",
                error.message()
            ))
        })?;
        if new.message.contains('\0') || new.message.trim().is_empty() {
            return Err(self
                .content("the commit message is empty or has a zero byte")
                .into());
        }
        let message = format!("{}\n", new.message.trim_end());
        let Some(signing) = &new.signing else {
            let id = repo.commit(None, &who, &who, &message, &tree, &[&parent])?;
            return Ok(id.to_string());
        };
        let content = repo.commit_create_buffer(&who, &who, &message, &tree, &[&parent])?;
        let content = std::str::from_utf8(&content)
            .map_err(|_| self.content("the commit message is not written in UTF-8"))?;
        let signature = match signing {
            Signing::Ssh(key) => {
                SshKey::parse(key).and_then(|key| key.sign_commit(content.as_bytes()))
            }
            Signing::OpenPgp(key) => {
                PgpKey::parse(key).and_then(|key| key.sign(content.as_bytes(), time.seconds()))
            }
        };
        let signature =
            signature.map_err(|why| self.content(&format!("signing the commit: {why}")))?;
        let id = repo.commit_signed(content, signature.trim_end(), Some("gpgsig"))?;
        Ok(id.to_string())
    }
}
