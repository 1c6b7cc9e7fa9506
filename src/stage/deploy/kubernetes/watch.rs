//! Waits until workloads have rolled out, and tells what happens meanwhile: how many pods are new, and
//! why those that are do not come up. Old pods are not looked at.
//!
//! It asks again and again, with bounded questions; nothing is kept open that could expire.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Kubernetes;
use super::advance::Started;
use super::pods::{Ailment, ailment, is_ready, said};
use super::wanted::Wanted;
use super::workload::{
    Stand, condition, has_images, image_of, is_owned, is_paused, is_zero, items, number, overdue,
    selector, stand, text,
};
use crate::base::human_duration;
use crate::ports::cluster::{ClusterError, Listing, PodLog};
use crate::ports::{Progress, ProgressState, Retry};
use crate::stage::{Failure, StageContext};

/// The first pause between two looks; each is longer than the one before.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);
/// Looks in a row that may go wrong, and that may find nothing.
const BLIND: u32 = 10;
const GONE: u32 = 3;
/// Most lines that are remembered as said.
const REMEMBERED: usize = 10_000;
/// Pods whose events are asked for in one look.
const ASKED: usize = 3;
/// Lines of a crashed container that are told.
const LAST_LINES: u32 = 20;

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
        look: Result<T, ClusterError>,
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

/// Why a roll-out was given up.
#[derive(Debug)]
pub(super) struct GivenUp {
    pub(super) failure: Failure,
    /// Whether ours still stands there, so that it may be taken back.
    pub(super) ours: bool,
}

impl From<Failure> for GivenUp {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            ours: false,
        }
    }
}

/// One roll-out, and what was seen and told of it.
struct Watch<'a> {
    started: &'a Started,
    patience: Patience,
    gone: u32,
    /// Since when something is amiss: a pod, or the making of pods.
    amiss: HashMap<String, Instant>,
    told: HashSet<String>,
    note: Option<String>,
    /// Why pods fail cannot be looked at.
    blind: bool,
    remark: Option<String>,
    done: bool,
}

impl<'a> Watch<'a> {
    fn new(started: &'a Started) -> Self {
        Self {
            started,
            patience: Patience::default(),
            gone: 0,
            amiss: HashMap::new(),
            told: HashSet::new(),
            note: None,
            blind: false,
            remark: None,
            done: false,
        }
    }

    /// Tells something once.
    fn tell(&mut self, cx: &StageContext<'_>, line: &str) {
        if self.told.len() < REMEMBERED && self.told.insert(line.to_owned()) {
            cx.say(line);
        }
    }

    fn last_words(&self) -> String {
        match &self.note {
            Some(note) => format!(" ({note})"),
            None => String::new(),
        }
    }

    fn fails(&self, why: &str) -> GivenUp {
        let thing = &self.started.thing;
        GivenUp {
            failure: Failure::failed(format!("{thing} does not roll out: {why}")),
            ours: true,
        }
    }
}

impl Kubernetes {
    /// Waits until everything has rolled out; what there is to remark.
    pub(super) async fn settle(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        namespace: &str,
        started: &[Started],
    ) -> Result<Vec<String>, GivenUp> {
        let began = Instant::now();
        let mut pace = Pace::new();
        let mut watches: Vec<Watch<'_>> = started.iter().map(Watch::new).collect();
        loop {
            for watch in watches.iter_mut().filter(|watch| !watch.done) {
                self.look_at(cx, wanted, watch).await?;
            }
            let Some(open) = watches.iter().find(|watch| !watch.done) else {
                return Ok(watches.into_iter().filter_map(|it| it.remark).collect());
            };
            let thing = &open.started.thing;
            if began.elapsed() >= self.stable_within {
                let failure = Failure::timed_out(format!(
                    "{thing} of namespace {namespace} had not rolled out within {}{}",
                    human_duration(self.stable_within),
                    open.last_words()
                ));
                return Err(GivenUp {
                    failure,
                    ours: true,
                });
            }
            if !pace.wait(cx).await {
                return Err(Failure::cancelled(format!(
                    "cancelled: {thing} goes on rolling out; nothing is rolled back{}",
                    open.last_words()
                ))
                .into());
            }
        }
    }

    async fn look_at(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        watch: &mut Watch<'_>,
    ) -> Result<(), GivenUp> {
        let started = watch.started;
        let thing = &started.thing;
        let look = cx.world.clusters.get(&wanted.cluster, thing).await;
        let looked = watch.patience.take(cx, look).map_err(|failure| Failure {
            message: format!("{}; {thing} goes on rolling out", failure.message),
            ..failure
        })?;
        let Some(found) = looked else {
            return Ok(());
        };
        let Some(live) = found else {
            watch.gone += 1;
            if watch.gone >= GONE {
                return Err(
                    Failure::failed(format!("{thing} vanished while it rolled out")).into(),
                );
            }
            return Ok(());
        };
        watch.gone = 0;
        // An answer from before the change.
        if number(&live, "/metadata/generation") < started.generation {
            return Ok(());
        }
        if !has_images(&live, &started.images) {
            let other = started
                .images
                .iter()
                .find(|(container, image)| image_of(&live, container) != Some(image));
            let other = other.and_then(|(container, _)| image_of(&live, container));
            return Err(Failure::failed(format!(
                "{thing} does not roll out: somebody else's roll-out of {} took the place of ours",
                other.unwrap_or("something else")
            ))
            .into());
        }
        if is_paused(&live) {
            return Err(watch.fails("somebody paused it"));
        }
        if is_zero(&live) && !started.zero {
            return Err(Failure::failed(format!(
                "{thing} was scaled to zero while it rolled out: nothing runs of the new version"
            ))
            .into());
        }
        // The word may still be about the roll-out before this one.
        if started.overdue.is_some() && overdue(&live) == started.overdue.as_deref() {
            return Ok(());
        }
        let stand = stand(&live);
        let progress = |done, total, state| {
            cx.output.progress(Progress {
                id: thing.to_string(),
                label: format!("pods of {thing}"),
                done,
                total: Some(total),
                state,
            });
        };
        match stand {
            Stand::Done(remark) => {
                let all = number(&live, "/status/updatedReplicas");
                progress(all, all, ProgressState::Done);
                watch.tell(cx, &format!("{thing} has rolled out"));
                watch.remark = remark.map(|remark| format!("{thing}: {remark}"));
                watch.done = true;
                Ok(())
            }
            Stand::Waiting(done, all, note) => {
                progress(done, all, ProgressState::Running);
                watch.tell(cx, &format!("{thing}: {note}"));
                self.examine_pods(cx, wanted, watch, &live).await
            }
            Stand::Failed(why) => {
                progress(0, 0, ProgressState::Failed);
                // The pods say why, if they may be looked at.
                self.examine_pods(cx, wanted, watch, &live).await?;
                let why = format!("{why}{}", watch.last_words());
                Err(watch.fails(&why))
            }
        }
    }

    /// Looks why new pods do not come up; fails once one has been unable to for too long.
    async fn examine_pods(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        watch: &mut Watch<'_>,
        live: &Value,
    ) -> Result<(), GivenUp> {
        if watch.blind {
            return Ok(());
        }
        let looked = self.new_pods(cx, wanted, live).await;
        let (pods, unmade) = match looked {
            Ok(found) => found,
            Err(error) if error.retry() == Retry::Never => {
                watch.tell(
                    cx,
                    &format!("why pods do not come up cannot be told: {error}"),
                );
                watch.blind = true;
                return Ok(());
            }
            // Told at the next look.
            Err(_) => return Ok(()),
        };
        let mut suffer: Vec<(String, Ailment)> = Vec::new();
        if let Some(why) = unmade {
            let lasts = true;
            suffer.push((
                "its pods".to_owned(),
                Ailment {
                    why: format!("cannot be made: {why}"),
                    lasts,
                    log: None,
                },
            ));
        }
        let mut asked = 0;
        for pod in &pods {
            let name = text(pod, "/metadata/name");
            if is_ready(pod) {
                watch.amiss.remove(&format!("pod {name}"));
            } else if let Some(found) = ailment(pod) {
                suffer.push((format!("pod {name}"), found));
            } else if asked < ASKED {
                asked += 1;
                self.events(cx, wanted, watch, name).await;
            }
        }
        let now = Instant::now();
        let mut given_up = None;
        for (who, found) in suffer {
            let line = format!("{who}: {}", found.why);
            if let Some((container, previous)) = &found.log
                && !watch.told.contains(&line)
            {
                let pod = who.trim_start_matches("pod ");
                watch.tell(cx, &line);
                self.last_lines(cx, wanted, watch, pod, container, *previous)
                    .await;
            } else {
                watch.tell(cx, &line);
            }
            watch.note = Some(line.clone());
            if found.lasts {
                let since = *watch.amiss.entry(who).or_insert(now);
                if now.duration_since(since) >= self.start_within {
                    given_up.get_or_insert(line);
                }
            }
        }
        // What was amiss with the making of pods is over once it is not told any more.
        match given_up {
            Some(line) => Err(watch.fails(&line)),
            None => Ok(()),
        }
    }

    /// The pods of the new revision, and why more cannot be made.
    async fn new_pods(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        live: &Value,
    ) -> Result<(Vec<Value>, Option<String>), ClusterError> {
        let (clusters, cluster) = (&*cx.world.clusters, &wanted.cluster);
        let namespace = text(live, "/metadata/namespace").to_owned();
        let labels = selector(live);
        let of = |kind: &str, labels: String| Listing {
            api: if kind == "Pod" { "v1" } else { "apps/v1" }.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.clone(),
            labels,
            fields: String::new(),
        };
        let mut unmade = None;
        let label = match text(live, "/kind") {
            "Deployment" => {
                let sets = clusters
                    .list(cluster, &of("ReplicaSet", labels.clone()))
                    .await?;
                let revision = |it: &Value| {
                    text(
                        it,
                        "/metadata/annotations/deployment.kubernetes.io~1revision",
                    )
                    .to_owned()
                };
                let set = sets
                    .iter()
                    .filter(|set| is_owned(set, live))
                    .find(|set| revision(set) == revision(live));
                let failure = set
                    .and_then(|set| condition(set, "ReplicaFailure"))
                    .or_else(|| condition(live, "ReplicaFailure"));
                unmade = failure
                    .filter(|it| text(it, "/status") == "True")
                    .map(|it| said(text(it, "/message")));
                set.map(|set| {
                    let hash = text(set, "/metadata/labels/pod-template-hash");
                    format!("pod-template-hash={hash}")
                })
            }
            kind => {
                let name = text(live, "/metadata/name");
                let listing = Listing {
                    api: "v1".to_owned(),
                    kind: "Event".to_owned(),
                    namespace: namespace.clone(),
                    labels: String::new(),
                    fields: format!(
                        "involvedObject.kind={kind},involvedObject.name={name},reason=FailedCreate,type=Warning"
                    ),
                };
                let wanted_pods = number(live, "/status/updatedReplicas")
                    < live
                        .pointer("/spec/replicas")
                        .and_then(Value::as_u64)
                        .unwrap_or(1);
                if kind == "DaemonSet" || wanted_pods {
                    let events = clusters.list(cluster, &listing).await.unwrap_or_default();
                    unmade = events.last().map(|it| said(text(it, "/message")));
                }
                self.revision_hash(cx, wanted, live)
                    .await?
                    .map(|hash| format!("controller-revision-hash={hash}"))
            }
        };
        let Some(label) = label else {
            return Ok((Vec::new(), unmade));
        };
        let labels = match labels.as_str() {
            "" => label,
            labels => format!("{labels},{label}"),
        };
        let pods = clusters.list(cluster, &of("Pod", labels)).await?;
        let going = |pod: &Value| !text(pod, "/metadata/deletionTimestamp").is_empty();
        Ok((pods.into_iter().filter(|pod| !going(pod)).collect(), unmade))
    }

    /// The label of new pods of a stateful or daemon set.
    async fn revision_hash(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        live: &Value,
    ) -> Result<Option<String>, ClusterError> {
        let update = text(live, "/status/updateRevision");
        if !update.is_empty() {
            return Ok(Some(update.to_owned()));
        }
        let listing = Listing {
            api: "apps/v1".to_owned(),
            kind: "ControllerRevision".to_owned(),
            namespace: text(live, "/metadata/namespace").to_owned(),
            labels: selector(live),
            fields: String::new(),
        };
        let all = cx.world.clusters.list(&wanted.cluster, &listing).await?;
        let newest = all
            .iter()
            .filter(|it| is_owned(it, live))
            .max_by_key(|it| number(it, "/revision"));
        Ok(newest.map(|it| text(it, "/metadata/labels/controller-revision-hash").to_owned()))
    }

    /// Tells what the cluster warns of at a pod that is not ready: failing probes, volumes that do not
    /// come.
    async fn events(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        watch: &mut Watch<'_>,
        pod: &str,
    ) {
        let listing = Listing {
            api: "v1".to_owned(),
            kind: "Event".to_owned(),
            namespace: watch.started.thing.namespace.clone(),
            labels: String::new(),
            fields: format!("involvedObject.kind=Pod,involvedObject.name={pod},type=Warning"),
        };
        match cx.world.clusters.list(&wanted.cluster, &listing).await {
            Ok(events) => {
                for event in &events {
                    let line = format!(
                        "pod {pod}: {}: {}",
                        said(text(event, "/reason")),
                        said(text(event, "/message"))
                    );
                    watch.tell(cx, &line);
                    watch.note = Some(line);
                }
            }
            Err(error) if error.retry() == Retry::Never => {
                watch.tell(cx, &format!("events cannot be told: {error}"));
            }
            Err(_) => {}
        }
    }

    /// Tells the last lines of a container that crashed.
    async fn last_lines(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        watch: &mut Watch<'_>,
        pod: &str,
        container: &str,
        previous: bool,
    ) {
        let log = PodLog {
            namespace: watch.started.thing.namespace.clone(),
            pod: pod.to_owned(),
            container: container.to_owned(),
            previous,
            tail: Some(LAST_LINES),
            ..PodLog::default()
        };
        match cx.world.clusters.log(&wanted.cluster, &log).await {
            Ok(text) => {
                for line in text.lines().take(LAST_LINES as usize) {
                    cx.say(format!("  {container}: {}", said(line)));
                }
            }
            Err(error) => watch.tell(cx, &format!("its log cannot be read: {error}")),
        }
    }
}

/// The name of the pods' revision at a workload, for going back to it.
pub(super) fn current(live: &Value, candidates: &[Value]) -> Option<String> {
    let revision = text(
        live,
        "/metadata/annotations/deployment.kubernetes.io~1revision",
    );
    let owned = candidates.iter().filter(|it| is_owned(it, live));
    let found = match text(live, "/kind") {
        "Deployment" => owned.into_iter().find(|it| {
            text(
                it,
                "/metadata/annotations/deployment.kubernetes.io~1revision",
            ) == revision
        }),
        _ => owned.into_iter().max_by_key(|it| number(it, "/revision")),
    };
    found.map(|it| text(it, "/metadata/name").to_owned())
}

/// Whether a list of an object has anything, for those that only ask that.
pub(super) fn any(of: &Value, at: &str) -> bool {
    !items(of, at).is_empty()
}
