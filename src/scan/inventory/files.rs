//! Which files of an image are worth reading, from their paths alone.

/// Longest text file that is read, in bytes. The package database of a full desktop has a tenth.
const TEXT: u64 = 64 << 20;
/// Longest file about one package or the system.
const SMALL: u64 = 4 << 20;
/// Longest binary file that is held in memory.
const BINARY: u64 = 96 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `os-release`.
    OsRelease,
    /// `status` of dpkg, or one file of distroless' `status.d`.
    DpkgStatus,
    /// Which files a package of dpkg installed.
    DpkgFiles,
    /// `installed` of apk.
    Apk,
    /// rpm's database as SQLite.
    RpmSqlite,
    /// `Cargo.lock`.
    CargoLock,
    /// `package.json` of an installed Node.js package.
    NpmPackage,
    /// `package-lock.json` or `npm-shrinkwrap.json`.
    NpmLock,
    /// `yarn.lock`.
    YarnLock,
    /// `pnpm-lock.yaml`.
    PnpmLock,
    /// `METADATA` or `PKG-INFO` of an installed Python distribution.
    PythonMetadata,
    /// A Java archive.
    Java,
    /// Something that names packages and that we do not read.
    Unread {
        /// What it is.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
}

impl FileKind {
    /// Most bytes of such a file that are read. A longer one is told as unread.
    pub fn limit(self) -> u64 {
        match self {
            Self::DpkgStatus | Self::Apk | Self::NpmLock | Self::YarnLock | Self::PnpmLock => TEXT,
            Self::RpmSqlite | Self::Java => BINARY,
            Self::DpkgFiles | Self::CargoLock => TEXT / 4,
            Self::OsRelease | Self::NpmPackage | Self::PythonMetadata => SMALL,
            Self::Unread { .. } => 0,
        }
    }

    /// What the packages of such a file are called, for people.
    pub fn what(self) -> &'static str {
        match self {
            Self::OsRelease => "the name of the distribution",
            Self::DpkgStatus | Self::DpkgFiles => "packages of dpkg",
            Self::Apk => "packages of apk",
            Self::RpmSqlite => "packages of rpm",
            Self::CargoLock => "Rust crates",
            Self::NpmPackage | Self::NpmLock | Self::YarnLock | Self::PnpmLock => {
                "Node.js packages"
            }
            Self::PythonMetadata => "Python packages",
            Self::Java => "Java archives",
            Self::Unread { what, .. } => what,
        }
    }

    /// Whether it lists what is wanted, not what is there.
    pub(super) fn is_node_lock(self) -> bool {
        matches!(self, Self::NpmLock | Self::YarnLock | Self::PnpmLock)
    }
}

const NOT_READ: &str = "they are not read by this scanner";

/// What the file at a path is, if it is worth reading. `path` is as [`super::clean`] gives it.
pub fn recognise(path: &str) -> Option<FileKind> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    let unread = |what| {
        Some(FileKind::Unread {
            what,
            why: NOT_READ,
        })
    };
    // By name first: nearly every file falls through these.
    match name {
        "os-release" if matches!(directory, "etc" | "usr/lib") => Some(FileKind::OsRelease),
        "status" if directory == "var/lib/dpkg" => Some(FileKind::DpkgStatus),
        "status" if directory == "usr/lib/opkg" || directory == "var/lib/opkg" => {
            unread("packages of opkg")
        }
        "installed" if matches!(directory, "lib/apk/db" | "usr/lib/apk/db") => Some(FileKind::Apk),
        "rpmdb.sqlite" if is_rpm(directory) => Some(FileKind::RpmSqlite),
        "rpmdb.sqlite-wal" if is_rpm(directory) => Some(FileKind::Unread {
            what: "packages of rpm",
            why: "the database has a log of changes that were not merged into it",
        }),
        "Packages" if is_rpm(directory) => Some(FileKind::Unread {
            what: "packages of rpm",
            why: "the database is a Berkeley DB, which is not read by this scanner",
        }),
        "Packages.db" if is_rpm(directory) => Some(FileKind::Unread {
            what: "packages of rpm",
            why: "the database is in rpm's own ndb format, which is not read by this scanner",
        }),
        "container-manifest-2" if directory == "var/lib/rpmmanifest" => unread("packages of rpm"),
        "Cargo.lock" if !has(path, "registry/src") => Some(FileKind::CargoLock),
        "package.json" if has(directory, "node_modules") => Some(FileKind::NpmPackage),
        "package-lock.json" | "npm-shrinkwrap.json" if !has(directory, "node_modules") => {
            Some(FileKind::NpmLock)
        }
        "yarn.lock" if !has(directory, "node_modules") => Some(FileKind::YarnLock),
        "pnpm-lock.yaml" if !has(directory, "node_modules") => Some(FileKind::PnpmLock),
        "METADATA" if ends(directory, ".dist-info") => Some(FileKind::PythonMetadata),
        "PKG-INFO" if ends(directory, ".egg-info") => Some(FileKind::PythonMetadata),
        "composer.lock" => unread("PHP packages"),
        "installed.json" if directory.ends_with("vendor/composer") => unread("PHP packages"),
        "desc" if directory.starts_with("var/lib/pacman/local/") => unread("packages of pacman"),
        "state.json" if directory == "var/lib/snapd" => unread("snaps"),
        "db.sqlite" if directory == "nix/var/nix/db" => unread("packages of Nix"),
        "CONTENTS" if directory.starts_with("var/db/pkg/") => unread("packages of Portage"),
        "INSTALL_RECEIPT.json" if has(directory, "Cellar") => unread("packages of Homebrew"),
        "DESCRIPTION" if is_r_library(directory) => unread("R packages"),
        _ => by_extension(path, directory, name),
    }
}

fn by_extension(path: &str, directory: &str, name: &str) -> Option<FileKind> {
    let unread = |what| {
        Some(FileKind::Unread {
            what,
            why: NOT_READ,
        })
    };
    let (stem, extension) = match directory {
        "var/lib/dpkg/status.d" if !name.contains('.') => return Some(FileKind::DpkgStatus),
        _ => name.rsplit_once('.').unwrap_or((name, "")),
    };
    match extension {
        "list" if directory == "var/lib/dpkg/info" => Some(FileKind::DpkgFiles),
        "md5sums" if directory == "var/lib/dpkg/status.d" => Some(FileKind::DpkgFiles),
        _ if directory == "var/lib/dpkg/status.d" => Some(FileKind::DpkgStatus),
        // Newer Fedora keeps one for each variant, and links to one of them.
        _ if directory == "usr/lib/os.release.d" || directory == "usr/lib/os-release.d" => name
            .starts_with("os-release-")
            .then_some(FileKind::OsRelease),
        "egg-info" if !stem.is_empty() => Some(FileKind::PythonMetadata),
        "egg" if !stem.is_empty() => unread("zipped Python packages"),
        "gemspec"
            if directory.ends_with("specifications") || has(path, "specifications/default") =>
        {
            unread("Ruby packages")
        }
        "json" if stem.ends_with(".deps") => unread(".NET packages"),
        "json" if directory.ends_with("conda-meta") => unread("packages of conda"),
        "rockspec" => unread("Lua packages"),
        _ if is_java(name) => Some(FileKind::Java),
        _ => None,
    }
}

/// Whether a file name is that of a Java archive.
pub(super) fn is_java(name: &str) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else {
        return false;
    };
    !stem.is_empty()
        && [
            "jar", "war", "ear", "par", "sar", "nar", "jpi", "hpi", "kar", "lpkg",
        ]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

fn is_rpm(directory: &str) -> bool {
    matches!(
        directory,
        "var/lib/rpm" | "usr/lib/sysimage/rpm" | "usr/share/rpm"
    )
}

fn is_r_library(directory: &str) -> bool {
    let above = directory.rsplit_once('/').map_or("", |(above, _)| above);
    above.ends_with("site-library") || above.ends_with("R/library")
}

/// Whether the last part of a path ends so, in any case of letters.
fn ends(directory: &str, end: &str) -> bool {
    let tail = directory.len().checked_sub(end.len());
    tail.and_then(|at| directory.get(at..))
        .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

/// Whether a path has these parts in a row.
fn has(path: &str, parts: &str) -> bool {
    memchr::memmem::find_iter(path.as_bytes(), parts).any(|at| {
        let end = at + parts.len();
        (at == 0 || path.as_bytes()[at - 1] == b'/')
            && (end == path.len() || path.as_bytes()[end] == b'/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Option<FileKind>) {
        let found = recognise(path);
        match (found, expected) {
            (Some(FileKind::Unread { .. }), Some(FileKind::Unread { .. })) => {}
            (found, expected) => assert_eq!(found, expected, "{path}"),
        }
    }

    #[test]
    fn files_are_known_by_their_paths() {
        use FileKind::*;
        let unread = Some(Unread { what: "", why: "" });
        for (path, expected) in [
            ("etc/os-release", Some(OsRelease)),
            ("usr/lib/os-release", Some(OsRelease)),
            ("usr/lib/os.release.d/os-release-container", Some(OsRelease)),
            ("home/os-release", None),
            ("var/lib/dpkg/status", Some(DpkgStatus)),
            ("var/lib/dpkg/status-old", None),
            ("var/lib/dpkg/status.d/base", Some(DpkgStatus)),
            ("var/lib/dpkg/status.d/libssl1.1", Some(DpkgStatus)),
            ("var/lib/dpkg/status.d/base.md5sums", Some(DpkgFiles)),
            ("var/lib/dpkg/info/libc6:amd64.list", Some(DpkgFiles)),
            ("var/lib/dpkg/info/libc6:amd64.md5sums", None),
            ("lib/apk/db/installed", Some(Apk)),
            ("usr/lib/apk/db/installed", Some(Apk)),
            ("usr/lib/sysimage/rpm/rpmdb.sqlite", Some(RpmSqlite)),
            ("var/lib/rpm/Packages", unread),
            ("var/lib/rpm/Packages.db", unread),
            ("app/Cargo.lock", Some(CargoLock)),
            ("root/.cargo/registry/src/index/x-1/Cargo.lock", None),
            ("app/node_modules/a/package.json", Some(NpmPackage)),
            ("app/node_modules/a/esm/package.json", Some(NpmPackage)),
            ("app/package.json", None),
            ("app/my_node_modules/package.json", None),
            ("package-lock.json", Some(NpmLock)),
            ("app/node_modules/a/package-lock.json", None),
            (
                "usr/lib/python3/dist-packages/a-1.dist-info/METADATA",
                Some(PythonMetadata),
            ),
            ("x/a.egg-info", Some(PythonMetadata)),
            ("x/a.egg-info/PKG-INFO", Some(PythonMetadata)),
            ("x/a.EGG-INFO/PKG-INFO", Some(PythonMetadata)),
            ("METADATA", None),
            ("app/app.JAR", Some(Java)),
            (".jar", None),
            ("app/x.deps.json", unread),
            ("srv/vendor/composer/installed.json", unread),
            (
                "usr/lib/ruby/gems/3.1.0/specifications/rake-13.gemspec",
                unread,
            ),
            ("", None),
            ("é.dist-info/METADATA", Some(PythonMetadata)),
        ] {
            check(path, expected);
        }
    }
}
