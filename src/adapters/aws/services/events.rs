//! EventBridge: rules that start tasks.

use serde_json::{Value, json};

use super::{Api, Ask, AwsServices, odd, read, refused};
use crate::ports::cloud::{Account, CloudError};
use crate::ports::services::{Schedule, ScheduledTask};

/// A rule has at most five targets, or a hundred after a raise.
const PAGES: usize = 20;

impl AwsServices {
    /// `ListTargetsByRule`.
    pub(super) async fn list_targets(
        &self,
        account: &Account,
        schedule: &Schedule,
    ) -> Result<Option<Vec<ScheduledTask>>, CloudError> {
        let mut tasks = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES {
            let mut body = json!({"Rule": schedule.rule});
            if let Some(bus) = &schedule.bus {
                body["EventBusName"] = json!(bus);
            }
            if let Some(next) = &next {
                body["NextToken"] = json!(next);
            }
            let ask = Ask::new(Api::Events, "ListTargetsByRule", &schedule.rule, body);
            let answer = match self.calls.call(account, ask).await {
                Ok(answer) => answer,
                Err(error) if error.code() == Some("ResourceNotFoundException") => return Ok(None),
                Err(error) => return Err(error),
            };
            tasks.extend(read::list(&answer, "Targets").filter_map(scheduled));
            next = read::optional(&answer, "NextToken");
            if next.is_none() {
                return Ok(Some(tasks));
            }
        }
        Err(odd(account, "events:ListTargetsByRule", "it never ends"))
    }

    /// `PutTargets` with the whole target, of which only the task definition is another.
    pub(super) async fn put_target(
        &self,
        account: &Account,
        schedule: &Schedule,
        task: &ScheduledTask,
    ) -> Result<(), CloudError> {
        let mut target = Value::Object(task.target.clone());
        target["EcsParameters"]["TaskDefinitionArn"] = json!(task.task_definition);
        let mut body = json!({"Rule": schedule.rule, "Targets": [target]});
        if let Some(bus) = &schedule.bus {
            body["EventBusName"] = json!(bus);
        }
        let ask = Ask::new(Api::Events, "PutTargets", &schedule.rule, body);
        let answer = self.calls.call(account, ask).await?;
        match read::list(&answer, "FailedEntries").next() {
            Some(failed) => {
                let code = read::text(failed, "ErrorCode");
                let message = read::text(failed, "ErrorMessage");
                Err(refused(account, "events:PutTargets", &code, message))
            }
            None => Ok(()),
        }
    }
}

/// A target that starts a task; others are none of our business.
fn scheduled(target: &Value) -> Option<ScheduledTask> {
    let arn = target
        .pointer("/EcsParameters/TaskDefinitionArn")?
        .as_str()?;
    Some(ScheduledTask {
        id: read::optional(target, "Id")?,
        task_definition: arn.to_owned(),
        target: target.as_object()?.clone(),
    })
}
