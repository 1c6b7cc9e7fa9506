//! CodeDeploy: moves the traffic of services that leave that to it.

use serde_json::{Value, json};

use super::{Api, Ask, AwsServices, odd, read};
use crate::base::{Digest, Timestamp};
use crate::ports::cloud::{Account, CloudError};
use crate::ports::services::{Shift, ShiftState};

/// Deployments that are looked at for one of ours.
const LOOKED_AT: usize = 200;
/// Pages of them.
const PAGES: usize = 20;

impl AwsServices {
    /// `CreateDeployment` with the application specification as its content.
    pub(super) async fn create_deployment(
        &self,
        account: &Account,
        shift: &Shift,
    ) -> Result<String, CloudError> {
        let action = "CreateDeployment";
        let sha256 = Digest::of(shift.appspec.as_bytes());
        let mut body = json!({
            "applicationName": shift.application,
            "deploymentGroupName": shift.group,
            "description": shift.description,
            "revision": {
                "revisionType": "AppSpecContent",
                "appSpecContent": {"content": shift.appspec, "sha256": sha256.hex()},
            },
        });
        if let Some(configuration) = &shift.configuration {
            body["deploymentConfigName"] = json!(configuration);
        }
        let ask = Ask::new(Api::CodeDeploy, action, &shift.group, body).once();
        let answer = self.calls.call(account, ask).await?;
        read::optional(&answer, "deploymentId")
            .ok_or_else(|| odd(account, "codedeploy:CreateDeployment", "no deployment"))
    }

    /// `GetDeployment`.
    pub(super) async fn get_deployment(
        &self,
        account: &Account,
        id: &str,
    ) -> Result<Option<ShiftState>, CloudError> {
        let ask = Ask::new(
            Api::CodeDeploy,
            "GetDeployment",
            id,
            json!({"deploymentId": id}),
        );
        let answer = match self.calls.call(account, ask).await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("DeploymentDoesNotExistException") => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(answer.get("deploymentInfo").map(state))
    }

    /// `ListDeployments` since a time, all pages, and `GetDeployment` of each.
    pub(super) async fn list_deployments(
        &self,
        account: &Account,
        application: &str,
        group: &str,
        since: Timestamp,
    ) -> Result<Vec<ShiftState>, CloudError> {
        let start = since.0.max(0) as f64 / 1000.0;
        let mut body = json!({
            "applicationName": application,
            "deploymentGroupName": group,
            "createTimeRange": {"start": start},
        });
        let mut ids: Vec<String> = Vec::new();
        for _ in 0..PAGES {
            let ask = Ask::new(Api::CodeDeploy, "ListDeployments", group, body.clone());
            let answer = self.calls.call(account, ask).await?;
            let page = read::list(&answer, "deployments").filter_map(Value::as_str);
            ids.extend(page.map(str::to_owned));
            match read::optional(&answer, "nextToken") {
                Some(next) if ids.len() < LOOKED_AT => body["nextToken"] = json!(next),
                _ => break,
            }
        }
        let mut all = Vec::new();
        for id in ids.iter().take(LOOKED_AT) {
            all.extend(self.get_deployment(account, id).await?);
        }
        Ok(all)
    }
}

/// `DeploymentInfo` of the CodeDeploy API reference.
fn state(info: &Value) -> ShiftState {
    let error = info.get("errorInformation").unwrap_or(&Value::Null);
    let words = [read::text(error, "code"), read::text(error, "message")];
    let words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.is_empty())
        .collect();
    let rollback = info.get("rollbackInfo").unwrap_or(&Value::Null);
    ShiftState {
        id: read::text(info, "deploymentId"),
        status: read::text(info, "status"),
        error: words.join(": "),
        rollback: read::text(rollback, "rollbackMessage"),
        description: read::text(info, "description"),
    }
}
