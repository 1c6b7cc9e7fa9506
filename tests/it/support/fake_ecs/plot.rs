//! Roll-outs that follow a plot, look by look.

use serde_json::{Value, json};

use super::{Deployment, Refusal, State, definition_arn, refuse};

/// What happens to a roll-out at one look after another. The last beat lasts.
#[derive(Clone, Debug)]
pub enum Beat {
    /// The answer is from before the update.
    Stale,
    /// So many of our tasks run.
    Runs(u32),
    /// The service says something.
    Says(&'static str),
    /// A task of ours dies: exit status, reason of the container.
    Dies(Option<i64>, &'static str),
    /// Everything runs.
    Completes,
    /// The circuit breaker gives ours up, and the service goes back.
    GoesBack,
    /// It has gone back.
    IsBack,
    /// Its way back fails as well.
    FailsBack,
    /// The circuit breaker gives ours up, and nothing else happens.
    GivesUp,
    /// Somebody else deploys.
    Theirs,
    /// Somebody scales the service to zero.
    Zero,
    /// Somebody deletes the service.
    Deleted,
    /// The record of the rollout says this, and why.
    Record(&'static str, &'static str),
    /// This look is throttled, however often it is tried.
    Throttled,
    /// This look brings nothing.
    Lost,
}

impl State {
    pub(super) fn describe(&self) -> Value {
        let deployments: Vec<Value> = self
            .deployments
            .iter()
            .map(|d| {
                json!({
                    "id": d.id, "status": d.status, "taskDefinition": d.arn, "desiredCount": d.desired,
                    "runningCount": d.running, "pendingCount": 0, "failedTasks": d.failed,
                    "createdAt": d.created, "updatedAt": d.created,
                    "rolloutState": d.state, "rolloutStateReason": d.reason})
            })
            .collect();
        let primary = self.deployments.iter().find(|d| d.status == "PRIMARY");
        let mut service = Value::Object(self.service.clone());
        service["taskDefinition"] = json!(primary.map(|d| &d.arn));
        service["runningCount"] = json!(self.deployments.iter().map(|d| d.running).sum::<u32>());
        service["deployments"] = json!(deployments);
        service["events"] = self.events.iter().rev().cloned().collect();
        service
    }

    /// `DescribeServices`, one beat further in the plot.
    pub(super) fn look(&mut self) -> Result<Value, Refusal> {
        let moved = self.stale.is_some();
        let beat = match self.plot.len() {
            _ if !moved => None,
            0 | 1 => self.plot.front().cloned(),
            _ => self.plot.pop_front(),
        };
        match beat {
            Some(Beat::Stale) => {
                return Ok(json!({"services": [self.stale], "failures": []}));
            }
            Some(Beat::Throttled) => return refuse("ThrottlingException", "Rate exceeded"),
            Some(Beat::Lost) => return refuse("ServerException", "Service Unavailable"),
            Some(Beat::Deleted) => {
                return Ok(
                    json!({"services": [], "failures": [{"arn": "web", "reason": "MISSING"}]}),
                );
            }
            Some(beat) => self.play(&beat),
            None => {}
        }
        Ok(json!({"services": [self.describe()], "failures": []}))
    }

    /// Our deployment: the first one after what was there.
    pub(super) fn ours(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|d| d.id.ends_with("/ours"))
    }

    pub(super) fn change(&mut self, change: impl Fn(&mut Deployment)) {
        let ours = self
            .deployments
            .iter_mut()
            .find(|d| d.id.ends_with("/ours"));
        ours.into_iter().for_each(change);
    }

    pub(super) fn lead(&mut self, id: &str, arn: String, reason: &str) {
        if self.deployments.iter().any(|d| d.id == id) {
            return;
        }
        let created = self.tick();
        for other in &mut self.deployments {
            other.status = "ACTIVE";
        }
        self.deployments.insert(
            0,
            Deployment {
                id: id.to_owned(),
                arn,
                status: "PRIMARY",
                state: "IN_PROGRESS",
                reason: reason.to_owned(),
                created,
                desired: 2,
                running: 0,
                failed: 0,
            },
        );
    }

    fn play(&mut self, beat: &Beat) {
        const BREAKER: &str = "ECS deployment circuit breaker: tasks failed to start.";
        match beat {
            Beat::Runs(number) => {
                let number = *number;
                self.change(|d| d.running = number);
            }
            Beat::Says(message) => {
                let at = self.tick();
                let id = format!("event-{at}");
                self.events
                    .push(json!({"id": id, "createdAt": at, "message": message}));
            }
            Beat::Dies(exit, reason) => {
                self.change(|d| d.failed += 1);
                let arn = format!(
                    "arn:aws:ecs:eu-west-1:123456789012:task/main/{:04}",
                    self.tasks.len()
                );
                let of = self.ours().map(|d| (d.arn.clone(), d.id.clone()));
                let (definition, by) = of.unwrap_or_default();
                let mut container =
                    json!({"name": "web", "lastStatus": "STOPPED", "reason": reason});
                if let Some(exit) = exit {
                    container["exitCode"] = json!(exit);
                }
                let task = json!({
                    "taskArn": arn, "taskDefinitionArn": definition, "startedBy": by, "lastStatus": "STOPPED",
                    "stopCode": "EssentialContainerExited", "group": "service:web",
                    "stoppedReason": "Essential container in task exited", "containers": [container]});
                self.tasks.insert(arn, task);
            }
            Beat::Completes => {
                self.change(|d| {
                    d.state = "COMPLETED";
                    d.running = d.desired;
                });
                self.deployments.retain(|d| d.id.ends_with("/ours"));
                if let Some(record) = &mut self.record {
                    record.0 = "SUCCESSFUL".to_owned();
                }
            }
            Beat::GoesBack => {
                self.change(|d| {
                    d.state = "FAILED";
                    d.reason = BREAKER.to_owned();
                });
                let reason =
                    "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/0001.";
                self.lead("ecs-svc/back", definition_arn("web:1"), reason);
            }
            Beat::IsBack | Beat::FailsBack => {
                let fails = matches!(beat, Beat::FailsBack);
                self.deployments.retain(|d| d.id == "ecs-svc/back");
                for back in &mut self.deployments {
                    back.state = if fails { "FAILED" } else { "COMPLETED" };
                    back.reason = "ECS deployment ecs-svc/back ended.".to_owned();
                }
            }
            Beat::GivesUp => {
                self.service["deploymentConfiguration"]["deploymentCircuitBreaker"]["rollback"] =
                    json!(false);
                self.change(|d| {
                    d.state = "FAILED";
                    d.reason = BREAKER.to_owned();
                });
            }
            Beat::Theirs => self.lead("ecs-svc/theirs", definition_arn("web:99"), ""),
            Beat::Zero => self.service["desiredCount"] = json!(0),
            Beat::Record(status, reason) => {
                if let Some(record) = &mut self.record {
                    record.0 = (*status).to_owned();
                    record.1 = (*reason).to_owned();
                }
            }
            Beat::Stale | Beat::Throttled | Beat::Lost | Beat::Deleted => {}
        }
    }
}
