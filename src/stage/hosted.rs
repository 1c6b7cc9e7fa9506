//! Repositories on forges as their declarations describe them, with every text resolved.

use super::{Missing, Values};
use crate::base::Text;
use crate::decl::{ForgeKind, ForgeLogin, Repo};
use crate::ports::forge::{Hosted, SignIn, Site, Software};
use crate::ports::vcs::Access;

impl Values {
    /// A repository on the forge that its declaration names.
    pub async fn hosted(&self, repo: &Repo) -> Result<Hosted, Missing> {
        let url = Box::pin(self.plain(&repo.url)).await?;
        let name = repo.forge.as_ref().map_or("", |forge| &forge.value);
        let absent = |why: &str| Missing::Absent(format!("forge `{name}` {why}"));
        let decl = self.decls.forges.get(name);
        let forge = &decl.ok_or_else(|| absent("is not declared"))?.value;
        let kind = forge.kind.ok_or_else(|| absent("has no kind"))?;
        let address = match &forge.address {
            Some(address) => Box::pin(self.plain(address)).await?,
            None => {
                let known = kind.address();
                known.ok_or_else(|| absent("has no address"))?.to_owned()
            }
        };
        let address = address.trim_end_matches('/').to_owned();
        let sign_in = match &forge.login {
            None => SignIn::Anonymous,
            Some(ForgeLogin::Token(token)) => {
                SignIn::Token(Box::pin(self.text(token)).await.map(Text::into_secret)?)
            }
            Some(ForgeLogin::App {
                id,
                key,
                installation,
            }) => SignIn::App {
                id: Box::pin(self.plain(id)).await?,
                key: Box::pin(self.text(key)).await.map(Text::into_secret)?,
                installation: match installation {
                    Some(installation) => Some(Box::pin(self.plain(installation)).await?),
                    None => None,
                },
            },
        };
        let software = match kind {
            ForgeKind::GitHub => Software::GitHub,
            ForgeKind::GitLab => Software::GitLab,
            ForgeKind::Gitea => Software::Gitea,
        };
        let path = path_on(&url, &address, software).ok_or_else(|| {
            Missing::Absent(format!(
                "{url} does not name a repository on forge `{name}`: the address of one ends in OWNER/NAME"
            ))
        })?;
        Ok(Hosted {
            site: Site {
                name: name.to_owned(),
                software,
                address,
                sign_in,
            },
            path,
            url,
        })
    }

    /// Who we are to a repository without a credential of its own: whoever we are on its forge.
    pub(super) async fn forge_access(&self, repo: &Repo, url: &str) -> Result<Access, Missing> {
        let web = url.starts_with("https://") || url.starts_with("http://");
        let signed = repo.forge.as_ref().is_some_and(|name| {
            let forge = self.decls.forges.get(&name.value);
            forge.is_some_and(|forge| forge.value.login.is_some())
        });
        if !web || !signed || self.offline {
            return Ok(Access::Anonymous);
        }
        let hosted = self.hosted(repo).await?;
        match self.forge.git_login(&hosted).await {
            Ok(Some((user, token))) => Ok(Access::Token { user, token }),
            Ok(None) => Ok(Access::Anonymous),
            Err(error) => Err(Missing::Broken(error.to_string())),
        }
    }
}

/// The path of a repository on its forge: the git address without what comes before and `.git`.
fn path_on(url: &str, forge: &str, software: Software) -> Option<String> {
    let prefix = forge.split_once("://").map_or("", |(_, rest)| rest);
    let prefix = prefix.split_once('/').map_or("", |(_, path)| path);
    let path = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?.1,
        // `git@host:acme/manifests.git`
        None => url.split_once(':')?.1,
    };
    let path = path.trim_matches('/');
    let path = match prefix {
        "" => path,
        prefix => path
            .strip_prefix(prefix)
            .map_or(path, |path| path.trim_start_matches('/')),
    };
    let path = path.strip_suffix(".git").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').collect();
    let deep = match software {
        Software::GitLab => parts.len() >= 2,
        Software::GitHub | Software::Gitea => parts.len() == 2,
    };
    let plain = |part: &&str| {
        !part.is_empty()
            && **part != *"."
            && **part != *".."
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '+'))
    };
    (deep && parts.iter().all(plain)).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_repositories() {
        use Software::{GitHub, GitLab, Gitea};
        for (url, forge, software, expected) in [
            (
                "https://github.com/acme/m",
                "https://github.com",
                GitHub,
                Some("acme/m"),
            ),
            (
                "https://github.com/acme/m.git/",
                "https://github.com",
                GitHub,
                Some("acme/m.git"),
            ),
            (
                "git@github.com:acme/m.git",
                "https://github.com",
                GitHub,
                Some("acme/m"),
            ),
            (
                "ssh://git@h:22/acme/m.git",
                "https://h",
                Gitea,
                Some("acme/m"),
            ),
            ("https://g/a/b/c.git", "https://g", GitLab, Some("a/b/c")),
            ("https://g/git/a/b.git", "https://g/git", Gitea, Some("a/b")),
            ("https://g/a/b/c", "https://g", GitHub, None),
            ("https://g/m", "https://g", GitLab, None),
            ("https://g/a/../b", "https://g", GitLab, None),
            ("https://g/a/b?x", "https://g", GitLab, None),
            ("/srv/m", "https://g", GitHub, None),
        ] {
            let found = path_on(url, forge, software);
            let expected = expected.map(|path| path.trim_end_matches(".git"));
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }
}
