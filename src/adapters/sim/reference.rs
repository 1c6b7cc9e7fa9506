//! The grammar of image names, as the OCI distribution specification and Docker write it.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use crate::base::Digest;

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant that the tests compile")
}

static TAG: LazyLock<Regex> = LazyLock::new(|| regex(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"));
static REPOSITORY: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$")
});
static HOST: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*)(?::[0-9]{1,5})?$",
    )
});
static NAME: LazyLock<Regex> = LazyLock::new(|| regex(r"^[A-Za-z0-9][A-Za-z0-9_.-]+$"));
static PLATFORM: LazyLock<Regex> = LazyLock::new(|| regex(r"^[a-z0-9]+/[a-z0-9]+(?:/[a-z0-9]+)?$"));
static PORT: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^(?:(?:(?P<address>[0-9.]+|\[[0-9a-f:]+\]):)?(?P<host>[0-9]*):)?(?P<port>[0-9]+)(?:/(?P<protocol>tcp|udp))?$",
    )
});

pub(super) fn is_tag(text: &str) -> bool {
    TAG.is_match(text)
}

pub(super) fn is_repository(text: &str) -> bool {
    text.len() <= 255 && REPOSITORY.is_match(text)
}

pub(super) fn is_host(text: &str) -> bool {
    HOST.is_match(text)
}

/// Whether an engine takes it as the name of a container or a network.
pub(super) fn is_name(text: &str) -> bool {
    NAME.is_match(text)
}

pub(super) fn is_platform(text: &str) -> bool {
    PLATFORM.is_match(text)
}

/// A published port: `[[host-address:]host-port:]container-port[/udp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Publish {
    pub(super) address: String,
    /// Absent if the engine is to choose.
    pub(super) host: Option<u16>,
    /// With its protocol: `80/tcp`.
    pub(super) container: String,
}

impl Publish {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let found = PORT.captures(text)?;
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
        let host = match found.name("host").map(|host| host.as_str()) {
            None | Some("") => None,
            Some(port) => Some(number(port)?),
        };
        let port = number(found.name("port")?.as_str())?;
        let protocol = found.name("protocol").map_or("tcp", |found| found.as_str());
        Some(Self {
            address: found
                .name("address")
                .map_or("0.0.0.0", |found| found.as_str())
                .to_owned(),
            host,
            container: format!("{port}/{protocol}"),
        })
    }
}

/// An image reference with Docker's defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub(super) host: String,
    pub(super) repository: String,
    pub(super) tag: Option<String>,
    pub(super) digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse().map_err(|e| format!("{e}"))?)),
            None => (text, None),
        };
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name[slash..].find(':') {
            Some(colon) => (&name[..slash + colon], Some(&name[slash + colon + 1..])),
            None => (name, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(format!("\"{tag}\" is not a tag"));
        }
        let (host, path) = match name.split_once('/') {
            Some((host, path))
                if host.contains(['.', ':']) || host == "localhost" || host.starts_with('[') =>
            {
                (host, path)
            }
            _ => ("docker.io", name),
        };
        if !is_host(host) {
            return Err(format!("\"{host}\" is not a registry host"));
        }
        let host = if host == "index.docker.io" {
            "docker.io"
        } else {
            host
        };
        let repository = if host == "docker.io" && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if !is_repository(&repository) {
            return Err(format!("\"{path}\" is not a repository name"));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self {
            host: host.to_owned(),
            repository,
            tag,
            digest,
        })
    }

    /// What the registry is asked for: the digest if there is one.
    pub(super) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.digest.is_some() { '@' } else { ':' };
        write!(
            f,
            "{}/{}{mark}{}",
            self.host,
            self.repository,
            self.wanted()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_get_dockers_defaults() {
        for (text, full) in [
            ("golang", "docker.io/library/golang:latest"),
            ("golang:1.23", "docker.io/library/golang:1.23"),
            ("acme/app:v1", "docker.io/acme/app:v1"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("localhost/app:x", "localhost/app:x"),
            ("gcr.io/a/b/c:1_2", "gcr.io/a/b/c:1_2"),
        ] {
            assert_eq!(
                Reference::parse(text).map(|r| r.to_string()),
                Ok(full.to_owned())
            );
        }
        let digest = Digest::of(b"x");
        let pinned = format!("ghcr.io/a/b:1@{digest}");
        assert_eq!(
            Reference::parse(&pinned).map(|r| r.to_string()),
            Ok(format!("ghcr.io/a/b@{digest}"))
        );
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for bad in [
            "",
            "App",
            "app:",
            "app:-x",
            "app:a/b",
            "a//b",
            "a/b/",
            "-host.io/x",
            "app@sha256:12",
            "a b",
            "gcr.io/_x",
            "a:1:2",
            "localhost:5000/",
            "gcr.io/a___b",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
        assert!(!is_tag(&"a".repeat(129)) && is_tag(&"a".repeat(128)));
        assert!(!is_repository(&"a".repeat(256)));
    }

    #[test]
    fn published_ports() {
        let port = |text| Publish::parse(text).map(|p| (p.address, p.host, p.container));
        assert_eq!(
            port("127.0.0.1:8080:80/udp"),
            Some(("127.0.0.1".to_owned(), Some(8080), "80/udp".to_owned()))
        );
        assert_eq!(
            port("80"),
            Some(("0.0.0.0".to_owned(), None, "80/tcp".to_owned()))
        );
        for bad in ["", "x", "80:", "70000", "0", "1:2:3:4", "80/icmp"] {
            assert_eq!(port(bad), None, "{bad}");
        }
    }
}
