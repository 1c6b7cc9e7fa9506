//! One-off containers that must succeed before traffic moves.

use std::collections::BTreeMap;

use super::wanted::join;
use super::{Before, Docker};
use crate::ports::engine::{ContainerSpec, Engine, EngineError};
use crate::stage::found::resolved;
use crate::stage::{Failure, StageContext};

impl Docker {
    /// Runs a one-off container, once per run, also across a crash.
    pub(super) async fn before(
        &self,
        cx: &StageContext<'_>,
        engine: &dyn Engine,
        before: &Before,
    ) -> Result<(), Failure> {
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
                let spec = self.before_spec(cx, engine, before, &name).await?;
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
            None => Err(Failure::timed_out(format!(
                "{} took longer than {}; the old version keeps running",
                before.name,
                crate::base::human_duration(before.timeout)
            ))),
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
        engine: &dyn Engine,
        before: &Before,
        name: &str,
    ) -> Result<ContainerSpec, Failure> {
        let facts = cx.values.image(&before.image.value).await?;
        let (digest, _) = cx.values.digest(&before.image.value).await?;
        let pinned = facts.pinned(&digest);
        let target = resolved(&*cx.world.readers.registry, facts.target.clone()).await?;
        engine
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
