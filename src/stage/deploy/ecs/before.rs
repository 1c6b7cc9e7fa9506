//! One-off tasks of the new revision that must succeed before traffic moves.

use std::collections::BTreeMap;

use super::Ecs;
use super::render::{Wanted, pairs, texts};
use super::spec::Before;
use super::watch::{Pace, Patience, why_stopped};
use crate::base::{Digest, human_duration};
use crate::formats::task_definition::TaskDefinition;
use crate::ports::Retry;
use crate::ports::services::{LogStream, OneOffTask, ServiceState, TaskState, short_revision};
use crate::stage::{Failure, StageContext};

use super::advance::pause;

/// How often starting it is tried.
const TRIES: u32 = 5;
/// Looks after the end in which the rest of its log may arrive.
const LAST_WORDS: u32 = 5;
/// Pieces of a log that are read at a time.
const PIECES: u32 = 100;

/// What a one-off task is started for.
pub(super) struct Around<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) service: &'a ServiceState,
    pub(super) definition: &'a TaskDefinition,
    pub(super) arn: &'a str,
}

impl Ecs {
    /// Runs a one-off task, once per run, also across a crash.
    pub(super) async fn before(
        &self,
        cx: &StageContext<'_>,
        around: &Around<'_>,
        before: &Before,
    ) -> Result<(), Failure> {
        let key = format!("before {}", before.name);
        let past = cx.intended(&key);
        let ended = past.and_then(|effect| effect.result.as_ref()?.get("exit"));
        if ended.is_some_and(|exit| exit == "0") {
            return Ok(());
        }
        // Each attempt that came to a bad end is followed by another task, under another token.
        let number = past
            .and_then(|effect| effect.intent.get("number")?.parse::<u32>().ok())
            .map_or(1, |number| number + u32::from(ended.is_some()));
        let token = token(cx, &before.name, number);
        let open = past.is_some_and(|effect| effect.result.is_none());
        let task = self.started_task(cx, around, before, &token, open).await?;
        let task = match task {
            Some(task) => task,
            None => {
                let detail = BTreeMap::from([
                    ("number".to_owned(), number.to_string()),
                    ("token".to_owned(), token.clone()),
                    ("task-definition".to_owned(), around.arn.to_owned()),
                ]);
                if cx.cancel.is_cancelled() {
                    return Err(Failure::cancelled(format!(
                        "cancelled: {} was not run",
                        before.name
                    )));
                }
                cx.effects.intend(&key, detail).await?;
                self.start_task(cx, around, before, &token).await?
            }
        };
        cx.say(format!("{} runs as task {}", before.name, task.id()));
        let end = self.task_end(cx, around, before, &task.arn).await?;
        let exit = exit_of(&end, &before.container);
        let shown = exit.map_or("none".to_owned(), |code| code.to_string());
        cx.effects
            .done(&key, BTreeMap::from([("exit".to_owned(), shown)]))
            .await?;
        match exit {
            Some(0) => Ok(()),
            Some(code) => {
                cx.say(why_stopped(&end));
                Err(Failure::failed(format!(
                    "{} exited with status {code}; the old version keeps running",
                    before.name
                )))
            }
            None => Err(Failure::failed(format!(
                "{} has no exit status: {}; the old version keeps running",
                before.name,
                why_stopped(&end)
            ))),
        }
    }

    /// The task an earlier process started.
    async fn started_task(
        &self,
        cx: &StageContext<'_>,
        around: &Around<'_>,
        _before: &Before,
        token: &str,
        open: bool,
    ) -> Result<Option<TaskState>, Failure> {
        if !open {
            return Ok(None);
        }
        let family = around.definition.family().unwrap_or_default();
        let wanted = around.wanted;
        let tasks = cx
            .world
            .services
            .tasks_of(&wanted.account, &wanted.cluster, family, token)
            .await?;
        Ok(tasks.into_iter().next())
    }

    async fn start_task(
        &self,
        cx: &StageContext<'_>,
        around: &Around<'_>,
        before: &Before,
        token: &str,
    ) -> Result<TaskState, Failure> {
        let task = OneOffTask {
            cluster: around.wanted.cluster.clone(),
            task_definition: around.arn.to_owned(),
            container: before.container.clone(),
            command: texts(cx.values, &before.command).await?,
            env: pairs(cx.values, &before.env).await?,
            launch: around.service.launch.clone(),
            capacity_providers: match self.providers.as_slice() {
                [] => around.service.capacity_providers.clone(),
                providers => providers.to_vec(),
            },
            token: token.to_owned(),
        };
        let mut tries = 0;
        loop {
            tries += 1;
            // The token makes asking again safe for a day.
            match cx
                .world
                .services
                .run_task(&around.wanted.account, &task)
                .await
            {
                Ok(task) => return Ok(task),
                Err(error) if error.retry() != Retry::Never && tries < TRIES => {
                    cx.say(format!("{error}; trying again"));
                    pause(cx, tries).await?;
                }
                Err(error) => {
                    let failure = Failure::from(error);
                    return Err(Failure {
                        message: format!(
                            "{} could not be started: {}; the old version keeps running",
                            before.name, failure.message
                        ),
                        ..failure
                    });
                }
            }
        }
    }

    /// Waits until a task has stopped, and prints its log meanwhile.
    async fn task_end(
        &self,
        cx: &StageContext<'_>,
        around: &Around<'_>,
        before: &Before,
        arn: &str,
    ) -> Result<TaskState, Failure> {
        let wanted = around.wanted;
        let services = &*cx.world.services;
        let began = tokio::time::Instant::now();
        let mut log = Log::of(around.definition, &before.container, arn);
        let (mut pace, mut patience) = (Pace::new(), Patience::default());
        let mut missing = 0;
        loop {
            let arns = [arn.to_owned()];
            let look = services
                .tasks(&wanted.account, &wanted.cluster, &arns)
                .await;
            if let Some(tasks) = patience.take(cx, look)? {
                log.follow(cx, wanted).await;
                match tasks.into_iter().next() {
                    Some(task) if task.is_stopped() => {
                        // What it printed last may arrive after its end.
                        for _ in 0..LAST_WORDS {
                            if !log.follow(cx, wanted).await || !pace.wait(cx).await {
                                break;
                            }
                        }
                        return Ok(task);
                    }
                    Some(_) => missing = 0,
                    None => missing += 1,
                }
                if missing > 10 {
                    return Err(Failure::errored(format!(
                        "the task of {} is no longer known, and how it ended neither; the old version keeps running",
                        before.name
                    )));
                }
            }
            let late = began.elapsed() >= before.timeout;
            if late || !pace.wait(cx).await {
                let why = if late { "took too long" } else { "cancelled" };
                let stopped = services
                    .stop_task(&wanted.account, &wanted.cluster, arn, why)
                    .await;
                let left = match stopped {
                    Ok(()) => "it was stopped".to_owned(),
                    Err(error) => format!("it could not be stopped: {error}"),
                };
                let rest = format!(
                    "{left}; {} is not deployed, the old version keeps running",
                    short_revision(around.arn)
                );
                let key = format!("before {}", before.name);
                let detail = BTreeMap::from([("exit".to_owned(), why.to_owned())]);
                cx.effects.done(&key, detail).await?;
                return Err(if late {
                    Failure::timed_out(format!(
                        "{} took longer than {}: {rest}",
                        before.name,
                        human_duration(before.timeout)
                    ))
                } else {
                    Failure::cancelled(format!("cancelled while {} ran: {rest}", before.name))
                });
            }
        }
    }
}

/// The same for the same task of the same run, and for no other.
fn token(cx: &StageContext<'_>, name: &str, number: u32) -> String {
    let of = format!("{} {} {name} {number}", cx.run, cx.stage);
    let hex = Digest::of(of.as_bytes());
    format!("pw-{}", &hex.hex()[..32])
}

fn exit_of(task: &TaskState, container: &str) -> Option<i64> {
    task.containers
        .iter()
        .find(|there| there.name == container)?
        .exit
}

/// The log of a task's container, as far as it was printed.
struct Log {
    stream: Option<LogStream>,
    from: Option<String>,
}

impl Log {
    /// Where the log of a container will be, if the service can be asked for it.
    fn of(definition: &TaskDefinition, container: &str, arn: &str) -> Self {
        let stream = || {
            let logging = definition
                .container(container)
                .ok()?
                .get("logConfiguration")?;
            if logging.get("logDriver")?.as_str()? != "awslogs" {
                return None;
            }
            let option = |name: &str| logging.get("options")?.get(name)?.as_str();
            let id = arn.rsplit('/').next()?;
            Some(LogStream {
                region: option("awslogs-region").map(str::to_owned),
                group: option("awslogs-group")?.to_owned(),
                stream: format!("{}/{container}/{id}", option("awslogs-stream-prefix")?),
            })
        };
        Self {
            stream: stream(),
            from: None,
        }
    }

    /// Prints what is new. Whether there is a log that may go on.
    async fn follow(&mut self, cx: &StageContext<'_>, wanted: &Wanted) -> bool {
        for _ in 0..PIECES {
            let Some(stream) = &self.stream else {
                return false;
            };
            let from = self.from.as_deref();
            match cx.world.services.log(&wanted.account, stream, from).await {
                Ok(page) => {
                    for line in &page.lines {
                        cx.say(line);
                    }
                    if page.next.is_none() || page.next == self.from {
                        return true;
                    }
                    self.from = page.next;
                }
                Err(error) if error.retry() == Retry::Never => {
                    cx.say(format!("its log cannot be read: {error}"));
                    self.stream = None;
                }
                Err(_) => return true,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_log_is_where_the_driver_puts_it() {
        let definition = |options: serde_json::Value| {
            TaskDefinition::from_value(json!({"family": "web", "containerDefinitions": [
                {"name": "migrate", "logConfiguration": {"logDriver": "awslogs", "options": options}}]}))
            .expect("a task definition")
        };
        let arn = "arn:aws:ecs:eu-west-1:1:task/main/0123";
        let whole = definition(json!({"awslogs-group": "/web", "awslogs-stream-prefix": "ecs"}));
        assert_eq!(
            Log::of(&whole, "migrate", arn).stream,
            Some(LogStream {
                region: None,
                group: "/web".to_owned(),
                stream: "ecs/migrate/0123".to_owned()
            })
        );
        // Without a prefix the stream is named after the container's id, which nobody tells.
        let unnamed = definition(json!({"awslogs-group": "/web"}));
        assert_eq!(Log::of(&unnamed, "migrate", arn).stream, None);
        assert_eq!(Log::of(&whole, "other", arn).stream, None);
    }
}
