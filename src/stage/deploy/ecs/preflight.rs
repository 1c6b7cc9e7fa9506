//! What would make a deployment fail although it can be asked for: found before anything is changed.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Ecs;
use super::render::{Found, Wanted};
use super::spec::Strategy;
use crate::formats::task_definition::TaskDefinition;
use crate::ports::Readers;
use crate::ports::cloud::CloudError;
use crate::ports::services::{Controller, ServiceState, Thing};

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// What would make it fail.
    pub(super) errors: Vec<String>,
    /// What could not be looked at.
    pub(super) warnings: Vec<String>,
}

impl Ecs {
    /// Looks for whatever would make the deployment fail.
    pub(super) async fn preflight(
        &self,
        readers: &Readers,
        wanted: &Wanted,
        found: &Found,
    ) -> Findings {
        let mut findings = Findings {
            errors: self.of_service(found),
            warnings: Vec::new(),
        };
        for before in &self.before {
            if let Err(error) = found.rendered.container(&before.container) {
                findings
                    .errors
                    .push(format!("before {}: {error}", before.name));
            }
        }
        let mut things = needs(&found.rendered);
        things.insert(Thing::Cluster(wanted.cluster.clone()));
        let routes = found.service.iter().flat_map(|service| &service.routes);
        things.extend(
            routes
                .filter(|route| route.target_group)
                .map(|route| Thing::TargetGroup(route.from.clone())),
        );
        let mut unseen: Option<CloudError> = None;
        for thing in things {
            match readers.services.exists(&wanted.account, &thing).await {
                Ok(true) => {}
                Ok(false) => findings.errors.push(missing(&thing)),
                Err(error) => {
                    findings
                        .warnings
                        .push(format!("whether {thing} exists is not known: {error}"));
                    // A service that is down is not asked ten times over.
                    if unseen
                        .replace(error)
                        .is_some_and(|error| error.code().is_none())
                        && findings.warnings.len() > 4
                    {
                        break;
                    }
                }
            }
        }
        findings
    }

    fn of_service(&self, found: &Found) -> Vec<String> {
        let Some(service) = &found.service else {
            return Vec::new();
        };
        let mut errors = Vec::new();
        let name = &service.name;
        if service.status != "ACTIVE" {
            errors.push(format!("service {name} is {}", service.status));
        }
        if service.desired == 0 && self.desired.is_none() && !service.daemon {
            errors.push(format!(
                "service {name} is scaled to zero, so nothing would run and nothing be known of it; set `desired-count`, also if it is 0"
            ));
        }
        match (service.controller, &self.strategy) {
            (Controller::Own, Some(Strategy::CodeDeploy(_))) => errors.push(format!(
                "service {name} moves its traffic itself; `strategy codedeploy` is for one whose deployment controller is CODE_DEPLOY"
            )),
            (Controller::CodeDeploy, None | Some(Strategy::Own(_))) => errors.push(format!(
                "CodeDeploy moves the traffic of service {name}: say `strategy codedeploy application=… group=…`"
            )),
            (Controller::External, _) => errors.push(format!(
                "somebody else moves the traffic of service {name} (its deployment controller is EXTERNAL)"
            )),
            _ => {}
        }
        errors.extend(routes(service, &found.rendered));
        errors.extend(launch(service, &found.rendered));
        errors
    }
}

/// Whether every way that leads to the service ends at a container and port of the definition.
fn routes(service: &ServiceState, definition: &TaskDefinition) -> Vec<String> {
    let mut errors = Vec::new();
    for route in &service.routes {
        let Some(container) = &route.container else {
            continue;
        };
        let from = route.from.rsplit(':').next().unwrap_or(&route.from);
        match definition.container(container) {
            Err(error) => errors.push(format!(
                "{from} leads to a container that is not there: {error}"
            )),
            Ok(there) => {
                if let Some(port) = route.port
                    && !ports(there).any(|(first, last)| (first..=last).contains(&u64::from(port)))
                {
                    errors.push(format!(
                        "{from} leads to port {port} of container {container}, which does not map it"
                    ));
                }
            }
        }
    }
    errors
}

/// Container ports that a container maps: first and last of each range.
fn ports(container: &Map<String, Value>) -> impl Iterator<Item = (u64, u64)> {
    let mappings = container.get("portMappings").and_then(Value::as_array);
    mappings.into_iter().flatten().filter_map(|mapping| {
        if let Some(port) = mapping.get("containerPort").and_then(Value::as_u64) {
            return Some((port, port));
        }
        let range = mapping.get("containerPortRange")?.as_str()?;
        let (first, last) = range.split_once('-')?;
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    })
}

/// Whether the definition can be launched the way the service launches.
fn launch(service: &ServiceState, definition: &TaskDefinition) -> Vec<String> {
    let mut errors = Vec::new();
    let mode = definition.field("networkMode").unwrap_or("bridge");
    let fargate = service.launch.launch_type.as_deref() == Some("FARGATE")
        || service
            .capacity_providers
            .iter()
            .any(|provider| provider.name.starts_with("FARGATE"));
    if fargate {
        if mode != "awsvpc" {
            errors.push(format!(
                "service {} runs on Fargate, which takes `networkMode` awsvpc only, not {mode}",
                service.name
            ));
        }
        for key in ["cpu", "memory"] {
            let there = definition.as_json().get(key);
            if there.is_none_or(Value::is_null) {
                errors.push(format!("Fargate needs `{key}` of the whole task"));
            }
        }
    }
    if mode == "awsvpc" && service.launch.network.is_none() {
        errors.push(format!(
            "service {} names no subnets, which `networkMode` awsvpc needs",
            service.name
        ));
    }
    errors
}

/// What tasks of a definition need besides themselves.
fn needs(definition: &TaskDefinition) -> BTreeSet<Thing> {
    let mut things = BTreeSet::new();
    for role in ["taskRoleArn", "executionRoleArn"] {
        if let Some(arn) = definition.field(role).filter(|arn| !arn.is_empty()) {
            things.insert(Thing::Role(arn.to_owned()));
        }
    }
    for container in definition.containers() {
        let logging = container.get("logConfiguration");
        let options = logging.and_then(|logging| logging.get("options"));
        let option = |name| options.and_then(|options| options.get(name)?.as_str());
        let lists = [
            container.get("secrets"),
            logging.and_then(|logging| logging.get("secretOptions")),
        ];
        let entries = lists.into_iter().flatten().filter_map(Value::as_array);
        things.extend(
            entries
                .flatten()
                .filter_map(|entry| entry.get("valueFrom")?.as_str())
                .map(|from| Thing::Secret(from.to_owned())),
        );
        let driver = logging.and_then(|logging| logging.get("logDriver")?.as_str());
        if driver == Some("awslogs")
            && option("awslogs-create-group") != Some("true")
            && let Some(group) = option("awslogs-group")
        {
            things.insert(Thing::LogGroup {
                region: option("awslogs-region").map(str::to_owned),
                name: group.to_owned(),
            });
        }
    }
    things
}

fn missing(thing: &Thing) -> String {
    match thing {
        Thing::LogGroup { .. } => format!(
            "{thing} does not exist; create it, or set the log option `awslogs-create-group` to \"true\""
        ),
        thing => format!("{thing} does not exist"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::services::{Launch, Route};
    use serde_json::json;

    fn definition(value: Value) -> TaskDefinition {
        TaskDefinition::from_value(value).expect("a task definition")
    }

    #[test]
    fn what_a_task_needs_is_found_in_its_definition() {
        let definition = definition(json!({
            "family": "web", "taskRoleArn": "arn:role/task", "executionRoleArn": "",
            "containerDefinitions": [
                {"name": "a", "secrets": [{"name": "X", "valueFrom": "arn:secret"}],
                 "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "/web", "awslogs-region": "eu-west-1"}}},
                {"name": "b", "logConfiguration": {"logDriver": "awslogs",
                 "options": {"awslogs-group": "/b", "awslogs-create-group": "true"},
                 "secretOptions": [{"name": "t", "valueFrom": "/token"}]}}]
        }));
        let found: Vec<String> = needs(&definition).iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "role arn:role/task",
                "secret /token",
                "secret arn:secret",
                "log group /web"
            ]
        );
    }

    #[test]
    fn routes_must_end_at_a_mapped_port() {
        let definition = definition(json!({"family": "web", "containerDefinitions": [
            {"name": "web", "portMappings": [{"containerPort": 80}, {"containerPortRange": "9000-9010"}]}]}));
        let route = |container: &str, port| Route {
            from: "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/1".to_owned(),
            target_group: true,
            container: Some(container.to_owned()),
            port: Some(port),
        };
        let service = ServiceState {
            routes: vec![
                route("web", 80),
                route("web", 9005),
                route("web", 81),
                route("app", 80),
            ],
            ..ServiceState::default()
        };
        assert_eq!(
            routes(&service, &definition),
            [
                "targetgroup/web/1 leads to port 81 of container web, which does not map it",
                "targetgroup/web/1 leads to a container that is not there: it has no container `app`; it has web"
            ]
        );
    }

    #[test]
    fn fargate_asks_for_more() {
        let definition =
            definition(json!({"family": "web", "cpu": "256", "containerDefinitions": []}));
        let service = ServiceState {
            name: "web".to_owned(),
            launch: Launch {
                launch_type: Some("FARGATE".to_owned()),
                ..Launch::default()
            },
            ..ServiceState::default()
        };
        assert_eq!(
            launch(&service, &definition),
            [
                "service web runs on Fargate, which takes `networkMode` awsvpc only, not bridge",
                "Fargate needs `memory` of the whole task"
            ]
        );
    }
}
