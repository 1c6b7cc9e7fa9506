//! Waits for an application, and tells what happens meanwhile: hooks, resources, health.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::judge::{Goal, Seen, Stand, judge};
use super::{Wanted, explained, kin};
use crate::base::human_duration;
use crate::ports::gitops::{AppName, AppState, GitOpsError, Refresh, SyncResult};
use crate::ports::{Progress, ProgressState, Retry};
use crate::stage::{Failure, StageContext};

/// The first pause between two looks; each is longer than the one before.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(10);
/// Looks in a row that may go wrong.
const BLIND: u32 = 10;
/// Looks in a row that find nothing while something is on its way.
const GONE: u32 = 5;
/// Lines of a hook's log that are told.
const LINES: u32 = 20;

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
        look: Result<T, GitOpsError>,
    ) -> Result<Option<T>, GitOpsError> {
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
            Err(error) => Err(error),
        }
    }
}

/// Looks at an application as it is, compared anew.
pub(super) async fn refresh(
    cx: &StageContext<'_>,
    wanted: &Wanted,
    name: &AppName,
) -> Result<AppState, GitOpsError> {
    let gitops = &cx.world.gitops;
    gitops.app(&wanted.server, name, Refresh::Normal).await
}

/// The wait for one application.
pub(super) struct Watch<'a> {
    wanted: &'a Wanted,
    pub(super) name: &'a AppName,
    began: Instant,
    within: Duration,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        _cx: &StageContext<'_>,
        wanted: &'a Wanted,
        name: &'a AppName,
        within: Duration,
    ) -> Self {
        Self {
            wanted,
            name,
            began: Instant::now(),
            within,
        }
    }

    /// Fails if the time is up before anything was begun.
    pub(super) fn in_time(&self, _cx: &StageContext<'_>) -> Result<(), Failure> {
        if self.began.elapsed() < self.within {
            return Ok(());
        }
        Err(Failure::timed_out(format!(
            "{} could not be synced within {}: nothing was changed",
            self.name,
            human_duration(self.within)
        )))
    }

    /// One look that must succeed.
    pub(super) async fn look(&self, cx: &StageContext<'_>) -> Result<AppState, Failure> {
        let (mut pace, mut patience) = (Pace::new(), Patience::default());
        loop {
            let look = refresh(cx, self.wanted, self.name).await;
            match patience.take(cx, look) {
                Ok(Some(app)) => return Ok(app),
                Ok(None) => {}
                Err(error) => return Err(self.explain(cx, error).await),
            }
            if !pace.wait(cx).await {
                return Err(Failure::cancelled("cancelled"));
            }
        }
    }

    async fn explain(&self, cx: &StageContext<'_>, error: GitOpsError) -> Failure {
        explained(&cx.world.readers, &self.wanted.server, self.name, error).await
    }

    /// Waits until no operation of somebody else is at work.
    pub(super) async fn until_free(
        &self,
        cx: &StageContext<'_>,
        mut app: AppState,
    ) -> Result<AppState, Failure> {
        let mut pace = Pace::new();
        let mut told = false;
        while app.pending.is_some() || app.operation.as_ref().is_some_and(|op| op.is_running()) {
            if !told {
                cx.say(format!(
                    "another operation of {} is in progress: waiting for it",
                    self.name
                ));
                told = true;
            }
            self.in_time(cx)?;
            if !pace.wait(cx).await {
                return Err(Failure::cancelled(format!(
                    "cancelled: {} was not synced, another operation of it goes on",
                    self.name
                )));
            }
            app = self.look(cx).await?;
        }
        Ok(app)
    }

    /// Waits until no sync window keeps us from syncing.
    pub(super) async fn until_open(
        &self,
        cx: &StageContext<'_>,
        fails: bool,
    ) -> Result<(), Failure> {
        let (mut pace, mut patience) = (Pace::new(), Patience::default());
        let mut told = false;
        loop {
            let look = cx
                .world
                .gitops
                .windows(&self.wanted.server, self.name)
                .await;
            match patience.take(cx, look) {
                Ok(Some(windows)) if windows.can_sync => return Ok(()),
                Ok(Some(windows)) => {
                    let all = match windows.active.is_empty() {
                        true => &windows.assigned,
                        false => &windows.active,
                    };
                    let why = format!(
                        "sync windows keep {} from being synced now ({})",
                        self.name,
                        all.join("; ")
                    );
                    if fails {
                        return Err(Failure::failed(format!("{why}: nothing was changed")));
                    }
                    if self.began.elapsed() >= self.within {
                        return Err(Failure::timed_out(format!(
                            "{why}, and did so for {}: nothing was changed",
                            human_duration(self.within)
                        )));
                    }
                    if !told {
                        cx.say(format!("{why}: waiting"));
                        told = true;
                    }
                }
                Ok(None) => {}
                // Who may not look at windows learns of them from the sync itself.
                Err(error) if error.retry() == Retry::Never => return Ok(()),
                Err(error) => return Err(self.explain(cx, error).await),
            }
            if !pace.wait(cx).await {
                return Err(Failure::cancelled(format!(
                    "cancelled: {} was not synced",
                    self.name
                )));
            }
        }
    }

    /// Waits until the application has come to where it should be; what it is then.
    pub(super) async fn settle(
        &self,
        cx: &StageContext<'_>,
        goal: &Goal,
        terminates: bool,
    ) -> Result<AppState, Failure> {
        let (mut seen, mut told) = (Seen::default(), Told::default());
        let (mut pace, mut patience) = (Pace::new(), Patience::default());
        let mut gone = 0;
        let mut last = String::new();
        loop {
            let look = match refresh(cx, self.wanted, self.name).await {
                Ok(app) => Ok(Some(app)),
                Err(GitOpsError::NotFound { .. }) => Ok(None),
                // What is deleted may not be seen either.
                Err(GitOpsError::Denied { .. }) if gone < GONE => {
                    gone += 1;
                    Ok(None)
                }
                Err(error) => Err(error),
            };
            match patience.take(cx, look) {
                Ok(Some(app)) => {
                    let kin = match &app {
                        Some(app) => {
                            let wanted = goal.revision.as_deref();
                            kin(&cx.world.readers, cx.values, wanted, app).await
                        }
                        None => super::Kin::Other,
                    };
                    let stand = judge(goal, app.as_ref(), kin, &mut seen);
                    if let Some(app) = &app {
                        told.tell(cx, self, goal, app, &stand).await;
                    }
                    match (stand, app) {
                        (Stand::Done, Some(app)) => return Ok(app),
                        (Stand::Failed(why), _) => {
                            return Err(Failure::failed(format!("{}: {why}", self.name)));
                        }
                        (Stand::Waiting(why), _) => {
                            if why != last {
                                cx.say(format!("{}: {why}", self.name));
                            }
                            last = why;
                        }
                        (Stand::Done, None) => {}
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    let mut failure = self.explain(cx, error).await;
                    let goes_on = format!("; what was begun of {} goes on", self.name);
                    failure.message.push_str(&goes_on);
                    return Err(failure);
                }
            }
            let words = match last.is_empty() {
                true => String::new(),
                false => format!(" ({last})"),
            };
            if self.began.elapsed() >= self.within {
                return Err(Failure::timed_out(format!(
                    "{} was not synced and healthy within {}; it goes on{words}",
                    self.name,
                    human_duration(self.within)
                )));
            }
            if !pace.wait(cx).await {
                if terminates {
                    let stopped = cx.world.gitops.terminate(&self.wanted.server, self.name);
                    let what = match stopped.await {
                        Ok(()) => "its operation was stopped".to_owned(),
                        Err(error) => format!("its operation could not be stopped: {error}"),
                    };
                    return Err(Failure::cancelled(format!(
                        "cancelled: {}: {what}{words}",
                        self.name
                    )));
                }
                return Err(Failure::cancelled(format!(
                    "cancelled: {} goes on by itself, nothing is rolled back{words}",
                    self.name
                )));
            }
        }
    }
}

/// What was told already.
#[derive(Default)]
struct Told(HashSet<String>);

impl Told {
    async fn tell(
        &mut self,
        cx: &StageContext<'_>,
        watch: &Watch<'_>,
        goal: &Goal,
        app: &AppState,
        stand: &Stand,
    ) {
        let operation = app.operation.as_ref().filter(|op| op.started > goal.before);
        for result in operation.iter().flat_map(|op| &op.results) {
            let name = format!("{} {}", result.kind, result.name);
            let line = match &result.hook {
                Some(hook) => format!("{hook} hook {name}: {}", result.phase),
                None if result.status == "SyncFailed" => format!("{name} was not synced"),
                None => continue,
            };
            let line = match result.message.as_str() {
                "" => line,
                message => format!("{line}: {message}"),
            };
            if self.0.len() < 10_000 && self.0.insert(line.clone()) {
                cx.say(line);
                if result.hook.is_some() && matches!(result.phase.as_str(), "Failed" | "Error") {
                    log_of(cx, watch, result).await;
                }
            }
        }
        let own = || app.resources.iter().filter(|one| !one.hook);
        let ready = own()
            .filter(|one| one.sync == "Synced" && matches!(one.health.as_str(), "" | "Healthy"));
        cx.output.progress(Progress {
            id: format!("resources {}", watch.name),
            label: format!("resources of {} synced and healthy", watch.name),
            done: ready.count() as u64,
            total: Some(own().count() as u64),
            state: match stand {
                Stand::Waiting(_) => ProgressState::Running,
                Stand::Done => ProgressState::Done,
                Stand::Failed(_) => ProgressState::Failed,
            },
        });
    }
}

/// Tells the end of the log of a hook. Many may sync who may not read logs.
async fn log_of(cx: &StageContext<'_>, watch: &Watch<'_>, hook: &SyncResult) {
    let gitops = &cx.world.gitops;
    let server = &watch.wanted.server;
    match gitops.log(server, watch.name, hook, LINES).await {
        Ok(lines) => {
            for line in lines {
                cx.say(format!("  {} | {line}", hook.name));
            }
        }
        Err(error) => cx.say(format!("its log cannot be told: {error}")),
    }
}
