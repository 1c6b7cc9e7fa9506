//! Facts of a repository: revisions, differences, files of commits. Reads only.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, ObjectType, Oid, Repository, Status, StatusOptions};

use super::address;
use super::files::{self, broken, refused};
use crate::base::{Commit, Timestamp};
use crate::ports::workspace::WorkspaceError;

/// A first line longer than this is cut.
const MAX_SUBJECT: usize = 1_000;

struct Found {
    id: Oid,
    reference: Option<String>,
}

/// The facts of a revision; of `HEAD` if absent.
pub(super) fn commit(repo: &Repository, reference: Option<&str>) -> Result<Commit, WorkspaceError> {
    let found = match reference {
        None | Some("HEAD") => head(repo)?,
        Some(name) => resolve(repo, name)?,
    };
    let commit = repo
        .find_commit(found.id)
        .map_err(|e| broken(format!("reading commit {}", found.id), e.message()))?;
    let message = String::from_utf8_lossy(commit.message_bytes());
    let subject = message.lines().next().unwrap_or_default();
    let author = commit.author();
    let part = |prefix: &str| {
        let name = found.reference.as_deref()?.strip_prefix(prefix)?;
        Some(name.to_owned())
    };
    Ok(Commit {
        sha: found.id.to_string(),
        branch: part("refs/heads/"),
        tag: part("refs/tags/"),
        message: subject.chars().take(MAX_SUBJECT).collect(),
        author: format!(
            "{} <{}>",
            String::from_utf8_lossy(author.name_bytes()),
            String::from_utf8_lossy(author.email_bytes())
        ),
        time: Timestamp(commit.time().seconds().saturating_mul(1000)),
        origin: origin(repo),
        reference: found.reference.unwrap_or_else(|| found.id.to_string()),
    })
}

/// The configured address, not the one that `insteadOf` rules make of it.
fn origin(repo: &Repository) -> Option<String> {
    let url = repo.config().ok()?.get_string("remote.origin.url").ok()?;
    Some(address::without_credentials(&url))
}

fn head(repo: &Repository) -> Result<Found, WorkspaceError> {
    let missing = || WorkspaceError::NoRevision {
        revision: "HEAD".to_owned(),
    };
    let head = repo.head().map_err(|error| match error.code() {
        ErrorCode::UnbornBranch | ErrorCode::NotFound => missing(),
        _ => broken("reading HEAD", error.message()),
    })?;
    let id = head.target().ok_or_else(missing)?;
    let name = String::from_utf8_lossy(head.name_bytes()).into_owned();
    let reference = name.starts_with("refs/").then_some(name);
    Ok(Found { id, reference })
}

fn resolve(repo: &Repository, name: &str) -> Result<Found, WorkspaceError> {
    let missing = || WorkspaceError::NoRevision {
        revision: name.chars().take(200).collect(),
    };
    let by_ref = |full: String| -> Option<Found> {
        let id = repo
            .find_reference(&full)
            .and_then(|found| found.peel_to_commit())
            .ok()?
            .id();
        let reference = Some(full);
        Some(Found { id, reference })
    };
    if name.starts_with("refs/") {
        return by_ref(name.to_owned()).ok_or_else(missing);
    }
    let branch = by_ref(format!("refs/heads/{name}"));
    let tag = by_ref(format!("refs/tags/{name}"));
    match (branch, tag) {
        (Some(_), Some(_)) => Err(broken(
            format!("resolving \"{name}\""),
            format!("it is a branch and a tag: write refs/heads/{name} or refs/tags/{name}"),
        )),
        (Some(found), None) | (None, Some(found)) => Ok(found),
        (None, None) => by_ref(format!("refs/remotes/{name}"))
            .map_or_else(|| by_sha(repo, name).ok_or_else(missing)?, Ok),
    }
}

/// A commit by its name or a unique start of it; `None` if nothing is named so.
fn by_sha(repo: &Repository, name: &str) -> Option<Result<Found, WorkspaceError>> {
    let hex = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex || name.len() < 4 || name.len() > 40 {
        return None;
    }
    match repo.find_object_by_prefix(&name.to_ascii_lowercase(), None) {
        // The name of an annotated tag's object leads to its commit.
        Ok(object) => object.peel_to_commit().ok().map(|commit| {
            Ok(Found {
                id: commit.id(),
                reference: None,
            })
        }),
        Err(error) if error.code() == ErrorCode::Ambiguous => Some(Err(broken(
            format!("resolving \"{name}\""),
            "several objects start so: write more digits",
        ))),
        Err(_) => None,
    }
}

/// Whether anything but what lies below `state` differs from `HEAD`.
pub(super) fn is_dirty(repo: &Repository, state: &Path) -> Result<bool, WorkspaceError> {
    if repo.is_bare() {
        return Ok(false);
    }
    let own = below_root(repo, state);
    for recurse in [false, true] {
        let mut again = false;
        for path in changes(repo, recurse)? {
            match &own {
                Some(own) if path.starts_with(own) => {}
                // An untracked directory is one entry; look whether it holds anything but ours.
                Some(own) if !recurse && own.starts_with(&path) => again = true,
                _ => return Ok(true),
            }
        }
        if !again {
            break;
        }
    }
    Ok(false)
}

/// Files of the working tree that a commit of everything would hold.
pub(super) fn worktree_files(
    repo: &Repository,
    state: &Path,
) -> Result<BTreeSet<PathBuf>, WorkspaceError> {
    let index = repo
        .index()
        .map_err(|e| broken("reading the index", e.message()))?;
    let mut files: BTreeSet<PathBuf> = index
        .iter()
        .filter(|entry| entry.mode != 0o160_000)
        .map(|entry| PathBuf::from(OsStr::from_bytes(&entry.path)))
        .collect();
    files.extend(changes(repo, true)?);
    let own = below_root(repo, state);
    let root = repo.workdir().unwrap_or_else(|| repo.path()).to_owned();
    files.retain(|path| {
        let ours = own.as_ref().is_some_and(|own| path.starts_with(own));
        // Deleted files are in the index still; a nested repository is a directory.
        let kind = std::fs::symlink_metadata(root.join(path));
        !ours && kind.is_ok_and(|meta| !meta.is_dir())
    });
    Ok(files)
}

fn below_root(repo: &Repository, state: &Path) -> Option<PathBuf> {
    let state = std::fs::canonicalize(state).ok()?;
    let root = std::fs::canonicalize(repo.workdir()?).ok()?;
    state.strip_prefix(root).ok().map(Path::to_owned)
}

fn changes(repo: &Repository, recurse: bool) -> Result<Vec<PathBuf>, WorkspaceError> {
    let mut options = StatusOptions::new();
    options
        .include_untracked(true)
        .recurse_untracked_dirs(recurse)
        .include_ignored(false)
        .update_index(false);
    let statuses = repo
        .statuses(Some(&mut options))
        .map_err(|e| broken("comparing the working tree", e.message()))?;
    Ok(statuses
        .iter()
        .filter(|entry| !entry.status().intersects(Status::IGNORED))
        .map(|entry| PathBuf::from(OsStr::from_bytes(entry.path_bytes())))
        .collect())
}

/// Paths that differ between two commits; `None` if the first is not known here.
pub(super) fn changed(
    repo: &Repository,
    from: &str,
    to: &str,
) -> Result<Option<Vec<String>>, WorkspaceError> {
    let tree = |name: &str| match resolve(repo, name) {
        Ok(found) => repo
            .find_commit(found.id)
            .and_then(|commit| commit.tree())
            .map(Some)
            .map_err(|e| broken(format!("reading commit {name}"), e.message())),
        Err(WorkspaceError::NoRevision { .. }) => Ok(None),
        Err(error) => Err(error),
    };
    let after = tree(to)?.ok_or_else(|| WorkspaceError::NoRevision {
        revision: to.to_owned(),
    })?;
    let Some(before) = tree(from)? else {
        return Ok(None);
    };
    let diff = repo
        .diff_tree_to_tree(Some(&before), Some(&after), None)
        .map_err(|e| broken(format!("comparing {from} with {to}"), e.message()))?;
    let mut paths = BTreeSet::new();
    for delta in diff.deltas() {
        let both = [delta.old_file().path_bytes(), delta.new_file().path_bytes()];
        for path in both.into_iter().flatten() {
            paths.insert(String::from_utf8_lossy(path).into_owned());
        }
    }
    Ok(Some(paths.into_iter().collect()))
}

/// Names in a directory of a commit; `None` if it is none.
pub(super) fn entries(
    repo: &Repository,
    sha: &str,
    path: &Path,
) -> Result<Option<Vec<String>>, WorkspaceError> {
    let fail = |e: git2::Error| broken(format!("listing {} of {sha}", path.display()), e.message());
    let found = resolve(repo, sha)?;
    let mut tree = repo
        .find_commit(found.id)
        .and_then(|commit| commit.tree())
        .map_err(fail)?;
    let whole = path.as_os_str().is_empty() || path == Path::new(".");
    let names = if whole {
        Vec::new()
    } else {
        files::names(path)?
    };
    for name in names {
        let entry = tree.get_name_bytes(name.as_bytes());
        let Some(id) = entry
            .filter(|entry| entry.kind() == Some(ObjectType::Tree))
            .map(|entry| entry.id())
        else {
            return Ok(None);
        };
        tree = repo.find_tree(id).map_err(fail)?;
    }
    let listed = tree.iter();
    Ok(Some(
        listed
            .filter(|entry| entry.kind() != Some(ObjectType::Commit))
            .map(|entry| String::from_utf8_lossy(entry.name_bytes()).into_owned())
            .collect(),
    ))
}

/// A file of a commit, at most `limit` bytes; `None` if it is not there.
pub(super) fn read(
    repo: &Repository,
    sha: &str,
    path: &Path,
    limit: u64,
) -> Result<Option<Vec<u8>>, WorkspaceError> {
    let names = files::names(path)?;
    let fail = |e: git2::Error| broken(format!("reading {} of {sha}", path.display()), e.message());
    let found = resolve(repo, sha)?;
    let mut tree = repo
        .find_commit(found.id)
        .and_then(|commit| commit.tree())
        .map_err(fail)?;
    for name in &names[..names.len() - 1] {
        let Some(entry) = tree.get_name_bytes(name.as_bytes()) else {
            return Ok(None);
        };
        let (id, mode) = (entry.id(), entry.filemode());
        drop(entry);
        match mode {
            0o040_000 => tree = repo.find_tree(id).map_err(fail)?,
            0o120_000 => {
                let link = Path::new(name).display();
                let message = format!("passes through the symbolic link {link}");
                return Err(refused(path, message));
            }
            _ => return Ok(None),
        }
    }
    let Some(entry) = tree.get_name_bytes(names[names.len() - 1].as_bytes()) else {
        return Ok(None);
    };
    match (entry.filemode(), entry.kind()) {
        (0o120_000, _) => return Err(refused(path, "is a symbolic link")),
        (_, Some(ObjectType::Blob)) => {}
        (_, Some(ObjectType::Tree)) => return Err(refused(path, "is a directory")),
        _ => return Err(refused(path, "is a submodule")),
    }
    let odb = repo.odb().map_err(fail)?;
    let (size, _) = odb.read_header(entry.id()).map_err(fail)?;
    if size as u64 > limit {
        return Err(files::too_large(path, limit));
    }
    let blob = odb.read(entry.id()).map_err(fail)?;
    Ok(Some(blob.data().to_vec()))
}
