//! Accounts and registries as their declarations describe them, with every text resolved.

use std::sync::Arc;

use super::{Missing, Values};
use crate::base::{RunId, Text};
use crate::decl::{Creation, RegistryDecl, WebIdentitySource};
use crate::lang::Template;
use crate::ports::cloud::{Account, Bearer, WebIdentity};
use crate::ports::registry::{Ecr, Login, NewRepository, Target};

impl Values {
    /// An AWS account by its declaration.
    pub async fn account(&self, name: &str) -> Result<Account, Missing> {
        let decl = self
            .decls
            .aws
            .get(name)
            .ok_or_else(|| Missing::Absent(format!("aws `{name}` is not declared")))?;
        let aws = &decl.value;
        let web_identity = match &aws.web_identity {
            None => None,
            Some(WebIdentitySource::Issuer) => Some(WebIdentity::Issuer(Box::new(self.bearer()))),
            Some(WebIdentitySource::File(path)) => {
                let path = Box::pin(self.plain(path)).await?;
                Some(WebIdentity::File(self.workspace.root().join(path)))
            }
        };
        let external_id = match &aws.external_id {
            None => None,
            Some(id) => Some(Box::pin(self.text(id)).await.map(Text::into_secret)?),
        };
        let policy = match &aws.policy {
            None => None,
            Some(path) => {
                let path = Box::pin(self.plain(path)).await?;
                Some(narrow(&path, &self.file(&path).await?)?)
            }
        };
        let mut tags = Vec::new();
        for (key, value) in &aws.tags {
            tags.push((key.clone(), Box::pin(self.plain(value)).await?));
        }
        Ok(Account {
            name: name.to_owned(),
            region: self.maybe(aws.region.as_ref()).await?,
            profile: aws.profile.clone(),
            endpoint: self.maybe(aws.endpoint.as_ref()).await?,
            roles: self.each(&aws.roles).await?,
            session: aws.session,
            web_identity,
            external_id,
            policy,
            tags,
            allowed: self.each(&aws.allowed).await?,
        })
    }

    /// What a token for an account says of this run.
    fn bearer(&self) -> Bearer {
        let commit = &self.commit;
        let directory = self.workspace.root().file_name();
        let repository = match &commit.origin {
            Some(origin) => repository(origin),
            None => directory
                .unwrap_or_default()
                .to_string_lossy()
                .replace(':', "-"),
        };
        // What is not yet in a branch must not pass for it.
        let reference = match (self.pull_request, self.dirty) {
            (_, true) => "dirty".to_owned(),
            (Some(number), _) => format!("refs/pull/{number}"),
            (None, _) => commit.reference.clone(),
        };
        // A plan has no run.
        let run = (self.run != RunId::new(0, 0)).then(|| self.run.to_string());
        Bearer {
            repository,
            reference,
            sha: (!self.dirty && !commit.sha.is_empty()).then(|| commit.sha.clone()),
            pipeline: self.pipeline.clone(),
            run,
        }
    }

    /// A registry by its declaration: how to talk to it, and the path before its repositories.
    pub async fn target(&self, registry: &str) -> Result<(Target, String), Missing> {
        let decl = self
            .decls
            .registries
            .get(registry)
            .ok_or_else(|| Missing::Absent(format!("registry `{registry}` is not declared")))?;
        if let Some(aws) = &decl.value.aws {
            return self.ecr(registry, &decl.value, &aws.value).await;
        }
        let Some(address) = &decl.value.address else {
            return Err(Missing::Absent(format!(
                "registry `{registry}` has no address"
            )));
        };
        let address = Box::pin(self.plain(address)).await?;
        let (host, prefix) = address.split_once('/').unwrap_or((&address, ""));
        let login = match &decl.value.login {
            Some((user, password)) => Login::Basic {
                user: Box::pin(self.text(user)).await?.expose().to_owned(),
                password: Box::pin(self.text(password)).await?.into_secret(),
            },
            None => Login::Ambient,
        };
        let target = Target {
            host: host.to_owned(),
            plain_http: decl.value.plain_http,
            login,
        };
        Ok((target, prefix.trim_matches('/').to_owned()))
    }

    async fn ecr(
        &self,
        name: &str,
        decl: &RegistryDecl,
        aws: &str,
    ) -> Result<(Target, String), Missing> {
        let create = match &decl.create {
            None => None,
            Some(create) => Some(self.creation(create).await?),
        };
        let ecr = Ecr {
            account: self.account(aws).await?,
            owner: self.maybe(decl.account.as_ref()).await?,
            region: self.maybe(decl.region.as_ref()).await?,
            public: decl.public.is_some(),
            create,
        };
        let host = match self.maybe(decl.endpoint.as_ref()).await? {
            Some(endpoint) => endpoint,
            // Known without asking, or asked once and remembered.
            None if !self.offline || ecr.public || ecr.owner.is_some() => self
                .cloud
                .registry_host(&ecr)
                .await
                .map_err(|error| Missing::Broken(error.to_string()))?,
            None => {
                return Err(Missing::Broken(format!(
                    "the address of registry `{name}` is not asked for offline; `account=` at the registry says it"
                )));
            }
        };
        let prefix = self.maybe(decl.public.as_ref()).await?;
        let target = Target {
            host,
            plain_http: decl.plain_http,
            login: Login::Ecr(Arc::new(ecr)),
        };
        Ok((target, prefix.unwrap_or_default()))
    }

    async fn creation(&self, create: &Creation) -> Result<NewRepository, Missing> {
        let kms = match &create.kms {
            None => None,
            Some(key) => Some(self.maybe(key.as_ref()).await?.unwrap_or_default()),
        };
        Ok(NewRepository {
            scan_on_push: create.scan_on_push,
            immutable: create.immutable,
            except: create.except.clone(),
            kms,
        })
    }

    async fn maybe(&self, template: Option<&Template>) -> Result<Option<String>, Missing> {
        match template {
            None => Ok(None),
            Some(template) => Box::pin(self.plain(template)).await.map(Some),
        }
    }

    async fn each(&self, templates: &[Template]) -> Result<Vec<String>, Missing> {
        let mut texts = Vec::new();
        for template in templates {
            texts.push(Box::pin(self.plain(template)).await?);
        }
        Ok(texts)
    }
}

/// A session policy without the white space that would count towards its largest size.
fn narrow(path: &str, text: &str) -> Result<String, Missing> {
    let value: serde_json::Value = serde_json::from_str(text)
        .map_err(|error| Missing::Absent(format!("{path} is no session policy: {error}")))?;
    Ok(value.to_string())
}

/// Host and path of a repository's address, however it is reached. Colons separate the parts of a
/// subject, so a path has none.
fn repository(origin: &str) -> String {
    let (scheme, rest) = match origin.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, origin),
    };
    let (host, path) = match scheme {
        Some(_) => rest.split_once('/').unwrap_or((rest, "")),
        // `git@host:path`, unless it is a path of this machine.
        None => match rest.split_once(':').filter(|(host, _)| !host.contains('/')) {
            Some((host, path)) => (host, path),
            None => ("", rest),
        },
    };
    let host = host.rsplit('@').next().unwrap_or(host);
    // The port tells two ways to one repository apart, not two repositories.
    let host = host.split(':').next().unwrap_or(host).to_lowercase();
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).replace(':', "-");
    match host.as_str() {
        "" => path,
        host => format!("{host}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_the_same_however_it_is_reached() {
        for (origin, is) in [
            ("https://GitHub.com/acme/shop.git", "github.com/acme/shop"),
            (
                "https://me:pass@github.com/acme/shop/",
                "github.com/acme/shop",
            ),
            ("git@github.com:acme/shop.git", "github.com/acme/shop"),
            ("ssh://git@github.com:22/acme/shop", "github.com/acme/shop"),
            ("/srv/git/shop.git", "srv/git/shop"),
            ("file:///srv/git/shop.git", "srv/git/shop"),
            (
                "https://a.example/x:ref:refs/heads/main:pipeline:release",
                "a.example/x-ref-refs/heads/main-pipeline-release",
            ),
        ] {
            assert_eq!(repository(origin), is, "{origin}");
        }
    }
}
