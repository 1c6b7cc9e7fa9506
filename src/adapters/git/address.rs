//! Addresses of repositories: which transport they need, and how to show them safely.

use std::path::PathBuf;

use crate::ports::vcs::VcsError;

/// How a repository is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// On this machine.
    Local(PathBuf),
    /// Over HTTP or HTTPS.
    Http {
        /// Scheme, host and port: where a credential may be sent.
        origin: Origin,
    },
    /// Over ssh.
    Ssh(SshAddress),
}

/// Where a repository is over ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SshAddress {
    /// Whom to be there; absent: what ssh's own settings say.
    pub(super) user: Option<String>,
    /// The host, or a name that ssh's settings explain.
    pub(super) host: String,
    /// The port, if it is said.
    pub(super) port: Option<u16>,
    /// The path, as the other side reads it.
    pub(super) path: String,
}

impl SshAddress {
    /// `[user@]host` and a path; `None` if ssh might take a part for something else.
    fn of(authority: &str, path: &str) -> Option<Self> {
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (host, port.strip_prefix(':'))
            }
            None => match host.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            },
        };
        let port = match port {
            Some(port) => Some(port.parse().ok()?),
            None => None,
        };
        let safe = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text
                    .chars()
                    .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '+' | '%'))
        };
        // A password in an address would be shown with it.
        if !safe(host) || !user.is_none_or(|user| safe(user) && !user.contains(':')) {
            return None;
        }
        if path.is_empty() || path.starts_with('-') {
            return None;
        }
        Some(Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            path: path.to_owned(),
        })
    }
}

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of an `http` or `https` URL.
    pub(super) fn of(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let default = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let authority = &rest[..end];
        let host_port = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        let (host, port) = match host_port.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (host_port, default),
        };
        if host.is_empty() {
            return None;
        }
        let host = host.to_ascii_lowercase();
        Some(Self { scheme, host, port })
    }
}

impl Address {
    /// Reads an address and refuses those with a credential or a transport we do not have.
    pub(super) fn parse(url: &str) -> Result<Self, VcsError> {
        let content = |message: &str| VcsError::Content {
            url: without_credentials(url),
            message: message.to_owned(),
        };
        let unsupported = |message: String| VcsError::Unsupported {
            url: without_credentials(url),
            message,
        };
        if url.is_empty() || url.len() > 4_096 || url.chars().any(char::is_control) {
            return Err(content("is not an address of a repository"));
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return match scp(url) {
                Some((host, path)) => SshAddress::of(host, path)
                    .map(Self::Ssh)
                    .ok_or_else(|| content("is not an address of ssh: write `git@host:path`")),
                None => Ok(Self::Local(PathBuf::from(url))),
            };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => {
                let path = rest.strip_prefix("localhost").unwrap_or(rest);
                if !path.starts_with('/') {
                    return Err(content("a file address must hold an absolute path"));
                }
                Ok(Self::Local(PathBuf::from(percent_decoded(path))))
            }
            "http" | "https" => {
                if without_credentials(url) != url {
                    return Err(content(
                        "the address holds a credential: give it as a token instead",
                    ));
                }
                let origin = Origin::of(url).ok_or_else(|| content("the address has no host"))?;
                Ok(Self::Http { origin })
            }
            "ssh" | "git+ssh" | "ssh+git" => {
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                let path = match path {
                    "" => String::new(),
                    // A path below a home directory.
                    path if path.starts_with('~') => path.to_owned(),
                    path => format!("/{path}"),
                };
                let path = percent_decoded(&path).to_string_lossy().into_owned();
                SshAddress::of(authority, &path).map(Self::Ssh).ok_or_else(|| {
                    content("is not an address of ssh: write `ssh://git@host:port/path`, without a password")
                })
            }
            other => Err(unsupported(format!(
                "\"{other}\" is no transport for repositories: use https"
            ))),
        }
    }
}

/// Host and path of `user@host:path`, as ssh remotes are commonly written.
fn scp(url: &str) -> Option<(&str, &str)> {
    // An address of IPv6 is in brackets, with colons of its own.
    let at = match url.find('[') {
        Some(open) => open + url[open..].find("]:")? + 1,
        None => url.find(':')?,
    };
    let (host, path) = (&url[..at], &url[at + 1..]);
    (!host.is_empty() && !host.contains('/')).then_some((host, path))
}

/// An address without what may be secret in it: user information and query of HTTP addresses,
/// passwords of others.
pub(super) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let rest = match rest.find(['?', '#']) {
        Some(end) if http => &rest[..end],
        _ => rest,
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        None => authority.to_owned(),
        Some((_, host)) if http => host.to_owned(),
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{user}@{host}")
        }
    };
    format!("{scheme}://{authority}{path}")
}

fn percent_decoded(path: &str) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let decoded = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match decoded {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        for (url, shown) in [
            ("https://u:p@h/x.git", "https://h/x.git"),
            ("https://tok@h:8443/x", "https://h:8443/x"),
            ("https://u:p@evil@h/x", "https://h/x"),
            ("https://h/x?access_token=1#2", "https://h/x"),
            ("ssh://git:pw@h/x", "ssh://git@h/x"),
            ("git@h:x.git", "git@h:x.git"),
            ("/srv/x.git", "/srv/x.git"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn transports() {
        let local = |path: &str| Address::Local(PathBuf::from(path));
        assert_eq!(Address::parse("/srv/a b").expect("path"), local("/srv/a b"));
        assert_eq!(
            Address::parse("file:///srv/a%20b").expect("file"),
            local("/srv/a b")
        );
        assert!(matches!(
            Address::parse("https://h/x"),
            Ok(Address::Http { .. })
        ));
        for url in ["git://h/x", "ext::sh://x"] {
            let error = Address::parse(url).expect_err(url);
            assert!(matches!(error, VcsError::Unsupported { .. }), "{error}");
        }
        let ssh = |user: Option<&str>, host: &str, port, path: &str| {
            Address::Ssh(SshAddress {
                user: user.map(str::to_owned),
                host: host.to_owned(),
                port,
                path: path.to_owned(),
            })
        };
        for (url, expected) in [
            ("git@h:x.git", ssh(Some("git"), "h", None, "x.git")),
            ("h:/srv/x", ssh(None, "h", None, "/srv/x")),
            ("git@[::1]:x", ssh(Some("git"), "::1", None, "x")),
            ("ssh://git@h/a%20b", ssh(Some("git"), "h", None, "/a b")),
            ("ssh://h:2222/x", ssh(None, "h", Some(2222), "/x")),
            (
                "ssh://git@[::1]:22/x",
                ssh(Some("git"), "::1", Some(22), "/x"),
            ),
            ("ssh://git@h/~a/x", ssh(Some("git"), "h", None, "~a/x")),
        ] {
            assert_eq!(Address::parse(url).expect(url), expected);
        }
        for url in [
            "ssh://-oProxyCommand=x/y",
            "-oProxyCommand=x:y",
            "ssh://git:pw@h/x",
            "ssh://h",
            "ssh://h:port/x",
            "git@h:-x",
            "a b@h:x",
        ] {
            let error = Address::parse(url).expect_err(url);
            assert!(matches!(error, VcsError::Content { .. }), "{error}");
            assert!(!error.to_string().contains("pw"), "{error}");
        }
        for url in ["", "https://u:p@h/x", "https:///x", "file://x", "/a\nb"] {
            let error = Address::parse(url).expect_err(url);
            assert!(matches!(error, VcsError::Content { .. }), "{error}");
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }

    #[test]
    fn origins_are_compared_by_host_and_port() {
        let same = |a, b| Origin::of(a).expect("a") == Origin::of(b).expect("b");
        assert!(same("https://H/x", "https://h:443/y"));
        assert!(!same("https://h/x", "http://h/x"));
        assert!(!same("https://h/x", "https://h:8443/x"));
        assert!(!same("https://h/x", "https://h.evil/x"));
        assert!(same("http://[::1]:80/x", "http://[::1]/"));
        assert_eq!(Origin::of("https://h:99999/x"), None);
    }
}
