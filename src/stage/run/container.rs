//! A `run` in a container, with its services.

use std::path::PathBuf;
use std::time::Duration;

use super::{Container, Run, Service, StageContext};
use crate::base::Text;
use crate::ports::Silent;
use crate::ports::engine::{ContainerSpec, EngineError, Mount, Network};
use crate::ports::process::Program;
use crate::stage::{Failure, Values};

const WORKDIR: &str = "/workspace";

/// Chooses the shell where the image is: bash if it has one.
const SHELL: &str = "if command -v bash >/dev/null 2>&1; then exec bash -euo pipefail -c \"$1\"; \
                     else exec sh -eu -c \"$1\"; fi";

/// Runs the program in a container and returns its exit status.
pub(super) async fn run(
    stage: &Run,
    container: &Container,
    cx: &StageContext<'_>,
    workdir: PathBuf,
    program: Program,
    env: Vec<(String, Text)>,
    grace: Duration,
) -> Result<i64, Failure> {
    let engine = &cx.world.engine;
    // What an earlier attempt left: the same names are used again.
    if cx.attempt > 1 || cx.resumed {
        engine.remove(&cx.resource("")).await?;
    }
    // A name of its own: a killed process may have asked for one that is made only now, and the engine
    // lets in a second one of the same name, after which it can start nothing in either.
    let own = match stage.services.is_empty() {
        true => None,
        false => {
            let random = cx.world.readers.clock.random();
            let name = cx.resource(&format!("net-{random:016x}"));
            Some(engine.create_network(&name, &cx.labels()).await?)
        }
    };
    let network = match (&container.network, &own) {
        (_, Some(id)) => Some(Network::Named {
            name: id.clone(),
            aliases: Vec::new(),
        }),
        (Some(mode), None) if mode == "none" => Some(Network::None),
        (Some(mode), None) if mode == "host" => Some(Network::Host),
        _ => None,
    };
    let result = async {
        for service in &stage.services {
            start(service, own.as_deref().unwrap_or_default(), stage, cx).await?;
        }
        let mut mounts = vec![Mount {
            source: workdir.display().to_string(),
            target: WORKDIR.to_owned(),
            read_only: false,
        }];
        for (kept, path) in stage.cache_dirs(cx).await? {
            mounts.push(Mount {
                source: kept.display().to_string(),
                target: path,
                read_only: false,
            });
        }
        let (entrypoint, command) = match program {
            Program::Script(script) => (
                vec![
                    "sh".to_owned(),
                    "-c".to_owned(),
                    SHELL.to_owned(),
                    "sh".to_owned(),
                ],
                vec![script],
            ),
            Program::Command(argv) => (Vec::new(), argv),
        };
        let mut spec = ContainerSpec {
            name: cx.resource(""),
            image: cx.values.plain(&container.image).await?,
            entrypoint: Some(entrypoint),
            command: Some(command),
            env,
            labels: cx.labels(),
            workdir: Some(WORKDIR.to_owned()),
            user: match &container.user {
                Some(user) => Some(cx.values.plain(user).await?),
                None => None,
            },
            mounts,
            network,
            memory: container.memory,
            ..ContainerSpec::default()
        };
        // Mostly the engine has the image: it is only asked for once a container cannot be made.
        let id = match engine.create(&spec).await {
            Err(EngineError::NotFound { .. }) => {
                spec.image = image(cx, &spec.image).await?;
                engine.create(&spec).await?
            }
            created => created?,
        };
        let code = engine.run(&id, None, cx.output, grace, &cx.cancel).await;
        if stage.services.is_empty() {
            cx.leftovers.remove(engine, id).await;
        } else {
            // Its network goes next.
            engine.remove(&id).await?;
        }
        Ok(code?)
    };
    let result: Result<i64, Failure> = result.await;
    if let Some(network) = own {
        clean(stage, &network, cx).await;
    }
    result
}

/// Removes services and network, whatever became of them; a reaper finds what this misses.
async fn clean(stage: &Run, network: &str, cx: &StageContext<'_>) {
    for service in &stage.services {
        if let Err(error) = cx.world.engine.remove(&cx.resource(&service.name)).await {
            cx.say(format!(
                "service {} is left for later: {error}",
                service.name
            ));
        }
    }
    if let Err(error) = cx.world.engine.remove_network(network).await {
        cx.say(format!("the network is left for later: {error}"));
    }
}

/// Makes sure the engine has an image, and returns its id.
async fn image(cx: &StageContext<'_>, reference: &str) -> Result<String, Failure> {
    if let Some(local) = cx.world.readers.engine.image(reference).await? {
        return Ok(local.id);
    }
    cx.say(format!("pulling {reference}"));
    let target = login(cx.values, reference).await?;
    let target = match target {
        Some(target) => {
            Some(crate::stage::found::resolved(&*cx.world.readers.registry, target).await?)
        }
        None => None,
    };
    Ok(cx
        .world
        .engine
        .pull(reference, target.as_ref(), cx.output, &cx.cancel)
        .await?)
}

/// The declared registry an image lives in, if one is declared.
async fn login(
    values: &Values,
    reference: &str,
) -> Result<Option<crate::ports::registry::Target>, Failure> {
    let Some((host, _)) = reference.split_once('/') else {
        return Ok(None);
    };
    for name in values.decls.registries.keys() {
        if let Ok((target, _)) = values.target(name).await
            && target.host == host
        {
            return Ok(Some(target));
        }
    }
    Ok(None)
}

async fn start(
    service: &Service,
    network: &str,
    stage: &Run,
    cx: &StageContext<'_>,
) -> Result<(), Failure> {
    let engine = &cx.world.engine;
    let mut command = Vec::new();
    for template in &service.command {
        command.push(cx.values.plain(template).await?);
    }
    let name = cx.resource(&service.name);
    engine.remove(&name).await?;
    let spec = ContainerSpec {
        name,
        image: image(cx, &cx.values.plain(&service.image).await?).await?,
        command: (!command.is_empty()).then_some(command),
        env: stage.env(cx, &service.env).await?,
        labels: cx.labels(),
        network: Some(Network::Named {
            name: network.to_owned(),
            aliases: vec![service.name.clone()],
        }),
        ..ContainerSpec::default()
    };
    let id = engine.create(&spec).await?;
    engine.start(&id).await?;
    cx.say(format!("service {} started", service.name));
    match &service.ready {
        None => Ok(()),
        Some(ready) => wait_ready(service, ready, &id, cx).await,
    }
}

async fn wait_ready(
    service: &Service,
    ready: &str,
    id: &str,
    cx: &StageContext<'_>,
) -> Result<(), Failure> {
    let engine = &cx.world.engine;
    let deadline = tokio::time::Instant::now() + service.timeout;
    let command = ["sh".to_owned(), "-c".to_owned(), ready.to_owned()];
    loop {
        match engine.container(id).await? {
            Some(state) if state.running => {}
            _ => {
                let said = engine.tail(id, 20).await.unwrap_or_default();
                cx.output.log(said.as_bytes());
                return Err(Failure::failed(format!(
                    "service {} stopped before it was ready",
                    service.name
                )));
            }
        }
        match engine.exec(id, &command, &Silent).await {
            Ok(0) => {
                cx.say(format!("service {} is ready", service.name));
                return Ok(());
            }
            // It may have stopped since we looked; then the next look says so.
            Ok(_) | Err(EngineError::Refused { .. }) => {}
            Err(error) => {
                // An engine that loses the container in the middle of it says so in many ways.
                let now = engine.container(id).await;
                if matches!(now, Ok(Some(state)) if state.running) {
                    return Err(error.into());
                }
            }
        }
        if tokio::time::Instant::now() >= deadline {
            let said = engine.tail(id, 20).await.unwrap_or_default();
            cx.output.log(said.as_bytes());
            return Err(Failure::failed(format!(
                "service {} was not ready within {}",
                service.name,
                crate::base::human_duration(service.timeout)
            )));
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(250)) => {}
            () = cx.cancel.cancelled() => return Err(Failure::cancelled("cancelled")),
        }
    }
}
