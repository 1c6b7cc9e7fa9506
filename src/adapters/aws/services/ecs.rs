//! Amazon ECS: services, task definitions, tasks.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{Api, Ask, AwsServices, odd, read, refused};
use crate::base::Timestamp;
use crate::ports::Retry;
use crate::ports::cloud::{Account, CloudError};
use crate::ports::services::{
    OneOffTask, Place, Revision, Rollout, ServiceChange, ServiceState, TaskState,
};

/// Most tasks that `DescribeTasks` takes, and most that we look at.
const TASKS: usize = 100;
/// Most rollouts that `DescribeServiceDeployments` takes.
const ROLLOUTS: usize = 20;
/// What rollouts are asked for earlier than a deployment says it was created.
const EARLIER_MS: i64 = 60_000;

impl AwsServices {
    /// `DescribeServices`: a missing service is a failure of reason `MISSING` in a good answer.
    pub(super) async fn describe_service(
        &self,
        account: &Account,
        place: &Place,
    ) -> Result<Option<ServiceState>, CloudError> {
        let action = "DescribeServices";
        let body = json!({"cluster": place.cluster, "services": [place.service]});
        let answer = self.ecs(account, action, &place.service, body).await?;
        if let Some(service) = read::list(&answer, "services").next() {
            return Ok(Some(read::service(service)).filter(|service| service.status != "INACTIVE"));
        }
        match read::list(&answer, "failures").next() {
            Some(failure) if read::text(failure, "reason") == "MISSING" => Ok(None),
            Some(failure) => Err(refused(
                account,
                "ecs:DescribeServices",
                &read::text(failure, "reason"),
                read::text(failure, "detail"),
            )),
            None => Err(odd(
                account,
                "ecs:DescribeServices",
                "neither service nor failure",
            )),
        }
    }

    /// `DescribeTaskDefinition`: one that is missing is a `ClientException`.
    pub(super) async fn describe_task_definition(
        &self,
        account: &Account,
        name: &str,
    ) -> Result<Option<Revision>, CloudError> {
        let action = "DescribeTaskDefinition";
        let body = json!({"taskDefinition": name});
        let answer = match self.ecs(account, action, name, body).await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("ClientException") => return Ok(None),
            Err(error) => return Err(error),
        };
        revision(account, action, answer).map(Some)
    }

    /// `RegisterTaskDefinition`.
    pub(super) async fn register_task_definition(
        &self,
        account: &Account,
        definition: &Map<String, Value>,
    ) -> Result<Revision, CloudError> {
        let action = "RegisterTaskDefinition";
        let family = definition.get("family").and_then(Value::as_str);
        let body = Value::Object(definition.clone());
        let ask = Ask::new(Api::Ecs, action, family.unwrap_or("*"), body).once();
        let answer = self.calls.call(account, ask).await?;
        revision(account, action, answer)
    }

    /// `UpdateService`.
    pub(super) async fn update_service(
        &self,
        account: &Account,
        place: &Place,
        change: &ServiceChange,
    ) -> Result<ServiceState, CloudError> {
        let action = "UpdateService";
        let mut body = json!({"cluster": place.cluster, "service": place.service});
        if let Some(arn) = &change.task_definition {
            body["taskDefinition"] = json!(arn);
        }
        if let Some(desired) = change.desired {
            body["desiredCount"] = json!(desired);
        }
        if !change.capacity_providers.is_empty() {
            body["capacityProviderStrategy"] = providers(&change.capacity_providers);
        }
        if let Some(whose) = &change.propagate_tags {
            body["propagateTags"] = json!(whose);
        }
        if let Some(configuration) = &change.deployment_configuration {
            body["deploymentConfiguration"] = Value::Object(configuration.clone());
        }
        if change.force {
            body["forceNewDeployment"] = json!(true);
        }
        let ask = Ask::new(Api::Ecs, action, &place.service, body).once();
        let answer = self.calls.call(account, ask).await?;
        match answer.get("service").filter(|service| service.is_object()) {
            Some(service) => Ok(read::service(service)),
            None => Err(odd(account, "ecs:UpdateService", "no service")),
        }
    }

    /// `ListServiceDeployments`, then `DescribeServiceDeployments`.
    pub(super) async fn list_service_deployments(
        &self,
        account: &Account,
        place: &Place,
        since: Timestamp,
    ) -> Result<Option<Vec<Rollout>>, CloudError> {
        let after = (since.0 - EARLIER_MS).max(0) as f64 / 1000.0;
        let body = json!({
            "cluster": place.cluster,
            "service": place.service,
            "createdAt": {"after": after},
            "maxResults": ROLLOUTS,
        });
        let answer = match self
            .ecs(account, "ListServiceDeployments", &place.service, body)
            .await
        {
            Ok(answer) => answer,
            // Older regions, services of other controllers, roles that do not know it.
            Err(error) if error.retry() == Retry::Never => return Ok(None),
            Err(error) => return Err(error),
        };
        let arns: Vec<String> = read::list(&answer, "serviceDeployments")
            .filter_map(|one| read::optional(one, "serviceDeploymentArn"))
            .take(ROLLOUTS)
            .collect();
        let mut all = self.describe_service_deployments(account, &arns).await?;
        all.sort_by_key(|rollout| std::cmp::Reverse(rollout.created));
        Ok(Some(all))
    }

    /// `DescribeServiceDeployments`, and `DescribeServiceRevisions` for their task definitions.
    pub(super) async fn describe_service_deployments(
        &self,
        account: &Account,
        arns: &[String],
    ) -> Result<Vec<Rollout>, CloudError> {
        let Some(first) = arns.first() else {
            return Ok(Vec::new());
        };
        let body = json!({"serviceDeploymentArns": arns});
        let answer = self
            .ecs(account, "DescribeServiceDeployments", first, body)
            .await?;
        let mut all: Vec<Rollout> = read::list(&answer, "serviceDeployments")
            .map(read::rollout)
            .collect();
        let mut revisions: Vec<&str> = all
            .iter()
            .flat_map(|rollout| {
                let back = rollout.rollback.as_ref();
                [
                    rollout.task_definition.as_deref(),
                    back.and_then(|back| back.task_definition.as_deref()),
                ]
            })
            .flatten()
            .collect();
        revisions.sort_unstable();
        revisions.dedup();
        let mut named: HashMap<String, String> = HashMap::new();
        for some in revisions.chunks(ROLLOUTS) {
            let body = json!({"serviceRevisionArns": some});
            let answer = self
                .ecs(account, "DescribeServiceRevisions", some[0], body)
                .await?;
            named.extend(read::list(&answer, "serviceRevisions").map(|one| {
                (
                    read::text(one, "serviceRevisionArn"),
                    read::text(one, "taskDefinition"),
                )
            }));
        }
        let name = |arn: &mut Option<String>| {
            *arn = arn.take().and_then(|arn| named.get(&arn).cloned());
        };
        for rollout in &mut all {
            name(&mut rollout.task_definition);
            if let Some(back) = &mut rollout.rollback {
                name(&mut back.task_definition);
            }
        }
        Ok(all)
    }

    /// `DescribeTasks`: those that are forgotten are failures of reason `MISSING`.
    pub(super) async fn describe_tasks(
        &self,
        account: &Account,
        cluster: &str,
        arns: &[String],
    ) -> Result<Vec<TaskState>, CloudError> {
        let mut tasks = Vec::new();
        for some in arns.chunks(TASKS) {
            let body = json!({"cluster": cluster, "tasks": some});
            let answer = self.ecs(account, "DescribeTasks", cluster, body).await?;
            tasks.extend(read::list(&answer, "tasks").map(read::task));
        }
        Ok(tasks)
    }

    /// `ListTasks` of a service with the desired status `STOPPED`.
    pub(super) async fn list_stopped_tasks(
        &self,
        account: &Account,
        place: &Place,
    ) -> Result<Vec<TaskState>, CloudError> {
        let body = json!({
            "cluster": place.cluster,
            "serviceName": place.service,
            "desiredStatus": "STOPPED",
            "maxResults": TASKS,
        });
        let arns = self.list_tasks(account, &place.cluster, body).await?;
        self.describe_tasks(account, &place.cluster, &arns).await
    }

    /// `ListTasks` by `startedBy`, which must be the only filter and shows what is meant to run; what
    /// stopped is found by its family.
    pub(super) async fn list_started_tasks(
        &self,
        account: &Account,
        cluster: &str,
        family: &str,
        token: &str,
    ) -> Result<Vec<TaskState>, CloudError> {
        let running = json!({"cluster": cluster, "startedBy": token});
        let stopped = json!({"cluster": cluster, "family": family, "desiredStatus": "STOPPED"});
        let mut arns = self.list_tasks(account, cluster, running).await?;
        arns.extend(self.list_tasks(account, cluster, stopped).await?);
        let mut tasks = self.describe_tasks(account, cluster, &arns).await?;
        tasks.retain(|task| task.started_by == token);
        Ok(tasks)
    }

    async fn list_tasks(
        &self,
        account: &Account,
        cluster: &str,
        body: Value,
    ) -> Result<Vec<String>, CloudError> {
        let answer = self.ecs(account, "ListTasks", cluster, body).await?;
        Ok(read::list(&answer, "taskArns")
            .filter_map(|arn| arn.as_str().map(str::to_owned))
            .take(TASKS)
            .collect())
    }

    /// `RunTask` with a client token: asking again with the same one starts nothing new.
    pub(super) async fn run_one_task(
        &self,
        account: &Account,
        task: &OneOffTask,
    ) -> Result<TaskState, CloudError> {
        let mut container = json!({"name": task.container});
        if !task.command.is_empty() {
            container["command"] = json!(task.command);
        }
        if !task.env.is_empty() {
            let env = task.env.iter();
            container["environment"] = env
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
        }
        let mut body = json!({
            "cluster": task.cluster,
            "taskDefinition": task.task_definition,
            "count": 1,
            "startedBy": task.token,
            "clientToken": task.token,
            "overrides": {"containerOverrides": [container]},
        });
        // A launch type and a capacity provider strategy exclude one another.
        if !task.capacity_providers.is_empty() {
            body["capacityProviderStrategy"] = providers(&task.capacity_providers);
        } else if let Some(launch_type) = &task.launch.launch_type {
            body["launchType"] = json!(launch_type);
        }
        if let Some(version) = &task.launch.platform_version {
            body["platformVersion"] = json!(version);
        }
        if let Some(network) = &task.launch.network {
            body["networkConfiguration"] = network.clone();
        }
        let answer = self
            .ecs(account, "RunTask", &task.task_definition, body)
            .await?;
        if let Some(started) = read::list(&answer, "tasks").next() {
            return Ok(read::task(started));
        }
        match read::list(&answer, "failures").next() {
            Some(failure) => {
                let reason = read::text(failure, "reason");
                let detail = read::text(failure, "detail");
                Err(refused(account, "ecs:RunTask", &reason, detail))
            }
            None => Err(odd(account, "ecs:RunTask", "neither task nor failure")),
        }
    }

    /// `StopTask`.
    pub(super) async fn stop_one_task(
        &self,
        account: &Account,
        cluster: &str,
        arn: &str,
        reason: &str,
    ) -> Result<(), CloudError> {
        let body = json!({"cluster": cluster, "task": arn, "reason": reason});
        self.ecs(account, "StopTask", arn, body).await.map(drop)
    }
}

fn revision(account: &Account, action: &str, mut answer: Value) -> Result<Revision, CloudError> {
    let definition = answer
        .get_mut("taskDefinition")
        .map(Value::take)
        .filter(Value::is_object);
    let arn = definition
        .as_ref()
        .and_then(|definition| read::optional(definition, "taskDefinitionArn"));
    match (arn, definition) {
        (Some(arn), Some(definition)) => Ok(Revision { arn, definition }),
        _ => Err(odd(account, &format!("ecs:{action}"), "no task definition")),
    }
}

fn providers(all: &[crate::ports::services::CapacityProvider]) -> Value {
    all.iter()
        .map(|one| json!({"capacityProvider": one.name, "weight": one.weight, "base": one.base}))
        .collect()
}
