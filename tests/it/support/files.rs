//! Files of the repository, for tests that hold them against a rule.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below a directory whose names end in `.` and the extension, sorted; a missing
/// directory has none.
pub fn below(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a readable directory").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Holds a generated text against its file, or writes the file if `PIPEWRIGHT_BLESS` is set.
pub fn same_as_file(path: &Path, text: &str) -> Result<(), String> {
    if std::env::var_os("PIPEWRIGHT_BLESS").is_some() {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).expect("a writable directory");
        }
        std::fs::write(path, text).expect("a writable file");
        return Ok(());
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    if there == text {
        return Ok(());
    }
    let first = there
        .lines()
        .zip(text.lines())
        .position(|(a, b)| a != b)
        .unwrap_or_else(|| there.lines().count().min(text.lines().count()));
    Err(format!(
        "{} differs from line {} on\n  there: {}\n  now:   {}\nrun the tests with PIPEWRIGHT_BLESS=1 to rewrite it, and look at the difference",
        path.display(),
        first + 1,
        there.lines().nth(first).unwrap_or("(end)"),
        text.lines().nth(first).unwrap_or("(end)"),
    ))
}
