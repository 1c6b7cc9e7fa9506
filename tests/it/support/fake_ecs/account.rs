//! What an account of the fake answers.

use pipewright::adapters::aws::services::Ask;
use serde_json::{Map, Value, json};

use super::pages::{ACTIONS, IDEMPOTENT};
use super::{Refusal, State, definition_arn, refuse};

impl State {
    pub(super) fn tick(&mut self) -> f64 {
        self.clock += 10.0;
        self.clock
    }

    /// Checks a call against its page, and answers it.
    pub(super) fn answer(&mut self, ask: &Ask<'_>) -> Result<Value, Refusal> {
        let Some(action) = ACTIONS
            .iter()
            .find(|action| action.api == ask.api && action.name == ask.action)
        else {
            return refuse("UnknownOperationException", ask.action);
        };
        let Some(body) = ask.body.as_object() else {
            return refuse("SerializationException", "not an object");
        };
        for field in action.required {
            if !body.contains_key(*field) {
                return refuse("InvalidParameterException", format!("{field} is missing"));
            }
        }
        for field in body.keys() {
            let field = field.as_str();
            if !action.required.contains(&field) && !action.allowed.contains(&field) {
                return refuse("SerializationException", format!("{field} is not known"));
            }
        }
        // A write that may be repeated must say so by a token or be the same again.
        let idempotent = IDEMPOTENT.contains(&ask.action);
        if action.writes && ask.repeatable != idempotent {
            return refuse("ClientException", "it would be repeated, or never");
        }
        if action.writes {
            self.writes.push((ask.action.to_owned(), ask.body.clone()));
        }
        self.act(ask.action, body)
    }

    fn act(&mut self, action: &str, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let first = |key: &str| {
            body.get(key)
                .and_then(|list| list.get(0)?.as_str())
                .unwrap_or_default()
        };
        match action {
            "DescribeClusters" => Ok(match first("clusters") {
                name if name == self.cluster => {
                    json!({"clusters": [{"clusterName": name, "status": "ACTIVE"}], "failures": []})
                }
                name => json!({"clusters": [], "failures": [{"arn": name, "reason": "MISSING"}]}),
            }),
            "DescribeServices" if text("cluster") != self.cluster => {
                refuse("ClusterNotFoundException", "Cluster not found.")
            }
            "DescribeServices" if first("services") != self.name => Ok(
                json!({"services": [], "failures": [{"arn": first("services"), "reason": "MISSING"}]}),
            ),
            "DescribeServices" => self.look(),
            "DescribeTaskDefinition" => match self.find(text("taskDefinition")) {
                Some(definition) => Ok(json!({"taskDefinition": definition})),
                None => refuse("ClientException", "Unable to describe task definition."),
            },
            "RegisterTaskDefinition" => {
                let arn = self.register(body.clone());
                Ok(json!({"taskDefinition": self.find(&arn)}))
            }
            "UpdateService" => self.update(body),
            "RunTask" => self.run_task(body),
            "StopTask" => {
                if let Some(task) = self.tasks.get_mut(text("task")) {
                    task["lastStatus"] = json!("STOPPED");
                    task["stoppedReason"] = json!(text("reason"));
                }
                Ok(json!({}))
            }
            "DescribeTasks" => Ok(self.describe_tasks(body)),
            "ListTasks" => self.list_tasks(body),
            "ListServiceDeployments" if !self.records => {
                refuse("UnsupportedFeatureException", "not in this region")
            }
            "ListServiceDeployments" => {
                let after = body.get("createdAt").and_then(|at| at.get("after"));
                let after = after.and_then(Value::as_f64).unwrap_or(0.0);
                let known = self.record.iter().filter(|(_, _, at)| *at >= after);
                let all: Vec<Value> = known
                    .map(|_| json!({"serviceDeploymentArn": "arn:sd/1"}))
                    .collect();
                Ok(json!({"serviceDeployments": all}))
            }
            "DescribeServiceDeployments" => {
                let Some((status, reason, created)) = &self.record else {
                    return Ok(json!({"serviceDeployments": []}));
                };
                let mut record = json!({
                    "serviceDeploymentArn": "arn:sd/1", "status": status, "createdAt": created,
                    "targetServiceRevision": {"arn": "arn:sr/new"}});
                if status.starts_with("ROLLBACK") {
                    record["rollback"] = json!({"reason": reason, "serviceRevisionArn": "arn:sr/old", "startedAt": created});
                } else {
                    record["statusReason"] = json!(reason);
                }
                Ok(json!({"serviceDeployments": [record]}))
            }
            "DescribeServiceRevisions" => {
                let ours = self.ours().map_or(String::new(), |ours| ours.arn.clone());
                let all = [
                    ("arn:sr/new", ours),
                    ("arn:sr/old", definition_arn("web:1")),
                ];
                let all: Vec<Value> = all
                    .iter()
                    .map(|(arn, of)| json!({"serviceRevisionArn": arn, "taskDefinition": of}))
                    .collect();
                Ok(json!({"serviceRevisions": all}))
            }
            "GetLogEvents" => {
                let from: usize = text("nextToken").parse().unwrap_or(0);
                let events: Vec<Value> = self.task_log[from.min(self.task_log.len())..]
                    .iter()
                    .map(|line| json!({"timestamp": 1, "message": line}))
                    .collect();
                Ok(json!({"events": events, "nextForwardToken": self.task_log.len().to_string()}))
            }
            "ListTargetsByRule" if text("Rule") != "nightly" => {
                refuse("ResourceNotFoundException", "Rule does not exist.")
            }
            "ListTargetsByRule" => Ok(json!({"Targets": self.targets})),
            "PutTargets" => {
                let new = body["Targets"].as_array().cloned().unwrap_or_default();
                for target in new {
                    self.targets.retain(|old| old["Id"] != target["Id"]);
                    self.targets.push(target);
                }
                Ok(json!({"FailedEntryCount": 0, "FailedEntries": []}))
            }
            "CreateDeployment" => {
                let id = format!("d-{}", self.shifts.len() + 1);
                let content = body["revision"]["appSpecContent"]["content"].clone();
                if body["revision"]["revisionType"] != "AppSpecContent" || !content.is_string() {
                    return refuse("InvalidRevisionException", "no content");
                }
                self.shifts.push(json!({
                    "deploymentId": id, "description": body["description"], "status": "Created"}));
                Ok(json!({"deploymentId": id}))
            }
            "GetDeployment" => self.get_deployment(text("deploymentId")),
            "ListDeployments" => self.list_deployments(text("nextToken")),
            other => self.look_for(other, body),
        }
    }

    /// Calls that only ask whether something is there.
    fn look_for(&self, action: &str, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let asked: Vec<&str> = body
            .values()
            .filter_map(|value| value.as_str().or_else(|| value.get(0)?.as_str()))
            .collect();
        let there = !asked.iter().any(|name| self.missing.contains(name));
        let name = asked.first().copied().unwrap_or_default();
        match (action, there) {
            ("DescribeLogGroups", true) => Ok(json!({"logGroups": [{"logGroupName": name}]})),
            ("DescribeLogGroups", false) => Ok(json!({"logGroups": []})),
            ("GetParameters", true) => Ok(json!({"Parameters": [{"Name": name}]})),
            ("GetParameters", false) => Ok(json!({"Parameters": [], "InvalidParameters": [name]})),
            ("DescribeSecret", false) => refuse("ResourceNotFoundException", name),
            ("GetRole", false) => refuse("NoSuchEntity", name),
            ("DescribeTargetGroups", false) => refuse("TargetGroupNotFound", name),
            _ => Ok(json!({})),
        }
    }

    /// `RegisterTaskDefinition`: what only a description has is refused.
    pub(super) fn register(&mut self, definition: Map<String, Value>) -> String {
        let family = definition["family"].as_str().unwrap_or_default().to_owned();
        let revisions = self.families.entry(family.clone()).or_default();
        let number = revisions.len() + 1;
        let arn = definition_arn(&format!("{family}:{number}"));
        let mut whole = definition;
        whole.insert("taskDefinitionArn".to_owned(), json!(arn));
        whole.insert("revision".to_owned(), json!(number));
        whole.insert("status".to_owned(), json!("ACTIVE"));
        whole.insert("compatibilities".to_owned(), json!(["EC2"]));
        whole.entry("volumes").or_insert(json!([]));
        whole.entry("placementConstraints").or_insert(json!([]));
        revisions.push(Value::Object(whole));
        arn
    }

    pub(super) fn find(&self, name: &str) -> Option<Value> {
        let name = name.rsplit('/').next().unwrap_or(name);
        match name.rsplit_once(':') {
            Some((family, number)) => {
                let at = number.parse::<usize>().ok()?.checked_sub(1)?;
                self.families.get(family)?.get(at).cloned()
            }
            // A family stands for its latest active revision.
            None => {
                let mut all = self.families.get(name)?.iter().rev();
                all.find(|one| one["status"] != "INACTIVE").cloned()
            }
        }
    }

    /// `UpdateService`: a new task definition or `forceNewDeployment` starts a deployment, anything
    /// else does not.
    fn update(&mut self, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let before = self.describe();
        let primary = self.deployments.first().cloned();
        let current = primary.map_or(String::new(), |d| d.arn);
        let wanted = body.get("taskDefinition").and_then(Value::as_str);
        let wanted = wanted.unwrap_or(&current).to_owned();
        match self.find(&wanted) {
            None => return refuse("ClientException", "TaskDefinition not found."),
            Some(there) if there["status"] == "INACTIVE" => {
                return refuse("ClientException", "TaskDefinition is inactive");
            }
            Some(_) => {}
        }
        for (field, of) in [
            ("desiredCount", "desiredCount"),
            ("propagateTags", "propagateTags"),
            ("deploymentConfiguration", "deploymentConfiguration"),
            ("capacityProviderStrategy", "capacityProviderStrategy"),
        ] {
            if let Some(value) = body.get(field) {
                self.service.insert(of.to_owned(), value.clone());
            }
        }
        let forced = body.get("forceNewDeployment") == Some(&json!(true));
        if body.contains_key("capacityProviderStrategy") && !forced {
            return refuse("InvalidParameterException", "it takes forceNewDeployment");
        }
        let desired = self.service["desiredCount"].as_u64().unwrap_or(0) as u32;
        if wanted != current || forced {
            if let Some(plot) = self.next_plot.take() {
                self.plot = plot;
            }
            let number = self.writes.len() + 1;
            self.ours = format!("ecs-svc/{number:04}");
            let (id, reason) = (
                self.ours.clone(),
                format!("ECS deployment {} in progress.", self.ours),
            );
            self.lead(&id, wanted, &reason);
            self.change(|d| d.desired = desired);
            self.stale = Some(before);
            self.record = self
                .records
                .then(|| ("IN_PROGRESS".to_owned(), String::new(), self.clock));
        } else if let Some(primary) = self.deployments.first_mut() {
            primary.desired = desired;
            primary.running = desired;
        }
        Ok(json!({"service": self.describe()}))
    }

    /// `RunTask`: the same token with the same request is the same task, with another a conflict.
    fn run_task(&mut self, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
        let token = text("clientToken").to_owned();
        if token.is_empty() || token.len() > 64 || text("startedBy").len() > 36 {
            return refuse("InvalidParameterException", "clientToken, startedBy");
        }
        if body.contains_key("launchType") && body.contains_key("capacityProviderStrategy") {
            return refuse("InvalidParameterException", "one excludes the other");
        }
        let request = Value::Object(body.clone());
        if let Some((arn, earlier)) = self.tokens.get(&token) {
            return match *earlier == request {
                true => Ok(json!({"tasks": [self.tasks[arn]], "failures": []})),
                false => refuse("ConflictException", "another request had this token"),
            };
        }
        if self.missing.contains(&"capacity") {
            return Ok(json!({"tasks": [], "failures": [
                {"arn": "instance", "reason": "RESOURCE:MEMORY", "detail": "not enough memory"}]}));
        }
        let arn = format!(
            "arn:aws:ecs:eu-west-1:123456789012:task/main/one-{}",
            self.tokens.len() + 1
        );
        let name = body["overrides"]["containerOverrides"][0]["name"].clone();
        let task = json!({
            "taskArn": arn, "taskDefinitionArn": text("taskDefinition"), "startedBy": text("startedBy"),
            "lastStatus": "PENDING", "group": "family:web", "containers": [{"name": name}]});
        self.tasks.insert(arn.clone(), task.clone());
        self.tokens.insert(token, (arn, request));
        Ok(json!({"tasks": [task], "failures": []}))
    }

    /// `DescribeTasks`: a one-off task is one state further at each look.
    fn describe_tasks(&mut self, body: &Map<String, Value>) -> Value {
        let asked = body["tasks"].as_array().cloned().unwrap_or_default();
        let mut all = Vec::new();
        let (exit, reason) = self.task_exit;
        for arn in asked.iter().filter_map(Value::as_str) {
            let Some(task) = self.tasks.get_mut(arn) else {
                continue;
            };
            let next = match task["lastStatus"].as_str() {
                Some("PENDING") => "RUNNING",
                Some("RUNNING") if reason != "hangs" => "STOPPED",
                other => other.unwrap_or_default(),
            }
            .to_owned();
            if next == "STOPPED" && task["lastStatus"] != "STOPPED" {
                task["stopCode"] = json!("EssentialContainerExited");
                task["stoppedReason"] = json!("Essential container in task exited");
                task["containers"][0]["reason"] = json!(reason);
                if let Some(exit) = exit {
                    task["containers"][0]["exitCode"] = json!(exit);
                }
            }
            task["lastStatus"] = json!(next);
            all.push(task.clone());
        }
        json!({"tasks": all, "failures": []})
    }

    /// `ListTasks`: `startedBy` must be the only filter, and what is shown by default is meant to run.
    fn list_tasks(&self, body: &Map<String, Value>) -> Result<Value, Refusal> {
        let filters = ["family", "serviceName", "startedBy", "desiredStatus"];
        let given = filters
            .iter()
            .filter(|key| body.contains_key(**key))
            .count();
        if body.contains_key("startedBy") && given > 1 {
            return refuse("InvalidParameterException", "startedBy must stand alone");
        }
        let wants_stopped = body.get("desiredStatus") == Some(&json!("STOPPED"));
        let fits = |task: &Value| {
            let stopped = task["lastStatus"] == "STOPPED";
            let by = body
                .get("startedBy")
                .is_none_or(|by| task["startedBy"] == *by);
            let group = match (body.get("serviceName"), body.get("family")) {
                (Some(_), _) => task["group"] == "service:web",
                (None, Some(_)) | (None, None) => true,
            };
            stopped == wants_stopped && by && group
        };
        let arns: Vec<&String> = self
            .tasks
            .iter()
            .filter(|(_, task)| fits(task))
            .map(|(arn, _)| arn)
            .collect();
        Ok(json!({"taskArns": arns}))
    }

    /// `ListDeployments`, in pages of five; what was made is listed a little later.
    fn list_deployments(&mut self, token: &str) -> Result<Value, Refusal> {
        const PAGE: usize = 5;
        let others = (1..=self.other_shifts).map(|number| json!(format!("o-{number}")));
        let ours = self.shifts.iter().map(|one| one["deploymentId"].clone());
        let mut ids: Vec<Value> = others.chain(ours).collect();
        if self.unlisted > 0 && !self.shifts.is_empty() {
            ids.pop();
        }
        let from: usize = match token {
            "" => 0,
            token => match token.strip_prefix("page-").and_then(|at| at.parse().ok()) {
                Some(from) if from < ids.len() => from,
                _ => return refuse("InvalidNextTokenException", token),
            },
        };
        let to = (from + PAGE).min(ids.len());
        let mut answer = json!({"deployments": ids[from..to]});
        if to < ids.len() {
            answer["nextToken"] = json!(format!("page-{to}"));
        } else if !self.shifts.is_empty() {
            self.unlisted = self.unlisted.saturating_sub(1);
        }
        Ok(answer)
    }

    fn get_deployment(&mut self, id: &str) -> Result<Value, Refusal> {
        if id.starts_with("o-") {
            let theirs =
                json!({"deploymentId": id, "description": "theirs", "status": "Succeeded"});
            return Ok(json!({"deploymentInfo": theirs}));
        }
        let status = match self.shift.len() {
            0 => "Succeeded",
            1 => self.shift[0],
            _ => self.shift.pop_front().unwrap_or("Succeeded"),
        };
        let Some(one) = self.shifts.iter_mut().find(|one| one["deploymentId"] == id) else {
            return refuse("DeploymentDoesNotExistException", id);
        };
        one["status"] = json!(status);
        if status == "Failed" {
            one["errorInformation"] =
                json!({"code": "HEALTH_CONSTRAINTS", "message": "too many tasks failed."});
            one["rollbackInfo"] = json!({"rollbackMessage": "rolled back by d-9"});
        }
        Ok(json!({"deploymentInfo": one}))
    }
}
