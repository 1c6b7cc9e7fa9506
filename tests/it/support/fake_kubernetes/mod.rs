//! A scripted Kubernetes API server: it refuses what the real one would take with a shrug, and its
//! roll-outs follow a plot, look by look. Paths, parameters and content types follow the published
//! OpenAPI description; what breaks it is kept as a complaint.
//!
//! It is reached in the process, as a transport of the adapter, so that roll-outs of half an hour pass
//! at once on a paused clock; or over HTTP, through the `kube` client, with a token.

mod objects;
mod plot;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pipewright::adapters::kubernetes::{Answer, Transport};
use pipewright::ports::cluster::{Cluster, ClusterError};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub use self::plot::Beat;
use self::wire::{Ask, spelled};
use super::faulty::{Faulty, Reply, Request};

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is not made, and asks for so many seconds of patience.
    Throttled(u64),
    /// It is not made.
    Unavailable,
    /// It is not made, and the answer is no JSON.
    Garbage,
    /// It is made, and its answer gets lost.
    AnswerLost,
    /// It is not allowed.
    Denied,
    /// Nobody is known by this credential.
    Unknown,
    /// The place in a list is forgotten.
    Gone,
    /// The process dies before it.
    DieBefore,
    /// The process dies after it.
    DieAfter,
}

/// Trouble that comes at random, the same for the same seed.
struct Weather {
    seed: u64,
    percent: u64,
}

impl Weather {
    fn trouble(&mut self) -> Option<Trouble> {
        // The generator of Marsaglia's "Xorshift RNGs".
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let kinds = [
            Trouble::Throttled(1),
            Trouble::Unavailable,
            Trouble::Garbage,
            Trouble::AnswerLost,
        ];
        let bad = self.seed / 8 % 100 < self.percent;
        bad.then(|| kinds[(self.seed >> 40) as usize % kinds.len()])
    }
}

/// Where an object is: `apps/v1`, `deployments`, namespace, name.
pub type Key = (String, String, String, String);

/// The cluster behind the fake.
#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<Key, Value>,
    /// Fields that others own: kind, field, manager.
    pub owned: Vec<(&'static str, &'static str, &'static str)>,
    /// What pods print, by pod.
    pub logs: BTreeMap<String, &'static str>,
    /// How jobs go, look by look; the last one lasts.
    pub job_plot: VecDeque<Beat>,
    /// Objects per page, at most.
    pub page: Option<usize>,
    /// The token that is known, over HTTP.
    pub token: Option<String>,
    /// Every change that was made, in order: `patch deployments/front`.
    pub writes: Vec<(String, Value)>,
    /// Calls of any kind, in order: `get deployments`.
    pub calls: Vec<String>,
    /// What breaks the description of the API.
    pub complaints: Vec<String>,
    plot: VecDeque<Beat>,
    /// The plot of the next roll-out, if it is another one.
    next_plot: Option<VecDeque<Beat>>,
    /// The workload before its last change, for answers that are late.
    stale: Option<Value>,
    /// Whether the workload was changed since the plot began.
    moved: bool,
    version: u64,
    troubles: Vec<(&'static str, Trouble)>,
    weather: Option<Weather>,
}

/// The fake.
#[derive(Clone)]
pub struct FakeKubernetes {
    state: Arc<Mutex<State>>,
    died: Arc<Notify>,
}

/// The answer to a call: a status, a body, and how long to wait.
pub struct Said {
    pub status: u16,
    pub body: Value,
    pub after: Option<u64>,
}

impl Said {
    fn fine(body: Value) -> Self {
        Self {
            status: 200,
            body,
            after: None,
        }
    }

    /// A refusal as the API tells one.
    fn no(status: u16, reason: &str, message: impl Into<String>) -> Self {
        let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message.into(), "reason": reason, "code": status});
        Self {
            status,
            body,
            after: None,
        }
    }
}

impl FakeKubernetes {
    /// Namespace `main` with deployment `front`, which runs two pods of an old image in container
    /// `app`, migrated by init container `init`.
    pub fn new(plot: &[Beat]) -> Self {
        let mut state = State {
            plot: plot.iter().cloned().collect(),
            job_plot: VecDeque::from([Beat::JobRuns, Beat::JobEnds(0, "")]),
            ..State::default()
        };
        state.put_workload("Deployment", "front");
        Self {
            state: Arc::new(Mutex::new(state)),
            died: Arc::default(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next call of a kind (`patch deployments`) meets with trouble.
    pub fn trouble(&self, call: &'static str, trouble: Trouble) {
        self.state().troubles.push((call, trouble));
    }

    /// Of a hundred calls so many meet with trouble, at random; none if it is zero.
    pub fn weather(&self, seed: u64, percent: u64) {
        // Zero would stay zero.
        let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        self.state().weather = (percent > 0).then_some(Weather { seed, percent });
    }

    /// The next roll-out follows another plot.
    pub fn then(&self, plot: &[Beat]) {
        self.state().next_plot = Some(plot.iter().cloned().collect());
    }

    /// Waits until a trouble was that the process dies.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    /// Names of the changes so far, in order.
    pub fn changes(&self) -> Vec<String> {
        let state = self.state();
        state.writes.iter().map(|(name, _)| name.clone()).collect()
    }

    #[track_caller]
    pub fn clean(&self) {
        assert_eq!(self.state().complaints, Vec::<String>::new());
    }

    /// The image of a container of a workload.
    pub fn image(&self, plural: &str, name: &str, container: &str) -> String {
        let state = self.state();
        let key = key("apps/v1", plural, "main", name);
        let containers = &state.objects[&key]["spec"]["template"]["spec"]["containers"];
        let all = containers.as_array().expect("a list");
        let found = all.iter().find(|it| it["name"] == container);
        found.expect("it is there")["image"]
            .as_str()
            .expect("an image")
            .to_owned()
    }

    /// Serves it over HTTP to whoever has the token. Of all trouble it has only refusals.
    pub fn serve(&self) -> Faulty {
        let fake = self.clone();
        Faulty::alone(move |request: &Request| {
            let known = fake.state().token.clone();
            let given = request.header("authorization").map(str::to_owned);
            let said = match known {
                Some(token) if given != Some(format!("Bearer {token}")) => {
                    Said::no(401, "Unauthorized", "Unauthorized")
                }
                _ => {
                    let header = |name: &str| request.header(name).map(str::to_owned);
                    let ask = spelled(&request.method, &request.path, &header, &request.body).ok();
                    let trouble = fake.next_trouble(ask.as_ref());
                    refusal(trouble, ask.as_ref()).unwrap_or_else(|| {
                        fake.said(&request.method, &request.path, header, &request.body)
                    })
                }
            };
            let headers = said.after.map(|after| ("retry-after", after.to_string()));
            Reply::Answer(said.status, headers.into_iter().collect(), text(&said.body))
        })
    }

    fn said(
        &self,
        method: &str,
        path: &str,
        header: impl Fn(&str) -> Option<String>,
        body: &[u8],
    ) -> Said {
        let mut state = self.state();
        match spelled(method, path, &header, body) {
            Ok(ask) => {
                state.calls.push(ask.name());
                state.answer(&ask)
            }
            Err(said) => {
                let complaint = format!("{method} {path}: {}", said.body["message"]);
                state.complaints.push(complaint);
                said
            }
        }
    }

    fn next_trouble(&self, ask: Option<&Ask>) -> Option<Trouble> {
        let name = ask?.name();
        let mut state = self.state();
        match state.troubles.iter().position(|(call, _)| *call == name) {
            Some(at) => Some(state.troubles.remove(at).1),
            None => state.weather.as_mut().and_then(Weather::trouble),
        }
    }
}

pub fn key(api: &str, plural: &str, namespace: &str, name: &str) -> Key {
    let own = |text: &str| text.to_owned();
    (own(api), own(plural), own(namespace), own(name))
}

/// The refusal a trouble consists of.
fn refusal(trouble: Option<Trouble>, ask: Option<&Ask>) -> Option<Said> {
    match trouble {
        Some(Trouble::Throttled(after)) => Some(Said {
            after: Some(after),
            ..Said::no(429, "TooManyRequests", "slow down")
        }),
        Some(Trouble::Unavailable) => Some(Said::no(503, "ServiceUnavailable", "etcd is away")),
        Some(Trouble::Denied) => {
            let mut said = Said::no(
                403,
                "Forbidden",
                "User \"bot\" cannot do this in the namespace \"main\"",
            );
            let plural = ask.map(|ask| ask.plural.clone()).unwrap_or_default();
            said.body["details"] = json!({"group": "apps", "kind": plural});
            Some(said)
        }
        Some(Trouble::Unknown) => Some(Said::no(401, "Unauthorized", "Unauthorized")),
        Some(Trouble::Gone) => Some(Said::no(
            410,
            "Expired",
            "The provided continue parameter is too old",
        )),
        _ => None,
    }
}

/// Logs are text, everything else is JSON.
fn text(body: &Value) -> String {
    match body {
        Value::String(text) => text.clone(),
        body => body.to_string(),
    }
}

#[async_trait]
impl Transport for FakeKubernetes {
    async fn namespace(&self, _cluster: &Cluster) -> Result<String, ClusterError> {
        Ok("main".to_owned())
    }

    async fn send(
        &self,
        cluster: &Cluster,
        action: &str,
        request: hyper::http::Request<Vec<u8>>,
    ) -> Result<Answer, ClusterError> {
        let method = request.method().as_str().to_owned();
        let path = request.uri().to_string();
        let headers = request.headers().clone();
        let header = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let ask = spelled(&method, &path, &header, request.body());
        let trouble = self.next_trouble(ask.as_ref().ok());
        let broken = |message: &str| ClusterError::Broken {
            cluster: cluster.name.clone(),
            action: action.to_owned(),
            message: message.to_owned(),
        };
        match trouble {
            Some(Trouble::Garbage) => {
                return Ok(Answer {
                    status: 502,
                    retry_after: None,
                    body: b"<html>Bad Gateway".to_vec(),
                });
            }
            Some(Trouble::DieBefore) => {
                self.died.notify_one();
                return std::future::pending().await;
            }
            _ => {}
        }
        let refused = refusal(trouble, ask.as_ref().ok());
        let said = match refused {
            Some(said) => {
                if let Ok(ask) = &ask {
                    self.state().calls.push(ask.name());
                }
                said
            }
            None => self.said(&method, &path, header, request.body()),
        };
        match trouble {
            Some(Trouble::AnswerLost) => return Err(broken("no answer")),
            Some(Trouble::DieAfter) => {
                self.died.notify_one();
                return std::future::pending().await;
            }
            _ => {}
        }
        Ok(Answer {
            status: said.status,
            retry_after: said.after.map(Duration::from_secs),
            body: text(&said.body).into_bytes(),
        })
    }

    fn random(&self) -> u64 {
        7
    }
}
