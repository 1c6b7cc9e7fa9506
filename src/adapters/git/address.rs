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
            return match scp_host(url) {
                Some(_) => Err(unsupported(NO_SSH.to_owned())),
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
            "ssh" | "git+ssh" | "ssh+git" => Err(unsupported(NO_SSH.to_owned())),
            other => Err(unsupported(format!(
                "\"{other}\" is no transport for repositories: use https"
            ))),
        }
    }
}

const NO_SSH: &str = "repositories over ssh come with a later version: use https with a token";

/// The host of `user@host:path`, as ssh remotes are commonly written.
fn scp_host(url: &str) -> Option<&str> {
    let (host, path) = url.split_once(':')?;
    let named = !host.is_empty() && !host.contains('/') && !path.is_empty();
    named.then_some(host)
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
        for url in [
            "ssh://git@h/x",
            "git@h:x.git",
            "h:x",
            "git://h/x",
            "ext::sh://x",
        ] {
            let error = Address::parse(url).expect_err(url);
            assert!(matches!(error, VcsError::Unsupported { .. }), "{error}");
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
