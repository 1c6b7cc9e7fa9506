//! Waits until a roll-out has come to its end, and tells what happens meanwhile: the service's
//! events, tasks that stop and why, and how many run.

use std::collections::HashSet;
use std::time::Duration;

use super::Ecs;
use super::render::Wanted;
use super::rollout::{Seen, Stand, Started, Waiting, judge};
use crate::base::human_duration;
use crate::ports::cloud::CloudError;
use crate::ports::services::{
    DeploymentState, Place, Rollout, ServiceState, TaskState, short_revision,
};
use crate::ports::{Progress, ProgressState, Retry};
use crate::stage::{Failure, StageContext};

/// The first pause between two looks; each is longer than the one before.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);
/// Looks in a row that may go wrong.
const BLIND: u32 = 10;
/// Most lines of one kind that are remembered as said.
const REMEMBERED: usize = 10_000;

/// Pauses that grow.
pub(super) struct Pace(Duration);

impl Pace {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// Waits. Whether it was not told to stop.
    pub(super) async fn wait(&mut self, cx: &StageContext<'_>) -> bool {
        // A little uneven, so that many of us do not ask in step.
        let random = cx.world.readers.clock.random() % 1000;
        let wait = self.0.mul_f64(0.9 + random as f64 / 5000.0);
        self.0 = self.0.mul_f64(1.5).min(LONGEST);
        tokio::select! {
            () = tokio::time::sleep(wait) => true,
            () = cx.cancel.cancelled() => false,
        }
    }
}

/// Counts looks that went wrong.
#[derive(Default)]
pub(super) struct Patience(u32);

impl Patience {
    /// Takes note of a look; gives its error back if it is one too many.
    pub(super) fn take<T>(
        &mut self,
        cx: &StageContext<'_>,
        look: Result<T, CloudError>,
    ) -> Result<Option<T>, Failure> {
        match look {
            Ok(seen) => {
                self.0 = 0;
                Ok(Some(seen))
            }
            Err(error) if error.retry() != Retry::Never && self.0 < BLIND => {
                self.0 += 1;
                cx.say(format!("{error}; looking again"));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What was told already.
#[derive(Default)]
struct Told {
    events: HashSet<String>,
    tasks: HashSet<String>,
    note: Option<String>,
    failed: u32,
    looks: u32,
    /// Stopped tasks cannot be listed.
    blind: bool,
}

impl Ecs {
    /// Waits until what we started has come to its end.
    pub(super) async fn settle(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        place: &Place,
        started: &Started,
    ) -> Result<(), Failure> {
        let services = &*cx.world.services;
        let account = &wanted.account;
        let revision = short_revision(&started.task_definition).to_owned();
        let began = tokio::time::Instant::now();
        let (mut seen, mut told) = (Seen::default(), Told::default());
        let (mut pace, mut patience) = (Pace::new(), Patience::default());
        let mut records = Records::default();
        loop {
            let look = services.service(account, place).await;
            let goes_on = |failure: Failure| Failure {
                message: format!("{}; {revision} goes on rolling out", failure.message),
                ..failure
            };
            if let Some(service) = patience.take(cx, look).map_err(goes_on)? {
                let record = records.of(cx, wanted, place, started).await;
                let stand = judge(started, service.as_ref(), record.as_ref(), &mut seen);
                if let Some(service) = &service {
                    told.tell(cx, wanted, place, started, service, &stand).await;
                }
                match stand {
                    Stand::Done => return Ok(()),
                    Stand::Failed(why) => {
                        return Err(Failure::failed(format!(
                            "{revision} does not run in service {}: {why}",
                            place.service
                        )));
                    }
                    Stand::Waiting(_) => {}
                }
            }
            if began.elapsed() >= self.stable_within {
                return Err(Failure::timed_out(format!(
                    "{revision} was not stable in service {} within {}; it goes on rolling out{}",
                    place.service,
                    human_duration(self.stable_within),
                    told.last_words()
                )));
            }
            if !pace.wait(cx).await {
                return Err(Failure::cancelled(format!(
                    "cancelled: service {} goes on rolling out {revision}; nothing is rolled back{}",
                    place.service,
                    told.last_words()
                )));
            }
        }
    }
}

/// Finds the record of our rollout, where the service keeps them.
#[derive(Default)]
struct Records {
    arn: Option<String>,
    /// They are not kept, or we may not see them.
    none: bool,
}

impl Records {
    async fn of(
        &mut self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        place: &Place,
        started: &Started,
    ) -> Option<Rollout> {
        if self.none {
            return None;
        }
        let services = &*cx.world.services;
        let look = match &self.arn {
            Some(arn) => services.rollout(&wanted.account, arn).await,
            None => match services
                .rollouts(&wanted.account, place, started.since)
                .await
            {
                Ok(None) => {
                    self.none = true;
                    Ok(None)
                }
                // Of those that bring what we brought, the one nearest to when ours began.
                Ok(Some(all)) => Ok(all
                    .into_iter()
                    .filter(|rollout| {
                        rollout.task_definition.as_deref() == Some(&started.task_definition)
                    })
                    .min_by_key(|rollout| rollout.created.0.abs_diff(started.since.0))),
                Err(error) => Err(error),
            },
        };
        match look {
            Ok(found) => {
                if let Some(found) = &found {
                    self.arn.get_or_insert_with(|| found.arn.clone());
                }
                found
            }
            Err(error) if error.retry() == Retry::Never => {
                cx.say(format!(
                    "going by the deployments of the service only: {error}"
                ));
                self.none = true;
                None
            }
            // The deployments alone decide this time.
            Err(_) => None,
        }
    }
}

impl Told {
    async fn tell(
        &mut self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        place: &Place,
        started: &Started,
        service: &ServiceState,
        stand: &Stand,
    ) {
        self.looks += 1;
        for event in &service.events {
            if event.at >= started.since && remember(&mut self.events, &event.id) {
                cx.say(&event.message);
            }
        }
        let ours = service
            .deployments
            .iter()
            .find(|deployment| match &started.deployment {
                Some(id) => deployment.id == *id,
                None => deployment.task_definition == started.task_definition,
            });
        // A task that died leaves the count; those that are stopped are listed then, and now and
        // again in between.
        let failed = ours.map_or(0, |ours| ours.failed);
        let given_up = ours.is_some_and(|ours| ours.state == Some(DeploymentState::Failed));
        let ended = matches!(stand, Stand::Failed(_));
        if failed > self.failed || given_up || ended || self.looks.is_multiple_of(8) {
            self.stopped(cx, wanted, place, started).await;
        }
        self.failed = failed;
        let (running, desired, state) = match stand {
            Stand::Waiting(Waiting {
                running,
                desired,
                note,
            }) => {
                if note.is_some() && *note != self.note {
                    if let Some(note) = note {
                        cx.say(note);
                    }
                    self.note.clone_from(note);
                }
                (*running, *desired, ProgressState::Running)
            }
            Stand::Done => (service.running, service.desired, ProgressState::Done),
            Stand::Failed(_) => (service.running, service.desired, ProgressState::Failed),
        };
        cx.output.progress(Progress {
            id: "tasks".to_owned(),
            label: format!("tasks of {}", short_revision(&started.task_definition)),
            done: u64::from(running),
            total: Some(u64::from(desired)),
            state,
        });
    }

    async fn stopped(
        &mut self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        place: &Place,
        started: &Started,
    ) {
        if self.blind {
            return;
        }
        match cx
            .world
            .services
            .stopped_tasks(&wanted.account, place)
            .await
        {
            Ok(tasks) => {
                for task in tasks {
                    // Tasks of the old revision stop because they are replaced.
                    let of_ours = task.task_definition == started.task_definition
                        && started
                            .deployment
                            .as_ref()
                            .is_none_or(|id| *id == task.started_by);
                    if of_ours && task.is_stopped() && remember(&mut self.tasks, &task.arn) {
                        let why = why_stopped(&task);
                        cx.say(&why);
                        self.note = Some(why);
                    }
                }
            }
            Err(error) if error.retry() == Retry::Never => {
                cx.say(format!("why tasks stop cannot be told: {error}"));
                self.blind = true;
            }
            // Told at the next look.
            Err(_) => {}
        }
    }

    /// What was said last that may explain why it takes so long.
    fn last_words(&self) -> String {
        match &self.note {
            Some(note) => format!(" ({note})"),
            None => String::new(),
        }
    }
}

fn remember(said: &mut HashSet<String>, what: &str) -> bool {
    said.len() < REMEMBERED && said.insert(what.to_owned())
}

/// Why a task stopped, in a sentence.
pub(super) fn why_stopped(task: &TaskState) -> String {
    let mut text = format!("task {} stopped", task.id());
    let reasons = [task.stop_code.as_str(), task.stopped_reason.as_str()];
    for reason in reasons.into_iter().filter(|reason| !reason.is_empty()) {
        text.push_str(": ");
        text.push_str(reason.trim_end_matches('.'));
    }
    for container in &task.containers {
        let exit = match container.exit {
            Some(0) if container.reason.is_empty() => continue,
            Some(code) => format!("exited with status {code}"),
            None if container.reason.is_empty() => continue,
            None => "did not run".to_owned(),
        };
        text.push_str(&format!("; container {} {exit}", container.name));
        if !container.reason.is_empty() {
            text.push_str(&format!(": {}", container.reason.trim_end_matches('.')));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::services::TaskContainer;

    #[test]
    fn a_stopped_task_says_why() {
        let container = |name: &str, exit, reason: &str| TaskContainer {
            name: name.to_owned(),
            exit,
            reason: reason.to_owned(),
        };
        let task = TaskState {
            arn: "arn:aws:ecs:eu-west-1:1:task/main/0123".to_owned(),
            status: "STOPPED".to_owned(),
            stop_code: "EssentialContainerExited".to_owned(),
            stopped_reason: "Essential container in task exited".to_owned(),
            containers: vec![
                container("web", Some(137), "OutOfMemoryError: killed"),
                container("log", Some(0), ""),
                container("late", None, "CannotPullContainerError: not found."),
            ],
            ..TaskState::default()
        };
        assert_eq!(
            why_stopped(&task),
            "task 0123 stopped: EssentialContainerExited: Essential container in task exited; \
             container web exited with status 137: OutOfMemoryError: killed; \
             container late did not run: CannotPullContainerError: not found"
        );
    }
}
