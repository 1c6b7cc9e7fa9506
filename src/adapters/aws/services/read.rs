//! Reads ECS's answers. What is missing or of another shape counts as absent; nothing here fails.

use serde_json::{Map, Value};

use crate::base::Timestamp;
use crate::ports::services::{
    CapacityProvider, Controller, Deployment, DeploymentState, Launch, Rollback, Rollout,
    RolloutStatus, Route, ServiceEvent, ServiceState, TaskContainer, TaskSet, TaskState,
};

pub(super) fn text(value: &Value, key: &str) -> String {
    optional(value, key).unwrap_or_default()
}

pub(super) fn optional(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn count(value: &Value, key: &str) -> u32 {
    let number = value.get(key).and_then(Value::as_u64).unwrap_or(0);
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A time in seconds since 1970, with a fraction.
pub(super) fn time(value: &Value, key: &str) -> Timestamp {
    let seconds = value.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    Timestamp((seconds * 1000.0).round() as i64)
}

/// `Service` of the ECS API reference.
pub(super) fn service(value: &Value) -> ServiceState {
    let load_balancers = list(value, "loadBalancers").map(|one| {
        let group = optional(one, "targetGroupArn");
        Route {
            target_group: group.is_some(),
            from: group.unwrap_or_else(|| text(one, "loadBalancerName")),
            container: optional(one, "containerName"),
            port: Some(count(one, "containerPort")).filter(|port| *port > 0),
        }
    });
    let registries = list(value, "serviceRegistries").map(|one| Route {
        from: text(one, "registryArn"),
        target_group: false,
        container: optional(one, "containerName"),
        port: Some(count(one, "containerPort")).filter(|port| *port > 0),
    });
    let mut events: Vec<ServiceEvent> = list(value, "events")
        .map(|event| ServiceEvent {
            id: text(event, "id"),
            at: time(event, "createdAt"),
            message: text(event, "message"),
        })
        .collect();
    // The service tells the newest first.
    events.reverse();
    let mut deployments: Vec<Deployment> = list(value, "deployments").map(deployment).collect();
    deployments.sort_by_key(|deployment| !deployment.primary);
    let controller = value.pointer("/deploymentController/type");
    let task_sets: Vec<TaskSet> = list(value, "taskSets")
        .map(|set| TaskSet {
            primary: text(set, "status") == "PRIMARY",
            task_definition: text(set, "taskDefinition"),
            stable: text(set, "stabilityStatus") == "STEADY_STATE",
        })
        .collect();
    // Somebody else's service tells its task definition only in its task sets.
    let served = task_sets.iter().find(|set| set.primary);
    let task_definition = optional(value, "taskDefinition")
        .or_else(|| served.map(|set| set.task_definition.clone()))
        .unwrap_or_default();
    ServiceState {
        name: text(value, "serviceName"),
        status: text(value, "status"),
        task_definition,
        desired: count(value, "desiredCount"),
        running: count(value, "runningCount"),
        pending: count(value, "pendingCount"),
        daemon: text(value, "schedulingStrategy") == "DAEMON",
        controller: match controller.and_then(Value::as_str) {
            Some("CODE_DEPLOY") => Controller::CodeDeploy,
            Some("EXTERNAL") => Controller::External,
            _ => Controller::Own,
        },
        deployment_configuration: value
            .get("deploymentConfiguration")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_else(Map::new),
        capacity_providers: list(value, "capacityProviderStrategy")
            .map(|one| CapacityProvider {
                name: text(one, "capacityProvider"),
                weight: count(one, "weight"),
                base: count(one, "base"),
            })
            .collect(),
        propagate_tags: optional(value, "propagateTags"),
        routes: load_balancers.chain(registries).collect(),
        launch: Launch {
            launch_type: optional(value, "launchType"),
            platform_version: optional(value, "platformVersion"),
            network: value
                .get("networkConfiguration")
                .filter(|network| network.is_object())
                .cloned(),
        },
        deployments,
        task_sets,
        events,
        rollout: optional(value, "currentServiceDeployment"),
    }
}

/// `Deployment` of the ECS API reference.
fn deployment(value: &Value) -> Deployment {
    Deployment {
        id: text(value, "id"),
        primary: text(value, "status") == "PRIMARY",
        task_definition: text(value, "taskDefinition"),
        desired: count(value, "desiredCount"),
        running: count(value, "runningCount"),
        pending: count(value, "pendingCount"),
        failed: count(value, "failedTasks"),
        created: time(value, "createdAt"),
        state: match text(value, "rolloutState").as_str() {
            "COMPLETED" => Some(DeploymentState::Completed),
            "FAILED" => Some(DeploymentState::Failed),
            "IN_PROGRESS" => Some(DeploymentState::InProgress),
            _ => None,
        },
        reason: text(value, "rolloutStateReason"),
    }
}

/// `ServiceDeployment` of the ECS API reference, with ARNs of service revisions where ours has task
/// definitions.
pub(super) fn rollout(value: &Value) -> Rollout {
    let rollback = value
        .get("rollback")
        .filter(|rollback| rollback.is_object());
    let target = value.pointer("/targetServiceRevision/arn");
    Rollout {
        arn: text(value, "serviceDeploymentArn"),
        status: match text(value, "status").as_str() {
            "PENDING" => RolloutStatus::Pending,
            "IN_PROGRESS" => RolloutStatus::InProgress,
            "SUCCESSFUL" => RolloutStatus::Successful,
            "STOP_REQUESTED" => RolloutStatus::StopRequested,
            "STOPPED" => RolloutStatus::Stopped,
            "ROLLBACK_REQUESTED" => RolloutStatus::RollbackRequested,
            "ROLLBACK_IN_PROGRESS" => RolloutStatus::RollbackInProgress,
            "ROLLBACK_SUCCESSFUL" => RolloutStatus::RolledBack,
            "ROLLBACK_FAILED" => RolloutStatus::RollbackFailed,
            other => RolloutStatus::Other(other.to_owned()),
        },
        reason: text(value, "statusReason"),
        created: time(value, "createdAt"),
        task_definition: target.and_then(Value::as_str).map(str::to_owned),
        step: optional(value, "lifecycleStage"),
        rollback: rollback.map(|rollback| Rollback {
            reason: text(rollback, "reason"),
            task_definition: optional(rollback, "serviceRevisionArn"),
        }),
    }
}

/// `Task` of the ECS API reference.
pub(super) fn task(value: &Value) -> TaskState {
    TaskState {
        arn: text(value, "taskArn"),
        status: text(value, "lastStatus"),
        task_definition: text(value, "taskDefinitionArn"),
        started_by: text(value, "startedBy"),
        stop_code: text(value, "stopCode"),
        stopped_reason: text(value, "stoppedReason"),
        containers: list(value, "containers")
            .map(|container| TaskContainer {
                name: text(container, "name"),
                exit: container.get("exitCode").and_then(Value::as_i64),
                reason: text(container, "reason"),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_have_fractions() {
        assert_eq!(
            time(&json!({"at": 1.5e9}), "at"),
            Timestamp(1_500_000_000_000)
        );
        assert_eq!(time(&json!({"at": 0.125}), "at"), Timestamp(125));
        assert_eq!(time(&json!({"at": "soon"}), "at"), Timestamp(0));
    }

    #[test]
    fn a_service_is_read_in_our_order() {
        let state = service(&json!({
            "serviceName": "web", "status": "ACTIVE", "desiredCount": 2,
            "deploymentController": {"type": "CODE_DEPLOY"},
            "taskSets": [{"status": "PRIMARY", "taskDefinition": "arn/web:3", "stabilityStatus": "STEADY_STATE"}],
            "loadBalancers": [{"targetGroupArn": "arn:tg", "containerName": "web", "containerPort": 80}],
            "deployments": [{"id": "b", "status": "ACTIVE"}, {"id": "a", "status": "PRIMARY", "rolloutState": "FAILED"}],
            "events": [{"id": "2", "createdAt": 2}, {"id": "1", "createdAt": 1}]}));
        assert_eq!(state.task_definition, "arn/web:3");
        assert_eq!(state.controller, Controller::CodeDeploy);
        assert_eq!(state.deployments[0].id, "a");
        assert_eq!(state.deployments[0].state, Some(DeploymentState::Failed));
        assert_eq!(state.events[0].id, "1");
        assert!(state.routes[0].target_group);
        // Whatever it is, reading it does no harm.
        assert_eq!(service(&json!([1])), ServiceState::default());
        assert_eq!(task(&json!({"containers": 3})), TaskState::default());
    }
}
