//! Files of the user: pipelines, reports, drafts.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::ports::files::{FileError, Files, PipelineFile};

/// Most pipeline files of one directory.
const MAX_FILES: usize = 2000;
/// Largest pipeline file that is read; the language accepts less and says so.
const MAX_BYTES: u64 = 4 << 20;
/// Deepest directory that projects are looked for in.
const MAX_DEPTH: usize = 16;
/// Most paths a walk returns.
const MAX_PATHS: usize = 100_000;

/// The file system of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostFiles;

fn fail(path: &Path, message: impl std::fmt::Display) -> FileError {
    FileError {
        path: path.to_owned(),
        message: message.to_string(),
    }
}

/// Entries of a directory by name, sorted.
fn entries(dir: &Path) -> Result<Vec<(String, std::fs::FileType)>, FileError> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|error| fail(dir, error))? {
        let entry = entry.map_err(|error| fail(dir, error))?;
        let kind = entry.file_type().map_err(|error| fail(dir, error))?;
        if let Ok(name) = entry.file_name().into_string() {
            all.push((name, kind));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

fn is_pipeline(name: &str) -> bool {
    name.ends_with(".kdl") && !name.starts_with('.')
}

/// Directories nobody keeps pipelines in, and which may be huge.
fn is_left_out(name: &str) -> bool {
    name.starts_with('.') || matches!(name, "target" | "node_modules" | "vendor")
}

fn read_bounded(path: &Path, limit: u64) -> Result<String, String> {
    // Opening a named pipe would otherwise wait for a writer that never comes.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|error| error.to_string())?;
    let kind = file.metadata().map_err(|error| error.to_string())?;
    if !kind.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    read_text(file, limit)
}

fn read_text(from: impl std::io::Read, limit: u64) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("it is larger than {limit} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        format!(
            "it is not UTF-8 text (byte {})",
            error.utf8_error().valid_up_to()
        )
    })
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|error| fail(dir, error))?;
    }
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let mut file = file.map_err(|error| fail(path, error))?;
    file.write_all(text.as_bytes())
        .map_err(|error| fail(path, error))
}

impl Files for HostFiles {
    fn root(&self, from: &Path) -> PathBuf {
        let here = std::path::absolute(from).unwrap_or_else(|_| from.to_owned());
        here.ancestors()
            .find(|dir| dir.join(".git").exists())
            .unwrap_or(&here)
            .to_owned()
    }

    fn project(&self, dir: &Path) -> Result<Vec<PipelineFile>, FileError> {
        let names: Vec<String> = entries(dir)?
            .into_iter()
            .filter(|(name, kind)| !kind.is_dir() && is_pipeline(name))
            .map(|(name, _)| name)
            .collect();
        if names.len() > MAX_FILES {
            return Err(fail(
                dir,
                format!("holds more than {MAX_FILES} pipeline files"),
            ));
        }
        Ok(names
            .into_iter()
            .map(|name| {
                let path = dir.join(&name);
                let text = read_bounded(&path, MAX_BYTES);
                (path.to_string_lossy().into_owned(), text)
            })
            .collect())
    }

    fn projects(&self, dir: &Path) -> Result<Vec<PathBuf>, FileError> {
        let mut found = Vec::new();
        let mut open = vec![(dir.to_owned(), 0)];
        while let Some((dir, depth)) = open.pop() {
            let entries = match entries(&dir) {
                Ok(entries) => entries,
                // The data directory of a database, say: nobody keeps pipelines where they
                // cannot be read, and it must not hide the others.
                Err(_) if depth > 0 => continue,
                Err(error) => return Err(error),
            };
            if entries
                .iter()
                .any(|(name, kind)| !kind.is_dir() && is_pipeline(name))
            {
                found.push(dir.clone());
            }
            if depth < MAX_DEPTH {
                let below = entries
                    .into_iter()
                    .filter(|(name, kind)| kind.is_dir() && !is_left_out(name));
                open.extend(below.map(|(name, _)| (dir.join(name), depth + 1)));
            }
        }
        found.sort();
        Ok(found)
    }

    fn walk(&self, dir: &Path, depth: usize) -> Result<Vec<String>, FileError> {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), 0)];
        while let Some((prefix, level)) = open.pop() {
            for (name, kind) in entries(&dir.join(&prefix))? {
                let path = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}/{name}")
                };
                if kind.is_dir() {
                    if level < depth && !is_left_out(&name) {
                        open.push((path, level + 1));
                    }
                } else if found.len() < MAX_PATHS {
                    found.push(path);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn read(&self, path: &Path, limit: u64) -> Result<String, FileError> {
        read_bounded(path, limit).map_err(|message| fail(path, message))
    }

    fn input(&self, limit: u64) -> Result<String, FileError> {
        read_text(std::io::stdin().lock(), limit)
            .map_err(|message| fail(Path::new("standard input"), message))
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn create_private(&self, path: &Path, text: &str) -> Result<(), FileError> {
        create(path, text, 0o600)
    }

    fn create(&self, path: &Path, text: &str) -> Result<(), FileError> {
        create(path, text, 0o666)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), FileError> {
        // A link stays one, and who may read the file stays as it is.
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mode = std::fs::metadata(&target).map(|metadata| metadata.permissions().mode());
        let dir = target
            .parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".pipewright-")
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(dir)
            .map_err(|error| fail(path, error))?;
        if let Ok(mode) = mode {
            file.as_file()
                .set_permissions(std::fs::Permissions::from_mode(mode & 0o7777))
                .map_err(|error| fail(path, error))?;
        }
        file.write_all(text.as_bytes())
            .map_err(|error| fail(path, error))?;
        file.persist(&target)
            .map_err(|error| fail(path, error.error))?;
        Ok(())
    }

    fn append(&self, path: &Path, text: &str) -> Result<(), FileError> {
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path);
        let mut file = file.map_err(|error| fail(path, error))?;
        file.write_all(text.as_bytes())
            .map_err(|error| fail(path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projects_are_found_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = HostFiles;
        for path in [
            "a.kdl",
            "b/c.kdl",
            ".hidden/d.kdl",
            "target/e.kdl",
            "f/notes.md",
        ] {
            files.create(&dir.path().join(path), "x").unwrap();
        }
        let found = files.projects(dir.path()).unwrap();
        assert_eq!(found, [dir.path().to_owned(), dir.path().join("b")]);
        assert_eq!(
            files.walk(dir.path(), 1).unwrap(),
            ["a.kdl", "b/c.kdl", "f/notes.md"]
        );
    }

    #[test]
    fn one_unreadable_file_does_not_hide_the_others() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.kdl"), [0xff, 0xfe]).unwrap();
        std::fs::write(dir.path().join("b.kdl"), "b").unwrap();
        std::os::unix::fs::symlink("c.kdl", dir.path().join("c.kdl")).unwrap();
        let project = HostFiles.project(dir.path()).unwrap();
        let fine: Vec<bool> = project.iter().map(|(_, text)| text.is_ok()).collect();
        assert_eq!(fine, [false, true, false]);
    }

    #[test]
    fn a_named_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.kdl");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, pipe, mode, 0).unwrap();
        let error = HostFiles.read(&path, 10).unwrap_err();
        assert!(error.message.contains("regular"), "{error}");
    }

    #[test]
    fn writing_keeps_links_and_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let [real, link] = ["real", "link"].map(|name| dir.path().join(name));
        std::fs::write(&real, "old").unwrap();
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        HostFiles.write(&link, "new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "new");
        let mode = std::fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn nothing_is_overwritten_by_create() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x/y.kdl");
        HostFiles.create(&path, "one").unwrap();
        assert!(HostFiles.create(&path, "two").is_err());
        assert_eq!(HostFiles.read(&path, 10).unwrap(), "one");
        assert!(HostFiles.read(&path, 2).is_err());
    }
}
