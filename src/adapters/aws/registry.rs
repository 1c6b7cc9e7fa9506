//! Registries, those of AWS accounts among them: what ECR's own API answers better is asked there,
//! everything else goes to the registry as to any other, with a login that is renewed in time.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;

use super::Clouds;
use super::ecr::{Found, Stored};
use crate::adapters::registry::{HttpRegistry, MANIFEST_TYPES};
use crate::base::{Digest, Secret};
use crate::ports::cloud::CloudError;
use crate::ports::registry::{
    Allowance, Ecr, Login, Manifest, Referrer, Registry, RegistryError, RegistryReader, Target,
};

/// Every registry, ECR included.
#[derive(Debug)]
pub struct EcrRegistry {
    http: HttpRegistry,
    clouds: Clouds,
    /// Repositories that are known to exist: host and name.
    present: Mutex<HashSet<(String, String)>>,
}

/// Asks the registry itself, once more with a new token if the old one is not accepted.
macro_rules! through {
    ($self:ident, $target:ident, $login:ident => $ask:expr) => {{
        let mut renewed = false;
        loop {
            let $login = $self.login($target).await?;
            match $ask.await {
                Err(RegistryError::Denied { .. }) if !renewed && $self.forget($target).await => {
                    renewed = true;
                }
                answer => break answer,
            }
        }
    }};
}

impl EcrRegistry {
    /// Registries over HTTP, with the accounts whose ECR may be among them.
    pub fn new(http: HttpRegistry, clouds: Clouds) -> Self {
        Self {
            http,
            clouds,
            present: Mutex::default(),
        }
    }

    /// The target with a login that any registry understands.
    async fn login(&self, target: &Target) -> Result<Target, RegistryError> {
        let Login::Ecr(ecr) = &target.login else {
            return Ok(target.clone());
        };
        let token = self.clouds.of(&ecr.account).registry_token(ecr).await;
        let token = token.map_err(|error| translate(target, "a login", error))?;
        Ok(Target {
            login: Login::Basic {
                user: token.user,
                password: token.password,
            },
            ..target.clone()
        })
    }

    async fn image(
        &self,
        target: &Target,
        ecr: &Ecr,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Manifest>, RegistryError> {
        let mark = if reference.contains(':') { '@' } else { ':' };
        let what = format!("manifest {repository}{mark}{reference}");
        let world = self.clouds.of(&ecr.account);
        let found = world
            .image(ecr, repository, reference, &MANIFEST_TYPES)
            .await;
        let image = match found.map_err(|error| translate(target, &what, error))? {
            Found::Image(image) => image,
            Found::NoImage => {
                self.note(target, repository, true);
                return Ok(None);
            }
            Found::NoRepository if ecr.create.is_some() => {
                self.note(target, repository, false);
                return Ok(None);
            }
            Found::NoRepository => {
                return Err(RegistryError::Refused {
                    host: target.host.clone(),
                    what,
                    message: format!(
                        "there is no repository {repository}; create it, or write `create-repository` at the registry"
                    ),
                });
            }
        };
        self.note(target, repository, true);
        let found = Digest::of(&image.bytes);
        let expected = reference.parse::<Digest>().unwrap_or(image.digest);
        if found != expected {
            return Err(RegistryError::Corrupt {
                host: target.host.clone(),
                what,
                expected,
                found,
            });
        }
        let media_type = image.media_type.unwrap_or_else(|| own_type(&image.bytes));
        Ok(Some(Manifest {
            digest: found,
            media_type,
            bytes: image.bytes,
        }))
    }

    fn note(&self, target: &Target, repository: &str, present: bool) {
        let key = (target.host.clone(), repository.to_owned());
        let mut known = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present {
            known.insert(key);
        } else {
            known.remove(&key);
        }
    }

    fn is_present(&self, target: &Target, repository: &str) -> bool {
        let key = (target.host.clone(), repository.to_owned());
        let known = self.present.lock();
        known.unwrap_or_else(PoisonError::into_inner).contains(&key)
    }
}

/// The type a manifest says it has.
fn own_type(manifest: &[u8]) -> String {
    let value: Option<Value> = serde_json::from_slice(manifest).ok();
    let own = value.as_ref().and_then(|value| value["mediaType"].as_str());
    let own = own.unwrap_or("application/vnd.oci.image.manifest.v1+json");
    crate::adapters::http::one_line(own, 200)
}

/// What an account says, as the registry's own words.
fn translate(target: &Target, what: &str, error: CloudError) -> RegistryError {
    let host = target.host.clone();
    let what = what.to_owned();
    match &error {
        CloudError::Throttled { .. } => RegistryError::Throttled {
            host,
            what,
            after: None,
        },
        CloudError::Broken { .. } => RegistryError::Broken {
            host,
            what,
            message: error.to_string(),
        },
        // Not `Denied`: no other login helps, and the message says what does.
        _ => RegistryError::Refused {
            host,
            what,
            message: error.to_string(),
        },
    }
}

#[async_trait]
impl RegistryReader for EcrRegistry {
    async fn digest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Digest>, RegistryError> {
        match &target.login {
            Login::Ecr(ecr) if !ecr.public => {
                let image = self.image(target, ecr, repository, reference).await?;
                Ok(image.map(|image| image.digest))
            }
            _ => through!(self, target, login => self.http.digest(&login, repository, reference)),
        }
    }

    async fn manifest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Manifest>, RegistryError> {
        match &target.login {
            Login::Ecr(ecr) if !ecr.public => self.image(target, ecr, repository, reference).await,
            _ => through!(self, target, login => self.http.manifest(&login, repository, reference)),
        }
    }

    async fn blob(
        &self,
        target: &Target,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        through!(self, target, login => self.http.blob(&login, repository, digest))
    }

    async fn referrers(
        &self,
        target: &Target,
        repository: &str,
        subject: &Digest,
    ) -> Result<Option<Vec<Referrer>>, RegistryError> {
        through!(self, target, login => self.http.referrers(&login, repository, subject))
    }

    async fn tags(&self, target: &Target, repository: &str) -> Result<Vec<String>, RegistryError> {
        through!(self, target, login => self.http.tags(&login, repository))
    }

    async fn allowance(&self, target: &Target) -> Option<Allowance> {
        self.http.allowance(target).await
    }

    async fn resolve(&self, target: &Target) -> Result<Option<(String, Secret)>, RegistryError> {
        let login = self.login(target).await?;
        self.http.resolve(&login).await
    }

    async fn forget(&self, target: &Target) -> bool {
        match &target.login {
            Login::Ecr(ecr) => {
                let world = self.clouds.of(&ecr.account);
                world.forget_registry_token(ecr).await
            }
            _ => false,
        }
    }
}

#[async_trait]
impl Registry for EcrRegistry {
    async fn prepare(&self, target: &Target, repository: &str) -> Result<bool, RegistryError> {
        let Login::Ecr(ecr) = &target.login else {
            return Ok(false);
        };
        let Some(settings) = &ecr.create else {
            return Ok(false);
        };
        // Who may push need not be allowed to create what is there.
        if self.is_present(target, repository) {
            return Ok(false);
        }
        let world = self.clouds.of(&ecr.account);
        let made = world.create_repository(ecr, repository, settings).await;
        let what = format!("creation of repository {repository}");
        let made = made.map_err(|error| translate(target, &what, error))?;
        self.note(target, repository, true);
        Ok(made)
    }

    async fn put_manifest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let ecr = match &target.login {
            Login::Ecr(ecr) if !ecr.public => ecr,
            _ => {
                return through!(self, target, login =>
                    self.http.put_manifest(&login, repository, reference, media_type, bytes));
            }
        };
        let what = format!("upload of manifest {repository}:{reference}");
        let digest = Digest::of(bytes);
        let refused = |message: String| RegistryError::Refused {
            host: target.host.clone(),
            what: what.clone(),
            message,
        };
        let tag = match reference.parse::<Digest>() {
            Ok(named) if named == digest => None,
            Ok(_) => return Err(refused(format!("the manifest has digest {digest}"))),
            Err(_) => Some(reference),
        };
        let manifest = std::str::from_utf8(bytes);
        let manifest = manifest.map_err(|_| refused("the manifest is not text".to_owned()))?;
        let world = self.clouds.of(&ecr.account);
        let taken = |message: String| RegistryError::Immutable {
            host: target.host.clone(),
            what: what.clone(),
            message,
        };
        let stored = world
            .put_image(ecr, repository, tag, media_type, manifest)
            .await;
        match stored.map_err(|error| translate(target, &what, error))? {
            Stored::There => Ok(digest),
            // Looked at, because a wrong belief here would be a tag at another image.
            Stored::Before => match self.image(target, ecr, repository, reference).await? {
                Some(there) if there.digest == digest => Ok(digest),
                Some(there) => Err(taken(format!("it stands at {}", there.digest))),
                None => Err(refused("it is said to exist and does not".to_owned())),
            },
            Stored::Taken(message) => Err(taken(message)),
        }
    }

    async fn put_blob(
        &self,
        target: &Target,
        repository: &str,
        bytes: &[u8],
        from: Option<&str>,
    ) -> Result<Digest, RegistryError> {
        through!(self, target, login => self.http.put_blob(&login, repository, bytes, from))
    }
}
