//! Files that stages hand on: picked out of a scratch copy by globs, laid over another one later.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::{Dir, FileType};

use super::copy::Copy;
use super::files::{self, broken, refused};
use crate::ports::workspace::WorkspaceError;

/// The most files one stage may hand on.
const MAX_FILES: usize = 100_000;
/// The most directory entries looked at to find them.
const MAX_VISITED: usize = 2_000_000;
/// The most patterns, and the longest.
const MAX_PATTERNS: usize = 1_000;
const MAX_PATTERN: usize = 4_096;

/// Copies what the patterns match below `from` to `store`, replacing what is there at once.
/// Returns the number of files and of bytes.
pub(super) fn collect(
    from: &Path,
    store: &Path,
    patterns: &[String],
) -> Result<(u64, u64), WorkspaceError> {
    let found = find(from, patterns)?;
    let root = files::open_root(from)?;

    let what = || format!("storing artifacts in {}", store.display());
    // No stage's directory starts with a dot.
    let name = store.file_name().unwrap_or_default().to_string_lossy();
    let part = store.with_file_name(format!(".part-{name}"));
    files::remove(&part).map_err(|e| broken(what(), e))?;
    std::fs::create_dir_all(&part).map_err(|e| broken(what(), e))?;
    let target = files::open_root(&part)?;
    let mut copy = Copy::new();
    for path in &found {
        copy.one(root.as_fd(), target.as_fd(), path)?;
    }
    files::remove(store).map_err(|e| broken(what(), e))?;
    std::fs::rename(&part, store).map_err(|e| broken(what(), e))?;
    Ok(copy.tally())
}

/// The files and links below a directory that the patterns match.
pub(super) fn find(from: &Path, patterns: &[String]) -> Result<Vec<PathBuf>, WorkspaceError> {
    let wanted = Wanted::new(patterns)?;
    let root = files::open_root(from)?;
    let mut found = Vec::new();
    let mut search = Search {
        wanted: &wanted,
        root: from,
        visited: 0,
        found: &mut found,
    };
    search.level(root.as_fd(), &mut PathBuf::new(), 0)?;
    Ok(found)
}

/// Lays stored artifacts over a directory.
pub(super) fn restore(store: &Path, into: &Path) -> Result<(), WorkspaceError> {
    std::fs::create_dir_all(into).map_err(|e| broken(format!("making {}", into.display()), e))?;
    Copy::over().dir(store, into)
}

/// Patterns, and the directories they can match in.
struct Wanted {
    globs: GlobSet,
    prefixes: Vec<PathBuf>,
}

impl Wanted {
    fn new(patterns: &[String]) -> Result<Self, WorkspaceError> {
        if patterns.len() > MAX_PATTERNS {
            let message = format!("is one of more than {MAX_PATTERNS} patterns");
            return Err(refused(&patterns[MAX_PATTERNS], message));
        }
        let mut globs = GlobSetBuilder::new();
        let mut prefixes = Vec::new();
        for pattern in patterns {
            if pattern.len() > MAX_PATTERN {
                let start: String = pattern.chars().take(60).collect();
                return Err(refused(start, "starts a pattern that is too long"));
            }
            files::names(Path::new(pattern))?;
            let clean = pattern.trim_start_matches("./").trim_end_matches('/');
            // A pattern that names a directory means all that is in it.
            for text in [clean.to_owned(), format!("{clean}/**")] {
                let glob = GlobBuilder::new(&text)
                    .literal_separator(true)
                    .build()
                    .map_err(|e| refused(pattern, format!("is no valid pattern: {}", e.kind())))?;
                globs.add(glob);
            }
            prefixes.push(literal_prefix(clean));
        }
        let globs = globs
            .build()
            .map_err(|e| broken("compiling artifact patterns", e))?;
        Ok(Self { globs, prefixes })
    }

    /// Whether anything below a directory may match.
    fn enters(&self, dir: &Path) -> bool {
        self.prefixes
            .iter()
            .any(|prefix| prefix.starts_with(dir) || dir.starts_with(prefix))
    }
}

/// The leading components of a pattern that are no patterns.
fn literal_prefix(pattern: &str) -> PathBuf {
    Path::new(pattern)
        .components()
        .take_while(|part| {
            let special = |byte: &u8| b"*?[]{}\\!".contains(byte);
            !part.as_os_str().as_bytes().iter().any(special)
        })
        .collect()
}

struct Search<'a> {
    wanted: &'a Wanted,
    root: &'a Path,
    visited: usize,
    found: &'a mut Vec<PathBuf>,
}

impl Search<'_> {
    fn level(
        &mut self,
        dir: BorrowedFd<'_>,
        at: &mut PathBuf,
        depth: usize,
    ) -> Result<(), WorkspaceError> {
        if depth > files::MAX_DEPTH {
            return Err(refused(&*at, "is nested too deep"));
        }
        let entries =
            Dir::read_from(dir).map_err(|e| broken(format!("reading {}", at.display()), e))?;
        for entry in entries {
            let entry = entry.map_err(|e| broken(format!("reading {}", at.display()), e))?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            self.visited += 1;
            if self.visited > MAX_VISITED {
                let message = format!("is beyond the {MAX_VISITED} entries that are looked at");
                return Err(refused(&*at, message));
            }
            at.push(name);
            self.entry(dir, name, entry.file_type(), at, depth)?;
            at.pop();
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        kind: FileType,
        at: &mut PathBuf,
        depth: usize,
    ) -> Result<(), WorkspaceError> {
        if matches!(kind, FileType::Directory | FileType::Unknown)
            && let Ok(inner) = files::open_dir(dir, name)
        {
            return if self.wanted.enters(at) {
                self.level(inner.as_fd(), at, depth + 1)
            } else {
                Ok(())
            };
        }
        if !self.wanted.globs.is_match(&*at) {
            return Ok(());
        }
        if self.found.len() == MAX_FILES {
            let message = format!("is one too many: a stage hands on at most {MAX_FILES} files");
            return Err(refused(&*at, message));
        }
        let path = self.root.join(&*at);
        if let Ok(target) = std::fs::read_link(&path)
            && !stays(self.root, at, &target)
        {
            let message = format!(
                "is a symbolic link to {}, outside the stage's directory",
                target.display()
            );
            return Err(refused(&*at, message));
        }
        self.found.push(at.clone());
        Ok(())
    }
}

/// Whether a link's target is below the root, by its text and, where it exists, in fact (it may
/// pass through other links).
pub(super) fn stays(root: &Path, link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    let Ok(root) = std::fs::canonicalize(root) else {
        return false;
    };
    std::fs::canonicalize(root.join(link)).map_or(true, |real| real.starts_with(&root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn fill(root: &Path, files: &[&str]) {
        for file in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, file).expect("write");
        }
    }

    fn list(root: &Path) -> Vec<String> {
        let mut all = Vec::new();
        let mut open = vec![root.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).expect("read").flatten() {
                if entry.file_type().expect("type").is_dir() {
                    open.push(entry.path());
                } else {
                    let path = entry.path();
                    let relative = path.strip_prefix(root).expect("below");
                    all.push(relative.display().to_string());
                }
            }
        }
        all.sort();
        all
    }

    #[track_caller]
    fn check(patterns: &[&str], expected: &[&str]) {
        let dir = tempfile::tempdir().expect("dir");
        let from = dir.path().join("from");
        fill(
            &from,
            &["a.txt", "b.bin", "d/a.txt", "d/e/c.txt", "dx/a.txt"],
        );
        let patterns: Vec<_> = patterns.iter().map(|p| (*p).to_owned()).collect();
        let store = dir.path().join("store");
        let (count, bytes) = collect(&from, &store, &patterns).expect("collect");
        assert_eq!(list(&store), expected);
        assert_eq!(count, expected.len() as u64);
        let sum: usize = expected.iter().map(|name| name.len()).sum();
        assert_eq!(bytes, sum as u64);
    }

    #[test]
    fn patterns() {
        check(&["a.txt"], &["a.txt"]);
        check(&["*.txt"], &["a.txt"]);
        check(
            &["**/*.txt"],
            &["a.txt", "d/a.txt", "d/e/c.txt", "dx/a.txt"],
        );
        check(&["d"], &["d/a.txt", "d/e/c.txt"]);
        check(&["./d/"], &["d/a.txt", "d/e/c.txt"]);
        check(&["d/*"], &["d/a.txt", "d/e/c.txt"]);
        check(&["d/e/**", "b.bin"], &["b.bin", "d/e/c.txt"]);
        check(&["nothing"], &[]);
    }

    #[test]
    fn hostile_patterns_and_links_are_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let from = dir.path().join("from");
        fill(&from, &["in/f"]);
        let store = dir.path().join("store");
        for bad in ["../x", "/etc/passwd", "a/../../b", "[", ""] {
            let error = collect(&from, &store, &[bad.to_owned()]).expect_err(bad);
            assert!(matches!(error, WorkspaceError::Path { .. }), "{error}");
        }
        symlink("f", from.join("in/good")).expect("link");
        symlink("missing", from.join("in/dangling")).expect("link");
        collect(&from, &store, &["in".to_owned()]).expect("links inside");
        assert_eq!(list(&store), ["in/dangling", "in/f", "in/good"]);
        for target in ["/etc/passwd", "../../x", "../..", "up/x"] {
            symlink("..", from.join("in/up")).ok();
            let bad = from.join("in/bad");
            std::fs::remove_file(&bad).ok();
            // `up` leads to the root, so `up/..` leaves although its text does not.
            let target = if target == "up/x" { "up/../x" } else { target };
            symlink(target, &bad).expect("link");
            std::fs::write(dir.path().join("x"), "").expect("write");
            let error = collect(&from, &store, &["in/bad".to_owned()]).expect_err(target);
            assert!(error.to_string().contains("outside"), "{target}: {error}");
        }
        // A refused collection leaves the earlier one alone.
        assert_eq!(list(&store), ["in/dangling", "in/f", "in/good"]);
    }

    #[test]
    fn restoring_goes_through_no_link() {
        let dir = tempfile::tempdir().expect("dir");
        let store = dir.path().join("store");
        fill(&store, &["out/f", "g"]);
        let into = dir.path().join("into");
        let outside = dir.path().join("outside");
        std::fs::create_dir_all(&into).expect("mkdir");
        std::fs::create_dir_all(&outside).expect("mkdir");
        symlink(&outside, into.join("out")).expect("link");
        let error = restore(&store, &into).expect_err("through a link");
        assert!(error.to_string().contains("out"), "{error}");
        assert!(list(&outside).is_empty());
        std::fs::remove_file(into.join("out")).expect("remove");
        // A link in place of a file is replaced, not followed.
        std::fs::remove_file(into.join("g")).ok();
        std::fs::write(outside.join("g"), "kept").expect("write");
        symlink(outside.join("g"), into.join("g")).expect("link");
        restore(&store, &into).expect("restore");
        assert_eq!(std::fs::read(into.join("g")).expect("read"), b"g");
        assert_eq!(std::fs::read(outside.join("g")).expect("read"), b"kept");
        assert_eq!(list(&into), ["g", "out/f"]);
    }
}
