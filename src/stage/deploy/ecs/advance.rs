//! Registers a task definition and moves a service to it: each change once, whatever happens to this
//! process or to an answer.
//!
//! ECS takes no token for either. So an intent is journaled before each call, and whoever comes after a
//! call of unknown end looks first: at the family's latest revision, and at the service's deployments
//! and rollouts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Ecs;
use super::render::{Found, Wanted, latest, primary};
use super::rollout::Started;
use crate::base::Timestamp;
use crate::event::EffectState;
use crate::ports::Retry;
use crate::ports::services::{Place, ServiceState, short_revision};
use crate::stage::push::backoff;
use crate::stage::{Failure, StageContext};

/// The key under which the journal knows the new revision.
const REGISTER: &str = "register";
/// The key under which the journal knows the change of the service.
pub(super) const UPDATE: &str = "update";
/// How often a call is tried.
const TRIES: u32 = 5;
/// How often it is looked for something that may be there and not be seen yet.
const LOOKS: u32 = 4;
/// A rollout that was asked for so soon after a deployment began is that deployment's own.
const APART: Duration = Duration::from_secs(5);

impl Ecs {
    /// The revision that means what should run; registered if there is none.
    pub(super) async fn registered(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        found: &Found,
    ) -> Result<String, Failure> {
        if let Some(there) = &found.registered {
            let is_current = found
                .current
                .as_ref()
                .is_some_and(|current| current.arn == there.arn);
            if !is_current {
                cx.say(format!(
                    "{} means the same already: no new revision",
                    short_revision(&there.arn)
                ));
            }
            return Ok(there.arn.clone());
        }
        let open = cx
            .intended(REGISTER)
            .is_some_and(|effect| effect.result.is_none());
        if open && let Some(arn) = self.late_revision(cx, wanted, found).await? {
            return self.note_revision(cx, arn).await;
        }
        if cx.cancel.is_cancelled() {
            return Err(Failure::cancelled("cancelled: nothing was changed"));
        }
        let detail = BTreeMap::from([("family".to_owned(), found.family().to_owned())]);
        cx.effects.intend(REGISTER, detail).await?;
        let mut tries = 0;
        loop {
            tries += 1;
            let registered = cx
                .world
                .services
                .register(&wanted.account, found.rendered.as_json())
                .await;
            let error = match registered {
                Ok(revision) => {
                    cx.say(format!("registered {}", short_revision(&revision.arn)));
                    return self.note_revision(cx, revision.arn).await;
                }
                Err(error) => error,
            };
            if error.retry() == Retry::Never || tries >= TRIES {
                return Err(error.into());
            }
            cx.say(format!("{error}; looking what became of it"));
            if let Some(arn) = self.late_revision(cx, wanted, found).await? {
                return self.note_revision(cx, arn).await;
            }
            pause(cx, tries).await?;
        }
    }

    async fn note_revision(&self, cx: &StageContext<'_>, arn: String) -> Result<String, Failure> {
        let detail = BTreeMap::from([("revision".to_owned(), arn.clone())]);
        cx.effects.done(REGISTER, detail).await?;
        Ok(arn)
    }

    /// A revision that an earlier call may have made without our knowing.
    async fn late_revision(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        found: &Found,
    ) -> Result<Option<String>, Failure> {
        for look in 1..=LOOKS {
            let there = latest(&cx.world.readers, &wanted.account, &found.rendered).await?;
            if let Some(there) = there {
                return Ok(Some(there.arn));
            }
            if look < LOOKS {
                pause_a_second(cx).await?;
            }
        }
        Ok(None)
    }

    /// Moves the service to a revision; what we started then, or what was on its way there already.
    pub(super) async fn moved(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        place: &Place,
        service: &ServiceState,
        arn: &str,
    ) -> Result<Started, Failure> {
        let change = self.change(service, arn, self.force);
        let before = primary(service);
        let since = before.map_or(Timestamp::default(), |before| before.created);
        let replaced = before.map(|before| before.id.clone());
        if change == Default::default() {
            // It is on its way there already; whoever started it, it is what we want.
            return Ok(Started {
                task_definition: arn.to_owned(),
                deployment: replaced,
                replaced: None,
                from: None,
                since,
                to_zero: self.desired == Some(0),
                scaled: false,
            });
        }
        if cx.cancel.is_cancelled() {
            return Err(Failure::cancelled(format!(
                "cancelled: {} is registered, the service was not changed",
                short_revision(arn)
            )));
        }
        let mut detail = BTreeMap::from([
            ("task-definition".to_owned(), arn.to_owned()),
            ("since".to_owned(), since.0.to_string()),
        ]);
        if let Some(replaced) = &replaced {
            detail.insert("replaced".to_owned(), replaced.clone());
        }
        detail.insert("from".to_owned(), service.task_definition.clone());
        cx.effects.intend(UPDATE, detail.clone()).await?;
        let asked = EffectState {
            key: UPDATE.to_owned(),
            intent: detail,
            result: None,
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let updated = cx
                .world
                .services
                .update(&wanted.account, place, &change)
                .await;
            let error = match updated {
                Ok(service) => {
                    let started = Started {
                        scaled: change.desired.is_some(),
                        ..self.started(&asked, &service)
                    };
                    cx.say(format!(
                        "service {} moves to {}",
                        place.service,
                        short_revision(arn)
                    ));
                    self.note_update(cx, &started, None).await?;
                    return Ok(started);
                }
                Err(error) => error,
            };
            if error.retry() == Retry::Never || tries >= TRIES {
                return Err(error.into());
            }
            cx.say(format!("{error}; looking what became of it"));
            if let Some(started) = self.adopted(cx, wanted, place, &asked).await? {
                self.note_update(cx, &started, None).await?;
                return Ok(started);
            }
            pause(cx, tries).await?;
        }
    }

    /// Records what we started, and how it ended if it has.
    pub(super) async fn note_update(
        &self,
        cx: &StageContext<'_>,
        started: &Started,
        ended: Option<&str>,
    ) -> Result<(), Failure> {
        let mut detail = BTreeMap::from([
            (
                "task-definition".to_owned(),
                started.task_definition.clone(),
            ),
            ("since".to_owned(), started.since.0.to_string()),
        ]);
        let optional = [
            ("deployment", started.deployment.as_deref()),
            ("replaced", started.replaced.as_deref()),
            ("from", started.from.as_deref()),
            ("ended", ended),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                detail.insert(key.to_owned(), value.to_owned());
            }
        }
        cx.effects.done(UPDATE, detail).await
    }

    /// What an earlier attempt started, if it did and it has not come to its end.
    pub(super) async fn earlier(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        place: &Place,
    ) -> Result<Option<Started>, Failure> {
        let Some(asked) = cx.intended(UPDATE) else {
            return Ok(None);
        };
        match &asked.result {
            Some(result) if result.contains_key("ended") => Ok(None),
            Some(result) => Ok(Some(Started {
                deployment: result.get("deployment").cloned(),
                ..self.of_record(result)
            })),
            None => {
                let started = self.adopted(cx, wanted, place, asked).await?;
                if let Some(started) = &started {
                    self.note_update(cx, started, None).await?;
                }
                Ok(started)
            }
        }
    }

    /// Looks whether a change of unknown end was made.
    async fn adopted(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        place: &Place,
        asked: &EffectState,
    ) -> Result<Option<Started>, Failure> {
        let services = &*cx.world.services;
        let record = self.of_record(&asked.intent);
        for look in 1..=LOOKS {
            if let Some(service) = services.service(&wanted.account, place).await? {
                // Only a new deployment proves it. Without one it is safe to ask again.
                let started = self.started(asked, &service);
                if started.deployment.is_some() && started.deployment != record.replaced {
                    return Ok(Some(started));
                }
                // It may be over already, and only be on record.
                let rollouts = services
                    .rollouts(&wanted.account, place, record.since)
                    .await
                    .ok()
                    .flatten()
                    .unwrap_or_default();
                let ours = rollouts.iter().any(|rollout| {
                    rollout.created.since(record.since) > APART
                        && rollout.task_definition.as_ref() == Some(&record.task_definition)
                });
                if ours {
                    return Ok(Some(record));
                }
            }
            if look < LOOKS {
                pause_a_second(cx).await?;
            }
        }
        Ok(None)
    }

    /// What a change started, as the service tells of it after the change.
    fn started(&self, asked: &EffectState, service: &ServiceState) -> Started {
        let record = self.of_record(&asked.intent);
        let ours = service.deployments.iter().find(|deployment| {
            deployment.task_definition == record.task_definition
                && Some(&deployment.id) != record.replaced.as_ref()
        });
        // A change that needs no new tasks goes on with the deployment there was.
        let same = primary(service).filter(|primary| {
            Some(&primary.id) == record.replaced.as_ref()
                && primary.task_definition == record.task_definition
                && !self.force
        });
        match (ours, same) {
            (Some(ours), _) => Started {
                deployment: Some(ours.id.clone()),
                since: ours.created,
                ..record
            },
            (None, Some(same)) => Started {
                deployment: Some(same.id.clone()),
                replaced: None,
                ..record
            },
            (None, None) => record,
        }
    }

    fn of_record(&self, detail: &BTreeMap<String, String>) -> Started {
        let since = detail.get("since").and_then(|since| since.parse().ok());
        Started {
            task_definition: detail.get("task-definition").cloned().unwrap_or_default(),
            deployment: None,
            replaced: detail.get("replaced").cloned(),
            from: detail.get("from").cloned(),
            since: Timestamp(since.unwrap_or(0)),
            to_zero: self.desired == Some(0),
            scaled: false,
        }
    }
}

/// Waits before another try.
pub(super) async fn pause(cx: &StageContext<'_>, tries: u32) -> Result<(), Failure> {
    wait(cx, backoff(tries, cx.world.readers.clock.random())).await
}

async fn pause_a_second(cx: &StageContext<'_>) -> Result<(), Failure> {
    wait(cx, Duration::from_secs(1)).await
}

async fn wait(cx: &StageContext<'_>, time: Duration) -> Result<(), Failure> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        () = cx.cancel.cancelled() => Err(Failure::cancelled(
            "cancelled while it was looked what became of a change; the next run looks again",
        )),
    }
}
