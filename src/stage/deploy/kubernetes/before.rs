//! One-off jobs that must succeed before anything else is changed.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Kubernetes;
use super::advance::pause;
use super::look::Found;
use super::pods::{ailment, code, said};
use super::spec::Before;
use super::wanted::Wanted;
use super::watch::{Pace, Patience, any};
use super::workload::{RUN, STAGE, condition, items, text};
use crate::base::{Digest, human_duration};
use crate::ports::Retry;
use crate::ports::cluster::{ClusterError, Listing, PodLog, Thing};
use crate::stage::{Failure, StageContext};

/// How often creating it is tried.
const TRIES: u32 = 5;
/// Looks in which a job that is not there any more may turn up again.
const GONE: u32 = 5;
/// Seconds for which the cluster keeps it once it has ended: it is the evidence that it ran.
const KEPT: u32 = 86_400;
/// Seconds by which its own limit is longer than ours, so that ours tells.
const LATER: u64 = 60;
/// Pieces of a log that are read at a time.
const PIECES: u32 = 100;
/// The prefix of our labels; a label's value may not hold what a stage's id may.
const KEEP: &str = "the old version keeps running";

impl Kubernetes {
    /// Runs a one-off job, once per run, also across a crash.
    pub(super) async fn before(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        found: &Found,
        before: &Before,
    ) -> Result<(), Failure> {
        let key = format!("before {}", before.name);
        let past = cx.intended(&key);
        let ended = past.and_then(|effect| effect.result.as_ref()?.get("ended"));
        if ended.is_some_and(|end| end == "succeeded") {
            return Ok(());
        }
        // Each attempt that came to a bad end is followed by another job, under another name.
        let attempt = past
            .and_then(|effect| effect.intent.get("number")?.parse::<u32>().ok())
            .map_or(1, |number| number + u32::from(ended.is_some()));
        let thing = Thing {
            api: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            namespace: found.namespace.clone(),
            name: name(cx, &before.name, attempt),
        };
        if cx.cancel.is_cancelled() {
            return Err(Failure::cancelled(format!(
                "cancelled: {} was not run",
                before.name
            )));
        }
        let job = self.job(cx, wanted, found, before, &thing).await?;
        let detail = BTreeMap::from([
            ("number".to_owned(), attempt.to_string()),
            ("job".to_owned(), thing.name.clone()),
        ]);
        cx.effects.intend(&key, detail).await?;
        self.create(cx, wanted, before, &thing, &job).await?;
        cx.say(format!("{} runs as {thing}", before.name));
        let end = self.job_end(cx, wanted, before, &thing).await;
        let word = match &end {
            Ok(()) => "succeeded".to_owned(),
            // Whoever comes next finds it there.
            Err(failure) if failure.outcome == crate::event::Outcome::Errored => {
                return Err(failure.clone());
            }
            Err(failure) => failure.outcome.to_string(),
        };
        let detail = BTreeMap::from([("ended".to_owned(), word)]);
        cx.effects.done(&key, detail).await?;
        end
    }

    /// Creates the job, or finds it there.
    async fn create(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        before: &Before,
        thing: &Thing,
        job: &Value,
    ) -> Result<(), Failure> {
        let (clusters, cluster) = (&*cx.world.clusters, &wanted.cluster);
        let mut tries = 0;
        loop {
            // Its name is of this run and stage alone: what is there is ours.
            if let Some(there) = clusters.get(cluster, thing).await? {
                let run = text(&there, "/metadata/annotations/dev.pipewright.run");
                if run != cx.run.to_string() {
                    return Err(Failure::failed(format!(
                        "{thing} is there and is not of this run; remove it"
                    )));
                }
                return Ok(());
            }
            tries += 1;
            match clusters.create(cluster, job, &thing.namespace).await {
                Ok(_) => return Ok(()),
                Err(ClusterError::Conflict { reason, .. })
                    if reason == "AlreadyExists" && tries < TRIES => {}
                Err(error) if error.retry() != Retry::Never && tries < TRIES => {
                    cx.say(format!("{error}; looking what became of it"));
                    pause(cx, tries).await?;
                }
                Err(error) => {
                    let failure = Failure::from(error);
                    return Err(Failure {
                        message: format!(
                            "{} could not be started: {}; {KEEP}",
                            before.name, failure.message
                        ),
                        ..failure
                    });
                }
            }
        }
    }

    /// The job, with the surroundings of the first rollout's pods.
    async fn job(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        found: &Found,
        before: &Before,
        thing: &Thing,
    ) -> Result<Value, Failure> {
        let first = found.seen.first();
        let pod = first.and_then(|seen| seen.live.pointer("/spec/template/spec"));
        let container = first.and_then(|seen| {
            let (name, _) = seen.target.images.first()?;
            ["containers", "initContainers"]
                .into_iter()
                .flat_map(|list| items(&seen.live, &format!("/spec/template/spec/{list}")))
                .find(|it| text(it, "/name") == name)
        });
        let mut spec = Map::new();
        for key in [
            "serviceAccountName",
            "imagePullSecrets",
            "securityContext",
            "nodeSelector",
            "tolerations",
            "volumes",
            "automountServiceAccountToken",
            "dnsPolicy",
            "dnsConfig",
            "hostAliases",
            "runtimeClassName",
        ] {
            if let Some(value) = pod.and_then(|pod| pod.get(key)) {
                spec.insert(key.to_owned(), value.clone());
            }
        }
        if let Some(account) = &before.service_account {
            let account = cx.values.plain(account).await?;
            spec.insert("serviceAccountName".to_owned(), json!(account));
        }
        let image = wanted.reference(&before.image.value).unwrap_or_default();
        let mut one = Map::new();
        one.insert("name".to_owned(), json!(before.name));
        one.insert("image".to_owned(), json!(image));
        for key in ["envFrom", "volumeMounts", "securityContext", "resources"] {
            if let Some(value) = container.and_then(|it| it.get(key)) {
                one.insert(key.to_owned(), value.clone());
            }
        }
        let mut env: Vec<Value> = container.map_or(Vec::new(), |it| items(it, "/env").to_vec());
        for (name, template) in &before.env {
            let value = cx.values.plain(template).await?;
            env.retain(|it| text(it, "/name") != name);
            env.push(json!({"name": name, "value": value}));
        }
        if !env.is_empty() {
            one.insert("env".to_owned(), json!(env));
        }
        let mut args = Vec::new();
        for template in &before.command {
            args.push(cx.values.plain(template).await?);
        }
        if !args.is_empty() {
            one.insert("args".to_owned(), json!(args));
        }
        spec.insert("containers".to_owned(), json!([one]));
        spec.insert("restartPolicy".to_owned(), json!("Never"));
        let labels = json!({"app.kubernetes.io/managed-by": "pipewright"});
        let marks = json!({(RUN): cx.run.to_string(), (STAGE): cx.stage.to_string()});
        Ok(json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": thing.name, "namespace": thing.namespace, "labels": labels, "annotations": marks},
            "spec": {
                "backoffLimit": 0,
                "ttlSecondsAfterFinished": KEPT,
                "activeDeadlineSeconds": before.timeout.as_secs() + LATER,
                "template": {"metadata": {"labels": labels, "annotations": marks}, "spec": spec},
            },
        }))
    }

    /// Waits until a job has ended, and prints its log meanwhile.
    async fn job_end(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        before: &Before,
        thing: &Thing,
    ) -> Result<(), Failure> {
        let (clusters, cluster) = (&*cx.world.clusters, &wanted.cluster);
        let began = Instant::now();
        let (mut pace, mut patience) = (Pace::new(), Patience::default());
        let mut log = Log::default();
        let (mut gone, mut amiss, mut why) = (0, None, String::new());
        loop {
            let look = clusters.get(cluster, thing).await;
            if let Some(seen) = patience.take(cx, look)? {
                let pods = self.pods_of(cx, wanted, thing).await;
                if let Some(pod) = pods.last() {
                    log.follow(cx, wanted, thing, pod, &before.name).await;
                }
                match seen {
                    Some(job) => {
                        gone = 0;
                        let is = |kind: &str| {
                            condition(&job, kind).filter(|it| text(it, "/status") == "True")
                        };
                        if is("Complete").is_some() {
                            return Ok(());
                        }
                        if let Some(failed) = is("Failed") {
                            let why = pods.last().and_then(exit_of).unwrap_or_else(|| {
                                format!(
                                    "failed: {}: {}",
                                    text(failed, "/reason"),
                                    said(text(failed, "/message"))
                                )
                            });
                            return Err(Failure::failed(format!("{} {why}; {KEEP}", before.name)));
                        }
                    }
                    None => gone += 1,
                }
                if gone > GONE {
                    return Err(Failure::errored(format!(
                        "{thing} of {} is gone, and how it ended is not known; {KEEP}",
                        before.name
                    )));
                }
                let found = pods.last().and_then(ailment);
                if let Some(found) = &found
                    && found.why != why
                {
                    cx.say(format!("{}: {}", before.name, found.why));
                    why.clone_from(&found.why);
                }
                let lasts = found.is_some_and(|it| it.lasts && it.log.is_none());
                amiss = lasts.then(|| amiss.unwrap_or_else(Instant::now));
                if amiss.is_some_and(|since| since.elapsed() >= self.start_within) {
                    let left = self.removed(cx, wanted, thing).await;
                    return Err(Failure::failed(format!(
                        "{} cannot start: {why}; {left}, {KEEP}",
                        before.name
                    )));
                }
            }
            let late = began.elapsed() >= before.timeout;
            if late || !pace.wait(cx).await {
                let left = self.removed(cx, wanted, thing).await;
                let why = match why.as_str() {
                    "" => String::new(),
                    why => format!(" ({why})"),
                };
                return Err(if late {
                    Failure::timed_out(format!(
                        "{} took longer than {}{why}: {left}, {KEEP}",
                        before.name,
                        human_duration(before.timeout)
                    ))
                } else {
                    Failure::cancelled(format!(
                        "cancelled while {} ran: {left}, {KEEP}",
                        before.name
                    ))
                });
            }
        }
    }

    async fn pods_of(&self, cx: &StageContext<'_>, wanted: &Wanted, job: &Thing) -> Vec<Value> {
        let listing = Listing {
            api: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace: job.namespace.clone(),
            labels: format!("job-name={}", job.name),
            fields: String::new(),
        };
        // What cannot be listed is not told; the job itself says how it ended.
        let listed = cx.world.clusters.list(&wanted.cluster, &listing).await;
        listed.unwrap_or_default()
    }

    async fn removed(&self, cx: &StageContext<'_>, wanted: &Wanted, thing: &Thing) -> String {
        match cx.world.clusters.delete(&wanted.cluster, thing).await {
            Ok(()) => "it was stopped".to_owned(),
            Err(error) => format!("it could not be stopped: {error}"),
        }
    }
}

/// How the container of a pod ended, if it ended badly.
fn exit_of(pod: &Value) -> Option<String> {
    if !any(pod, "/status/containerStatuses") {
        return ailment(pod).map(|it| format!("failed: {}", it.why));
    }
    let status = &items(pod, "/status/containerStatuses")[0];
    let ended = status.pointer("/state/terminated")?;
    let reason = match text(ended, "/reason") {
        "" | "Error" => String::new(),
        reason => format!(" ({})", said(reason)),
    };
    let code = code(ended)?;
    Some(format!("exited with status {code}{reason}"))
}

/// The same for the same job of the same run, and for no other. A name has 63 characters at most.
fn name(cx: &StageContext<'_>, before: &str, attempt: u32) -> String {
    let of = format!("{} {} {before} {attempt}", cx.run, cx.stage);
    let hex = Digest::of(of.as_bytes());
    let plain: String = before
        .chars()
        .map(|c| match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => c,
            _ => '-',
        })
        .take(30)
        .collect();
    format!(
        "pipewright-{}-{}",
        plain.trim_matches('-'),
        &hex.hex()[..16]
    )
}

/// The log of a pod's container, as far as it was printed.
#[derive(Default)]
struct Log {
    pod: String,
    /// Time of the last line that was printed.
    last: Option<String>,
    blind: bool,
}

impl Log {
    /// Prints what is new.
    async fn follow(
        &mut self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        job: &Thing,
        pod: &Value,
        container: &str,
    ) {
        let name = text(pod, "/metadata/name");
        if self.pod != name {
            (self.pod, self.last) = (name.to_owned(), None);
        }
        let started = any(pod, "/status/containerStatuses");
        for _ in 0..PIECES {
            if self.blind || !started {
                return;
            }
            let log = PodLog {
                namespace: job.namespace.clone(),
                pod: name.to_owned(),
                container: container.to_owned(),
                since: self.last.clone(),
                timestamps: true,
                ..PodLog::default()
            };
            match cx.world.clusters.log(&wanted.cluster, &log).await {
                Ok(piece) => {
                    let whole = piece.len() < 1 << 20;
                    if !self.print(cx, &piece, whole) || whole {
                        return;
                    }
                }
                Err(error) if error.retry() == Retry::Never => {
                    cx.say(format!("its log cannot be read: {error}"));
                    self.blind = true;
                }
                Err(_) => return,
            }
        }
    }

    /// Prints lines that are later than the last one; whether there were any.
    fn print(&mut self, cx: &StageContext<'_>, piece: &str, whole: bool) -> bool {
        let mut printed = false;
        let end = match whole {
            true => piece.len(),
            // The last line may be cut.
            false => piece.rfind('\n').map_or(piece.len(), |at| at + 1),
        };
        for line in piece[..end].lines() {
            let (time, words) = line.split_once(' ').unwrap_or((line, ""));
            if self
                .last
                .as_deref()
                .is_some_and(|last| moment(time) <= moment(last))
            {
                continue;
            }
            cx.say(words);
            self.last = Some(time.to_owned());
            printed = true;
        }
        printed
    }
}

/// A time that can be compared: its seconds as text, and the fraction filled up.
fn moment(time: &str) -> (String, String) {
    let time = time.trim_end_matches('Z');
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    (seconds.to_owned(), format!("{fraction:0<9}"))
}
