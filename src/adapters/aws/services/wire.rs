//! The calls, for real: which service is spoken to how.

use async_trait::async_trait;
use serde_json::Value;

use super::{Api, Ask, Calls};
use crate::adapters::aws::Clouds;
use crate::adapters::aws::call::{Call, QUERY, SECRETS_MANAGER, SSM, Service};
use crate::ports::cloud::{Account, CloudError};

const ECS: Service = Service {
    id: "ECS",
    host: "ecs",
    name: "ecs",
    target: "AmazonEC2ContainerServiceV20141113",
    json: "1.1",
};
const LOGS: Service = Service {
    id: "CloudWatch Logs",
    host: "logs",
    name: "logs",
    target: "Logs_20140328",
    json: "1.1",
};
const EVENTS: Service = Service {
    id: "EventBridge",
    host: "events",
    name: "events",
    target: "AWSEvents",
    json: "1.1",
};
const CODEDEPLOY: Service = Service {
    id: "CodeDeploy",
    host: "codedeploy",
    name: "codedeploy",
    target: "CodeDeploy_20141006",
    json: "1.1",
};
const IAM: Service = Service {
    id: "IAM",
    host: "iam",
    name: "iam",
    target: "",
    json: QUERY,
};
const LOAD_BALANCING: Service = Service {
    id: "Elastic Load Balancing v2",
    host: "elasticloadbalancing",
    name: "elasticloadbalancing",
    target: "",
    json: QUERY,
};

#[async_trait]
impl Calls for Clouds {
    async fn call(&self, account: &Account, ask: Ask<'_>) -> Result<Value, CloudError> {
        let service = match ask.api {
            Api::Ecs => &ECS,
            Api::Logs => &LOGS,
            Api::Events => &EVENTS,
            Api::CodeDeploy => &CODEDEPLOY,
            Api::SecretsManager => &SECRETS_MANAGER,
            Api::Ssm => &SSM,
            Api::Iam => &IAM,
            Api::LoadBalancing => &LOAD_BALANCING,
        };
        let call = Call {
            service,
            action: ask.action,
            resource: ask.resource,
            region: ask.region,
            body: &ask.body,
            repeatable: ask.repeatable,
        };
        self.of(account).call(&call).await
    }
}
