//! Whether a roll-out is done, goes on or came to nothing: decided from what we started and what the
//! service tells of itself. Asks nobody and waits for nothing.
//!
//! Done means that the deployment *we* started is the primary one and has completed. A service that
//! is calm again after a rollback, or after somebody else's deployment, is calm with something else.
//!
//! Answers of the service may be older than those before them. So what is told of a time before our
//! deployment began means nothing, and what is gone must be gone several times.

use crate::base::Timestamp;
use crate::ports::services::{
    Deployment, DeploymentState, Rollout, RolloutStatus, ServiceState, short_revision,
};

/// How often something must be missing until it counts as gone.
const GONE: u32 = 3;

/// What we started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Started {
    /// ARN of the task definition.
    pub(super) task_definition: String,
    /// Our deployment's id, if the service told it.
    pub(super) deployment: Option<String>,
    /// The deployment that was the primary one before.
    pub(super) replaced: Option<String>,
    /// ARN of the task definition that ran before.
    pub(super) from: Option<String>,
    /// When our deployment began, by the service's clock.
    pub(super) since: Timestamp,
    /// Nothing is meant to run.
    pub(super) to_zero: bool,
    /// The number of tasks was changed, which is no deployment of its own.
    pub(super) scaled: bool,
}

/// What was seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Looks in a row at which the service was missing.
    missing: u32,
    /// Looks in a row at which it had no deployment.
    without: u32,
    /// Why our deployment was given up, once it was.
    failed: Option<String>,
}

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// On its way.
    Waiting(Waiting),
    /// Ours runs.
    Done,
    /// It came to nothing, and why.
    Failed(String),
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Tasks of ours that run.
    pub(super) running: u32,
    /// Tasks of ours that are wanted.
    pub(super) desired: u32,
    /// What happens besides that is worth saying.
    pub(super) note: Option<String>,
}

/// Decides.
pub(super) fn judge(
    started: &Started,
    service: Option<&ServiceState>,
    rollout: Option<&Rollout>,
    seen: &mut Seen,
) -> Stand {
    let Some(service) = service else {
        seen.missing += 1;
        return match seen.missing {
            GONE.. => Stand::Failed("the service vanished while it rolled out".to_owned()),
            _ => Stand::Waiting(Waiting::default()),
        };
    };
    seen.missing = 0;
    if service.status != "ACTIVE" {
        return Stand::Failed(format!(
            "service {} is {}: somebody deletes it",
            service.name, service.status
        ));
    }
    if service.desired == 0 && !started.to_zero && !service.daemon {
        return Stand::Failed(format!(
            "service {} was scaled to zero while it rolled out: nothing runs of {}",
            service.name,
            short_revision(&started.task_definition)
        ));
    }
    if let Some(rollout) = rollout
        && let Some(stand) = recorded(started, service, rollout)
    {
        return stand;
    }
    counted(started, service, seen)
}

/// What the record of the rollout says; `None` if the deployments say more.
fn recorded(started: &Started, service: &ServiceState, rollout: &Rollout) -> Option<Stand> {
    let back = rollout.rollback.as_ref();
    let to = back
        .and_then(|back| back.task_definition.as_deref())
        .map_or(String::new(), |arn| format!(" to {}", short_revision(arn)));
    let why = [
        back.map_or("", |back| back.reason.as_str()),
        rollout.reason.as_str(),
    ]
    .into_iter()
    .find(|reason| !reason.is_empty())
    .map_or(String::new(), |reason| format!(": {}", sentence(reason)));
    let going = |note: String| {
        let (running, desired) = ours(started, service)
            .map_or((service.running, service.desired), |d| {
                (d.running, d.desired)
            });
        Some(Stand::Waiting(Waiting {
            running,
            desired,
            note: Some(note),
        }))
    };
    match &rollout.status {
        RolloutStatus::RollbackRequested | RolloutStatus::RollbackInProgress => {
            going(format!("it is being rolled back{to}{why}"))
        }
        RolloutStatus::StopRequested => going(format!("it is being stopped{why}")),
        RolloutStatus::RolledBack => Some(Stand::Failed(format!("it was rolled back{to}{why}"))),
        RolloutStatus::RollbackFailed => Some(Stand::Failed(format!(
            "it failed and so did its rollback{to}{why}; look at the service by hand"
        ))),
        RolloutStatus::Stopped => match newer(started, service) {
            Some(other) => Some(Stand::Failed(replaced(other))),
            None => Some(Stand::Failed(format!("it was stopped{why}"))),
        },
        RolloutStatus::Successful => match newer(started, service) {
            Some(other) => Some(Stand::Failed(replaced(other))),
            // The two records of the service may not agree yet.
            None if service.task_definition != started.task_definition => {
                Some(Stand::Waiting(Waiting::default()))
            }
            None => Some(Stand::Done),
        },
        // Blue and green are both there for a while, and neither count says more than the record.
        _ if rolls_blue_green(service) => going(match &rollout.step {
            Some(step) => format!("it is at {}", step.to_lowercase().replace('_', " ")),
            None => "it is on its way".to_owned(),
        }),
        _ => None,
    }
}

fn rolls_blue_green(service: &ServiceState) -> bool {
    let strategy = service.deployment_configuration.get("strategy");
    strategy.is_some_and(|strategy| strategy != "ROLLING")
}

/// What the deployments of the service say.
fn counted(started: &Started, service: &ServiceState, seen: &mut Seen) -> Stand {
    let Some(primary) = service.deployments.iter().find(|d| d.primary) else {
        seen.without += 1;
        return match seen.without {
            GONE.. => Stand::Failed("the service has no deployment any more".to_owned()),
            _ => Stand::Waiting(Waiting::default()),
        };
    };
    seen.without = 0;
    let Some(ours) = ours(started, service) else {
        return match newer(started, service) {
            Some(other) => superseded(started, other, seen),
            // An answer from before our deployment.
            None => Stand::Waiting(Waiting::default()),
        };
    };
    let waiting = |note| {
        Stand::Waiting(Waiting {
            running: ours.running,
            desired: ours.desired,
            note,
        })
    };
    match ours.state {
        Some(DeploymentState::Failed) => {
            let reason = match ours.reason.as_str() {
                "" => "it was given up".to_owned(),
                reason => sentence(reason),
            };
            seen.failed = Some(reason.clone());
            match newer(started, service) {
                Some(other) => superseded(started, other, seen),
                None if rolls_back(service) => waiting(Some(format!("{reason}; it goes back"))),
                None => Stand::Failed(reason),
            }
        }
        _ if !ours.primary => match newer(started, service) {
            Some(other) => superseded(started, other, seen),
            None => waiting(None),
        },
        Some(DeploymentState::Completed) if started.scaled && ours.running != ours.desired => {
            waiting(None)
        }
        Some(DeploymentState::Completed) => Stand::Done,
        Some(DeploymentState::InProgress) => waiting(None),
        // Behind a Classic Load Balancer there is no word for it: it is calm when only the primary
        // deployment is left and has all its tasks.
        None => {
            let calm = service.deployments.len() == 1
                && primary.running == primary.desired
                && primary.pending == 0;
            if calm { Stand::Done } else { waiting(None) }
        }
    }
}

/// Our deployment, if it is told of.
fn ours<'a>(started: &Started, service: &'a ServiceState) -> Option<&'a Deployment> {
    match &started.deployment {
        Some(id) => service.deployments.iter().find(|d| d.id == *id),
        None => service.deployments.iter().find(|d| {
            d.task_definition == started.task_definition && Some(&d.id) != started.replaced.as_ref()
        }),
    }
}

/// The primary deployment, if it is not ours and began after it.
fn newer<'a>(started: &Started, service: &'a ServiceState) -> Option<&'a Deployment> {
    let primary = service.deployments.iter().find(|d| d.primary)?;
    let is_ours = ours(started, service).is_some_and(|ours| ours.id == primary.id);
    let is_old = started.replaced.as_ref() == Some(&primary.id);
    (!is_ours && !is_old && primary.created >= started.since).then_some(primary)
}

/// Another deployment took the place of ours: the service went back, or somebody else came.
fn superseded(started: &Started, other: &Deployment, seen: &mut Seen) -> Stand {
    let goes_back = other.reason.to_lowercase().contains("rolling back")
        || other.reason.to_lowercase().contains("rollback");
    // It may have gone back while nobody looked.
    let is_old = started.from.as_ref() == Some(&other.task_definition)
        && other.task_definition != started.task_definition;
    let why = match (&seen.failed, goes_back) {
        (Some(why), _) => why.clone(),
        (None, true) => sentence(&other.reason),
        (None, false) if is_old => "the service, or somebody, gave ours up".to_owned(),
        (None, false) => return Stand::Failed(replaced(other)),
    };
    seen.failed.get_or_insert_with(|| why.clone());
    let to = short_revision(&other.task_definition);
    match other.state {
        Some(DeploymentState::Completed) => {
            Stand::Failed(format!("it was rolled back to {to}: {why}"))
        }
        Some(DeploymentState::Failed) => Stand::Failed(format!(
            "it failed and so did its rollback to {to}: {why}; look at the service by hand"
        )),
        _ => Stand::Waiting(Waiting {
            running: other.running,
            desired: other.desired,
            note: Some(format!("it is being rolled back to {to}: {why}")),
        }),
    }
}

fn replaced(other: &Deployment) -> String {
    format!(
        "somebody else's deployment {} of {} took its place",
        other.id,
        short_revision(&other.task_definition)
    )
}

/// Whether the service goes back by itself from a deployment that it gave up.
fn rolls_back(service: &ServiceState) -> bool {
    let switch = |path: &str| {
        let breaker = service.deployment_configuration.get(path);
        let flag = |name| breaker.and_then(|b| b.get(name)?.as_bool()) == Some(true);
        flag("enable") && flag("rollback")
    };
    switch("deploymentCircuitBreaker") || switch("alarms")
}

/// The service's words within ours.
fn sentence(reason: &str) -> String {
    reason.trim().trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::services::Rollback;
    use serde_json::json;

    const NEW: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:8";
    const OLD: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7";
    const OTHER: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:9";

    fn started() -> Started {
        Started {
            task_definition: NEW.to_owned(),
            deployment: Some("ours".to_owned()),
            replaced: Some("old".to_owned()),
            from: Some(OLD.to_owned()),
            since: Timestamp(1000),
            to_zero: false,
            scaled: false,
        }
    }

    fn deployment(id: &str, arn: &str, created: i64, state: DeploymentState) -> Deployment {
        Deployment {
            id: id.to_owned(),
            task_definition: arn.to_owned(),
            desired: 2,
            running: 1,
            created: Timestamp(created),
            state: Some(state),
            ..Deployment::default()
        }
    }

    /// A service with these deployments, of which the first is the primary one.
    fn service(mut deployments: Vec<Deployment>) -> ServiceState {
        if let Some(first) = deployments.first_mut() {
            first.primary = true;
        }
        ServiceState {
            name: "web".to_owned(),
            status: "ACTIVE".to_owned(),
            task_definition: deployments
                .first()
                .map_or(String::new(), |d| d.task_definition.clone()),
            desired: 2,
            deployments,
            ..ServiceState::default()
        }
    }

    use DeploymentState::{Completed, Failed, InProgress};

    fn of(service: &ServiceState) -> Stand {
        judge(&started(), Some(service), None, &mut Seen::default())
    }

    #[track_caller]
    fn fails(stand: Stand, why: &str) {
        assert_eq!(stand, Stand::Failed(why.to_owned()));
    }

    #[test]
    fn ours_must_be_primary_and_completed() {
        let old = deployment("old", OLD, 1, Completed);
        let going = service(vec![deployment("ours", NEW, 1000, InProgress), old.clone()]);
        let Stand::Waiting(waiting) = of(&going) else {
            panic!("it is on its way");
        };
        assert_eq!((waiting.running, waiting.desired), (1, 2));
        let done = service(vec![deployment("ours", NEW, 1000, Completed)]);
        assert_eq!(of(&done), Stand::Done);
        // The old one is calm, because the answer is from before ours.
        let stale = service(vec![old]);
        assert_eq!(of(&stale), Stand::Waiting(Waiting::default()));
    }

    #[test]
    fn somebody_else_is_not_us() {
        let theirs = deployment("theirs", OTHER, 2000, Completed);
        let why = "somebody else's deployment theirs of web:9 took its place";
        fails(of(&service(vec![theirs.clone()])), why);
        let both = vec![theirs, deployment("ours", NEW, 1000, InProgress)];
        fails(of(&service(both)), why);
        // The same task definition by somebody else is not our deployment either.
        let same = deployment("theirs", NEW, 2000, Completed);
        fails(
            of(&service(vec![same])),
            "somebody else's deployment theirs of web:8 took its place",
        );
    }

    #[test]
    fn a_rollback_is_awaited_and_is_a_failure() {
        let mut seen = Seen::default();
        let mut ours = deployment("ours", NEW, 1000, Failed);
        ours.reason = "ECS deployment circuit breaker: tasks failed to start.".to_owned();
        let mut back = deployment("back", OLD, 3000, InProgress);
        back.reason = "ECS deployment circuit breaker: rolling back to deploymentId old.".into();
        let mut look = |service: &ServiceState| judge(&started(), Some(service), None, &mut seen);
        let stand = look(&service(vec![back.clone(), ours.clone()]));
        let Stand::Waiting(Waiting {
            note: Some(note), ..
        }) = stand
        else {
            panic!("{stand:?}");
        };
        assert!(note.starts_with("it is being rolled back to web:7: "));
        // Later ours is no longer told of, and the words are others.
        back.state = Some(Completed);
        back.reason = "ECS deployment back completed.".to_owned();
        fails(
            look(&service(vec![back.clone()])),
            "it was rolled back to web:7: ECS deployment circuit breaker: tasks failed to start",
        );
        back.state = Some(Failed);
        let Stand::Failed(why) = look(&service(vec![back])) else {
            panic!("it failed");
        };
        assert!(why.contains("so did its rollback"), "{why}");
    }

    #[test]
    fn a_rollback_that_nobody_saw_is_one_all_the_same() {
        fails(
            of(&service(vec![deployment("back", OLD, 3000, Completed)])),
            "it was rolled back to web:7: the service, or somebody, gave ours up",
        );
    }

    #[test]
    fn a_breaker_that_does_not_go_back_fails_at_once() {
        let mut ours = deployment("ours", NEW, 1000, Failed);
        ours.reason = "tasks failed to start.".to_owned();
        fails(of(&service(vec![ours.clone()])), "tasks failed to start");
        let mut service = service(vec![ours]);
        service.deployment_configuration.insert(
            "deploymentCircuitBreaker".to_owned(),
            json!({"enable": true, "rollback": true}),
        );
        assert!(matches!(of(&service), Stand::Waiting(_)), "it will go back");
    }

    #[test]
    fn zero_tasks_are_no_success_unless_asked_for() {
        let mut service = service(vec![deployment("ours", NEW, 1000, Completed)]);
        service.desired = 0;
        fails(
            of(&service),
            "service web was scaled to zero while it rolled out: nothing runs of web:8",
        );
        let asked = Started {
            to_zero: true,
            ..started()
        };
        let mut seen = Seen::default();
        assert_eq!(judge(&asked, Some(&service), None, &mut seen), Stand::Done);
        service.daemon = true;
        assert_eq!(of(&service), Stand::Done, "a daemon without instances");
    }

    #[test]
    fn a_new_number_of_tasks_is_waited_for() {
        let scaled = Started {
            scaled: true,
            ..started()
        };
        let look =
            |service: &ServiceState| judge(&scaled, Some(service), None, &mut Seen::default());
        let mut few = service(vec![deployment("ours", NEW, 1000, Completed)]);
        assert!(matches!(look(&few), Stand::Waiting(_)), "one of two runs");
        few.deployments[0].running = 2;
        assert_eq!(look(&few), Stand::Done);
    }

    #[test]
    fn what_is_gone_must_be_gone_several_times() {
        let mut seen = Seen::default();
        let none = |seen: &mut Seen| judge(&started(), None, None, seen);
        assert!(matches!(none(&mut seen), Stand::Waiting(_)));
        assert!(matches!(none(&mut seen), Stand::Waiting(_)));
        let there = service(vec![deployment("ours", NEW, 1000, InProgress)]);
        assert!(matches!(
            judge(&started(), Some(&there), None, &mut seen),
            Stand::Waiting(_)
        ));
        for _ in 0..2 {
            assert!(matches!(none(&mut seen), Stand::Waiting(_)));
        }
        fails(none(&mut seen), "the service vanished while it rolled out");
        let mut deleted = there;
        deleted.status = "DRAINING".to_owned();
        fails(of(&deleted), "service web is DRAINING: somebody deletes it");
        let empty = service(Vec::new());
        let mut seen = Seen::default();
        for _ in 0..2 {
            let stand = judge(&started(), Some(&empty), None, &mut seen);
            assert!(matches!(stand, Stand::Waiting(_)));
        }
        fails(
            judge(&started(), Some(&empty), None, &mut seen),
            "the service has no deployment any more",
        );
    }

    #[test]
    fn without_a_word_for_it_calm_is_done() {
        let mut ours = deployment("ours", NEW, 1000, InProgress);
        ours.state = None;
        assert!(matches!(
            of(&service(vec![ours.clone()])),
            Stand::Waiting(_)
        ));
        ours.running = 2;
        let mut both = service(vec![ours.clone(), deployment("old", OLD, 1, Completed)]);
        assert!(matches!(of(&both), Stand::Waiting(_)), "the old one drains");
        both.deployments.truncate(1);
        assert_eq!(of(&both), Stand::Done);
    }

    fn record(status: RolloutStatus) -> Rollout {
        Rollout {
            arn: "r".to_owned(),
            status,
            reason: String::new(),
            created: Timestamp(1000),
            task_definition: Some(NEW.to_owned()),
            step: None,
            rollback: Some(Rollback {
                reason: "Deployment alarms went off.".to_owned(),
                task_definition: Some(OLD.to_owned()),
            }),
        }
    }

    #[test]
    fn the_record_of_a_rollout_is_believed() {
        let with = |rollout: &Rollout, service: &ServiceState| {
            judge(
                &started(),
                Some(service),
                Some(rollout),
                &mut Seen::default(),
            )
        };
        let calm = service(vec![deployment("back", OLD, 900, Completed)]);
        fails(
            with(&record(RolloutStatus::RolledBack), &calm),
            "it was rolled back to web:7: Deployment alarms went off",
        );
        fails(
            with(&record(RolloutStatus::RollbackFailed), &calm),
            "it failed and so did its rollback to web:7: Deployment alarms went off; look at the service by hand",
        );
        for status in [
            RolloutStatus::RollbackRequested,
            RolloutStatus::RollbackInProgress,
            RolloutStatus::StopRequested,
        ] {
            assert!(matches!(with(&record(status), &calm), Stand::Waiting(_)));
        }
        let mut stopped = record(RolloutStatus::Stopped);
        stopped.rollback = None;
        stopped.reason = "Stopped by user.".to_owned();
        fails(with(&stopped, &calm), "it was stopped: Stopped by user");
        let theirs = service(vec![deployment("theirs", OTHER, 2000, InProgress)]);
        fails(
            with(&stopped, &theirs),
            "somebody else's deployment theirs of web:9 took its place",
        );
        // The record says done, the service does not know it yet.
        let good = record(RolloutStatus::Successful);
        assert!(matches!(with(&good, &calm), Stand::Waiting(_)));
        let runs = service(vec![deployment("ours", NEW, 1000, Completed)]);
        assert_eq!(with(&good, &runs), Stand::Done);
        // A word of tomorrow leaves the decision to the deployments.
        let odd = record(RolloutStatus::Other("PAUSED".to_owned()));
        assert_eq!(with(&odd, &runs), Stand::Done);
    }

    #[test]
    fn blue_green_goes_by_the_record() {
        let mut both = service(vec![
            deployment("old", OLD, 1, Completed),
            deployment("ours", NEW, 1000, InProgress),
        ]);
        both.deployment_configuration
            .insert("strategy".to_owned(), json!("BLUE_GREEN"));
        let mut going = record(RolloutStatus::InProgress);
        going.step = Some("BAKE_TIME".to_owned());
        let stand = judge(&started(), Some(&both), Some(&going), &mut Seen::default());
        let Stand::Waiting(waiting) = stand else {
            panic!("{stand:?}");
        };
        assert_eq!(waiting.note.as_deref(), Some("it is at bake time"));
    }
}
