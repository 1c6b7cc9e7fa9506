//! A scripted ECS: it refuses what the real one would take with a shrug, and its roll-outs follow a
//! plot. Behaviour follows the public API references; each action names its page.
//!
//! It is reached in the process, as the calls of the adapter, so that roll-outs of half an hour pass
//! at once on a paused clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use pipewright::adapters::aws::services::{Api, Ask, Calls};
use pipewright::ports::cloud::{Account, CloudError};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

/// What an action takes.
struct Action {
    api: Api,
    name: &'static str,
    required: &'static [&'static str],
    allowed: &'static [&'static str],
    writes: bool,
}

const fn action(
    api: Api,
    name: &'static str,
    required: &'static [&'static str],
    allowed: &'static [&'static str],
    writes: bool,
) -> Action {
    Action {
        api,
        name,
        required,
        allowed,
        writes,
    }
}

/// The actions and their fields, by the pages `API_NAME` of the ECS, CloudWatch Logs, EventBridge,
/// CodeDeploy, Secrets Manager, Systems Manager, IAM and Elastic Load Balancing references.
const ACTIONS: &[Action] = &[
    action(
        Api::Ecs,
        "DescribeServices",
        &["services"],
        &["cluster", "include"],
        false,
    ),
    action(
        Api::Ecs,
        "DescribeClusters",
        &["clusters"],
        &["include"],
        false,
    ),
    action(
        Api::Ecs,
        "DescribeTaskDefinition",
        &["taskDefinition"],
        &["include"],
        false,
    ),
    action(
        Api::Ecs,
        "DescribeTasks",
        &["tasks"],
        &["cluster", "include"],
        false,
    ),
    action(
        Api::Ecs,
        "ListTasks",
        &[],
        &[
            "cluster",
            "family",
            "serviceName",
            "startedBy",
            "desiredStatus",
            "maxResults",
            "nextToken",
        ],
        false,
    ),
    action(
        Api::Ecs,
        "ListServiceDeployments",
        &["service"],
        &["cluster", "status", "createdAt", "maxResults", "nextToken"],
        false,
    ),
    action(
        Api::Ecs,
        "DescribeServiceDeployments",
        &["serviceDeploymentArns"],
        &[],
        false,
    ),
    action(
        Api::Ecs,
        "DescribeServiceRevisions",
        &["serviceRevisionArns"],
        &[],
        false,
    ),
    action(
        Api::Ecs,
        "RegisterTaskDefinition",
        &["family", "containerDefinitions"],
        &[
            "taskRoleArn",
            "executionRoleArn",
            "networkMode",
            "volumes",
            "placementConstraints",
            "requiresCompatibilities",
            "cpu",
            "memory",
            "tags",
            "pidMode",
            "ipcMode",
            "proxyConfiguration",
            "inferenceAccelerators",
            "ephemeralStorage",
            "runtimePlatform",
            "enableFaultInjection",
            // A key of tomorrow.
            "teleportation",
        ],
        true,
    ),
    action(
        Api::Ecs,
        "UpdateService",
        &["service"],
        &[
            "cluster",
            "taskDefinition",
            "desiredCount",
            "capacityProviderStrategy",
            "propagateTags",
            "deploymentConfiguration",
            "forceNewDeployment",
        ],
        true,
    ),
    action(
        Api::Ecs,
        "RunTask",
        &["taskDefinition"],
        &[
            "cluster",
            "count",
            "startedBy",
            "clientToken",
            "overrides",
            "launchType",
            "capacityProviderStrategy",
            "platformVersion",
            "networkConfiguration",
        ],
        true,
    ),
    action(
        Api::Ecs,
        "StopTask",
        &["task"],
        &["cluster", "reason"],
        true,
    ),
    action(
        Api::Logs,
        "GetLogEvents",
        &["logStreamName"],
        &["logGroupName", "startFromHead", "nextToken", "limit"],
        false,
    ),
    action(
        Api::Logs,
        "DescribeLogGroups",
        &[],
        &["logGroupNamePrefix", "limit"],
        false,
    ),
    action(
        Api::Events,
        "ListTargetsByRule",
        &["Rule"],
        &["EventBusName", "NextToken", "Limit"],
        false,
    ),
    action(
        Api::Events,
        "PutTargets",
        &["Rule", "Targets"],
        &["EventBusName"],
        true,
    ),
    action(
        Api::CodeDeploy,
        "CreateDeployment",
        &["applicationName"],
        &[
            "deploymentGroupName",
            "revision",
            "deploymentConfigName",
            "description",
        ],
        true,
    ),
    action(
        Api::CodeDeploy,
        "GetDeployment",
        &["deploymentId"],
        &[],
        false,
    ),
    action(
        Api::CodeDeploy,
        "ListDeployments",
        &[],
        &[
            "applicationName",
            "deploymentGroupName",
            "createTimeRange",
            "includeOnlyStatuses",
            "nextToken",
        ],
        false,
    ),
    action(
        Api::SecretsManager,
        "DescribeSecret",
        &["SecretId"],
        &[],
        false,
    ),
    action(
        Api::Ssm,
        "GetParameters",
        &["Names"],
        &["WithDecryption"],
        false,
    ),
    action(Api::Iam, "GetRole", &["RoleName", "Version"], &[], false),
    action(
        Api::LoadBalancing,
        "DescribeTargetGroups",
        &["TargetGroupArns.member.1", "Version"],
        &[],
        false,
    ),
];

/// What happens to a roll-out at one look after another. The last beat lasts.
#[derive(Clone, Debug)]
pub enum Beat {
    /// The answer is from before the update.
    Stale,
    /// So many of our tasks run.
    Runs(u32),
    /// The service says something.
    Says(&'static str),
    /// A task of ours dies: exit status, reason of the container.
    Dies(Option<i64>, &'static str),
    /// Everything runs.
    Completes,
    /// The circuit breaker gives ours up, and the service goes back.
    GoesBack,
    /// It has gone back.
    IsBack,
    /// Its way back fails as well.
    FailsBack,
    /// The circuit breaker gives ours up, and nothing else happens.
    GivesUp,
    /// Somebody else deploys.
    Theirs,
    /// Somebody scales the service to zero.
    Zero,
    /// Somebody deletes the service.
    Deleted,
    /// The record of the rollout says this, and why.
    Record(&'static str, &'static str),
    /// This look is throttled, however often it is tried.
    Throttled,
    /// This look brings nothing.
    Lost,
}

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
    /// Things that do not exist: what a call asks for, as it is written.
    pub missing: Vec<&'static str>,
    /// Every call that changes something, in order.
    pub writes: Vec<(String, Value)>,
    /// Calls of any kind, in order.
    pub calls: Vec<String>,
    deployments: Vec<Deployment>,
    stale: Option<Value>,
    plot: VecDeque<Beat>,
    record: Option<(String, String, f64)>,
    events: Vec<Value>,
    tasks: BTreeMap<String, Value>,
    tokens: BTreeMap<String, (String, Value)>,
    shifts: Vec<Value>,
    troubles: Vec<(&'static str, Trouble)>,
    clock: f64,
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
            service: service.as_object().cloned().expect("an object"),
            records: false,
            task_exit: (Some(0), ""),
            task_log: Vec::new(),
            targets: Vec::new(),
            shift: VecDeque::from(["Succeeded"]),
            missing: Vec::new(),
            writes: Vec::new(),
            calls: Vec::new(),
            deployments: Vec::new(),
            stale: None,
            plot: plot.iter().cloned().collect(),
            record: None,
            events: Vec::new(),
            tasks: BTreeMap::new(),
            tokens: BTreeMap::new(),
            shifts: Vec::new(),
            troubles: Vec::new(),
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

    /// Waits until a trouble was that the process dies.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    /// Names of the changes so far, in order.
    pub fn changes(&self) -> Vec<String> {
        let state = self.state();
        state.writes.iter().map(|(name, _)| name.clone()).collect()
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
            at.map(|at| state.troubles.remove(at).1)
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

impl State {
    fn tick(&mut self) -> f64 {
        self.clock += 10.0;
        self.clock
    }

    /// Checks a call against its page, and answers it.
    fn answer(&mut self, ask: &Ask<'_>) -> Result<Value, Refusal> {
        let Some(action) = ACTIONS
            .iter()
            .find(|action| action.api == ask.api && action.name == ask.action)
        else {
            return refuse("UnknownOperationException", ask.action);
        };
        let Some(body) = ask.body.as_object() else {
            return refuse("SerializationException", "not an object");
        };
        for field in action.required {
            if !body.contains_key(*field) {
                return refuse("InvalidParameterException", format!("{field} is missing"));
            }
        }
        for field in body.keys() {
            let field = field.as_str();
            if !action.required.contains(&field) && !action.allowed.contains(&field) {
                return refuse("SerializationException", format!("{field} is not known"));
            }
        }
        // A write that may be repeated must say so by a token or be the same again.
        let idempotent = matches!(ask.action, "RunTask" | "StopTask" | "PutTargets");
        if action.writes && ask.repeatable != idempotent {
            return refuse("ClientException", "it would be repeated, or never");
        }
        if action.writes {
            self.writes.push((ask.action.to_owned(), ask.body.clone()));
        }
        self.act(ask.action, body)
    }

    fn act(&mut self, action: &str, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let first = |key: &str| {
            body.get(key)
                .and_then(|list| list.get(0)?.as_str())
                .unwrap_or_default()
        };
        match action {
            "DescribeClusters" => Ok(match first("clusters") {
                "main" => {
                    json!({"clusters": [{"clusterName": "main", "status": "ACTIVE"}], "failures": []})
                }
                name => json!({"clusters": [], "failures": [{"arn": name, "reason": "MISSING"}]}),
            }),
            "DescribeServices" if text("cluster") != "main" => {
                refuse("ClusterNotFoundException", "Cluster not found.")
            }
            "DescribeServices" if first("services") != "web" => Ok(
                json!({"services": [], "failures": [{"arn": first("services"), "reason": "MISSING"}]}),
            ),
            "DescribeServices" => self.look(),
            "DescribeTaskDefinition" => match self.find(text("taskDefinition")) {
                Some(definition) => Ok(json!({"taskDefinition": definition})),
                None => refuse("ClientException", "Unable to describe task definition."),
            },
            "RegisterTaskDefinition" => {
                let arn = self.register(body.clone());
                Ok(json!({"taskDefinition": self.find(&arn)}))
            }
            "UpdateService" => self.update(body),
            "RunTask" => self.run_task(body),
            "StopTask" => {
                if let Some(task) = self.tasks.get_mut(text("task")) {
                    task["lastStatus"] = json!("STOPPED");
                    task["stoppedReason"] = json!(text("reason"));
                }
                Ok(json!({}))
            }
            "DescribeTasks" => Ok(self.describe_tasks(body)),
            "ListTasks" => self.list_tasks(body),
            "ListServiceDeployments" if !self.records => {
                refuse("UnsupportedFeatureException", "not in this region")
            }
            "ListServiceDeployments" => {
                let after = body.get("createdAt").and_then(|at| at.get("after"));
                let after = after.and_then(Value::as_f64).unwrap_or(0.0);
                let known = self.record.iter().filter(|(_, _, at)| *at >= after);
                let all: Vec<Value> = known
                    .map(|_| json!({"serviceDeploymentArn": "arn:sd/1"}))
                    .collect();
                Ok(json!({"serviceDeployments": all}))
            }
            "DescribeServiceDeployments" => {
                let Some((status, reason, created)) = &self.record else {
                    return Ok(json!({"serviceDeployments": []}));
                };
                let mut record = json!({
                    "serviceDeploymentArn": "arn:sd/1", "status": status, "createdAt": created,
                    "targetServiceRevision": {"arn": "arn:sr/new"}});
                if status.starts_with("ROLLBACK") {
                    record["rollback"] = json!({"reason": reason, "serviceRevisionArn": "arn:sr/old", "startedAt": created});
                } else {
                    record["statusReason"] = json!(reason);
                }
                Ok(json!({"serviceDeployments": [record]}))
            }
            "DescribeServiceRevisions" => {
                let ours = self.ours().map_or(String::new(), |ours| ours.arn.clone());
                let all = [
                    ("arn:sr/new", ours),
                    ("arn:sr/old", definition_arn("web:1")),
                ];
                let all: Vec<Value> = all
                    .iter()
                    .map(|(arn, of)| json!({"serviceRevisionArn": arn, "taskDefinition": of}))
                    .collect();
                Ok(json!({"serviceRevisions": all}))
            }
            "GetLogEvents" => {
                let from: usize = text("nextToken").parse().unwrap_or(0);
                let events: Vec<Value> = self.task_log[from.min(self.task_log.len())..]
                    .iter()
                    .map(|line| json!({"timestamp": 1, "message": line}))
                    .collect();
                Ok(json!({"events": events, "nextForwardToken": self.task_log.len().to_string()}))
            }
            "ListTargetsByRule" if text("Rule") != "nightly" => {
                refuse("ResourceNotFoundException", "Rule does not exist.")
            }
            "ListTargetsByRule" => Ok(json!({"Targets": self.targets})),
            "PutTargets" => {
                let new = body["Targets"].as_array().cloned().unwrap_or_default();
                for target in new {
                    self.targets.retain(|old| old["Id"] != target["Id"]);
                    self.targets.push(target);
                }
                Ok(json!({"FailedEntryCount": 0, "FailedEntries": []}))
            }
            "CreateDeployment" => {
                let id = format!("d-{}", self.shifts.len() + 1);
                let content = body["revision"]["appSpecContent"]["content"].clone();
                if body["revision"]["revisionType"] != "AppSpecContent" || !content.is_string() {
                    return refuse("InvalidRevisionException", "no content");
                }
                self.shifts.push(json!({
                    "deploymentId": id, "description": body["description"], "status": "Created"}));
                Ok(json!({"deploymentId": id}))
            }
            "GetDeployment" => self.get_deployment(text("deploymentId")),
            "ListDeployments" => {
                let ids: Vec<&Value> = self.shifts.iter().map(|one| &one["deploymentId"]).collect();
                Ok(json!({"deployments": ids}))
            }
            other => self.look_for(other, body),
        }
    }

    /// Calls that only ask whether something is there.
    fn look_for(&self, action: &str, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let asked: Vec<&str> = body
            .values()
            .filter_map(|value| value.as_str().or_else(|| value.get(0)?.as_str()))
            .collect();
        let there = !asked.iter().any(|name| self.missing.contains(name));
        let name = asked.first().copied().unwrap_or_default();
        match (action, there) {
            ("DescribeLogGroups", true) => Ok(json!({"logGroups": [{"logGroupName": name}]})),
            ("DescribeLogGroups", false) => Ok(json!({"logGroups": []})),
            ("GetParameters", true) => Ok(json!({"Parameters": [{"Name": name}]})),
            ("GetParameters", false) => Ok(json!({"Parameters": [], "InvalidParameters": [name]})),
            ("DescribeSecret", false) => refuse("ResourceNotFoundException", name),
            ("GetRole", false) => refuse("NoSuchEntity", name),
            ("DescribeTargetGroups", false) => refuse("TargetGroupNotFound", name),
            _ => Ok(json!({})),
        }
    }

    /// `RegisterTaskDefinition`: what only a description has is refused.
    fn register(&mut self, definition: Map<String, Value>) -> String {
        let family = definition["family"].as_str().unwrap_or_default().to_owned();
        let revisions = self.families.entry(family.clone()).or_default();
        let number = revisions.len() + 1;
        let arn = definition_arn(&format!("{family}:{number}"));
        let mut whole = definition;
        whole.insert("taskDefinitionArn".to_owned(), json!(arn));
        whole.insert("revision".to_owned(), json!(number));
        whole.insert("status".to_owned(), json!("ACTIVE"));
        whole.insert("compatibilities".to_owned(), json!(["EC2"]));
        whole.entry("volumes").or_insert(json!([]));
        whole.entry("placementConstraints").or_insert(json!([]));
        revisions.push(Value::Object(whole));
        arn
    }

    fn find(&self, name: &str) -> Option<Value> {
        let name = name.rsplit('/').next().unwrap_or(name);
        match name.rsplit_once(':') {
            Some((family, number)) => {
                let at = number.parse::<usize>().ok()?.checked_sub(1)?;
                self.families.get(family)?.get(at).cloned()
            }
            None => self.families.get(name)?.last().cloned(),
        }
    }

    fn describe(&self) -> Value {
        let deployments: Vec<Value> = self
            .deployments
            .iter()
            .map(|d| {
                json!({
                    "id": d.id, "status": d.status, "taskDefinition": d.arn, "desiredCount": d.desired,
                    "runningCount": d.running, "pendingCount": 0, "failedTasks": d.failed,
                    "createdAt": d.created, "updatedAt": d.created,
                    "rolloutState": d.state, "rolloutStateReason": d.reason})
            })
            .collect();
        let primary = self.deployments.iter().find(|d| d.status == "PRIMARY");
        let mut service = Value::Object(self.service.clone());
        service["taskDefinition"] = json!(primary.map(|d| &d.arn));
        service["runningCount"] = json!(self.deployments.iter().map(|d| d.running).sum::<u32>());
        service["deployments"] = json!(deployments);
        service["events"] = self.events.iter().rev().cloned().collect();
        service
    }

    /// `DescribeServices`, one beat further in the plot.
    fn look(&mut self) -> Result<Value, Refusal> {
        let moved = self.stale.is_some();
        let beat = match self.plot.len() {
            _ if !moved => None,
            0 | 1 => self.plot.front().cloned(),
            _ => self.plot.pop_front(),
        };
        match beat {
            Some(Beat::Stale) => {
                return Ok(json!({"services": [self.stale], "failures": []}));
            }
            Some(Beat::Throttled) => return refuse("ThrottlingException", "Rate exceeded"),
            Some(Beat::Lost) => return refuse("ServerException", "Service Unavailable"),
            Some(Beat::Deleted) => {
                return Ok(
                    json!({"services": [], "failures": [{"arn": "web", "reason": "MISSING"}]}),
                );
            }
            Some(beat) => self.play(&beat),
            None => {}
        }
        Ok(json!({"services": [self.describe()], "failures": []}))
    }

    /// Our deployment: the first one after what was there.
    fn ours(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|d| d.id.ends_with("/ours"))
    }

    fn change(&mut self, change: impl Fn(&mut Deployment)) {
        let ours = self
            .deployments
            .iter_mut()
            .find(|d| d.id.ends_with("/ours"));
        ours.into_iter().for_each(change);
    }

    fn lead(&mut self, id: &str, arn: String, reason: &str) {
        if self.deployments.iter().any(|d| d.id == id) {
            return;
        }
        let created = self.tick();
        for other in &mut self.deployments {
            other.status = "ACTIVE";
        }
        self.deployments.insert(
            0,
            Deployment {
                id: id.to_owned(),
                arn,
                status: "PRIMARY",
                state: "IN_PROGRESS",
                reason: reason.to_owned(),
                created,
                desired: 2,
                running: 0,
                failed: 0,
            },
        );
    }

    fn play(&mut self, beat: &Beat) {
        const BREAKER: &str = "ECS deployment circuit breaker: tasks failed to start.";
        match beat {
            Beat::Runs(number) => {
                let number = *number;
                self.change(|d| d.running = number);
            }
            Beat::Says(message) => {
                let at = self.tick();
                let id = format!("event-{at}");
                self.events
                    .push(json!({"id": id, "createdAt": at, "message": message}));
            }
            Beat::Dies(exit, reason) => {
                self.change(|d| d.failed += 1);
                let arn = format!(
                    "arn:aws:ecs:eu-west-1:123456789012:task/main/{:04}",
                    self.tasks.len()
                );
                let of = self.ours().map(|d| (d.arn.clone(), d.id.clone()));
                let (definition, by) = of.unwrap_or_default();
                let mut container =
                    json!({"name": "web", "lastStatus": "STOPPED", "reason": reason});
                if let Some(exit) = exit {
                    container["exitCode"] = json!(exit);
                }
                let task = json!({
                    "taskArn": arn, "taskDefinitionArn": definition, "startedBy": by, "lastStatus": "STOPPED",
                    "stopCode": "EssentialContainerExited", "group": "service:web",
                    "stoppedReason": "Essential container in task exited", "containers": [container]});
                self.tasks.insert(arn, task);
            }
            Beat::Completes => {
                self.change(|d| {
                    d.state = "COMPLETED";
                    d.running = d.desired;
                });
                self.deployments.retain(|d| d.id.ends_with("/ours"));
                if let Some(record) = &mut self.record {
                    record.0 = "SUCCESSFUL".to_owned();
                }
            }
            Beat::GoesBack => {
                self.change(|d| {
                    d.state = "FAILED";
                    d.reason = BREAKER.to_owned();
                });
                let reason =
                    "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/0001.";
                self.lead("ecs-svc/back", definition_arn("web:1"), reason);
            }
            Beat::IsBack | Beat::FailsBack => {
                let fails = matches!(beat, Beat::FailsBack);
                self.deployments.retain(|d| d.id == "ecs-svc/back");
                for back in &mut self.deployments {
                    back.state = if fails { "FAILED" } else { "COMPLETED" };
                    back.reason = "ECS deployment ecs-svc/back ended.".to_owned();
                }
            }
            Beat::GivesUp => {
                self.service["deploymentConfiguration"]["deploymentCircuitBreaker"]["rollback"] =
                    json!(false);
                self.change(|d| {
                    d.state = "FAILED";
                    d.reason = BREAKER.to_owned();
                });
            }
            Beat::Theirs => self.lead("ecs-svc/theirs", definition_arn("web:99"), ""),
            Beat::Zero => self.service["desiredCount"] = json!(0),
            Beat::Record(status, reason) => {
                if let Some(record) = &mut self.record {
                    record.0 = (*status).to_owned();
                    record.1 = (*reason).to_owned();
                }
            }
            Beat::Stale | Beat::Throttled | Beat::Lost | Beat::Deleted => {}
        }
    }

    /// `UpdateService`: a new task definition or `forceNewDeployment` starts a deployment, anything
    /// else does not.
    fn update(&mut self, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let before = self.describe();
        let primary = self.deployments.first().cloned();
        let current = primary.map_or(String::new(), |d| d.arn);
        let wanted = body.get("taskDefinition").and_then(Value::as_str);
        let wanted = wanted.unwrap_or(&current).to_owned();
        if self.find(&wanted).is_none() {
            return refuse("ClientException", "TaskDefinition not found.");
        }
        for (field, of) in [
            ("desiredCount", "desiredCount"),
            ("propagateTags", "propagateTags"),
            ("deploymentConfiguration", "deploymentConfiguration"),
            ("capacityProviderStrategy", "capacityProviderStrategy"),
        ] {
            if let Some(value) = body.get(field) {
                self.service.insert(of.to_owned(), value.clone());
            }
        }
        let forced = body.get("forceNewDeployment") == Some(&json!(true));
        if body.contains_key("capacityProviderStrategy") && !forced {
            return refuse("InvalidParameterException", "it takes forceNewDeployment");
        }
        let desired = self.service["desiredCount"].as_u64().unwrap_or(0) as u32;
        if wanted != current || forced {
            for old in &mut self.deployments {
                old.id = old.id.replace("/ours", "/before");
            }
            self.lead(
                "ecs-svc/ours",
                wanted,
                "ECS deployment ecs-svc/ours in progress.",
            );
            self.change(|d| d.desired = desired);
            self.stale = Some(before);
            self.record = self
                .records
                .then(|| ("IN_PROGRESS".to_owned(), String::new(), self.clock));
        } else if let Some(primary) = self.deployments.first_mut() {
            primary.desired = desired;
            primary.running = desired;
        }
        Ok(json!({"service": self.describe()}))
    }

    /// `RunTask`: the same token with the same request is the same task, with another a conflict.
    fn run_task(&mut self, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let token = text("clientToken").to_owned();
        if token.is_empty() || token.len() > 64 || text("startedBy").len() > 36 {
            return refuse("InvalidParameterException", "clientToken, startedBy");
        }
        if body.contains_key("launchType") && body.contains_key("capacityProviderStrategy") {
            return refuse("InvalidParameterException", "one excludes the other");
        }
        let request = Value::Object(body.clone());
        if let Some((arn, earlier)) = self.tokens.get(&token) {
            return match *earlier == request {
                true => Ok(json!({"tasks": [self.tasks[arn]], "failures": []})),
                false => refuse("ConflictException", "another request had this token"),
            };
        }
        if self.missing.contains(&"capacity") {
            return Ok(json!({"tasks": [], "failures": [
                {"arn": "instance", "reason": "RESOURCE:MEMORY", "detail": "not enough memory"}]}));
        }
        let arn = format!(
            "arn:aws:ecs:eu-west-1:123456789012:task/main/one-{}",
            self.tokens.len() + 1
        );
        let name = body["overrides"]["containerOverrides"][0]["name"].clone();
        let task = json!({
            "taskArn": arn, "taskDefinitionArn": text("taskDefinition"), "startedBy": text("startedBy"),
            "lastStatus": "PENDING", "group": "family:web", "containers": [{"name": name}]});
        self.tasks.insert(arn.clone(), task.clone());
        self.tokens.insert(token, (arn, request));
        Ok(json!({"tasks": [task], "failures": []}))
    }

    /// `DescribeTasks`: a one-off task is one state further at each look.
    fn describe_tasks(&mut self, body: &Map<String, Value>) -> Value {
        let asked = body["tasks"].as_array().cloned().unwrap_or_default();
        let mut all = Vec::new();
        let (exit, reason) = self.task_exit;
        for arn in asked.iter().filter_map(Value::as_str) {
            let Some(task) = self.tasks.get_mut(arn) else {
                continue;
            };
            let next = match task["lastStatus"].as_str() {
                Some("PENDING") => "RUNNING",
                Some("RUNNING") if reason != "hangs" => "STOPPED",
                other => other.unwrap_or_default(),
            }
            .to_owned();
            if next == "STOPPED" && task["lastStatus"] != "STOPPED" {
                task["stopCode"] = json!("EssentialContainerExited");
                task["stoppedReason"] = json!("Essential container in task exited");
                task["containers"][0]["reason"] = json!(reason);
                if let Some(exit) = exit {
                    task["containers"][0]["exitCode"] = json!(exit);
                }
            }
            task["lastStatus"] = json!(next);
            all.push(task.clone());
        }
        json!({"tasks": all, "failures": []})
    }

    /// `ListTasks`: `startedBy` must be the only filter, and what is shown by default is meant to run.
    fn list_tasks(&self, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let filters = ["family", "serviceName", "startedBy", "desiredStatus"];
        let given = filters
            .iter()
            .filter(|key| body.contains_key(**key))
            .count();
        if body.contains_key("startedBy") && given > 1 {
            return refuse("InvalidParameterException", "startedBy must stand alone");
        }
        let wants_stopped = body.get("desiredStatus") == Some(&json!("STOPPED"));
        let fits = |task: &Value| {
            let stopped = task["lastStatus"] == "STOPPED";
            let by = body
                .get("startedBy")
                .is_none_or(|by| task["startedBy"] == *by);
            let group = match (body.get("serviceName"), body.get("family")) {
                (Some(_), _) => task["group"] == "service:web",
                (None, Some(_)) | (None, None) => true,
            };
            stopped == wants_stopped && by && group
        };
        let arns: Vec<&String> = self
            .tasks
            .iter()
            .filter(|(_, task)| fits(task))
            .map(|(arn, _)| arn)
            .collect();
        Ok(json!({"taskArns": arns}))
    }

    fn get_deployment(&mut self, id: &str) -> Result<Value, Refusal> {
        let status = match self.shift.len() {
            0 => "Succeeded",
            1 => self.shift[0],
            _ => self.shift.pop_front().unwrap_or("Succeeded"),
        };
        let Some(one) = self.shifts.iter_mut().find(|one| one["deploymentId"] == id) else {
            return refuse("DeploymentDoesNotExistException", id);
        };
        one["status"] = json!(status);
        if status == "Failed" {
            one["errorInformation"] =
                json!({"code": "HEALTH_CONSTRAINTS", "message": "too many tasks failed."});
            one["rollbackInfo"] = json!({"rollbackMessage": "rolled back by d-9"});
        }
        Ok(json!({"deploymentInfo": one}))
    }
}
