//! What a stage's process gets to see of this process's environment, and where programs are found.
//!
//! The environment is an allow list: credentials of the person or the service that runs Pipewright
//! never reach a stage by accident.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Variables passed on under their own name.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    // Without these nothing reaches the network on a host that has a proxy or its own authorities.
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// Where programs are looked for if there is no `PATH` at all.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The part of this process's environment that stages see.
#[derive(Clone, Debug)]
pub(super) struct Environment {
    variables: Vec<(OsString, OsString)>,
    path: OsString,
}

impl Environment {
    /// Keeps what the allow list passes.
    pub(super) fn from_variables(all: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut variables: Vec<(OsString, OsString)> = all
            .into_iter()
            .filter(|(name, _)| is_passed(name))
            .collect();
        let path = variables
            .iter()
            .find(|(name, value)| name == "PATH" && !value.is_empty())
            .map(|(_, value)| value.clone());
        let path = path.unwrap_or_else(|| {
            variables.retain(|(name, _)| name != "PATH");
            variables.push(("PATH".into(), DEFAULT_PATH.into()));
            DEFAULT_PATH.into()
        });
        // Output goes to a pipe whatever terminal we run in, and `$TERM` must exist for `set -u`.
        variables.push(("TERM".into(), "dumb".into()));
        Self { variables, path }
    }

    /// Names and values.
    pub(super) fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The search path.
    pub(super) fn path(&self) -> &OsStr {
        &self.path
    }
}

fn is_passed(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"LC_") || PASSED.iter().any(|passed| name == *passed)
}

/// Finds a program: one with a slash relative to `workdir`, any other on `path`.
///
/// The answer is an absolute path, because a search by the system would cost the fast way to start
/// a process as soon as the environment is not simply inherited.
pub(super) fn find_program(name: &str, path: &OsStr, workdir: &Path) -> io::Result<PathBuf> {
    if name.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the name of the program is empty",
        ));
    }
    if name.contains('/') {
        // The system says what is wrong with it when it is started.
        return Ok(workdir.join(name));
    }
    let mut found_without_permission = None;
    for directory in std::env::split_paths(path) {
        // A relative or empty entry means the working directory of the program to start.
        let candidate = workdir.join(directory).join(name);
        let Ok(metadata) = std::fs::metadata(&candidate) else {
            continue;
        };
        if !metadata.is_file() {
            continue;
        }
        if metadata.permissions().mode() & 0o111 != 0 {
            return Ok(candidate);
        }
        found_without_permission.get_or_insert(candidate);
    }
    Err(match found_without_permission {
        Some(candidate) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is not executable", candidate.display()),
        ),
        None => io::Error::new(
            io::ErrorKind::NotFound,
            format!("no such program on PATH ({})", path.to_string_lossy()),
        ),
    })
}

/// Whether the system can take a variable of this name.
pub(super) fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is not a name for an environment variable"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_variables(
            pairs
                .iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value))),
        )
    }

    #[test]
    fn only_listed_variables_pass() {
        let environment = environment(&[
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("SSH_AUTH_SOCK", "/x"),
            ("https_proxy", "http://p"),
            ("TERM", "xterm"),
            ("BASH_ENV", "/x"),
            ("LD_PRELOAD", "/x"),
        ]);
        let names: Vec<_> = environment
            .variables()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        assert_eq!(
            names,
            ["PATH=/bin", "LC_ALL=C", "https_proxy=http://p", "TERM=dumb"]
        );
    }

    #[test]
    fn a_missing_path_gets_a_default() {
        for given in [&[][..], &[("PATH", "")][..]] {
            let environment = environment(given);
            assert_eq!(environment.path(), DEFAULT_PATH);
            let paths = environment.variables().filter(|(name, _)| *name == "PATH");
            assert_eq!(paths.count(), 1);
        }
    }

    #[test]
    fn programs_are_found_like_a_shell_finds_them() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
        for (folder, mode) in [(&first, 0o644), (&second, 0o755)] {
            std::fs::create_dir(folder).expect("a folder");
            std::fs::write(folder.join("tool"), "").expect("a file");
            std::fs::set_permissions(folder.join("tool"), PermissionsExt::from_mode(mode))
                .expect("permissions");
        }
        let path = std::env::join_paths([&first, &second]).expect("a path");
        let found = find_program("tool", &path, dir.path()).expect("it is there");
        assert_eq!(found, second.join("tool"));

        let error = find_program("tool", first.as_os_str(), dir.path()).expect_err("not allowed");
        assert!(error.to_string().contains("not executable"), "{error}");
        let error = find_program("tool2", &path, dir.path()).expect_err("not there");
        assert!(
            error.to_string().contains("no such program on PATH"),
            "{error}"
        );
        let found = find_program("./tool", &path, &first).expect("joined");
        assert_eq!(found, first.join("./tool"));
        let found = find_program("tool", OsStr::new("second"), dir.path()).expect("relative");
        assert_eq!(found, second.join("tool"));
    }

    #[test]
    fn names_of_variables_are_checked() {
        assert!(check_name("A_b").is_ok());
        for bad in ["", "A=B", "A\0"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
