//! Services, tasks and what they need, on the JSON protocols of AWS.
//!
//! What is asked and what is understood of the answers is here; how a call is signed, sent and tried
//! again is not: that is what [`Calls`] stands for. Requests and answers follow the public API
//! references of Amazon ECS, CloudWatch Logs, EventBridge, CodeDeploy, Secrets Manager and Systems
//! Manager; each function names the page.

mod codedeploy;
mod ecs;
mod events;
mod exists;
mod logs;
mod read;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::base::Timestamp;
use crate::ports::cloud::{Account, CloudError};
use crate::ports::services::{
    LogPage, LogStream, OneOffTask, Place, Revision, Rollout, Schedule, ScheduledTask,
    ServiceChange, ServiceState, Services, ServicesReader, Shift, ShiftState, TaskState, Thing,
};

/// A service that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// Amazon ECS.
    Ecs,
    /// CloudWatch Logs.
    Logs,
    /// EventBridge.
    Events,
    /// CodeDeploy.
    CodeDeploy,
    /// Secrets Manager.
    SecretsManager,
    /// Systems Manager.
    Ssm,
    /// Identity and Access Management.
    Iam,
    /// Elastic Load Balancing.
    LoadBalancing,
}

/// A call.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Of which service.
    pub api: Api,
    /// `DescribeServices`.
    pub action: &'static str,
    /// On what, for messages.
    pub resource: &'a str,
    /// Where, if not in the account's region.
    pub region: Option<&'a str>,
    /// What is sent.
    pub body: Value,
    /// Whether a second one has no second effect, so that a lost answer may be asked for again.
    pub repeatable: bool,
}

impl<'a> Ask<'a> {
    fn new(api: Api, action: &'static str, resource: &'a str, body: Value) -> Self {
        Self {
            api,
            action,
            resource,
            region: None,
            body,
            repeatable: true,
        }
    }

    /// The same in another region.
    fn at(mut self, region: Option<&'a str>) -> Self {
        self.region = region;
        self
    }

    /// The same, but never sent twice on our own account.
    fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }
}

/// Makes calls: signed, and tried again where that may help and does no harm.
#[async_trait]
pub trait Calls: Send + Sync {
    /// Makes one and returns its answer. For services that take forms instead of JSON
    /// ([`Api::Iam`], [`Api::LoadBalancing`]) the body's keys are the fields, and the answer is empty.
    async fn call(&self, account: &Account, ask: Ask<'_>) -> Result<Value, CloudError>;
}

/// The services of AWS accounts.
#[derive(Clone)]
pub struct AwsServices {
    calls: Arc<dyn Calls>,
}

impl AwsServices {
    /// Services that are reached by these calls.
    pub fn new(calls: Arc<dyn Calls>) -> Self {
        Self { calls }
    }

    async fn ecs(
        &self,
        account: &Account,
        action: &'static str,
        resource: &str,
        body: Value,
    ) -> Result<Value, CloudError> {
        let ask = Ask::new(Api::Ecs, action, resource, body);
        self.calls.call(account, ask).await
    }
}

/// An answer that the API reference does not allow for.
fn odd(account: &Account, action: &str, what: &str) -> CloudError {
    CloudError::Broken {
        account: account.name.clone(),
        action: action.to_owned(),
        message: format!("its answer makes no sense: {what}"),
    }
}

/// A refusal that is told within a successful answer.
fn refused(account: &Account, action: &str, code: &str, message: String) -> CloudError {
    CloudError::Refused {
        account: account.name.clone(),
        action: action.to_owned(),
        code: code.to_owned(),
        message,
    }
}

#[async_trait]
impl ServicesReader for AwsServices {
    async fn service(
        &self,
        account: &Account,
        place: &Place,
    ) -> Result<Option<ServiceState>, CloudError> {
        self.describe_service(account, place).await
    }

    async fn revision(
        &self,
        account: &Account,
        name: &str,
    ) -> Result<Option<Revision>, CloudError> {
        self.describe_task_definition(account, name).await
    }

    async fn rollouts(
        &self,
        account: &Account,
        place: &Place,
        since: Timestamp,
    ) -> Result<Option<Vec<Rollout>>, CloudError> {
        self.list_service_deployments(account, place, since).await
    }

    async fn rollout(&self, account: &Account, arn: &str) -> Result<Option<Rollout>, CloudError> {
        let all = self
            .describe_service_deployments(account, &[arn.to_owned()])
            .await?;
        Ok(all.into_iter().next())
    }

    async fn tasks(
        &self,
        account: &Account,
        cluster: &str,
        arns: &[String],
    ) -> Result<Vec<TaskState>, CloudError> {
        self.describe_tasks(account, cluster, arns).await
    }

    async fn stopped_tasks(
        &self,
        account: &Account,
        place: &Place,
    ) -> Result<Vec<TaskState>, CloudError> {
        self.list_stopped_tasks(account, place).await
    }

    async fn tasks_of(
        &self,
        account: &Account,
        cluster: &str,
        family: &str,
        token: &str,
    ) -> Result<Vec<TaskState>, CloudError> {
        self.list_started_tasks(account, cluster, family, token)
            .await
    }

    async fn exists(&self, account: &Account, thing: &Thing) -> Result<bool, CloudError> {
        self.is_there(account, thing).await
    }

    async fn log(
        &self,
        account: &Account,
        stream: &LogStream,
        from: Option<&str>,
    ) -> Result<LogPage, CloudError> {
        self.get_log_events(account, stream, from).await
    }

    async fn scheduled(
        &self,
        account: &Account,
        schedule: &Schedule,
    ) -> Result<Option<Vec<ScheduledTask>>, CloudError> {
        self.list_targets(account, schedule).await
    }

    async fn shift(&self, account: &Account, id: &str) -> Result<Option<ShiftState>, CloudError> {
        self.get_deployment(account, id).await
    }

    async fn shifts(
        &self,
        account: &Account,
        application: &str,
        group: &str,
        since: Timestamp,
    ) -> Result<Vec<ShiftState>, CloudError> {
        self.list_deployments(account, application, group, since)
            .await
    }
}

#[async_trait]
impl Services for AwsServices {
    async fn register(
        &self,
        account: &Account,
        definition: &Map<String, Value>,
    ) -> Result<Revision, CloudError> {
        self.register_task_definition(account, definition).await
    }

    async fn update(
        &self,
        account: &Account,
        place: &Place,
        change: &ServiceChange,
    ) -> Result<ServiceState, CloudError> {
        self.update_service(account, place, change).await
    }

    async fn run_task(
        &self,
        account: &Account,
        task: &OneOffTask,
    ) -> Result<TaskState, CloudError> {
        self.run_one_task(account, task).await
    }

    async fn stop_task(
        &self,
        account: &Account,
        cluster: &str,
        arn: &str,
        reason: &str,
    ) -> Result<(), CloudError> {
        self.stop_one_task(account, cluster, arn, reason).await
    }

    async fn reschedule(
        &self,
        account: &Account,
        schedule: &Schedule,
        task: &ScheduledTask,
    ) -> Result<(), CloudError> {
        self.put_target(account, schedule, task).await
    }

    async fn begin_shift(&self, account: &Account, shift: &Shift) -> Result<String, CloudError> {
        self.create_deployment(account, shift).await
    }
}
