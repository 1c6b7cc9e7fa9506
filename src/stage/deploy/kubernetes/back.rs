//! The way back: gives a workload the pod template of the revision before, as `kubectl rollout undo`
//! does, and waits for it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Kubernetes;
use super::advance::{Started, key};
use super::look::Found;
use super::manifests::images;
use super::wanted::Wanted;
use super::watch::{GivenUp, current};
use super::workload::{RUN, STAGE, has_images, noted, selector, text};
use crate::event::Outcome;
use crate::ports::Retry;
use crate::ports::cluster::{ClusterError, Listing, Thing};
use crate::stage::{Failure, StageContext};

/// The key under which the journal knows the way back.
const BACK: &str = "rollback";
/// How often a patch is tried.
const TRIES: u32 = 20;

impl Kubernetes {
    /// The name of the revision a workload has now: a replica set or a controller revision.
    pub(super) async fn revision_of(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        live: &Value,
    ) -> Option<String> {
        if !self.rollback || wanted.back {
            return None;
        }
        let listing = Listing {
            api: "apps/v1".to_owned(),
            kind: kept(text(live, "/kind")).to_owned(),
            namespace: text(live, "/metadata/namespace").to_owned(),
            labels: selector(live),
            fields: String::new(),
        };
        match cx.world.clusters.list(&wanted.cluster, &listing).await {
            Ok(all) => current(live, &all),
            Err(error) => {
                cx.say(format!("there will be no way back: {error}"));
                None
            }
        }
    }

    /// Records that a roll-out was given up and takes it back if that was asked for; the failure that
    /// is left.
    pub(super) async fn given_up(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        found: &Found,
        started: &[Started],
        given_up: GivenUp,
    ) -> Failure {
        let GivenUp { failure, ours } = given_up;
        if !matches!(failure.outcome, Outcome::Failed | Outcome::TimedOut) {
            return failure;
        }
        for one in started {
            if let Some(key) = &one.key {
                let detail = BTreeMap::from([("ended".to_owned(), failure.outcome.to_string())]);
                if let Err(journal) = cx.effects.done(key, detail).await {
                    return journal;
                }
            }
        }
        let changed: Vec<&Started> = started.iter().filter(|one| one.from.is_some()).collect();
        if !self.rollback || wanted.back || !ours {
            return failure;
        }
        if changed.is_empty() {
            return Failure {
                message: format!("{}; there is no revision to go back to", failure.message),
                ..failure
            };
        }
        let mut detail = BTreeMap::from([("why".to_owned(), failure.message.clone())]);
        for one in &changed {
            let from = one.from.clone().unwrap_or_default();
            detail.insert(key("from", &one.thing), from);
        }
        if let Err(journal) = cx.effects.intend(BACK, detail.clone()).await {
            return journal;
        }
        let pairs = changed
            .iter()
            .filter_map(|one| Some((one.thing.clone(), one.from.clone()?)))
            .collect();
        let back = self.go_back(cx, wanted, &found.namespace, pairs).await;
        self.went_back(cx, detail, failure, back).await
    }

    async fn went_back(
        &self,
        cx: &StageContext<'_>,
        detail: BTreeMap<String, String>,
        failure: Failure,
        back: Result<(), Failure>,
    ) -> Failure {
        match back {
            // Whoever goes on finds it half way.
            Err(back) if matches!(back.outcome, Outcome::Cancelled | Outcome::Errored) => Failure {
                message: format!(
                    "{}; going back was cut off: {}",
                    failure.message, back.message
                ),
                ..back
            },
            back => {
                if let Err(journal) = cx.effects.done(BACK, detail).await {
                    return journal;
                }
                let end = match back {
                    Ok(()) => "; it was rolled back to the revision before".to_owned(),
                    Err(back) => format!(
                        "; it was rolled back and that failed too: {}; look at it by hand",
                        back.message
                    ),
                };
                Failure {
                    message: format!("{}{end}", failure.message),
                    ..failure
                }
            }
        }
    }

    /// Goes on with a way back that an earlier process began; what it failed with.
    pub(super) async fn half_way_back(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        found: &Found,
    ) -> Result<Option<Failure>, Failure> {
        let Some(past) = cx.intended(BACK).filter(|past| past.result.is_none()) else {
            return Ok(None);
        };
        let things = found.seen.iter().map(|it| &it.thing);
        let things = things.chain(found.applied.iter().map(|it| &it.thing));
        let pairs = things
            .filter_map(|thing| {
                let from = past.intent.get(&key("from", thing))?;
                Some((thing.clone(), from.clone()))
            })
            .collect();
        let why = past.intent.get("why").cloned().unwrap_or_default();
        let back = self.go_back(cx, wanted, &found.namespace, pairs).await;
        let detail = past.intent.clone();
        Ok(Some(
            self.went_back(cx, detail, Failure::failed(why), back).await,
        ))
    }

    async fn go_back(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        namespace: &str,
        pairs: Vec<(Thing, String)>,
    ) -> Result<(), Failure> {
        let mut started = Vec::new();
        for (thing, from) in pairs {
            started.push(self.undo(cx, wanted, &thing, &from).await?);
        }
        let settled = self.settle(cx, wanted, namespace, &started).await;
        settled.map(|_| ()).map_err(|given_up| given_up.failure)
    }

    async fn undo(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        thing: &Thing,
        from: &str,
    ) -> Result<Started, Failure> {
        let (clusters, cluster) = (&*cx.world.clusters, &wanted.cluster);
        let revision = Thing {
            kind: kept(&thing.kind).to_owned(),
            name: from.to_owned(),
            ..thing.clone()
        };
        let Some(kept) = clusters.get(cluster, &revision).await? else {
            return Err(Failure::failed(format!("{revision} is gone")));
        };
        let template = template(&kept);
        let was = images(&json!({"spec": {"template": template}}));
        let mut tries = 0;
        loop {
            tries += 1;
            let Some(live) = clusters.get(cluster, thing).await? else {
                return Err(Failure::failed(format!("{thing} is gone")));
            };
            if has_images(&live, &was) {
                return Ok(Started::of(thing, &live, was));
            }
            let marks = [(RUN, cx.run.to_string()), (STAGE, cx.stage.to_string())];
            let patch = json!({
                "metadata": {
                    "resourceVersion": text(&live, "/metadata/resourceVersion"),
                    "annotations": noted(&marks),
                },
                "spec": {"template": replacing(&template)},
            });
            match clusters.patch(cluster, thing, &patch).await {
                Ok(live) => {
                    cx.say(format!("{thing} goes back to {from}"));
                    return Ok(Started::by(thing, &live, was));
                }
                Err(error)
                    if tries < TRIES
                        && (error.retry() != Retry::Never
                            || matches!(error, ClusterError::Conflict { .. })) =>
                {
                    super::advance::pause(cx, tries.min(4)).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The kind that keeps the revisions of a workload.
fn kept(kind: &str) -> &'static str {
    match kind {
        "Deployment" => "ReplicaSet",
        _ => "ControllerRevision",
    }
}

/// The pod template a revision keeps.
fn template(revision: &Value) -> Value {
    let at = match text(revision, "/kind") {
        "ControllerRevision" => "/data/spec/template",
        _ => "/spec/template",
    };
    let mut template = revision.pointer(at).cloned().unwrap_or_default();
    if let Some(map) = template.as_object_mut() {
        map.remove("$patch");
    }
    // The cluster writes it for itself.
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove("pod-template-hash");
    }
    template
}

/// A template as a patch that leaves nothing of the one before.
fn replacing(template: &Value) -> Value {
    let mut patch = template.clone();
    if let Some(map) = patch.as_object_mut() {
        map.insert("$patch".to_owned(), json!("replace"));
    }
    patch
}
