//! The changes: starts the sync of an application, or the way back, exactly once.
//!
//! A sync is told a mark of ours, which the application then shows. An answer that was lost, or a
//! process that died, is cleared up by looking for that mark.

use std::collections::BTreeMap;

use super::judge::{Goal, INFO, Way, is_there, same};
use super::watch::{Pace, Patience, Watch, refresh};
use super::{Argo, Reached, Wanted, explained, kin};
use crate::ports::gitops::{AppName, AppState, GitOpsError, Refresh, SyncRequest};
use crate::stage::{Failure, StageContext};

/// Looks for our mark after an answer was lost, before we ask again.
const LOOKS: u32 = 3;
/// Lost answers in a row.
const LOST: u32 = 5;

/// One application on its way.
struct Course<'a, 'c> {
    cx: &'a StageContext<'c>,
    wanted: &'a Wanted,
    name: &'a AppName,
    watch: &'a Watch<'a>,
    /// By which the journal knows the effect.
    key: &'a str,
    goal: &'a mut Goal,
}

impl Argo {
    /// Brings one application to where it should be.
    pub(super) async fn bring(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        at: usize,
    ) -> Result<Reached, Failure> {
        let name = &wanted.apps[at];
        let watch = Watch::new(cx, wanted, name, self.healthy_within);
        let first = if self.hard {
            Refresh::Hard
        } else {
            Refresh::Normal
        };
        let app = self.first_look(cx, wanted, &watch, first).await?;
        let revision = wanted.revision_of(at);
        let mut goal = Goal {
            revision: revision.clone(),
            only: wanted.request.only.clone(),
            way: Way::Itself,
            degraded: app.health == "Degraded",
            before: app.operation.as_ref().and_then(|op| op.started),
        };
        let key = format!("sync {name}");
        let earlier = cx.intended(&key).cloned();
        let mut changed = false;
        if let Some(past) = earlier.as_ref().filter(|past| {
            mark_of(past).is_some_and(|mark| carries(&app, &mark))
                || past
                    .intent
                    .get("back")
                    .is_some_and(|_| begun(&app, past, &goal))
        }) {
            cx.say(format!("{name} is being synced already"));
            goal.before = before_of(past);
            goal.way = match mark_of(past) {
                Some(mark) => Way::Ours(mark),
                None => Way::Back,
            };
            goal.degraded = past
                .intent
                .get("degraded")
                .is_some_and(|word| word == "yes");
            let still = app.pending.is_some()
                || !app.operation.as_ref().is_some_and(|op| failed(&op.phase));
            // What an earlier attempt began and what failed then is begun anew by another attempt.
            if still || cx.resumed {
                changed = true;
            } else {
                goal.way = Way::Itself;
                goal.before = app.operation.as_ref().and_then(|op| op.started);
            }
        }
        if !changed {
            let kin = kin(&cx.world.readers, cx.values, revision.as_deref(), &app).await;
            let there = is_there(&goal, &app, kin);
            if there {
                let children = self.children_of(cx, wanted, &app, &watch).await?;
                return Ok(Reached {
                    revision: revision.unwrap_or_else(|| app.revisions.join(",")),
                    changed: children,
                });
            }
            let course = Course {
                cx,
                wanted,
                name,
                watch: &watch,
                key: &key,
                goal: &mut goal,
            };
            if wanted.back.is_some() {
                course.goal.way = Way::Back;
                self.go_back(course, app).await?;
            } else if app.auto {
                cx.say(format!("{name} syncs itself: waiting for it"));
            } else {
                self.start(course, app).await?;
            }
        }
        let settled = watch.settle(cx, &goal, self.terminates).await?;
        cx.say(format!("{name} is synced and healthy"));
        self.children_of(cx, wanted, &settled, &watch).await?;
        let reached = settled.revisions.join(",");
        Ok(Reached {
            revision: goal.revision.clone().unwrap_or(reached),
            changed: true,
        })
    }

    async fn first_look(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        watch: &Watch<'_>,
        first: Refresh,
    ) -> Result<AppState, Failure> {
        let (mut pace, mut patience) = (Pace::new(), Patience::default());
        loop {
            let look = cx.world.gitops.app(&wanted.server, watch.name, first).await;
            match patience.take(cx, look) {
                Ok(Some(app)) => return Ok(app),
                Ok(None) => {}
                Err(error) => {
                    let readers = &cx.world.readers;
                    return Err(explained(readers, &wanted.server, watch.name, error).await);
                }
            }
            if !pace.wait(cx).await {
                return Err(Failure::cancelled("cancelled: nothing was changed"));
            }
        }
    }

    /// Starts the sync.
    async fn start(&self, course: Course<'_, '_>, app: AppState) -> Result<(), Failure> {
        let Course {
            cx,
            wanted,
            name,
            watch,
            key,
            goal,
        } = course;
        let app = watch.until_free(cx, app).await?;
        watch.until_open(cx, self.window_fails).await?;
        goal.before = app.operation.as_ref().and_then(|op| op.started);
        let mark = format!("{}/{}/{}", cx.run, cx.stage, cx.attempt);
        let request = SyncRequest {
            // Of several sources it would not be said which one is meant.
            revision: goal.revision.clone().filter(|_| app.repositories.len() < 2),
            infos: vec![(INFO.to_owned(), mark.clone())],
            ..wanted.request.clone()
        };
        let mut detail = BTreeMap::from([("mark".to_owned(), mark.clone())]);
        note(&mut detail, goal);
        cx.effects.intend(key, detail.clone()).await?;
        let (mut pace, mut lost) = (Pace::new(), 0);
        loop {
            match cx.world.gitops.sync(&wanted.server, name, &request).await {
                Ok(()) => break,
                Err(error @ GitOpsError::Broken { .. }) => {
                    lost += 1;
                    cx.say(format!("{error}; looking what became of it"));
                    if self.was_begun(cx, wanted, watch, &mark, &mut pace).await? {
                        break;
                    }
                    if lost >= LOST {
                        return Err(Failure::errored(format!("{error}; {name} was not synced")));
                    }
                }
                Err(GitOpsError::Busy { .. }) => {
                    cx.say(format!(
                        "another operation of {name} is in progress: waiting for it"
                    ));
                    // It may be ours, whose answer was lost.
                    if self.was_begun(cx, wanted, watch, &mark, &mut pace).await? {
                        break;
                    }
                    let app = watch.look(cx).await?;
                    let app = watch.until_free(cx, app).await?;
                    goal.before = app.operation.as_ref().and_then(|op| op.started);
                }
                Err(error @ GitOpsError::Closed { .. }) => {
                    if self.window_fails {
                        return Err(Failure::failed(error.to_string()));
                    }
                    watch.until_open(cx, false).await?;
                    if !pace.wait(cx).await {
                        return Err(Failure::cancelled(format!(
                            "cancelled: {name} was not synced"
                        )));
                    }
                }
                Err(GitOpsError::SyncsItself { message, .. }) => {
                    cx.say(format!("{name} syncs itself: waiting for it ({message})"));
                    goal.way = Way::Itself;
                    return Ok(());
                }
                Err(error) => {
                    let readers = &cx.world.readers;
                    return Err(explained(readers, &wanted.server, name, error).await);
                }
            }
            watch.in_time(cx)?;
        }
        goal.way = Way::Ours(mark);
        cx.effects.done(key, detail).await?;
        let to = goal.revision.as_deref().unwrap_or("what it follows");
        cx.say(format!("{name} is being synced to {to}"));
        Ok(())
    }

    /// Whether an operation with our mark is there.
    async fn was_begun(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        watch: &Watch<'_>,
        mark: &str,
        pace: &mut Pace,
    ) -> Result<bool, Failure> {
        let mut looks = 0;
        let mut patience = Patience::default();
        while looks < LOOKS {
            let look = refresh(cx, wanted, watch.name).await;
            match patience.take(cx, look) {
                Ok(Some(app)) if carries(&app, mark) => return Ok(true),
                Ok(Some(_)) => looks += 1,
                Ok(None) => {}
                Err(error) => {
                    let readers = &cx.world.readers;
                    return Err(explained(readers, &wanted.server, watch.name, error).await);
                }
            }
            if !pace.wait(cx).await {
                return Err(Failure::cancelled(format!(
                    "cancelled: it is not known whether the sync of {} has begun",
                    watch.name
                )));
            }
        }
        Ok(false)
    }

    /// Goes back to what the history has.
    async fn go_back(&self, course: Course<'_, '_>, app: AppState) -> Result<(), Failure> {
        let Course {
            cx,
            wanted,
            name,
            watch,
            key,
            goal,
        } = course;
        let to = goal.revision.clone().unwrap_or_default();
        if app.auto {
            return Err(Failure::failed(format!(
                "{name} syncs itself, so Argo CD goes back to nothing: take back the commit in its repository instead (`pipewright rollback` of the bump), or switch automated sync off"
            )));
        }
        let mut history = app.history.iter().rev();
        let found = history.find(|(_, revisions)| revisions.iter().any(|one| same(&to, one)));
        let Some(&(id, _)) = found else {
            return Err(Failure::failed(format!(
                "the history of {name} does not have {to} any more: nothing was changed"
            )));
        };
        let app = watch.until_free(cx, app).await?;
        goal.before = app.operation.as_ref().and_then(|op| op.started);
        let mut detail = BTreeMap::from([("back".to_owned(), id.to_string())]);
        note(&mut detail, goal);
        cx.effects.intend(key, detail.clone()).await?;
        let (mut pace, mut lost) = (Pace::new(), 0);
        loop {
            let answer = cx
                .world
                .gitops
                .rollback(&wanted.server, name, id, self.prune);
            match answer.await {
                Ok(()) => break,
                Err(error @ (GitOpsError::Broken { .. } | GitOpsError::Busy { .. })) => {
                    lost += 1;
                    cx.say(format!("{error}; looking what became of it"));
                    if !pace.wait(cx).await {
                        return Err(Failure::cancelled(format!(
                            "cancelled: it is not known whether {name} goes back"
                        )));
                    }
                    let now = watch.look(cx).await?;
                    let newer = now.operation.as_ref().and_then(|op| op.started) > goal.before;
                    if newer || now.pending.is_some() {
                        break;
                    }
                    if lost >= LOST {
                        return Err(Failure::errored(format!("{error}; {name} did not go back")));
                    }
                }
                Err(error) => {
                    let readers = &cx.world.readers;
                    return Err(explained(readers, &wanted.server, name, error).await);
                }
            }
        }
        cx.effects.done(key, detail).await?;
        cx.say(format!(
            "{name} goes back to {to}, number {id} of its history"
        ));
        Ok(())
    }

    /// Waits for the applications that an application consists of; whether there was one to wait for.
    async fn children_of(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        app: &AppState,
        parent: &Watch<'_>,
    ) -> Result<bool, Failure> {
        if !self.children {
            return Ok(false);
        }
        let children = app.resources.iter().filter(|one| {
            one.kind == "Application" && one.group == "argoproj.io" && one.sync == "Synced"
        });
        let mut waited = false;
        for child in children {
            let name = AppName {
                name: child.name.clone(),
                namespace: Some(child.namespace.clone()).filter(|one| !one.is_empty()),
                project: None,
            };
            let watch = Watch::new(cx, wanted, &name, self.healthy_within);
            let first = self.first_look(cx, wanted, &watch, Refresh::Normal).await?;
            let goal = Goal {
                degraded: first.health == "Degraded",
                before: first.operation.as_ref().and_then(|op| op.started),
                ..Goal::default()
            };
            if !is_there(&goal, &first, super::Kin::Same) {
                cx.say(format!(
                    "waiting for {name}, of which {} consists",
                    parent.name
                ));
                watch.settle(cx, &goal, false).await?;
                waited = true;
            }
        }
        Ok(waited)
    }
}

/// What is worth knowing after a crash.
fn note(detail: &mut BTreeMap<String, String>, goal: &Goal) {
    if let Some(revision) = &goal.revision {
        detail.insert("revision".to_owned(), revision.clone());
    }
    if let Some(before) = goal.before {
        detail.insert("before".to_owned(), before.rfc3339());
    }
    if goal.degraded {
        detail.insert("degraded".to_owned(), "yes".to_owned());
    }
}

fn mark_of(past: &crate::event::EffectState) -> Option<String> {
    past.intent.get("mark").cloned()
}

fn before_of(past: &crate::event::EffectState) -> Option<crate::base::Timestamp> {
    crate::base::Timestamp::of_rfc3339(past.intent.get("before")?)
}

/// Whether the application shows an operation with a mark.
fn carries(app: &AppState, mark: &str) -> bool {
    let pending = app.pending.iter().flatten();
    let mut told = pending.chain(app.operation.iter().flat_map(|op| &op.infos));
    told.any(|(name, value)| name == INFO && value == mark)
}

/// Whether a way back has begun: it carries no mark, but it brings what it should.
fn begun(app: &AppState, past: &crate::event::EffectState, goal: &Goal) -> bool {
    let Some(operation) = &app.operation else {
        return false;
    };
    let wanted = goal.revision.as_deref().unwrap_or_default();
    operation.started > before_of(past) && operation.revisions.iter().any(|one| same(wanted, one))
}

fn failed(phase: &str) -> bool {
    matches!(phase, "Failed" | "Error")
}
