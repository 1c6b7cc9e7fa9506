//! The steps of `deploy docker`: trial, switch, and the way back.
//!
//! Each can be repeated: what an earlier one left is found by the names in [`Place`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Before, DEPLOY_LABEL, Docker, Wanted, join, runs};
use crate::ports::Silent;
use crate::ports::engine::{ContainerSpec, ContainerState, Engine, EngineError, Health, Network};
use crate::stage::build::resolved;
use crate::stage::{Failure, StageContext};

/// The names a deployment uses on its engine.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) candidate: String,
    pub(super) next: String,
    pub(super) previous: String,
}

impl Place {
    pub(super) fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            candidate: format!("{name}.candidate"),
            next: format!("{name}.next"),
            previous: format!("{name}.previous"),
        }
    }
}

impl Docker {
    /// Brings what a crash left into one of two shapes: something runs under the name, or
    /// nothing was ever there.
    pub(super) async fn tidy(
        &self,
        engine: &dyn Engine,
        place: &Place,
        wanted: &Wanted,
    ) -> Result<(), Failure> {
        engine.remove(&place.candidate).await?;
        engine.remove(&place.next).await?;
        if engine.container(&place.previous).await?.is_none() {
            return Ok(());
        }
        match engine.container(&place.name).await? {
            // The switch had happened: whether it gets healthy is looked at next.
            Some(state) if runs(&state, wanted) => Ok(()),
            Some(_) => {
                engine.remove(&place.name).await?;
                self.restore(engine, place).await
            }
            None => self.restore(engine, place).await,
        }
    }

    pub(super) async fn restore(&self, engine: &dyn Engine, place: &Place) -> Result<(), Failure> {
        engine.rename(&place.previous, &place.name).await?;
        Ok(engine.start(&place.name).await?)
    }

    /// Starts the new version beside the old one and waits until it is healthy.
    pub(super) async fn trial(
        &self,
        cx: &StageContext<'_>,
        place: &Place,
        wanted: &Wanted,
    ) -> Result<(), Failure> {
        let engine = &*cx.world.engine;
        // Not the run's own labels: volumes it shares with what runs must survive a clean-up.
        let labels = BTreeMap::from([(DEPLOY_LABEL.to_owned(), self.name.clone())]);
        let spec = ContainerSpec {
            name: place.candidate.clone(),
            labels,
            publish: Vec::new(),
            restart: false,
            network: match &wanted.spec.network {
                Some(Network::Named { name, .. }) => Some(Network::Named {
                    name: name.clone(),
                    aliases: Vec::new(),
                }),
                other => other.clone(),
            },
            ..wanted.spec.clone()
        };
        cx.say(format!("trying {} beside what runs", wanted.pinned));
        let id = engine.create(&spec).await?;
        let healthy = async {
            engine.start(&id).await?;
            self.healthy(cx, &id).await
        };
        let healthy = healthy.await;
        engine.remove(&place.candidate).await?;
        healthy.map_err(|failure| Failure {
            message: format!("{}; what ran before keeps running", failure.message),
            ..failure
        })?;
        Ok(())
    }

    /// Stops the old version and starts the new one in its place; puts the old one back if the
    /// new one does not get healthy.
    pub(super) async fn switch(
        &self,
        cx: &StageContext<'_>,
        place: &Place,
        wanted: &Wanted,
        replaces: bool,
    ) -> Result<ContainerState, Failure> {
        let engine = &*cx.world.engine;
        let next = ContainerSpec {
            name: place.next.clone(),
            ..wanted.spec.clone()
        };
        engine.create(&next).await?;
        if replaces {
            engine.rename(&place.name, &place.previous).await?;
            engine.stop(&place.previous, cx.grace).await?;
        }
        engine.rename(&place.next, &place.name).await?;
        let healthy = async {
            engine.start(&place.name).await?;
            self.healthy(cx, &place.name).await
        };
        match healthy.await {
            Ok(state) => {
                engine.remove(&place.previous).await?;
                Ok(state)
            }
            Err(failure) => {
                engine.remove(&place.name).await?;
                if !replaces {
                    return Err(failure);
                }
                self.restore(engine, place).await?;
                Err(Failure {
                    message: format!("{}; rolled back to what ran before", failure.message),
                    ..failure
                })
            }
        }
    }

    /// Waits until a container is healthy, or says what it printed.
    async fn healthy(&self, cx: &StageContext<'_>, name: &str) -> Result<ContainerState, Failure> {
        let engine = &*cx.world.engine;
        let began = tokio::time::Instant::now();
        let ready = self
            .ready
            .as_ref()
            .map(|ready| ["sh".to_owned(), "-c".to_owned(), ready.clone()]);
        loop {
            let state = engine
                .container(name)
                .await?
                .ok_or_else(|| Failure::errored(format!("container {name} vanished")))?;
            let why = if !state.running {
                Some(format!(
                    "exited with status {}",
                    state.exit_code.unwrap_or(-1)
                ))
            } else if state.health == Health::Unhealthy {
                Some("is unhealthy".to_owned())
            } else if began.elapsed() >= self.healthy_within {
                Some(format!(
                    "was not healthy within {}",
                    crate::base::human_duration(self.healthy_within)
                ))
            } else {
                None
            };
            if let Some(why) = why {
                let said = engine.tail(name, 20).await.unwrap_or_default();
                cx.output.log(said.as_bytes());
                return Err(Failure::failed(format!("the new {} {why}", self.name)));
            }
            let healthy = match (&ready, state.health) {
                // It may have ended since we looked; then the next look says how.
                (Some(ready), _) => match engine.exec(name, ready, &Silent).await {
                    Ok(code) => code == 0,
                    Err(EngineError::Refused { .. }) => false,
                    Err(error) => return Err(error.into()),
                },
                (None, Health::Healthy) => true,
                // Without any check, staying up for a second is all that can be asked.
                (None, Health::NoCheck) => began.elapsed() >= Duration::from_secs(1),
                (None, _) => false,
            };
            if healthy {
                return Ok(state);
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                () = cx.cancel.cancelled() => return Err(Failure::cancelled("cancelled while waiting for the new version")),
            }
        }
    }

    /// Runs a one-off container, once per run, also across a crash.
    pub(super) async fn before(
        &self,
        cx: &StageContext<'_>,
        before: &Before,
    ) -> Result<(), Failure> {
        let engine = &*cx.world.engine;
        let key = format!("before {}", before.name);
        if cx
            .intended(&key)
            .is_some_and(|effect| effect.result.is_some())
        {
            return Ok(());
        }
        let name = cx.resource(&format!("before-{}", before.name));
        let found = engine.container(&name).await?;
        let id = match found {
            // A crash cut us off while it ran: it is adopted, not started again.
            Some(state) if cx.intended(&key).is_some() => state.id,
            _ => {
                engine.remove(&name).await?;
                let spec = self.before_spec(cx, before, &name).await?;
                cx.effects
                    .intend(
                        &key,
                        BTreeMap::from([("container".to_owned(), name.clone())]),
                    )
                    .await?;
                engine.create(&spec).await?
            }
        };
        cx.say(format!("running {}", before.name));
        let state = engine.container(&id).await?;
        let fresh = state.is_some_and(|state| !state.running && state.exit_code.is_none());
        let cancel = cx.cancel.child_token();
        let work = async {
            if fresh {
                engine.run(&id, None, cx.output, cx.grace, &cancel).await
            } else {
                engine.attach(&id, cx.output, cx.grace, &cancel).await
            }
        };
        tokio::pin!(work);
        let code = match tokio::time::timeout(before.timeout, &mut work).await {
            Ok(code) => Some(code),
            Err(_) => {
                cancel.cancel();
                match work.await {
                    Err(EngineError::Cancelled) if !cx.cancel.is_cancelled() => None,
                    code => Some(code),
                }
            }
        };
        // The container is the evidence that it ran: it goes only once the journal knows.
        if let Some(Ok(0)) = code {
            cx.effects.done(&key, BTreeMap::new()).await?;
        }
        engine.remove(&name).await?;
        match code {
            None => Err(Failure {
                outcome: crate::event::Outcome::TimedOut,
                message: format!(
                    "{} took longer than {}; the old version keeps running",
                    before.name,
                    crate::base::human_duration(before.timeout)
                ),
            }),
            Some(code) => match code? {
                0 => Ok(()),
                code => Err(Failure::failed(format!(
                    "{} exited with status {code}; the old version keeps running",
                    before.name
                ))),
            },
        }
    }

    async fn before_spec(
        &self,
        cx: &StageContext<'_>,
        before: &Before,
        name: &str,
    ) -> Result<ContainerSpec, Failure> {
        let facts = cx.values.image(&before.image.value).await?;
        let (digest, _) = cx.values.digest(&before.image.value).await?;
        let pinned = facts.pinned(&digest);
        let target = resolved(&*cx.world.readers.registry, facts.target.clone()).await?;
        cx.world
            .engine
            .pull(&pinned, Some(&target), cx.output, &cx.cancel)
            .await?;
        let mut env = Vec::new();
        for (key, template) in self.env.iter().chain(&before.env) {
            env.push((key.clone(), cx.values.text(template).await?));
        }
        let mut command = Vec::new();
        for template in &before.command {
            command.push(cx.values.plain(template).await?);
        }
        let network = match &self.network {
            Some(network) => join(cx.values.plain(network).await?, Vec::new()),
            None => None,
        };
        Ok(ContainerSpec {
            name: name.to_owned(),
            image: pinned,
            command: (!command.is_empty()).then_some(command),
            env,
            labels: cx.labels(),
            network,
            ..ContainerSpec::default()
        })
    }
}
