//! Applies manifests and sets images: each change once, whatever happens to this process or to an
//! answer.
//!
//! An intent is journaled before each call. A call of unknown end is looked after first: whoever set an
//! image finds it set, and what would change nothing is not applied again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::Kubernetes;
use super::look::{Applied, Found, Seen, brings, refusal, rolls_out};
use super::wanted::Wanted;
use super::workload::{
    RUN, STAGE, Stand, condition, has_images, image_of, number, overdue, set_images, stand, text,
};
use crate::ports::cluster::{ClusterError, Thing};
use crate::ports::{Retry, cluster::Cluster};
use crate::stage::push::backoff;
use crate::stage::{Failure, StageContext};

/// How often a call is tried.
const TRIES: u32 = 5;
/// How often somebody else may be faster at a change of the same workload.
const RACES: u32 = 20;
/// Looks until a new kind is known.
const LOOKS: u32 = 60;

/// A roll-out to wait for.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) thing: Thing,
    /// Container and image.
    pub(super) images: Vec<(String, String)>,
    /// The generation that brought them.
    pub(super) generation: u64,
    /// Whether pods were wanted when it began.
    pub(super) zero: bool,
    /// What there is to go back to, if we changed it and may have to.
    pub(super) from: Option<String>,
    /// When the cluster said of the roll-out before this one that it took too long.
    pub(super) overdue: Option<String>,
    /// Under which key it was journaled, if we changed it.
    pub(super) key: Option<String>,
}

impl Started {
    pub(super) fn of(thing: &Thing, live: &Value, images: Vec<(String, String)>) -> Self {
        Self {
            thing: thing.clone(),
            images,
            generation: number(live, "/metadata/generation"),
            zero: super::workload::is_zero(live),
            from: None,
            overdue: None,
            key: None,
        }
    }

    /// What a change brought, by the answer to it: its status is still that of what was before.
    pub(super) fn by(thing: &Thing, live: &Value, images: Vec<(String, String)>) -> Self {
        Self {
            overdue: overdue(live).map(str::to_owned),
            ..Self::of(thing, live, images)
        }
    }
}

pub(super) fn key(verb: &str, thing: &Thing) -> String {
    format!("{verb} {} {}", thing.kind.to_lowercase(), thing.name)
}

impl Kubernetes {
    /// Fails if what an earlier attempt set was replaced by somebody else since.
    pub(super) fn not_replaced(&self, cx: &StageContext<'_>, found: &Found) -> Result<(), Failure> {
        for seen in found.seen.iter().filter(|seen| !seen.is_set()) {
            let Some(past) = cx.intended(&key("set", &seen.thing)) else {
                continue;
            };
            let was_ours = || {
                let annotation =
                    |name: &str| text(&seen.live, &format!("/metadata/annotations/{name}"));
                annotation(RUN) == cx.run.to_string() && annotation(STAGE) == cx.stage.as_str()
            };
            let made = match &past.result {
                Some(result) if result.contains_key("ended") => continue,
                // An answer from before it: the patch finds that out.
                Some(result)
                    if result
                        .get("generation")
                        .and_then(|it| it.parse().ok())
                        .is_some_and(|it: u64| it > number(&seen.live, "/metadata/generation")) =>
                {
                    continue;
                }
                Some(_) => true,
                None => was_ours(),
            };
            let (container, _) = &seen.target.images[0];
            if made {
                return Err(Failure::failed(format!(
                    "{} runs {}: somebody else's roll-out took the place of ours",
                    seen.thing,
                    image_of(&seen.live, container).unwrap_or("something else")
                )));
            }
        }
        Ok(())
    }

    /// Makes every change; what has to be waited for.
    pub(super) async fn advance(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        found: &Found,
    ) -> Result<Vec<Started>, Failure> {
        let mut started = Vec::new();
        for it in &found.applied {
            let live = if it.changes() {
                self.applied(cx, wanted, it).await?
            } else {
                it.live.clone().unwrap_or_default()
            };
            let pending = rolls_out(&live) && (it.changes() || !is_done(&live));
            // A workload that gets its image by a roll-out of its own is waited for there.
            let twice = found.seen.iter().any(|seen| seen.thing == it.thing);
            if pending && !twice {
                let mut one = Started::of(&it.thing, &live, brings(&live));
                if it.changes() {
                    one = Started::by(&it.thing, &live, brings(&live));
                    one.from = match &it.live {
                        Some(before) => self.revision_of(cx, wanted, before).await,
                        None => None,
                    };
                    one.key = Some(key("apply", &it.thing));
                }
                started.push(one);
            }
        }
        for seen in &found.seen {
            if seen.is_set() {
                if !is_done(&seen.live) {
                    cx.say(format!("{} is rolling out already", seen.thing));
                }
                let mut one = Started::of(&seen.thing, &seen.live, seen.target.images.clone());
                let past = cx.intended(&key("set", &seen.thing));
                if let Some(past) = past {
                    one.from = past.intent.get("from").cloned();
                    one.key = Some(past.key.clone());
                    if past.result.is_none() {
                        cx.effects.done(&past.key, past.intent.clone()).await?;
                    }
                }
                started.push(one);
            } else {
                started.push(self.set(cx, wanted, seen).await?);
            }
        }
        Ok(started)
    }

    /// Applies a manifest; what it is then.
    async fn applied(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        it: &Applied,
    ) -> Result<Value, Failure> {
        let (clusters, cluster) = (&*cx.world.clusters, &wanted.cluster);
        let (manifest, thing) = (&it.manifest, &it.thing);
        if cx.cancel.is_cancelled() {
            return Err(Failure::cancelled(format!(
                "cancelled: {thing} was not applied, what stands before it was"
            )));
        }
        let key = key("apply", thing);
        let detail = BTreeMap::from([("namespace".to_owned(), thing.namespace.clone())]);
        cx.effects.intend(&key, detail.clone()).await?;
        let mut tries = 0;
        let live = loop {
            tries += 1;
            let applied = clusters
                .apply(cluster, &manifest.object, &thing.namespace, manifest.force)
                .await;
            let error = match applied {
                Ok(live) => break live,
                Err(error) => error,
            };
            if error.retry() == Retry::Never || tries >= TRIES {
                return Err(refusal(error, manifest));
            }
            cx.say(format!("{error}; looking what became of it"));
            pause(cx, tries).await?;
            // Applying the same again changes nothing, but it need not be asked for.
            if let (Ok(Some(live)), Some(then)) = (clusters.get(cluster, thing).await, &it.then) {
                let probe = Applied {
                    manifest: manifest.clone(),
                    thing: thing.clone(),
                    live: Some(live.clone()),
                    then: Some(then.clone()),
                };
                if !probe.changes() {
                    break live;
                }
            }
        };
        cx.effects.done(&key, detail).await?;
        cx.say(format!(
            "{} {thing}",
            if it.live.is_some() {
                "changed"
            } else {
                "created"
            }
        ));
        if thing.kind == "CustomResourceDefinition" {
            self.established(cx, cluster, thing).await?;
        }
        Ok(live)
    }

    /// Waits until a new kind is known.
    async fn established(
        &self,
        cx: &StageContext<'_>,
        cluster: &Cluster,
        thing: &Thing,
    ) -> Result<(), Failure> {
        for _ in 0..LOOKS {
            let live = cx.world.clusters.get(cluster, thing).await?;
            let known = live
                .as_ref()
                .and_then(|live| condition(live, "Established"));
            if known.is_some_and(|it| text(it, "/status") == "True") {
                return Ok(());
            }
            wait(cx, Duration::from_secs(1)).await?;
        }
        Err(Failure::timed_out(format!(
            "{thing} was not established within {LOOKS} s"
        )))
    }

    /// Gives a workload its images.
    async fn set(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        seen: &Seen,
    ) -> Result<Started, Failure> {
        let (clusters, cluster) = (&*cx.world.clusters, &wanted.cluster);
        let (thing, images) = (&seen.thing, &seen.target.images);
        if cx.cancel.is_cancelled() {
            return Err(Failure::cancelled(format!(
                "cancelled: {thing} was not changed"
            )));
        }
        // It may be a manifest's that was only just applied.
        let mut live = match text(&seen.live, "/metadata/resourceVersion") {
            "" => self.again(cx, wanted, thing).await?,
            _ => seen.live.clone(),
        };
        let key = key("set", thing);
        let mut detail: BTreeMap<String, String> = images
            .iter()
            .map(|(container, image)| (format!("container {container}"), image.clone()))
            .collect();
        if self.rollback
            && !wanted.back
            && let Some(from) = self.revision_of(cx, wanted, &live).await
        {
            detail.insert("from".to_owned(), from);
        }
        cx.effects.intend(&key, detail.clone()).await?;
        let marks = [(RUN, cx.run.to_string()), (STAGE, cx.stage.to_string())];
        let (mut tries, mut races) = (0, 0);
        let live = loop {
            let patch = set_images(&live, images, &marks);
            let error = match clusters.patch(cluster, thing, &patch).await {
                Ok(live) => break live,
                Err(error) => error,
            };
            match &error {
                // Its status is written all the time, and that counts as a change too.
                ClusterError::Conflict { .. } if races < RACES => races += 1,
                _ if error.retry() != Retry::Never && tries < TRIES => {
                    cx.say(format!("{error}; looking what became of it"));
                }
                _ => return Err(error.into()),
            }
            tries += u32::from(error.retry() != Retry::Never);
            pause(cx, (tries + races).clamp(1, 4)).await?;
            live = self.again(cx, wanted, thing).await?;
            if has_images(&live, images) {
                break live;
            }
        };
        let generation = number(&live, "/metadata/generation").to_string();
        detail.insert("generation".to_owned(), generation);
        cx.effects.done(&key, detail.clone()).await?;
        for (container, image) in images {
            cx.say(format!("container {container} of {thing} gets {image}"));
        }
        Ok(Started {
            from: detail.get("from").cloned(),
            key: Some(key),
            ..Started::by(thing, &live, images.clone())
        })
    }

    async fn again(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        thing: &Thing,
    ) -> Result<Value, Failure> {
        let live = cx.world.clusters.get(&wanted.cluster, thing).await?;
        live.ok_or_else(|| Failure::failed(format!("{thing} vanished while it was changed")))
    }
}

fn is_done(live: &Value) -> bool {
    matches!(stand(live), Stand::Done(_))
}

/// Waits before another try.
pub(super) async fn pause(cx: &StageContext<'_>, tries: u32) -> Result<(), Failure> {
    wait(cx, backoff(tries, cx.world.readers.clock.random())).await
}

async fn wait(cx: &StageContext<'_>, time: Duration) -> Result<(), Failure> {
    tokio::select! {
        () = tokio::time::sleep(time) => Ok(()),
        () = cx.cancel.cancelled() => Err(Failure::cancelled(
            "cancelled while it was looked what became of a change; the next run looks again",
        )),
    }
}
