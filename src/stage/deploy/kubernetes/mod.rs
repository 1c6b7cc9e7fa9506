//! `deploy kubernetes`: gives workloads of a cluster new images, and applies manifests.
//!
//! What is there is looked at first. If every workload has its image and has rolled out, and every
//! manifest would change nothing, there is nothing to do. Else one-off jobs run, manifests are applied
//! (server side, as ours), images are set, and the stage waits until each workload has rolled out.
//!
//! `spec` is how it is written, `wanted` what should run, `manifests` what is applied, `look` what is
//! there, `advance` the changes, `workload` and `pods` the decisions about how it goes, `watch` the
//! wait, `back` the way back.

mod advance;
mod back;
mod before;
mod look;
mod manifests;
mod pods;
mod spec;
mod wanted;
mod watch;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::{Diagnostic, Spanned};
use crate::decl;
use crate::event::Outcome;
use crate::lang::Template;
use crate::stage::{
    CheckContext, Done, Failure, Forecast, Lowering, PlanContext, Read, Stage, StageContext,
    Verdict, Want,
};

pub(super) use spec::SPEC;
use spec::{Apply, Before, Rollout};
use wanted::Wanted;

#[derive(Debug)]
struct Kubernetes {
    cluster: Spanned<String>,
    namespace: Option<Template>,
    rollouts: Vec<Rollout>,
    applies: Vec<Apply>,
    before: Vec<Before>,
    rollback: bool,
    stable_within: Duration,
    start_within: Duration,
}

pub(super) fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    Arc::new(Kubernetes::lower(cx))
}

impl Kubernetes {
    fn images(&self) -> impl Iterator<Item = &Spanned<String>> {
        let rollouts = self.rollouts.iter().map(|rollout| &rollout.image);
        let applies = self.applies.iter().flat_map(|apply| &apply.images);
        let before = self.before.iter().map(|before| &before.image);
        rollouts.chain(applies).chain(before)
    }

    async fn foresee(&self, cx: &PlanContext<'_>, wanted: &Wanted) -> Result<Forecast, Failure> {
        let manifests = self.manifests(cx.values, None, &wanted.pinned).await?;
        let found = self.look(cx.readers, wanted, manifests).await?;
        if found.is_there() && found.overlays.is_empty() {
            let done = Done::up_to_date(found.note(wanted));
            return Ok(Forecast::from_done(
                done.output("revision", found.revision(wanted)),
            ));
        }
        let paused = found.paused();
        let mut forecast = match (&paused, found.overlays.as_slice()) {
            (Some(why), _) => Forecast::new(Verdict::Fail, why),
            (None, []) => Forecast::new(Verdict::Run, found.now()),
            (None, overlays) => Forecast::new(
                Verdict::Unknown,
                format!(
                    "what kustomize makes of {} is known in the run: a plan starts no process",
                    overlays.join(" and ")
                ),
            ),
        };
        for before in &self.before {
            forecast = forecast.effect(format!("run job {} first", before.name));
        }
        for effect in found.effects() {
            forecast = forecast.effect(effect);
        }
        forecast.diff = found.diff();
        Ok(forecast)
    }

    fn done(&self, found: &look::Found, wanted: &Wanted, done: Done, remarks: &[String]) -> Done {
        let done = done.output("revision", found.revision(wanted));
        remarks.iter().fold(done, |done, remark| done.warn(remark))
    }
}

#[async_trait]
impl Stage for Kubernetes {
    fn reads(&self) -> Vec<Read> {
        self.images()
            .map(|image| Read {
                what: Want::Image(image.value.clone()),
                span: image.span,
                optional: false,
            })
            .collect()
    }

    fn templates(&self) -> Vec<&Template> {
        let mut all: Vec<&Template> = self.namespace.iter().collect();
        for apply in &self.applies {
            all.extend(&apply.paths);
        }
        for before in &self.before {
            all.extend(&before.command);
            all.extend(before.env.iter().map(|(_, value)| value));
            all.extend(&before.service_account);
        }
        all
    }

    fn keys<'d>(&self, decls: &'d decl::Decls) -> Vec<&'d Template> {
        let cluster = decls.clusters.get(&self.cluster.value);
        cluster.map_or_else(Vec::new, |cluster| cluster.value.templates())
    }

    fn variant(&self) -> Option<&'static str> {
        Some("kubernetes")
    }

    fn goes_back(&self) -> bool {
        true
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        let clusters = &cx.decls.clusters;
        decl::require(
            clusters,
            "kubernetes",
            &self.cluster,
            cx.source,
            diagnostics,
        );
        for image in self.images() {
            decl::require(&cx.decls.images, "image", image, cx.source, diagnostics);
        }
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        let wanted = match self.wanted(cx.values, None).await {
            Ok(wanted) => wanted,
            Err(missing) => {
                let forecast = Forecast::missing(&missing);
                let rollouts = self.rollouts.iter();
                return rollouts.fold(forecast, |forecast, rollout| {
                    forecast.effect(format!(
                        "roll out {} {}",
                        rollout.kind.to_lowercase(),
                        rollout.name
                    ))
                });
            }
        };
        if cx.offline {
            return Forecast::new(Verdict::Unknown, "the cluster is not asked offline");
        }
        match self.foresee(cx, &wanted).await {
            Ok(forecast) => forecast,
            Err(failure) if failure.outcome == Outcome::Failed => {
                Forecast::new(Verdict::Fail, failure.message)
            }
            Err(failure) => Forecast::new(Verdict::Unknown, failure.message),
        }
    }

    async fn run(&self, cx: &StageContext<'_>) -> Result<Done, Failure> {
        let wanted = self.wanted(cx.values, cx.values.back.get(cx.stage)).await?;
        let manifests = self.manifests(cx.values, Some(cx), &wanted.pinned).await?;
        let found = self.look(&cx.world.readers, &wanted, manifests).await?;
        let ours = cx.past.iter().any(|effect| effect.key != "before");
        if let Some(failure) = self.half_way_back(cx, &wanted, &found).await? {
            return Err(failure);
        }
        if found.is_there() {
            let note = found.note(&wanted);
            let done = if ours {
                Done::succeeded(note)
            } else {
                Done::up_to_date(note)
            };
            return Ok(self.done(&found, &wanted, done, &found.remarks()));
        }
        if let Some(why) = found.paused() {
            return Err(Failure::failed(format!("{why}; nothing was changed")));
        }
        self.not_replaced(cx, &found)?;
        if found.changes() {
            for before in &self.before {
                if wanted.back {
                    cx.say(format!("going back: {} is not run", before.name));
                } else {
                    self.before(cx, &wanted, &found, before).await?;
                }
            }
        }
        let started = self.advance(cx, &wanted, &found).await?;
        let remarks = match self.settle(cx, &wanted, &found.namespace, &started).await {
            Ok(remarks) => remarks,
            Err(failure) => {
                return Err(self.given_up(cx, &wanted, &found, &started, failure).await);
            }
        };
        for remark in &remarks {
            cx.say(remark);
        }
        let done = Done::succeeded(found.note(&wanted));
        Ok(self.done(&found, &wanted, done, &remarks))
    }
}
