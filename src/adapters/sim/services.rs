//! Simulated services: every cluster has every service that is asked for. A new deployment is complete
//! after a while, and a one-off task succeeds.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::call::{Call, Done, Life};
use super::fault::{Failure, PortError};
use super::ledger::Rule;
use crate::base::Timestamp;
use crate::ports::cloud::{Account, CloudError};
use crate::ports::services::{
    Deployment, DeploymentState, Launch, LogPage, LogStream, OneOffTask, Place, Revision, Rollout,
    Schedule, ScheduledTask, ServiceChange, ServiceState, Services, ServicesReader, Shift,
    ShiftState, TaskContainer, TaskState, Thing,
};

/// The services of a simulated world.
#[derive(Clone, Debug, Default)]
pub(super) struct Cloud {
    /// Containers of definitions that are made up.
    containers: Vec<String>,
    /// Revisions by family, the first one first.
    families: BTreeMap<String, Vec<Value>>,
    /// By cluster and service.
    services: BTreeMap<(String, String), Running>,
    /// By token.
    tasks: BTreeMap<String, TaskState>,
    /// By bus and rule: the task definition.
    schedules: BTreeMap<String, String>,
    shifts: Vec<ShiftState>,
    deployments: u64,
}

#[derive(Clone, Debug)]
struct Running {
    state: ServiceState,
    /// When the primary deployment is complete.
    complete: Instant,
}

fn arn(kind: &str, rest: &str) -> String {
    format!("arn:aws:ecs:us-east-1:123456789012:{kind}/{rest}")
}

impl Cloud {
    /// Services whose task definitions have these containers until somebody registers others.
    pub(super) fn new(containers: &[String]) -> Self {
        let mut named: Vec<String> = Vec::new();
        for name in containers {
            if !named.contains(name) {
                named.push(name.clone());
            }
        }
        Self {
            containers: named,
            ..Self::default()
        }
    }

    /// A task definition that nobody wrote. It names no family, as what is meant for any.
    pub(super) fn made_up(&self, or: &str) -> Value {
        let one = [or.to_owned()];
        let names = match self.containers.as_slice() {
            [] => &one,
            names => names,
        };
        let containers = names
            .iter()
            .map(|name| json!({"name": name, "image": "simulated", "essential": true}));
        json!({"containerDefinitions": containers.collect::<Vec<_>>()})
    }

    /// The latest revision of a family; the first one is made up.
    fn latest(&mut self, family: &str) -> &mut Vec<Value> {
        let mut first = self.made_up(family);
        self.families.entry(family.to_owned()).or_insert_with(|| {
            first["family"] = json!(family);
            first["taskDefinitionArn"] = json!(arn("task-definition", &format!("{family}:1")));
            first["revision"] = json!(1);
            first["status"] = json!("ACTIVE");
            vec![first]
        })
    }

    fn service(&mut self, place: &Place, now: Instant) -> &mut Running {
        let key = (place.cluster.clone(), place.service.clone());
        if !self.services.contains_key(&key) {
            let family = place.service.rsplit('/').next().unwrap_or("service");
            self.latest(family);
            let definition = arn("task-definition", &format!("{family}:1"));
            let state = ServiceState {
                name: family.to_owned(),
                status: "ACTIVE".to_owned(),
                task_definition: definition.clone(),
                desired: 1,
                running: 1,
                launch: Launch {
                    launch_type: Some("EC2".to_owned()),
                    ..Launch::default()
                },
                deployments: vec![deployment(0, &definition, Timestamp(0))],
                ..ServiceState::default()
            };
            let running = Running {
                state,
                complete: now,
            };
            self.services.insert(key.clone(), running);
        }
        let running = self.services.entry(key).or_insert_with(|| Running {
            state: ServiceState::default(),
            complete: now,
        });
        if now >= running.complete
            && let Some(primary) = running.state.deployments.first_mut()
        {
            primary.state = Some(DeploymentState::Completed);
            primary.running = primary.desired;
            running.state.deployments.truncate(1);
            running.state.running = running.state.desired;
        }
        running
    }

    fn find(&mut self, name: &str) -> Option<Revision> {
        let name = name.rsplit('/').next().unwrap_or(name);
        let (family, number) = match name.rsplit_once(':') {
            Some((family, number)) => (family, Some(number.parse::<usize>().ok()?)),
            None => (name, None),
        };
        let revisions = self.families.get(family)?;
        let definition = match number {
            Some(number) => revisions.get(number.checked_sub(1)?)?,
            None => revisions.last()?,
        };
        Some(Revision {
            arn: definition.get("taskDefinitionArn")?.as_str()?.to_owned(),
            definition: definition.clone(),
        })
    }
}

fn deployment(number: u64, definition: &str, created: Timestamp) -> Deployment {
    Deployment {
        id: format!("ecs-svc/{number:019}"),
        primary: true,
        task_definition: definition.to_owned(),
        desired: 1,
        running: 1,
        created,
        state: Some(DeploymentState::Completed),
        ..Deployment::default()
    }
}

impl PortError for CloudError {
    fn of(failure: &Failure, call: &Call) -> Option<Self> {
        let (account, action) = ("simulated".to_owned(), call.to_string());
        let message = "a scripted fault".to_owned();
        Some(match failure {
            Failure::Broken => Self::broken(call, message),
            Failure::Throttled(_) => Self::Throttled { account, action },
            Failure::Denied => Self::Denied {
                account,
                action,
                message,
            },
            Failure::Refused | Failure::NotFound => Self::Refused {
                account,
                action,
                code: "ClientException".to_owned(),
                message,
            },
            _ => return None,
        })
    }

    fn broken(call: &Call, message: String) -> Self {
        Self::Broken {
            account: "simulated".to_owned(),
            action: call.to_string(),
            message,
        }
    }
}

impl Life {
    async fn see<T: Send>(
        &self,
        call: Call,
        look: impl FnOnce(&mut Cloud, Instant) -> T + Send,
    ) -> Result<T, CloudError> {
        self.pass::<CloudError>(&call, None).await?;
        Ok(self
            .look(|state| look(&mut state.cloud, Instant::now()))
            .await)
    }
}

#[async_trait]
impl ServicesReader for Life {
    async fn service(
        &self,
        _account: &Account,
        place: &Place,
    ) -> Result<Option<ServiceState>, CloudError> {
        let call = Call::one("services.service", &place.service);
        self.see(call, |cloud, now| {
            Some(cloud.service(place, now).state.clone())
        })
        .await
    }

    async fn revision(
        &self,
        _account: &Account,
        name: &str,
    ) -> Result<Option<Revision>, CloudError> {
        let call = Call::one("services.revision", name);
        self.see(call, |cloud, _| cloud.find(name)).await
    }

    async fn rollouts(
        &self,
        _account: &Account,
        _place: &Place,
        _since: Timestamp,
    ) -> Result<Option<Vec<Rollout>>, CloudError> {
        Ok(None)
    }

    async fn rollout(&self, _account: &Account, _arn: &str) -> Result<Option<Rollout>, CloudError> {
        Ok(None)
    }

    async fn tasks(
        &self,
        _account: &Account,
        _cluster: &str,
        arns: &[String],
    ) -> Result<Vec<TaskState>, CloudError> {
        let call = Call::new("services.tasks", arns.to_vec());
        self.see(call, |cloud, _| {
            let known = cloud.tasks.values();
            known
                .filter(|task| arns.contains(&task.arn))
                .cloned()
                .collect()
        })
        .await
    }

    async fn stopped_tasks(
        &self,
        _account: &Account,
        _place: &Place,
    ) -> Result<Vec<TaskState>, CloudError> {
        Ok(Vec::new())
    }

    async fn tasks_of(
        &self,
        _account: &Account,
        _cluster: &str,
        _family: &str,
        token: &str,
    ) -> Result<Vec<TaskState>, CloudError> {
        let call = Call::one("services.tasks", token);
        self.see(call, |cloud, _| {
            cloud.tasks.get(token).cloned().into_iter().collect()
        })
        .await
    }

    async fn exists(&self, _account: &Account, thing: &Thing) -> Result<bool, CloudError> {
        let call = Call::one("services.exists", &thing.to_string());
        self.see(call, |_, _| true).await
    }

    async fn log(
        &self,
        _account: &Account,
        _stream: &LogStream,
        _from: Option<&str>,
    ) -> Result<LogPage, CloudError> {
        Ok(LogPage::default())
    }

    async fn scheduled(
        &self,
        _account: &Account,
        schedule: &Schedule,
    ) -> Result<Option<Vec<ScheduledTask>>, CloudError> {
        let call = Call::one("services.scheduled", &schedule.rule);
        self.see(call, |cloud, _| {
            cloud.latest(&schedule.rule);
            let first = arn("task-definition", &format!("{}:1", schedule.rule));
            let definition = cloud.schedules.get(&schedule.rule).cloned();
            Some(vec![ScheduledTask {
                id: "task".to_owned(),
                task_definition: definition.unwrap_or(first),
                target: Map::new(),
            }])
        })
        .await
    }

    async fn shift(&self, _account: &Account, id: &str) -> Result<Option<ShiftState>, CloudError> {
        let call = Call::one("services.shift", id);
        self.see(call, |cloud, _| {
            cloud.shifts.iter().find(|shift| shift.id == id).cloned()
        })
        .await
    }

    async fn shifts(
        &self,
        _account: &Account,
        _application: &str,
        group: &str,
        _since: Timestamp,
    ) -> Result<Vec<ShiftState>, CloudError> {
        let call = Call::one("services.shifts", group);
        self.see(call, |cloud, _| {
            cloud.shifts.iter().rev().cloned().collect()
        })
        .await
    }
}

#[async_trait]
impl Services for Life {
    async fn register(
        &self,
        _account: &Account,
        definition: &Map<String, Value>,
    ) -> Result<Revision, CloudError> {
        let family = definition.get("family").and_then(Value::as_str);
        let family = family.unwrap_or_default().to_owned();
        let call = Call::one("services.register", &family);
        let mut ticket = self.enter::<CloudError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let revisions = state.cloud.families.entry(family.clone()).or_default();
            let number = revisions.len() + 1;
            let name = format!("{family}:{number}");
            let arn = arn("task-definition", &name);
            let mut whole = definition.clone();
            whole.insert("taskDefinitionArn".to_owned(), json!(arn));
            whole.insert("revision".to_owned(), json!(number));
            let whole = Value::Object(whole);
            let same = revisions.last().is_some_and(|last| {
                ["containerDefinitions", "taskRoleArn", "cpu", "memory"]
                    .iter()
                    .all(|key| last.get(key) == whole.get(key))
            });
            revisions.push(whole.clone());
            if same {
                state.violate(Rule::SameRevision, &call, name.clone());
            }
            let revision = Revision {
                arn,
                definition: whole,
            };
            Ok(Done::changed(revision, family.clone(), name))
        })
        .await
    }

    async fn update(
        &self,
        _account: &Account,
        place: &Place,
        change: &ServiceChange,
    ) -> Result<ServiceState, CloudError> {
        let call = Call::one("services.update", &place.service);
        let mut ticket = self.enter::<CloudError>(&call, None).await?;
        let work = self.shared.latency().work;
        let time = self.shared.vary(work, &place.service);
        let created = self.shared.options.start.unwrap_or_default();
        let created = Timestamp(created.0 + self.shared.origin.elapsed().as_millis() as i64);
        self.act(&call, &mut ticket, |state| {
            let now = Instant::now();
            state.cloud.deployments += 1;
            let number = state.cloud.deployments;
            let running = state.cloud.service(place, now);
            let service = &mut running.state;
            if let Some(desired) = change.desired {
                service.desired = desired;
            }
            if !change.capacity_providers.is_empty() {
                service
                    .capacity_providers
                    .clone_from(&change.capacity_providers);
            }
            if change.propagate_tags.is_some() {
                service.propagate_tags.clone_from(&change.propagate_tags);
            }
            if let Some(configuration) = &change.deployment_configuration {
                service.deployment_configuration.clone_from(configuration);
            }
            if let Some(definition) = &change.task_definition {
                service.task_definition.clone_from(definition);
            }
            if change.task_definition.is_some() || change.force {
                for old in &mut service.deployments {
                    old.primary = false;
                }
                let mut new = deployment(number, &service.task_definition, created);
                new.state = Some(DeploymentState::InProgress);
                new.desired = service.desired;
                new.running = 0;
                service.deployments.insert(0, new);
                running.complete = now + time;
            }
            let after = running.state.clone();
            let detail = after.task_definition.clone();
            Ok(Done::changed(after, place.service.clone(), detail))
        })
        .await
    }

    async fn run_task(
        &self,
        _account: &Account,
        task: &OneOffTask,
    ) -> Result<TaskState, CloudError> {
        let call = Call::one("services.run-task", &task.container);
        let mut ticket = self.enter::<CloudError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            if let Some(there) = state.cloud.tasks.get(&task.token) {
                return Ok(Done::nothing(there.clone()));
            }
            let started = TaskState {
                arn: arn("task", &format!("{}/{}", task.cluster, task.token)),
                status: "STOPPED".to_owned(),
                task_definition: task.task_definition.clone(),
                started_by: task.token.clone(),
                stop_code: "EssentialContainerExited".to_owned(),
                stopped_reason: "Essential container in task exited".to_owned(),
                containers: vec![TaskContainer {
                    name: task.container.clone(),
                    exit: Some(0),
                    reason: String::new(),
                }],
            };
            state
                .cloud
                .tasks
                .insert(task.token.clone(), started.clone());
            let detail = started.arn.clone();
            Ok(Done::changed(started, task.container.clone(), detail))
        })
        .await
    }

    async fn stop_task(
        &self,
        _account: &Account,
        _cluster: &str,
        arn: &str,
        _reason: &str,
    ) -> Result<(), CloudError> {
        let call = Call::one("services.stop-task", arn);
        self.pass::<CloudError>(&call, None).await
    }

    async fn reschedule(
        &self,
        _account: &Account,
        schedule: &Schedule,
        task: &ScheduledTask,
    ) -> Result<(), CloudError> {
        let call = Call::one("services.reschedule", &schedule.rule);
        let mut ticket = self.enter::<CloudError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let definition = task.task_definition.clone();
            state
                .cloud
                .schedules
                .insert(schedule.rule.clone(), definition.clone());
            Ok(Done::changed((), schedule.rule.clone(), definition))
        })
        .await
    }

    async fn begin_shift(&self, _account: &Account, shift: &Shift) -> Result<String, CloudError> {
        let call = Call::one("services.begin-shift", &shift.group);
        let mut ticket = self.enter::<CloudError>(&call, None).await?;
        self.act(&call, &mut ticket, |state| {
            let id = format!("d-{:09}", state.cloud.shifts.len() + 1);
            state.cloud.shifts.push(ShiftState {
                id: id.clone(),
                status: "Succeeded".to_owned(),
                description: shift.description.clone(),
                ..ShiftState::default()
            });
            Ok(Done::changed(id.clone(), shift.group.clone(), id))
        })
        .await
    }
}
