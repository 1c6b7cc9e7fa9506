//! Trial, switch and rollback of one container.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{DEPLOY_LABEL, Docker, Wanted, runs};
use crate::ports::Silent;
use crate::ports::engine::{ContainerSpec, ContainerState, Engine, EngineError, Health, Network};
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

    async fn restore(&self, engine: &dyn Engine, place: &Place) -> Result<(), Failure> {
        engine.rename(&place.previous, &place.name).await?;
        Ok(engine.start(&place.name).await?)
    }

    /// Starts the new version beside the old one and waits until it is healthy.
    pub(super) async fn trial(
        &self,
        cx: &StageContext<'_>,
        engine: &dyn Engine,
        place: &Place,
        wanted: &Wanted,
    ) -> Result<(), Failure> {
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
            self.healthy(cx, engine, &id, &cx.cancel).await
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
    /// new one does not get healthy. A request to stop does not end it half way.
    pub(super) async fn switch(
        &self,
        cx: &StageContext<'_>,
        engine: &dyn Engine,
        place: &Place,
        wanted: &Wanted,
        replaces: bool,
    ) -> Result<ContainerState, Failure> {
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
            // Once begun it is brought to its end: nobody is served meanwhile.
            self.healthy(cx, engine, &place.name, &cx.force).await
        };
        match healthy.await {
            // What was stopped is kept: whoever goes on decides which of the two stays.
            Err(failure) if cx.force.is_cancelled() => Err(Failure {
                message: format!(
                    "{}; it runs as {}, and what ran before is kept as {} until the next deployment",
                    failure.message, place.name, place.previous
                ),
                ..failure
            }),
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
    async fn healthy(
        &self,
        cx: &StageContext<'_>,
        engine: &dyn Engine,
        name: &str,
        cancel: &CancellationToken,
    ) -> Result<ContainerState, Failure> {
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
                () = cancel.cancelled() => return Err(Failure::cancelled("cancelled while waiting for the new version")),
            }
        }
    }
}
