//! Names of registries, repositories and tags, and the addresses they stand for. Nothing that a
//! pipeline or a registry says can lead an address out of its place.

use reqwest::Url;

use crate::base::Digest;
use crate::ports::registry::Target;

/// Docker Hub's name, and the other names people write for it.
pub(super) const HUB: &str = "docker.io";
const HUB_API: &str = "registry-1.docker.io";
const HUB_ALIASES: [&str; 3] = ["index.docker.io", HUB_API, "registry.hub.docker.com"];

/// Where a registry's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    base: Url,
    hub: bool,
}

impl Endpoint {
    /// The endpoint of a target, or what is wrong with its host.
    pub(super) fn of(target: &Target) -> Result<Self, String> {
        let hub = canonical_host(&target.host) == HUB;
        let host = if hub { HUB_API } else { &target.host };
        let scheme = if target.plain_http { "http" } else { "https" };
        let shape =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        let base = Some(host)
            .filter(|host| !host.is_empty() && host.chars().all(shape))
            .and_then(|host| Url::parse(&format!("{scheme}://{host}/v2/")).ok());
        match base {
            Some(base) => Ok(Self { base, hub }),
            None => Err(format!(
                "\"{}\" is not a registry's name (a host, then perhaps a colon and a port)",
                super::failure::clean(&target.host, 100)
            )),
        }
    }

    /// The address of something of a repository: `manifests/v1`, `blobs/uploads/`.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Result<Url, String> {
        let valid = !repository.is_empty()
            && repository.len() <= 255
            && repository.split('/').all(is_component);
        if !valid {
            return Err(format!(
                "\"{}\" is not a repository's name (lowercase letters and digits in parts joined by `/`)",
                super::failure::clean(repository, 100)
            ));
        }
        let library = if self.hub && !repository.contains('/') {
            "library/"
        } else {
            ""
        };
        self.base
            .join(&format!("{library}{repository}/{rest}"))
            .map_err(|error| error.to_string())
    }

    /// The name a repository has in token scopes.
    pub(super) fn scope_name(&self, repository: &str) -> String {
        if self.hub && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        }
    }

    /// Whether an address is this registry's own, so that it may see our credentials.
    pub(super) fn owns(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    /// Reads an address the registry sent. It may be relative; it may not lead from TLS to plain
    /// HTTP, nor to anything but HTTP.
    pub(super) fn resolve(&self, from: &Url, text: &str) -> Result<Url, String> {
        let url = from
            .join(text)
            .map_err(|_| "it sent an address that is no URL".to_owned())?;
        match url.scheme() {
            "https" => Ok(url),
            "http" if self.base.scheme() == "http" => Ok(url),
            "http" => Err(
                "it sends us from TLS to plain HTTP; a proxy before it may have to be told to pass \
                 on X-Forwarded-Proto"
                    .to_owned(),
            ),
            other => Err(format!("it sends us to a {other}: address")),
        }
    }

    /// Host and scheme, as a key for caches.
    pub(super) fn key(&self) -> &str {
        self.base.as_str()
    }
}

/// A host without the variants people and tools write: scheme, path, Docker Hub's other names.
pub(super) fn canonical_host(host: &str) -> &str {
    let host = host
        .strip_prefix("https://")
        .or_else(|| host.strip_prefix("http://"))
        .unwrap_or(host);
    let host = host.split_once('/').map_or(host, |(host, _)| host);
    if HUB_ALIASES.contains(&host) {
        HUB
    } else {
        host
    }
}

/// Whether a text is a tag.
pub(super) fn is_tag(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// Reads a reference: a digest, or `None` for a tag.
pub(super) fn reference(text: &str) -> Result<Option<Digest>, String> {
    if text.contains(':') {
        return text
            .parse()
            .map(Some)
            .map_err(|error: crate::base::DigestError| error.to_string());
    }
    if is_tag(text) {
        return Ok(None);
    }
    Err(format!(
        "\"{}\" is not a tag (at most 128 letters, digits, `.`, `_`, `-`)",
        super::failure::clean(text, 100)
    ))
}

fn is_component(part: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = part.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::registry::Login;

    fn endpoint(host: &str, plain_http: bool) -> Result<Endpoint, String> {
        Endpoint::of(&Target {
            host: host.to_owned(),
            plain_http,
            login: Login::Ambient,
        })
    }

    fn url(host: &str, repository: &str) -> Result<String, String> {
        Ok(endpoint(host, false)?
            .url(repository, "tags/list")?
            .to_string())
    }

    #[test]
    fn addresses() {
        for (host, repository, expected) in [
            ("ghcr.io", "a/b", "https://ghcr.io/v2/a/b/tags/list"),
            (
                "localhost:5000",
                "app",
                "https://localhost:5000/v2/app/tags/list",
            ),
            ("[::1]:5000", "app", "https://[::1]:5000/v2/app/tags/list"),
            (
                "docker.io",
                "alpine",
                "https://registry-1.docker.io/v2/library/alpine/tags/list",
            ),
            (
                "index.docker.io",
                "a/b",
                "https://registry-1.docker.io/v2/a/b/tags/list",
            ),
            ("ghcr.io", "alpine", "https://ghcr.io/v2/alpine/tags/list"),
        ] {
            assert_eq!(url(host, repository).as_deref(), Ok(expected));
        }
        assert_eq!(
            endpoint("h:1", true)
                .unwrap()
                .url("a", "b")
                .unwrap()
                .as_str(),
            "http://h:1/v2/a/b"
        );
    }

    #[test]
    fn names_cannot_lead_astray() {
        for host in [
            "",
            "a/b",
            "user@host",
            "a b",
            "host:port",
            "a?b",
            "a#b",
            "h\\x",
            "ä.example",
            "a:1:2",
        ] {
            assert!(url(host, "app").is_err(), "{host}");
        }
        let long = "a".repeat(256);
        for repository in [
            "", "/", "a/", "../a", "a/../b", "A", "a//b", "a?b", "a:b", ".a", "a%2e", &long,
        ] {
            assert!(url("h", repository).is_err(), "{repository}");
        }
        let digest = Digest::of(b"x");
        assert_eq!(reference(digest.as_str()), Ok(Some(digest)));
        assert_eq!(reference("v1.0_x-2"), Ok(None));
        for bad in ["", ".a", "-a", "a/b", "a b", "sha256:12", "../x", "é"] {
            assert!(reference(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_have_one_spelling() {
        for (host, canonical) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("http://localhost:5000", "localhost:5000"),
            ("ghcr.io/v2/", "ghcr.io"),
        ] {
            assert_eq!(canonical_host(host), canonical);
        }
    }

    #[test]
    fn addresses_from_the_registry_stay_encrypted() {
        let secure = endpoint("h", false).unwrap();
        let from = secure.url("a", "blobs/uploads/").unwrap();
        let to = |text| secure.resolve(&from, text).map(|url| url.to_string());
        assert_eq!(to("/v2/x?y=1").as_deref(), Ok("https://h/v2/x?y=1"));
        assert_eq!(
            to("https://s3.example/x").as_deref(),
            Ok("https://s3.example/x")
        );
        assert!(
            to("http://h/v2/x")
                .unwrap_err()
                .contains("X-Forwarded-Proto")
        );
        assert!(to("file:///etc/passwd").is_err());
        assert!(secure.owns(&from) && !secure.owns(&"https://h:8443/".parse().unwrap()));
        assert!(!secure.owns(&"http://h/".parse().unwrap()));
        let plain = endpoint("h", true).unwrap();
        assert!(plain.resolve(&from, "http://other/x").is_ok());
    }
}
