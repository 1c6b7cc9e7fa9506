//! Services that keep tasks running in a cloud: what runs, how it rolls out, and what changes it.
//!
//! The words are those of Amazon ECS, whose tasks, task definitions and deployments these are. A task
//! definition travels as the JSON it is, so that no key is lost on the way. A *deployment* is the
//! service's own count of old and new tasks; a *rollout* is what newer services record of it, with
//! its rollback.

use async_trait::async_trait;
use serde_json::{Map, Value};

use super::cloud::{Account, CloudError};
use crate::base::Timestamp;

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name or ARN of the cluster.
    pub cluster: String,
    /// Name or ARN of the service.
    pub service: String,
}

/// A service as it is now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceState {
    /// Its name.
    pub name: String,
    /// `ACTIVE`, `DRAINING` or `INACTIVE`.
    pub status: String,
    /// ARN of the task definition it is to run.
    pub task_definition: String,
    /// Tasks wanted.
    pub desired: u32,
    /// Tasks that run.
    pub running: u32,
    /// Tasks that start.
    pub pending: u32,
    /// Whether it runs one task per instance, so that nobody sets a number.
    pub daemon: bool,
    /// Who moves it from one task definition to the next.
    pub controller: Controller,
    /// How it deploys, as the service keeps it.
    pub deployment_configuration: Map<String, Value>,
    /// Where its tasks are placed.
    pub capacity_providers: Vec<CapacityProvider>,
    /// Whose tags its tasks get: `SERVICE`, `TASK_DEFINITION` or `NONE`.
    pub propagate_tags: Option<String>,
    /// Load balancers and registries that lead to its containers.
    pub routes: Vec<Route>,
    /// How a task of its own is started: launch type, platform and network.
    pub launch: Launch,
    /// Its deployments, the primary one first.
    pub deployments: Vec<Deployment>,
    /// Its task sets, if somebody else moves it.
    pub task_sets: Vec<TaskSet>,
    /// What it said lately, oldest first.
    pub events: Vec<ServiceEvent>,
    /// The rollout under way or the last one, where the service records them.
    pub rollout: Option<String>,
}

/// Who moves a service from one task definition to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Controller {
    /// The service itself.
    #[default]
    Own,
    /// CodeDeploy.
    CodeDeploy,
    /// Somebody else.
    External,
}

/// Where tasks are placed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapacityProvider {
    /// Its name.
    pub name: String,
    /// Its share.
    pub weight: u32,
    /// Tasks that it gets first.
    pub base: u32,
}

/// A way that leads to a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// ARN of a target group or a registry, or name of a load balancer.
    pub from: String,
    /// Whether it is a target group.
    pub target_group: bool,
    /// The container.
    pub container: Option<String>,
    /// Its port.
    pub port: Option<u32>,
}

/// How a task is started beside those of the service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Launch {
    /// `FARGATE`, `EC2` or `EXTERNAL`; absent if capacity providers decide.
    pub launch_type: Option<String>,
    /// Version of the platform.
    pub platform_version: Option<String>,
    /// Subnets and security groups, as the service keeps them.
    pub network: Option<Value>,
}

/// One deployment of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployment {
    /// Its id.
    pub id: String,
    /// Whether it is the newest one.
    pub primary: bool,
    /// ARN of its task definition.
    pub task_definition: String,
    /// Tasks wanted.
    pub desired: u32,
    /// Tasks that run.
    pub running: u32,
    /// Tasks that start.
    pub pending: u32,
    /// Tasks that did not come up.
    pub failed: u32,
    /// When it began.
    pub created: Timestamp,
    /// How far it is. Absent behind a Classic Load Balancer.
    pub state: Option<DeploymentState>,
    /// Why it is in that state.
    pub reason: String,
}

/// How far a deployment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentState {
    /// On its way.
    InProgress,
    /// Everything runs.
    Completed,
    /// It was given up.
    Failed,
}

/// A set of tasks of a service that somebody else moves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskSet {
    /// Whether it serves.
    pub primary: bool,
    /// ARN of its task definition.
    pub task_definition: String,
    /// Whether as many tasks run as are wanted.
    pub stable: bool,
}

/// Something a service said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceEvent {
    /// Its id.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// What.
    pub message: String,
}

/// A service deployment as newer services record it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// Its ARN.
    pub arn: String,
    /// How it stands.
    pub status: RolloutStatus,
    /// Why.
    pub reason: String,
    /// When it was asked for.
    pub created: Timestamp,
    /// ARN of the task definition it brings.
    pub task_definition: Option<String>,
    /// Where it is on the way, for blue/green: `BAKE_TIME`.
    pub step: Option<String>,
    /// Its rollback, if one was begun.
    pub rollback: Option<Rollback>,
}

/// How a rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolloutStatus {
    /// Asked for, not begun.
    Pending,
    /// On its way.
    InProgress,
    /// Done.
    Successful,
    /// Somebody asked it to stop.
    StopRequested,
    /// It was stopped.
    Stopped,
    /// Somebody or an alarm asked for it to be rolled back.
    RollbackRequested,
    /// Being rolled back.
    RollbackInProgress,
    /// Rolled back.
    RolledBack,
    /// Neither it nor its rollback went well.
    RollbackFailed,
    /// A word we do not know.
    Other(String),
}

/// The rollback of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollback {
    /// Why.
    pub reason: String,
    /// ARN of the task definition it goes back to.
    pub task_definition: Option<String>,
}

/// A registered task definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Its ARN, which ends with `FAMILY:NUMBER`.
    pub arn: String,
    /// What is registered, with the keys that only the service writes.
    pub definition: Value,
}

/// A task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskState {
    /// Its ARN.
    pub arn: String,
    /// `PROVISIONING` … `RUNNING` … `STOPPED`.
    pub status: String,
    /// ARN of its task definition.
    pub task_definition: String,
    /// Who started it: a deployment's id or a word of ours.
    pub started_by: String,
    /// Why it stopped, in a word: `EssentialContainerExited`.
    pub stop_code: String,
    /// Why it stopped, in a sentence.
    pub stopped_reason: String,
    /// Its containers.
    pub containers: Vec<TaskContainer>,
}

impl TaskState {
    /// Whether it has come to its end.
    pub fn is_stopped(&self) -> bool {
        self.status == "STOPPED"
    }

    /// The last part of its ARN.
    pub fn id(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or(&self.arn)
    }
}

/// A container of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskContainer {
    /// Its name.
    pub name: String,
    /// Its exit status. Absent while it runs, and if it never started.
    pub exit: Option<i64>,
    /// What went wrong with it: `CannotPullContainerError: …`.
    pub reason: String,
}

/// What to change in a service. What is absent stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceChange {
    /// ARN of the task definition to run.
    pub task_definition: Option<String>,
    /// Tasks wanted.
    pub desired: Option<u32>,
    /// Where tasks are placed.
    pub capacity_providers: Vec<CapacityProvider>,
    /// Whose tags tasks get.
    pub propagate_tags: Option<String>,
    /// How it deploys, as a whole.
    pub deployment_configuration: Option<Map<String, Value>>,
    /// Start new tasks although nothing else changed.
    pub force: bool,
}

/// A task to run once.
#[derive(Clone, Debug, PartialEq)]
pub struct OneOffTask {
    /// The cluster.
    pub cluster: String,
    /// ARN of its task definition.
    pub task_definition: String,
    /// The container whose command is another one.
    pub container: String,
    /// The command; the container's own if empty.
    pub command: Vec<String>,
    /// Variables of that container, beside its own.
    pub env: Vec<(String, String)>,
    /// How it is started.
    pub launch: Launch,
    /// Where it is placed, if the launch does not say so.
    pub capacity_providers: Vec<CapacityProvider>,
    /// Makes asking twice start one task, and finds it again: letters, digits and `-`, at most 36.
    pub token: String,
}

/// Something a task needs besides itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A cluster that takes tasks.
    Cluster(String),
    /// A role, by ARN.
    Role(String),
    /// A secret or parameter, by name or ARN, as a container refers to it.
    Secret(String),
    /// A log group; its region if it is not the account's.
    LogGroup {
        /// The region.
        region: Option<String>,
        /// Its name.
        name: String,
    },
    /// A target group, by ARN.
    TargetGroup(String),
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cluster(name) => write!(f, "cluster {name}"),
            Self::Role(arn) => write!(f, "role {arn}"),
            Self::Secret(name) => write!(f, "secret {name}"),
            Self::LogGroup { name, .. } => write!(f, "log group {name}"),
            Self::TargetGroup(arn) => write!(f, "target group {arn}"),
        }
    }
}

/// The log of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStream {
    /// Its region, if it is not the account's.
    pub region: Option<String>,
    /// The log group.
    pub group: String,
    /// The stream.
    pub stream: String,
}

/// A piece of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPage {
    /// Its lines.
    pub lines: Vec<String>,
    /// Where the next piece begins; the same again if there is nothing new.
    pub next: Option<String>,
}

/// A rule of an event bus that starts tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// The bus; the default one if absent.
    pub bus: Option<String>,
    /// The rule.
    pub rule: String,
}

/// A task that a rule starts, as the bus keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduledTask {
    /// Its id within the rule.
    pub id: String,
    /// ARN of its task definition.
    pub task_definition: String,
    /// Everything else the bus keeps of it.
    pub target: Map<String, Value>,
}

/// A deployment for CodeDeploy to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The application.
    pub application: String,
    /// The deployment group.
    pub group: String,
    /// The deployment configuration; the group's if absent.
    pub configuration: Option<String>,
    /// The application specification: YAML or JSON.
    pub appspec: String,
    /// What it is for. Finds it again.
    pub description: String,
}

/// A deployment of CodeDeploy as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShiftState {
    /// Its id.
    pub id: String,
    /// `Created`, `InProgress`, `Succeeded`, `Failed`, `Stopped` …
    pub status: String,
    /// What went wrong, if something did.
    pub error: String,
    /// What became of its rollback, if there was one.
    pub rollback: String,
    /// What it is for.
    pub description: String,
}

/// Looks at services, tasks and what they need.
#[async_trait]
pub trait ServicesReader: Send + Sync {
    /// A service, if there is one.
    async fn service(
        &self,
        account: &Account,
        place: &Place,
    ) -> Result<Option<ServiceState>, CloudError>;

    /// A task definition by ARN, `FAMILY:NUMBER`, or family, which is its latest active one.
    async fn revision(&self, account: &Account, name: &str)
    -> Result<Option<Revision>, CloudError>;

    /// Rollouts of a service that were asked for since a time, newest first. `None` where they are
    /// not recorded or we may not see them.
    async fn rollouts(
        &self,
        account: &Account,
        place: &Place,
        since: Timestamp,
    ) -> Result<Option<Vec<Rollout>>, CloudError>;

    /// A rollout by ARN.
    async fn rollout(&self, account: &Account, arn: &str) -> Result<Option<Rollout>, CloudError>;

    /// Tasks by ARN; those that are forgotten are left out.
    async fn tasks(
        &self,
        account: &Account,
        cluster: &str,
        arns: &[String],
    ) -> Result<Vec<TaskState>, CloudError>;

    /// Tasks of a service that stopped lately, at most 100.
    async fn stopped_tasks(
        &self,
        account: &Account,
        place: &Place,
    ) -> Result<Vec<TaskState>, CloudError>;

    /// Tasks of a family that were started under a token, also those that stopped lately.
    async fn tasks_of(
        &self,
        account: &Account,
        cluster: &str,
        family: &str,
        token: &str,
    ) -> Result<Vec<TaskState>, CloudError>;

    /// Whether something is there.
    async fn exists(&self, account: &Account, thing: &Thing) -> Result<bool, CloudError>;

    /// A piece of a container's log; from its start if no place is given. Empty while there is
    /// none.
    async fn log(
        &self,
        account: &Account,
        stream: &LogStream,
        from: Option<&str>,
    ) -> Result<LogPage, CloudError>;

    /// Tasks that a rule starts; `None` if there is no such rule.
    async fn scheduled(
        &self,
        account: &Account,
        schedule: &Schedule,
    ) -> Result<Option<Vec<ScheduledTask>>, CloudError>;

    /// A deployment of CodeDeploy.
    async fn shift(&self, account: &Account, id: &str) -> Result<Option<ShiftState>, CloudError>;

    /// Deployments of CodeDeploy that were asked for since a time, newest first.
    async fn shifts(
        &self,
        account: &Account,
        application: &str,
        group: &str,
        since: Timestamp,
    ) -> Result<Vec<ShiftState>, CloudError>;
}

/// Changes services and runs tasks. A change whose answer was lost is not repeated: the caller looks
/// what became of it.
#[async_trait]
pub trait Services: ServicesReader {
    /// Registers a task definition: its next revision.
    async fn register(
        &self,
        account: &Account,
        definition: &Map<String, Value>,
    ) -> Result<Revision, CloudError>;

    /// Changes a service; its state right after.
    async fn update(
        &self,
        account: &Account,
        place: &Place,
        change: &ServiceChange,
    ) -> Result<ServiceState, CloudError>;

    /// Starts a task, once per token within a day.
    async fn run_task(&self, account: &Account, task: &OneOffTask)
    -> Result<TaskState, CloudError>;

    /// Stops a task.
    async fn stop_task(
        &self,
        account: &Account,
        cluster: &str,
        arn: &str,
        reason: &str,
    ) -> Result<(), CloudError>;

    /// Changes a task that a rule starts.
    async fn reschedule(
        &self,
        account: &Account,
        schedule: &Schedule,
        task: &ScheduledTask,
    ) -> Result<(), CloudError>;

    /// Asks CodeDeploy for a deployment; its id.
    async fn begin_shift(&self, account: &Account, shift: &Shift) -> Result<String, CloudError>;
}

/// The last part of a task definition's ARN: `FAMILY:NUMBER`.
pub fn short_revision(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
