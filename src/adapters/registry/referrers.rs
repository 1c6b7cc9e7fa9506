//! The list of what refers to a manifest.

use std::collections::HashSet;

use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::client::Ask;
use super::failure::Failure;
use super::{HttpRegistry, MANIFEST, Place, failure, link};
use crate::base::Digest;
use crate::ports::registry::Referrer;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Pages read at most.
const PAGES: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    artifact_type: String,
}

impl HttpRegistry {
    /// Asks for the list; `None` if the registry has no such thing.
    pub(super) async fn read_referrers(
        &self,
        place: &Place<'_>,
        subject: &Digest,
    ) -> Result<Option<Vec<Referrer>>, Failure> {
        let asked = place.asked();
        let mut url = place.url(&format!("referrers/{subject}"))?;
        let (mut found, mut visited) = (Vec::new(), HashSet::new());
        for page in 0..PAGES {
            if !visited.insert(url.clone()) {
                return Err(asked.broken("its pages of referrers go in a circle"));
            }
            let ask = Ask::new(Method::GET, url)
                .header(ACCEPT, HeaderValue::from_static(INDEX))
                .limit(MANIFEST);
            let answer = match self.client.ask(place.errand(), &ask).await {
                Ok(answer) => answer,
                // A registry that knows manifests but not this answers as to any strange path.
                Err(failure) if page == 0 && is_unknown(failure.status) => return Ok(None),
                Err(failure) => return Err(failure),
            };
            let Ok(index) = serde_json::from_slice::<Index>(&answer.body) else {
                // A page for people, or the list of something else.
                return match page {
                    0 => Ok(None),
                    _ => Err(asked.broken("it sent a list of referrers that is none")),
                };
            };
            for entry in index.manifests {
                let digest = entry.digest.parse().map_err(|_| {
                    let digest = failure::clean(&entry.digest, 80);
                    asked.broken(format!("it lists a digest that is none: {digest}"))
                })?;
                found.push(Referrer {
                    digest,
                    artifact_type: failure::clean(&entry.artifact_type, 200),
                });
            }
            let Some(next) = link::next(&answer.headers) else {
                return Ok(Some(found));
            };
            let next = place.endpoint.resolve(&answer.url, &next);
            url = next
                .ok()
                .filter(|url| place.endpoint.owns(url))
                .ok_or_else(|| asked.refused("its next page of referrers is on another host"))?;
        }
        Err(asked.refused(format!("it has more than {PAGES} pages of referrers")))
    }
}

fn is_unknown(status: Option<StatusCode>) -> bool {
    matches!(
        status,
        Some(
            StatusCode::NOT_FOUND
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::NOT_ACCEPTABLE
                | StatusCode::BAD_REQUEST
                | StatusCode::NOT_IMPLEMENTED
        )
    )
}
