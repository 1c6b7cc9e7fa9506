//! One exchange with a registry: gets in, follows redirects, reads a bounded answer, and tries
//! again where that may help.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Method, Request, Response, StatusCode, Url};
use tokio::time::Instant;

use super::auth::{Authority, Errand, Pass};
use super::failure::Failure;
use super::names::Endpoint;
use crate::adapters::backoff::Backoff;
use crate::adapters::clock::SystemClock;
use crate::adapters::http::{self, Http, retry_after};
use crate::ports::Retry;
use crate::ports::clock::Clock as _;
use crate::ports::registry::{Allowance, RegistryError};

/// Redirects followed in one exchange.
const HOPS: usize = 5;
/// Endpoints whose limits are remembered.
const ENDPOINTS: usize = 256;
/// How long a registry's word about pulls counts, and the longest window it can speak of.
const ALLOWANCE: Duration = Duration::from_secs(6 * 3600);
/// How much of an error's body is looked at, in bytes.
const WORDS: u64 = 64 * 1024;

/// Talks to registries.
#[derive(Debug)]
pub(super) struct Client {
    http: Http,
    pub(super) authority: Authority,
    backoff: Backoff,
    /// What registries said they still let us pull, by endpoint, and until when that counts.
    allowances: Mutex<HashMap<String, (Allowance, Instant)>>,
}

/// A request to a registry.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// The method.
    pub(super) method: Method,
    /// Where to.
    pub(super) url: Url,
    /// Headers but for `Authorization`.
    pub(super) headers: HeaderMap,
    /// The body.
    pub(super) body: Bytes,
    /// Largest body of an answer, in bytes.
    pub(super) limit: u64,
}

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its whole body.
    pub(super) body: Bytes,
    /// The address that answered, which links are relative to.
    pub(super) url: Url,
}

impl Ask {
    /// A request without a body.
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            limit: WORDS,
        }
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets the body.
    pub(super) fn body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// Sets the largest body of an answer.
    pub(super) fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    pub(super) fn new(http: Http, authority: Authority, backoff: Backoff) -> Self {
        Self {
            http,
            authority,
            backoff,
            allowances: Mutex::default(),
        }
    }

    /// How much an endpoint said it still lets us pull.
    pub(super) fn allowance(&self, endpoint: &Endpoint) -> Option<Allowance> {
        let known = self.allowances();
        let (allowance, until) = known.get(endpoint.key())?;
        // A registry that stopped speaking of it must not hold us up forever.
        (*until > Instant::now()).then_some(*allowance)
    }

    fn allowances(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Allowance, Instant)>> {
        // Nothing that holds the lock can leave it half changed.
        self.allowances
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, endpoint: &Endpoint, headers: &HeaderMap) {
        if let Some(allowance) = allowance(headers) {
            let mut known = self.allowances();
            if known.len() >= ENDPOINTS {
                known.clear();
            }
            let until = Instant::now() + allowance.window.unwrap_or(ALLOWANCE);
            known.insert(endpoint.key().to_owned(), (allowance, until));
        }
    }

    /// Sends a request that may safely be repeated, and repeats it while that may help.
    pub(super) async fn ask(&self, errand: Errand<'_>, ask: &Ask) -> Result<Answer, Failure> {
        let mut tries = Tries::new(self.backoff);
        loop {
            match self.once(errand, ask).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    /// A counter of tries for what is more than one request.
    pub(super) fn tries(&self) -> Tries {
        Tries::new(self.backoff)
    }

    /// Sends a request once, or twice if the first time only taught us how to get in.
    pub(super) async fn once(&self, errand: Errand<'_>, ask: &Ask) -> Result<Answer, Failure> {
        let pass = self.authority.pass(errand).await?;
        let (response, url) = self.follow(errand, ask, pass.as_ref()).await?;
        let stale = pass.as_ref().is_some_and(|pass| pass.remembered);
        let again = match response.status() {
            StatusCode::UNAUTHORIZED => true,
            StatusCode::FORBIDDEN => stale,
            _ => false,
        };
        // What another host demands is none of our business.
        if !again || !errand.endpoint.owns(&url) {
            return self.finish(errand, ask, pass, response, url).await;
        }
        let renew = self
            .authority
            .renew(errand, response.headers(), pass.as_ref());
        match renew.await? {
            None => self.finish(errand, ask, pass, response, url).await,
            Some(pass) => {
                drop(response);
                let (response, url) = self.follow(errand, ask, Some(&pass)).await?;
                self.finish(errand, ask, Some(pass), response, url).await
            }
        }
    }

    async fn follow(
        &self,
        errand: Errand<'_>,
        ask: &Ask,
        pass: Option<&Pass>,
    ) -> Result<(Response, Url), Failure> {
        let asked = errand.asked;
        let reads = matches!(ask.method, Method::GET | Method::HEAD);
        let mut url = ask.url.clone();
        for _ in 0..=HOPS {
            let mut request = Request::new(ask.method.clone(), url.clone());
            request.headers_mut().clone_from(&ask.headers);
            if !reads {
                // Also an empty one, so that a length is sent.
                *request.body_mut() = Some(ask.body.clone().into());
            }
            let own = errand.endpoint.owns(&url);
            if own && let Some(pass) = pass {
                let headers = request.headers_mut();
                headers.insert(AUTHORIZATION, pass.header.clone());
            }
            let sent = self.http.send(request).await;
            let response = sent.map_err(|error| asked.lost(error))?;
            let status = response.status();
            let keeps_method = matches!(
                status,
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            );
            let moves = matches!(
                status,
                StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER
            );
            let follows = keeps_method || (moves && reads);
            if !follows {
                return Ok((response, url));
            }
            let location = response.headers().get(LOCATION);
            let Some(location) = location.and_then(|value| value.to_str().ok()) else {
                return Err(asked.broken(format!("it answered {status} without an address")));
            };
            let next = errand.endpoint.resolve(&url, location);
            url = next.map_err(|message| asked.refused(message))?;
            if !reads && !errand.endpoint.owns(&url) {
                return Err(asked.refused("it sends what we write to another host"));
            }
        }
        Err(asked.refused(format!("it redirects more than {HOPS} times")))
    }

    async fn finish(
        &self,
        errand: Errand<'_>,
        ask: &Ask,
        pass: Option<Pass>,
        response: Response,
        url: Url,
    ) -> Result<Answer, Failure> {
        let status = response.status();
        let headers = response.headers().clone();
        if errand.endpoint.owns(&url) {
            self.note(errand.endpoint, &headers);
        }
        if !status.is_success() {
            let after = retry_after(&headers, SystemClock.now());
            let body = http::read_start(response, WORDS).await;
            let hidden = pass.as_ref().map_or(&[][..], |pass| &pass.hidden);
            let mut failure = errand.asked.answered(status, &body, after, hidden);
            // Only the registry itself can say that something is absent.
            failure.absent &= errand.endpoint.owns(&url);
            if pass.is_some_and(|pass| pass.anonymous)
                && let RegistryError::Denied { host, message, .. } = &mut failure.error
            {
                message.push_str(&format!(" (there is no login for {host})"));
            }
            return Err(failure);
        }
        // The length a HEAD speaks of is not that of its own body.
        let body = if ask.method == Method::HEAD {
            Bytes::new()
        } else {
            let read = http::read(response, ask.limit).await;
            read.map_err(|error| errand.asked.lost(error))?
        };
        Ok(Answer {
            status,
            headers,
            body,
            url,
        })
    }
}

/// What the headers of Docker Hub say: `ratelimit-remaining: 76;w=21600`.
fn allowance(headers: &HeaderMap) -> Option<Allowance> {
    let text = headers.get("ratelimit-remaining")?.to_str().ok()?;
    let mut parts = text.split(';').map(str::trim);
    let remaining = parts.next()?.parse().ok()?;
    let window = parts.find_map(|part| part.strip_prefix("w=")?.parse().ok());
    Some(Allowance {
        remaining,
        window: window.map(|window| Duration::from_secs(window).min(ALLOWANCE)),
    })
}

/// Counts the tries of one operation and waits between them.
#[derive(Debug)]
pub(super) struct Tries {
    backoff: Backoff,
    failures: u32,
    started: Instant,
}

impl Tries {
    fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            failures: 0,
            started: Instant::now(),
        }
    }

    /// Waits until another try is due, or gives the failure back if none is.
    pub(super) async fn again(&mut self, failure: Failure) -> Result<(), Failure> {
        self.failures += 1;
        let Retry::After(asked) = failure.retry else {
            return Err(failure);
        };
        let elapsed = self.started.elapsed();
        let random = SystemClock.random();
        match self.backoff.wait(self.failures, elapsed, asked, random) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            None => Err(failure.after_tries(self.failures)),
        }
    }
}
