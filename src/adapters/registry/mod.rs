//! OCI and Docker registries over HTTP: looks at tags, manifests and blobs, and stores them.
//!
//! It speaks plain HTTP only where the target says so, shows credentials only to the registry and
//! its token server, and believes no content that does not have its digest.

mod auth;
mod challenge;
mod client;
mod credential_helper;
mod docker_config;
mod failure;
mod link;
mod names;
mod referrers;
mod upload;

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use self::auth::{Authority, Errand, Scope};
use self::client::{Answer, Ask, Client};
use self::failure::{Asked, Failure};
use self::names::Endpoint;
use self::upload::Upload;
use super::backoff::Backoff;
use super::http::Http;
use crate::base::{Digest, Secret};
use crate::ports::registry::{
    Allowance, Manifest, Referrer, Registry, RegistryError, RegistryReader, Target,
};

pub use self::docker_config::{DockerConfig, IDENTITY_USER};

/// Largest manifest, in bytes; registries themselves stop at 4 MiB.
const MANIFEST: u64 = 4 << 20;
/// Largest blob that is read, in bytes.
const BLOB: u64 = 8 << 20;
/// Largest page of tags, in bytes.
const PAGE: u64 = 8 << 20;
/// Tags asked for per page.
const PAGE_TAGS: usize = 1000;
const PAGES: usize = 1000;
const TAGS: usize = 500_000;

/// Manifests and indexes that can be read.
pub(super) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONTENT_DIGEST: &str = "docker-content-digest";

/// All registries, through one HTTP client.
#[derive(Debug)]
pub struct HttpRegistry {
    client: Client,
}

impl HttpRegistry {
    /// Registries as the user's docker configuration knows us there.
    pub fn new(http: Http, docker: DockerConfig) -> Self {
        Self::with_backoff(http, docker, Backoff::default())
    }

    /// The same with other waits between tries.
    pub fn with_backoff(http: Http, docker: DockerConfig, backoff: Backoff) -> Self {
        let authority = Authority::new(http.clone(), docker);
        Self {
            client: Client::new(http, authority, backoff),
        }
    }

    /// Asks for a manifest; `None` if the registry says it is absent.
    async fn get_manifest(
        &self,
        place: &Place<'_>,
        method: Method,
        reference: &str,
    ) -> Result<Option<Answer>, Failure> {
        let url = place.url(&format!("manifests/{reference}"))?;
        let ask = Ask::new(method, url)
            .header(ACCEPT, accepted())
            .limit(MANIFEST);
        present(self.client.ask(place.errand(), &ask).await)
    }

    async fn read_manifest(
        &self,
        place: &Place<'_>,
        reference: &str,
    ) -> Result<Option<Manifest>, Failure> {
        let expected = place.reference(reference)?;
        let Some(answer) = self.get_manifest(place, Method::GET, reference).await? else {
            return Ok(None);
        };
        let asked = place.asked();
        let media_type = media_type(&answer);
        // Its digest is not that of its bytes, so nothing could be verified.
        if media_type.contains("docker.distribution.manifest.v1+") {
            return Err(asked.refused("it is an image of the old schema 1; push it anew"));
        }
        let digest = Digest::of(&answer.body);
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(corrupt(asked, expected, digest));
        }
        agree(asked, &answer, &digest)?;
        Ok(Some(Manifest {
            digest,
            media_type,
            bytes: answer.body.to_vec(),
        }))
    }

    async fn read_digest(
        &self,
        place: &Place<'_>,
        reference: &str,
    ) -> Result<Option<Digest>, Failure> {
        let expected = place.reference(reference)?;
        let told = match self.get_manifest(place, Method::HEAD, reference).await {
            Ok(None) => return Ok(None),
            Ok(Some(answer)) => content_digest(&answer),
            // Some proxies and registries know no HEAD.
            Err(failure)
                if matches!(
                    failure.status,
                    Some(StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
                ) =>
            {
                None
            }
            Err(failure) => return Err(failure),
        };
        match (told, expected) {
            (Some(told), Some(expected)) if told != expected => {
                Err(corrupt(place.asked(), expected, told))
            }
            (Some(told), _) => Ok(Some(told)),
            (None, _) => {
                let manifest = self.read_manifest(place, reference).await?;
                Ok(manifest.map(|manifest| manifest.digest))
            }
        }
    }

    async fn read_blob(
        &self,
        place: &Place<'_>,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let url = place.url(&format!("blobs/{digest}"))?;
        let ask = Ask::new(Method::GET, url).limit(BLOB);
        let Some(answer) = present(self.client.ask(place.errand(), &ask).await)? else {
            return Ok(None);
        };
        let found = Digest::of(&answer.body);
        if found != *digest {
            return Err(corrupt(place.asked(), digest.clone(), found));
        }
        Ok(Some(answer.body.to_vec()))
    }

    async fn read_tags(&self, place: &Place<'_>) -> Result<Vec<String>, Failure> {
        let asked = place.asked();
        let first = place.url("tags/list")?;
        let mut url = first.clone();
        url.query_pairs_mut()
            .append_pair("n", &PAGE_TAGS.to_string());
        let mut tags: Vec<String> = Vec::new();
        let mut known: HashSet<String> = HashSet::new();
        let mut visited: HashSet<Url> = HashSet::new();
        for page in 0..PAGES {
            if !visited.insert(url.clone()) {
                return Err(asked.broken("its pages of tags go in a circle"));
            }
            let ask = Ask::new(Method::GET, url).limit(PAGE);
            let answer = match self.client.ask(place.errand(), &ask).await {
                Ok(answer) => answer,
                Err(failure) if failure.absent && page == 0 => return Ok(tags),
                // A repository that vanishes while it is read has not been read.
                Err(failure) => return Err(failure),
            };
            let listed = page_of_tags(asked, &answer.body)?;
            let full = listed.len() >= PAGE_TAGS;
            let before = tags.len();
            for tag in listed {
                if known.insert(tag.clone()) {
                    tags.push(tag);
                }
            }
            if tags.len() > TAGS {
                return Err(asked.refused(format!("it has more than {TAGS} tags")));
            }
            url = match link::next(&answer.headers) {
                Some(link) => {
                    let next = place.endpoint.resolve(&answer.url, &link);
                    next.ok()
                        .filter(|url| place.endpoint.owns(url))
                        .ok_or_else(|| asked.refused("its next page of tags is on another host"))?
                }
                // A registry that pages without a link; one that does not page sends the same
                // tags again, which ends it.
                None if full && tags.len() > before => {
                    let mut next = first.clone();
                    let last = tags.last().map_or("", String::as_str);
                    next.query_pairs_mut()
                        .append_pair("n", &PAGE_TAGS.to_string())
                        .append_pair("last", last);
                    next
                }
                None => return Ok(tags),
            };
        }
        Err(asked.refused(format!("it has more than {PAGES} pages of tags")))
    }

    async fn write_manifest(
        &self,
        place: &Place<'_>,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, Failure> {
        let asked = place.asked();
        let digest = Digest::of(bytes);
        if let Some(expected) = place.reference(reference)?
            && expected != digest
        {
            let message = format!("the manifest has digest {digest}");
            return Err(asked.refused(message));
        }
        let media_type = HeaderValue::from_str(media_type)
            .map_err(|_| asked.refused("its media type is none"))?;
        let url = place.url(&format!("manifests/{reference}"))?;
        let ask = Ask::new(Method::PUT, url)
            .header(CONTENT_TYPE, media_type)
            .body(Bytes::copy_from_slice(bytes));
        let answer = self.client.ask(place.errand(), &ask).await?;
        agree(asked, &answer, &digest)?;
        Ok(digest)
    }
}

#[async_trait]
impl RegistryReader for HttpRegistry {
    async fn digest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Digest>, RegistryError> {
        let what = format!("manifest {}", join(repository, reference));
        let place = Place::new(target, repository, Scope::Pull(repository), &what)?;
        let digest = self.read_digest(&place, reference).await;
        digest.map_err(|failure| failure.error)
    }

    async fn manifest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Manifest>, RegistryError> {
        let what = format!("manifest {}", join(repository, reference));
        let place = Place::new(target, repository, Scope::Pull(repository), &what)?;
        let manifest = self.read_manifest(&place, reference).await;
        manifest.map_err(|failure| failure.error)
    }

    async fn blob(
        &self,
        target: &Target,
        repository: &str,
        digest: &Digest,
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let what = format!("blob {}", join(repository, digest.as_str()));
        let place = Place::new(target, repository, Scope::Pull(repository), &what)?;
        let blob = self.read_blob(&place, digest).await;
        blob.map_err(|failure| failure.error)
    }

    async fn referrers(
        &self,
        target: &Target,
        repository: &str,
        subject: &Digest,
    ) -> Result<Option<Vec<Referrer>>, RegistryError> {
        let what = format!("referrers of {}", join(repository, subject.as_str()));
        let place = Place::new(target, repository, Scope::Pull(repository), &what)?;
        let referrers = self.read_referrers(&place, subject).await;
        referrers.map_err(|failure| failure.error)
    }

    async fn tags(&self, target: &Target, repository: &str) -> Result<Vec<String>, RegistryError> {
        let what = format!("tags of {}", failure::clean(repository, 200));
        let place = Place::new(target, repository, Scope::Pull(repository), &what)?;
        let tags = self.read_tags(&place).await;
        tags.map_err(|failure| failure.error)
    }

    async fn allowance(&self, target: &Target) -> Option<Allowance> {
        let endpoint = Endpoint::of(target).ok()?;
        self.client.allowance(&endpoint)
    }

    /// An identity token comes with the user [`IDENTITY_USER`].
    async fn resolve(&self, target: &Target) -> Result<Option<(String, Secret)>, RegistryError> {
        let place = Place::new(target, "", Scope::Pull(""), "login")?;
        match self.client.authority.credentials(place.errand()).await {
            Ok(found) => Ok(found.map(|found| (found.user, found.secret))),
            Err(failure) => Err(failure.error),
        }
    }
}

#[async_trait]
impl Registry for HttpRegistry {
    async fn put_manifest(
        &self,
        target: &Target,
        repository: &str,
        reference: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let what = format!("upload of manifest {}", join(repository, reference));
        let place = Place::new(target, repository, Scope::Push(repository), &what)?;
        let written = self.write_manifest(&place, reference, media_type, bytes);
        written.await.map_err(|failure| failure.error)
    }

    async fn put_blob(
        &self,
        target: &Target,
        repository: &str,
        bytes: &[u8],
        from: Option<&str>,
    ) -> Result<Digest, RegistryError> {
        let digest = Digest::of(bytes);
        let what = format!("upload of blob {}", join(repository, digest.as_str()));
        let place = Place::new(target, repository, Scope::Push(repository), &what)?;
        let upload = Upload {
            client: &self.client,
            errand: place.errand(),
            repository,
            bytes: Bytes::copy_from_slice(bytes),
            digest,
        };
        match upload.run(from).await {
            Ok(()) => Ok(upload.digest),
            Err(failure) => Err(failure.error),
        }
    }
}

/// A repository of a registry and what is wanted there.
struct Place<'a> {
    target: &'a Target,
    endpoint: Endpoint,
    repository: &'a str,
    scope: Scope<'a>,
    what: &'a str,
}

impl<'a> Place<'a> {
    fn new(
        target: &'a Target,
        repository: &'a str,
        scope: Scope<'a>,
        what: &'a str,
    ) -> Result<Self, RegistryError> {
        let asked = Asked {
            host: &target.host,
            what,
        };
        match Endpoint::of(target) {
            Ok(endpoint) => Ok(Self {
                target,
                endpoint,
                repository,
                scope,
                what,
            }),
            Err(message) => Err(asked.refused(message).error),
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            host: &self.target.host,
            what: self.what,
        }
    }

    fn errand(&self) -> Errand<'_> {
        Errand {
            asked: self.asked(),
            target: self.target,
            endpoint: &self.endpoint,
            scope: self.scope,
        }
    }

    fn url(&self, rest: &str) -> Result<Url, Failure> {
        let url = self.endpoint.url(self.repository, rest);
        url.map_err(|message| self.asked().refused(message))
    }

    fn reference(&self, text: &str) -> Result<Option<Digest>, Failure> {
        names::reference(text).map_err(|message| self.asked().refused(message))
    }
}

fn accepted() -> HeaderValue {
    HeaderValue::from_str(&MANIFEST_TYPES.join(", ")).expect("types are plain ASCII")
}

/// `repository:tag` or `repository@digest`, fit for a message.
fn join(repository: &str, reference: &str) -> String {
    let mark = if reference.contains(':') { '@' } else { ':' };
    failure::clean(&format!("{repository}{mark}{reference}"), 300)
}

fn present(answer: Result<Answer, Failure>) -> Result<Option<Answer>, Failure> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if failure.absent => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn content_digest(answer: &Answer) -> Option<Digest> {
    answer.header(CONTENT_DIGEST)?.parse().ok()
}

/// Checks that the registry speaks of the same content as we do, if it says anything. A digest of
/// another algorithm says nothing we could compare.
fn agree(asked: Asked<'_>, answer: &Answer, expected: &Digest) -> Result<(), Failure> {
    match content_digest(answer) {
        Some(told) if told != *expected => Err(corrupt(asked, told, expected.clone())),
        _ => Ok(()),
    }
}

fn corrupt(asked: Asked<'_>, expected: Digest, found: Digest) -> Failure {
    Failure {
        error: RegistryError::Corrupt {
            host: asked.host.to_owned(),
            what: asked.what.to_owned(),
            expected,
            found,
        },
        ..asked.broken("")
    }
}

/// The type the registry declares, else the one the manifest itself does.
fn media_type(answer: &Answer) -> String {
    let declared = answer.header(CONTENT_TYPE.as_str()).unwrap_or("");
    let declared = declared.split(';').next().unwrap_or("").trim();
    if declared.contains("manifest") || declared.contains("index") {
        return failure::clean(declared, 200);
    }
    let own = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
    let own = own
        .as_ref()
        .and_then(|value| value.get("mediaType")?.as_str());
    failure::clean(own.unwrap_or(declared), 200)
}

fn page_of_tags(asked: Asked<'_>, body: &[u8]) -> Result<Vec<String>, Failure> {
    #[derive(serde::Deserialize)]
    struct Page {
        // Null for a repository whose tags were all deleted.
        tags: Option<Vec<String>>,
    }
    let page: Page = serde_json::from_slice(body)
        .map_err(|_| asked.broken("it sent a list of tags that is none"))?;
    let tags = page.tags.unwrap_or_default();
    // A list that is not to be trusted in one place is not to be trusted at all.
    match tags.iter().find(|tag| !names::is_tag(tag)) {
        Some(odd) => Err(asked.broken(format!(
            "it lists a tag that is none: \"{}\"",
            failure::clean(odd, 60)
        ))),
        None => Ok(tags),
    }
}
