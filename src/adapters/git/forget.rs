//! Removes what runs left below the state directory once the runs are forgotten: artifacts, and
//! caches that nobody uses. Touches nothing else.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::files::{self, broken};
use crate::base::Timestamp;
use crate::ports::workspace::WorkspaceError;

/// What was removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Bytes of files.
    pub bytes: u64,
    /// Caches.
    pub caches: usize,
}

/// Removes the artifacts of runs that `keep` does not know, and caches that no stage has used
/// since a time. With `dry` it only counts.
pub fn forget(
    state: &Path,
    keep: impl Fn(&str) -> bool,
    unused_since: Option<Timestamp>,
    dry: bool,
) -> Result<Forgotten, WorkspaceError> {
    let mut forgotten = Forgotten::default();
    let mut remove = |path: &Path| {
        let bytes = size_of(path);
        if !dry {
            files::remove(path).map_err(|e| broken(format!("removing {}", path.display()), e))?;
        }
        forgotten.bytes += bytes;
        Ok::<_, WorkspaceError>(())
    };
    for path in entries(&state.join("artifacts"))? {
        let run = path.file_name().unwrap_or_default().to_string_lossy();
        if !keep(&run) {
            remove(&path)?;
        }
    }
    let mut caches = 0;
    if let Some(since) = unused_since {
        let since = u64::try_from(since.0).unwrap_or(0);
        let since = SystemTime::UNIX_EPOCH + Duration::from_millis(since);
        for path in entries(&state.join("cache"))? {
            let used = path.symlink_metadata().and_then(|facts| facts.modified());
            if used.is_ok_and(|used| used < since) {
                remove(&path)?;
                caches += 1;
            }
        }
    }
    forgotten.caches = caches;
    Ok(forgotten)
}

/// Notes that a cache is in use.
pub(super) fn touch(cache: &Path) -> std::io::Result<()> {
    std::fs::File::open(cache)?.set_modified(SystemTime::now())
}

fn entries(dir: &Path) -> Result<Vec<std::path::PathBuf>, WorkspaceError> {
    match std::fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(broken(format!("reading {}", dir.display()), error)),
    }
}

/// Bytes of the files below a path; links are not followed.
fn size_of(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        match path.symlink_metadata() {
            Ok(facts) if facts.is_dir() => open.extend(entries(&path).unwrap_or_default()),
            Ok(facts) => bytes += facts.len(),
            Err(_) => {}
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_nobody_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            std::fs::write(path, "1234567").expect("write");
        };
        for path in [
            "artifacts/old/run.a/f",
            "artifacts/new/run.a/f",
            "cache/used/f",
            "cache/unused/f",
            "trees/abc/f",
        ] {
            file(path);
        }
        let there = |path: &str| dir.path().join(path).exists();
        let long_ago = std::fs::File::open(dir.path().join("cache/unused")).expect("open");
        long_ago
            .set_modified(SystemTime::UNIX_EPOCH)
            .expect("a time can be set");
        let since = Some(Timestamp(1_000_000));
        let go = |dry| forget(dir.path(), |run| run == "new", since, dry).expect("it goes");
        let expected = Forgotten {
            bytes: 14,
            caches: 1,
        };
        assert_eq!(go(true), expected);
        assert!(there("artifacts/old") && there("cache/unused"));
        assert_eq!(go(false), expected);
        assert!(!there("artifacts/old") && !there("cache/unused"));
        assert!(there("artifacts/new/run.a/f") && there("cache/used/f") && there("trees/abc/f"));
        assert_eq!(go(false), Forgotten::default());
    }
}
