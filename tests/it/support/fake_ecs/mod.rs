//! A scripted ECS: it refuses what the real one would take with a shrug, and its roll-outs follow a
//! plot. Behaviour follows the public API references; each action names its page.
//!
//! It is reached in the process, as the calls of the adapter, so that roll-outs of half an hour pass
//! at once on a paused clock; or over HTTP, where it looks at how a call is spelled and signed too.

mod account;
mod pages;
mod plot;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pipewright::adapters::aws::services::{Api, Ask, Calls};
use pipewright::ports::cloud::{Account, CloudError};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use self::pages::{ACTIONS, IDEMPOTENT, spelled};
pub use self::plot::Beat;
use super::faulty::{Faulty, Reply, Request};

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is not made, and asks for less haste.
    Throttled,
    /// It is not made.
    Broken,
    /// It is made, and its answer gets lost.
    AnswerLost,
    /// It is not allowed.
    Denied,
    /// The process dies before it.
    DieBefore,
    /// The process dies after it.
    DieAfter,
}

#[derive(Clone, Debug)]
struct Deployment {
    id: String,
    arn: String,
    status: &'static str,
    state: &'static str,
    reason: String,
    created: f64,
    desired: u32,
    running: u32,
    failed: u32,
}

/// The account behind the fake.
pub struct State {
    /// Revisions by family, as they are described.
    pub families: BTreeMap<String, Vec<Value>>,
    /// The one cluster there is.
    pub cluster: &'static str,
    /// The one service there is.
    pub name: &'static str,
    /// The service, but for what follows from its deployments.
    pub service: Map<String, Value>,
    /// Whether rollouts are recorded.
    pub records: bool,
    /// Status and reason of the one-off task's container, by what it prints.
    pub task_exit: (Option<i64>, &'static str),
    /// What a one-off task prints.
    pub task_log: Vec<&'static str>,
    /// Targets of the rule `nightly`.
    pub targets: Vec<Value>,
    /// Statuses of a CodeDeploy deployment, look by look.
    pub shift: VecDeque<&'static str>,
    /// How many lists of deployments do not show the newest yet.
    pub unlisted: u32,
    /// Deployments of others at CodeDeploy.
    pub other_shifts: usize,
    /// Things that do not exist: what a call asks for, as it is written.
    pub missing: Vec<&'static str>,
    /// Every call that changes something, in order.
    pub writes: Vec<(String, Value)>,
    /// Calls of any kind, in order.
    pub calls: Vec<String>,
    deployments: Vec<Deployment>,
    /// Id of the deployment that was asked for last.
    ours: String,
    stale: Option<Value>,
    plot: VecDeque<Beat>,
    /// The plot of the next deployment, if it is another one.
    next_plot: Option<VecDeque<Beat>>,
    record: Option<(String, String, f64)>,
    events: Vec<Value>,
    tasks: BTreeMap<String, Value>,
    tokens: BTreeMap<String, (String, Value)>,
    shifts: Vec<Value>,
    troubles: Vec<(&'static str, Trouble)>,
    weather: Option<Weather>,
    clock: f64,
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
        let kinds = [Trouble::Throttled, Trouble::Broken, Trouble::AnswerLost];
        let bad = self.seed / 8 % 100 < self.percent;
        bad.then(|| kinds[(self.seed >> 40) as usize % kinds.len()])
    }
}

/// The fake.
#[derive(Clone)]
pub struct FakeEcs {
    state: Arc<Mutex<State>>,
    died: Arc<Notify>,
}

const BASE: f64 = 1_767_225_600.0;

pub fn definition_arn(name: &str) -> String {
    format!("arn:aws:ecs:eu-west-1:123456789012:task-definition/{name}")
}

impl FakeEcs {
    /// Cluster `main` with service `web`, which runs two tasks of `web:1`.
    pub fn new(plot: &[Beat]) -> Self {
        let definition = json!({
            "family": "web",
            "networkMode": "bridge",
            "executionRoleArn": "arn:aws:iam::123456789012:role/execution",
            "teleportation": {"enabled": [], "to": null},
            "containerDefinitions": [
                {"name": "web", "image": "old", "essential": true, "cpu": 0,
                 "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
                 "environment": [{"name": "OPTS", "value": "-Da=b=c"}],
                 "secrets": [{"name": "DB", "valueFrom": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf:password::"}],
                 "logConfiguration": {"logDriver": "awslogs", "options": {
                    "awslogs-group": "/web", "awslogs-region": "eu-west-1", "awslogs-stream-prefix": "ecs"}}}
            ],
        });
        let service = json!({
            "serviceName": "web", "status": "ACTIVE", "desiredCount": 2, "launchType": "EC2",
            "schedulingStrategy": "REPLICA", "deploymentController": {"type": "ECS"}, "propagateTags": "NONE",
            "deploymentConfiguration": {
                "deploymentCircuitBreaker": {"enable": true, "rollback": true},
                "maximumPercent": 200, "minimumHealthyPercent": 100},
            "loadBalancers": [{"targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/1",
                "containerName": "web", "containerPort": 80}],
        });
        let mut state = State {
            families: BTreeMap::new(),
            cluster: "main",
            name: "web",
            service: service.as_object().cloned().expect("an object"),
            records: false,
            task_exit: (Some(0), ""),
            task_log: Vec::new(),
            targets: Vec::new(),
            shift: VecDeque::from(["Succeeded"]),
            unlisted: 0,
            other_shifts: 0,
            missing: Vec::new(),
            writes: Vec::new(),
            calls: Vec::new(),
            deployments: Vec::new(),
            ours: String::new(),
            stale: None,
            plot: plot.iter().cloned().collect(),
            next_plot: None,
            record: None,
            events: Vec::new(),
            tasks: BTreeMap::new(),
            tokens: BTreeMap::new(),
            shifts: Vec::new(),
            troubles: Vec::new(),
            weather: None,
            clock: BASE,
        };
        let arn = state.register(definition.as_object().cloned().expect("an object"));
        state.deployments.push(Deployment {
            id: "ecs-svc/0001".to_owned(),
            arn,
            status: "PRIMARY",
            state: "COMPLETED",
            reason: "ECS deployment ecs-svc/0001 completed.".to_owned(),
            created: BASE,
            desired: 2,
            running: 2,
            failed: 0,
        });
        Self {
            state: Arc::new(Mutex::new(state)),
            died: Arc::default(),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next call of an action meets with trouble.
    pub fn trouble(&self, action: &'static str, trouble: Trouble) {
        self.state().troubles.push((action, trouble));
    }

    /// Of a hundred calls so many meet with trouble, at random; none if it is zero.
    pub fn weather(&self, seed: u64, percent: u64) {
        // Zero would stay zero.
        let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        self.state().weather = (percent > 0).then_some(Weather { seed, percent });
    }

    /// The next deployment follows another plot.
    pub fn then(&self, plot: &[Beat]) {
        self.state().next_plot = Some(plot.iter().cloned().collect());
    }

    /// The task definition of the primary deployment, and how far that is.
    pub fn primary(&self) -> (String, &'static str) {
        let state = self.state();
        let primary = state.deployments.iter().find(|d| d.status == "PRIMARY");
        let primary = primary.expect("a service has a primary deployment");
        (primary.arn.clone(), primary.state)
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

    /// Serves it over HTTP.
    pub fn serve(&self) -> Faulty {
        let fake = self.clone();
        Faulty::alone(move |request| {
            let (status, body) = fake.over_http(request);
            Reply::Answer(status, Vec::new(), body)
        })
    }

    /// Answers a call that came over HTTP: status and body.
    pub fn over_http(&self, request: &Request) -> (u16, String) {
        let refusal = |form: bool, code: &str, message: &str| {
            let body = if form {
                format!(
                    "<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
                )
            } else {
                json!({"__type": format!("com.amazonaws#{code}"), "message": message}).to_string()
            };
            (400, body)
        };
        let spelled = match spelled(request) {
            Ok(spelled) => spelled,
            Err(why) => return refusal(false, "SerializationException", &why),
        };
        let action = ACTIONS
            .iter()
            .find(|action| action.api == spelled.api && action.name == spelled.action);
        let Some(action) = action else {
            return refusal(false, "UnknownOperationException", &spelled.action);
        };
        let form = matches!(spelled.api, Api::Iam | Api::LoadBalancing);
        let ask = Ask {
            api: action.api,
            action: action.name,
            resource: "",
            region: None,
            body: spelled.body,
            // What a client does with a lost answer cannot be seen from here.
            repeatable: !action.writes || IDEMPOTENT.contains(&action.name),
        };
        let mut state = self.state();
        state.calls.push(action.name.to_owned());
        match state.answer(&ask) {
            Ok(_) if form => (200, format!("<{}Response/>", action.name)),
            Ok(answer) => (200, answer.to_string()),
            Err(Refusal(code, message)) => refusal(form, code, &message),
        }
    }

    /// How many revisions a family has.
    pub fn revisions(&self, family: &str) -> usize {
        self.state().families.get(family).map_or(0, Vec::len)
    }
}

/// An error of the service: its code and message.
struct Refusal(&'static str, String);

fn refuse<T>(code: &'static str, message: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(code, message.into()))
}

#[async_trait]
impl Calls for FakeEcs {
    async fn call(&self, account: &Account, ask: Ask<'_>) -> Result<Value, CloudError> {
        let trouble = {
            let mut state = self.state();
            state.calls.push(ask.action.to_owned());
            let at = state
                .troubles
                .iter()
                .position(|(action, _)| *action == ask.action);
            match at {
                Some(at) => Some(state.troubles.remove(at).1),
                None => state.weather.as_mut().and_then(Weather::trouble),
            }
        };
        let (name, action) = (account.name.clone(), ask.action.to_owned());
        let broken = |message: &str| CloudError::Broken {
            account: account.name.clone(),
            action: ask.action.to_owned(),
            message: message.to_owned(),
        };
        match trouble {
            Some(Trouble::Throttled) => {
                return Err(CloudError::Throttled {
                    account: name,
                    action,
                });
            }
            Some(Trouble::Broken) => return Err(broken("status 503")),
            Some(Trouble::Denied) => {
                return Err(CloudError::Denied {
                    account: name,
                    action,
                    message: "you may not".to_owned(),
                });
            }
            Some(Trouble::DieBefore) => {
                self.died.notify_one();
                return std::future::pending().await;
            }
            _ => {}
        }
        let answer = self.state().answer(&ask);
        match trouble {
            Some(Trouble::AnswerLost) => return Err(broken("no answer")),
            Some(Trouble::DieAfter) => {
                self.died.notify_one();
                return std::future::pending().await;
            }
            _ => {}
        }
        answer.map_err(|Refusal(code, message)| match code {
            "ThrottlingException" => CloudError::Throttled {
                account: name,
                action,
            },
            "ServerException" => broken(&message),
            code => CloudError::Refused {
                account: name,
                action,
                code: code.to_owned(),
                message,
            },
        })
    }
}
