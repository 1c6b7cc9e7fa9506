//! Files and directories of a simulated world. Nothing touches the host's file system.
//!
//! A directory is a folder with a path of its own below `/sim`; everything else on the host is
//! out of reach.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use globset::GlobBuilder;

use crate::base::Digest;
use crate::ports::engine::ContextFacts;

/// Files by path relative to a folder, with `/` between names.
pub(super) type Files = BTreeMap<String, Arc<[u8]>>;

/// Below which all simulated directories lie.
pub(super) const ROOT: &str = "/sim";

/// What a folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The files of a commit, shared and read-only.
    Tree,
    /// The working tree.
    Working,
    /// A stage's own.
    Scratch,
    /// A cache that outlives runs.
    Cache,
}

/// One folder.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    pub(super) kind: Kind,
    pub(super) files: Files,
}

/// All folders.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    folders: BTreeMap<PathBuf, Folder>,
}

/// Why a file cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteError {
    NoFolder,
    ReadOnly,
}

impl Disk {
    pub(super) fn put(&mut self, path: &Path, kind: Kind, files: Files) {
        self.folders.insert(path.to_owned(), Folder { kind, files });
    }

    pub(super) fn take(&mut self, path: &Path) -> Option<Folder> {
        self.folders.remove(path)
    }

    /// Removes a file.
    pub(super) fn remove(&mut self, path: &Path) {
        if let Some((root, _, rest)) = self.locate(path) {
            let root = root.to_owned();
            if let Some(folder) = self.folders.get_mut(&root) {
                folder.files.remove(&rest);
            }
        }
    }

    /// Removes every folder below a path, and says how many there were.
    pub(super) fn clear(&mut self, below: &Path) -> usize {
        let before = self.folders.len();
        self.folders.retain(|path, _| !path.starts_with(below));
        before - self.folders.len()
    }

    /// The folder that holds a path, and the path within it.
    pub(super) fn locate(&self, path: &Path) -> Option<(&Path, &Folder, String)> {
        let clean = PathBuf::from(format!("/{}", relative(path.strip_prefix("/").ok()?)?));
        clean.ancestors().find_map(|folder| {
            let (root, found) = self.folders.get_key_value(folder)?;
            let rest = clean.strip_prefix(folder).ok()?;
            Some((root.as_path(), found, relative(rest)?))
        })
    }

    /// Whether there is such a folder, or a file or directory in one.
    pub(super) fn exists(&self, path: &Path) -> bool {
        self.locate(path).is_some_and(|(_, folder, rest)| {
            rest.is_empty()
                || folder.files.contains_key(&rest)
                || folder
                    .files
                    .keys()
                    .any(|file| file.strip_prefix(&rest).is_some_and(|r| r.starts_with('/')))
        })
    }

    pub(super) fn read(&self, path: &Path) -> Option<Arc<[u8]>> {
        let (_, folder, rest) = self.locate(path)?;
        folder.files.get(&rest).cloned()
    }

    /// Every file below a directory, by path relative to it.
    pub(super) fn below(&self, path: &Path) -> Option<Files> {
        let (_, folder, rest) = self.locate(path)?;
        if rest.is_empty() {
            return Some(folder.files.clone());
        }
        let prefix = format!("{rest}/");
        Some(
            folder
                .files
                .iter()
                .filter_map(|(file, bytes)| {
                    Some((file.strip_prefix(&prefix)?.to_owned(), bytes.clone()))
                })
                .collect(),
        )
    }

    pub(super) fn write(&mut self, path: &Path, bytes: Arc<[u8]>) -> Result<(), WriteError> {
        let (root, _, rest) = self.locate(path).ok_or(WriteError::NoFolder)?;
        let root = root.to_owned();
        let folder = self.folders.get_mut(&root).ok_or(WriteError::NoFolder)?;
        if folder.kind == Kind::Tree {
            return Err(WriteError::ReadOnly);
        }
        folder.files.insert(rest, bytes);
        Ok(())
    }
}

/// A relative path in its plain form; `None` if it is absolute or leads out.
pub(super) fn relative(path: &Path) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => {
                names.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(names.join("/"))
}

/// What a build of a directory sees.
pub(super) fn context(
    disk: &Disk,
    directory: &Path,
    dockerfile: &Path,
) -> Result<ContextFacts, String> {
    let files = disk
        .below(directory)
        .filter(|files| !files.is_empty())
        .ok_or_else(|| format!("the build context {} does not exist", directory.display()))?;
    let name = relative(dockerfile)
        .ok_or_else(|| format!("{} lies outside the build context", dockerfile.display()))?;
    let text = files
        .get(&name)
        .ok_or_else(|| format!("the build context has no {name}"))?;
    let text = std::str::from_utf8(text)
        .map_err(|_| format!("{name} is not UTF-8"))?
        .to_owned();
    let ignore = files
        .get(&format!("{name}.dockerignore"))
        .or_else(|| files.get(".dockerignore"))
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .unwrap_or_default();
    let ignored = Ignore::parse(&ignore)?;
    let mut facts = String::new();
    let (mut entries, mut bytes) = (0, 0);
    for (path, content) in &files {
        if ignored.matches(path) {
            continue;
        }
        entries += 1;
        bytes += content.len() as u64;
        facts.push_str(&format!("{path}\0{}\0", Digest::of(content)));
    }
    facts.push_str(&text);
    Ok(ContextFacts {
        digest: Digest::of(facts.as_bytes()),
        dockerfile: text,
        entries,
        bytes,
    })
}

/// The patterns of a `.dockerignore`; the last that matches a path or a directory above it wins.
struct Ignore(Vec<(bool, globset::GlobMatcher)>);

impl Ignore {
    fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (keeps, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern),
                None => (false, line),
            };
            let pattern = pattern.trim_start_matches("./").trim_matches('/');
            let glob = GlobBuilder::new(pattern)
                .literal_separator(true)
                .build()
                .map_err(|error| format!(".dockerignore: {error}"))?;
            rules.push((keeps, glob.compile_matcher()));
        }
        Ok(Self(rules))
    }

    fn matches(&self, path: &str) -> bool {
        let hits = |glob: &globset::GlobMatcher| {
            Path::new(path)
                .ancestors()
                .any(|part| !part.as_os_str().is_empty() && glob.is_match(part))
        };
        let last = self.0.iter().rev().find(|(_, glob)| hits(glob));
        last.is_some_and(|(keeps, _)| !keeps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(files: &[(&str, &str)]) -> Disk {
        let mut disk = Disk::default();
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Arc::from(text.as_bytes())))
            .collect();
        disk.put(Path::new("/sim/t"), Kind::Tree, files);
        disk
    }

    #[test]
    fn paths_stay_inside() {
        let mut disk = disk(&[("a/b", "1"), ("ab", "2")]);
        disk.put(Path::new("/sim/s"), Kind::Scratch, Files::new());
        assert_eq!(
            disk.read(Path::new("/sim/t/a/./x/../b")).as_deref(),
            Some(&b"1"[..])
        );
        assert!(disk.exists(Path::new("/sim/t/a")) && !disk.exists(Path::new("/sim/t/b")));
        assert!(disk.locate(Path::new("/etc/passwd")).is_none());
        assert_eq!(
            disk.write(Path::new("/sim/t/x"), Arc::from(&b""[..])),
            Err(WriteError::ReadOnly)
        );
        assert_eq!(
            disk.write(Path::new("/sim/s/../../etc"), Arc::from(&b""[..])),
            Err(WriteError::NoFolder)
        );
        assert_eq!(
            disk.write(Path::new("/sim/s/x"), Arc::from(&b""[..])),
            Ok(())
        );
        assert_eq!(relative(Path::new("../x")), None);
    }

    #[test]
    fn a_context_honours_dockerignore() {
        let files = [
            ("Dockerfile", "FROM scratch\n"),
            (
                ".dockerignore",
                "# no\n*.md\n!README.md\nnode_modules/\n**/*.log\n",
            ),
            ("a.md", "x"),
            ("README.md", "x"),
            ("node_modules/m/i.js", "x"),
            ("src/x/y.log", "x"),
            ("src/main.rs", "x"),
        ];
        let facts = context(&disk(&files), Path::new("/sim/t"), Path::new("Dockerfile"))
            .expect("a context");
        assert_eq!(
            facts.entries, 4,
            "Dockerfile .dockerignore README.md src/main.rs"
        );
        let mut changed = files;
        changed[2].1 = "ignored change";
        let of = |files: &[_]| {
            context(&disk(files), Path::new("/sim/t"), Path::new("Dockerfile"))
                .expect("a context")
                .digest
        };
        assert_eq!(facts.digest, of(&changed));
        changed[6].1 = "seen change";
        assert_ne!(facts.digest, of(&changed));
        let missing = context(&disk(&files), Path::new("/sim/t"), Path::new("nope"));
        assert_eq!(missing, Err("the build context has no nope".to_owned()));
    }
}
