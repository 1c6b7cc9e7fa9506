//! `deploy ecs`: makes a service, or scheduled tasks, of Amazon ECS run a new task definition.
//!
//! The base definition comes from a file, from S3, or from what runs; what is written in the pipeline
//! is set in it. If a revision means the same already, none is registered; if the service runs it,
//! there is nothing to do. Else it is registered, one-off tasks run, the service is moved, and the
//! stage waits until the deployment it started is the primary one and has completed.
//!
//! `spec` is how it is written, `render` what should run beside what runs, `preflight` what would go
//! wrong, `advance` the changes, `rollout` the decision about how it went, `watch` the wait for it.

mod advance;
mod before;
mod grants;
mod preflight;
mod render;
mod rollout;
mod shift;
mod spec;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::base::{Diagnostic, Spanned};
use crate::decl;
use crate::event::Outcome;
use crate::lang::Template;
use crate::ports::services::{CapacityProvider, Controller, Place, ServiceState, short_revision};
use crate::stage::grant::{Arns, Grant};
use crate::stage::{
    CheckContext, Done, Failure, Forecast, Lowering, PlanContext, Read, Scenery, Stage,
    StageContext, Verdict, Want,
};

use before::Around;
use render::{Found, Wanted, runs};
use rollout::Started;
pub(super) use spec::SPEC;
use spec::{Base, Before, Container, Rule, Strategy};

#[derive(Debug)]
struct Ecs {
    aws: Spanned<String>,
    cluster: Option<Template>,
    service: Option<Template>,
    base: Base,
    containers: Vec<Container>,
    before: Vec<Before>,
    desired: Option<u32>,
    providers: Vec<CapacityProvider>,
    force: bool,
    propagate: Option<String>,
    strategy: Option<Strategy>,
    schedules: Vec<Rule>,
    stable_within: Duration,
}

pub(super) fn lower(cx: &mut Lowering<'_>) -> Arc<dyn Stage> {
    Arc::new(Ecs::lower(cx))
}

impl Ecs {
    fn images(&self) -> impl Iterator<Item = &Spanned<String>> {
        self.containers
            .iter()
            .filter_map(|container| container.image.as_ref())
    }

    /// Whether there is nothing to do: everything runs the revision already.
    fn is_there(&self, found: &Found) -> Option<String> {
        let there = found.registered.as_ref()?;
        let moved = found
            .scheduled
            .iter()
            .all(|(_, task)| task.task_definition == there.arn);
        let served = found.service.as_ref().is_none_or(|service| {
            runs(service, &there.arn)
                && self.change(service, &there.arn, self.force) == Default::default()
        });
        (moved && served).then(|| there.arn.clone())
    }

    fn note(&self, found: &Found, wanted: &Wanted, arn: &str) -> String {
        let revision = short_revision(arn);
        let rules: Vec<&str> = found
            .scheduled
            .iter()
            .map(|(schedule, _)| schedule.rule.as_str())
            .collect();
        match (&wanted.place, rules.as_slice()) {
            (Some(place), []) => format!("service {} runs {revision}", place.service),
            (Some(place), rules) => format!(
                "service {} runs {revision}, {} starts it",
                place.service,
                rules.join(" and ")
            ),
            (None, rules) => format!("{} starts {revision}", rules.join(" and ")),
        }
    }

    /// What it would change, a line each.
    fn effects(&self, found: &Found, wanted: &Wanted) -> Vec<String> {
        let mut effects = Vec::new();
        let family = found.family();
        let arn = match &found.registered {
            Some(there) => there.arn.clone(),
            None => {
                effects.push(format!("register a new revision of {family}"));
                format!("{family} (new revision)")
            }
        };
        let name = short_revision(&arn);
        for before in &self.before {
            effects.push(format!("run task {} before traffic moves", before.name));
        }
        if let (Some(service), Some(place)) = (&found.service, &wanted.place) {
            let from = short_revision(&service.task_definition);
            let place = Self::place_name(place);
            let by = match &self.strategy {
                Some(Strategy::CodeDeploy(_)) => " by CodeDeploy",
                _ => "",
            };
            let change = self.change(service, &arn, self.force);
            effects.push(if from == name {
                format!("start new tasks of {name} in {place}")
            } else {
                format!("move {place} from {from} to {name}{by}")
            });
            if let Some(desired) = change.desired {
                effects.push(format!(
                    "change the number of tasks from {} to {desired}",
                    service.desired
                ));
            }
            for provider in &change.capacity_providers {
                effects.push(format!("place tasks at {}", provider.name));
            }
            if let Some(whose) = &change.propagate_tags {
                effects.push(format!("propagate tags: {whose}"));
            }
            if let (Some(_), Some(Strategy::Own(word))) =
                (&change.deployment_configuration, &self.strategy)
            {
                effects.push(format!("deploy {word} from now on"));
            }
        }
        for (schedule, task) in &found.scheduled {
            if task.task_definition != arn {
                effects.push(format!(
                    "have rule {} start {name} instead of {}",
                    schedule.rule,
                    short_revision(&task.task_definition)
                ));
            }
        }
        effects
    }

    async fn foresee(&self, cx: &PlanContext<'_>, wanted: &Wanted) -> Result<Forecast, Failure> {
        let found = self.look(cx.readers, wanted).await?;
        if let Some(arn) = self.is_there(&found) {
            let note = self.note(&found, wanted, &arn);
            return Ok(Forecast::from_done(
                Done::up_to_date(note).output("revision", arn),
            ));
        }
        let findings = self.preflight(cx.readers, wanted, &found).await;
        let now = match &found.service {
            Some(service) => format!(
                "service {} runs {}",
                service.name,
                short_revision(&service.task_definition)
            ),
            None => "the rules start another revision".to_owned(),
        };
        let mut forecast = match findings.errors.as_slice() {
            [] => Forecast::new(Verdict::Run, now),
            errors => Forecast::new(Verdict::Fail, errors.join("; ")),
        };
        if !findings.warnings.is_empty() {
            forecast.reason = format!("{} ({})", forecast.reason, findings.warnings.join("; "));
        }
        forecast.effects = self.effects(&found, wanted);
        forecast.diff = found.diff();
        Ok(forecast)
    }

    /// Moves the service to a revision and waits until it runs it.
    async fn serve(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        place: &Place,
        service: &ServiceState,
        arn: &str,
    ) -> Result<(), Failure> {
        if let Some(Strategy::CodeDeploy(code_deploy)) = &self.strategy {
            if runs(service, arn) && !self.force {
                return Ok(());
            }
            return self.shifted(cx, wanted, code_deploy, service, arn).await;
        }
        let started = self.moved(cx, wanted, place, service, arn).await?;
        self.conclude(cx, wanted, place, &started).await
    }

    /// Waits for what was started, and records it if it came to nothing.
    async fn conclude(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        place: &Place,
        started: &Started,
    ) -> Result<(), Failure> {
        let settled = self.settle(cx, wanted, place, started).await;
        if let Err(failure) = &settled
            && failure.outcome == Outcome::Failed
        {
            self.note_update(cx, started, Some("failed")).await?;
        }
        settled
    }

    async fn reschedule(
        &self,
        cx: &StageContext<'_>,
        wanted: &Wanted,
        found: &Found,
        arn: &str,
    ) -> Result<(), Failure> {
        for (schedule, task) in &found.scheduled {
            if task.task_definition == arn {
                continue;
            }
            if cx.cancel.is_cancelled() {
                return Err(Failure::cancelled(format!(
                    "cancelled: rule {} still starts {}",
                    schedule.rule,
                    short_revision(&task.task_definition)
                )));
            }
            let key = format!("schedule {} {}", schedule.rule, task.id);
            let detail = BTreeMap::from([("task-definition".to_owned(), arn.to_owned())]);
            cx.effects.intend(&key, detail.clone()).await?;
            let mut task = task.clone();
            task.task_definition = arn.to_owned();
            let services = &cx.world.services;
            services
                .reschedule(&wanted.account, schedule, &task)
                .await?;
            cx.effects.done(&key, detail).await?;
            cx.say(format!(
                "rule {} starts {} from now on",
                schedule.rule,
                short_revision(arn)
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl Stage for Ecs {
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
        let mut all: Vec<&Template> = self.cluster.iter().chain(&self.service).collect();
        if let Base::File(base) | Base::Object(base) = &self.base {
            all.push(base);
        }
        for container in &self.containers {
            let pairs = [
                &container.env,
                &container.secrets,
                &container.labels,
                &container.log_options,
            ];
            all.extend(pairs.into_iter().flatten().map(|(_, value)| value));
            all.extend(&container.command);
        }
        for before in &self.before {
            all.extend(before.env.iter().map(|(_, value)| value));
            all.extend(&before.command);
        }
        if let Some(Strategy::CodeDeploy(code_deploy)) = &self.strategy {
            all.extend([&code_deploy.application, &code_deploy.group]);
            all.extend(code_deploy.config.iter().chain(&code_deploy.appspec));
        }
        for rule in &self.schedules {
            all.push(&rule.rule);
            all.extend(rule.bus.iter().chain(&rule.target));
        }
        all
    }

    fn accounts(&self) -> Vec<String> {
        vec![self.aws.value.clone()]
    }

    fn grants(&self, arns: &Arns<'_>) -> Vec<Grant> {
        self.statements(arns)
    }

    fn variant(&self) -> Option<&'static str> {
        Some("ecs")
    }

    fn scenery(&self) -> Scenery {
        let own = self.containers.iter().map(|one| one.name.value.clone());
        let before = self.before.iter().map(|one| one.container.clone());
        Scenery {
            containers: own.chain(before).collect(),
            ..Scenery::default()
        }
    }

    fn goes_back(&self) -> bool {
        true
    }

    fn check(&self, cx: &CheckContext<'_>, diagnostics: &mut Vec<Diagnostic>) {
        if !self.aws.value.is_empty() {
            decl::require(&cx.decls.aws, "aws", &self.aws, cx.source, diagnostics);
        }
        for image in self.images() {
            decl::require(&cx.decls.images, "image", image, cx.source, diagnostics);
        }
    }

    async fn forecast(&self, cx: &PlanContext<'_>) -> Forecast {
        let back = cx.values.back.get(cx.stage);
        let wanted = match self.wanted(cx.values, back).await {
            Ok(wanted) => wanted,
            Err(missing) => {
                let forecast = Forecast::missing(&missing);
                return match &self.service {
                    Some(service) => forecast.effect(format!("move service {service}")),
                    None => forecast,
                };
            }
        };
        if cx.offline {
            return Forecast::new(Verdict::Unknown, "AWS is not asked offline");
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
        let found = self.look(&cx.world.readers, &wanted).await?;
        if let Some(arn) = self.is_there(&found) {
            let note = self.note(&found, &wanted, &arn);
            let ours = cx.intended(advance::UPDATE).is_some();
            let done = if ours {
                Done::succeeded(note)
            } else {
                Done::up_to_date(note)
            };
            return Ok(done.output("revision", arn));
        }
        let findings = self.preflight(&cx.world.readers, &wanted, &found).await;
        if !findings.errors.is_empty() {
            return Err(Failure::failed(format!(
                "{}; nothing was changed",
                findings.errors.join("; ")
            )));
        }
        // Many may deploy who may not look at roles: that is no reason to warn in every run.
        for warning in &findings.warnings {
            cx.say(warning);
        }
        for field in found.fields() {
            let value = |value: &Option<String>| value.clone().unwrap_or("nothing".to_owned());
            cx.say(format!(
                "{}: {} → {}",
                field.path,
                value(&field.before),
                value(&field.after)
            ));
        }
        let arn = self.registered(cx, &wanted, &found).await?;
        if let (Some(service), Some(place)) = (&found.service, &wanted.place) {
            // What moves there by itself already is only waited for.
            let moves = service.controller != Controller::Own
                || self.change(service, &arn, self.force) != Default::default();
            if moves {
                let around = Around {
                    wanted: &wanted,
                    service,
                    definition: &found.rendered,
                    arn: &arn,
                };
                for before in &self.before {
                    if wanted.goes_back() {
                        cx.say(format!("going back: {} is not run", before.name));
                    } else {
                        self.before(cx, &around, before).await?;
                    }
                }
            }
            self.serve(cx, &wanted, place, service, &arn).await?;
        }
        self.reschedule(cx, &wanted, &found, &arn).await?;
        Ok(Done::succeeded(self.note(&found, &wanted, &arn)).output("revision", arn))
    }

    async fn examine(&self, cx: &StageContext<'_>) -> Result<Option<Done>, Failure> {
        let wanted = self.wanted(cx.values, cx.values.back.get(cx.stage)).await?;
        let Some(place) = &wanted.place else {
            return Ok(None);
        };
        let arn = match &self.strategy {
            Some(Strategy::CodeDeploy(code_deploy)) => {
                let Some(arn) = Self::asked_of_codedeploy(cx) else {
                    return Ok(None);
                };
                if !self.resume_shift(cx, &wanted, code_deploy, &arn).await? {
                    return Ok(None);
                }
                arn
            }
            _ => {
                let Some(started) = self.earlier(cx, &wanted, place).await? else {
                    return Ok(None);
                };
                cx.say(format!(
                    "{} is rolling out already",
                    short_revision(&started.task_definition)
                ));
                self.conclude(cx, &wanted, place, &started).await?;
                started.task_definition
            }
        };
        let found = self.look(&cx.world.readers, &wanted).await?;
        self.reschedule(cx, &wanted, &found, &arn).await?;
        let note = self.note(&found, &wanted, &arn);
        Ok(Some(Done::succeeded(note).output("revision", arn)))
    }
}
