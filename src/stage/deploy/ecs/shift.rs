//! Lets CodeDeploy move a service's traffic to a revision, and waits until it has.

use std::collections::BTreeMap;

use serde_json::json;

use super::Ecs;
use super::advance::pause;
use super::render::Wanted;
use super::spec::CodeDeploy;
use super::watch::{Pace, Patience};
use crate::base::{Timestamp, human_duration};
use crate::ports::services::{Place, ServiceState, Shift, ShiftState, short_revision};
use crate::ports::{Progress, ProgressState, Retry};
use crate::stage::{Failure, StageContext};

/// The key under which the journal knows the deployment.
const SHIFT: &str = "codedeploy";
/// What stands for the new revision in an application specification.
const PLACEHOLDER: &str = "<TASK_DEFINITION>";
/// How often it is asked for.
const TRIES: u32 = 5;
/// How often it is looked for where it may have been made.
const LOOKS: u32 = 4;
/// How much earlier than our intent its clock may say that a deployment was made.
const SKEW_MS: i64 = 5 * 60 * 1000;

impl Ecs {
    /// Moves the traffic, once per attempt that did not come to a bad end.
    pub(super) async fn shifted(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        code_deploy: &CodeDeploy,
        service: &ServiceState,
        arn: &str,
    ) -> Result<(), Failure> {
        let earlier = self.earlier_shift(cx, wanted, code_deploy, arn).await?;
        let id = match earlier {
            Some(id) => id,
            None => self.begin(cx, wanted, code_deploy, service, arn).await?,
        };
        self.shift_end(cx, wanted, &id, arn).await
    }

    async fn begin(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        code_deploy: &CodeDeploy,
        service: &ServiceState,
        arn: &str,
    ) -> Result<String, Failure> {
        let number = cx
            .intended(SHIFT)
            .and_then(|effect| effect.intent.get("number")?.parse::<u32>().ok())
            .map_or(1, |number| number + 1);
        let description = format!("pipewright {} {} {number}", cx.run, cx.stage);
        let shift = Shift {
            application: cx.values.plain(&code_deploy.application).await?,
            group: cx.values.plain(&code_deploy.group).await?,
            configuration: match &code_deploy.config {
                Some(config) => Some(cx.values.plain(config).await?),
                None => None,
            },
            appspec: self.appspec(cx, code_deploy, service, arn).await?,
            description: description.clone(),
        };
        if cx.cancel.is_cancelled() {
            return Err(Failure::cancelled(format!(
                "cancelled: {} is registered, no traffic was moved",
                short_revision(arn)
            )));
        }
        let now = cx.world.readers.clock.now();
        let detail = BTreeMap::from([
            ("task-definition".to_owned(), arn.to_owned()),
            ("number".to_owned(), number.to_string()),
            ("description".to_owned(), description.clone()),
            ("since".to_owned(), (now.0 - SKEW_MS).to_string()),
        ]);
        cx.effects.intend(SHIFT, detail).await?;
        let mut tries = 0;
        loop {
            tries += 1;
            let begun = cx.world.services.begin_shift(&wanted.account, &shift).await;
            let error = match begun {
                Ok(id) => {
                    cx.say(format!(
                        "CodeDeploy moves the traffic to {}: {id}",
                        short_revision(arn)
                    ));
                    return self.note_shift(cx, id, None).await;
                }
                Err(error) => error,
            };
            if error.retry() == Retry::Never || tries >= TRIES {
                return Err(error.into());
            }
            cx.say(format!("{error}; looking what became of it"));
            let since = Timestamp(now.0 - SKEW_MS);
            if let Some(id) = find(cx, wanted, &shift, since).await? {
                return self.note_shift(cx, id, None).await;
            }
            pause(cx, tries).await?;
        }
    }

    async fn note_shift(
        &self,
        cx: &StageContext<'_>,
        id: String,
        ended: Option<&str>,
    ) -> Result<String, Failure> {
        let mut detail = BTreeMap::from([("deployment".to_owned(), id.clone())]);
        if let Some(ended) = ended {
            detail.insert("ended".to_owned(), ended.to_owned());
        }
        cx.effects.done(SHIFT, detail).await?;
        Ok(id)
    }

    /// The deployment an earlier process or attempt asked for, if it has not come to a bad end.
    pub(super) async fn earlier_shift(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        code_deploy: &CodeDeploy,
        arn: &str,
    ) -> Result<Option<String>, Failure> {
        let Some(asked) = cx.intended(SHIFT) else {
            return Ok(None);
        };
        if asked.intent.get("task-definition").map(String::as_str) != Some(arn) {
            return Ok(None);
        }
        match &asked.result {
            Some(result) if result.contains_key("ended") => Ok(None),
            Some(result) => Ok(result.get("deployment").cloned()),
            None => {
                let since = asked
                    .intent
                    .get("since")
                    .and_then(|since| since.parse().ok());
                let shift = Shift {
                    application: cx.values.plain(&code_deploy.application).await?,
                    group: cx.values.plain(&code_deploy.group).await?,
                    configuration: None,
                    appspec: String::new(),
                    description: asked.intent.get("description").cloned().unwrap_or_default(),
                };
                let found = find(cx, wanted, &shift, Timestamp(since.unwrap_or(0))).await?;
                match found {
                    Some(id) => Ok(Some(self.note_shift(cx, id, None).await?)),
                    None => Ok(None),
                }
            }
        }
    }

    /// The application specification, with the new revision in it.
    async fn appspec(
        &self,
        cx: &StageContext<'_>,
        code_deploy: &CodeDeploy,
        service: &ServiceState,
        arn: &str,
    ) -> Result<String, Failure> {
        if let Some(path) = &code_deploy.appspec {
            let path = cx.values.plain(path).await?;
            let text = cx.values.file(&path).await?;
            if !text.contains(PLACEHOLDER) {
                return Err(Failure::failed(format!(
                    "{path} has no {PLACEHOLDER}: write it where the ARN of the new task definition belongs"
                )));
            }
            return Ok(text.replace(PLACEHOLDER, arn));
        }
        let route = service
            .routes
            .iter()
            .find(|route| route.container.is_some() && route.port.is_some())
            .ok_or_else(|| {
                Failure::failed(format!(
                    "service {} has no load balancer that CodeDeploy could move; give an `appspec`",
                    service.name
                ))
            })?;
        Ok(json!({
            "version": 0.0,
            "Resources": [{"TargetService": {
                "Type": "AWS::ECS::Service",
                "Properties": {
                    "TaskDefinition": arn,
                    "LoadBalancerInfo": {
                        "ContainerName": route.container,
                        "ContainerPort": route.port,
                    },
                },
            }}],
        })
        .to_string())
    }

    async fn shift_end(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        id: &str,
        arn: &str,
    ) -> Result<(), Failure> {
        let services = &*cx.world.services;
        let revision = short_revision(arn);
        let began = tokio::time::Instant::now();
        let (mut pace, mut patience) = (Pace::new(), Patience::default());
        let mut last = String::new();
        loop {
            let look = services.shift(&wanted.account, id).await;
            if let Some(state) = patience.take(cx, look)?.flatten() {
                if state.status != last {
                    cx.say(format!("CodeDeploy {id}: {}", state.status));
                    last.clone_from(&state.status);
                }
                let shown = progress(&state);
                cx.output.progress(Progress {
                    id: "codedeploy".to_owned(),
                    label: format!("CodeDeploy {id}"),
                    done: u64::from(shown == ProgressState::Done),
                    total: Some(1),
                    state: shown,
                });
                match shown {
                    ProgressState::Done => return Ok(()),
                    ProgressState::Failed => {
                        self.note_shift(cx, id.to_owned(), Some("failed")).await?;
                        return Err(Failure::failed(format!(
                            "{revision} does not serve: {}",
                            why_ended(&state)
                        )));
                    }
                    _ => {}
                }
            }
            if began.elapsed() >= self.stable_within {
                return Err(Failure::timed_out(format!(
                    "CodeDeploy {id} was not done within {} (it is {last}); it goes on",
                    human_duration(self.stable_within)
                )));
            }
            if !pace.wait(cx).await {
                return Err(Failure::cancelled(format!(
                    "cancelled: CodeDeploy {id} goes on moving the traffic to {revision}; nothing is rolled back"
                )));
            }
        }
    }

    /// Waits for what an earlier process asked for; false if there is nothing to wait for.
    pub(super) async fn resume_shift(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        code_deploy: &CodeDeploy,
        arn: &str,
    ) -> Result<bool, Failure> {
        match self.earlier_shift(cx, wanted, code_deploy, arn).await? {
            Some(id) => self.shift_end(cx, wanted, &id, arn).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// The revision an earlier process asked CodeDeploy for.
    pub(super) fn asked_of_codedeploy(cx: &StageContext<'_>) -> Option<String> {
        cx.intended(SHIFT)?.intent.get("task-definition").cloned()
    }

    /// What a deployment moved to a place is called in messages.
    pub(super) fn place_name(place: &Place) -> String {
        format!("service {} of cluster {}", place.service, place.cluster)
    }
}

/// Finds a deployment by what it is for. Lists are behind what was done: only one that is missing in
/// several of them was not made.
async fn find(
    cx: &StageContext<'_>,
    wanted: &Wanted,
    shift: &Shift,
    since: Timestamp,
) -> Result<Option<String>, Failure> {
    for look in 1..=LOOKS {
        let all = cx
            .world
            .services
            .shifts(&wanted.account, &shift.application, &shift.group, since)
            .await?;
        let ours = all
            .into_iter()
            .find(|state| state.description == shift.description);
        if let Some(ours) = ours {
            return Ok(Some(ours.id));
        }
        if look < LOOKS {
            pause(cx, look).await?;
        }
    }
    Ok(None)
}

fn progress(state: &ShiftState) -> ProgressState {
    match state.status.as_str() {
        "Succeeded" => ProgressState::Done,
        "Failed" | "Stopped" => ProgressState::Failed,
        _ => ProgressState::Running,
    }
}

fn why_ended(state: &ShiftState) -> String {
    let mut text = format!("CodeDeploy {} {}", state.id, state.status.to_lowercase());
    for words in [&state.error, &state.rollback] {
        if !words.is_empty() {
            text.push_str(&format!(": {}", words.trim_end_matches('.')));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_says_how_it_ended() {
        let state = ShiftState {
            id: "d-1".to_owned(),
            status: "Stopped".to_owned(),
            error: "ALARM_ACTIVE: an alarm went off.".to_owned(),
            rollback: "rolled back by d-2".to_owned(),
            description: String::new(),
        };
        assert_eq!(progress(&state), ProgressState::Failed);
        assert_eq!(
            why_ended(&state),
            "CodeDeploy d-1 stopped: ALARM_ACTIVE: an alarm went off: rolled back by d-2"
        );
    }
}
