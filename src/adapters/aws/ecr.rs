//! The API of the Elastic Container Registry: tokens, images, repositories. The private one
//! through the SDK's client; the public one, which is another service, as JSON.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageFailureCode, ImageIdentifier,
    ImageScanningConfiguration, ImageTagMutability, ImageTagMutabilityExclusionFilter,
    ImageTagMutabilityExclusionFilterType,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use serde_json::{Value, json};

use super::Aws;
use super::call::{Call, ECR_PUBLIC, suffix};
use super::connector::Unreadable;
use super::credentials::refresh_at;
use super::denied::{Problem, Said};
use crate::base::{Digest, Secret};
use crate::ports::cloud::CloudError;
use crate::ports::registry::{Ecr, NewRepository};

/// Where public registries are.
const PUBLIC_HOST: &str = "public.ecr.aws";
/// The only region that serves the API of public registries.
const PUBLIC_REGION: &str = "us-east-1";

/// Tokens that were given out, by region; the public registry's under `public`.
#[derive(Default)]
pub(super) struct Tokens {
    kept: tokio::sync::Mutex<HashMap<String, Token>>,
}

/// A login for a registry.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) user: String,
    pub(super) password: Secret,
    /// Host of the registry the token was asked for.
    host: String,
    refresh: SystemTime,
}

/// An image as the API gives it.
pub(super) struct StoredImage {
    pub(super) digest: Digest,
    pub(super) media_type: Option<String>,
    pub(super) bytes: Vec<u8>,
}

/// What asking for an image brought.
pub(super) enum Found {
    Image(StoredImage),
    /// The repository does not have it.
    NoImage,
    /// There is no such repository.
    NoRepository,
}

/// What storing an image under a tag brought.
pub(super) enum Stored {
    /// It is there now.
    There,
    /// The tag was there already, at this image if the service is to be believed.
    Before,
    /// The tag stands at another image and never moves.
    Taken(String),
}

/// Makes a typed call, once more with new credentials if the old ones ran out.
macro_rules! typed {
    ($aws:expr, $ecr:expr, $action:literal, $resource:expr, $client:ident => $call:expr) => {{
        let mut renewed = false;
        loop {
            let credentials = $aws.credentials().await?;
            let $client = $aws.ecr($ecr, credentials.clone()).await?;
            match $call.send().await {
                Ok(answer) => break Ok(answer),
                Err(error) => {
                    let problem = Problem::of(concat!("ecr:", $action), $resource, error);
                    if renewed || !problem.is_expired() {
                        break Err(problem);
                    }
                    renewed = true;
                    $aws.forget(&credentials).await;
                }
            }
        }
    }};
}

impl Aws {
    async fn ecr(&self, ecr: &Ecr, credentials: Credentials) -> Result<Client, CloudError> {
        let config = self
            .acting(Some(credentials), ecr.region.as_deref())
            .await?;
        let config = aws_sdk_ecr::config::Builder::from(&config)
            .retry_partition(self.tries.clone())
            .retry_classifier(Unreadable);
        Ok(Client::from_conf(config.build()))
    }

    /// A login for a registry, new or kept.
    pub(super) async fn registry_token(&self, ecr: &Ecr) -> Result<Token, CloudError> {
        let key = self.token_key(ecr).await?;
        // Held while it is fetched, so that many stages fetch it once.
        let mut kept = self.tokens.kept.lock().await;
        if let Some(token) = kept.get(&key)
            && token.refresh > SystemTime::now()
        {
            return Ok(token.clone());
        }
        let token = if ecr.public {
            self.public_token().await?
        } else {
            self.private_token(ecr).await?
        };
        kept.insert(key, token.clone());
        Ok(token)
    }

    /// Forgets the login of a registry, which did not accept it.
    pub(super) async fn forget_registry_token(&self, ecr: &Ecr) -> bool {
        let Ok(key) = self.token_key(ecr).await else {
            return false;
        };
        self.tokens.kept.lock().await.remove(&key).is_some()
    }

    async fn token_key(&self, ecr: &Ecr) -> Result<String, CloudError> {
        if ecr.public {
            return Ok("public".to_owned());
        }
        self.region(ecr.region.as_deref()).await
    }

    async fn private_token(&self, ecr: &Ecr) -> Result<Token, CloudError> {
        const ACTION: &str = "ecr:GetAuthorizationToken";
        let answer = typed!(self, ecr, "GetAuthorizationToken", "*",
            client => client.get_authorization_token());
        let answer = match answer {
            Ok(answer) => answer,
            Err(problem) => return Err(self.explained(&problem).await),
        };
        let data = answer.authorization_data().first();
        let host = data
            .and_then(|data| data.proxy_endpoint())
            .and_then(host_of)
            .ok_or_else(|| self.senseless(ACTION, "no registry's address"))?;
        let text = data.and_then(|data| data.authorization_token());
        let end = data.and_then(|data| data.expires_at());
        let end = end.and_then(|end| SystemTime::try_from(*end).ok());
        self.token_of(ACTION, text, end, host)
    }

    async fn public_token(&self) -> Result<Token, CloudError> {
        const ACTION: &str = "ecr-public:GetAuthorizationToken";
        let answer = self
            .call(&Call {
                service: &ECR_PUBLIC,
                action: "GetAuthorizationToken",
                resource: "*",
                region: Some(PUBLIC_REGION),
                body: &json!({}),
                repeatable: true,
            })
            .await?;
        let data = &answer["authorizationData"];
        let end = data["expiresAt"].as_f64();
        let end = end.and_then(|end| Duration::try_from_secs_f64(end).ok());
        let end = end.and_then(|end| SystemTime::UNIX_EPOCH.checked_add(end));
        let text = data["authorizationToken"].as_str();
        self.token_of(ACTION, text, end, PUBLIC_HOST.to_owned())
    }

    fn token_of(
        &self,
        action: &str,
        text: Option<&str>,
        end: Option<SystemTime>,
        host: String,
    ) -> Result<Token, CloudError> {
        let whole = Secret::new(text.unwrap_or(""));
        let decoded = STANDARD.decode(whole.expose()).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let parts = decoded.as_deref().and_then(|text| text.split_once(':'));
        let Some((user, password)) =
            parts.filter(|(user, password)| !user.is_empty() && !password.is_empty())
        else {
            return Err(self.senseless(action, "no token"));
        };
        let password = Secret::new(password);
        self.late.add(&whole);
        self.late.add(&password);
        Ok(Token {
            user: user.to_owned(),
            password,
            host,
            refresh: refresh_at(SystemTime::now(), end),
        })
    }

    fn senseless(&self, action: &str, lacks: &str) -> CloudError {
        CloudError::Broken {
            account: self.account.name.clone(),
            action: action.to_owned(),
            message: format!("its answer holds {lacks}"),
        }
    }

    /// The host of a registry. That of another account is known without asking.
    pub(super) async fn registry_host(&self, ecr: &Ecr) -> Result<String, CloudError> {
        if ecr.public {
            return Ok(PUBLIC_HOST.to_owned());
        }
        if let Some(owner) = &ecr.owner {
            let region = self.region(ecr.region.as_deref()).await?;
            return Ok(format!("{owner}.dkr.ecr.{region}.{}", suffix(&region)));
        }
        Ok(self.registry_token(ecr).await?.host)
    }

    /// An image by tag or digest. Only if the service says that it is not found it is absent.
    pub(super) async fn image(
        &self,
        ecr: &Ecr,
        repository: &str,
        reference: &str,
        types: &[&str],
    ) -> Result<Found, CloudError> {
        let id = if reference.contains(':') {
            ImageIdentifier::builder().image_digest(reference).build()
        } else {
            ImageIdentifier::builder().image_tag(reference).build()
        };
        let resource = arn(ecr, repository);
        let answer = typed!(self, ecr, "BatchGetImage", &resource,
            client => client
                .batch_get_image()
                .set_registry_id(ecr.owner.clone())
                .repository_name(repository)
                .image_ids(id.clone())
                .set_accepted_media_types(Some(types.iter().map(|&kind| kind.to_owned()).collect())));
        let answer = match answer {
            Ok(answer) => answer,
            Err(problem) if problem.is("RepositoryNotFoundException") => {
                return Ok(Found::NoRepository);
            }
            Err(problem) => return Err(self.explained(&problem).await),
        };
        if let Some(image) = answer.images().first() {
            let digest = image.image_id().and_then(|id| id.image_digest());
            let digest = digest.and_then(|digest| digest.parse().ok());
            let (Some(digest), Some(manifest)) = (digest, image.image_manifest()) else {
                return Err(self.senseless("ecr:BatchGetImage", "an image without a manifest"));
            };
            return Ok(Found::Image(StoredImage {
                digest,
                media_type: image.image_manifest_media_type().map(str::to_owned),
                bytes: manifest.as_bytes().to_vec(),
            }));
        }
        let Some(failure) = answer.failures().first() else {
            return Err(self.senseless("ecr:BatchGetImage", "neither an image nor a reason"));
        };
        let code = failure.failure_code();
        if code == Some(&ImageFailureCode::ImageNotFound) {
            return Ok(Found::NoImage);
        }
        let code = code.map_or("UnknownFailure", ImageFailureCode::as_str);
        let reason = failure.failure_reason().unwrap_or("").to_owned();
        let said = Said::No(400, code.to_owned(), reason);
        let problem = Problem::new("ecr:BatchGetImage", resource, said);
        Err(self.explained(&problem).await)
    }

    /// Stores a manifest, whose layers must be there, under a tag or its digest.
    pub(super) async fn put_image(
        &self,
        ecr: &Ecr,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        manifest: &str,
    ) -> Result<Stored, CloudError> {
        let digest = Digest::of(manifest.as_bytes());
        let answer = typed!(self, ecr, "PutImage", &arn(ecr, repository),
            client => client
                .put_image()
                .set_registry_id(ecr.owner.clone())
                .repository_name(repository)
                .set_image_tag(tag.map(str::to_owned))
                .image_manifest_media_type(media_type)
                .image_digest(digest.as_str())
                .image_manifest(manifest));
        match answer {
            Ok(_) => Ok(Stored::There),
            // This very image under this very tag.
            Err(problem) if problem.is("ImageAlreadyExistsException") => Ok(Stored::Before),
            Err(problem) if problem.is("ImageTagAlreadyExistsException") => {
                let message = match &problem.said {
                    Said::No(_, _, message) => self.clean(message),
                    Said::Nothing(_) => String::new(),
                };
                Ok(Stored::Taken(message))
            }
            Err(problem) => Err(self.explained(&problem).await),
        }
    }

    /// Makes a repository. False if somebody else did meanwhile.
    pub(super) async fn create_repository(
        &self,
        ecr: &Ecr,
        repository: &str,
        settings: &NewRepository,
    ) -> Result<bool, CloudError> {
        let made = if ecr.public {
            self.create_public(repository).await?
        } else {
            self.create_private(ecr, repository, settings).await?
        };
        match made {
            Ok(()) => Ok(true),
            Err(problem) if problem.is("RepositoryAlreadyExistsException") => Ok(false),
            Err(problem) => Err(self.explained(&problem).await),
        }
    }

    async fn create_public(&self, repository: &str) -> Result<Result<(), Problem>, CloudError> {
        // The alias of the registry is no part of its repositories' names.
        let name = repository
            .split_once('/')
            .map_or(repository, |(_, name)| name);
        let call = Call {
            service: &ECR_PUBLIC,
            action: "CreateRepository",
            resource: name,
            region: Some(PUBLIC_REGION),
            body: &json!({ "repositoryName": name }),
            repeatable: true,
        };
        Ok(self.ask(&call).await?.map(|_: Value| ()))
    }

    async fn create_private(
        &self,
        ecr: &Ecr,
        repository: &str,
        settings: &NewRepository,
    ) -> Result<Result<(), Problem>, CloudError> {
        let mutability = match (settings.immutable, settings.except.is_empty()) {
            (false, _) => ImageTagMutability::Mutable,
            (true, true) => ImageTagMutability::Immutable,
            (true, false) => ImageTagMutability::ImmutableWithExclusion,
        };
        // What is refused here was refused when the pipeline was checked.
        let except: Vec<_> = settings
            .except
            .iter()
            .filter_map(|pattern| {
                ImageTagMutabilityExclusionFilter::builder()
                    .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
                    .filter(pattern)
                    .build()
                    .ok()
            })
            .collect();
        let scanning = ImageScanningConfiguration::builder()
            .scan_on_push(settings.scan_on_push)
            .build();
        let encryption = settings.kms.as_ref().and_then(|key| {
            EncryptionConfiguration::builder()
                .encryption_type(EncryptionType::Kms)
                .set_kms_key((!key.is_empty()).then(|| key.clone()))
                .build()
                .ok()
        });
        let answer = typed!(self, ecr, "CreateRepository", &arn(ecr, repository),
            client => client
                .create_repository()
                .set_registry_id(ecr.owner.clone())
                .repository_name(repository)
                .image_tag_mutability(mutability.clone())
                .set_image_tag_mutability_exclusion_filters((!except.is_empty()).then(|| except.clone()))
                .image_scanning_configuration(scanning.clone())
                .set_encryption_configuration(encryption.clone()));
        Ok(answer.map(drop))
    }
}

/// The part of a repository's ARN that is known without asking.
fn arn(ecr: &Ecr, repository: &str) -> String {
    match &ecr.owner {
        Some(owner) => format!("repository {repository} of account {owner}"),
        None => format!("repository {repository}"),
    }
}

/// `host[:port]` of a registry's address.
fn host_of(address: &str) -> Option<String> {
    let url = Url::parse(address).ok()?;
    let host = url.host_str()?;
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_addresses() {
        for (address, host) in [
            (
                "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                Some("123456789012.dkr.ecr.eu-west-1.amazonaws.com"),
            ),
            ("https://localhost:5000/", Some("localhost:5000")),
            ("nonsense", None),
            ("", None),
        ] {
            assert_eq!(host_of(address).as_deref(), host, "{address}");
        }
    }
}
