//! References to images as manifests write them: `name`, `name:tag`, `name@digest`.

/// A reference in its parts, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageReference<'a> {
    /// Registry and repository.
    pub name: &'a str,
    /// What follows the colon.
    pub tag: Option<&'a str>,
    /// What follows the `@`.
    pub digest: Option<&'a str>,
}

impl<'a> ImageReference<'a> {
    /// Reads a reference; `None` if a part of it is empty or it holds what none does.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon before a slash is that of a port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let fits = |part: &str, more: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let good = fits(name, "._-/:")
            && tag.is_none_or(|tag| fits(tag, "._-"))
            && digest.is_none_or(|digest| fits(digest, ":+._-"));
        good.then_some(Self { name, tag, digest })
    }

    /// Whether its name means the same repository as another name.
    pub fn is_of(&self, name: &str) -> bool {
        same_repository(self.name, name)
    }
}

/// Whether two names mean the same repository: those of Docker Hub have several.
pub fn same_repository(a: &str, b: &str) -> bool {
    whole(a) == whole(b)
}

/// Host and repository of a name, with what Docker Hub lets one leave out.
fn whole(name: &str) -> (String, String) {
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => ("docker.io", name),
    };
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    };
    let path = match host {
        "docker.io" if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    (host.to_ascii_lowercase(), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        let cases = [
            ("nginx", Some(("nginx", None, None))),
            ("nginx:1.27", Some(("nginx", Some("1.27"), None))),
            (
                "localhost:5000/a/b",
                Some(("localhost:5000/a/b", None, None)),
            ),
            (
                "localhost:5000/a/b:v1",
                Some(("localhost:5000/a/b", Some("v1"), None)),
            ),
            (
                "r.io/a@sha256:ab",
                Some(("r.io/a", None, Some("sha256:ab"))),
            ),
            (
                "r.io/a:1@sha256:ab",
                Some(("r.io/a", Some("1"), Some("sha256:ab"))),
            ),
            ("", None),
            (":1", None),
            ("a:", None),
            ("a@", None),
            ("{{ .Values.image }}", None),
            ("$IMAGE", None),
        ];
        for (text, expected) in cases {
            let found = ImageReference::parse(text);
            assert_eq!(found.map(|it| (it.name, it.tag, it.digest)), expected);
        }
    }

    #[test]
    fn names_of_docker_hub_are_the_same() {
        let same = [
            ("nginx", "docker.io/library/nginx"),
            ("acme/app", "index.docker.io/acme/app"),
            ("R.io/a", "r.io/a"),
        ];
        for (a, b) in same {
            assert!(same_repository(a, b), "{a} {b}");
        }
        let others = [
            ("nginx", "r.io/nginx"),
            ("app", "acme/app"),
            ("r.io/a", "r.io/A"),
            ("r.io/app", "r.io/app-web"),
        ];
        for (a, b) in others {
            assert!(!same_repository(a, b), "{a} {b}");
        }
    }
}
