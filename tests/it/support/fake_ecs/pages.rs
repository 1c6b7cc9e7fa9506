//! The pages of the API references: what each action takes, and how a call is spelled and signed.

use pipewright::adapters::aws::services::Api;
use serde_json::{Map, Value, json};

use crate::support::faulty::Request;

/// What an action takes.
pub(super) struct Action {
    pub(super) api: Api,
    pub(super) name: &'static str,
    pub(super) required: &'static [&'static str],
    pub(super) allowed: &'static [&'static str],
    pub(super) writes: bool,
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
pub(super) const ACTIONS: &[Action] = &[
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

/// Changes that may be asked for twice: by a token, or because the second changes nothing.
pub(super) const IDEMPOTENT: &[&str] = &["RunTask", "StopTask", "PutTargets"];

/// A call as it is spelled in HTTP.
pub(super) struct Spelled {
    pub(super) api: Api,
    pub(super) action: String,
    pub(super) body: Value,
}

/// Prefixes of `X-Amz-Target`, and names in signatures, by the pages "Making API requests" and the
/// service endpoints of the general reference.
const SPOKEN: &[(Api, &str, &str)] = &[
    (Api::Ecs, "AmazonEC2ContainerServiceV20141113", "ecs"),
    (Api::Logs, "Logs_20140328", "logs"),
    (Api::Events, "AWSEvents", "events"),
    (Api::CodeDeploy, "CodeDeploy_20141006", "codedeploy"),
    (Api::SecretsManager, "secretsmanager", "secretsmanager"),
    (Api::Ssm, "AmazonSSM", "ssm"),
];

/// Reads a call, and checks its head: method, type, target, date, and that it is signed for the
/// service that it is meant for (page "Signature Version 4").
pub(super) fn spelled(request: &Request) -> Result<Spelled, String> {
    let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
    if request.method != "POST" || request.path != "/" {
        return Err(format!("{} {}", request.method, request.path));
    }
    let kind = header("content-type");
    let (spelled, name) = if kind.starts_with("application/x-www-form-urlencoded") {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let mut fields = Map::new();
        let mut action = String::new();
        for field in text.split('&') {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            let value = value.replace("%3A", ":").replace("%2F", "/");
            match name {
                "Action" => action = value,
                name => drop(fields.insert(name.to_owned(), json!(value))),
            }
        }
        let (api, name) = match fields.get("Version").and_then(Value::as_str) {
            Some("2010-05-08") => (Api::Iam, "iam"),
            Some("2015-12-01") => (Api::LoadBalancing, "elasticloadbalancing"),
            other => return Err(format!("version {other:?}")),
        };
        let body = Value::Object(fields);
        (Spelled { api, action, body }, name)
    } else if kind == "application/x-amz-json-1.1" {
        let target = header("x-amz-target");
        let (prefix, action) = target.rsplit_once('.').ok_or("no target")?;
        let spoken = SPOKEN.iter().find(|(_, target, _)| *target == prefix);
        let (api, _, name) = spoken.ok_or_else(|| format!("target {target}"))?;
        let body = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
        let action = action.to_owned();
        let api = *api;
        (Spelled { api, action, body }, *name)
    } else {
        return Err(format!("content type {kind}"));
    };
    let signed = header("authorization");
    let parts = [
        "AWS4-HMAC-SHA256 Credential=".to_owned(),
        format!("/{name}/aws4_request, SignedHeaders="),
        "content-type;".to_owned(),
        "x-amz-date".to_owned(),
        "Signature=".to_owned(),
    ];
    if let Some(part) = parts.iter().find(|part| !signed.contains(part.as_str())) {
        return Err(format!("`{part}` is missing in the signature {signed}"));
    }
    let signature = signed.rsplit('=').next().unwrap_or_default();
    if signature.len() != 64 || header("x-amz-date").len() != 16 {
        return Err("the signature or the date is too short".to_owned());
    }
    Ok(spelled)
}
